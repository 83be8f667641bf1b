//! The offline recovery key: installed under dual control, then every data key is wrapped to it too.

mod backfill;
mod drill;
mod rows;

use uuid::Uuid;

pub(super) use rows::RecoveryKeyRow;

use super::Authority;
use crate::catalogue::{Actor, Change, Entry, TenantId, TenantRow};
use crate::custody::op;
use crate::fault::bad_request;
use crate::protocol::{Operation, RecoveryKeyState, RecoveryReply, RecoveryRequest, Refusal, RefusalCode};
use crate::recovery::{PublicHalf, key_id};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_recovery(&self, actor: Actor, request: RecoveryRequest) -> Result<RecoveryReply, Refusal> {
        match request {
            RecoveryRequest::Install { key, request, reason } => {
                self.install_recovery_key(actor, &key, request, reason.as_deref())
            }
            RecoveryRequest::Keys => {
                let catalogue = self.lock();
                let rows = RecoveryKeyRow::all(catalogue.sql(), catalogue.log())?;
                let views = rows.into_iter().map(|row| row.view(catalogue.sql()));
                Ok(RecoveryReply::Keys(views.collect::<Result<_, _>>()?))
            }
            RecoveryRequest::Backfill { tenant, most } => self.backfill(actor, tenant.as_deref(), most),
            RecoveryRequest::Canary { key, tenant } => {
                Ok(RecoveryReply::Canary(Box::new(self.canary(actor, key, tenant.as_deref())?)))
            }
            RecoveryRequest::EnterDrill { report } => self.enter_drill(actor, &report),
            RecoveryRequest::Retire { key, request, reason } => {
                self.retire_recovery_key(actor, key, request, reason.as_deref())
            }
        }
    }

    /// Takes a recovery key into use, in place of the one before.
    ///
    /// While no person is registered, root and the key authority's own user install the first one alone: until then they could
    /// register whom they like anyway. From then on it takes the custodians' approval.
    fn install_recovery_key(
        &self,
        actor: Actor,
        public: &PublicHalf,
        request: Option<Uuid>,
        reason: Option<&str>,
    ) -> Result<RecoveryReply, Refusal> {
        self.refusals_logged(
            actor,
            op::RECOVERY_KEY_CREATE,
            |e| e,
            || {
                let recipient = public.check().map_err(|what| {
                    let what = format!("this is no public half of a recovery key: {what}");
                    bad_request(what, "take the file that sealtape recovery init wrote, unchanged")
                })?;
                let tenant = check_next(&self.lock(), public)?;
                // Whoever holds its shares can open all that is wrapped from then on.
                self.anchors_allow()?;
                let operation = Operation::RecoveryKeyCreate {
                    tenant: public.tenant.clone(),
                    epoch: public.epoch,
                    fingerprint: recipient.fingerprint(),
                    threshold: public.threshold,
                    shares: public.shares,
                };
                match request {
                    Some(request) => self.execute(actor, request, |c, approved| {
                        if approved.operation != operation {
                            return Err(other_request(request, &approved.operation));
                        }
                        let entry = approved.describe(Entry::done(actor, op::RECOVERY_KEY_CREATE));
                        keep(c, tenant, public, key_id(&recipient), entry)
                    })?,
                    None if self.bootstrapping(actor, tenant)? => self.lock().change(|c| {
                        keep(
                            c,
                            tenant,
                            public,
                            key_id(&recipient),
                            Entry::done(actor, op::RECOVERY_KEY_CREATE).role("bootstrap"),
                        )
                    })?,
                    None => return Ok(RecoveryReply::Asked(Box::new(self.submit(actor, operation, reason)?))),
                }
                let catalogue = self.lock();
                let row = RecoveryKeyRow::find(catalogue.sql(), catalogue.log(), key_id(&recipient))?;
                Ok(RecoveryReply::Key(Box::new(row.view(catalogue.sql())?)))
            },
        )
    }

    /// Whether nobody is registered who could approve, the tenant never had a recovery key, and the actor has the machine anyway.
    fn bootstrapping(&self, actor: Actor, tenant: TenantId) -> Result<bool, Refusal> {
        let nobody = self.rights().persons()?.is_empty();
        let query = "SELECT NOT EXISTS (SELECT 1 FROM recovery_keys WHERE tenant = ?1)";
        let none: bool = self.lock().sql().query_row(query, [tenant], |r| r.get(0))?;
        Ok(self.is_own(actor) && nobody && none)
    }

    /// Whether it is root or the key authority's own user.
    pub(super) fn is_own(&self, actor: Actor) -> bool {
        actor.uid().is_some_and(|uid| uid == 0 || uid == nix::unistd::geteuid().as_raw())
    }

    fn retire_recovery_key(
        &self,
        actor: Actor,
        key: Uuid,
        request: Option<Uuid>,
        reason: Option<&str>,
    ) -> Result<RecoveryReply, Refusal> {
        self.refusals_logged(
            actor,
            op::RECOVERY_KEY_RETIRE,
            |e| e.key(key),
            || {
                let tenant = {
                    let catalogue = self.lock();
                    let row = RecoveryKeyRow::find(catalogue.sql(), catalogue.log(), key)?;
                    if row.state == RecoveryKeyState::Retired {
                        return Err(bad_request(
                            format!("the recovery key {key} is retired"),
                            "see: sealtape recovery list",
                        ));
                    }
                    row.tenant
                };
                let operation = Operation::RecoveryKeyRetire { key };
                let Some(request) = request else {
                    return Ok(RecoveryReply::Asked(Box::new(self.submit(actor, operation, reason)?)));
                };
                self.execute(actor, request, |c, approved| {
                    if approved.operation != operation {
                        return Err(other_request(request, &approved.operation));
                    }
                    c.sql.execute("UPDATE recovery_keys SET state = 'retired' WHERE id = ?1", [key.to_string()])?;
                    c.record(approved.describe(Entry::done(actor, op::RECOVERY_KEY_RETIRE).key(key).tenant(tenant)))?;
                    Ok(RecoveryReply::Done)
                })
            },
        )
    }
}

