//! Asking, approving, taking back, listing.

use std::time::Duration;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::rights::{OFFICERS, Rights, for_leaf, requirement};
use super::sshsig::Signature;
use super::target::{Targets, normal};
use super::unknown;
use crate::authority::{Authority, check_name};
use crate::catalogue::{Actor, ApprovalRow, Change, Entry, RequestRow};
use crate::custody::op;
use crate::fault::{bad_request, damaged, internal};
use crate::hex::Hex;
use crate::protocol::{
    ApprovalRequest, ApprovalView, Operation, REQUEST_FORMAT, Refusal, RefusalCode, RequestState, RequestView,
};
use crate::time;

/// How long a request can be carried out, unless something else is said.
pub(super) const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// Requests that may wait at a time.
const MOST_PENDING: usize = 100;

impl Authority {
    /// Makes a request that custodians have to approve, good for a week.
    ///
    /// # Errors
    /// When the operation makes no sense, or nobody could approve it.
    pub fn submit(&self, actor: Actor, operation: Operation, reason: Option<&str>) -> Result<RequestView, Refusal> {
        self.submit_for(actor, operation, reason, LIFETIME)
    }

    /// As [`Authority::submit`], good for `lifetime` (at most 30 days).
    ///
    /// # Errors
    /// As there.
    pub fn submit_for(
        &self,
        actor: Actor,
        operation: Operation,
        reason: Option<&str>,
        lifetime: Duration,
    ) -> Result<RequestView, Refusal> {
        self.refusals_logged(
            actor,
            op::APPROVAL_REQUEST,
            |e| e,
            || {
                if let Some(reason) = reason {
                    check_name("reason", reason, 500)?;
                }
                if lifetime.is_zero() || lifetime > LONGEST {
                    return Err(bad_request("a request lasts from a second to 30 days", "ask for less"));
                }
                let operation = normal(operation)?;
                let rights = self.rights();
                if rights.officers() < OFFICERS {
                    let what = format!(
                        "to {} two security officers are needed, and there are {}",
                        operation.words(),
                        rights.officers()
                    );
                    return Err(Refusal::new(RefusalCode::NotApproved, what, "register them: sealtape custodian add"));
                }
                self.lock().change(|c| self.request(c, &rights, actor, operation, reason, lifetime))
            },
        )
    }

    fn request(
        &self,
        c: &mut Change<'_>,
        rights: &Rights,
        actor: Actor,
        operation: Operation,
        reason: Option<&str>,
        lifetime: Duration,
    ) -> Result<RequestView, Refusal> {
        let now = c.now();
        if RequestRow::pending(&c.sql, &now)?.len() >= MOST_PENDING {
            let mend = "carry some out or take them back: sealtape approval list";
            return Err(Refusal::new(RefusalCode::Busy, format!("{MOST_PENDING} requests wait already"), mend));
        }
        if operation.changes_rights() {
            // Custodians are not bothered with what could not be carried out.
            rights.clone().apply(&operation, 0)?;
        }
        let targets = Targets::of(&c.sql, c.log(), rights, &operation)?;
        let mut nonce = [0u8; 16];
        getrandom::fill(&mut nonce).map_err(|e| internal(e.to_string()))?;
        let request = ApprovalRequest {
            expires: time::after(&now, lifetime).ok_or_else(|| damaged("a time in the custody log is malformed"))?,
            created: now.clone(),
            format: REQUEST_FORMAT.into(),
            nonce: Hex(nonce),
            operation,
            origin: self.log_key().name().to_owned(),
            reason: reason.map(str::to_owned),
            request: Uuid::new_v4(),
            requester: actor.identity(),
            state: targets.digest()?,
            scopes: targets.scopes,
            targets: targets.targets,
        };
        let text =
            request.text().map_err(|e| bad_request(format!("this cannot be asked: {e}"), "ask for less at once"))?;
        let entry = Entry::done(actor, op::APPROVAL_REQUEST).digest(Sha256::digest(text.as_bytes()).into());
        let leaf = c.record(entry.reason(format!("request {}: {}", request.request, request.operation.words())))?;
        let row = RequestRow { id: request.request, text, state: "pending".into(), leaf };
        row.insert(&c.sql, &now, &request.expires)?;
        view(&c.sql, rights, &row, &now)
    }

