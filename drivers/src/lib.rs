//! Everything of Sealtape that touches a device, and all of its `unsafe`.
//!
//! Back ends ([`image`], [`sg`]) implement [`medium::TapeDrive`] and never see a key or
//! plaintext. Front ends ([`fuse`], [`tcmu`]) carry what a host asks to a handler and never see
//! a key either. This crate knows neither the on-media format nor the key management: the arrows
//! point from the package `sealtape` to here, and nowhere else.

pub mod fuse;
pub mod image;
pub mod medium;
pub mod scsi;
pub mod sg;
pub mod tcmu;
