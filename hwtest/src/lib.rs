//! Guest lab and suites for real drives.
//!
//! [`guest`] starts a Linux kernel of its own, with this machine's root folder as its root, and runs a script in it: the way to
//! a real SCSI stack on machines that have none.

pub mod guest;
mod sys;
pub mod tape;
