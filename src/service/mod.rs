//! The services' edges: home folder, configuration, sizes.

pub mod config;
pub mod home;
pub mod size;
