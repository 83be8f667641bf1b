//! A data key wrapped to a recovery key: recovery key id (16), then an age file whose plaintext names the key's place, so that a
//! stanza moved to another place is noticed.

use uuid::Uuid;
use zeroize::Zeroizing;

use super::key_id;
use crate::age::{self, AgeError, Identity, Recipient};
use crate::protocol::GenerationRef;
use crate::secret::{DATA_KEY_LEN, DataKey};

/// Type of the stanza in a generation record.
pub const KIND: u16 = 3;
const DOMAIN: &[u8] = b"sealtape recovery 1";
const PLAIN: usize = 19 + 16 + 1 + 4 + 16 + DATA_KEY_LEN;

/// Why a recovery stanza gives no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StanzaError {
    /// Not one.
    #[error("the recovery stanza is malformed: {0}")]
    Form(&'static str),
    /// It is for another recovery key.
    #[error("the recovery stanza is for the recovery key {wanted}, the shares are of {has}; bring those of {wanted}")]
    OtherKey {
        /// What it is for.
        wanted: Uuid,
        /// What was brought.
        has: Uuid,
    },
    /// It belongs elsewhere.
    #[error("the recovery stanza belongs to generation {} of partition {} of volume {}: it was moved", .0.generation, .0.partition, .0.volume)]
    Moved(Box<GenerationRef>),
    /// The age file.
    #[error("the recovery stanza does not open: {0}")]
    Age(#[from] AgeError),
}

fn place(at: GenerationRef) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    bytes.extend_from_slice(at.volume.as_bytes());
    bytes.push(at.partition);
    bytes.extend_from_slice(&at.generation.to_be_bytes());
    bytes.extend_from_slice(at.key_id.as_bytes());
    bytes
}

/// Wraps `key` to `recipient`: the stanza's body.
///
/// # Errors
/// [`AgeError`]
pub fn wrap(recipient: &Recipient, at: GenerationRef, key: &DataKey) -> Result<Vec<u8>, AgeError> {
    let mut plain = Zeroizing::new(Vec::with_capacity(PLAIN));
    plain.extend_from_slice(&place(at));
    plain.extend_from_slice(key.expose());
    let mut body = key_id(recipient).as_bytes().to_vec();
    body.extend_from_slice(&age::seal(recipient, &plain)?);
    Ok(body)
}

/// The recovery key that a stanza is for.
///
/// # Errors
/// [`StanzaError::Form`]
pub fn recovery_key(body: &[u8]) -> Result<Uuid, StanzaError> {
    let (id, _) = body.split_first_chunk::<16>().ok_or(StanzaError::Form("it is too short"))?;
    Ok(Uuid::from_bytes(*id))
}

/// Opens a stanza's body for the key of `at`.
///
/// # Errors
/// [`StanzaError`]
pub fn unwrap(identity: &Identity, body: &[u8], at: GenerationRef) -> Result<DataKey, StanzaError> {
    let (id, file) = body.split_first_chunk::<16>().ok_or(StanzaError::Form("it is too short"))?;
    let (wanted, has) = (Uuid::from_bytes(*id), key_id(&identity.recipient()?));
    if wanted != has {
        return Err(StanzaError::OtherKey { wanted, has });
    }
    let plain = age::open(file, identity)?;
    let (named, key) = plain.split_last_chunk::<DATA_KEY_LEN>().ok_or(StanzaError::Form("its content is too short"))?;
    if named != place(at) {
        let parse = || {
            let rest = named.strip_prefix(DOMAIN)?;
            let (volume, rest) = rest.split_first_chunk::<16>()?;
            let (partition, rest) = rest.split_first()?;
            let (generation, rest) = rest.split_first_chunk::<4>()?;
            let key_id = Uuid::from_slice(rest).ok()?;
            let generation = u32::from_be_bytes(*generation);
            Some(GenerationRef { volume: Uuid::from_bytes(*volume), partition: *partition, generation, key_id })
        };
        return Err(
            parse().map_or(StanzaError::Form("its content is no data key"), |at| StanzaError::Moved(Box::new(at)))
        );
    }
    Ok(DataKey::copy_from(key).map_err(AgeError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::age::Kind;

    #[test]
    fn a_stanza_opens_in_its_place_only() {
        let identity = Identity::generate(Kind::Hybrid).unwrap();
        let key = DataKey::copy_from(&[7; 32]).unwrap();
        let at = GenerationRef { volume: Uuid::from_u128(1), partition: 1, generation: 2, key_id: Uuid::from_u128(3) };
        let body = wrap(&identity.recipient().unwrap(), at, &key).unwrap();
        assert!(body.len() < 2048, "{}", body.len());
        assert!(unwrap(&identity, &body, at).unwrap().ct_eq(&key));
        for other in [
            GenerationRef { volume: Uuid::from_u128(2), ..at },
            GenerationRef { partition: 0, ..at },
            GenerationRef { generation: 3, ..at },
            GenerationRef { key_id: Uuid::from_u128(4), ..at },
        ] {
            assert_eq!(unwrap(&identity, &body, other).map(drop), Err(StanzaError::Moved(Box::new(at))));
        }
        let other = Identity::generate(Kind::Hybrid).unwrap();
        assert!(matches!(unwrap(&other, &body, at), Err(StanzaError::OtherKey { .. })));
        let mut renamed = body.clone();
        renamed[..16].copy_from_slice(key_id(&other.recipient().unwrap()).as_bytes());
        assert_eq!(unwrap(&other, &renamed, at).map(drop), Err(StanzaError::Age(AgeError::NotForUs)));
        for cut in [0, 15, 16, 100, body.len() - 1] {
            assert!(unwrap(&identity, &body[..cut], at).is_err());
        }
    }
}
