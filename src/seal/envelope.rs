//! The record's envelope: a header of fixed size before the ciphertext, tag and CRC-32C behind it.
//!
//! ```text
//!  0  4 "SLTR"     4 1 version    5 1 kind    6 1 suite    7 1 compression    8 1 partition    9 3 zero
//! 12  4 generation           16 4 session ordinal
//! 20  4 plain length         24 4 stored length        28 4 zero
//! 32 16 session id           48 16 link
//! 64  8 first object of the session     72 8 seal counter
//! 80  8 object number                   88 8 filemarks before it
//! 96 .. ciphertext (stored length)   16 tag   4 CRC-32C over all before
//! ```

use uuid::Uuid;

use super::chain::Link;
use super::checksum::crc32c;
use super::compress::Compression;
use super::keys::SessionId;
use super::refusal::Refusal;
use super::suite::{Suite, TAG_LEN};

/// Version of the format.
pub const VERSION: u8 = 1;
/// Bytes before the ciphertext.
pub const HEADER_LEN: usize = 96;
/// Bytes of tag and CRC behind the ciphertext.
pub const TRAILER_LEN: usize = TAG_LEN + 4;
/// What sealing adds to a block, in bytes.
pub const OVERHEAD: usize = HEADER_LEN + TRAILER_LEN;
/// Longest plain block of format 1, in bytes.
pub const MAX_PLAIN: usize = 16 << 20;
/// Bytes of the associated data: the whole header, then the volume's UUID.
pub const AAD_LEN: usize = HEADER_LEN + 16;

const MAGIC: &[u8; 4] = b"SLTR";

/// What a record is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum RecordKind {
    /// A block of a tape.
    TapeBlock,
    /// A chunk of a stream.
    StreamBlock,
    /// The record that closes a stream.
    StreamFinal,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::TapeBlock),
            1 => Some(Self::StreamBlock),
            2 => Some(Self::StreamFinal),
            _ => None,
        }
    }

    fn is_of_stream(self) -> bool {
        match self {
            Self::TapeBlock => false,
            Self::StreamBlock | Self::StreamFinal => true,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::TapeBlock => 0,
            Self::StreamBlock => 1,
            Self::StreamFinal => 2,
        }
    }
}

/// The header of a record. What it says is to be believed only once the tag was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the record is part of.
    pub kind: RecordKind,
    /// The suite; the generation's.
    pub suite: Suite,
    /// What was done to the text before sealing.
    pub compression: Compression,
    /// The partition, from 0.
    pub partition: u8,
    /// The generation in it, from 1.
    pub generation: u32,
    /// The session's place in the order of sessions.
    pub session_ordinal: u32,
    /// Bytes of the host's block.
    pub plain_len: u32,
    /// Bytes of ciphertext.
    pub stored_len: u32,
    /// The session.
    pub session: SessionId,
    /// What stood before the session's first object.
    pub link: Link,
    /// Logical object number at which the session begins.
    pub first_object: u64,
    /// Number of this seal in the session, from 0.
    pub seal_counter: u64,
    /// Logical object number of this record.
    pub object: u64,
    /// The host's filemarks between logical 0 and this record.
    pub filemarks: u64,
}

