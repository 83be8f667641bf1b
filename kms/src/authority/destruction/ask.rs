//! Asking for a destruction, and the point of no return.

use uuid::Uuid;

use super::super::kek::NewKek;
use super::super::lease::end_releases;
use super::super::tenants::kek_label;
use super::super::{Authority, KekPurpose, check_name, close_intent, rotate};
use super::journal::{BatchRow, begun_words, digest, plan_text};
use super::plan::{check_no_rotation, order_of, plan_in, tenant_of, wipe_copies};
use crate::catalogue::{Actor, Change, Entry, GenerationRow, TenantId, TenantRow, VolumeRow, name};
use crate::custody::{Outcome, op};
use crate::fault::{bad_request, internal};
use crate::hex::Hex;
use crate::protocol::{
    BatchState, BatchView, DestructionOrder, DestructionPlan, Fate, KeyState, Operation, Refusal, RefusalCode,
    VolumeState,
};
use crate::time;

impl Authority {
    /// Asks custodians to approve a destruction; they approve its plan too, whose SHA-256 stands in the request.
    ///
    /// # Errors
    /// When something of it may not be destroyed, or nobody could approve it.
    pub fn ask_destruction(&self, actor: Actor, order: &DestructionOrder, reason: &str) -> Result<BatchView, Refusal> {
        self.refusals_logged(
            actor,
            op::DESTRUCTION_PLAN,
            |e| e,
            || {
                check_name("reason", reason, 300)?;
                let plan = self.plan_destruction(order)?;
                let text = plan_text(&plan)?;
                let sha256 = Hex(digest(&text));
                let asked = format!("{reason} [plan sha256:{sha256}]");
                let request = self.submit(actor, plan.operation.clone(), Some(&asked))?.request;
                let id = self.lock().change(|c| {
                    let tenant = tenant_of(&c.sql, c.log(), &plan)?;
                    let entry = Entry::done(actor, op::DESTRUCTION_PLAN).tenant(tenant.id).digest(sha256.0);
                    let plan_leaf = c.record(entry.reason(reason))?;
                    let row = BatchRow {
                        id: Uuid::new_v4(),
                        request,
                        state: BatchState::Asked,
                        reason: reason.to_owned(),
                        plan: text,
                        plan_leaf,
                        begun_leaf: None,
                        rotation: None,
                        backup: None,
                        certificate: None,
                        asked: time::now(),
                        begun: None,
                        ended: None,
                    };
                    row.insert(&c.sql)?;
                    Ok(row.id)
                })?;
                self.destruction(id)
            },
        )
    }

    /// Carries an approved destruction out. When this returns the keys are destroyed; [`Authority::work`] does the rest.
    ///
    /// # Errors
    /// When approvals lack, anything changed since the plan was made, or the token does not work; then nothing is destroyed.
    pub fn carry_out_destruction(&self, actor: Actor, request: Uuid) -> Result<BatchView, Refusal> {
        self.refusals_logged(
            actor,
            op::DESTRUCTION,
            |e| e,
            || {
                let (row, plan, tenant) = {
                    let catalogue = self.lock();
                    let row = BatchRow::find(catalogue.sql(), request)?;
                    let plan = row.planned(catalogue.sql(), catalogue.log())?;
                    let tenant = tenant_of(catalogue.sql(), catalogue.log(), &plan)?;
                    // One that is begun has a rotation of its own.
                    if row.state == BatchState::Asked {
                        check_no_rotation(catalogue.sql(), &tenant)?;
                    }
                    (row, plan, tenant)
                };
                if row.state != BatchState::Asked {
                    return self.destruction(row.id);
                }
                self.check_approvals(row.request)?;
                // The new key-encryption key comes first: with a token that does not work nothing is begun.
                let kek = match plan.operation {
                    Operation::KekDestroy { .. } => None,
                    _ => Some(self.make_kek(actor, KekPurpose::Catalogue, tenant.id, &kek_label(&tenant))?),
                };
                let begun = self.execute(actor, row.request, |c, approved| {
                    let row = BatchRow::find(&c.sql, row.id)?;
                    let plan = row.planned(&c.sql, c.log())?;
                    if approved.operation != plan.operation || row.state != BatchState::Asked {
                        return Err(bad_request("this request approves something else", "ask anew"));
                    }
                    self.check_plan(c, &tenant, &row, &plan)?;
                    let words = begun_words(row.id, &row.plan);
                    let entry = Entry::new(actor, op::DESTRUCTION, Outcome::Intent).tenant(tenant.id);
                    let leaf = c.record(approved.describe(entry).reason(format!("{words}: {}", row.reason)))?;
                    let kek = kek.as_ref().map(|kek| (tenant.id, kek));
                    self.begin_destruction(c, actor, row, &plan, kek, leaf)
                });
                match begun {
                    Ok(()) => {
                        self.tell_ends();
                        self.destruction(row.id)
                    }
                    Err(refusal) => {
                        if let Some(kek) = kek {
                            self.discard_kek(actor, &kek, &refusal)?;
                        }
                        Err(refusal)
                    }
                }
            },
        )
    }

