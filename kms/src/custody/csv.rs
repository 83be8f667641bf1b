//! The CSV form of an export: each line of the JSON form stands whole in the last column; the columns before it repeat what
//! spreadsheets want to sort by. A verifier makes the line anew from the last column, so no column can say anything else.

use serde_json::Value;

use super::export::ExportLine;

/// Columns that repeat members of the leaf, by the members' names.
const MEMBERS: [&str; 15] = [
    "seq",
    "time",
    "op",
    "outcome",
    "actor",
    "role",
    "authentication",
    "unit",
    "volume",
    "partition",
    "generation",
    "key",
    "tenant",
    "tenant_seq",
    "reason",
];

/// What the columns of a line show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) kind: &'static str,
    pub(super) leaf: Option<&'a Value>,
}

/// A member as a cell: control characters become spaces, and a text that a spreadsheet would take for a formula gets an apostrophe
/// before it.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        Some(Value::String(text)) => text.replace(|c: char| c < ' ' || c == '\u{7f}', " "),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }
}

fn row<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
    // Into memory, and one row only: neither can fail.
    let written = writer.write_record(cells).ok().and_then(|()| writer.into_inner().ok());
    written.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// The first line of the CSV form, with its newline.
#[must_use]
pub fn csv_head() -> String {
    row(["kind"].into_iter().chain(MEMBERS).chain(["json"]))
}

/// The CSV form of a line of the JSON form, with its newline; `first` is the header. None when `json` is no JSON.
#[must_use]
pub fn csv_line(json: &str, first: bool) -> Option<String> {
    let value: Value = serde_json::from_str(json).ok()?;
    let Columns { kind, leaf } = ExportLine::columns(&value, first);
    let cells: Vec<String> = MEMBERS.iter().map(|member| cell(leaf.and_then(|l| l.get(member)))).collect();
    Some(row([kind].into_iter().chain(cells.iter().map(String::as_str)).chain([json])))
}

/// The JSON line in the last column, if the line is exactly what [`csv_line`] makes of it. `line` has no newline.
pub(super) fn json_of(line: &str, first: bool) -> Result<String, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
    let record = reader.records().next().and_then(Result::ok).ok_or("it is no line of CSV")?;
    if record.len() != MEMBERS.len() + 2 {
        return Err(format!("it has {} columns, not {}", record.len(), MEMBERS.len() + 2));
    }
    let json = record.get(MEMBERS.len() + 1).unwrap_or_default();
    let again = csv_line(json, first).ok_or("its last column is not JSON")?;
    if again.strip_suffix('\n') != Some(line) {
        return Err("its columns do not agree with the last one".into());
    }
    Ok(json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_and_no_column_lies() {
        let leaf = r#"{"actor":"=1+1","op":"x","reason":"a \"b\", c\n-d","seq":7,"time":"t"}"#;
        let line = csv_line(leaf, false).unwrap();
        assert!(line.starts_with("\"leaf\",\"7\",\"t\",\"x\",\"\",\"'=1+1\""), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        let line = line.trim_end();
        assert_eq!(json_of(line, false).unwrap(), leaf);
        for (from, to) in [("\"7\"", "\"8\""), ("'=1", "=1"), ("\"leaf\"", "leaf"), ("\"\"x\"\"", "\"\"y\"\"")] {
            assert!(line.contains(from), "{from}");
            assert!(json_of(&line.replacen(from, to, 1), false).is_err(), "{from}");
        }
        assert!(json_of(&format!("{line}\r"), false).is_err() && json_of(&format!("{line},\"\""), false).is_err());
        assert_eq!(csv_head().matches(',').count(), MEMBERS.len() + 1);
    }
}
