//! `sealtape-lab-writer`: a backup program of the guest lab that keeps books. It writes numbered records to a tape node and notes in
//! a log, outside of the tape, what was acknowledged and what was synchronised; later it compares the tape with that log.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use sealtape_hwtest::tape::{Operation, operate, tell};

/// More than any record.
const LONGEST: usize = 512 << 10;
const ENOSPC: i32 = nix::libc::ENOSPC;

/// Write numbered records to a tape, keep books, and compare
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Write(WriteArguments),
    Check(CheckArguments),
}

/// Write records from the end of data on, until all are written or an error comes
#[derive(clap::Args)]
struct WriteArguments {
    /// The node, one that does not rewind
    node: PathBuf,
    /// The books; appended to
    #[arg(long)]
    log: PathBuf,
    /// So many records
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// Shortest record in bytes
    #[arg(long, default_value_t = 1000)]
    shortest: usize,
    /// Longest record in bytes
    #[arg(long, default_value_t = 60_000)]
    longest: usize,
    /// A filemark, which synchronises, after each so many records
    #[arg(long, default_value_t = u64::MAX)]
    mark_every: u64,
    /// How often it writes on after an error, as if nothing had happened; each of these writes has to fail
    #[arg(long, default_value_t = 5)]
    carry_on: u32,
    /// A write after an error may succeed
    #[arg(long)]
    exact: bool,
    /// After the records it waits for this file, and then carries on as after an error
    #[arg(long)]
    wait_for: Option<PathBuf>,
    /// Full means full: so many records more are tried after the first ENOSPC, as a program writes its trailer
    #[arg(long, default_value_t = 0)]
    trailer: u64,
}

/// Read everything back and compare it with the books
#[derive(clap::Args)]
struct CheckArguments {
    /// The node, one that does not rewind
    node: PathBuf,
    /// The books
    #[arg(long)]
    log: PathBuf,
    /// An error was about the failed record alone, and exact: it is not on the tape, and others may follow it
    #[arg(long)]
    exact: bool,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Write(arguments) => write(&arguments),
        Command::Check(arguments) => check(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab writer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What stands on a tape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Object {
    Record(u64),
    Filemark,
}

/// One line of the books.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    /// The writer stands at the end of data, with so many objects before it.
    End(u64),
    /// It is about to write this.
    Begun(Object),
    /// What was begun was acknowledged.
    Acknowledged,
    /// Everything so far was synchronised.
    Synchronised,
    /// What was begun failed with this errno.
    Failed(i32),
}

impl Entry {
    fn line(self) -> String {
        match self {
            Self::End(objects) => format!("end {objects}"),
            Self::Begun(Object::Record(number)) => format!("record {number}"),
            Self::Begun(Object::Filemark) => "filemark".into(),
            Self::Acknowledged => "acknowledged".into(),
            Self::Synchronised => "synchronised".into(),
            Self::Failed(errno) => format!("failed {errno}"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "end" => Self::End(value.parse().ok()?),
            "record" => Self::Begun(Object::Record(value.parse().ok()?)),
            "filemark" => Self::Begun(Object::Filemark),
            "acknowledged" => Self::Acknowledged,
            "synchronised" => Self::Synchronised,
            "failed" => Self::Failed(value.parse().ok()?),
            _ => return None,
        })
    }
}

/// The books, as a file. A line that was noted outlives the writer.
struct Books(File);

impl Books {
    fn note(&mut self, entry: Entry) -> Result<()> {
        Ok(self.0.write_all(format!("{}\n", entry.line()).as_bytes())?)
    }

    fn read(path: &Path) -> Result<Vec<Entry>> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.with_context(|| path.display().to_string())?,
        };
        text.lines().map(|line| Entry::parse(line).with_context(|| format!("{line:?} in the books"))).collect()
    }
}

/// Bytes of a record: its number, its length, and noise that follows from both.
fn record(number: u64, lengths: &Range<usize>) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    let span = (lengths.end - lengths.start).max(1) as u64;
    let length = lengths.start + (next() % span) as usize;
    noise(number, length)
}

fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend(number.to_be_bytes());
    let mut state = number ^ (length as u64) << 40 | 1;
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A record that was read: its number, if its bytes are what the number says.
fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*bytes.first_chunk()?);
    (noise(number, bytes.len()) == bytes).then_some(number)
}

fn write(arguments: &WriteArguments) -> Result<()> {
    ensure!((8..LONGEST).contains(&arguments.shortest) && arguments.longest <= LONGEST, "lengths from 8 to {LONGEST}");
    let known = Books::read(&arguments.log)?;
    let last = known.iter().filter_map(|entry| match entry {
        Entry::Begun(Object::Record(number)) => Some(*number),
        _ => None,
    });
    let first = last.max().map_or(1, |number| number + 1);
    let mut books = Books(OpenOptions::new().append(true).create(true).open(&arguments.log)?);
    let mut node = OpenOptions::new().read(true).write(true).open(&arguments.node).context("opening the node")?;
    operate(&node, Operation::BlockLength, 0).context("variable blocks")?;
    operate(&node, Operation::EndOfData, 0).context("going to the end of data")?;
    books.note(Entry::End(tell(&node).context("asking for the position")?))?;
    let lengths = arguments.shortest..arguments.longest;
    let mut number = first;
    let mut room = u64::MAX;
    let failed = loop {
        if number - first >= arguments.count || room == 0 {
            break false;
        }
        let bytes = record(number, &lengths);
        books.note(Entry::Begun(Object::Record(number)))?;
        number += 1;
        room = room.saturating_sub(u64::from(room != u64::MAX));
        match done(node.write(&bytes), bytes.len())? {
            Ok(()) => books.note(Entry::Acknowledged)?,
            Err(ENOSPC) => {
                books.note(Entry::Failed(ENOSPC))?;
                println!("record {}: no space", number - 1);
                room = room.min(arguments.trailer);
                continue;
            }
            Err(errno) => {
                books.note(Entry::Failed(errno))?;
                println!("record {}: errno {errno}", number - 1);
                break true;
            }
        }
        if (number - first) % arguments.mark_every == 0 && !mark(&node, &mut books)? {
            break true;
        }
    };
    if let Some(file) = &arguments.wait_for {
        println!("waiting");
        let begun = Instant::now();
        while !file.exists() {
            ensure!(begun.elapsed() < Duration::from_secs(60), "{} did not come", file.display());
            thread::sleep(Duration::from_millis(5));
        }
    }
    if failed || arguments.wait_for.is_some() {
        let mut succeeded = 0;
        for _ in 0..arguments.carry_on {
            let bytes = record(number, &lengths);
            books.note(Entry::Begun(Object::Record(number)))?;
            number += 1;
            match done(node.write(&bytes), bytes.len())? {
                Ok(()) => {
                    books.note(Entry::Acknowledged)?;
                    ensure!(arguments.exact, "record {} was acknowledged after an error", number - 1);
                    succeeded += 1;
                }
                Err(errno) => books.note(Entry::Failed(errno))?,
            }
        }
        println!("after the error {} writes failed and {succeeded} did not", arguments.carry_on - succeeded);
        if succeeded == 0 {
            return Ok(());
        }
    }
    if !mark(&node, &mut books)? {
        println!("the closing filemark failed");
    }
    Ok(())
}

/// A filemark, which covers everything before it; whether it was written.
fn mark(node: &File, books: &mut Books) -> Result<bool> {
    books.note(Entry::Begun(Object::Filemark))?;
    match operate(node, Operation::WriteFilemarks, 1) {
        Ok(()) => {
            books.note(Entry::Acknowledged)?;
            books.note(Entry::Synchronised)?;
            Ok(true)
        }
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            println!("filemark: errno {errno}");
            books.note(Entry::Failed(errno))?;
            Ok(false)
        }
    }
}

/// A write is whole or failed.
fn done(result: std::io::Result<usize>, length: usize) -> Result<Result<(), i32>> {
    match result {
        Ok(written) if written == length => Ok(Ok(())),
        Ok(written) => bail!("{written} of {length} bytes were written: no record of a tape is cut in two"),
        Err(error) => Ok(Err(error.raw_os_error().unwrap_or(0))),
    }
}

