//! What the host sees: a sealed tape is itself a [`TapeDrive`](sealtape_drivers::medium::TapeDrive) over the real one.
//!
//! [`SealedTape`] carries out what [`volume`](crate::volume) decides. Its host sees a tape that begins behind the
//! hidden label, whose blocks are plain, and whose positions, residues and limits are those of such a tape. [`st`] gives
//! any drive the semantics of the kernel's tape driver, for the nodes.

mod ahead;
mod ended;
mod guard;
mod label;
mod motion;
mod read;
mod refusals;
pub mod scsi;
mod sealed;
pub mod st;
mod unsynchronised;
mod write;

pub use label::{LabelRequest, Overwrite};
pub use sealed::{Beginning, EndCheck, GenerationStatus, LoadReport, SealedTape, UnitOptions, UnitStatus};
pub use unsynchronised::UnsynchronisedMark;
