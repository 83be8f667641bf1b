//! Tenants, and what belongs to which: a tenant's row, and the tenants that pools, volumes, keys and key-encryption keys say they are
//! of, against the custody log. Who can write the database could move any of them to where another's roles reach; the entries that
//! made them name the tenant too.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;
use uuid::Uuid;

use super::convert::{from_db, to_db, uuid};
use super::life::digest;
use super::log::LogState;
use super::rows::{GenerationRow, PoolRow, VolumeRow};
use super::states::Read;
use super::tenants::TenantId;
use super::{Actor, Change, Entry};
use crate::custody::{Leaf, Outcome, op};
use crate::fault::{bad_request, damaged, internal};
use crate::hex::HexBytes;
use crate::protocol::{Refusal, RefusalCode};

/// The tenant that an installation begins with. What entries without a tenant concern, from before there were tenants, is its.
pub(crate) const DEFAULT_TENANT: TenantId = 1;

/// A tenant that the custody log confirms.
#[derive(Debug, Clone)]
pub(crate) struct TenantRow {
    pub(crate) id: TenantId,
    pub(crate) name: String,
    /// What the log calls it.
    pub(crate) uuid: Uuid,
    salt: Vec<u8>,
    leaf: Option<u64>,
}

type Raw = (TenantId, String, Option<String>, Option<Vec<u8>>, Option<i64>);

const TENANT: &str = "SELECT id, name, uuid, salt, leaf FROM tenants";

fn raw(r: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
}

impl TenantRow {
    fn from_raw((id, name, opaque, salt, leaf): Raw) -> Result<Self, Refusal> {
        let opaque = opaque.ok_or_else(|| damaged(format!("tenant {name:?} has no id in the custody log")))?;
        let leaf = leaf.map(from_db).transpose()?;
        Ok(Self { id, name, uuid: uuid(&opaque)?, salt: salt.unwrap_or_default(), leaf })
    }

    /// SHA-256 of what the row says for good.
    fn digest(&self) -> Result<[u8; 32], Refusal> {
        digest(&json!({ "id": self.id, "name": self.name, "salt": HexBytes(self.salt.clone()), "tenant": self.uuid }))
    }

    /// The entry that made it, after that has confirmed the row.
    pub(crate) fn entry(&self, read: Read<'_>) -> Result<Leaf, Refusal> {
        let changed = |what: String| damaged(format!("tenant {:?} {what}: the catalogue was changed", self.name));
        let at = self.leaf.ok_or_else(|| changed("was made by no custody entry".into()))?;
        let leaf = read(at)?;
        let is_it = leaf.op == op::TENANT_CREATE
            && leaf.outcome == Outcome::Done
            && leaf.tenant == Some(self.uuid)
            && leaf.digest.is_some_and(|d| Ok(d.0) == self.digest());
        if is_it { Ok(leaf) } else { Err(changed(format!("is not the one that custody entry {at} names"))) }
    }

    fn confirmed(raw: Raw, sql: &Connection, log: &LogState) -> Result<Self, Refusal> {
        let row = Self::from_raw(raw)?;
        row.entry(&|seq| log.proven_leaf(sql, seq))?;
        Ok(row)
    }

    pub(crate) fn find(sql: &Connection, log: &LogState, id: TenantId) -> Result<Self, Refusal> {
        let found = sql.prepare_cached(&format!("{TENANT} WHERE id = ?1"))?.query_row([id], raw).optional()?;
        Self::confirmed(found.ok_or_else(|| damaged("the catalogue lacks a tenant"))?, sql, log)
    }

    /// The tenant of this name, or the first one.
    pub(crate) fn named(sql: &Connection, log: &LogState, name: Option<&str>) -> Result<Self, Refusal> {
        let Some(name) = name else { return Self::find(sql, log, DEFAULT_TENANT) };
        let found = sql.prepare_cached(&format!("{TENANT} WHERE name = ?1"))?.query_row([name], raw).optional()?;
        let unknown = || bad_request(format!("there is no tenant {name:?}"), "see: sealtape tenant list");
        Self::confirmed(found.ok_or_else(unknown)?, sql, log)
    }

