//! Policies of pools.

use rusqlite::params;

use super::super::{Authority, check_name};
use crate::catalogue::{Actor, Entry, PoolRow, policy_digest};
use crate::custody::op;
use crate::fault::{bad_request, internal};
use crate::protocol::{KeyLife, LONGEST_PERIOD, PoolPolicy, Refusal};

/// A shorter one would fill the custody log with renewals.
const SHORTEST_RELEASE: u32 = 2;

/// Periods as they stand in the catalogue.
pub(in crate::authority) fn life_text(life: &KeyLife) -> Result<String, Refusal> {
    serde_json::to_string(life).map_err(|e| internal(e.to_string()))
}

/// Whether a policy makes sense.
pub(in crate::authority) fn check_policy(policy: &PoolPolicy) -> Result<(), Refusal> {
    if !(1..=3).contains(&policy.suite) || policy.compression > 2 {
        return Err(bad_request(
            format!("there is no suite {} or no compression {}", policy.suite, policy.compression),
            "suites are 1 to 3, compressions 0 to 2",
        ));
    }
    let life = &policy.life;
    let in_use = ("counting as in use", Some(life.in_use_days));
    for (what, days) in [("sealing", life.seal_days), ("opening", life.open_days), in_use] {
        if days.is_some_and(|days| !(1..=LONGEST_PERIOD).contains(&days)) {
            let what = format!("pool {}: a period for {what} of {} days", policy.name, days.unwrap_or_default());
            return Err(bad_request(what, format!("periods have 1 to {LONGEST_PERIOD} days")));
        }
    }
    if let (Some(seal), Some(open)) = (life.seal_days, life.open_days)
        && seal > open
    {
        let what = format!("pool {}: keys would seal for {seal} days and open for {open} only", policy.name);
        return Err(bad_request(
            what,
            "what is sealed has to be opened later: make the period for opening the longer one",
        ));
    }
    if life.longest_release.is_some_and(|seconds| seconds < SHORTEST_RELEASE) {
        let what = format!("pool {}: a longest release of less than {SHORTEST_RELEASE} seconds", policy.name);
        return Err(bad_request(what, "every renewal is entered into the custody log; minutes or hours are usual"));
    }
    Ok(())
}

impl Authority {
    /// The policy of a pool.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn show_pool(&self, pool: &str) -> Result<PoolPolicy, Refusal> {
        Ok(PoolRow::named(self.lock().sql(), pool)?.policy)
    }

    /// Whether the policy was changed since the pool was made.
    ///
    /// # Errors
    /// When there is no pool of that name, or the catalogue was changed.
    pub fn policy_was_changed(&self, pool: &str) -> Result<bool, Refusal> {
        let catalogue = self.lock();
        let row = PoolRow::named(catalogue.sql(), pool)?;
        row.confirm(catalogue.sql(), catalogue.log())?;
        let entry = row.policy_leaf.map(|leaf| catalogue.log().proven_leaf(catalogue.sql(), leaf)).transpose()?;
        Ok(entry.is_some_and(|entry| entry.op == op::POOL_SET))
    }

    /// Changes a pool's policy. Generations that stand keep suite, compression, copy on the medium and periods that they were made
    /// with; the longest release holds from the next release or renewal on.
    ///
    /// # Errors
    /// When there is no such pool, the policy makes no sense, or the log cannot be written.
    pub fn set_pool(&self, actor: Actor, policy: &PoolPolicy) -> Result<(), Refusal> {
        self.refusals_logged(
            actor,
            op::POOL_SET,
            |e| e,
            || {
                check_name("name of a pool", &policy.name, 64)?;
                check_policy(policy)?;
                self.lock().change(|c| {
                    let row = PoolRow::named(&c.sql, &policy.name)?;
                    c.sql.execute(
                        "UPDATE pools SET suite = ?2, compression = ?3, key_on_medium = ?4, label_on_medium = ?5,
                         barcode_on_medium = ?6, auto_label = ?7, life = ?8, recovery_on_medium = ?9 WHERE id = ?1",
                        params![
                            row.id,
                            policy.suite,
                            policy.compression,
                            policy.key_on_medium,
                            policy.label_on_medium,
                            policy.barcode_on_medium,
                            policy.auto_label.as_ref().map(ToString::to_string),
                            life_text(&policy.life)?,
                            policy.recovery_on_medium
                        ],
                    )?;
                    let words = serde_json::to_string(policy).map_err(|e| internal(e.to_string()))?;
                    let leaf = c.record(
                        Entry::done(actor, op::POOL_SET)
                            .tenant(row.tenant)
                            .digest(policy_digest(policy)?)
                            .reason(format!("pool {}: {words}", policy.name)),
                    )?;
                    PoolRow::policy_entered(&c.sql, row.id, leaf)
                })
            },
        )
    }

    /// Enters the policies of pools from a catalogue of an earlier version, in which no entry had them.
    pub(in crate::authority) fn adopt_policies(&self) -> Result<(), Refusal> {
        let mut catalogue = self.lock();
        for pool in PoolRow::all(catalogue.sql())? {
            if !pool.is_from_before(catalogue.sql())? {
                continue;
            }
            catalogue.change(|c| {
                let entry =
                    Entry::done(Actor::Service, op::POOL_SET).tenant(pool.tenant).digest(policy_digest(&pool.policy)?);
                let leaf = c.record(entry.reason(format!("pool {}: as it was before", pool.policy.name)))?;
                PoolRow::policy_entered(&c.sql, pool.id, leaf)
            })?;
        }
        Ok(())
    }
}
