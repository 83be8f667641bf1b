//! The real drive: a [`TapeDrive`](crate::medium::TapeDrive) over commands that some transport carries, SG_IO first of all.

mod transport;

pub use transport::{Answer, Data, Transport};
