//! What the host sees: a sealed tape is itself a [`TapeDrive`](sealtape_drivers::medium::TapeDrive) over the real one.
//!
//! [`SealedTape`] carries out what [`volume`](crate::volume) decides. Its host sees a tape that begins behind the
//! hidden label, whose blocks are plain, and whose positions, residues and limits are those of such a tape.

mod label;
mod motion;
mod read;
mod refusals;
mod sealed;
mod unsynchronised;
mod write;

pub use label::LabelRequest;
pub use sealed::{LoadReport, SealedTape, UnitOptions, UnitStatus};
pub use unsynchronised::UnsynchronisedMark;
