//! The generation record: the first object behind the hidden filemark. Says which data key seals the generation,
//! how to come by it, and authenticates itself and the label.
//!
//! ```text
//!  0  4 "SLTG"     4 1 version    5 1 suite    6 1 partition    7 1 kind (0 tape, 2 stream)
//!  8  4 generation           12 4 first session ordinal
//! 16 16 volume UUID          32 16 data key id
//! 48 32 commitment           80 2 number of stanzas     82 2 zero
//! 84 .. stanzas: 2 type, 2 length, body       32 MAC      4 CRC-32C over all before
//! ```

use uuid::Uuid;

use super::checksum::crc32c;
use super::envelope::VERSION;
use super::keys::{GenerationKeys, GenerationScope, OpeningKeys};
use super::label::{LABEL_LEN, VolumeKind, VolumeLabel};
use super::refusal::Refusal;
use super::suite::Suite;

/// Shortest generation record, in bytes: one without stanzas.
pub const MIN_GENERATION_LEN: usize = FIXED_LEN + MAC_LEN + 4;
/// Longest generation record, in bytes.
pub const MAX_GENERATION_LEN: usize = 1 << 16;
/// Most stanzas in one record.
pub const MAX_STANZAS: usize = 16;
const FIXED_LEN: usize = 84;
const MAC_LEN: usize = 32;
const MAGIC: &[u8; 4] = b"SLTG";
const MAC_DOMAIN: &[u8] = b"sealtape generation 1";

/// One way to the data key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stanza {
    /// 1: AES_KEY_WRAP under a token's key; 2: AES-256-GCM under a token's key; others are skipped.
    pub kind: u16,
    /// The body, at most 65535 bytes.
    pub body: Vec<u8>,
}

impl Stanza {
    /// KEK id (16), then the data key wrapped with AES_KEY_WRAP (40).
    pub const AES_KEY_WRAP: u16 = 1;
    /// KEK id (16), nonce (12), encrypted data key (32), tag (16): AES-256-GCM with associated data.
    pub const AES_256_GCM: u16 = 2;
    /// Recovery key id (16), then an age file to that recovery key.
    pub const RECOVERY: u16 = 3;
}

/// What a generation record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenerationRecord {
    /// Volume, partition, generation and suite.
    pub scope: GenerationScope,
    /// Tape or stream.
    pub kind: VolumeKind,
    /// The least ordinal of a session in it.
    pub first_session_ordinal: u32,
    /// The data key's name.
    pub key_id: Uuid,
    /// Commitment to the data key.
    pub commitment: [u8; 32],
    /// Ways to the data key.
    pub stanzas: Vec<Stanza>,
}

