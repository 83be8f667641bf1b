//! What the host sees of a drive.

pub mod st;
