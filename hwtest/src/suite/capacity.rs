//! Block lengths, and the end of the medium.

use anyhow::Result;
use sealtape_drivers::medium::{DriveErrorKind, Position, ReadOutcome, TapeDrive, Warning};

use super::bench::{Bench, Drive};
use super::random_commands::block;
use super::report::{Notes, Verdict};

const LENGTHS: &[u32] = &[
    1, 2, 3, 4, 7, 80, 511, 512, 513, 4095, 4096, 4097, 10_240, 32_768, 65_535, 65_536, 65_537, 131_072, 262_144,
    262_145, 524_287, 524_288, 524_289, 1_048_576, 2_097_152, 8_388_608,
];
const FILLING_BLOCK: usize = 65_536;
const BEGINNING: Position = Position { partition: 0, object: 0 };

pub(super) fn block_lengths(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let longest = bench.options.longest_block;
    let drive = bench.scratch()?.drive;
    let limits = drive.block_limits()?;
    let most = limits.maximum.min(longest);
    let mut written = Vec::new();
    drive.locate(BEGINNING)?;
    let lengths = LENGTHS.iter().copied().chain([limits.minimum, most]);
    for length in lengths.filter(|length| (limits.minimum..=most).contains(length)) {
        match drive.write(&block(length as usize, u64::from(length))) {
            Ok(_) => written.push(length),
            Err(error) => {
                notes.fault(format!("a block of {length} bytes was not written: {error}"));
                drive.locate(Position { object: written.len() as u64, ..BEGINNING })?;
            }
        }
    }
    drive.write_filemarks(0, false)?;
    for (object, length) in (0..).zip(&written) {
        for room in [*length as usize, *length as usize / 2, *length as usize + 100] {
            if room == 0 || room > most as usize {
                continue;
            }
            drive.locate(Position { object, ..BEGINNING })?;
            expect_block(drive, notes, *length as usize, room, u64::from(*length));
        }
    }
    notes.fact(format!("{} lengths from {} to {:?} bytes", written.len(), limits.minimum, written.iter().max()));
    Ok(Verdict::Passed)
}

/// READ into `room` bytes gives the block, or as much of it as fits.
fn expect_block(drive: &mut Drive, notes: &mut Notes, length: usize, room: usize, number: u64) {
    let mut buffer = vec![0; room];
    match drive.read(&mut buffer) {
        Ok(ReadOutcome::Block { length: told }) if told == length => {
            let fits = length.min(room);
            let same = block(length, number).get(..fits) == buffer.get(..fits);
            notes.expect(same, || format!("a block of {length} bytes came back changed into room for {room}"));
        }
        Ok(other) => notes.fault(format!("a block of {length} bytes, read into room for {room}: {other:?}")),
        Err(error) => notes.fault(format!("a block of {length} bytes, read into room for {room}: {error}")),
    }
}

pub(super) fn end_of_medium(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let limit = bench.options.fill_limit;
    let held = bench.scratch()?;
    let (drive, capacity) = (held.drive, held.status.capacity_bytes);
    if capacity == 0 || capacity > limit {
        return Ok(Verdict::NotRun(format!(
            "the cartridge holds {capacity} bytes; --fill-limit {limit} says how much may be written"
        )));
    }
    let programmable = drive.set_programmable_early_warning(capacity / 8)?;
    notes.fact(format!(
        "programmable early warning {} bytes before early warning: {}",
        capacity / 8,
        if programmable { "taken" } else { "not taken" }
    ));
    let result = fill(drive, notes, capacity, programmable);
    drive.set_programmable_early_warning(0)?;
    drive.locate(BEGINNING)?;
    // What comes after needs an empty cartridge.
    drive.write_filemarks(1, false)?;
    result?;
    Ok(Verdict::Passed)
}

/// What has been acknowledged, in order.
#[derive(Default)]
struct Written {
    objects: Vec<bool>, // true: a block.
    first: [Option<usize>; 2],
}

