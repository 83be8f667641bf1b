//! Rows of rotations of the catalogue's key-encryption key.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::convert::{from_db, name, named, to_db, uuid};
use super::log::LogState;
use super::rows::GenerationRow;
use crate::custody::{Outcome, canonical, op};
use crate::fault::{damaged, internal};
use crate::protocol::{Refusal, RefusalCode, RotationState};

/// A rotation of a tenant's catalogue KEK.
#[derive(Debug, Clone)]
pub(crate) struct RotationRow {
    pub(crate) id: Uuid,
    pub(crate) tenant: i64,
    pub(crate) old_kek: Uuid,
    pub(crate) new_kek: Uuid,
    pub(crate) state: RotationState,
    pub(crate) verified: String,
    pub(crate) reason: String,
    pub(crate) started: String,
    pub(crate) ended: Option<String>,
    pub(crate) leaf: u64,
}

const ROTATION: &str =
    "SELECT id, tenant, old_kek, new_kek, state, verified, reason, started, ended, leaf FROM rotations";

/// Keys that a rotation moves: all but destroyed ones, whose copies are wiped.
const LIVE: &str = "key_state NOT IN ('destroyed', 'destroyed_compromised')";

type RawRotation = ((String, i64, String, String), (String, String, String), (String, Option<String>, i64));

