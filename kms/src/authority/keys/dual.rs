//! What two custodians decide about the life of keys: to let them open for longer, and to read a volume whose key is compromised once
//! more, to save what is on it.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::Authority;
use super::super::admin::by_name;
use super::super::dual::Approved;
use crate::catalogue::{Actor, Change, Entry, GenerationRow, KeyLifeRow, LogState, VolumeRow, from_db, to_db};
use crate::custody::{Outcome, canonical, op};
use crate::fault::{bad_request, damaged, internal};
use crate::hex::Hex;
use crate::protocol::{KeyState, Operation, Refusal, RefusalCode, RequestView};
use crate::time;

/// Longest rescue.
const MOST_HOURS: u32 = 24 * 14;

fn digest_of_rescue(volume: Uuid, until: &str) -> Result<[u8; 32], Refusal> {
    let text = canonical(&json!({ "until": until, "volume": volume }));
    let text = text.ok_or_else(|| internal("a rescue without a canonical form"))?;
    Ok(Sha256::digest(text.as_bytes()).into())
}

/// Until when a volume whose key is compromised may be read, if two custodians decided so.
pub(in crate::authority) fn rescued_until(
    sql: &Connection,
    log: &LogState,
    now: &str,
    volume: Uuid,
) -> Result<Option<String>, Refusal> {
    let query = "SELECT until, leaf FROM rescues WHERE volume = ?1 AND until > ?2 ORDER BY until DESC LIMIT 1";
    let row: Option<(String, i64)> =
        sql.query_row(query, params![volume.to_string(), now], |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
    let Some((until, leaf)) = row else { return Ok(None) };
    let leaf = log.proven_leaf(sql, from_db(leaf)?)?;
    let entered = leaf.op == op::VOLUME_RESCUE
        && leaf.outcome == Outcome::Done
        && leaf.volume == Some(volume)
        && leaf.digest == Some(Hex(digest_of_rescue(volume, &until)?));
    if entered {
        return Ok(Some(until));
    }
    Err(damaged(format!(
        "no custody entry permits volume {volume} to be read until {until}: the catalogue was changed"
    )))
}

fn standing(c: &Change<'_>, volume: &VolumeRow) -> Result<Vec<GenerationRow>, Refusal> {
    let of = |partition| GenerationRow::standing(&c.sql, volume.id, partition);
    Ok((0..volume.partitions).map(of).collect::<Result<Vec<_>, _>>()?.concat())
}

impl Authority {
    /// Asks for the keys of volumes to open for longer.
    ///
    /// # Errors
    /// When the time makes no sense or a volume is unknown.
    pub fn request_extension(
        &self,
        actor: Actor,
        volumes: &[String],
        open_until: &str,
        reason: Option<&str>,
    ) -> Result<RequestView, Refusal> {
        let volumes = {
            let catalogue = self.lock();
            check_time(open_until, &catalogue.now())?;
            volumes.iter().map(|v| by_name(catalogue.sql(), v).map(|v| v.id)).collect::<Result<_, _>>()?
        };
        self.submit(actor, Operation::KeyExtend { volumes, open_until: open_until.to_owned() }, reason)
    }

    /// Asks for a volume whose key is compromised to be read for a while.
    ///
    /// # Errors
    /// When it is unknown, or the time makes no sense.
    pub fn request_rescue(
        &self,
        actor: Actor,
        volume: &str,
        hours: u32,
        reason: Option<&str>,
    ) -> Result<RequestView, Refusal> {
        if !(1..=MOST_HOURS).contains(&hours) {
            return Err(bad_request(format!("a rescue of {hours} hours"), format!("it takes 1 to {MOST_HOURS} hours")));
        }
        let volume = by_name(self.lock().sql(), volume)?.id;
        self.submit(actor, Operation::VolumeRescue { volume, hours }, reason)
    }

    /// Carries out an approved request of these kinds; gives the number of the custody entry with the approvals.
    ///
    /// # Errors
    /// When the request is another one, is not approved, or what it asks for cannot be.
    pub fn carry_out_key_request(&self, actor: Actor, request: Uuid) -> Result<u64, Refusal> {
        self.execute(actor, request, |c, approved| match &approved.operation {
            Operation::KeyExtend { volumes, open_until } => extend(c, actor, approved, volumes, open_until),
            Operation::VolumeRescue { volume, hours } => rescue(c, actor, approved, *volume, *hours),
            other => Err(bad_request(
                format!("request {request} is to {}, which is no matter of the periods of keys", other.words()),
                "carry it out with the command that asked for it",
            )),
        })
    }
}

fn check_time(until: &str, now: &str) -> Result<(), Refusal> {
    if time::well_formed(until) && until > now {
        return Ok(());
    }
    let mend = "a time to come is meant, in UTC, as 2030-12-31T00:00:00.000Z";
    Err(bad_request(format!("{until:?} is no time until which a key can open"), mend))
}

fn extend(
    c: &mut Change<'_>,
    actor: Actor,
    approved: &Approved,
    volumes: &[Uuid],
    open_until: &str,
) -> Result<u64, Refusal> {
    check_time(open_until, &c.now())?;
    let words = format!("{} volumes, until {open_until}", volumes.len());
    let decision = c.record(approved.describe(Entry::done(actor, op::KEY_EXTEND)).reason(words))?;
    for volume in volumes {
        let volume = VolumeRow::find(&c.sql, *volume)?;
        let mut extended = 0;
        for row in standing(c, &volume)? {
            let life = KeyLifeRow::confirmed(&c.sql, c.log(), row.at.key_id, row.created_leaf)?;
            let Some(before) = life.open_until.clone().filter(|_| row.key_state.rights().is_some()) else { continue };
            if before.as_str() > open_until {
                let what = format!("the key {} of {} opens until {before} already", row.at.key_id, volume.words());
                return Err(bad_request(what, "an extension does not shorten a period; name a later time"));
            }
            let mut life = KeyLifeRow { open_until: Some(open_until.to_owned()), ..life };
            let reason = format!("from {before} to {open_until}, decided in entry {decision}");
            let entry = Entry::done(actor, op::KEY_EXTEND).at(row.at).digest(life.digest()?);
            life.leaf = c.record(entry.reason(reason))?;
            life.keep(&c.sql)?;
            extended += 1;
        }
        if extended == 0 {
            let what = format!("no key of {} has a period for opening that could be extended", volume.words());
            return Err(Refusal::new(RefusalCode::VolumeState, what, "see: sealtape key list --volume"));
        }
    }
    Ok(decision)
}

fn rescue(c: &mut Change<'_>, actor: Actor, approved: &Approved, volume: Uuid, hours: u32) -> Result<u64, Refusal> {
    let volume = VolumeRow::find(&c.sql, volume)?;
    let compromised = standing(c, &volume)?.iter().any(|row| row.key_state == KeyState::Compromised);
    if !compromised {
        let what = format!("no key of {} is compromised and still there", volume.words());
        return Err(Refusal::new(RefusalCode::VolumeState, what, "it is loaded as any other, or gone"));
    }
    let until = time::hours_after(&c.now(), hours).ok_or_else(|| internal("the time is malformed"))?;
    let words = format!("for {hours} hours");
    let decision =
        c.record(approved.describe(Entry::done(actor, op::VOLUME_RESCUE)).volume(volume.id).reason(words))?;
    let entry = Entry::done(actor, op::VOLUME_RESCUE).volume(volume.id).digest(digest_of_rescue(volume.id, &until)?);
    let leaf = c.record(entry.reason(format!("read only, until {until}, decided in entry {decision}")))?;
    let insert = "INSERT INTO rescues (leaf, volume, until) VALUES (?1, ?2, ?3)";
    c.sql.execute(insert, params![to_db(leaf)?, volume.id.to_string(), until])?;
    Ok(decision)
}
