//! `bench chain`: the kernel's own tape driver and a virtual SCSI drive above, a SCSI drive of the kernel below, sealed beside raw, in the guest
//! lab.
//!
//! The guest runs this program too, which starts there what `sealtape-bench-node` serves and tells line by line what it measured.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::figures::{median, ratio, table};
use super::served::{Client, Drive, Figures, Served, Unit, room};
use super::{Options, PROGRAM, RUN_CHAIN, publish};
use crate::command::{root, shown};
use crate::setup;

/// Boots the guest.
pub(super) const LAB: &str = "sealtape-lab";

/// A sealed record is longer than its plaintext, and the guest's SCSI layer carries 1 MiB in a command: a block of 1 MiB does not go.
const BLOCKS: [u64; 3] = [64 << 10, 256 << 10, 512 << 10];
/// Of the goal.
const BLOCK: u64 = 256 << 10;
const LEAST_OF_RAW: f64 = 0.5;

const MOST_WRITTEN_MIB: u64 = 512;
/// A process of the guest has a mapping of the host's for every few of its pages, and the host allows 65530.
const MOST_KEPT_MIB: u64 = 160;
const GUEST_MIB: &str = "2048";
const SECONDS: usize = 120;
const SECONDS_A_ROUND: usize = 60;

/// Has the SCSI target ready, and becomes what it is told.
const SCRIPT: &str = r#". /run/job/lab.sh && . hwtest/guest/chain.sh && target_modules && exec "$@""#;

/// One task, with one length of blocks.
struct Line {
    task: String,
    block: u64,
    raw: Measured,
    sealed: Measured,
}

#[derive(Default)]
struct Measured {
    served: Figures,
    /// Of everything in the guest: the client, both drives and the kernel.
    guest_cpu_per_gb: Vec<f64>,
}

/// Gives what was not reached.
pub(super) fn run(options: &Options, product: &Path) -> Result<Vec<String>> {
    setup::for_lab()?;
    let [program, lab] = [PROGRAM, LAB].map(|name| product.with_file_name(name));
    for program in [&program, &lab] {
        ensure!(program.is_file(), "{} is not built; leave out --no-build", program.display());
    }
    let mut guest = Command::new(lab);
    guest.args(["--memory", GUEST_MIB, "--time-limit", &(SECONDS + SECONDS_A_ROUND * options.rounds).to_string()]);
    guest.args(["--", "bash", "-c", SCRIPT, "bench"]).arg(std::env::current_exe().context("this program")?);
    guest.arg(RUN_CHAIN).arg(&program).args([options.mebibytes.to_string(), options.rounds.to_string()]);
    let lines = told(guest.current_dir(root()))?;
    ensure!(lines.len() == 2 * BLOCKS.len(), "the guest told of {} measurements", lines.len());
    tell(options, &lines)?;
    let mut missed = Vec::new();
    for line in lines.iter().filter(|line| line.block == BLOCK) {
        let (name, has) = (line.name(), line.rate_ratio());
        println!("chain, {name}: sealed of raw: {has:.2} (at least {LEAST_OF_RAW})");
        if has < LEAST_OF_RAW {
            missed.push(format!("chain, {name}: sealed at least {LEAST_OF_RAW} of raw; it is {has:.2}"));
        }
    }
    Ok(missed)
}

/// Lines of JSON are measurements; what else is said is shown.
fn told(guest: &mut Command) -> Result<Vec<Line>> {
    let mut child = guest.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| shown(guest))?;
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().context("no pipe")?).lines() {
        let line = line.context("what the guest says")?;
        match serde_json::from_str::<Value>(&line) {
            Ok(value) if value.is_object() => lines.push(Line::parse(&value).with_context(|| line.clone())?),
            _ => println!("{line}"),
        }
    }
    let status = child.wait().with_context(|| shown(guest))?;
    ensure!(status.success(), "the guest ended with {status}; above stands why");
    Ok(lines)
}

