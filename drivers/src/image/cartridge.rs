//! A cartridge that has been recognised, loaded or not: its bytes, its name for messages, its header.

use std::io::{self, IoSlice};
use std::path::Path;

use super::header::{HEADER_BYTES, ImageHeader, SLOT_BYTES, SLOT_OFFSETS};
use super::report::io_failed;
use super::storage::{FileStorage, OpenMode, Storage, read_zero_filled};
use super::superblock::Superblock;
use super::{ImageError, walk};
use crate::medium::DriveError;

pub(super) struct Cartridge {
    pub(super) storage: Box<dyn Storage>,
    /// The file, as messages name it.
    pub(super) name: String,
    pub(super) header: ImageHeader,
    /// A synchronisation failed: what stands behind the synchronised end may be in memory only.
    pub(super) distrusted: bool,
}

impl Cartridge {
    /// Opens and locks a file, and checks that it is an image.
    pub(super) fn open(path: &Path, mode: OpenMode) -> Result<Self, ImageError> {
        Self::new(Box::new(FileStorage::open(path, mode)?), path.display().to_string())
    }

    pub(super) fn new(storage: Box<dyn Storage>, name: String) -> Result<Self, ImageError> {
        let mut bytes = vec![0; HEADER_BYTES];
        let read = storage.read_at(&mut bytes, 0).map_err(|source| ImageError::Io {
            what: "read",
            name: name.clone(),
            source,
        })?;
        let header = ImageHeader::parse(&bytes[..read])
            .map_err(|reason| ImageError::NotAnImage { name: name.clone(), reason })?;
        Ok(Self { storage, name, header, distrusted: false })
    }

    /// The superblock that counts.
    pub(super) fn superblock(&self) -> Result<Superblock, ImageError> {
        let mut slots = [vec![0; SLOT_BYTES], vec![0; SLOT_BYTES]];
        for (slot, offset) in slots.iter_mut().zip(SLOT_OFFSETS) {
            read_zero_filled(&*self.storage, slot, offset).map_err(|source| ImageError::Io {
                what: "read",
                name: self.name.clone(),
                source,
            })?;
        }
        Superblock::newest([&slots[0], &slots[1]]).ok_or_else(|| ImageError::Damaged {
            name: self.name.clone(),
            reason: "neither of its two superblocks is whole".into(),
        })
    }

    /// Makes a slot zero to its end. To be synchronised before a superblock is written there: see rule 1 of the format.
    pub(super) fn clear_slot(&self, slot: usize) -> io::Result<()> {
        self.storage.write_at(&mut [IoSlice::new(&[0; SLOT_BYTES])], SLOT_OFFSETS[slot])
    }

    /// A walk over the objects of a partition.
    pub(super) fn walk(&self, superblock: &Superblock, partition: u8) -> walk::Walk<'_> {
        walk::Walk::new(&*self.storage, partition, superblock.partitions[usize::from(partition)])
    }

    /// The drive's answer when the file cannot be read or written.
    pub(super) fn failed(&self, what: &str, source: std::io::Error) -> DriveError {
        io_failed(what, &self.name, source)
    }
}