impl Header {
    /// The 96 bytes on the medium.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(MAGIC);
        bytes[4..9].copy_from_slice(&[VERSION, self.kind.byte(), self.suite.0, self.compression.0, self.partition]);
        bytes[12..16].copy_from_slice(&self.generation.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.session_ordinal.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.plain_len.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.stored_len.to_be_bytes());
        bytes[32..48].copy_from_slice(&self.session.0);
        bytes[48..64].copy_from_slice(&self.link.0);
        bytes[64..72].copy_from_slice(&self.first_object.to_be_bytes());
        bytes[72..80].copy_from_slice(&self.seal_counter.to_be_bytes());
        bytes[80..88].copy_from_slice(&self.object.to_be_bytes());
        bytes[88..96].copy_from_slice(&self.filemarks.to_be_bytes());
        bytes
    }

    /// The associated data: what the tag binds besides the text.
    pub fn aad(&self, volume: Uuid) -> [u8; AAD_LEN] {
        let mut aad = [0; AAD_LEN];
        aad[..HEADER_LEN].copy_from_slice(&self.encode());
        aad[HEADER_LEN..].copy_from_slice(volume.as_bytes());
        aad
    }

    /// Length of the whole record on the medium, in bytes.
    pub fn record_len(&self) -> usize {
        self.stored_len as usize + OVERHEAD
    }

    /// Reads a header's 96 bytes: magic, version, kind, suite (known, and the generation's), compression, reserved bytes
    /// and lengths, in the order of the specification. The CRC is not among them ([`parse_record`] checks it first).
    pub fn parse(bytes: &[u8; HEADER_LEN], stream: bool, generation_suite: Suite) -> Result<Self, Refusal> {
        check_magic(bytes)?;
        let u32_at = |at: usize| u32::from_be_bytes(array(bytes, at));
        let u64_at = |at: usize| u64::from_be_bytes(array(bytes, at));
        let kind = RecordKind::from_byte(bytes[5]).filter(|kind| kind.is_of_stream() == stream);
        let kind = kind.ok_or(Refusal::WrongKind)?;
        let suite = Suite(bytes[6]);
        if !suite.is_known() {
            return Err(Refusal::UnknownSuite);
        }
        if suite != generation_suite {
            return Err(Refusal::SuiteMismatch);
        }
        let compression = Compression(bytes[7]);
        if !compression.is_known() {
            return Err(Refusal::UnknownCompression);
        }
        if bytes[9..12] != [0; 3] || bytes[28..32] != [0; 4] {
            return Err(Refusal::BadReserved);
        }
        let header = Self {
            kind,
            suite,
            compression,
            partition: bytes[8],
            generation: u32_at(12),
            session_ordinal: u32_at(16),
            plain_len: u32_at(20),
            stored_len: u32_at(24),
            session: SessionId(array(bytes, 32)),
            link: Link(array(bytes, 48)),
            first_object: u64_at(64),
            seal_counter: u64_at(72),
            object: u64_at(80),
            filemarks: u64_at(88),
        };
        header.check_lengths()?;
        Ok(header)
    }

    fn check_lengths(&self) -> Result<(), Refusal> {
        let fits = match (self.kind, self.compression) {
            (RecordKind::StreamFinal, compression) => {
                compression == Compression::NONE && self.plain_len == 0 && self.stored_len == 0
            }
            (RecordKind::TapeBlock | RecordKind::StreamBlock, Compression::NONE) => {
                self.plain_fits() && self.stored_len == self.plain_len
            }
            (RecordKind::TapeBlock | RecordKind::StreamBlock, Compression(_)) => {
                self.plain_fits() && (1..self.plain_len).contains(&self.stored_len)
            }
        };
        if fits { Ok(()) } else { Err(Refusal::BadLengths) }
    }

    fn plain_fits(&self) -> bool {
        (1..=MAX_PLAIN as u32).contains(&self.plain_len)
    }
}

/// Parses a whole block as a record of a stream or tape whose generation has this suite: magic, version, length, CRC,
/// then the header.
pub fn parse_record(block: &[u8], stream: bool, generation_suite: Suite) -> Result<Header, Refusal> {
    // A short block without the magic is clear text and worth the better name; one of another version may be short.
    check_magic(block)?;
    let Some(header) = block.first_chunk::<HEADER_LEN>().filter(|_| block.len() >= OVERHEAD) else {
        return Err(Refusal::Truncated);
    };
    let (body, crc) = block.split_at(block.len() - 4);
    if crc32c(body).to_be_bytes() != crc {
        return Err(Refusal::BadCrc);
    }
    let header = Header::parse(header, stream, generation_suite)?;
    if header.record_len() != block.len() {
        return Err(Refusal::BadLengths);
    }
    Ok(header)
}

/// Magic and version, which every version begins with.
pub(super) fn check_magic(block: &[u8]) -> Result<(), Refusal> {
    let version = block.strip_prefix(MAGIC).ok_or(Refusal::BadMagic)?.first();
    match version {
        Some(&VERSION) => Ok(()),
        Some(_) => Err(Refusal::UnknownVersion),
        None => Err(Refusal::Truncated),
    }
}

fn array<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_is_its_bytes(
            kind in 0_u8..2, suite in 1_u8..4, partition in any::<u8>(), numbers in any::<[u32; 2]>(),
            plain in 1_u32..(16 << 20), ids in any::<([u8; 16], [u8; 16])>(), places in any::<[u64; 4]>(),
        ) {
            let header = Header {
                kind: RecordKind::from_byte(kind).unwrap(),
                suite: Suite(suite),
                compression: Compression::NONE,
                partition,
                generation: numbers[0],
                session_ordinal: numbers[1],
                plain_len: plain,
                stored_len: plain,
                session: SessionId(ids.0),
                link: Link(ids.1),
                first_object: places[0],
                seal_counter: places[1],
                object: places[2],
                filemarks: places[3],
            };
            prop_assert_eq!(Header::parse(&header.encode(), kind != 0, Suite(suite)), Ok(header));
        }

        #[test]
        fn any_block_is_parsed_or_refused(mut block in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_record(&block, false, Suite::AES_256_GCM_SIV);
            if block.len() >= HEADER_LEN {
                block[..5].copy_from_slice(b"SLTR\x01");
                let crc = crc32c::crc32c(&block[..block.len() - 4]).to_be_bytes();
                let end = block.len();
                block[end - 4..].copy_from_slice(&crc);
                let _ = parse_record(&block, false, Suite::AES_256_GCM_SIV);
            }
        }
    }
}
