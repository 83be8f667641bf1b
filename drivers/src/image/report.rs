//! What goes wrong with an image file, in words for the operator.

use std::io;
use std::sync::Arc;

use crate::medium::{DriveError, DriveErrorKind};
use crate::scsi::{AdditionalSense, Sense, SenseKey};

/// A file cannot be made into, or used as, a cartridge. Every message names the file and the mend.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The operating system refused.
    #[error("cannot {what} {name}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        name: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// Another process holds the file.
    #[error(
        "{name} is in use by {holder}: a cartridge is in one drive at a time; unload it there (`sealtape volume unload`), or stop that process"
    )]
    Locked {
        /// The file.
        name: String,
        /// Who holds it, as far as can be told.
        holder: String,
    },
    /// The file is not a cartridge.
    #[error("{name} is not a Sealtape tape image ({reason}); `sealtape image create` makes one")]
    NotAnImage {
        /// The file.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The cartridge's own records are damaged.
    #[error("{name} is damaged: {reason}; keep the file as it is and restore from a copy")]
    Damaged {
        /// The file.
        name: String,
        /// What is damaged.
        reason: String,
    },
    /// A cartridge like this cannot be made.
    #[error("cannot create {name}: {reason}")]
    Options {
        /// The file.
        name: String,
        /// Which option, and what it may be.
        reason: String,
    },
}

impl ImageError {
    /// The error as the drive's answer to a command.
    pub fn into_drive_error(self) -> DriveError {
        let message = self.to_string();
        match self {
            Self::Io { what, name, source } => io_failed(what, &name, source),
            Self::Locked { .. } => DriveError::new(DriveErrorKind::NotReady, message),
            Self::NotAnImage { .. } | Self::Damaged { .. } => DriveError::new(DriveErrorKind::Medium, message)
                .with_sense(Sense::new(SenseKey::MEDIUM_ERROR, AdditionalSense::UNRECOVERED_READ_ERROR)),
            Self::Options { .. } => DriveError::new(DriveErrorKind::IllegalRequest, message),
        }
    }
}

/// The drive's answer to a failed read or write of the file. A full disk is the medium's fault, and the state stands;
/// anything else is the way to it.
pub(super) fn io_failed(what: &str, name: &str, source: io::Error) -> DriveError {
    match full(&source) {
        Some(mend) => DriveError {
            source: Some(Arc::new(source)),
            ..DriveError::new(DriveErrorKind::Medium, format!("cannot {what} {name}: {mend}"))
        },
        None => DriveError::transport(format!("cannot {what} {name}"), source),
    }
}

/// The mend, if `source` says that there is no room for the file to grow.
pub(super) fn full(source: &io::Error) -> Option<&'static str> {
    match source.kind() {
        io::ErrorKind::StorageFull => Some("the file system is full; free some space and write again"),
        io::ErrorKind::QuotaExceeded => Some("the disk quota is used up; raise it and write again"),
        io::ErrorKind::FileTooLarge => {
            Some("the file may not grow further (limit of the file system or of the process)")
        }
        _ => None,
    }
}
