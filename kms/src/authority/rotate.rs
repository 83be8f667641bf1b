//! Replacing a tenant's catalogue KEK: every live key is wrapped by a new one, checked, and the old one taken out of use.
//!
//! From the first step on new keys come under the new KEK. What is left to do is told by the rows that stand under the old one, so
//! a rotation goes on wherever it was interrupted. The catalogue is free while the token works; each batch is one transaction, with
//! an entry per key that names the new copy.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::destruction::Owed;
use super::kek::NewKek;
use super::tenants::kek_label;
use super::{Authority, KekPurpose, canary_aad, check_name, wrap_aad};
use crate::catalogue::{
    Actor, Catalogue, Change, Entry, GenerationRow, KekRow, RotationRow, TenantId, TenantRow, VolumeRow,
};
use crate::custody::{Blob, Outcome, op};
use crate::fault::internal;
use crate::hex::{Hex, HexBytes};
use crate::pkcs11::{Canary, Rewrapped, WrapWith, WrappedItem};
use crate::protocol::{DamagedKey, Refusal, RefusalCode, RotationState, RotationView};
use crate::time;

/// Keys in a batch: as many as the token does in about this time.
const BATCH_TIME: Duration = Duration::from_millis(150);
const BATCHES: std::ops::RangeInclusive<u32> = 4..=256;

/// What the work in the background keeps in memory.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Held by the one that works.
    one: Mutex<()>,
    batch: AtomicU32,
    trouble: Mutex<Option<String>>,
    owed: Mutex<Owed>,
}

impl Work {
    /// The right to work; none if another thread has it.
    pub(super) fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self.one.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self) -> u32 {
        self.batch.load(Ordering::Relaxed).clamp(*BATCHES.start(), *BATCHES.end())
    }

    fn learn(&self, took: Duration) {
        let batch = self.batch();
        let next = if took > 2 * BATCH_TIME {
            batch / 2
        } else if took < BATCH_TIME / 2 {
            batch * 2
        } else {
            batch
        };
        self.batch.store(next.clamp(*BATCHES.start(), *BATCHES.end()), Ordering::Relaxed);
    }
}

/// Keys of one batch with the way each is opened, and those that the custody log does not confirm.
type Batch = (Vec<(GenerationRow, WrapWith)>, Vec<(GenerationRow, String)>);

fn confirmed(catalogue: &Catalogue, rows: Vec<GenerationRow>) -> Result<Batch, Refusal> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for row in rows {
        match row.confirmed(catalogue.sql(), catalogue.log()) {
            Ok(with) => good.push((row, with)),
            Err(e) if e.code == RefusalCode::TamperedBlob => bad.push((row, e.what)),
            Err(e) => return Err(e),
        }
    }
    Ok((good, bad))
}

fn canary(kek: &KekRow) -> Canary {
    let with = WrapWith { kek: kek.id, mechanism: kek.mechanism, aad: canary_aad(kek.id) };
    Canary { with, blob: HexBytes(kek.canary.clone()) }
}

fn items(batch: &[(GenerationRow, WrapWith)]) -> Vec<WrappedItem> {
    let item = |row: &GenerationRow| WrappedItem { aad: wrap_aad(row.at), blob: HexBytes(row.wrapped.clone()) };
    batch.iter().map(|(row, _)| item(row)).collect()
}

impl Authority {
    /// Replaces the KEK of the first tenant, as [`Authority::rotate_of`].
    ///
    /// # Errors
    /// As there.
    pub fn rotate(&self, actor: Actor, reason: &str) -> Result<RotationView, Refusal> {
        self.rotate_of(actor, None, reason)
    }

