//! SCSI wire types. Names are those of SPC-4, SSC-4 and SMC-3; numbers are as the standards print them.
//!
//! One type serves both directions: what the virtual drive answers, and what the real one says. `parse` is total and bounded:
//! it refuses what is too short to mean anything, takes less than everything where a device may send less, and never
//! keeps more than it was given. `to_bytes` gives the whole structure; cutting it to the allocation length is the unit's matter.

mod command;
mod inquiry;
mod limits;
mod position;
mod sense;
mod sense_text;
mod sense_wire;
mod tape_alert;
mod unit;
mod vpd;
mod wire;

pub use command::{Cdb, CdbError, Command, Destination, Form, PageControl, cdb_length};
pub use inquiry::{Peripheral, StandardInquiry, VERSION_SPC_4, version};
pub use limits::{BlockLengthLimits, MaximumLogicalObject};
pub use position::{Location, PositionData};
pub use sense::{AdditionalSense, FieldPointer, Sense, SenseFlags, SenseKey};
pub use sense_text::additional_text;
pub use tape_alert::TapeAlertFlags;
pub use unit::{Completion, DataIn, LogicalUnit, Status};
pub use vpd::{Designator, ExtendedInquiry, Vpd, vpd_page};
pub use wire::WireError;
