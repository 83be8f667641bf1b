//! The cartridge: its state and memory, unloading, partitions, protection, WORM, cleaning.

use anyhow::{Context, Result};
use sealtape_drivers::medium::{Attribute, DriveErrorKind, MediumType, Position, ReadOutcome, TapeDrive};

use super::bench::{Bench, Drive};
use super::random_commands::block;
use super::report::{Notes, Verdict};

const BEGINNING: Position = Position { partition: 0, object: 0 };
const USER_LABEL: u16 = 0x0803;
const SERIAL: u16 = 0x0401;

pub(super) fn status_and_attributes(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let held = bench.scratch()?;
    let (drive, status) = (held.drive, held.status);
    notes.fact(format!("{status:?}"));
    notes.expect(status.medium_type == MediumType::Data, || "a scratch volume is a data cartridge".to_owned());
    notes.expect(!status.write_protected, || "a scratch volume is not write protected".to_owned());
    notes.expect(status.capacity_bytes > 0, || "the drive tells no capacity".to_owned());
    let too_much = status.remaining_bytes.is_some_and(|left| left > status.capacity_bytes);
    notes.expect(!too_much, || "more is left than the cartridge holds".to_owned());
    let serial = drive.read_attribute(SERIAL)?;
    notes.expect(serial.is_some(), || "MAM attribute 0401h, the cartridge's serial number, is not told".to_owned());
    let value = format!("{:160}", "sealtape hwtest").into_bytes();
    let wanted = Attribute { id: USER_LABEL, format: 2, value };
    drive.write_attribute(&wanted)?;
    let told = drive.read_attribute(USER_LABEL)?;
    notes.expect(told.as_ref() == Some(&wanted), || {
        format!("attribute 0803h was written as {wanted:?}, and is {told:?}")
    });
    drive.write_attribute(&Attribute { value: Vec::new(), ..wanted })?;
    let told = drive.read_attribute(USER_LABEL)?;
    notes.expect(told.is_none(), || "attribute 0803h is still there after it was removed".to_owned());
    // With the value that it has: a drive that takes it does no harm.
    if let Some(serial) = serial {
        let refused = drive.write_attribute(&serial);
        let kind = refused.as_ref().err().map(|error| error.kind);
        notes.expect(kind == Some(DriveErrorKind::IllegalRequest), || {
            format!("0401h is the medium's: writing it gave {refused:?}")
        });
    }
    Ok(Verdict::Passed)
}

/// Writes `count` blocks at the position; the last is not synchronised.
fn write_blocks(drive: &mut Drive, count: u64) -> Result<()> {
    for number in 0..count {
        drive.write(&block(4_000 + number as usize, number)).with_context(|| format!("block {number}"))?;
    }
    Ok(())
}

/// The blocks of [`write_blocks`] stand from here on.
fn expect_blocks(drive: &mut Drive, notes: &mut Notes, what: &str, count: u64) -> Result<()> {
    for number in 0..count {
        let wanted = block(4_000 + number as usize, number);
        let mut buffer = vec![0; wanted.len()];
        let outcome = drive.read(&mut buffer)?;
        if outcome != (ReadOutcome::Block { length: wanted.len() }) || buffer != wanted {
            notes.fault(format!("{what}: object {number} is {outcome:?}, or has other content"));
            return Ok(());
        }
    }
    Ok(())
}

fn expect_end(drive: &mut Drive, notes: &mut Notes, what: &str) -> Result<()> {
    let outcome = drive.read(&mut [0; 100])?;
    notes.expect(outcome == ReadOutcome::EndOfData, || format!("{what}: {outcome:?} where the end of data should be"));
    Ok(())
}

