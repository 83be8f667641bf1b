//! Between the key authority and its PKCS#11 worker, over one socket pair: calls with numbers, answers in any order.
//!
//! A message is: length of the body (u32, big-endian), the body (JSON without secrets), and always a secret area of 256 bytes, of
//! which the first two (big-endian) say how many of the others are used. The area goes between a locked page and the socket.
//!
//! A call names a token (a number that the parent gives it) and one of its lanes (sessions). The parent has one call under way in a
//! lane at most, so nothing waits in the worker.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::TokenError;
use super::profile::TokenReport;
use crate::hex::HexBytes;
use crate::secret::{DataKey, Pin};
use crate::sys::SecretPage;

/// Largest body.
const MAX_BODY: usize = 256 * 1024;
/// Size of the secret area.
const AREA: usize = 256;

/// How a KEK wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrapMechanism {
    /// `CKM_AES_KEY_WRAP` (RFC 3394): 40 bytes; `CKA_WRAP` and `CKA_UNWRAP`.
    AesKeyWrap,
    /// `CKM_AES_GCM` with AAD: nonce (12), ciphertext (32), tag (16); `CKA_ENCRYPT` and `CKA_DECRYPT`.
    AesGcm,
}

impl WrapMechanism {
    /// Length of a wrapped data key.
    #[must_use]
    pub fn blob_len(self) -> usize {
        match self {
            Self::AesKeyWrap => 40,
            Self::AesGcm => 60,
        }
    }

    /// Type of the stanza that carries such a blob on the medium.
    #[must_use]
    pub fn stanza_kind(self) -> u16 {
        match self {
            Self::AesKeyWrap => 1,
            Self::AesGcm => 2,
        }
    }
}

/// How a signing key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignAlgorithm {
    /// `CKM_EDDSA` over Ed25519.
    Ed25519,
    /// `CKM_ECDSA` over P-256, of a SHA-256 made on the host; the signature is r and s, 32 bytes each.
    EcdsaP256,
}

/// A KEK by id and mechanism, with the AAD for the blob in question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrapWith {
    /// `CKA_ID`.
    pub kek: Uuid,
    /// From its enrolment record.
    pub mechanism: WrapMechanism,
    /// Bound where the mechanism can.
    pub aad: HexBytes,
}

/// A KEK with a key that it is known to have wrapped: whether that opens tells a fault of the token from one of another copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// How the canary is opened.
    pub with: WrapWith,
    /// The wrapped canary.
    pub blob: HexBytes,
}

/// A wrapped data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedItem {
    /// Bound where the mechanism can.
    pub aad: HexBytes,
    /// The wrapped key.
    pub blob: HexBytes,
}

/// What became of one wrapped key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum Rewrapped {
    /// Wrapped by the other KEK, and verified.
    To(HexBytes),
    /// It opens.
    Opens,
    /// It does not open, although its KEK works: what the token said.
    Damaged(String),
}

/// Which template a token wants when it unwraps a data key. All of them ask for a session object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnwrapTemplate {
    /// `CKA_SENSITIVE` false and `CKA_EXTRACTABLE` true, no length.
    #[default]
    Plain,
    /// The same with `CKA_VALUE_LEN`.
    WithLength,
    /// `CKA_EXTRACTABLE` alone: a token that refuses to be told that a key is not sensitive.
    Extractable,
    /// `CKA_EXTRACTABLE` and `CKA_VALUE_LEN`.
    ExtractableWithLength,
}

impl UnwrapTemplate {
    /// All of them, the usual one first.
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::WithLength, Self::Extractable, Self::ExtractableWithLength];
}

/// A request for one lane of one token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call<R> {
    pub(crate) id: u64,
    pub(crate) token: u32,
    pub(crate) lane: u16,
    pub(crate) request: R,
}

