//! The drive: takes cartridges, and answers the commands of [`TapeDrive`].

use std::path::Path;

use super::ImageError;
use super::attributes::{self, Facts};
use super::cartridge::Cartridge;
use super::frame::{MAX_BLOCK_BYTES, ObjectType, frame_bytes};
use super::header::ImageHeader;
use super::storage::{OpenMode, Storage};
use super::tape::{Contents, Failure, Tape};
use crate::medium::{
    Attribute, BlockLimits, DriveError, DriveErrorKind, DriveIdentity, MediumStatus, MediumType, Position,
    PositionReport, PowerCut, ReadOutcome, SpaceKind, SpaceOutcome, SpaceStop, TapeDrive, Warning,
};
use crate::scsi::{AdditionalSense, Sense, SenseKey};

/// Longest FILEMARK COUNT of WRITE FILEMARKS(6).
const MAX_FILEMARKS: u32 = 0xff_ffff;
/// SPC-4 annex F: MEDIUM REMOVAL PREVENTED.
const MEDIUM_REMOVAL_PREVENTED: AdditionalSense = AdditionalSense::new(0x53, 0x02);
/// Attribute of the barcode.
const BARCODE: u16 = 0x0806;

enum Bay {
    Empty,
    Inserted(Cartridge),
    Loaded(Box<Loaded>),
}

struct Loaded {
    tape: Tape,
    position: Position,
}

/// A drive whose cartridges are files. It outlives them.
///
/// A cartridge is [inserted](Self::insert), then [loaded](TapeDrive::load); [`Self::eject`] gives it back. Objects
/// are on the medium after a synchronising command; SPACE, LOCATE, REWIND, UNLOAD and WRITE ATTRIBUTE synchronise too.
pub struct ImageDrive {
    identity: DriveIdentity,
    bay: Bay,
    removal_prevented: bool,
    unit_attention: bool,
    programmable_early_warning: u64,
}

impl ImageDrive {
    /// An empty drive.
    pub fn new(identity: DriveIdentity) -> Self {
        Self {
            identity,
            bay: Bay::Empty,
            removal_prevented: false,
            unit_attention: false,
            programmable_early_warning: 0,
        }
    }

    /// Opens and locks a cartridge's file, and puts it in. It is not loaded yet.
    pub fn insert(&mut self, path: &Path, mode: OpenMode) -> Result<(), DriveError> {
        self.check_empty(&path.display().to_string())?;
        self.bay = Bay::Inserted(Cartridge::open(path, mode).map_err(ImageError::into_drive_error)?);
        Ok(())
    }

    /// Puts in a cartridge that is stored elsewhere than in a file. `name` is for messages.
    pub fn insert_storage(&mut self, storage: Box<dyn Storage>, name: &str) -> Result<(), DriveError> {
        self.check_empty(name)?;
        self.bay = Bay::Inserted(Cartridge::new(storage, name.into()).map_err(ImageError::into_drive_error)?);
        Ok(())
    }

    /// Unloads the cartridge if it is loaded, and gives the file back. An empty drive stays empty.
    pub fn eject(&mut self) -> Result<(), DriveError> {
        if matches!(self.bay, Bay::Loaded(_)) {
            self.unload()?;
        }
        self.check_removal()?;
        self.bay = Bay::Empty;
        Ok(())
    }

    /// What the header of the inserted cartridge says.
    pub fn cartridge(&self) -> Option<&ImageHeader> {
        match &self.bay {
            Bay::Empty => None,
            Bay::Inserted(cartridge) => Some(&cartridge.header),
            Bay::Loaded(loaded) => Some(&loaded.tape.cartridge.header),
        }
    }

    fn check_empty(&self, name: &str) -> Result<(), DriveError> {
        let inside = match &self.bay {
            Bay::Empty => return Ok(()),
            Bay::Inserted(cartridge) => &cartridge.name,
            Bay::Loaded(loaded) => &loaded.tape.cartridge.name,
        };
        let message = format!("cannot insert {name}: {inside} is in the drive; eject it first");
        let sense = Sense::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::MEDIA_LOAD_OR_EJECT_FAILED);
        Err(DriveError::new(DriveErrorKind::IllegalRequest, message).with_sense(sense))
    }

    fn check_removal(&self) -> Result<(), DriveError> {
        if !self.removal_prevented {
            return Ok(());
        }
        let message = "removal of the cartridge is prevented: the service holds it while data may be unsynchronised";
        let sense = Sense::new(SenseKey::ILLEGAL_REQUEST, MEDIUM_REMOVAL_PREVENTED);
        Err(DriveError::new(DriveErrorKind::IllegalRequest, message).with_sense(sense))
    }

    fn loaded(&mut self) -> Result<&mut Loaded, DriveError> {
        match &mut self.bay {
            Bay::Loaded(loaded) => {
                loaded.tape.check_usable()?;
                Ok(loaded)
            }
            Bay::Inserted(cartridge) => {
                Err(DriveError::new(DriveErrorKind::NotReady, format!("{} is not loaded", cartridge.name)))
            }
            Bay::Empty => {
                Err(DriveError::new(DriveErrorKind::NotReady, format!("drive {} is empty", self.identity.serial)))
            }
        }
    }
}

