//! The custody log: anchors, exports, its signing key: requests and replies.

use serde::{Deserialize, Serialize};

use super::anchor::{AnchorReply, AnchorRequest};

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuditRequest {
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
    /// To `Anchor`.
    Anchor(AnchorReply),
}
