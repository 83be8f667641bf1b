//! Storage of the custody log: leaves, nodes and checkpoints in the catalogue's database.

use std::sync::{Arc, OnceLock};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::convert::{blob32, from_db, named, to_db};
use super::meta;
use super::tenants::{TenantId, TenantTrees};
use crate::custody::tree::{Hash, Node, RightEdge, audit_path, consistency_path, leaf_hash, root_from_path};
use crate::custody::{Checkpoint, Leaf, VerifierKey};
use crate::fault::{damaged, internal};
use crate::pkcs11::SignAlgorithm;
use crate::protocol::Refusal;
use crate::time;

/// The keys of the log: the one that signs now, and those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogSigner {
    /// The key that signs now.
    pub(crate) key: VerifierKey,
    /// Its id in the token.
    pub(crate) id: Uuid,
    /// How it signs.
    pub(crate) algorithm: SignAlgorithm,
    /// Earlier keys, oldest first, each with the entry that replaced it.
    pub(crate) earlier: Vec<(VerifierKey, u64)>,
}

/// The keys as the catalogue has them.
pub(crate) fn log_signer(sql: &Connection) -> Result<LogSigner, Refusal> {
    let parse = |text: &str| text.parse().map_err(|e| damaged(format!("a key of the custody log: {e}")));
    let mut earlier = Vec::new();
    let mut query = sql.prepare("SELECT key, leaf FROM log_keys ORDER BY number")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        earlier.push((parse(&row.get::<_, String>(0)?)?, from_db(row.get(1)?)?));
    }
    Ok(LogSigner {
        key: parse(&meta(sql, "log_key")?)?,
        id: meta(sql, "signing_key")?.parse().map_err(|_| damaged("the signing key's id is malformed"))?,
        algorithm: named(meta(sql, "signing_algorithm")?)?,
        earlier,
    })
}

impl LogSigner {
    /// All keys, oldest first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.earlier.iter().map(|(key, _)| key).chain([&self.key])
    }

    /// The key that signs checkpoints over `size` leaves: a change is in force from the checkpoint that covers it.
    pub(crate) fn at(&self, size: u64) -> &VerifierKey {
        self.earlier.iter().find(|(_, leaf)| size <= *leaf).map_or(&self.key, |(key, _)| key)
    }
}

/// The log's state as this process knows it: what the database holds has to agree with it.
#[derive(Debug, Clone)]
pub(crate) struct LogState {
    pub(crate) edge: RightEdge,
    pub(crate) last_time: String,
    pub(crate) checkpoint_size: u64,
    pub(crate) signer: Arc<LogSigner>,
    pub(crate) tenants: TenantTrees,
    /// A fault that the background check found; from then on no leaf counts as proven, so nothing is released.
    fault: Arc<OnceLock<Refusal>>,
    pub(crate) clock: time::Clock,
}

/// Where a new leaf stands.
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) time: String,
    pub(super) tenant: Option<(Uuid, u64)>,
}

