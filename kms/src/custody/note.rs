//! Checkpoints as C2SP signed notes (c2sp.org/signed-note, c2sp.org/tlog-checkpoint).

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};
use p256::ecdsa::signature::Verifier;
use sha2::{Digest, Sha256};

use super::base64;
use super::tree::Hash;

/// Signature type Ed25519 of signed notes.
const ED25519: u8 = 0x01;
/// Signature type ECDSA, here over P-256 with SHA-256; signatures and keys are in DER.
const ECDSA: u8 = 0x02;
/// What stands before an uncompressed point in the DER of a P-256 public key (RFC 5480).
const P256_SPKI: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// Why a note or key is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not a verifier key.
    #[error("not a verifier key of the form name+hash+key: {0}")]
    Key(&'static str),
    /// Not a signed note with a checkpoint.
    #[error("not a signed checkpoint: {0}")]
    Form(&'static str),
    /// No signature line of the key.
    #[error("the checkpoint bears no signature of {0}")]
    Unsigned(String),
    /// A signature that does not verify.
    #[error("the checkpoint's signature of {0} does not verify")]
    Signature(String),
}

/// State of the log: how many leaves, which root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// The root.
    pub root: Hash,
}

/// A public key with the name under which it signs, written `name+hash+key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: PublicKey,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PublicKey {
    Ed25519(VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// Type byte and key, as a verifier key carries them.
    fn encoded(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => [&[ED25519], key.as_bytes().as_slice()].concat(),
            Self::P256(key) => [&[ECDSA], P256_SPKI, key.to_sec1_point(false).as_bytes()].concat(),
        }
    }

    fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => Signature::from_slice(signature).is_ok_and(|s| key.verify_strict(text, &s).is_ok()),
            Self::P256(key) => p256::ecdsa::Signature::from_der(signature).is_ok_and(|s| key.verify(text, &s).is_ok()),
        }
    }
}

pub(super) fn name_ok(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

impl VerifierKey {
    fn named(name: impl Into<String>, key: PublicKey) -> Result<Self, NoteError> {
        let name = name.into();
        if name_ok(&name) {
            Ok(Self { name, key })
        } else {
            Err(NoteError::Key("the name is empty or holds a space or plus sign"))
        }
    }

    /// The Ed25519 key `public` under `name`.
    ///
    /// # Errors
    /// [`NoteError::Key`]
    pub fn new(name: impl Into<String>, public: &[u8; 32]) -> Result<Self, NoteError> {
        let key = VerifyingKey::from_bytes(public).map_err(|_| NoteError::Key("no point of the curve"))?;
        Self::named(name, PublicKey::Ed25519(key))
    }

    /// The P-256 key `public`, an uncompressed point, under `name`.
    ///
    /// # Errors
    /// [`NoteError::Key`]
    pub fn p256(name: impl Into<String>, public: &[u8]) -> Result<Self, NoteError> {
        let key =
            p256::ecdsa::VerifyingKey::from_sec1_bytes(public).map_err(|_| NoteError::Key("no point of the curve"))?;
        Self::named(name, PublicKey::P256(key))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id of signed notes: the first four bytes of SHA-256(name, 0x0A, type, key) for Ed25519, of SHA-256(key) for ECDSA.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let encoded = self.key.encoded();
        let hash = match self.key {
            PublicKey::Ed25519(_) => Sha256::new().chain_update(&self.name).chain_update(b"\n").chain_update(&encoded),
            PublicKey::P256(_) => Sha256::new().chain_update(encoded.get(1..).unwrap_or_default()),
        };
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        [a, b, c, d]
    }

    /// A signature as the token gives it (64 bytes), in the form that stands in notes: DER for ECDSA.
    pub(crate) fn encoded_signature(&self, signature: &[u8]) -> Vec<u8> {
        match (&self.key, p256::ecdsa::Signature::from_slice(signature)) {
            (PublicKey::P256(_), Ok(signature)) => signature.to_der().as_bytes().to_vec(),
            _ => signature.to_vec(),
        }
    }

    /// Whether `signature`, in the form that stands in notes, is this key's over `text`.
    pub(crate) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        self.key.verifies(text.as_bytes(), signature)
    }

    /// The note: `text` with a signature made elsewhere over it, as the token gives it (64 bytes).
    #[must_use]
    pub fn note(&self, text: &str, signature: &[u8]) -> String {
        let mut bytes = self.id().to_vec();
        bytes.extend_from_slice(&self.encoded_signature(signature));
        format!("{text}\n\u{2014} {} {}\n", self.name, base64::encode(&bytes))
    }

    /// Verifies a note by this key; gives its text, which may be anything.
    ///
    /// # Errors
    /// [`NoteError`]
    pub fn open_text<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let note = Note::parse(note)?;
        let signature = note.signature_of(&self.name, self.id())?;
        match self.key.verifies(note.text.as_bytes(), signature) {
            true => Ok(note.text),
            false => Err(NoteError::Signature(self.name.clone())),
        }
    }

    /// Verifies a note by this key and reads the checkpoint in it.
    ///
    /// # Errors
    /// [`NoteError`]
    pub fn open(&self, note: &str) -> Result<(Checkpoint, NoteSignatures), NoteError> {
        let note = Note::parse(note)?;
        let id = self.id();
        let signature = note.signature_of(&self.name, id)?;
        if !self.key.verifies(note.text.as_bytes(), signature) {
            return Err(NoteError::Signature(self.name.clone()));
        }
        let others = note.signatures.iter().filter(|s| s.name != self.name || s.id != id);
        let others = others.map(|s| s.name.to_owned()).collect();
        Ok((Checkpoint::from_text(note.text)?, NoteSignatures { others }))
    }
}

