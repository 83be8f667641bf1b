//! Tenants' trees: a tenant's leaves make an RFC 6962 tree of their own, whose root enters the main log before every checkpoint.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::convert::{blob32, from_db, to_db, uuid};
use crate::custody::Leaf;
use crate::custody::op;
use crate::custody::tree::{Hash, RightEdge, leaf_hash};
use crate::fault::damaged;
use crate::protocol::Refusal;

/// Row number of a tenant.
pub(crate) type TenantId = i64;

/// One tenant's tree as this process knows it.
#[derive(Debug, Clone)]
pub(crate) struct TenantTree {
    pub(crate) uuid: Uuid,
    pub(crate) edge: RightEdge,
    /// Its size at the last root in the main log.
    pub(crate) rooted: u64,
}

/// All of them. Cloned with every change of the catalogue, so the trees themselves are shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct TenantTrees(BTreeMap<TenantId, Arc<TenantTree>>);

impl TenantTrees {
    /// The trees from their last roots in the main log and the leaves since. `leaf` gives proven leaves of the main log.
    pub(super) fn load(sql: &Connection, leaf: impl Fn(u64) -> Result<Leaf, Refusal>) -> Result<Self, Refusal> {
        let mut trees = BTreeMap::new();
        let mut tenants = sql.prepare(
            "SELECT id, uuid, size, edge, tree.leaf FROM tenants LEFT JOIN tenant_trees tree ON tenant = id WHERE uuid IS NOT NULL",
        )?;
        let mut rows = tenants.query([])?;
        while let Some(row) = rows.next()? {
            let (id, name): (TenantId, String) = (row.get(0)?, row.get(1)?);
            let tenant = uuid(&name)?;
            let kept: Option<(i64, Vec<u8>, i64)> = match row.get::<_, Option<i64>>(2)? {
                Some(size) => Some((size, row.get(3)?, row.get(4)?)),
                None => None,
            };
            let wrong =
                || damaged(format!("the tree of tenant {tenant} is not the one of its root in the custody log"));
            let mut edge = match kept {
                None => RightEdge::default(),
                Some((size, bytes, at)) => {
                    let hashes: Vec<Hash> = bytes.chunks(32).map(blob32).collect::<Result<_, _>>()?;
                    let edge = RightEdge::from_subtrees(from_db(size)?, hashes).ok_or_else(wrong)?;
                    let root = leaf(from_db(at)?)?;
                    let is_it = root.op == op::TENANT_ROOT
                        && root.tenant == Some(tenant)
                        && root.tenant_size == Some(edge.size())
                        && root.tenant_root.map(|r| r.0) == Some(edge.root());
                    if !is_it {
                        return Err(wrong());
                    }
                    edge
                }
            };
            let rooted = edge.size();
            let mut since = sql.prepare_cached(
                "SELECT tenant_seq, leaf FROM custody_leaves WHERE tenant = ?1 AND tenant_seq >= ?2 ORDER BY tenant_seq",
            )?;
            let mut leaves = since.query(params![name, to_db(rooted)?])?;
            while let Some(row) = leaves.next()? {
                if from_db(row.get(0)?)? != edge.size() {
                    return Err(damaged(format!("the custody log lacks leaf {} of tenant {tenant}", edge.size())));
                }
                edge.append(leaf_hash(row.get::<_, String>(1)?.as_bytes()), |_, _| {});
            }
            trees.insert(id, Arc::new(TenantTree { uuid: tenant, edge, rooted }));
        }
        Ok(Self(trees))
    }

    /// The tree of a tenant, empty for one that is new.
    pub(super) fn tree(&mut self, sql: &Connection, id: TenantId) -> Result<&mut TenantTree, Refusal> {
        let tree = match self.0.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let found: Option<Option<String>> =
                    sql.query_row("SELECT uuid FROM tenants WHERE id = ?1", [id], |r| r.get(0)).optional()?;
                let name = found.flatten().ok_or_else(|| damaged(format!("the catalogue lacks tenant {id}")))?;
                let tree = TenantTree { uuid: uuid(&name)?, edge: RightEdge::default(), rooted: 0 };
                new.insert(Arc::new(tree))
            }
        };
        Ok(Arc::make_mut(tree))
    }

    /// Tenants whose trees have grown since their last roots.
    pub(crate) fn grown(&self) -> Vec<TenantId> {
        self.0.iter().filter(|(_, tree)| tree.edge.size() > tree.rooted).map(|(id, _)| *id).collect()
    }

    pub(crate) fn by_uuid(&self, uuid: Uuid) -> Option<(TenantId, &TenantTree)> {
        self.0.iter().find(|(_, tree)| tree.uuid == uuid).map(|(id, tree)| (*id, tree.as_ref()))
    }

    /// Remembers that the root of the tree as it is now stands in `leaf`.
    pub(super) fn rooted(&mut self, sql: &Transaction<'_>, id: TenantId, leaf: u64) -> Result<(), Refusal> {
        let tree = self.tree(sql, id)?;
        tree.rooted = tree.edge.size();
        let edge: Vec<u8> = tree.edge.subtrees().concat();
        sql.prepare_cached(
            "INSERT INTO tenant_trees (tenant, size, edge, leaf) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (tenant) DO UPDATE SET size = excluded.size, edge = excluded.edge, leaf = excluded.leaf",
        )?
        .execute(params![id, to_db(tree.rooted)?, edge, to_db(leaf)?])?;
        Ok(())
    }
}

/// The tenant of a volume, or of a key: a data key's volume's, or a key-encryption key's.
pub(super) fn tenant_of(
    sql: &Connection,
    volume: Option<Uuid>,
    key: Option<Uuid>,
) -> Result<Option<TenantId>, Refusal> {
    if let Some(volume) = volume {
        let mut query = sql.prepare_cached("SELECT tenant FROM volumes WHERE id = ?1")?;
        let found = query.query_row([volume.to_string()], |r| r.get(0)).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    let Some(key) = key else { return Ok(None) };
    let mut query = sql.prepare_cached(
        "SELECT v.tenant FROM generations g JOIN volumes v ON v.id = g.volume WHERE g.key_id = ?1
         UNION ALL SELECT tenant FROM keks WHERE id = ?1 LIMIT 1",
    )?;
    Ok(query.query_row([key.to_string()], |r| r.get(0)).optional()?)
}
