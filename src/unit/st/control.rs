//! MTIOCTOP.

use nix::errno::Errno;
use sealtape_drivers::fuse::mtio::MtOp;
use sealtape_drivers::fuse::{Access, OpenRequest};

use super::errors::During;
use super::options::DriverOptions;
use super::state::{Direction, Door, Mark, Medium, Partition, St};
use super::status::Activity;

const BLOCK_SIZE_MASK: i32 = 0x00ff_ffff;
/// FORMAT MEDIUM and the medium partition page count in megabytes of 10^6 bytes (SSC-4 8.3.4).
const MEGABYTE: u64 = 1_000_000;

/// What is allowed while the drive's place is unknown: what gives it a new one.
fn restores_position(op: MtOp) -> bool {
    matches!(op, MtOp::MTREW | MtOp::MTOFFL | MtOp::MTLOAD | MtOp::MTRETEN | MtOp::MTERASE | MtOp::MTSEEK | MtOp::MTEOM)
}

/// What ends a file that is being written.
fn ends_file(op: MtOp) -> bool {
    matches!(op, MtOp::MTREW | MtOp::MTOFFL | MtOp::MTSEEK | MtOp::MTBSF | MtOp::MTBSFM)
}

/// What leaves reading and writing as they are.
fn keeps_direction(op: MtOp) -> bool {
    matches!(
        op,
        MtOp::MTNOP | MtOp::MTSETBLK | MtOp::MTSETDENSITY | MtOp::MTWSM | MtOp::MTSETDRVBUFFER | MtOp::MTSETPART
    )
}

/// What counts a filemark that was met behind delivered blocks by itself.
fn counts_met_filemark(op: MtOp) -> bool {
    matches!(
        op,
        MtOp::MTREW
            | MtOp::MTOFFL
            | MtOp::MTRETEN
            | MtOp::MTEOM
            | MtOp::MTLOCK
            | MtOp::MTLOAD
            | MtOp::MTFSF
            | MtOp::MTFSFM
            | MtOp::MTBSF
            | MtOp::MTBSFM
            | MtOp::MTCOMPRESSION
    )
}

impl St {
    pub(super) fn operate(&mut self, op: MtOp, count: i32) -> Result<(), Errno> {
        if op == MtOp::MTSETDRVBUFFER && self.opener.is_none_or(|opener| opener.uid != 0) {
            return Err(Errno::EPERM);
        }
        let count = if self.position_unknown { self.regain(op, count)? } else { self.prepare(op, count)? };
        if !keeps_direction(op) {
            self.part().direction = Direction::Idle;
        }
        self.dispatch(op, count)
    }

    /// After a reset: only with a command that moves the tape to a known place.
    fn regain(&mut self, op: MtOp, count: i32) -> Result<i32, Errno> {
        if !restores_position(op) {
            return Err(Errno::EIO);
        }
        self.position_unknown = false;
        self.unsynchronised = false;
        self.forget_positions();
        if let Ok(report) = self.drive.read_position() {
            self.partition = usize::from(report.position.partition) % self.partitions.len();
        }
        self.next_partition = self.partition;
        Ok(count)
    }

    /// Brings the tape to where the program thinks it is, and ends the file that is being written.
    /// Returns the count with what the driver itself has put between.
    fn prepare(&mut self, op: MtOp, mut count: i32) -> Result<i32, Errno> {
        if self.part().mark == Mark::FilemarkHit {
            match op {
                MtOp::MTFSF | MtOp::MTFSFM => count = count.saturating_sub(1),
                MtOp::MTBSF | MtOp::MTBSFM => count = count.saturating_add(1),
                _ => {}
            }
        }
        let seek_changes_partition = !self.driver.can_partitions || self.next_partition != self.partition;
        self.settle(counts_met_filemark(op) || (op == MtOp::MTSEEK && seek_changes_partition))?;
        self.pending = None;
        if self.part().direction == Direction::Writing && ends_file(op) {
            self.write_filemarks(1, false)?;
            if matches!(op, MtOp::MTBSF | MtOp::MTBSFM) {
                count = count.saturating_add(1);
            }
        }
        Ok(count)
    }

