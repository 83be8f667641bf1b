//! Verifying an export with nothing but the file and the log's public key (`docs/custody/custody-log.md`, "Verifying").

use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use super::leaf::{Leaf, MAX_LEAF, Outcome};
use super::note::{NoteError, VerifierKey};
use super::op;
use super::tree::{RightEdge, leaf_hash};
use crate::hex::Hex;

/// The value of `format` in the first line.
pub const FORMAT: &str = "sealtape custody export 1";

/// First line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportHeader {
    /// [`FORMAT`].
    pub format: String,
    /// The verifier key. The one that the verifier was given decides; this one has to be the same.
    pub key: String,
    /// The log's origin.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
}

/// A checkpoint line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointLine {
    /// The signed note.
    pub checkpoint: String,
}

/// What stands behind the last checkpoint, besides the log's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchoring {
    /// Nothing: whoever holds the token's PIN could have signed another history.
    InternallyConsistentOnly,
}

/// A verified export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedExport {
    /// The log.
    pub origin: String,
    /// Number of leaves, all of them from the first.
    pub size: u64,
    /// The root.
    pub root: Hex<32>,
    /// Number of checkpoints in the file, all verified.
    pub checkpoints: u64,
    /// Time of the first leaf.
    pub first_time: String,
    /// Time of the last leaf.
    pub last_time: String,
    /// What stands behind it.
    pub anchoring: Anchoring,
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

/// Longest line.
const MAX_LINE: u64 = 4 * MAX_LEAF as u64;

/// Reads one line that has to end with a newline.
fn line(from: &mut impl BufRead, number: u64) -> Result<Option<String>, VerifyError> {
    let mut bytes = Vec::new();
    from.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let fault = |what: &str| VerifyError::Line { line: number, what: what.into() };
    if bytes.pop() != Some(b'\n') {
        return Err(fault("it does not end, or is too long"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| fault("it is not UTF-8"))
}

/// Verifies a full export.
///
/// # Errors
/// [`VerifyError`], naming the first bad line as closely as the file allows.
pub fn verify_export(from: &mut impl BufRead, key: &VerifierKey) -> Result<VerifiedExport, VerifyError> {
    let mut number = 1;
    let at = |line: u64, what: String| VerifyError::Line { line, what };
    let first = line(from, number)?.ok_or(VerifyError::Cut { line: 0 })?;
    let header: ExportHeader = serde_json::from_str(&first).map_err(|e| at(1, format!("no export header: {e}")))?;
    if header.format != FORMAT {
        return Err(at(1, format!("its format is {:?}, not {FORMAT:?}", header.format)));
    }
    if header.origin != key.name() {
        return Err(at(1, format!("it is an export of {}, the key given is that of {}", header.origin, key.name())));
    }
    if header.key != key.to_string() {
        return Err(at(1, format!("it names the key {}, the key given is {key}", header.key)));
    }
    let mut edge = RightEdge::default();
    let mut times: Option<(String, String)> = None;
    let mut checkpoints = 0;
    let mut verified_to = 1;
    let mut last_checkpoint = None;
    // A catalogue restored from a backup goes on with its log under another origin: the last one named is that of the export.
    let mut opened = None;
    while let Some(text) = line(from, number + 1)? {
        number += 1;
        if last_checkpoint.as_ref().is_some_and(|_| edge.size() == header.size) {
            return Err(at(number, "something follows the last checkpoint".into()));
        }
        if let Ok(CheckpointLine { checkpoint }) = serde_json::from_str(&text) {
            let (checkpoint, signatures) = key.open(&checkpoint).map_err(|e: NoteError| at(number, e.to_string()))?;
            if checkpoint.origin != header.origin {
                return Err(at(number, format!("the checkpoint is of another log, {}", checkpoint.origin)));
            }
            if checkpoint.size != edge.size() {
                let what =
                    format!("the checkpoint is over {} leaves, {} stand before it", checkpoint.size, edge.size());
                return Err(at(number, what));
            }
            if checkpoint.root != edge.root() {
                return Err(VerifyError::Root { first: verified_to + 1, last: number - 1, checkpoint: number });
            }
            checkpoints += 1;
            verified_to = number;
            last_checkpoint = Some(signatures);
            continue;
        }
        let leaf = Leaf::parse(&text).map_err(|what| at(number, what))?;
        if leaf.seq != edge.size() {
            return Err(at(number, format!("leaf {} stands where leaf {} belongs", leaf.seq, edge.size())));
        }
        if leaf.op == op::LOG_OPEN && leaf.outcome == Outcome::Done {
            opened = leaf.reason.clone();
        } else if leaf.seq == 0 {
            return Err(at(number, "the first leaf does not open a log".into()));
        }
        times = Some(match times {
            Some((_, last)) if leaf.time < last => {
                return Err(at(number, format!("its time {} is before that of the leaf before it, {last}", leaf.time)));
            }
            Some((first, _)) => (first, leaf.time),
            None => (leaf.time.clone(), leaf.time),
        });
        edge.append(leaf_hash(text.as_bytes()), |_, _| {});
        last_checkpoint = None;
    }
    let (Some(signatures), Some((first_time, last_time))) = (last_checkpoint, times) else {
        return Err(VerifyError::Cut { line: number });
    };
    if opened.as_ref() != Some(&header.origin) {
        return Err(at(number, format!("no leaf opens the log {}", header.origin)));
    }
    if edge.size() != header.size {
        return Err(at(number, format!("{} leaves, the first line says {}", edge.size(), header.size)));
    }
    Ok(VerifiedExport {
        origin: header.origin,
        size: edge.size(),
        root: Hex(edge.root()),
        checkpoints,
        first_time,
        last_time,
        anchoring: Anchoring::InternallyConsistentOnly,
        unchecked_cosignatures: signatures.others,
    })
}
