//! Dual control: requests, custodians' approvals, and carrying out.
//!
//! For other areas: [`Authority::submit`] makes a request of an [`Operation`]; when custodians have approved it,
//! [`Authority::execute`] checks everything again and runs the act's first step, which enters its intent, in the transaction that marks
//! the request as used.

use uuid::Uuid;

use super::Authority;
use crate::catalogue::{Actor, Change, Entry};
use crate::custody::Approval;
use crate::protocol::{DualReply, DualRequest, Operation, Refusal, RefusalCode, RequestView, Role};

/// A request whose approvals were just verified. Only [`Authority::execute`] makes one.
#[derive(Debug)]
pub(crate) struct Approved {
    /// The request.
    pub(crate) request: Uuid,
    /// What is to be done.
    pub(crate) operation: Operation,
    /// The custodians' signatures.
    pub(crate) approvals: Vec<Approval>,
    /// SHA-256 of what they signed.
    pub(crate) digest: [u8; 32],
    /// The role by which they approved.
    pub(crate) role: Role,
}

impl Approved {
    /// The entry of an act that this approves: with signatures, the request's digest and the role.
    pub(crate) fn describe(&self, entry: Entry) -> Entry {
        entry.approvals(self.approvals.clone()).digest(self.digest).role(self.role.name())
    }
}

impl Authority {
    /// Makes a request that custodians have to approve.
    ///
    /// # Errors
    /// When the operation makes no sense, or nobody could approve it.
    pub fn submit(&self, _actor: Actor, operation: Operation, _reason: Option<&str>) -> Result<RequestView, Refusal> {
        Err(Refusal::new(
            RefusalCode::NotApproved,
            format!("to {} two security officers are needed, and there are none", operation.words()),
            "register them first: sealtape custodian add",
        ))
    }

    /// Takes a custodian's signature over a request: armoured, as `ssh-keygen -Y sign` writes it.
    ///
    /// # Errors
    /// When it does not verify, or the person may not approve this.
    pub fn approve(&self, _actor: Actor, request: Uuid, _signature: &str) -> Result<RequestView, Refusal> {
        Err(unknown(request))
    }

    /// Takes a request back.
    ///
    /// # Errors
    /// When it is not pending.
    pub fn withdraw(&self, _actor: Actor, request: Uuid, _reason: &str) -> Result<RequestView, Refusal> {
        Err(unknown(request))
    }

    /// Requests that wait, newest first.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn pending(&self) -> Result<Vec<RequestView>, Refusal> {
        Ok(Vec::new())
    }

    /// Checks a request once more (two distinct persons with the role it needs, their keys and signatures, its time, the state of its
    /// target, and that it was not used) and runs `act` in the transaction that marks it as used. `act` refuses operations
    /// that are not its own, enters its intent (or the whole change) with [`Approved::describe`], and must not use the token.
    ///
    /// # Errors
    /// When a check fails, or what `act` returns; then the request is not used.
    pub(crate) fn execute<T>(
        &self,
        _actor: Actor,
        request: Uuid,
        _act: impl FnOnce(&mut Change<'_>, &Approved) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        Err(unknown(request))
    }

    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_dual(&self, actor: Actor, request: DualRequest) -> Result<DualReply, Refusal> {
        match request {
            DualRequest::Submit { operation, reason } => {
                Ok(DualReply::Request(Box::new(self.submit(actor, operation, reason.as_deref())?)))
            }
            DualRequest::Requests { .. } => Ok(DualReply::Requests(self.pending()?)),
            DualRequest::Approve { request: Some(request), signature } => {
                Ok(DualReply::Request(Box::new(self.approve(actor, request, &signature)?)))
            }
            DualRequest::Withdraw { request, reason } => {
                Ok(DualReply::Request(Box::new(self.withdraw(actor, request, &reason)?)))
            }
            DualRequest::Execute { request } => self.execute(actor, request, |_, approved| {
                tracing::info!(request = %approved.request, "{}", approved.operation.words());
                Ok(DualReply::Done)
            }),
            DualRequest::Show { request } => Err(unknown(request)),
            DualRequest::Approve { request: None, .. } => Err(unknown(Uuid::nil())),
            DualRequest::Persons => Ok(DualReply::Persons(Vec::new())),
            DualRequest::Grants => Ok(DualReply::Grants(Vec::new())),
            DualRequest::Bootstrap { operation } => {
                Err(crate::fault::bad_request(format!("this version cannot {}", operation.words()), "use a later one"))
            }
        }
    }
}

fn unknown(request: Uuid) -> Refusal {
    Refusal::new(
        RefusalCode::UnknownRequest,
        format!("there is no request {request}"),
        "see: sealtape approval list --all",
    )
}
