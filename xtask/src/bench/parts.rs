//! `bench parts`: ciphers, checksum, and whole records by what is in them, each by itself on one core, measured by criterion.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::figures::{median, ratio, table};
use super::{Options, publish};
use crate::command::{self, cargo, checked};
use crate::demo::stage;

const PORTABLE: &str = "aes-256-gcm-siv (portable)";
const WITH_CHOICE: &str = "aes-256-gcm-siv";
const COMPRESSIONS: [&str; 3] = ["none", "lz4", "zstd"];
const KINDS: [&str; 4] = ["text", "program", "random", "compressed"];

/// Which part: the group, what was measured, and bytes of a record.
type Part = (String, String, u64);
/// GB/s, round by round.
type Rates = BTreeMap<Part, Vec<f64>>;

pub(super) fn run(options: &Options) -> Result<()> {
    let target = command::target()?.join("bench");
    let results = target.join("criterion");
    let with_arguments = |mut command: Command| {
        command.args(["bench", "--quiet", "--locked", "--manifest-path", "bench/Cargo.toml", "--bench", "parts"]);
        command.arg("--target-dir").arg(&target).env("CRITERION_HOME", &results);
        command
    };
    if options.build {
        // On all cores, unlike the runs.
        checked(with_arguments(cargo()).arg("--no-run"))?;
    }
    let core = std::thread::available_parallelism().map_or(0, |count| count.get() - 1).to_string();
    let mut rates = Rates::new();
    let mut shrunk = Vec::new();
    for round in 1..=options.rounds {
        println!("bench parts: round {round} of {}", options.rounds);
        // Nothing of an earlier run may be taken for this one's.
        if results.exists() {
            stage::remove(&results)?;
        }
        let cargo = cargo();
        let mut on_core = Command::new("taskset");
        on_core.args(["--cpu-list", &core]).arg(cargo.get_program()).current_dir(command::root());
        checked(&mut with_arguments(on_core))?;
        let found = collect(&results)?;
        ensure!(!found.is_empty(), "criterion left nothing in {}", results.display());
        for (part, rate) in found {
            rates.entry(part).or_default().push(rate);
        }
        shrunk = serde_json::from_value(read(&results.join("shrunk.json"))?)?;
    }
    publish("parts", options.rounds, figures(&rates, &shrunk), &text(&rates, &shrunk)?)
}

/// What criterion estimated: for each part the rate at the median.
fn collect(results: &Path) -> Result<BTreeMap<Part, f64>> {
    let mut found = BTreeMap::new();
    for folder in estimates(results)? {
        let part = read(&folder.join("benchmark.json"))?;
        let named = |name: &str| part[name].as_str().with_context(|| format!("no {name} in {part}"));
        let bytes = part["throughput"]["Bytes"].as_u64().with_context(|| format!("no bytes in {part}"))?;
        let estimates = read(&folder.join("estimates.json"))?;
        let nanoseconds = estimates["median"]["point_estimate"].as_f64();
        let nanoseconds = nanoseconds.with_context(|| format!("no median in {}", folder.display()))?;
        let key = (named("group_id")?.to_owned(), named("function_id")?.to_owned(), bytes);
        found.insert(key, bytes as f64 / nanoseconds);
    }
    Ok(found)
}

/// The folders of the newest estimates, at any depth.
fn estimates(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.ends_with("new") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(estimates(&path)?);
        }
    }
    Ok(found)
}

fn read(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

fn figures(rates: &Rates, shrunk: &[Value]) -> Value {
    let parts: Vec<Value> = rates
        .iter()
        .map(|((group, what, record), rates)| json!({ "part": group, "of": what, "record": record, "rates": rates }))
        .collect();
    json!({ "parts": parts, "shrunk": shrunk })
}

fn text(rates: &Rates, shrunk: &[Value]) -> Result<String> {
    Ok(format!("{}\n{}\n{}", ciphers(rates), checksum(rates), records(rates, shrunk)?))
}

fn of<'a>(rates: &'a Rates, group: &str, what: &str, record: u64) -> &'a [f64] {
    rates.get(&(group.to_owned(), what.to_owned(), record)).map_or(&[], Vec::as_slice)
}

fn shown(value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.2}") }
}

/// What was measured in a group, shortest records first.
fn measured<'a>(rates: &'a Rates, group: &str) -> Vec<(u64, &'a str)> {
    let mut measured: Vec<_> =
        rates.keys().filter(|(of, ..)| of == group).map(|(_, what, record)| (*record, what.as_str())).collect();
    measured.sort();
    measured
}

fn ciphers(rates: &Rates) -> String {
    let (seal, open) = ("cipher, seal", "cipher, open");
    let rows: Vec<_> = measured(rates, seal)
        .into_iter()
        .map(|(record, what)| {
            let to_portable = |group| match what {
                WITH_CHOICE => ratio(of(rates, group, what, record), of(rates, group, PORTABLE, record)),
                _ => f64::NAN,
            };
            let name = format!("{what}, {} KiB", record >> 10);
            let rate = |group| median(of(rates, group, what, record));
            let figures = [rate(seal), rate(open), to_portable(seal), to_portable(open)];
            [name].into_iter().chain(figures.map(shown)).collect()
        })
        .collect();
    table(&["Cipher, GB/s", "seal", "open", "to portable, seal", "open"], &rows)
}

