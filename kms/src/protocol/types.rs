//! What both the data path and operators speak of: volumes, generations, keys, pools.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cartridge::BarcodePattern;
use crate::hex::Hex;

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

/// Longest period of use, in days: a hundred years.
pub const LONGEST_PERIOD: u32 = 36_525;

/// Which generations of a pool share a medium key-encryption key: that key is destroyed only when all of them are past.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EpochRule {
    /// All of them.
    #[default]
    Single,
    /// Those whose keys expire in the same year; where keys do not expire, those that were made in the same year.
    Yearly,
    /// Those that are made while the epoch has this name.
    Named(String),
}

impl TryFrom<String> for EpochRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "single" => Ok(Self::Single),
            "yearly" => Ok(Self::Yearly),
            name if (1..=32).contains(&name.len())
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) =>
            {
                Ok(Self::Named(text))
            }
            _ => Err(format!("{text:?} is no epoch: single, yearly, or a name of 1 to 32 letters, digits, - _ and .")),
        }
    }
}

impl From<EpochRule> for String {
    fn from(rule: EpochRule) -> Self {
        match rule {
            EpochRule::Single => "single".into(),
            EpochRule::Yearly => "yearly".into(),
            EpochRule::Named(name) => name,
        }
    }
}

impl std::fmt::Display for EpochRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(self.clone()))
    }
}

/// For how long the keys of a pool may be used, and when they may be destroyed (NIST SP 800-57 part 1, 5.3: cryptoperiods).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLife {
    /// Originator usage period: for so many days after its creation a key seals; none without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal_days: Option<u32>,
    /// Recipient usage period: for so many days after its creation a key opens; none without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_days: Option<u32>,
    /// A released key is wiped after so many seconds unless its release was renewed; none without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_release: Option<u32>,
    /// Which keys share a medium key-encryption key.
    #[serde(default, skip_serializing_if = "is_single")]
    pub epoch: EpochRule,
    /// An active volume that was written to within so many days is in use: it is destroyed only when that is said expressly.
    #[serde(default = "in_use_days", skip_serializing_if = "is_in_use_days")]
    pub in_use_days: u32,
}

impl Default for KeyLife {
    fn default() -> Self {
        Self {
            seal_days: None,
            open_days: None,
            longest_release: None,
            epoch: EpochRule::Single,
            in_use_days: in_use_days(),
        }
    }
}

/// What earlier versions had for all pools, and did not write.
fn in_use_days() -> u32 {
    30
}

fn is_in_use_days(days: &u32) -> bool {
    *days == in_use_days()
}

fn is_single(rule: &EpochRule) -> bool {
    *rule == EpochRule::Single
}

fn is_unlimited(life: &KeyLife) -> bool {
    *life == KeyLife::default()
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
    /// Whether the data key, wrapped to the recovery key, stands there too, once there is one.
    #[serde(default = "yes")]
    pub recovery_on_medium: bool,
    /// Whether the operator's label stands in the label block in clear.
    pub label_on_medium: bool,
    /// Whether the barcode stands in the label block in clear.
    pub barcode_on_medium: bool,
    /// Blank cartridges whose barcode fits are labelled when they are loaded; none is when there is no pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_label: Option<BarcodePattern>,
    /// For how long its keys may be used.
    #[serde(default, skip_serializing_if = "is_unlimited")]
    pub life: KeyLife,
}

/// What earlier versions did not write.
fn yes() -> bool {
    true
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
            recovery_on_medium: true,
            label_on_medium: true,
            barcode_on_medium: true,
            auto_label: None,
            life: KeyLife::default(),
        }
    }
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

/// Which volumes are wanted; all that is given has to apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeQuery {
    /// Those behind this one: `next` of the page before.
    #[serde(default)]
    pub after: Option<(String, Uuid)>,
    /// At most this many (limit 1000).
    pub count: u32,
    /// Pool.
    #[serde(default)]
    pub pool: Option<String>,
    /// State.
    #[serde(default)]
    pub state: Option<VolumeState>,
    /// Beginning of the label.
    #[serde(default)]
    pub label: Option<String>,
    /// Barcode.
    #[serde(default)]
    pub barcode: Option<String>,
}

impl VolumeQuery {
    /// Whether a volume is meant.
    #[must_use]
    pub fn fits(&self, volume: &VolumeSummary) -> bool {
        self.pool.as_ref().is_none_or(|pool| volume.pool == *pool)
            && self.state.is_none_or(|state| volume.state == state)
            && self.label.as_ref().is_none_or(|label| volume.label.starts_with(label.as_str()))
            && self.barcode.as_ref().is_none_or(|barcode| volume.barcode.as_ref() == Some(barcode))
    }
}

/// A page of the list of volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePage {
    /// The volumes, oldest first.
    pub volumes: Vec<VolumeSummary>,
    /// Where to go on; none at the end. A page can be empty and have more behind it.
    pub next: Option<(String, Uuid)>,
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
