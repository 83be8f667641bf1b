//! Tokens behind PKCS#11.
//!
//! A vendor's library can hang, crash and fork badly, so it never runs in the key authority: each module has a worker process
//! ([`worker_main`]), which holds the sessions and the PIN, and is killed and started again when it overruns a deadline.
//! [`Token`] is the key authority's side.

mod blank;
mod child;
mod error;
mod keys;
mod ladder;
mod lane;
mod module;
mod pin;
mod probe;
mod profile;
mod rewrap;
mod sys;
mod token;
mod under_way;
mod uri;
mod wire;
mod worker;

pub use error::TokenError;
pub use pin::{PinFrom, PinLatch, PinPrompt, PinSource, read_pin_file, write_pin_file};
pub use profile::{Check, TokenFacts, TokenReport, Verdict, Weight};
pub use token::{DEFAULT_LANES, Limits, Token, TokenConfig, WORKER_ARGUMENT, WorkerCommand, init_token};
pub use uri::Uri;
pub use wire::{Canary, Rewrapped, SignAlgorithm, UnwrapTemplate, WrapMechanism, WrapWith, WrappedItem};
pub use worker::worker_main;
