//! Backups of the catalogue, made while it is in use.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Authority, check_name};
use crate::backup::{FORMAT, Head, Manifest};
use crate::catalogue::{Actor, Catalogue, Change, Entry, from_db, name, named, to_db};
use crate::custody::{base64, op};
use crate::fault::{bad_request, damaged, internal};
use crate::hex::Hex;
use crate::protocol::{BackupReply, BackupRequest, BackupState, BackupView, Refusal};
use crate::time;

/// Bytes in one part.
const PART: u64 = 1 << 20;

pub(super) fn failed(path: &Path) -> impl Fn(std::io::Error) -> Refusal {
    move |e| internal(format!("{}: {e}", path.display()))
}

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_backup(&self, actor: Actor, request: BackupRequest) -> Result<BackupReply, Refusal> {
        match request {
            BackupRequest::Make { place } => Ok(BackupReply::Made(Box::new(self.make_backup(actor, &place)?))),
            BackupRequest::Read { backup, offset } => self.read_backup(backup, offset),
            BackupRequest::Forget { backup } => {
                let path = self.backup_file(backup)?;
                std::fs::remove_file(&path).map_err(failed(&path))?;
                Ok(BackupReply::Done)
            }
            BackupRequest::List => Ok(BackupReply::Backups(self.backups()?)),
            BackupRequest::Destroyed { backup, reason } => self.backup_destroyed(actor, backup, &reason),
        }
    }

    pub(super) fn state_dir(&self) -> Result<PathBuf, Refusal> {
        let catalogue = self.lock();
        let path = catalogue.sql().path().map(Path::new).and_then(Path::parent);
        path.map(Path::to_owned).ok_or_else(|| internal("the catalogue stands in no folder"))
    }

    fn backup_file(&self, backup: Uuid) -> Result<PathBuf, Refusal> {
        Ok(self.state_dir()?.join(format!("backup-{backup}.tmp")))
    }

    /// Copies the catalogue as it is at one moment, checks the copy as a start would, and signs what it is.
    fn make_backup(&self, actor: Actor, place: &str) -> Result<Head, Refusal> {
        self.refusals_logged(
            actor,
            op::BACKUP_MADE,
            |e| e,
            || {
                check_name("place of a backup", place, 300)?;
                self.forget_leftovers()?;
                // What is copied are wrapped keys.
                self.anchors_reach()?;
                let checkpoint = self.checkpoint()?;
                let backup = Uuid::new_v4();
                let path = self.backup_file(backup)?;
                let made = self.copy_and_sign(actor, backup, place, &path, checkpoint.note);
                if made.is_err()
                    && let Err(e) = std::fs::remove_file(&path)
                {
                    tracing::warn!("{}: {e}", path.display());
                }
                made
            },
        )
    }

    fn copy_and_sign(
        &self,
        actor: Actor,
        backup: Uuid,
        place: &str,
        path: &Path,
        checkpoint: String,
    ) -> Result<Head, Refusal> {
        let head = self.draw_up(backup, path, checkpoint)?;
        let size = head.verify(path)?.1.size;
        let leaf = self.lock().change(|c| enter_backup(c, actor, &head, size, place, ""))?;
        self.before_it_leaves(&format!("backup {backup}"), leaf, leaf, |c| {
            c.sql.execute("DELETE FROM backups WHERE id = ?1", [backup.to_string()])?;
            Ok(())
        })?;
        Ok(head)
    }

    /// The copy of the catalogue at `path`, which must not be there yet, and the signed first line of its backup.
    pub(super) fn draw_up(&self, backup: Uuid, path: &Path, checkpoint: String) -> Result<Head, Refusal> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed(path))?;
        let source = self.state_dir()?.join("catalogue.db");
        let signer = self.lock().log().signer.as_ref().clone();
        // A connection of its own: one snapshot, and nobody waits for it.
        let source = Connection::open_with_flags(source, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut copy = Connection::open(path)?;
        rusqlite::backup::Backup::new(&source, &mut copy)?.run_to_completion(
            i32::MAX,
            std::time::Duration::ZERO,
            None,
        )?;
        drop(source);
        let mode: String = copy.query_row("PRAGMA journal_mode = DELETE", [], |r| r.get(0))?;
        let verdict: String = copy.query_row("PRAGMA integrity_check(1)", [], |r| r.get(0))?;
        if verdict != "ok" || mode != "delete" {
            return Err(damaged(format!("the copy of the catalogue is damaged: {verdict}, {mode}")));
        }
        let copy = Catalogue::open(copy, signer.clone())?;
        let sql = copy.sql();
        let version = sql.query_row("PRAGMA user_version", [], |r| r.get(0))?;
        let keks: Vec<String> = sql
            .prepare(
                "SELECT DISTINCT k.id FROM keks k WHERE k.purpose = 'catalogue'
                      AND (k.state = 'active' OR EXISTS
                      (SELECT 1 FROM generations g WHERE g.kek = k.id AND g.key_state NOT LIKE 'destroyed%'))",
            )?
            .query_map([], |r| r.get(0))?
            .collect::<Result<_, _>>()?;
        let catalogue_keks = keks.iter().map(|k| crate::catalogue::uuid(k)).collect::<Result<Vec<_>, _>>()?;
        drop(copy);
        let (bytes, sha256) = hash(path)?;
        let manifest = Manifest {
            format: FORMAT.into(),
            backup,
            origin: signer.key.name().to_owned(),
            log_key: signer.key.to_string(),
            checkpoint,
            catalogue_keks,
            token: self.token().uri().to_string(),
            version,
            created: time::now(),
            bytes,
            sha256,
        };
        let text = manifest.text()?;
        let note = self.sign_text(&signer, &text)?;
        Ok(Head { manifest, note })
    }

    /// Copies that nobody fetched to the end.
    fn forget_leftovers(&self) -> Result<(), Refusal> {
        let dir = self.state_dir()?;
        for entry in std::fs::read_dir(&dir).map_err(failed(&dir))? {
            let path = entry.map_err(failed(&dir))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.starts_with("backup-") && name.ends_with(".tmp") {
                std::fs::remove_file(&path).map_err(failed(&path))?;
            }
        }
        Ok(())
    }

    fn read_backup(&self, backup: Uuid, offset: u64) -> Result<BackupReply, Refusal> {
        self.anchors_allow()?;
        let path = self.backup_file(backup)?;
        let mut file = File::open(&path).map_err(|_| {
            bad_request(format!("the copy of backup {backup} is not here any more"), "make a new backup")
        })?;
        file.seek(SeekFrom::Start(offset)).map_err(failed(&path))?;
        let mut part = Vec::new();
        file.take(PART).read_to_end(&mut part).map_err(failed(&path))?;
        Ok(BackupReply::Part(base64::encode(&part)))
    }

    fn backups(&self) -> Result<Vec<BackupView>, Refusal> {
        let catalogue = self.lock();
        let mut query = catalogue.sql().prepare(
            "SELECT id, place, catalogue_keks, checkpoint_size, sha256, state, created, leaf FROM backups ORDER BY leaf DESC",
        )?;
        let mut rows = query.query([])?;
        let mut backups = Vec::new();
        while let Some(r) = rows.next()? {
            let keks: String = r.get(2)?;
            backups.push(BackupView {
                backup: crate::catalogue::uuid(&r.get::<_, String>(0)?)?,
                place: r.get(1)?,
                catalogue_keks: serde_json::from_str(&keks).map_err(|_| damaged("a backup's keys are malformed"))?,
                checkpoint_size: from_db(r.get(3)?)?,
                sha256: Hex(r.get::<_, Vec<u8>>(4)?.try_into().map_err(|_| damaged("a backup's hash is malformed"))?),
                state: named(r.get(5)?)?,
                created: r.get(6)?,
                entry: from_db(r.get(7)?)?,
            });
        }
        Ok(backups)
    }

    fn backup_destroyed(&self, actor: Actor, backup: Uuid, reason: &str) -> Result<BackupReply, Refusal> {
        self.refusals_logged(
            actor,
            op::BACKUP_STATE,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                self.lock().change(|c| {
                    let changed = c.sql.execute(
                        "UPDATE backups SET state = ?2 WHERE id = ?1 AND state = 'exists'",
                        params![backup.to_string(), name(BackupState::ReportedDestroyed)?],
                    )?;
                    if changed != 1 {
                        let what = format!("there is no backup {backup} that exists");
                        return Err(bad_request(what, "see: sealtape catalogue backups"));
                    }
                    let words = format!("backup {backup} does not exist any more: {reason}");
                    c.record(Entry::done(actor, op::BACKUP_STATE).reason(words))?;
                    Ok(BackupReply::Done)
                })
            },
        )
    }
}

