//! Sessions, synchronisation points, and what the data path reports.

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::generation::{releasable, usable_tape};
use super::{Authority, check_name};
use crate::catalogue::{Actor, Entry, GenerationRow, to_db};
use crate::custody::op;
use crate::fault::{bad_request, internal};
use crate::protocol::{GenerationRef, GenerationState, Refusal, RefusalCode, Rights, SessionStart, SyncPoint};

impl Authority {
    /// A new session of an active generation. Its ordinal is durable before this returns and is given once only, over all
    /// generations of the partition.
    ///
    /// # Errors
    /// When the volume or generation may not be written.
    pub fn open_session(
        &self,
        actor: Actor,
        unit: &str,
        at: GenerationRef,
        session: &SessionStart,
    ) -> Result<u32, Refusal> {
        self.refusals_logged(actor, op::SESSION_OPEN, |e| e.unit(unit).at(at), || {
            self.lock().change(|c| {
                let (volume, _) = usable_tape(&c.sql, unit, at.volume)?;
                super::exchange::check_ours(&c.sql, &volume)?;
                let found = releasable(&c.sql, c.log(), &c.now(), at)?;
                if found.rights != Rights::SealAndOpen {
                    let what = format!("the key {} of volume {} may open only: its period for sealing is over", at.key_id, at.volume);
                    let mend = "write the volume from its beginning: that makes a new generation with a new key";
                    return Err(Refusal::new(RefusalCode::KeyExpired, what, mend));
                }
                let row = found.row;
                if row.state != GenerationState::Active {
                    let what = format!("generation {} of volume {} is {:?}, not active", at.generation, at.volume, row.state);
                    return Err(Refusal::new(RefusalCode::VolumeState, what, "activate it first"));
                }
                let ordinal: Option<u32> = c
                    .sql
                    .query_row(
                        "UPDATE partitions SET next_ordinal = next_ordinal + 1 WHERE volume = ?1 AND partition = ?2
                         RETURNING next_ordinal - 1",
                        params![at.volume.to_string(), at.partition],
                        |r| r.get(0),
                    )
                    .optional()?;
                let ordinal = ordinal.ok_or_else(|| internal("a partition without a row"))?;
                let known = c
                    .sql
                    .query_row("SELECT 1 FROM sessions WHERE session_id = ?1", [session.session_id.0], |_| Ok(()))
                    .optional()?;
                if known.is_some() {
                    return Err(bad_request(format!("session id {} was used before", session.session_id), "draw a new one"));
                }
                // The record before the new session was read: its session is on the medium. What was known of the end
                // holds no longer once the new session writes before it.
                c.sql.execute(
                    "UPDATE sessions SET confirmed = 1 WHERE volume = ?1 AND partition = ?2 AND generation = ?3 AND ordinal = ?4",
                    params![at.volume.to_string(), at.partition, at.generation, session.after_ordinal],
                )?;
                c.sql.execute(
                    "UPDATE generations SET end_ordinal = NULL, end_object = NULL, end_filemarks = NULL, last_object = NULL,
                     last_tag = NULL WHERE volume = ?1 AND partition = ?2 AND generation = ?3 AND end_object > ?4",
                    params![at.volume.to_string(), at.partition, at.generation, to_db(session.first_object)?],
                )?;
                c.sql.execute(
                    "INSERT INTO sessions (volume, partition, generation, ordinal, session_id, first_object, filemarks, link,
                     after_ordinal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    params![
                        at.volume.to_string(),
                        at.partition,
                        at.generation,
                        ordinal,
                        session.session_id.0,
                        to_db(session.first_object)?,
                        to_db(session.filemarks)?,
                        session.link.0,
                        session.after_ordinal
                    ],
                )?;
                let reason = format!("session {ordinal} from object {}", session.first_object);
                c.record(Entry::done(actor, op::SESSION_OPEN).unit(unit).at(at).reason(reason))?;
                Ok(ordinal)
            })
        })
    }

