//! On what terms a new key is made: its periods, and the medium key-encryption key of its epoch, which makes itself.

use std::sync::PoisonError;

use rusqlite::{Connection, OptionalExtension};

use super::super::Authority;
use super::super::kek::KekPurpose;
use crate::catalogue::{Actor, Change, Entry, KekRow, LogState, MediumKekRow, PoolRow};
use crate::custody::op;
use crate::fault::{damaged, internal};
use crate::protocol::{EpochRule, PoolPolicy, Refusal, RefusalCode};
use crate::time;

/// The terms of one new key.
#[derive(Debug, Clone)]
pub(in crate::authority) struct Terms {
    pub(in crate::authority) pool: PoolRow,
    pub(in crate::authority) created: String,
    pub(in crate::authority) seal_until: Option<String>,
    pub(in crate::authority) open_until: Option<String>,
    /// Wraps the copy on the medium, where policy wants one.
    pub(in crate::authority) medium_kek: Option<KekRow>,
}

/// The epoch of a key made `now` that opens until `open_until`, and until when any key of that epoch opens.
fn epoch_of(rule: &EpochRule, now: &str, open_until: Option<&str>) -> (String, Option<String>) {
    match rule {
        EpochRule::Single => ("single".into(), None),
        EpochRule::Named(name) => (name.clone(), None),
        EpochRule::Yearly => {
            let year: String = open_until.unwrap_or(now).chars().take(4).collect();
            let until = open_until.map(|_| format!("{year}-12-31T23:59:59.999Z"));
            (year, until)
        }
    }
}

fn after(now: &str, days: Option<u32>) -> Result<Option<String>, Refusal> {
    let time = |days| time::days_after(now, days).ok_or_else(|| internal("the time is malformed"));
    days.map(time).transpose()
}

/// Nothing new comes under a key-encryption key that is compromised.
fn catalogue_kek_usable(sql: &Connection, tenant: i64) -> Result<(), Refusal> {
    let query = "SELECT 1 FROM keks WHERE purpose = 'catalogue' AND state = 'active' AND tenant = ?1";
    if sql.query_row(query, [tenant], |_| Ok(())).optional()?.is_some() {
        return Ok(());
    }
    let what = "the catalogue's key-encryption key is compromised: no key is made under it";
    Err(Refusal::new(RefusalCode::KeyEnded, what, "replace it first; what it wrapped has to be written anew"))
}

/// Gives a key-encryption key that was just kept to an epoch of its pool.
fn assign(c: &mut Change<'_>, actor: Actor, pool: &str, row: &MediumKekRow) -> Result<(), Refusal> {
    let reason = match &row.until {
        Some(until) => format!("pool {pool}, epoch {}, until {until}", row.epoch),
        None => format!("pool {pool}, epoch {}", row.epoch),
    };
    let leaf = c.record(Entry::done(actor, op::POOL_EPOCH).key(row.kek).digest(row.digest()?).reason(reason))?;
    row.insert(&c.sql, leaf)
}

/// The first medium key-encryption key of a new pool.
pub(in crate::authority) fn assign_first(
    c: &mut Change<'_>,
    actor: Actor,
    pool: i64,
    policy: &PoolPolicy,
    kek: uuid::Uuid,
) -> Result<(), Refusal> {
    let now = c.now();
    let open_until = after(&now, policy.life.open_days)?;
    let (epoch, until) = epoch_of(&policy.life.epoch, &now, open_until.as_deref());
    assign(c, actor, &policy.name, &MediumKekRow { kek, pool, epoch, until })
}

impl Authority {
    /// The terms of a key that is made now in `pool`. The first key of an epoch makes the epoch's key-encryption key.
    pub(in crate::authority) fn terms(&self, actor: Actor, pool: PoolRow) -> Result<Terms, Refusal> {
        let life = &pool.policy.life;
        let created = {
            let catalogue = self.lock();
            pool.confirm(catalogue.sql(), catalogue.log())?;
            catalogue_kek_usable(catalogue.sql(), pool.tenant)?;
            catalogue.now()
        };
        let seal_until = after(&created, life.seal_days)?;
        let open_until = after(&created, life.open_days)?;
        let medium_kek = match pool.policy.key_on_medium {
            false => None,
            true => {
                let (epoch, until) = epoch_of(&life.epoch, &created, open_until.as_deref());
                let kek = self.medium_kek(actor, &pool, &epoch, until)?;
                if kek.tenant != pool.tenant {
                    let what =
                        format!("the key-encryption key {} of pool {} is another tenant's", kek.id, pool.policy.name);
                    return Err(damaged(what));
                }
                Some(kek)
            }
        };
        Ok(Terms { pool, created, seal_until, open_until, medium_kek })
    }

    fn medium_kek(&self, actor: Actor, pool: &PoolRow, epoch: &str, until: Option<String>) -> Result<KekRow, Refusal> {
        let current = |sql: &Connection, log: &LogState| MediumKekRow::current(sql, log, pool.id, epoch);
        let found = {
            let catalogue = self.lock();
            current(catalogue.sql(), catalogue.log())?
        };
        if let Some(found) = found {
            return Ok(found);
        }
        // One after the other: two units that begin an epoch at the same time share its key.
        let _making = self.life.making.lock().unwrap_or_else(PoisonError::into_inner);
        let found = {
            let catalogue = self.lock();
            current(catalogue.sql(), catalogue.log())?
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let label = format!("sealtape medium {} {epoch}", pool.policy.name);
        let made = self.make_kek(actor, KekPurpose::Medium, pool.tenant, &label)?;
        self.lock().change(|c| {
            made.keep(c, actor, pool.tenant)?;
            let row = MediumKekRow { kek: made.id, pool: pool.id, epoch: epoch.to_owned(), until };
            assign(c, actor, &pool.policy.name, &row)?;
            current(&c.sql, c.log())?.ok_or_else(|| internal("a key-encryption key that was just made is missing"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_follow_the_expiry() {
        let now = "2026-11-22T05:00:00.000Z";
        let in_2036 = Some("2036-11-20T05:00:00.000Z");
        let until = Some("2036-12-31T23:59:59.999Z".to_owned());
        assert_eq!(epoch_of(&EpochRule::Yearly, now, in_2036), ("2036".into(), until));
        assert_eq!(epoch_of(&EpochRule::Yearly, now, None), ("2026".into(), None));
        assert_eq!(epoch_of(&EpochRule::Single, now, in_2036), ("single".into(), None));
        assert_eq!(epoch_of(&EpochRule::Named("audit-7".into()), now, in_2036), ("audit-7".into(), None));
    }
}
