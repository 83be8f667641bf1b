//! Backups of the catalogue.

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{BackupReply, BackupRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_backup(&self, _actor: Actor, request: BackupRequest) -> Result<BackupReply, Refusal> {
        match request {}
    }
}
