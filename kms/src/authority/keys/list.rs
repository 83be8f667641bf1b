//! Lists of keys and key-encryption keys, and what ends soon.

use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::super::Authority;
use super::super::admin::by_name;
use crate::catalogue::{from_db, named, uuid};
use crate::fault::internal;
use crate::protocol::{
    CompromiseView, DataKeyView, GenerationRef, KekView, KeyFilter, KeyLifeSummary, KeyState, Refusal, Rights,
};
use crate::time;

/// How many days ahead ends of periods are told without being asked.
pub(in crate::authority) const NOTICE_DAYS: u32 = 30;
const MOST_KEYS: u32 = 5000;
/// Keys that the journal is told by name each day.
const MOST_TOLD: u32 = 20;

const KEYS: &str =
    "SELECT g.key_id, g.volume, g.partition, g.generation, v.label, v.barcode, p.name, v.state, v.written, g.state,
        g.key_state, g.created, l.seal_until, l.open_until, g.kek, l.medium_kek, s.time, s.reason, s.leaf
    FROM generations g JOIN volumes v ON v.id = g.volume JOIN pools p ON p.id = v.pool
    LEFT JOIN key_life l ON l.key_id = g.key_id
    LEFT JOIN compromised_keys k ON k.key_id = g.key_id LEFT JOIN compromises s ON s.leaf = k.leaf";

const STANDING: &str = "g.state IN ('active', 'pending') AND v.state IN ('labelling', 'active', 'retired')";

fn view(r: &Row<'_>, now: &str) -> Result<DataKeyView, Refusal> {
    let id = |n: usize| -> Result<Uuid, Refusal> { uuid(&r.get::<_, String>(n)?) };
    let medium_kek: Option<String> = r.get(15)?;
    let key_state: KeyState = named(r.get(10)?)?;
    let (seal_until, open_until): (Option<String>, Option<String>) = (r.get(12)?, r.get(13)?);
    let past = |until: &Option<String>| until.as_deref().is_some_and(|until| now >= until);
    let rights = match key_state.rights() {
        Some(_) if past(&open_until) => None,
        Some(Rights::SealAndOpen) if past(&seal_until) => Some(Rights::OpenOnly),
        other => other,
    };
    let compromised = match r.get::<_, Option<i64>>(18)? {
        Some(leaf) => Some(CompromiseView { time: r.get(16)?, reason: r.get(17)?, entry: from_db(leaf)? }),
        None => None,
    };
    Ok(DataKeyView {
        at: GenerationRef { key_id: id(0)?, volume: id(1)?, partition: r.get(2)?, generation: r.get(3)? },
        label: r.get(4)?,
        barcode: r.get(5)?,
        pool: r.get(6)?,
        volume_state: named(r.get(7)?)?,
        written: r.get(8)?,
        state: named(r.get(9)?)?,
        key_state,
        rights,
        created: r.get(11)?,
        seal_until,
        open_until,
        kek: id(14)?,
        medium_kek: medium_kek.as_deref().map(uuid).transpose()?,
        compromised,
    })
}

/// Keys under a medium key-encryption key that hold back its destruction: their generation stands on a medium, and they are neither
/// destroyed nor past the time until which they open.
pub(in crate::authority) fn held_by(sql: &Connection, kek: Uuid, now: &str) -> Result<Vec<Uuid>, Refusal> {
    let mut query = sql.prepare_cached(
        "SELECT g.key_id FROM key_life l JOIN generations g ON g.key_id = l.key_id JOIN volumes v ON v.id = g.volume
         WHERE l.medium_kek = ?1 AND g.state IN ('active', 'pending') AND v.state IN ('labelling', 'active', 'retired')
         AND g.key_state NOT IN ('destroyed', 'destroyed_compromised') AND (l.open_until IS NULL OR l.open_until > ?2)
         ORDER BY g.key_id",
    )?;
    let ids: Vec<String> = query.query_map(params![kek.to_string(), now], |r| r.get(0))?.collect::<Result<_, _>>()?;
    ids.iter().map(|id| uuid(id)).collect()
}

