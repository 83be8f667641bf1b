//! The backup of the catalogue that a destruction makes: every earlier one opens nothing any more once the old key-encryption keys
//! are gone.
//!
//! It is made before they go, so that there is no moment without a backup that opens. It can stand nowhere but in the folder that the
//! configuration names: what operators make themselves goes where they say, in words. A folder that cannot be written does not stop a
//! destruction: that is entered, the certificate says it, and the backup is tried again until there is one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::Authority;
use super::super::backup::enter_backup;
use super::journal::BatchRow;
use crate::backup::Head;
use crate::catalogue::{Actor, Entry, LogState, from_db, to_db};
use crate::custody::{Outcome, op};
use crate::fault::{damaged, internal};
use crate::protocol::{BackupLacking, BatchState, Refusal, RefusalCode};

/// How often a backup that is owed is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// What is kept in memory of a backup that is owed.
#[derive(Debug, Default)]
pub(in super::super) struct Owed {
    /// The first time at once, so that a start tries it.
    due: Option<Instant>,
    trouble: Option<String>,
}

/// A backup that stands in its folder and is not entered yet.
struct Written {
    head: Head,
    size: u64,
    place: String,
}

/// What one attempt came to. The token and the catalogue themselves failing is neither: then nothing can go on.
enum Attempt {
    Written(Box<Written>),
    Failed(String),
}

impl Authority {
    /// Makes the backup, and goes on whether that can be done or not.
    pub(super) fn backup_step(&self, mut row: BatchRow) -> Result<bool, Refusal> {
        row.state = BatchState::Keks;
        let Some(folder) = self.backup_folder.as_deref() else {
            self.lock().progress(|sql| row.update(sql))?;
            return Ok(true);
        };
        match self.attempt(folder, &row)? {
            Attempt::Written(written) => self.lock().change(|c| {
                written.enter(c, &row)?;
                row.update(&c.sql)
            })?,
            Attempt::Failed(why) => {
                tracing::error!("destruction {}: no backup of the catalogue could be made: {why}", row.id);
                self.lock().change(|c| {
                    let words = format!("batch {}, tried again: {why}", row.id);
                    c.record(Entry::new(Actor::Service, op::BACKUP_MADE, Outcome::Failed).reason(words))?;
                    row.backup = Some(why.clone());
                    row.update(&c.sql)
                })?;
                self.work.owed().failed(why);
            }
        }
        Ok(true)
    }

    /// Before the certificate is made: the folder may be there again.
    pub(super) fn backup_before_certificate(&self, row: &BatchRow) -> Result<(), Refusal> {
        let missing = {
            let catalogue = self.lock();
            made_since(catalogue.sql(), catalogue.log(), row)?.is_none()
        };
        if missing { self.make_owed(row).map(|_| ()) } else { Ok(()) }
    }

    /// A backup that is owed since a destruction that is done; false when there is none, it is not its time, or it failed again.
    pub(in super::super) fn backup_again(&self) -> Result<bool, Refusal> {
        let now = Instant::now();
        if self.backup_folder.is_none() || self.work.owed().due.is_some_and(|due| now < due) {
            return Ok(false);
        }
        self.work.owed().due = Some(now + AGAIN);
        let owed = {
            let catalogue = self.lock();
            owed(catalogue.sql(), catalogue.log())?
        };
        match owed {
            Some(row) => self.make_owed(&row),
            None => Ok(false),
        }
    }

    fn make_owed(&self, row: &BatchRow) -> Result<bool, Refusal> {
        let Some(folder) = self.backup_folder.as_deref() else { return Ok(false) };
        match self.attempt(folder, row)? {
            Attempt::Written(written) => {
                self.lock().change(|c| written.enter(c, row))?;
                tracing::info!("destruction {}: the backup of the catalogue is made: {}", row.id, written.place);
                self.work.owed().trouble = None;
                Ok(true)
            }
            Attempt::Failed(why) => {
                tracing::error!("destruction {}: there is still no backup of the catalogue: {why}", row.id);
                self.work.owed().failed(why);
                Ok(false)
            }
        }
    }

    /// Whether every backup is closed since a destruction, and why there is no new one.
    pub(in super::super) fn backup_lacking(&self) -> Result<Option<BackupLacking>, Refusal> {
        let row = {
            let catalogue = self.lock();
            owed(catalogue.sql(), catalogue.log())?
        };
        let Some(row) = row else { return Ok(None) };
        let trouble = self.work.owed().trouble.clone().or(row.backup);
        Ok(Some(BackupLacking {
            batch: row.id,
            folder: self.backup_folder.as_ref().map(|folder| folder.display().to_string()),
            trouble,
        }))
    }