pub(super) fn other_request(request: Uuid, operation: &Operation) -> Refusal {
    let what = format!("request {request} is to {}", operation.words());
    Refusal::new(RefusalCode::NotApproved, what, "name the request that was made for this: sealtape approval list")
}

/// Whether this is the next recovery key of its tenant, which it gives.
fn check_next(catalogue: &crate::catalogue::Catalogue, public: &PublicHalf) -> Result<TenantId, Refusal> {
    let (sql, log) = (catalogue.sql(), catalogue.log());
    let tenants = TenantRow::all(sql, log)?;
    let Some(tenant) = tenants.iter().find(|tenant| tenant.name == public.tenant).map(|tenant| tenant.id) else {
        let what = format!("this recovery key is for tenant {:?}, which there is not here", public.tenant);
        return Err(bad_request(
            what,
            "make one for a tenant of this installation: sealtape recovery init --tenant NAME",
        ));
    };
    let rows = RecoveryKeyRow::all(sql, log)?;
    let last = rows.iter().filter(|r| r.tenant == tenant).map(|r| r.public.epoch).max().unwrap_or(0);
    if public.epoch != last + 1 {
        let what = format!("this recovery key is of epoch {}, the next one here is {}", public.epoch, last + 1);
        return Err(bad_request(what, format!("make one with: sealtape recovery init --epoch {}", last + 1)));
    }
    Ok(tenant)
}

fn keep(c: &mut Change<'_>, tenant: TenantId, public: &PublicHalf, id: Uuid, entry: Entry) -> Result<(), Refusal> {
    c.sql.execute("UPDATE recovery_keys SET state = 'retired' WHERE tenant = ?1 AND state = 'active'", [tenant])?;
    let words = format!("epoch {}, set {}, {} of {} shares", public.epoch, public.set, public.threshold, public.shares);
    let leaf = c.record(entry.key(id).tenant(tenant).reason(words))?;
    RecoveryKeyRow::insert(&c.sql, id, tenant, public, leaf)
}
