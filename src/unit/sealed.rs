//! The sealed unit: its state, loading and unloading.

mod beginning;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sealtape_drivers::medium::{BlockLimits, DriveError, DriveErrorKind, MediumStatus, Position, TapeDrive};
use uuid::Uuid;

use super::ahead::AheadDrive;
use super::guard::GuardedDrive;
use super::refusals;
use super::unsynchronised::UnsynchronisedMark;
use crate::pipeline::{ReadAhead, SealPool, SharedDrive, WindowLimits, WritePipeline};
use crate::seal::chain::Before;
use crate::seal::opener::CipherCache;
use crate::seal::{LABEL_LEN, Refusal, SessionId, Suite, VolumeLabel};
use crate::volume::identity::GENERATION_OBJECT;
use crate::volume::{Access, AccessLatch, KeySource, PartitionState};

/// How a unit behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitOptions {
    /// What may be acknowledged before the drive has it.
    pub window: WindowLimits,
    /// Compare the end of data with the catalogue at load.
    pub check_end_at_load: bool,
    /// Largest plain block that is offered to the host, in bytes, besides the drive's own limit.
    pub max_block: u32,
}

/// What was found when a cartridge was loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadReport {
    /// The label, where there is one that can be read.
    pub label: Option<VolumeLabel>,
    /// What the host may do now.
    pub access: Access,
}

/// The generation in use, for an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GenerationStatus {
    /// Its number.
    pub number: u32,
    /// The data key's name.
    pub key_id: Uuid,
    /// Its suite.
    pub suite: Suite,
}

/// What the medium begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Beginning {
    /// Nothing.
    Blank,
    /// Something clear.
    Clear,
    /// A volume label.
    Sealed,
    /// A damaged label, or nothing that the drive can read.
    Unreadable,
}

/// What an operator is told of a unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitStatus {
    /// What the medium begins with; `None` when nothing is loaded.
    pub beginning: Option<Beginning>,
    /// The loaded volume's label.
    pub label: Option<VolumeLabel>,
    /// The generation in the current partition.
    pub generation: Option<GenerationStatus>,
    /// Where the host stands.
    pub position: Option<Position>,
    /// Filemarks before it.
    pub filemarks: Option<u64>,
    /// The end of data is known to be here.
    pub at_end_of_data: bool,
    /// What the host may do; `None` when nothing is loaded.
    pub access: Option<Access>,
    /// Acknowledged objects that no synchronising command has covered.
    pub unsynchronised_objects: u64,
    /// Why records cannot be written behind those that stand there, where a write from the beginning can.
    pub not_sealing: Option<String>,
    /// A deferred error or an unclean stop: writes fail until the host rewinds or locates, for this reason.
    pub write_blocked: Option<String>,
    /// Entries and bytes in the window.
    pub window: (u64, usize),
    /// Bytes of sealed records that the drive took since the service started.
    pub medium_bytes_written: u64,
    /// Records that were refused since the service started.
    pub records_refused: u64,
    /// The catalogue was not told yet what stands on the medium.
    pub catalogue_behind: bool,
}

/// Whether the end of data is where it belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndCheck {
    /// It is where the last synchronisation left it.
    Proven,
    /// Nothing says where it belongs, and why.
    NotProven(String),
    /// It is not where the catalogue has it.
    Wrong(String),
}

/// A loaded cartridge.
pub(super) struct Loaded {
    /// The label of partition 0.
    pub(super) label: Option<VolumeLabel>,
    /// The label blocks of the partitions that were identified, as they stand on the medium.
    pub(super) label_blocks: Vec<Option<Box<[u8; LABEL_LEN]>>>,
    pub(super) beginning: Beginning,
    /// Asked for once: a question to the drive for each record would wait for the record before it to be written.
    pub(super) limits: BlockLimits,
    pub(super) latch: AccessLatch,
    /// Why a key of the volume ended while it was loaded: nothing is read or written any more.
    pub(super) ended: Option<String>,
    /// Partitions that were identified so far.
    pub(super) partitions: Vec<Option<PartitionState>>,
    pub(super) current: u8,
    /// Neither a switch nor the kind of cartridge forbids writing.
    pub(super) writable: bool,
    /// The drive's position is the one that the current partition's chain says.
    pub(super) position_known: bool,
}

