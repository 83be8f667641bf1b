//! Object frame: what stands before the payload of each block and in place of each filemark.

/// Size of a frame header, in bytes. A filemark is a frame header alone.
pub const FRAME_HEADER_BYTES: usize = 48;
/// Longest block, in bytes.
pub const MAX_BLOCK_BYTES: usize = 16 << 20;

const MAGIC: [u8; 4] = *b"STOB";
const TYPE_BLOCK: u8 = 1;
const TYPE_FILEMARK: u8 = 2;

/// What kind of logical object a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum ObjectType {
    Block,
    Filemark,
}

/// Frame header.
///
/// ```text
///  0 4 "STOB"   4 1 type   5 1 partition   6 2 zero   8 8 object number   16 8 epoch   24 8 salt
/// 32 4 payload length   36 4 CRC-32C of the payload   40 4 zero   44 4 CRC-32C over bytes 0..44
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHeader {
    pub(super) object_type: ObjectType,
    pub(super) partition: u8,
    pub(super) object: u64,
    pub(super) epoch: u64,
    pub(super) salt: u64,
    pub(super) length: u32,
    pub(super) payload_crc: u32,
}

impl FrameHeader {
    pub(super) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = match self.object_type {
            ObjectType::Block => TYPE_BLOCK,
            ObjectType::Filemark => TYPE_FILEMARK,
        };
        out[5] = self.partition;
        out[8..16].copy_from_slice(&self.object.to_be_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_be_bytes());
        out[24..32].copy_from_slice(&self.salt.to_be_bytes());
        out[32..36].copy_from_slice(&self.length.to_be_bytes());
        out[36..40].copy_from_slice(&self.payload_crc.to_be_bytes());
        let crc = crc32c::crc32c(&out[..44]);
        out[44..48].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// The header in `bytes`, or `None` if it is not whole: magic, CRC, type, length.
    pub(super) fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Option<Self> {
        if bytes[0..4] != MAGIC || crc32c::crc32c(&bytes[..44]) != be_u32(bytes, 44) {
            return None;
        }
        let length = be_u32(bytes, 32);
        let object_type = match bytes[4] {
            TYPE_BLOCK if (1..=MAX_BLOCK_BYTES).contains(&(length as usize)) => ObjectType::Block,
            TYPE_FILEMARK if length == 0 => ObjectType::Filemark,
            _ => return None,
        };
        Some(Self {
            object_type,
            partition: bytes[5],
            object: be_u64(bytes, 8),
            epoch: be_u64(bytes, 16),
            salt: be_u64(bytes, 24),
            length,
            payload_crc: be_u32(bytes, 36),
        })
    }

    /// What the whole frame takes in the file.
    pub(super) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.length as usize)
    }
}

/// What a block of `length` bytes takes of the capacity; a filemark counts as length 0.
pub fn frame_bytes(length: usize) -> u64 {
    FRAME_HEADER_BYTES as u64 + (length as u64).next_multiple_of(8)
}

/// Four bytes of `bytes` at `at`, big-endian. The caller has checked the bounds.
pub(super) fn be_u32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Eight bytes of `bytes` at `at`, big-endian. The caller has checked the bounds.
pub(super) fn be_u64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            object_type: ObjectType::Block,
            partition: 1,
            object: 0x0102_0304_0506_0708,
            epoch: 9,
            salt: 0xa0a1_a2a3_a4a5_a6a7,
            length: 5,
            payload_crc: crc32c::crc32c(b"hello"),
        }
    }

    #[test]
    fn golden_bytes() {
        let golden = [
            b'S', b'T', b'O', b'B', // magic
            1,    // type: block
            1,    // partition
            0, 0, // zero
            1, 2, 3, 4, 5, 6, 7, 8, // object number
            0, 0, 0, 0, 0, 0, 0, 9, // epoch
            0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, // salt
            0, 0, 0, 5, // payload length
            0x9a, 0x71, 0xbb, 0x4c, // CRC-32C of "hello"
            0, 0, 0, 0, // zero
        ];
        let encoded = header().encode();
        assert_eq!(encoded[..44], golden);
        assert_eq!(be_u32(&encoded, 44), crc32c::crc32c(&golden));
        assert_eq!(FrameHeader::parse(&encoded), Some(header()));
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let encoded = header().encode();
        for bit in 0..encoded.len() * 8 {
            let mut changed = encoded;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::parse(&changed), None, "bit {bit}");
        }
    }

    #[test]
    fn lengths_outside_the_format_are_refused() {
        let block = header();
        for (object_type, length, good) in [
            (ObjectType::Block, 0, false),
            (ObjectType::Block, 1, true),
            (ObjectType::Block, MAX_BLOCK_BYTES as u32, true),
            (ObjectType::Block, MAX_BLOCK_BYTES as u32 + 1, false),
            (ObjectType::Filemark, 0, true),
            (ObjectType::Filemark, 1, false),
        ] {
            let encoded = FrameHeader { object_type, length, ..block }.encode();
            assert_eq!(FrameHeader::parse(&encoded).is_some(), good, "{object_type:?} {length}");
        }
    }

    #[test]
    fn frames_are_padded_to_eight() {
        assert_eq!([0, 1, 8, 9].map(frame_bytes), [48, 56, 56, 64]);
    }
}
