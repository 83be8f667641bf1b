//! States of keys and volumes against the custody log: who can write the database can give a compromised key its rights back there,
//! or make a superseded generation the active one again, but cannot take away the entries that say otherwise.
//!
//! Only what is better in the row than in the log is a fault: a row that is worse gives nothing away.

use rusqlite::{Connection, params};
use serde_json::json;
use uuid::Uuid;

use super::convert::{from_db, named};
use super::life::digest;
use super::rows::{GenerationRow, KekRow, VolumeRow};
use super::{Actor, Entry};
use crate::custody::{Leaf, Outcome, op};
use crate::fault::damaged;
use crate::hex::Hex;
use crate::protocol::{GenerationState, KeyState, Refusal, VolumeState};

/// Where entries are read: proven one by one, or in a check of everything, which proves them all.
pub(crate) type Read<'a> = &'a dyn Fn(u64) -> Result<Leaf, Refusal>;

// The indices by name: should one be gone or another one, the query fails instead of finding less.
const OF_KEY: &str = "SELECT seq FROM custody_leaves INDEXED BY state_leaves_of_key
    WHERE op IN ('key.create', 'key.import', 'kek.rewrap', 'key.compromise', 'key.destroy', 'kek.deactivate', 'kek.destroy')
    AND key = ?1 ORDER BY seq";
const COMPROMISED: &str = "SELECT seq FROM custody_leaves INDEXED BY state_leaves_of_volume
    WHERE op IN ('key.activate', 'key.compromise', 'volume.state') AND volume = ?1 AND op = 'key.compromise' ORDER BY seq";
const ACTIVATED: &str = "SELECT seq FROM custody_leaves INDEXED BY state_leaves_of_volume
    WHERE op IN ('key.activate', 'key.compromise', 'volume.state') AND volume = ?1 AND op = 'key.activate'
    AND json_extract(leaf, '$.partition') = ?2 ORDER BY seq DESC";
const VOLUME_STATES: &str = "SELECT seq FROM custody_leaves INDEXED BY state_leaves_of_volume
    WHERE op IN ('key.activate', 'key.compromise', 'volume.state') AND volume = ?1 AND op = 'volume.state' ORDER BY seq DESC";

/// Entries of what was done, in the order of the query.
fn leaves<'a>(
    sql: &Connection,
    query: &str,
    values: impl rusqlite::Params,
    read: Read<'a>,
) -> Result<impl Iterator<Item = Result<Leaf, Refusal>> + 'a, Refusal> {
    let seqs: Vec<i64> = sql.prepare_cached(query)?.query_map(values, |r| r.get(0))?.collect::<Result<_, _>>()?;
    let leaf = move |seq| read(from_db(seq)?);
    Ok(seqs.into_iter().map(leaf).filter(|leaf| leaf.as_ref().map_or(true, |l| l.outcome == Outcome::Done)))
}

fn of_key(sql: &Connection, id: Uuid, read: Read<'_>) -> Result<Vec<Leaf>, Refusal> {
    leaves(sql, OF_KEY, [id.to_string()], read)?.collect()
}

fn changed(what: &str, state: &str, says: &Leaf) -> Refusal {
    damaged(format!(
        "{what} is {state} in the catalogue, against custody entry {} ({}): the catalogue was changed",
        says.seq, says.op
    ))
}

impl KekRow {
    /// Checks that the row's state gives no more than the entries about the key do.
    pub(crate) fn state_agrees(&self, sql: &Connection, read: Read<'_>) -> Result<(), Refusal> {
        let query = "SELECT state FROM keks WHERE id = ?1";
        let state: String = sql.prepare_cached(query)?.query_row([self.id.to_string()], |r| r.get(0))?;
        let in_row = match named::<KeyState>(state.clone())? {
            KeyState::PreActive | KeyState::Active => 0,
            KeyState::Deactivated => 1,
            KeyState::Compromised => 2,
            KeyState::Destroyed | KeyState::DestroyedCompromised => 3,
        };
        for leaf in of_key(sql, self.id, read)? {
            let entered = match leaf.op.as_str() {
                op::KEK_DEACTIVATE => 1,
                op::KEY_COMPROMISE => 2,
                op::KEK_DESTROY => 3,
                _ => 0,
            };
            if in_row < entered {
                return Err(changed(&format!("the key-encryption key {}", self.id), &state, &leaf));
            }
        }
        Ok(())
    }
}

