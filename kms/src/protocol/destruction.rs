//! Replacing the catalogue's key-encryption key, and destroying keys: requests and replies.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dual::Operation;
use super::tenants::first;
use super::types::{GenerationRef, KeyState};
use crate::hex::{Hex, HexBytes};

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum DestructionRequest {
    /// Replaces the catalogue's key-encryption key, or takes a rotation up again that was stopped or held. The work is done by the
    /// key authority itself, whoever listens.
    Rotate {
        /// Whose; none for the tenant called default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        /// Why; kept in the custody log.
        reason: String,
    },
    /// Stops the rotation where it is.
    StopRotation {
        /// Whose; none for the tenant called default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        /// Why; kept in the custody log.
        reason: String,
    },
    /// How far the last rotation is.
    ShowRotation {
        /// Whose; none for the tenant called default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
    },
    /// What a destruction would reach and what it would not; nothing is asked for.
    Plan {
        /// What is to be destroyed.
        order: DestructionOrder,
    },
    /// Asks custodians to approve a destruction.
    Ask {
        /// What is to be destroyed.
        order: DestructionOrder,
        /// Why; kept in the custody log and in the certificate.
        reason: String,
    },
    /// Carries an approved destruction out. From then on nothing stops it: the key authority goes on with it after each start.
    CarryOut {
        /// The request that was approved.
        request: Uuid,
    },
    /// A destruction, by its batch or its request.
    Show {
        /// Batch or request.
        id: Uuid,
    },
    /// All destructions, newest first.
    List,
    /// The signed certificate of a destruction that is done.
    Certificate {
        /// Batch or request.
        id: Uuid,
    },
    /// A volume may not be destroyed (legal hold), or may be again.
    Hold {
        /// UUID or label.
        volume: String,
        /// Whether it is held from now on.
        held: bool,
        /// Why; kept in the custody log.
        reason: String,
    },
    /// Volumes that are held.
    Holds,
}

/// What is to be destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestructionOrder {
    /// Volumes, by UUID or label: all their keys.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Data keys, or one key-encryption key, by UUID.
    #[serde(default)]
    pub keys: Vec<Uuid>,
    /// Volumes that are in use, too.
    #[serde(default)]
    pub even_active: bool,
    /// Clones and backups of the HSM, as the operator states them; `none` when there are none.
    pub hsm_backups: String,
}

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum DestructionReply {
    /// Done; there is nothing to tell.
    Done,
    /// The last rotation; none if there never was one.
    Rotation(Option<RotationView>),
    /// To `Plan`.
    Plan(Box<DestructionPlan>),
    /// A destruction.
    Batch(Box<BatchView>),
    /// Destructions.
    Batches(Vec<BatchView>),
    /// A signed certificate: a note after C2SP signed-note.
    Certificate(String),
    /// Volumes that are held.
    Holds(Vec<HoldView>),
}

/// What becomes of a copy, or of a key-encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is destroyed, or cannot be opened by anything any more.
    Destroyed,
    /// It cannot be reached: who has it and what opens it, can open it.
    Unreachable,
    /// It stays, since it is needed (of key-encryption keys only).
    Kept,
}

/// What kind of copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyKind {
    /// In the catalogue.
    Catalogue,
    /// In a backup of the catalogue.
    Backup,
    /// On the medium, under a medium key-encryption key.
    Medium,
    /// In the catalogue, under the recovery key.
    Recovery,
    /// On the medium, under the recovery key.
    RecoveryMedium,
    /// With a partner, in a package.
    Export,
    /// With the partner who gave it.
    Origin,
    /// In the memory of a data path.
    Released,
    /// The key-encryption keys, in clones and backups of the HSM.
    Hsm,
}

/// A data key of a destruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedKey {
    /// Which.
    #[serde(flatten)]
    pub at: GenerationRef,
    /// The volume's label.
    pub label: String,
    /// Its state before.
    pub key_state: KeyState,
}

/// A copy and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFate {
    /// What kind.
    pub kind: CopyKind,
    /// Of which data key; none when of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Uuid>,
    /// Where it stands.
    pub place: String,
    /// What opens it.
    pub holder: String,
    /// SHA-256 of the copy, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<HexBytes>,
    /// What becomes of it.
    pub fate: Fate,
    /// How; or why not, and who could open it with what.
    pub means: String,
}

/// A key-encryption key and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KekFate {
    /// Which.
    pub kek: Uuid,
    /// `catalogue` or `medium`.
    pub purpose: String,
    /// What becomes of it.
    pub fate: Fate,
    /// How; or why it stays.
    pub means: String,
}

/// The prediction: what a destruction will reach, and what it will not. Custodians approve its SHA-256 (of the canonical JSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestructionPlan {
    /// `sealtape destruction plan 1`.
    pub format: String,
    /// Origin of the custody log.
    pub origin: String,
    /// What is to be destroyed.
    pub operation: Operation,
    /// Volumes that are in use, too.
    pub even_active: bool,
    /// Clones and backups of the HSM, as the operator stated them.
    pub hsm_backups: String,
    /// The data keys.
    pub keys: Vec<PlannedKey>,
    /// Every copy that is known.
    pub copies: Vec<CopyFate>,
    /// Key-encryption keys that are destroyed, or stay although a destroyed key stands under them.
    pub keks: Vec<KekFate>,
}

/// Where a destruction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Asked for; nothing is done.
    Asked,
    /// The keys are destroyed; those that stay come under a new key-encryption key.
    Rewrapping,
    /// A new backup of the catalogue is made.
    Backup,
    /// Key-encryption keys are destroyed in the token.
    Keks,
    /// What was wiped is removed from the files.
    Wiping,
    /// The certificate is made,
    Certifying,
    /// and signed.
    Signing,
    /// Done.
    Done,
}

/// A destruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchView {
    /// The batch.
    pub batch: Uuid,
    /// The request that custodians approve.
    pub request: Uuid,
    /// Where it is.
    pub state: BatchState,
    /// Why.
    pub reason: String,
    /// The prediction.
    pub plan: DestructionPlan,
    /// SHA-256 of its canonical JSON.
    pub plan_sha256: Hex<32>,
    /// The rotation that belongs to it.
    pub rotation: Option<RotationView>,
    /// What holds it up just now.
    pub trouble: Option<String>,
    /// The backup of the catalogue that was made after it, in words, or why there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// When it was asked for,
    pub asked: String,
    /// begun,
    pub begun: Option<String>,
    /// and done.
    pub ended: Option<String>,
}

/// A volume that may not be destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// The volume.
    pub volume: Uuid,
    /// Its label.
    pub label: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: String,
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
    /// Whose.
    #[serde(default = "first")]
    pub tenant: String,
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
