//! Rows about the life of keys. They decide who may use which key and until when, so each is believed only if the custody entry
//! that made it has its digest.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};
use uuid::Uuid;

use super::belonging::is_of;
use super::convert::{from_db, to_db, uuid};
use super::log::LogState;
use super::rows::{KekRow, PoolRow};
use super::states::Read;
use crate::custody::{Leaf, Outcome, canonical_digest, op};
use crate::fault::{damaged, internal};
use crate::hex::Hex;
use crate::protocol::{PoolPolicy, Refusal};

pub(super) fn digest(value: &Value) -> Result<[u8; 32], Refusal> {
    Ok(canonical_digest(value)?)
}

/// SHA-256 of a pool's policy in canonical JSON.
pub(crate) fn policy_digest(policy: &PoolPolicy) -> Result<[u8; 32], Refusal> {
    digest(&serde_json::to_value(policy).map_err(|e| internal(e.to_string()))?)
}

/// Until when a data key may be used, and what wraps its copy on the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyLifeRow {
    pub(crate) key_id: Uuid,
    pub(crate) seal_until: Option<String>,
    pub(crate) open_until: Option<String>,
    pub(crate) medium_kek: Option<Uuid>,
    /// The custody entry with the digest of this row.
    pub(crate) leaf: u64,
}

impl KeyLifeRow {
    /// What the custody entry says of it.
    pub(crate) fn digest(&self) -> Result<[u8; 32], Refusal> {
        digest(&json!({
            "key": self.key_id, "medium_kek": self.medium_kek, "open_until": self.open_until, "seal_until": self.seal_until,
        }))
    }

    pub(crate) fn keep(&self, sql: &Connection) -> Result<(), Refusal> {
        sql.prepare_cached(
            "INSERT INTO key_life (key_id, seal_until, open_until, medium_kek, leaf) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (key_id) DO UPDATE SET seal_until = ?2, open_until = ?3, leaf = ?5",
        )?
        .execute(params![
            self.key_id.to_string(),
            self.seal_until,
            self.open_until,
            self.medium_kek.map(|kek| kek.to_string()),
            to_db(self.leaf)?
        ])?;
        Ok(())
    }

    fn find(sql: &Connection, key_id: Uuid) -> Result<Option<Self>, Refusal> {
        let mut query =
            sql.prepare_cached("SELECT seal_until, open_until, medium_kek, leaf FROM key_life WHERE key_id = ?1")?;
        let raw = query
            .query_row([key_id.to_string()], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get::<_, Option<String>>(2)?, r.get::<_, i64>(3)?))
            })
            .optional()?;
        let Some((seal_until, open_until, medium_kek, leaf)) = raw else { return Ok(None) };
        let medium_kek = medium_kek.as_deref().map(uuid).transpose()?;
        Ok(Some(Self { key_id, seal_until, open_until, medium_kek, leaf: from_db(leaf)? }))
    }

    /// The row of a key, once the custody entry that made it has confirmed it. `created_leaf` is the entry that created the key:
    /// one of an earlier version says nothing of periods, and then there are none.
    pub(crate) fn confirmed(
        sql: &Connection,
        log: &LogState,
        key_id: Uuid,
        created_leaf: u64,
    ) -> Result<Self, Refusal> {
        let found = Self::find(sql, key_id)?;
        let leaf = log.proven_leaf(sql, found.as_ref().map_or(created_leaf, |row| row.leaf))?;
        let row =
            found.unwrap_or(Self { key_id, seal_until: None, open_until: None, medium_kek: None, leaf: created_leaf });
        let of_key = leaf.key == Some(key_id)
            && leaf.outcome == Outcome::Done
            && (leaf.op == op::KEY_CREATE || leaf.op == op::KEY_EXTEND || leaf.op == op::KEY_IMPORT);
        let as_entered = match leaf.digest {
            Some(entered) => entered == Hex(row.digest()?),
            None => row.seal_until.is_none() && row.open_until.is_none() && leaf.op == op::KEY_CREATE,
        };
        if of_key && as_entered {
            return Ok(row);
        }
        Err(damaged(format!(
            "the periods of key {key_id} are not those that custody entry {} names: the catalogue was changed",
            row.leaf
        )))
    }
}

/// A medium key-encryption key with its pool and epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediumKekRow {
    pub(crate) kek: Uuid,
    pub(crate) pool: i64,
    pub(crate) epoch: String,
    /// No key under it opens after this time, where that is known.
    pub(crate) until: Option<String>,
}

