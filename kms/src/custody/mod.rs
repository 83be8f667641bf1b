//! The custody log: who did what with which key, in an append-only Merkle tree. The format is specified in
//! `docs/custody/custody-log.md`; the storage is part of the catalogue.

pub(crate) mod base64;
mod leaf;
mod note;
pub mod op;
pub mod tree;
mod verify;

pub use leaf::{Approval, Blob, Leaf, MAX_LEAF, Outcome, canonical};
pub use note::{Checkpoint, NoteError, NoteSignatures, VerifierKey};
pub use verify::{Anchoring, CheckpointLine, ExportHeader, FORMAT, VerifiedExport, VerifyError, verify_export};