impl VerifierKey {
    /// The same key under another name.
    ///
    /// # Errors
    /// [`NoteError::Key`]
    pub fn renamed(&self, name: impl Into<String>) -> Result<Self, NoteError> {
        Self::named(name, self.key.clone())
    }

    /// The note with this key's own signature line alone.
    ///
    /// # Errors
    /// [`NoteError`]
    pub fn only_own(&self, note: &str) -> Result<String, NoteError> {
        let parsed = Note::parse(note)?;
        Ok(format!("{}\n{}\n", parsed.text, parsed.line_of(&self.name, self.id())?))
    }
}

/// Longest note: room for several signatures of post-quantum size.
const MAX_NOTE: usize = 64 * 1024;

/// A note taken apart; nothing is verified.
pub(super) struct Note<'a> {
    /// What is signed, its last newline included.
    pub(super) text: &'a str,
    signatures: Vec<NoteSignature<'a>>,
}

struct NoteSignature<'a> {
    name: &'a str,
    id: [u8; 4],
    signature: Vec<u8>,
    line: &'a str,
}

impl<'a> Note<'a> {
    pub(super) fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::Form("it is too long"));
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::Form("it holds control characters"));
        }
        let split = note.rfind("\n\n").ok_or(NoteError::Form("no empty line before the signatures"))?;
        let (text, rest) = note.split_at(split + 1);
        let lines = rest.strip_prefix('\n').and_then(|r| r.strip_suffix('\n'));
        let lines = lines.ok_or(NoteError::Form("the last line does not end"))?;
        let signatures = lines.split('\n').map(signature_line).collect::<Option<_>>();
        let signatures = signatures.ok_or(NoteError::Form("a signature line is malformed"))?;
        Ok(Self { text, signatures })
    }

    /// The one signature by the key of this name and id.
    pub(super) fn signature_of(&self, name: &str, id: [u8; 4]) -> Result<&[u8], NoteError> {
        Ok(&self.one(name, id)?.signature)
    }

    /// The line of the one signature by the key of this name and id, without its newline.
    pub(super) fn line_of(&self, name: &str, id: [u8; 4]) -> Result<&'a str, NoteError> {
        Ok(self.one(name, id)?.line)
    }

    fn one(&self, name: &str, id: [u8; 4]) -> Result<&NoteSignature<'a>, NoteError> {
        let mut mine = self.signatures.iter().filter(|s| s.name == name && s.id == id);
        let first = mine.next().ok_or_else(|| NoteError::Unsigned(name.to_owned()))?;
        match mine.next() {
            None => Ok(first),
            Some(_) => Err(NoteError::Form("two signatures by one key")),
        }
    }
}

