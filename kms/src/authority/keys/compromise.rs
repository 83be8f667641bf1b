//! Compromise: the key's state, the ends of its releases, and what has to be written anew. Nobody waits for a second person here: what
//! it does is refuse, and undoing it is impossible.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::admin::by_name;
use super::super::lease::end_releases;
use super::super::{Authority, check_name};
use crate::catalogue::{Actor, Change, Entry, GenerationRow, name, named, to_db, uuid};
use crate::custody::{canonical, op};
use crate::fault::internal;
use crate::protocol::{CompromiseReport, GenerationRef, GenerationState, KeyState, Refusal, RefusalCode};

/// What is compromised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Key(Uuid),
    Volume(Uuid),
    Kek(Uuid),
}

impl Target {
    fn find(sql: &Connection, text: &str) -> Result<Self, Refusal> {
        let Ok(id) = text.parse::<Uuid>() else { return Ok(Self::Volume(by_name(sql, text)?.id)) };
        let known = |query: &str| sql.query_row(query, [id.to_string()], |_| Ok(())).optional();
        if known("SELECT 1 FROM keks WHERE id = ?1")?.is_some() {
            return Ok(Self::Kek(id));
        }
        if known("SELECT 1 FROM generations WHERE key_id = ?1")?.is_some() {
            return Ok(Self::Key(id));
        }
        if known("SELECT 1 FROM volumes WHERE id = ?1")?.is_some() {
            return Ok(Self::Volume(id));
        }
        let what = format!("{id} is no data key, no key-encryption key and no volume of this catalogue");
        Err(Refusal::new(RefusalCode::UnknownVolume, what, "see: sealtape key list --all, sealtape key list --keks"))
    }

    fn id(self) -> Uuid {
        match self {
            Self::Key(id) | Self::Volume(id) | Self::Kek(id) => id,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Volume(_) => "volume",
            Self::Kek(_) => "kek",
        }
    }

    /// Which rows of generations it means, by its id.
    fn clause(self) -> &'static str {
        match self {
            Self::Key(_) => "key_id = ?1",
            Self::Volume(_) => "volume = ?1",
            Self::Kek(_) => {
                "(kek = ?1 OR key_id IN (SELECT key_id FROM key_life WHERE medium_kek = ?1)
                  OR key_id IN (SELECT key_id FROM copies WHERE holder = ?1 AND kind IN ('medium', 'recovery_medium')))"
            }
        }
    }
}

struct Affected {
    volume: Uuid,
    key: Uuid,
    state: GenerationState,
    key_state: KeyState,
}

fn affected(sql: &Connection, target: Target) -> Result<Vec<Affected>, Refusal> {
    let query = format!("SELECT volume, key_id, state, key_state FROM generations WHERE {}", target.clause());
    let mut query = sql.prepare(&query)?;
    let mut rows = query.query([target.id().to_string()])?;
    let mut found = Vec::new();
    while let Some(r) = rows.next()? {
        let (volume, key): (String, String) = (r.get(0)?, r.get(1)?);
        let (state, key_state): (String, String) = (r.get(2)?, r.get(3)?);
        found.push(Affected {
            volume: uuid(&volume)?,
            key: uuid(&key)?,
            state: named(state)?,
            key_state: named(key_state)?,
        });
    }
    // Those that are compromised already stay what they are.
    found.retain(|a| !matches!(a.key_state, KeyState::Compromised | KeyState::DestroyedCompromised));
    Ok(found)
}

fn standing(state: GenerationState) -> bool {
    matches!(state, GenerationState::Active | GenerationState::Pending)
}

/// SHA-256 over the canonical JSON array of the keys' ids, in their order.
fn digest_of_keys(keys: &BTreeSet<Uuid>) -> Result<[u8; 32], Refusal> {
    let text = canonical(&json!(keys)).ok_or_else(|| internal("ids without a canonical form"))?;
    Ok(Sha256::digest(text.as_bytes()).into())
}

