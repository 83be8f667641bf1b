//! Rows of recovery keys and of what is wrapped to them.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::age::Recipient;
use crate::catalogue::{Copy, LogState, TenantId, TenantRow, from_db, is_of, named, to_db};
use crate::custody::{Outcome, op};
use crate::fault::{damaged, internal};
use crate::hex::Hex;
use crate::protocol::{GenerationRef, RecoveryKeyState, RecoveryKeyView, Refusal, RefusalCode};
use crate::recovery::{PublicHalf, key_id, stanza};
use crate::secret::DataKey;
use crate::time;

/// A recovery key whose custody entry was proven.
#[derive(Debug, Clone)]
pub(in crate::authority) struct RecoveryKeyRow {
    pub(in crate::authority) id: Uuid,
    pub(super) state: RecoveryKeyState,
    pub(super) public: PublicHalf,
    pub(super) recipient: Recipient,
    pub(super) tenant: TenantId,
    installed: String,
    leaf: u64,
}

const QUERY: &str = "SELECT id, state, public, tenant, created, leaf FROM recovery_keys";

type Raw = (String, String, String, TenantId, String, i64);

fn raw(r: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?))
}

impl RecoveryKeyRow {
    /// The key's name is made from its public half, and the custody entry names the key: a public half that was put in its place
    /// is noticed, so that no data key is ever wrapped to a stranger.
    fn confirmed(sql: &Connection, log: &LogState, raw: Raw) -> Result<Self, Refusal> {
        let (id, state, public, tenant, installed, leaf) = raw;
        let id = crate::catalogue::uuid(&id)?;
        let leaf = from_db(leaf)?;
        let tampered = || {
            Refusal::new(
                RefusalCode::TamperedBlob,
                format!(
                    "the recovery key {id} is not the one that custody entry {leaf} names: the catalogue was changed"
                ),
                "restore the catalogue from a backup, and tell the auditor",
            )
        };
        let public: PublicHalf = serde_json::from_str(&public).map_err(|_| tampered())?;
        let recipient = public.check().map_err(|_| tampered())?;
        let entry = log.proven_leaf(sql, leaf)?;
        let is_it = entry.op == op::RECOVERY_KEY_CREATE
            && entry.outcome == Outcome::Done
            && entry.key == Some(id)
            && key_id(&recipient) == id
            && is_of(sql, &entry, tenant)?
            && TenantRow::find(sql, log, tenant)?.name == public.tenant;
        if !is_it {
            return Err(tampered());
        }
        Ok(Self { id, state: named(state)?, public, recipient, tenant, installed, leaf })
    }

    /// The one that new data keys are wrapped to.
    pub(in crate::authority) fn active(sql: &Connection, log: &LogState, tenant: i64) -> Result<Option<Self>, Refusal> {
        let mut query = sql.prepare_cached(&format!("{QUERY} WHERE tenant = ?1 AND state = 'active'"))?;
        let found = query.query_row([tenant], raw).optional()?;
        found.map(|raw| Self::confirmed(sql, log, raw)).transpose()
    }

    pub(super) fn find(sql: &Connection, log: &LogState, id: Uuid) -> Result<Self, Refusal> {
        let found = sql.query_row(&format!("{QUERY} WHERE id = ?1"), [id.to_string()], raw).optional()?;
        let unknown = || {
            let what = format!("there is no recovery key {id}");
            Refusal::new(RefusalCode::BadRequest, what, "see: sealtape recovery list")
        };
        Self::confirmed(sql, log, found.ok_or_else(unknown)?)
    }