impl MediumKekRow {
    pub(crate) fn digest(&self) -> Result<[u8; 32], Refusal> {
        digest(&json!({ "epoch": self.epoch, "kek": self.kek, "pool": self.pool, "until": self.until }))
    }

    pub(crate) fn insert(&self, sql: &Connection, leaf: u64) -> Result<(), Refusal> {
        sql.execute(
            "INSERT INTO medium_keks (kek, pool, epoch, until, leaf) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![self.kek.to_string(), self.pool, self.epoch, self.until, to_db(leaf)?],
        )?;
        Ok(())
    }

    fn agrees(&self, leaf: &Leaf) -> Result<bool, Refusal> {
        Ok(match leaf.digest {
            Some(entered) => leaf.op == op::POOL_EPOCH && leaf.key == Some(self.kek) && entered == Hex(self.digest()?),
            // From before there were epochs: the entry that made the key-encryption key.
            None => leaf.op == op::KEK_CREATE && leaf.key == Some(self.kek) && self.epoch == "single",
        })
    }

    /// The key-encryption key that the copies of new keys of an epoch come under; none where it has to be made first.
    pub(crate) fn current(sql: &Connection, log: &LogState, pool: i64, epoch: &str) -> Result<Option<KekRow>, Refusal> {
        let mut query = sql.prepare_cached(
            "SELECT m.kek, m.until, m.leaf FROM medium_keks m JOIN keks k ON k.id = m.kek
             WHERE m.pool = ?1 AND m.epoch = ?2 AND k.state = 'active' ORDER BY m.leaf DESC LIMIT 1",
        )?;
        let raw = query
            .query_row(params![pool, epoch], |r| Ok((r.get::<_, String>(0)?, r.get(1)?, r.get::<_, i64>(2)?)))
            .optional()?;
        let Some((kek, until, leaf)) = raw else { return Ok(None) };
        let (row, leaf) = (Self { kek: uuid(&kek)?, pool, epoch: epoch.to_owned(), until }, from_db(leaf)?);
        if !row.agrees(&log.proven_leaf(sql, leaf)?)? {
            return Err(damaged(format!(
                "pool and epoch of the key-encryption key {} are not those that custody entry {leaf} names: the catalogue was changed",
                row.kek
            )));
        }
        KekRow::find(sql, row.kek)?.confirmed(sql, log).map(Some)
    }
}

impl PoolRow {
    /// Checks that policy and tenant are those that were entered last.
    pub(crate) fn confirm(&self, sql: &Connection, log: &LogState) -> Result<(), Refusal> {
        self.agrees(sql, &|seq| log.proven_leaf(sql, seq))
    }

    pub(super) fn agrees(&self, sql: &Connection, read: Read<'_>) -> Result<(), Refusal> {
        let name = &self.policy.name;
        let leaf =
            self.policy_leaf.ok_or_else(|| damaged(format!("no custody entry has the policy of pool {name}")))?;
        let entry = read(leaf)?;
        let of_a_policy = [op::POOL_CREATE, op::POOL_SET, op::POOL_AUTO_LABEL].contains(&entry.op.as_str());
        let entered = of_a_policy && entry.outcome == Outcome::Done;
        if !entered || entry.digest != Some(Hex(policy_digest(&self.policy)?)) {
            return Err(damaged(format!(
                "the policy of pool {name} is not the one that custody entry {leaf} names: the catalogue was changed"
            )));
        }
        if is_of(sql, &entry, self.tenant)? {
            return Ok(());
        }
        Err(damaged(format!(
            "pool {name} stands under another tenant than custody entry {leaf} says: the catalogue was changed"
        )))
    }

    /// Whether it is from before policies were entered: then no entry has any of its own.
    pub(crate) fn is_from_before(&self, sql: &Connection) -> Result<bool, Refusal> {
        if self.policy_leaf.is_some() {
            return Ok(false);
        }
        let mut query = sql.prepare_cached(
            "SELECT 1 FROM custody_leaves WHERE op IN ('pool.create', 'pool.set', 'pool.auto_label')
             AND json_extract(leaf, '$.digest') IS NOT NULL AND (json_extract(leaf, '$.reason') = ?1
                 OR substr(json_extract(leaf, '$.reason'), 1, length(?1) + 2) = ?1 || ': ')",
        )?;
        Ok(!query.exists([format!("pool {}", self.policy.name)])?)
    }

    /// Says which entry has the policy as it is now.
    pub(crate) fn policy_entered(sql: &Connection, pool: i64, leaf: u64) -> Result<(), Refusal> {
        sql.execute("UPDATE pools SET policy_leaf = ?2 WHERE id = ?1", params![pool, to_db(leaf)?])?;
        Ok(())
    }
}