/// Enters a backup into the custody log and the catalogue; `occasion` is what it was made for, in words.
pub(super) fn enter_backup(
    c: &mut Change<'_>,
    actor: Actor,
    head: &Head,
    size: u64,
    place: &str,
    occasion: &str,
) -> Result<u64, Refusal> {
    let manifest = &head.manifest;
    let words = format!("backup {} of {size} leaves{occasion}: {place}", manifest.backup);
    let leaf = c.record(Entry::done(actor, op::BACKUP_MADE).digest(manifest.digest()?).reason(words))?;
    let keks = serde_json::to_string(&manifest.catalogue_keks).map_err(|e| internal(e.to_string()))?;
    c.sql.execute(
        "INSERT INTO backups (id, place, catalogue_keks, checkpoint_size, sha256, state, created, leaf)
         VALUES (?1, ?2, ?3, ?4, ?5, 'exists', ?6, ?7)",
        params![
            manifest.backup.to_string(),
            place,
            keks,
            to_db(size)?,
            manifest.sha256.0,
            manifest.created,
            to_db(leaf)?
        ],
    )?;
    Ok(leaf)
}

fn hash(path: &Path) -> Result<(u64, Hex<32>), Refusal> {
    let mut file = File::open(path).map_err(failed(path))?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).map_err(failed(path))?;
        if length == 0 {
            return Ok((bytes, Hex(hash.finalize().into())));
        }
        hash.update(buffer.get(..length).unwrap_or_default());
        bytes += length as u64;
    }
}
