//! The key of the loaded volume was ended while it was in use.
//!
//! Its copies are wiped by then, wherever they were ([`KeyEnd`](crate::seal::KeyEnd)); what is left is what the unit owes: records that
//! were sealed before are written and synchronised, others that were acknowledged are told as lost, and from then on nothing is read or
//! written until the cartridge is unloaded.

use zeroize::Zeroize;

use super::SealedTape;
use crate::seal::OpeningKeys;
use crate::seal::opener::CipherCache;

const LONGEST_REPORT: usize = 1000;

impl SealedTape {
    /// Looks whether keys of the loaded volume, or the right to seal with them, have ended, and does what follows from that. Every command of
    /// the host begins with this, and who ends keys calls it for a unit whose host is idle.
    pub fn notice_end(&mut self) {
        let Some(loaded) = self.loaded.as_mut() else { return };
        if loaded.ended.is_some() {
            return;
        }
        let mut reason = None;
        for state in loaded.partitions.iter_mut().flatten() {
            let Some(generation) = state.generation() else { continue };
            if generation.keys.sealing().is_none() {
                // What was reserved is sealed; nothing more is.
                reason = reason.or(generation.keys.end_switch().ended().map(str::to_owned));
                state.end_session();
            }
        }
        if let Some(reason) = reason {
            self.end_of_key(&reason);
        }
    }

    fn end_of_key(&mut self, reason: &str) {
        let volume = self.loaded.as_ref().and_then(|loaded| loaded.label.as_ref()).map(|label| label.volume);
        let volume = volume.map(|volume| volume.to_string()).unwrap_or_default();
        let text = format!(
            "drive {}: volume {volume}: {reason}; its keys are wiped, and nothing is read or written until it is unloaded",
            self.name
        );
        // One partition's key is enough: a volume is read as a whole or not at all.
        if let Some(loaded) = self.loaded.as_mut() {
            for generation in loaded.partitions.iter().flatten().filter_map(|state| state.generation()) {
                generation.keys.end_switch().end(reason);
            }
        }
        self.ahead.stop();
        self.ciphers = CipherCache::default();
        self.plain.zeroize();
        self.raw.zeroize();
        let in_danger = self.unsynchronised_objects;
        let written = match self.write_blocked {
            Some(_) => Ok(()),
            None => self.synchronise().map(drop),
        };
        if let Some(loaded) = self.loaded.as_mut() {
            loaded.latch.lock(text.clone());
            loaded.latch.refuse_writing(text.clone());
            loaded.ended = Some(text.clone());
        }
        let fate = match (in_danger, &written) {
            (0, Ok(())) => String::new(),
            (count, Ok(())) => format!("; {count} records or filemarks that were acknowledged are synchronised"),
            (count, Err(error)) => format!("; of {count} that were acknowledged: {}", error.message),
        };
        tracing::error!("{text}{fate}");
        let mut report = format!("{reason}; its keys are wiped{fate}");
        // The key authority takes so much of a report; the beginning tells most.
        report.truncate(report.floor_char_boundary(LONGEST_REPORT));
        self.report_incident(&report);
    }
}