impl Loaded {
    /// Whether writing `bytes` at the position may be tried at all.
    fn check_writable(&self, bytes: u64) -> Result<(), DriveError> {
        let (tape, Position { partition, object }) = (&self.tape, self.position);
        let name = &tape.cartridge.name;
        self.check_write_protection()?;
        self.check_worm(object)?;
        if let Some(error) = tape.damage_at(partition, object) {
            return Err(DriveError {
                message: format!("{}; write before this place, or format it", error.message),
                ..error
            });
        }
        if tape.used_before(partition, object).saturating_add(bytes) > tape.capacity(partition) {
            let message = format!(
                "{name} is full: no room for the block in partition {partition}; go on with the next cartridge"
            );
            return Err(DriveError::new(DriveErrorKind::EndOfMedium, message));
        }
        Ok(())
    }

    fn check_write_protection(&self) -> Result<(), DriveError> {
        if !self.tape.write_protected() {
            return Ok(());
        }
        let name = &self.tape.cartridge.name;
        let why = match self.tape.cartridge.storage.read_only() {
            true => "the file may only be read",
            false => "its write-protect switch is set",
        };
        Err(DriveError::new(DriveErrorKind::WriteProtected, format!("{name} is write protected: {why}")))
    }

    /// On WORM nothing that stands from `object` on may go.
    fn check_worm(&self, object: u64) -> Result<(), DriveError> {
        let partition = self.position.partition;
        let blank = object >= self.tape.index(partition).len() && self.tape.damage_at(partition, object).is_none();
        if blank || !self.tape.cartridge.header.worm {
            return Ok(());
        }
        let message = format!("{} is WORM: object {object} stands there and stays", self.tape.cartridge.name);
        Err(DriveError::new(DriveErrorKind::WormOverwrite, message))
    }

    fn warning(&self, programmable: u64) -> Warning {
        let left = self.left_before_early_warning();
        match left {
            None => Warning::Early,
            Some(left) if left < programmable => Warning::Programmable,
            Some(_) => Warning::None,
        }
    }

    /// Bytes between the position and early warning, `None` past it.
    fn left_before_early_warning(&self) -> Option<u64> {
        let Position { partition, object } = self.position;
        let capacity = self.tape.capacity(partition);
        let room = capacity - self.tape.cartridge.header.early_warning.min(capacity / 2);
        room.checked_sub(self.tape.used_before(partition, object))
    }

    /// Does a change of the medium; when unsynchronised objects were lost, the position follows.
    fn change<T>(&mut self, change: impl FnOnce(&mut Tape) -> Result<T, Failure>) -> Result<T, DriveError> {
        change(&mut self.tape).map_err(|failure| {
            if matches!(failure, Failure::Lost(_)) {
                self.clamp_position();
            }
            failure.into_error()
        })
    }

    fn clamp_position(&mut self) {
        if self.position.partition >= self.tape.partition_count() {
            // A format that failed half way took the partition away.
            self.position = Position { partition: 0, object: 0 };
        }
        self.position.object = self.position.object.min(self.tape.index(self.position.partition).len());
    }

    /// Moves to `object`, and says so if that is where the partition is damaged.
    fn stand_at(&mut self, object: u64, moved_forward: bool) -> Result<(), DriveError> {
        self.position.object = object;
        match self.tape.damage_at(self.position.partition, object) {
            Some(error) if moved_forward => Err(error),
            Some(_) | None => Ok(()),
        }
    }
}

impl PowerCut for ImageDrive {
    fn power_cut(&mut self) -> Result<u64, DriveError> {
        let lost = self.discard_unsynchronised()?;
        self.loaded()?.position = Position { partition: 0, object: 0 };
        Ok(lost)
    }

    fn discard_unsynchronised(&mut self) -> Result<u64, DriveError> {
        let loaded = self.loaded()?;
        let lost = loaded.tape.discard_unsynchronised()?;
        loaded.clamp_position();
        Ok(lost)
    }
}

