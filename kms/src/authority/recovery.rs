//! The offline recovery key.

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{RecoveryReply, RecoveryRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_recovery(&self, _actor: Actor, request: RecoveryRequest) -> Result<RecoveryReply, Refusal> {
        match request {}
    }
}
