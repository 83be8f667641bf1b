//! Commands of tape by a seed, sent as they are: what st would never send is among them.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use sealtape_drivers::scsi::{Command, Destination, Form, Location, PositionData, Status};
use sealtape_drivers::sg::{Data, SgDevice, Sharing, Transport};

use crate::sequence::{Sequence, block, fingerprint};

const LIMIT: Duration = Duration::from_secs(60);

/// A drive by its `sg` node, and the block length that was set.
pub(crate) struct Drive {
    device: SgDevice,
    block_length: u32,
}

impl Drive {
    pub(crate) fn open(node: &Path) -> Result<Self> {
        let mut drive = Self { device: SgDevice::open(node, Sharing::Shared)?, block_length: 0 };
        // Attentions wait for whoever asks first.
        for _ in 0..4 {
            if drive.device.execute(Command::TestUnitReady.encode().as_bytes(), Data::None, LIMIT)?.completion.status
                == Status::GOOD
            {
                break;
            }
        }
        drive.block_length(0)?;
        Ok(drive)
    }

    /// Sends a command and tells status, sense and length of the data.
    pub(crate) fn command(&mut self, command: &Command, data: Data<'_>) -> Result<sealtape_drivers::sg::Answer> {
        Ok(self.device.execute(command.encode().as_bytes(), data, LIMIT)?)
    }

    /// MODE SELECT(6) with a block descriptor.
    pub(crate) fn block_length(&mut self, length: u32) -> Result<String> {
        let [_, high, middle, low] = length.to_be_bytes();
        let list = [0, 0, 0x10, 8, 0, 0, 0, 0, 0, high, middle, low];
        let select = Command::ModeSelect { form: Form::Six, page_format: true, save: false, length: 12 };
        let answer = self.command(&select, Data::Out(&list))?;
        if answer.completion.status == Status::GOOD {
            self.block_length = length;
        }
        Ok(format!("{answer:?}"))
    }

    /// READ(6) with room for all that it asks for: the answer and the data.
    pub(crate) fn read(
        &mut self,
        fixed: bool,
        sili: bool,
        length: u32,
    ) -> Result<(sealtape_drivers::sg::Answer, Vec<u8>)> {
        let bytes = if fixed { length * self.block_length.max(1) } else { length };
        let mut buffer = vec![0; bytes as usize];
        let command = Command::Read6 { fixed, suppress_incorrect_length: sili, length };
        let answer = match buffer.is_empty() {
            true => self.command(&command, Data::None)?,
            false => self.command(&command, Data::In(&mut buffer))?,
        };
        // The kernel's target takes "no data at all" for "all of it" (no residue); the buffer is then what `sg` used before.
        let incorrect_length = answer.completion.sense.is_some_and(|sense| sense.flags.incorrect_length);
        let some = answer.completion.status == Status::GOOD
            || if fixed { answer.transferred < buffer.len() } else { incorrect_length };
        buffer.truncate(if some { answer.transferred } else { 0 });
        Ok((answer, buffer))
    }

    /// READ POSITION, without what depends on how far the buffer is written.
    pub(crate) fn position(&mut self, action: u8, allocation: u16) -> Result<String> {
        let mut bytes = [0; 32];
        let length = if matches!(action, 0 | 1) { 20 } else { 32 };
        let buffer = bytes.get_mut(..length).unwrap_or_default();
        let answer = self.command(&Command::ReadPosition { action, allocation }, Data::In(buffer))?;
        if answer.completion.status != Status::GOOD {
            return Ok(format!("{:?}", answer.completion));
        }
        let parsed = match action {
            0 | 1 => PositionData::parse_short(&bytes),
            6 => PositionData::parse_long(&bytes),
            _ => PositionData::parse_extended(&bytes),
        };
        let mut data = parsed?;
        data.objects_in_buffer = None;
        data.bytes_in_buffer = None;
        data.location = data.location.map(|location| Location { last: None, ..location });
        Ok(format!("{} bytes {data:?}", answer.transferred))
    }
}

pub(crate) fn run(node: &Path, seed: u64, commands: u32, largest: u32) -> Result<()> {
    let mut drive = Drive::open(node)?;
    let mut sequence = Sequence::new(seed);
    for number in 0..commands {
        let said = one(&mut drive, &mut sequence, largest)?;
        println!("{number} {said}");
        // Not after each command, or nothing would ever stand in the buffer that the next one meets.
        if sequence.chance(2, 3) {
            println!("{number} position {}", drive.position(0, 0)?);
        }
    }
    drive.block_length(0)?;
    Ok(())
}

