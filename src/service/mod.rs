//! The services' edges: home folder, configuration, sizes.

mod barcode;
pub mod config;
pub mod daemon;
pub mod data_path;
mod drive_status;
mod front;
pub mod home;
pub mod key_authority;
mod key_guard;
pub mod notify;
pub mod pin;
mod raw_drive;
pub mod size;
pub mod verify;
pub mod virtual_drives;
