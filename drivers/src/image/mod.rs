//! File-backed drive: a tape drive whose cartridges are files.
//!
//! [`create`] makes a cartridge, [`ImageDrive`] takes it in and is a [`crate::medium::TapeDrive`],
//! [`dump`] lists what stands in it. The file format is specified in `docs/image-format.md`, with
//! the reasoning why a cut at any byte of any write leaves everything synchronised in place.
//!
//! Invariants:
//! - a superblock is written only after everything it calls synchronised is on the medium;
//! - within an epoch every byte of a partition is written once at most, and each epoch has a fresh
//!   random salt, so that neither an older frame nor a payload is ever taken for a frame;
//! - what a command needs is one header, never a search: every operation is O(1) or O(log n) in
//!   the number of objects. The index costs 8 bytes per object.
//!
//! Deliberately absent: encryption and compression (the blocks come sealed), reading without the
//! scan of all frame headers, and repair of a damaged file.
//!
//! [`faults`] wraps a drive and makes chosen commands fail; [`trace`] records what is written, so
//! that suites can build the file as any power cut would leave it.

mod attributes;
mod cartridge;
mod create;
mod drive;
pub mod dump;
pub mod faults;
mod frame;
mod header;
mod index;
mod report;
mod storage;
mod superblock;
mod tape;
pub mod trace;
mod walk;

pub use create::{CreateOptions, create, create_on, set_write_protect};
pub use drive::ImageDrive;
pub use frame::{FRAME_HEADER_BYTES, MAX_BLOCK_BYTES, frame_bytes};
pub use header::{DATA_OFFSET, HEADER_BYTES, ImageHeader};
pub use report::ImageError;
pub use storage::{FileStorage, OpenMode, Storage};
