//! Custodians, roles and approvals.

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{DualReply, DualRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_dual(&self, _actor: Actor, request: DualRequest) -> Result<DualReply, Refusal> {
        match request {}
    }
}
