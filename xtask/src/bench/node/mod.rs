//! `bench node`: a virtual drive from the program that writes to it down to the drive, sealed beside raw.
//!
//! `sealtape-bench-node` serves both, with the product's own node, unit, threads and windows, and is the client too.

mod services;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use self::services::Services;
use super::figures::{median, ratio, table};
use super::served::{Client, Drive, Figures, Served, Unit, number, room};
use super::{Options, PROGRAM, in_memory, publish};
use crate::command::Profile;
use crate::demo::stage::Stage;
use crate::setup;

const BLOCKS: [u64; 2] = [256 << 10, 1 << 20];
/// Of the block of several drives, and of the bound for CPU time.
const BLOCK: u64 = 256 << 10;
const DRIVES: usize = 4;
/// Most that is written to each of several drives.
const MOST_MIB_EACH: u64 = 512;
/// Twice what a window holds.
const FILLING_MIB: u64 = 128;
const PACE: &str = "100";
const MIXED: [u64; 6] = [1 << 20, 64 << 10, 1 << 20, 64 << 10, 1 << 20, 64 << 10];
const LATENCY_BLOCK: u64 = 64 << 10;
const LATENCY_RECORDS: u64 = 2000;

const LEAST_OF_RAW: f64 = 0.55;
const MOST_CPU_OF_RAW: f64 = 3.0;
const LEAST_OF_ONE_DRIVE: f64 = 1.6;
const LEAST_OF_MEAN: f64 = 0.8;
const MOST_BESIDE_WINDOWS_MIB: f64 = 64.0;

/// One kind of drive and of work, one length of blocks.
struct Line {
    drive: Drive,
    task: &'static str,
    block: u64,
    raw: Figures,
    sealed: Figures,
}

/// Several drives in one process, beside one of them.
struct Several {
    unit: Unit,
    task: &'static str,
    one: Vec<f64>,
    total: Vec<f64>,
    /// The slowest drive's rate, divided by the mean.
    slowest: Vec<f64>,
}

struct Peak {
    what: &'static str,
    mib: f64,
    windows_mib: f64,
}

struct Latency {
    what: String,
    median_us: f64,
    p99_us: f64,
}

struct Field<'a> {
    program: PathBuf,
    folder: &'a Path,
    rounds: usize,
    mebibytes: u64,
}

/// Gives what was not reached.
pub(super) fn run(options: &Options, product: &Path) -> Result<Vec<String>> {
    setup::for_demo()?;
    let program = product.with_file_name(PROGRAM);
    ensure!(program.is_file(), "{} is not built; leave out --no-build", program.display());
    let stage = Stage::set(Profile::Release)?;
    let folder = in_memory(&stage)?;
    let field =
        Field { program: program.clone(), folder: &folder, rounds: options.rounds, mebibytes: options.mebibytes };

    let mut lines = field.alone(Drive::Discard, &["write"])?;
    lines.extend(field.alone(Drive::Memory, &["write", "read"])?);
    lines.extend(field.alone(Drive::Image, &["write", "read"])?);
    let mut several = Vec::new();
    for unit in [Unit::Raw, Unit::Sealed] {
        several.push(field.several((unit, Drive::Discard), "write")?);
        several.push(field.several((unit, Drive::Memory), "read")?);
    }
    let peaks =
        [field.peak_of_full_windows(&BLOCKS[1..])?, field.peak_of_full_windows(&MIXED)?, field.peak_of_reading()?];
    let mut latencies = Vec::new();
    for unit in [Unit::Raw, Unit::Sealed] {
        latencies.extend(field.latencies(unit)?);
    }
    let services = Services::measure(&stage, &program, &folder, options.rounds, &mut latencies)?;

    tell(options, &lines, &several, &peaks, &latencies, &services)?;
    Ok(missed(&lines, &several, &peaks))
}

