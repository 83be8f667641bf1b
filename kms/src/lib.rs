//! Keys, catalogue and custody of Sealtape.

pub mod authority;
mod catalogue;
pub mod client;
pub mod custody;
mod fault;
mod frame;
pub mod hex;
pub mod home;
mod keystate;
pub mod offline;
pub mod pkcs11;
pub mod protocol;
pub mod secret;
pub mod server;
mod sys;
mod time;

pub use keystate::NoTransition;