fn raw_rotation(r: &Row<'_>) -> rusqlite::Result<RawRotation> {
    Ok((
        (r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?),
        (r.get(4)?, r.get(5)?, r.get(6)?),
        (r.get(7)?, r.get(8)?, r.get(9)?),
    ))
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RotationCounts {
    pub(crate) total: u64,
    pub(crate) rewrapped: u64,
    pub(crate) verified: u64,
}

impl RotationRow {
    fn from_raw(raw: RawRotation) -> Result<Self, Refusal> {
        let ((id, tenant, old_kek, new_kek), (state, verified, reason), (started, ended, leaf)) = raw;
        Ok(Self {
            id: uuid(&id)?,
            tenant,
            old_kek: uuid(&old_kek)?,
            new_kek: uuid(&new_kek)?,
            state: named(state)?,
            verified,
            reason,
            started,
            ended,
            leaf: from_db(leaf)?,
        })
    }

    /// The rotation of a tenant that has not come to its end.
    pub(crate) fn unfinished(sql: &Connection, tenant: i64) -> Result<Option<Self>, Refusal> {
        let query = format!("{ROTATION} WHERE tenant = ?1 AND state <> 'done'");
        sql.query_row(&query, [tenant], raw_rotation).optional()?.map(Self::from_raw).transpose()
    }

    /// The rotations that have not come to their end, of all tenants, the oldest first.
    pub(crate) fn all_unfinished(sql: &Connection) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare_cached(&format!("{ROTATION} WHERE state <> 'done' ORDER BY leaf"))?;
        let rows: Vec<_> = query.query_map([], raw_rotation)?.collect::<Result<_, _>>()?;
        rows.into_iter().map(Self::from_raw).collect()
    }

    /// The last rotation of a tenant, finished or not.
    pub(crate) fn last(sql: &Connection, tenant: i64) -> Result<Option<Self>, Refusal> {
        let query = format!("{ROTATION} WHERE tenant = ?1 ORDER BY leaf DESC LIMIT 1");
        sql.query_row(&query, [tenant], raw_rotation).optional()?.map(Self::from_raw).transpose()
    }

    /// The rotation `id`.
    pub(crate) fn find(sql: &Connection, id: Uuid) -> Result<Self, Refusal> {
        let row = sql.query_row(&format!("{ROTATION} WHERE id = ?1"), [id.to_string()], raw_rotation).optional()?;
        Self::from_raw(row.ok_or_else(|| damaged(format!("the catalogue lacks rotation {id}")))?)
    }

    pub(crate) fn insert(&self, sql: &Connection) -> Result<(), Refusal> {
        sql.execute(
            "INSERT INTO rotations (id, tenant, old_kek, new_kek, state, reason, started, leaf)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                self.id.to_string(),
                self.tenant,
                self.old_kek.to_string(),
                self.new_kek.to_string(),
                name(self.state)?,
                self.reason,
                self.started,
                to_db(self.leaf)?
            ],
        )?;
        Ok(())
    }

    /// Writes state, cursor and end back.
    pub(crate) fn update(&self, sql: &Connection) -> Result<(), Refusal> {
        let update = "UPDATE rotations SET state = ?2, verified = ?3, ended = ?4 WHERE id = ?1";
        sql.execute(update, params![self.id.to_string(), name(self.state)?, self.verified, self.ended])?;
        Ok(())
    }

    /// SHA-256 of what must not change, as it stands in the entry of the intent.
    pub(crate) fn digest(&self) -> Result<[u8; 32], Refusal> {
        let value = serde_json::json!({
            "new": self.new_kek, "old": self.old_kek, "rotation": self.id, "tenant": self.tenant
        });
        let text = canonical(&value).ok_or_else(|| internal("a rotation without canonical form"))?;
        Ok(Sha256::digest(text).into())
    }

    /// Whether the custody log names this rotation as it stands in the row.
    pub(crate) fn confirmed(&self, sql: &Connection, log: &LogState) -> Result<(), Refusal> {
        let leaf = log.proven_leaf(sql, self.leaf)?;
        let is_it = leaf.op == op::KEK_ROTATE
            && leaf.outcome == Outcome::Intent
            && leaf.key == Some(self.new_kek)
            && leaf.digest.is_some_and(|d| Ok(d.0) == self.digest());
        if is_it {
            return Ok(());
        }
        Err(damaged(format!(
            "the rotation {} is not the one that custody entry {} names: the catalogue was changed",
            self.id, self.leaf
        )))
    }

    /// Live keys under the old KEK of which none is known to be damaged.
    pub(crate) fn next_old(&self, sql: &Connection, count: u32) -> Result<Vec<GenerationRow>, Refusal> {
        let which = format!(
            "WHERE kek = ?1 AND {LIVE}
             AND key_id NOT IN (SELECT key_id FROM rotation_faults WHERE rotation = ?2) ORDER BY key_id LIMIT ?3"
        );
        GenerationRow::matching(sql, &which, params![self.old_kek.to_string(), self.id.to_string(), count])
    }

    /// Live keys under the new KEK behind the cursor.
    pub(crate) fn next_unverified(&self, sql: &Connection, count: u32) -> Result<Vec<GenerationRow>, Refusal> {
        let which = format!("WHERE kek = ?1 AND key_id > ?2 AND {LIVE} ORDER BY key_id LIMIT ?3");
        GenerationRow::matching(sql, &which, params![self.new_kek.to_string(), self.verified, count])
    }

    /// Live keys of the tenant that are not under the new KEK.
    pub(crate) fn left(&self, sql: &Connection) -> Result<Vec<GenerationRow>, Refusal> {
        let which = format!(
            "WHERE kek <> ?1 AND {LIVE} AND volume IN (SELECT id FROM volumes WHERE tenant = ?2) ORDER BY key_id LIMIT 100"
        );
        GenerationRow::matching(sql, &which, params![self.new_kek.to_string(), self.tenant])
    }

    /// Whether a key is being made in the token that was planned under the old KEK.
    pub(crate) fn awaits_planned(&self, sql: &Connection) -> Result<bool, Refusal> {
        let query = "SELECT 1 FROM intents WHERE op = ?1 AND leaf < ?2";
        Ok(sql.prepare_cached(query)?.exists(params![op::KEY_CREATE, to_db(self.leaf)?])?)
    }

    pub(crate) fn counts(&self, sql: &Connection) -> Result<RotationCounts, Refusal> {
        let query = format!(
            "SELECT count(*) FILTER (WHERE kek = ?1), count(*), count(*) FILTER (WHERE kek = ?1 AND key_id <= ?3)
             FROM generations WHERE kek IN (?1, ?2) AND {LIVE}"
        );
        let values = params![self.new_kek.to_string(), self.old_kek.to_string(), self.verified];
        let (rewrapped, total, verified) =
            sql.prepare_cached(&query)?.query_row(values, |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        Ok(RotationCounts { total: from_db(total)?, rewrapped: from_db(rewrapped)?, verified: from_db(verified)? })
    }

    pub(crate) fn add_fault(&self, sql: &Connection, key: Uuid, what: &str) -> Result<(), Refusal> {
        let insert = "INSERT OR REPLACE INTO rotation_faults (rotation, key_id, what) VALUES (?1, ?2, ?3)";
        sql.execute(insert, params![self.id.to_string(), key.to_string(), what])?;
        Ok(())
    }

    pub(crate) fn clear_faults(&self, sql: &Connection) -> Result<(), Refusal> {
        sql.execute("DELETE FROM rotation_faults WHERE rotation = ?1", [self.id.to_string()])?;
        Ok(())
    }

    /// Keys that did not open, with what was said; those destroyed since do not count.
    pub(crate) fn faults(&self, sql: &Connection) -> Result<Vec<(GenerationRow, String)>, Refusal> {
        let query = "SELECT key_id, what FROM rotation_faults WHERE rotation = ?1 ORDER BY key_id LIMIT 1000";
        let mut query = sql.prepare_cached(query)?;
        let found: Vec<(String, String)> =
            query.query_map([self.id.to_string()], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
        let mut faults = Vec::new();
        for (key, what) in found {
            let row = GenerationRow::matching(sql, &format!("WHERE key_id = ?1 AND {LIVE}"), [key])?.pop();
            faults.extend(row.map(|row| (row, what)));
        }
        Ok(faults)
    }
}

impl super::Catalogue {
    /// Removes from the files what was wiped in the rows: the write-ahead log is emptied, and the database written anew, since a page
    /// that was rearranged can keep bytes that `secure_delete` did not see as deleted.
    pub(crate) fn scrub(&mut self) -> Result<(), Refusal> {
        let empty = |sql: &Connection| -> Result<(), Refusal> {
            let busy: i64 = sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0))?;
            match busy {
                0 => Ok(()),
                _ => Err(Refusal::new(
                    RefusalCode::Busy,
                    "the catalogue's write-ahead log cannot be emptied: another program reads it",
                    "end the program that has catalogue.db open",
                )),
            }
        };
        let sql = &self.connection;
        sql.flush_prepared_statement_cache();
        empty(sql)?;
        // No copy in a temporary file.
        sql.execute_batch("PRAGMA temp_store = MEMORY; VACUUM; PRAGMA temp_store = DEFAULT;")?;
        empty(sql)
    }
}