/// A drive with a sealed volume in it, as its host sees it.
pub struct SealedTape {
    pub(super) name: String,
    pub(super) drive: SharedDrive,
    pub(super) pipeline: WritePipeline,
    pub(super) ahead: Arc<ReadAhead>,
    pub(super) keys: Box<dyn KeySource>,
    pub(super) options: UnitOptions,
    pub(super) mark: UnsynchronisedMark,
    pub(super) loaded: Option<Loaded>,
    /// Writes fail until the host rewinds or locates, and why.
    pub(super) write_blocked: Option<DriveError>,
    pub(super) host_synchronous: bool,
    pub(super) host_prevents_removal: bool,
    /// How many bytes before early warning the host wants to hear of it; 0: not at all.
    pub(super) host_early_warning: u64,
    /// The drive warns before the window could run over the end; otherwise every record is waited for.
    pub(super) warned_early: bool,
    pub(super) catalogue_behind: bool,
    pub(super) unsynchronised_objects: u64,
    /// When the host's last record was taken.
    pub(super) last_write: Option<std::time::Instant>,
    pub(super) records_refused: u64,
    pub(super) ciphers: CipherCache,
    pub(super) raw: Vec<u8>,
    pub(super) plain: Vec<u8>,
}

impl SealedTape {
    /// Takes over `drive`. Nothing is done to it before [`load_medium`](Self::load_medium).
    ///
    /// # Errors
    /// When the writer thread cannot be started.
    pub fn new(
        name: impl Into<String>,
        drive: Box<dyn TapeDrive>,
        keys: Box<dyn KeySource>,
        pool: Arc<SealPool>,
        options: UnitOptions,
        mark: UnsynchronisedMark,
    ) -> std::io::Result<Self> {
        let drive: SharedDrive = Arc::new(Mutex::new(Box::new(GuardedDrive::new(drive))));
        let ahead = Arc::new(ReadAhead::start(Arc::clone(&drive), Arc::clone(&pool), options.window)?);
        let drive: SharedDrive = Arc::new(Mutex::new(Box::new(AheadDrive::new(drive, Arc::clone(&ahead)))));
        let pipeline = WritePipeline::start(Arc::clone(&drive), pool, options.window)?;
        let name = name.into();
        let write_blocked = mark.is_set().then(|| unclean_stop(&name));
        Ok(Self {
            name,
            drive,
            pipeline,
            ahead,
            keys,
            options,
            mark,
            loaded: None,
            write_blocked,
            host_synchronous: false,
            host_prevents_removal: false,
            host_early_warning: 0,
            warned_early: false,
            catalogue_behind: false,
            unsynchronised_objects: 0,
            last_write: None,
            records_refused: 0,
            ciphers: CipherCache::default(),
            raw: Vec::new(),
            plain: Vec::new(),
        })
    }

