//! What a destruction would reach, and what it would not: every copy that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::super::Authority;
use super::super::admin::by_name;
use super::super::keys::held_by;
use super::hold::check_not_held;
use crate::catalogue::{
    Catalogue, GenerationRow, KekRow, LogState, PoolRow, RotationRow, TenantId, TenantRow, VolumeRow, uuid,
};
use crate::fault::{bad_request, internal};
use crate::hex::HexBytes;
use crate::protocol::{
    CopyFate, CopyKind, DestructionOrder, DestructionPlan, Fate, KekFate, KeyState, Operation, PlannedKey, Refusal,
    RefusalCode, VolumeState,
};
use crate::time;

pub(super) const PLAN_FORMAT: &str = "sealtape destruction plan 1";
/// Keys of one destruction: what is approved has to be readable, and is one transaction.
const MOST_KEYS: usize = 10_000;

fn gone(state: KeyState) -> bool {
    matches!(state, KeyState::Destroyed | KeyState::DestroyedCompromised)
}

/// Whether another area's table is in this catalogue.
pub(super) fn has_table(sql: &Connection, name: &str) -> Result<bool, Refusal> {
    Ok(sql.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])?)
}

struct KekInfo {
    tenant: TenantId,
    purpose: String,
    state: String,
}

impl KekInfo {
    fn gone(&self) -> bool {
        matches!(self.state.as_str(), "destroyed" | "destroyed_compromised")
    }
}

fn keks(sql: &Connection) -> Result<BTreeMap<Uuid, KekInfo>, Refusal> {
    let mut query = sql.prepare_cached("SELECT id, tenant, purpose, state FROM keks")?;
    let rows: Vec<(String, TenantId, String, String)> =
        query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?.collect::<Result<_, _>>()?;
    let info = |(id, tenant, purpose, state): (String, _, _, _)| Ok((uuid(&id)?, KekInfo { tenant, purpose, state }));
    rows.into_iter().map(info).collect()
}

/// Why a medium KEK is needed by others than `targets`; none if it is not. A pool that would use it for what is written next makes
/// another one when it is gone.
fn medium_need(sql: &Connection, kek: Uuid, targets: &BTreeSet<Uuid>) -> Result<Option<String>, Refusal> {
    let others = held_by(sql, kek, &time::now())?.into_iter().filter(|key| !targets.contains(key)).count();
    Ok((others > 0).then(|| format!("{others} other key(s) have copies under it on their media")))
}

fn check_volume(sql: &Connection, log: &LogState, volume: &VolumeRow, even_active: bool) -> Result<(), Refusal> {
    check_not_held(sql, volume)?;
    if even_active || !matches!(volume.state, VolumeState::Active | VolumeState::Labelling) {
        return Ok(());
    }
    let pool = PoolRow::find(sql, volume.pool)?;
    // Somebody with the database could make the period short.
    pool.confirm(sql, log)?;
    let days = pool.policy.life.in_use_days;
    let written = volume.written.as_deref().unwrap_or(&volume.created);
    if written <= time::ago(Duration::from_secs(u64::from(days) * 24 * 3600)).as_str() {
        return Ok(());
    }
    let (words, pool) = (volume.words(), &pool.policy.name);
    Err(Refusal::new(
        RefusalCode::VolumeState,
        format!("{words} is in use: it was written to at {written}, within the {days} days of pool {pool}"),
        "retire it first, or say --even-active",
    ))
}

struct Draft<'a> {
    sql: &'a Connection,
    log: &'a LogState,
    /// Whose keys they are; known once there is one.
    tenant: Option<TenantId>,
    keks: BTreeMap<Uuid, KekInfo>,
    keys: Vec<(GenerationRow, String)>,
    copies: Vec<CopyFate>,
    doomed: Vec<KekFate>,
}

