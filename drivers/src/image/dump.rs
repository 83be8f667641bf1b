//! Listing what stands in a cartridge's file, without a drive.

use std::path::Path;

use super::cartridge::Cartridge;
use super::frame::ObjectType;
use super::superblock::Superblock;
use super::walk::{Step, Walk, payload_crc};
use super::{ImageError, ImageHeader, OpenMode, Storage};

/// A cartridge opened for listing.
pub struct Dump {
    cartridge: Cartridge,
    superblock: Superblock,
}

/// One partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DumpedPartition {
    /// Partition number, from 0.
    pub number: u8,
    /// File offset of its first frame.
    pub base: u64,
    /// Capacity in bytes of frames.
    pub capacity: u64,
    /// File offset behind the last object that the superblock calls synchronised.
    pub synchronised_end: u64,
    /// How many objects the superblock calls synchronised.
    pub synchronised_objects: u64,
    /// Present epoch.
    pub epoch: u64,
}

/// What kind of object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum DumpedType {
    /// A block.
    Block,
    /// A filemark.
    Filemark,
}

/// One object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DumpedObject {
    /// Partition number, from 0.
    pub partition: u8,
    /// Object number in the partition.
    pub object: u64,
    /// File offset of its frame; the payload is 48 bytes further on.
    pub offset: u64,
    /// Block or filemark.
    pub object_type: DumpedType,
    /// Length of the block, in bytes.
    pub length: u32,
    /// Epoch in which it was written.
    pub epoch: u64,
    /// Whether the superblock calls it synchronised.
    pub synchronised: bool,
    /// Whether the checksum of the payload is right.
    pub crc_ok: bool,
}

impl Dump {
    /// Opens a file to read it; fails while a drive has it loaded.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        Self::new(Cartridge::open(path, OpenMode::ReadOnly)?)
    }

    /// Opens a cartridge that is stored elsewhere. `name` is for messages.
    pub fn open_storage(storage: Box<dyn Storage>, name: &str) -> Result<Self, ImageError> {
        Self::new(Cartridge::new(storage, name.into())?)
    }

    fn new(cartridge: Cartridge) -> Result<Self, ImageError> {
        let superblock = cartridge.superblock()?;
        Ok(Self { cartridge, superblock })
    }

    /// What the header says.
    pub fn header(&self) -> &ImageHeader {
        &self.cartridge.header
    }

    /// The write-protect switch.
    pub fn write_protected(&self) -> bool {
        self.superblock.write_protected
    }

    /// The stored attributes: those of the host.
    pub fn attributes(&self) -> &[crate::medium::Attribute] {
        &self.superblock.attributes
    }

    /// The partitions, one or two.
    pub fn partitions(&self) -> impl Iterator<Item = DumpedPartition> + '_ {
        (0..).zip(&self.superblock.partitions).map(|(number, entry)| DumpedPartition {
            number,
            base: entry.base,
            capacity: entry.capacity,
            synchronised_end: entry.synced_end,
            synchronised_objects: entry.synced_objects,
            epoch: entry.epoch,
        })
    }

    /// All objects up to the end of data, partition by partition. A partition that is damaged yields an error in the place
    /// where its chain of objects breaks, and the next partition follows.
    pub fn objects(&self) -> impl Iterator<Item = Result<DumpedObject, ImageError>> + '_ {
        (0..self.superblock.partitions.len() as u8).flat_map(|partition| Objects {
            dump: self,
            partition,
            walk: Some(self.cartridge.walk(&self.superblock, partition)),
        })
    }

    fn failed(&self, source: std::io::Error) -> ImageError {
        ImageError::Io { what: "read", name: self.cartridge.name.clone(), source }
    }
}

struct Objects<'a> {
    dump: &'a Dump,
    partition: u8,
    /// `None` behind the end.
    walk: Option<Walk<'a>>,
}

impl Iterator for Objects<'_> {
    type Item = Result<DumpedObject, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.walk.as_mut()?.step().map_err(|error| self.dump.failed(error));
        let object = step.and_then(|step| match step {
            Step::Object { header, offset, synchronised } => {
                let crc = payload_crc(&*self.dump.cartridge.storage, offset, header.length);
                Ok(Some(DumpedObject {
                    partition: self.partition,
                    object: header.object,
                    offset,
                    object_type: match header.object_type {
                        ObjectType::Block => DumpedType::Block,
                        ObjectType::Filemark => DumpedType::Filemark,
                    },
                    length: header.length,
                    epoch: header.epoch,
                    synchronised,
                    crc_ok: crc.map_err(|error| self.dump.failed(error))? == header.payload_crc,
                }))
            }
            Step::EndOfData => Ok(None),
            Step::Damaged(reason) => Err(ImageError::Damaged { name: self.dump.cartridge.name.clone(), reason }),
        });
        if !matches!(object, Ok(Some(_))) {
            self.walk = None;
        }
        object.transpose()
    }
}
