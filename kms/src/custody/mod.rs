//! The custody log: who did what with which key, in an append-only Merkle tree. The format is specified in
//! `docs/custody/custody-log.md`; the storage is part of the catalogue.

pub(crate) mod base64;
mod leaf;
mod note;
pub mod op;
pub mod tree;
mod verify;
mod witness;

pub use leaf::{Approval, Blob, Leaf, MAX_LEAF, Outcome, canonical};
pub use note::{Checkpoint, NoteError, NoteSignatures, VerifierKey};
pub use verify::{Anchoring, CheckpointLine, ExportHeader, FORMAT, VerifiedExport, VerifyError, verify_export};
pub use witness::{Cosignature, WitnessKey};

/// Base64 (RFC 4648 section 4, padded), as notes and witnesses use it, strictly: one text for one value.
#[must_use]
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    base64::decode(text)
}
