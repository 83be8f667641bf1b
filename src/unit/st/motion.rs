//! Moving the tape, and counting files and blocks while it moves.

use nix::errno::Errno;
use sealtape_drivers::medium::{DriveError, DriveErrorKind, Position, SpaceKind, SpaceStop};

use super::errors::During;
use super::state::{Direction, Mark, Medium, Partition, St};
use super::status::Activity;

/// What `st` spaces to come to the end of data while counting files.
const ALL_FILEMARKS: i64 = 0x007f_ffff;

impl St {
    /// A lengthy command, shown as such.
    fn moving<R>(&mut self, doing: &str, command: impl FnOnce(&mut Self) -> Result<R, DriveError>) -> Result<R, Errno> {
        let busy = self.board.begin(Activity::Moving);
        let result = command(self);
        drop(busy);
        result.map_err(|error| self.fail(During::Control, doing, &error))
    }

    pub(super) fn check_ready(&self) -> Result<(), Errno> {
        match self.medium {
            Medium::Loaded => Ok(()),
            Medium::Absent => Err(Errno::ENOMEDIUM),
            Medium::NotReady => Err(Errno::EIO),
        }
    }

    /// Gives up what fixed block mode holds: the rest of a block, and a filemark that was met behind
    /// delivered blocks. The tape goes back before that filemark, unless the next motion is going to
    /// count it (`onward`).
    pub(super) fn settle(&mut self, onward: bool) -> Result<(), Errno> {
        if self.position_unknown {
            return Err(Errno::EIO);
        }
        self.rest.clear();
        self.rest_at = 0;
        if self.medium != Medium::Loaded || self.part().mark != Mark::FilemarkHit {
            return Ok(());
        }
        if onward {
            self.part().enter_next_file();
            self.part().mark = Mark::Filemark;
            return Ok(());
        }
        match self.moving("stepping back over a filemark", |st| st.drive.space(SpaceKind::Filemarks, -1)) {
            Ok(_) => {
                self.part().mark = Mark::None;
                Ok(())
            }
            Err(errno) => {
                self.part().enter_next_file();
                Err(errno)
            }
        }
    }

    /// MTFSF: behind the n-th filemark.
    pub(super) fn forward_files(&mut self, count: i32) -> Result<(), Errno> {
        if count < 0 {
            return self.backward_files(count.saturating_neg());
        }
        self.check_ready()?;
        if count == 0 {
            return Ok(());
        }
        let count = i64::from(count);
        let outcome = self.moving("spacing over filemarks", |st| st.drive.space(SpaceKind::Filemarks, count));
        let part = self.part();
        let target = if part.file >= 0 { i64::from(part.file) + count } else { -1 };
        match outcome {
            Ok(outcome) => match outcome.stopped {
                None => {
                    part.file = counted(target);
                    part.block = 0;
                    part.mark = Mark::Filemark;
                    Ok(())
                }
                Some((_, residue)) => {
                    part.file = if target >= 0 { counted(target - residue as i64) } else { -1 };
                    part.block = -1;
                    part.mark = Mark::Eod;
                    Err(Errno::EIO)
                }
            },
            Err(errno) => {
                (part.file, part.block, part.mark) = (-1, -1, Mark::None);
                Err(errno)
            }
        }
    }

    /// MTBSF: before the n-th filemark.
    pub(super) fn backward_files(&mut self, count: i32) -> Result<(), Errno> {
        if count < 0 {
            return self.forward_files(count.saturating_neg());
        }
        self.check_ready()?;
        if count == 0 {
            return Ok(());
        }
        let count = i64::from(count);
        let outcome = self.moving("spacing back over filemarks", |st| st.drive.space(SpaceKind::Filemarks, -count));
        let part = self.part();
        part.mark = Mark::None;
        match outcome {
            Ok(outcome) => match outcome.stopped {
                None => {
                    part.file = if part.file >= 0 { counted(i64::from(part.file) - count) } else { -1 };
                    part.block = -1;
                    Ok(())
                }
                // The only thing in this direction: the beginning of the partition.
                Some(_) => {
                    (part.file, part.block) = (0, 0);
                    Err(Errno::EIO)
                }
            },
            Err(errno) => {
                (part.file, part.block) = (-1, -1);
                Err(errno)
            }
        }
    }