    pub(super) fn all(sql: &Connection, log: &LogState) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare(&format!("{QUERY} ORDER BY tenant, epoch DESC"))?;
        let raws: Vec<_> = query.query_map([], raw)?.collect::<Result<_, _>>()?;
        raws.into_iter().map(|raw| Self::confirmed(sql, log, raw)).collect()
    }

    pub(super) fn insert(
        sql: &Connection,
        id: Uuid,
        tenant: i64,
        public: &PublicHalf,
        leaf: u64,
    ) -> Result<(), Refusal> {
        let text = serde_json::to_string(public).map_err(|e| internal(e.to_string()))?;
        sql.execute(
            "INSERT INTO recovery_keys (id, tenant, epoch, public, state, created, leaf) VALUES (?1, ?2, ?3, ?4, 'active', ?5, ?6)",
            params![id.to_string(), tenant, public.epoch, text, time::now(), to_db(leaf)?],
        )?;
        Ok(())
    }

    /// Wraps a data key: a stanza's body.
    pub(in crate::authority) fn wrap(&self, at: GenerationRef, key: &DataKey) -> Result<Vec<u8>, Refusal> {
        stanza::wrap(&self.recipient, at, key).map_err(|e| internal(format!("wrapping to the recovery key: {e}")))
    }

    /// Keeps a stanza in the catalogue, and counts it among the key's copies.
    pub(in crate::authority) fn keep_stanza(
        &self,
        sql: &Connection,
        key: Uuid,
        body: &[u8],
        leaf: u64,
    ) -> Result<(), Refusal> {
        sql.prepare_cached("INSERT INTO recovery_stanzas (key_id, recovery_key, body, leaf) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![key.to_string(), self.id.to_string(), body, to_db(leaf)?])?;
        let sha256 = Hex(Sha256::digest(body).into());
        let place = "catalogue, wrapped to the recovery key".to_owned();
        Copy { kind: "recovery", holder: self.id, place, state: "exists", sha256, leaf }.insert(sql, key)
    }

    /// Refuses a key that has its copy: somebody else was quicker.
    pub(super) fn check_lacking(&self, sql: &Connection, key: Uuid) -> Result<(), Refusal> {
        let query = "SELECT EXISTS (SELECT 1 FROM recovery_stanzas WHERE key_id = ?1 AND recovery_key = ?2)";
        if sql.query_row(query, [key.to_string(), self.id.to_string()], |r| r.get(0))? {
            let what = format!("the key {key} has a copy for the recovery key {} already", self.id);
            return Err(Refusal::new(RefusalCode::BadRequest, what, "there is nothing left to do with it"));
        }
        Ok(())
    }

    pub(super) fn view(&self, sql: &Connection) -> Result<RecoveryKeyView, Refusal> {
        let wrapped: i64 = sql.query_row(
            "SELECT count(*) FROM recovery_stanzas WHERE recovery_key = ?1",
            [self.id.to_string()],
            |r| r.get(0),
        )?;
        let of: i64 = sql.query_row(
            &format!("SELECT count(*) FROM generations g JOIN volumes v ON v.id = g.volume WHERE {}", Self::WANTED),
            [self.tenant],
            |r| r.get(0),
        )?;
        let drilled = sql.query_row(
            "SELECT max(drilled) FROM recovery_canaries WHERE recovery_key = ?1",
            [self.id.to_string()],
            |r| r.get(0),
        )?;
        Ok(RecoveryKeyView {
            key: self.id,
            tenant: self.public.tenant.clone(),
            epoch: self.public.epoch,
            state: self.state,
            set: self.public.set,
            shares: self.public.shares,
            threshold: self.public.threshold,
            fingerprint: self.recipient.fingerprint(),
            installed: self.installed.clone(),
            wrapped: from_db(wrapped)?,
            of: from_db(of)?,
            drilled,
            entry: self.leaf,
        })
    }

    /// Generations (`g`) of volumes (`v`) of tenant `?1` whose keys are to be recoverable: all that are not destroyed and not a
    /// partner's.
    pub(super) const WANTED: &str =
        "v.tenant = ?1 AND v.imported IS NULL AND g.key_state NOT IN ('destroyed', 'destroyed_compromised')";

    /// Generations that lack a stanza for this key, some of them.
    pub(super) fn missing(&self, sql: &Connection, most: u32) -> Result<Vec<GenerationRef>, Refusal> {
        let mut query = sql.prepare_cached(&format!(
            "SELECT g.volume, g.partition, g.generation, g.key_id FROM generations g JOIN volumes v ON v.id = g.volume
             WHERE {} AND NOT EXISTS (SELECT 1 FROM recovery_stanzas s WHERE s.key_id = g.key_id AND s.recovery_key = ?2)
             LIMIT ?3",
            Self::WANTED
        ))?;
        let rows = query.query_map(params![self.tenant, self.id.to_string(), most], |r| {
            Ok((r.get::<_, String>(0)?, r.get(1)?, r.get(2)?, r.get::<_, String>(3)?))
        })?;
        rows.map(|row| {
            let (volume, partition, generation, key_id) = row?;
            let parse = |text: &str| text.parse().map_err(|_| damaged("the catalogue holds a malformed UUID"));
            Ok(GenerationRef { volume: parse(&volume)?, partition, generation, key_id: parse(&key_id)? })
        })
        .collect()
    }

    pub(super) fn count_missing(&self, sql: &Connection) -> Result<u64, Refusal> {
        let count: i64 = sql.query_row(
            &format!(
                "SELECT count(*) FROM generations g JOIN volumes v ON v.id = g.volume WHERE {} AND NOT EXISTS
                 (SELECT 1 FROM recovery_stanzas s WHERE s.key_id = g.key_id AND s.recovery_key = ?2)",
                Self::WANTED
            ),
            params![self.tenant, self.id.to_string()],
            |r| r.get(0),
        )?;
        from_db(count)
    }
}
