//! The real drive: a [`TapeDrive`](crate::medium::TapeDrive) over commands that some transport carries, SG_IO first of all.
//!
//! [`SgDevice`] carries commands to a `/dev/sgN`; [`ScsiTapeDrive`] makes a drive of anything that carries commands; [`Ownership`]
//! keeps `st` and other initiators off it meanwhile. Three rules hold throughout:
//! - **The position is never guessed.** It is counted from what the drive said, compared with it wherever writing begins and
//!   at each synchronisation, and unknown from any failure of the way to the drive until it was asked for or set anew.
//! - **What the drive says is data.** Every length and number is checked; an answer that cannot be right is an error, not a panic.
//! - **A command is sent again only when the drive has said that it was not executed.**

mod attributes;
mod cartridge;
mod changer;
mod data;
mod describe;
mod device;
mod drive;
mod fault;
mod host_status;
mod identity;
mod link;
mod loading;
mod lookup;
mod motion;
mod owner_record;
mod ownership;
mod partitions;
mod reservation;
mod settings;
mod st_driver;
mod stand;
mod sys;
mod time_limits;
mod transport;

pub use changer::{Changer, ChangerDrive, ChangerSlot, Inventory, SlotKind};
pub use device::{ScsiAddress, SgDevice, Sharing};
pub use drive::ScsiTapeDrive;
pub use lookup::{VIRTUAL_DRIVE_MARK, changer_nodes, tape_nodes};
pub use owner_record::RecordFile;
pub use ownership::{Ownership, OwnershipError, ReservationKey};
pub use st_driver::StDriver;
pub use transport::{Answer, Data, Transport};
