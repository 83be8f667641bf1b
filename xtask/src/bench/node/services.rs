//! The installed services, release build: how long they take to start, and what a record costs, with few volumes and with many.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::figures::{median, table};
use super::super::served::{Client, number};
use super::{LATENCY_BLOCK, Latency};
use crate::command::{output, shown};
use crate::demo::stage::Stage;

/// The drive of a new home.
const DRIVE: &str = "drive0";
const VOLUMES: [u32; 2] = [10, 10_000];
/// Short records: what a record costs beside its bytes is what could grow.
const BLOCK: u64 = 4096;
const RECORDS: u64 = 20_000;
/// Put before the records of the second measurement.
const FILLER: u64 = 200_000;
/// Each waits for a disk.
const SYNCHRONOUS: u64 = 200;

/// With one size of the catalogue.
struct Sized {
    volumes: u32,
    start_ms: Vec<f64>,
    /// Microseconds of a record, at the beginning of the tape.
    write_us: Vec<f64>,
    read_us: Vec<f64>,
    /// And behind [`FILLER`] others.
    far_write_us: Vec<f64>,
    /// Milliseconds of the first record there, which opens a session with the key authority.
    far_first_ms: Vec<f64>,
    /// Milliseconds of the close, which waits for the medium and tells the catalogue.
    far_close_ms: Vec<f64>,
}

pub(super) struct Services(Vec<Sized>);

impl Services {
    pub(super) fn measure(
        stage: &Stage,
        program: &Path,
        folder: &Path,
        rounds: usize,
        latencies: &mut Vec<Latency>,
    ) -> Result<Self> {
        output(stage.sealtape().arg("init"))?;
        stage.start_services()?;
        output(stage.sealtape().args(["pool", "create", "bench", "--compression", "none"]))?;
        let tape = folder.join("services.image");
        output(stage.sealtape().args(["image", "create"]).arg(&tape).args(["--capacity", "4G"]))?;
        output(stage.sealtape().args(["volume", "load", DRIVE]).arg(&tape))?;
        output(stage.sealtape().args(["volume", "label", DRIVE, "BENCH", "--pool", "bench"]))?;
        println!("bench node: the services, a record and a filemark at a time");
        let one_by_one = Client { program, block: LATENCY_BLOCK, records: SYNCHRONOUS };
        let said = one_by_one.run("latency", stage.node()?, &["--synchronous"])?;
        latencies.push(Latency::of("the services, image drive: write and filemark".into(), &said)?);
        unload(stage)?;

        let mut sizes = Vec::new();
        let mut there = 1;
        for volumes in VOLUMES {
            println!("bench node: the services with {volumes} volumes");
            fill(stage, program, there, volumes - there)?;
            there = volumes;
            sizes.push(Sized::measure(stage, program, &tape, volumes, rounds)?);
        }
        stage.stop_services()?;
        std::fs::remove_file(&tape).with_context(|| tape.display().to_string())?;
        Ok(Self(sizes))
    }

    pub(super) fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .0
            .iter()
            .map(|size| {
                let start = format!("{:.0}", median(&size.start_ms));
                let costs = [&size.write_us, &size.read_us, &size.far_write_us];
                let costs = costs.map(|us| format!("{:.1}", least(us)));
                let ends = [&size.far_first_ms, &size.far_close_ms].map(|ms| format!("{:.1}", median(ms)));
                [format!("{} volumes", size.volumes), start].into_iter().chain(costs).chain(ends).collect()
            })
            .collect();
        let far = format!("µs written behind {FILLER}");
        let head = ["the services, 4 KiB records", "start ms", "µs written", "µs read", &far, "first ms", "close ms"];
        table(&head, &rows)
    }

    pub(super) fn json(&self) -> Value {
        let sizes = self.0.iter().map(|size| {
            json!({
                "volumes": size.volumes, "start_ms": size.start_ms, "write_us": size.write_us, "read_us": size.read_us,
                "far_write_us": size.far_write_us, "far_first_ms": size.far_first_ms, "far_close_ms": size.far_close_ms,
            })
        });
        sizes.collect()
    }
}

impl Sized {
    fn measure(stage: &Stage, program: &Path, tape: &Path, volumes: u32, rounds: usize) -> Result<Self> {
        let (start_ms, write_us, read_us, far_write_us, far_first_ms, far_close_ms) = Default::default();
        let mut size = Self { volumes, start_ms, write_us, read_us, far_write_us, far_first_ms, far_close_ms };
        for _ in 0..rounds {
            stage.stop_services()?;
            size.start_ms.push(stage.start_services()?.as_secs_f64() * 1e3);
        }
        output(stage.sealtape().args(["volume", "load", DRIVE]).arg(tape))?;
        let node = stage.node()?;
        let client = Client { program, block: BLOCK, records: RECORDS };
        for _ in 0..rounds {
            size.write_us.push(of_a_record(&client.run("write", node, &[])?)?);
            size.read_us.push(number(&client.run("read", node, &[])?, "seconds")? * 1e6 / RECORDS as f64);
        }
        let filler = Client { program, block: BLOCK, records: FILLER };
        filler.run("write", node, &[])?;
        for _ in 0..rounds {
            let said = client.run("write", node, &["--append"])?;
            size.far_write_us.push(of_a_record(&said)?);
            size.far_first_ms.push(number(&said, "first_seconds")? * 1e3);
            size.far_close_ms.push(number(&said, "close_seconds")? * 1e3);
        }
        unload(stage)?;
        Ok(size)
    }
}

/// Other work on the machine, the key authority's check of its catalogue after a start among it, only adds to what a record costs.
fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Microseconds of a record that was written, without what is paid once for all of them.
fn of_a_record(said: &Value) -> Result<f64> {
    let once = number(said, "first_seconds")? + number(said, "close_seconds")?;
    Ok((number(said, "seconds")? - once) * 1e6 / RECORDS as f64)
}

fn unload(stage: &Stage) -> Result<()> {
    output(stage.sealtape().args(["volume", "unload", DRIVE])).map(drop)
}

/// More volumes, each with a generation, a session and its entries in the custody log, by the key authority itself.
fn fill(stage: &Stage, program: &Path, first: u32, volumes: u32) -> Result<()> {
    let mut command = std::process::Command::new(program);
    command.arg("fill").arg("--home").arg(stage.home()).args(["--unit", DRIVE]);
    command.args(["--first", &first.to_string(), "--volumes", &volumes.to_string()]);
    let said = output(&mut command).with_context(|| shown(&command))?;
    println!("bench node: {volumes} volumes were made: {}", said.trim());
    Ok(())
}
