//! How the demo speaks: numbered steps, what is typed, and figures.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::command::shown;

pub(crate) struct Story {
    step: usize,
    began: Instant,
    /// Long paths, and how they are shown.
    short: [(String, &'static str); 2],
    figures: Vec<(&'static str, String)>,
}

impl Story {
    pub(crate) fn begin(folder: &Path, binaries: &Path) -> Self {
        let short = [(folder.display().to_string(), "…"), (format!("{}/", binaries.display()), "")];
        println!("Sealtape demo: programs in {}, everything else below … = {}", binaries.display(), folder.display());
        Self { step: 0, began: Instant::now(), short, figures: Vec::new() }
    }

    /// What comes next.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        println!("\n{:>2}. {title}", self.step);
    }

    /// What is about to be typed, with the folder of the demo shown as `…`.
    pub(crate) fn typed(&self, command: &Command) {
        println!("    $ {}", self.short(&shown(command)));
    }

    pub(crate) fn say(&self, text: &str) {
        for line in self.short(text).lines() {
            println!("      {line}");
        }
    }

    /// A figure for the summary, which is also told here.
    pub(crate) fn figure(&mut self, name: &'static str, value: String) {
        self.say(&format!("{name}: {value}"));
        self.figures.push((name, value));
    }

    pub(crate) fn end(&self) {
        println!("\nIn figures");
        let width = self.figures.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in &self.figures {
            println!("    {name:width$}  {value}");
        }
        println!("    {:width$}  {}", "the whole demo", seconds(self.began.elapsed()));
    }

    fn short(&self, text: &str) -> String {
        self.short.iter().fold(text.to_owned(), |text, (long, short)| text.replace(long, short))
    }
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub(crate) fn rate(bytes: u64, duration: Duration) -> String {
    let rate = bytes as f64 / 1e6 / duration.as_secs_f64().max(1e-6);
    format!("{} in {}, {rate:.0} MB/s", mebibytes(bytes), seconds(duration))
}

/// 1234567 as 1 234 567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1 000");
        assert_eq!(grouped(12_345_678), "12 345 678");
        assert_eq!(rate(1 << 20, Duration::from_millis(500)), "1.0 MiB in 0.50 s, 2 MB/s");
    }
}
