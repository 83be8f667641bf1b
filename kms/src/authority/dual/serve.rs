//! The control socket's requests.

use super::change::Changed;
use crate::authority::Authority;
use crate::catalogue::Actor;
use crate::protocol::{DualReply, DualRequest, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_dual(&self, actor: Actor, request: DualRequest) -> Result<DualReply, Refusal> {
        use DualReply as R;
        use DualRequest as Q;
        Ok(match request {
            Q::Change { operation, reason } => match self.change_persons(actor, operation, reason.as_deref())? {
                Changed::AtOnce(entry) => R::Changed { entry },
                Changed::Requested(view) => R::Request(view),
            },
            Q::Requests { all } => R::Requests(self.requests(all)?),
            Q::Show { request } => {
                let (view, text) = self.show_request(request)?;
                R::Shown { view: Box::new(view), text }
            }
            Q::Approve { request, signature } => R::Request(Box::new(self.approve(actor, request, &signature)?)),
            Q::Withdraw { request, reason } => R::Request(Box::new(self.withdraw(actor, request, &reason)?)),
            Q::Execute { request } => R::Changed { entry: self.execute_change(actor, request)? },
            Q::Persons => R::Persons(self.rights().persons()?),
            Q::Grants => R::Grants(self.rights().grants()),
        })
    }
}