/// The answer to the call of this id; with id 0 something that nobody asked for: a PIN was rejected while logging in again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) token: u32,
    pub(crate) reply: Reply,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Load the module and initialise it; the first request.
    Load {
        module: PathBuf,
        /// `pReserved` of `C_Initialize`.
        parameters: Option<String>,
    },
    /// Find the token and log in (PIN in the secret area).
    Attach {
        uri: String,
        lanes: u16,
        template: Option<UnwrapTemplate>,
        /// Whether a login before this one did not end: then the token's own flags decide whether its PIN was rejected.
        unresolved: bool,
    },
    /// Initialise a free slot's token (SO PIN in the secret area).
    InitToken {
        label: String,
    },
    /// Then its user PIN (in the secret area).
    InitPin,
    MakeKek {
        id: Uuid,
        label: String,
        mechanism: WrapMechanism,
    },
    CheckKek {
        id: Uuid,
        mechanism: WrapMechanism,
    },
    MakeDataKey {
        wraps: Vec<WrapWith>,
    },
    Unwrap {
        with: WrapWith,
        blob: HexBytes,
    },
    /// Wrap the data key in the secret area.
    Wrap {
        wraps: Vec<WrapWith>,
    },
    Rewrap {
        from: WrapWith,
        blob: HexBytes,
        to: WrapWith,
    },
    MakeSigningKey {
        id: Uuid,
        label: String,
        algorithm: SignAlgorithm,
    },
    Sign {
        id: Uuid,
        algorithm: SignAlgorithm,
        data: HexBytes,
    },
    Mechanisms,
    /// Rewraps many.
    RewrapAll {
        from: Canary,
        to: Canary,
        items: Vec<WrappedItem>,
    },
    /// Whether wrapped keys open.
    RewrapCheck {
        kek: Canary,
        items: Vec<WrappedItem>,
    },
    /// Destroys a KEK.
    DestroyKek {
        id: Uuid,
    },
    /// The table of enrolment.
    Probe,
}

