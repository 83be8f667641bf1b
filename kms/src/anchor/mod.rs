//! Anchors: places outside this installation that keep what its custody log was, so that a rewritten or rolled-back log shows even
//! to whom holds the token's PIN.
//!
//! | kind | what it does | finds by itself |
//! |---|---|---|
//! | witness | cosigns a checkpoint only if it extends the one before (C2SP tlog-witness) | rollback, fork, replacement |
//! | file | checkpoints appended to a file on another medium | the same, read back by us |
//! | syslog | checkpoints sent to the system's log | nothing: it is compared by people |
//!
//! The clients here do no more than one attempt with a limit in time. Who waits, who retries and what follows from a fault is the
//! authority's (`authority/anchor`).

mod file;
mod policy;
mod syslog;
mod witness;

pub use policy::{AnchorConfig, AnchorKind, AnchoringPolicy, WitnessUrl};

use crate::custody::tree::Hash;
use crate::custody::{Checkpoint, VerifierKey};
use crate::protocol::{AnchorTrouble, Refusal};

/// A signed checkpoint that is to be anchored.
#[derive(Debug, Clone)]
pub(crate) struct Submission {
    pub(crate) checkpoint: Checkpoint,
    /// The checkpoint's note.
    pub(crate) note: String,
    /// The key that signed it.
    pub(crate) key: VerifierKey,
}

/// The tree as it stands in the catalogue.
pub(crate) trait Tree {
    /// Its root when it had `size` leaves.
    fn root_at(&self, size: u64) -> Result<Hash, Refusal>;
    /// The proof that the tree of `new` leaves begins with that of `old`.
    fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, Refusal>;
}

/// Why an anchor did not take a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: AnchorTrouble,
    pub(crate) what: String,
}

impl Fault {
    pub(crate) fn away(what: impl Into<String>) -> Self {
        Self { kind: AnchorTrouble::Away, what: what.into() }
    }

    pub(crate) fn faulty(what: impl Into<String>) -> Self {
        Self { kind: AnchorTrouble::Faulty, what: what.into() }
    }

    /// It has lost what was anchored in it.
    pub(crate) fn lost(what: impl Into<String>) -> Self {
        Self { kind: AnchorTrouble::Lost, what: what.into() }
    }

    /// It knows another history than the catalogue has.
    pub(crate) fn contradicts(what: impl Into<String>) -> Self {
        Self { kind: AnchorTrouble::Contradicts, what: what.into() }
    }
}

impl From<Refusal> for Fault {
    /// A fault of the catalogue while a proof was made.
    fn from(refusal: Refusal) -> Self {
        Self::away(format!("no proof could be made: {}", refusal.what))
    }
}

/// What an anchor says of a checkpoint that it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// A witness's signature line.
    pub(crate) cosignature: Option<String>,
    /// The witness's time, in seconds since 1970.
    pub(crate) time: Option<u64>,
}

/// One anchor.
pub(crate) trait Anchor: Send {
    /// Compares what the anchor has with the tree, and gives it the checkpoint. `known` is the size that it took last, as the
    /// catalogue has it: 0 for a new one. Ends within a limit, but for a file on a file system that hangs.
    fn submit(&mut self, submission: &Submission, known: u64, tree: &dyn Tree) -> Result<Receipt, Fault>;
}

impl AnchorConfig {
    pub(crate) fn client(&self) -> Result<Box<dyn Anchor>, Fault> {
        Ok(match &self.kind {
            AnchorKind::Witness { url, key, timeout, ca } => {
                Box::new(witness::Witness::new(url.clone(), key.clone(), *timeout, ca.as_deref())?)
            }
            AnchorKind::File { path } => Box::new(file::AnchorFile::new(path.clone())),
            AnchorKind::Syslog { socket } => Box::new(syslog::Syslog::new(socket.clone())),
        })
    }
}