    /// All of them, the first one first.
    pub(crate) fn all(sql: &Connection, log: &LogState) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare_cached(&format!("{TENANT} ORDER BY id"))?;
        let rows: Vec<_> = query.query_map([], raw)?.collect::<Result<_, _>>()?;
        rows.into_iter().map(|raw| Self::confirmed(raw, sql, log)).collect()
    }

    /// Whether there are several.
    pub(crate) fn several(sql: &Connection) -> Result<bool, Refusal> {
        Ok(sql.query_row("SELECT count(*) > 1 FROM tenants", [], |r| r.get(0))?)
    }

    /// Makes a tenant, with its entry; it has no key-encryption key yet.
    pub(crate) fn insert(
        c: &mut Change<'_>,
        actor: Actor,
        id: Option<TenantId>,
        opaque: Uuid,
        name: &str,
        reason: &str,
    ) -> Result<TenantId, Refusal> {
        let insert = "INSERT INTO tenants (id, name, uuid) VALUES (?1, ?2, ?3)";
        c.sql.execute(insert, params![id, name, opaque.to_string()])?;
        let id = c.sql.last_insert_rowid();
        Self::enter(c, actor, id, reason)?;
        Ok(id)
    }

    fn enter(c: &mut Change<'_>, actor: Actor, id: TenantId, reason: &str) -> Result<(), Refusal> {
        let found = c.sql.query_row(&format!("{TENANT} WHERE id = ?1"), [id], raw)?;
        let mut row = Self::from_raw(found)?;
        row.salt = vec![0; 16];
        getrandom::fill(&mut row.salt).map_err(|e| internal(e.to_string()))?;
        let entry = Entry::done(actor, op::TENANT_CREATE).tenant(id).digest(row.digest()?);
        let leaf = c.record(entry.reason(reason))?;
        let update = "UPDATE tenants SET salt = ?2, leaf = ?3 WHERE id = ?1";
        c.sql.execute(update, params![id, row.salt, to_db(leaf)?])?;
        Ok(())
    }

    /// Enters the one tenant of a catalogue of an earlier version, in which no entry had it.
    pub(crate) fn adopt(catalogue: &mut super::Catalogue) -> Result<(), Refusal> {
        match is_from_before(catalogue.sql())? {
            false => Ok(()),
            true => catalogue.change(|c| Self::enter(c, Actor::Service, DEFAULT_TENANT, "as it was before")),
        }
    }

    /// Checks every tenant against the entry that made it, and that there is one for each such entry.
    pub(super) fn check_all(sql: &Connection, read: Read<'_>) -> Result<(), Refusal> {
        if is_from_before(sql)? {
            return Ok(());
        }
        let mut query = sql.prepare_cached(&format!("{TENANT} ORDER BY id"))?;
        let rows: Vec<_> = query.query_map([], raw)?.collect::<Result<_, _>>()?;
        let mut known = Vec::new();
        for row in rows {
            let row = Self::from_raw(row)?;
            row.entry(read)?;
            known.push(row.uuid);
        }
        for seq in entries(sql)? {
            let leaf = read(seq)?;
            if leaf.outcome == Outcome::Done && !leaf.tenant.is_some_and(|tenant| known.contains(&tenant)) {
                let what = format!("the tenant that custody entry {seq} made is missing: the catalogue was changed");
                return Err(damaged(what));
            }
        }
        Ok(())
    }
}

fn entries(sql: &Connection) -> Result<Vec<u64>, Refusal> {
    let mut query = sql.prepare_cached("SELECT seq FROM custody_leaves WHERE op = ?1 ORDER BY seq")?;
    let seqs: Vec<i64> = query.query_map([op::TENANT_CREATE], |r| r.get(0))?.collect::<Result<_, _>>()?;
    seqs.into_iter().map(from_db).collect()
}