pub(super) fn unload_while_buffered(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    const BLOCKS: u64 = 40;
    let drive = bench.scratch()?.drive;
    drive.locate(BEGINNING)?;
    write_blocks(drive, BLOCKS)?;
    drive.unload()?;
    let kind = drive.test_unit_ready().err().map(|error| error.kind);
    notes.expect(kind == Some(DriveErrorKind::NotReady), || format!("TEST UNIT READY after UNLOAD: {kind:?}"));
    // The same cartridge, and asked for again: it could have been changed meanwhile.
    let held = bench.scratch()?;
    let drive = held.drive;
    if held.put_in_again {
        notes.fact("LOAD after UNLOAD was refused until the changer had put the cartridge in again");
    }
    let report = drive.read_position()?;
    notes.expect(report.position == BEGINNING && report.beginning_of_partition, || format!("after LOAD: {report:?}"));
    expect_blocks(drive, notes, "after LOAD", BLOCKS)?;
    expect_end(drive, notes, "after LOAD")?;

    drive.prevent_removal(true)?;
    match drive.unload() {
        Err(error) if error.kind == DriveErrorKind::IllegalRequest => {
            notes.fact(format!("UNLOAD while prevented: {}", error.sense));
        }
        Err(error) => notes.fault(format!("UNLOAD while prevented: {error}")),
        Ok(()) => notes.fault("UNLOAD went through although removal is prevented"),
    }
    drive.prevent_removal(false)?;
    Ok(Verdict::Passed)
}

pub(super) fn partitions(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let held = bench.scratch()?;
    let (drive, capacity) = (held.drive, held.status.capacity_bytes);
    let second = capacity / 4;
    match drive.format_medium(Some(second)) {
        Ok(()) => {}
        Err(error) if error.kind == DriveErrorKind::IllegalRequest => {
            return Ok(Verdict::NotRun(format!("the drive makes no second partition: {error}")));
        }
        Err(error) => return Err(error.into()),
    }
    let tried = in_two_partitions(drive, notes, second);
    // Whatever came of it, what follows wants one partition.
    drive.format_medium(None)?;
    tried?;
    let status = drive.medium_status()?;
    notes.expect(status.partitions == 1, || format!("{} partitions after FORMAT MEDIUM into one", status.partitions));
    expect_end(drive, notes, "a fresh partition")?;
    Ok(Verdict::Passed)
}

fn in_two_partitions(drive: &mut Drive, notes: &mut Notes, asked: u64) -> Result<()> {
    let second = Position { partition: 1, object: 0 };
    let status = drive.medium_status()?;
    notes.expect(status.partitions == 2, || format!("{} partitions after FORMAT MEDIUM into two", status.partitions));
    drive.locate(second)?;
    let told = drive.medium_status()?.capacity_bytes;
    notes.fact(format!("partition 0 holds {} bytes, partition 1 {told}", status.capacity_bytes));
    // MiB and MB, whole wraps: drives round.
    notes.expect(told >= asked / 10 * 9, || {
        format!("a second partition of {asked} bytes was asked for, and holds {told}")
    });
    for (to, count) in [(BEGINNING, 5), (second, 9)] {
        drive.locate(to)?;
        write_blocks(drive, count).with_context(|| format!("writing to partition {}", to.partition))?;
        drive.write_filemarks(0, false)?;
        let told = drive.read_position()?.position;
        notes.expect(told == Position { object: count, ..to }, || format!("after {count} blocks: {told:?}"));
    }
    for (to, count) in [(BEGINNING, 5), (second, 9)] {
        drive.locate(to)?;
        let report = drive.read_position()?;
        notes.expect(report.position == to && report.beginning_of_partition, || {
            format!("after LOCATE to {to:?}: {report:?}")
        });
        let what = format!("partition {}", to.partition);
        expect_blocks(drive, notes, &what, count)?;
        expect_end(drive, notes, &what)?;
    }
    Ok(())
}

/// Everything that would change the medium.
type Change = fn(&mut Drive) -> Result<(), sealtape_drivers::medium::DriveError>;
const CHANGES: &[(&str, Change)] = &[
    ("WRITE", |drive| drive.write(&[1; 100]).map(drop)),
    ("WRITE FILEMARKS", |drive| drive.write_filemarks(1, false).map(drop)),
    ("ERASE", |drive| drive.erase(false)),
    ("FORMAT MEDIUM", |drive| drive.format_medium(None)),
];

