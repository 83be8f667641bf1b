//! What follows the point of no return, step by step. Each is found again by the state in the catalogue, and does no harm twice.

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::super::keys::held_by;
use super::super::rotate::first_that_goes_on;
use super::super::{Authority, canary_aad};
use super::backup::made_since;
use super::certificate;
use super::journal::{BatchRow, digest};
use super::plan::tenant_of;
use crate::catalogue::{Actor, Entry, GenerationRow, KekRow, LogState, RotationRow, VolumeRow, uuid};
use crate::custody::{Outcome, op};
use crate::fault::internal;
use crate::hex::Hex;
use crate::pkcs11::{TokenError, WrapWith};
use crate::protocol::{BatchState, BatchView, DestructionPlan, Fate, Refusal, RefusalCode, RotationState};
use crate::time;

impl Authority {
    /// The next step of a destruction under way; false when there is none, or each waits for its rotation.
    pub(in super::super) fn destruction_step(&self) -> Result<bool, Refusal> {
        let rows = BatchRow::under_way(self.lock().sql())?;
        first_that_goes_on(rows, |row| {
            let plan = {
                let catalogue = self.lock();
                let (sql, log) = (catalogue.sql(), catalogue.log());
                row.approved(sql, log)?;
                row.planned(sql, log)?
            };
            match row.state {
                BatchState::Asked | BatchState::Done => Ok(false),
                BatchState::Rewrapping => self.after_survivors(&row),
                BatchState::Backup => self.backup_step(row),
                BatchState::Keks => self.kek_step(&row, &plan),
                BatchState::Wiping => self.wipe_step(row),
                BatchState::Certifying => self.certify(&row, &plan),
                BatchState::Signing => self.sign_certificate(row),
            }
        })
    }

    fn go_on(&self, mut row: BatchRow, to: BatchState) -> Result<bool, Refusal> {
        row.state = to;
        self.lock().progress(|sql| row.update(sql))?;
        Ok(true)
    }

    fn after_survivors(&self, row: &BatchRow) -> Result<bool, Refusal> {
        let rotation = row.rotation.ok_or_else(|| internal("a destruction without its rotation"))?;
        let state = RotationRow::find(self.lock().sql(), rotation)?.state;
        if state == RotationState::Done { self.go_on(row.clone(), BatchState::Backup) } else { Ok(false) }
    }

    /// Destroys the next key-encryption key in the token, looks for it again, and tries whether its canary opens.
    fn kek_step(&self, row: &BatchRow, plan: &DestructionPlan) -> Result<bool, Refusal> {
        let next = {
            let catalogue = self.lock();
            let sql = catalogue.sql();
            let mut done = sql.prepare_cached("SELECT 1 FROM destroyed_keks WHERE kek = ?1")?;
            let mut next = None;
            for kek in plan.keks.iter().filter(|k| k.fate == Fate::Destroyed) {
                if !done.exists([kek.kek.to_string()])? {
                    next = Some(KekRow::find(sql, kek.kek)?.confirmed(sql, catalogue.log())?);
                    break;
                }
            }
            if let Some(kek) = &next {
                check_nothing_under(sql, kek.id)?;
            }
            next
        };
        let Some(kek) = next else { return self.go_on(row.clone(), BatchState::Wiping) };
        let words = format!("batch {}", row.id);
        self.lock().change(|c| {
            c.record(Entry::new(Actor::Service, op::KEK_DESTROY, Outcome::Intent).key(kek.id).reason(&words))
        })?;
        let was_there = self.destroy_in_token(&kek)?;
        let how = match was_there {
            true => "destroyed by C_DestroyObject; looked for again and not found; its canary does not open any more",
            false => "not found in the token (an earlier attempt was interrupted); its canary does not open any more",
        };
        self.lock().change(|c| {
            c.record(Entry::done(Actor::Service, op::KEK_DESTROY).key(kek.id).reason(format!("{words}: {how}")))?;
            let insert = "INSERT INTO destroyed_keks (kek, destruction, verified) VALUES (?1, ?2, ?3)";
            c.sql.execute(insert, params![kek.id.to_string(), row.id.to_string(), how])?;
            c.sql.execute(
                "UPDATE keks SET state = CASE state WHEN 'compromised' THEN 'destroyed_compromised' ELSE 'destroyed' END
                 WHERE id = ?1",
                [kek.id.to_string()],
            )?;
            c.sql.execute("UPDATE copies SET state = 'destroyed' WHERE kind = 'medium' AND holder = ?1", [kek.id.to_string()])?;
            // A backup is closed when nothing of what opens it is left.
            c.sql.execute(
                "UPDATE backups SET state = 'closed' WHERE state = 'exists' AND NOT EXISTS
                 (SELECT 1 FROM json_each(catalogue_keks) j JOIN keks k ON k.id = j.value WHERE k.state NOT LIKE 'destroyed%')",
                [],
            )?;
            Ok(())
        })?;
        Ok(true)
    }

