//! Replacing the catalogue's key-encryption key, and destroying keys: requests and replies.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::types::GenerationRef;

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum DestructionRequest {
    /// Replaces the catalogue's key-encryption key, or takes a rotation up again that was stopped or held. The work is done by the
    /// key authority itself, whoever listens.
    Rotate {
        /// Why; kept in the custody log.
        reason: String,
    },
    /// Stops the rotation where it is.
    StopRotation {
        /// Why; kept in the custody log.
        reason: String,
    },
    /// How far the last rotation is.
    ShowRotation,
}

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum DestructionReply {
    /// Done; there is nothing to tell.
    Done,
    /// The last rotation; none if there never was one.
    Rotation(Option<RotationView>),
}

/// Where a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotationState {
    /// Keys are wrapped by the new key-encryption key.
    Rewrapping,
    /// All are; each is opened once more.
    Verifying,
    /// Keys are left whose wrapped copies do not open.
    Held,
    /// Stopped by an operator.
    Stopped,
    /// The old key-encryption key is out of use.
    Done,
}

/// A rotation of the catalogue's key-encryption key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationView {
    /// The rotation.
    pub rotation: Uuid,
    /// The key-encryption key that is replaced.
    pub old_kek: Uuid,
    /// The one that replaces it.
    pub new_kek: Uuid,
    /// Where it is.
    pub state: RotationState,
    /// Keys in all, those made meanwhile included.
    pub total: u64,
    /// Keys under the new one.
    pub rewrapped: u64,
    /// Keys that were opened under it once more.
    pub verified: u64,
    /// Keys that did not open, at most 1000.
    pub damaged: Vec<DamagedKey>,
    /// Why it was begun.
    pub reason: String,
    /// When it was begun.
    pub started: String,
    /// When it came to its end.
    pub ended: Option<String>,
    /// What holds it up just now, such as a token that does not answer.
    pub trouble: Option<String>,
}

/// A wrapped key that does not open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedKey {
    /// Which.
    pub at: GenerationRef,
    /// The volume's label.
    pub label: String,
    /// What was said.
    pub what: String,
}
