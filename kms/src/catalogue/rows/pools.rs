//! Pools.

use super::*;

#[derive(Debug, Clone)]
pub(crate) struct PoolRow {
    pub(crate) id: i64,
    pub(crate) tenant: i64,
    pub(crate) policy: PoolPolicy,
    /// The custody entry whose digest is that of the policy.
    pub(crate) policy_leaf: Option<u64>,
}

const POOL: &str =
    "SELECT id, tenant, name, suite, compression, key_on_medium, label_on_medium, barcode_on_medium, auto_label, life, policy_leaf,
                    recovery_on_medium
                    FROM pools";

fn pool(row: &Row<'_>) -> rusqlite::Result<(PoolRow, Option<String>, String, Option<i64>)> {
    let policy = PoolPolicy {
        name: row.get(2)?,
        suite: row.get(3)?,
        compression: row.get(4)?,
        key_on_medium: row.get(5)?,
        recovery_on_medium: row.get(11)?,
        label_on_medium: row.get(6)?,
        barcode_on_medium: row.get(7)?,
        auto_label: None,
        life: KeyLife::default(),
    };
    let pool = PoolRow { id: row.get(0)?, tenant: row.get(1)?, policy, policy_leaf: None };
    Ok((pool, row.get(8)?, row.get(9)?, row.get(10)?))
}

impl PoolRow {
    fn from_raw(
        (mut row, auto_label, life, leaf): (Self, Option<String>, String, Option<i64>),
    ) -> Result<Self, Refusal> {
        row.policy.auto_label = auto_label.map(BarcodePattern::try_from).transpose().map_err(damaged)?;
        row.policy.life = serde_json::from_str(&life)
            .map_err(|e| damaged(format!("pool {}: its periods are malformed: {e}", row.policy.name)))?;
        row.policy_leaf = leaf.map(from_db).transpose()?;
        Ok(row)
    }

    pub(crate) fn find(sql: &Connection, id: i64) -> Result<Self, Refusal> {
        let found = sql.query_row(&format!("{POOL} WHERE id = ?1"), [id], pool).optional()?;
        Self::from_raw(found.ok_or_else(|| damaged("the catalogue lacks a pool"))?)
    }

    pub(crate) fn named(sql: &Connection, name: &str) -> Result<Self, Refusal> {
        let found = sql.query_row(&format!("{POOL} WHERE name = ?1"), [name], pool).optional()?;
        let unknown =
            || Refusal::new(RefusalCode::UnknownPool, format!("there is no pool {name:?}"), "see: sealtape pool list");
        Self::from_raw(found.ok_or_else(unknown)?)
    }

    pub(crate) fn all(sql: &Connection) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare(&format!("{POOL} ORDER BY name"))?;
        let rows: Vec<_> = query.query_map([], pool)?.collect::<Result<_, _>>()?;
        rows.into_iter().map(Self::from_raw).collect()
    }

    /// Whether `unit` may use this pool.
    pub(crate) fn check_unit(&self, sql: &Connection, unit: &str) -> Result<(), Refusal> {
        let mut query = sql.prepare_cached("SELECT pool FROM unit_pools WHERE unit = ?1")?;
        let pools: Vec<i64> = query.query_map([unit], |row| row.get(0))?.collect::<Result<_, _>>()?;
        if pools.is_empty() || pools.contains(&self.id) {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::UnitRestricted,
            format!("unit {unit} may not use pool {}", self.policy.name),
            "load the volume in another unit, or change the unit's pools",
        ))
    }
}
