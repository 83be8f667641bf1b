//! What operators and auditors ask for.

use std::sync::PoisonError;

use rusqlite::params;
use uuid::Uuid;

use super::kek::KekPurpose;
use super::{Authority, check_name};
use crate::catalogue::{Actor, Change, Entry, PoolRow, TenantId, TenantRow, VolumeRow, policy_digest};
use crate::custody::op;
use crate::fault::{bad_request, damaged};
use crate::protocol::{PoolPolicy, PoolView, Refusal, RefusalCode, VolumePage, VolumeQuery, VolumeState, VolumeView};

/// Volumes in one answer,
const MOST_VOLUMES: u32 = 1000;
/// and looked at for one: a filter that fits hardly anything must not hold the catalogue for long.
const LOOKED_AT: u32 = 5000;

pub(super) fn by_name(sql: &rusqlite::Connection, name: &str) -> Result<VolumeRow, Refusal> {
    if let Ok(id) = name.parse::<Uuid>() {
        return VolumeRow::find(sql, id);
    }
    let unknown = || {
        let what = format!("there is no active volume with label {name:?}");
        Refusal::new(RefusalCode::UnknownVolume, what, "see: sealtape volume list; others are named by their UUID")
    };
    VolumeRow::with_active_label(sql, name)?.ok_or_else(unknown)
}

