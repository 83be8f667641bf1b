//! FUSE front end: one mounted folder with two nodes per drive, `stN` (rewinds at close) and `nstN`
//! (does not), that behave towards unmodified programs as the nodes of the kernel's `st` driver do.
//!
//! What a tape *does* is not known here: [`TapeNode`] is asked, from one thread per drive. Here is
//! what a folder has to do so that a file can stand for a tape:
//!
//! - Records stay whole. Requests that the kernel may have cut are refused ([`TransferLimit`]).
//! - One open file per drive, shared by `dup` and `fork`; a second `open` of either node is EBUSY.
//! - `close` (FLUSH, once for every descriptor) synchronises and reports; the closing filemark and
//!   the rewind belong to the last `close` (RELEASE), which the kernel does not wait for. The next
//!   `open` does, and is told when they failed.
//! - A drive that takes minutes holds up nobody but its own clients.
//!
//! The mount is made without libfuse: by `mount(2)` as root, through `fusermount3` otherwise (where
//! `/dev/fuse` may be opened). SG_IO does not pass: the library carries no pointers.

mod filesystem;
mod limits;
mod mount;
mod mountpoint;
pub mod mtio;
mod node;
mod worker;

pub use limits::TransferLimit;
pub use mount::{AllowOther, DriveNodes, MountError, MountOptions, Mounted, NodePaths, mount};
pub use node::{Access, OpenRequest, Opener, TapeNode};
