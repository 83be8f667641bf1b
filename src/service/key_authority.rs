//! [`KeySource`] over the socket of `sealtape-keyd`.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use sealtape_kms::client::{ClientError, DataPathClient};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{
    self, Cartridge, GenerationRef, GenerationState, LastRecord, PoolPolicy, RefusalCode, Rights, SessionRecord,
    SessionStart, SyncPoint, Ticket,
};
use uuid::Uuid;

use super::barcode::BarcodeReader;
use super::key_guard::Guarded;
use crate::seal::{
    Compression, GenerationKeys, GenerationRecord, GenerationScope, Link, OpeningKeys, ReleasedKeys, SessionId, Stanza,
    Suite, VolumeLabel,
};
use crate::volume::keys::{CartridgeSeen, CatalogueContent, KnownEnd, VolumeToLabel};
use crate::volume::{
    KeyRefusal, KeyRefusalKind, KeySource, LoadedGeneration, NewGeneration, SessionExtent, SessionOpening, SyncReport,
    VolumePolicy,
};

/// One unit's way to the key authority.
pub struct KeyAuthority {
    client: DataPathClient,
    unit: String,
    guarded: Weak<Guarded>,
    barcodes: BarcodeReader,
    cartridge: SharedCartridge,
    /// The catalogue does not know all of the cartridge.
    learn: bool,
}

/// The cartridge in the drive, also for who tells operators about it.
pub(super) type SharedCartridge = Arc<Mutex<Cartridge>>;

impl KeyAuthority {
    /// Wraps the client of a unit. What is found out about cartridges is kept in `cartridge`.
    pub(super) fn new(
        client: DataPathClient,
        unit: &str,
        guarded: Weak<Guarded>,
        barcodes: BarcodeReader,
        cartridge: SharedCartridge,
    ) -> Self {
        Self { client, unit: unit.to_owned(), guarded, barcodes, cartridge, learn: false }
    }

    /// The key that was just released can be ended from now on.
    fn guard(&self, at: GenerationRef, keys: &impl OpeningKeys, lease: Option<u32>, asked: Instant) {
        if let Some(guarded) = self.guarded.upgrade() {
            guarded.hold(&self.unit, at, keys.end_switch().downgrade(), lease, asked);
        }
    }

