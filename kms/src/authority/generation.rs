//! Generations and their data keys: made, taken into use, released.

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::keys::{Terms, rescued_until};
use super::lease::lease;
use super::recovery::RecoveryKeyRow;
use super::{Authority, check_name, close_intent, open_intent, wrap_aad};
use crate::catalogue::{Actor, Change, Copy, Entry, GenerationRow, KekRow, KeyLifeRow, LogState, PoolRow, VolumeRow};
use crate::custody::{Blob, Outcome, op};
use crate::fault::{bad_request, internal};
use crate::hex::{Hex, HexBytes};
use crate::pkcs11::WrapWith;
use crate::protocol::{
    GenerationRef, GenerationState, KeyState, Loaded, NewGeneration, PoolPolicy, Refusal, RefusalCode, Rights, Stanza,
    VolumeKind, VolumeState, VolumeView,
};
use crate::recovery::stanza;
use crate::secret::DataKey;

/// A generation whose number is taken and whose intent is entered.
pub(super) struct Planned {
    pub(super) at: GenerationRef,
    suite: u8,
    compression: u8,
    first_ordinal: u32,
    catalogue_kek: KekRow,
    medium_kek: Option<KekRow>,
    recovery: Option<RecoveryKeyRow>,
    pub(super) pool: PoolRow,
    life: KeyLifeRow,
    created: String,
    intent: u64,
}

/// Whether a volume may be used for data.
fn check_usable(volume: &VolumeRow) -> Result<(), Refusal> {
    let (what, mend) = match volume.state {
        VolumeState::Labelling | VolumeState::Active => return Ok(()),
        VolumeState::Replaced => (
            "was labelled again as another volume; this medium is a copy of what it was before",
            "find out where it comes from",
        ),
        VolumeState::Retired => ("is retired", "take it back into use first: sealtape volume state LABEL active"),
        VolumeState::Destroyed => ("is destroyed: its keys are gone", "label the medium again"),
    };
    Err(Refusal::new(RefusalCode::VolumeState, format!("{} {what}", volume.words()), mend))
}

/// The volume, if it is a tape that `unit` may use now.
pub(super) fn usable_tape(
    sql: &rusqlite::Connection,
    unit: &str,
    volume: Uuid,
) -> Result<(VolumeRow, PoolRow), Refusal> {
    check_name("unit", unit, 64)?;
    let volume = VolumeRow::find(sql, volume)?;
    if volume.kind != VolumeKind::Tape {
        let what = format!("{} is a stream, no tape", volume.words());
        return Err(Refusal::new(RefusalCode::NotAllowed, what, "open it with: sealtape open"));
    }
    check_usable(&volume)?;
    let pool = PoolRow::find(sql, volume.pool)?;
    pool.check_unit(sql, unit)?;
    Ok((volume, pool))
}

