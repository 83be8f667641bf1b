//! Tenants: each has a catalogue KEK, pools, recovery keys and a part of the custody log of its own.
//!
//! The KEK is made first, its intent entered before; then the tenant, its entry and its KEK come into the catalogue at once. So a crash
//! in between leaves no half tenant, but a KEK in the token that wraps nothing, as that of a pool or a rotation would be.

use std::sync::PoisonError;

use rusqlite::Connection;
use uuid::Uuid;

use super::{Authority, KekPurpose, check_name};
use crate::catalogue::{Actor, DEFAULT_TENANT, KekRow, LogState, PoolRow, TenantRow, from_db};
use crate::custody::op;
use crate::fault::bad_request;
use crate::protocol::{Refusal, TenantReply, TenantRequest, TenantView};
use crate::recovery::MAX_TENANT;

/// The canary of each one's key-encryption key is unwrapped whenever the token is tried.
const MOST_TENANTS: i64 = 256;

/// What a tenant's catalogue KEK is called in the token. Names of tenants stay out of the custody log, and so out of this.
pub(super) fn kek_label(tenant: &TenantRow) -> String {
    match tenant.id {
        DEFAULT_TENANT => "sealtape catalogue default".to_owned(),
        _ => label_of(tenant.uuid),
    }
}

fn label_of(opaque: Uuid) -> String {
    format!("sealtape catalogue {opaque}")
}

fn check_free(sql: &Connection, name: &str) -> Result<(), Refusal> {
    if sql.prepare_cached("SELECT 1 FROM tenants WHERE name = ?1")?.exists([name])? {
        return Err(bad_request(
            format!("tenant {name:?} exists"),
            "choose another name, or see: sealtape tenant list",
        ));
    }
    let count: i64 = sql.query_row("SELECT count(*) FROM tenants", [], |r| r.get(0))?;
    if count >= MOST_TENANTS {
        let what = format!("there are {count} tenants, and no installation has more than {MOST_TENANTS}");
        return Err(bad_request(what, "use a second installation"));
    }
    Ok(())
}

fn view(sql: &Connection, log: &LogState, tenant: TenantRow) -> Result<TenantView, Refusal> {
    let entry = tenant.entry(&|seq| log.proven_leaf(sql, seq))?;
    let pools = PoolRow::all(sql)?.into_iter().filter(|pool| pool.tenant == tenant.id);
    let query = "SELECT count(*) FROM volumes WHERE tenant = ?1";
    let volumes: i64 = sql.prepare_cached(query)?.query_row([tenant.id], |r| r.get(0))?;
    Ok(TenantView {
        kek: KekRow::newest_of_tenant(sql, tenant.id)?.id,
        pools: pools.map(|pool| pool.policy.name).collect(),
        volumes: from_db(volumes)?,
        entered: entry.time,
        entry: entry.seq,
        tenant: tenant.uuid,
        name: tenant.name,
    })
}

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_tenants(&self, actor: Actor, request: TenantRequest) -> Result<TenantReply, Refusal> {
        Ok(match request {
            TenantRequest::Create { name, reason } => {
                TenantReply::Tenant(self.create_tenant(actor, &name, reason.as_deref())?)
            }
            TenantRequest::List => {
                let (mut tenants, visible) = (self.tenants()?, self.visible_tenant(actor));
                tenants.retain(|tenant| visible(&tenant.name));
                TenantReply::Tenants(tenants)
            }
        })
    }

    /// A new tenant with a catalogue KEK of its own.
    ///
    /// # Errors
    /// When the name makes no sense or is taken, or the token or the log fails.
    pub fn create_tenant(&self, actor: Actor, name: &str, reason: Option<&str>) -> Result<TenantView, Refusal> {
        self.refusals_logged(
            actor,
            op::TENANT_CREATE,
            |e| e,
            || {
                check_name("name of a tenant", name, MAX_TENANT)?;
                if name.len() > MAX_TENANT {
                    let what = format!("the name has {} bytes, the most are {MAX_TENANT}", name.len());
                    return Err(bad_request(what, "choose a shorter one: it stands on the shares of recovery keys"));
                }
                // Tenants are named by their opaque id as well.
                if Uuid::try_parse(name).is_ok() {
                    return Err(bad_request(
                        format!("{name:?} is a UUID"),
                        "choose a name that is not mistaken for an id",
                    ));
                }
                if let Some(reason) = reason {
                    check_name("reason", reason, 500)?;
                }
                let _one = self.founding.lock().unwrap_or_else(PoisonError::into_inner);
                check_free(self.lock().sql(), name)?;
                let opaque = Uuid::new_v4();
                let kek = self.make_kek(actor, KekPurpose::Catalogue, None, &label_of(opaque))?;
                let made = self.lock().change(|c| {
                    let id = TenantRow::insert(c, actor, None, opaque, name, reason.unwrap_or("made"))?;
                    kek.keep(c, actor, id)?;
                    view(&c.sql, c.log(), TenantRow::find(&c.sql, c.log(), id)?)
                });
                if let Err(refusal) = &made {
                    self.discard_kek(actor, &kek, refusal)?;
                }
                made
            },
        )
    }

    /// The tenants, the first one first.
    ///
    /// # Errors
    /// When the catalogue cannot be read, or was changed.
    pub fn tenants(&self) -> Result<Vec<TenantView>, Refusal> {
        let catalogue = self.lock();
        let (sql, log) = (catalogue.sql(), catalogue.log());
        TenantRow::all(sql, log)?.into_iter().map(|tenant| view(sql, log, tenant)).collect()
    }
}