    /// Writes the backup's file, whole and synchronised, under its final name.
    fn attempt(&self, folder: &Path, row: &BatchRow) -> Result<Attempt, Refusal> {
        // Wrapped keys leave with it. The file comes before its entry, so that an interrupted attempt is repeated into the same one.
        if let Err(refusal) = self.anchors_reach() {
            return Ok(Attempt::Failed(refusal.what));
        }
        let id = self.backup_id(row.id)?;
        let checkpoint = self.checkpoint()?;
        let copy = self.state_dir()?.join(format!("destruction-{}.tmp", row.id));
        forget(&copy).map_err(|e| internal(format!("{}: {e}", copy.display())))?;
        let name = format!("sealtape-catalogue-{id}.backup");
        let attempt = match look_into(folder) {
            Err(why) => Ok(Attempt::Failed(why)),
            Ok(()) => self.draw_up(id, &copy, checkpoint.note).and_then(|head| {
                let size = head.verify(&copy)?.1.size;
                let place = folder.join(&name).display().to_string();
                Ok(match write_file(folder, &name, &head, &copy) {
                    Ok(()) => Attempt::Written(Box::new(Written { head, size, place })),
                    Err(e) => Attempt::Failed(format!("{place}: {e}")),
                })
            }),
        };
        if let Err(e) = forget(&copy) {
            tracing::warn!("{}: {e}", copy.display());
        }
        match attempt {
            // No room for the copy beside the catalogue, which is in order itself.
            Err(e) if matches!(e.code, RefusalCode::LogUnwritable | RefusalCode::Internal) => {
                Ok(Attempt::Failed(format!("{}: {}", copy.display(), e.what)))
            }
            other => other,
        }
    }

    /// The name of the next backup of a batch. It follows from what stands in the catalogue, so that an attempt that was interrupted
    /// before its entry is repeated into the same file, and one of another machine, restored from this one, is not.
    fn backup_id(&self, batch: Uuid) -> Result<Uuid, Refusal> {
        let count: i64 = self.lock().sql().query_row("SELECT count(*) FROM backups", [], |r| r.get(0))?;
        let key = self.log_key();
        let digest = Sha256::digest(format!("sealtape backup of destruction 1\n{}\n{batch}\n{count}\n", key.name()));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Ok(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

impl Owed {
    fn failed(&mut self, why: String) {
        (self.due, self.trouble) = (Some(Instant::now() + AGAIN), Some(why));
    }
}

impl Written {
    fn enter(&self, c: &mut crate::catalogue::Change<'_>, row: &BatchRow) -> Result<(), Refusal> {
        let occasion = format!(", after destruction {}", row.id);
        enter_backup(c, Actor::Service, &self.head, self.size, &self.place, &occasion).map(|_| ())
    }
}

/// The last destruction whose key-encryption keys go or are gone, if no backup since opens.
fn owed(sql: &Connection, log: &LogState) -> Result<Option<BatchRow>, Refusal> {
    let Some(row) = BatchRow::last_begun(sql)? else { return Ok(None) };
    if matches!(row.state, BatchState::Asked | BatchState::Rewrapping | BatchState::Backup) {
        return Ok(None);
    }
    Ok(made_since(sql, log, &row)?.is_none().then_some(row))
}

/// The newest backup made since a destruction began that opens wholly, in the words of its custody entry.
pub(super) fn made_since(sql: &Connection, log: &LogState, row: &BatchRow) -> Result<Option<String>, Refusal> {
    let begun = row.begun_leaf.ok_or_else(|| damaged(format!("destruction {} was never begun", row.id)))?;
    let query = "SELECT id, leaf FROM backups b WHERE leaf > ?1 AND state = 'exists' AND NOT EXISTS
                 (SELECT 1 FROM json_each(b.catalogue_keks) j JOIN keks k ON k.id = j.value WHERE k.state LIKE 'destroyed%')
                 ORDER BY leaf DESC LIMIT 1";
    let found: Option<(String, i64)> =
        sql.query_row(query, [to_db(begun)?], |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
    let Some((id, leaf)) = found else { return Ok(None) };
    let leaf = log.proven_leaf(sql, from_db(leaf)?)?;
    let words = leaf.reason.filter(|words| words.starts_with(&format!("backup {id} ")));
    if leaf.op != op::BACKUP_MADE || leaf.outcome != Outcome::Done || words.is_none() {
        return Err(damaged(format!("backup {id} is not the one that custody entry {} names", leaf.seq)));
    }
    Ok(words)
}

/// The folder has to be there: an empty mount point is not made into one.
fn look_into(folder: &Path) -> Result<(), String> {
    match std::fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(format!("{} is no folder", folder.display())),
        Err(e) => Err(format!("{}: {e}", folder.display())),
    }
}

/// Removes a copy and what SQLite may have left beside it: a journal of an interrupted copy would be played back into the next.
fn forget(copy: &Path) -> io::Result<()> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut name = copy.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(PathBuf::from(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Under another name first: what bears the final name is whole. A file of that name is from an attempt that was interrupted before
/// it was entered.
fn write_file(folder: &Path, name: &str, head: &Head, copy: &Path) -> io::Result<()> {
    let part = folder.join(format!(".{name}.part"));
    match std::fs::remove_file(&part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let mut fill = || -> io::Result<()> {
        let mut line = serde_json::to_vec(head).map_err(io::Error::other)?;
        line.push(b'\n');
        file.write_all(&line)?;
        io::copy(&mut File::open(copy)?, &mut file)?;
        file.sync_all()?;
        std::fs::rename(&part, folder.join(name))?;
        File::open(folder)?.sync_all()
    };
    fill().inspect_err(|_| {
        if let Err(e) = std::fs::remove_file(&part)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {e}", part.display());
        }
    })
}
