//! Destroying keys, and the certificates of it.
//!
//! A destruction is planned ([`plan`]: every copy that is known, and its fate), asked for, approved by custodians, and begun: in one
//! transaction the keys are marked as destroyed, their wrapped copies wiped, and their releases ended. That is the point of no return.
//! What follows ([`steps`]) is done by [`Authority::work`] from the state that stands in the catalogue, after a restart too: survivors
//! rewrapped by a new catalogue KEK and verified, a new backup, the old KEKs destroyed in the token, the files wiped, the certificate.

mod ask;
mod backup;
mod certificate;
mod hold;
mod journal;
mod plan;
mod steps;

pub(super) use backup::Owed;

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
        let batch = |view| DestructionReply::Batch(Box::new(view));
        Ok(match request {
            Q::Rotate { tenant, reason } => {
                DestructionReply::Rotation(Some(self.rotate_of(actor, tenant.as_deref(), &reason)?))
            }
            Q::StopRotation { tenant, reason } => {
                self.stop_rotation_of(actor, tenant.as_deref(), &reason)?;
                DestructionReply::Done
            }
            Q::ShowRotation { tenant } => DestructionReply::Rotation(self.rotation_of(tenant.as_deref())?),
            Q::Plan { order } => DestructionReply::Plan(Box::new(self.plan_destruction(&order)?)),
            Q::Ask { order, reason } => batch(self.ask_destruction(actor, &order, &reason)?),
            Q::CarryOut { request } => batch(self.carry_out_destruction(actor, request)?),
            Q::Show { id } => batch(self.destruction(id)?),
            Q::List => DestructionReply::Batches(self.destructions()?),
            Q::Certificate { id } => DestructionReply::Certificate(self.certificate(id)?),
            Q::Hold { volume, held, reason } => {
                self.hold_volume(actor, &volume, held, &reason)?;
                DestructionReply::Done
            }
            Q::Holds => DestructionReply::Holds(self.holds()?),
        })
    }
}
