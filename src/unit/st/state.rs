//! What `st` remembers of a drive and its medium.

use std::sync::Arc;

use nix::errno::Errno;
use sealtape_drivers::fuse::Opener;
use sealtape_drivers::fuse::mtio::{MT_ISSCSI2, MtStatus, gstat};
use sealtape_drivers::medium::{BlockLimits, Position, TapeDrive};

use super::StOptions;
use super::open::Attention;
use super::options::DriverOptions;
use super::status::{Activity, Board};

/// Partitions that `st` keeps a state for.
pub(super) const PARTITIONS: usize = 4;

/// What was done last in a partition, since the open or the last motion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Idle,
    Reading,
    Writing,
}

/// What the medium said last. The order matters: from `Eod1` on, reads are answered without the
/// drive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Mark {
    /// Nothing.
    None,
    /// Fixed block mode: blocks were delivered up to a filemark; the next read gives 0.
    FilemarkHit,
    /// Behind a filemark.
    Filemark,
    /// Early warning: the next write is refused.
    Warned,
    /// Between the refused write and the next, which is tried; for reads, 0 is due twice.
    Eod1,
    /// For reads, 0 is due once.
    Eod2,
    /// At the end of data: reads fail.
    Eod,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    pub(super) direction: Direction,
    pub(super) mark: Mark,
    /// Filemarks before the position, -1 when unknown.
    pub(super) file: i32,
    /// Records since the filemark before the position, -1 when unknown.
    pub(super) block: i32,
    /// Where the partition was left for another one.
    pub(super) left_at: Option<u64>,
}

impl Partition {
    const UNKNOWN: Self = Self { direction: Direction::Idle, mark: Mark::None, file: -1, block: -1, left_at: None };
    pub(super) const BEGINNING: Self = Self { file: 0, block: 0, ..Self::UNKNOWN };

    pub(super) fn count_blocks(&mut self, blocks: i32) {
        if self.block >= 0 {
            self.block = self.block.saturating_add(blocks);
        }
    }