/// Takes the next generation number of a partition and enters the intent to make its key.
pub(super) fn plan(
    c: &mut Change<'_>,
    actor: Actor,
    unit: Option<&str>,
    volume: &VolumeRow,
    terms: Terms,
    partition: u8,
    suite: Option<u8>,
) -> Result<Planned, Refusal> {
    let Terms { pool, created, seal_until, open_until, medium_kek } = terms;
    volume.check_partition(partition)?;
    super::exchange::check_ours(&c.sql, volume)?;
    // A volume that was moved would be sealed under another tenant's keys.
    volume.tenant_agrees(&c.sql, &|seq| c.log().proven_leaf(&c.sql, seq))?;
    if volume.pool != pool.id {
        let what = format!("{} went to another pool while its key was prepared", volume.words());
        return Err(Refusal::new(RefusalCode::Busy, what, "try again"));
    }
    let suite = suite.unwrap_or(pool.policy.suite);
    if !(1..=3).contains(&suite) {
        return Err(bad_request(format!("there is no suite {suite}"), "see the format's list of suites"));
    }
    let next: Option<(u32, u32)> = c
        .sql
        .query_row(
            "UPDATE partitions SET next_generation = next_generation + 1 WHERE volume = ?1 AND partition = ?2
             RETURNING next_generation - 1, next_ordinal",
            params![volume.id.to_string(), partition],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .optional()?;
    let (generation, first_ordinal) = next.ok_or_else(|| internal("a partition without a row"))?;
    let at = GenerationRef { volume: volume.id, partition, generation, key_id: Uuid::new_v4() };
    let catalogue_kek = KekRow::of_tenant(&c.sql, pool.tenant)?.confirmed(&c.sql, c.log())?;
    let recovery = RecoveryKeyRow::active(&c.sql, c.log(), pool.tenant)?;
    let mut entry = Entry::new(actor, op::KEY_CREATE, Outcome::Intent).at(at);
    if let Some(unit) = unit {
        entry = entry.unit(unit);
    }
    let intent = open_intent(c, entry, op::KEY_CREATE, at.key_id, Some(volume.id))?;
    let compression = pool.policy.compression;
    let medium = medium_kek.as_ref().map(|kek| kek.id);
    let life = KeyLifeRow { key_id: at.key_id, seal_until, open_until, medium_kek: medium, leaf: 0 };
    Ok(Planned {
        at,
        suite,
        compression,
        first_ordinal,
        catalogue_kek,
        medium_kek,
        recovery,
        pool,
        life,
        created,
        intent,
    })
}

impl Planned {
    /// Enters the outcome and the generation, pending.
    pub(super) fn keep(
        &self,
        c: &mut Change<'_>,
        actor: Actor,
        unit: Option<&str>,
        blobs: &[Vec<u8>],
    ) -> Result<(GenerationRow, Vec<Stanza>), Refusal> {
        for kek in std::iter::once(&self.catalogue_kek).chain(&self.medium_kek) {
            still_active(&c.sql, kek.id)?;
        }
        let holders = self.holders();
        if holders.len() != blobs.len() {
            return Err(internal("a wrapped key too many or too few"));
        }
        let hashes = holders.iter().zip(blobs).map(|(holder, blob)| Blob { kek: *holder, sha256: hash(blob) });
        let mut entry =
            Entry::done(actor, op::KEY_CREATE).at(self.at).blobs(hashes.collect()).digest(self.life.digest()?);
        if let Some(unit) = unit {
            entry = entry.unit(unit);
        }
        let created_leaf = c.record(entry)?;
        close_intent(c, self.intent)?;
        let row = GenerationRow {
            at: self.at,
            suite: self.suite,
            compression: self.compression,
            first_ordinal: self.first_ordinal,
            state: GenerationState::Pending,
            key_state: KeyState::PreActive,
            commitment: None,
            kek: self.catalogue_kek.id,
            wrapped: blobs.first().cloned().ok_or_else(|| internal("no wrapped key"))?,
            created: self.created.clone(),
            created_leaf,
            wrapped_leaf: None,
        };
        row.insert(&c.sql)?;
        KeyLifeRow { leaf: created_leaf, ..self.life.clone() }.keep(&c.sql)?;
        let mut further = blobs.iter().skip(1);
        let mut stanzas = Vec::new();
        // Whether the record reaches the medium is not known before it is taken into use.
        let on_medium = |kind, holder, blob: &[u8]| Copy {
            kind,
            holder,
            place: format!(
                "generation record {} of partition {} on the medium of volume {}",
                self.at.generation, self.at.partition, self.at.volume
            ),
            state: "unknown",
            sha256: hash(blob),
            leaf: created_leaf,
        };
        if let Some(kek) = &self.medium_kek
            && let Some(blob) = further.next()
        {
            on_medium("medium", kek.id, blob).insert(&c.sql, self.at.key_id)?;
            let body = [kek.id.as_bytes().as_slice(), blob].concat();
            stanzas.push(Stanza { kind: kek.mechanism.stanza_kind(), body: HexBytes(body) });
        }
        if let Some(recovery) = &self.recovery
            && let Some(body) = further.next()
        {
            recovery.keep_stanza(&c.sql, self.at.key_id, body, created_leaf)?;
            if self.pool.policy.recovery_on_medium {
                on_medium("recovery_medium", recovery.id, body).insert(&c.sql, self.at.key_id)?;
                stanzas.push(Stanza { kind: stanza::KIND, body: HexBytes(body.clone()) });
            }
        }
        Ok((row, stanzas))
    }

    /// What wraps the key, in the order of the wrapped copies.
    fn holders(&self) -> Vec<Uuid> {
        let keks = std::iter::once(&self.catalogue_kek).chain(&self.medium_kek).map(|k| k.id);
        keks.chain(self.recovery.as_ref().map(|r| r.id)).collect()
    }

    pub(super) fn reply(&self, stanzas: Vec<Stanza>) -> NewGeneration {
        NewGeneration {
            at: self.at,
            first_ordinal: self.first_ordinal,
            suite: self.suite,
            compression: self.compression,
            stanzas,
            policy: self.pool.policy.clone(),
            lease_seconds: lease(
                &self.pool.policy,
                Rights::SealAndOpen,
                self.life.seal_until.as_deref(),
                self.life.open_until.as_deref(),
                &self.created,
            ),
        }
    }
}

/// A key-encryption key may have been compromised or replaced while the token worked: nothing new comes under it then.
fn still_active(sql: &rusqlite::Connection, kek: Uuid) -> Result<(), Refusal> {
    let query = "SELECT 1 FROM keks WHERE id = ?1 AND state = 'active'";
    let active = sql.query_row(query, [kek.to_string()], |_| Ok(())).optional()?;
    active.ok_or_else(|| {
        let what = format!("the key-encryption key {kek} was taken out of use while a key was made under it");
        Refusal::new(RefusalCode::KeyEnded, what, "try again")
    })
}

impl Authority {
    /// Makes the data key of a planned generation in the token. A failure is entered as the outcome.
    pub(super) fn make_planned(&self, actor: Actor, planned: &Planned) -> Result<(DataKey, Vec<Vec<u8>>), Refusal> {
        let keks = std::iter::once(&planned.catalogue_kek).chain(&planned.medium_kek);
        let wraps = keks.map(|k| WrapWith { kek: k.id, mechanism: k.mechanism, aad: wrap_aad(planned.at) }).collect();
        let made = self.make_data_key(wraps).and_then(|(key, mut blobs)| {
            // A token that has begun to give keys wrongly gives the canary wrongly, too: what is sealed now must open tomorrow.
            self.check_canary(&planned.catalogue_kek)?;
            if let Some(recovery) = &planned.recovery {
                blobs.push(recovery.wrap(planned.at, &key)?);
            }
            Ok((key, blobs))
        });
        made.map_err(|refusal| self.plan_failed(actor, planned, refusal))
    }

    /// Enters the failure as the outcome of the intent. If even that cannot be entered, the intent stays open and is closed as
    /// interrupted at the next start.
    pub(super) fn plan_failed(&self, actor: Actor, planned: &Planned, refusal: Refusal) -> Refusal {
        let entered = self.lock().change(|c| {
            c.record(Entry::new(actor, op::KEY_CREATE, Outcome::Failed).at(planned.at).reason(&refusal.what))?;
            close_intent(c, planned.intent)
        });
        entered.err().unwrap_or(refusal)
    }

    /// Makes the next generation of a partition, pending.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn create_generation(
        &self,
        actor: Actor,
        unit: &str,
        volume: Uuid,
        partition: u8,
        suite: Option<u8>,
    ) -> Result<(NewGeneration, DataKey), Refusal> {
        self.refusals_logged(
            actor,
            op::KEY_CREATE,
            |e| e.unit(unit).volume(volume),
            || {
                let pool = usable_tape(self.lock().sql(), unit, volume)?.1;
                let terms = self.terms(actor, pool)?;
                self.anchors_allow()?;
                let planned = self.lock().change(|c| {
                    let (row, _) = usable_tape(&c.sql, unit, volume)?;
                    plan(c, actor, Some(unit), &row, terms, partition, suite)
                })?;
                let (key, blobs) = self.make_planned(actor, &planned)?;
                let kept = self.lock().change(|c| {
                    // The rules again: the token took its time, and an operator may have retired the volume meanwhile.
                    usable_tape(&c.sql, unit, volume)?;
                    planned.keep(c, actor, Some(unit), &blobs)
                });
                let (row, stanzas) = kept.map_err(|refusal| self.plan_failed(actor, &planned, refusal))?;
                self.before_key_leaves(row.created_leaf)?;
                Ok((planned.reply(stanzas), key))
            },
        )
    }

    /// A generation's record stands on the medium: its key is active, older ones of the partition are deactivated. Once every
    /// partition has an active generation the volume is active, and the one it replaces is replaced.
    ///
    /// # Errors
    /// When the generation is unknown or a later one is active already.
    pub fn activate_generation(
        &self,
        actor: Actor,
        unit: &str,
        at: GenerationRef,
        commitment: Hex<32>,
    ) -> Result<(), Refusal> {
        self.refusals_logged(
            actor,
            op::KEY_ACTIVATE,
            |e| e.unit(unit).at(at),
            || {
                let mut catalogue = self.lock();
                let row = GenerationRow::find(catalogue.sql(), at)?;
                if row.state == GenerationState::Active && row.commitment == Some(commitment) {
                    // The answer to the first time was lost.
                    usable_tape(catalogue.sql(), unit, at.volume)?;
                    return Ok(());
                }
                catalogue.change(|c| {
                    let (volume, _) = usable_tape(&c.sql, unit, at.volume)?;
                    activate(c, at, commitment)?;
                    c.record(Entry::done(actor, op::KEY_ACTIVATE).unit(unit).at(at))?;
                    finish_labelling(c, actor, &volume)
                })
            },
        )
    }

    /// What the catalogue knows of a volume, without keys.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn lookup(&self, actor: Actor, unit: &str, volume: Uuid) -> Result<VolumeView, Refusal> {
        self.refusals_logged(
            actor,
            op::VOLUME_LOOKUP,
            |e| e.unit(unit).volume(volume),
            || {
                check_name("unit", unit, 64)?;
                let catalogue = self.lock();
                VolumeRow::find(catalogue.sql(), volume)?.view(catalogue.sql())
            },
        )
    }

    /// Releases the data key of a generation to a unit. The entry is durable before this returns.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn load(&self, actor: Actor, unit: &str, at: GenerationRef) -> Result<(Loaded, DataKey), Refusal> {
        self.refusals_logged(
            actor,
            op::KEY_RELEASE,
            |e| e.unit(unit).at(at),
            || {
                self.release(
                    at,
                    |sql| Ok(usable_tape(sql, unit, at.volume)?.1),
                    Entry::done(actor, op::KEY_RELEASE).unit(unit),
                )
            },
        )
    }

    /// Checks, unwraps, checks again, enters, and gives.
    pub(super) fn release(
        &self,
        at: GenerationRef,
        rules: impl Fn(&rusqlite::Connection) -> Result<PoolRow, Refusal>,
        entry: Entry,
    ) -> Result<(Loaded, DataKey), Refusal> {
        self.anchors_allow()?;
        let (row, with) = {
            let catalogue = self.lock();
            rules(catalogue.sql())?;
            let row = releasable(catalogue.sql(), catalogue.log(), &catalogue.now(), at)?.row;
            super::exchange::check_not_over(catalogue.sql(), catalogue.log(), &catalogue.now(), &row)?;
            let with = row.confirmed(catalogue.sql(), catalogue.log())?;
            (row, with)
        };
        let key = self.unwrap_in_token(&with, &row.wrapped)?;
        let (loaded, leaf) = self.lock().change(|c| {
            let pool = rules(&c.sql)?;
            pool.confirm(&c.sql, c.log())?;
            let now = c.now();
            let found = releasable(&c.sql, c.log(), &now, at)?;
            let lease_seconds = found.lease(&pool.policy, &now);
            let Releasable { row, rights, .. } = found;
            let leaf = c.record(entry.at(at))?;
            let loaded = Loaded {
                at,
                state: row.state,
                suite: row.suite,
                first_ordinal: row.first_ordinal,
                commitment: row.commitment,
                // What stands on the medium follows the policy as it was when the generation was made.
                policy: PoolPolicy { suite: row.suite, compression: row.compression, ..pool.policy },
                rights,
                new_generation_allowed: row.key_state == KeyState::Active,
                sessions: row.sessions(&c.sql)?,
                end: row.end(&c.sql)?,
                learn_cartridge: false,
                lease_seconds,
            };
            Ok((loaded, leaf))
        })?;
        self.before_key_leaves(leaf)?;
        Ok((loaded, key))
    }
}

