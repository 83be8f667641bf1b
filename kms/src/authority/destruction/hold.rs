//! Legal hold: a volume that is held is not destroyed, whoever approves it.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::super::admin::by_name;
use super::super::{Authority, check_name};
use crate::catalogue::{Actor, Entry, VolumeRow, to_db, uuid};
use crate::custody::op;
use crate::protocol::{HoldView, Refusal, RefusalCode};
use crate::time;

/// Refuses a volume that is held.
pub(super) fn check_not_held(sql: &Connection, volume: &VolumeRow) -> Result<(), Refusal> {
    let query = "SELECT reason FROM holds WHERE volume = ?1";
    let held: Option<String> = sql.query_row(query, [volume.id.to_string()], |r| r.get(0)).optional()?;
    match held {
        None => Ok(()),
        Some(reason) => Err(Refusal::new(
            RefusalCode::VolumeState,
            format!("{} is held: {reason}", volume.words()),
            "when the hold is over: sealtape volume release",
        )),
    }
}

impl Authority {
    /// Holds a volume, so that it is not destroyed, or releases it again.
    ///
    /// # Errors
    /// When it is unknown, or is so already.
    pub fn hold_volume(&self, actor: Actor, volume: &str, held: bool, reason: &str) -> Result<(), Refusal> {
        self.refusals_logged(
            actor,
            op::VOLUME_HOLD,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                self.lock().change(|c| {
                    let row = by_name(&c.sql, volume)?;
                    let words = if held { "held" } else { "released" };
                    let entry = Entry::done(actor, op::VOLUME_HOLD).volume(row.id);
                    let leaf = c.record(entry.reason(format!("{words}: {reason}")))?;
                    let changed = if held {
                        let insert =
                            "INSERT OR IGNORE INTO holds (volume, reason, since, leaf) VALUES (?1, ?2, ?3, ?4)";
                        c.sql.execute(insert, params![row.id.to_string(), reason, time::now(), to_db(leaf)?])?
                    } else {
                        c.sql.execute("DELETE FROM holds WHERE volume = ?1", [row.id.to_string()])?
                    };
                    if changed == 1 {
                        return Ok(());
                    }
                    let what = format!("{} is {} already", row.words(), if held { "held" } else { "not held" });
                    Err(Refusal::new(RefusalCode::VolumeState, what, "see: sealtape volume hold --list"))
                })
            },
        )
    }

    /// The volumes that are held.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn holds(&self) -> Result<Vec<HoldView>, Refusal> {
        let catalogue = self.lock();
        let query = "SELECT h.volume, v.label, h.reason, h.since FROM holds h JOIN volumes v ON v.id = h.volume ORDER BY h.since";
        let mut query = catalogue.sql().prepare_cached(query)?;
        let rows: Vec<(String, String, String, String)> =
            query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?.collect::<Result<_, _>>()?;
        let view = |(volume, label, reason, since): (String, _, _, _)| -> Result<HoldView, Refusal> {
            let volume: Uuid = uuid(&volume)?;
            Ok(HoldView { volume, label, reason, since })
        };
        rows.into_iter().map(view).collect()
    }
}
