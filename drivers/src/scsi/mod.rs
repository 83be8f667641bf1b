//! SCSI wire types. Names are those of SPC-4, SSC-4 and SMC-3; numbers are as the standards print them.

mod command;
mod sense;
mod unit;

pub use command::{Cdb, CdbError, Command, Destination, Form, PageControl, cdb_length};
pub use sense::{AdditionalSense, FieldPointer, Sense, SenseFlags, SenseKey};
pub use unit::{Completion, DataIn, LogicalUnit, Status};
