//! What a drive with a medium in it can do, independent of how it is reached.
//!
//! [`TapeDrive`] is the seam between the product and a back end. Its vocabulary is SSC-4's: logical
//! objects (blocks and filemarks) are numbered from 0 in each partition, a position is the number
//! of the object that comes next. What a tape *does* (a filemark, the end of data, early warning) is
//! an outcome and a value; what goes wrong is a [`DriveError`].
//!
//! A drive may buffer: a write that returned is on the medium only after a synchronising command
//! ([`TapeDrive::write_filemarks`] with `immediate == false`, also with count 0) has returned.

mod error;
pub mod model;
mod power_cut;
mod record;
mod shared;

pub use error::{DriveError, DriveErrorKind};
pub use power_cut::PowerCut;
pub use record::{HEADROOM, RecordBuffer};
pub use shared::SharedDrive;

/// Where the medium stands: partition and number of the next logical object in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Partition number, from 0.
    pub partition: u8,
    /// Logical object number (blocks and filemarks before this point in the partition).
    pub object: u64,
}

/// READ POSITION, the parts that a back end must tell (SSC-4 7.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PositionReport {
    /// First logical object location: where the host stands.
    pub position: Position,
    /// Filemarks between the beginning of the partition and the position, if the drive knows.
    pub filemarks: Option<u64>,
    /// BOP: at the beginning of the partition.
    pub beginning_of_partition: bool,
    /// EOP: between early warning and the end of the partition.
    pub end_of_partition: bool,
    /// Logical objects that stand in the drive's buffer and not yet on the medium.
    pub objects_in_buffer: u64,
}

/// Which warning a write met. The record or filemark was accepted in every case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Warning {
    /// None: there is room.
    None,
    /// Past the programmable early warning that [`TapeDrive::set_programmable_early_warning`] asked for.
    Programmable,
    /// Past the drive's own early warning (NO SENSE, EOM).
    Early,
}

/// What a READ met. After a block or a filemark the position is past it; at the end of data it stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadOutcome {
    /// A block of `length` bytes. The first `min(length, buffer)` bytes are in the buffer.
    Block {
        /// Length of the block on the medium, in bytes.
        length: usize,
    },
    /// A filemark.
    Filemark,
    /// End of data: nothing was recorded after this point.
    EndOfData,
    /// The physical end of the partition.
    EndOfPartition,
}

/// What SPACE and LOCATE count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SpaceKind {
    /// Logical blocks (SPACE code 0h); a filemark on the way stops it.
    Blocks,
    /// Filemarks (code 1h).
    Filemarks,
    /// The end of data (code 3h); the count is ignored.
    EndOfData,
}

/// Why SPACE stopped before its count was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceStop {
    /// Spacing over blocks met a filemark: position is past it in the direction of motion.
    Filemark,
    /// Forward motion met the end of data: position is there.
    EndOfData,
    /// Backward motion met the beginning of the partition: position is 0.
    BeginningOfPartition,
}

/// What SPACE did: `None` when all was done, otherwise what stopped it and the residue, which is
/// `abs(count)` minus the blocks (or filemarks) that were passed, without the one that stopped it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpaceOutcome {
    /// What stopped the motion, and how much was left to do.
    pub stopped: Option<(SpaceStop, u64)>,
}

/// What kind of cartridge is in the drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediumType {
    /// Data, can be written over.
    Data,
    /// Data, write once.
    Worm,
    /// A cleaning cartridge: no label is looked for.
    Cleaning,
    /// A firmware cartridge: no label is looked for.
    Firmware,
}

/// What the drive says of the medium that is loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediumStatus {
    /// Data, WORM, cleaning or firmware.
    pub medium_type: MediumType,
    /// Write protected by its switch, or by the drive, or because its file may only be read.
    pub write_protected: bool,
    /// Number of partitions, 1 or 2.
    pub partitions: u8,
    /// Nominal capacity of the current partition in bytes.
    pub capacity_bytes: u64,
    /// What is left in the current partition, in bytes, where the drive tells.
    pub remaining_bytes: Option<u64>,
    /// Serial number of the cartridge (MAM 0401h), where there is one.
    pub serial: Option<String>,
    /// Barcode (MAM 0806h), where there is one.
    pub barcode: Option<String>,
}

/// READ BLOCK LIMITS (SSC-4 7.2), in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockLimits {
    /// Shortest block.
    pub minimum: u32,
    /// Longest block that drive, bus and kernel carry in one command.
    pub maximum: u32,
}

/// What INQUIRY says of the drive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriveIdentity {
    /// T10 vendor identification.
    pub vendor: String,
    /// Product identification.
    pub product: String,
    /// Product revision level.
    pub revision: String,
    /// Unit serial number.
    pub serial: String,
}

/// One attribute of the medium auxiliary memory (SPC-4 7.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribute {
    /// Attribute identifier.
    pub id: u16,
    /// FORMAT field: 0 binary, 1 ASCII, 2 text.
    pub format: u8,
    /// The value.
    pub value: Vec<u8>,
}