impl Authority {
    /// A page of the list of data keys.
    ///
    /// # Errors
    /// When a volume is unknown or the catalogue cannot be read.
    pub fn list_keys(&self, which: &KeyFilter, after: Option<Uuid>, limit: u32) -> Result<Vec<DataKeyView>, Refusal> {
        let catalogue = self.lock();
        let (sql, now) = (catalogue.sql(), catalogue.now());
        let (clause, value) = match which {
            KeyFilter::All => ("?3 IS NULL".to_owned(), None),
            KeyFilter::Standing => (format!("{STANDING} AND ?3 IS NULL"), None),
            KeyFilter::Volume { volume } => ("g.volume = ?3".to_owned(), Some(by_name(sql, volume)?.id.to_string())),
            KeyFilter::Expiring { days } => (
                format!(
                    "{STANDING} AND g.key_state IN ('pre_active', 'active', 'deactivated')
                         AND (l.open_until <= ?3 OR l.seal_until <= ?3)"
                ),
                Some(time::days_after(&now, *days).ok_or_else(|| internal("the time is malformed"))?),
            ),
            KeyFilter::Compromised => {
                (format!("{STANDING} AND g.key_state IN ('compromised', 'destroyed_compromised') AND ?3 IS NULL"), None)
            }
        };
        let mut query =
            sql.prepare_cached(&format!("{KEYS} WHERE g.key_id > ?1 AND {clause} ORDER BY g.key_id LIMIT ?2"))?;
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let mut rows = query.query(params![after, limit.min(MOST_KEYS), value])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(view(row, &now)?);
        }
        Ok(keys)
    }

    /// The key-encryption keys, those of the catalogue first.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn list_keks(&self) -> Result<Vec<KekView>, Refusal> {
        let catalogue = self.lock();
        let (sql, now) = (catalogue.sql(), catalogue.now());
        let mut query = sql.prepare(
            "SELECT k.id, k.purpose, p.name, m.epoch, m.until, k.state, k.created,
                CASE k.purpose WHEN 'medium' THEN (SELECT count(*) FROM key_life l WHERE l.medium_kek = k.id)
                               ELSE (SELECT count(*) FROM generations g WHERE g.kek = k.id) END, t.name
             FROM keks k JOIN tenants t ON t.id = k.tenant LEFT JOIN medium_keks m ON m.kek = k.id LEFT JOIN pools p ON p.id = m.pool
             ORDER BY k.purpose, t.id, p.name, k.created, k.id",
        )?;
        let mut rows = query.query([])?;
        let mut keks = Vec::new();
        while let Some(r) = rows.next()? {
            let id = uuid(&r.get::<_, String>(0)?)?;
            let purpose: String = r.get(1)?;
            let keys = from_db(r.get(7)?)?;
            let held = if purpose == "medium" { held_by(sql, id, &now)?.len() as u64 } else { keys };
            keks.push(KekView {
                id,
                purpose,
                tenant: r.get(8)?,
                pool: r.get(2)?,
                epoch: r.get(3)?,
                until: r.get(4)?,
                state: r.get(5)?,
                created: r.get(6)?,
                keys,
                held_by: held,
            });
        }
        Ok(keks)
    }

    /// Tells the journal which keys come to the end of a period within the next month, or have.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn tell_of_key_ends(&self) -> Result<(), Refusal> {
        let summary = self.key_life_summary()?;
        let ends = summary.sealing_ends + summary.opening_ends + summary.expired;
        if ends > 0 {
            tracing::warn!(
                sealing_ends = summary.sealing_ends,
                opening_ends = summary.opening_ends,
                expired = summary.expired,
                "keys come to the end of a period within {NOTICE_DAYS} days: sealtape key list --expiring {NOTICE_DAYS}"
            );
            for key in self.list_keys(&KeyFilter::Expiring { days: NOTICE_DAYS }, None, MOST_TOLD)? {
                let until = |until: Option<String>| until.unwrap_or_else(|| "no limit".into());
                let (seals, opens) = (until(key.seal_until), until(key.open_until));
                tracing::warn!(volume = %key.at.volume, key = %key.at.key_id, label = ?key.label, %seals, %opens, "a key's periods");
            }
        }
        if summary.compromised_volumes > 0 {
            tracing::warn!(
                volumes = summary.compromised_volumes,
                "volumes with compromised keys have to be written anew: sealtape key list --compromised"
            );
        }
        Ok(())
    }

    /// What ends within the next month, and what has ended.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn key_life_summary(&self) -> Result<KeyLifeSummary, Refusal> {
        let catalogue = self.lock();
        let now = catalogue.now();
        let soon = time::days_after(&now, NOTICE_DAYS).ok_or_else(|| internal("the time is malformed"))?;
        let count = |what: &str| -> Result<u64, Refusal> {
            let query = format!(
                "SELECT count(*) FROM key_life l JOIN generations g ON g.key_id = l.key_id JOIN volumes v ON v.id = g.volume
                 WHERE {STANDING} AND g.key_state IN ('pre_active', 'active', 'deactivated') AND {what}"
            );
            from_db(catalogue.sql().query_row(&query, params![now, soon], |r| r.get(0))?)
        };
        let compromised = format!(
            "SELECT count(DISTINCT g.volume) FROM generations g JOIN volumes v ON v.id = g.volume
             WHERE {STANDING} AND g.key_state IN ('compromised', 'destroyed_compromised')"
        );
        Ok(KeyLifeSummary {
            notice_days: NOTICE_DAYS,
            sealing_ends: count("l.seal_until > ?1 AND l.seal_until <= ?2")?,
            opening_ends: count("l.open_until > ?1 AND l.open_until <= ?2")?,
            expired: count("l.open_until <= ?1 AND ?2 IS NOT NULL")?,
            compromised_volumes: from_db(catalogue.sql().query_row(&compromised, [], |r| r.get(0))?)?,
        })
    }
}