    /// Where the medium ends after a synchronisation. The last record before that end is of session `end.ordinal` (0: there is
    /// none), so that later sessions have no record left on the medium.
    ///
    /// # Errors
    /// When there is no such session, or the end makes no sense.
    pub fn record_sync(&self, _actor: Actor, unit: &str, at: GenerationRef, end: &SyncPoint) -> Result<(), Refusal> {
        let impossible = end.end_filemarks > end.end_object
            || end.last.is_some_and(|l| l.object >= end.end_object)
            || end.last.is_some() != (end.ordinal > 0);
        if impossible {
            return Err(bad_request("an end of data that cannot be", "this is a fault of the data path; report it"));
        }
        self.lock().progress(|sql| {
            usable_tape(sql, unit, at.volume)?;
            GenerationRow::find(sql, at)?;
            let place = (at.volume.to_string(), at.partition, at.generation);
            sql.prepare_cached("UPDATE volumes SET written = ?2 WHERE id = ?1")?
                .execute(params![place.0, crate::time::now()])?;
            let confirmed = sql
                .prepare_cached(
                    // One that was gone is back when it was opened before that synchronisation and written to after it.
                    "UPDATE sessions SET confirmed = 1, gone = 0
                     WHERE volume = ?1 AND partition = ?2 AND generation = ?3 AND ordinal = ?4",
                )?
                .execute(params![place.0, place.1, place.2, end.ordinal])?;
            if confirmed == 0 && end.ordinal > 0 {
                return Err(bad_request(
                    format!("session {} of volume {} is not known", end.ordinal, at.volume),
                    "open a session before writing",
                ));
            }
            sql.prepare_cached(
                "UPDATE sessions SET gone = 1
                 WHERE volume = ?1 AND partition = ?2 AND generation = ?3 AND ordinal > ?4 AND gone = 0",
            )?
            .execute(params![place.0, place.1, place.2, end.ordinal])?;
            sql.prepare_cached(
                "UPDATE generations SET end_ordinal = ?4, end_object = ?5, end_filemarks = ?6, last_object = ?7, last_tag = ?8
                 WHERE volume = ?1 AND partition = ?2 AND generation = ?3",
            )?
            .execute(params![
                place.0,
                place.1,
                place.2,
                end.ordinal,
                to_db(end.end_object)?,
                to_db(end.end_filemarks)?,
                end.last.map(|l| to_db(l.object)).transpose()?,
                end.last.map(|l| l.tag.0)
            ])?;
            Ok(())
        })
    }

    /// The unit has unloaded the volume and wiped its keys.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn returned(&self, actor: Actor, unit: &str, volume: Uuid) -> Result<(), Refusal> {
        check_name("unit", unit, 64)?;
        self.lock().change(|c| c.record(Entry::done(actor, op::KEY_RETURN).unit(unit).volume(volume)))?;
        Ok(())
    }

    /// Enters what the data path reports; at a limited rate, as refusals are.
    ///
    /// # Errors
    /// When the text is too long or the log cannot be written.
    pub fn incident(&self, actor: Actor, unit: &str, volume: Option<Uuid>, text: &str) -> Result<(), Refusal> {
        check_name("unit", unit, 64)?;
        if text.len() > 1000 {
            return Err(bad_request("the report is longer than 1000 bytes", "shorten it"));
        }
        let Some(suppressed) = self.enter_incident(actor) else { return Ok(()) };
        let mut entry = Entry::done(actor, op::INCIDENT).unit(unit).reason(match suppressed {
            0 => text.to_owned(),
            n => format!("{text}; {n} more before it were not entered"),
        });
        if let Some(volume) = volume {
            entry = entry.volume(volume);
        }
        self.lock().change(|c| c.record(entry))?;
        Ok(())
    }

    fn enter_incident(&self, actor: Actor) -> Option<u64> {
        let mut limiter = self.limiter.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        limiter.enter(actor, op::INCIDENT, std::time::Instant::now())
    }
}
