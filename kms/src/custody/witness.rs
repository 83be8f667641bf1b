//! Cosignatures of witnesses (c2sp.org/tlog-cosignature, Ed25519): that at some time the largest tree a witness had seen of a
//! log, each an extension of the one before, was the one of this checkpoint.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use super::base64;
use super::note::{Checkpoint, Note, NoteError, name_ok};

/// Signature type of timestamped Ed25519 cosignatures.
const COSIGNATURE_V1: u8 = 0x04;

/// A verified cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The checkpoint that was cosigned.
    pub checkpoint: Checkpoint,
    /// When, in seconds since 1970 (POSIX).
    pub time: u64,
    /// Its line in the note, without the newline.
    pub line: String,
}

impl Cosignature {
    /// When, by the witness's clock.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.time)
    }
}

/// A witness's public key with its name, written `name+hash+key`, type 0x04.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    /// Ready for verifying, which makes it large.
    key: Box<VerifyingKey>,
}

impl WitnessKey {
    /// The Ed25519 key `public` of the witness `name`.
    ///
    /// # Errors
    /// [`NoteError::Key`]
    pub fn new(name: impl Into<String>, public: &[u8; 32]) -> Result<Self, NoteError> {
        let name = name.into();
        if !name_ok(&name) {
            return Err(NoteError::Key("the name is empty or holds a space or plus sign"));
        }
        let key = VerifyingKey::from_bytes(public).map_err(|_| NoteError::Key("no point of the curve"))?;
        // Under such a key any signature verifies over some texts.
        if key.is_weak() {
            return Err(NoteError::Key("a point of small order"));
        }
        Ok(Self { name, key: Box::new(key) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id: the first four bytes of SHA-256(name, 0x0A, 0x04, key).
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new().chain_update(&self.name).chain_update([b'\n', COSIGNATURE_V1]);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.chain_update(self.key.as_bytes()).finalize());
        [a, b, c, d]
    }

    /// What a witness signs at `time` (seconds since 1970) over a checkpoint's text.
    #[must_use]
    pub fn message(time: u64, text: &str) -> String {
        format!("cosignature/v1\ntime {time}\n{text}")
    }

    /// The signature line, with its newline, of a signature made elsewhere over [`WitnessKey::message`].
    #[must_use]
    pub fn line(&self, time: u64, signature: &[u8; 64]) -> String {
        let bytes = [self.id().as_slice(), &time.to_be_bytes(), signature].concat();
        format!("\u{2014} {} {}\n", self.name, base64::encode(&bytes))
    }

    /// Verifies the cosignature of this witness in `note`. It alone is looked at: whether the log itself signed is not.
    ///
    /// # Errors
    /// [`NoteError`]; [`NoteError::Unsigned`] if there is none.
    pub fn cosigned(&self, note: &str) -> Result<Cosignature, NoteError> {
        let note = Note::parse(note)?;
        let wrong = || NoteError::Signature(self.name.clone());
        let bytes = note.signature_of(&self.name, self.id())?;
        let (time, signature) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
        let time = u64::from_be_bytes(*time);
        if time == 0 || i64::try_from(time).is_err() {
            return Err(wrong());
        }
        let signature = Signature::from_slice(signature).map_err(|_| wrong())?;
        let message = Self::message(time, note.text);
        self.key.verify_strict(message.as_bytes(), &signature).map_err(|_| wrong())?;
        let line = note.line_of(&self.name, self.id())?.to_owned();
        Ok(Cosignature { checkpoint: Checkpoint::from_text(note.text)?, time, line })
    }

    /// `note` with the cosignature in `line` (without its newline) in place of an earlier one of this witness.
    ///
    /// # Errors
    /// [`NoteError`]: the result is verified.
    pub fn add_to(&self, note: &str, line: &str) -> Result<String, NoteError> {
        let parsed = Note::parse(note)?;
        let without = match parsed.line_of(&self.name, self.id()) {
            Ok(old) => note.replacen(&format!("{old}\n"), "", 1),
            Err(NoteError::Unsigned(_)) => note.to_owned(),
            Err(e) => return Err(e),
        };
        let cosigned = format!("{without}{line}\n");
        self.cosigned(&cosigned)?;
        Ok(cosigned)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = [&[COSIGNATURE_V1], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, crate::hex::Hex(self.id()), base64::encode(&encoded))
    }
}

impl FromStr for WitnessKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it has not three parts"));
        };
        let bytes = base64::decode(key).ok_or(NoteError::Key("the key is not base64"))?;
        let public = match bytes.split_first() {
            Some((&COSIGNATURE_V1, public)) => public,
            Some((0x01, _)) => return Err(NoteError::Key("type 0x01, a log's key; a witness's is of type 0x04")),
            Some((0x06, _)) => {
                return Err(NoteError::Key("ML-DSA-44 (type 0x06); use the witness's Ed25519 key (0x04)"));
            }
            _ => return Err(NoteError::Key("no Ed25519 cosignature key (type 0x04)")),
        };
        let key = Self::new(name, public.try_into().map_err(|_| NoteError::Key("the key has not 32 bytes"))?)?;
        let id: crate::hex::Hex<4> = id.parse().map_err(|_| NoteError::Key("the hash is malformed"))?;
        if id.0 == key.id() { Ok(key) } else { Err(NoteError::Key("name and key do not go together")) }
    }
}

#[cfg(test)]
mod tests;