impl Authority {
    /// A page of the volumes that fit, oldest first.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn list_volumes(&self, query: &VolumeQuery) -> Result<VolumePage, Refusal> {
        let catalogue = self.lock();
        let pools = PoolRow::all(catalogue.sql())?;
        let count = query.count.clamp(1, MOST_VOLUMES);
        let mut page = VolumePage { volumes: Vec::new(), next: None };
        let all = VolumeQuery { count: query.count, after: query.after.clone(), ..VolumeQuery::default() };
        let looked_at = if *query == all { count } else { LOOKED_AT };
        let rows = VolumeRow::page(catalogue.sql(), query.after.as_ref(), looked_at)?;
        let more = rows.len() == looked_at as usize;
        for row in rows {
            let at = (row.created.clone(), row.id);
            if page.volumes.len() == count as usize {
                return Ok(page);
            }
            let summary = pools.iter().find(|p| p.id == row.pool).map(|p| row.summary(p));
            page.volumes.extend(summary.filter(|s| query.fits(s)));
            page.next = Some(at);
        }
        if !more {
            page.next = None;
        }
        Ok(page)
    }

    /// One volume by UUID, or by the label of an active one.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn show_volume(&self, volume: &str) -> Result<VolumeView, Refusal> {
        let catalogue = self.lock();
        by_name(catalogue.sql(), volume)?.view(catalogue.sql())
    }

    /// Retires a volume, or takes it back into use.
    ///
    /// # Errors
    /// When there is no such step.
    pub fn set_volume_state(
        &self,
        actor: Actor,
        volume: &str,
        state: VolumeState,
        reason: &str,
    ) -> Result<(), Refusal> {
        self.refusals_logged(
            actor,
            op::VOLUME_STATE,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                self.lock().change(|c| {
                    let row = by_name(&c.sql, volume)?;
                    let step = match (row.state, state) {
                        (VolumeState::Active | VolumeState::Labelling, VolumeState::Retired) => "retired",
                        (VolumeState::Retired, VolumeState::Active) => "active again",
                        (from, to) => {
                            let what = format!("{} is {from:?} and cannot become {to:?}", row.words());
                            return Err(Refusal::new(
                                RefusalCode::VolumeState,
                                what,
                                "an active volume can be retired, a retired one taken back",
                            ));
                        }
                    };
                    if state == VolumeState::Active {
                        let whole = row.view(&c.sql)?.partitions.iter().all(|p| p.active().is_some());
                        if !whole {
                            let what = format!("{} was never labelled completely", row.words());
                            return Err(Refusal::new(RefusalCode::VolumeState, what, "label the medium anew"));
                        }
                        if let Some(user) = VolumeRow::with_active_label(&c.sql, &row.label)?.filter(|u| u.id != row.id)
                        {
                            let what = format!("label {:?} is now that of {}", row.label, user.words());
                            return Err(Refusal::new(RefusalCode::LabelInUse, what, "retire that volume first"));
                        }
                    }
                    row.state_agrees(&c.sql, &|seq| c.log().proven_leaf(&c.sql, seq))?;
                    row.change_state(c, actor, state, format!("{step}: {reason}"))
                })
            },
        )
    }

    /// The pools.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn list_pools(&self) -> Result<Vec<PoolPolicy>, Refusal> {
        Ok(PoolRow::all(self.lock().sql())?.into_iter().map(|p| p.policy).collect())
    }

    /// The pools, each with its tenant.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn pools_with_tenants(&self) -> Result<Vec<PoolView>, Refusal> {
        let catalogue = self.lock();
        let (sql, log) = (catalogue.sql(), catalogue.log());
        let tenants = TenantRow::all(sql, log)?;
        let view = |pool: PoolRow| {
            let tenant = tenants.iter().find(|tenant| tenant.id == pool.tenant);
            let tenant = tenant.ok_or_else(|| damaged(format!("pool {} is of no tenant", pool.policy.name)))?;
            Ok(PoolView { tenant: tenant.name.clone(), policy: pool.policy })
        };
        PoolRow::all(sql)?.into_iter().map(view).collect()
    }

    /// A pool with its tenant.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn pool_with_tenant(&self, pool: &str) -> Result<PoolView, Refusal> {
        let catalogue = self.lock();
        let row = PoolRow::named(catalogue.sql(), pool)?;
        let tenant = TenantRow::find(catalogue.sql(), catalogue.log(), row.tenant)?.name;
        Ok(PoolView { tenant, policy: row.policy })
    }

    /// A new pool of the first tenant, as [`Authority::create_pool_of`].
    ///
    /// # Errors
    /// As there.
    pub fn create_pool(&self, actor: Actor, policy: &PoolPolicy) -> Result<(), Refusal> {
        self.create_pool_of(actor, None, policy)
    }

    /// A new pool of a tenant (none: the first one), with a medium KEK of its own.
    ///
    /// # Errors
    /// When there is no such tenant, the policy makes no sense, the name is taken, or the token fails.
    pub fn create_pool_of(&self, actor: Actor, tenant: Option<&str>, policy: &PoolPolicy) -> Result<(), Refusal> {
        self.refusals_logged(
            actor,
            op::POOL_CREATE,
            |e| e,
            || {
                check_name("name of a pool", &policy.name, 64)?;
                super::keys::check_policy(policy)?;
                let _one = self.founding.lock().unwrap_or_else(PoisonError::into_inner);
                let tenant = {
                    let catalogue = self.lock();
                    let tenant = TenantRow::named(catalogue.sql(), catalogue.log(), tenant)?;
                    if PoolRow::named(catalogue.sql(), &policy.name).is_ok() {
                        let what = format!("pool {:?} exists", policy.name);
                        let mend = "choose another name: names of pools are given once, over all tenants";
                        return Err(bad_request(what, mend));
                    }
                    tenant.id
                };
                let label = format!("sealtape medium {}", policy.name);
                let kek = self.make_kek(actor, KekPurpose::Medium, tenant, &label)?;
                self.lock().change(|c| {
                    kek.keep(c, actor, tenant)?;
                    insert_pool(c, actor, tenant, policy, kek.id)
                })
            },
        )
    }

    /// Says which pools a unit may use; none lifts the restriction.
    ///
    /// # Errors
    /// When a pool is unknown.
    pub fn restrict_unit(&self, actor: Actor, unit: &str, pools: &[String]) -> Result<(), Refusal> {
        self.refusals_logged(
            actor,
            op::UNIT_RESTRICT,
            |e| e.unit(unit),
            || {
                check_name("unit", unit, 64)?;
                self.lock().change(|c| {
                    c.sql.execute("DELETE FROM unit_pools WHERE unit = ?1", [unit])?;
                    for name in pools {
                        let pool = PoolRow::named(&c.sql, name)?;
                        c.sql.execute(
                            "INSERT OR IGNORE INTO unit_pools (unit, pool) VALUES (?1, ?2)",
                            params![unit, pool.id],
                        )?;
                    }
                    let reason = if pools.is_empty() { "all pools".to_owned() } else { pools.join(", ") };
                    c.record(Entry::done(actor, op::UNIT_RESTRICT).unit(unit).reason(reason))?;
                    Ok(())
                })
            },
        )
    }

    /// Lets the PIN be tried again.
    ///
    /// # Errors
    /// When the log cannot be written or the latch cannot be removed.
    pub fn clear_pin_latch(&self, actor: Actor) -> Result<(), Refusal> {
        self.lock().change(|c| c.record(Entry::done(actor, op::PIN_UNLATCH)))?;
        for token in self.tokens.all() {
            token.clear_latch().map_err(|e| {
                let what = format!("the PIN latch of {} cannot be removed: {e}", token.uri());
                Refusal::new(RefusalCode::Internal, what, "remove its file by hand")
            })?;
        }
        Ok(())
    }
}

pub(crate) fn insert_pool(
    c: &mut Change<'_>,
    actor: Actor,
    tenant: TenantId,
    policy: &PoolPolicy,
    kek: Uuid,
) -> Result<(), Refusal> {
    c.sql.execute(
        "INSERT INTO pools (tenant, name, suite, compression, key_on_medium, label_on_medium, barcode_on_medium, medium_kek, auto_label, life,
         recovery_on_medium)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            tenant,
            policy.name,
            policy.suite,
            policy.compression,
            policy.key_on_medium,
            policy.label_on_medium,
            policy.barcode_on_medium,
            kek.to_string(),
            policy.auto_label.as_ref().map(ToString::to_string),
            super::keys::life_text(&policy.life)?,
            policy.recovery_on_medium
        ],
    )?;
    let pool = c.sql.last_insert_rowid();
    let entry = Entry::done(actor, op::POOL_CREATE).key(kek).tenant(tenant).digest(policy_digest(policy)?);
    let leaf = c.record(entry.reason(format!("pool {}", policy.name)))?;
    PoolRow::policy_entered(&c.sql, pool, leaf)?;
    super::keys::assign_first(c, actor, pool, policy, kek)
}
