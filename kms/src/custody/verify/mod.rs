//! Verifying an export with nothing but the file and the log's public key (`docs/custody/custody-log.md`, "Verifying").

mod anchored;
mod full;
mod lines;
mod proven;

use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::export::{ExportHeader, FORMAT, Scope};
use super::leaf::{Leaf, canonical};
use super::note::VerifierKey;
use super::tree::RightEdge;
use crate::hex::Hex;
use anchored::Anchored;
pub use anchored::{AnchoredBy, Trust};
use lines::Lines;

/// What stands behind the last checkpoint, besides the log's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchoring {
    /// Nothing: whoever holds the token's PIN could have signed another history.
    InternallyConsistentOnly,
    /// Cosignatures of witnesses that the verifier trusts.
    Anchored(Vec<AnchoredBy>),
}

/// What is proven about entries that are not in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// There are none, up to the last checkpoint.
    Complete,
    /// There are none of this tenant, up to an entry with the root of its tree.
    CompleteForTenant {
        /// The tenant.
        tenant: Uuid,
        /// Sequence number of the entry with the root.
        as_of: u64,
        /// Its time.
        time: String,
    },
    /// Nothing: the entries shown are in the log, and others may be too.
    InclusionOnly,
}

/// A verified export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedExport {
    /// The log.
    pub origin: String,
    /// Number of leaves of the log under the last checkpoint.
    pub size: u64,
    /// The root over them.
    pub root: Hex<32>,
    /// Number of entries in the file.
    pub entries: u64,
    /// What is proven about others.
    pub completeness: Completeness,
    /// Number of checkpoints in the file, all verified.
    pub checkpoints: u64,
    /// The log's keys, in the order in which they signed.
    pub keys: Vec<String>,
    /// Time of the first entry; empty if there is none.
    pub first_time: String,
    /// Time of the last entry; empty if there is none.
    pub last_time: String,
    /// The last checkpoint, a signed note.
    pub last_checkpoint: String,
    /// What stands behind it.
    pub anchoring: Anchoring,
    /// Keys of the witnesses asked for that have cosigned none of its checkpoints. Whoever asked for them must not accept the export.
    pub missing_witnesses: Vec<String>,
    /// Names on further signature lines of the last checkpoint; not checked here.
    pub unchecked_cosignatures: Vec<String>,
}

/// Why an export is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It cannot be read.
    #[error("the export cannot be read: {0}")]
    Read(#[from] io::Error),
    /// A line is wrong by itself or in its place.
    #[error("line {line}: {what}")]
    Line {
        /// The first such line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The leaves are not those that were signed.
    #[error(
        "lines {first} to {last}: the leaves are not those that the checkpoint on line {checkpoint} was signed over"
    )]
    Root {
        /// First line that can be the changed one.
        first: u64,
        /// Last line that can be.
        last: u64,
        /// The checkpoint's line.
        checkpoint: u64,
    },
    /// The file ends too early.
    #[error("the export ends after line {line}, before its last checkpoint: it was cut off")]
    Cut {
        /// The last line.
        line: u64,
    },
}

impl VerifyError {
    fn at(line: u64, what: impl Into<String>) -> Self {
        Self::Line { line, what: what.into() }
    }
}

/// What the first line says, once it is known to be one of this log.
struct Head {
    header: ExportHeader,
    keys: Vec<VerifierKey>,
}