fn tell(options: &Options, lines: &[Line]) -> Result<()> {
    let two = |value: f64| format!("{value:.2}");
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let both = [&line.raw, &line.sealed];
            let [raw, sealed] = both.map(|unit| two(median(&unit.served.rates)));
            let [raw_cpu, sealed_cpu] = both.map(|unit| two(median(&unit.served.cpu_per_gb)));
            let [raw_all, sealed_all] = both.map(|unit| two(median(&unit.guest_cpu_per_gb)));
            let cpu_ratio = two(ratio(&line.sealed.served.cpu_per_gb, &line.raw.served.cpu_per_gb));
            vec![line.name(), raw, sealed, two(line.rate_ratio()), raw_cpu, sealed_cpu, cpu_ratio, raw_all, sealed_all]
        })
        .collect();
    let head = [
        "chain in the guest",
        "raw GB/s",
        "sealed GB/s",
        "sealed/raw",
        "raw CPU s/GB",
        "sealed CPU s/GB",
        "sealed/raw",
        "whole guest, raw",
        "sealed",
    ];
    let [written, kept] = [MOST_WRITTEN_MIB, MOST_KEPT_MIB].map(|most| options.mebibytes.min(most));
    let text = format!(
        "{written} MiB written a round, {kept} MiB read; random bytes, not compressed.\n\n{}",
        table(&head, &rows)
    );
    publish("chain", options.rounds, lines.iter().map(Line::json).collect(), &text)
}

/// `xtask run-chain PROGRAM MIB ROUNDS`, in the guest.
pub(crate) fn run_in_guest(arguments: &[&str]) -> Result<()> {
    let [program, mebibytes, rounds] = arguments else { bail!("run-chain PROGRAM MIB ROUNDS") };
    let (program, mebibytes, rounds) = (Path::new(program), mebibytes.parse::<u64>()?, rounds.parse::<usize>()?);
    measure(program, (Drive::Discard, "write"), mebibytes.min(MOST_WRITTEN_MIB), rounds)?;
    measure(program, (Drive::Memory, "read"), mebibytes.min(MOST_KEPT_MIB), rounds)
}

/// Raw and sealed in turn, round after round, each over a drive of its own; who comes first changes.
fn measure(program: &Path, (drive, task): (Drive, &str), mebibytes: u64, rounds: usize) -> Result<()> {
    let mut raw = Chain::start(program, Unit::Raw, drive, mebibytes)?;
    let mut sealed = Chain::start(program, Unit::Sealed, drive, mebibytes)?;
    for block in BLOCKS {
        println!("bench chain: {task}, {} KiB, {rounds} rounds", block >> 10);
        let client = Client { program, block, records: (mebibytes << 20) / block };
        // There has to be something to read; and buffers come page by page when they are first touched, which is dear in the guest.
        for served in [&raw.served, &sealed.served] {
            client.seconds("write", &served.nodes[0])?;
        }
        let mut line = Line { task: task.to_owned(), block, raw: Measured::default(), sealed: Measured::default() };
        for round in 0..rounds {
            for turn in 0..2 {
                match (round + turn) % 2 {
                    0 => line.raw.take(&client, &mut raw.served, task)?,
                    _ => line.sealed.take(&client, &mut sealed.served, task)?,
                }
            }
        }
        println!("{}", line.json());
    }
    raw.end()?;
    sealed.end()
}

/// A virtual drive over a drive of the kernel, which another process plays.
struct Chain {
    served: Served,
    // Behind the other: it is needed until that has ended.
    lab: Served,
}

