//! Opening, synchronising and closing a node.

use nix::errno::Errno;
use sealtape_drivers::fuse::{Access, OpenRequest};
use sealtape_drivers::medium::{DriveErrorKind, MediumType, Position, SpaceKind, TapeDrive};

use super::errors::{During, has_no_medium, is_becoming_ready};
use super::state::{Direction, Door, Mark, Medium, Partition, St};
use super::status::Activity;

/// Unit attentions in a row that are taken for conditions and not for a broken drive.
const MOST_ATTENTIONS: usize = 10;

/// What TEST UNIT READY told since the medium was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attention {
    medium_changed: bool,
    reset: bool,
}

/// What an open came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opening {
    Done,
    /// The drive is becoming ready: to be tried again.
    BecomingReady,
}

impl St {
    /// Opens, or says that it is worth waiting for the drive, if the program and we `may_wait`.
    pub(super) fn open(&mut self, request: &OpenRequest, may_wait: bool) -> Result<Opening, Errno> {
        if self.opener.is_some() {
            return Err(Errno::EBUSY);
        }
        if let Some(message) = self.close_failure.take() {
            self.note(&format!("open refused once, because the close before it failed: {message}"), Errno::EIO);
            return Err(Errno::EIO);
        }
        self.write_protected = request.access == Access::Read;
        for partition in &mut self.partitions {
            partition.direction = Direction::Idle;
        }
        self.rest.clear();
        self.pending = None;
        if self.check_medium(request)? == Opening::BecomingReady && may_wait && !request.nonblocking {
            return Ok(Opening::BecomingReady);
        }
        if !request.nonblocking {
            match self.medium {
                Medium::Loaded => {}
                Medium::Absent => return Err(Errno::ENOMEDIUM),
                Medium::NotReady => return Err(Errno::EIO),
            }
        }
        self.opener = Some(request.opener);
        self.rewinding_node = request.rewind_at_close;
        self.rewind_at_close = request.rewind_at_close;
        self.board.count(|counters| counters.opened += 1);
        Ok(Opening::Done)
    }

    /// Whether a medium is there, where it stands, and what may be done with it.
    pub(super) fn check_medium(&mut self, request: &OpenRequest) -> Result<Opening, Errno> {
        self.medium_protected = false;
        let opening = self.test_ready()?;
        if self.medium == Medium::Loaded {
            let attention = std::mem::take(&mut self.attention);
            self.learn_medium(attention)?;
        }
        if self.medium != Medium::Loaded {
            self.no_medium();
            return Ok(opening);
        }
        if self.medium_protected {
            self.write_protected = true;
            if !request.nonblocking && request.access != Access::Read {
                return Err(Errno::EROFS);
            }
        }
        Ok(Opening::Done)
    }

    fn no_medium(&mut self) {
        self.forget_positions();
        self.partition = 0;
        self.next_partition = 0;
        self.last_position = None;
        self.unsynchronised = false;
        self.door = Door::Unlocked;
    }

    fn test_ready(&mut self) -> Result<Opening, Errno> {
        for _ in 0..=MOST_ATTENTIONS {
            let Err(error) = self.drive.test_unit_ready() else {
                self.medium = Medium::Loaded;
                return Ok(Opening::Done);
            };
            match error.kind {
                DriveErrorKind::UnitAttention => self.attention.medium_changed = true,
                DriveErrorKind::Reset => self.attention.reset = true,
                DriveErrorKind::NotReady => {
                    self.medium = if has_no_medium(&error) { Medium::Absent } else { Medium::NotReady };
                    return Ok(if is_becoming_ready(&error) { Opening::BecomingReady } else { Opening::Done });
                }
                _ => {
                    self.medium = Medium::NotReady;
                    return Err(self.fail(During::Open, "opening the drive", &error));
                }
            }
        }
        self.medium = Medium::NotReady;
        self.note("the drive reports one unit attention after another", Errno::EIO);
        Err(Errno::EIO)
    }

    fn learn_medium(&mut self, attention: Attention) -> Result<(), Errno> {
        let limits =
            self.drive.block_limits().map_err(|error| self.fail(During::Open, "reading the block limits", &error))?;
        self.limits = Some(limits);
        let medium =
            self.drive.medium_status().map_err(|error| self.fail(During::Open, "asking for the medium", &error))?;
        self.medium_protected = medium.write_protected;
        if matches!(medium.medium_type, MediumType::Cleaning | MediumType::Firmware) {
            self.note("a cleaning or firmware cartridge is in the drive", Errno::EIO);
            self.medium = Medium::NotReady;
            return Ok(());
        }
        // A drive that lost its place cannot always say where it is; then the host has to move it.
        let report = match self.drive.read_position() {
            Ok(report) => report,
            Err(error) => {
                let errno = self.fail(During::Open, "asking for the position", &error);
                if matches!(error.kind, DriveErrorKind::Security) {
                    return Err(errno);
                }
                self.position_unknown = true;
                return Ok(());
            }
        };
        let first = !std::mem::replace(&mut self.initialised, true);
        let moved = self.last_position != Some(report.position);
        if attention.medium_changed {
            self.begin_medium();
        }
        if attention.reset && !first && !attention.medium_changed {
            self.position_unknown = true;
        }
        let beginning = report.position.object == 0;
        if first || moved || beginning || attention.medium_changed {
            self.partition = usize::from(report.position.partition) % self.partitions.len();
            self.next_partition = self.partition;
            let files = report.filemarks.and_then(|files| i32::try_from(files).ok());
            *self.part() = match (beginning, files) {
                (true, _) => Partition::BEGINNING,
                (false, files) => Partition { file: files.unwrap_or(-1), block: -1, ..Partition::BEGINNING },
            };
            self.rest.clear();
        }
        self.last_position = Some(report.position);
        Ok(())
    }