    /// The drive below, for commands that concern neither position nor data (the window has to be empty for others).
    pub(super) fn drive(&self) -> MutexGuard<'_, Box<dyn TapeDrive>> {
        self.drive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The drive below, for the owner of the unit (inserting a cartridge, say). The unit is unloaded first.
    pub fn raw_drive(&self) -> Option<MutexGuard<'_, Box<dyn TapeDrive>>> {
        self.loaded.is_none().then(|| self.drive())
    }

    /// What an operator is told.
    pub fn status(&self) -> UnitStatus {
        let loaded = self.loaded.as_ref();
        let state = loaded.and_then(|loaded| loaded.state());
        let placed = state.filter(|_| loaded.is_some_and(|loaded| loaded.position_known));
        UnitStatus {
            beginning: loaded.map(|loaded| loaded.beginning),
            label: loaded.and_then(|loaded| loaded.label.clone()),
            generation: state.and_then(|state| state.generation()).map(|generation| GenerationStatus {
                number: generation.scope().generation,
                key_id: generation.key_id,
                suite: generation.scope().suite,
            }),
            position: loaded
                .zip(placed)
                .map(|(loaded, state)| Position { partition: loaded.current, object: state.chain().object() }),
            filemarks: placed.and_then(|state| state.chain().filemarks()),
            at_end_of_data: placed.is_some_and(PartitionState::is_at_end_of_data),
            access: loaded.map(|loaded| loaded.latch.access()),
            not_sealing: state.and_then(|state| state.generation()?.not_sealing().map(str::to_owned)),
            unsynchronised_objects: self.unsynchronised_objects,
            write_blocked: self.write_blocked.as_ref().map(|error| error.message.clone()),
            window: self.pipeline.fill(),
            medium_bytes_written: self.pipeline.bytes_written(),
            records_refused: self.records_refused,
            catalogue_behind: self.catalogue_behind,
        }
    }

    /// Whether a cartridge is loaded.
    pub fn is_loaded(&self) -> bool {
        self.loaded.is_some()
    }

    /// The session of the record that stands before the present place, if that was verified.
    pub fn last_session(&self) -> Option<SessionId> {
        match self.state()?.chain().before() {
            Before::Record(mark) => Some(mark.session),
            Before::Beginning | Before::Earlier(_) | Before::Unknown => None,
        }
    }

    /// At the end of data: whether it is where the catalogue has it.
    pub fn check_end_here(&self) -> EndCheck {
        let Some(state) = self.state() else { return EndCheck::NotProven("no generation is open".into()) };
        let object = state.chain().object();
        match state.generation().and_then(|generation| generation.known_end) {
            None => EndCheck::NotProven("no synchronised end of data of this generation is in the catalogue".into()),
            Some(end) if object < end.object => {
                EndCheck::Wrong(format!("{}: {object} objects, the catalogue has {}", Refusal::CutShort, end.object))
            }
            Some(end) if object > end.object => EndCheck::NotProven(format!(
                "the catalogue knows {} objects; what follows was never synchronised",
                end.object
            )),
            Some(end) if state.chain().filemarks().is_some_and(|filemarks| filemarks != end.filemarks) => {
                EndCheck::Wrong(format!("{}: the catalogue has {}", Refusal::WrongFilemarks, end.filemarks))
            }
            Some(_) => EndCheck::Proven,
        }
    }

    /// Turns write-behind off or on again, as BUFFERED MODE does.
    ///
    /// # Errors
    /// When what was acknowledged before cannot be written.
    pub fn set_buffered(&mut self, buffered: bool) -> Result<(), DriveError> {
        self.settle()?;
        self.host_synchronous = !buffered;
        self.pipeline.set_synchronous(self.host_synchronous || !self.warned_early);
        Ok(())
    }

    /// UNLOAD of the host or an operator: everything is synchronised, keys are wiped, then the cartridge goes.
    ///
    /// # Errors
    /// When acknowledged records cannot be written; the cartridge stays, once; asked again it goes.
    pub fn unload_medium(&mut self) -> Result<(), DriveError> {
        self.notice_end();
        if self.loaded.is_some() {
            // `synchronise` may begin the blockade itself: what counts is whether the host was told before.
            let told = self.write_blocked.is_some();
            if let Err(error) = self.synchronise()
                && !told
            {
                self.write_blocked.get_or_insert_with(|| error.clone());
                return Err(error);
            }
        }
        self.permit_removal();
        self.drive().unload()?;
        self.forget_medium();
        Ok(())
    }

    /// The cartridge is gone (or another one came): keys are wiped.
    pub(super) fn forget_medium(&mut self) {
        self.ahead.forget();
        self.ciphers = CipherCache::default();
        self.pipeline.reset();
        self.write_blocked = None;
        self.unsynchronised_objects = 0;
        if let Err(error) = self.mark.clear() {
            tracing::error!(path = %self.mark.path().display(), %error, "the mark of unsynchronised records cannot be removed");
        }
        let Some(loaded) = self.loaded.take() else { return };
        if let Some(label) = loaded.label
            && let Err(error) = self.keys.release(label.volume)
        {
            tracing::warn!(drive = %self.name, %error, "the key authority was not told of the unloading");
        }
    }

    /// The drive says that another medium may be in it, or none: what it is is found out before it is used.
    pub(super) fn medium_changed(&mut self, error: &DriveError) {
        let lost = self.mark.is_set().then_some(self.unsynchronised_objects);
        self.forget_medium();
        // Whatever is loaded now: who was told that records were taken has to hear that they are gone.
        self.write_blocked = lost.map(|lost| refusals::deferred(error, lost));
    }

    /// An operator has seen what was refused: writing is possible again. Returns what that was.
    pub fn acknowledge(&mut self) -> Option<String> {
        let reason = self.loaded.as_mut()?.latch.acknowledge()?;
        self.report_incident(&format!("acknowledged by an operator: {reason}"));
        Some(reason)
    }

    pub(super) fn report_incident(&mut self, what: &str) {
        let volume = self.loaded.as_ref().and_then(|loaded| loaded.label.as_ref()).map(|label| label.volume);
        if let Some(volume) = volume {
            self.enter_incident(volume, what);
        }
    }

    fn enter_incident(&mut self, volume: Uuid, what: &str) {
        if let Err(error) = self.keys.report_incident(volume, what) {
            tracing::error!(drive = %self.name, %error, what, "the incident could not be entered into the custody log");
        }
    }

    pub(super) fn state(&self) -> Option<&PartitionState> {
        self.loaded.as_ref()?.state()
    }

    pub(super) fn state_mut(&mut self) -> Option<&mut PartitionState> {
        self.loaded.as_mut()?.state_mut()
    }

    pub(super) fn nothing_loaded(&self) -> DriveError {
        nothing_loaded_in(&self.name)()
    }

    /// The status of the medium, as the host sees it.
    pub(super) fn host_medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        let loaded = self.loaded.as_ref().ok_or_else(|| self.nothing_loaded())?;
        let writable = loaded.latch.access() == Access::ReadWrite;
        let status = self.drive().medium_status();
        let mut status = status.map_err(|error| self.drive_failed(error))?;
        status.write_protected |= !writable;
        Ok(status)
    }
}

