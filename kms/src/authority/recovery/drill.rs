//! Canaries for drills, and their reports.

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::{Authority, check_name};
use super::RecoveryKeyRow;
use crate::catalogue::{Actor, Entry, TenantRow, from_db, to_db};
use crate::custody::{Outcome, canonical, op};
use crate::fault::{bad_request, damaged, internal};
use crate::protocol::{RecoveryReply, Refusal, RefusalCode};
use crate::recovery::drill::{self, Canary, Report};
use crate::time;

/// Binds a canary to the key that verifies its report.
fn binding(canary: Uuid, public: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"sealtape canary 1")
        .chain_update(canary.as_bytes())
        .chain_update(public)
        .finalize()
        .into()
}

impl Authority {
    pub(super) fn canary(&self, actor: Actor, key: Option<Uuid>, tenant: Option<&str>) -> Result<Canary, Refusal> {
        self.refusals_logged(actor, op::RECOVERY_CANARY, |e| e, || {
            let recovery = {
                let catalogue = self.lock();
                match key {
                    Some(key) => RecoveryKeyRow::find(catalogue.sql(), catalogue.log(), key)?,
                    None => {
                        let tenant = TenantRow::named(catalogue.sql(), catalogue.log(), tenant)?;
                        let active = RecoveryKeyRow::active(catalogue.sql(), catalogue.log(), tenant.id)?;
                        active.ok_or_else(|| {
                            let mend = "make one, and install it: sealtape recovery init";
                            bad_request("there is no recovery key in use", mend)
                        })?
                    }
                }
            };
            let public = &recovery.public;
            let (canary, key) = drill::canary(&recovery.recipient, recovery.id, &public.tenant, public.epoch)
                .map_err(|e| internal(e.to_string()))?;
            self.lock().change(|c| {
                let entry = Entry::done(actor, op::RECOVERY_CANARY).key(recovery.id).tenant(recovery.tenant).digest(binding(canary.canary, &key));
                let leaf = c.record(entry.reason(format!("canary {}", canary.canary)))?;
                c.sql.execute(
                    "INSERT INTO recovery_canaries (id, recovery_key, public, created, leaf) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![canary.canary.to_string(), recovery.id.to_string(), key, time::now(), to_db(leaf)?],
                )?;
                Ok(())
            })?;
            Ok(canary)
        })
    }

    pub(super) fn enter_drill(&self, actor: Actor, report: &Report) -> Result<RecoveryReply, Refusal> {
        self.refusals_logged(
            actor,
            op::RECOVERY_DRILL,
            |e| e.key(report.recovery_key),
            || {
                if !report.note.is_empty() {
                    check_name("note of a drill", &report.note, 500)?;
                }
                let value = serde_json::to_value(report).map_err(|e| internal(e.to_string()))?;
                let text =
                    canonical(&value).ok_or_else(|| bad_request("the report is no JSON", "take the file unchanged"))?;
                self.lock().change(|c| {
                    let row: Option<(String, Vec<u8>, i64, Option<String>)> = c
                        .sql
                        .query_row(
                            "SELECT recovery_key, public, leaf, drilled FROM recovery_canaries WHERE id = ?1",
                            [report.canary.to_string()],
                            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)),
                        )
                        .optional()?;
                    let (key, public, leaf, drilled) = row.ok_or_else(|| {
                        bad_request(
                            format!("the canary {} was not made here", report.canary),
                            "enter the report at the installation that made the canary",
                        )
                    })?;
                    if let Some(when) = drilled {
                        let what = format!("the drill with canary {} was entered on {when}", report.canary);
                        return Err(bad_request(what, "a new drill needs a new canary: sealtape recovery canary"));
                    }
                    let made = c.log().proven_leaf(&c.sql, from_db(leaf)?)?;
                    let is_it = made.op == op::RECOVERY_CANARY
                        && made.outcome == Outcome::Done
                        && made.digest.map(|d| d.0) == Some(binding(report.canary, &public))
                        && made.key.map(|k| k.to_string()).as_deref() == Some(key.as_str());
                    let public = <[u8; 32]>::try_from(public).ok().filter(|_| is_it);
                    let public = public.ok_or_else(|| damaged(format!("the canary {} was changed", report.canary)))?;
                    if report.recovery_key.to_string() != key {
                        let what = format!("the canary {} is for the recovery key {key}", report.canary);
                        return Err(bad_request(what, "enter the report as it was written"));
                    }
                    drill::verify(report, &public).map_err(|e| {
                        let what = format!("the report of canary {}: {e}", report.canary);
                        Refusal::new(
                            RefusalCode::BadRequest,
                            what,
                            "enter the report as it was written, or hold the drill again",
                        )
                    })?;
                    let tenant = RecoveryKeyRow::find(&c.sql, c.log(), report.recovery_key)?.tenant;
                    let shares: Vec<String> = report.shares.iter().map(u8::to_string).collect();
                    let words = format!(
                        "canary {}, opened on {} with shares {} of set {}{}{}",
                        report.canary,
                        report.time,
                        shares.join(", "),
                        report.set,
                        if report.note.is_empty() { "" } else { ": " },
                        report.note
                    );
                    let entry = Entry::done(actor, op::RECOVERY_DRILL).key(report.recovery_key).tenant(tenant);
                    let leaf = c.record(entry.digest(Sha256::digest(&text).into()).reason(words))?;
                    c.sql.execute(
                        "UPDATE recovery_canaries SET drilled = ?2, drill_leaf = ?3 WHERE id = ?1",
                        params![report.canary.to_string(), time::now(), to_db(leaf)?],
                    )?;
                    Ok(RecoveryReply::Done)
                })
            },
        )
    }
}