    /// MTFSR.
    pub(super) fn forward_records(&mut self, count: i32) -> Result<(), Errno> {
        if count < 0 {
            return self.backward_records(count.saturating_neg());
        }
        self.check_ready()?;
        let outcome = self.moving("spacing over records", |st| st.drive.space(SpaceKind::Blocks, i64::from(count)));
        let part = self.part();
        let stopped = match outcome {
            Ok(outcome) => outcome.stopped,
            Err(errno) => {
                (part.block, part.mark) = (-1, Mark::None);
                return Err(errno);
            }
        };
        match stopped {
            None => {
                part.count_blocks(count);
                part.mark = Mark::None;
                return Ok(());
            }
            Some((SpaceStop::Filemark, _)) => {
                part.enter_next_file();
                part.mark = Mark::Filemark;
            }
            Some((SpaceStop::EndOfData | SpaceStop::BeginningOfPartition, residue)) => {
                part.block = if part.block >= 0 {
                    counted(i64::from(part.block) + i64::from(count) - residue as i64)
                } else {
                    -1
                };
                part.mark = Mark::Eod;
            }
        }
        Err(Errno::EIO)
    }

    /// MTBSR.
    pub(super) fn backward_records(&mut self, count: i32) -> Result<(), Errno> {
        if count < 0 {
            return self.forward_records(count.saturating_neg());
        }
        self.check_ready()?;
        let outcome =
            self.moving("spacing back over records", |st| st.drive.space(SpaceKind::Blocks, -i64::from(count)));
        let part = self.part();
        part.mark = Mark::None;
        let stopped = match outcome {
            Ok(outcome) => outcome.stopped,
            Err(errno) => {
                part.block = -1;
                return Err(errno);
            }
        };
        match stopped {
            None => {
                part.block = if part.block >= 0 { counted(i64::from(part.block) - i64::from(count)) } else { -1 };
                return Ok(());
            }
            Some((SpaceStop::Filemark, _)) => {
                part.file = counted(i64::from(part.file) - 1);
                part.block = -1;
            }
            Some((SpaceStop::EndOfData | SpaceStop::BeginningOfPartition, _)) => part.block = 0,
        }
        Err(Errno::EIO)
    }

    /// MTEOM. Without the option fast-eom, files are counted on the way.
    pub(super) fn end_of_data(&mut self) -> Result<(), Errno> {
        self.check_ready()?;
        let files = self.part().file;
        let fast = self.driver.fast_eom;
        let outcome = self.moving("going to the end of data", |st| {
            if fast || files < 0 {
                st.drive.space(SpaceKind::EndOfData, 0)
            } else {
                st.drive.space(SpaceKind::Filemarks, ALL_FILEMARKS)
            }
        });
        let part = self.part();
        part.block = -1;
        match outcome {
            Ok(outcome) => {
                part.file = match outcome.stopped {
                    Some((_, residue)) if !fast && files >= 0 => {
                        counted(i64::from(files) + ALL_FILEMARKS - residue as i64)
                    }
                    _ => -1,
                };
                part.mark = Mark::Eod;
                Ok(())
            }
            Err(errno) => {
                (part.file, part.mark) = (-1, Mark::None);
                Err(errno)
            }
        }
    }

    /// MTREW, MTRETEN.
    pub(super) fn rewind(&mut self) -> Result<(), Errno> {
        self.check_ready()?;
        let rewound = self.moving("rewinding", |st| st.drive.rewind());
        let part = self.part();
        part.direction = Direction::Idle;
        match rewound {
            Ok(()) => {
                *part = Partition { left_at: part.left_at, ..Partition::BEGINNING };
                Ok(())
            }
            Err(errno) => {
                (part.file, part.block, part.mark) = (-1, -1, Mark::None);
                Err(errno)
            }
        }
    }

