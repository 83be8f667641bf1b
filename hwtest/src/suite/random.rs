//! Random commands on the drive and on the reference tape: both have to do the same.

use std::collections::BTreeMap;

use anyhow::Result;
use sealtape_drivers::medium::model::{ModelOptions, ModelTape};
use sealtape_drivers::medium::{Position, PositionReport, ReadOutcome, SpaceKind, TapeDrive};

use super::bench::{Bench, Drive};
use super::random_commands::{Command, Outcome, Random};
use super::report::{Notes, Verdict};

/// Longest block of this case: motion and lengths count here, not bytes.
const LONGEST: u32 = 200_000;
/// Bytes on the tape; then both start anew, so that no warning comes.
const MOST_BYTES: u64 = 16 << 20;
/// A tape with more objects makes the reference tape, which counts them one by one, slow.
const MOST_OBJECTS: usize = 1_500;
/// Differences that are told apart; more of them mean that nothing fits.
const MOST_DIFFERENCES: usize = 20;
const BEGINNING: Position = Position { partition: 0, object: 0 };

/// Differences seen, each kind with the first of it and how often.
#[derive(Default)]
struct Differences(BTreeMap<String, (String, u32)>);

impl Differences {
    fn add(&mut self, kind: String, first: String) {
        self.0.entry(kind).or_insert((first, 0)).1 += 1;
    }
}

pub(super) fn against_the_model(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let (commands, mut random) = (bench.options.commands, Random(bench.options.seed));
    let held = bench.scratch()?;
    let (drive, capacity) = (held.drive, held.status.capacity_bytes);
    let most_bytes = MOST_BYTES.min(capacity / 4);
    let longest = drive.block_limits()?.maximum.min(LONGEST);
    let mut model = ModelTape::new(ModelOptions { maximum_block: longest, ..ModelOptions::new(1 << 40) });
    // A write at the beginning is what empties a tape: both begin with one filemark.
    drive.locate(BEGINNING)?;
    drive.write_filemarks(1, false)?;
    model.write_filemarks(1, false)?;

    let mut differences = Differences::default();
    let (mut writing, mut most_objects) = (false, 0);
    let (mut counts, mut done, mut bytes) = (BTreeMap::<&str, u32>::new(), 0, 0);
    for number in 0..u64::from(commands) {
        let objects = model.objects(0).len();
        let command = match bytes > most_bytes || objects > MOST_OBJECTS {
            true => Command::Rewind,
            false => Command::draw(&mut random, objects as u64, longest, writing),
        };
        if matches!(command, Command::Rewind) && (bytes > most_bytes || objects > MOST_OBJECTS) {
            start_anew(drive, &mut model)?;
            bytes = 0;
            continue;
        }
        if let Command::Write { length } = command {
            bytes += length as u64 + 64;
        }
        writing = command.writes();
        most_objects = most_objects.max(objects);
        done += 1;
        *counts.entry(name(command)).or_default() += 1;
        let (ours, expected) = (command.execute(drive, number), command.execute(&mut model, number));
        let apart = compare(number, command, (&ours, drive), (&expected, &mut model), &mut differences)?;
        if apart {
            if differences.0.len() >= MOST_DIFFERENCES {
                notes.fault("too many kinds of difference: given up");
                break;
            }
            // Writing that differs leaves two different tapes.
            match command.writes() {
                true => start_anew(drive, &mut model)?,
                false => meet(drive, &mut model)?,
            }
        }
    }
    compare_contents(drive, &mut model, notes)?;
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    notes.fact(format!(
        "{done} commands on up to {most_objects} objects, with READ POSITION after each: {}",
        counts.join(", ")
    ));
    for (kind, (first, count)) in differences.0 {
        notes.fault(format!("{kind}, {count} times; first: {first}"));
    }
    Ok(Verdict::Passed)
}

fn name(command: Command) -> &'static str {
    match command {
        Command::Write { .. } => "WRITE",
        Command::WriteFilemarks { .. } => "WRITE FILEMARKS",
        Command::Read { .. } => "READ",
        Command::Space { .. } => "SPACE",
        Command::Locate { .. } => "LOCATE",
        Command::Rewind => "REWIND",
    }
}

/// With the direction, in which drives differ.
fn kind_of(command: Command) -> String {
    match command {
        Command::Space { kind: SpaceKind::EndOfData, .. } => "SPACE to the end of data".to_owned(),
        Command::Space { kind, count } if count < 0 => format!("SPACE backward over {kind:?}"),
        Command::Space { kind, .. } => format!("SPACE over {kind:?}"),
        other => name(other).to_owned(),
    }
}

/// Compares what came of a command, and where both stand then. `true`: they have to be brought together again.
fn compare(
    number: u64,
    command: Command,
    (ours, drive): (&Outcome, &mut Drive),
    (expected, model): (&Outcome, &mut ModelTape),
    differences: &mut Differences,
) -> Result<bool> {
    let mut apart = !ours.same(expected);
    if apart {
        let example = format!("command {number}, {command:?}: {} instead of {}", ours.shown(), expected.shown());
        let kind = format!("{}: {} instead of {}", kind_of(command), ours.kind(), expected.kind());
        differences.add(kind, example);
    }
    let right = model.read_position()?;
    let after = format!("after command {number}, {command:?}");
    match drive.read_position() {
        Err(error) => {
            apart = true;
            differences.add("READ POSITION".to_owned(), format!("{after}: {error}"));
        }
        Ok(told) => {
            let example = || format!("{after}: {} instead of {}", shown(&told), shown(&right));
            if told.position != right.position {
                apart = true;
                differences.add(format!("position after {}", kind_of(command)), example());
            } else if told.filemarks.is_some() && told.filemarks != right.filemarks {
                differences.add(format!("file number after {}", kind_of(command)), example());
            } else if told.beginning_of_partition != right.beginning_of_partition {
                differences.add(format!("BOP at object {}", right.position.object), example());
            }
        }
    }
    Ok(apart)
}

fn shown(report: &PositionReport) -> String {
    let bop = if report.beginning_of_partition { ", BOP" } else { "" };
    let filemarks = report.filemarks.map_or(String::new(), |filemarks| format!(" behind {filemarks} filemarks"));
    format!("object {}{filemarks}{bop}", report.position.object)
}

fn start_anew(drive: &mut Drive, model: &mut ModelTape) -> Result<()> {
    for tape in [drive as &mut dyn TapeDrive, model] {
        tape.locate(BEGINNING)?;
        tape.write_filemarks(1, false)?;
    }
    Ok(())
}

/// Both stand where the model does.
fn meet(drive: &mut Drive, model: &mut ModelTape) -> Result<()> {
    let to = model.read_position()?.position;
    Ok(drive.locate(to)?)
}

fn compare_contents(drive: &mut Drive, model: &mut ModelTape, notes: &mut Notes) -> Result<()> {
    drive.rewind()?;
    model.rewind()?;
    let mut room = [vec![0; LONGEST as usize], vec![0; LONGEST as usize]];
    for number in 0_u64.. {
        let [ours, right] = &mut room;
        let (told, expected) = (drive.read(ours)?, model.read(right)?);
        let length = if let ReadOutcome::Block { length } = expected { length } else { 0 };
        if told != expected || ours.get(..length) != right.get(..length) {
            notes.fault(format!(
                "at the end, object {number} is {told:?} instead of {expected:?}, or has other content"
            ));
            return Ok(());
        }
        if expected == ReadOutcome::EndOfData {
            notes.fact(format!("at the end, all {number} objects have the same content"));
            return Ok(());
        }
    }
    Ok(())
}
