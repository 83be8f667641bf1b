//! Key schedule: HKDF-SHA-256 (RFC 5869) from the data key of a generation.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sealtape_kms::secret::DataKey;
use sha2::Sha256;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::end::{Cell, EndingCipher, KeyEnd, scrub_stack};
use super::suite::{RecordCipher, RecordOpener, Suite};

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

/// The right to seal and to open.
#[derive(Debug)]
pub enum Seals {}
/// The right to open alone.
#[derive(Debug)]
pub enum Opens {}

/// The keys of one generation, with the right `R` to use them: [`Seals`] gives record ciphers per session, the commitment and the
/// MAC, [`Opens`] only what verifies and decrypts.
///
/// Subkeys are derived when they are needed and wiped after; the data key stays in its own locked page. All of it goes when the
/// key is ended ([`KeyEnd`]).
pub struct GenerationKeys<R = Seals> {
    data_key: Arc<Cell<DataKey>>,
    scope: GenerationScope,
    end: KeyEnd,
    rights: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for GenerationKeys<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenerationKeys").field("scope", &self.scope).finish_non_exhaustive()
    }
}

const NO_SESSION: SessionId = SessionId([0; 16]);

/// What every released key permits: to verify and to open.
pub trait OpeningKeys {
    /// What the keys belong to.
    fn scope(&self) -> &GenerationScope;

    /// Whether this data key is the one that `commitment` was made from.
    fn fits(&self, commitment: &[u8; 32]) -> bool;

    /// Verifies a MAC in constant time.
    fn verify_mac(&self, parts: &[&[u8]], mac: &[u8; 32]) -> bool;

    /// What opens the records of a session; `None` when the scope's suite is unknown, or the key has ended.
    fn record_opener(&self, session: SessionId) -> Option<Arc<dyn RecordOpener>>;

    /// The switch that ends these keys.
    fn end_switch(&self) -> &KeyEnd;
}

impl<R> OpeningKeys for GenerationKeys<R> {
    fn scope(&self) -> &GenerationScope {
        &self.scope
    }

    fn fits(&self, commitment: &[u8; 32]) -> bool {
        let fits = self.derive(b"commit", NO_SESSION).ct_eq(commitment).into();
        scrub_stack();
        fits
    }

    fn verify_mac(&self, parts: &[&[u8]], mac: &[u8; 32]) -> bool {
        let verifies = self.hmac(parts).verify_slice(mac).is_ok();
        scrub_stack();
        verifies
    }

    fn record_opener(&self, session: SessionId) -> Option<Arc<dyn RecordOpener>> {
        self.cipher(session).map(|cipher| cipher as Arc<dyn RecordOpener>)
    }

    fn end_switch(&self) -> &KeyEnd {
        &self.end
    }
}

impl GenerationKeys<Seals> {
    /// Takes over the data key for `scope`, with the right to seal.
    pub fn new(data_key: DataKey, scope: GenerationScope) -> Self {
        Self::take(data_key, scope)
    }

    /// The 32-byte commitment to the data key that stands in the generation record.
    pub fn commitment(&self) -> [u8; 32] {
        let commitment = *self.derive(b"commit", NO_SESSION);
        scrub_stack();
        commitment
    }

    /// HMAC-SHA-256 over `parts`, under the MAC subkey.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mac = self.hmac(parts).finalize().into_bytes().into();
        scrub_stack();
        mac
    }

    /// The cipher for the records of a session; `None` when the scope's suite is unknown, or the key has ended.
    pub fn record_cipher(&self, session: SessionId) -> Option<Arc<dyn RecordCipher>> {
        self.cipher(session).map(|cipher| cipher as Arc<dyn RecordCipher>)
    }
}

impl GenerationKeys<Opens> {
    /// Takes over the data key for `scope`, with the right to open alone.
    pub fn opening(data_key: DataKey, scope: GenerationScope) -> Self {
        Self::take(data_key, scope)
    }
}

impl<R> GenerationKeys<R> {
    fn take(data_key: DataKey, scope: GenerationScope) -> Self {
        let end = KeyEnd::default();
        Self { data_key: end.cell(data_key), scope, end, rights: PhantomData }
    }

    /// What the keys belong to.
    pub fn scope(&self) -> &GenerationScope {
        &self.scope
    }

    /// Whether this data key is the one that `commitment` was made from.
    pub fn fits(&self, commitment: &[u8; 32]) -> bool {
        OpeningKeys::fits(self, commitment)
    }

    /// Verifies a MAC in constant time.
    pub fn verify_mac(&self, parts: &[&[u8]], mac: &[u8; 32]) -> bool {
        OpeningKeys::verify_mac(self, parts, mac)
    }

