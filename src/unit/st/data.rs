//! Reading and writing records.

use std::ops::Range;

use nix::errno::Errno;
use sealtape_drivers::medium::{DriveError, DriveErrorKind, ReadOutcome, RecordBuffer, SpaceKind, TapeDrive, Warning};

use super::errors::During;
use super::state::{Direction, Door, Mark, Medium, St};

/// What one READ of one block in fixed block mode came to.
enum FixedRead {
    Block,
    /// A filemark, the end of data or of the partition, or an error, to be told of now or next time.
    Stop,
}

impl St {
    /// What reading and writing have in common.
    fn check_access(&mut self, length: usize) -> Result<(), Errno> {
        match self.medium {
            Medium::Loaded => {}
            Medium::Absent => return Err(Errno::ENOMEDIUM),
            Medium::NotReady => return Err(Errno::EIO),
        }
        if self.position_unknown {
            return Err(Errno::EIO);
        }
        if let Some(errno) = self.pending.take() {
            return Err(errno);
        }
        self.switch_partition()?;
        if let (0, false, Some(limits)) = (self.block_size, self.driver.no_block_limits, self.limits) {
            let allowed = limits.minimum as usize..=limits.maximum as usize;
            if !allowed.contains(&length) {
                let message = format!("a block of {length} bytes is outside the drive's limits of {allowed:?} bytes");
                self.note(&message, Errno::EINVAL);
                return Err(Errno::EINVAL);
            }
        }
        if self.driver.auto_lock && self.door == Door::Unlocked && self.drive.prevent_removal(true).is_ok() {
            self.door = Door::Auto;
        }
        Ok(())
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.read_with(buffer.len(), |st| match st.block_size {
            0 => st.read_one(buffer.len(), |drive| drive.read(buffer)),
            size => st.read_blocks(buffer, size as usize),
        })
    }

    /// As [`read`](Self::read); one record comes in the buffer in which it was opened.
    pub(super) fn read_into(&mut self, longest: usize, record: &mut RecordBuffer) -> Result<(), Errno> {
        let length = self.read_with(longest, |st| match st.block_size {
            0 => st.read_one(longest, |drive| drive.read_record(longest, record)),
            size => st.read_blocks(record.room(longest), size as usize),
        })?;
        record.keep(length);
        Ok(())
    }

    fn read_with(
        &mut self,
        length: usize,
        transfer: impl FnOnce(&mut Self) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        if length == 0 {
            return Ok(0);
        }
        self.check_access(length)?;
        if self.part().direction == Direction::Writing {
            self.settle(false)?;
        }
        if self.rest_at == self.rest.len() && self.part().mark >= Mark::Eod1 {
            return self.read_beyond_end();
        }
        self.part().direction = Direction::Reading;
        let length = transfer(self)?;
        if length == 0 {
            self.advance_mark();
        } else {
            if self.part().mark == Mark::Filemark {
                self.part().mark = Mark::None;
            }
            self.board.count(|counters| counters.bytes_read += length as u64);
        }
        Ok(length)
    }

    fn read_beyond_end(&mut self) -> Result<usize, Errno> {
        let part = self.part();
        match part.mark {
            Mark::Eod1 => part.mark = Mark::Eod2,
            Mark::Eod2 => part.mark = Mark::Eod,
            Mark::Eod | Mark::None | Mark::FilemarkHit | Mark::Filemark | Mark::Warned => return Err(Errno::EIO),
        }
        Ok(0)
    }

    /// After a read that delivered nothing.
    fn advance_mark(&mut self) {
        let part = self.part();
        match part.mark {
            Mark::FilemarkHit => {
                part.mark = Mark::Filemark;
                part.enter_next_file();
            }
            Mark::Eod1 => {
                part.mark = Mark::Eod2;
                part.enter_next_file();
            }
            Mark::Eod2 => part.mark = Mark::Eod,
            Mark::None | Mark::Filemark | Mark::Warned | Mark::Eod => {}
        }
    }