impl Request {
    /// Name for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Load { .. } => "loading the module",
            Self::Attach { .. } => "opening the token",
            Self::InitToken { .. } => "initialising the token",
            Self::InitPin => "setting the user PIN",
            Self::MakeKek { .. } => "making a key-encryption key",
            Self::CheckKek { .. } => "checking a key-encryption key",
            Self::MakeDataKey { .. } => "making a data key",
            Self::Unwrap { .. } => "unwrapping a data key",
            Self::Wrap { .. } => "wrapping a data key",
            Self::Rewrap { .. } => "rewrapping a data key",
            Self::MakeSigningKey { .. } => "making a signing key",
            Self::Sign { .. } => "signing",
            Self::Mechanisms => "listing mechanisms",
            Self::RewrapAll { .. } => "rewrapping data keys",
            Self::RewrapCheck { .. } => "checking wrapped keys",
            Self::DestroyKek { .. } => "destroying a key-encryption key",
            Self::Probe => "testing the token",
        }
    }

    /// Whether doing it twice does no harm.
    pub(crate) fn repeatable(&self) -> bool {
        match self {
            Self::MakeDataKey { .. } | Self::Unwrap { .. } | Self::Sign { .. } => true,
            Self::Wrap { .. } | Self::Rewrap { .. } => true,
            Self::RewrapAll { .. } | Self::RewrapCheck { .. } => true,
            // What a destroyed key is destroyed to again: nothing.
            Self::DestroyKek { .. } => true,
            Self::CheckKek { .. } | Self::Mechanisms | Self::Probe => true,
            Self::Load { .. } | Self::Attach { .. } | Self::InitToken { .. } | Self::InitPin => false,
            Self::MakeKek { .. } | Self::MakeSigningKey { .. } => false,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub(crate) enum Reply {
    Done,
    /// URI of the token just initialised.
    Token(String),
    /// Wrapped copies in the order asked for; the data key is in the secret area.
    Blobs(Vec<HexBytes>),
    /// The data key is in the secret area.
    Key,
    PublicKey(HexBytes),
    Signature(HexBytes),
    Mechanisms(Vec<u64>),
    Rewrapped(Vec<Rewrapped>),
    /// Whether it was there.
    Destroyed(bool),
    Report(Box<TokenReport>),
    Failed(TokenError),
}

/// The secret area of a message.
pub(crate) struct Area(SecretPage);

impl Area {
    pub(crate) fn empty() -> io::Result<Self> {
        Ok(Self(SecretPage::new()?))
    }

    fn holding(secret: &[u8]) -> io::Result<Self> {
        let mut area = Self::empty()?;
        let length = u16::try_from(secret.len()).map_err(io::Error::other)?;
        let (head, rest) = area.0.bytes_mut().split_at_mut(2);
        head.copy_from_slice(&length.to_be_bytes());
        rest.get_mut(..secret.len())
            .filter(|_| secret.len() <= AREA - 2)
            .ok_or(io::ErrorKind::InvalidInput)?
            .copy_from_slice(secret);
        Ok(area)
    }

    pub(crate) fn key(key: &DataKey) -> io::Result<Self> {
        Self::holding(key.expose())
    }

    pub(crate) fn pin(pin: &Pin) -> io::Result<Self> {
        Self::holding(pin.expose())
    }

    fn used(&self) -> Option<&[u8]> {
        let (head, rest) = self.0.bytes().get(..AREA)?.split_first_chunk::<2>()?;
        rest.get(..usize::from(u16::from_be_bytes(*head)))
    }

    pub(crate) fn to_key(&self) -> io::Result<DataKey> {
        let bytes = self.used().and_then(|u| u.try_into().ok()).ok_or(io::ErrorKind::InvalidData)?;
        DataKey::copy_from(bytes)
    }

    pub(crate) fn to_pin(&self) -> io::Result<Pin> {
        Pin::copy_from(self.used().unwrap_or_default())
    }
}

pub(crate) fn send(to: &mut impl Write, body: &impl Serialize, area: &Area) -> io::Result<()> {
    let mut message = vec![0u8; 4];
    serde_json::to_writer(&mut message, body).map_err(io::Error::other)?;
    let length = u32::try_from(message.len() - 4).map_err(io::Error::other)?;
    if let Some(head) = message.first_chunk_mut::<4>() {
        *head = length.to_be_bytes();
    }
    to.write_all(&message)?;
    to.write_all(area.0.bytes().get(..AREA).unwrap_or_default())
}

pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<(T, Area)> {
    let mut head = [0u8; 4];
    from.read_exact(&mut head)?;
    let length = u32::from_be_bytes(head) as usize;
    if length > MAX_BODY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut body = vec![0u8; length];
    from.read_exact(&mut body)?;
    let mut area = Area::empty()?;
    from.read_exact(area.0.bytes_mut().get_mut(..AREA).unwrap_or_default())?;
    let body = serde_json::from_slice(&body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok((body, area))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_one_size_whatever_the_secret() {
        let pin = Pin::copy_from(b"1234").unwrap();
        let key = DataKey::copy_from(&[0x41; 32]).unwrap();
        let mut with_pin = Vec::new();
        send(&mut with_pin, &Request::InitPin, &Area::pin(&pin).unwrap()).unwrap();
        let mut with_key = Vec::new();
        send(&mut with_key, &Request::InitPin, &Area::key(&key).unwrap()).unwrap();
        assert_eq!(with_pin.len(), with_key.len());
        let (_, area): (Request, _) = receive(&mut with_key.as_slice()).unwrap();
        assert!(area.to_key().unwrap().ct_eq(&key));
        let (_, area): (Request, _) = receive(&mut with_pin.as_slice()).unwrap();
        assert!(area.to_key().is_err());
        assert_eq!(area.to_pin().unwrap().expose(), b"1234");
    }
}
