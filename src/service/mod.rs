//! The services' edges: home folder, configuration, sizes.

pub mod config;
pub mod daemon;
pub mod data_path;
pub mod home;
pub mod key_authority;
pub mod notify;
pub mod pin;
pub mod size;
pub mod verify;