impl TapeDrive for ImageDrive {
    fn identity(&self) -> DriveIdentity {
        self.identity.clone()
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        Ok(BlockLimits { minimum: 1, maximum: MAX_BLOCK_BYTES as u32 })
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        let loaded = self.loaded()?;
        let name = loaded.tape.cartridge.name.clone();
        if std::mem::take(&mut self.unit_attention) {
            return Err(DriveError::new(DriveErrorKind::UnitAttention, format!("{name} was loaded")));
        }
        Ok(())
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        let Loaded { tape, position } = self.loaded()?;
        let capacity = tape.capacity(position.partition);
        let barcode = tape.attributes().iter().find(|attribute| attribute.id == BARCODE);
        Ok(MediumStatus {
            medium_type: if tape.cartridge.header.worm { MediumType::Worm } else { MediumType::Data },
            write_protected: tape.write_protected(),
            partitions: tape.partition_count(),
            capacity_bytes: capacity,
            remaining_bytes: Some(capacity - tape.used_before(position.partition, u64::MAX)),
            serial: Some(tape.cartridge.header.serial.clone()),
            barcode: barcode.map(|barcode| String::from_utf8_lossy(&barcode.value).trim_end().to_string()),
        })
    }

    fn load(&mut self) -> Result<(), DriveError> {
        let beginning = Position { partition: 0, object: 0 };
        if let Bay::Loaded(loaded) = &mut self.bay {
            if loaded.tape.check_usable().is_err() {
                loaded.tape.discard_unsynchronised()?;
            }
            loaded.change(Tape::synchronise)?;
            loaded.position = beginning;
            return Ok(());
        }
        let cartridge = match std::mem::replace(&mut self.bay, Bay::Empty) {
            Bay::Inserted(cartridge) => cartridge,
            Bay::Empty | Bay::Loaded(_) => return self.loaded().map(|_| ()),
        };
        let contents = match Contents::scan(&cartridge) {
            Ok(contents) => contents,
            Err(error) => {
                self.bay = Bay::Inserted(cartridge);
                return Err(error);
            }
        };
        let mut tape = Tape::new(cartridge, contents);
        if let Err(error) = tape.settle_after_load() {
            self.bay = Bay::Inserted(tape.into_cartridge());
            return Err(error);
        }
        self.bay = Bay::Loaded(Box::new(Loaded { tape, position: beginning }));
        self.unit_attention = true;
        Ok(())
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        self.check_removal()?;
        if let Bay::Loaded(loaded) = &mut self.bay
            && loaded.tape.check_usable().is_ok()
        {
            loaded.change(Tape::settle)?;
        }
        self.unit_attention = false;
        self.bay = match std::mem::replace(&mut self.bay, Bay::Empty) {
            Bay::Loaded(loaded) => Bay::Inserted(loaded.tape.into_cartridge()),
            other => other,
        };
        Ok(())
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        self.removal_prevented = prevent;
        Ok(())
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        let programmable = self.programmable_early_warning;
        let loaded = self.loaded()?;
        if !(1..=MAX_BLOCK_BYTES).contains(&block.len()) {
            let message = format!("a block has 1 to {MAX_BLOCK_BYTES} bytes, not {}", block.len());
            return Err(DriveError::new(DriveErrorKind::IllegalRequest, message));
        }
        loaded.check_writable(frame_bytes(block.len()))?;
        let Position { partition, object } = loaded.position;
        loaded.change(|tape| tape.write_block(partition, object, block))?;
        loaded.position.object += 1;
        Ok(loaded.warning(programmable))
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        let programmable = self.programmable_early_warning;
        let loaded = self.loaded()?;
        if count > MAX_FILEMARKS {
            let message = format!("{count} filemarks in one command; {MAX_FILEMARKS} is the most");
            return Err(DriveError::new(DriveErrorKind::IllegalRequest, message));
        }
        let Position { partition, object } = loaded.position;
        if count > 0 {
            loaded.check_writable(u64::from(count) * frame_bytes(0))?;
        }
        loaded.change(|tape| {
            if count > 0 {
                tape.write_filemarks(partition, object, u64::from(count))?;
            }
            let synchronised = if immediate { Ok(()) } else { tape.synchronise() };
            if matches!(synchronised, Err(Failure::Refused(_))) && count > 0 {
                tape.forget_from(partition, object);
            }
            synchronised
        })?;
        loaded.position.object += u64::from(count);
        Ok(if count == 0 { Warning::None } else { loaded.warning(programmable) })
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        let Loaded { tape, position } = self.loaded()?;
        let Some(object_type) = tape.index(position.partition).object_type(position.object) else {
            return tape.damage_at(position.partition, position.object).map_or(Ok(ReadOutcome::EndOfData), Err);
        };
        let outcome = match object_type {
            ObjectType::Filemark => Ok(ReadOutcome::Filemark),
            ObjectType::Block => {
                let read = tape.read_block(position.partition, position.object, buffer);
                read.map(|length| ReadOutcome::Block { length })
            }
        };
        // SSC-4 7.4: also after an unrecovered read error the position is past the block.
        if outcome.as_ref().map_or_else(|error| error.kind == DriveErrorKind::Medium, |_| true) {
            position.object += 1;
        }
        outcome
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        let loaded = self.loaded()?;
        loaded.change(Tape::synchronise)?;
        let Position { partition, object } = loaded.position;
        let index = loaded.tape.index(partition);
        let (to, outcome) = match kind {
            SpaceKind::Blocks => index.space_blocks(object, count),
            SpaceKind::Filemarks => index.space_filemarks(object, count),
            SpaceKind::EndOfData => (index.len(), SpaceOutcome { stopped: None }),
        };
        let met_the_end = kind == SpaceKind::EndOfData || matches!(outcome.stopped, Some((SpaceStop::EndOfData, _)));
        loaded.stand_at(to, met_the_end)?;
        Ok(outcome)
    }

    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        let loaded = self.loaded()?;
        if to.partition >= loaded.tape.partition_count() {
            let message = format!("{} has no partition {}", loaded.tape.cartridge.name, to.partition);
            return Err(DriveError::new(DriveErrorKind::IllegalRequest, message));
        }
        loaded.change(Tape::synchronise)?;
        let end = loaded.tape.index(to.partition).len();
        loaded.position.partition = to.partition;
        loaded.stand_at(to.object.min(end), to.object > end)?;
        if to.object > end {
            let message = format!(
                "{}: object {} of partition {} is beyond the end of data at {end}",
                loaded.tape.cartridge.name, to.object, to.partition
            );
            return Err(DriveError::new(DriveErrorKind::EndOfData, message));
        }
        Ok(())
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        let loaded = self.loaded()?;
        loaded.change(Tape::synchronise)?;
        loaded.position.object = 0;
        Ok(())
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        let loaded = self.loaded()?;
        let position = loaded.position;
        Ok(PositionReport {
            position,
            filemarks: Some(loaded.tape.index(position.partition).filemarks_before(position.object)),
            beginning_of_partition: position.object == 0,
            end_of_partition: loaded.left_before_early_warning().is_none(),
            objects_in_buffer: loaded.tape.unsynchronised(position.partition),
        })
    }

    fn erase(&mut self, long: bool) -> Result<(), DriveError> {
        let loaded = self.loaded()?;
        loaded.check_write_protection()?;
        let Position { partition, object } = loaded.position;
        loaded.check_worm(object)?;
        loaded.change(|tape| {
            if object < tape.index(partition).len() || tape.damage_at(partition, object).is_some() {
                tape.begin_epoch(partition, object)?;
            }
            if long { tape.wipe_behind_end(partition) } else { Ok(()) }
        })
    }

    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        let loaded = self.loaded()?;
        loaded.check_write_protection()?;
        let name = loaded.tape.cartridge.name.clone();
        if loaded.tape.cartridge.header.worm && !loaded.tape.blank() {
            let message = format!("{name} is WORM and holds data: it cannot be formatted");
            return Err(DriveError::new(DriveErrorKind::WormOverwrite, message));
        }
        let formatted = loaded.change(|tape| tape.format(second_partition_bytes));
        if !matches!(formatted, Ok(false)) {
            loaded.position = Position { partition: 0, object: 0 };
        }
        if !formatted? {
            let message = format!(
                "{name}: a second partition of {} bytes leaves one of the two without room",
                second_partition_bytes.unwrap_or(0)
            );
            return Err(DriveError::new(DriveErrorKind::IllegalRequest, message));
        }
        Ok(())
    }

    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        self.programmable_early_warning = bytes;
        Ok(true)
    }

    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        let Loaded { tape, position } = self.loaded()?;
        let capacity = tape.capacity(position.partition);
        let facts = Facts {
            remaining: capacity - tape.used_before(position.partition, u64::MAX),
            capacity,
            serial: &tape.cartridge.header.serial,
            worm: tape.cartridge.header.worm,
            contents: tape.contents(),
        };
        Ok(attributes::read(id, tape.attributes(), &facts))
    }

    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        let loaded = self.loaded()?;
        loaded.check_write_protection()?;
        let attributes = attributes::write(attribute, loaded.tape.attributes())?;
        loaded.change(|tape| tape.store_attributes(attributes))
    }
}
