//! Backups of the catalogue: requests and replies.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::backup::Head;
use crate::hex::Hex;

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum BackupRequest {
    /// Makes a copy, and holds it ready to be fetched.
    Make {
        /// Where it will stand, in words; destruction names it.
        place: String,
    },
    /// A part of it.
    Read {
        /// The backup.
        backup: Uuid,
        /// From this byte.
        offset: u64,
    },
    /// It was fetched, or is not wanted: the copy is removed.
    Forget {
        /// The backup.
        backup: Uuid,
    },
    /// All backups, newest first.
    List,
    /// An operator says that a backup does not exist any more.
    Destroyed {
        /// The backup.
        backup: Uuid,
        /// How it is known; kept in the custody log.
        reason: String,
    },
}

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum BackupReply {
    /// Done; there is nothing to tell.
    Done,
    /// It is ready to be fetched.
    Made(Box<Head>),
    /// A part, in base64; an empty one at the end.
    Part(String),
    /// All of them.
    Backups(Vec<BackupView>),
}

/// Since a destruction there is no backup of the catalogue that opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLacking {
    /// The destruction that closed the earlier ones.
    pub batch: Uuid,
    /// The folder in which one is to be made; none when none is configured.
    pub folder: Option<String>,
    /// Why it could not be made; it is tried again.
    pub trouble: Option<String>,
}

/// What is known of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// Made; nothing is known of its end.
    Exists,
    /// Somebody said that it does not exist any more.
    ReportedDestroyed,
    /// The key-encryption keys that it needs are destroyed.
    Closed,
}

/// A backup, as the catalogue knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupView {
    /// Its name.
    pub backup: Uuid,
    /// Where it stands, in words.
    pub place: String,
    /// The catalogue's key-encryption keys that it needs.
    pub catalogue_keks: Vec<Uuid>,
    /// Size of the custody log in it.
    pub checkpoint_size: u64,
    /// SHA-256 of the database.
    pub sha256: Hex<32>,
    /// What is known of it.
    pub state: BackupState,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// The custody entry that names it.
    pub entry: u64,
}
