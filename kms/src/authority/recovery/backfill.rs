//! Keys that were made before the recovery key was installed: each is unwrapped in the token and wrapped to it, with an entry of its
//! own, some at a time. Interrupted at any place, it goes on from there.

use sha2::{Digest, Sha256};

use super::super::Authority;
use super::super::generation::releasable_key;
use super::RecoveryKeyRow;
use crate::catalogue::{Actor, Entry, GenerationRow, TenantRow, VolumeRow};
use crate::custody::{Blob, Outcome, op};
use crate::fault::{bad_request, internal};
use crate::hex::Hex;
use crate::protocol::{GenerationRef, MAX_BACKFILL, RecoveryReply, Refusal};

impl Authority {
    pub(super) fn backfill(&self, actor: Actor, tenant: Option<&str>, most: u32) -> Result<RecoveryReply, Refusal> {
        self.refusals_logged(
            actor,
            op::RECOVERY_WRAP,
            |e| e,
            || {
                let (recovery, missing) = {
                    let catalogue = self.lock();
                    let tenant = TenantRow::named(catalogue.sql(), catalogue.log(), tenant)?;
                    let recovery = RecoveryKeyRow::active(catalogue.sql(), catalogue.log(), tenant.id)?;
                    let recovery = recovery.ok_or_else(|| {
                        bad_request(
                            "there is no recovery key in use",
                            "make one, and install it: sealtape recovery init",
                        )
                    })?;
                    let missing = recovery.missing(catalogue.sql(), most.clamp(1, MAX_BACKFILL))?;
                    (recovery, missing)
                };
                let wrapped = self.backfill_some(actor, &recovery, &missing)?;
                let remaining = recovery.count_missing(self.lock().sql())?;
                Ok(RecoveryReply::Backfilled { key: recovery.id, wrapped, remaining })
            },
        )
    }

    /// A copy for the recovery key opens without the token, so none stands on the disk before its entry is anchored.
    fn backfill_some(
        &self,
        actor: Actor,
        recovery: &RecoveryKeyRow,
        missing: &[GenerationRef],
    ) -> Result<u32, Refusal> {
        if missing.is_empty() {
            return Ok(0);
        }
        self.anchors_reach()?;
        let mut copies = Vec::with_capacity(missing.len());
        for at in missing {
            copies.push((*at, self.wrap_to(recovery, *at)?));
        }
        let entered = self.lock().change(|c| {
            let mut entered = Vec::with_capacity(copies.len());
            for (at, body) in copies {
                // Destroyed meanwhile, its copies are counted already: there must be no new one.
                releasable_key(&c.sql, at)?;
                let blob = Blob { kek: recovery.id, sha256: Hex(Sha256::digest(&body).into()) };
                let leaf = c.record(Entry::done(actor, op::RECOVERY_WRAP).at(at).blobs(vec![blob]))?;
                entered.push((at, body, leaf));
            }
            Ok(entered)
        })?;
        if let (Some((.., first)), Some((.., last))) = (entered.first(), entered.last()) {
            let what = format!("the copies of {} keys for the recovery key {}, the first", entered.len(), recovery.id);
            self.before_it_leaves(&what, *first, *last, |_| Ok(()))?;
        }
        let mut late = Vec::new();
        let kept = self.lock().progress(|sql| {
            let mut kept = 0;
            for (at, body, leaf) in entered {
                match releasable_key(sql, at).and_then(|()| recovery.check_lacking(sql, at.key_id)) {
                    Ok(()) => {
                        recovery.keep_stanza(sql, at.key_id, &body, leaf)?;
                        kept += 1;
                    }
                    Err(refusal) => late.push((at, leaf, refusal)),
                }
            }
            Ok(kept)
        })?;
        if late.is_empty() {
            return Ok(kept);
        }
        self.lock().change(|c| {
            for (at, leaf, refusal) in late {
                let reason = format!("the copy of entry {leaf} was not kept: {}", refusal.what);
                let entry = Entry::new(Actor::Service, op::KEY_WITHHELD, Outcome::Refused);
                c.record(entry.volume(at.volume).key(at.key_id).reason(reason))?;
            }
            Ok(kept)
        })
    }

    fn wrap_to(&self, recovery: &RecoveryKeyRow, at: GenerationRef) -> Result<Vec<u8>, Refusal> {
        let (row, with) = {
            let catalogue = self.lock();
            let row = GenerationRow::find(catalogue.sql(), at)?;
            let with = row.confirmed(catalogue.sql(), catalogue.log())?;
            // The row's own tenant, and no other's recovery key.
            if VolumeRow::find(catalogue.sql(), at.volume)?.tenant != recovery.tenant {
                return Err(internal(format!("the key {} is not of the recovery key's tenant", at.key_id)));
            }
            (row, with)
        };
        let key = self.unwrap_in_token(&with, &row.wrapped)?;
        recovery.wrap(at, &key)
    }
}