impl Head {
    fn read(text: &str, given: &[VerifierKey]) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("no export header: {e}"))?;
        let header = ExportHeader::deserialize(&value).map_err(|e| format!("no export header: {e}"))?;
        if canonical(&value).as_deref() != Some(text) || serde_json::to_value(&header).ok() != Some(value) {
            return Err("the export header is not in canonical form".into());
        }
        if header.format != FORMAT {
            return Err(format!("its format is {:?}, not {FORMAT:?}", header.format));
        }
        let names = given.iter().map(VerifierKey::name);
        if !names.clone().any(|name| name == header.origin) {
            let names: Vec<&str> = names.collect();
            return Err(format!(
                "it is an export of {}, the key given is that of {}",
                header.origin,
                names.join(" and ")
            ));
        }
        let parse = |text: &String| text.parse::<VerifierKey>().ok().filter(|k| k.to_string() == *text);
        let keys: Option<Vec<VerifierKey>> = header.keys.iter().map(parse).collect();
        let keys = keys.filter(|keys| keys.iter().all(|k| k.name() == header.origin));
        let keys = keys.ok_or("its keys are not all verifier keys of this log")?;
        if !keys.iter().any(|key| given.contains(key)) {
            return Err("the key given is none of the keys that it names".into());
        }
        let fits = match header.scope {
            Scope::Full => header.filter.is_none() && header.tenant.is_none(),
            Scope::Tenant => header.filter.is_none() && header.tenant.is_some(),
            Scope::Selection => header.filter.is_some() && header.tenant.is_none(),
        };
        if fits { Ok(Self { header, keys }) } else { Err("its scope, tenant and filter do not go together".into()) }
    }
}

/// First and last time of the entries read.
#[derive(Default)]
struct Times {
    first: String,
    last: String,
}

impl Times {
    fn enter(&mut self, leaf: &Leaf) -> Result<(), String> {
        if leaf.time < self.last {
            return Err(format!("its time {} is before that of the leaf before it, {}", leaf.time, self.last));
        }
        if self.first.is_empty() {
            self.first.clone_from(&leaf.time);
        }
        self.last.clone_from(&leaf.time);
        Ok(())
    }
}

/// Verifies an export of any scope and form by the log's key, or by one of its keys if it had several.
///
/// # Errors
/// [`VerifyError`], naming the first bad line as closely as the file allows.
pub fn verify_export(from: &mut impl BufRead, key: &VerifierKey) -> Result<VerifiedExport, VerifyError> {
    verify_export_with(from, std::slice::from_ref(key), |_, _, _| {})
}

/// As [`verify_export`], with several keys, any of which will do. Every entry is shown to `see` with its text and, in a full
/// export, the tree up to and with it; what it sees is verified only when this returns.
///
/// # Errors
/// As [`verify_export`].
pub fn verify_export_with(
    from: &mut impl BufRead,
    keys: &[VerifierKey],
    see: impl FnMut(&Leaf, &str, Option<&RightEdge>),
) -> Result<VerifiedExport, VerifyError> {
    verify_export_trusting(from, &Trust { keys, witnesses: &[] }, see)
}

/// As [`verify_export_with`]; the cosignatures of trusted witnesses are verified, and one that is wrong is an error.
///
/// # Errors
/// As [`verify_export`].
pub fn verify_export_trusting(
    from: &mut impl BufRead,
    trust: &Trust<'_>,
    see: impl FnMut(&Leaf, &str, Option<&RightEdge>),
) -> Result<VerifiedExport, VerifyError> {
    let mut lines = Lines::new(from);
    let first = lines.next()?.ok_or(VerifyError::Cut { line: 0 })?;
    let head = Head::read(&first, trust.keys).map_err(|what| VerifyError::at(lines.number(), what))?;
    match head.header.scope {
        Scope::Full => full::verify(&mut lines, head, trust.witnesses, see),
        Scope::Tenant | Scope::Selection => proven::verify(&mut lines, head, trust.witnesses, see),
    }
}

/// The whole entries of a full export, one after the other, unverified: for finding where two exports part.
#[derive(Debug)]
pub struct EntryLines<'a, R> {
    lines: Lines<'a, R>,
}

impl<'a, R: BufRead> EntryLines<'a, R> {
    /// Reads over the header.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn new(from: &'a mut R) -> Result<Self, VerifyError> {
        let mut lines = Lines::new(from);
        lines.next()?;
        Ok(Self { lines })
    }

    /// The next entry: its line and text.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is none.
    pub fn next_entry(&mut self) -> Result<Option<(u64, String)>, VerifyError> {
        while let Some(text) = self.lines.next()? {
            if !text.starts_with("{\"checkpoint\":") {
                return Ok(Some((self.lines.number(), text)));
            }
        }
        Ok(None)
    }
}
