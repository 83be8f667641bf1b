//! What crosses the sockets of the key authority: requests, replies, refusals. No key is in any of these types; a data key follows
//! its reply in the frame's secret trailer (see `frame.rs`).

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::cartridge::{BarcodePattern, Cartridge};
use crate::hex::{Hex, HexBytes};

/// Name of the data path's socket in the run directory.
pub const KEYS_SOCKET: &str = "keys.sock";
/// Name of the control socket (command line) in the run directory.
pub const CONTROL_SOCKET: &str = "keyd.sock";
/// Name of the socket for pipes (`seal`, `open`) in the run directory.
pub const STREAM_SOCKET: &str = "stream.sock";

/// What a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeKind {
    /// A tape, with one or two partitions.
    Tape,
    /// A pipe: one partition, one generation.
    Stream,
}

/// Life of a volume in the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// Created; not every partition has an active generation yet.
    Labelling,
    /// In use.
    Active,
    /// Its medium was labelled again as another volume.
    Replaced,
    /// Taken out of use by an operator; not loaded until set active again.
    Retired,
    /// Its keys are destroyed.
    Destroyed,
}

/// State of a generation of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationState {
    /// Created; whether its record reached the medium is not known.
    Pending,
    /// Its record stands on the medium.
    Active,
    /// A later generation became active after this one had been.
    Superseded,
    /// A later generation became active while this one was still pending.
    Abandoned,
}

/// State of a key (NIST SP 800-57 part 1, rev. 5, section 7; KMIP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Made, not yet in use.
    PreActive,
    /// Seals and opens.
    Active,
    /// Opens only.
    Deactivated,
    /// Known or feared to be disclosed; opens only, by decision.
    Compromised,
    /// Gone.
    Destroyed,
    /// Gone, after having been compromised.
    DestroyedCompromised,
}

/// What a released key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rights {
    /// Writing and reading.
    SealAndOpen,
    /// Reading.
    OpenOnly,
}

/// Policy of a pool. Suite and compression are the numbers of the medium format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolPolicy {
    /// The pool's name.
    pub name: String,
    /// 1 AES-256-GCM-SIV, 2 AES-256-GCM, 3 XChaCha20-Poly1305.
    pub suite: u8,
    /// 0 none, 1 zstd, 2 lz4.
    pub compression: u8,
    /// Whether the wrapped data key stands in the generation record on the medium.
    pub key_on_medium: bool,
    /// Whether the operator's label stands in the label block in clear.
    pub label_on_medium: bool,
    /// Whether the barcode stands in the label block in clear.
    pub barcode_on_medium: bool,
    /// Blank cartridges whose barcode fits are labelled when they are loaded; none is when there is no pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_label: Option<BarcodePattern>,
}

impl PoolPolicy {
    /// The policy of a pool called `name` when nothing else is said: AES-256-GCM-SIV, zstd, key and label on the medium.
    #[must_use]
    pub fn standard(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            suite: 1,
            compression: 1,
            key_on_medium: true,
            label_on_medium: true,
            barcode_on_medium: true,
            auto_label: None,
        }
    }
}

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
        /// The ticket, from [`ControlRequest::AuthorizeLabel`].
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

/// A generation, named so that a mix-up shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationRef {
    /// The volume.
    pub volume: Uuid,
    /// Its partition.
    pub partition: u8,
    /// The generation's number, from 1.
    pub generation: u32,
    /// Its data key.
    pub key_id: Uuid,
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
    /// Sessions of this generation by ordinal.
    pub sessions: Vec<SessionRecord>,
    /// The end of data at the last synchronisation, unless a session was opened before it since.
    pub end: Option<SyncPoint>,
    /// The unit knows more of the cartridge than the catalogue: to be told once the medium is verified.
    #[serde(default)]
    pub learn_cartridge: bool,
}