    fn dispatch(&mut self, op: MtOp, count: i32) -> Result<(), Errno> {
        match op {
            MtOp::MTSETDRVBUFFER if DriverOptions::are_in(count) => return self.driver.set(count),
            MtOp::MTSETPART => return self.set_partition(count),
            MtOp::MTMKPART => return self.format(count),
            MtOp::MTSEEK => return self.locate(u64::from(count as u32), self.next_partition),
            MtOp::MTUNLOAD | MtOp::MTOFFL => return self.unload(),
            MtOp::MTLOAD => return self.load(),
            MtOp::MTLOCK => return self.lock_door(),
            MtOp::MTUNLOCK => {
                self.unlock_door();
                return Ok(());
            }
            _ => {}
        }
        if self.medium == Medium::Loaded {
            self.switch_partition()?;
        }
        match op {
            MtOp::MTFSF => self.forward_files(count),
            MtOp::MTBSF => self.backward_files(count),
            MtOp::MTFSFM => self.forward_files(count).and_then(|()| self.backward_files(1)),
            MtOp::MTBSFM => self.backward_files(count).and_then(|()| self.forward_files(1)),
            MtOp::MTFSR => self.forward_records(count),
            MtOp::MTBSR => self.backward_records(count),
            MtOp::MTWEOF => self.write_filemarks(count, false),
            MtOp::MTWEOFI => self.write_filemarks(count, true),
            MtOp::MTREW | MtOp::MTRETEN => self.rewind(),
            MtOp::MTEOM => self.end_of_data(),
            MtOp::MTERASE => self.erase(count != 0),
            MtOp::MTNOP | MtOp::MTCOMPRESSION => self.check_ready(),
            MtOp::MTSETBLK => self.set_block_size(count),
            MtOp::MTSETDENSITY => self.set_density(count),
            MtOp::MTSETDRVBUFFER => {
                self.check_ready()?;
                self.buffered_mode = (count & 7) as u8;
                Ok(())
            }
            MtOp::MTWSM | MtOp::MTFSS | MtOp::MTBSS => self.setmarks(op),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn set_block_size(&mut self, count: i32) -> Result<(), Errno> {
        self.check_ready()?;
        let size = (count & BLOCK_SIZE_MASK) as u32;
        if let (1.., Some(limits)) = (size, self.limits)
            && !(limits.minimum..=limits.maximum).contains(&size)
        {
            return Err(Errno::EINVAL);
        }
        self.block_size = size;
        Ok(())
    }

    /// The drive chooses the density by the medium: only its default can be asked for.
    fn set_density(&mut self, code: i32) -> Result<(), Errno> {
        self.check_ready()?;
        if code == 0 { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Setmarks went away with DDS; SSC-4 drives refuse them as an illegal request.
    fn setmarks(&mut self, op: MtOp) -> Result<(), Errno> {
        self.check_ready()?;
        if op == MtOp::MTWSM && self.write_protected {
            return Err(Errno::EACCES);
        }
        Err(Errno::EIO)
    }

    fn set_partition(&mut self, count: i32) -> Result<(), Errno> {
        if !self.driver.can_partitions {
            return Err(Errno::EINVAL);
        }
        let Ok(partition) = usize::try_from(count) else {
            return Err(Errno::EINVAL);
        };
        let medium =
            self.drive.medium_status().map_err(|error| self.fail(During::Control, "asking for partitions", &error))?;
        if partition >= usize::from(medium.partitions) || partition >= self.partitions.len() {
            return Err(Errno::EINVAL);
        }
        self.next_partition = partition;
        Ok(())
    }

    /// MTMKPART: 0 formats into one partition, n into two with n megabytes in the second, -n into two
    /// with n megabytes in the first.
    fn format(&mut self, count: i32) -> Result<(), Errno> {
        if !self.driver.can_partitions {
            return Err(Errno::EINVAL);
        }
        self.check_ready()?;
        if self.write_protected {
            return Err(Errno::EACCES);
        }
        self.rewind()?;
        let megabytes = u64::from(count.unsigned_abs()) * MEGABYTE;
        let second = match count {
            0 => None,
            1.. => Some(megabytes),
            _ => {
                let medium = self
                    .drive
                    .medium_status()
                    .map_err(|error| self.fail(During::Control, "asking for the capacity", &error))?;
                Some(medium.capacity_bytes.checked_sub(megabytes).filter(|rest| *rest > 0).ok_or(Errno::EINVAL)?)
            }
        };
        let busy = self.board.begin(Activity::Moving);
        let result = self.drive.format_medium(second);
        drop(busy);
        result.map_err(|error| self.fail(During::Control, "formatting the medium", &error))?;
        self.partitions = [Partition::BEGINNING; super::state::PARTITIONS];
        self.partition = 0;
        self.next_partition = 0;
        self.unsynchronised = false;
        Ok(())
    }

    fn unload(&mut self) -> Result<(), Errno> {
        self.check_ready()?;
        if self.door != Door::Unlocked {
            self.unlock_door();
        }
        let busy = self.board.begin(Activity::Loading);
        let result = self.drive.unload();
        drop(busy);
        match result {
            Ok(()) => {
                self.rewind_at_close = false;
                self.medium = Medium::Absent;
                self.unsynchronised = false;
                self.medium_protected = false;
                self.forget_positions();
                Ok(())
            }
            Err(error) => {
                (self.part().file, self.part().block) = (-1, -1);
                Err(self.fail(During::Control, "unloading", &error))
            }
        }
    }

    fn load(&mut self) -> Result<(), Errno> {
        let busy = self.board.begin(Activity::Loading);
        let result = self.drive.load();
        drop(busy);
        result.map_err(|error| self.fail(During::Control, "loading", &error))?;
        self.rewind_at_close = self.rewinding_node;
        // As at an open without waiting and for reading, which neither is refused for protection
        // nor changes what this open file may do.
        let Some(opener) = self.opener else { return Err(Errno::EBADF) };
        let look =
            OpenRequest { opener, access: Access::Read, nonblocking: true, rewind_at_close: self.rewinding_node };
        self.check_medium(&look)?;
        if self.medium == Medium::Loaded {
            self.begin_medium();
        }
        Ok(())
    }

    fn lock_door(&mut self) -> Result<(), Errno> {
        self.drive.prevent_removal(true).map_err(|error| self.fail(During::Control, "locking the drive", &error))?;
        self.door = Door::Explicit;
        Ok(())
    }

    /// As in `st`, a drive that cannot unlock is no reason to refuse what comes next.
    pub(super) fn unlock_door(&mut self) {
        match self.drive.prevent_removal(false) {
            Ok(()) => self.door = Door::Unlocked,
            Err(error) => {
                self.fail(During::Control, "unlocking the drive", &error);
            }
        }
    }
}
