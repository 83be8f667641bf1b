//! Rows of dual control: changes of rights, requests, approvals.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::convert::{from_db, to_db, uuid};
use crate::protocol::Refusal;

/// Sequence numbers of all leaves that change rights or spend a request, in order.
pub(crate) fn dual_leaves(sql: &Connection) -> Result<Vec<u64>, Refusal> {
    // The index by name: should it be gone or another one, the query fails instead of finding less.
    let mut query = sql.prepare(
        "SELECT seq FROM custody_leaves INDEXED BY dual_leaves
         WHERE json_extract(leaf, '$.outcome') = 'done' AND json_extract(leaf, '$.op') IN
         ('custodian.add', 'custodian.remove', 'custodian.keys', 'role.grant', 'role.revoke', 'approval.execute', 'approval.withdraw')
         ORDER BY seq",
    )?;
    let seqs: Vec<i64> = query.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
    seqs.into_iter().map(from_db).collect()
}

/// A change of rights; what it says is proven by its leaf.
#[derive(Debug)]
pub(crate) struct RightsRow {
    pub(crate) record: String,
    /// Text of the request that was carried out.
    pub(crate) request: Option<String>,
}

impl RightsRow {
    pub(crate) fn find(sql: &Connection, leaf: u64) -> Result<Option<Self>, Refusal> {
        let query = "SELECT record, (SELECT text FROM requests WHERE id = rights.request) FROM rights WHERE leaf = ?1";
        let row = |r: &rusqlite::Row<'_>| Ok(Self { record: r.get(0)?, request: r.get(1)? });
        Ok(sql.prepare_cached(query)?.query_row([to_db(leaf)?], row).optional()?)
    }

    pub(crate) fn count(sql: &Connection) -> Result<usize, Refusal> {
        let count: u32 = sql.query_row("SELECT count(*) FROM rights", [], |r| r.get(0))?;
        Ok(count as usize)
    }

    pub(crate) fn insert(sql: &Connection, leaf: u64, record: &str, request: Option<Uuid>) -> Result<(), Refusal> {
        let values = params![to_db(leaf)?, record, request.map(|r| r.to_string())];
        sql.execute("INSERT INTO rights (leaf, record, request) VALUES (?1, ?2, ?3)", values)?;
        Ok(())
    }
}

/// A request under dual control.
#[derive(Debug, Clone)]
pub(crate) struct RequestRow {
    pub(crate) id: Uuid,
    pub(crate) text: String,
    /// `pending`, `executed`, `withdrawn`: for lists; what decides is in the log.
    pub(crate) state: String,
    pub(crate) leaf: u64,
}

const REQUEST: &str = "SELECT id, text, state, leaf FROM requests";

impl RequestRow {
    fn many(sql: &Connection, rest: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare_cached(&format!("{REQUEST} {rest}"))?;
        let raws: Vec<(String, String, String, i64)> =
            query.query_map(values, |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?.collect::<Result<_, _>>()?;
        let row = |(id, text, state, leaf): (String, String, String, i64)| {
            Ok(Self { id: uuid(&id)?, text, state, leaf: from_db(leaf)? })
        };
        raws.into_iter().map(row).collect()
    }

    pub(crate) fn find(sql: &Connection, id: Uuid) -> Result<Option<Self>, Refusal> {
        let row = |r: &rusqlite::Row<'_>| Ok((r.get(1)?, r.get(2)?, r.get::<_, i64>(3)?));
        let found: Option<(String, String, i64)> =
            sql.prepare_cached(&format!("{REQUEST} WHERE id = ?1"))?.query_row([id.to_string()], row).optional()?;
        found.map(|(text, state, leaf)| Ok(Self { id, text, state, leaf: from_db(leaf)? })).transpose()
    }

    /// Those that can still be carried out at `now`, newest first.
    pub(crate) fn pending(sql: &Connection, now: &str) -> Result<Vec<Self>, Refusal> {
        Self::many(sql, "WHERE state = 'pending' AND expires >= ?1 ORDER BY created DESC, id", &[&now])
    }

    /// The newest ones, whatever their state.
    pub(crate) fn newest(sql: &Connection) -> Result<Vec<Self>, Refusal> {
        Self::many(sql, "ORDER BY created DESC, id LIMIT 100", &[])
    }

    pub(crate) fn insert(&self, sql: &Connection, created: &str, expires: &str) -> Result<(), Refusal> {
        sql.execute(
            "INSERT INTO requests (id, text, state, created, expires, leaf) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![self.id.to_string(), self.text, self.state, created, expires, to_db(self.leaf)?],
        )?;
        Ok(())
    }

    pub(crate) fn set_state(sql: &Connection, id: Uuid, state: &str) -> Result<(), Refusal> {
        sql.execute("UPDATE requests SET state = ?2 WHERE id = ?1", params![id.to_string(), state])?;
        Ok(())
    }
}

/// A signature as it was handed in. It proves itself.
#[derive(Debug, Clone)]
pub(crate) struct ApprovalRow {
    pub(crate) person: String,
    pub(crate) key: String,
    pub(crate) signature: String,
    pub(crate) added: String,
}

impl ApprovalRow {
    pub(crate) fn of_request(sql: &Connection, request: Uuid) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare_cached(
            "SELECT person, key, signature, added FROM approvals WHERE request = ?1 ORDER BY added, person LIMIT 100",
        )?;
        let row = |r: &rusqlite::Row<'_>| {
            Ok(Self { person: r.get(0)?, key: r.get(1)?, signature: r.get(2)?, added: r.get(3)? })
        };
        Ok(query.query_map([request.to_string()], row)?.collect::<Result<_, _>>()?)
    }

    pub(crate) fn insert(&self, sql: &Connection, request: Uuid) -> Result<(), Refusal> {
        sql.execute(
            "INSERT INTO approvals (request, person, key, signature, added) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![request.to_string(), self.person, self.key, self.signature, self.added],
        )?;
        Ok(())
    }
}
