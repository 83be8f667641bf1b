//! Exports, part by part.

use std::io::Write;

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::super::Authority;
use super::search::{resolve, tenant};
use crate::catalogue::{
    Actor, Catalogue, Entry, LogState, checkpoint_line, from_db, full_lines, search, time_range, to_db,
};
use crate::custody::{
    ExportHeader, FORMAT, Leaf, LeafFilter, ProvenAs, Scope, VerifierKey, csv_head, csv_line, end_line, op, proven_line,
};
use crate::fault::{bad_request, damaged, internal};
use crate::protocol::{CheckpointView, ExportOrder, ExportScope, Refusal};

/// Leaves in one part.
const PART: u64 = 500;

/// What is left to be written.
#[derive(Debug)]
enum Rest {
    Full { next: u64 },
    Tenant { id: Uuid, next: u64, size: u64 },
    Selection { filter: Box<LeafFilter>, next: Option<u64>, last: u64, entries: u64 },
    Nothing,
}

/// A begun export.
#[derive(Debug)]
pub struct ExportRun {
    csv: bool,
    /// The first lines.
    head: Option<Vec<String>>,
    rest: Rest,
    checkpoint: CheckpointView,
}

impl ExportRun {
    /// The checkpoint over everything that it can hold.
    #[must_use]
    pub fn checkpoint(&self) -> &CheckpointView {
        &self.checkpoint
    }

    fn text(&self, lines: &[String], first: bool) -> Result<String, Refusal> {
        let mut text = String::new();
        if self.csv && first {
            text.push_str(&csv_head());
        }
        for (number, line) in lines.iter().enumerate() {
            if self.csv {
                let row = csv_line(line, first && number == 0);
                text.push_str(&row.ok_or_else(|| internal("a line of the export is no JSON"))?);
            } else {
                text.push_str(line);
                text.push('\n');
            }
        }
        Ok(text)
    }

    /// The next part, each line ended by a newline; none at the end.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn next_part(&mut self, authority: &Authority) -> Result<Option<String>, Refusal> {
        if let Some(head) = self.head.take() {
            return self.text(&head, true).map(Some);
        }
        let catalogue = authority.lock();
        let lines = self.rest.next_lines(&catalogue, self.checkpoint.size)?;
        drop(catalogue);
        lines.map(|lines| self.text(&lines, false)).transpose()
    }
}

impl Rest {
    fn next_lines(&mut self, catalogue: &Catalogue, size: u64) -> Result<Option<Vec<String>>, Refusal> {
        let sql = catalogue.sql();
        match self {
            Self::Nothing => Ok(None),
            Self::Full { next } => {
                let first = *next;
                *next = size.min(first + PART);
                let lines = full_lines(sql, first, *next)?;
                if *next == size {
                    *self = Self::Nothing;
                }
                Ok(Some(lines))
            }
            Self::Tenant { id, next, size: entries } => {
                let last = (*entries).min(*next + PART);
                let mut query = sql.prepare_cached(
                    "SELECT seq FROM custody_leaves WHERE tenant = ?1 AND tenant_seq >= ?2 AND tenant_seq < ?3
                     AND tenant_seq IS NOT NULL ORDER BY tenant_seq",
                )?;
                let range = params![id.to_string(), to_db(*next)?, to_db(last)?];
                let leaves: Vec<i64> = query.query_map(range, |r| r.get(0))?.collect::<Result<_, _>>()?;
                let line = |seq: &i64| proven(catalogue, ProvenAs::Leaf, from_db(*seq)?, size);
                let mut lines = leaves.iter().map(line).collect::<Result<Vec<_>, _>>()?;
                *next = last;
                if *next == *entries {
                    lines.push(end_line(*entries));
                    *self = Self::Nothing;
                }
                Ok(Some(lines))
            }
            Self::Selection { filter, next, last, entries } => {
                let first = next.unwrap_or(*last);
                let page = search(sql, filter, (first, *last), u32::try_from(PART).unwrap_or(u32::MAX))?;
                let line = |(seq, _): &(u64, String)| proven(catalogue, ProvenAs::Leaf, *seq, size);
                let mut lines = page.leaves.iter().map(line).collect::<Result<Vec<_>, _>>()?;
                *entries += page.leaves.len() as u64;
                *next = page.next;
                if next.is_none() {
                    lines.push(end_line(*entries));
                    *self = Self::Nothing;
                }
                Ok(Some(lines))
            }
        }
    }
}

fn proven(catalogue: &Catalogue, what: ProvenAs, seq: u64, size: u64) -> Result<String, Refusal> {
    let (leaf, path) = LogState::inclusion(catalogue.sql(), seq, size)?;
    Ok(proven_line(what, &leaf, &path))
}

