//! The one table that maps Sealtape's own refusals to sense data (SPC-4 annex F, SSC-4 4.2.21).

use sealtape_drivers::medium::{DriveError, DriveErrorKind};
use sealtape_drivers::scsi::{AdditionalSense, Sense, SenseKey};

use crate::seal::Refusal;
use crate::volume::{KeyRefusal, KeyRefusalKind};

fn additional(refusal: Refusal) -> AdditionalSense {
    match refusal {
        Refusal::WrongKey | Refusal::WrongGeneration => AdditionalSense::INCORRECT_DATA_ENCRYPTION_KEY,
        Refusal::Foreign | Refusal::Blank | Refusal::BadMagic => AdditionalSense::UNENCRYPTED_DATA_WHILE_DECRYPTING,
        Refusal::UnknownVersion
        | Refusal::UnknownSuite
        | Refusal::UnknownCompression
        | Refusal::NoGeneration
        | Refusal::BadLayout
        | Refusal::DamagedGeneration
        | Refusal::DamagedLabel => AdditionalSense::UNABLE_TO_DECRYPT_DATA,
        Refusal::WrongVolume
        | Refusal::BadGenerationMac
        | Refusal::Truncated
        | Refusal::BadCrc
        | Refusal::WrongKind
        | Refusal::SuiteMismatch
        | Refusal::BadReserved
        | Refusal::BadLengths
        | Refusal::WrongPartition
        | Refusal::WrongPlace
        | Refusal::WrongFilemarks
        | Refusal::SessionOrder
        | Refusal::BadLink
        | Refusal::RolledBack
        | Refusal::UnknownSession
        | Refusal::BadTag
        | Refusal::BadCompression
        | Refusal::NoFinal
        | Refusal::TrailingData
        | Refusal::CutShort => AdditionalSense::CRYPTOGRAPHIC_INTEGRITY_VALIDATION_FAILED,
    }
}

/// A refusal of something on the medium.
pub(super) fn refused(refusal: Refusal, message: impl Into<String>) -> DriveError {
    security(additional(refusal), message)
}

/// A refusal of the key authority.
pub(super) fn key_refused(refusal: &KeyRefusal) -> DriveError {
    let additional = match refusal.kind {
        KeyRefusalKind::Away | KeyRefusalKind::HsmUnavailable | KeyRefusalKind::Unknown => {
            AdditionalSense::UNABLE_TO_DECRYPT_DATA
        }
        KeyRefusalKind::Superseded | KeyRefusalKind::Integrity => {
            AdditionalSense::CRYPTOGRAPHIC_INTEGRITY_VALIDATION_FAILED
        }
        KeyRefusalKind::NotPermitted => AdditionalSense::LOGICAL_UNIT_ACCESS_NOT_AUTHORIZED,
    };
    security(additional, refusal.message.clone())
}

/// The volume cannot be read: the reason was given when it was loaded.
pub(super) fn locked(reason: &str) -> DriveError {
    security(AdditionalSense::UNABLE_TO_DECRYPT_DATA, reason)
}

/// The key of the loaded volume has ended: there is none.
pub(super) fn key_ended(reason: &str) -> DriveError {
    security(AdditionalSense::UNABLE_TO_DECRYPT_DATA, reason)
}

/// Writing is over: the reason was given when that began.
pub(super) fn read_only(reason: &str) -> DriveError {
    let sense = Sense::new(SenseKey::DATA_PROTECT, AdditionalSense::WRITE_PROTECTED);
    DriveError::new(DriveErrorKind::WriteProtected, reason).with_sense(sense)
}

fn security(additional: AdditionalSense, message: impl Into<String>) -> DriveError {
    DriveError::new(DriveErrorKind::Security, message).with_sense(Sense::new(SenseKey::DATA_PROTECT, additional))
}

/// Acknowledged records were lost: deferred, MEDIUM or HARDWARE ERROR, neither EOM nor VALID, so that `st` answers
/// EIO and never counts wrong (field notes 3a).
pub(super) fn deferred(error: &DriveError, lost: u64) -> DriveError {
    let what = format!("{lost} acknowledged records or filemarks were not written");
    lost_records(error, &format!("{what}: {}; the medium ends before them", error.message))
}

/// What the drive had accepted since the last synchronising command may be lost: deferred, as above.
pub(super) fn lost_in_drive(error: &DriveError, unsynchronised: u64) -> DriveError {
    let what =
        format!("up to {unsynchronised} acknowledged records or filemarks that were not yet synchronised are lost");
    lost_records(error, &format!("{what}: {}", error.message))
}

fn lost_records(error: &DriveError, what: &str) -> DriveError {
    let (key, additional) = match error.sense.key {
        SenseKey::MEDIUM_ERROR | SenseKey::VOLUME_OVERFLOW | SenseKey::DATA_PROTECT => {
            (SenseKey::MEDIUM_ERROR, AdditionalSense::WRITE_ERROR)
        }
        SenseKey(_) => (SenseKey::HARDWARE_ERROR, AdditionalSense::INTERNAL_TARGET_FAILURE),
    };
    let mut sense = Sense::new(key, additional);
    sense.flags.deferred = true;
    let kind = if key == SenseKey::MEDIUM_ERROR { DriveErrorKind::Medium } else { DriveErrorKind::Hardware };
    let message = format!("{what}. Rewind or locate, and repeat the backup from its last synchronised point");
    DriveError { source: error.source.clone(), ..DriveError::new(kind, message).with_sense(sense) }
}
