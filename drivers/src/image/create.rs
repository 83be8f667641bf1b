//! Making a cartridge, and its write-protect switch.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;

use uuid::Uuid;

use super::ImageError;
use super::cartridge::Cartridge;
use super::header::{DATA_OFFSET, ImageHeader, SLOT_BYTES, SLOT_OFFSETS};
use super::storage::{FileStorage, OpenMode, Storage};
use super::superblock::{MAX_CAPACITY, PartitionEntry, Superblock};
use crate::medium::Attribute;

/// Smallest partition, in bytes.
pub(super) const MIN_PARTITION_BYTES: u64 = 4096;
/// Partition 1 begins at a multiple of this in the file.
const PARTITION_ALIGNMENT: u64 = 4096;
/// Serial number and barcode: as long as the MAM attributes 0401h and 0806h.
const MAX_NAME_CHARACTERS: usize = 32;

/// What kind of cartridge to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateOptions {
    /// Capacity in bytes, partitions together. A block counts with its header of 48 bytes, rounded up to 8.
    pub capacity: u64,
    /// Capacity of a second partition, taken from the whole; `None` for one partition.
    pub second_partition: Option<u64>,
    /// Early warning is given when less than this is left in a partition, in bytes; half of it at most.
    pub early_warning: u64,
    /// Barcode, 1 to 32 printable ASCII characters.
    pub barcode: Option<String>,
    /// Cartridge serial number, 1 to 32 printable ASCII characters; made from the UUID if `None`.
    pub serial: Option<String>,
    /// Write once: blocks can be appended, never overwritten or erased.
    pub worm: bool,
    /// The write-protect switch.
    pub write_protected: bool,
}

impl CreateOptions {
    /// A rewritable cartridge with one partition and an early warning of 1/64 of the capacity, 1 GiB at most.
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            second_partition: None,
            early_warning: (capacity / 64).min(1 << 30),
            barcode: None,
            serial: None,
            worm: false,
            write_protected: false,
        }
    }
}

/// Makes a cartridge in a new file, and returns what its header says. An existing file is left alone.
pub fn create(path: &Path, options: &CreateOptions) -> Result<ImageHeader, ImageError> {
    let name = path.display().to_string();
    let prepared = Prepared::new(&name, options)?;
    let storage = FileStorage::create(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = prepared.write_to(&storage).and_then(|()| File::open(parent)?.sync_all());
    written.map_err(|source| {
        // Half a cartridge helps nobody; the error that is reported is the first one.
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(file = %name, %error, "could not remove the unfinished image");
        }
        ImageError::Io { what: "write", name: name.clone(), source }
    })?;
    Ok(prepared.header)
}

/// Makes a cartridge on any storage. `name` is for messages.
pub fn create_on(storage: &dyn Storage, name: &str, options: &CreateOptions) -> Result<ImageHeader, ImageError> {
    let prepared = Prepared::new(name, options)?;
    prepared.write_to(storage).map_err(|source| ImageError::Io { what: "write", name: name.into(), source })?;
    Ok(prepared.header)
}

/// Sets the write-protect switch of a cartridge that is in no drive.
pub fn set_write_protect(path: &Path, protect: bool) -> Result<(), ImageError> {
    let cartridge = Cartridge::open(path, OpenMode::ReadWrite)?;
    let mut superblock = cartridge.superblock()?;
    superblock.write_protected = protect;
    superblock.sequence += 1;
    let storage = &cartridge.storage;
    // The other superblock, and all that this one calls synchronised, first; then a clear slot: see rule 1 of the format.
    let written = storage
        .sync()
        .and_then(|()| cartridge.clear_slot(superblock.slot()))
        .and_then(|()| storage.sync())
        .and_then(|()| storage.write_at(&mut [IoSlice::new(&superblock.encode())], SLOT_OFFSETS[superblock.slot()]))
        .and_then(|()| storage.sync());
    written.map_err(|source| ImageError::Io { what: "write", name: cartridge.name, source })
}