fn one(drive: &mut Drive, sequence: &mut Sequence, largest: u32) -> Result<String> {
    Ok(match sequence.below(100) {
        0..24 => write(drive, sequence, largest)?,
        24..48 => {
            let (fixed, sili) = (sequence.chance(1, 4), sequence.chance(1, 3));
            let length = match fixed {
                true => sequence.below(6),
                false => sequence.one_of(largest, &[0, 1, 512, 4096, largest]),
            };
            let length = if !fixed && sequence.chance(1, 3) { sequence.block_length(largest) } else { length };
            let (answer, data) = drive.read(fixed, sili, length)?;
            format!("READ fixed {fixed} sili {sili} {length}: {answer:?} {:016x}", fingerprint(&data))
        }
        48..52 => {
            let length = sequence.one_of(0, &[512, 1000, 4096, 0]);
            format!("block length {length}: {}", drive.block_length(length)?)
        }
        52..60 => {
            let (action, allocation) = sequence.one_of((0, 0), &[(1, 0), (6, 0), (8, 32), (8, 9), (2, 0), (0, 20)]);
            format!("READ POSITION {action} {allocation}: {}", drive.position(action, allocation)?)
        }
        _ => {
            let command = motion(sequence);
            format!("{command:?}: {:?}", drive.command(&command, Data::None)?.completion)
        }
    })
}

fn write(drive: &mut Drive, sequence: &mut Sequence, largest: u32) -> Result<String> {
    // Each write ends the tape behind it: most append, so that there is something to move over.
    if sequence.chance(4, 5) {
        drive.command(&Command::Space6 { code: 3, count: 0 }, Data::None)?;
    }
    let fixed = drive.block_length != 0 && sequence.chance(3, 4);
    let length = if fixed { sequence.below(6) } else { sequence.block_length(largest) };
    let bytes = if fixed { length * drive.block_length } else { length };
    let data = block(sequence.next(), bytes as usize);
    let command = Command::Write6 { fixed, length };
    let answer = match data.is_empty() {
        true => drive.command(&command, Data::None)?,
        false => drive.command(&command, Data::Out(&data))?,
    };
    Ok(format!("{command:?}: {answer:?}"))
}

/// A command without data.
fn motion(sequence: &mut Sequence) -> Command {
    let count = i32::try_from(sequence.below(41)).unwrap_or(0) - 20;
    let count = if sequence.chance(1, 2) { count / 5 } else { count };
    let object = u64::from(sequence.below(50));
    let partition = sequence.one_of(None, &[None, None, Some(0), Some(1)]);
    match sequence.below(40) {
        0..4 => Command::WriteFilemarks6 { immediate: sequence.chance(1, 3), count: sequence.below(3) },
        4..16 => Command::Space6 { code: sequence.one_of(0, &[0, 1, 1, 3]), count },
        16..19 => Command::Space16 { code: sequence.one_of(0, &[1, 3]), count: i64::from(count) },
        19 => Command::Space6 { code: sequence.one_of(2, &[4, 5, 7]), count },
        20 => Command::Space16 { code: 0, count: sequence.one_of(i64::MIN, &[i64::MAX, i64::MIN + 1, 1 << 33]) },
        21..25 => {
            let object = u32::try_from(object).unwrap_or(0);
            Command::Locate10 { immediate: false, block_address_type: false, partition, object }
        }
        25..30 => {
            let file = Destination::File(object / 10);
            let destination = sequence.one_of(Destination::Object(object), &[Destination::EndOfData, file]);
            Command::Locate16 { immediate: false, partition, destination }
        }
        30..32 => Command::Rewind { immediate: false },
        32..36 => Command::TestUnitReady,
        36 if sequence.chance(1, 4) => Command::Erase6 { immediate: false, long: sequence.chance(1, 2) },
        _ => {
            let fixed = sequence.chance(1, 4);
            let length = if fixed { sequence.below(4) } else { sequence.block_length(65536) };
            Command::Verify6 { fixed, byte_compare: sequence.chance(1, 8), immediate: false, length }
        }
    }
}
