//! What goes wrong with a drive.

use std::fmt;
use std::sync::Arc;

use crate::scsi::{AdditionalSense, Sense, SenseFlags, SenseKey};

/// What kind of failure a command met. The match is exhaustive on purpose: every new kind has to be
/// given its consequence for position and unsynchronised records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum DriveErrorKind {
    /// No medium, or it is not loaded.
    NotReady,
    /// A condition of the drive or medium changed (medium changed, mode changed): nothing was done.
    UnitAttention,
    /// The drive or bus was reset: buffered records are lost, the position is unknown.
    Reset,
    /// The medium is write protected, or is WORM and this place was written before.
    WriteProtected,
    /// WORM medium: the command would write over what stands there.
    WormOverwrite,
    /// The physical end of the partition: the block was not written (VOLUME OVERFLOW).
    EndOfMedium,
    /// LOCATE beyond the end of data; position is the end of data.
    EndOfData,
    /// The medium cannot be written or read at this place.
    Medium,
    /// The drive failed.
    Hardware,
    /// The drive does not know the command, or a parameter is out of its range; nothing was done.
    IllegalRequest,
    /// Refused by Sealtape, not by the drive: no key, wrong key, integrity, policy. The sense is DATA PROTECT.
    Security,
    /// Another initiator holds the drive.
    ReservationConflict,
    /// The way to the drive failed (I/O error of the file, host adapter, time-out): position unknown.
    Transport,
}

/// A failed command: its kind, what the drive said, and the words for the operator.
#[derive(Clone, Debug)]
pub struct DriveError {
    /// What kind of failure.
    pub kind: DriveErrorKind,
    /// What the drive said, or what a drive would say.
    pub sense: Sense,
    /// What happened, for an operator: names the drive or file. Never holds record bytes.
    pub message: String,
    /// The operating system's error, where one is behind this.
    pub source: Option<Arc<std::io::Error>>,
}

impl DriveError {
    /// An error of a kind with the sense a drive would give for it.
    pub fn new(kind: DriveErrorKind, message: impl Into<String>) -> Self {
        use DriveErrorKind as K;
        let (key, additional) = match kind {
            K::NotReady => (SenseKey::NOT_READY, AdditionalSense::MEDIUM_NOT_PRESENT),
            K::UnitAttention => (SenseKey::UNIT_ATTENTION, AdditionalSense::MEDIUM_MAY_HAVE_CHANGED),
            K::Reset => (SenseKey::UNIT_ATTENTION, AdditionalSense::POWER_ON_RESET),
            K::WriteProtected => (SenseKey::DATA_PROTECT, AdditionalSense::WRITE_PROTECTED),
            K::WormOverwrite => (SenseKey::DATA_PROTECT, AdditionalSense::WORM_OVERWRITE_ATTEMPTED),
            K::EndOfMedium => (SenseKey::VOLUME_OVERFLOW, AdditionalSense::END_OF_PARTITION_MEDIUM_DETECTED),
            K::EndOfData => (SenseKey::BLANK_CHECK, AdditionalSense::END_OF_DATA_DETECTED),
            K::Medium => (SenseKey::MEDIUM_ERROR, AdditionalSense::WRITE_ERROR),
            K::Hardware => (SenseKey::HARDWARE_ERROR, AdditionalSense::INTERNAL_TARGET_FAILURE),
            K::IllegalRequest => (SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_FIELD_IN_CDB),
            K::Security => (SenseKey::DATA_PROTECT, AdditionalSense::SECURITY_ERROR),
            K::ReservationConflict => (SenseKey::ILLEGAL_REQUEST, AdditionalSense::NONE),
            K::Transport => (SenseKey::HARDWARE_ERROR, AdditionalSense::CAUSE_NOT_REPORTABLE),
        };
        let mut sense = Sense::new(key, additional);
        sense.flags = SenseFlags { end_of_medium: kind == K::EndOfMedium, ..SenseFlags::default() };
        Self { kind, sense, message: message.into(), source: None }
    }

    /// A transport failure with the operating system's error behind it.
    pub fn transport(message: impl Into<String>, source: std::io::Error) -> Self {
        Self { source: Some(Arc::new(source)), ..Self::new(DriveErrorKind::Transport, message) }
    }

    /// The same error with other sense data.
    #[must_use]
    pub fn with_sense(mut self, sense: Sense) -> Self {
        self.sense = sense;
        self
    }

    /// Whether the position is unknown after this error, until it is asked for or set anew.
    pub fn position_lost(&self) -> bool {
        use DriveErrorKind as K;
        match self.kind {
            K::Reset | K::Transport | K::UnitAttention | K::NotReady => true,
            K::WriteProtected
            | K::WormOverwrite
            | K::EndOfMedium
            | K::EndOfData
            | K::Medium
            | K::Hardware
            | K::IllegalRequest
            | K::Security
            | K::ReservationConflict => false,
        }
    }
}

impl fmt::Display for DriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.sense)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DriveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
