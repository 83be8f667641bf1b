//! The custody log: anchors, exports, its signing key.

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{AuditReply, AuditRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_audit(&self, actor: Actor, request: AuditRequest) -> Result<AuditReply, Refusal> {
        match request {
            AuditRequest::Anchor { request } => self.serve_anchor(actor, request).map(AuditReply::Anchor),
        }
    }
}
