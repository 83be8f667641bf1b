//! The custody log: who did what with which key, in an append-only Merkle tree. The format is specified in
//! `docs/custody/custody-log.md`; the storage is part of the catalogue.

pub(crate) mod base64;
pub mod certificate;
mod csv;
mod export;
mod leaf;
mod log_key;
mod note;
pub mod op;
pub mod tree;
mod verify;
mod witness;

pub use csv::{csv_head, csv_line};
pub use export::{CheckpointLine, ExportHeader, FORMAT, LeafFilter, ProvenAs, Scope};
pub(crate) use export::{end_line, proven_line};
pub use leaf::{Approval, Blob, KeyChange, Leaf, MAX_LEAF, NotCanonical, Outcome, canonical, canonical_digest};
pub use note::{Checkpoint, NoteError, NoteSignatures, VerifierKey};
pub use verify::{
    AnchoredBy, Anchoring, Completeness, EntryLines, Trust, VerifiedExport, VerifyError, verify_export,
    verify_export_trusting, verify_export_with,
};
pub use witness::{Cosignature, WitnessKey};

/// Base64 (RFC 4648 section 4, padded), as notes and witnesses use it, strictly: one text for one value.
#[must_use]
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    base64::decode(text)
}
