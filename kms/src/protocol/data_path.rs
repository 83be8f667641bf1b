//! What crosses the data path's sockets.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::refusal::Refusal;
use super::types::{GenerationRef, GenerationState, PoolPolicy, Rights, VolumeKind, VolumeView};
use crate::cartridge::Cartridge;
use crate::hex::{Hex, HexBytes};

/// One way to the data key, as it stands in a generation record: type and body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stanza {
    /// 1 `AES_KEY_WRAP`, 2 AES-256-GCM.
    pub kind: u16,
    /// The body as the medium format has it.
    pub body: HexBytes,
}

/// Permission to label one medium once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub String);

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// A request of the data path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataPathRequest {
    /// Registers the volume a ticket allows. Repeated with the same ticket it names the same volume until that is fully labelled.
    CreateVolume {
        /// The ticket, from [`super::ControlRequest::AuthorizeLabel`].
        ticket: Ticket,
        /// The unit that labels.
        unit: String,
        /// The volume that stands on the medium now, if it holds one of ours.
        replaces: Option<Uuid>,
        /// The cartridge in the unit.
        #[serde(default)]
        cartridge: Cartridge,
    },
    /// Permission to label the blank cartridge in the unit, if a pool's policy wants it labelled without being asked.
    AuthorizeByPolicy {
        /// The unit that asks.
        unit: String,
        /// The cartridge in it.
        cartridge: Cartridge,
    },
    /// Makes the next generation of a partition, with a new data key.
    CreateGeneration {
        /// The unit that asks.
        unit: String,
        /// The volume.
        volume: Uuid,
        /// Its partition.
        partition: u8,
        /// Another suite than the pool's.
        suite: Option<u8>,
    },
    /// The generation record has been written, synchronised and read back.
    ActivateGeneration {
        /// The unit that asks.
        unit: String,
        /// Which generation.
        at: GenerationRef,
        /// The commitment that stands in its record.
        commitment: Hex<32>,
    },
    /// What the catalogue knows of a volume, without keys.
    Lookup {
        /// The unit that asks.
        unit: String,
        /// The volume.
        volume: Uuid,
    },
    /// The data key of a generation.
    Load {
        /// The unit that asks.
        unit: String,
        /// Which generation.
        at: GenerationRef,
        /// The cartridge in the unit.
        #[serde(default)]
        cartridge: Cartridge,
    },
    /// What the medium holds has been verified with its key: what the catalogue did not know of its cartridge is entered.
    LearnCartridge {
        /// The unit that tells.
        unit: String,
        /// The volume.
        volume: Uuid,
        /// The cartridge in the unit.
        cartridge: Cartridge,
    },
    /// A new session; its ordinal is never given twice.
    OpenSession {
        /// The unit that asks.
        unit: String,
        /// Which generation.
        at: GenerationRef,
        /// The session.
        session: SessionStart,
    },
    /// A synchronisation reached the medium.
    RecordSync {
        /// The unit that asks.
        unit: String,
        /// Which generation.
        at: GenerationRef,
        /// Where the medium ends now.
        end: SyncPoint,
    },
    /// The volume was unloaded and its keys are wiped.
    Release {
        /// The unit that asks.
        unit: String,
        /// The volume.
        volume: Uuid,
    },
    /// Something that belongs into the custody log, such as a record that was refused.
    Incident {
        /// The unit that tells.
        unit: String,
        /// The volume, when known.
        volume: Option<Uuid>,
        /// What happened; at most 1000 bytes.
        text: String,
    },
    /// Waits, at the longest [`WATCH_LIMIT`], until the rights to a key end that stands in this list after `after`; for a connection
    /// of its own. A data path that starts asks with 0.
    Watch {
        /// The `to` of the last answer.
        after: u64,
    },
    /// The key of a loaded generation may be kept for another period.
    Renew {
        /// The unit that asks.
        unit: String,
        /// Which generation.
        at: GenerationRef,
    },
    /// A volume of kind stream and its one generation.
    CreateStream {
        /// The pool; none for the default pool.
        pool: Option<String>,
    },
    /// The data key of a stream.
    LoadStream {
        /// Which generation.
        at: GenerationRef,
    },
    /// The stream's final record has been written.
    FinishStream {
        /// The stream's volume.
        volume: Uuid,
        /// Records written, the final one included.
        records: u64,
        /// Tag of the final record.
        last_tag: Hex<16>,
    },
}

impl DataPathRequest {
    /// The unit that it is made for; none for streams and for [`DataPathRequest::Watch`].
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        match self {
            Self::CreateVolume { unit, .. }
            | Self::AuthorizeByPolicy { unit, .. }
            | Self::CreateGeneration { unit, .. }
            | Self::ActivateGeneration { unit, .. }
            | Self::Lookup { unit, .. }
            | Self::Load { unit, .. }
            | Self::LearnCartridge { unit, .. }
            | Self::OpenSession { unit, .. }
            | Self::RecordSync { unit, .. }
            | Self::Release { unit, .. }
            | Self::Incident { unit, .. }
            | Self::Renew { unit, .. } => Some(unit),
            Self::Watch { .. } | Self::CreateStream { .. } | Self::LoadStream { .. } | Self::FinishStream { .. } => {
                None
            }
        }
    }
}

