//! Keys, catalogue and custody of Sealtape: what runs in `sealtape-keyd`, and how other programs talk to it.
//!
//! - [`authority`]: who gets which key, by which rules; [`server`] puts it on sockets, [`client`] asks it, [`protocol`] is what they say.
//! - [`pkcs11`]: tokens, each behind a worker process with deadlines. A program that serves or sets up keys calls
//!   [`pkcs11::worker_main`] when its first argument is [`pkcs11::WORKER_ARGUMENT`].
//! - [`custody`]: the log that proves itself; [`custody::verify_export`] needs a file and a public key, nothing else.
//! - [`anchor`]: witnesses and other places outside that keep what the log was.
//! - [`home`]: the folder of an installation and its set-up. [`offline`]: keys from token and medium alone.
//!
//! What holds at any time:
//! - A data key leaves only after the custody entry of its release is durable; a log that cannot be written stops releases.
//! - Every change of what exists is one transaction with its custody entry.
//! - A wrapped key is unwrapped only if the custody entry that created it names its hash, its place and its key-encryption key.
//! - A secret lives in a locked, wiped page of its own and crosses processes in fixed areas of a frame; no type that is printed or
//!   serialised contains one.
//! - Session ordinals and generation numbers are given once, whatever crashes.
//!
//! Not here, on purpose: devices, the format of media beyond wrapped keys, networks but the witnesses, and any cipher of our own: data keys are made and
//! wrapped in the token.

pub mod age;
pub mod anchor;
pub mod authority;
pub mod backup;
mod cartridge;
mod catalogue;
pub mod client;
pub mod custody;
pub mod exchange;
mod fault;
mod frame;
pub mod hex;
pub mod home;
mod keystate;
pub mod offline;
pub mod pkcs11;
pub mod protocol;
pub mod recovery;
pub mod restore;
pub mod secret;
pub mod server;
mod sys;
mod time;

pub use keystate::NoTransition;
