//! Pipes: a stream is a volume of its own kind with one generation, active from the start, and belongs to who made it.

use rusqlite::params;
use uuid::Uuid;

use super::Authority;
use super::generation::{activate, plan};
use super::label::DEFAULT_POOL;
use crate::catalogue::{Actor, Entry, PoolRow, VolumeRow, to_db};
use crate::custody::op;
use crate::fault::bad_request;
use crate::hex::Hex;
use crate::protocol::{Cartridge, GenerationRef, Loaded, NewGeneration, Refusal, RefusalCode, VolumeKind, VolumeState};
use crate::secret::DataKey;
use crate::time;

/// Who may open any stream beside its owner: root and the key authority's own user.
fn opens_all(actor: Actor) -> bool {
    match actor {
        Actor::User(uid) | Actor::InRole(uid, _) => uid == 0 || uid == nix::unistd::geteuid().as_raw(),
        Actor::Service => true,
        Actor::Policy => false,
    }
}

fn own_stream(sql: &rusqlite::Connection, actor: Actor, volume: Uuid) -> Result<(VolumeRow, PoolRow), Refusal> {
    let volume = VolumeRow::find(sql, volume)?;
    if volume.kind != VolumeKind::Stream {
        let what = format!("{} is a tape, no stream", volume.words());
        return Err(Refusal::new(RefusalCode::NotAllowed, what, "tapes are read through their drive"));
    }
    let owns = actor.uid().is_some() && actor.uid() == volume.owner;
    if !owns && !opens_all(actor) {
        let what = format!("{} belongs to another user", volume.words());
        return Err(Refusal::new(RefusalCode::NotAllowed, what, "let its owner or root open it"));
    }
    if volume.state != VolumeState::Active {
        let what = format!("{} is {:?}", volume.words(), volume.state);
        return Err(Refusal::new(RefusalCode::VolumeState, what, "take it back into use first"));
    }
    let pool = PoolRow::find(sql, volume.pool)?;
    Ok((volume, pool))
}

impl Authority {
    /// A new stream and its data key. The session ordinal is the generation's first one. The commitment is not kept: the stream
    /// carries it, and there is no later generation that could be mistaken for this one.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn create_stream(&self, actor: Actor, pool: Option<&str>) -> Result<(NewGeneration, DataKey), Refusal> {
        self.refusals_logged(
            actor,
            op::KEY_CREATE,
            |e| e,
            || {
                let pool = PoolRow::named(self.lock().sql(), pool.unwrap_or(DEFAULT_POOL))?;
                let terms = self.terms(actor, pool)?;
                self.anchors_allow()?;
                let planned = self.lock().change(|c| {
                    let pool = &terms.pool;
                    let volume = VolumeRow {
                        id: Uuid::new_v4(),
                        tenant: pool.tenant,
                        pool: pool.id,
                        kind: VolumeKind::Stream,
                        state: VolumeState::Labelling,
                        label: String::new(),
                        cartridge: Cartridge::default(),
                        partitions: 1,
                        owner: actor.uid(),
                        replaces: None,
                        created: time::now(),
                        written: None,
                    };
                    volume.insert(&c.sql)?;
                    c.record(Entry::done(actor, op::VOLUME_CREATE).volume(volume.id).reason("stream"))?;
                    plan(c, actor, None, &volume, terms, 0, None)
                })?;
                let (key, blobs) = self.make_planned(actor, &planned)?;
                let kept = self.lock().change(|c| {
                    let (row, stanzas) = planned.keep(c, actor, None, &blobs)?;
                    activate(c, row.at, Hex([0; 32]))?;
                    c.sql.execute(
                        "UPDATE generations SET commitment = NULL WHERE key_id = ?1",
                        [row.at.key_id.to_string()],
                    )?;
                    c.sql.execute(
                        "UPDATE partitions SET next_ordinal = next_ordinal + 1 WHERE volume = ?1",
                        [row.at.volume.to_string()],
                    )?;
                    VolumeRow::find(&c.sql, row.at.volume)?.set_state(&c.sql, VolumeState::Active)?;
                    let leaf = c.record(Entry::done(actor, op::KEY_ACTIVATE).at(row.at))?;
                    Ok((stanzas, leaf))
                });
                let (stanzas, leaf) = kept.map_err(|refusal| self.plan_failed(actor, &planned, refusal))?;
                self.before_key_leaves(leaf)?;
                Ok((planned.reply(stanzas), key))
            },
        )
    }

    /// Releases the data key of a stream to its owner.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn load_stream(&self, actor: Actor, at: GenerationRef) -> Result<(Loaded, DataKey), Refusal> {
        self.refusals_logged(
            actor,
            op::KEY_RELEASE,
            |e| e.at(at),
            || {
                let rules = |sql: &rusqlite::Connection| Ok(own_stream(sql, actor, at.volume)?.1);
                self.release(at, rules, Entry::done(actor, op::KEY_RELEASE))
            },
        )
    }

    /// Enters the end of a stream.
    ///
    /// # Errors
    /// When it is not this actor's stream.
    pub fn finish_stream(&self, actor: Actor, volume: Uuid, records: u64, last_tag: Hex<16>) -> Result<(), Refusal> {
        self.refusals_logged(actor, op::STREAM_FINISH, |e| e.volume(volume), || {
            if records == 0 {
                return Err(bad_request("a finished stream has at least its final record", "report this fault"));
            }
            self.lock().change(|c| {
                own_stream(&c.sql, actor, volume)?;
                let kept = c.sql.execute(
                    "INSERT INTO sessions (volume, partition, generation, ordinal, session_id, first_object, filemarks, link,
                     after_ordinal, confirmed)
                     SELECT ?1, 0, generation, first_ordinal, randomblob(16), 0, 0, zeroblob(16), 0, 1
                     FROM generations WHERE volume = ?1 ON CONFLICT DO NOTHING",
                    params![volume.to_string()],
                )?;
                c.sql.execute(
                    "UPDATE generations SET end_ordinal = first_ordinal, end_object = ?2, end_filemarks = 0, last_object = ?3,
                     last_tag = ?4 WHERE volume = ?1",
                    params![volume.to_string(), to_db(records)?, to_db(records - 1)?, last_tag.0],
                )?;
                if kept != 1 {
                    return Err(bad_request(format!("stream {volume} was finished before"), "a stream ends once"));
                }
                c.record(Entry::done(actor, op::STREAM_FINISH).volume(volume).reason(format!("{records} records")))?;
                Ok(())
            })
        })
    }
}
