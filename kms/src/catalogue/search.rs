//! Finding leaves: by range, by what an index knows, and by time, which never runs back along the log.

use rusqlite::{Connection, OptionalExtension, ToSql};

use super::convert::to_db;
use super::log::leaf_text;
use crate::custody::{CheckpointLine, Leaf, LeafFilter, canonical};
use crate::fault::{damaged, internal};
use crate::protocol::Refusal;

/// Leaves looked at for one page: a filter that fits hardly anything must not hold the catalogue for long.
const LOOK_AT: u32 = 5_000;

/// A page of leaves.
#[derive(Debug)]
pub(crate) struct LeafPage {
    /// Those that fit, with their sequence numbers.
    pub(crate) leaves: Vec<(u64, String)>,
    /// Where to go on; none at the end.
    pub(crate) next: Option<u64>,
}

/// The first leaf at or after `time` (any prefix of one), by bisection.
fn first_at(sql: &Connection, time: &str, size: u64) -> Result<u64, Refusal> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let leaf = Leaf::parse(&leaf_text(sql, middle)?).map_err(damaged)?;
        if leaf.time.as_str() < time {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The sequence numbers that range and times of a filter leave, from the first to before the last.
pub(crate) fn time_range(sql: &Connection, filter: &LeafFilter, size: u64) -> Result<(u64, u64), Refusal> {
    let mut range = (filter.first.unwrap_or(0), filter.last.map_or(size, |last| size.min(last.saturating_add(1))));
    if let Some(since) = &filter.since {
        range.0 = range.0.max(first_at(sql, since, size)?);
    }
    if let Some(until) = &filter.until {
        range.1 = range.1.min(first_at(sql, until, size)?);
    }
    Ok(range)
}

fn fits(filter: &LeafFilter, leaf: &Leaf) -> bool {
    fn is<T: PartialEq>(wanted: &Option<T>, have: Option<&T>) -> bool {
        wanted.as_ref().is_none_or(|w| have == Some(w))
    }
    is(&filter.actor, Some(&leaf.actor))
        && is(&filter.key, leaf.key.as_ref())
        && is(&filter.op, Some(&leaf.op))
        && is(&filter.outcome, Some(&leaf.outcome))
        && is(&filter.tenant, leaf.tenant.as_ref())
        && is(&filter.unit, leaf.unit.as_ref())
        && is(&filter.volume, leaf.volume.as_ref())
}

/// Leaves of `range` that fit, in order, at most `count` of them and of as much text as one answer holds.
pub(crate) fn search(
    sql: &Connection,
    filter: &LeafFilter,
    range: (u64, u64),
    count: u32,
) -> Result<LeafPage, Refusal> {
    page(sql, filter, range, count, false)
}

/// As [`search`], from the end of the range; `next` is then the end of what is left.
pub(crate) fn search_back(
    sql: &Connection,
    filter: &LeafFilter,
    range: (u64, u64),
    count: u32,
) -> Result<LeafPage, Refusal> {
    page(sql, filter, range, count, true)
}

fn page(
    sql: &Connection,
    filter: &LeafFilter,
    (first, last): (u64, u64),
    count: u32,
    back: bool,
) -> Result<LeafPage, Refusal> {
    // One index leads, the one that says most; the rest is looked at leaf by leaf. The names are those of the generated columns,
    // whose indexes are partial.
    let lead: Option<(&str, String)> = match filter {
        LeafFilter { key: Some(key), .. } => Some(("key IS NOT NULL AND key", key.to_string())),
        LeafFilter { volume: Some(volume), .. } => Some(("volume IS NOT NULL AND volume", volume.to_string())),
        LeafFilter { op: Some(op), .. } => Some(("op", op.clone())),
        LeafFilter { actor: Some(actor), .. } => Some(("actor", actor.clone())),
        _ => None,
    };
    let condition = lead.as_ref().map_or(String::new(), |(column, _)| format!(" AND {column} = ?4"));
    let order = if back { " DESC" } else { "" };
    let mut query = sql.prepare_cached(&format!(
        "SELECT seq, leaf FROM custody_leaves WHERE seq >= ?1 AND seq < ?2{condition} ORDER BY seq{order} LIMIT ?3"
    ))?;
    let (from, to) = (to_db(first)?, to_db(last)?);
    let mut values: Vec<&dyn ToSql> = vec![&from, &to, &LOOK_AT];
    if let Some((_, value)) = &lead {
        values.push(value);
    }
    let mut rows = query.query(values.as_slice())?;
    let (mut leaves, mut text_len, mut looked) = (Vec::new(), 0, 0);
    while let Some(row) = rows.next()? {
        let (seq, text): (i64, String) = (row.get(0)?, row.get(1)?);
        let seq = super::convert::from_db(seq)?;
        looked += 1;
        let leaf = Leaf::parse(&text).map_err(|what| damaged(format!("leaf {seq} of the custody log is {what}")))?;
        if fits(filter, &leaf) {
            text_len += text.len();
            leaves.push((seq, text));
        }
        let full = leaves.len() >= count as usize || text_len > 1 << 20 || looked == LOOK_AT;
        if full {
            let next = if back { (seq > first).then_some(seq) } else { (seq + 1 < last).then_some(seq + 1) };
            return Ok(LeafPage { leaves, next });
        }
    }
    Ok(LeafPage { leaves, next: None })
}

/// Leaves `first..last` and the checkpoints among them, as lines of a full export without their newlines.
pub(crate) fn full_lines(sql: &Connection, first: u64, last: u64) -> Result<Vec<String>, Refusal> {
    let mut lines = Vec::new();
    let mut notes = sql.prepare_cached("SELECT note FROM custody_checkpoints WHERE size = ?1")?;
    for seq in first..last {
        lines.push(leaf_text(sql, seq)?);
        let note: Option<String> = notes.query_row([to_db(seq + 1)?], |row| row.get(0)).optional()?;
        if let Some(checkpoint) = note {
            lines.push(checkpoint_line(checkpoint)?);
        }
    }
    Ok(lines)
}

/// A checkpoint as a line of an export.
pub(crate) fn checkpoint_line(checkpoint: String) -> Result<String, Refusal> {
    let value = serde_json::to_value(CheckpointLine { checkpoint }).map_err(|e| internal(e.to_string()))?;
    canonical(&value).ok_or_else(|| internal("a checkpoint has no canonical form"))
}