pub(super) fn write_protection(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let Some(barcode) = bench.options.protected.clone() else {
        return Ok(Verdict::NotRun("no write-protected cartridge was named (--protected)".to_owned()));
    };
    let held = bench.hold(&barcode)?;
    if !held.status.write_protected {
        notes.fault(format!("MODE SENSE does not say that {barcode} is write protected: nothing more is tried"));
        return Ok(Verdict::Failed);
    }
    let drive = held.drive;
    for (name, change) in CHANGES {
        drive.rewind()?;
        let result = change(drive);
        let kind = result.as_ref().err().map(|error| error.kind);
        notes.expect(kind == Some(DriveErrorKind::WriteProtected), || {
            format!("{name} on a protected cartridge: {result:?}")
        });
    }
    drive.rewind()?;
    drive.read(&mut [0; 100])?;
    Ok(Verdict::Passed)
}

pub(super) fn worm(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    const BLOCKS: u64 = 3;
    let Some(barcode) = bench.options.worm.clone() else {
        return Ok(Verdict::NotRun("no WORM cartridge was named (--worm)".to_owned()));
    };
    let held = bench.hold(&barcode)?;
    let (drive, status) = (held.drive, held.status);
    // An ordinary cartridge would lose what stands on it.
    if status.medium_type == MediumType::Data {
        notes.fault(format!("{barcode} is told to be a data cartridge: nothing more is tried"));
        return Ok(Verdict::Failed);
    }
    notes
        .expect(status.medium_type == MediumType::Worm, || format!("{barcode} is told to be {:?}", status.medium_type));
    drive.space(sealtape_drivers::medium::SpaceKind::EndOfData, 0)?;
    let begin = drive.read_position()?.position;
    notes.fact(format!(
        "it is {} written up to object {}",
        if status.write_protected { "protected, and" } else { "not protected, and" },
        begin.object
    ));
    write_blocks(drive, BLOCKS).context("appending")?;
    drive.write_filemarks(1, false)?;
    for (name, change) in CHANGES {
        drive.locate(begin)?;
        let result = change(drive);
        let kind = result.as_ref().err().map(|error| error.kind);
        let right = matches!(kind, Some(DriveErrorKind::WormOverwrite | DriveErrorKind::WriteProtected));
        // Some drives call formatting a WORM cartridge an illegal request.
        let right = right || (*name == "FORMAT MEDIUM" && kind == Some(DriveErrorKind::IllegalRequest));
        notes.expect(right, || format!("{name} over what stands on a WORM cartridge: {result:?}"));
        notes.fact(match result {
            Err(error) => format!("{name} over what stands there: {}", error.sense),
            Ok(()) => format!("{name} over what stands there: done"),
        });
    }
    drive.locate(begin)?;
    expect_blocks(drive, notes, "after the refused writes", BLOCKS)?;
    drive.space(sealtape_drivers::medium::SpaceKind::EndOfData, 0)?;
    write_blocks(drive, 1)?;
    drive.write_filemarks(1, false)?;
    let end = drive.read_position()?.position;
    let wanted = Position { object: begin.object + BLOCKS + 3, ..begin };
    notes.expect(end == wanted, || format!("after appending the drive stands at {end:?}, not {wanted:?}"));
    Ok(Verdict::Passed)
}

pub(super) fn cleaning(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let Some(barcode) = bench.options.cleaning.clone() else {
        return Ok(Verdict::NotRun("no cleaning cartridge was named (--cleaning)".to_owned()));
    };
    if bench.options.changer.is_none() {
        return Ok(Verdict::NotRun("without a changer the drive cannot be cleaned here".to_owned()));
    }
    bench.insert(&barcode)?;
    let drive = bench.drive()?;
    drive.load()?;
    match drive.medium_status() {
        Ok(status) => notes.expect(status.medium_type == MediumType::Cleaning, || format!("{status:?}")),
        Err(error) => notes.fault(format!("medium status with a cleaning cartridge: {error}")),
    }
    let scratch = bench.options.scratch.clone();
    bench.insert(&scratch)?;
    Ok(Verdict::Passed)
}