/// A generation whose key may leave, and for what.
pub(super) struct Releasable {
    pub(super) row: GenerationRow,
    life: KeyLifeRow,
    pub(super) rights: Rights,
}

impl Releasable {
    /// For how long it may be kept.
    pub(super) fn lease(&self, policy: &PoolPolicy, now: &str) -> Option<u32> {
        lease(policy, self.rights, self.life.seal_until.as_deref(), self.life.open_until.as_deref(), now)
    }
}

/// The generation, if its key may leave at all: its state, then its periods.
pub(super) fn releasable(
    sql: &rusqlite::Connection,
    log: &LogState,
    now: &str,
    at: GenerationRef,
) -> Result<Releasable, Refusal> {
    let row = GenerationRow::find(sql, at)?;
    let proven = |seq| log.proven_leaf(sql, seq);
    row.state_agrees(sql, &proven)?;
    let volume = VolumeRow::find(sql, at.volume)?;
    volume.state_agrees(sql, &proven)?;
    let place = format!("generation {} of partition {} of volume {}", at.generation, at.partition, at.volume);
    match row.state {
        GenerationState::Pending | GenerationState::Active => {}
        GenerationState::Superseded | GenerationState::Abandoned => {
            return Err(Refusal::new(
                RefusalCode::Superseded,
                format!("{place} was superseded by a later one: the medium was rolled back, or is a copy"),
                "find out where the medium comes from; it is not written to",
            ));
        }
    }
    let rescued = match row.key_state {
        KeyState::Compromised => rescued_until(sql, log, now, at.volume)?,
        _ => None,
    };
    let Some(mut rights) = row.key_state.rights().or(rescued.as_ref().map(|_| Rights::OpenOnly)) else {
        let (state, mend) = match row.key_state {
            KeyState::Compromised => (
                "is compromised",
                "its data is restored from another copy and written anew (sealtape key list --compromised); two custodians may let it be read once more: sealtape key rescue",
            ),
            _ => ("is destroyed", "what it sealed is gone; the medium can be labelled again"),
        };
        let what = format!("the key {} of {} {state}", at.key_id, volume.words());
        return Err(Refusal::new(RefusalCode::KeyEnded, what, mend));
    };
    let mut life = KeyLifeRow::confirmed(sql, log, at.key_id, row.created_leaf)?;
    if let Some(until) = rescued {
        let sooner = |own: String| own.min(until.clone());
        life.open_until = Some(life.open_until.take().map_or(until.clone(), sooner));
    }
    if let Some(until) = life.open_until.as_deref().filter(|until| now >= *until) {
        let what =
            format!("the key {} of {} was to be opened with until {until}; that is past", at.key_id, volume.words());
        let mend = "two custodians may extend its period: sealtape key extend";
        return Err(Refusal::new(RefusalCode::KeyExpired, what, mend));
    }
    if life.seal_until.as_deref().is_some_and(|until| now >= until) {
        rights = Rights::OpenOnly;
    }
    Ok(Releasable { row, life, rights })
}