    /// Variable block mode: one record.
    fn read_one(
        &mut self,
        longest: usize,
        read: impl FnOnce(&mut dyn TapeDrive) -> Result<ReadOutcome, DriveError>,
    ) -> Result<usize, Errno> {
        match read(&mut *self.drive) {
            Ok(ReadOutcome::Block { length }) => {
                self.part().count_blocks(1);
                if length > longest {
                    let message =
                        format!("a record of {length} bytes was skipped: the program's buffer has {longest} bytes");
                    self.note(&message, Errno::ENOMEM);
                    return Err(Errno::ENOMEM);
                }
                self.board.count(|counters| counters.records_read += 1);
                Ok(length)
            }
            Ok(other) => self.read_stopped(other).map(|()| 0),
            Err(error) => {
                self.part().block = -1;
                Err(self.fail(During::Read, "reading", &error))
            }
        }
    }

    /// Filemark, end of data, end of the partition. `Ok` where 0 is due.
    fn read_stopped(&mut self, outcome: ReadOutcome) -> Result<(), Errno> {
        let part = self.part();
        match outcome {
            ReadOutcome::Filemark => part.mark = Mark::FilemarkHit,
            ReadOutcome::EndOfData => {
                part.block = -1;
                if part.mark != Mark::Filemark {
                    return Err(Errno::EIO);
                }
                part.mark = Mark::Eod2;
            }
            ReadOutcome::EndOfPartition => {
                part.mark = if part.mark == Mark::Filemark { Mark::Eod1 } else { Mark::Warned };
            }
            ReadOutcome::Block { .. } => {}
        }
        Ok(())
    }

    /// Fixed block mode: as many blocks as fit. Part of a block may be asked for; the rest is kept
    /// for the next read.
    fn read_blocks(&mut self, buffer: &mut [u8], size: usize) -> Result<usize, Errno> {
        let mut done = self.take_rest(buffer);
        while done < buffer.len() && self.part().mark != Mark::FilemarkHit {
            let wanted = buffer.len() - done;
            let stop = if wanted >= size {
                let read = self.read_block(&mut buffer[done..done + size], done > 0)?;
                if matches!(read, FixedRead::Block) {
                    done += size;
                }
                read
            } else {
                let mut block = std::mem::take(&mut self.rest);
                block.resize(size, 0);
                let read = self.read_block(&mut block, done > 0)?;
                if matches!(read, FixedRead::Block) {
                    self.rest = block;
                    self.rest_at = 0;
                    done += self.take_rest(&mut buffer[done..]);
                }
                read
            };
            if matches!(stop, FixedRead::Stop) {
                break;
            }
        }
        Ok(done)
    }

