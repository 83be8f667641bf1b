//! Tables of the catalogue. Each migration is applied once, in order; `user_version` is how many were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
    include_str!("migrations/10-states.sql"),
    include_str!("migrations/11-tenants.sql"),
];

/// Sets the connection up, brings the tables to this version, and checks a small catalogue's integrity.
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
    // A large catalogue is checked in the background, after the start.
    if is_small(connection)? { check(connection) } else { Ok(()) }
}

/// Below this many custody entries everything is checked before the start.
const SMALL: u64 = 20_000;

/// Whether everything can be checked before the start without anybody waiting for it.
pub(super) fn is_small(connection: &Connection) -> Result<bool, Refusal> {
    Ok(super::log::stored_size(connection)? < SMALL)
}

/// [`check`] for the background: rests every hundred thousand steps of SQLite, and ends when `stop` is set. True if everything was
/// checked.
pub(crate) fn check_database(
    connection: &mut Connection,
    rest: Duration,
    stop: &Arc<AtomicBool>,
) -> Result<bool, Refusal> {
    let ended = Arc::clone(stop);
    let pause = move || {
        std::thread::sleep(rest);
        ended.load(Ordering::Acquire)
    };
    connection.progress_handler(100_000, Some(pause))?;
    let checked = check(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match checked {
        Err(_) if stop.load(Ordering::Acquire) => Ok(false),
        other => other.map(|()| true),
    }
}

/// SQLite's own checks of the whole file.
pub(super) fn check(connection: &Connection) -> Result<(), Refusal> {
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
