//! Changes of persons, keys and roles.

use uuid::Uuid;

use super::Approved;
use super::rights::{OFFICERS, Rights, change_op};
use super::target::{check_scope, normal};
use crate::authority::Authority;
use crate::catalogue::{Actor, Change, Entry, RightsRow};
use crate::custody::op;
use crate::fault::{bad_request, internal};
use crate::protocol::{Operation, Principal, Refusal, RefusalCode, RequestView};

/// What became of a change that was asked for.
#[derive(Debug)]
pub enum Changed {
    /// It was made, with this custody entry.
    AtOnce(u64),
    /// Two custodians have to approve it.
    Requested(Box<RequestView>),
}

impl Authority {
    /// Changes persons, keys or roles: at once while there are fewer than two security officers, and then only for root and the key
    /// authority's own user; else by a request.
    ///
    /// # Errors
    /// When rules or log forbid it.
    pub fn change_persons(&self, actor: Actor, operation: Operation, reason: Option<&str>) -> Result<Changed, Refusal> {
        let name = change_op(&operation).ok_or_else(|| {
            let what = format!("to {} is no change of persons or roles", operation.words());
            bad_request(what, "use the command of that operation")
        })?;
        if let Operation::Grant { principal: Principal::Group(group), .. } = &operation
            && !matches!(nix::unistd::Group::from_name(group), Ok(Some(_)))
        {
            let mend = "make it, or name another one";
            return Err(bad_request(format!("this machine knows no group {group:?}"), mend));
        }
        if self.rights().officers() >= OFFICERS {
            return Ok(Changed::Requested(Box::new(self.submit(actor, operation, reason)?)));
        }
        self.refusals_logged(
            actor,
            name,
            |e| e,
            || {
                let own = nix::unistd::geteuid().as_raw();
                if !actor.uid().is_some_and(|uid| uid == 0 || uid == own) {
                    let what = "before there are two security officers, only root registers persons and gives roles";
                    return Err(Refusal::new(RefusalCode::NotAllowed, what, "let root do it"));
                }
                let operation = normal(operation)?;
                let mut catalogue = self.lock();
                let mut rights = Rights::clone(&self.rights());
                // Looked at again: somebody else may have become the second one meanwhile.
                if rights.officers() >= OFFICERS {
                    return Err(Refusal::new(RefusalCode::Busy, "there are two security officers now", "try again"));
                }
                let entry = catalogue.change(|c| {
                    let entry =
                        Entry::done(actor, name).reason(format!("without approvals: {}", words(&operation, reason)));
                    apply(c, &mut rights, &operation, None, entry)
                })?;
                self.change_rights(|now| *now = rights);
                Ok(Changed::AtOnce(entry))
            },
        )
    }

    /// Carries an approved change of persons, keys or roles out; gives the custody entry.
    ///
    /// # Errors
    /// When the request is not approved, or a rule or the log forbids it.
    pub fn execute_change(&self, actor: Actor, request: Uuid) -> Result<u64, Refusal> {
        self.refusals_logged(
            actor,
            op::APPROVAL_EXECUTE,
            |e| e,
            || {
                let mut catalogue = self.lock();
                let mut rights = Rights::clone(&self.rights());
                let (entry, digest) = self.execute_locked(&mut catalogue, actor, request, |c, approved| {
                    let name = change_op(&approved.operation).ok_or_else(|| {
                        let what = format!("request {request} is to {}", approved.operation.words());
                        bad_request(what, "it is carried out by the command that asked for it")
                    })?;
                    let entry = Entry::done(actor, name).reason(words(&approved.operation, None));
                    Ok((apply(c, &mut rights, &approved.operation, Some(approved), entry)?, approved.digest))
                })?;
                rights.spend(digest);
                self.change_rights(|now| *now = rights);
                Ok(entry)
            },
        )
    }
}

fn words(operation: &Operation, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{}: {reason}", operation.words()),
        None => operation.words(),
    }
}

/// Makes the change, with its entry and its record.
fn apply(
    c: &mut Change<'_>,
    rights: &mut Rights,
    operation: &Operation,
    approved: Option<&Approved>,
    entry: Entry,
) -> Result<u64, Refusal> {
    if let Operation::Grant { tenant, pool, .. } = operation {
        check_scope(&c.sql, &crate::protocol::Scope { tenant: tenant.clone(), pool: pool.clone() })?;
    }
    let (record, digest) = rights.record(operation, approved.map(|a| a.digest))?;
    let entry = match approved {
        Some(approved) => approved.describe(entry),
        None => entry,
    };
    // The digest is the record's, which has that of the request in it.
    let leaf = c.record(entry.digest(digest))?;
    rights.apply(operation, leaf)?;
    RightsRow::insert(&c.sql, leaf, &record, approved.map(|a| a.request))?;
    if c.log().edge.size() == leaf + 1 { Ok(leaf) } else { Err(internal("an entry in between")) }
}
