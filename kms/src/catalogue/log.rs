//! Storage of the custody log: leaves, nodes and checkpoints in the catalogue's database.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::convert::{blob32, from_db, to_db};
use crate::custody::tree::{Hash, Node, RightEdge, audit_path, consistency_path, leaf_hash, root_from_path};
use crate::custody::{Checkpoint, Leaf, VerifierKey};
use crate::fault::{damaged, internal};
use crate::protocol::Refusal;
use crate::time;

/// The log's state as this process knows it: what the database holds has to agree with it.
#[derive(Debug, Clone)]
pub(crate) struct LogState {
    pub(crate) edge: RightEdge,
    pub(crate) last_time: String,
    pub(crate) checkpoint_size: u64,
    pub(crate) clock: time::Clock,
}

fn node(connection: &Connection, at: Node) -> Result<Hash, Refusal> {
    let mut query = connection.prepare_cached("SELECT hash FROM custody_nodes WHERE level = ?1 AND idx = ?2")?;
    let hash: Option<Vec<u8>> = query.query_row(params![at.level, to_db(at.index)?], |row| row.get(0)).optional()?;
    let missing = || damaged(format!("the custody log lacks node {} of level {}", at.index, at.level));
    blob32(&hash.ok_or_else(missing)?)
}

/// The root when the log had `size` leaves, from the stored nodes.
pub(crate) fn root_at(connection: &Connection, size: u64) -> Result<Hash, Refusal> {
    RightEdge::load(size, |at| node(connection, at)).map(|edge| edge.root())
}

/// The proof that the log of `new` leaves begins with that of `old`, from the stored nodes.
pub(crate) fn consistency(connection: &Connection, old: u64, new: u64) -> Result<Vec<Hash>, Refusal> {
    consistency_path(old, new, |at| node(connection, at))
}

pub(crate) fn leaf_text(connection: &Connection, seq: u64) -> Result<String, Refusal> {
    let mut query = connection.prepare_cached("SELECT leaf FROM custody_leaves WHERE seq = ?1")?;
    let text: Option<String> = query.query_row([to_db(seq)?], |row| row.get(0)).optional()?;
    text.ok_or_else(|| damaged(format!("the custody log lacks leaf {seq}")))
}

impl LogState {
    /// Reads the log and checks all of it: every leaf's hash and place, every node, the times, and the newest checkpoint.
    pub(super) fn load(connection: &Connection, key: &VerifierKey) -> Result<Self, Refusal> {
        let mut edge = RightEdge::default();
        let mut last_time = String::new();
        let newest: Option<(i64, String)> = connection
            .query_row("SELECT size, note FROM custody_checkpoints ORDER BY size DESC LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let checkpoint = match newest {
            None => None,
            Some((size, note)) => {
                let (checkpoint, _) = key.open(&note).map_err(|e| damaged(format!("the newest checkpoint: {e}")))?;
                if to_db(checkpoint.size)? != size || checkpoint.origin != key.name() {
                    return Err(damaged("the newest checkpoint is not the one that its row says"));
                }
                Some(checkpoint)
            }
        };
        let mut leaves = connection.prepare("SELECT seq, leaf FROM custody_leaves ORDER BY seq")?;
        let mut rows = leaves.query([])?;
        while let Some(row) = rows.next()? {
            let (seq, text): (i64, String) = (row.get(0)?, row.get(1)?);
            let at = edge.size();
            if from_db(seq)? != at {
                return Err(damaged(format!("the custody log lacks leaf {at}")));
            }
            let leaf = Leaf::parse(&text).map_err(|what| damaged(format!("leaf {at} of the custody log is {what}")))?;
            if leaf.seq != at || leaf.time < last_time {
                return Err(damaged(format!("leaf {at} of the custody log is out of order")));
            }
            last_time = leaf.time;
            let mut nodes = Vec::new();
            edge.append(leaf_hash(text.as_bytes()), |node, hash| nodes.push((node, *hash)));
            for (place, hash) in nodes {
                if node(connection, place)? != hash {
                    return Err(damaged(format!(
                        "leaf {at} of the custody log does not agree with its tree: it, or one that it stands with, was changed"
                    )));
                }
            }
            if let Some(c) = &checkpoint
                && c.size == edge.size()
                && c.root != edge.root()
            {
                return Err(damaged(format!(
                    "the first {} leaves of the custody log are not those that were signed",
                    c.size
                )));
            }
        }
        let checkpoint_size = checkpoint.map_or(0, |c| c.size);
        if checkpoint_size > edge.size() {
            return Err(damaged(format!("the custody log has {} leaves, {checkpoint_size} were signed", edge.size())));
        }
        Ok(Self { edge, last_time, checkpoint_size, clock: time::Clock::default() })
    }

