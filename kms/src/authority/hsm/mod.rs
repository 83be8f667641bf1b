//! Tokens and their enrolment.

mod enrol;
mod enrolment;
mod health;
mod registry;

pub(crate) use enrol::unfit;
pub(crate) use health::Health;
pub(crate) use registry::Registry;

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{HsmReply, HsmRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_hsm(&self, actor: Actor, request: HsmRequest) -> Result<HsmReply, Refusal> {
        match request {
            HsmRequest::List => Ok(HsmReply::Tokens(self.list_tokens()?)),
            HsmRequest::Enrol(order) => self.enrol(actor, &order),
        }
    }
}