    /// Replaces the catalogue KEK of a tenant (none: the first one), or goes on with a rotation of it that was stopped or held.
    /// [`Authority::work`] does the work.
    ///
    /// # Errors
    /// When there is no such tenant, or the token or the log fails.
    pub fn rotate_of(&self, actor: Actor, tenant: Option<&str>, reason: &str) -> Result<RotationView, Refusal> {
        self.refusals_logged(
            actor,
            op::KEK_ROTATE,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                let (owner, unfinished) = {
                    let catalogue = self.lock();
                    let owner = TenantRow::named(catalogue.sql(), catalogue.log(), tenant)?;
                    let unfinished = RotationRow::unfinished(catalogue.sql(), owner.id)?;
                    (owner, unfinished)
                };
                if let Some(row) = unfinished {
                    self.resume(actor, row.id, reason)?;
                } else {
                    let kek = self.make_kek(actor, KekPurpose::Catalogue, owner.id, &kek_label(&owner))?;
                    self.lock().change(|c| begin(c, actor, owner.id, &kek, reason))?;
                }
                self.rotation_of(tenant)?.ok_or_else(|| internal("a rotation that was begun is not there"))
            },
        )
    }

    fn resume(&self, actor: Actor, id: Uuid, reason: &str) -> Result<(), Refusal> {
        let mut catalogue = self.lock();
        let row = RotationRow::find(catalogue.sql(), id)?;
        if !matches!(row.state, RotationState::Held | RotationState::Stopped) {
            return Ok(());
        }
        catalogue.change(|c| {
            let mut row = RotationRow::find(&c.sql, id)?;
            row.clear_faults(&c.sql)?;
            (row.state, row.verified) = (RotationState::Rewrapping, String::new());
            row.update(&c.sql)?;
            let entry = Entry::new(actor, op::KEK_ROTATE, Outcome::Intent).key(row.new_kek);
            c.record(entry.reason(format!("goes on: {reason}")))
        })?;
        Ok(())
    }

    /// Stops the rotation of the first tenant, as [`Authority::stop_rotation_of`].
    ///
    /// # Errors
    /// As there.
    pub fn stop_rotation(&self, actor: Actor, reason: &str) -> Result<(), Refusal> {
        self.stop_rotation_of(actor, None, reason)
    }

    /// Stops a tenant's rotation where it is; [`Authority::rotate_of`] goes on with it.
    ///
    /// # Errors
    /// When there is none under way, or it belongs to a destruction.
    pub fn stop_rotation_of(&self, actor: Actor, tenant: Option<&str>, reason: &str) -> Result<(), Refusal> {
        self.refusals_logged(
            actor,
            op::KEK_ROTATE,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                self.lock().change(|c| {
                    let owner = TenantRow::named(&c.sql, c.log(), tenant)?;
                    let row = RotationRow::unfinished(&c.sql, owner.id)?;
                    let none = || {
                        let what = "no rotation of the catalogue's key-encryption key is under way";
                        Refusal::new(RefusalCode::BadRequest, what, "see: sealtape key rotate --status")
                    };
                    let mut row = row.filter(|r| r.state != RotationState::Stopped).ok_or_else(none)?;
                    let belongs = "SELECT 1 FROM destructions WHERE rotation = ?1";
                    if c.sql.prepare_cached(belongs)?.exists([row.id.to_string()])? {
                        let what = "this rotation belongs to a destruction, which nothing stops";
                        return Err(Refusal::new(RefusalCode::BadRequest, what, "see: sealtape certificate list"));
                    }
                    row.state = RotationState::Stopped;
                    row.update(&c.sql)?;
                    let entry = Entry::new(actor, op::KEK_ROTATE, Outcome::Interrupted).key(row.new_kek);
                    c.record(entry.reason(format!("stopped: {reason}")))?;
                    Ok(())
                })
            },
        )
    }

    /// How far the last rotation of the first tenant is.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn rotation(&self) -> Result<Option<RotationView>, Refusal> {
        self.rotation_of(None)
    }

    /// How far the last rotation of a tenant is.
    ///
    /// # Errors
    /// When there is no such tenant, or the catalogue cannot be read.
    pub fn rotation_of(&self, tenant: Option<&str>) -> Result<Option<RotationView>, Refusal> {
        let last = {
            let catalogue = self.lock();
            let owner = TenantRow::named(catalogue.sql(), catalogue.log(), tenant)?;
            RotationRow::last(catalogue.sql(), owner.id)?
        };
        last.map(|row| self.rotation_view(row)).transpose()
    }

    pub(super) fn rotation_view(&self, row: RotationRow) -> Result<RotationView, Refusal> {
        let trouble = self.work.trouble().clone();
        let catalogue = self.lock();
        let sql = catalogue.sql();
        let counts = row.counts(sql)?;
        let damaged = row.faults(sql)?.into_iter().map(|(key, what)| {
            let label = VolumeRow::find(sql, key.at.volume)?.label;
            Ok(DamagedKey { at: key.at, label, what })
        });
        Ok(RotationView {
            rotation: row.id,
            tenant: TenantRow::find(sql, catalogue.log(), row.tenant)?.name,
            old_kek: row.old_kek,
            new_kek: row.new_kek,
            state: row.state,
            total: counts.total,
            rewrapped: counts.rewrapped,
            verified: counts.verified,
            damaged: damaged.collect::<Result<_, Refusal>>()?,
            reason: row.reason,
            started: row.started,
            trouble: trouble.filter(|_| row.ended.is_none()),
            ended: row.ended,
        })
    }

    /// Does a piece of what is to be done in the background; false when there is nothing, or another thread does it.
    ///
    /// # Errors
    /// When the token or the catalogue fails: the same piece is due again.
    pub fn work(&self) -> Result<bool, Refusal> {
        let Some(_turn) = self.work.turn() else { return Ok(false) };
        let done = match self.destruction_step() {
            Ok(false) => self.rotation_step(),
            other => other,
        };
        let done = match done {
            Ok(false) => self.backup_again(),
            other => other,
        };
        *self.work.trouble() = done.as_ref().err().map(ToString::to_string);
        done
    }

    /// What holds the work in the background up.
    pub(super) fn trouble(&self) -> Option<String> {
        self.work.trouble().clone()
    }

    /// A piece of the first rotation that can go on: one that cannot, holds up no other tenant's.
    fn rotation_step(&self) -> Result<bool, Refusal> {
        let rows = RotationRow::all_unfinished(self.lock().sql())?;
        first_that_goes_on(rows, |row| {
            {
                let catalogue = self.lock();
                row.confirmed(catalogue.sql(), catalogue.log())?;
            }
            match row.state {
                RotationState::Rewrapping => self.rewrap_batch(&row),
                RotationState::Verifying => self.verify_batch(&row),
                RotationState::Held | RotationState::Stopped | RotationState::Done => Ok(false),
            }
        })
    }

    fn rewrap_batch(&self, rotation: &RotationRow) -> Result<bool, Refusal> {
        let (old, new, (good, bad)) = {
            let catalogue = self.lock();
            let sql = catalogue.sql();
            let rows = rotation.next_old(sql, self.work.batch())?;
            if rows.is_empty() && rotation.awaits_planned(sql)? {
                return Ok(false);
            }
            let log = catalogue.log();
            let keks = (
                KekRow::find(sql, rotation.old_kek)?.confirmed(sql, log)?,
                KekRow::find(sql, rotation.new_kek)?.confirmed(sql, log)?,
            );
            (canary(&keks.0), canary(&keks.1), confirmed(&catalogue, rows)?)
        };
        if good.is_empty() && bad.is_empty() {
            return self.after_rewrapping(rotation.id);
        }
        let begun = Instant::now();
        let copies = if good.is_empty() { Vec::new() } else { self.rewrap_keys(&old, &new, &good)? };
        self.work.learn(begun.elapsed());
        self.lock().change(|c| {
            let mut unchanged = None;
            for ((row, _), copy) in good.iter().zip(copies) {
                match copy {
                    Rewrapped::To(copy) => {
                        // Destroyed, or rewrapped otherwise, while the token worked: then this copy is not wanted.
                        let now = GenerationRow::find(&c.sql, row.at)?;
                        if now.wrapped != row.wrapped || now.kek != row.kek {
                            unchanged = Some(row.at.key_id);
                            continue;
                        }
                        let sha256 = Hex(Sha256::digest(&copy.0).into());
                        let blob = Blob { kek: rotation.new_kek, sha256 };
                        let entry = Entry::done(Actor::Service, op::KEK_REWRAP).at(row.at).blobs(vec![blob]);
                        let leaf = c.record(entry)?;
                        row.rewrap(&c.sql, rotation.new_kek, &copy.0, leaf)?;
                    }
                    Rewrapped::Damaged(what) => fault(c, rotation, row, &what)?,
                    Rewrapped::Opens => return Err(internal("a rewrapped key without its copy")),
                }
            }
            for (row, what) in &bad {
                fault(c, rotation, row, what)?;
            }
            if let Some(key) = unchanged {
                let entry = Entry::new(Actor::Service, op::KEK_REWRAP, Outcome::Interrupted).key(key);
                c.record(entry.reason("the key changed meanwhile"))?;
            }
            Ok(())
        })?;
        Ok(true)
    }

    /// In the token, or between two tokens through this process's memory.
    fn rewrap_keys(
        &self,
        old: &Canary,
        new: &Canary,
        batch: &[(GenerationRow, WrapWith)],
    ) -> Result<Vec<Rewrapped>, Refusal> {
        let (source, target) = (self.token_of_kek(old.with.kek)?, self.token_of_kek(new.with.kek)?);
        if Arc::ptr_eq(&source, &target) {
            return Ok(source.rewrap_all(old, new, items(batch))?);
        }
        let opens = source.check_wrapped(old, items(batch))?;
        let mut copies = Vec::new();
        for ((row, with), opens) in batch.iter().zip(opens) {
            if opens != Rewrapped::Opens {
                copies.push(opens);
                continue;
            }
            let key = source.unwrap(with, &row.wrapped)?;
            let to = WrapWith { aad: wrap_aad(row.at), ..new.with.clone() };
            let blob = target.wrap(&key, vec![to])?.pop().ok_or_else(|| internal("nothing was wrapped"))?;
            copies.push(Rewrapped::To(HexBytes(blob)));
        }
        Ok(copies)
    }

    /// Everything was tried: on to verifying, or held by what does not open.
    fn after_rewrapping(&self, id: Uuid) -> Result<bool, Refusal> {
        self.lock().change(|c| {
            let mut row = RotationRow::find(&c.sql, id)?;
            let left = row.left(&c.sql)?;
            if left.is_empty() {
                row.state = RotationState::Verifying;
                row.update(&c.sql)?;
                c.record(entry(&row, Outcome::Intent).reason("all keys are wrapped by the new key-encryption key"))?;
            } else {
                for key in left.iter().filter(|key| key.kek != row.old_kek) {
                    row.add_fault(
                        &c.sql,
                        key.at.key_id,
                        &format!("stands under another key-encryption key, {}", key.kek),
                    )?;
                }
                hold(c, &mut row)?;
            }
            Ok(true)
        })
    }

    fn verify_batch(&self, rotation: &RotationRow) -> Result<bool, Refusal> {
        let (new, (good, bad), last) = {
            let catalogue = self.lock();
            let rows = rotation.next_unverified(catalogue.sql(), self.work.batch())?;
            let last = rows.last().map(|row| row.at.key_id.to_string());
            let kek = KekRow::find(catalogue.sql(), rotation.new_kek)?.confirmed(catalogue.sql(), catalogue.log())?;
            (canary(&kek), confirmed(&catalogue, rows)?, last)
        };
        let Some(last) = last else { return self.finish_rotation(rotation.id) };
        let begun = Instant::now();
        let found = match good.is_empty() {
            true => Vec::new(),
            false => self.token_of_kek(rotation.new_kek)?.check_wrapped(&new, items(&good))?,
        };
        self.work.learn(begun.elapsed());
        let damaged: Vec<(&GenerationRow, &str)> = good
            .iter()
            .zip(&found)
            .filter_map(|((row, _), found)| match found {
                Rewrapped::Damaged(what) => Some((row, what.as_str())),
                Rewrapped::Opens | Rewrapped::To(_) => None,
            })
            .chain(bad.iter().map(|(row, what)| (row, what.as_str())))
            .collect();
        let mut catalogue = self.lock();
        if damaged.is_empty() {
            catalogue.progress(|sql| move_cursor(sql, rotation.id, &last))?;
        } else {
            catalogue.change(|c| {
                for (row, what) in damaged {
                    fault(c, rotation, row, what)?;
                }
                move_cursor(&c.sql, rotation.id, &last)
            })?;
        }
        Ok(true)
    }

    /// The end: nothing live is left under the old KEK, everything under the new one opens.
    fn finish_rotation(&self, id: Uuid) -> Result<bool, Refusal> {
        self.lock().change(|c| {
            let mut row = RotationRow::find(&c.sql, id)?;
            if row.state != RotationState::Verifying {
                // Stopped just now; the entry of that is there.
                return Err(Refusal::new(RefusalCode::Busy, "the rotation was stopped meanwhile", ""));
            }
            if !row.faults(&c.sql)?.is_empty() || !row.left(&c.sql)?.is_empty() {
                hold(c, &mut row)?;
                return Ok(true);
            }
            (row.state, row.ended) = (RotationState::Done, Some(time::now()));
            row.update(&c.sql)?;
            let counts = row.counts(&c.sql)?;
            // One that is compromised stays so.
            let update = "UPDATE keks SET state = 'deactivated' WHERE id = ?1 AND state = 'active'";
            c.sql.execute(update, [row.old_kek.to_string()])?;
            c.record(Entry::done(Actor::Service, op::KEK_DEACTIVATE).key(row.old_kek))?;
            let digest = row.digest()?;
            let words = format!("{} keys rewrapped from {} and verified", counts.rewrapped, row.old_kek);
            c.record(entry(&row, Outcome::Done).digest(digest).reason(words))?;
            Ok(true)
        })
    }
}