impl Written {
    fn take(&mut self, is_block: bool, warning: Warning, notes: &mut Notes) {
        let [programmable, early] = &mut self.first;
        let at = self.objects.len();
        match warning {
            Warning::None => {
                notes.expect(early.is_none() && programmable.is_none(), || {
                    format!("object {at}: no warning after a warning")
                });
            }
            Warning::Programmable => {
                programmable.get_or_insert(at);
                notes
                    .expect(early.is_none(), || format!("object {at}: programmable early warning after early warning"));
            }
            Warning::Early => {
                early.get_or_insert(at);
            }
        }
        self.objects.push(is_block);
    }
}

fn fill(drive: &mut Drive, notes: &mut Notes, capacity: u64, programmable: bool) -> Result<()> {
    drive.locate(BEGINNING)?;
    let most = capacity / FILLING_BLOCK as u64 * 2 + 64;
    let mut written = Written::default();
    let mut trailer = false;
    let ended = loop {
        let number = written.objects.len() as u64;
        if number > most {
            notes.fault(format!("no end after {most} blocks of {FILLING_BLOCK} bytes in {capacity} bytes"));
            break None;
        }
        match drive.write(&block(FILLING_BLOCK, number)) {
            Ok(warning) => written.take(true, warning, notes),
            Err(error) => break Some(error),
        }
        // A trailer has to go behind early warning: a filemark first, then records.
        if written.first[1].is_some() && !std::mem::replace(&mut trailer, true) {
            match drive.write_filemarks(1, false) {
                Ok(warning) => written.take(false, warning, notes),
                Err(error) => notes.fault(format!("a filemark behind early warning: {error}")),
            }
            let report = drive.read_position()?;
            notes.expect(report.end_of_partition, || "READ POSITION behind early warning has EOP clear".to_owned());
        }
    };
    if let Some(error) = ended {
        notes.expect(error.kind == DriveErrorKind::EndOfMedium, || format!("the end of the medium: {error}"));
        notes.fact(format!("the end: {}", error.sense));
    }
    let [first_programmable, first_early] = written.first;
    notes.fact(format!(
        "{} objects of {FILLING_BLOCK} bytes in {capacity}; programmable early warning at {first_programmable:?}, early warning at {first_early:?}",
        written.objects.len()
    ));
    notes.expect(first_early.is_some(), || "no early warning before the end".to_owned());
    notes.expect(!programmable || first_programmable.is_some(), || {
        "no programmable early warning, though it was taken".to_owned()
    });
    let position = drive.read_position()?.position.object;
    let acknowledged = written.objects.len() as u64;
    notes.expect(position == acknowledged, || {
        format!("{acknowledged} objects acknowledged, the drive stands at {position}")
    });
    drive.write_filemarks(0, false)?;
    read_back(drive, notes, &written)
}

fn read_back(drive: &mut Drive, notes: &mut Notes, written: &Written) -> Result<()> {
    drive.rewind()?;
    let mut buffer = vec![0; FILLING_BLOCK];
    for (number, is_block) in (0..).zip(&written.objects) {
        let outcome = drive.read(&mut buffer)?;
        let right = match outcome {
            ReadOutcome::Block { length } => {
                *is_block && length == FILLING_BLOCK && buffer == block(FILLING_BLOCK, number)
            }
            ReadOutcome::Filemark => !*is_block,
            ReadOutcome::EndOfData | ReadOutcome::EndOfPartition => false,
        };
        if !right {
            notes.fault(format!("object {number} was acknowledged, and reads as {outcome:?}, or with other content"));
            return Ok(());
        }
    }
    let end = drive.read(&mut buffer)?;
    notes.expect(matches!(end, ReadOutcome::EndOfData | ReadOutcome::EndOfPartition), || {
        format!("behind the last object: {end:?}")
    });
    Ok(())
}