fn signature_line(line: &str) -> Option<NoteSignature<'_>> {
    let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = base64::decode(signature).filter(|b| b.len() > 4 && name_ok(name))?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    Some(NoteSignature { name, id: *id, signature: signature.to_vec(), line })
}

/// What else stands under a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignatures {
    /// Names on signature lines of other keys (cosignatures); nothing is said about their worth.
    pub others: Vec<String>,
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}+{}", self.name, crate::hex::Hex(self.id()), base64::encode(&self.key.encoded()))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it has not three parts"));
        };
        let key = base64::decode(key).ok_or(NoteError::Key("the key is not base64"))?;
        let key = match key.split_first() {
            Some((&ED25519, public)) => {
                Self::new(name, public.try_into().map_err(|_| NoteError::Key("the key has not 32 bytes"))?)?
            }
            Some((&ECDSA, spki)) => {
                let point = spki.strip_prefix(P256_SPKI).filter(|p| p.len() == 65);
                Self::p256(name, point.ok_or(NoteError::Key("no uncompressed P-256 key"))?)?
            }
            _ => return Err(NoteError::Key("neither Ed25519 nor ECDSA")),
        };
        let id: crate::hex::Hex<4> = id.parse().map_err(|_| NoteError::Key("the hash is malformed"))?;
        if id.0 == key.id() { Ok(key) } else { Err(NoteError::Key("name and key do not go together")) }
    }
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, base64::encode(&self.root))
    }

    /// What a note claims, without verifying any signature.
    ///
    /// # Errors
    /// [`NoteError::Form`]
    pub fn claimed_by(note: &str) -> Result<Self, NoteError> {
        Self::from_text(Note::parse(note)?.text)
    }

    pub(super) fn from_text(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Form("origin, size and root are not all there"));
        };
        let number: u64 = size.parse().map_err(|_| NoteError::Form("the size is not a number"))?;
        if number.to_string() != size || origin.is_empty() {
            return Err(NoteError::Form("the size or the origin is malformed"));
        }
        let root =
            base64::decode(root).and_then(|r| r.try_into().ok()).ok_or(NoteError::Form("the root is malformed"))?;
        // Extension lines may follow; they are signed, and mean nothing here.
        Ok(Self { origin: origin.to_owned(), size: number, root })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    /// The example of Go's golang.org/x/mod/sumdb/note (also C2SP's): key and signed text.
    #[test]
    fn a_foreign_verifier_key_is_read_and_written() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key: VerifierKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\
                    \n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        // The signature is right, so what is refused is that the text is no checkpoint.
        assert!(matches!(key.open(note), Err(NoteError::Form(_))), "{:?}", key.open(note));
        let changed = note.replace("answer", "Answer");
        assert_eq!(key.open(&changed), Err(NoteError::Signature("PeterNeumann".into())));
        assert!(text.replace("c74f", "c74e").parse::<VerifierKey>().is_err());
    }

    #[test]
    fn checkpoints_are_signed_and_opened() {
        let signing = SigningKey::from_bytes(&[3; 32]);
        let key = VerifierKey::new("sealtape/x", signing.verifying_key().as_bytes()).unwrap();
        let checkpoint = Checkpoint { origin: "sealtape/x".into(), size: 7, root: [9; 32] };
        let text = checkpoint.to_text();
        let note = key.note(&text, &signing.sign(text.as_bytes()).to_bytes());
        let (opened, signatures) = key.open(&note).unwrap();
        assert_eq!(opened, checkpoint);
        assert!(signatures.others.is_empty());
        let cosigned = format!("{note}\u{2014} witness.example AAAAAAA=\n");
        assert_eq!(key.open(&cosigned).unwrap().1.others, ["witness.example"]);
        let other = VerifierKey::new("sealtape/y", signing.verifying_key().as_bytes()).unwrap();
        assert!(matches!(other.open(&note), Err(NoteError::Unsigned(_))));
        for at in 0..text.len() {
            let mut bad = note.clone().into_bytes();
            bad[at] ^= 1;
            if let Ok(bad) = String::from_utf8(bad) {
                assert!(key.open(&bad).is_err(), "{bad:?}");
            }
        }
        for cut in 0..note.len() {
            if note.is_char_boundary(cut) {
                assert!(key.open(&note[..cut]).is_err());
            }
        }
    }
}
