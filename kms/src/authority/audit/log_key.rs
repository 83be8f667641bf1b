//! Changing the key that signs the log: a new one is made in the token, the old and the new sign the change, and the entry that
//! holds both signatures brings the new one in.

use std::io::{self, Write};
use std::path::Path;
use std::sync::PoisonError;

use uuid::Uuid;

use super::super::{Authority, check_name, close_intent, open_intent};
use crate::catalogue::{Actor, Entry, LogSigner, name, set_meta, to_db};
use crate::custody::{KeyChange, Outcome, VerifierKey, op};
use crate::fault::{damaged, internal};
use crate::home::{Home, log_key};
use crate::protocol::{Refusal, RefusalCode};

impl Authority {
    /// Makes a new signing key in the token and lets it sign from now on; gives all keys, oldest first.
    ///
    /// # Errors
    /// When the token or the log fails. Then the old key goes on signing, and the entry says why.
    pub fn rotate_log_key(&self, actor: Actor, reason: &str) -> Result<Vec<String>, Refusal> {
        self.refusals_logged(
            actor,
            op::LOG_KEY,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                // One at a time: two would both begin at the same old key.
                let _alone = self.rotating.try_lock().map_err(|_| {
                    Refusal::new(RefusalCode::Busy, "the log's key is being changed already", "look again in a minute")
                })?;
                // What was signed so far is closed by the key that signed it.
                self.checkpoint()?;
                let id = Uuid::new_v4();
                let intent = self.lock().change(|c| {
                    let entry = Entry::new(actor, op::LOG_KEY, Outcome::Intent).key(id).reason(reason);
                    open_intent(c, entry, op::LOG_KEY, id, None)
                })?;
                let old = self.lock().log().signer.clone();
                let made = self.sign_change(&old, id);
                let keys = self.lock().change(|c| {
                    close_intent(c, intent)?;
                    let (signer, change) = match &made {
                        Ok(made) => made,
                        Err(refusal) => {
                            c.record(Entry::new(actor, op::LOG_KEY, Outcome::Failed).key(id).reason(&refusal.what))?;
                            return Ok(None);
                        }
                    };
                    let leaf =
                        c.record(Entry::done(actor, op::LOG_KEY).key(id).log_key(change.clone()).reason(reason))?;
                    let insert = "INSERT INTO log_keys (number, key, leaf) VALUES (?1, ?2, ?3)";
                    let values = rusqlite::params![old.earlier.len() as u32, change.old, to_db(leaf)?];
                    c.sql.execute(insert, values)?;
                    let signer = LogSigner {
                        earlier: [old.earlier.clone(), vec![(old.key.clone(), leaf)]].concat(),
                        ..signer.clone()
                    };
                    for (key, value) in [
                        ("log_key", signer.key.to_string()),
                        ("signing_key", signer.id.to_string()),
                        ("signing_algorithm", name(signer.algorithm)?),
                    ] {
                        set_meta(&c.sql, key, &value)?;
                    }
                    let keys: Vec<String> = signer.keys().map(VerifierKey::to_string).collect();
                    c.set_signer(signer);
                    Ok(Some(keys))
                })?;
                let keys = match (keys, made) {
                    (Some(keys), _) => keys,
                    (None, Err(refusal)) => return Err(refusal),
                    (None, Ok(_)) => return Err(internal("a change of the log's key was not kept")),
                };
                self.log_key.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.lock().log().signer.key);
                custody_pub(&self.home, &keys)?;
                self.checkpoint()?;
                Ok(keys)
            },
        )
    }

    /// Makes the key and has the change signed by both; what the token gives is verified before anything depends on it.
    fn sign_change(&self, old: &LogSigner, id: Uuid) -> Result<(LogSigner, KeyChange), Refusal> {
        let algorithm = old.algorithm;
        let public = self.token().make_signing_key(id, "sealtape custody log", algorithm)?;
        let key = log_key(old.key.name(), algorithm, &public)?;
        let statement = KeyChange::statement(old.key.name(), &old.key.to_string(), &key.to_string());
        let by_old = self.token().sign(old.id, old.algorithm, statement.as_bytes())?;
        let by_new = self.token().sign(id, algorithm, statement.as_bytes())?;
        let change = KeyChange::new(&old.key, &by_old, &key, &by_new);
        change.follow(&old.key).map_err(|what| internal(format!("the token signed wrongly: {what}")))?;
        Ok((LogSigner { key, id, algorithm, earlier: Vec::new() }, change))
    }
}

/// What is told about a change of the log's key that a stop of the service cut short: the old key goes on signing.
pub(in crate::authority) fn interrupted_rotation(key: Uuid) -> String {
    format!("the old key goes on signing; a key {key} that signs nothing may stand in the token")
}

/// Writes `custody.pub`: the log's keys, one per line, oldest first. What stands there already has to be the beginning of that: it
/// is the one copy of the keys outside the database.
pub(in crate::authority) fn custody_pub(home: &Home, keys: &[String]) -> Result<(), Refusal> {
    let path = home.log_key_file();
    let failed = |e: &io::Error| {
        let what = format!("{}: {e}", path.display());
        Refusal::new(RefusalCode::LogUnwritable, what, "mend its permissions or its file system and try again")
    };
    let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
    match std::fs::read_to_string(&path) {
        Ok(old) if old == text => return Ok(()),
        Ok(old) if text.starts_with(&old) && old.ends_with('\n') => {}
        Ok(_) => {
            return Err(damaged(format!(
                "{} holds other keys than the catalogue: one of them was replaced",
                path.display()
            )));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            tracing::warn!("{} is missing and is written anew", path.display());
        }
        Err(e) => return Err(failed(&e)),
    }
    replace(&path, text.as_bytes()).map_err(|e| failed(&e))
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("pub.new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
}
