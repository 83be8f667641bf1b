//! Tables of the catalogue. Each migration is applied once, in order; `user_version` is how many were.

use rusqlite::Connection;

use crate::fault::damaged;
use crate::protocol::{Refusal, RefusalCode};

const MIGRATIONS: &[&str] = &[
    include_str!("migrations/1-first.sql"),
    include_str!("migrations/2-cartridges.sql"),
    include_str!("migrations/3-copies.sql"),
    include_str!("migrations/4-dual-control.sql"),
    include_str!("migrations/5-key-life.sql"),
    include_str!("migrations/6-recovery-exchange.sql"),
    include_str!("migrations/7-custody.sql"),
    include_str!("migrations/8-tokens.sql"),
    include_str!("migrations/9-destruction.sql"),
];

/// Sets the connection up, brings the tables to this version, and checks their integrity.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), Refusal> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(damaged(format!("the catalogue cannot be kept in WAL mode (it is in mode {mode})")));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON;
         PRAGMA cell_size_check = ON;",
    )?;
    let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
    let Some(missing) = MIGRATIONS.get(version..) else {
        return Err(Refusal::new(
            RefusalCode::Damaged,
            format!("the catalogue has version {version}, this program knows {}", MIGRATIONS.len()),
            "use the newer sealtape-keyd that made it",
        ));
    };
    for (done, migration) in missing.iter().enumerate() {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", u32::try_from(version + done + 1).unwrap_or(u32::MAX))?;
        transaction.commit()?;
    }
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(damaged(format!("the catalogue is damaged: {verdict}")));
    }
    let mut check = connection.prepare("PRAGMA foreign_key_check")?;
    if check.exists([])? {
        return Err(damaged("the catalogue is damaged: rows refer to others that are missing"));
    }
    Ok(())
}
