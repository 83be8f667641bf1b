//! Restoring the catalogue from a backup, with the token, into a new folder.
//!
//! The log goes on as a tree, under a new origin: what was done behind the backup is lost with the old machine, and a log under the old
//! origin that forked there would contradict what witnesses have seen. The first leaf under the new origin names it and has the
//! hash of the last checkpoint under the old one. Numbers of generations and ordinals of sessions leave a gap, so that none that the
//! lost catalogue gave is ever given again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::authority::{Actor, Authority, AuthorityOptions};
use crate::backup::{copy_database, read_head};
use crate::catalogue::{Catalogue, Entry, KekRow, LogSigner, full_lines, log_signer, meta, named, set_meta};
use crate::custody::{ExportHeader, FORMAT, Scope, VerifierKey, op, verify_export};
use crate::fault::internal;
use crate::hex::Hex;
use crate::home::Home;
use crate::pkcs11::{SignAlgorithm, Token, TokenError, Uri, WrapWith};
use crate::protocol::{CheckpointView, Refusal, RefusalCode};

/// How many numbers are left out, per restore, for each partition.
pub const GAP: u32 = 1 << 20;

/// Where the token is.
#[derive(Debug, Clone)]
pub enum RestoreToken {
    /// Where the backup says; an embedded token's files have to stand in the folder already.
    AsBefore,
    /// The embedded token of another state folder: its files are copied.
    CopiedFrom(PathBuf),
    /// A token elsewhere.
    External {
        /// The module.
        module: PathBuf,
        /// The token.
        uri: Box<Uri>,
    },
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The backup.
    pub backup: Uuid,
    /// When it was made.
    pub made: String,
    /// Origin of the log until then.
    pub former_origin: String,
    /// Its entries in the backup.
    pub former_size: u64,
    /// Its export, which the former key verifies.
    pub former_log: PathBuf,
    /// Origin of the log from now on.
    pub origin: String,
    /// The key that verifies exports from now on.
    pub log_key: String,
    /// The first checkpoint.
    pub checkpoint: CheckpointView,
    /// Key-encryption keys of the catalogue that are not in the token: what they wrap does not open here.
    pub missing_keks: Vec<Uuid>,
}

const TOKEN_FILES: [&str; 5] = ["tokens", "user.pin", "so.pin", "softhsm2.conf", "keyd.lock"];

fn failed(path: &Path) -> impl Fn(io::Error) -> Refusal {
    move |e| Refusal::new(RefusalCode::LogUnwritable, format!("{}: {e}", path.display()), "mend it, and try again")
}

/// Makes the folder, or checks that nothing but a token stands in it.
fn prepare(home: &Home) -> Result<(), Refusal> {
    let dir = home.dir();
    match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))
        }
        Err(e) => Err(failed(dir)(e)),
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(failed(dir))?.file_name();
                if !TOKEN_FILES.iter().any(|f| name == *f) {
                    return Err(Refusal::new(
                        RefusalCode::BadRequest,
                        format!("{} is not empty (it holds {})", dir.display(), name.display()),
                        "name a new or empty folder, or one with the embedded token's files alone",
                    ));
                }
            }
            Ok(())
        }
    }
}

fn copy_token(from: &Path, home: &Home) -> Result<(), Refusal> {
    fn copy(from: &Path, to: &Path) -> Result<(), Refusal> {
        if from.is_dir() {
            DirBuilder::new().mode(0o700).create(to).map_err(failed(to))?;
            for entry in std::fs::read_dir(from).map_err(failed(from))? {
                let entry = entry.map_err(failed(from))?;
                copy(&entry.path(), &to.join(entry.file_name()))?;
            }
            return Ok(());
        }
        let mut source = File::open(from).map_err(failed(from))?;
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed(to))?;
        io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).map_err(failed(to))
    }
    for name in ["tokens", "user.pin", "so.pin"] {
        copy(&from.join(name), &home.dir().join(name))?;
    }
    Ok(())
}

