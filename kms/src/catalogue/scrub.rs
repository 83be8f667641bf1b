//! The check of everything: the whole tree, every checkpoint, the tenants' trees, the rows tied to leaves, and SQLite's own.
//!
//! Before the start for small catalogues, and in the background, piece by piece, for large ones: from a connection of its own.
//! What is checked is append-only up to the size taken at the beginning, so changes meanwhile do no harm.

use std::collections::HashMap;

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::belonging::TenantRow;
use super::convert::{from_db, to_db};
use super::log::{LogSigner, leaf_text, open_checkpoint, stored_size, take_stored};
use super::rows::{GenerationRow, KekRow, PoolRow, VolumeRow};
use super::states::Read;
use crate::custody::tree::{RightEdge, leaf_hash};
use crate::custody::{Checkpoint, Leaf, op};
use crate::fault::damaged;
use crate::protocol::Refusal;

/// What of it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Leaves,
    Keks,
    Generations,
    Done,
}

/// A check under way.
pub(crate) struct Scrub {
    signer: LogSigner,
    /// That of now, and those from before the catalogue was restored from a backup.
    origins: Vec<String>,
    size: u64,
    phase: Phase,
    edge: RightEdge,
    last_time: String,
    tenants: HashMap<Uuid, RightEdge>,
    /// Which of the log's keys signs.
    key: usize,
    /// Leaves up to here agree with a checkpoint.
    signed_to: u64,
    /// The first tenant's root that is wrong; the next checkpoint tells whether it is, or an earlier leaf.
    suspect: Option<Refusal>,
    generation: Option<(String, u8, u32)>,
}

impl Scrub {
    /// A check of the log as it is now.
    pub(crate) fn new(sql: &Connection, signer: LogSigner) -> Result<Self, Refusal> {
        Ok(Self {
            size: stored_size(sql)?,
            origins: crate::restore::origins(sql, &signer)?,
            signer,
            phase: Phase::Leaves,
            edge: RightEdge::default(),
            last_time: String::new(),
            tenants: HashMap::new(),
            key: 0,
            signed_to: 0,
            suspect: None,
            generation: None,
        })
    }