    fn take_rest(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.rest[self.rest_at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.rest_at += length;
        if self.rest_at == self.rest.len() {
            self.rest.clear();
            self.rest_at = 0;
        }
        length
    }

    /// One block of exactly `block.len()` bytes. What stops it is an error now when nothing was
    /// delivered yet, and is met again by the next read otherwise.
    fn read_block(&mut self, block: &mut [u8], delivered: bool) -> Result<FixedRead, Errno> {
        let stopped = match self.drive.read(block) {
            Ok(ReadOutcome::Block { length }) if length == block.len() => {
                self.part().count_blocks(1);
                self.board.count(|counters| counters.records_read += 1);
                return Ok(FixedRead::Block);
            }
            Ok(ReadOutcome::Block { length }) => self.wrong_length(length, block.len()),
            Ok(ReadOutcome::EndOfData) if delivered => Ok(()),
            Ok(other) => self.read_stopped(other),
            Err(error) => {
                self.part().block = -1;
                let errno = self.fail(During::Read, "reading", &error);
                if delivered {
                    self.pending = Some(errno);
                }
                Err(errno)
            }
        };
        match stopped {
            Err(errno) if !delivered => Err(errno),
            Ok(()) | Err(_) => Ok(FixedRead::Stop),
        }
    }

    /// A block of another length: the tape is put back before it, so that the program may change
    /// the block length and read it.
    fn wrong_length(&mut self, found: usize, wanted: usize) -> Result<(), Errno> {
        let message = format!(
            "a block of {found} bytes, where blocks of {wanted} bytes were asked for: set the block length (mt setblk {found}, or 0)"
        );
        if let Err(error) = self.drive.space(SpaceKind::Blocks, -1) {
            self.part().block = -1;
            return Err(self.fail(During::Read, "stepping back over a block of another length", &error));
        }
        self.note(&message, Errno::EIO);
        Err(Errno::EIO)
    }

    pub(super) fn write(&mut self, record: &[u8]) -> Result<usize, Errno> {
        self.write_with(record.len(), |st, range| st.write_block(range.len(), |drive| drive.write(&record[range])))
    }

    /// As [`write`](Self::write); one record may be sealed in the buffer in which it came.
    pub(super) fn write_from(&mut self, record: &mut RecordBuffer) -> Result<usize, Errno> {
        let length = record.as_slice().len();
        self.write_with(length, |st, range| {
            st.write_block(range.len(), |drive| match range.len() == length {
                true => drive.write_record(record),
                false => drive.write(&record.as_slice()[range.clone()]),
            })
        })
    }

    fn write_with(
        &mut self,
        length: usize,
        mut write: impl FnMut(&mut Self, Range<usize>) -> Result<Warning, Errno>,
    ) -> Result<usize, Errno> {
        if length == 0 {
            return Ok(0);
        }
        self.check_access(length)?;
        let size = self.block_size as usize;
        if size != 0 && !length.is_multiple_of(size) {
            self.note(&format!("a write of {length} bytes is no multiple of the block length {size}"), Errno::EINVAL);
            return Err(Errno::EINVAL);
        }
        if self.write_protected {
            return Err(Errno::EACCES);
        }
        if self.part().direction == Direction::Reading {
            self.settle(false)?;
        }
        if self.part().mark == Mark::Warned {
            // The program is told once; what it writes next (a trailer) is tried.
            self.part().mark = Mark::Eod1;
            return Err(Errno::ENOSPC);
        }
        self.part().direction = Direction::Writing;
        let step = if size == 0 { length } else { size };
        let mut done = 0;
        while done < length {
            match write(self, done..done + step) {
                Ok(Warning::None | Warning::Programmable) => done += step,
                Ok(Warning::Early) => return Ok(done + step),
                Err(errno) if done == 0 => return Err(errno),
                Err(errno) => {
                    // ENOSPC is remembered by the mark.
                    self.pending = (errno != Errno::ENOSPC).then_some(errno);
                    return Ok(done);
                }
            }
        }
        let part = self.part();
        part.mark = if part.mark == Mark::Eod1 { Mark::Warned } else { Mark::None };
        Ok(done)
    }

    fn write_block(
        &mut self,
        length: usize,
        write: impl FnOnce(&mut dyn TapeDrive) -> Result<Warning, DriveError>,
    ) -> Result<Warning, Errno> {
        match write(&mut *self.drive) {
            Ok(warning) => {
                self.unsynchronised = true;
                let part = self.part();
                part.count_blocks(1);
                if warning == Warning::Early {
                    part.mark = Mark::Warned;
                }
                self.board.count(|counters| {
                    counters.records_written += 1;
                    counters.bytes_written += length as u64;
                });
                Ok(warning)
            }
            Err(error) => {
                let errno = self.fail(During::Write, "writing", &error);
                if error.kind == DriveErrorKind::EndOfMedium && !error.sense.flags.deferred {
                    self.part().mark = Mark::Warned;
                } else {
                    self.part().block = -1;
                }
                Err(errno)
            }
        }
    }
}