    fn cartridge(&self) -> Cartridge {
        self.cartridge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn refusal(error: ClientError) -> KeyRefusal {
    let kind = match &error {
        ClientError::Refused(refusal) => match refusal.code {
            RefusalCode::UnknownVolume | RefusalCode::UnknownPool | RefusalCode::UnknownGeneration => {
                KeyRefusalKind::Unknown
            }
            RefusalCode::Superseded => KeyRefusalKind::Superseded,
            RefusalCode::TokenMissing
            | RefusalCode::PinLatched
            | RefusalCode::TokenHung
            | RefusalCode::Token
            | RefusalCode::KekMissing => KeyRefusalKind::HsmUnavailable,
            RefusalCode::TamperedBlob | RefusalCode::Damaged | RefusalCode::OtherCartridge => KeyRefusalKind::Integrity,
            _ => KeyRefusalKind::NotPermitted,
        },
        _ => KeyRefusalKind::Away,
    };
    KeyRefusal::new(kind, error.to_string())
}

fn not_understood(what: &str) -> KeyRefusal {
    KeyRefusal::new(
        KeyRefusalKind::Away,
        format!("the key authority answered with {what}; bring both services to the same version"),
    )
}

fn at(scope: &GenerationScope, key_id: Uuid) -> GenerationRef {
    GenerationRef { volume: scope.volume, partition: scope.partition, generation: scope.generation, key_id }
}

fn scope_of(at: &GenerationRef, suite: u8) -> Result<GenerationScope, KeyRefusal> {
    let suite = Suite(suite);
    if !suite.is_known() {
        return Err(not_understood(&format!("{suite}, which is not known here")));
    }
    Ok(GenerationScope { volume: at.volume, partition: at.partition, generation: at.generation, suite })
}

fn policy(pool: &PoolPolicy) -> Result<VolumePolicy, KeyRefusal> {
    let compression = Compression(pool.compression);
    if !compression.is_known() {
        return Err(not_understood(&format!("{compression}, which is not known here")));
    }
    Ok(VolumePolicy { compression, append_only: false })
}

fn content(sessions: &[SessionRecord], end: Option<SyncPoint>) -> CatalogueContent {
    let extents = sessions.iter().map(|record| SessionExtent {
        ordinal: record.ordinal,
        session: SessionId(record.start.session_id.0),
        first_object: record.start.first_object,
        link: Link(record.start.link.0),
        confirmed: record.confirmed,
    });
    let end = end.map(|end| KnownEnd {
        object: end.end_object,
        filemarks: end.end_filemarks,
        last_record: end.last.map(|last| (last.object, last.tag.0)),
        session_ordinal: end.ordinal,
    });
    CatalogueContent { sessions: extents.collect(), end }
}

impl KeySource for KeyAuthority {
    fn cartridge_changed(&mut self, cartridge: &CartridgeSeen) {
        let cartridge = self.barcodes.cartridge(cartridge);
        *self.cartridge.lock().unwrap_or_else(PoisonError::into_inner) = cartridge;
        self.learn = false;
    }

    fn confirm_cartridge(&mut self, volume: Uuid) -> Result<(), KeyRefusal> {
        if self.learn {
            self.client.learn_cartridge(volume, &self.cartridge()).map_err(refusal)?;
            self.learn = false;
        }
        Ok(())
    }

    fn ticket_by_policy(&mut self) -> Result<Option<String>, KeyRefusal> {
        let cartridge = self.cartridge();
        if cartridge.barcode.is_none() {
            return Ok(None);
        }
        Ok(self.client.authorize_by_policy(&cartridge).map_err(refusal)?.map(|ticket| ticket.0))
    }

    fn create_volume(&mut self, ticket: &str, replaces: Option<Uuid>) -> Result<VolumeToLabel, KeyRefusal> {
        let volume =
            self.client.create_volume(&Ticket(ticket.to_owned()), replaces, &self.cartridge()).map_err(refusal)?;
        Ok(VolumeToLabel {
            volume: volume.volume,
            partitions: volume.partitions,
            label_on_medium: volume.policy.label_on_medium.then_some(volume.label),
            barcode_on_medium: volume.barcode.filter(|_| volume.policy.barcode_on_medium),
        })
    }

    fn create_generation(&mut self, volume: Uuid, partition: u8) -> Result<NewGeneration, KeyRefusal> {
        let asked = Instant::now();
        let (new, key) = self.client.create_generation(volume, partition, None).map_err(refusal)?;
        let scope = scope_of(&new.at, new.suite)?;
        let keys = GenerationKeys::new(key, scope);
        self.guard(new.at, &keys, new.lease_seconds, asked);
        Ok(NewGeneration {
            keys,
            key_id: new.at.key_id,
            first_session_ordinal: new.first_ordinal,
            stanzas: new
                .stanzas
                .into_iter()
                .map(|protocol::Stanza { kind, body }| Stanza { kind, body: body.0 })
                .collect(),
            policy: policy(&new.policy)?,
        })
    }

    fn activate_generation(
        &mut self,
        scope: &GenerationScope,
        key_id: Uuid,
        commitment: &[u8; 32],
    ) -> Result<(), KeyRefusal> {
        self.client.activate_generation(at(scope, key_id), commitment).map_err(refusal)
    }

    fn load(&mut self, _label: &VolumeLabel, generation: &GenerationRecord) -> Result<LoadedGeneration, KeyRefusal> {
        let asked = Instant::now();
        let (loaded, key) =
            self.client.load(at(&generation.scope, generation.key_id), &self.cartridge()).map_err(refusal)?;
        self.learn |= loaded.learn_cartridge;
        let scope = scope_of(&loaded.at, loaded.suite)?;
        let keys = match loaded.rights {
            Rights::SealAndOpen => ReleasedKeys::Seals(GenerationKeys::new(key, scope)),
            Rights::OpenOnly => ReleasedKeys::Opens(GenerationKeys::opening(key, scope)),
        };
        self.guard(loaded.at, &keys, loaded.lease_seconds, asked);
        Ok(LoadedGeneration {
            keys,
            new_generation_allowed: loaded.new_generation_allowed,
            policy: policy(&loaded.policy)?,
            pending: loaded.state == GenerationState::Pending,
            content: Some(content(&loaded.sessions, loaded.end)),
        })
    }

    fn has_pending_generation(&mut self, volume: Uuid, partition: u8) -> Result<bool, KeyRefusal> {
        let view = self.client.lookup(volume).map_err(refusal)?;
        let known = Cartridge { barcode: view.barcode.clone(), serial: view.cartridge_serial.clone() };
        if let Some(differ) = known.contradicts(&self.cartridge()) {
            let text =
                format!("volume {volume} stands in another cartridge than the one in the drive, which has {differ}");
            return Err(KeyRefusal::new(KeyRefusalKind::Integrity, text));
        }
        let partition = view.partitions.iter().find(|view| view.partition == partition);
        Ok(partition.is_some_and(|view| view.pending().next().is_some()))
    }

    fn open_session(&mut self, opening: &SessionOpening) -> Result<u32, KeyRefusal> {
        let start = SessionStart {
            session_id: Hex(opening.session.0),
            first_object: opening.first_object,
            filemarks: opening.filemarks,
            link: Hex(opening.link.0),
            after_ordinal: opening.after_ordinal,
        };
        self.client.open_session(at(&opening.scope, opening.key_id), start).map_err(refusal)
    }

    fn record_sync(&mut self, report: &SyncReport) -> Result<(), KeyRefusal> {
        let end = SyncPoint {
            ordinal: report.end.session_ordinal,
            end_object: report.end.object,
            end_filemarks: report.end.filemarks,
            last: report.end.last_record.map(|(object, tag)| LastRecord { object, tag: Hex(tag) }),
        };
        self.client.record_sync(at(&report.scope, report.key_id), end).map_err(refusal)
    }

    fn release(&mut self, volume: Uuid) -> Result<(), KeyRefusal> {
        if let Some(guarded) = self.guarded.upgrade() {
            guarded.returned(&self.unit, volume);
        }
        self.client.release(volume).map_err(refusal)
    }

    fn report_incident(&mut self, volume: Uuid, what: &str) -> Result<(), KeyRefusal> {
        self.client.incident(Some(volume), what).map_err(refusal)
    }
}
