//! Keys, catalogue and custody of Sealtape.

pub mod client;
pub mod custody;
mod frame;
pub mod hex;
pub mod pkcs11;
pub mod protocol;
pub mod secret;
mod sys;
mod time;
