//! Further wrapped copies of data keys: destruction has to name them all.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::convert::to_db;
use crate::hex::Hex;
use crate::protocol::Refusal;
use crate::time;

/// A wrapped copy of a data key outside its generation's row.
pub(crate) struct Copy {
    /// `medium`, `recovery`, `recovery_medium` or `export`.
    pub(crate) kind: &'static str,
    /// What opens it: a key-encryption key, a recovery key, a package.
    pub(crate) holder: Uuid,
    /// In words: where it stands.
    pub(crate) place: String,
    /// `exists`, or `unknown` while it is not known whether it came into being.
    pub(crate) state: &'static str,
    pub(crate) sha256: Hex<32>,
    /// The custody entry that names it.
    pub(crate) leaf: u64,
}

impl Copy {
    pub(crate) fn insert(&self, sql: &Connection, key: Uuid) -> Result<(), Refusal> {
        let insert = "INSERT INTO copies (key_id, kind, holder, place, state, sha256, created, leaf)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        sql.prepare_cached(insert)?.execute(params![
            key.to_string(),
            self.kind,
            self.holder.to_string(),
            self.place,
            self.state,
            self.sha256.0,
            time::now(),
            to_db(self.leaf)?
        ])?;
        Ok(())
    }
}
