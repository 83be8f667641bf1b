//! Why something is refused.

use serde::{Deserialize, Serialize};

/// Why a request was refused, as a program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The request makes no sense.
    BadRequest,
    /// The peer may not ask this.
    NotAllowed,
    /// No such volume.
    UnknownVolume,
    /// No such pool.
    UnknownPool,
    /// No such generation, or not with that key id.
    UnknownGeneration,
    /// The medium carries a generation that a later one has superseded: it was rolled back, or is a copy.
    Superseded,
    /// The volume's state forbids it.
    VolumeState,
    /// The period in which the key may be used is over.
    KeyExpired,
    /// The key is compromised or destroyed.
    KeyEnded,
    /// The cartridge is not the one that the volume stands in, or that is to be labelled.
    OtherCartridge,
    /// The unit may not use this pool.
    UnitRestricted,
    /// The ticket is unknown, used, expired, or for another unit.
    Ticket,
    /// The label is in use.
    LabelInUse,
    /// The medium holds one of our volumes and the ticket does not allow to label it again.
    WouldReplace,
    /// The token cannot be found.
    TokenMissing,
    /// The PIN was rejected; nothing is tried until an operator clears the latch.
    PinLatched,
    /// The token did not answer in time.
    TokenHung,
    /// The key that wraps the data keys is not in the token, or twice.
    KekMissing,
    /// A wrapped key is not the one that the custody log names.
    TamperedBlob,
    /// The token refused or failed otherwise.
    Token,
    /// The custody log or the catalogue cannot be written.
    LogUnwritable,
    /// The catalogue or the custody log is damaged.
    Damaged,
    /// The custody log is not anchored as policy demands.
    NotAnchored,
    /// An operation under dual control lacks approvals that count, its time is over, it was used, or its target has changed since.
    NotApproved,
    /// No such request for approval.
    UnknownRequest,
    /// No such person.
    UnknownPerson,
    /// Too many requests at once.
    Busy,
    /// A fault of the program.
    Internal,
}

/// A refusal in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; {mend}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// What happened, to which thing.
    pub what: String,
    /// What to do next.
    pub mend: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: RefusalCode, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { code, what: what.into(), mend: mend.into() }
    }
}
