//! `bench seal`: the suites in the shipped program, beside those of aws-lc-rs, on one core.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::figures::{median, ratio, table};
use super::{Options, publish};
use crate::command::{self, cargo, checked, output};

const RECORDS: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];
/// For each figure of a round.
const MILLISECONDS: &str = "150";

const GUARDED_RECORD: usize = 256 << 10;
const GUARDED_SUITE: &str = "aes-256-gcm-siv";
/// An unlucky code layout halves the rate; this tells it from noise.
const LEAST_RATIO: f64 = 0.9;

/// What was measured of one suite with records of one length, round by round.
#[derive(Default)]
struct Rounds {
    seal: Vec<f64>,
    open: Vec<f64>,
    seal_record: Vec<f64>,
    peer_seal: Vec<f64>,
    peer_open: Vec<f64>,
}

/// Gives what was not reached.
pub(super) fn run(options: &Options, product: &Path) -> Result<Option<String>> {
    let peer = peer(options.build)?;
    let core = std::thread::available_parallelism().map_or(0, |count| count.get() - 1).to_string();
    let on_core = |program: &Path| {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &core]).arg(program);
        command
    };
    let mut all: BTreeMap<(usize, String), Rounds> = BTreeMap::new();
    for round in 1..=options.rounds {
        println!("bench seal: round {round} of {}", options.rounds);
        for record in RECORDS {
            let length = record.to_string();
            let mut ours = on_core(product);
            ours.args(["measure", "--json", "--record", &length, "--ms", MILLISECONDS]);
            let mut theirs = on_core(&peer);
            theirs.args([&length, MILLISECONDS]);
            // Who comes first changes, lest a machine that heats up or is throttled favours one.
            let (ours, theirs) = match round % 2 {
                0 => {
                    let theirs = rates(&mut theirs)?;
                    (rates(&mut ours)?, theirs)
                }
                _ => (rates(&mut ours)?, rates(&mut theirs)?),
            };
            for (suite, figures) in ours {
                let rounds = all.entry((record, suite.clone())).or_default();
                rounds.seal.push(number(&figures, "seal")?);
                rounds.open.push(number(&figures, "open")?);
                rounds.seal_record.push(number(&figures, "seal_record")?);
                if let Some(figures) = theirs.get(&suite) {
                    rounds.peer_seal.push(number(figures, "seal")?);
                    rounds.peer_open.push(number(figures, "open")?);
                }
            }
        }
    }
    tell(options, &all)?;
    let guarded = all.get(&(GUARDED_RECORD, GUARDED_SUITE.to_owned())).context("the guarded suite was not measured")?;
    let reached = ratio(&guarded.seal, &guarded.peer_seal);
    println!("{GUARDED_SUITE} seals at {reached:.2} of aws-lc-rs with records of 256 KiB (at least {LEAST_RATIO})");
    Ok((reached < LEAST_RATIO).then(|| format!("{GUARDED_SUITE} at {LEAST_RATIO} of aws-lc-rs; it has {reached:.2}")))
}

fn tell(options: &Options, all: &BTreeMap<(usize, String), Rounds>) -> Result<()> {
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for ((record, suite), rounds) in all {
        let medians = [&rounds.seal, &rounds.open, &rounds.seal_record, &rounds.peer_seal, &rounds.peer_open]
            .map(|values| median(values));
        let ratios = [ratio(&rounds.seal, &rounds.peer_seal), ratio(&rounds.open, &rounds.peer_open)];
        let shown = |value: &f64| if value.is_nan() { "–".to_owned() } else { format!("{value:.2}") };
        let name = format!("{suite}, {} KiB", record >> 10);
        rows.push([name].into_iter().chain(medians.iter().chain(&ratios).map(shown)).collect());
        figures.push(json!({
            "suite": suite, "record": record, "seal": rounds.seal, "open": rounds.open, "seal_record": rounds.seal_record,
            "aws_lc_rs_seal": rounds.peer_seal, "aws_lc_rs_open": rounds.peer_open,
            "ratio_seal": ratios[0], "ratio_open": ratios[1],
        }));
    }
    let head = ["GB/s, one core", "seal", "open", "whole record", "aws-lc-rs seal", "open", "ratio seal", "open"];
    publish("seal", options.rounds, Value::Array(figures), &table(&head, &rows))
}

/// What a program measured, by suite.
fn rates(command: &mut Command) -> Result<BTreeMap<String, Value>> {
    let said = output(command)?;
    let list: Vec<Value> = serde_json::from_str(&said).with_context(|| said.clone())?;
    let named = |value: Value| value["suite"].as_str().map(str::to_owned).map(|suite| (suite, value));
    list.into_iter().map(|value| named(value).context("no suite in what was measured")).collect()
}

fn number(value: &Value, name: &str) -> Result<f64> {
    value[name].as_f64().with_context(|| format!("no {name} in {value}"))
}

/// The program with the ciphers of aws-lc-rs: a workspace of its own, so that nothing of it comes into the product's tree.
fn peer(build: bool) -> Result<PathBuf> {
    let target = command::target()?.join("bench");
    if build {
        let mut command = cargo();
        command.args(["build", "--locked", "--release", "--manifest-path", "bench/Cargo.toml", "--target-dir"]);
        checked(command.arg(&target))?;
    }
    Ok(target.join("release/sealtape-bench"))
}
