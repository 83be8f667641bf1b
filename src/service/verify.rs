//! Reads a whole volume, verifying every record, and says whether its end is where the catalogue has it.

use std::time::Instant;

use sealtape_drivers::medium::{DriveError, DriveErrorKind, Position, ReadOutcome, TapeDrive};
use uuid::Uuid;

use crate::control::{EndOfData, Fault, Observer, PartitionVerified, Progress, ProgressUnit, VerifyReport};
use crate::unit::{EndCheck, SealedTape};

/// Why verification gave no report.
pub enum Stopped {
    /// Whoever asked for it went away.
    Cancelled,
    /// The drive failed in a way that ends it.
    Drive(DriveError),
}

impl From<DriveError> for Stopped {
    fn from(error: DriveError) -> Self {
        Self::Drive(error)
    }
}

/// Verifies every partition. A host whose records were lost is not thought to have moved by this.
pub fn verify(
    unit: &mut SealedTape,
    drive: &str,
    begun: Instant,
    observer: &Observer,
) -> Result<VerifyReport, Stopped> {
    unit.keeping_writes_blocked(|unit| verify_volume(unit, drive, begun, observer))
}

fn verify_volume(
    unit: &mut SealedTape,
    drive: &str,
    begun: Instant,
    observer: &Observer,
) -> Result<VerifyReport, Stopped> {
    unit.rewind()?;
    let status = unit.status();
    let count = unit.medium_status()?.partitions;
    let mut partitions = Vec::new();
    let total = unit.medium_status()?.capacity_bytes;
    for partition in 0..count {
        unit.locate(Position { partition, object: 0 })?;
        partitions.push(verify_partition(unit, partition, total, observer)?);
    }
    unit.locate(Position { partition: 0, object: 0 })?;
    Ok(VerifyReport {
        drive: drive.to_owned(),
        volume: status.label.as_ref().map_or(Uuid::nil(), |label| label.volume),
        label: status.label.and_then(|label| label.label),
        partitions,
        elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn verify_partition(
    unit: &mut SealedTape,
    partition: u8,
    total: u64,
    observer: &Observer,
) -> Result<PartitionVerified, Stopped> {
    let limit = unit.block_limits()?.maximum as usize;
    let mut buffer = vec![0; limit];
    let mut report = PartitionVerified {
        partition,
        generation: unit.status().generation.map_or(0, |generation| generation.number),
        sessions: 0,
        records: 0,
        filemarks: 0,
        host_bytes: 0,
        faults_total: 0,
        faults: Vec::new(),
        end: EndOfData::NotProven { object: 0, reason: String::new() },
    };
    let mut last_session = None;
    loop {
        if observer.cancelled() {
            return Err(Stopped::Cancelled);
        }
        let before = unit.status().position.map_or(0, |position| position.object);
        match unit.read(&mut buffer) {
            Ok(ReadOutcome::Block { length }) => {
                report.records += 1;
                report.host_bytes += length as u64;
                let session = unit.last_session();
                if session != last_session {
                    report.sessions += 1;
                    last_session = session;
                }
            }
            Ok(ReadOutcome::Filemark) => report.filemarks += 1,
            Ok(ReadOutcome::EndOfData | ReadOutcome::EndOfPartition) => break,
            Err(error) if matches!(error.kind, DriveErrorKind::Security | DriveErrorKind::Medium) => {
                report.faults_total += 1;
                if report.faults.len() < PartitionVerified::FAULTS_LISTED {
                    report.faults.push(Fault { object: before, message: error.message.clone() });
                }
                let after = unit.status().position.map(|position| position.object);
                if after.is_none_or(|after| after <= before) {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        if (report.records + report.filemarks).is_multiple_of(64) {
            let progress = Progress {
                stage: format!("verifying partition {partition}"),
                done: report.host_bytes,
                total: Some(total),
                unit: ProgressUnit::Bytes,
            };
            observer.report(progress);
        }
    }
    zeroize::Zeroize::zeroize(&mut buffer);
    let object = unit.status().position.map_or(0, |position| position.object);
    report.end = match unit.check_end_here() {
        EndCheck::Proven => EndOfData::Proven { object },
        EndCheck::NotProven(reason) => EndOfData::NotProven { object, reason },
        EndCheck::Wrong(message) => EndOfData::Wrong { object, message },
    };
    Ok(report)
}