fn set_states(c: &Change<'_>, target: Target, found: &[Affected], leaf: u64) -> Result<(), Refusal> {
    let mut states: Vec<KeyState> = Vec::new();
    for key in found {
        if !states.contains(&key.key_state) {
            states.push(key.key_state);
        }
    }
    let mut note = c.sql.prepare("INSERT OR REPLACE INTO compromised_keys (key_id, leaf) VALUES (?1, ?2)")?;
    for key in found {
        note.execute(params![key.key.to_string(), to_db(leaf)?])?;
    }
    let clause = target.clause();
    let update = format!("UPDATE generations SET key_state = ?3 WHERE key_state = ?2 AND {clause}");
    let mut update = c.sql.prepare(&update)?;
    for from in states {
        let to = if from == KeyState::Destroyed { KeyState::DestroyedCompromised } else { KeyState::Compromised };
        let to = from.transition(to).map_err(|e| internal(e.to_string()))?;
        update.execute(params![target.id().to_string(), name(from)?, name(to)?])?;
    }
    if let Target::Kek(id) = target {
        c.sql.execute(
            "UPDATE keks SET state = CASE state WHEN 'destroyed' THEN 'destroyed_compromised' ELSE 'compromised' END
             WHERE id = ?1",
            [id.to_string()],
        )?;
    }
    Ok(())
}

impl Authority {
    /// Marks keys as compromised and ends their releases.
    ///
    /// # Errors
    /// When the target is unknown or was marked before, or the log cannot be written.
    pub fn compromise(&self, actor: Actor, target: &str, reason: &str) -> Result<CompromiseReport, Refusal> {
        let report = self.refusals_logged(
            actor,
            op::KEY_COMPROMISE,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                self.lock().change(|c| compromise(c, actor, target, reason))
            },
        )?;
        self.tell_ends();
        Ok(report)
    }
}

fn compromise(c: &mut Change<'_>, actor: Actor, target: &str, reason: &str) -> Result<CompromiseReport, Refusal> {
    let target = Target::find(&c.sql, target)?;
    let found = affected(&c.sql, target)?;
    let marked_before = match target {
        Target::Kek(id) => {
            let query = "SELECT state IN ('compromised', 'destroyed_compromised') FROM keks WHERE id = ?1";
            c.sql.query_row(query, [id.to_string()], |r| r.get::<_, bool>(0))?
        }
        Target::Key(_) | Target::Volume(_) => found.is_empty(),
    };
    if marked_before && found.is_empty() {
        let what = format!("{} {} is marked as compromised already", target.kind(), target.id());
        return Err(Refusal::new(RefusalCode::KeyEnded, what, "see: sealtape key list --compromised"));
    }
    let keys: BTreeSet<Uuid> = found.iter().map(|a| a.key).collect();
    let mut entry = Entry::done(actor, op::KEY_COMPROMISE).digest(digest_of_keys(&keys)?);
    entry = match target {
        Target::Kek(id) => entry.key(id),
        Target::Volume(id) => entry.volume(id),
        Target::Key(id) => match found.iter().find(|a| a.key == id) {
            Some(found) => entry.at(place(&c.sql, found)?),
            None => entry.key(id),
        },
    };
    let words = format!("{} of {} keys: {reason}", target.kind(), keys.len());
    let leaf = c.record(entry.reason(words))?;
    let insert = "INSERT INTO compromises (leaf, kind, target, reason, time) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![to_db(leaf)?, target.kind(), target.id().to_string(), reason, c.now()];
    c.sql.execute(insert, values)?;
    set_states(c, target, &found, leaf)?;
    let released = found.iter().filter(|a| standing(a.state) && a.key_state.rights().is_some());
    let words = format!("its key is compromised: {reason}");
    let ended = end_releases(c, released.map(|a| (a.volume, a.key)), &words, leaf)?;
    let volumes: BTreeSet<Uuid> = found.iter().filter(|a| standing(a.state)).map(|a| a.volume).collect();
    Ok(CompromiseReport {
        kind: target.kind().into(),
        id: target.id(),
        entry: leaf,
        keys: keys.len() as u64,
        volumes: volumes.len() as u64,
        ended,
    })
}

fn place(sql: &Connection, found: &Affected) -> Result<GenerationRef, Refusal> {
    let query = "SELECT partition, generation FROM generations WHERE key_id = ?1";
    let (partition, generation) = sql.query_row(query, [found.key.to_string()], |r| Ok((r.get(0)?, r.get(1)?)))?;
    let at = GenerationRef { volume: found.volume, partition, generation, key_id: found.key };
    GenerationRow::find(sql, at).map(|row| row.at)
}
