//! Sealtape: inline encryption for tapes and removable disks.

pub mod unit;
