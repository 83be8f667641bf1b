//! Anchors of the custody log: requests, replies, views.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dual::RequestView;

/// What can be asked about anchors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum AnchorRequest {
    /// How each of them stands.
    Status,
    /// Anchors the log as it is now, and waits for it.
    Now,
    /// An anchor that has lost what was anchored in it (a new medium, a witness set up anew) begins from nothing.
    Accept {
        /// The anchor.
        name: String,
        /// Why; kept in the custody log.
        reason: String,
    },
    /// Lifts the alarm of an anchor that knew another history. Without a request this asks custodians for their approval.
    Lift {
        /// The anchor, which need not be configured any more.
        name: String,
        /// The approved request.
        request: Option<Uuid>,
        /// Why; kept in the custody log.
        reason: String,
    },
}

/// What is wrong with an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorTrouble {
    /// It cannot be reached, or not in time.
    Away,
    /// It answers wrongly, or is not what the configuration says.
    Faulty,
    /// It has lost what was anchored in it. An operator has to look, and may accept it.
    Lost,
    /// It knows another history than the catalogue has: the log was tampered with. Releases stop.
    Contradicts,
}

/// An anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorView {
    /// Its name.
    pub name: String,
    /// `witness`, `file` or `syslog`.
    pub kind: String,
    /// The witness's key, the file, the socket.
    pub subject: String,
    /// Whether it counts for the quorum.
    pub counts: bool,
    /// Number of entries that it holds, as far as is known.
    pub size: u64,
    /// Whether it was compared with the log since the service started.
    pub compared: bool,
    /// When it last took a checkpoint, by our clock.
    pub anchored: Option<String>,
    /// What is wrong with it.
    pub trouble: Option<AnchorTrouble>,
    /// The same in words.
    pub fault: Option<String>,
    /// Since when.
    pub since: Option<String>,
}

/// All anchors and what follows from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchoringView {
    /// The anchors.
    pub anchors: Vec<AnchorView>,
    /// Number of entries in the log.
    pub log_size: u64,
    /// Number of entries that are anchored by as many as policy wants.
    pub anchored_size: u64,
    /// How many anchors policy wants.
    pub quorum: usize,
    /// Whether keys wait for the anchors.
    pub before_release: bool,
    /// How long an entry may stand without being anchored, in seconds.
    pub longest_without_seconds: Option<u64>,
    /// Time of the first entry that is not anchored.
    pub unanchored_since: Option<String>,
    /// What an operator should look at before releases stop.
    pub warnings: Vec<String>,
    /// Why no key is released.
    pub refused: Option<String>,
}

/// Reply to an [`AnchorRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum AnchorReply {
    /// How they stand.
    Status(AnchoringView),
    /// Custodians have to approve it first.
    Asked(Box<RequestView>),
}
