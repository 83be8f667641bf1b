//! Superblock: partitions with their synchronised ends, the write-protect switch, and the stored attributes.

use super::frame::{FRAME_HEADER_BYTES, be_u32, be_u64};
use super::header::{DATA_OFFSET, SLOT_BYTES};
use crate::medium::Attribute;

const MAGIC: [u8; 8] = *b"STSUPER1";
const PARTITIONS_AT: usize = 32;
const PARTITION_BYTES: usize = 64;
const ATTRIBUTES_AT: usize = PARTITIONS_AT + 2 * PARTITION_BYTES;
/// Room for attributes in a superblock, in bytes; each takes its value and six bytes.
pub(super) const ATTRIBUTES_BYTES: usize = SLOT_BYTES - ATTRIBUTES_AT - 4;
/// Largest capacity of a cartridge, in bytes (1 EiB): offsets stay within what a file can have.
pub(super) const MAX_CAPACITY: u64 = 1 << 60;

/// No sequence number or epoch comes near this; adding to one is safe.
const MAX_COUNTER: u64 = 1 << 63;

/// One partition. What stands before the synchronised end is on the medium; behind it only frames of the
/// present epoch count.
///
/// ```text
/// 0 8 base   8 8 capacity   16 8 synchronised end   24 8 synchronised objects   32 8 epoch   40 8 salt
/// 48 8 synchronised filemarks   56 8 zero
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PartitionEntry {
    pub(super) base: u64,
    pub(super) capacity: u64,
    pub(super) synced_end: u64,
    pub(super) synced_objects: u64,
    pub(super) epoch: u64,
    pub(super) salt: u64,
    pub(super) synced_filemarks: u64,
}

impl PartitionEntry {
    /// A partition with nothing in it.
    pub(super) fn empty(base: u64, capacity: u64, epoch: u64, salt: u64) -> Self {
        Self { base, capacity, synced_end: base, synced_objects: 0, epoch, salt, synced_filemarks: 0 }
    }

    /// Whether the numbers can be true of any partition, so that arithmetic on them is safe.
    fn plausible(&self) -> bool {
        let aligned = self.base.is_multiple_of(8) && self.synced_end.is_multiple_of(8);
        let ordered = self.base >= DATA_OFFSET
            && self.capacity <= MAX_CAPACITY
            && self.base <= DATA_OFFSET + 2 * MAX_CAPACITY
            && (self.base..=self.base + self.capacity).contains(&self.synced_end);
        let counted = (self.synced_objects == 0) == (self.synced_end == self.base)
            && self.synced_filemarks <= self.synced_objects
            && self.synced_objects <= self.capacity / FRAME_HEADER_BYTES as u64;
        aligned && ordered && counted && self.epoch <= MAX_COUNTER
    }
}

/// Superblock.
///
/// ```text
///  0 8 "STSUPER1"   8 8 sequence   16 4 length L before the CRC   20 1 flags   21 1 partitions   22 2 attributes
/// 24 8 zero   32 64 partition 0   96 64 partition 1   160 . attributes   L 4 CRC-32C over 0..L
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Superblock {
    pub(super) sequence: u64,
    pub(super) write_protected: bool,
    /// One or two.
    pub(super) partitions: Vec<PartitionEntry>,
    /// Sorted by identifier, each once; they fit into [`ATTRIBUTES_BYTES`].
    pub(super) attributes: Vec<Attribute>,
}

impl Superblock {
    /// Which slot a superblock of this sequence number stands in.
    pub(super) fn slot(&self) -> usize {
        (self.sequence % 2) as usize
    }

    /// The highest epoch of all partitions; the next one to be begun is one higher.
    pub(super) fn highest_epoch(&self) -> u64 {
        self.partitions.iter().map(|p| p.epoch).max().unwrap_or(0)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; ATTRIBUTES_AT];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        out[20] = u8::from(self.write_protected);
        out[21] = self.partitions.len() as u8;
        out[22..24].copy_from_slice(&(self.attributes.len() as u16).to_be_bytes());
        for (partition, entry) in self.partitions.iter().zip(out[PARTITIONS_AT..].chunks_exact_mut(PARTITION_BYTES)) {
            let fields = [
                partition.base,
                partition.capacity,
                partition.synced_end,
                partition.synced_objects,
                partition.epoch,
                partition.salt,
                partition.synced_filemarks,
            ];
            for (field, value) in entry.chunks_exact_mut(8).zip(fields) {
                field.copy_from_slice(&value.to_be_bytes());
            }
        }
        for attribute in &self.attributes {
            out.extend(attribute.id.to_be_bytes());
            out.extend([attribute.format, 0]);
            out.extend((attribute.value.len() as u16).to_be_bytes());
            out.extend(&attribute.value);
        }
        let length = out.len() as u32;
        out[16..20].copy_from_slice(&length.to_be_bytes());
        out.extend(crc32c::crc32c(&out).to_be_bytes());
        debug_assert!(out.len() <= SLOT_BYTES, "attributes were checked to fit");
        out
    }

    /// The superblock in a slot, or `None` if it is not whole.
    pub(super) fn parse(slot: &[u8]) -> Option<Self> {
        if slot.len() < ATTRIBUTES_AT + 4 || slot[0..8] != MAGIC {
            return None;
        }
        let length = be_u32(slot, 16) as usize;
        if length < ATTRIBUTES_AT
            || length > slot.len() - 4
            || crc32c::crc32c(&slot[..length]) != be_u32(slot, length)
            || !(1..=2).contains(&slot[21])
            || be_u64(slot, 8) > MAX_COUNTER
        {
            return None;
        }
        let partitions = slot[PARTITIONS_AT..ATTRIBUTES_AT]
            .chunks_exact(PARTITION_BYTES)
            .take(usize::from(slot[21]))
            .map(|entry| PartitionEntry {
                base: be_u64(entry, 0),
                capacity: be_u64(entry, 8),
                synced_end: be_u64(entry, 16),
                synced_objects: be_u64(entry, 24),
                epoch: be_u64(entry, 32),
                salt: be_u64(entry, 40),
                synced_filemarks: be_u64(entry, 48),
            })
            .collect::<Vec<_>>();
        if !partitions.iter().all(PartitionEntry::plausible) {
            return None;
        }
        let attributes =
            parse_attributes(&slot[ATTRIBUTES_AT..length], usize::from(slot[22]) << 8 | usize::from(slot[23]))?;
        Some(Self { sequence: be_u64(slot, 8), write_protected: slot[20] & 1 != 0, partitions, attributes })
    }

    /// The superblock that counts among two slots.
    pub(super) fn newest(slots: [&[u8]; 2]) -> Option<Self> {
        slots.into_iter().filter_map(Self::parse).max_by_key(|superblock| superblock.sequence)
    }
}