impl GenerationRecord {
    /// The block on the medium, authenticated together with the label block before it.
    ///
    /// # Errors
    /// More or longer stanzas than a record can hold.
    pub fn encode(&self, keys: &GenerationKeys, label: &[u8; LABEL_LEN]) -> Result<Vec<u8>, String> {
        if let Some(reason) = keys.end_switch().ended() {
            return Err(format!("the key has ended: {reason}"));
        }
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, self.scope.suite.0, self.scope.partition, kind_byte(self.kind)]);
        bytes.extend_from_slice(&self.scope.generation.to_be_bytes());
        bytes.extend_from_slice(&self.first_session_ordinal.to_be_bytes());
        bytes.extend_from_slice(self.scope.volume.as_bytes());
        bytes.extend_from_slice(self.key_id.as_bytes());
        bytes.extend_from_slice(&self.commitment);
        let count = u16::try_from(self.stanzas.len()).ok().filter(|&count| usize::from(count) <= MAX_STANZAS);
        bytes.extend_from_slice(&count.ok_or("more than 16 stanzas")?.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        for stanza in &self.stanzas {
            let length = u16::try_from(stanza.body.len()).map_err(|_| "a stanza is longer than 65535 bytes")?;
            bytes.extend_from_slice(&stanza.kind.to_be_bytes());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&stanza.body);
        }
        let mac = keys.mac(&[MAC_DOMAIN, label, &bytes]);
        bytes.extend_from_slice(&mac);
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        if bytes.len() > MAX_GENERATION_LEN {
            return Err(format!("the generation record would have {} bytes, {MAX_GENERATION_LEN} fit", bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads a generation record and checks it against the label before it; its MAC needs the data key
    /// ([`verify`](Self::verify)).
    ///
    /// # Errors
    /// The first check of the specification that fails.
    pub fn parse(block: &[u8], label: &VolumeLabel) -> Result<Self, Refusal> {
        let damaged = Refusal::DamagedGeneration;
        if !(MIN_GENERATION_LEN..=MAX_GENERATION_LEN).contains(&block.len()) || !block.starts_with(MAGIC) {
            return Err(damaged);
        }
        if block[4] != VERSION {
            return Err(Refusal::UnknownVersion);
        }
        let (body, crc) = block.split_at(block.len() - 4);
        if crc32c(body).to_be_bytes() != crc {
            return Err(damaged);
        }
        let body = &body[..body.len() - MAC_LEN];
        let suite = Suite(body[5]);
        if !suite.is_known() {
            return Err(Refusal::UnknownSuite);
        }
        if body[6] != label.partition {
            return Err(Refusal::WrongPartition);
        }
        if body[7] != kind_byte(label.kind) {
            return Err(Refusal::WrongKind);
        }
        let volume = Uuid::from_slice(&body[16..32]).map_err(|_| damaged)?;
        if volume != label.volume {
            return Err(Refusal::WrongVolume);
        }
        let u32_at = |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        let (generation, first_session_ordinal) = (u32_at(8), u32_at(12));
        let count = usize::from(u16::from_be_bytes([body[80], body[81]]));
        if body[82..84] != [0, 0] || count > MAX_STANZAS || generation == 0 || first_session_ordinal == 0 {
            return Err(damaged);
        }
        let mut commitment = [0; 32];
        commitment.copy_from_slice(&body[48..80]);
        Ok(Self {
            scope: GenerationScope { volume, partition: body[6], generation, suite },
            kind: label.kind,
            first_session_ordinal,
            key_id: Uuid::from_slice(&body[32..48]).map_err(|_| damaged)?,
            commitment,
            stanzas: parse_stanzas(&body[FIXED_LEN..], count).ok_or(damaged)?,
        })
    }

    /// Verifies, with the data key, that `block` is this record and belongs to the label block `label`.
    ///
    /// # Errors
    /// [`Refusal::WrongKey`] when the commitment is not the key's, [`Refusal::BadGenerationMac`] when label or record
    /// were changed.
    pub fn verify(&self, keys: &impl OpeningKeys, block: &[u8], label: &[u8; LABEL_LEN]) -> Result<(), Refusal> {
        if !keys.fits(&self.commitment) {
            return Err(Refusal::WrongKey);
        }
        let end = block.len().checked_sub(MAC_LEN + 4).ok_or(Refusal::DamagedGeneration)?;
        let (body, rest) = block.split_at(end);
        let mac = rest.first_chunk::<MAC_LEN>().ok_or(Refusal::DamagedGeneration)?;
        if keys.verify_mac(&[MAC_DOMAIN, label, body], mac) { Ok(()) } else { Err(Refusal::BadGenerationMac) }
    }
}

fn kind_byte(kind: VolumeKind) -> u8 {
    match kind {
        VolumeKind::Tape => 0,
        VolumeKind::Stream => 2,
    }
}

fn parse_stanzas(mut bytes: &[u8], count: usize) -> Option<Vec<Stanza>> {
    let mut stanzas = Vec::with_capacity(count);
    for _ in 0..count {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (body, rest) = rest.split_at_checked(length)?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let well_formed = match kind {
            Stanza::AES_KEY_WRAP => length == 56,
            Stanza::AES_256_GCM => length == 76,
            _ => true,
        };
        well_formed.then_some(())?;
        stanzas.push(Stanza { kind, body: body.to_vec() });
        bytes = rest;
    }
    bytes.is_empty().then_some(stanzas)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_of(byte: u8, scope: GenerationScope) -> GenerationKeys {
        GenerationKeys::new(sealtape_kms::secret::DataKey::copy_from(&[byte; 32]).unwrap(), scope)
    }

    fn sample() -> (VolumeLabel, GenerationRecord, GenerationKeys) {
        let volume = Uuid::from_u128(7);
        let label =
            VolumeLabel { volume, kind: VolumeKind::Tape, partition: 0, partitions: 1, label: None, barcode: None };
        let scope = GenerationScope { volume, partition: 0, generation: 3, suite: Suite::AES_256_GCM_SIV };
        let keys = keys_of(9, scope);
        let record = GenerationRecord {
            scope,
            kind: VolumeKind::Tape,
            first_session_ordinal: 1,
            key_id: Uuid::from_u128(8),
            commitment: keys.commitment(),
            stanzas: vec![Stanza { kind: 1, body: vec![1; 56] }, Stanza { kind: 77, body: vec![] }],
        };
        (label, record, keys)
    }

    #[test]
    fn a_record_comes_back_and_verifies() {
        let (label, record, keys) = sample();
        let label_block = label.encode().unwrap();
        let block = record.encode(&keys, &label_block).unwrap();
        assert_eq!(GenerationRecord::parse(&block, &label), Ok(record.clone()));
        record.verify(&keys, &block, &label_block).unwrap();
        let other = keys_of(10, record.scope);
        assert_eq!(record.verify(&other, &block, &label_block), Err(Refusal::WrongKey));
        let renamed = VolumeLabel { label: Some("x".into()), ..label }.encode().unwrap();
        assert_eq!(record.verify(&keys, &block, &renamed), Err(Refusal::BadGenerationMac));
    }

    #[test]
    fn every_changed_byte_is_noticed_even_with_its_crc_made_right() {
        let (label, record, keys) = sample();
        let label_block = label.encode().unwrap();
        let block = record.encode(&keys, &label_block).unwrap();
        for at in 0..block.len() - 4 {
            let mut changed = block.clone();
            changed[at] ^= 1;
            assert!(GenerationRecord::parse(&changed, &label).is_err(), "CRC at {at}");
            let end = changed.len() - 4;
            let crc = crc32c::crc32c(&changed[..end]).to_be_bytes();
            changed[end..].copy_from_slice(&crc);
            let accepted = GenerationRecord::parse(&changed, &label).and_then(|record| {
                let keys = keys_of(9, record.scope);
                record.verify(&keys, &changed, &label_block)
            });
            assert!(accepted.is_err(), "MAC at {at}");
        }
    }
}
