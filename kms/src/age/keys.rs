//! Recipients and identities, and how each wraps a file key.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::checksum::Checksum;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit};
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::format::{Stanza, decode64, encode64};
use super::{AgeError, FILE_KEY, derive, random};
use crate::hex::Hex;
use crate::secret::DataKey;

const HYBRID_STANZA: &str = "mlkem768x25519";
const HYBRID_INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
const HYBRID_PUBLIC: usize = 1216;
const HYBRID_ENCAPSULATED: usize = 1120;
const X25519_STANZA: &str = "X25519";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
/// A wrapped file key: checked before it is opened, so that no ciphertext fits two keys.
const WRAPPED: usize = FILE_KEY + 16;

/// Which kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MLKEM768-X25519: `age1pq1…`.
    Hybrid,
    /// X25519: `age1…`.
    X25519,
}

impl Kind {
    fn recipient_prefix(self) -> Hrp {
        match self {
            Self::Hybrid => Hrp::parse_unchecked("age1pq"),
            Self::X25519 => Hrp::parse_unchecked("age"),
        }
    }

    fn identity_prefix(self) -> Hrp {
        match self {
            Self::Hybrid => Hrp::parse_unchecked("age-secret-key-pq-"),
            Self::X25519 => Hrp::parse_unchecked("age-secret-key-"),
        }
    }
}

/// Bech32 without its limit of length, as age uses it.
#[derive(Clone, Copy)]
enum Bech32Long {}

impl Checksum for Bech32Long {
    type MidstateRepr = <Bech32 as Checksum>::MidstateRepr;
    type CorrectionField = <Bech32 as Checksum>::CorrectionField;
    const ROOT_GENERATOR: Self::CorrectionField = <Bech32 as Checksum>::ROOT_GENERATOR;
    const ROOT_EXPONENTS: std::ops::RangeInclusive<usize> = <Bech32 as Checksum>::ROOT_EXPONENTS;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = <Bech32 as Checksum>::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = <Bech32 as Checksum>::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = <Bech32 as Checksum>::TARGET_RESIDUE;
}

/// The kind by its prefix, and the bytes into `to`, which they have to fill.
fn decode(
    text: &str,
    prefix: impl Fn(Kind) -> Hrp,
    mut to: impl FnMut(Kind, usize, u8) -> bool,
) -> Option<(Kind, usize)> {
    let parsed = CheckedHrpstring::new::<Bech32Long>(text).ok()?;
    let kind = [Kind::Hybrid, Kind::X25519].into_iter().find(|k| prefix(*k) == parsed.hrp())?;
    let mut length = 0;
    for byte in parsed.byte_iter() {
        if !to(kind, length, byte) {
            return None;
        }
        length += 1;
    }
    Some((kind, length))
}

/// Whom a file is encrypted to.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    kind: Kind,
    public: Vec<u8>,
}

impl Recipient {
    /// Whether it withstands a quantum computer.
    #[must_use]
    pub fn post_quantum(&self) -> bool {
        self.kind == Kind::Hybrid
    }

    /// SHA-256 of its text: `printf %s age1… | sha256sum` gives the same.
    #[must_use]
    pub fn fingerprint(&self) -> Hex<32> {
        Hex(Sha256::digest(self.to_string()).into())
    }

    pub(super) fn wrap(&self, file_key: &[u8; FILE_KEY]) -> Result<Stanza, AgeError> {
        let fault = |_| AgeError::Key("recipient: encapsulating fails");
        match self.kind {
            Kind::Hybrid => {
                let public = <XWing as Kem>::PublicKey::from_bytes(&self.public).map_err(fault)?;
                let (encapsulated, body) = hpke::single_shot_seal::<
                    hpke::aead::ChaCha20Poly1305,
                    hpke::kdf::HkdfSha256,
                    XWing,
                >(&OpModeS::Base, &public, HYBRID_INFO, file_key, b"")
                .map_err(fault)?;
                Ok(Stanza { arguments: vec![HYBRID_STANZA.into(), encode64(&encapsulated.to_bytes())], body })
            }
            Kind::X25519 => {
                let public: [u8; 32] =
                    self.public.as_slice().try_into().map_err(|_| AgeError::Key("recipient: a wrong length"))?;
                let ephemeral = StaticSecret::from(*random::<32>()?);
                let share = PublicKey::from(&ephemeral);
                let shared = ephemeral.diffie_hellman(&PublicKey::from(public));
                if !shared.was_contributory() {
                    return Err(AgeError::Key("recipient: a point of low order"));
                }
                let salt = [share.as_bytes().as_slice(), &public].concat();
                let key = derive(shared.as_bytes(), &salt, X25519_INFO)?;
                let cipher = ChaCha20Poly1305::new(key.as_slice().try_into().map_err(|_| AgeError::Key("recipient"))?);
                let body = cipher
                    .encrypt(&Default::default(), file_key.as_slice())
                    .map_err(|_| AgeError::Key("recipient: sealing fails"))?;
                Ok(Stanza { arguments: vec![X25519_STANZA.into(), encode64(share.as_bytes())], body })
            }
        }
    }
}

impl FromStr for Recipient {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let mut public = Vec::new();
        let wrong = AgeError::Key("recipient: it begins with age1pq1 or age1, and its checksum has to be right");
        let (kind, length) = decode(text, Kind::recipient_prefix, |_, at, byte| {
            public.push(byte);
            at < HYBRID_PUBLIC
        })
        .ok_or(wrong.clone())?;
        let wanted = match kind {
            Kind::Hybrid => HYBRID_PUBLIC,
            Kind::X25519 => 32,
        };
        let recipient = Self { kind, public };
        // One text for one recipient: spare bits are zero, and the case is the lower one.
        if length != wanted || recipient.to_string() != text {
            return Err(wrong);
        }
        if kind == Kind::Hybrid {
            <XWing as Kem>::PublicKey::from_bytes(&recipient.public).map_err(|_| wrong)?;
        }
        Ok(recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<Bech32Long, _>(f, self.kind.recipient_prefix(), &self.public)
            .map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({:?}, {})", self.kind, self.fingerprint())
    }
}

