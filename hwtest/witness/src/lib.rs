//! A small witness: it follows the growth of transparency logs and cosigns what only extends what it cosigned before
//! (c2sp.org/tlog-witness, `add-checkpoint` and the monitoring checkpoint; Ed25519 cosignatures).
//!
//! For Sealtape's tests and for trying anchors out by hand on one machine. It is no witness for real use: whoever breaks into this
//! machine gets its key too, so it proves nothing that the machine's own log does not. It checks consistency proofs with code of its
//! own, not that which makes them.
//!
//! Files in its folder: `witness.key` (seed, mode 0600), and per log `HASH` (hexadecimal SHA-256 of the origin): the latest checkpoint
//! with its signatures. A checkpoint is on the disk before its cosignature leaves.

mod proof;
mod serve;
mod store;

pub use proof::consistent;
pub use serve::Serving;
pub use store::{Answer, Witness, file_of};
