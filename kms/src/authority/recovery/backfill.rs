//! Keys that were made before the recovery key was installed: each is unwrapped in the token and wrapped to it, with an entry of its
//! own. Interrupted at any place, it goes on from there.

use sha2::{Digest, Sha256};

use super::super::generation::releasable_key;
use super::super::{Authority, DEFAULT_TENANT};
use super::RecoveryKeyRow;
use crate::catalogue::{Actor, Entry, GenerationRow};
use crate::custody::{Blob, op};
use crate::fault::bad_request;
use crate::hex::Hex;
use crate::protocol::{GenerationRef, MAX_BACKFILL, RecoveryReply, Refusal};

impl Authority {
    pub(super) fn backfill(&self, actor: Actor, most: u32) -> Result<RecoveryReply, Refusal> {
        self.refusals_logged(
            actor,
            op::RECOVERY_WRAP,
            |e| e,
            || {
                let (recovery, missing) = {
                    let catalogue = self.lock();
                    let recovery = RecoveryKeyRow::active(catalogue.sql(), catalogue.log(), DEFAULT_TENANT)?;
                    let recovery = recovery.ok_or_else(|| {
                        bad_request(
                            "there is no recovery key in use",
                            "make one, and install it: sealtape recovery init",
                        )
                    })?;
                    let missing = recovery.missing(catalogue.sql(), most.clamp(1, MAX_BACKFILL))?;
                    (recovery, missing)
                };
                let mut wrapped = 0;
                for at in missing {
                    self.backfill_one(actor, &recovery, at)?;
                    wrapped += 1;
                }
                let remaining = recovery.count_missing(self.lock().sql())?;
                Ok(RecoveryReply::Backfilled { key: recovery.id, wrapped, remaining })
            },
        )
    }

    fn backfill_one(&self, actor: Actor, recovery: &RecoveryKeyRow, at: GenerationRef) -> Result<(), Refusal> {
        let (row, with) = {
            let catalogue = self.lock();
            let row = GenerationRow::find(catalogue.sql(), at)?;
            let with = row.confirmed(catalogue.sql(), catalogue.log())?;
            (row, with)
        };
        let key = self.unwrap_in_token(&with, &row.wrapped)?;
        let body = recovery.wrap(at, &key)?;
        drop(key);
        self.lock().change(|c| {
            // Destroyed meanwhile, its copies are counted already: there must be no new one.
            releasable_key(&c.sql, at)?;
            let blob = Blob { kek: recovery.id, sha256: Hex(Sha256::digest(&body).into()) };
            let leaf = c.record(Entry::done(actor, op::RECOVERY_WRAP).at(at).blobs(vec![blob]))?;
            recovery.keep_stanza(&c.sql, at.key_id, &body, leaf)
        })
    }
}
