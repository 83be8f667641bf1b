//! Guest lab and suites for real drives.
//!
//! [`guest`] starts a Linux kernel of its own, with this machine's root folder as its root, and runs a script in it: the way to
//! a real SCSI stack on machines that have none. [`suite`] tries drives, real and virtual.

pub mod guest;
pub mod suite;
mod sys;
pub mod tape;
