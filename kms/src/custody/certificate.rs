//! Certificates of destruction (`docs/custody/destruction.md`): canonical JSON and its reading for people, in one signed note.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::leaf::{Approval, Leaf, canonical};
use super::note::{NoteError, VerifierKey};
use crate::hex::{Hex, HexBytes};

/// First line of the signed text, and value of `format`.
pub const CERTIFICATE_FORMAT: &str = "sealtape certificate of destruction 1";

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The signature, or the form of a note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not a certificate.
    #[error("not a certificate of destruction: {0}")]
    Form(String),
}

/// A destroyed data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedKey {
    /// Generation of the partition.
    pub generation: u32,
    /// The key.
    pub key: Uuid,
    /// The volume's label.
    pub label: String,
    /// The partition.
    pub partition: u8,
    /// Its state before.
    pub state_before: String,
    /// The volume.
    pub volume: Uuid,
}

/// A copy and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedCopy {
    /// `destroyed` or `unreachable`.
    pub fate: String,
    /// What opens it, or did.
    pub holder: String,
    /// Of which key; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Uuid>,
    /// What kind of copy.
    pub kind: String,
    /// How it was destroyed; or why not, and who could open it.
    pub means: String,
    /// Where it stands.
    pub place: String,
    /// SHA-256 of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<HexBytes>,
    /// How the destruction was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<String>,
}

/// A key-encryption key and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedKek {
    /// `destroyed` or `kept`.
    pub fate: String,
    /// Which.
    pub kek: Uuid,
    /// How it was destroyed and verified; or why it stays.
    pub means: String,
    /// `catalogue` or `medium`.
    pub purpose: String,
}

/// The custody log just before the certificate's own entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// Its origin.
    pub origin: String,
    /// Its root.
    pub root: Hex<32>,
    /// Its size; the number of the certificate's entry too.
    pub size: u64,
}

/// A certificate. The fields stand in the order of their names, which makes the JSON canonical.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Signatures of the custodians over the request.
    pub approvals: Vec<Approval>,
    /// The backup of the catalogue that was made afterwards, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// The batch.
    pub batch: Uuid,
    /// When the keys were destroyed.
    pub began: String,
    /// Number of the custody entry of it, which bears the approvals.
    pub begun_entry: u64,
    /// Every copy that is known.
    pub copies: Vec<CertifiedCopy>,
    /// When everything was done.
    pub ended: String,
    /// [`CERTIFICATE_FORMAT`].
    pub format: String,
    /// Clones and backups of the HSM, as the operator stated them.
    pub hsm_backups: String,
    /// Key-encryption keys.
    pub keks: Vec<CertifiedKek>,
    /// The data keys.
    pub keys: Vec<CertifiedKey>,
    /// Where it stands in the custody log.
    pub log: LogPlace,
    /// What was approved, in words.
    pub operation: String,
    /// SHA-256 of the plan that was approved.
    pub plan: Hex<32>,
    /// Why.
    pub reason: String,
    /// The request.
    pub request: Uuid,
    /// SHA-256 of the bytes that the custodians signed.
    pub request_digest: Hex<32>,
}

impl Certificate {
    /// Canonical JSON.
    ///
    /// # Errors
    /// Never with what this program makes; in words.
    pub fn canonical(&self) -> Result<String, String> {
        let value = serde_json::to_value(self).map_err(|e| e.to_string())?;
        canonical(&value).ok_or_else(|| "it has no canonical form".into())
    }

    /// SHA-256 of the canonical JSON: the digest in the custody entry number `log.size`.
    ///
    /// # Errors
    /// As [`Certificate::canonical`].
    pub fn digest(&self) -> Result<[u8; 32], String> {
        Ok(Sha256::digest(self.canonical()?).into())
    }

    /// How many copies could not be reached.
    #[must_use]
    pub fn unreachable(&self) -> usize {
        self.copies.iter().filter(|c| c.fate == "unreachable").count()
    }

    /// Whether `leaf` is the custody entry of this certificate.
    #[must_use]
    pub fn is_entered_by(&self, leaf: &Leaf) -> bool {
        leaf.seq == self.log.size
            && leaf.op == super::op::DESTRUCTION
            && leaf.digest.is_some_and(|d| self.digest() == Ok(d.0))
    }