impl Field<'_> {
    fn serve(&self, what: (Unit, Drive), drives: usize, mebibytes: u64) -> Result<Served> {
        Served::start(&self.program, self.folder, what, drives, room(mebibytes), &[])
    }

    fn client(&self, block: u64, mebibytes: u64) -> Client<'_> {
        Client { program: &self.program, block, records: (mebibytes << 20) / block }
    }

    /// Raw and sealed in turn, round after round; who comes first changes.
    fn alone(&self, drive: Drive, tasks: &[&'static str]) -> Result<Vec<Line>> {
        let mut served = [self.serve((Unit::Raw, drive), 1, self.mebibytes)?];
        let mut sealed = [self.serve((Unit::Sealed, drive), 1, self.mebibytes)?];
        let mut lines = Vec::new();
        for block in BLOCKS {
            println!("bench node: {} drive, {} KiB, {} rounds", drive.name(), block >> 10, self.rounds);
            let client = self.client(block, self.mebibytes);
            let line = |task: &&'static str| {
                let (raw, sealed) = Default::default();
                Line { drive, task, block, raw, sealed }
            };
            let mut of_block: Vec<Line> = tasks.iter().map(line).collect();
            for round in 0..self.rounds {
                for turn in 0..2 {
                    let raw = (round + turn) % 2 == 0;
                    let served = if raw { &mut served[0] } else { &mut sealed[0] };
                    for line in &mut of_block {
                        let figures = if raw { &mut line.raw } else { &mut line.sealed };
                        figures.take(&client, served, line.task)?;
                    }
                }
            }
            lines.extend(of_block);
        }
        served.into_iter().chain(sealed).try_for_each(Served::end)?;
        Ok(lines)
    }

    fn several(&self, what: (Unit, Drive), task: &'static str) -> Result<Several> {
        let (unit, _) = what;
        println!("bench node: {DRIVES} drives at once, {}, {task}, {} rounds", unit.name(), self.rounds);
        let each = self.mebibytes.min(MOST_MIB_EACH);
        let served = self.serve(what, DRIVES, each)?;
        let client = self.client(BLOCK, each);
        if task == "read" {
            client.at_once("write", &served.nodes)?;
        }
        let (one, total, slowest) = Default::default();
        let mut several = Several { unit, task, one, total, slowest };
        let gigabytes = client.bytes() as f64 / 1e9;
        for round in 0..self.rounds {
            let alone = &served.nodes[round % DRIVES..=round % DRIVES];
            several.one.push(gigabytes / client.at_once(task, alone)?.0);
            let (together, each) = client.at_once(task, &served.nodes)?;
            several.total.push(DRIVES as f64 * gigabytes / together);
            let rates: Vec<f64> = each.iter().map(|seconds| gigabytes / seconds).collect();
            let mean = rates.iter().sum::<f64>() / rates.len() as f64;
            several.slowest.push(rates.iter().copied().fold(f64::INFINITY, f64::min) / mean);
        }
        served.end()?;
        Ok(several)
    }

    /// Drives slower than sealing, so that every window is full; hosts that write blocks of these lengths, one after the other.
    fn peak_of_full_windows(&self, blocks: &[u64]) -> Result<Peak> {
        println!("bench node: peak memory, full windows, {} lengths", blocks.len());
        let what = (Unit::Sealed, Drive::Discard);
        let pace = ["--mb-per-s", PACE];
        let mut served = Served::start(&self.program, self.folder, what, DRIVES, room(FILLING_MIB), &pace)?;
        for block in blocks {
            self.client(*block, FILLING_MIB).at_once("write", &served.nodes)?;
        }
        let what = match blocks {
            [_] => "slow discarding drives, 1 MiB",
            _ => "the same, 1 MiB and 64 KiB in turn",
        };
        let peak = peak(what, &mut served)?;
        served.end()?;
        Ok(peak)
    }

    /// The cartridges are files here, and not the process's own memory.
    fn peak_of_reading(&self) -> Result<Peak> {
        let each = self.mebibytes.min(MOST_MIB_EACH);
        let mut served = self.serve((Unit::Sealed, Drive::Image), DRIVES, each)?;
        for task in ["write", "read"] {
            self.client(BLOCKS[1], each).at_once(task, &served.nodes)?;
        }
        let peak = peak("written and read at 1 MiB, image drives", &mut served)?;
        served.end()?;
        Ok(peak)
    }

    fn latencies(&self, unit: Unit) -> Result<[Latency; 2]> {
        println!("bench node: latency, {}", unit.name());
        let served = self.serve((unit, Drive::Discard), 1, self.mebibytes)?;
        let client = Client { program: &self.program, block: LATENCY_BLOCK, records: LATENCY_RECORDS };
        let node = &served.nodes[0];
        let latencies = [
            Latency::of(format!("{}, discarding drive: write", unit.name()), &client.run("latency", node, &[])?)?,
            Latency::of(
                format!("{}, discarding drive: write and filemark", unit.name()),
                &client.run("latency", node, &["--synchronous"])?,
            )?,
        ];
        served.end()?;
        Ok(latencies)
    }
}

