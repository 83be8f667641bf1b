//! Giving keys to partners and taking theirs.

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{ExchangeReply, ExchangeRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_exchange(&self, _actor: Actor, request: ExchangeRequest) -> Result<ExchangeReply, Refusal> {
        match request {}
    }
}
