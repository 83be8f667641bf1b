//! The virtual drive: logical units served to this kernel (and behind it to iSCSI or Fibre Channel) by `target_core_user`.
//!
//! [`Server`] serves one [`LogicalUnit`](crate::scsi::LogicalUnit) from one thread: commands come through a ring in memory
//! shared with the kernel, one after another, and are answered in that order. [`Lun`] links a served unit to this kernel's
//! own SCSI layer (`tcm_loop`), where `st` and `sg` bind to it. [`remove_leftovers`] takes away what a killed service left.
//!
//! What holds:
//! - The unit is served before it is linked, because linking asks it what it is, and until after it is unlinked, because
//!   the kernel waits for its answers.
//! - A service that was killed leaves device, link and the host's device nodes in place. The next one finds them by name
//!   and goes on ([`Server::resumed`]): what was in flight has failed, and the unit hears of it by
//!   [`reset`](crate::scsi::LogicalUnit::reset), so that the host's next command meets a unit attention.
//! - Nothing in the ring is believed before it was checked. A broken ring is reset, the unit too.
//! - A unit that panics answers HARDWARE ERROR from then on; no command of the kernel's waits for ever.
//!
//! What the kernel keeps for itself: REPORT LUNS, PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE (a command does not
//! tell which initiator sent it, so reservations could not be kept here), and task management. All else arrives here whole.
//!
//! Deliberately absent: netlink (the uio device says the same), out-of-order completion, data both ways.

mod configfs;
mod device;
mod error;
mod layout;
mod leftovers;
mod lun;
mod ring;
mod serve;
mod server;
mod sys;

pub use device::{DEFAULT_HBA, UnitConfig};
pub use error::{Failures, TcmuError};
pub use leftovers::{Leftovers, remove_leftovers};
pub use lun::{Address, HostDevices, Lun};
pub use ring::RingError;
pub use server::Server;