/// A generation without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationView {
    /// Its number.
    pub generation: u32,
    /// Its data key.
    pub key_id: Uuid,
    /// Its state.
    pub state: GenerationState,
    /// State of its key.
    pub key_state: KeyState,
    /// The suite.
    pub suite: u8,
    /// First session ordinal.
    pub first_ordinal: u32,
    /// When it was created (RFC 3339, UTC).
    pub created: String,
}

/// A partition and its generations, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its number.
    pub partition: u8,
    /// All generations, newest first.
    pub generations: Vec<GenerationView>,
}

impl PartitionView {
    /// The active generation.
    #[must_use]
    pub fn active(&self) -> Option<&GenerationView> {
        self.generations.iter().find(|g| g.state == GenerationState::Active)
    }

    /// Generations whose record may or may not stand on the medium, newest first.
    pub fn pending(&self) -> impl Iterator<Item = &GenerationView> {
        self.generations.iter().filter(|g| g.state == GenerationState::Pending)
    }
}

/// The catalogue's view of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeView {
    /// The volume.
    pub volume: Uuid,
    /// Its kind.
    pub kind: VolumeKind,
    /// Its state.
    pub state: VolumeState,
    /// The operator's label (empty for streams).
    pub label: String,
    /// The barcode.
    pub barcode: Option<String>,
    /// The cartridge's serial number.
    #[serde(default)]
    pub cartridge_serial: Option<String>,
    /// The pool's policy.
    pub policy: PoolPolicy,
    /// When it was created (RFC 3339, UTC).
    pub created: String,
    /// When what was written to it was last synchronised (RFC 3339, UTC).
    #[serde(default)]
    pub written: Option<String>,
    /// The partitions.
    pub partitions: Vec<PartitionView>,
}

/// A line of the list of volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSummary {
    /// The volume.
    pub volume: Uuid,
    /// Its kind.
    pub kind: VolumeKind,
    /// Its state.
    pub state: VolumeState,
    /// The operator's label (empty for streams).
    pub label: String,
    /// The barcode.
    pub barcode: Option<String>,
    /// The cartridge's serial number.
    #[serde(default)]
    pub cartridge_serial: Option<String>,
    /// The pool.
    pub pool: String,
    /// Number of partitions.
    pub partitions: u8,
    /// When it was created (RFC 3339, UTC).
    pub created: String,
    /// When what was written to it was last synchronised (RFC 3339, UTC).
    #[serde(default)]
    pub written: Option<String>,
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

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Allows a unit to label one medium.
    AuthorizeLabel(LabelOrder),
    /// All volumes.
    ListVolumes,
    /// One volume, by UUID or by the label of an active one.
    ShowVolume {
        /// UUID or label.
        volume: String,
    },
    /// Retires a volume, or takes it back into use.
    SetVolumeState {
        /// UUID or label.
        volume: String,
        /// `Retired` or `Active`.
        state: VolumeState,
        /// Why; kept in the custody log.
        reason: String,
    },
    /// A volume stands in this cartridge now, whatever the catalogue had: its barcode was exchanged, say.
    SetCartridge {
        /// UUID or label.
        volume: String,
        /// The cartridge as it is now; what it does not tell stays as it was.
        cartridge: Cartridge,
        /// Why; kept in the custody log.
        reason: String,
    },
    /// The pools.
    ListPools,
    /// A new pool.
    CreatePool {
        /// Its policy.
        policy: PoolPolicy,
    },
    /// Which pools a unit may load and label; an empty list lifts the restriction.
    RestrictUnit {
        /// The unit.
        unit: String,
        /// Names of pools.
        pools: Vec<String>,
    },
    /// The whole custody log; the reply is a series of `ExportPart` and one `Exported`.
    AuditExport,
    /// Some leaves.
    AuditShow {
        /// Sequence number of the first one; none for the last `count`.
        first: Option<u64>,
        /// At most this many (limit 1000).
        count: u32,
    },
    /// Signs a checkpoint of the custody log now.
    Checkpoint,
    /// Token, log, catalogue.
    Status,
    /// After a rejected PIN was put right.
    ClearPinLatch,
}

