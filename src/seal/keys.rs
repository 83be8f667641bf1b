//! Key schedule: HKDF-SHA-256 (RFC 5869) from the data key of a generation.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sealtape_kms::secret::DataKey;
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::suite::{RecordCipher, Suite};

/// 128 random bits that name a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a data key belongs to; part of every derivation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GenerationScope {
    /// The volume.
    pub volume: Uuid,
    /// The partition, from 0.
    pub partition: u8,
    /// The generation in that partition, from 1.
    pub generation: u32,
    /// The suite of every record in it.
    pub suite: Suite,
}

/// The keys of one generation: gives record ciphers per session, the commitment and the MAC.
///
/// Subkeys are derived when they are needed and wiped after; the data key stays in its own locked page.
pub struct GenerationKeys {
    data_key: DataKey,
    scope: GenerationScope,
}

impl fmt::Debug for GenerationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenerationKeys").field("scope", &self.scope).finish_non_exhaustive()
    }
}

const NO_SESSION: SessionId = SessionId([0; 16]);

impl GenerationKeys {
    /// Takes over the data key for `scope`.
    pub fn new(data_key: DataKey, scope: GenerationScope) -> Self {
        Self { data_key, scope }
    }

    /// What the keys belong to.
    pub fn scope(&self) -> &GenerationScope {
        &self.scope
    }

    /// The 32-byte commitment to the data key that stands in the generation record.
    pub fn commitment(&self) -> [u8; 32] {
        *self.derive(b"commit", NO_SESSION)
    }

    /// Whether this data key is the one that `commitment` was made from.
    pub fn fits(&self, commitment: &[u8; 32]) -> bool {
        self.commitment().ct_eq(commitment).into()
    }

    /// HMAC-SHA-256 over `parts`, under the MAC subkey.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.hmac(parts).finalize().into_bytes().into()
    }

    /// Verifies a MAC in constant time.
    pub fn verify_mac(&self, parts: &[&[u8]], mac: &[u8; 32]) -> bool {
        self.hmac(parts).verify_slice(mac).is_ok()
    }

    /// The cipher for the records of a session; `None` when the scope's suite is unknown.
    pub fn record_cipher(&self, session: SessionId) -> Option<Arc<dyn RecordCipher>> {
        self.scope.suite.cipher(&self.derive(b"record", session))
    }

    fn hmac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let key = self.derive(b"mac", NO_SESSION);
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key[..])
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        parts.iter().for_each(|part| mac.update(part));
        mac
    }

    fn derive(&self, purpose: &[u8], session: SessionId) -> Zeroizing<[u8; 32]> {
        let mut info = [0_u8; 56];
        info[..purpose.len()].copy_from_slice(purpose);
        info[16] = super::envelope::VERSION;
        info[17] = self.scope.suite.0;
        info[18] = self.scope.partition;
        info[20..24].copy_from_slice(&self.scope.generation.to_be_bytes());
        info[24..40].copy_from_slice(self.scope.volume.as_bytes());
        info[40..56].copy_from_slice(&session.0);
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, self.data_key.expose())
            .expand(&info, &mut *key)
            .unwrap_or_else(|_| unreachable!("32 bytes are a legal output length of HKDF-SHA-256"));
        key
    }
}
