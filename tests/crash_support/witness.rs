//! A key source that notes when the catalogue learned what, so that a cut finds the catalogue of that moment.

use std::sync::{Arc, Mutex};

use sealtape::seal::{GenerationRecord, GenerationScope, VolumeLabel};
use sealtape::volume::keys::VolumeToLabel;
use sealtape::volume::{KeyRefusal, KeySource, LoadedGeneration, NewGeneration, SessionOpening, SyncReport};
use sealtape_drivers::image::trace::TraceStorage;
use uuid::Uuid;

use crate::catalogue::Catalogue;

/// The catalogue after one call, and how many operations the medium had seen when the call began and ended.
struct Noted {
    began: usize,
    ended: usize,
    catalogue: Catalogue,
}

/// Every state of the catalogue, in order.
#[derive(Clone)]
pub(crate) struct Notes(Arc<Mutex<Vec<Noted>>>);

impl Notes {
    pub(crate) fn new(start: &Catalogue) -> Self {
        Self(Arc::new(Mutex::new(vec![Noted { began: 0, ended: 0, catalogue: start.snapshot() }])))
    }

    /// The states that the catalogue may be in when the power goes after `done` operations of the medium; `begun` when
    /// the next one was begun, too.
    pub(crate) fn at(&self, done: usize, begun: bool) -> Vec<Catalogue> {
        let notes = self.0.lock().unwrap();
        let not_yet = |ended: usize| if begun { ended > done } else { ended >= done };
        let possible = notes.iter().enumerate().filter(|(number, noted)| {
            noted.began <= done && notes.get(number + 1).is_none_or(|next| not_yet(next.ended))
        });
        possible.map(|(_, noted)| noted.catalogue.snapshot()).collect()
    }
}

/// The catalogue, watched.
pub(crate) struct Witness {
    pub(crate) catalogue: Catalogue,
    pub(crate) storage: TraceStorage,
    pub(crate) notes: Notes,
}

impl Witness {
    fn noting<R>(&mut self, call: impl FnOnce(&mut Catalogue) -> R) -> R {
        let began = self.storage.operation_count();
        let result = call(&mut self.catalogue);
        let ended = self.storage.operation_count();
        self.notes.0.lock().unwrap().push(Noted { began, ended, catalogue: self.catalogue.snapshot() });
        result
    }
}

impl KeySource for Witness {
    fn create_volume(&mut self, ticket: &str, replaces: Option<Uuid>) -> Result<VolumeToLabel, KeyRefusal> {
        self.noting(|catalogue| catalogue.create_volume(ticket, replaces))
    }

    fn create_generation(&mut self, volume: Uuid, partition: u8) -> Result<NewGeneration, KeyRefusal> {
        self.noting(|catalogue| catalogue.create_generation(volume, partition))
    }

    fn activate_generation(
        &mut self,
        scope: &GenerationScope,
        key_id: Uuid,
        commitment: &[u8; 32],
    ) -> Result<(), KeyRefusal> {
        self.noting(|catalogue| catalogue.activate_generation(scope, key_id, commitment))
    }

    fn load(&mut self, label: &VolumeLabel, record: &GenerationRecord) -> Result<LoadedGeneration, KeyRefusal> {
        self.noting(|catalogue| catalogue.load(label, record))
    }

    fn has_pending_generation(&mut self, volume: Uuid, partition: u8) -> Result<bool, KeyRefusal> {
        self.noting(|catalogue| catalogue.has_pending_generation(volume, partition))
    }

    fn open_session(&mut self, opening: &SessionOpening) -> Result<u32, KeyRefusal> {
        self.noting(|catalogue| catalogue.open_session(opening))
    }

    fn record_sync(&mut self, report: &SyncReport) -> Result<(), KeyRefusal> {
        self.noting(|catalogue| catalogue.record_sync(report))
    }

    fn release(&mut self, volume: Uuid) -> Result<(), KeyRefusal> {
        self.noting(|catalogue| catalogue.release(volume))
    }

    fn report_incident(&mut self, volume: Uuid, what: &str) -> Result<(), KeyRefusal> {
        self.noting(|catalogue| catalogue.report_incident(volume, what))
    }
}
