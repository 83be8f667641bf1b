//! What a drive is doing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A drive, what is in it, and how it does. Times are seconds since 1970 (UTC), sizes are bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DriveStatus {
    /// Its name in the configuration.
    pub name: String,
    /// How it is reached: `image`.
    pub back_end: String,
    /// Vendor, product and serial number, where the drive says them.
    pub identity: Option<String>,
    /// The nodes that hosts open.
    pub nodes: Option<Nodes>,
    /// What it is doing.
    pub state: DriveState,
    /// The process that has the node open.
    pub host_pid: Option<u32>,
    /// What is in the drive: an image file, or the cartridge's serial number.
    pub cartridge: Option<String>,
    /// The medium, when one is loaded.
    pub medium: Option<Medium>,
    /// The sealed volume on it, when there is one.
    pub volume: Option<Volume>,
    /// Where the host stands.
    pub position: Option<PositionStatus>,
    /// Counts since the volume was loaded.
    pub counters: Counters,
    /// What is acknowledged to the host and not yet with the drive.
    pub window: Window,
    /// Records and filemarks that the host was told are written and that are not synchronised yet.
    pub unsynchronised_objects: u64,
    /// Records were lost after they had been acknowledged (reset, crash): writes fail until the host rewinds or locates.
    pub lost_records: Option<Notice>,
    /// Why the volume cannot be written.
    pub read_only: Option<Notice>,
    /// The last failure since the volume was loaded.
    pub last_error: Option<LastError>,
}

/// The nodes of a drive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Nodes {
    /// Rewinds at close, `stN`.
    pub rewinding: PathBuf,
    /// Stays where it is at close, `nstN`: the one for backup programs.
    pub non_rewinding: PathBuf,
}

/// What a drive is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriveState {
    /// Nothing is loaded.
    Empty,
    /// A cartridge is being loaded and its label read.
    Loading,
    /// Loaded, nobody uses it.
    Ready,
    /// A host has the node open.
    InUse,
    /// Being labelled.
    Labelling,
    /// Being verified.
    Verifying,
    /// Being synchronised and unloaded.
    Unloading,
    /// The back end cannot be used; see the last error.
    Failed,
    /// A state of a newer version.
    #[serde(other)]
    Other,
}

/// What kind of medium is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediumKind {
    /// Nothing is written on it.
    Blank,
    /// A sealed volume.
    Sealed,
    /// Data in the clear, or another product's.
    Clear,
    /// A label or generation record that is damaged, or of a newer format.
    Unreadable,
    /// A cleaning cartridge.
    Cleaning,
    /// A firmware cartridge.
    Firmware,
    /// A kind of a newer version.
    #[serde(other)]
    Other,
}

/// A loaded medium.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Medium {
    /// What stands on it.
    pub kind: MediumKind,
    /// Write once.
    pub worm: bool,
    /// Its switch, or its file's permissions, forbid writing.
    pub write_protected: bool,
    /// Number of partitions.
    pub partitions: u8,
    /// Capacity of the current partition.
    pub capacity_bytes: u64,
    /// What is left of it, where the drive tells.
    pub remaining_bytes: Option<u64>,
    /// Serial number of the cartridge.
    pub serial: Option<String>,
    /// Its barcode, from its memory or from the library.
    #[serde(default)]
    pub barcode: Option<String>,
}

/// A sealed volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// Its UUID, as on the medium.
    pub uuid: Uuid,
    /// The operator's label.
    pub label: Option<String>,
    /// Its barcode.
    pub barcode: Option<String>,
    /// Its pool.
    pub pool: Option<String>,
    /// The partition that the figures below are about.
    pub partition: u8,
    /// Generation of this partition.
    pub generation: Option<u32>,
    /// Key id of its data key (an opaque UUID).
    pub key_id: Option<Uuid>,
    /// Its cipher suite.
    pub suite: Option<String>,
}

/// Where the host stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PositionStatus {
    /// Partition, from 0.
    pub partition: u8,
    /// Number of the next logical object, as the host counts.
    pub object: u64,
    /// Filemarks before it, where they are known.
    pub filemarks: Option<u64>,
    /// At the beginning of the partition.
    pub beginning_of_partition: bool,
    /// At the end of data.
    pub end_of_data: bool,
}

/// Counts since the volume was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Records from the host.
    pub records_written: u64,
    /// Bytes from the host.
    pub host_bytes_written: u64,
    /// Bytes that went to the medium for them.
    pub medium_bytes_written: u64,
    /// Records to the host.
    pub records_read: u64,
    /// Bytes to the host.
    pub host_bytes_read: u64,
    /// Records that were refused when they were read.
    pub records_refused: u64,
}

/// How full the window is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Window {
    /// Records in it.
    pub records: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Most records.
    pub limit_records: u64,
    /// Most bytes. 0: every write is synchronous.
    pub limit_bytes: u64,
}

/// Something that the operator has to know, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// What happened.
    pub message: String,
    /// What to do next.
    pub mend: String,
}

/// A failure, and when it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastError {
    /// When, in seconds since 1970 (UTC).
    pub time_unix_s: u64,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub mend: String,
}