fn checksum(rates: &Rates) -> String {
    let rows: Vec<_> = measured(rates, "checksum")
        .into_iter()
        .map(|(record, what)| {
            vec![format!("{what}, {} KiB", record >> 10), shown(median(of(rates, "checksum", what, record)))]
        })
        .collect();
    table(&["Checksum, GB/s", "rate"], &rows)
}

fn records(rates: &Rates, shrunk: &[Value]) -> Result<String> {
    let (seal, open) = ("record, seal", "record, open");
    let record = measured(rates, seal).first().context("no record was sealed")?.0;
    let row = |name: String, what: &str, base: Option<&str>, smaller: f64| {
        let rate = |group| median(of(rates, group, what, record));
        let to_base =
            |group| base.map_or(f64::NAN, |base| ratio(of(rates, group, what, record), of(rates, group, base, record)));
        let figures = [rate(seal), rate(open), to_base(seal), to_base(open), smaller];
        [name].into_iter().chain(figures.map(shown)).collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    for kind in KINDS {
        for compression in COMPRESSIONS {
            let what = format!("{kind}, {compression}");
            let none = format!("{kind}, none");
            let base = (compression != "none").then_some(none.as_str());
            let of_both = |value: &&Value| value["data"] == kind && value["compression"] == compression;
            let smaller = shrunk.iter().find(of_both).and_then(|value| value["ratio"].as_f64());
            rows.push(row(
                what.clone(),
                &what,
                base,
                smaller.with_context(|| format!("how {what} shrinks is missing"))?,
            ));
        }
    }
    for suite in measured(rates, seal).into_iter().map(|(_, what)| what).filter(|what| !what.contains(", ")) {
        rows.push(row(format!("any data, {suite}"), suite, None, f64::NAN));
    }
    let head = format!("Record of {} KiB, GB/s", record >> 10);
    Ok(table(&[&head, "seal", "open", "to none, seal", "open", "shrinks by"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as criterion leaves it.
    fn results(parts: &[(&str, &str, u64, f64)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (number, (group, what, bytes, nanoseconds)) in parts.iter().enumerate() {
            let new = folder.path().join(format!("{number}/{what}/new"));
            std::fs::create_dir_all(&new).unwrap();
            let part = json!({ "group_id": group, "function_id": what, "throughput": { "Bytes": bytes } });
            std::fs::write(new.join("benchmark.json"), part.to_string()).unwrap();
            let estimates = json!({ "median": { "point_estimate": nanoseconds } });
            std::fs::write(new.join("estimates.json"), estimates.to_string()).unwrap();
        }
        folder
    }

    #[test]
    fn what_criterion_leaves_becomes_rates() {
        let folder = results(&[("cipher, seal", WITH_CHOICE, 4096, 1024.0), ("checksum", "crc32c", 4096, 512.0)]);
        let found = collect(folder.path()).unwrap();
        assert_eq!(found[&("cipher, seal".to_owned(), WITH_CHOICE.to_owned(), 4096)], 4.0);
        assert_eq!(found[&("checksum".to_owned(), "crc32c".to_owned(), 4096)], 8.0);
        std::fs::write(folder.path().join("0").join(WITH_CHOICE).join("new/estimates.json"), "{}").unwrap();
        assert!(collect(folder.path()).is_err());
    }

    #[test]
    fn tables_have_ratios_of_the_same_round() {
        let mut rates = Rates::new();
        let mut add = |group: &str, what: &str, record, of: [f64; 2]| {
            rates.insert((group.to_owned(), what.to_owned(), record), of.to_vec());
        };
        for group in ["cipher, seal", "cipher, open"] {
            add(group, WITH_CHOICE, 4096, [8.0, 4.0]);
            add(group, PORTABLE, 4096, [2.0, 1.0]);
        }
        let mut shrunk = Vec::new();
        for kind in KINDS {
            for (compression, rate) in COMPRESSIONS.into_iter().zip([8.0, 4.0, 2.0]) {
                add("record, seal", &format!("{kind}, {compression}"), 4096, [rate, rate]);
                shrunk.push(json!({ "data": kind, "compression": compression, "ratio": 1.5 }));
            }
        }
        let row = |table: &str, name: &str| -> Vec<String> {
            let line = table.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap();
            line.split('|').map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).skip(1).collect()
        };
        assert_eq!(row(&ciphers(&rates), "aes-256-gcm-siv, 4 KiB"), ["6.00", "6.00", "4.00", "4.00"]);
        let records = records(&rates, &shrunk).unwrap();
        assert_eq!(row(&records, "text, zstd"), ["2.00", "–", "0.25", "–", "1.50"]);
        shrunk.pop();
        assert!(super::records(&rates, &shrunk).is_err());
    }
}