impl Line {
    /// Of raw.
    fn rate_ratio(&self) -> f64 {
        ratio(&self.sealed.rates, &self.raw.rates)
    }

    fn cpu_ratio(&self) -> f64 {
        ratio(&self.sealed.cpu_per_gb, &self.raw.cpu_per_gb)
    }

    fn name(&self) -> String {
        format!("{}, {} drive, {} KiB", self.task, self.drive.name(), self.block >> 10)
    }

    /// What the goals speak of: a drive that costs nothing.
    fn is_null(&self) -> bool {
        matches!((self.drive, self.task), (Drive::Discard, "write") | (Drive::Memory, "read"))
    }
}

impl Latency {
    fn of(what: String, said: &Value) -> Result<Self> {
        Ok(Self { what, median_us: number(said, "median_us")?, p99_us: number(said, "p99_us")? })
    }
}

fn peak(what: &'static str, served: &mut Served) -> Result<Peak> {
    let windows_mib = DRIVES as f64 * served.window_bytes as f64 / f64::from(1 << 20);
    Ok(Peak { what, mib: served.used()?.peak_mib, windows_mib })
}

fn missed(lines: &[Line], several: &[Several], peaks: &[Peak]) -> Vec<String> {
    let mut missed = Vec::new();
    let mut goal = |what: String, has: f64, least: f64| {
        println!("{what}: {has:.2} (at least {least})");
        if has < least {
            missed.push(format!("{what} at least {least}; it is {has:.2}"));
        }
    };
    for line in lines.iter().filter(|line| line.is_null()) {
        goal(format!("{}: sealed of raw", line.name()), line.rate_ratio(), LEAST_OF_RAW);
    }
    for line in several.iter().filter(|several| several.unit == Unit::Sealed) {
        let total = ratio(&line.total, &line.one);
        goal(format!("{DRIVES} drives, {}: all of one alone", line.task), total, LEAST_OF_ONE_DRIVE);
        goal(format!("{DRIVES} drives, {}: slowest of mean", line.task), median(&line.slowest), LEAST_OF_MEAN);
    }
    let mut bound = |what: String, has: f64, most: f64| {
        println!("{what}: {has:.2} (at most {most:.0})");
        if has > most {
            missed.push(format!("{what} at most {most:.0}; it is {has:.2}"));
        }
    };
    for line in lines.iter().filter(|line| line.is_null() && line.block == BLOCK) {
        bound(format!("{}: CPU of raw", line.name()), line.cpu_ratio(), MOST_CPU_OF_RAW);
    }
    for peak in peaks {
        bound(format!("peak MiB, {}", peak.what), peak.mib, peak.windows_mib + MOST_BESIDE_WINDOWS_MIB);
    }
    missed
}

