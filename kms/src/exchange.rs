//! Packages: keys given to a partner. One JSON file: a body that says what it holds, the keys as an age file to the partner's recipient,
//! and a C2SP signed note by the site that binds both. A package is opened by who has the recipient's identity, believed
//! by who has the site's public key, and ends at its expiry.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::age::{self, AgeError, Identity, Recipient};
use crate::custody::{NotCanonical, NoteError, VerifierKey, base64, canonical_digest};
use crate::hex::Hex;
use crate::protocol::{GenerationRef, GenerationState, SessionRecord, SyncPoint, VolumeKind};
use crate::secret::{DATA_KEY_LEN, DataKey};

/// First member of the file.
pub const FORMAT: &str = "sealtape-package-1";
/// Most keys in one package.
pub const MAX_KEYS: usize = 4096;
/// Longest file that is read.
pub const MAX_FILE: u64 = 6 << 20;
const DOMAIN: &[u8] = b"sealtape package 1";
const ENTRY: usize = 16 + 1 + 4 + 16 + DATA_KEY_LEN;

/// Why a package is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// Not one, or damaged.
    #[error("this is no package of keys: {0}")]
    Form(String),
    /// Of another site than the key given.
    #[error("the package {package} is of {origin}, the site key given is that of {wanted}")]
    OtherSite {
        /// The package.
        package: Uuid,
        /// Who made it.
        origin: String,
        /// Whose key was given.
        wanted: String,
    },
    /// The signature.
    #[error("the package {package} is not as {origin} signed it: {source}")]
    Signature {
        /// The package.
        package: Uuid,
        /// Who made it.
        origin: String,
        /// What is wrong.
        source: NoteError,
    },
    /// Something else than what was signed.
    #[error("the package {package} was changed: {what}")]
    Changed {
        /// The package.
        package: Uuid,
        /// What does not agree.
        what: &'static str,
    },
    /// Over.
    #[error("the package {package} ended on {expires}, and now is {now}")]
    Expired {
        /// The package.
        package: Uuid,
        /// Until when it was good.
        expires: String,
        /// The time that counts here.
        now: String,
    },
    /// For somebody else.
    #[error("the package {package} is for the recipient with SHA-256 {wanted}, the identity given is that of {has}")]
    OtherRecipient {
        /// The package.
        package: Uuid,
        /// Whom it is for.
        wanted: Hex<32>,
        /// Whose identity was given.
        has: Hex<32>,
    },
    /// The age file.
    #[error("the package {package}: {source}")]
    Age {
        /// The package.
        package: Uuid,
        /// What is wrong.
        source: AgeError,
    },
}

/// A package as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// [`FORMAT`].
    pub format: String,
    /// What it holds.
    pub body: Body,
    /// The keys: an age file, in base64.
    pub sealed: String,
    /// The site's signed note over package id and SHA-256 of the canonical body.
    pub note: String,
}

/// What a package holds, in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Its name.
    pub package: Uuid,
    /// The site: origin of its custody log.
    pub origin: String,
    /// The site's key; whoever receives the package has it from elsewhere.
    pub site_key: String,
    /// The partner, by the name that the site uses.
    pub partner: String,
    /// SHA-256 of the recipient's text.
    pub recipient: Hex<32>,
    /// Whether the recipient withstands a quantum computer.
    pub post_quantum: bool,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// Until when it may be imported, and its keys used (RFC 3339, UTC).
    pub expires: String,
    /// SHA-256 of the age file.
    pub sealed_sha256: Hex<32>,
    /// The keys, in the order of the age file.
    pub keys: Vec<PackageKey>,
}

/// A key without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageKey {
    /// Where it belongs.
    pub at: GenerationRef,
    /// Tape or stream.
    pub kind: VolumeKind,
    /// Partitions of the volume.
    pub partitions: u8,
    /// The operator's label, if the site gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The barcode, if the site gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barcode: Option<String>,
    /// State of the generation.
    pub state: GenerationState,
    /// The suite.
    pub suite: u8,
    /// The compression of the pool.
    pub compression: u8,
    /// First session ordinal.
    pub first_ordinal: u32,
    /// Commitment to the key, if the site knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<Hex<32>>,
    /// Sessions that stand on the medium: with them the partner notices what was cut off or put back.
    pub sessions: Vec<SessionRecord>,
    /// The end of data, if the site knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<SyncPoint>,
}

fn place(at: GenerationRef) -> [u8; 37] {
    let mut bytes = [0; 37];
    let parts = [at.volume.as_bytes().as_slice(), &[at.partition], &at.generation.to_be_bytes(), at.key_id.as_bytes()];
    for (to, from) in bytes.iter_mut().zip(parts.concat()) {
        *to = from;
    }
    bytes
}

