//! A PKCS#11 module for tests. It forwards every function of the 2.40 list to another module, and does on the way what a plan says:
//! an HSM that is pulled out, locks its PIN, loses sessions, hangs, crashes, or lies.
//!
//! SoftHSM2 alone cannot fail like that. Nothing here is shipped; a worker process loads it because a test names it as the module.
//!
//! - The plan ([`Plan`]) is a file in a folder ([`Site`]), looked at before every call: a test changes it while a worker runs.
//! - The journal in the same folder has a line for every call of every process, so that a test can count what reached the token:
//!   [`Call`] names the wrapped key of an unwrapping.
//! - Faults are real where they can be: lost sessions are closed, a silent logout logs out.
//!
//! Not here, on purpose: writing beyond a buffer. Such a module can do whatever it likes in its process anyway.

mod plan;
mod site;
mod state;
mod sys;

pub use plan::{Fault, PinLimit, Plan, Rule, rv};
pub use site::{Call, FOLDER, MODULE, Site};
