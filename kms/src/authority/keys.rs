//! The life of keys: states, periods, key-encryption keys, compromise.

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{KeysReply, KeysRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_keys(&self, _actor: Actor, request: KeysRequest) -> Result<KeysReply, Refusal> {
        match request {}
    }
}
