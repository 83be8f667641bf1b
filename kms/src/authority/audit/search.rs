//! Reading the log: entries that fit, page by page.

use std::collections::BTreeMap;

use rusqlite::OptionalExtension;
use uuid::Uuid;

use super::super::{Authority, admin::by_name};
use crate::catalogue::{Catalogue, search, search_back, time_range};
use crate::custody::{Leaf, LeafFilter};
use crate::fault::{bad_request, damaged};
use crate::protocol::{EntryFilter, EntryPage, Refusal};
use crate::time;

/// A time, or the beginning of one. The log's times are compared as texts.
fn time_prefix(what: &str, text: Option<String>) -> Result<Option<String>, Refusal> {
    let pattern = "0000-00-00T00:00:00.000Z";
    let fine = |text: &String| {
        text.get(..).is_some_and(|t| !t.is_empty())
            && text.len() <= pattern.len()
            && pattern.get(text.len()..).is_some_and(|rest| time::well_formed(&format!("{text}{rest}")))
    };
    match text {
        Some(text) if !fine(&text) => Err(bad_request(
            format!("{text:?} is no time for {what}"),
            "write it as 2026-11-21T08:30:00.000Z, in UTC, or the beginning of that",
        )),
        text => Ok(text),
    }
}

/// The filter as the log knows things: volumes and tenants by their ids.
pub(super) fn resolve(catalogue: &Catalogue, filter: &EntryFilter) -> Result<LeafFilter, Refusal> {
    let filter = filter.clone();
    let volume = match filter.volume {
        None => None,
        // A volume that the catalogue does not know may be in the log all the same.
        Some(name) => match name.parse::<Uuid>() {
            Ok(id) => Some(id),
            Err(_) => Some(by_name(catalogue.sql(), &name)?.id),
        },
    };
    let tenant = filter.tenant.map(|name| tenant(catalogue, &name)).transpose()?;
    Ok(LeafFilter {
        actor: filter.actor,
        first: filter.first,
        key: filter.key,
        last: filter.last,
        op: filter.op,
        outcome: filter.outcome,
        since: time_prefix("the beginning", filter.since)?,
        tenant,
        unit: filter.unit,
        until: time_prefix("the end", filter.until)?,
        volume,
    })
}

/// A tenant's opaque id, by that or by its name.
pub(super) fn tenant(catalogue: &Catalogue, name: &str) -> Result<Uuid, Refusal> {
    let query = "SELECT uuid FROM tenants WHERE (name = ?1 OR uuid = ?1) AND uuid IS NOT NULL";
    let found: Option<String> = catalogue.sql().query_row(query, [name], |r| r.get(0)).optional()?;
    let id = found.ok_or_else(|| bad_request(format!("there is no tenant {name:?}"), "see: sealtape tenant list"))?;
    id.parse().map_err(|_| damaged(format!("the id of tenant {name:?} is malformed")))
}

impl Authority {
    /// Entries that fit `filter`, at most `count` and no more than one answer holds.
    ///
    /// # Errors
    /// When the filter names what does not exist, or the catalogue cannot be read.
    pub fn audit_entries(
        &self,
        filter: &EntryFilter,
        from: Option<u64>,
        backwards: bool,
        count: u32,
        names: bool,
    ) -> Result<EntryPage, Refusal> {
        let catalogue = self.lock();
        let (sql, size) = (catalogue.sql(), catalogue.log().edge.size());
        let filter = resolve(&catalogue, filter)?;
        let (mut first, mut last) = time_range(sql, &filter, size)?;
        let count = count.clamp(1, 1000);
        let page = if backwards {
            last = last.min(from.unwrap_or(last));
            search_back(sql, &filter, (first, last), count)?
        } else {
            first = first.max(from.unwrap_or(first));
            search(sql, &filter, (first, last), count)?
        };
        let leaves: Vec<String> = page.leaves.into_iter().map(|(_, text)| text).collect();
        let mut known = BTreeMap::new();
        if names {
            let mut query = sql.prepare_cached("SELECT identity, name FROM actors WHERE pseudonym = ?1")?;
            for text in &leaves {
                let actor = Leaf::parse(text).map_err(damaged)?.actor;
                if known.contains_key(&actor) {
                    continue;
                }
                let row = |r: &rusqlite::Row<'_>| Ok((r.get::<_, String>(0)?, r.get::<_, Option<String>>(1)?));
                if let Some((identity, name)) = query.query_row([&actor], row).optional()? {
                    known.insert(actor, name.map_or(identity.clone(), |name| format!("{name} ({identity})")));
                }
            }
        }
        Ok(EntryPage { leaves, next: page.next, size, names: known })
    }

    /// Leaves from `first` (none: the last ones), at most `count`.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn audit_show(&self, first: Option<u64>, count: u32) -> Result<Vec<String>, Refusal> {
        let all = EntryFilter::default();
        let mut leaves = self.audit_entries(&all, first, first.is_none(), count, false)?.leaves;
        if first.is_none() {
            leaves.reverse();
        }
        Ok(leaves)
    }
}