/// Fresh random bits for an epoch.
pub(super) fn fresh_salt() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(format!("no random numbers: {error}")))
}

/// Partitions with nothing in them. `None` when the sizes are out of range.
pub(super) fn lay_out(capacity: u64, second: Option<u64>, epoch: u64) -> io::Result<Option<Vec<PartitionEntry>>> {
    let enough = MIN_PARTITION_BYTES..=MAX_CAPACITY;
    let Some(first) = capacity.checked_sub(second.unwrap_or(0)).filter(|first| enough.contains(first)) else {
        return Ok(None);
    };
    let mut partitions = vec![PartitionEntry::empty(DATA_OFFSET, first, epoch, fresh_salt()?)];
    if let Some(second) = second {
        if !enough.contains(&second) {
            return Ok(None);
        }
        let base = (DATA_OFFSET + first).next_multiple_of(PARTITION_ALIGNMENT);
        partitions.push(PartitionEntry::empty(base, second, epoch, fresh_salt()?));
    }
    Ok(Some(partitions))
}

struct Prepared {
    header: ImageHeader,
    superblock: Superblock,
}

impl Prepared {
    fn new(name: &str, options: &CreateOptions) -> Result<Self, ImageError> {
        let refused = |reason: String| ImageError::Options { name: name.into(), reason };
        let partitions = lay_out(options.capacity, options.second_partition, 0)
            .map_err(|source| ImageError::Io { what: "create", name: name.into(), source })?
            .ok_or_else(|| {
                refused(format!(
                    "each partition needs {MIN_PARTITION_BYTES} bytes to {MAX_CAPACITY}, the capacity is {} and the second partition {}",
                    options.capacity,
                    options.second_partition.map_or("none".into(), |bytes| bytes.to_string()),
                ))
            })?;
        if options.early_warning >= options.capacity {
            return Err(refused(format!(
                "the early warning ({} bytes) leaves no room before it",
                options.early_warning
            )));
        }
        let uuid = Uuid::new_v4();
        let made_up = uuid.simple().to_string()[..16].to_uppercase();
        let serial = options.serial.clone().unwrap_or(made_up);
        for (what, value) in [("serial number", Some(&serial)), ("barcode", options.barcode.as_ref())] {
            let Some(value) = value else { continue };
            let printable = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            if value.trim() != value || !(1..=MAX_NAME_CHARACTERS).contains(&value.len()) || !printable {
                return Err(refused(format!(
                    "the {what} {value:?} is not 1 to {MAX_NAME_CHARACTERS} printable ASCII characters"
                )));
            }
        }
        let attributes = options.barcode.iter().map(|barcode| barcode_attribute(barcode)).collect();
        Ok(Self {
            header: ImageHeader {
                uuid,
                serial,
                barcode: options.barcode.clone(),
                worm: options.worm,
                capacity: options.capacity,
                early_warning: options.early_warning,
            },
            superblock: Superblock { sequence: 1, write_protected: options.write_protected, partitions, attributes },
        })
    }

    /// The header comes last: a file without it is not an image.
    fn write_to(&self, storage: &dyn Storage) -> io::Result<()> {
        for sequence in [1, 2] {
            let superblock = Superblock { sequence, ..self.superblock.clone() };
            // The whole slot, so that it has its space in the file: on a full disk it can still be written.
            let mut slot = superblock.encode();
            slot.resize(SLOT_BYTES, 0);
            storage.write_at(&mut [IoSlice::new(&slot)], SLOT_OFFSETS[superblock.slot()])?;
        }
        storage.sync()?;
        storage.write_at(&mut [IoSlice::new(&self.header.encode())], 0)?;
        storage.sync()
    }
}

fn barcode_attribute(barcode: &str) -> Attribute {
    Attribute { id: 0x0806, format: 1, value: format!("{barcode:MAX_NAME_CHARACTERS$}").into_bytes() }
}
