//! The custody log: exports, searches, proofs, its signing key, and the check of everything in the background.

mod export;
mod log_key;
mod scrub;
mod search;

pub use export::ExportRun;
pub(super) use log_key::{custody_pub, interrupted_rotation};
pub use scrub::ScrubPace;

use super::Authority;
use crate::catalogue::{Actor, LogState, consistency};
use crate::custody::VerifierKey;
use crate::fault::{bad_request, internal};
use crate::hex::Hex;
use crate::protocol::{AuditReply, AuditRequest, CheckpointView, ConsistencyView, Refusal};

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_audit(&self, actor: Actor, request: AuditRequest) -> Result<AuditReply, Refusal> {
        Ok(match request {
            // The server sends exports part by part.
            AuditRequest::Export { .. } => return Err(internal("served elsewhere")),
            AuditRequest::Entries { filter, from, backwards, count, names } => {
                AuditReply::Entries(self.audit_entries(&filter, from, backwards, count, names)?)
            }
            AuditRequest::Consistency { old, new } => AuditReply::Consistency(self.audit_consistency(old, new)?),
            AuditRequest::Anchor { request } => AuditReply::Anchor(self.serve_anchor(actor, request)?),
            AuditRequest::LogKeys => AuditReply::LogKeys(self.log_keys()),
            AuditRequest::RotateLogKey { reason } => AuditReply::LogKeys(self.rotate_log_key(actor, &reason)?),
        })
    }

    /// The public keys that verify checkpoints and exports, oldest first; the last one signs.
    #[must_use]
    pub fn log_keys(&self) -> Vec<String> {
        self.lock().log().signer.keys().map(VerifierKey::to_string).collect()
    }

    /// The proof that the log over `new` leaves (none: over a new checkpoint) begins with what it was over `old` leaves.
    ///
    /// # Errors
    /// When there is no checkpoint over `new` leaves, or none can be signed.
    pub fn audit_consistency(&self, old: u64, new: Option<u64>) -> Result<ConsistencyView, Refusal> {
        let checkpoint = match new {
            None => self.checkpoint()?,
            Some(size) => {
                let note = self.kept_checkpoint(size)?.ok_or_else(|| {
                    bad_request(format!("there is no checkpoint over {size} entries"), "ask for the newest one")
                })?;
                let (checkpoint, _) =
                    self.lock().log().signer.at(size).open(&note).map_err(|e| internal(e.to_string()))?;
                CheckpointView { size, root: Hex(checkpoint.root), note }
            }
        };
        if old > checkpoint.size {
            let what = format!("the log has {} entries, {old} are asked for", checkpoint.size);
            return Err(bad_request(
                what,
                "if an older checkpoint says that there were more, the log was rolled back: stop using this catalogue",
            ));
        }
        let catalogue = self.lock();
        let (log, sql) = (catalogue.log(), catalogue.sql());
        let proof = consistency(sql, old, checkpoint.size)?.into_iter().map(Hex).collect();
        let covered = |leaf: u64| leaf < checkpoint.size;
        let key_leaves: Vec<u64> = log.signer.earlier.iter().map(|(_, leaf)| *leaf).filter(|l| covered(*l)).collect();
        let keys = log.signer.keys().take(key_leaves.len() + 1).map(VerifierKey::to_string).collect();
        let leaf = |seq: &u64| LogState::inclusion(sql, *seq, checkpoint.size).map(|(text, _)| text);
        let key_leaves = key_leaves.iter().map(leaf).collect::<Result<_, _>>()?;
        Ok(ConsistencyView { old, new: checkpoint, proof, keys, key_leaves })
    }
}
