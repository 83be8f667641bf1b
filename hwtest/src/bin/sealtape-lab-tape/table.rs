//! READ(6) by FIXED, SILI, block length set, length on the medium and length asked for (SSC-4 7.5), against the table of
//! `docs/virtual-drive.md`, on data that shrinks and data that does not.

use std::path::Path;

use anyhow::{Result, ensure};
use sealtape_drivers::scsi::{AdditionalSense, Command, Completion, Sense, SenseKey, Status};
use sealtape_drivers::sg::Data;

use crate::random_scsi::Drive;
use crate::sequence::block;

/// Blocks of each length that are written.
const BLOCKS: u32 = 4;

pub(crate) fn run(node: &Path) -> Result<()> {
    let mut drive = Drive::open(node)?;
    let mut cases = 0;
    for plain in [1, 512, 1000, 65536, 262_145] {
        for seed in [2, 3] {
            let data = block(seed, plain as usize);
            good(&mut drive, &Command::Rewind { immediate: false }, Data::None)?;
            for _ in 0..BLOCKS {
                good(&mut drive, &Command::Write6 { fixed: false, length: plain }, Data::Out(&data))?;
            }
            good(&mut drive, &Command::WriteFilemarks6 { immediate: false, count: 1 }, Data::None)?;
            for block_length in [0, 512, 1000] {
                for sili in [false, true] {
                    for asked in [1, plain - 1, plain, plain + 1, plain / 2, plain * 2, plain + 500] {
                        if asked != 0 {
                            variable(&mut drive, &data, block_length, sili, asked)?;
                            cases += 1;
                        }
                    }
                    for count in [1, 3] {
                        fixed(&mut drive, &data, block_length, sili, count)?;
                        cases += 1;
                    }
                }
            }
        }
    }
    println!("{cases} cases");
    Ok(())
}

fn good(drive: &mut Drive, command: &Command, data: Data<'_>) -> Result<()> {
    let answer = drive.command(command, data)?;
    ensure!(answer.completion == Completion::GOOD, "{command:?}: {answer:?}");
    Ok(())
}

fn start(drive: &mut Drive, block_length: u32) -> Result<()> {
    drive.block_length(block_length)?;
    good(drive, &Command::Rewind { immediate: false }, Data::None)
}

/// ILI with this INFORMATION and nothing else.
fn is_incorrect_length(completion: &Completion, information: i64) -> bool {
    completion.sense.as_ref().is_some_and(|sense: &Sense| {
        completion.status == Status::CHECK_CONDITION
            && sense.key == SenseKey::NO_SENSE
            && sense.additional == AdditionalSense::NONE
            && sense.flags.incorrect_length
            && !(sense.flags.filemark || sense.flags.end_of_medium || sense.flags.deferred)
            && sense.information == Some(information)
    })
}

fn ensure_position(drive: &mut Drive, object: u32, case: &str) -> Result<()> {
    let position = drive.position(0, 0)?;
    ensure!(position.contains(&format!("first: {object},")), "{case}: position {position}, expected {object}");
    Ok(())
}

fn variable(drive: &mut Drive, data: &[u8], block_length: u32, sili: bool, asked: u32) -> Result<()> {
    start(drive, block_length)?;
    let (answer, read) = drive.read(false, sili, asked)?;
    let case = format!("block length {block_length} SILI {sili} plain {} asked {asked}", data.len());
    println!("{case}: {answer:?}");
    let difference = i64::from(asked) - i64::try_from(data.len())?;
    let told = match difference {
        0 => false,
        1.. => !sili,
        _ => !sili || block_length != 0,
    };
    match told {
        true => ensure!(is_incorrect_length(&answer.completion, difference), "{case}: {answer:?}"),
        false => ensure!(answer.completion == Completion::GOOD, "{case}: {answer:?}"),
    }
    let delivered = data.get(..(asked as usize).min(data.len())).unwrap_or_default();
    ensure!(read == delivered, "{case}: other data, {} bytes", read.len());
    ensure_position(drive, 1, &case)
}

fn fixed(drive: &mut Drive, data: &[u8], block_length: u32, sili: bool, count: u32) -> Result<()> {
    start(drive, block_length)?;
    let (answer, read) = drive.read(true, sili, count)?;
    let case = format!("block length {block_length} SILI {sili} FIXED plain {} count {count}", data.len());
    println!("{case}: {answer:?}");
    if sili || block_length == 0 {
        let refused = answer.completion.sense.as_ref().is_some_and(|sense| {
            sense.key == SenseKey::ILLEGAL_REQUEST && sense.additional == AdditionalSense::INVALID_FIELD_IN_CDB
        });
        ensure!(refused, "{case}: {answer:?}");
        return ensure_position(drive, 0, &case);
    }
    if data.len() != block_length as usize {
        ensure!(is_incorrect_length(&answer.completion, i64::from(count)), "{case}: {answer:?}");
        return ensure_position(drive, 1, &case);
    }
    ensure!(answer.completion == Completion::GOOD, "{case}: {answer:?}");
    ensure!(read == data.repeat(count as usize), "{case}: other data");
    ensure_position(drive, count, &case)
}
