//! What crosses the sockets of the key authority: requests, replies, refusals. No key is in any of these types; a data key follows
//! its reply in the frame's secret trailer (see `frame.rs`).

mod anchor;
mod audit;
mod backup;
mod control;
mod data_path;
mod destruction;
mod dual;
mod exchange;
mod hsm;
mod keys;
mod recovery;
mod refusal;
mod tenants;
mod types;

pub use crate::cartridge::{BarcodePattern, Cartridge};
pub use anchor::*;
pub use audit::*;
pub use backup::*;
pub use control::*;
pub use data_path::*;
pub use destruction::*;
pub use dual::*;
pub use exchange::*;
pub use hsm::*;
pub use keys::*;
pub use recovery::*;
pub use refusal::*;
pub use tenants::*;
pub use types::*;

/// Name of the data path's socket in the run directory.
pub const KEYS_SOCKET: &str = "keys.sock";
/// Name of the control socket (command line) in the run directory.
pub const CONTROL_SOCKET: &str = "keyd.sock";
/// Name of the socket for pipes (`seal`, `open`) in the run directory.
pub const STREAM_SOCKET: &str = "stream.sock";