/// The state of a key whose generation a later one supersedes: an active one is deactivated, one that was marked as compromised or is
/// destroyed stays so.
fn superseded(key_state: KeyState) -> Result<KeyState, Refusal> {
    match key_state {
        KeyState::Active => key_state.transition(KeyState::Deactivated).map_err(|e| internal(e.to_string())),
        KeyState::PreActive
        | KeyState::Deactivated
        | KeyState::Compromised
        | KeyState::Destroyed
        | KeyState::DestroyedCompromised => Ok(key_state),
    }
}

/// Refuses a key that is destroyed.
pub(super) fn releasable_key(sql: &rusqlite::Connection, at: GenerationRef) -> Result<(), Refusal> {
    let row = GenerationRow::find(sql, at)?;
    if matches!(row.key_state, KeyState::Destroyed | KeyState::DestroyedCompromised) {
        let what = format!("the key {} of volume {} is destroyed", at.key_id, at.volume);
        return Err(Refusal::new(RefusalCode::VolumeState, what, "there is nothing left to do with it"));
    }
    Ok(())
}

/// Makes a pending generation the active one of its partition.
pub(super) fn activate(c: &Change<'_>, at: GenerationRef, commitment: Hex<32>) -> Result<(), Refusal> {
    let step = |from: KeyState, to: KeyState| from.transition(to).map_err(|e| internal(e.to_string()));
    let standing = GenerationRow::standing(&c.sql, at.volume, at.partition)?;
    let newer = standing.iter().any(|g| g.at.generation > at.generation && g.state == GenerationState::Active);
    let mut row = GenerationRow::find(&c.sql, at)?;
    row.state_agrees(&c.sql, &|seq| c.log().proven_leaf(&c.sql, seq))?;
    if newer || row.state != GenerationState::Pending {
        return Err(Refusal::new(
            RefusalCode::Superseded,
            format!(
                "generation {} of partition {} of volume {} is {:?}",
                at.generation, at.partition, at.volume, row.state
            ),
            "make a new generation",
        ));
    }
    // Older ones first: the catalogue allows one active generation per partition.
    for mut old in standing.into_iter().filter(|g| g.at.generation < at.generation) {
        match old.state {
            GenerationState::Active => {
                old.state = GenerationState::Superseded;
                old.key_state = superseded(old.key_state)?;
            }
            GenerationState::Pending => old.state = GenerationState::Abandoned,
            GenerationState::Superseded | GenerationState::Abandoned => continue,
        }
        old.update(&c.sql)?;
    }
    if row.key_state.rights().is_none() {
        let what = format!("the key {} was marked {:?} before it came into use", at.key_id, row.key_state);
        return Err(Refusal::new(RefusalCode::KeyEnded, what, "make a new generation"));
    }
    row.state = GenerationState::Active;
    row.key_state = step(row.key_state, KeyState::Active)?;
    row.commitment = Some(commitment);
    row.update(&c.sql)?;
    // Its record was read back: what it carries stands on the medium.
    c.sql.execute(
        "UPDATE copies SET state = 'exists' WHERE key_id = ?1 AND kind IN ('medium', 'recovery_medium') AND state = 'unknown'",
        [at.key_id.to_string()],
    )?;
    Ok(())
}