/// What the books promise, and what may be there besides.
#[derive(Default, Debug)]
struct Promise {
    /// In the order of acknowledgement.
    acknowledged: Vec<Object>,
    /// The first so many of them were synchronised.
    covered: usize,
    /// What failed first behind them may stand there all the same.
    doubtful: Option<Object>,
    /// Acknowledged objects that later turned out to be lost.
    lost: usize,
}

fn promise(books: &[Entry], exact: bool) -> Result<Promise> {
    let mut promise = Promise::default();
    let mut begun = None;
    let mut failed = false;
    for entry in books {
        match *entry {
            Entry::End(objects) => {
                let objects = usize::try_from(objects)?;
                ensure!(
                    objects >= promise.covered,
                    "the data ends behind {objects} objects, and {} were synchronised",
                    promise.covered
                );
                if begun.is_some() {
                    promise.doubtful = promise.doubtful.or(begun.take());
                }
                promise.lost += promise.acknowledged.len().saturating_sub(objects);
                if objects > promise.acknowledged.len() {
                    promise.acknowledged.extend(promise.doubtful);
                }
                // One more than that: the filemark of a close.
                if objects > promise.acknowledged.len() {
                    promise.acknowledged.push(Object::Filemark);
                }
                ensure!(objects <= promise.acknowledged.len(), "the data ends behind {objects} objects, too many");
                promise.acknowledged.truncate(objects);
                promise.doubtful = None;
                failed = false;
            }
            Entry::Begun(object) => begun = Some(object),
            Entry::Acknowledged => {
                let object = begun.take().context("acknowledged, and nothing begun")?;
                ensure!(!failed, "{object:?} was acknowledged after an error");
                promise.acknowledged.push(object);
            }
            Entry::Synchronised => promise.covered = promise.acknowledged.len(),
            Entry::Failed(errno) => {
                let object = begun.take().context("failed, and nothing begun")?;
                // At ENOSPC nothing was written and nothing is lost: a trailer may follow.
                if errno != ENOSPC && !exact {
                    failed = true;
                    promise.doubtful = promise.doubtful.or(Some(object));
                }
            }
        }
    }
    promise.doubtful = promise.doubtful.or(begun);
    Ok(promise)
}

fn check(arguments: &CheckArguments) -> Result<()> {
    let promise = promise(&Books::read(&arguments.log)?, arguments.exact)?;
    let mut node = File::open(&arguments.node).context("opening the node")?;
    operate(&node, Operation::BlockLength, 0).context("variable blocks")?;
    operate(&node, Operation::Rewind, 1).context("rewinding")?;
    let mut found = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        match node.read(&mut buffer) {
            Ok(0) if tell(&node)? == found.len() as u64 => break,
            Ok(0) => found.push(Object::Filemark),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                let number = number_of(bytes);
                found.push(Object::Record(number.with_context(|| format!("object {} is damaged", found.len()))?));
            }
            // Behind the last record there is no second zero.
            Err(_) if tell(&node)? == found.len() as u64 && at_end(&node)? => break,
            Err(error) => return Err(error).with_context(|| format!("reading object {}", found.len())),
        }
    }
    let mut possible = promise.acknowledged.clone();
    possible.extend(promise.doubtful);
    possible.push(Object::Filemark);
    if let Some(at) = found.iter().zip(&possible).position(|(found, possible)| found != possible) {
        bail!("object {at} is {:?}; after the books it is {:?}", found.get(at), possible.get(at));
    }
    ensure!(found.len() <= possible.len(), "{} objects, and the books know {}", found.len(), possible.len());
    ensure!(found.len() >= promise.covered, "{} objects, and {} were synchronised", found.len(), promise.covered);
    let lost = promise.lost + promise.acknowledged.len().saturating_sub(found.len());
    println!(
        "found {} acknowledged {} synchronised {} lost {lost}",
        found.len(),
        promise.acknowledged.len() + promise.lost,
        promise.covered
    );
    Ok(())
}

fn at_end(node: &File) -> Result<bool> {
    let here = tell(node)?;
    operate(node, Operation::EndOfData, 0)?;
    Ok(tell(node)? == here)
}
