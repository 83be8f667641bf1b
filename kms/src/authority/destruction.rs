//! Destroying keys, and the certificates of it.

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{DestructionReply, DestructionRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_destruction(&self, actor: Actor, request: DestructionRequest) -> Result<DestructionReply, Refusal> {
        use DestructionRequest as Q;
        Ok(match request {
            Q::Rotate { reason } => DestructionReply::Rotation(Some(self.rotate(actor, &reason)?)),
            Q::StopRotation { reason } => {
                self.stop_rotation(actor, &reason)?;
                DestructionReply::Done
            }
            Q::ShowRotation => DestructionReply::Rotation(self.rotation()?),
        })
    }
}