/// Something that a drive says about itself or its medium, in the bytes of the standard. Sealing does not change it, so it is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Description {
    /// LOG SENSE, cumulative values: the whole page with its header of 4 bytes.
    LogPage {
        /// Page code.
        page: u8,
        /// Subpage code.
        subpage: u8,
    },
    /// REPORT DENSITY SUPPORT: the descriptors with their header of 4 bytes.
    DensitySupport {
        /// Only what the loaded medium can have.
        medium: bool,
    },
    /// MODE SENSE(10), current values: header, block descriptor and the page.
    ModePage {
        /// Page code.
        page: u8,
        /// Subpage code.
        subpage: u8,
    },
    /// INQUIRY: the whole vital product data page.
    VitalProductData {
        /// Page code.
        page: u8,
    },
    /// READ ATTRIBUTE: the list of the attributes that the current partition has, as identifiers of 2 bytes each.
    AttributeList,
}

/// A sequential-access drive that belongs to one owner.
///
/// Every call is one command and returns when the drive has answered it. No call changes the
/// position unless its documentation says so. After an error of kind
/// [`DriveErrorKind::Transport`] or [`DriveErrorKind::Reset`] the position is unknown until
/// `rewind`, `locate` or `read_position` succeeded.
pub trait TapeDrive: Send {
    /// Who the drive is.
    fn identity(&self) -> DriveIdentity;

    /// Limits for blocks, on the medium.
    fn block_limits(&mut self) -> Result<BlockLimits, DriveError>;

    /// TEST UNIT READY: a medium is loaded. Consumes and reports one pending unit attention.
    fn test_unit_ready(&mut self) -> Result<(), DriveError>;

    /// What is loaded. Fails with `NotReady` when nothing is.
    fn medium_status(&mut self) -> Result<MediumStatus, DriveError>;

    /// LOAD: threads the inserted cartridge; position is the beginning of partition 0.
    fn load(&mut self) -> Result<(), DriveError>;

    /// UNLOAD: synchronises, then unthreads the cartridge. Fails, and stays loaded, when buffered
    /// records cannot be written.
    fn unload(&mut self) -> Result<(), DriveError>;

    /// PREVENT ALLOW MEDIUM REMOVAL.
    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError>;

    /// WRITE(6), variable mode: one block. Everything behind it in the partition is gone afterwards.
    /// Position moves behind the block on success and stays on failure.
    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError>;

    /// WRITE FILEMARKS. With `immediate == false` everything accepted so far stands on the medium
    /// when this returns; `count == 0` is the plain synchronising command.
    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError>;

    /// READ(6), variable mode, with SILI semantics left to the caller: the length on the medium is
    /// reported even when it is longer than `buffer`.
    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError>;

    /// [`write`](Self::write) of a record whose buffer may be kept, with another one left in its place.
    fn write_record(&mut self, record: &mut RecordBuffer) -> Result<Warning, DriveError> {
        self.write(record.as_slice())
    }

    /// [`read`](Self::read) of at most `longest` bytes into `record`, whose buffer may be exchanged. The bytes of a block, as many as
    /// that, stand there afterwards.
    fn read_record(&mut self, longest: usize, record: &mut RecordBuffer) -> Result<ReadOutcome, DriveError> {
        let outcome = self.read(record.room(longest))?;
        record.keep(if let ReadOutcome::Block { length } = outcome { length } else { 0 });
        Ok(outcome)
    }

    /// SPACE. Negative counts go toward the beginning of the partition.
    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError>;

    /// LOCATE. Asking for more than there is stops at the end of data, and says so with
    /// `Err(kind: EndOfData)`.
    fn locate(&mut self, to: Position) -> Result<(), DriveError>;

    /// REWIND: to the beginning of the current partition, after synchronising.
    fn rewind(&mut self) -> Result<(), DriveError>;

    /// READ POSITION.
    fn read_position(&mut self) -> Result<PositionReport, DriveError>;

    /// ERASE from the current position to the end of the partition; `long` writes over the medium.
    fn erase(&mut self, long: bool) -> Result<(), DriveError>;

    /// FORMAT MEDIUM into one partition (`second_partition_bytes == None`) or two. All data is lost.
    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError>;

    /// Asks for [`Warning::Programmable`] when fewer than `bytes` are left before early warning.
    /// Returns whether the drive will give it.
    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError>;

    /// READ ATTRIBUTE: one attribute of the medium, `None` when it does not exist.
    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError>;

    /// WRITE ATTRIBUTE: an empty value removes the attribute.
    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError>;

    /// What the drive says about itself; `None` when it does not say it. Changes nothing.
    fn describe(&mut self, _what: Description) -> Result<Option<Vec<u8>>, DriveError> {
        Ok(None)
    }
}
