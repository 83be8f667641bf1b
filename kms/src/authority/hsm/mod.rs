//! Tokens and their enrolment.

mod registry;

pub(crate) use registry::Registry;

use super::Authority;
use crate::catalogue::Actor;
use crate::protocol::{HsmReply, HsmRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_hsm(&self, _actor: Actor, request: HsmRequest) -> Result<HsmReply, Refusal> {
        match request {}
    }
}
