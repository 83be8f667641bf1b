//! Medians, ratios and tables.

/// The middle of what was measured; not a number where there is nothing.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The median of `of` divided by `by`, round by round.
pub(super) fn ratio(of: &[f64], by: &[f64]) -> f64 {
    let ratios: Vec<f64> = of.iter().zip(by).map(|(of, by)| of / by).collect();
    median(&ratios)
}

/// A Markdown table. The first column stands left, all others right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::from("|");
        for (column, cell) in cells.enumerate() {
            let width = widths[column];
            match column {
                0 => line.push_str(&format!(" {cell:<width$} |")),
                _ => line.push_str(&format!(" {cell:>width$} |")),
            }
        }
        line.push('\n');
        line
    };
    let mut text = line(&mut head.iter().copied());
    text.push('|');
    for (column, width) in widths.iter().enumerate() {
        let dashes = "-".repeat(width + 1);
        text.push_str(&if column == 0 { format!("{dashes}-|") } else { format!("{dashes}:|") });
    }
    text.push('\n');
    rows.iter().for_each(|row| text.push_str(&line(&mut row.iter().map(String::as_str))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        // One round that was disturbed as a whole does not move a ratio.
        assert_eq!(ratio(&[2.0, 0.2, 2.0], &[1.0, 0.1, 1.0]), 2.0);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["dd".to_owned(), "6.00".to_owned()], vec!["sealtape".to_owned(), "2.5".to_owned()]];
        let expected = "| who      | GB/s |\n|----------|-----:|\n| dd       | 6.00 |\n| sealtape |  2.5 |\n";
        assert_eq!(table(&["who", "GB/s"], &rows), expected);
    }
}