    fn cipher(&self, session: SessionId) -> Option<Arc<EndingCipher>> {
        let cipher = self.make_cipher(session);
        scrub_stack();
        cipher
    }

    #[inline(never)]
    fn make_cipher(&self, session: SessionId) -> Option<Arc<EndingCipher>> {
        if self.end.ended().is_some() {
            return None;
        }
        let cipher = self.scope.suite.cipher(&self.derive(b"record", session))?;
        Some(Arc::new(EndingCipher(self.end.cell(cipher))))
    }

    fn hmac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let key = self.derive(b"mac", NO_SESSION);
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key[..])
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        parts.iter().for_each(|part| mac.update(part));
        mac
    }

    /// A subkey. Of a key that has ended it is random: nothing fits it, and nothing that was made with it verifies.
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
        let data_key = self.data_key.get();
        let Some(data_key) = data_key.as_ref() else {
            getrandom::fill(&mut *key).unwrap_or_else(|error| panic!("the system gives no random numbers: {error}"));
            return key;
        };
        Hkdf::<Sha256>::new(None, data_key.expose())
            .expand(&info, &mut *key)
            .unwrap_or_else(|_| unreachable!("32 bytes are a legal output length of HKDF-SHA-256"));
        key
    }
}

/// Released keys, by the right they were released with.
#[derive(Debug)]
pub enum ReleasedKeys {
    /// They seal and open.
    Seals(GenerationKeys<Seals>),
    /// They open.
    Opens(GenerationKeys<Opens>),
}

impl ReleasedKeys {
    /// The keys to seal with, if they were released for that and the right has not ended since.
    pub fn sealing(&self) -> Option<&GenerationKeys<Seals>> {
        match self {
            Self::Seals(keys) if keys.end.sealing_ended().is_none() => Some(keys),
            Self::Seals(_) | Self::Opens(_) => None,
        }
    }

    fn opening(&self) -> &dyn OpeningKeys {
        match self {
            Self::Seals(keys) => keys,
            Self::Opens(keys) => keys,
        }
    }
}

impl OpeningKeys for ReleasedKeys {
    fn scope(&self) -> &GenerationScope {
        self.opening().scope()
    }

    fn fits(&self, commitment: &[u8; 32]) -> bool {
        self.opening().fits(commitment)
    }

    fn verify_mac(&self, parts: &[&[u8]], mac: &[u8; 32]) -> bool {
        self.opening().verify_mac(parts, mac)
    }

    fn record_opener(&self, session: SessionId) -> Option<Arc<dyn RecordOpener>> {
        self.opening().record_opener(session)
    }

    fn end_switch(&self) -> &KeyEnd {
        self.opening().end_switch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> GenerationKeys {
        let scope = GenerationScope { volume: Uuid::nil(), partition: 0, generation: 1, suite: Suite::AES_256_GCM_SIV };
        GenerationKeys::new(DataKey::copy_from(&[7; 32]).unwrap(), scope)
    }

    #[test]
    fn an_ended_key_seals_opens_and_fits_nothing() {
        let keys = keys();
        let (session, end) = (SessionId([1; 16]), keys.end_switch().clone());
        let (commitment, mac) = (keys.commitment(), keys.mac(&[b"text"]));
        let cipher = keys.record_cipher(session).unwrap();
        let opener = keys.record_opener(session).unwrap();
        let mut text = *b"text";
        let tag = cipher.seal_in_place(0, b"", &mut text).unwrap();
        let sealed = text;
        opener.open_in_place(0, b"", &mut text, &tag).unwrap();
        assert!(keys.fits(&commitment) && keys.verify_mac(&[b"text"], &mac) && !cipher.is_ended());
        let weak = end.downgrade();
        weak.upgrade().unwrap().end("compromised");
        weak.upgrade().unwrap().end("again");
        assert_eq!(end.ended(), Some("compromised"));
        assert!(keys.data_key.get().is_none() && cipher.is_ended());
        assert!(cipher.seal_in_place(1, b"", &mut text).is_err());
        assert!(opener.open_in_place(0, b"", &mut sealed.clone(), &tag).is_err());
        assert!(keys.record_cipher(session).is_none() && keys.record_opener(session).is_none());
        assert!(!keys.fits(&commitment) && !keys.verify_mac(&[b"text"], &mac));
        assert_ne!(keys.commitment(), keys.commitment());
        drop((keys, end));
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn the_right_to_seal_ends_alone() {
        let keys = ReleasedKeys::Seals(keys());
        assert!(keys.sealing().is_some());
        keys.end_switch().end_sealing("its period is over");
        assert!(keys.sealing().is_none() && keys.record_opener(SessionId([1; 16])).is_some());
        assert_eq!(keys.end_switch().ended(), None);
    }
}