/// How a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionStart {
    /// 128 random bits.
    pub session_id: Hex<16>,
    /// Logical object number of its first record.
    pub first_object: u64,
    /// Host's filemarks before that object.
    pub filemarks: u64,
    /// Link to the session before.
    pub link: Hex<16>,
    /// The session of the record before it, which was read and verified; 0 when there is none.
    pub after_ordinal: u32,
}

/// The end of data at a synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncPoint {
    /// The session of the last record, 0 when there is no record.
    pub ordinal: u32,
    /// Logical object number after the last object (of any kind).
    pub end_object: u64,
    /// Host's filemarks before that.
    pub end_filemarks: u64,
    /// The last record, if there is one.
    pub last: Option<LastRecord>,
}

/// A record by place and tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastRecord {
    /// Logical object number.
    pub object: u64,
    /// Its tag.
    pub tag: Hex<16>,
}

/// A session as the catalogue has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its ordinal.
    pub ordinal: u32,
    /// How it began.
    #[serde(flatten)]
    pub start: SessionStart,
    /// A record of it is known to stand on the medium.
    pub confirmed: bool,
}

/// Reply to [`DataPathRequest::CreateVolume`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVolume {
    /// The volume.
    pub volume: Uuid,
    /// Its kind.
    pub kind: VolumeKind,
    /// Number of partitions.
    pub partitions: u8,
    /// The operator's label; it stands on the medium only where `policy.label_on_medium` says so.
    pub label: String,
    /// The barcode; on the medium only where `policy.barcode_on_medium` says so.
    pub barcode: Option<String>,
    /// The pool's policy.
    pub policy: PoolPolicy,
}

/// Reply to [`DataPathRequest::CreateGeneration`] and, for streams, [`DataPathRequest::CreateStream`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewGeneration {
    /// Which generation this is.
    pub at: GenerationRef,
    /// First session ordinal of this generation. For a stream it is also that of its one session.
    pub first_ordinal: u32,
    /// The suite.
    pub suite: u8,
    /// The compression.
    pub compression: u8,
    /// What the generation record has to carry; empty when policy keeps the key off the medium.
    pub stanzas: Vec<Stanza>,
    /// The pool's policy.
    pub policy: PoolPolicy,
    /// For how long the key may be kept without [`DataPathRequest::Renew`], in seconds; none without a limit.
    #[serde(default)]
    pub lease_seconds: Option<u32>,
}

/// Reply to [`DataPathRequest::Load`] and [`DataPathRequest::LoadStream`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Which generation.
    pub at: GenerationRef,
    /// Pending (finish and activate it) or active.
    pub state: GenerationState,
    /// The suite.
    pub suite: u8,
    /// First session ordinal.
    pub first_ordinal: u32,
    /// The commitment, once activated: it has to be that of the record on the medium.
    pub commitment: Option<Hex<32>>,
    /// The pool's policy.
    pub policy: PoolPolicy,
    /// What the key may be used for.
    pub rights: Rights,
    /// With [`Rights::OpenOnly`]: its period for sealing is over, and the way on is a new generation.
    #[serde(default)]
    pub new_generation_allowed: bool,
    /// Sessions of this generation by ordinal.
    pub sessions: Vec<SessionRecord>,
    /// The end of data at the last synchronisation, unless a session was opened before it since.
    pub end: Option<SyncPoint>,
    /// The unit knows more of the cartridge than the catalogue: to be told once the medium is verified.
    #[serde(default)]
    pub learn_cartridge: bool,
    /// For how long the key may be kept without [`DataPathRequest::Renew`], in seconds; none without a limit.
    #[serde(default)]
    pub lease_seconds: Option<u32>,
}

/// How long a [`DataPathRequest::Watch`] is left without an answer at the longest; then it is answered with an empty list.
pub const WATCH_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// A key whose release has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The volume.
    pub volume: Uuid,
    /// The data key.
    pub key_id: Uuid,
    /// Why, in the operator's words.
    pub reason: String,
}

/// A reply on the data path's sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum DataPathReply {
    /// To `CreateVolume`.
    Volume(NewVolume),
    /// To `CreateGeneration` and `CreateStream`; the data key follows.
    Generation(NewGeneration),
    /// To `Lookup`.
    View(VolumeView),
    /// To `Load` and `LoadStream`; the data key follows.
    Loaded(Loaded),
    /// To `AuthorizeByPolicy`; none where no pool wants it.
    Ticket {
        /// What to hand back, once, to label.
        ticket: Option<Ticket>,
    },
    /// To `Watch`: what was ended since. The data path wipes these keys and stops the units that hold them.
    Ended {
        /// Where the list ends now.
        to: u64,
        /// The keys.
        keys: Vec<Ended>,
    },
    /// To `Renew`.
    Renewed {
        /// For how long, in seconds; none without a limit.
        lease_seconds: Option<u32>,
        /// What the key may be used for from now on.
        rights: Rights,
    },
    /// To `OpenSession`.
    Session {
        /// The session's ordinal.
        ordinal: u32,
    },
    /// To everything else.
    Done,
    /// No.
    Refused(Refusal),
}