    /// Past a filemark, forward.
    pub(super) fn enter_next_file(&mut self) {
        if self.file >= 0 {
            self.file = self.file.saturating_add(1);
        }
        self.block = 0;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Medium {
    Loaded,
    /// Not ready, for whatever reason.
    NotReady,
    Absent,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Door {
    Unlocked,
    /// By MTLOCK.
    Explicit,
    /// By the option auto-lock; until the close.
    Auto,
}

/// The node's whole state, behind its lock.
pub(super) struct St {
    pub(super) drive: Box<dyn TapeDrive>,
    pub(super) board: Arc<Board>,
    pub(super) driver: DriverOptions,
    /// Whoever has the node open.
    pub(super) opener: Option<Opener>,
    /// Opened as `stN`.
    pub(super) rewinding_node: bool,
    pub(super) rewind_at_close: bool,
    pub(super) medium: Medium,
    /// What TEST UNIT READY told and nobody has acted on.
    pub(super) attention: Attention,
    /// The drive was asked for its position at least once.
    pub(super) initialised: bool,
    pub(super) limits: Option<BlockLimits>,
    /// The medium is write protected.
    pub(super) medium_protected: bool,
    /// The medium is, or the open file is for reading only.
    pub(super) write_protected: bool,
    pub(super) partitions: [Partition; PARTITIONS],
    pub(super) partition: usize,
    /// The partition for the next command (MTSETPART).
    pub(super) next_partition: usize,
    /// 0: variable.
    pub(super) block_size: u32,
    /// Buffered or not, as the host last set it; the medium is synchronised at close in any case.
    pub(super) buffered_mode: u8,
    /// The drive lost its place (reset, changed medium): no access until the host has moved it.
    pub(super) position_unknown: bool,
    /// Records were accepted that no command has synchronised.
    pub(super) unsynchronised: bool,
    pub(super) door: Door,
    /// Fixed block mode: what is left of a block that was read in part.
    pub(super) rest: Vec<u8>,
    pub(super) rest_at: usize,
    /// Fixed block mode: an error that came after some blocks; the next call has it.
    pub(super) pending: Option<Errno>,
    /// The closing filemark or rewind failed: the next open says so.
    pub(super) close_failure: Option<String>,
    /// Where the drive stood when we last asked.
    pub(super) last_position: Option<Position>,
}

impl St {
    pub(super) fn new(drive: Box<dyn TapeDrive>, options: StOptions, board: Arc<Board>) -> Self {
        Self {
            drive,
            board,
            driver: DriverOptions { can_partitions: options.partitions, ..DriverOptions::default() },
            opener: None,
            rewinding_node: false,
            rewind_at_close: false,
            medium: Medium::NotReady,
            attention: Attention::default(),
            initialised: false,
            limits: None,
            medium_protected: false,
            write_protected: false,
            partitions: [Partition::UNKNOWN; PARTITIONS],
            partition: 0,
            next_partition: 0,
            block_size: 0,
            buffered_mode: 1,
            position_unknown: false,
            unsynchronised: false,
            door: Door::Unlocked,
            rest: Vec::new(),
            rest_at: 0,
            pending: None,
            close_failure: None,
            last_position: None,
        }
    }

    pub(super) fn part(&mut self) -> &mut Partition {
        &mut self.partitions[self.partition]
    }

    /// The state after a reset, or before a medium is known.
    pub(super) fn forget_positions(&mut self) {
        self.partitions = [Partition::UNKNOWN; PARTITIONS];
        self.rest.clear();
        self.pending = None;
    }

    /// A medium that was just loaded: beginning of partition 0.
    pub(super) fn begin_medium(&mut self) {
        self.forget_positions();
        self.partitions = [Partition::BEGINNING; PARTITIONS];
        self.partition = 0;
        self.next_partition = 0;
        self.position_unknown = false;
        self.unsynchronised = false;
        if let Some(block_size) = self.driver.default_block_size {
            self.block_size = block_size;
        }
    }

    /// MTIOCGET. Answered without a medium and after a reset, too.
    pub(super) fn mt_status(&mut self) -> Result<MtStatus, Errno> {
        if !self.position_unknown {
            self.settle(false)?;
            if self.medium == Medium::Loaded {
                self.switch_partition()?;
            }
        }
        let unknown = self.position_unknown;
        let protected = self.medium_protected;
        let medium = self.medium;
        let (fileno, blkno) = if unknown { (-1, -1) } else { (self.part().file, self.part().block) };
        let mut bits = 0;
        if protected {
            bits |= gstat::WR_PROT;
        }
        if blkno == 0 {
            bits |= if fileno == 0 { gstat::BOT } else { gstat::EOF };
        }
        bits |= match self.part().mark {
            Mark::Warned => gstat::EOT,
            Mark::Eod1 | Mark::Eod2 | Mark::Eod => gstat::EOD,
            Mark::None | Mark::FilemarkHit | Mark::Filemark => 0,
        };
        bits |= match medium {
            Medium::Loaded => gstat::ONLINE,
            Medium::Absent => gstat::DR_OPEN,
            Medium::NotReady => 0,
        };
        if self.buffered_mode != 0 {
            bits |= gstat::IM_REP_EN;
        }
        Ok(MtStatus {
            drive_type: MT_ISSCSI2,
            resid: self.partition as i32,
            dsreg: self.block_size & 0x00ff_ffff,
            gstat: bits,
            erreg: 0,
            fileno,
            blkno,
        })
    }

    /// Shows the state to whoever asks for status.
    pub(super) fn publish(&mut self) {
        let place = self.partitions[self.partition];
        let activity = match (self.opener, place.direction) {
            (None, _) => Activity::Idle,
            (Some(_), Direction::Idle) => Activity::Open,
            (Some(_), Direction::Reading) => Activity::Reading,
            (Some(_), Direction::Writing) => Activity::Writing,
        };
        let known = !self.position_unknown;
        self.board.update(|status| {
            status.activity = activity;
            status.opener = self.opener;
            status.loaded = self.medium == Medium::Loaded;
            status.write_protected = self.medium_protected;
            status.partition = self.partition as u8;
            status.file = u32::try_from(place.file).ok().filter(|_| known);
            status.block = u32::try_from(place.block).ok().filter(|_| known);
            status.end_of_data = place.mark >= Mark::Eod1 && place.direction != Direction::Writing;
            status.early_warning = place.mark == Mark::Warned;
            status.block_size = self.block_size;
            status.position_lost = self.position_unknown;
        });
    }
}