    /// Takes a custodian's signature over a request: armoured, as `ssh-keygen -Y sign` writes it. With no request named it is the
    /// one that the signature fits.
    ///
    /// # Errors
    /// When it does not verify, or the person may not approve this or has done so.
    pub fn approve(
        &self,
        actor: Actor,
        request: impl Into<Option<Uuid>>,
        signature: &str,
    ) -> Result<RequestView, Refusal> {
        self.refusals_logged(
            actor,
            op::APPROVAL_ADD,
            |e| e,
            || {
                let signature = Signature::parse(signature)?;
                let rights = self.rights();
                let wanted = request.into();
                self.lock().change(|c| {
                    let id = match wanted {
                        Some(id) => id,
                        None => fitting(c, &rights, &signature)?,
                    };
                    let (row, request) = self.proven_request(c, id)?;
                    let not_approved = |what: String, mend: &str| Refusal::new(RefusalCode::NotApproved, what, mend);
                    let now = c.now();
                    match state(&rights, &row, &request, &now) {
                        RequestState::Pending | RequestState::Approved => {}
                        over => {
                            return Err(not_approved(format!("request {id} is {over:?}").to_lowercase(), "ask again"));
                        }
                    }
                    let verified = rights
                        .verify(&request, &row.text, signature.base64())
                        .map_err(|what| not_approved(format!("request {id}: {what}"), "sign the request anew"))?;
                    let before = ApprovalRow::of_request(&c.sql, id)?;
                    if before.iter().any(|a| a.person == verified.person) {
                        // Another key of the same person is still the same person.
                        let what = format!("{:?} has approved request {id} already", verified.person);
                        return Err(not_approved(what, "another person has to"));
                    }
                    let approval = ApprovalRow {
                        person: verified.person.clone(),
                        key: verified.key.clone(),
                        signature: verified.signature.clone(),
                        added: now.clone(),
                    };
                    let (role, _) = requirement(&request.operation);
                    let digest = Sha256::digest(row.text.as_bytes()).into();
                    let approvals = for_leaf(vec![verified], |name| {
                        c.pseudonym_of(&format!("person:{name}"), || Some(name.to_owned()))
                    })?;
                    let entry =
                        Entry::done(actor, op::APPROVAL_ADD).digest(digest).role(role.name()).approvals(approvals);
                    c.record(entry.reason(format!("request {id}")))?;
                    approval.insert(&c.sql, id)?;
                    view(&c.sql, &rights, &row, &now)
                })
            },
        )
    }

