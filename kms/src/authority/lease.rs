//! For how long a released key may be kept, and which releases have ended.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::Authority;
use super::generation::{releasable, usable_tape};
use crate::catalogue::{Actor, Change, Entry, from_db, to_db, uuid};
use crate::custody::op;
use crate::protocol::{Ended, GenerationRef, PoolPolicy, Refusal, RefusalCode, Rights};
use crate::time;

/// Connections that may wait for ends at a time: more than a machine has drives.
const MOST_WAITERS: usize = 32;
/// Ends in one answer.
const MOST_ENDS: i64 = 500;
/// A waiter looks into the table this often, even if nobody told it to.
const LOOK: Duration = Duration::from_secs(1);

/// Those who wait for ends of releases.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    waiters: usize,
    changes: u64,
    stopping: bool,
}

/// A place among the waiters; given back on drop.
struct Place<'a>(&'a Watchers);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().waiters -= 1;
    }
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Result<Place<'_>, Refusal> {
        let mut waiting = self.lock();
        if waiting.waiters >= MOST_WAITERS {
            let what = format!("{MOST_WAITERS} connections wait for ends of releases already");
            return Err(Refusal::new(
                RefusalCode::Busy,
                what,
                "a data path needs one; see which programs use the socket",
            ));
        }
        waiting.waiters += 1;
        Ok(Place(self))
    }

    fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Waits until something changed since `seen`; false when the service stops.
    fn wait(&self, seen: u64, limit: Duration) -> bool {
        let unchanged = |waiting: &mut Waiting| waiting.changes == seen && !waiting.stopping;
        let waited = self.changed.wait_timeout_while(self.lock(), limit, unchanged);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    fn tell(&self, stopping: bool) {
        let mut waiting = self.lock();
        waiting.changes += 1;
        waiting.stopping |= stopping;
        drop(waiting);
        self.changed.notify_all();
    }
}

/// Enters that the releases of these keys end now; call [`Authority::tell_ends`] when the change is durable.
pub(super) fn end_releases(
    c: &Change<'_>,
    keys: impl IntoIterator<Item = (Uuid, Uuid)>,
    reason: &str,
    leaf: u64,
) -> Result<u64, Refusal> {
    let now = c.now();
    let mut insert =
        c.sql.prepare_cached("INSERT INTO ends (volume, key_id, reason, time, leaf) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut count = 0;
    for (volume, key) in keys {
        insert.execute(params![volume.to_string(), key.to_string(), reason, now, to_db(leaf)?])?;
        count += 1;
    }
    Ok(count)
}

fn ends(sql: &Connection, after: u64) -> Result<(u64, Vec<Ended>), Refusal> {
    let last: i64 = sql.query_row("SELECT coalesce(max(seq), 0) FROM ends", [], |r| r.get(0))?;
    // A number that was never given comes from before the catalogue was restored: then everything is told again.
    let after = if to_db(after)? > last { 0 } else { to_db(after)? };
    let mut query =
        sql.prepare_cached("SELECT seq, volume, key_id, reason FROM ends WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let mut rows = query.query(params![after, MOST_ENDS])?;
    let (mut to, mut keys) = (after, Vec::new());
    while let Some(r) = rows.next()? {
        to = r.get(0)?;
        let (volume, key): (String, String) = (r.get(1)?, r.get(2)?);
        keys.push(Ended { volume: uuid(&volume)?, key_id: uuid(&key)?, reason: r.get(3)? });
    }
    Ok((from_db(to)?, keys))
}

/// For how many seconds a key that is released `now` may be kept: the pool's limit, and no longer than its present rights last.
pub(super) fn lease(
    policy: &PoolPolicy,
    rights: Rights,
    seal_until: Option<&str>,
    open_until: Option<&str>,
    now: &str,
) -> Option<u32> {
    let seal_until = seal_until.filter(|_| rights == Rights::SealAndOpen);
    let periods = [seal_until, open_until].into_iter().flatten();
    // A second more: what is asked for when it runs out finds the period over.
    let left = periods.filter_map(|until| time::seconds_until(now, until)).map(|left| left.saturating_add(1));
    let limits = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX)).chain(policy.life.longest_release);
    limits.min()
}

impl Authority {
    /// Tells everybody who waits that releases were ended.
    pub(super) fn tell_ends(&self) {
        self.life.watchers.tell(false);
    }

    /// Nobody waits any longer: the service stops.
    pub fn wake_watchers(&self) {
        self.life.watchers.tell(true);
    }

    /// Ends of releases after number `after`: waits for one, at the longest [`crate::protocol::WATCH_LIMIT`].
    ///
    /// # Errors
    /// When too many wait, or the catalogue cannot be read.
    pub fn ended_after(&self, after: u64) -> Result<(u64, Vec<Ended>), Refusal> {
        let _place = self.life.watchers.enter()?;
        let until = Instant::now() + crate::protocol::WATCH_LIMIT;
        loop {
            let seen = self.life.watchers.changes();
            let (to, keys) = ends(self.lock().sql(), after)?;
            if to != after || !keys.is_empty() {
                return Ok((to, keys));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.life.watchers.wait(seen, left.min(LOOK)) {
                return Ok((to, keys));
            }
        }
    }

    /// The unit may keep the key of a loaded generation for another period.
    ///
    /// # Errors
    /// When rules forbid it: then the unit wipes it.
    pub fn renew(&self, actor: Actor, unit: &str, at: GenerationRef) -> Result<(Option<u32>, Rights), Refusal> {
        self.refusals_logged(
            actor,
            op::KEY_RENEW,
            |e| e.unit(unit).at(at),
            || {
                self.lock().change(|c| {
                    let (_, pool) = usable_tape(&c.sql, unit, at.volume)?;
                    pool.confirm(&c.sql, c.log())?;
                    let now = c.now();
                    let found = releasable(&c.sql, c.log(), &now, at)?;
                    let lease = found.lease(&pool.policy, &now);
                    c.record(Entry::done(actor, op::KEY_RENEW).unit(unit).at(at))?;
                    Ok((lease, found.rights))
                })
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_with_the_first_of_its_limits() {
        let mut policy = PoolPolicy::standard("p");
        let now = "2026-01-01T00:00:00.000Z";
        let (soon, later) = (Some("2026-01-01T00:01:00.000Z"), Some("2026-01-01T00:02:00.000Z"));
        let (both, opens) = (Rights::SealAndOpen, Rights::OpenOnly);
        assert_eq!(lease(&policy, both, None, None, now), None);
        assert_eq!(lease(&policy, both, soon, later, now), Some(61));
        assert_eq!(lease(&policy, opens, soon, later, now), Some(121));
        assert_eq!(lease(&policy, opens, soon, None, now), None);
        policy.life.longest_release = Some(30);
        assert_eq!(lease(&policy, both, soon, later, now), Some(30));
    }
}
