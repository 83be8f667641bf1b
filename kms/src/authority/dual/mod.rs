//! Dual control: requests, custodians' approvals, and carrying out (`docs/custody/dual-control.md`).
//!
//! For other areas: [`Authority::submit`] makes a request of an [`Operation`]; when custodians have approved it,
//! [`Authority::execute`] checks everything again and runs the act's first step, which enters its intent, in the transaction that marks
//! the request as used.

mod change;
mod requests;
mod rights;
mod serve;
mod sshsig;
mod target;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Authority;
use crate::catalogue::{Actor, ApprovalRow, Catalogue, Change, Entry, RequestRow};
use crate::custody::{Approval, Outcome, op};
use crate::fault::damaged;
use crate::protocol::{ApprovalRequest, Operation, Refusal, RefusalCode, Role};

pub use change::Changed;
pub(in crate::authority) use rights::Rights;
use rights::{for_leaf, requirement};
use target::Targets;

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
    /// Checks a request once more (two distinct persons with the role it needs, their keys and signatures, its time, the state of its
    /// target, and that it was not used) and runs `act` in the transaction that marks it as used. `act` refuses operations
    /// that are not its own, enters its intent (or the whole change) with [`Approved::describe`], and must not use the token.
    ///
    /// # Errors
    /// When a check fails, or what `act` returns; then the request is not used.
    pub(crate) fn execute<T>(
        &self,
        actor: Actor,
        request: Uuid,
        act: impl FnOnce(&mut Change<'_>, &Approved) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.refusals_logged(
            actor,
            op::APPROVAL_EXECUTE,
            |e| e,
            || self.execute_locked(&mut self.lock(), actor, request, act),
        )
    }

    fn execute_locked<T>(
        &self,
        catalogue: &mut Catalogue,
        actor: Actor,
        request: Uuid,
        act: impl FnOnce(&mut Change<'_>, &Approved) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let rights = self.rights();
        let (value, digest) = catalogue.change(|c| {
            let approved = self.approved(c, &rights, request)?;
            let entry = Entry::new(actor, op::APPROVAL_EXECUTE, Outcome::Done);
            c.record(approved.describe(entry).reason(approved.operation.words()))?;
            let value = act(c, &approved)?;
            RequestRow::set_state(&c.sql, request, "executed")?;
            Ok((value, approved.digest))
        })?;
        self.change_rights(|rights| rights.spend(digest));
        Ok(value)
    }

    /// Replaces the rights in memory. The catalogue has to be locked.
    fn change_rights(&self, change: impl FnOnce(&mut Rights)) {
        let mut rights = self.rights.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(std::sync::Arc::make_mut(&mut rights));
    }

    fn approved(&self, c: &Change<'_>, rights: &Rights, id: Uuid) -> Result<Approved, Refusal> {
        let (row, request) = self.proven_request(c, id)?;
        let digest = Sha256::digest(row.text.as_bytes()).into();
        let not_approved = |what: String, mend: &str| Err(Refusal::new(RefusalCode::NotApproved, what, mend));
        if rights.is_spent(&digest) || row.state != "pending" {
            return not_approved(format!("request {id} was carried out or taken back"), "ask again");
        }
        let now = c.now();
        if now > request.expires {
            return not_approved(format!("request {id} expired at {}", request.expires), "ask again");
        }
        let targets = Targets::of(&c.sql, c.log(), rights, &request.operation)?;
        if targets.digest()? != request.state || targets.scopes != request.scopes {
            let what = format!("what request {id} is about has changed since it was made");
            return not_approved(what, "look at it as it is now, and ask again");
        }
        let signatures = ApprovalRow::of_request(&c.sql, id)?;
        let verified = rights.approved(&request, &row.text, signatures.iter().map(|a| a.signature.as_str()));
        let verified = match verified {
            Ok(verified) => verified,
            Err(what) => return not_approved(format!("request {id}: {what}"), "see: sealtape approval list"),
        };
        let approvals = for_leaf(verified, |name| c.pseudonym_of(&format!("person:{name}"), || Some(name.to_owned())))?;
        let (role, _) = requirement(&request.operation);
        Ok(Approved { request: id, operation: request.operation, approvals, digest, role })
    }

    /// The request, if it is the one that was asked for: its row agrees with the entry of asking.
    fn proven_request(&self, c: &Change<'_>, id: Uuid) -> Result<(RequestRow, ApprovalRequest), Refusal> {
        let row = RequestRow::find(&c.sql, id)?.ok_or_else(|| unknown(id))?;
        let leaf = c.log().proven_leaf(&c.sql, row.leaf)?;
        let changed =
            |what: &str| damaged(format!("request {id} is not the one that custody entry {} names ({what})", row.leaf));
        let asked = leaf.op == op::APPROVAL_REQUEST && leaf.outcome == Outcome::Done;
        if !asked || leaf.digest != Some(ApprovalRequest::digest(&row.text)) {
            return Err(changed("its text was changed"));
        }
        let request = ApprovalRequest::parse(&row.text).map_err(|e| changed(&e))?;
        if request.request != id || request.origin != self.log_key().name() {
            return Err(changed("it is of another request or installation"));
        }
        Ok((row, request))
    }
}

fn unknown(request: Uuid) -> Refusal {
    Refusal::new(
        RefusalCode::UnknownRequest,
        format!("there is no request {request}"),
        "see: sealtape approval list --all",
    )
}
