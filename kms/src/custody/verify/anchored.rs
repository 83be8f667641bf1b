//! What witnesses say of the checkpoints of an export.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::note::{Checkpoint, NoteError, VerifierKey};
use super::super::witness::WitnessKey;
use super::Anchoring;
use crate::time;

/// Whose word counts when an export is verified.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Keys of the log, any of which will do.
    pub keys: &'a [VerifierKey],
    /// Witnesses. Without any, an export is internally consistent only.
    pub witnesses: &'a [WitnessKey],
}

/// What a witness has cosigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchoredBy {
    /// The witness's name.
    pub witness: String,
    /// Its key.
    pub key: String,
    /// It cosigned the log of this many entries: nobody can have changed them since without it.
    pub entries: u64,
    /// When, by its clock.
    pub time: String,
}

/// The cosignatures found so far: of each witness, by its key, the one over most entries.
pub(super) struct Anchored<'a> {
    witnesses: &'a [WitnessKey],
    found: BTreeMap<String, AnchoredBy>,
}

impl<'a> Anchored<'a> {
    pub(super) fn new(witnesses: &'a [WitnessKey]) -> Self {
        Self { witnesses, found: BTreeMap::new() }
    }

    /// Looks at a checkpoint that was verified. A cosignature of a trusted witness that does not verify is a fault of the note.
    pub(super) fn look(&mut self, note: &str, checkpoint: &Checkpoint) -> Result<(), String> {
        for witness in self.witnesses {
            let cosignature = match witness.cosigned(note) {
                Ok(cosignature) => cosignature,
                Err(NoteError::Unsigned(_)) => continue,
                Err(e) => return Err(e.to_string()),
            };
            let of = AnchoredBy {
                witness: witness.name().to_owned(),
                key: witness.to_string(),
                entries: checkpoint.size,
                time: time::of_unix(cosignature.time),
            };
            if self.found.get(&of.key).is_none_or(|known| known.entries <= of.entries) {
                self.found.insert(of.key.clone(), of);
            }
        }
        Ok(())
    }

    pub(super) fn anchoring(&self) -> Anchoring {
        match self.found.is_empty() {
            true => Anchoring::InternallyConsistentOnly,
            false => Anchoring::Anchored(self.found.values().cloned().collect()),
        }
    }

    /// Keys of witnesses that cosigned nothing of it.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing: Vec<String> = self.witnesses.iter().map(ToString::to_string).collect();
        missing.retain(|key| !self.found.contains_key(key));
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Names on the last checkpoint of which nothing is known here.
    pub(super) fn unchecked(&self, names: Vec<String>) -> Vec<String> {
        names.into_iter().filter(|name| !self.found.values().any(|by| by.witness == *name)).collect()
    }
}
