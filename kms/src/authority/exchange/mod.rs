//! Giving keys to partners and taking theirs.

mod export;
mod import;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::Authority;
use crate::catalogue::{Actor, Change, GenerationRow, KeyLifeRow, LogState, VolumeRow, from_db, named, to_db};
use crate::custody::op;
use crate::fault::{bad_request, damaged};
use crate::hex::Hex;
use crate::protocol::{ExchangeReply, ExchangeRequest, PackageView, Refusal, RefusalCode};
use crate::secret::DataKey;

impl Authority {
    /// Serves a request of this area; `secret` is what came in the frame's secret area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_exchange(
        &self,
        actor: Actor,
        request: ExchangeRequest,
        secret: Option<DataKey>,
    ) -> Result<ExchangeReply, Refusal> {
        match request {
            ExchangeRequest::Ask(order) => self.ask_for_export(actor, &order),
            ExchangeRequest::Export { request } => self.export_package(actor, request),
            ExchangeRequest::Import { package, site_key, identity, pool } => {
                let seed = secret.ok_or_else(|| {
                    bad_request("the identity that opens the package was not sent", "use programs of one version")
                })?;
                self.import_package(actor, &package, &site_key, identity, seed, pool.as_deref())
            }
            ExchangeRequest::Packages => self.packages().map(ExchangeReply::Packages),
        }
    }

    fn packages(&self) -> Result<Vec<PackageView>, Refusal> {
        let catalogue = self.lock();
        let mut query = catalogue.sql().prepare(
            "SELECT id, direction, origin, partner, recipient, expires, keys, created, leaf FROM packages ORDER BY leaf DESC",
        )?;
        let mut rows = query.query([])?;
        let mut packages = Vec::new();
        while let Some(r) = rows.next()? {
            let recipient: String = r.get(4)?;
            packages.push(PackageView {
                package: crate::catalogue::uuid(&r.get::<_, String>(0)?)?,
                direction: named(r.get(1)?)?,
                origin: r.get(2)?,
                partner: r.get(3)?,
                recipient: recipient.parse().map_err(|_| damaged("a package's recipient is malformed"))?,
                expires: r.get(5)?,
                keys: from_db(r.get(6)?)?,
                created: r.get(7)?,
                entry: from_db(r.get(8)?)?,
            });
        }
        Ok(packages)
    }
}

/// A row of a package.
fn insert_package(
    c: &Change<'_>,
    direction: &str,
    body: &crate::exchange::Body,
    created: &str,
    leaf: u64,
) -> Result<(), Refusal> {
    c.sql.execute(
        "INSERT INTO packages (id, direction, origin, partner, recipient, expires, sha256, keys, created, leaf)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            body.package.to_string(),
            direction,
            body.origin,
            body.partner,
            body.recipient.to_string(),
            body.expires,
            body.digest()?,
            to_db(body.keys.len() as u64)?,
            created,
            to_db(leaf)?
        ],
    )?;
    Ok(())
}

/// Refuses to write to, or to pass on, what belongs to a partner.
pub(super) fn check_ours(sql: &Connection, volume: &VolumeRow) -> Result<(), Refusal> {
    let theirs: bool = sql
        .prepare_cached(
            "SELECT imported IS NOT NULL OR EXISTS (SELECT 1 FROM generations g JOIN imported_keys i USING (key_id)
             WHERE g.volume = volumes.id) FROM volumes WHERE id = ?1",
        )?
        .query_row([volume.id.to_string()], |r| r.get(0))?;
    if theirs {
        let what = format!("{} is a partner's: its imported keys open, and never seal", volume.words());
        return Err(Refusal::new(RefusalCode::VolumeState, what, "write to a volume of your own"));
    }
    Ok(())
}

/// The periods of a partner's key: it never seals here, and ends with its package.
fn life(key_id: Uuid, expires: &str) -> KeyLifeRow {
    let never = "1970-01-01T00:00:00.000Z".to_owned();
    KeyLifeRow { key_id, seal_until: Some(never), open_until: Some(expires.to_owned()), medium_kek: None, leaf: 0 }
}

/// Refuses a partner's key that is over. The clock set back does not help: the time of the log's last entry counts too.
pub(super) fn check_not_over(sql: &Connection, log: &LogState, now: &str, row: &GenerationRow) -> Result<(), Refusal> {
    let at = row.at;
    let found: Option<(String, i64)> = sql
        .prepare_cached("SELECT expires, leaf FROM imported_keys WHERE key_id = ?1")?
        .query_row([at.key_id.to_string()], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let theirs: bool = sql
        .prepare_cached("SELECT imported IS NOT NULL FROM volumes WHERE id = ?1")?
        .query_row([at.volume.to_string()], |r| r.get(0))?;
    let made = log.proven_leaf(sql, row.created_leaf)?;
    let Some((expires, leaf)) = found else {
        if theirs || made.op == op::KEY_IMPORT {
            return Err(damaged(format!("the catalogue lacks until when the partner's key {} may be used", at.key_id)));
        }
        return Ok(());
    };
    let entry = log.proven_leaf(sql, from_db(leaf)?)?;
    let bound = Hex(life(at.key_id, &expires).digest()?);
    if entry.op != op::KEY_IMPORT || entry.key != Some(at.key_id) || entry.digest != Some(bound) {
        return Err(damaged(format!("until when the partner's key {} may be used was changed", at.key_id)));
    }
    if *expires < *now {
        let what = format!("the partner's key of volume {} was given until {expires}, and now is {now}", at.volume);
        return Err(Refusal::new(RefusalCode::VolumeState, what, "ask the partner for a new package, and import it"));
    }
    Ok(())
}
