//! Faults on demand: a drive that fails where a plan says, each time at the same place.
//!
//! A plan is text, one fault a line: `COMMAND NUMBER EFFECT [times N | for-ever]`. Commands of a kind are
//! counted from 1; `any` counts all of them. Empty lines and what follows a `#` are ignored.
//!
//! ```text
//! write 5 medium              # the fifth block cannot be written
//! read 3 medium times 2       # the third and fourth reads find an unreadable block
//! any 40 reset                # the fortieth command finds the drive reset: what was buffered is lost
//! write 9 end-of-medium for-ever
//! ```

mod drive;
mod plan;

pub use drive::FaultyDrive;
pub use plan::{Command, Effect, Fault, FaultPlan, FaultPlanError};