    /// In words, for people; part of what is signed.
    #[must_use]
    pub fn words(&self) -> String {
        let mut out = String::new();
        let line = |out: &mut String, text: String| {
            // A label or a reason from elsewhere must not begin a line of its own.
            let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = writeln!(out, "{clean}");
        };
        line(&mut out, format!("Batch {} of {}", self.batch, self.log.origin));
        line(&mut out, format!("Approved: {}", self.operation));
        line(&mut out, format!("Reason: {}", self.reason));
        line(&mut out, format!("Request {}, SHA-256 {}", self.request, self.request_digest));
        for approval in &self.approvals {
            line(&mut out, format!("Approved by person {} with key {}", approval.person, approval.key));
        }
        line(
            &mut out,
            format!(
                "Keys destroyed at {} (custody entry {}), all done at {}",
                self.began, self.begun_entry, self.ended
            ),
        );
        line(&mut out, format!("Custody entry {}; log before it: root {}", self.log.size, self.log.root));
        for key in &self.keys {
            let place =
                format!("generation {} of partition {} of volume {}", key.generation, key.partition, key.volume);
            line(&mut out, format!("Key {}: {place}, label {:?}, was {}", key.key, key.label, key.state_before));
        }
        for kek in &self.keks {
            line(
                &mut out,
                format!("Key-encryption key {} ({}): {}: {}", kek.kek, kek.purpose, kek.fate.to_uppercase(), kek.means),
            );
        }
        for copy in &self.copies {
            let of = copy.key.map_or_else(|| "all keys".to_owned(), |key| format!("key {key}"));
            let fate = copy.fate.to_uppercase();
            line(
                &mut out,
                format!("Copy of {of}: {} [{}, {}]: {fate}: {}", copy.place, copy.kind, copy.holder, copy.means),
            );
        }
        line(&mut out, format!("Clones and backups of the HSM, as stated by the operator: {}", self.hsm_backups));
        line(
            &mut out,
            format!("Backup of the catalogue made afterwards: {}", self.backup.as_deref().unwrap_or("none")),
        );
        let verdict = match self.unreachable() {
            0 => "Of the copies that are known none is left.".to_owned(),
            count => format!("NOT REACHED: {count} of the copies above. Who holds them can open them as said there."),
        };
        line(&mut out, verdict);
        out
    }
}

fn parse(json: &str) -> Result<Certificate, CertificateError> {
    let form = |what: String| CertificateError::Form(what);
    let value: Value = serde_json::from_str(json).map_err(|e| form(format!("no JSON: {e}")))?;
    if canonical(&value).as_deref() != Some(json) {
        return Err(form("not in canonical form".into()));
    }
    let certificate: Certificate = serde_json::from_value(value).map_err(|e| form(e.to_string()))?;
    if certificate.format != CERTIFICATE_FORMAT {
        return Err(form(format!("its format is {:?}", certificate.format)));
    }
    Ok(certificate)
}

/// The text that is signed: the format, the canonical JSON, and its reading.
///
/// # Errors
/// When `json` is no certificate, in words.
pub fn note_text(json: &str) -> Result<String, String> {
    let certificate = parse(json).map_err(|e| e.to_string())?;
    Ok(format!("{CERTIFICATE_FORMAT}\n{json}\n{}", certificate.words()))
}

/// Verifies a signed certificate, offline.
///
/// # Errors
/// [`CertificateError`]
pub fn verify(note: &str, key: &VerifierKey) -> Result<Certificate, CertificateError> {
    let text = key.open_text(note)?;
    let mut lines = text.splitn(3, '\n');
    let form = |what: &str| CertificateError::Form(what.to_owned());
    let (Some(CERTIFICATE_FORMAT), Some(json), Some(words)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(form("its first line is another"));
    };
    let certificate = parse(json)?;
    if certificate.log.origin != key.name() {
        return Err(form("it is of another installation's log"));
    }
    if certificate.words() != words {
        return Err(form("what it says in words is not what it says in JSON"));
    }
    Ok(certificate)
}