/// Whether the catalogue is one from before tenants were entered: then there is the first one alone, and no entry of any.
fn is_from_before(sql: &Connection) -> Result<bool, Refusal> {
    let query = "SELECT count(*) = count(*) FILTER (WHERE id = ?1 AND leaf IS NULL) FROM tenants";
    let first_alone: bool = sql.query_row(query, [DEFAULT_TENANT], |r| r.get(0))?;
    let some: bool = sql.query_row("SELECT count(*) > 0 FROM tenants", [], |r| r.get(0))?;
    let done = "SELECT 1 FROM custody_leaves WHERE op = ?1 AND json_extract(leaf, '$.outcome') = 'done'";
    Ok(first_alone && some && !sql.prepare_cached(done)?.exists([op::TENANT_CREATE])?)
}

/// Whether an entry is of this tenant: it names it, or is from before entries named tenants, when there was the first one alone.
pub(crate) fn is_of(sql: &Connection, leaf: &Leaf, tenant: TenantId) -> Result<bool, Refusal> {
    let Some(named) = leaf.tenant else { return Ok(tenant == DEFAULT_TENANT) };
    let mut query = sql.prepare_cached("SELECT 1 FROM tenants WHERE id = ?1 AND uuid = ?2")?;
    Ok(query.exists(params![tenant, named.to_string()])?)
}

fn moved(what: String) -> Refusal {
    let mend = "restore the catalogue from a backup, and tell the auditor";
    Refusal::new(RefusalCode::TamperedBlob, format!("{what}: the catalogue was changed"), mend)
}

impl GenerationRow {
    /// Checks that volume, pool and key-encryption key are of one tenant, that of the entry that names the wrapped key.
    pub(crate) fn tenant_agrees(&self, sql: &Connection, leaf: &Leaf) -> Result<(), Refusal> {
        let mut query = sql.prepare_cached(
            "SELECT v.tenant, p.tenant, k.tenant FROM volumes v JOIN pools p ON p.id = v.pool JOIN keks k ON k.id = ?2
             WHERE v.id = ?1",
        )?;
        let values = params![self.at.volume.to_string(), self.kek.to_string()];
        let found: Option<(TenantId, TenantId, TenantId)> =
            query.query_row(values, |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).optional()?;
        let (volume, pool, kek) = found
            .ok_or_else(|| damaged(format!("the catalogue lacks volume, pool or wrapping key of {}", self.words())))?;
        let words = || self.words();
        if !is_of(sql, leaf, volume)? {
            let what = format!("{} stands under another tenant than custody entry {} says", words(), leaf.seq);
            return Err(moved(what));
        }
        if pool != volume {
            return Err(moved(format!("{} stands in a pool of another tenant", words())));
        }
        if kek != volume {
            return Err(moved(format!(
                "{} stands under the key-encryption key {} of another tenant",
                words(),
                self.kek
            )));
        }
        Ok(())
    }
}

impl VolumeRow {
    /// Checks the volume's tenant and its pool's against the entry that brought the volume in.
    pub(crate) fn tenant_agrees(&self, sql: &Connection, read: Read<'_>) -> Result<(), Refusal> {
        let mut query = sql.prepare_cached(
            "SELECT seq FROM custody_leaves WHERE volume = ?1 AND op IN ('volume.create', 'key.import')
             AND json_extract(leaf, '$.outcome') = 'done' ORDER BY seq LIMIT 1",
        )?;
        let made: Option<i64> = query.query_row([self.id.to_string()], |r| r.get(0)).optional()?;
        let made = made.ok_or_else(|| moved(format!("no custody entry brought {} in", self.words())))?;
        let leaf = read(from_db(made)?)?;
        let brought_in = leaf.op == op::VOLUME_CREATE || leaf.op == op::KEY_IMPORT;
        if !brought_in || leaf.volume != Some(self.id) || !is_of(sql, &leaf, self.tenant)? {
            let what = format!("{} stands under another tenant than custody entry {} says", self.words(), leaf.seq);
            return Err(moved(what));
        }
        if PoolRow::find(sql, self.pool)?.tenant != self.tenant {
            return Err(moved(format!("{} stands in a pool of another tenant", self.words())));
        }
        Ok(())
    }
}
