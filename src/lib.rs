//! Sealtape: inline encryption for tapes and removable disks.
//!
//! The way of a record: a front end takes the host's request → [`mod@unit`] checks it → [`volume`] decides → [`pipeline`]
//! keeps its place in order → [`seal`] seals → `drivers::medium::TapeDrive` → a back end writes.

pub mod cli;
pub mod control;
pub mod filter;
pub mod pipeline;
pub mod restore;
pub mod seal;
pub mod service;
pub mod unit;
pub mod volume;
