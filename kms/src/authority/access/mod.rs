//! Who may ask for what: every request of the control socket is authorised here before it is served.
//!
//! Without a grant to a user or group of this machine, whoever the control socket admits may do everything as before: root and the
//! key authority's own user have all roles, members of the control group are operators, administrators and auditors. From the first
//! such grant on only grants count. Requests of dual control are open to whoever is admitted: there signatures decide.

mod table;

use std::collections::BTreeSet;
use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, geteuid, getgrouplist};

use super::Authority;
use crate::catalogue::Actor;
use crate::custody::op;
use crate::protocol::{ControlRequest, Refusal, RefusalCode, Role, Scope};

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing: other proof is asked for where it counts.
    Nothing,
    /// Any role, wherever it holds.
    AnyRole,
    /// One of these roles, where the request's target lies.
    OneOf(&'static [Role]),
}

impl Authority {
    /// Refuses a request that none of the actor's roles covers; gives the actor with the role that allows it, for the custody log.
    ///
    /// # Errors
    /// `NotAllowed`, naming the role that is missing.
    pub fn authorise(&self, actor: Actor, request: &ControlRequest) -> Result<Actor, Refusal> {
        self.refusals_logged(
            actor,
            op::ACCESS,
            |e| e,
            || {
                let Some(uid) = actor.uid() else { return Ok(actor) };
                let (need, scope) = self.need(request)?;
                let roles = self.roles(uid);
                let (role, wanted) = match need {
                    Need::Nothing => return Ok(actor),
                    Need::AnyRole => (roles.first().map(|(role, _)| *role), "any role".to_owned()),
                    Need::OneOf(wanted) => {
                        let covered = |role: &&Role| roles.iter().any(|(r, s)| r == *role && s.covers(&scope));
                        let names: Vec<&str> = wanted.iter().map(|r| r.name()).collect();
                        // Where roles do not reach, not even the name of a tenant or pool is told.
                        let reaches = |(_, s): &(Role, Scope)| s.tenant.is_none() || s.tenant == scope.tenant;
                        let at = match &scope.tenant {
                            Some(_) if !roles.iter().any(reaches) => "for what is named".to_owned(),
                            Some(tenant) if tenant.is_empty() => Scope { tenant: None, ..scope.clone() }.to_string(),
                            _ => scope.to_string(),
                        };
                        (wanted.iter().find(covered).copied(), format!("the role {} {at}", names.join(" or ")))
                    }
                };
                let missing = || {
                    let what = format!("user {uid} has not {wanted}, which this needs");
                    Refusal::new(
                        RefusalCode::NotAllowed,
                        what,
                        "two security officers can give it: sealtape role grant",
                    )
                };
                role.map(|role| Actor::InRole(uid, role)).ok_or_else(missing)
            },
        )
    }

    /// Whether grants let a user in who is not admitted otherwise.
    pub(crate) fn has_role(&self, uid: u32) -> bool {
        let rights = self.rights();
        rights.local() && !rights.of_user(uid, |group| is_member(uid, group)).is_empty()
    }

    /// Whether something of a pool is shown to an actor.
    pub(crate) fn visible(&self, actor: Actor) -> Result<impl Fn(&str) -> bool, Refusal> {
        let roles = actor.uid().map(|uid| self.roles(uid));
        let pools = self.pools_with_tenants()?.into_iter().map(|pool| Scope::pool(pool.tenant, pool.policy.name));
        let seen = move |scope: &Scope| match &roles {
            None => true,
            Some(roles) => roles.iter().any(|(_, role)| role.covers(scope)),
        };
        let shown: BTreeSet<String> = pools.filter(seen).filter_map(|scope| scope.pool).collect();
        Ok(move |pool: &str| shown.contains(pool))
    }

    /// Whether a tenant is shown to an actor: one with a role in it, or in one of its pools.
    pub(crate) fn visible_tenant(&self, actor: Actor) -> impl Fn(&str) -> bool {
        let roles = actor.uid().map(|uid| self.roles(uid));
        move |tenant| {
            let reaches = |(_, s): &(Role, Scope)| s.tenant.as_deref().is_none_or(|of| of == tenant);
            roles.as_ref().is_none_or(|roles| roles.iter().any(reaches))
        }
    }

    fn roles(&self, uid: u32) -> Vec<(Role, Scope)> {
        let rights = self.rights();
        if rights.local() {
            return rights.of_user(uid, |group| is_member(uid, group));
        }
        let roles: &[Role] = if uid == 0 || uid == geteuid().as_raw() {
            &Role::ALL
        } else {
            &[Role::Operator, Role::Administrator, Role::Auditor]
        };
        roles.iter().map(|role| (*role, Scope::everywhere())).collect()
    }
}

/// Membership by the system's user database (NSS), where groups of a directory arrive too.
fn is_member(uid: u32, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else { return false };
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    let gid = Gid::from_raw(group.gid.as_raw());
    user.gid == gid || getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&gid))
}