impl Draft<'_> {
    fn add_volume(&mut self, volume: &VolumeRow) -> Result<usize, Refusal> {
        let before = self.keys.len();
        for row in GenerationRow::of_volume(self.sql, volume.id)? {
            if !gone(row.key_state) {
                self.add(row, volume)?;
            }
        }
        Ok(self.keys.len() - before)
    }

    fn add_key(&mut self, id: Uuid, even_active: bool) -> Result<(), Refusal> {
        let unknown = || bad_request(format!("there is no key {id}"), "see: sealtape volume show");
        let row =
            GenerationRow::matching(self.sql, "WHERE key_id = ?1", [id.to_string()])?.pop().ok_or_else(unknown)?;
        if gone(row.key_state) {
            return Err(bad_request(format!("{} is destroyed already", row.words()), "leave it out"));
        }
        let volume = VolumeRow::find(self.sql, row.at.volume)?;
        check_volume(self.sql, self.log, &volume, even_active || row.key_state == KeyState::Deactivated)?;
        self.add(row, &volume)
    }

    /// Each tenant has a catalogue KEK of its own to be replaced, and a batch replaces one.
    fn add(&mut self, row: GenerationRow, volume: &VolumeRow) -> Result<(), Refusal> {
        // Of a volume that was moved, another tenant's KEK would be destroyed than the one that opens its keys.
        row.tenant_agrees(self.sql, &self.log.proven_leaf(self.sql, row.named_by())?)?;
        if *self.tenant.get_or_insert(volume.tenant) != volume.tenant {
            let what = format!("{} is of another tenant than what was named before it", volume.words());
            return Err(bad_request(what, "make a batch for each tenant"));
        }
        self.keys.push((row, volume.label.clone()));
        Ok(())
    }

    fn targets(&self) -> BTreeSet<Uuid> {
        self.keys.iter().map(|(row, _)| row.at.key_id).collect()
    }

    /// The tenant's catalogue KEKs that go: the present one, and all before it that stand in the token still.
    fn doom_catalogue(&mut self) {
        for (id, kek) in &self.keks {
            if kek.purpose == "catalogue" && !kek.gone() && Some(kek.tenant) == self.tenant {
                let means = match kek.state.as_str() {
                    "active" => {
                        "destroyed in the token once everything that stays is wrapped by a new one and verified"
                    }
                    _ => "destroyed in the token: it opens old copies of the catalogue only",
                };
                let (purpose, fate) = (kek.purpose.clone(), Fate::Destroyed);
                self.doomed.push(KekFate { kek: *id, purpose, fate, means: means.into() });
            }
        }
    }

    /// Medium KEKs of the keys: each is destroyed, or stays with a reason.
    fn doom_medium(&mut self, media: &BTreeSet<Uuid>) -> Result<(), Refusal> {
        let targets = self.targets();
        for kek in media {
            let Some(info) = self.keks.get(kek) else { continue };
            if info.gone() {
                continue;
            }
            let (fate, means) = match medium_need(self.sql, *kek, &targets)? {
                None => (Fate::Destroyed, "destroyed in the token: nothing else needs it".to_owned()),
                Some(need) => (Fate::Kept, need),
            };
            self.doomed.push(KekFate { kek: *kek, purpose: info.purpose.clone(), fate, means });
        }
        Ok(())
    }

    fn copy(&mut self, kind: CopyKind, key: Option<Uuid>, place: &str, holder: &str, fate: Fate, means: String) {
        let (place, holder) = (place.to_owned(), holder.to_owned());
        self.copies.push(CopyFate { kind, key, place, holder, sha256: None, fate, means });
    }

    /// The copies of one key; gives the medium KEKs that hold some.
    fn media_of(&self, row: &GenerationRow) -> Result<BTreeMap<Uuid, HexBytes>, Refusal> {
        let leaf = self.log.proven_leaf(self.sql, row.created_leaf)?;
        let is_medium = |kek: &Uuid| self.keks.get(kek).is_some_and(|k| k.purpose == "medium");
        let named = leaf.blobs.iter().filter(|b| is_medium(&b.kek)).map(|b| (b.kek, HexBytes(b.sha256.0.to_vec())));
        let mut media: BTreeMap<Uuid, HexBytes> = named.collect();
        let query = "SELECT holder, sha256 FROM copies WHERE key_id = ?1 AND kind = 'medium'";
        let mut query = self.sql.prepare_cached(query)?;
        let rows: Vec<(String, Option<Vec<u8>>)> =
            query.query_map([row.at.key_id.to_string()], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
        for (holder, sha256) in rows {
            media.entry(uuid(&holder)?).or_insert(HexBytes(sha256.unwrap_or_default()));
        }
        Ok(media)
    }

    fn copies_of(&mut self, row: &GenerationRow, media: BTreeMap<Uuid, HexBytes>) -> Result<(), Refusal> {
        let key = Some(row.at.key_id);
        let holder = format!("catalogue key-encryption key {}", row.kek);
        let means =
            "wiped from the row and the files; what older copies of the file hold, nothing opens any more".into();
        self.copy(CopyKind::Catalogue, key, "the key authority's catalogue", &holder, Fate::Destroyed, means);
        for (kek, sha256) in media {
            let fate = match (self.keks.get(&kek).map(KekInfo::gone), self.doomed.iter().find(|d| d.kek == kek)) {
                (Some(true), _) => Ok("its key-encryption key was destroyed before"),
                (_, Some(doomed)) if doomed.fate == Fate::Destroyed => {
                    Ok("its key-encryption key is destroyed in the token")
                }
                (_, doomed) => Err(doomed.map_or("", |d| d.means.as_str())),
            };
            let (fate, means) = match fate {
                Ok(means) => (Fate::Destroyed, means.to_owned()),
                Err(why) => (
                    Fate::Unreachable,
                    format!(
                        "its key-encryption key stays ({why}): whoever has the medium, or a copy of its first objects, and may use \
                         the HSM, can open it; destroy the medium, or this key-encryption key when nothing needs it any more"
                    ),
                ),
            };
            let holder = format!("medium key-encryption key {kek}");
            self.copy(CopyKind::Medium, key, "the medium's generation record", &holder, fate, means);
            if let Some(copy) = self.copies.last_mut().filter(|_| !sha256.0.is_empty()) {
                copy.sha256 = Some(sha256);
            }
        }
        self.noted_copies(row)?;
        let means = "data paths that hold it are told to wipe it, and its release is not renewed".into();
        self.copy(CopyKind::Released, key, "memory of data paths", "the running process", Fate::Destroyed, means);
        Ok(())
    }

    /// Copies that other areas noted: recovery, exports, imports.
    fn noted_copies(&mut self, row: &GenerationRow) -> Result<(), Refusal> {
        let query = "SELECT kind, place, holder, sha256 FROM copies WHERE key_id = ?1 AND kind <> 'medium' AND state <> 'destroyed'
                     ORDER BY id";
        let mut query = self.sql.prepare_cached(query)?;
        type Noted = (String, String, String, Option<Vec<u8>>);
        let rows: Vec<Noted> = query
            .query_map([row.at.key_id.to_string()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?
            .collect::<Result<_, _>>()?;
        let key = Some(row.at.key_id);
        for (kind, place, holder, sha256) in rows {
            let (kind, means) = match kind.as_str() {
                "recovery" => (
                    CopyKind::Recovery,
                    format!(
                        "wiped from the catalogue; earlier copies of the catalogue hold it still: whoever has one, and enough shares of \
                         the recovery key {holder}, can open it; destroy those copies, or enough of the shares"
                    ),
                ),
                "recovery_medium" => (
                    CopyKind::RecoveryMedium,
                    format!(
                        "whoever has the medium, or a copy of its first objects, and enough shares of the recovery key {holder}, can \
                         open it; destroy the medium, or enough of the shares"
                    ),
                ),
                _ => (CopyKind::Export, format!("{holder} has it and can open it; ask for its destruction there")),
            };
            self.copy(kind, key, &place, &holder, Fate::Unreachable, means);
            if let (Some(copy), Some(sha256)) = (self.copies.last_mut(), sha256) {
                copy.sha256 = Some(HexBytes(sha256));
            }
        }
        if has_table(self.sql, "imported_keys")? {
            let query = "SELECT p.partner FROM imported_keys i JOIN packages p ON p.id = i.package WHERE i.key_id = ?1";
            let partner: Option<String> =
                self.sql.query_row(query, [row.at.key_id.to_string()], |r| r.get(0)).optional()?;
            if let Some(partner) = partner {
                let means = "the key was made there, and stays there".to_owned();
                self.copy(CopyKind::Origin, key, "where it was imported from", &partner, Fate::Unreachable, means);
            }
        }
        Ok(())
    }

    fn backups(&mut self) -> Result<(), Refusal> {
        let mut query =
            self.sql.prepare_cached("SELECT id, place, catalogue_keks FROM backups ORDER BY created, id")?;
        let rows: Vec<(String, String, String)> =
            query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect::<Result<_, _>>()?;
        for (id, place, keks) in rows {
            let mut ids: Vec<Uuid> = serde_json::from_str(&keks)
                .map_err(|e| crate::fault::damaged(format!("the key-encryption keys of backup {id}: {e}")))?;
            // Those of other tenants open none of these keys.
            ids.retain(|kek| self.keks.get(kek).is_none_or(|info| Some(info.tenant) == self.tenant));
            let closed = |kek: &Uuid| {
                self.doomed.iter().any(|d| d.kek == *kek && d.fate == Fate::Destroyed)
                    || self.keks.get(kek).is_some_and(KekInfo::gone)
            };
            let open: Vec<String> = ids.iter().filter(|k| !closed(k)).map(ToString::to_string).collect();
            let (fate, means) = match open.as_slice() {
                [] => (Fate::Destroyed, "every key-encryption key that opens it is destroyed in the token".to_owned()),
                open => (Fate::Unreachable, format!("whoever has it and {} can open it", open.join(" or "))),
            };
            let holder = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.copy(CopyKind::Backup, None, &format!("backup {id}: {place}"), &holder, fate, means);
        }
        let means =
            "the key-encryption keys that open copies of the catalogue made until now are destroyed in the token"
                .to_owned();
        let place = "copies of the catalogue that were made by other means";
        self.copy(CopyKind::Backup, None, place, "catalogue key-encryption keys", Fate::Destroyed, means);
        Ok(())
    }

    fn hsm(&mut self, stated: &str) {
        if stated == "none" {
            return;
        }
        let means = "the key-encryption keys stand there still: whoever can restore one of them, and has an earlier copy of the \
                     catalogue or the medium, can open it; destroy the keys there too"
            .to_owned();
        self.copy(CopyKind::Hsm, None, stated, "clones and backups of the HSM", Fate::Unreachable, means);
    }
}

/// The plan of an order. It tells no times, so that the same state gives the same plan.
pub(super) fn plan(catalogue: &Catalogue, origin: &str, order: &DestructionOrder) -> Result<DestructionPlan, Refusal> {
    let (sql, log) = (catalogue.sql(), catalogue.log());
    plan_in(sql, log, origin, order)
}

pub(super) fn plan_in(
    sql: &Connection,
    log: &LogState,
    origin: &str,
    order: &DestructionOrder,
) -> Result<DestructionPlan, Refusal> {
    let stated = order.hsm_backups.trim();
    if stated.is_empty() || stated.chars().count() > 500 || stated.chars().any(char::is_control) {
        return Err(bad_request(
            "it is not said which clones and backups of the HSM there are",
            "say it in up to 500 characters: --hsm-backups TEXT, or --hsm-backups none",
        ));
    }
    let mut draft =
        Draft { sql, log, tenant: None, keks: keks(sql)?, keys: Vec::new(), copies: Vec::new(), doomed: Vec::new() };
    let operation = match (order.volumes.as_slice(), order.keys.as_slice()) {
        ([], [kek]) if draft.keks.contains_key(kek) => return plan_kek(draft, origin, *kek, order),
        (volumes @ [_, ..], []) => {
            let mut ids = BTreeSet::new();
            for name in volumes {
                let volume = by_name(sql, name)?;
                if !ids.insert(volume.id) {
                    return Err(bad_request(format!("{} is named twice", volume.words()), "name it once"));
                }
                check_volume(sql, log, &volume, order.even_active)?;
                if draft.add_volume(&volume)? == 0 {
                    return Err(bad_request(format!("{} has no key that is left", volume.words()), "leave it out"));
                }
            }
            Operation::VolumeShred { volumes: ids.into_iter().collect() }
        }
        ([], keys @ [_, ..]) => {
            let ids: BTreeSet<Uuid> = keys.iter().copied().collect();
            if let Some(kek) = ids.iter().find(|id| draft.keks.contains_key(id)) {
                return Err(bad_request(
                    format!("{kek} is a key-encryption key"),
                    "destroy it by a request of its own",
                ));
            }
            for key in &ids {
                draft.add_key(*key, order.even_active)?;
            }
            Operation::KeyDestroy { keys: ids.into_iter().collect() }
        }
        _ => return Err(bad_request("nothing is named, or volumes and keys at once", "name volumes, or keys")),
    };
    if draft.keys.len() > MOST_KEYS {
        return Err(bad_request(
            format!("{} keys at once, the most are {MOST_KEYS}", draft.keys.len()),
            "make several requests",
        ));
    }
    draft.keys.sort_by_key(|(row, _)| row.at.key_id);
    let rows: Vec<GenerationRow> = draft.keys.iter().map(|(row, _)| row.clone()).collect();
    let media: Vec<BTreeMap<Uuid, HexBytes>> = rows.iter().map(|row| draft.media_of(row)).collect::<Result<_, _>>()?;
    draft.doom_catalogue();
    draft.doom_medium(&media.iter().flat_map(|m| m.keys().copied()).collect())?;
    for (row, media) in rows.iter().zip(media) {
        draft.copies_of(row, media)?;
    }
    draft.backups()?;
    draft.hsm(stated);
    Ok(finish(draft, origin, operation, order))
}

/// A key-encryption key that nothing needs any more.
fn plan_kek(
    mut draft: Draft<'_>,
    origin: &str,
    kek: Uuid,
    order: &DestructionOrder,
) -> Result<DestructionPlan, Refusal> {
    let Some(info) = draft.keks.get(&kek) else { return Err(bad_request(format!("there is no key {kek}"), "")) };
    let refused = |why: String| {
        let mend = "destroy what needs it first; a pool's key-encryption key is free when the pool has gone to another";
        Err(Refusal::new(RefusalCode::VolumeState, format!("the key-encryption key {kek} is needed: {why}"), mend))
    };
    if info.gone() {
        return Err(bad_request(format!("the key-encryption key {kek} is destroyed already"), "leave it out"));
    }
    let purpose = info.purpose.clone();
    let live = format!("{} AND kek = ?1", "WHERE key_state NOT IN ('destroyed', 'destroyed_compromised')");
    let wrapped = GenerationRow::matching(draft.sql, &live, [kek.to_string()])?;
    if !wrapped.is_empty() || (purpose == "catalogue" && info.state == "active") {
        return refused(format!("it wraps {} key(s) of the catalogue", wrapped.len()));
    }
    if purpose == "medium"
        && let Some(need) = medium_need(draft.sql, kek, &BTreeSet::new())?
    {
        return refused(need);
    }
    let means = "destroyed in the token: nothing needs it".to_owned();
    draft.doomed.push(KekFate { kek, purpose: purpose.clone(), fate: Fate::Destroyed, means });
    let (kind, place) = match purpose.as_str() {
        "medium" => (CopyKind::Medium, "all media with copies under it"),
        _ => (CopyKind::Backup, "all copies of the catalogue under it"),
    };
    let means = "the key-encryption key is destroyed in the token".to_owned();
    draft.copy(kind, None, place, &kek.to_string(), Fate::Destroyed, means);
    draft.hsm(order.hsm_backups.trim());
    Ok(finish(draft, origin, Operation::KekDestroy { kek }, order))
}

fn finish(draft: Draft<'_>, origin: &str, operation: Operation, order: &DestructionOrder) -> DestructionPlan {
    let keys = draft.keys.into_iter();
    let keys = keys.map(|(row, label)| PlannedKey { at: row.at, label, key_state: row.key_state }).collect();
    DestructionPlan {
        format: PLAN_FORMAT.into(),
        origin: origin.to_owned(),
        operation,
        even_active: order.even_active,
        hsm_backups: order.hsm_backups.trim().to_owned(),
        keys,
        copies: draft.copies,
        keks: draft.doomed,
    }
}

/// The order that a plan was made from.
pub(super) fn order_of(plan: &DestructionPlan) -> Result<DestructionOrder, Refusal> {
    let (volumes, keys) = match &plan.operation {
        Operation::VolumeShred { volumes } => (volumes.iter().map(ToString::to_string).collect(), Vec::new()),
        Operation::KeyDestroy { keys } => (Vec::new(), keys.clone()),
        Operation::KekDestroy { kek } => (Vec::new(), vec![*kek]),
        other => return Err(bad_request(format!("to {} is no destruction", other.words()), "")),
    };
    Ok(DestructionOrder { volumes, keys, even_active: plan.even_active, hsm_backups: plan.hsm_backups.clone() })
}

/// Whose keys a plan destroys.
pub(super) fn tenant_of(sql: &Connection, log: &LogState, plan: &DestructionPlan) -> Result<TenantRow, Refusal> {
    let tenant = match (&plan.operation, plan.keys.first()) {
        (Operation::KekDestroy { kek }, _) => KekRow::find(sql, *kek)?.confirmed(sql, log)?.tenant,
        (_, Some(key)) => VolumeRow::find(sql, key.at.volume)?.tenant,
        (_, None) => return Err(internal("a destruction of nothing")),
    };
    TenantRow::find(sql, log, tenant)
}

/// Refuses while keys of the tenant are on their way to another KEK: then what wraps what is about to change.
pub(super) fn check_no_rotation(sql: &Connection, tenant: &TenantRow) -> Result<(), Refusal> {
    match RotationRow::unfinished(sql, tenant.id)? {
        None => Ok(()),
        Some(_) => Err(Refusal::new(
            RefusalCode::Busy,
            "the catalogue's key-encryption key is being replaced",
            "wait until it is done: sealtape key rotate --status",
        )),
    }
}

impl Authority {
    /// What a destruction would reach, and what it would not. Nothing is changed.
    ///
    /// # Errors
    /// When something of it may not be destroyed.
    pub fn plan_destruction(&self, order: &DestructionOrder) -> Result<DestructionPlan, Refusal> {
        let key = self.log_key();
        plan(&self.lock(), key.name(), order)
    }
}

/// Wipes what the catalogue holds of a key that is being destroyed.
pub(super) fn wipe_copies(sql: &Connection, key: Uuid) -> Result<(), Refusal> {
    let key = key.to_string();
    sql.prepare_cached("UPDATE generations SET wrapped = x'' WHERE key_id = ?1")?.execute([&key])?;
    if has_table(sql, "recovery_stanzas")? {
        sql.prepare_cached("DELETE FROM recovery_stanzas WHERE key_id = ?1")?.execute([&key])?;
    }
    let update = "UPDATE copies SET state = 'destroyed' WHERE key_id = ?1 AND kind = ?2";
    // Of the recovery copy only the catalogue's is gone: what old backups hold is told by the certificate.
    sql.prepare_cached(update)?.execute(params![key, "recovery"])?;
    Ok(())
}
