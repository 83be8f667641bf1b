//! The certificate of a destruction, from its plan and what was done.

use std::collections::BTreeMap;

use rusqlite::Connection;
use uuid::Uuid;

use super::journal::{BatchRow, digest};
use super::steps::{backup_words, or_now};
use crate::catalogue::{LogState, uuid};
use crate::custody::Leaf;
use crate::custody::certificate::{
    CERTIFICATE_FORMAT, Certificate, CertifiedCopy, CertifiedKek, CertifiedKey, LogPlace,
};
use crate::fault::internal;
use crate::hex::Hex;
use crate::protocol::{CopyKind, DestructionPlan, Fate, Refusal};

/// How the wiped rows are gone from the files.
const WIPED: &str = "rows overwritten (secure_delete), write-ahead log truncated, database file written anew (VACUUM)";

fn name(value: impl serde::Serialize) -> Result<String, Refusal> {
    crate::catalogue::name(value)
}

/// Draws the certificate up. It tells the log as it is before the certificate's own entry, whose number is therefore `log.size`.
pub(super) fn make(
    sql: &Connection,
    log: &LogState,
    origin: &str,
    row: &BatchRow,
    plan: &DestructionPlan,
    leaf: Leaf,
) -> Result<Certificate, Refusal> {
    let mut query = sql.prepare("SELECT kek, verified FROM destroyed_keks")?;
    let rows: Vec<(String, String)> = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
    let verified: BTreeMap<Uuid, String> =
        rows.into_iter().map(|(kek, how)| Ok((uuid(&kek)?, how))).collect::<Result<_, Refusal>>()?;
    let mut keks = Vec::new();
    for kek in &plan.keks {
        let how = match kek.fate {
            Fate::Destroyed => {
                let how = verified.get(&kek.kek).cloned();
                Some(how.ok_or_else(|| internal(format!("the key-encryption key {} is not destroyed", kek.kek)))?)
            }
            Fate::Kept | Fate::Unreachable => None,
        };
        keks.push(CertifiedKek {
            fate: name(kek.fate)?,
            kek: kek.kek,
            means: how.unwrap_or_else(|| kek.means.clone()),
            purpose: kek.purpose.clone(),
        });
    }
    let mut copies = Vec::new();
    for copy in &plan.copies {
        let verified = match (copy.fate, copy.kind) {
            (Fate::Destroyed, CopyKind::Catalogue) => Some(WIPED.to_owned()),
            (Fate::Destroyed, CopyKind::Medium | CopyKind::Backup) => {
                Some("the key-encryption keys were looked for in the token and not found".to_owned())
            }
            (Fate::Destroyed, CopyKind::Released) => Some("told; whether a data path obeys is not proven".to_owned()),
            _ => None,
        };
        copies.push(CertifiedCopy {
            fate: name(copy.fate)?,
            holder: copy.holder.clone(),
            key: copy.key,
            kind: name(copy.kind)?,
            means: copy.means.clone(),
            place: copy.place.clone(),
            sha256: copy.sha256.clone(),
            verified,
        });
    }
    let mut keys = Vec::new();
    for key in &plan.keys {
        keys.push(CertifiedKey {
            generation: key.at.generation,
            key: key.at.key_id,
            label: key.label.clone(),
            partition: key.at.partition,
            state_before: name(key.key_state)?,
            volume: key.at.volume,
        });
    }
    Ok(Certificate {
        approvals: leaf.approvals,
        backup: backup_words(sql, log, row)?,
        batch: row.id,
        began: leaf.time,
        begun_entry: leaf.seq,
        copies,
        ended: or_now(row.ended.as_ref()),
        format: CERTIFICATE_FORMAT.into(),
        hsm_backups: plan.hsm_backups.clone(),
        keks,
        keys,
        log: LogPlace { origin: origin.to_owned(), root: Hex(log.edge.root()), size: log.edge.size() },
        operation: plan.operation.words(),
        plan: Hex(digest(&row.plan)),
        reason: row.reason.clone(),
        request: row.request,
        request_digest: leaf.digest.ok_or_else(|| internal("an approval without its request's digest"))?,
    })
}