    /// The service uses the drive.
    pub(super) fn serve<R>(&mut self, use_drive: impl FnOnce(&mut dyn TapeDrive) -> R) -> R {
        let busy = self.board.begin(Activity::Service);
        let result = use_drive(&mut *self.drive);
        drop(busy);
        result
    }

    /// As if the drive had said that its medium changed; it may have said so to the service.
    pub(super) fn expect_another_medium(&mut self) {
        self.attention.medium_changed = true;
    }

    /// After the service used the medium: back to where it stood.
    pub(super) fn put_back(&mut self, stood: Option<Position>) {
        let stands = self.drive.read_position().ok().map(|report| report.position);
        let Some(stood) = stood.filter(|stood| Some(*stood) != stands) else { return };
        let busy = self.board.begin(Activity::Moving);
        let moved = self.drive.locate(stood);
        drop(busy);
        if let Err(error) = moved {
            self.fail(During::Control, "putting the tape back where it stood", &error);
            self.position_unknown = true;
        }
    }

    /// FLUSH: everything that was accepted is on the medium, or the program hears of it.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        if !self.unsynchronised {
            return Ok(());
        }
        if self.position_unknown {
            self.note("records that were accepted before the drive lost its place may be lost", Errno::EIO);
            return Err(Errno::EIO);
        }
        let busy = self.board.begin(Activity::Synchronising);
        let result = self.drive.write_filemarks(0, false);
        drop(busy);
        match result {
            Ok(_) => {
                self.unsynchronised = false;
                Ok(())
            }
            Err(error) => Err(self.fail(During::Control, "synchronising at close", &error)),
        }
    }

    /// RELEASE: closing filemark, then the rewind of `stN`.
    pub(super) fn release(&mut self) {
        let closed = self.close_file();
        let rewound =
            if self.rewind_at_close && self.medium == Medium::Loaded { self.rewind_at_release() } else { Ok(()) };
        if let Err(errno) = closed.and(rewound) {
            let message = self.board.read().last_error.unwrap_or_else(|| errno.to_string());
            self.close_failure = Some(message);
        }
        if self.door == Door::Auto {
            self.unlock_door();
        }
        self.rest = Vec::new();
        self.rest_at = 0;
        self.pending = None;
        self.opener = None;
        self.part().direction = Direction::Idle;
        // Known again at the next open if the drive does not say now.
        self.last_position = match self.medium {
            Medium::Loaded => self.drive.read_position().ok().map(|report| report.position),
            Medium::NotReady | Medium::Absent => None,
        };
    }

    fn close_file(&mut self) -> Result<(), Errno> {
        if self.part().direction == Direction::Writing && self.medium == Medium::Loaded {
            if self.position_unknown {
                self.note("no closing filemark: the drive lost its place while it was written to", Errno::EIO);
                return Err(Errno::EIO);
            }
            return self.closing_filemark();
        }
        if self.rewind_at_close || self.position_unknown {
            return Ok(());
        }
        if self.driver.system_v && self.part().direction == Direction::Reading {
            return self.pass_filemark();
        }
        self.settle(false)
    }

    fn closing_filemark(&mut self) -> Result<(), Errno> {
        let count = if self.driver.two_filemarks { 2 } else { 1 };
        let busy = self.board.begin(Activity::Synchronising);
        let result = self.drive.write_filemarks(count, false);
        drop(busy);
        if let Err(error) = result {
            return Err(self.fail(During::Control, "writing the closing filemark", &error));
        }
        self.unsynchronised = false;
        self.board.count(|counters| counters.filemarks_written += u64::from(count));
        self.part().enter_next_file();
        if self.driver.two_filemarks {
            // Between the two, where the next file replaces the second.
            self.drive
                .space(SpaceKind::Filemarks, -1)
                .map_err(|error| self.fail(During::Control, "stepping back over the second filemark", &error))?;
        }
        self.part().mark = Mark::Filemark;
        Ok(())
    }

    /// System V: behind the filemark that ends the file which was read.
    fn pass_filemark(&mut self) -> Result<(), Errno> {
        match self.part().mark {
            Mark::None => {
                let passed = self.drive.space(SpaceKind::Filemarks, 1);
                match passed {
                    Ok(outcome) if outcome.stopped.is_none() => {}
                    Ok(_) => return Ok(()),
                    Err(error) => return Err(self.fail(During::Control, "going behind the filemark at close", &error)),
                }
            }
            Mark::FilemarkHit => {}
            Mark::Filemark | Mark::Warned | Mark::Eod1 | Mark::Eod2 | Mark::Eod => return Ok(()),
        }
        self.part().enter_next_file();
        self.part().mark = Mark::Filemark;
        Ok(())
    }

    /// The host did not ask for this rewind: a lost place stays lost until it moves the tape itself.
    fn rewind_at_release(&mut self) -> Result<(), Errno> {
        let busy = self.board.begin(Activity::Moving);
        let result = self.drive.rewind();
        drop(busy);
        match result {
            Ok(()) => {
                *self.part() = Partition { left_at: None, ..Partition::BEGINNING };
                Ok(())
            }
            Err(error) => Err(self.fail(During::Control, "rewinding at close", &error)),
        }
    }
}