impl GenerationRow {
    /// Checks that the states of the generation and its key give no more than the entries about them do.
    pub(crate) fn state_agrees(&self, sql: &Connection, read: Read<'_>) -> Result<(), Refusal> {
        let of_key = of_key(sql, self.at.key_id, read)?;
        let state = format!("{:?}", self.key_state);
        let worse = |leaf: &Leaf| Err(changed(&format!("the {}", self.words()), &state, leaf));
        let gone = matches!(self.key_state, KeyState::Destroyed | KeyState::DestroyedCompromised);
        let compromised = gone || self.key_state == KeyState::Compromised;
        if let Some(leaf) = of_key.iter().find(|leaf| leaf.op == op::KEY_DESTROY).filter(|_| !gone) {
            return worse(leaf);
        }
        if let Some(leaf) = self.compromised_by(sql, &of_key, read)?.filter(|_| !compromised) {
            return worse(&leaf);
        }
        self.place_agrees(sql, &of_key, read)
    }

    /// The entry by which the key is compromised: itself, its volume, or a key that wrapped it at that time.
    fn compromised_by(&self, sql: &Connection, of_key: &[Leaf], read: Read<'_>) -> Result<Option<Leaf>, Refusal> {
        if let Some(leaf) = of_key.iter().find(|leaf| leaf.op == op::KEY_COMPROMISE) {
            return Ok(Some(leaf.clone()));
        }
        let wrapped: Vec<&Leaf> = of_key.iter().filter(|leaf| !leaf.blobs.is_empty()).collect();
        let made = of_key.first().map_or(self.created_leaf, |leaf| leaf.seq);
        for leaf in leaves(sql, COMPROMISED, [self.at.volume.to_string()], read)? {
            let leaf = leaf?;
            if leaf.key.is_none() && leaf.seq > made {
                return Ok(Some(leaf));
            }
        }
        let mut keks: Vec<Uuid> = wrapped.iter().flat_map(|leaf| &leaf.blobs).map(|blob| blob.kek).collect();
        keks.sort_unstable();
        keks.dedup();
        for kek in keks {
            for leaf in self::of_key(sql, kek, read)?.into_iter().filter(|leaf| leaf.op == op::KEY_COMPROMISE) {
                let under = |wrapping: &Leaf| wrapping.blobs.iter().any(|blob| blob.kek == kek);
                // The catalogue's copy is replaced by a rotation; the one on the medium stays.
                let last = wrapped.iter().rfind(|wrapping| wrapping.seq < leaf.seq).is_some_and(|w| under(w));
                let on_medium = || Ok::<_, Refusal>(KekRow::find(sql, kek)?.purpose == "medium");
                if last || (wrapped.iter().any(|w| w.seq < leaf.seq && under(w)) && on_medium()?) {
                    return Ok(Some(leaf));
                }
            }
        }
        Ok(None)
    }

    /// The active generation of a partition is the one that was activated last; a partner's was never activated here.
    fn place_agrees(&self, sql: &Connection, of_key: &[Leaf], read: Read<'_>) -> Result<(), Refusal> {
        let imported = of_key.first().is_some_and(|leaf| leaf.op == op::KEY_IMPORT);
        let used = self.state == GenerationState::Active || self.key_state == KeyState::Active;
        let waits = self.state == GenerationState::Pending;
        if imported || !(used || waits) {
            return Ok(());
        }
        let newest = leaves(sql, ACTIVATED, params![self.at.volume.to_string(), self.at.partition], read)?.next();
        let newest = newest.transpose()?;
        let (at, state) = (self.words(), format!("{:?}", self.state));
        match newest {
            Some(leaf) if waits && leaf.generation >= Some(self.at.generation) => Err(changed(&at, &state, &leaf)),
            Some(leaf) if used && leaf.key != Some(self.at.key_id) => Err(changed(&at, &state, &leaf)),
            None if used => Err(damaged(format!(
                "{at} is active in the catalogue, and no custody entry activated it: the catalogue was changed"
            ))),
            _ => Ok(()),
        }
    }
}

fn state_digest(volume: Uuid, state: VolumeState) -> Result<[u8; 32], Refusal> {
    digest(&json!({ "state": state, "volume": volume }))
}

impl VolumeRow {
    /// Changes the state, with its entry.
    pub(crate) fn change_state(
        &self,
        c: &mut super::Change<'_>,
        actor: Actor,
        state: VolumeState,
        reason: impl Into<String>,
    ) -> Result<(), Refusal> {
        self.set_state(&c.sql, state)?;
        let entry = Entry::done(actor, op::VOLUME_STATE).volume(self.id).digest(state_digest(self.id, state)?);
        c.record(entry.reason(reason.into()))?;
        Ok(())
    }

    /// Checks that the state is the one that was entered last. Entries of the first versions name it in words only.
    pub(crate) fn state_agrees(&self, sql: &Connection, read: Read<'_>) -> Result<(), Refusal> {
        let newest = leaves(sql, VOLUME_STATES, [self.id.to_string()], read)?.next().transpose()?;
        let Some(leaf) = newest else { return Ok(()) };
        let agrees = match leaf.digest {
            Some(entered) => entered == Hex(state_digest(self.id, self.state)?),
            None => true,
        };
        if agrees { Ok(()) } else { Err(changed(&self.words(), &format!("{:?}", self.state), &leaf)) }
    }
}
