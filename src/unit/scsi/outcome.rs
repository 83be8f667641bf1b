//! What a command comes to when it is not simply good.

use sealtape_drivers::medium::{DriveError, DriveErrorKind};
use sealtape_drivers::scsi::{AdditionalSense, FieldPointer, Sense, SenseFlags, SenseKey};

/// Good, or why not.
pub(super) type Answer = Result<(), Fault>;

/// Why a command does not end with GOOD.
#[derive(Debug)]
pub(super) enum Fault {
    /// An outcome of tape, or a refusal of this unit.
    Sense(Sense),
    /// The drive failed, or the sealed unit refused: the operator hears the words.
    Drive(Box<DriveError>),
    /// The operation code is not served.
    UnknownOperation,
}

impl From<DriveError> for Fault {
    fn from(error: DriveError) -> Self {
        Self::Drive(Box::new(error))
    }
}

/// ILLEGAL REQUEST, invalid field in CDB, with its place.
pub(super) fn invalid_field(byte: u16, bit: Option<u8>) -> Fault {
    pointed(AdditionalSense::INVALID_FIELD_IN_CDB, true, byte, bit)
}

/// ILLEGAL REQUEST, invalid field in parameter list, with its place.
pub(super) fn invalid_parameter(byte: usize, bit: Option<u8>) -> Fault {
    pointed(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, false, u16::try_from(byte).unwrap_or(u16::MAX), bit)
}

/// ILLEGAL REQUEST with another additional sense code.
pub(super) fn illegal(additional: AdditionalSense) -> Fault {
    Fault::Sense(Sense::new(SenseKey::ILLEGAL_REQUEST, additional))
}

fn pointed(additional: AdditionalSense, in_cdb: bool, byte: u16, bit: Option<u8>) -> Fault {
    let mut sense = Sense::new(SenseKey::ILLEGAL_REQUEST, additional);
    sense.field = Some(FieldPointer { in_cdb, byte, bit });
    Fault::Sense(sense)
}

/// What a command met on the tape: NO SENSE or BLANK CHECK with the residue.
pub(super) fn met(key: SenseKey, additional: AdditionalSense, flags: SenseFlags, residue: i64) -> Fault {
    let mut sense = Sense::new(key, additional);
    sense.flags = flags;
    sense.information = Some(residue);
    Fault::Sense(sense)
}

/// A failed READ, WRITE or WRITE FILEMARKS with the part that was not done (SSC-4 7: VALID and INFORMATION). What belongs to earlier
/// commands stays as it is: `st` would take its residue for the current command's (field notes 3a).
pub(super) fn not_done(mut error: DriveError, residue: i64) -> Fault {
    let own = matches!(error.kind, DriveErrorKind::EndOfMedium | DriveErrorKind::Medium | DriveErrorKind::Hardware);
    if own && !error.sense.flags.deferred {
        error.sense.information.get_or_insert(residue);
    }
    error.into()
}

/// FILEMARK set.
pub(super) const FILEMARK: SenseFlags = SenseFlags { filemark: true, ..NONE };
/// EOM set.
pub(super) const END_OF_MEDIUM: SenseFlags = SenseFlags { end_of_medium: true, ..NONE };
/// ILI set.
pub(super) const INCORRECT_LENGTH: SenseFlags = SenseFlags { incorrect_length: true, ..NONE };
/// No flag set.
pub(super) const NONE: SenseFlags =
    SenseFlags { filemark: false, end_of_medium: false, incorrect_length: false, deferred: false };
