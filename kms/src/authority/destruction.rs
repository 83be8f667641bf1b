//! Destroying keys, and the certificates of it.

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{DestructionReply, DestructionRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_destruction(&self, _actor: Actor, request: DestructionRequest) -> Result<DestructionReply, Refusal> {
        match request {}
    }
}