    /// Refuses a request that is known to lack approvals, before anything is made for it; what counts is checked again when it is
    /// carried out.
    fn check_approvals(&self, request: Uuid) -> Result<(), Refusal> {
        use crate::protocol::RequestState;
        let found = self.pending()?.into_iter().find(|r| r.request == request);
        match found {
            Some(view) if view.state == RequestState::Pending => Err(Refusal::new(
                RefusalCode::NotApproved,
                format!("request {request} has {} of {} approvals", view.approvals.len(), view.needed),
                "let custodians approve it: sealtape approval approve",
            )),
            _ => Ok(()),
        }
    }

    /// The plan as it would be made now has to be the one that was approved.
    fn check_plan(
        &self,
        c: &Change<'_>,
        tenant: &TenantRow,
        row: &BatchRow,
        plan: &DestructionPlan,
    ) -> Result<(), Refusal> {
        check_no_rotation(&c.sql, tenant)?;
        let now = plan_in(&c.sql, c.log(), self.log_key().name(), &order_of(plan)?)?;
        if plan_text(&now)? == row.plan {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::NotApproved,
            "keys or copies are others than when the destruction was planned",
            "ask anew, and look at the new plan",
        ))
    }

    fn begin_destruction(
        &self,
        c: &mut Change<'_>,
        actor: Actor,
        mut row: BatchRow,
        plan: &DestructionPlan,
        kek: Option<(TenantId, &NewKek)>,
        leaf: u64,
    ) -> Result<(), Refusal> {
        for planned in &plan.keys {
            let key = GenerationRow::find(&c.sql, planned.at)?;
            let state = destroyed(key.key_state)?;
            wipe_copies(&c.sql, planned.at.key_id)?;
            let update = "UPDATE generations SET key_state = ?2 WHERE key_id = ?1";
            c.sql.prepare_cached(update)?.execute([planned.at.key_id.to_string(), name(state)?])?;
            c.record(Entry::done(actor, op::KEY_DESTROY).at(planned.at).reason(format!("batch {}", row.id)))?;
        }
        for kek in plan.keks.iter().filter(|k| k.fate == Fate::Destroyed && k.purpose == "medium") {
            // Nothing new comes under it from now on.
            let update = "UPDATE keks SET state = 'deactivated' WHERE id = ?1 AND state = 'active'";
            if c.sql.execute(update, [kek.kek.to_string()])? == 1 {
                c.record(Entry::done(actor, op::KEK_DEACTIVATE).key(kek.kek).reason(format!("batch {}", row.id)))?;
            }
        }
        let keys = plan.keys.iter().map(|k| (k.at.volume, k.at.key_id));
        end_releases(c, keys, "destroyed", leaf)?;
        if let Operation::VolumeShred { volumes } = &plan.operation {
            for volume in volumes {
                let volume = VolumeRow::find(&c.sql, *volume)?;
                volume.change_state(c, actor, VolumeState::Destroyed, format!("destroyed: batch {}", row.id))?;
            }
        }
        row.state = BatchState::Backup;
        if let Some((tenant, kek)) = kek {
            row.rotation = Some(rotate::begin(c, actor, tenant, kek, &format!("destruction {}", row.id))?.id);
            row.state = BatchState::Rewrapping;
        }
        (row.begun_leaf, row.begun) = (Some(leaf), Some(time::now()));
        row.update(&c.sql)
    }

    /// A new key-encryption key is not wanted after all.
    pub(in super::super) fn discard_kek(&self, actor: Actor, kek: &NewKek, why: &Refusal) -> Result<(), Refusal> {
        let gone = self.token_by_id(kek.token())?.destroy_kek(kek.id);
        self.lock().change(|c| {
            let what = match &gone {
                Ok(_) => format!("destroyed again: {}", why.what),
                Err(e) => format!("stays unused in the token ({e}): {}", why.what),
            };
            c.record(Entry::new(actor, op::KEK_CREATE, Outcome::Failed).key(kek.id).reason(what))?;
            close_intent(c, kek.intent())
        })
    }
}

/// The state of a key that is destroyed now.
fn destroyed(state: KeyState) -> Result<KeyState, Refusal> {
    let step = |from: KeyState, to| from.transition(to).map_err(|e| internal(e.to_string()));
    match state {
        KeyState::Active => step(step(state, KeyState::Deactivated)?, KeyState::Destroyed),
        KeyState::Compromised => step(state, KeyState::DestroyedCompromised),
        KeyState::PreActive | KeyState::Deactivated => step(state, KeyState::Destroyed),
        KeyState::Destroyed | KeyState::DestroyedCompromised => Err(internal("a key is destroyed twice")),
    }
}