/// Restores the catalogue in `backup` into the folder of `home`.
///
/// # Errors
/// When the backup is not whole, the token is not the one it needs, or the folder cannot be written. Then the folder is not usable;
/// remove what was made.
pub fn restore_home(
    home: &Home,
    backup: &Path,
    token: &RestoreToken,
    options: AuthorityOptions,
) -> Result<RestoreReport, Refusal> {
    let (head, mut database) = read_head(backup)?;
    let (old_key, checkpoint) = head.verify(backup)?;
    let manifest = &head.manifest;
    prepare(home)?;
    if let RestoreToken::CopiedFrom(from) = token {
        copy_token(from, home)?;
    }
    let lock = home.lock()?;
    let path = home.catalogue();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed(&path))?;
    let prepared = copy_database(backup, manifest, &mut database, &mut file)
        .and_then(|()| begin(home, &old_key, token, &options, manifest.backup));
    let (sql, missing_keks) = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => {
            // Nothing was changed: a second try needs no cleaning up.
            for name in ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm"] {
                let path = home.dir().join(name);
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => tracing::warn!("{}: {e}", path.display()),
                    _ => {}
                }
            }
            return Err(refusal);
        }
    };
    let former_log = export_former(home, &sql, &old_key, checkpoint.size)?;
    let origin = format!("sealtape/{}", Uuid::new_v4());
    let new_key = old_key.renamed(&origin).map_err(|e| internal(e.to_string()))?;
    turn_over(sql, &old_key, &new_key).and_then(|sql| {
        let authority = Authority::assemble(home, options, sql, lock)?;
        let actor = Actor::User(nix::unistd::getuid().as_raw());
        authority.lock().change(|c| {
            let cited = Sha256::digest(&manifest.checkpoint).into();
            c.record(Entry::done(actor, op::LOG_OPEN).digest(cited).reason(&origin))?;
            let words = format!(
                "backup {} of {}, made on {}; last known checkpoint of {}: {} leaves, root {}",
                manifest.backup,
                manifest.origin,
                manifest.created,
                manifest.origin,
                checkpoint.size,
                Hex(checkpoint.root)
            );
            c.record(Entry::done(actor, op::BACKUP_RESTORED).digest(manifest.digest()?).reason(words))?;
            Ok(())
        })?;
        let first = authority.checkpoint()?;
        authority.lock().progress(|sql| set_meta(sql, "initialised", &crate::time::now()))?;
        let path = home.log_key_file();
        let write = || -> io::Result<()> {
            let mut file = File::create_new(&path)?;
            writeln!(file, "{new_key}")?;
            file.sync_all()?;
            File::open(home.dir())?.sync_all()
        };
        write().map_err(failed(&path))?;
        Ok(RestoreReport {
            backup: manifest.backup,
            made: manifest.created.clone(),
            former_origin: manifest.origin.clone(),
            former_size: checkpoint.size,
            former_log,
            origin: origin.clone(),
            log_key: new_key.to_string(),
            checkpoint: first,
            missing_keks,
        })
    })
}

/// Opens the copy, and shows by the token that it is this installation's, and of now.
fn begin(
    home: &Home,
    old_key: &VerifierKey,
    token: &RestoreToken,
    options: &AuthorityOptions,
    backup: Uuid,
) -> Result<(Connection, Vec<Uuid>), Refusal> {
    let sql = Catalogue::connect(&home.catalogue())?;
    if meta(&sql, "log_key")? != old_key.to_string() {
        return Err(Refusal::new(
            RefusalCode::Damaged,
            format!("the catalogue in backup {backup} has another key than its manifest"),
            "take another backup, and tell the auditor",
        ));
    }
    match token {
        RestoreToken::External { module, uri } => {
            set_meta(&sql, "token", "external")?;
            set_meta(&sql, "module", &module.display().to_string())?;
            set_meta(&sql, "token_uri", &uri.to_string())?;
        }
        RestoreToken::AsBefore | RestoreToken::CopiedFrom(_) => {
            if meta(&sql, "token")? == "embedded" && !home.dir().join("tokens").is_dir() {
                return Err(Refusal::new(
                    RefusalCode::TokenMissing,
                    format!("backup {backup} needs the embedded token of its installation, which is not here"),
                    "name the old state folder with --token-from, or the token with --module and --token",
                ));
            }
        }
    }
    let in_token = Token::new(home.token_config(&sql, options.clone())?);
    let missing = check_keks(&sql, &in_token, old_key, backup)?;
    check_signing(&sql, &in_token, old_key, backup)?;
    Ok((sql, missing))
}

fn check_keks(sql: &Connection, token: &Token, old_key: &VerifierKey, backup: Uuid) -> Result<Vec<Uuid>, Refusal> {
    let keks: Vec<(String, String)> = sql
        .prepare("SELECT id, purpose FROM keks WHERE state NOT IN ('destroyed', 'destroyed_compromised')")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let tenants: Vec<(i64, String)> = sql
        .prepare("SELECT id, name FROM tenants ORDER BY id")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut missing = Vec::new();
    for (id, _) in keks {
        let kek = KekRow::find(sql, crate::catalogue::uuid(&id)?)?;
        let with = WrapWith { kek: kek.id, mechanism: kek.mechanism, aad: crate::authority::canary_aad(kek.id) };
        let opened = token.check_kek(kek.id, kek.mechanism).and_then(|()| token.unwrap(&with, &kek.canary));
        match opened {
            Ok(canary) if <[u8; 32]>::from(Sha256::digest(canary.expose())) == kek.canary_sha256 => {}
            Err(e) if !matches!(e, TokenError::KeyNotFound { .. }) => return Err(e.into()),
            Ok(_) | Err(_) => missing.push(kek.id),
        }
    }
    for (id, name) in tenants {
        let kek = KekRow::newest_of_tenant(sql, id)?.id;
        if !missing.contains(&kek) {
            continue;
        }
        let what = match check_signing(sql, token, old_key, backup) {
            Ok(()) => format!(
                "the key-encryption key {kek} of tenant {name:?} in backup {backup} is not in the token any more: it was replaced, and destroyed with a batch of keys, after this backup was made"
            ),
            Err(_) => format!(
                "backup {backup} is of {}, and the token holds none of its keys: it is a backup of another installation, or the wrong token",
                old_key.name()
            ),
        };
        return Err(Refusal::new(
            RefusalCode::KekMissing,
            what,
            "take a backup that was made later, or the right token",
        ));
    }
    Ok(missing)
}