impl Authority {
    /// Begins an export: enters it, signs a checkpoint, and fixes the range.
    ///
    /// # Errors
    /// When what is asked for does not exist, the log cannot be written, or the checkpoint cannot be signed.
    pub fn audit_begin(&self, actor: Actor, order: &ExportOrder) -> Result<ExportRun, Refusal> {
        // Everything that can be wrong with the order is found before the entry is made.
        let (words, filter, of) = {
            let catalogue = self.lock();
            match &order.scope {
                ExportScope::Full => ("full".to_owned(), None, None),
                ExportScope::Tenant(name) => {
                    let id = tenant(&catalogue, name)?;
                    (format!("tenant {id}"), None, Some(id))
                }
                ExportScope::Selection(filter) => {
                    let filter = resolve(&catalogue, filter)?;
                    let text = serde_json::to_string(&filter).map_err(|e| internal(e.to_string()))?;
                    (format!("selection {text}"), Some(filter), None)
                }
            }
        };
        self.lock().change(|c| c.record(Entry::done(actor, op::AUDIT_EXPORT).reason(words)))?;
        let checkpoint = self.with_cosignatures(self.checkpoint()?)?;
        let catalogue = self.lock();
        let (log, sql, size) = (catalogue.log(), catalogue.sql(), checkpoint.size);
        let changes: Vec<u64> = log.signer.earlier.iter().map(|(_, leaf)| *leaf).filter(|leaf| *leaf < size).collect();
        let as_json = |filter: &LeafFilter| match serde_json::to_value(filter) {
            Ok(serde_json::Value::Object(members)) => Ok(members),
            other => Err(internal(format!("a filter is no object: {other:?}"))),
        };
        let header = ExportHeader {
            filter: filter.as_ref().map(as_json).transpose()?,
            format: FORMAT.into(),
            keys: log.signer.keys().take(changes.len() + 1).map(VerifierKey::to_string).collect(),
            origin: log.signer.key.name().to_owned(),
            scope: match &order.scope {
                ExportScope::Full => Scope::Full,
                ExportScope::Tenant(_) => Scope::Tenant,
                ExportScope::Selection(_) => Scope::Selection,
            },
            size,
            tenant: of,
        };
        let mut head = vec![serde_json::to_string(&header).map_err(|e| internal(e.to_string()))?];
        if header.scope != Scope::Full {
            head.push(checkpoint_line(checkpoint.note.clone())?);
            for leaf in changes {
                head.push(proven(&catalogue, ProvenAs::KeyLeaf, leaf, size)?);
            }
        }
        let rest = match (of, filter) {
            (Some(id), _) => {
                // The last one under this checkpoint: another may have been entered since.
                let query = "SELECT seq, leaf FROM custody_leaves WHERE op = ?1 AND +tenant = ?2 AND seq < ?3
                             ORDER BY seq DESC LIMIT 1";
                let found: Option<(i64, String)> = sql
                    .query_row(query, params![op::TENANT_ROOT, id.to_string(), to_db(size)?], |r| {
                        Ok((r.get(0)?, r.get(1)?))
                    })
                    .optional()?;
                let (leaf, text) =
                    found.ok_or_else(|| bad_request(format!("tenant {id} has no entries yet"), "export them later"))?;
                let entries = Leaf::parse(&text).ok().and_then(|leaf| leaf.tenant_size);
                let entries = entries.ok_or_else(|| damaged(format!("leaf {leaf} is not the root of a tenant")))?;
                head.push(proven(&catalogue, ProvenAs::RootLeaf, from_db(leaf)?, size)?);
                Rest::Tenant { id, next: 0, size: entries }
            }
            (None, Some(filter)) => {
                let (first, last) = time_range(sql, &filter, size)?;
                Rest::Selection { filter: Box::new(filter), next: Some(first), last, entries: 0 }
            }
            (None, None) => Rest::Full { next: 0 },
        };
        drop(catalogue);
        Ok(ExportRun { csv: order.csv, head: Some(head), rest, checkpoint })
    }

    /// Writes a whole export.
    ///
    /// # Errors
    /// As [`Authority::audit_begin`]; or what `to` returns, as an internal refusal naming it.
    pub fn audit_export_as(
        &self,
        actor: Actor,
        order: &ExportOrder,
        to: &mut impl Write,
    ) -> Result<CheckpointView, Refusal> {
        let mut run = self.audit_begin(actor, order)?;
        while let Some(part) = run.next_part(self)? {
            to.write_all(part.as_bytes()).map_err(|e| internal(format!("cannot write the export: {e}")))?;
        }
        Ok(run.checkpoint)
    }

    /// Writes a full export as JSON Lines.
    ///
    /// # Errors
    /// As [`Authority::audit_export_as`].
    pub fn audit_export(&self, actor: Actor, to: &mut impl Write) -> Result<CheckpointView, Refusal> {
        self.audit_export_as(actor, &ExportOrder { scope: ExportScope::Full, csv: false }, to)
    }
}
