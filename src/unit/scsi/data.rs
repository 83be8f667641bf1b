//! READ, WRITE, WRITE FILEMARKS, VERIFY (SSC-4 clauses 5 and 7), and the table SILI × FIXED × block length.

use sealtape_drivers::medium::{ReadOutcome, Warning};
use sealtape_drivers::scsi::{AdditionalSense, Command, DataIn, Sense, SenseKey};

use super::outcome::{Answer, END_OF_MEDIUM, FILEMARK, Fault, INCORRECT_LENGTH, NONE, invalid_field, met, not_done};
use super::{LONGEST_DATA, ScsiUnit};
use crate::seal::wipe::wipe;

impl ScsiUnit {
    pub(super) fn data(&mut self, command: &Command, data_out: &[u8], data_in: &mut DataIn<'_>) -> Answer {
        match *command {
            Command::Read6 { fixed: false, suppress_incorrect_length, length } => {
                self.read_variable(length, suppress_incorrect_length, data_in)
            }
            Command::Read6 { fixed: true, length, .. } => self.read_fixed(length, data_in),
            Command::Write6 { fixed: false, length } => self.write_variable(length, data_out),
            Command::Write6 { fixed: true, length } => self.write_fixed(length, data_out),
            Command::WriteFilemarks6 { immediate, count } => self.write_filemarks(count, immediate),
            Command::Verify6 { fixed, byte_compare, length, .. } => self.verify(fixed, byte_compare, length),
            _ => Err(Fault::UnknownOperation),
        }
    }

    /// Blocks of fixed length: refused where the mode parameters name none (SSC-4 5.4).
    fn fixed_length(&self) -> Result<u32, Fault> {
        match self.mode.block_length {
            0 => Err(invalid_field(1, Some(0))),
            length => Ok(length),
        }
    }

    fn read_variable(&mut self, length: u32, suppress: bool, data_in: &mut DataIn<'_>) -> Answer {
        if length == 0 {
            return Ok(());
        }
        let wanted = (length as usize).min(data_in.room());
        let outcome = self.drive.read(&mut data_in.buffer()[..wanted]);
        let outcome = outcome.map_err(|error| not_done(error, i64::from(length)))?;
        let actual = self.block_or_sense(outcome, i64::from(length))?;
        data_in.set_filled(wanted.min(actual));
        self.count_read(actual);
        let difference = i64::from(length) - i64::try_from(actual).unwrap_or(i64::MAX);
        let told = match difference {
            0 => false,
            1.. => !suppress,
            // Too long: SILI hides it only where no fixed length is set (SSC-4 7.5).
            _ => !suppress || self.mode.block_length != 0,
        };
        match told {
            true => Err(met(SenseKey::NO_SENSE, AdditionalSense::NONE, INCORRECT_LENGTH, difference)),
            false => Ok(()),
        }
    }

    fn read_fixed(&mut self, count: u32, data_in: &mut DataIn<'_>) -> Answer {
        let length = self.fixed_length()? as usize;
        let room = data_in.room();
        if (count as usize).checked_mul(length).is_none_or(|bytes| bytes > room) {
            // Blocks that cannot be delivered would be lost.
            return Err(invalid_field(2, None));
        }
        let mut block = std::mem::take(&mut self.block);
        block.resize(length, 0);
        let result = self.read_blocks(count, &mut block, data_in);
        wipe(&mut block);
        self.block = block;
        result
    }

    fn read_blocks(&mut self, count: u32, block: &mut [u8], data_in: &mut DataIn<'_>) -> Answer {
        let length = block.len();
        for done in 0..count {
            let residue = i64::from(count - done);
            let outcome = self.drive.read(block).map_err(|error| not_done(error, residue))?;
            let actual = self.block_or_sense(outcome, residue)?;
            if actual != length {
                return Err(met(SenseKey::NO_SENSE, AdditionalSense::NONE, INCORRECT_LENGTH, residue));
            }
            let at = data_in.filled();
            data_in.buffer()[at..at + length].copy_from_slice(block);
            data_in.set_filled(at + length);
            self.count_read(length);
        }
        Ok(())
    }

    /// The length of a block, or what stands in its place.
    fn block_or_sense(&self, outcome: ReadOutcome, residue: i64) -> Result<usize, Fault> {
        match outcome {
            ReadOutcome::Block { length } => Ok(length),
            ReadOutcome::Filemark => {
                Err(met(SenseKey::NO_SENSE, AdditionalSense::FILEMARK_DETECTED, FILEMARK, residue))
            }
            ReadOutcome::EndOfData => {
                Err(met(SenseKey::BLANK_CHECK, AdditionalSense::END_OF_DATA_DETECTED, NONE, residue))
            }
            ReadOutcome::EndOfPartition => Err(met(
                SenseKey::MEDIUM_ERROR,
                AdditionalSense::END_OF_PARTITION_MEDIUM_DETECTED,
                END_OF_MEDIUM,
                residue,
            )),
        }
    }

