//! Backups of the catalogue: one file, of which the first line is a manifest with the site's signed note, and the rest the database.
//!
//! A backup holds wrapped keys only, and names of persons and media: it is kept like the catalogue itself. It is worth nothing
//! without the token, and nothing any more once the catalogue KEKs that its manifest names are destroyed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::custody::{Checkpoint, NotCanonical, VerifierKey, canonical_digest};
use crate::hex::Hex;
use crate::protocol::{Refusal, RefusalCode};

/// First member of a manifest.
pub const FORMAT: &str = "sealtape-backup-1";
/// Longest first line.
const MAX_HEAD: u64 = 256 * 1024;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Its name.
    pub backup: Uuid,
    /// Origin of the custody log: the installation.
    pub origin: String,
    /// The key of the custody log.
    pub log_key: String,
    /// The newest checkpoint in it, as a signed note.
    pub checkpoint: String,
    /// The catalogue's key-encryption keys that it needs.
    pub catalogue_keks: Vec<Uuid>,
    /// The token that they are in.
    pub token: String,
    /// Version of the tables.
    pub version: u32,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// Bytes of the database.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Hex<32>,
}

/// The first line of a backup's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// What it holds.
    pub manifest: Manifest,
    /// The site's signed note over it.
    pub note: String,
}

impl Manifest {
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
        Ok(format!("sealtape backup 1\nbackup {}\nsha256 {}\n", self.backup, Hex(self.digest()?)))
    }
}

fn bad(file: &Path, what: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        RefusalCode::Damaged,
        format!("{} is no whole backup of a catalogue: {what}", file.display()),
        "take another copy of it, or another backup",
    )
}

impl Head {
    /// Verifies the note by the key that the manifest names, and gives that key and the checkpoint. That this is the key of the
    /// installation wanted, the token has to show.
    pub(crate) fn verify(&self, file: &Path) -> Result<(VerifierKey, Checkpoint), Refusal> {
        let manifest = &self.manifest;
        if manifest.format != FORMAT {
            return Err(bad(file, format!("its format is {:?}, not {FORMAT}", manifest.format)));
        }
        let key: VerifierKey = manifest.log_key.parse().map_err(|e| bad(file, e))?;
        let text = key.open_text(&self.note).map_err(|e| bad(file, e))?;
        if text != manifest.text().map_err(|e| bad(file, e))? || key.name() != manifest.origin {
            return Err(bad(file, "its manifest is not the one that was signed"));
        }
        let (checkpoint, _) = key.open(&manifest.checkpoint).map_err(|e| bad(file, e))?;
        Ok((key, checkpoint))
    }
}

/// Reads the first line.
pub(crate) fn read_head(file: &Path) -> Result<(Head, BufReader<File>), Refusal> {
    let failed = |e: std::io::Error| {
        Refusal::new(RefusalCode::BadRequest, format!("{}: {e}", file.display()), "check the path and its permissions")
    };
    let mut reader = BufReader::with_capacity(1 << 20, File::open(file).map_err(failed)?);
    let mut line = Vec::new();
    (&mut reader).take(MAX_HEAD).read_until(b'\n', &mut line).map_err(failed)?;
    let head = serde_json::from_slice(&line).map_err(|e| bad(file, e))?;
    Ok((head, reader))
}

/// Copies the database out of a backup, verified by its hash.
pub(crate) fn copy_database(
    file: &Path,
    manifest: &Manifest,
    from: &mut impl Read,
    to: &mut File,
) -> Result<(), Refusal> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = from.read(&mut buffer).map_err(|e| bad(file, e))?;
        let part = buffer.get(..length).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        hash.update(part);
        bytes += length as u64;
        to.write_all(part).map_err(|e| crate::fault::internal(format!("writing the catalogue: {e}")))?;
    }
    if bytes != manifest.bytes || Hex(hash.finalize().into()) != manifest.sha256 {
        return Err(bad(file, format!("it holds {bytes} bytes of {}, or others than were signed", manifest.bytes)));
    }
    to.sync_all().map_err(|e| crate::fault::internal(format!("writing the catalogue: {e}")))
}

/// The bytes of a part, as it came.
#[must_use]
pub fn decode_part(part: &str) -> Option<Vec<u8>> {
    crate::custody::base64::decode(part)
}
