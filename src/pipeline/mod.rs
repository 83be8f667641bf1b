//! Ordered parallel sealing and opening, write-behind and read-ahead.
//!
//! A [`WritePipeline`] belongs to one drive: a bounded window of records in order, a writer thread that hands them to
//! the drive one by one, and the sealing threads of a [`SealPool`] that all drives share. A record is acknowledged
//! when it has its place in the window. From the programmable early warning on, and where a drive has none, each
//! record is waited for ([`WritePipeline::set_synchronous`]). After a failure nothing behind the failed record is
//! written, and [`WritePipeline::drain`] tells how many acknowledged records were lost.

//!
//! A [`ReadAhead`] is the same in the other direction: a thread that reads, the same threads to open, outcomes in order.

mod ahead;
mod pool;
pub(crate) mod slot;
mod window;

pub use ahead::{Ahead, AheadRecord, Opening, ReadAhead, Room, is_elsewhere};
pub use pool::SealPool;
pub use window::{DrainReport, PipelineFailure, SharedDrive, SubmitError, WindowLimits, WritePipeline};