impl Chain {
    fn start(program: &Path, unit: Unit, drive: Drive, mebibytes: u64) -> Result<Self> {
        let folder = Path::new("/dev/shm").join(unit.name());
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        // Only a medium that keeps what is written has to have room.
        let room = if drive == Drive::Memory { mebibytes + mebibytes / 16 + 16 } else { room(mebibytes) };
        let (below, above) = (format!("lab-{}-", unit.name()), format!("{}-", unit.name()));
        let lab = ["--front-end", "tcmu", "--name", &below];
        let lab = Served::start(program, &folder, (Unit::Raw, drive), 1, room, &lab)?;
        let served = ["--front-end", "tcmu", "--name", &above, "--over", &below];
        let served = Served::start(program, &folder, (unit, Drive::Scsi), 1, room, &served)?;
        Ok(Self { served, lab })
    }

    fn end(self) -> Result<()> {
        self.served.end()?;
        self.lab.end()
    }
}

impl Measured {
    fn take(&mut self, client: &Client<'_>, served: &mut Served, task: &str) -> Result<()> {
        let before = guest_cpu_seconds()?;
        self.served.take(client, served, task)?;
        self.guest_cpu_per_gb.push((guest_cpu_seconds()? - before) / (client.bytes() as f64 / 1e9));
        Ok(())
    }

    fn json(&self) -> Value {
        json!({
            "gb_per_s": self.served.rates, "cpu_s_per_gb": self.served.cpu_per_gb,
            "guest_cpu_s_per_gb": self.guest_cpu_per_gb,
        })
    }

    fn parse(value: &Value) -> Result<Self> {
        let numbers = |name: &str| -> Result<Vec<f64>> {
            let list = value[name].as_array().with_context(|| format!("no {name}"))?;
            list.iter().map(|number| number.as_f64().with_context(|| format!("no number in {name}"))).collect()
        };
        let served = Figures { rates: numbers("gb_per_s")?, cpu_per_gb: numbers("cpu_s_per_gb")? };
        Ok(Self { served, guest_cpu_per_gb: numbers("guest_cpu_s_per_gb")? })
    }
}

impl Line {
    fn name(&self) -> String {
        format!("{}, {} KiB", self.task, self.block >> 10)
    }

    fn rate_ratio(&self) -> f64 {
        ratio(&self.sealed.served.rates, &self.raw.served.rates)
    }

    fn json(&self) -> Value {
        json!({
            "task": self.task, "block": self.block, "raw": self.raw.json(), "sealed": self.sealed.json(),
            "ratio": self.rate_ratio(),
        })
    }

    fn parse(value: &Value) -> Result<Self> {
        Ok(Self {
            task: value["task"].as_str().context("no task")?.to_owned(),
            block: value["block"].as_u64().context("no block")?,
            raw: Measured::parse(&value["raw"])?,
            sealed: Measured::parse(&value["sealed"])?,
        })
    }
}

/// What the guest's processor was busy for since it started (proc(5), `/proc/stat`: hundredths of a second).
fn guest_cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let times = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat has no line cpu")?;
    let times = times.split_whitespace().map(|time| time.parse::<f64>().context("/proc/stat"));
    let times = times.collect::<Result<Vec<_>>>()?;
    // user, nice, system, idle, iowait, irq, softirq; what follows is time of other systems, or counted already.
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = times[..] else { bail!("/proc/stat: {stat}") };
    Ok((user + nice + system + irq + softirq) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_out_of_the_guest_as_it_was() {
        let figures = |rate| Measured {
            served: Figures { rates: vec![rate, rate], cpu_per_gb: vec![1.5, 2.5] },
            guest_cpu_per_gb: vec![3.0, 4.25],
        };
        let line = Line { task: "write".to_owned(), block: BLOCK, raw: figures(2.0), sealed: figures(1.0) };
        let again = Line::parse(&serde_json::from_str(&line.json().to_string()).unwrap()).unwrap();
        assert_eq!(again.json(), line.json());
        assert_eq!((again.name().as_str(), again.rate_ratio()), ("write, 256 KiB", 0.5));
        assert!(Line::parse(&json!({ "task": "write", "block": 1 })).is_err());
    }

    #[test]
    fn the_processor_has_been_busy() {
        assert!(guest_cpu_seconds().unwrap() > 0.0);
    }
}
