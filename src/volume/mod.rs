//! A sealed volume as a state machine: what stands at its beginning, which sessions wrote what, what a write at a
//! place means, and when writing is over. No I/O and no clock: the unit carries out what is decided here.

pub mod access;
pub mod identity;
pub mod keys;
pub mod partition;
pub mod session_map;

pub use access::{Access, AccessLatch};
pub use identity::{BeginningOfPartition, HIDDEN_FILEMARKS, HIDDEN_OBJECTS};
pub use keys::{
    KeyRefusal, KeyRefusalKind, KeySource, LoadedGeneration, NewGeneration, SessionOpening, SyncReport, VolumePolicy,
};
pub use partition::{PartitionState, WritePlan};
pub use session_map::{SessionExtent, SessionMap};