/// What an operator wants labelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelOrder {
    /// The unit whose medium is meant.
    pub unit: String,
    /// The label: 1 to 64 printable characters.
    pub label: String,
    /// The barcode: 1 to 32 printable characters.
    pub barcode: Option<String>,
    /// The pool; none for the default pool.
    pub pool: Option<String>,
    /// 1 or 2.
    pub partitions: u8,
    /// Whether a medium that holds one of our volumes may be labelled again; it may keep its label.
    pub relabel: bool,
}

/// A permission to label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelTicket {
    /// To hand to the data path, once.
    pub ticket: Ticket,
    /// Until when (RFC 3339, UTC).
    pub expires: String,
}

/// A checkpoint of the custody log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// Number of leaves.
    pub size: u64,
    /// The root.
    pub root: Hex<32>,
    /// The signed note, as text.
    pub note: String,
}

/// Health of the key authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The token's URI.
    pub token_uri: String,
    /// Whether a real unwrap just worked.
    pub token_ok: bool,
    /// Why not.
    pub token_error: Option<Refusal>,
    /// Whether a rejected PIN holds everything back.
    pub pin_latched: bool,
    /// How often the PKCS#11 worker was started.
    pub worker_starts: u64,
    /// Origin of the custody log.
    pub log_origin: String,
    /// Number of leaves.
    pub log_size: u64,
    /// Root of the tree.
    pub log_root: Hex<32>,
    /// Size at the last signed checkpoint.
    pub checkpoint_size: u64,
    /// Number of volumes.
    pub volumes: u64,
    /// The public key that verifies exports, as a C2SP verifier key.
    pub log_key: String,
}

/// A reply on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum ControlReply {
    /// To `AuthorizeLabel`.
    Ticket(LabelTicket),
    /// To `ListVolumes`.
    Volumes(Vec<VolumeSummary>),
    /// To `ShowVolume`.
    Volume(VolumeView),
    /// To `ListPools`.
    Pools(Vec<PoolPolicy>),
    /// Lines of an export, each ended by a newline.
    ExportPart(String),
    /// The end of an export.
    Exported(CheckpointView),
    /// To `AuditShow`: leaves as they stand in the log.
    Leaves(Vec<String>),
    /// To `Checkpoint`.
    Checkpoint(CheckpointView),
    /// To `Status`.
    Status(Status),
    /// To everything else.
    Done,
    /// No.
    Refused(Refusal),
}

/// Why a request was refused, as a program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The request makes no sense.
    BadRequest,
    /// The peer may not ask this.
    NotAllowed,
    /// No such volume.
    UnknownVolume,
    /// No such pool.
    UnknownPool,
    /// No such generation, or not with that key id.
    UnknownGeneration,
    /// The medium carries a generation that a later one has superseded: it was rolled back, or is a copy.
    Superseded,
    /// The volume's state forbids it.
    VolumeState,
    /// The cartridge is not the one that the volume stands in, or that is to be labelled.
    OtherCartridge,
    /// The unit may not use this pool.
    UnitRestricted,
    /// The ticket is unknown, used, expired, or for another unit.
    Ticket,
    /// The label is in use.
    LabelInUse,
    /// The medium holds one of our volumes and the ticket does not allow to label it again.
    WouldReplace,
    /// The token cannot be found.
    TokenMissing,
    /// The PIN was rejected; nothing is tried until an operator clears the latch.
    PinLatched,
    /// The token did not answer in time.
    TokenHung,
    /// The key that wraps the data keys is not in the token, or twice.
    KekMissing,
    /// A wrapped key is not the one that the custody log names.
    TamperedBlob,
    /// The token refused or failed otherwise.
    Token,
    /// The custody log or the catalogue cannot be written.
    LogUnwritable,
    /// The catalogue or the custody log is damaged.
    Damaged,
    /// Too many requests at once.
    Busy,
    /// A fault of the program.
    Internal,
}

/// A refusal in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; {mend}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// What happened, to which thing.
    pub what: String,
    /// What to do next.
    pub mend: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: RefusalCode, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { code, what: what.into(), mend: mend.into() }
    }
}