fn check_signing(sql: &Connection, token: &Token, old_key: &VerifierKey, backup: Uuid) -> Result<(), Refusal> {
    let id: Uuid = meta(sql, "signing_key")?.parse().map_err(|_| internal("the signing key's id is malformed"))?;
    let algorithm: SignAlgorithm = named(meta(sql, "signing_algorithm")?)?;
    let text = format!("sealtape restore 1\nbackup {backup}\n");
    let note = old_key.note(&text, &token.sign(id, algorithm, text.as_bytes())?);
    match old_key.open_text(&note) {
        Ok(_) => Ok(()),
        Err(e) => Err(Refusal::new(
            RefusalCode::KekMissing,
            format!("the token does not hold the signing key of {}: {e}", old_key.name()),
            "take the token of the installation that made the backup",
        )),
    }
}

/// The log until the backup, as an export that the former key verifies.
fn export_former(home: &Home, sql: &Connection, key: &VerifierKey, size: u64) -> Result<PathBuf, Refusal> {
    let name = key.name().rsplit('/').next().unwrap_or_default().to_owned();
    let path = home.dir().join(format!("custody-{name}.jsonl"));
    let header = ExportHeader {
        filter: None,
        format: FORMAT.into(),
        keys: log_signer(sql)?.keys().map(VerifierKey::to_string).collect(),
        origin: key.name().to_owned(),
        scope: Scope::Full,
        size,
        tenant: None,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed(&path))?;
    let mut write = |text: &str| file.write_all(text.as_bytes()).map_err(failed(&path));
    write(&format!("{}\n", serde_json::to_string(&header).map_err(|e| internal(e.to_string()))?))?;
    let mut first = 0;
    while first < size {
        let last = size.min(first + 500);
        for line in full_lines(sql, first, last)? {
            write(&format!("{line}\n"))?;
        }
        first = last;
    }
    file.sync_all().map_err(failed(&path))?;
    let mut again = std::io::BufReader::new(File::open(&path).map_err(failed(&path))?);
    verify_export(&mut again, key)
        .map_err(|e| crate::fault::damaged(format!("the custody log in the backup does not verify: {e}")))?;
    Ok(path)
}

/// New origin, old checkpoints put aside, and the gap.
fn turn_over(mut sql: Connection, old_key: &VerifierKey, new_key: &VerifierKey) -> Result<Connection, Refusal> {
    let transaction = sql.transaction()?;
    transaction.execute(
        "INSERT INTO former_checkpoints (origin, size, note, created)
         SELECT ?1, size, note, created FROM custody_checkpoints",
        [old_key.name()],
    )?;
    transaction.execute("DELETE FROM custody_checkpoints", [])?;
    // Keys from before are those of the former log; their changes stay in its entries.
    transaction.execute("DELETE FROM log_keys", [])?;
    transaction.execute("DELETE FROM tickets", [])?;
    transaction.execute("DELETE FROM meta WHERE key = 'initialised'", [])?;
    transaction.execute(
        "UPDATE partitions SET next_generation = next_generation + ?1, next_ordinal = next_ordinal + ?1",
        params![GAP],
    )?;
    set_meta(&transaction, "log_key", &new_key.to_string())?;
    transaction.commit()?;
    Ok(sql)
}

/// The origins that this log has had: the present one, and those of the checkpoints from before a restore, which are by one of the
/// keys that the log has had since.
pub(crate) fn origins(sql: &Connection, signer: &LogSigner) -> Result<Vec<String>, Refusal> {
    // Of each origin the newest: a key that was replaced before the restore may have signed older ones.
    let mut query = sql.prepare("SELECT origin, note, max(size) FROM former_checkpoints GROUP BY origin")?;
    let notes: Vec<(String, String)> =
        query.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut origins = vec![signer.key.name().to_owned()];
    for (origin, note) in notes {
        let opens = |key: &VerifierKey| key.renamed(&origin).is_ok_and(|key| key.open(&note).is_ok());
        if !signer.keys().any(opens) {
            let what = format!("a checkpoint from before a restore, of {origin}, is by none of the log's keys");
            return Err(crate::fault::damaged(what));
        }
        origins.push(origin);
    }
    Ok(origins)
}
