//! The record of a token's enrolment, and what it proves of a key-encryption key: its token and its mechanism.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::catalogue::{Change, KekRow, LogState, from_db, to_db};
use crate::custody::{Outcome, canonical, op};
use crate::fault::{damaged, internal};
use crate::hex::Hex;
use crate::pkcs11::{PinFrom, TokenReport, WrapMechanism};
use crate::protocol::{Refusal, RefusalCode};

/// Form of the record.
pub(crate) const FORMAT: &str = "sealtape token 1";

/// A key-encryption key from before its token was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adopted {
    pub(crate) kek: Uuid,
    pub(crate) mechanism: WrapMechanism,
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enrolment {
    pub(crate) adopted: Vec<Adopted>,
    pub(crate) format: String,
    pub(crate) id: Uuid,
    pub(crate) module: PathBuf,
    pub(crate) name: String,
    pub(crate) parameters: Option<String>,
    /// None: as the configuration says (the first token), or the file beside the embedded one.
    pub(crate) pin: Option<PinFrom>,
    pub(crate) report: TokenReport,
    pub(crate) time: String,
    pub(crate) uri: String,
}

fn canonical_text(value: &impl Serialize) -> Result<String, Refusal> {
    let value = serde_json::to_value(value).map_err(|e| internal(e.to_string()))?;
    canonical(&value).ok_or_else(|| internal("a record with a number that is no integer"))
}

impl Enrolment {
    pub(crate) fn text(&self) -> Result<String, Refusal> {
        canonical_text(self)
    }

    /// How new key-encryption keys wrap.
    pub(crate) fn mechanism(&self) -> Result<WrapMechanism, Refusal> {
        self.report
            .mechanisms
            .first()
            .copied()
            .ok_or_else(|| damaged(format!("token {} is enrolled without a mechanism", self.name)))
    }

    /// Puts the record, whose digest `leaf` has, into the catalogue.
    pub(crate) fn keep(&self, change: &Change<'_>, leaf: u64) -> Result<(), Refusal> {
        change.sql.execute(
            "INSERT INTO tokens (id, name, record, leaf) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET record = excluded.record, leaf = excluded.leaf",
            params![self.id.to_string(), self.name, self.text()?, to_db(leaf)?],
        )?;
        Ok(())
    }

    /// All of them, the first token's first, each confirmed by its custody entry.
    pub(crate) fn all(sql: &Connection, log: &LogState) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare("SELECT id, record, leaf FROM tokens ORDER BY rowid")?;
        let rows: Vec<(String, String, i64)> =
            query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect::<Result<_, _>>()?;
        rows.into_iter().map(|row| Self::confirmed(sql, log, row)).collect()
    }

    fn find(sql: &Connection, log: &LogState, id: Uuid) -> Result<Option<Self>, Refusal> {
        let mut query = sql.prepare_cached("SELECT id, record, leaf FROM tokens WHERE id = ?1")?;
        let row = query.query_row([id.to_string()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).optional()?;
        row.map(|row| Self::confirmed(sql, log, row)).transpose()
    }

    fn confirmed(sql: &Connection, log: &LogState, row: (String, String, i64)) -> Result<Self, Refusal> {
        let (id, text, leaf) = row;
        let changed = |what: &str| damaged(format!("the enrolment of token {id} {what}: the catalogue was changed"));
        let entry = log.proven_leaf(sql, from_db(leaf)?)?;
        let digest = Hex(<[u8; 32]>::from(Sha256::digest(&text)));
        if entry.op != op::TOKEN_ENROL || entry.outcome != Outcome::Done || entry.digest != Some(digest) {
            return Err(changed(&format!("is not the one that custody entry {leaf} names")));
        }
        let record: Self = serde_json::from_str(&text).map_err(|e| changed(&format!("is malformed ({e})")))?;
        if record.id.to_string() != id || record.format != FORMAT {
            return Err(changed("is another one's"));
        }
        Ok(record)
    }
}

impl KekRow {
    /// Refuses a row whose token, mechanism or canary are not those of the custody log: those of the entry that created it and of
    /// its token's enrolment.
    pub(crate) fn confirm(&self, sql: &Connection, log: &LogState) -> Result<(), Refusal> {
        let entry = log.proven_leaf(sql, self.created_leaf)?;
        self.agrees_with(&entry)?;
        self.state_agrees(sql, &|seq| log.proven_leaf(sql, seq))?;
        let Some(token) = Enrolment::find(sql, log, self.token)? else {
            return Err(Refusal::new(
                RefusalCode::Token,
                format!("the token of key-encryption key {} is not enrolled", self.id),
                "connect it and restart sealtape-keyd, which enrols it",
            ));
        };
        // From before tokens were enrolled: the enrolment names it.
        let adopted = || token.adopted.contains(&Adopted { kek: self.id, mechanism: self.mechanism });
        if token.report.mechanisms.contains(&self.mechanism) && (entry.digest.is_some() || adopted()) {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::TamperedBlob,
            format!(
                "key-encryption key {} has another token or mechanism than at its making: the catalogue was changed",
                self.id
            ),
            "restore the catalogue from a backup, and tell the auditor",
        ))
    }
}