    /// The time, which never runs back behind the last entry.
    pub(crate) fn now(&self) -> String {
        self.clock.now().max(self.last_time.clone())
    }

    /// Appends a leaf made by `make` from its sequence number and time.
    pub(super) fn append(
        &mut self,
        transaction: &Transaction<'_>,
        make: impl FnOnce(u64, String) -> Leaf,
    ) -> Result<u64, Refusal> {
        let seq = self.edge.size();
        self.last_time = self.now();
        let leaf = make(seq, self.last_time.clone());
        let text = serde_json::to_string(&leaf).map_err(|e| internal(e.to_string()))?;
        if let Err(what) = Leaf::parse(&text) {
            return Err(internal(format!("a custody entry is {what}")));
        }
        transaction
            .prepare_cached("INSERT INTO custody_leaves (seq, leaf) VALUES (?1, ?2)")?
            .execute(params![to_db(seq)?, text])?;
        let mut nodes = Vec::new();
        self.edge.append(leaf_hash(text.as_bytes()), |node, hash| nodes.push((node, *hash)));
        let mut insert =
            transaction.prepare_cached("INSERT INTO custody_nodes (level, idx, hash) VALUES (?1, ?2, ?3)")?;
        for (place, hash) in nodes {
            insert.execute(params![place.level, to_db(place.index)?, hash])?;
        }
        Ok(seq)
    }

    /// A leaf that is proven to be part of the tree as this process knows it.
    pub(crate) fn proven_leaf(&self, connection: &Connection, seq: u64) -> Result<Leaf, Refusal> {
        let foreign = || damaged(format!("leaf {seq} in the catalogue is not the one in the custody log's tree"));
        if seq >= self.edge.size() {
            return Err(foreign());
        }
        let text = leaf_text(connection, seq)?;
        let path = audit_path(seq, self.edge.size(), |at| node(connection, at))?;
        if root_from_path(seq, self.edge.size(), leaf_hash(text.as_bytes()), &path) != Some(self.edge.root()) {
            return Err(foreign());
        }
        Leaf::parse(&text).map_err(damaged)
    }

    pub(crate) fn checkpoint(&self, origin: &str) -> Checkpoint {
        Checkpoint { origin: origin.to_owned(), size: self.edge.size(), root: self.edge.root() }
    }
}

/// Leaves `first..last` and the checkpoints among them, as lines of an export.
pub(crate) fn export_lines(connection: &Connection, first: u64, last: u64) -> Result<String, Refusal> {
    let mut out = String::new();
    let mut notes = connection.prepare_cached("SELECT note FROM custody_checkpoints WHERE size = ?1")?;
    for seq in first..last {
        out.push_str(&leaf_text(connection, seq)?);
        out.push('\n');
        let note: Option<String> = notes.query_row([to_db(seq + 1)?], |row| row.get(0)).optional()?;
        if let Some(checkpoint) = note {
            let line = crate::custody::CheckpointLine { checkpoint };
            out.push_str(&serde_json::to_string(&line).map_err(|e| internal(e.to_string()))?);
            out.push('\n');
        }
    }
    Ok(out)
}