/// Tries each until one went on; a failure is told if none did.
pub(super) fn first_that_goes_on<T>(rows: Vec<T>, step: impl Fn(T) -> Result<bool, Refusal>) -> Result<bool, Refusal> {
    let mut failed = None;
    for row in rows {
        match step(row) {
            Ok(false) => {}
            Ok(true) => return Ok(true),
            Err(refusal) => {
                failed.get_or_insert(refusal);
            }
        }
    }
    failed.map_or(Ok(false), Err)
}

/// Enters the intent, the new KEK and the rotation.
pub(super) fn begin(
    c: &mut Change<'_>,
    actor: Actor,
    tenant: TenantId,
    kek: &NewKek,
    reason: &str,
) -> Result<RotationRow, Refusal> {
    let old = KekRow::newest_of_tenant(&c.sql, tenant)?;
    kek.keep(c, actor, tenant)?;
    let mut row = RotationRow {
        id: Uuid::new_v4(),
        tenant,
        old_kek: old.id,
        new_kek: kek.id,
        state: RotationState::Rewrapping,
        verified: String::new(),
        reason: reason.to_owned(),
        started: time::now(),
        ended: None,
        leaf: 0,
    };
    let entry = Entry::new(actor, op::KEK_ROTATE, Outcome::Intent).key(kek.id).digest(row.digest()?);
    row.leaf = c.record(entry.reason(format!("in the place of {}: {reason}", old.id)))?;
    row.insert(&c.sql)?;
    Ok(row)
}