    /// MTSEEK, and the change of partition.
    pub(super) fn locate(&mut self, object: u64, partition: usize) -> Result<(), Errno> {
        self.check_ready()?;
        if partition >= self.partitions.len() || (!self.driver.can_partitions && partition != 0) {
            return Err(Errno::EINVAL);
        }
        if partition != self.partition {
            self.partitions[self.partition].left_at =
                self.drive.read_position().ok().map(|report| report.position.object);
        }
        let target = Position { partition: partition as u8, object };
        let moved = self.moving("locating", |st| st.drive.locate(target));
        let part = self.part();
        (part.file, part.block, part.mark, part.direction) = (-1, -1, Mark::None, Direction::Idle);
        self.partition = partition;
        let part = self.part();
        (part.file, part.block, part.mark, part.direction) = (-1, -1, Mark::None, Direction::Idle);
        if moved.is_ok() && object == 0 {
            (part.file, part.block) = (0, 0);
        }
        moved
    }

    /// Goes to the partition that MTSETPART named, to where it was left.
    pub(super) fn switch_partition(&mut self) -> Result<(), Errno> {
        if self.next_partition == self.partition {
            return Ok(());
        }
        let object = self.partitions[self.next_partition].left_at.unwrap_or(0);
        self.locate(object, self.next_partition)
    }

    /// MTIOCPOS.
    pub(super) fn tell(&mut self) -> Result<u64, Errno> {
        self.settle(false)?;
        self.check_ready()?;
        self.switch_partition()?;
        match self.drive.read_position() {
            Ok(report) => {
                if report.position.object == 0 && report.position.partition == 0 {
                    (self.partitions[0].file, self.partitions[0].block) = (0, 0);
                }
                Ok(report.position.object)
            }
            Err(error) => Err(self.fail(During::Control, "asking for the position", &error)),
        }
    }

    /// MTWEOF and MTWEOFI; 0 synchronises.
    pub(super) fn write_filemarks(&mut self, count: i32, immediate: bool) -> Result<(), Errno> {
        self.check_ready()?;
        if self.write_protected {
            return Err(Errno::EACCES);
        }
        let Ok(marks) = u32::try_from(count) else {
            return Err(Errno::EINVAL);
        };
        let busy = self.board.begin(Activity::Synchronising);
        let result = self.drive.write_filemarks(marks, immediate);
        drop(busy);
        match result {
            Ok(_) => {
                self.unsynchronised = immediate && (self.unsynchronised || marks > 0);
                self.board.count(|counters| counters.filemarks_written += u64::from(marks));
                let part = self.part();
                part.direction = Direction::Idle;
                if marks > 0 {
                    part.file = if part.file >= 0 { part.file.saturating_add(count) } else { -1 };
                    part.block = 0;
                    part.mark = Mark::None;
                }
                Ok(())
            }
            Err(error) => {
                if error.kind == DriveErrorKind::EndOfMedium {
                    self.part().mark = Mark::Warned;
                    self.part().block = 0;
                } else {
                    self.part().mark = Mark::None;
                }
                Err(self.fail(During::Control, "writing filemarks", &error))
            }
        }
    }

    /// MTERASE: from here on; the position stays.
    pub(super) fn erase(&mut self, long: bool) -> Result<(), Errno> {
        self.check_ready()?;
        if self.write_protected {
            return Err(Errno::EACCES);
        }
        self.moving("erasing", |st| st.drive.erase(long))?;
        let part = self.part();
        (part.mark, part.direction) = (Mark::None, Direction::Idle);
        self.unsynchronised = false;
        Ok(())
    }
}

/// A count of files or blocks as `st` shows it: -1 when it cannot be.
fn counted(value: i64) -> i32 {
    i32::try_from(value).ok().filter(|value| *value >= 0).unwrap_or(-1)
}
