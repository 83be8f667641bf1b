//! Sealtape: inline encryption for tapes and removable disks.

pub mod cli;
pub mod control;
pub mod service;