fn tell(
    options: &Options,
    lines: &[Line],
    several: &[Several],
    peaks: &[Peak],
    latencies: &[Latency],
    services: &Services,
) -> Result<()> {
    let two = |value: f64| format!("{value:.2}");
    let mut text = format!("{} MiB a round, random bytes, not compressed.\n\n", options.mebibytes);

    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let medians = [&line.raw.rates, &line.sealed.rates].map(|values| two(median(values)));
            let cpu = [&line.raw.cpu_per_gb, &line.sealed.cpu_per_gb].map(|values| two(median(values)));
            let [raw, sealed] = medians;
            let [raw_cpu, sealed_cpu] = cpu;
            vec![line.name(), raw, sealed, two(line.rate_ratio()), raw_cpu, sealed_cpu, two(line.cpu_ratio())]
        })
        .collect();
    let head = ["one drive", "raw GB/s", "sealed GB/s", "sealed/raw", "raw CPU s/GB", "sealed CPU s/GB", "sealed/raw"];
    text.push_str(&table(&head, &rows));

    let rows: Vec<Vec<String>> = several
        .iter()
        .map(|line| {
            let name = format!("{}, {}", line.task, line.unit.name());
            let (one, total) = (median(&line.one), median(&line.total));
            vec![name, two(one), two(total), two(ratio(&line.total, &line.one)), two(median(&line.slowest))]
        })
        .collect();
    let title = format!("{DRIVES} drives at once, {} KiB", BLOCK >> 10);
    text.push('\n');
    text.push_str(&table(&[&*title, "one alone GB/s", "all GB/s", "all/one", "slowest/mean"], &rows));

    let rows: Vec<Vec<String>> = peaks
        .iter()
        .map(|peak| {
            let [most, windows] = [peak.mib, peak.windows_mib].map(|mib| format!("{mib:.0}"));
            vec![peak.what.to_owned(), most, windows]
        })
        .collect();
    let title = format!("memory, {DRIVES} sealed drives");
    text.push('\n');
    text.push_str(&table(&[&*title, "peak MiB", "of it windows, at most"], &rows));

    let rows: Vec<Vec<String>> = latencies
        .iter()
        .map(|latency| {
            let [median, p99] = [latency.median_us, latency.p99_us].map(|us| format!("{us:.0}"));
            vec![latency.what.clone(), median, p99]
        })
        .collect();
    text.push('\n');
    text.push_str(&table(&["latency of one record of 64 KiB", "median µs", "99th percentile µs"], &rows));
    text.push('\n');
    text.push_str(&services.table());

    let figures = json!({
        "one_drive": lines.iter().map(|line| json!({
            "drive": line.drive.name(), "task": line.task, "block": line.block,
            "raw_gb_per_s": line.raw.rates, "sealed_gb_per_s": line.sealed.rates, "ratio": line.rate_ratio(),
            "raw_cpu_s_per_gb": line.raw.cpu_per_gb, "sealed_cpu_s_per_gb": line.sealed.cpu_per_gb,
            "cpu_ratio": line.cpu_ratio(),
        })).collect::<Vec<_>>(),
        "several_drives": several.iter().map(|line| json!({
            "unit": line.unit.name(), "task": line.task, "drives": DRIVES, "block": BLOCK,
            "one_gb_per_s": line.one, "all_gb_per_s": line.total, "slowest_of_mean": line.slowest,
        })).collect::<Vec<_>>(),
        "peaks": peaks.iter().map(|peak| json!({
            "what": peak.what, "peak_mib": peak.mib, "windows_mib": peak.windows_mib,
        })).collect::<Vec<_>>(),
        "latencies": latencies.iter().map(|latency| json!({
            "what": latency.what, "median_us": latency.median_us, "p99_us": latency.p99_us,
        })).collect::<Vec<_>>(),
        "services": services.json(),
    });
    publish("node", options.rounds, figures, &text)
}