pub(super) fn node(connection: &Connection, at: Node) -> Result<Hash, Refusal> {
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

/// A leaf of which the tree's root over `edge` is known.
fn prove(connection: &Connection, edge: &RightEdge, seq: u64) -> Result<Leaf, Refusal> {
    let foreign = || damaged(format!("leaf {seq} in the catalogue is not the one in the custody log's tree"));
    if seq >= edge.size() {
        return Err(foreign());
    }
    let text = leaf_text(connection, seq)?;
    let path = audit_path(seq, edge.size(), |at| node(connection, at))?;
    if root_from_path(seq, edge.size(), leaf_hash(text.as_bytes()), &path) != Some(edge.root()) {
        return Err(foreign());
    }
    Leaf::parse(&text).map_err(damaged)
}

/// Checks and appends the stored leaf that comes next, and compares the nodes that it completes.
pub(super) fn take_stored(
    connection: &Connection,
    edge: &mut RightEdge,
    last_time: &mut String,
    seq: i64,
    text: &str,
) -> Result<Leaf, Refusal> {
    let at = edge.size();
    if from_db(seq)? != at {
        return Err(damaged(format!("the custody log lacks leaf {at}")));
    }
    let leaf = Leaf::parse(text).map_err(|what| damaged(format!("leaf {at} of the custody log is {what}")))?;
    if leaf.seq != at || leaf.time < *last_time {
        return Err(damaged(format!("leaf {at} of the custody log is out of order")));
    }
    last_time.clone_from(&leaf.time);
    let mut nodes = Vec::new();
    edge.append(leaf_hash(text.as_bytes()), |node, hash| nodes.push((node, *hash)));
    for (place, hash) in nodes {
        if node(connection, place)? != hash {
            return Err(damaged(format!(
                "leaf {at} of the custody log does not agree with its tree: it, or one that it stands with, was changed"
            )));
        }
    }
    Ok(leaf)
}

/// Number of leaves, by the last one.
pub(super) fn stored_size(connection: &Connection) -> Result<u64, Refusal> {
    let last: Option<i64> = connection.query_row("SELECT max(seq) FROM custody_leaves", [], |row| row.get(0))?;
    last.map_or(Ok(0), |last| Ok(from_db(last)? + 1))
}

impl LogState {
    /// The state from the newest checkpoint's signature, the nodes at the right edge under it, the leaves after it, and the
    /// tenants' last roots: in time that grows with log n and with the leaves that no checkpoint covers.
    pub(super) fn load(connection: &Connection, signer: LogSigner) -> Result<Self, Refusal> {
        let newest: Option<(i64, String)> = connection
            .query_row("SELECT size, note FROM custody_checkpoints ORDER BY size DESC LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let mut edge = RightEdge::default();
        let mut last_time = String::new();
        if let Some((size, note)) = newest {
            let size = from_db(size)?;
            let checkpoint = open_checkpoint(&signer, size, &note)?;
            if size > stored_size(connection)? {
                let have = stored_size(connection)?;
                return Err(damaged(format!("the custody log has {have} leaves, {size} were signed")));
            }
            edge = RightEdge::load(size, |at| node(connection, at))?;
            if edge.root() != checkpoint.root {
                return Err(damaged(format!(
                    "the first {size} leaves of the custody log are not those that were signed"
                )));
            }
            if size > 0 {
                last_time = prove(connection, &edge, size - 1)?.time;
            }
        }
        let checkpoint_size = edge.size();
        let mut leaves = connection.prepare("SELECT seq, leaf FROM custody_leaves WHERE seq >= ?1 ORDER BY seq")?;
        let mut rows = leaves.query([to_db(checkpoint_size)?])?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(1)?;
            take_stored(connection, &mut edge, &mut last_time, row.get(0)?, &text)?;
        }
        let mut keys = signer.keys();
        let mut key = keys.next();
        for ((_, leaf), next) in signer.earlier.iter().zip(keys) {
            let change = prove(connection, &edge, *leaf)?;
            let follow = change.key_change().zip(key).and_then(|(change, old)| change.follow(old).ok());
            if follow.as_ref() != Some(next) {
                return Err(damaged(format!("leaf {leaf} of the custody log does not bring in its key {next}")));
            }
            key = Some(next);
        }
        let tenants = TenantTrees::load(connection, |seq| prove(connection, &edge, seq))?;
        Ok(Self {
            edge,
            last_time,
            checkpoint_size,
            signer: Arc::new(signer),
            tenants,
            clock: time::Clock::default(),
            fault: Arc::default(),
        })
    }

    /// The time, which never runs back behind the last entry.
    pub(crate) fn now(&self) -> String {
        self.clock.now().max(self.last_time.clone())
    }

    /// Appends a leaf made by `make` from its place; `tenant` is whose tree it belongs to as well.
    pub(super) fn append(
        &mut self,
        transaction: &Transaction<'_>,
        tenant: Option<TenantId>,
        make: impl FnOnce(Place) -> Leaf,
    ) -> Result<u64, Refusal> {
        let seq = self.edge.size();
        self.last_time = self.now();
        let mut tree = tenant.map(|id| self.tenants.tree(transaction, id)).transpose()?;
        let place = Place {
            seq,
            time: self.last_time.clone(),
            tenant: tree.as_ref().map(|tree| (tree.uuid, tree.edge.size())),
        };
        let leaf = make(place);
        let text = serde_json::to_string(&leaf).map_err(|e| internal(e.to_string()))?;
        if let Err(what) = Leaf::parse(&text) {
            return Err(internal(format!("a custody entry is {what}")));
        }
        transaction
            .prepare_cached("INSERT INTO custody_leaves (seq, leaf) VALUES (?1, ?2)")?
            .execute(params![to_db(seq)?, text])?;
        let hash = leaf_hash(text.as_bytes());
        if let Some(tree) = &mut tree {
            tree.edge.append(hash, |_, _| {});
        }
        let mut nodes = Vec::new();
        self.edge.append(hash, |node, hash| nodes.push((node, *hash)));
        let mut insert =
            transaction.prepare_cached("INSERT INTO custody_nodes (level, idx, hash) VALUES (?1, ?2, ?3)")?;
        for (place, hash) in nodes {
            insert.execute(params![place.level, to_db(place.index)?, hash])?;
        }
        Ok(seq)
    }

    /// A leaf that is proven to be part of the tree as this process knows it; none once the background check found a fault.
    pub(crate) fn proven_leaf(&self, connection: &Connection, seq: u64) -> Result<Leaf, Refusal> {
        match self.fault.get() {
            Some(fault) => Err(fault.clone()),
            None => prove(connection, &self.edge, seq),
        }
    }

    /// A leaf's text with its inclusion proof to the tree of `size` leaves.
    pub(crate) fn inclusion(connection: &Connection, seq: u64, size: u64) -> Result<(String, Vec<Hash>), Refusal> {
        Ok((leaf_text(connection, seq)?, audit_path(seq, size, |at| node(connection, at))?))
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: self.signer.key.name().to_owned(), size: self.edge.size(), root: self.edge.root() }
    }

    /// Where a fault is told to this state and all its copies.
    pub(crate) fn fault(&self) -> &Arc<OnceLock<Refusal>> {
        &self.fault
    }
}

/// A kept checkpoint, verified by the key that signs those of its size.
pub(super) fn open_checkpoint(signer: &LogSigner, size: u64, note: &str) -> Result<Checkpoint, Refusal> {
    let key = signer.at(size);
    let (checkpoint, _) = key.open(note).map_err(|e| damaged(format!("the checkpoint over {size} leaves: {e}")))?;
    if checkpoint.size != size || checkpoint.origin != key.name() {
        return Err(damaged(format!("the checkpoint over {size} leaves is not the one that its row says")));
    }
    Ok(checkpoint)
}
