//! A catalogue in memory for tests of the unit: it keeps what the key authority would keep, by the same rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sealtape::seal::{
    Compression, GenerationKeys, GenerationRecord, GenerationScope, KeyEnd, OpeningKeys, ReleasedKeys, Stanza, Suite,
    VolumeLabel,
};
use sealtape::volume::keys::{CatalogueContent, KnownEnd, VolumeToLabel};
use sealtape::volume::{
    KeyRefusal, KeyRefusalKind, KeySource, LoadedGeneration, NewGeneration, SessionExtent, SessionOpening, SyncReport,
    VolumePolicy,
};
use sealtape_kms::secret::DataKey;
use uuid::Uuid;

#[derive(Clone)]
struct Generation {
    key: [u8; 32],
    key_id: Uuid,
    active: bool,
    ordinals: u32,
    sessions: Vec<SessionExtent>,
    end: Option<KnownEnd>,
}

#[derive(Clone)]
struct Inner {
    generations: BTreeMap<(Uuid, u8, u32), Generation>,
    suite: Suite,
    policy: VolumePolicy,
    partitions: u8,
    next: u128,
    away: bool,
    incidents: Vec<String>,
    loads: u64,
    released: Vec<KeyEnd>,
}

/// Shared by every unit that a test makes, as the real one is.
#[derive(Clone)]
pub(crate) struct Catalogue(Arc<Mutex<Inner>>);

impl Catalogue {
    pub(crate) fn new(suite: Suite, compression: Compression, partitions: u8) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            generations: BTreeMap::new(),
            suite,
            policy: VolumePolicy { compression, append_only: false },
            partitions,
            next: 1,
            away: false,
            incidents: Vec::new(),
            loads: 0,
            released: Vec::new(),
        })))
    }

    /// A catalogue of its own that knows what this one knows now: what a power cut at this moment leaves.
    pub(crate) fn snapshot(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    pub(crate) fn set_append_only(&self, append_only: bool) {
        self.0.lock().unwrap().policy.append_only = append_only;
    }

    /// Ends every key that was released.
    pub(crate) fn end_keys(&self, reason: &str) {
        self.0.lock().unwrap().released.drain(..).for_each(|end| end.end(reason));
    }

    pub(crate) fn incidents(&self) -> Vec<String> {
        self.0.lock().unwrap().incidents.clone()
    }

    pub(crate) fn data_key(&self, volume: Uuid, partition: u8) -> [u8; 32] {
        let inner = self.0.lock().unwrap();
        let newest = inner.generations.range((volume, partition, 0)..=(volume, partition, u32::MAX)).next_back();
        newest.unwrap().1.key
    }

    fn with<R>(&self, serve: impl FnOnce(&mut Inner) -> Result<R, KeyRefusal>) -> Result<R, KeyRefusal> {
        let mut inner = self.0.lock().unwrap();
        if inner.away {
            return Err(KeyRefusal::new(KeyRefusalKind::Away, "the key authority does not answer"));
        }
        serve(&mut inner)
    }
}

fn key(bytes: &[u8; 32]) -> DataKey {
    DataKey::copy_from(bytes).unwrap()
}

fn unknown() -> KeyRefusal {
    KeyRefusal::new(KeyRefusalKind::Unknown, "the catalogue does not know this generation")
}

impl Inner {
    fn of(&mut self, scope: &GenerationScope) -> Result<&mut Generation, KeyRefusal> {
        self.generations.get_mut(&(scope.volume, scope.partition, scope.generation)).ok_or_else(unknown)
    }
}

impl KeySource for Catalogue {
    fn create_volume(&mut self, _ticket: &str, _replaces: Option<Uuid>) -> Result<VolumeToLabel, KeyRefusal> {
        self.with(|inner| {
            inner.next += 1;
            Ok(VolumeToLabel {
                volume: Uuid::from_u128(inner.next << 64),
                partitions: inner.partitions,
                label_on_medium: Some("a label".into()),
                barcode_on_medium: None,
            })
        })
    }

