//! Rows of destructions.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::catalogue::{LogState, from_db, name, named, to_db, uuid};
use crate::custody::{Leaf, Outcome, canonical, op};
use crate::fault::{damaged, internal};
use crate::protocol::{BatchState, DestructionPlan, Refusal, RefusalCode};

/// A destruction as it stands in the catalogue.
#[derive(Debug, Clone)]
pub(super) struct BatchRow {
    pub(super) id: Uuid,
    pub(super) request: Uuid,
    pub(super) state: BatchState,
    pub(super) reason: String,
    /// Canonical JSON of the plan.
    pub(super) plan: String,
    pub(super) plan_leaf: u64,
    pub(super) begun_leaf: Option<u64>,
    pub(super) rotation: Option<Uuid>,
    /// Why there was no backup when it was to be made.
    pub(super) backup: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) asked: String,
    pub(super) begun: Option<String>,
    pub(super) ended: Option<String>,
}

const BATCH: &str =
    "SELECT id, request, state, reason, plan, plan_leaf, begun_leaf, rotation, backup, certificate, asked, begun,
    ended FROM destructions";

type Raw = (
    (String, String, String, String, String),
    (i64, Option<i64>, Option<String>, Option<String>, Option<String>),
    (String, Option<String>, Option<String>),
);

fn raw(r: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((
        (r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?),
        (r.get(5)?, r.get(6)?, r.get(7)?, r.get(8)?, r.get(9)?),
        (r.get(10)?, r.get(11)?, r.get(12)?),
    ))
}

/// The plan's canonical JSON.
pub(super) fn plan_text(plan: &DestructionPlan) -> Result<String, Refusal> {
    let value = serde_json::to_value(plan).map_err(|e| internal(e.to_string()))?;
    canonical(&value).ok_or_else(|| internal("a plan without canonical form"))
}

/// SHA-256 of it.
pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl BatchRow {
    fn from_raw(raw: Raw) -> Result<Self, Refusal> {
        let ((id, request, state, reason, plan), (plan_leaf, begun_leaf, rotation, backup, certificate), times) = raw;
        let (asked, begun, ended) = times;
        Ok(Self {
            id: uuid(&id)?,
            request: uuid(&request)?,
            state: named(state)?,
            reason,
            plan,
            plan_leaf: from_db(plan_leaf)?,
            begun_leaf: begun_leaf.map(from_db).transpose()?,
            rotation: rotation.as_deref().map(uuid).transpose()?,
            backup,
            certificate,
            asked,
            begun,
            ended,
        })
    }

    /// By batch or request.
    pub(super) fn find(sql: &Connection, id: Uuid) -> Result<Self, Refusal> {
        let found =
            sql.query_row(&format!("{BATCH} WHERE id = ?1 OR request = ?1"), [id.to_string()], raw).optional()?;
        Self::from_raw(found.ok_or_else(|| {
            let what = format!("there is no destruction {id}");
            Refusal::new(RefusalCode::BadRequest, what, "see: sealtape certificate list")
        })?)
    }

    /// Those that are under way, the oldest first.
    pub(super) fn under_way(sql: &Connection) -> Result<Vec<Self>, Refusal> {
        let mut query =
            sql.prepare_cached(&format!("{BATCH} WHERE state NOT IN ('asked', 'done') ORDER BY begun_leaf"))?;
        let rows: Vec<_> = query.query_map([], raw)?.collect::<Result<_, _>>()?;
        rows.into_iter().map(Self::from_raw).collect()
    }

    /// The one that began last.
    pub(super) fn last_begun(sql: &Connection) -> Result<Option<Self>, Refusal> {
        let query = format!("{BATCH} WHERE begun_leaf IS NOT NULL ORDER BY begun_leaf DESC LIMIT 1");
        sql.query_row(&query, [], raw).optional()?.map(Self::from_raw).transpose()
    }

    /// All, newest first.
    pub(super) fn all(sql: &Connection) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare(&format!("{BATCH} ORDER BY plan_leaf DESC LIMIT 1000"))?;
        let rows: Vec<_> = query.query_map([], raw)?.collect::<Result<_, _>>()?;
        rows.into_iter().map(Self::from_raw).collect()
    }

    pub(super) fn insert(&self, sql: &Connection) -> Result<(), Refusal> {
        sql.execute(
            "INSERT INTO destructions (id, request, state, reason, plan, plan_leaf, asked) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                self.id.to_string(),
                self.request.to_string(),
                name(self.state)?,
                self.reason,
                self.plan,
                to_db(self.plan_leaf)?,
                self.asked
            ],
        )?;
        Ok(())
    }

    /// Writes back what changes.
    pub(super) fn update(&self, sql: &Connection) -> Result<(), Refusal> {
        sql.execute(
            "UPDATE destructions SET state = ?2, begun_leaf = ?3, rotation = ?4, backup = ?5, certificate = ?6, begun = ?7, ended = ?8
             WHERE id = ?1",
            params![
                self.id.to_string(),
                name(self.state)?,
                self.begun_leaf.map(to_db).transpose()?,
                self.rotation.map(|r| r.to_string()),
                self.backup,
                self.certificate,
                self.begun,
                self.ended
            ],
        )?;
        Ok(())
    }

    /// The plan, if the custody log names it as it stands here.
    pub(super) fn planned(&self, sql: &Connection, log: &LogState) -> Result<DestructionPlan, Refusal> {
        let leaf = log.proven_leaf(sql, self.plan_leaf)?;
        let is_it = leaf.op == op::DESTRUCTION_PLAN
            && leaf.outcome == Outcome::Done
            && leaf.digest.is_some_and(|d| d.0 == digest(&self.plan));
        if !is_it {
            return Err(self.changed(self.plan_leaf));
        }
        serde_json::from_str(&self.plan).map_err(|e| damaged(format!("the plan of destruction {}: {e}", self.id)))
    }

    /// The entry of its beginning, with the approvals: without it nothing is destroyed, whatever the row says.
    pub(super) fn approved(&self, sql: &Connection, log: &LogState) -> Result<Leaf, Refusal> {
        let at = self.begun_leaf.ok_or_else(|| damaged(format!("destruction {} was never begun", self.id)))?;
        let leaf = log.proven_leaf(sql, at)?;
        let is_it = leaf.op == op::DESTRUCTION
            && leaf.outcome == Outcome::Intent
            && !leaf.approvals.is_empty()
            && leaf.reason.as_deref().is_some_and(|r| r.starts_with(&begun_words(self.id, &self.plan)));
        if is_it { Ok(leaf) } else { Err(self.changed(at)) }
    }

    fn changed(&self, leaf: u64) -> Refusal {
        damaged(format!(
            "destruction {} is not the one that custody entry {leaf} names: the catalogue was changed",
            self.id
        ))
    }
}

/// How the reason of the entry of the beginning starts.
pub(super) fn begun_words(batch: Uuid, plan: &str) -> String {
    format!("batch {batch}, plan {}", crate::hex::Hex(digest(plan)))
}