    fn write_variable(&mut self, length: u32, data_out: &[u8]) -> Answer {
        if length == 0 {
            return Ok(());
        }
        let block = data_out.get(..length as usize).ok_or_else(data_missing)?;
        let warning = self.drive.write(block).map_err(|error| not_done(error, i64::from(length)))?;
        self.count_written(block.len());
        self.after_write(warning, 0)
    }

    fn write_fixed(&mut self, count: u32, data_out: &[u8]) -> Answer {
        let length = self.fixed_length()?;
        let bytes =
            (count as usize).checked_mul(length as usize).filter(|bytes| *bytes <= LONGEST_DATA.max(data_out.len()));
        let blocks = bytes.and_then(|bytes| data_out.get(..bytes)).ok_or_else(data_missing)?;
        for (done, block) in (1..=count).zip(blocks.chunks_exact(length as usize)) {
            let left = i64::from(count - done);
            let warning = self.drive.write(block).map_err(|error| not_done(error, left + 1))?;
            self.count_written(block.len());
            self.after_write(warning, left)?;
        }
        Ok(())
    }

    fn count_read(&self, bytes: usize) {
        self.board.update(|board| {
            board.counters.records_read += 1;
            board.counters.bytes_read += bytes as u64;
        });
    }

    fn count_written(&self, bytes: usize) {
        self.board.update(|board| {
            board.counters.records_written += 1;
            board.counters.bytes_written += bytes as u64;
        });
    }

    /// The drive accepted it. BUFFERED MODE 0: not before it is on the medium.
    fn after_write(&mut self, warning: Warning, left: i64) -> Answer {
        if !self.mode.buffered {
            self.drive.write_filemarks(0, false).map_err(|error| not_done(error, left + 1))?;
        }
        self.warn(warning, left)
    }

    fn warn(&mut self, warning: Warning, left: i64) -> Answer {
        let told = std::mem::replace(&mut self.mode.programmable_warning_told, warning != Warning::None);
        match warning {
            Warning::Early => {
                Err(met(SenseKey::NO_SENSE, AdditionalSense::END_OF_PARTITION_MEDIUM_DETECTED, END_OF_MEDIUM, left))
            }
            Warning::Programmable if !told => {
                Err(met(SenseKey::NO_SENSE, AdditionalSense::PROGRAMMABLE_EARLY_WARNING, END_OF_MEDIUM, left))
            }
            Warning::Programmable | Warning::None => Ok(()),
        }
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Answer {
        let immediate = immediate && self.mode.buffered;
        let written = self.drive.write_filemarks(count, immediate);
        let warning = written.map_err(|error| not_done(error, i64::from(count)))?;
        self.board.update(|board| board.counters.filemarks_written += u64::from(count));
        match count {
            0 => Ok(()), // Only synchronises: nothing was written that a warning could belong to.
            _ => self.warn(warning, 0),
        }
    }

    /// VERIFY without a comparison: what is there is read, and its tag checked, and goes nowhere.
    fn verify(&mut self, fixed: bool, byte_compare: bool, length: u32) -> Answer {
        if byte_compare {
            return Err(invalid_field(1, Some(1)));
        }
        if length == 0 {
            return Ok(());
        }
        let expected = if fixed { self.fixed_length()? } else { length };
        let count = if fixed { length } else { 1 };
        let mut block = std::mem::take(&mut self.block);
        block.resize((expected as usize).min(LONGEST_DATA), 0);
        let result = self.verify_blocks(count, fixed, expected, &mut block);
        wipe(&mut block);
        self.block = block;
        result
    }

    fn verify_blocks(&mut self, count: u32, fixed: bool, expected: u32, block: &mut [u8]) -> Answer {
        for done in 0..count {
            let residue = if fixed { i64::from(count - done) } else { i64::from(expected) };
            let outcome = self.drive.read(block).map_err(|error| not_done(error, residue))?;
            let actual = i64::try_from(self.block_or_sense(outcome, residue)?).unwrap_or(i64::MAX);
            if actual != i64::from(expected) {
                let residue = if fixed { residue } else { i64::from(expected) - actual };
                return Err(met(SenseKey::NO_SENSE, AdditionalSense::NONE, INCORRECT_LENGTH, residue));
            }
        }
        Ok(())
    }
}

/// The initiator sent less than its command says.
fn data_missing() -> Fault {
    Fault::Sense(Sense::new(SenseKey::ABORTED_COMMAND, AdditionalSense::DATA_PHASE_ERROR))
}