    fn create_generation(&mut self, volume: Uuid, partition: u8) -> Result<NewGeneration, KeyRefusal> {
        self.with(|inner| {
            inner.next += 1;
            let (mut bytes, key_id) = ([0; 32], Uuid::from_u128(inner.next));
            getrandom::fill(&mut bytes).unwrap();
            let last = inner.generations.range((volume, partition, 0)..=(volume, partition, u32::MAX)).next_back();
            let number = last.map_or(0, |(place, _)| place.2) + 1;
            let scope = GenerationScope { volume, partition, generation: number, suite: inner.suite };
            let generation =
                Generation { key: bytes, key_id, active: false, ordinals: 0, sessions: Vec::new(), end: None };
            inner.generations.insert((volume, partition, number), generation);
            let keys = GenerationKeys::new(key(&bytes), scope);
            inner.released.push(keys.end_switch().clone());
            Ok(NewGeneration {
                keys,
                key_id,
                first_session_ordinal: 1,
                stanzas: vec![Stanza { kind: 1, body: vec![7; 56] }],
                policy: inner.policy,
            })
        })
    }

    fn activate_generation(
        &mut self,
        scope: &GenerationScope,
        key_id: Uuid,
        _commitment: &[u8; 32],
    ) -> Result<(), KeyRefusal> {
        self.with(|inner| {
            let generation = inner.of(scope)?;
            assert_eq!(generation.key_id, key_id);
            generation.active = true;
            Ok(())
        })
    }

    fn load(&mut self, _label: &VolumeLabel, record: &GenerationRecord) -> Result<LoadedGeneration, KeyRefusal> {
        self.with(|inner| {
            inner.loads += 1;
            let (policy, scope) = (inner.policy, record.scope);
            let newer =
                (scope.volume, scope.partition, scope.generation + 1)..=(scope.volume, scope.partition, u32::MAX);
            if inner.generations.range(newer).any(|(_, generation)| generation.active) {
                return Err(KeyRefusal::new(KeyRefusalKind::Superseded, "an older generation than the catalogue's"));
            }
            let generation = inner.of(&scope)?;
            if generation.key_id != record.key_id {
                return Err(unknown());
            }
            let keys = GenerationKeys::new(key(&generation.key), scope);
            let released = keys.end_switch().clone();
            let loaded = LoadedGeneration {
                keys: ReleasedKeys::Seals(keys),
                new_generation_allowed: true,
                policy,
                pending: !generation.active,
                content: Some(CatalogueContent { sessions: generation.sessions.clone(), end: generation.end }),
            };
            inner.released.push(released);
            Ok(loaded)
        })
    }

    fn has_pending_generation(&mut self, volume: Uuid, partition: u8) -> Result<bool, KeyRefusal> {
        self.with(|inner| {
            let all = (volume, partition, 0)..=(volume, partition, u32::MAX);
            Ok(inner.generations.range(all).any(|(_, generation)| !generation.active))
        })
    }

    fn open_session(&mut self, opening: &SessionOpening) -> Result<u32, KeyRefusal> {
        self.with(|inner| {
            let generation = inner.of(&opening.scope)?;
            generation.ordinals += 1;
            let ordinal = generation.ordinals;
            for earlier in &mut generation.sessions {
                earlier.confirmed |= earlier.ordinal == opening.after_ordinal;
            }
            generation.sessions.push(SessionExtent {
                ordinal,
                session: opening.session,
                first_object: opening.first_object,
                link: opening.link,
                confirmed: false,
            });
            generation.end = generation.end.filter(|end| end.object <= opening.first_object);
            Ok(ordinal)
        })
    }

    fn record_sync(&mut self, report: &SyncReport) -> Result<(), KeyRefusal> {
        self.with(|inner| {
            let generation = inner.of(&report.scope)?;
            generation.end = Some(report.end);
            for session in &mut generation.sessions {
                session.confirmed |= session.ordinal == report.end.session_ordinal;
            }
            generation.sessions.retain(|session| session.ordinal <= report.end.session_ordinal);
            Ok(())
        })
    }

    fn release(&mut self, _volume: Uuid) -> Result<(), KeyRefusal> {
        self.with(|_| Ok(()))
    }

    fn report_incident(&mut self, _volume: Uuid, what: &str) -> Result<(), KeyRefusal> {
        self.with(|inner| {
            inner.incidents.push(what.to_owned());
            Ok(())
        })
    }
}