    /// Gives whether it was there. A token that shows no keys at all just now must not pass for one that lacks this one: another
    /// key of it has to open its canary before and after.
    fn destroy_in_token(&self, kek: &KekRow) -> Result<bool, Refusal> {
        let token = self.token_by_id(kek.token)?;
        self.check_shows_keys(kek)?;
        let was_there = token.destroy_kek(kek.id)?;
        self.check_shows_keys(kek)?;
        if token.destroy_kek(kek.id)? {
            let what = format!("the token showed the key-encryption key {} again after it was destroyed", kek.id);
            return Err(Refusal::new(RefusalCode::Token, what, "look whether the token is steadily connected"));
        }
        let with = WrapWith { kek: kek.id, mechanism: kek.mechanism, aad: canary_aad(kek.id) };
        match token.unwrap(&with, &kek.canary) {
            Err(TokenError::KeyNotFound { .. }) => {}
            Ok(_) => {
                let what = format!("the key-encryption key {} still opens its canary after it was destroyed", kek.id);
                return Err(Refusal::new(RefusalCode::Token, what, "destroy it with the tools of the HSM's vendor"));
            }
            // Whether it is gone is not known: the step comes again.
            Err(other) => return Err(other.into()),
        }
        self.check_shows_keys(kek)?;
        Ok(was_there)
    }

    /// Opens the canary of another key-encryption key in the token of `kek`.
    fn check_shows_keys(&self, kek: &KekRow) -> Result<(), Refusal> {
        let other = {
            let catalogue = self.lock();
            let query = "SELECT id FROM keks WHERE id <> ?1 AND state = 'active' AND token IS ?2 ORDER BY created_leaf DESC LIMIT 1";
            let token = (!kek.token.is_nil()).then(|| kek.token.to_string());
            let found: Option<String> = catalogue
                .sql()
                .prepare_cached(query)?
                .query_row(params![kek.id.to_string(), token], |r| r.get(0))
                .optional()?;
            found.map(|id| KekRow::find(catalogue.sql(), uuid(&id)?)).transpose()?
        };
        // The last key of a token that is given up: nothing else there can answer.
        let Some(other) = other else { return Ok(()) };
        let with = WrapWith { kek: other.id, mechanism: other.mechanism, aad: canary_aad(other.id) };
        self.token_by_id(other.token)?.unwrap(&with, &other.canary)?;
        Ok(())
    }

    fn wipe_step(&self, row: BatchRow) -> Result<bool, Refusal> {
        self.lock().scrub()?;
        self.go_on(row, BatchState::Certifying)
    }

    /// Makes the certificate and enters its digest, as leaf number `log.size` of the log that it names.
    fn certify(&self, row: &BatchRow, plan: &DestructionPlan) -> Result<bool, Refusal> {
        self.backup_before_certificate(row)?;
        let key = self.log_key();
        self.lock().change(|c| {
            let mut row = BatchRow::find(&c.sql, row.id)?;
            let leaf = row.approved(&c.sql, c.log())?;
            row.ended = Some(c.now());
            let certificate = certificate::make(&c.sql, c.log(), key.name(), &row, plan, leaf)?;
            let text = certificate.canonical().map_err(internal)?;
            let words = match certificate.unreachable() {
                0 => format!("batch {}: no copy is left that is known", row.id),
                count => format!("batch {}: {count} copies could not be reached", row.id),
            };
            let entry = Entry::done(Actor::Service, op::DESTRUCTION).tenant(tenant_of(&c.sql, c.log(), plan)?.id);
            c.record(entry.digest(digest(&text)).reason(words))?;
            row.certificate = Some(text);
            row.state = BatchState::Signing;
            row.update(&c.sql)
        })?;
        Ok(true)
    }

