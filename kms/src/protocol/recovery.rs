//! The offline recovery key: requests and replies.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dual::RequestView;
use crate::hex::Hex;
use crate::recovery::PublicHalf;
use crate::recovery::drill::{Canary, Report};

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum RecoveryRequest {
    /// Takes a recovery key's public half into use. Without a request this asks custodians for their approval.
    Install {
        /// The public half.
        key: Box<PublicHalf>,
        /// The approved request.
        request: Option<Uuid>,
        /// Why, in words; custodians read it.
        reason: Option<String>,
    },
    /// The recovery keys, newest first.
    Keys,
    /// Wraps keys that have no copy for the active recovery key yet, some at a time.
    Backfill {
        /// Whose keys; none for the tenant called default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        /// At most this many (limit [`MAX_BACKFILL`]).
        most: u32,
    },
    /// A canary for a drill.
    Canary {
        /// The recovery key; none for the active one of the tenant.
        key: Option<Uuid>,
        /// The tenant; none for the one called default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
    },
    /// The report of a drill.
    EnterDrill {
        /// The report.
        report: Box<Report>,
    },
    /// Takes a recovery key out of use. Without a request this asks custodians for their approval.
    Retire {
        /// The key.
        key: Uuid,
        /// The approved request.
        request: Option<Uuid>,
        /// Why, in words; custodians read it.
        reason: Option<String>,
    },
}

/// Most keys that one request wraps.
pub const MAX_BACKFILL: u32 = 256;

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum RecoveryReply {
    /// Done; there is nothing to tell.
    Done,
    /// Custodians have to approve it first.
    Asked(Box<RequestView>),
    /// A recovery key.
    Key(Box<RecoveryKeyView>),
    /// All of them.
    Keys(Vec<RecoveryKeyView>),
    /// What was wrapped.
    Backfilled {
        /// With this recovery key.
        key: Uuid,
        /// This many now.
        wrapped: u32,
        /// This many are left.
        remaining: u64,
    },
    /// A canary.
    Canary(Box<Canary>),
}

/// Whether a recovery key is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryKeyState {
    /// New data keys are wrapped to it.
    Active,
    /// It opens what was wrapped to it before.
    Retired,
}

/// A recovery key, as the catalogue knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryKeyView {
    /// Its name, as it stands on the shares.
    pub key: Uuid,
    /// The tenant.
    pub tenant: String,
    /// The epoch.
    pub epoch: u32,
    /// Whether it is in use.
    pub state: RecoveryKeyState,
    /// The set of shares.
    pub set: Hex<8>,
    /// Number of shares.
    pub shares: u8,
    /// How many it takes.
    pub threshold: u8,
    /// SHA-256 of the public key's text.
    pub fingerprint: Hex<32>,
    /// When it was installed (RFC 3339, UTC).
    pub installed: String,
    /// Data keys that are wrapped to it,
    pub wrapped: u64,
    /// of this many that are not destroyed.
    pub of: u64,
    /// When the last drill was entered.
    pub drilled: Option<String>,
    /// The custody entry that installed it.
    pub entry: u64,
}
