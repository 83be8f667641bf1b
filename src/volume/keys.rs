//! How the data path reaches keys and the catalogue: through [`KeySource`], and in no other way.

use std::fmt;

use uuid::Uuid;

use super::session_map::SessionExtent;
use crate::seal::{
    Compression, GenerationKeys, GenerationRecord, GenerationScope, Header, Link, Refusal, ReleasedKeys, SessionId,
    Stanza, VolumeLabel,
};

/// What the volume's pool asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VolumePolicy {
    /// Compression before sealing.
    pub compression: Compression,
    /// Writes are accepted at the end of data only.
    pub append_only: bool,
}

/// What the catalogue knows of a generation's content.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CatalogueContent {
    /// Sessions, in the order of their ordinals.
    pub sessions: Vec<SessionExtent>,
    /// End of data at the last synchronisation that was reported, if there was one.
    pub end: Option<KnownEnd>,
}

/// The end of data, as a synchronising command left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownEnd {
    /// Logical object number at the end of data.
    pub object: u64,
    /// Filemarks before it.
    pub filemarks: u64,
    /// The last record before it and its tag; `None` when only filemarks stand there.
    pub last_record: Option<(u64, [u8; 16])>,
    /// Ordinal of the session of the last record, 0 when there is none.
    pub session_ordinal: u32,
}

impl KnownEnd {
    /// Whether a record may stand at its place: between the last record and the end stand filemarks alone, and what
    /// was written behind the end has them all before it. This finds what only filemarks had written over, and what no
    /// session can tell.
    ///
    /// # Errors
    /// [`Refusal::RolledBack`] when it may not.
    pub fn check(&self, header: &Header) -> Result<(), Refusal> {
        let behind_last = self.last_record.map_or(0, |(object, _)| object + 1);
        let among_filemarks = (behind_last..self.object).contains(&header.object);
        let behind_end = header.object >= self.object;
        if among_filemarks || behind_end && header.filemarks < self.filemarks {
            return Err(Refusal::RolledBack);
        }
        Ok(())
    }
}

/// A generation that was released to this unit.
#[derive(Debug)]
pub struct LoadedGeneration {
    /// Its keys, by the right they were released with.
    pub keys: ReleasedKeys,
    /// With a right to open alone: the key's period for sealing is over, and a new generation may be begun.
    pub new_generation_allowed: bool,
    /// The pool's policy.
    pub policy: VolumePolicy,
    /// The catalogue calls the generation pending: it has to be activated before it is used.
    pub pending: bool,
    /// What the catalogue knows; `None` when there is no catalogue.
    pub content: Option<CatalogueContent>,
}

/// A generation that is about to be written.
#[derive(Debug)]
pub struct NewGeneration {
    /// Its keys; the scope names generation and suite.
    pub keys: GenerationKeys,
    /// The data key's name.
    pub key_id: Uuid,
    /// The least ordinal of a session in it.
    pub first_session_ordinal: u32,
    /// Ways to the data key that stand on the medium.
    pub stanzas: Vec<Stanza>,
    /// The pool's policy.
    pub policy: VolumePolicy,
}

/// A session that is about to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionOpening {
    /// Where.
    pub scope: GenerationScope,
    /// The generation's data key.
    pub key_id: Uuid,
    /// Its name.
    pub session: SessionId,
    /// Its first object.
    pub first_object: u64,
    /// Filemarks before that.
    pub filemarks: u64,
    /// What stands before it.
    pub link: Link,
    /// Ordinal of the session of the record before it, 0 when there is none.
    pub after_ordinal: u32,
}

/// What stands on the medium after a synchronising command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncReport {
    /// Where.
    pub scope: GenerationScope,
    /// The generation's data key.
    pub key_id: Uuid,
    /// The end of data.
    pub end: KnownEnd,
}

/// A volume that is to be labelled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeToLabel {
    /// The volume.
    pub volume: Uuid,
    /// How many partitions are to be labelled.
    pub partitions: u8,
    /// The operator's label, if policy puts it on the medium.
    pub label_on_medium: Option<String>,
    /// The barcode, if policy puts it on the medium.
    pub barcode_on_medium: Option<String>,
}

/// Why the key authority refuses, as far as the data path acts on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum KeyRefusalKind {
    /// It cannot be reached, or did not answer in time.
    Away,
    /// Its HSM cannot be used now.
    HsmUnavailable,
    /// It does not know this volume, generation or key.
    Unknown,
    /// The medium holds an older generation than the catalogue: it was put back to an earlier state.
    Superseded,
    /// It does not permit this.
    NotPermitted,
    /// Something that it was shown does not verify.
    Integrity,
}

/// A refusal in words: what happened, and what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRefusal {
    /// The kind.
    pub kind: KeyRefusalKind,
    /// What happened, with the volume's name.
    pub message: String,
}

impl KeyRefusal {
    /// A refusal in words.
    pub fn new(kind: KeyRefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for KeyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for KeyRefusal {}

/// What the drive says of the cartridge in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CartridgeSeen {
    /// Its barcode, where it stands in the cartridge's memory.
    pub barcode: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
}

/// The key authority, as one unit sees it. Every call returns within a limit of its own.
pub trait KeySource: Send {
    /// Another cartridge is in the drive from now on: the calls that follow are about it. A source that does not know volumes by
    /// their cartridges has no use for it.
    fn cartridge_changed(&mut self, _cartridge: &CartridgeSeen) {}

    /// What stands on the medium was verified as this volume's: its cartridge may be remembered.
    fn confirm_cartridge(&mut self, _volume: Uuid) -> Result<(), KeyRefusal> {
        Ok(())
    }

    /// A ticket to label the blank cartridge in the drive, where policy wants that done without being asked.
    fn ticket_by_policy(&mut self) -> Result<Option<String>, KeyRefusal> {
        Ok(None)
    }

    /// Registers the volume that a ticket was given for. `replaces` is the volume that stands on the medium now.
    fn create_volume(&mut self, ticket: &str, replaces: Option<Uuid>) -> Result<VolumeToLabel, KeyRefusal>;

    /// Makes a data key for the next generation of a partition; it is pending until it is activated.
    fn create_generation(&mut self, volume: Uuid, partition: u8) -> Result<NewGeneration, KeyRefusal>;

    /// The generation's record stands on the medium and was read back: it takes the place of the one before.
    fn activate_generation(
        &mut self,
        scope: &GenerationScope,
        key_id: Uuid,
        commitment: &[u8; 32],
    ) -> Result<(), KeyRefusal>;

    /// Releases the key of the generation that stands on the medium.
    fn load(&mut self, label: &VolumeLabel, generation: &GenerationRecord) -> Result<LoadedGeneration, KeyRefusal>;

    /// Whether a generation of this partition was begun and never activated, so that a label without a generation
    /// record is what a cut left behind. Returns the policy of the volume if so.
    fn has_pending_generation(&mut self, volume: Uuid, partition: u8) -> Result<bool, KeyRefusal>;

    /// Gives the session its ordinal, which is durable before this returns and is never given again.
    fn open_session(&mut self, opening: &SessionOpening) -> Result<u32, KeyRefusal>;

    /// Tells what a synchronising command left on the medium.
    fn record_sync(&mut self, report: &SyncReport) -> Result<(), KeyRefusal>;

    /// The volume was unloaded and its keys wiped.
    fn release(&mut self, volume: Uuid) -> Result<(), KeyRefusal>;

    /// Something on the medium was refused: for the custody log.
    fn report_incident(&mut self, volume: Uuid, what: &str) -> Result<(), KeyRefusal>;
}
