//! The custody log: anchors, exports, its signing key: requests and replies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::refusal::Refusal;
use super::types::CheckpointView;
use crate::custody::Outcome;
use crate::hex::Hex;

use super::anchor::{AnchorReply, AnchorRequest};

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuditRequest {
    /// An export; the reply is a series of `ExportPart` and one `Exported`.
    Export {
        /// Which.
        order: ExportOrder,
    },
    /// Entries that fit, page by page.
    Entries {
        /// Which entries.
        filter: EntryFilter,
        /// From this entry on; backwards, those before it. None for the first, or the last ones.
        from: Option<u64>,
        /// Whether the newest come first.
        backwards: bool,
        /// At most this many (limit 1000).
        count: u32,
        /// Whether to say who the pseudonyms are.
        names: bool,
    },
    /// The proof that the log over `new` leaves begins with what it was over `old` leaves.
    Consistency {
        /// Number of leaves.
        old: u64,
        /// Number of leaves of a kept checkpoint; none for a new one.
        new: Option<u64>,
    },
    /// The log's keys.
    LogKeys,
    /// From now on a new key signs the log.
    RotateLogKey {
        /// Why; kept in the custody log.
        reason: String,
    },
    /// Anchors.
    Anchor {
        /// What is asked.
        request: AnchorRequest,
    },
}

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum AuditReply {
    /// Done; there is nothing to tell.
    Done,
    /// To `Entries`.
    Entries(EntryPage),
    /// To `Consistency`.
    Consistency(ConsistencyView),
    /// To `LogKeys` and `RotateLogKey`: verifier keys, oldest first; the last one signs.
    LogKeys(Vec<String>),
    /// To `Anchor`.
    Anchor(AnchorReply),
}

/// What an export shall hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ExportScope {
    /// Every entry.
    Full,
    /// Every entry of a tenant, by name or id.
    Tenant(String),
    /// Some entries.
    Selection(EntryFilter),
}

/// An export to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportOrder {
    /// What it shall hold.
    pub scope: ExportScope,
    /// Whether as CSV; else as JSON Lines.
    pub csv: bool,
}

/// Which entries are meant; all that is given has to apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryFilter {
    /// Volume, by UUID or by the label of an active one.
    #[serde(default)]
    pub volume: Option<String>,
    /// Key.
    #[serde(default)]
    pub key: Option<Uuid>,
    /// Operation.
    #[serde(default)]
    pub op: Option<String>,
    /// Outcome.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// Actor, by pseudonym.
    #[serde(default)]
    pub actor: Option<String>,
    /// Unit.
    #[serde(default)]
    pub unit: Option<String>,
    /// Tenant, by name or id.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Earliest time, or its beginning: `2026-11`, `2026-11-21T08`.
    #[serde(default)]
    pub since: Option<String>,
    /// Before this time, or its beginning.
    #[serde(default)]
    pub until: Option<String>,
    /// First sequence number.
    #[serde(default)]
    pub first: Option<u64>,
    /// Last sequence number.
    #[serde(default)]
    pub last: Option<u64>,
}

/// Some entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPage {
    /// Leaves as they stand in the log.
    pub leaves: Vec<String>,
    /// Where to go on (`from`); none when there are no more.
    pub next: Option<u64>,
    /// Number of leaves of the log now.
    pub size: u64,
    /// Who the pseudonyms in `leaves` are, if that was asked for.
    pub names: BTreeMap<String, String>,
}

/// A consistency proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyView {
    /// The smaller number of leaves.
    pub old: u64,
    /// The signed checkpoint over the larger one.
    pub new: CheckpointView,
    /// The proof (RFC 6962 section 2.1.2).
    pub proof: Vec<Hex<32>>,
    /// The log's keys, oldest first.
    pub keys: Vec<String>,
    /// Entries that brought in each key but the first.
    pub key_leaves: Vec<String>,
}

/// How the check of the whole catalogue in the background stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScrubState {
    /// Not begun since the start. A small catalogue was checked before the start.
    #[default]
    Waiting,
    /// Under way.
    Running,
    /// Stopped half way, with the service.
    Stopped,
    /// Done, no fault found.
    Clean,
    /// A fault was found: no key is released any more.
    Fault,
}

/// The check of the whole catalogue in the background.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubView {
    /// How it stands.
    pub state: ScrubState,
    /// Entries checked.
    pub entries: u64,
    /// Of so many.
    pub of: u64,
    /// When it ended (RFC 3339, UTC).
    pub finished: Option<String>,
    /// What was found.
    pub fault: Option<Refusal>,
}