fn entry(row: &RotationRow, outcome: Outcome) -> Entry {
    Entry::new(Actor::Service, op::KEK_ROTATE, outcome).key(row.new_kek)
}

fn fault(c: &mut Change<'_>, rotation: &RotationRow, row: &GenerationRow, what: &str) -> Result<(), Refusal> {
    rotation.add_fault(&c.sql, row.at.key_id, what)?;
    c.record(Entry::new(Actor::Service, op::KEK_REWRAP, Outcome::Failed).at(row.at).reason(what))?;
    Ok(())
}

/// The rotation waits for an operator: what does not open is mended from a backup, or destroyed.
fn hold(c: &mut Change<'_>, row: &mut RotationRow) -> Result<(), Refusal> {
    row.state = RotationState::Held;
    row.update(&c.sql)?;
    let mut names: Vec<String> = row.left(&c.sql)?.iter().map(GenerationRow::words).collect();
    let damaged = row.faults(&c.sql)?.into_iter().filter(|(key, _)| key.kek == row.new_kek);
    names.extend(damaged.map(|(key, _)| key.words()));
    let what = format!("the old key-encryption key {} stays in use: left are {}", row.old_kek, names.join(", "));
    c.record(entry(row, Outcome::Failed).reason(what))?;
    Ok(())
}

fn move_cursor(sql: &rusqlite::Connection, id: Uuid, to: &str) -> Result<(), Refusal> {
    let update = "UPDATE rotations SET verified = ?2 WHERE id = ?1 AND state = 'verifying'";
    sql.execute(update, rusqlite::params![id.to_string(), to])?;
    Ok(())
}
