//! Orders, progress and reports of the operations on a volume.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How far a long operation is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, a few words: "reading back the label".
    pub stage: String,
    /// How much is done.
    pub done: u64,
    /// How much there is to do, where it is known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: ProgressUnit,
}

/// What a progress counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgressUnit {
    /// Bytes.
    Bytes,
    /// Records.
    Records,
    /// Steps.
    #[serde(other)]
    Steps,
}

/// The order to label the medium in a drive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LabelOrder {
    /// The key authority's ticket for the new volume: what it is called and to which pool it belongs is
    /// decided and logged there. Not a secret: it serves the one data path, once.
    pub ticket: String,
    /// What may be written over.
    pub overwrite: Overwrite,
}

/// What labelling may write over. Blank media need no consent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overwrite {
    /// Nothing: the medium must be blank.
    Nothing,
    /// The sealed volume with this UUID, and no other.
    Volume(Uuid),
    /// Data in the clear, another product's, or a label that cannot be read.
    Clear,
}

/// A volume was labelled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LabelReport {
    /// The drive.
    pub drive: String,
    /// UUID of the new volume.
    pub volume: Uuid,
    /// The operator's label.
    pub label: Option<String>,
    /// Its barcode.
    pub barcode: Option<String>,
    /// Its cipher suite.
    pub suite: String,
    /// Its partitions. Each label was read back.
    pub partitions: Vec<PartitionLabelled>,
}

/// A partition that was labelled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionLabelled {
    /// Partition, from 0.
    pub partition: u8,
    /// Its generation.
    pub generation: u32,
    /// Key id of its data key.
    pub key_id: Uuid,
}

/// What verifying a volume found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The drive.
    pub drive: String,
    /// The volume.
    pub volume: Uuid,
    /// Its label.
    pub label: Option<String>,
    /// What was found in each partition.
    pub partitions: Vec<PartitionVerified>,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl VerifyReport {
    /// Whether every record verified and no end of data is wrong.
    pub fn passed(&self) -> bool {
        self.partitions
            .iter()
            .all(|partition| partition.faults_total == 0 && !matches!(partition.end, EndOfData::Wrong { .. }))
    }
}

/// What was found in a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionVerified {
    /// Partition, from 0.
    pub partition: u8,
    /// Its generation.
    pub generation: u32,
    /// Sessions that were met.
    pub sessions: u64,
    /// Records that verified.
    pub records: u64,
    /// Filemarks.
    pub filemarks: u64,
    /// Bytes of the records that verified, as the host wrote them.
    pub host_bytes: u64,
    /// How many faults there are.
    pub faults_total: u64,
    /// The first faults, at most [`PartitionVerified::FAULTS_LISTED`].
    pub faults: Vec<Fault>,
    /// What is known of the end.
    pub end: EndOfData,
}

impl PartitionVerified {
    /// How many faults a report lists; the others are counted.
    pub const FAULTS_LISTED: usize = 1000;
}

/// A fault on the medium.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// Logical object number, as the host counts.
    pub object: u64,
    /// What is wrong there.
    pub message: String,
}

/// What is known of the end of data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum EndOfData {
    /// It is where the catalogue has it.
    Proven {
        /// Logical object number.
        object: u64,
    },
    /// Nothing tells whether something was cut off.
    NotProven {
        /// Logical object number.
        object: u64,
        /// Why.
        reason: String,
    },
    /// It is not where the catalogue has it: the tail was cut off, or rolled back.
    Wrong {
        /// Logical object number on the medium.
        object: u64,
        /// What is missing, from where.
        message: String,
    },
}