    fn sign_certificate(&self, mut row: BatchRow) -> Result<bool, Refusal> {
        let text = row.certificate.take().ok_or_else(|| internal("a destruction without its certificate"))?;
        row.certificate = Some(self.certificate_note(&text)?);
        self.go_on(row, BatchState::Done)
    }

    fn certificate_note(&self, json: &str) -> Result<String, Refusal> {
        let signer = std::sync::Arc::clone(&self.lock().log().signer);
        self.sign_text(&signer, &crate::custody::certificate::note_text(json).map_err(internal)?)
    }

    /// A destruction, by its batch or its request.
    ///
    /// # Errors
    /// When there is none.
    pub fn destruction(&self, id: Uuid) -> Result<BatchView, Refusal> {
        let row = BatchRow::find(self.lock().sql(), id)?;
        self.batch_view(row)
    }

    /// All destructions, newest first.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn destructions(&self) -> Result<Vec<BatchView>, Refusal> {
        let rows = BatchRow::all(self.lock().sql())?;
        rows.into_iter().map(|row| self.batch_view(row)).collect()
    }

    fn batch_view(&self, row: BatchRow) -> Result<BatchView, Refusal> {
        let (plan, backup) = {
            let catalogue = self.lock();
            let (sql, log) = (catalogue.sql(), catalogue.log());
            // Only of the last one: what an earlier one made is closed by now.
            let is_last = BatchRow::last_begun(sql)?.is_some_and(|last| last.id == row.id);
            let backup = if is_last { backup_words(sql, log, &row)? } else { None };
            (row.planned(sql, log)?, backup)
        };
        let rotation = match row.rotation {
            Some(id) => {
                let rotation = RotationRow::find(self.lock().sql(), id)?;
                Some(self.rotation_view(rotation)?)
            }
            None => None,
        };
        let under_way = !matches!(row.state, BatchState::Asked | BatchState::Done);
        Ok(BatchView {
            batch: row.id,
            request: row.request,
            state: row.state,
            reason: row.reason,
            plan_sha256: Hex(digest(&row.plan)),
            plan,
            rotation,
            trouble: self.trouble().filter(|_| under_way),
            backup,
            asked: row.asked,
            begun: row.begun,
            ended: row.ended,
        })
    }

    /// The signed certificate of a destruction.
    ///
    /// # Errors
    /// When it is not done.
    pub fn certificate(&self, id: Uuid) -> Result<String, Refusal> {
        let row = BatchRow::find(self.lock().sql(), id)?;
        match (row.state, row.certificate) {
            (BatchState::Done, Some(note)) => Ok(note),
            _ => Err(Refusal::new(
                RefusalCode::Busy,
                format!("destruction {} is not done", row.id),
                "the certificate comes at its end: sealtape certificate list",
            )),
        }
    }
}

/// The last look before a key-encryption key goes: nothing that is alive may stand under it.
fn check_nothing_under(sql: &rusqlite::Connection, kek: Uuid) -> Result<(), Refusal> {
    let live = "WHERE kek = ?1 AND key_state NOT IN ('destroyed', 'destroyed_compromised') LIMIT 1";
    let mend = "replace the catalogue's key-encryption key first: sealtape key rotate";
    match GenerationRow::matching(sql, live, [kek.to_string()])?.pop() {
        None => match held_by(sql, kek, &time::now())?.first() {
            None => Ok(()),
            Some(key) => {
                let what = format!("the key {key} has a copy under the key-encryption key {kek} on its medium");
                Err(Refusal::new(RefusalCode::VolumeState, what, "report this with the log of sealtape-keyd"))
            }
        },
        Some(row) => {
            let label = VolumeRow::find(sql, row.at.volume)?.label;
            Err(Refusal::new(
                RefusalCode::VolumeState,
                format!("{} ({label}) still stands under the key-encryption key {kek}", row.words()),
                mend,
            ))
        }
    }
}

/// What there is to say of the backup that was made after it; none when none was to be made.
pub(super) fn backup_words(
    sql: &rusqlite::Connection,
    log: &LogState,
    row: &BatchRow,
) -> Result<Option<String>, Refusal> {
    let made = made_since(sql, log, row)?;
    let failed = || row.backup.as_ref().map(|why| format!("none yet, it is tried again and entered then: {why}"));
    Ok(made.or_else(failed))
}

/// When something ended, or now.
#[must_use]
pub(super) fn or_now(ended: Option<&String>) -> String {
    ended.cloned().unwrap_or_else(time::now)
}