/// Encrypts keys to a recipient: the age file of a package.
pub(crate) fn seal(
    package: Uuid,
    recipient: &Recipient,
    keys: &[(GenerationRef, DataKey)],
) -> Result<Vec<u8>, AgeError> {
    let mut plain = Zeroizing::new(Vec::with_capacity(DOMAIN.len() + 20 + keys.len() * ENTRY));
    plain.extend_from_slice(DOMAIN);
    plain.extend_from_slice(package.as_bytes());
    plain.extend_from_slice(&u32::try_from(keys.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (at, key) in keys {
        plain.extend_from_slice(&place(*at));
        plain.extend_from_slice(key.expose());
    }
    age::seal(recipient, &plain)
}

impl Body {
    /// SHA-256 of the canonical JSON.
    ///
    /// # Errors
    /// [`NotCanonical`]
    pub fn digest(&self) -> Result<[u8; 32], NotCanonical> {
        canonical_digest(self)
    }

    /// What the site signs. Its second line is no number, so that it is no checkpoint of any log.
    ///
    /// # Errors
    /// [`NotCanonical`]
    pub fn text(&self) -> Result<String, NotCanonical> {
        Ok(format!("sealtape package 1\npackage {}\nsha256 {}\n", self.package, Hex(self.digest()?)))
    }
}

impl Package {
    /// Puts a package together.
    pub(crate) fn new(body: Body, sealed: &[u8], note: String) -> Self {
        Self { format: FORMAT.into(), body, sealed: base64::encode(sealed), note }
    }

    /// Reads a package's file and checks its form.
    ///
    /// # Errors
    /// [`PackageError::Form`]
    pub fn parse(text: &str) -> Result<Self, PackageError> {
        let package: Self = serde_json::from_str(text).map_err(|e| PackageError::Form(e.to_string()))?;
        package.check_form()?;
        Ok(package)
    }

    fn check_form(&self) -> Result<(), PackageError> {
        let body = &self.body;
        let wrong = |what: &str| Err(PackageError::Form(what.into()));
        if self.format != FORMAT {
            return wrong(&format!("its format is {:?}, not {FORMAT}", self.format));
        }
        if body.keys.is_empty() || body.keys.len() > MAX_KEYS {
            return wrong(&format!("it holds {} keys, 1 to {MAX_KEYS} are possible", body.keys.len()));
        }
        if !crate::time::well_formed(&body.expires) || !crate::time::well_formed(&body.created) {
            return wrong("a time in it is malformed");
        }
        for (at, key) in body.keys.iter().enumerate() {
            if key.at.partition >= key.partitions || key.at.generation == 0 || !(1..=3).contains(&key.suite) {
                return wrong(&format!("its key {at} is for a place that there is not"));
            }
            if body.keys.iter().take(at).any(|k| k.at.key_id == key.at.key_id) {
                return wrong(&format!("the key {} stands in it twice", key.at.key_id));
            }
        }
        Ok(())
    }

    fn sealed_bytes(&self) -> Result<Vec<u8>, PackageError> {
        base64::decode(&self.sealed).ok_or_else(|| PackageError::Form("its keys are no base64".into()))
    }

    /// Verifies that the site signed all of it.
    ///
    /// # Errors
    /// [`PackageError`]
    pub fn verify(&self, site: &VerifierKey) -> Result<(), PackageError> {
        self.check_form()?;
        let body = &self.body;
        let (package, origin) = (body.package, body.origin.clone());
        if body.origin != site.name() {
            return Err(PackageError::OtherSite { package, origin, wanted: site.name().to_owned() });
        }
        let text = site.open_text(&self.note).map_err(|source| PackageError::Signature { package, origin, source })?;
        if text != body.text().map_err(|e| PackageError::Form(e.to_string()))? {
            return Err(PackageError::Changed { package, what: "its body is not the one that was signed" });
        }
        if Hex(Sha256::digest(self.sealed_bytes()?).into()) != body.sealed_sha256 {
            return Err(PackageError::Changed { package, what: "its keys are not those that were signed" });
        }
        Ok(())
    }

    /// Checks that it is not over at `now`.
    ///
    /// # Errors
    /// [`PackageError::Expired`]
    pub fn check_time(&self, now: &str) -> Result<(), PackageError> {
        if *self.body.expires >= *now {
            return Ok(());
        }
        Err(PackageError::Expired {
            package: self.body.package,
            expires: self.body.expires.clone(),
            now: now.to_owned(),
        })
    }

    /// Opens the keys, each with its place.
    ///
    /// # Errors
    /// [`PackageError`]
    pub fn open(&self, identity: &Identity) -> Result<Vec<(GenerationRef, DataKey)>, PackageError> {
        let package = self.body.package;
        let age = |source| PackageError::Age { package, source };
        let has = identity.recipient().map_err(age)?.fingerprint();
        if has != self.body.recipient {
            return Err(PackageError::OtherRecipient { package, wanted: self.body.recipient, has });
        }
        let plain = age::open(&self.sealed_bytes()?, identity).map_err(age)?;
        let other = || PackageError::Changed { package, what: "the keys in it are not those that its body names" };
        let count = u32::try_from(self.body.keys.len()).map_err(|_| other())?;
        let head = [DOMAIN, package.as_bytes(), &count.to_be_bytes()].concat();
        let entries = plain.strip_prefix(head.as_slice()).ok_or_else(other)?;
        if entries.len() != self.body.keys.len() * ENTRY {
            return Err(other());
        }
        self.body
            .keys
            .iter()
            .zip(entries.chunks_exact(ENTRY))
            .map(|(key, entry)| {
                let (named, value) = entry.split_last_chunk::<DATA_KEY_LEN>().ok_or_else(other)?;
                if named != place(key.at) {
                    return Err(other());
                }
                Ok((key.at, DataKey::copy_from(value).map_err(|e| age(e.into()))?))
            })
            .collect()
    }
}

/// The time now, in the form of an expiry: for reading a package without a key authority, by the clock of this machine.
#[must_use]
pub fn now() -> String {
    crate::time::now()
}