/// What opens files: 32 secret bytes.
#[derive(Debug)]
pub struct Identity {
    kind: Kind,
    seed: DataKey,
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// [`AgeError::System`]
    pub fn generate(kind: Kind) -> Result<Self, AgeError> {
        let seed = DataKey::fill_with(|to| getrandom::fill(to).map_err(|e| std::io::Error::other(e.to_string())))?;
        Ok(Self { kind, seed })
    }

    /// From its 32 bytes.
    #[must_use]
    pub fn from_seed(kind: Kind, seed: DataKey) -> Self {
        Self { kind, seed }
    }

    /// The first identity of a file as `age-keygen` writes it: lines, of which those with `#` and empty ones mean nothing.
    ///
    /// # Errors
    /// [`AgeError::Key`]
    pub fn parse(file: &[u8]) -> Result<Self, AgeError> {
        let wrong = || AgeError::Key("identity: a line AGE-SECRET-KEY-PQ-1… or AGE-SECRET-KEY-1… is needed");
        let line = file.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).find(|l| !l.is_empty() && !l.starts_with(b"#"));
        let text = line.and_then(|l| std::str::from_utf8(l).ok()).ok_or_else(wrong)?;
        let mut found = None;
        let seed = DataKey::fill_with(|seed| {
            let filled = decode(text, Kind::identity_prefix, |_, at, byte| match seed.get_mut(at) {
                Some(to) => {
                    *to = byte;
                    true
                }
                None => false,
            });
            found = filled.filter(|(_, length)| *length == seed.len()).map(|(kind, _)| kind);
            Ok::<(), std::io::Error>(())
        })?;
        Ok(Self { kind: found.ok_or_else(wrong)?, seed })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its 32 bytes, for the moment of their use.
    #[must_use]
    pub fn seed(&self) -> &DataKey {
        &self.seed
    }

    /// Takes its 32 bytes out.
    #[must_use]
    pub fn into_seed(self) -> DataKey {
        self.seed
    }

    /// Its text, as stock age reads it.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(128));
        // Writing into a string cannot fail.
        let _ =
            bech32::encode_upper_to_fmt::<Bech32Long, _>(&mut *text, self.kind.identity_prefix(), self.seed.expose());
        text
    }

    /// Its public half.
    ///
    /// # Errors
    /// [`AgeError::Key`]
    pub fn recipient(&self) -> Result<Recipient, AgeError> {
        let public = match self.kind {
            Kind::Hybrid => XWing::sk_to_pk(&self.hybrid()?).to_bytes().to_vec(),
            Kind::X25519 => PublicKey::from(&self.x25519()).as_bytes().to_vec(),
        };
        Ok(Recipient { kind: self.kind, public })
    }

    fn hybrid(&self) -> Result<<XWing as Kem>::PrivateKey, AgeError> {
        <XWing as Kem>::PrivateKey::from_bytes(self.seed.expose()).map_err(|_| AgeError::Key("identity"))
    }

    fn x25519(&self) -> StaticSecret {
        StaticSecret::from(*self.seed.expose())
    }

    /// The file key, if the stanza is for this identity.
    pub(super) fn unwrap(&self, stanza: &Stanza) -> Result<Option<Zeroizing<[u8; FILE_KEY]>>, AgeError> {
        let (name, length) = match self.kind {
            Kind::Hybrid => (HYBRID_STANZA, HYBRID_ENCAPSULATED),
            Kind::X25519 => (X25519_STANZA, 32),
        };
        if stanza.arguments.first().map(String::as_str) != Some(name) {
            return Ok(None);
        }
        let malformed = || AgeError::Form("a stanza does not have the form of its type");
        let [_, share] = stanza.arguments.as_slice() else { return Err(malformed()) };
        let share = decode64(share).filter(|s| s.len() == length).ok_or_else(malformed)?;
        if stanza.body.len() != WRAPPED {
            return Err(malformed());
        }
        let opened = match self.kind {
            Kind::Hybrid => {
                let share = <XWing as Kem>::EncappedKey::from_bytes(&share).map_err(|_| malformed())?;
                hpke::single_shot_open::<hpke::aead::ChaCha20Poly1305, hpke::kdf::HkdfSha256, XWing>(
                    &OpModeR::Base,
                    &self.hybrid()?,
                    &share,
                    HYBRID_INFO,
                    &stanza.body,
                    b"",
                )
                .ok()
            }
            Kind::X25519 => {
                let share: [u8; 32] = share.as_slice().try_into().map_err(|_| malformed())?;
                let secret = self.x25519();
                let shared = secret.diffie_hellman(&PublicKey::from(share));
                if !shared.was_contributory() {
                    return Err(malformed());
                }
                let salt = [share.as_slice(), PublicKey::from(&secret).as_bytes()].concat();
                let key = derive(shared.as_bytes(), &salt, X25519_INFO)?;
                let cipher = ChaCha20Poly1305::new(key.as_slice().try_into().map_err(|_| malformed())?);
                cipher.decrypt(&Default::default(), stanza.body.as_slice()).ok()
            }
        };
        let Some(opened) = opened.map(Zeroizing::new) else { return Ok(None) };
        let mut file_key = Zeroizing::new([0; FILE_KEY]);
        if opened.len() != FILE_KEY {
            return Err(malformed());
        }
        file_key.copy_from_slice(&opened);
        Ok(Some(file_key))
    }
}