fn hash(bytes: &[u8]) -> Hex<32> {
    Hex(Sha256::digest(bytes).into())
}

fn finish_labelling(c: &mut Change<'_>, actor: Actor, volume: &VolumeRow) -> Result<(), Refusal> {
    if volume.state != VolumeState::Labelling {
        return Ok(());
    }
    let complete = volume.view(&c.sql)?.partitions.iter().all(|p| p.active().is_some());
    if !complete {
        return Ok(());
    }
    if let Some(old) = volume.replaces {
        let old = VolumeRow::find(&c.sql, old)?;
        for partition in 0..old.partitions {
            for mut row in GenerationRow::standing(&c.sql, old.id, partition)? {
                if row.state == GenerationState::Active {
                    row.state = GenerationState::Superseded;
                    row.key_state = superseded(row.key_state)?;
                    row.update(&c.sql)?;
                }
            }
        }
        old.change_state(c, actor, VolumeState::Replaced, format!("replaced by volume {}", volume.id))?;
    }
    if let Some(user) = VolumeRow::with_active_label(&c.sql, &volume.label)? {
        let what = format!("label {:?} was given to {} meanwhile", volume.label, user.words());
        return Err(Refusal::new(RefusalCode::LabelInUse, what, "retire one of them and label again"));
    }
    volume.change_state(c, actor, VolumeState::Active, "active")
}
