//! SCSI wire types: what stands in CDBs, sense data and pages, and nothing else.

mod sense;

pub use sense::{AdditionalSense, Sense, SenseFlags, SenseKey};