    /// Takes a request back.
    ///
    /// # Errors
    /// When it is not pending.
    pub fn withdraw(&self, actor: Actor, request: Uuid, reason: &str) -> Result<RequestView, Refusal> {
        self.refusals_logged(
            actor,
            op::APPROVAL_WITHDRAW,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                let mut catalogue = self.lock();
                // With the catalogue locked: what is carried out at the same moment cannot be taken back.
                let rights = self.rights();
                let (view, digest) = catalogue.change(|c| {
                    let (mut row, asked) = self.proven_request(c, request)?;
                    let digest: [u8; 32] = Sha256::digest(row.text.as_bytes()).into();
                    let now = c.now();
                    match state(&rights, &row, &asked, &now) {
                        RequestState::Pending | RequestState::Approved => {}
                        over => {
                            let what = format!("request {request} is {over:?}").to_lowercase();
                            return Err(Refusal::new(RefusalCode::NotApproved, what, "there is nothing to take back"));
                        }
                    }
                    let entry = Entry::done(actor, op::APPROVAL_WITHDRAW).digest(digest);
                    c.record(entry.reason(format!("request {request}: {reason}")))?;
                    RequestRow::set_state(&c.sql, request, "withdrawn")?;
                    row.state = "withdrawn".into();
                    Ok((view(&c.sql, &rights, &row, &now)?, digest))
                })?;
                self.change_rights(|rights| rights.spend(digest));
                Ok(view)
            },
        )
    }

    /// Requests that wait, newest first.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn pending(&self) -> Result<Vec<RequestView>, Refusal> {
        self.requests(false)
    }

    /// Requests, newest first: those that wait, or the newest hundred.
    pub(super) fn requests(&self, all: bool) -> Result<Vec<RequestView>, Refusal> {
        let catalogue = self.lock();
        let (sql, rights) = (catalogue.sql(), self.rights());
        let now = catalogue.log().now();
        let rows = if all { RequestRow::newest(sql)? } else { RequestRow::pending(sql, &now)? };
        let mut views = Vec::new();
        for row in &rows {
            let view = view(sql, &rights, row, &now)?;
            if all || matches!(view.state, RequestState::Pending | RequestState::Approved) {
                views.push(view);
            }
        }
        Ok(views)
    }

    /// A request and exactly the bytes that are signed.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn show_request(&self, id: Uuid) -> Result<(RequestView, String), Refusal> {
        let catalogue = self.lock();
        let row = RequestRow::find(catalogue.sql(), id)?.ok_or_else(|| unknown(id))?;
        let view = view(catalogue.sql(), &self.rights(), &row, &catalogue.log().now())?;
        Ok((view, row.text))
    }
}

/// The pending request that a signature verifies for.
fn fitting(c: &Change<'_>, rights: &Rights, signature: &Signature) -> Result<Uuid, Refusal> {
    for row in RequestRow::pending(&c.sql, &c.now())? {
        let Ok(request) = ApprovalRequest::parse(&row.text) else { continue };
        if rights.verify(&request, &row.text, signature.base64()).is_ok() {
            return Ok(row.id);
        }
    }
    Err(Refusal::new(
        RefusalCode::NotApproved,
        format!("the signature of {} fits no request that waits", signature.fingerprint()),
        "sign exactly what this wrote: sealtape approval show ID --file F; the key has to be that of a custodian with the role",
    ))
}

fn state(rights: &Rights, row: &RequestRow, request: &ApprovalRequest, now: &str) -> RequestState {
    let spent = rights.is_spent(&ApprovalRequest::digest(&row.text).0);
    match row.state.as_str() {
        "withdrawn" => RequestState::Withdrawn,
        _ if spent => RequestState::Executed,
        _ if now > request.expires.as_str() => RequestState::Expired,
        _ => RequestState::Pending,
    }
}

fn view(sql: &rusqlite::Connection, rights: &Rights, row: &RequestRow, now: &str) -> Result<RequestView, Refusal> {
    let request = ApprovalRequest::parse(&row.text).map_err(|e| damaged(format!("request {} is {e}", row.id)))?;
    let rows = ApprovalRow::of_request(sql, row.id)?;
    let mut state = state(rights, row, &request, now);
    let open = matches!(state, RequestState::Pending);
    if open && rights.approved(&request, &row.text, rows.iter().map(|a| a.signature.as_str())).is_ok() {
        state = RequestState::Approved;
    }
    let approval = |a: ApprovalRow| ApprovalView {
        fault: if open { rights.verify(&request, &row.text, &a.signature).err() } else { None },
        person: a.person,
        key: a.key,
        added: a.added,
    };
    let approvals = rows.into_iter().map(approval).collect();
    let (role, needed) = requirement(&request.operation);
    Ok(RequestView {
        request: row.id,
        words: request.operation.words(),
        operation: request.operation,
        reason: request.reason,
        requester: request.requester,
        created: request.created,
        expires: request.expires,
        state,
        role,
        needed,
        approvals,
        digest: ApprovalRequest::digest(&row.text),
    })
}
