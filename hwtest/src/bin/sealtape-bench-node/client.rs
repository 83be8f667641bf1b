//! What a backup program does with a node, and nothing besides: one buffer, whole records, no file to read from.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use sealtape_hwtest::tape::{Operation, operate};
use serde_json::json;

const PAGE: usize = 4096;

/// A file of records from the beginning of the tape: random bytes, the same in each record but for its number.
#[derive(Args)]
pub(crate) struct Write {
    node: PathBuf,
    /// Bytes of a record
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..))]
    block: u32,
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Behind what stands there, instead of from the beginning
    #[arg(long)]
    append: bool,
}

/// Read the first file of the tape.
#[derive(Args)]
pub(crate) struct Read {
    node: PathBuf,
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..))]
    block: u32,
    /// How many there have to be
    #[arg(long)]
    records: u64,
    /// Compare every byte, and not only the number of each record
    #[arg(long)]
    compare: bool,
}

/// Write records one by one, with a pause between, from the beginning of the tape.
#[derive(Args)]
pub(crate) struct Latency {
    node: PathBuf,
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..))]
    block: u32,
    #[arg(long)]
    records: u64,
    /// Write a filemark after each record, and wait until both stand on the medium
    #[arg(long)]
    synchronous: bool,
    /// Pause before each record
    #[arg(long, default_value_t = 1000)]
    pause_us: u64,
}

impl Write {
    pub(crate) fn run(&self) -> Result<()> {
        let mut node = open(&self.node, true)?;
        operate(&node, if self.append { Operation::EndOfData } else { Operation::Rewind }, 1)?;
        let mut record = Record::noise(self.block);
        let began = Instant::now();
        // A session begins with the first record, and from the beginning of the tape a generation.
        write(&mut node, record.numbered(0))?;
        let first = began.elapsed();
        for number in 1..self.records {
            write(&mut node, record.numbered(number))?;
        }
        let written = began.elapsed();
        // Everything stands on the medium when close has returned; that is part of writing.
        nix::unistd::close(node).with_context(|| format!("closing {}", self.node.display()))?;
        let took = began.elapsed();
        tell(took, self.records, self.block, &[("first_seconds", first), ("close_seconds", took - written)]);
        Ok(())
    }
}

impl Read {
    pub(crate) fn run(&self) -> Result<()> {
        let mut node = open(&self.node, false)?;
        operate(&node, Operation::Rewind, 1)?;
        let mut expected = Record::noise(self.block);
        let mut record = Record::blank(self.block);
        let began = Instant::now();
        for number in 0..self.records {
            let length = read(&mut node, record.bytes())?;
            ensure!(length == self.block as usize, "record {number} has {length} bytes, not {}", self.block);
            let (is, ought) = (record.bytes(), expected.numbered(number));
            let compared = if self.compare { ought.len() } else { 8 };
            ensure!(is[..compared] == ought[..compared], "record {number} is not what was written");
        }
        let took = began.elapsed();
        let behind = read(&mut node, record.bytes())?;
        ensure!(behind == 0, "a record of {behind} bytes stands where the file ends");
        tell(took, self.records, self.block, &[]);
        Ok(())
    }
}

impl Latency {
    pub(crate) fn run(&self) -> Result<()> {
        let mut node = open(&self.node, true)?;
        operate(&node, Operation::Rewind, 1)?;
        let mut record = Record::noise(self.block);
        // What begins a session and a generation belongs to the first record only.
        write(&mut node, record.numbered(0))?;
        let mut took = Vec::with_capacity(usize::try_from(self.records)?);
        for number in 1..=self.records {
            std::thread::sleep(Duration::from_micros(self.pause_us));
            let began = Instant::now();
            write(&mut node, record.numbered(number))?;
            if self.synchronous {
                operate(&node, Operation::WriteFilemarks, 1)?;
            }
            took.push(began.elapsed());
        }
        nix::unistd::close(node).with_context(|| format!("closing {}", self.node.display()))?;
        took.sort();
        let at = |percent: usize| took.get((took.len() * percent / 100).min(took.len() - 1));
        let us = |percent| at(percent).map(|took| took.as_secs_f64() * 1e6);
        println!("{}", json!({ "median_us": us(50), "p99_us": us(99), "most_us": us(100) }));
        Ok(())
    }
}

fn tell(took: Duration, records: u64, block: u32, parts: &[(&str, Duration)]) {
    let bytes = records * u64::from(block);
    let mut said = json!({ "seconds": took.as_secs_f64(), "bytes": bytes, "records": records });
    for (part, took) in parts {
        said[*part] = took.as_secs_f64().into();
    }
    println!("{said}");
}

fn open(path: &Path, write: bool) -> Result<File> {
    let opened = File::options().read(!write).write(write).open(path);
    opened.with_context(|| path.display().to_string())
}

/// A record is taken whole or not at all.
fn write(node: &mut File, record: &[u8]) -> Result<()> {
    loop {
        match node.write(record) {
            Ok(length) => {
                ensure!(length == record.len(), "of a record of {} bytes {length} were taken", record.len());
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("writing a record"),
        }
    }
}

fn read(node: &mut File, record: &mut [u8]) -> Result<usize> {
    loop {
        match node.read(record) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other.context("reading a record"),
        }
    }
}

/// A buffer at the beginning of a page, as `dd` and `tar` have them.
struct Record {
    buffer: Vec<u8>,
    place: Range<usize>,
}

impl Record {
    fn blank(length: u32) -> Self {
        let buffer = vec![0_u8; length as usize + PAGE];
        let from = buffer.as_ptr().align_offset(PAGE);
        Self { buffer, place: from..from + length as usize }
    }

    /// Bytes that no compressor shrinks, the same in each run.
    fn noise(length: u32) -> Self {
        let mut record = Self::blank(length);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for bytes in record.bytes().chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.copy_from_slice(&state.to_le_bytes()[..bytes.len()]);
        }
        record
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer[self.place.clone()]
    }

    fn numbered(&mut self, number: u64) -> &[u8] {
        let bytes = self.bytes();
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes
    }
}