impl Loaded {
    pub(super) fn state(&self) -> Option<&PartitionState> {
        self.partitions.get(usize::from(self.current))?.as_ref()
    }

    pub(super) fn state_mut(&mut self) -> Option<&mut PartitionState> {
        self.partitions.get_mut(usize::from(self.current))?.as_mut()
    }

    fn set_label(&mut self, label: VolumeLabel, block: Box<[u8; LABEL_LEN]>) {
        if let Some(place) = self.label_blocks.get_mut(usize::from(label.partition)) {
            *place = Some(block);
        }
        if self.label.is_none() {
            self.label = Some(label);
        }
    }

    pub(super) fn set_partition(&mut self, partition: u8, state: PartitionState) {
        if let Some(place) = self.partitions.get_mut(usize::from(partition)) {
            *place = Some(state);
        }
        self.current = partition;
    }
}

impl Drop for SealedTape {
    fn drop(&mut self) {
        // A unit that goes away tries to leave nothing unsynchronised; it writes no filemark.
        if self.loaded.is_some()
            && let Err(error) = self.synchronise()
        {
            tracing::error!(drive = %self.name, %error, "acknowledged records could not be synchronised at the end");
        }
    }
}

fn unclean_stop(name: &str) -> DriveError {
    let mut error = DriveError::new(
        DriveErrorKind::Hardware,
        format!(
            "drive {name}: the service stopped while acknowledged records were not yet synchronised; they may be lost. \
             Rewind or locate, and repeat the backup from its last synchronised point"
        ),
    );
    error.sense.flags.deferred = true;
    error
}

fn nothing_loaded_in(name: &str) -> impl FnOnce() -> DriveError + use<> {
    let message = format!("drive {name}: no cartridge is loaded");
    move || DriveError::new(DriveErrorKind::NotReady, message)
}

/// Physical object of the generation record.
pub(super) const GENERATION_RECORD: u64 = GENERATION_OBJECT;