fn parse_attributes(mut bytes: &[u8], count: usize) -> Option<Vec<Attribute>> {
    let mut attributes = Vec::new();
    for _ in 0..count {
        let (head, rest) = bytes.split_at_checked(6)?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[4], head[5]])))?;
        attributes.push(Attribute {
            id: u16::from_be_bytes([head[0], head[1]]),
            format: head[2],
            value: value.to_vec(),
        });
        bytes = rest;
    }
    bytes.is_empty().then_some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        let partition = |n: u64| PartitionEntry {
            base: 36864 + 8 * n,
            capacity: 0x10000 + n,
            synced_end: 0xa000 + 8 * n,
            synced_objects: 0x30 + n,
            epoch: 0x40 + n,
            salt: 0x5000_0000_0000_0000 + n,
            synced_filemarks: 0x20 + n,
        };
        Superblock {
            sequence: 7,
            write_protected: true,
            partitions: vec![partition(0), partition(1)],
            attributes: vec![Attribute { id: 0x0806, format: 1, value: b"ABC".to_vec() }],
        }
    }

    #[test]
    fn golden_bytes() {
        let encoded = superblock().encode();
        assert_eq!(encoded[..8], *b"STSUPER1");
        assert_eq!(encoded[8..24], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 169, 1, 2, 0, 1]);
        assert_eq!(encoded[24..32], [0; 8]);
        let partition_1: Vec<u64> = encoded[96..160].chunks(8).map(|field| be_u64(field, 0)).collect();
        assert_eq!(partition_1, [36872, 0x10001, 0xa008, 0x31, 0x41, 0x5000_0000_0000_0001, 0x21, 0]);
        assert_eq!(encoded[160..169], *b"\x08\x06\x01\x00\x00\x03ABC");
        assert_eq!(be_u32(&encoded, 169), crc32c::crc32c(&encoded[..169]));
        assert_eq!(encoded.len(), 173);
    }

    #[test]
    fn parses_what_it_encodes_with_remains_behind() {
        let mut slot = vec![0xee; SLOT_BYTES];
        let encoded = superblock().encode();
        slot[..encoded.len()].copy_from_slice(&encoded);
        assert_eq!(Superblock::parse(&slot), Some(superblock()));
    }

    #[test]
    fn the_newest_whole_one_counts() {
        let old = superblock();
        let new = Superblock { sequence: 8, write_protected: false, ..superblock() };
        let (old_bytes, new_bytes) = (old.encode(), new.encode());
        assert_eq!(Superblock::newest([&new_bytes, &old_bytes]), Some(new.clone()));
        for cut in 0..new_bytes.len() {
            let mut torn = vec![0; SLOT_BYTES];
            torn[..cut].copy_from_slice(&new_bytes[..cut]);
            assert_eq!(Superblock::newest([&torn, &old_bytes]), Some(old.clone()), "cut at {cut}");
        }
        assert_eq!(Superblock::newest([&[0; SLOT_BYTES], &[]]), None);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let changes: [fn(&mut PartitionEntry); 9] = [
            |p| p.base = u64::MAX - 7,
            |p| p.base += 4,
            |p| p.epoch = u64::MAX,
            |p| p.capacity = u64::MAX,
            |p| p.synced_end = p.base + p.capacity + 8,
            |p| p.synced_end = p.base,
            |p| p.synced_objects = 0,
            |p| p.synced_objects = u64::MAX,
            |p| p.synced_filemarks = p.synced_objects + 1,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut superblock = superblock();
            change(&mut superblock.partitions[0]);
            assert_eq!(Superblock::parse(&superblock.encode()), None, "change {number}");
        }
    }

    #[test]
    fn attributes_that_do_not_fill_their_room_are_refused() {
        let mut encoded = superblock().encode();
        encoded[165] = 2; // one byte shorter than what is there
        let crc = crc32c::crc32c(&encoded[..169]);
        encoded[169..173].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Superblock::parse(&encoded), None);
    }
}