    /// How many leaves are checked, of how many.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.edge.size(), self.size)
    }

    /// Goes on by about `count` rows; whether everything is done.
    ///
    /// # Errors
    /// The first fault, naming the entry.
    pub(crate) fn step(&mut self, sql: &Connection, count: u64) -> Result<bool, Refusal> {
        // A row and the entries about it as they are at one moment: others write meanwhile.
        let _snapshot = sql.is_autocommit().then(|| sql.unchecked_transaction()).transpose()?;
        match self.phase {
            Phase::Leaves => {
                self.leaves(sql, count)?;
                if self.edge.size() == self.size {
                    self.leaves_done(sql)?;
                    self.phase = Phase::Keks;
                }
            }
            Phase::Keks => {
                check_owners(sql, &|seq| stored_leaf(sql, seq))?;
                for kek in KekRow::all(sql)? {
                    kek.agrees_with(&stored_leaf(sql, kek.created_leaf)?)?;
                    kek.state_agrees(sql, &|seq| stored_leaf(sql, seq))?;
                }
                self.phase = Phase::Generations;
            }
            Phase::Generations => {
                let rows = GenerationRow::page(sql, self.generation.as_ref(), count)?;
                for row in &rows {
                    if !row.is_wiped() {
                        let leaf = stored_leaf(sql, row.named_by())?;
                        row.agrees_with(&leaf)?;
                        row.tenant_agrees(sql, &leaf)?;
                    }
                    row.state_agrees(sql, &|seq| stored_leaf(sql, seq))?;
                    // With the first of its generations; a volume without any has nothing to give.
                    if row.at.partition == 0 && row.at.generation == 1 {
                        let volume = VolumeRow::find(sql, row.at.volume)?;
                        volume.state_agrees(sql, &|seq| stored_leaf(sql, seq))?;
                        volume.tenant_agrees(sql, &|seq| stored_leaf(sql, seq))?;
                    }
                }
                match rows.last() {
                    Some(row) => {
                        self.generation = Some((row.at.volume.to_string(), row.at.partition, row.at.generation));
                    }
                    None => self.phase = Phase::Done,
                }
            }
            Phase::Done => {}
        }
        Ok(self.phase == Phase::Done)
    }

    fn leaves(&mut self, sql: &Connection, count: u64) -> Result<(), Refusal> {
        let (first, last) = (self.edge.size(), self.size.min(self.edge.size() + count.max(1)));
        let range = params![to_db(first)?, to_db(last)?];
        let mut query =
            sql.prepare_cached("SELECT size, note FROM custody_checkpoints WHERE size > ?1 AND size <= ?2")?;
        let notes: Vec<(i64, String)> =
            query.query_map(range, |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
        let mut checkpoints = HashMap::new();
        for (size, note) in notes {
            let size = from_db(size)?;
            checkpoints.insert(size, open_checkpoint(&self.signer, size, &note)?);
        }
        let mut query =
            sql.prepare_cached("SELECT seq, leaf FROM custody_leaves WHERE seq >= ?1 AND seq < ?2 ORDER BY seq")?;
        let mut rows = query.query(range)?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(1)?;
            let leaf = take_stored(sql, &mut self.edge, &mut self.last_time, row.get(0)?, &text)?;
            self.leaf(&leaf, &text)?;
            if let Some(checkpoint) = checkpoints.get(&self.edge.size()) {
                self.checkpoint(checkpoint)?;
            }
        }
        if self.edge.size() < last {
            return Err(damaged(format!("the custody log lacks leaf {}", self.edge.size())));
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: &Leaf, text: &str) -> Result<(), Refusal> {
        let seq = leaf.seq;
        let opens = leaf.op == op::LOG_OPEN;
        let known = leaf.reason.as_ref().is_some_and(|origin| self.origins.contains(origin));
        if (seq == 0 && !opens) || (opens && !known) {
            return Err(damaged(format!("leaf {seq} of the custody log does not open it, or opens another one")));
        }
        // A change from before a restore was one of the log as it was called then.
        if let Some(change) = leaf.key_change().filter(|change| change.is_of(self.signer.key.name())) {
            let old = self.signer.keys().nth(self.key);
            let new = old.and_then(|old| change.follow(old).ok());
            self.key += 1;
            if new.is_none() || new.as_ref() != self.signer.keys().nth(self.key) {
                return Err(damaged(format!("leaf {seq} of the custody log brings in a key that is not the log's")));
            }
        }
        let Some(tenant) = leaf.tenant else { return Ok(()) };
        let tree = self.tenants.entry(tenant).or_default();
        match (leaf.tenant_seq, leaf.tenant_root) {
            (Some(at), _) if at == tree.size() => tree.append(leaf_hash(text.as_bytes()), |_, _| {}),
            (Some(_), _) => {
                return Err(damaged(format!("leaf {seq} of the custody log is out of the order of its tenant")));
            }
            (None, root) => {
                let right = leaf.tenant_size == Some(tree.size()) && root.map(|r| r.0) == Some(tree.root());
                if !right && self.suspect.is_none() {
                    let what = format!("leaf {seq} of the custody log is not the root of its tenant's leaves");
                    self.suspect = Some(damaged(what));
                }
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Refusal> {
        if checkpoint.root != self.edge.root() {
            return Err(damaged(format!(
                "entries {} to {} of the custody log are not those that were signed",
                self.signed_to,
                checkpoint.size - 1
            )));
        }
        self.signed_to = checkpoint.size;
        self.suspect.take().map_or(Ok(()), Err)
    }

    fn leaves_done(&mut self, sql: &Connection) -> Result<(), Refusal> {
        if let Some(suspect) = self.suspect.take() {
            return Err(suspect);
        }
        let mut before = sql.prepare("SELECT 1 FROM custody_leaves WHERE seq < 0")?;
        if before.exists([])? {
            return Err(damaged("the custody log holds a leaf before its first one"));
        }
        if self.key + 1 != self.signer.keys().count() {
            return Err(damaged("the catalogue holds a key of the custody log that no entry brings in"));
        }
        Ok(())
    }
}

/// Checks tenants and pools against their entries. There are few of them, so every start does.
pub(super) fn check_owners(sql: &Connection, read: Read<'_>) -> Result<(), Refusal> {
    TenantRow::check_all(sql, read)?;
    for pool in PoolRow::all(sql)? {
        if !pool.is_from_before(sql)? {
            pool.agrees(sql, read)?;
        }
    }
    Ok(())
}

fn stored_leaf(sql: &Connection, seq: u64) -> Result<Leaf, Refusal> {
    Leaf::parse(&leaf_text(sql, seq)?).map_err(|what| damaged(format!("leaf {seq} of the custody log is {what}")))
}
