//! The drive itself: its state, how it is opened, and the commands of [`TapeDrive`], each of which is in a file by its subject.

use std::time::{Duration, Instant};

use super::link::Link;
use super::stand::{Stand, consequence};
use super::{Data, Transport};
use crate::medium::{
    Attribute, BlockLimits, Description, DriveError, DriveErrorKind, DriveIdentity, MediumStatus, Position,
    PositionReport, ReadOutcome, SpaceKind, SpaceOutcome, TapeDrive, Warning,
};
use crate::scsi::{Command, TapeAlertFlags};

/// After a pause of this length the position is asked for before the next write.
const IDLE: Duration = Duration::from_secs(10);

/// A tape drive behind a transport.
///
/// It keeps what keeps a volume whole whoever is above: the position is counted, and compared with the drive's own before the
/// first write after a motion, a read or a pause, and at every synchronisation; after anything that may have moved the drive
/// (no answer, reset, another cartridge, a deferred error) reads, writes and relative motions fail until the position was asked
/// for or set. Variable blocks, buffered mode and no compression are set at load, and again when the drive may have forgotten.
#[derive(Debug)]
pub struct ScsiTapeDrive<T> {
    pub(super) link: Link<T>,
    pub(super) identity: DriveIdentity,
    pub(super) stand: Stand,
    /// Writes went on since the position was confirmed, the last one then.
    writing_since: Option<Instant>,
    /// Mode pages are as they were set.
    pub(super) settled: bool,
    /// "The medium changed", which a load of ours met and the next TEST UNIT READY has to tell.
    pub(super) attention: Option<DriveError>,
    /// Bytes before early warning at which the owner wants to be warned.
    pub(super) programmable: u64,
    /// Where the drive told the programmable early warning, which it does once: from there on it holds.
    pub(super) beyond_programmable: Option<Position>,
    /// Objects sent since the drive last synchronised: no more than these are in its buffer.
    pub(super) unsynchronised: u64,
    pub(super) no_locate16: bool,
    pub(super) no_long_position: bool,
    pub(super) alerts: TapeAlertFlags,
}

impl<T: Transport> ScsiTapeDrive<T> {
    /// Asks a drive who it is, which commands it has and how long they may take. Unit attentions that were pending are
    /// consumed: who opens a drive knows nothing of its past. The medium is not moved.
    ///
    /// # Errors
    /// When the drive does not answer, or is no tape drive.
    pub fn open(transport: T) -> Result<Self, DriveError> {
        let mut link = Link::new(transport);
        let identity = super::identity::ask(&mut link)?;
        super::identity::consume_attentions(&mut link)?;
        link.limits = super::identity::time_limits(&mut link)?;
        let mut drive = Self {
            link,
            identity,
            stand: Stand::Drive,
            writing_since: None,
            settled: false,
            attention: None,
            programmable: 0,
            beyond_programmable: None,
            unsynchronised: 0,
            no_locate16: false,
            no_long_position: false,
            alerts: TapeAlertFlags::default(),
        };
        // Nothing may be loaded, or the drive be in the middle of something: then it is asked later.
        if let Err(error) = drive.ask_position() {
            tracing::debug!(drive = %drive.link.name, cause = %error, "no position when opened");
            drive.take_note(&error);
        }
        Ok(drive)
    }

    /// The transport, to look at.
    pub fn transport(&self) -> &T {
        self.link.transport()
    }

    /// The transport, when the drive is not needed any more. Nothing is sent.
    pub fn into_transport(self) -> T {
        self.link.into_transport()
    }

    /// What an error means for what comes after it.
    pub(super) fn take_note(&mut self, error: &DriveError) {
        let consequence = consequence(error);
        if consequence.position_unknown {
            self.stand = Stand::Unknown(error.message.clone());
        }
        if consequence.settings_lost {
            self.settled = false;
        }
        self.writing_since = None;
    }

    fn watch<R>(&mut self, result: Result<R, DriveError>) -> Result<R, DriveError> {
        if let Err(error) = &result {
            self.take_note(error);
            if matches!(error.kind, DriveErrorKind::Medium | DriveErrorKind::Hardware) {
                self.latch_alerts();
            }
        }
        result
    }

    /// Whether this write follows another one.
    pub(super) fn writes_on(&self) -> bool {
        self.writing_since.is_some_and(|last| last.elapsed() < IDLE) && self.stand.counted().is_some()
    }

    pub(super) fn turn_to_writing(&mut self) {
        self.writing_since = Some(Instant::now());
    }

    pub(super) fn turn_from_writing(&mut self) {
        self.writing_since = None;
    }
}

impl<T: Transport> TapeDrive for ScsiTapeDrive<T> {
    fn identity(&self) -> DriveIdentity {
        self.identity.clone()
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        let result = self.ask_block_limits();
        self.watch(result)
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        let result = match self.attention.take() {
            // It was noted when it came.
            Some(attention) => return Err(attention),
            None => self.link.ask(Command::TestUnitReady, Data::None).map(drop),
        };
        self.watch(result)
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        let result = self.ask_medium_status();
        self.watch(result)
    }

    fn load(&mut self) -> Result<(), DriveError> {
        let result = self.load_medium();
        self.watch(result)
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        let result = self.unload_medium();
        self.watch(result)
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        let command = Command::PreventAllowMediumRemoval { prevent: u8::from(prevent) };
        let result = self.link.ask(command, Data::None).map(drop);
        self.watch(result)
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        let result = self.write_block(block);
        if result.is_ok() {
            self.turn_to_writing();
        }
        self.watch(result)
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        let result = self.write_marks(count, immediate);
        self.watch(result)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        let result = self.read_block(buffer);
        self.watch(result)
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        let result = self.space_over(kind, count);
        self.watch(result)
    }

    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        let result = self.locate_to(to);
        self.watch(result)
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        let result = self.rewind_partition();
        self.watch(result)
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        let result = self.ask_position();
        self.watch(result)
    }

    fn erase(&mut self, long: bool) -> Result<(), DriveError> {
        let result = self.erase_here(long);
        self.watch(result)
    }

    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        let result = self.format(second_partition_bytes);
        self.watch(result)
    }

    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        self.programmable = bytes;
        if bytes == 0 {
            self.beyond_programmable = None;
        }
        let result = self.set_early_warning();
        self.watch(result)
    }

    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        let result = self.attribute(id);
        self.watch(result)
    }

    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        let result = self.store_attribute(attribute);
        self.watch(result)
    }

    fn describe(&mut self, what: Description) -> Result<Option<Vec<u8>>, DriveError> {
        let result = self.description(what);
        self.watch(result)
    }
}
