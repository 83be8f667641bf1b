//! From what a drive says to what a program is told.

use nix::errno::Errno;
use sealtape_drivers::medium::{DriveError, DriveErrorKind};
use sealtape_drivers::scsi::AdditionalSense;

use super::state::{Medium, St};

/// What the program was doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum During {
    Open,
    Read,
    Write,
    Control,
}

/// LOGICAL UNIT IS IN PROCESS OF BECOMING READY.
const BECOMING_READY: AdditionalSense = AdditionalSense::new(0x04, 0x01);

pub(super) fn is_becoming_ready(error: &DriveError) -> bool {
    error.kind == DriveErrorKind::NotReady && error.sense.additional == BECOMING_READY
}

pub(super) fn has_no_medium(error: &DriveError) -> bool {
    error.kind == DriveErrorKind::NotReady && error.sense.additional.asc == AdditionalSense::MEDIUM_NOT_PRESENT.asc
}

/// The errno for a failed command.
///
/// A refusal of Sealtape's must look neither like a blank tape (EIO at the first read: programs
/// label those) nor like a full one (Amanda takes EIO and ENOSPC of a write for the end of the tape
/// and goes on with the next).
pub(super) fn errno_of(error: &DriveError, during: During) -> Errno {
    if error.sense.flags.deferred {
        // Records that were acknowledged are lost: never a reason to go on.
        return Errno::EIO;
    }
    match error.kind {
        DriveErrorKind::Security => {
            if error.sense.additional == AdditionalSense::CRYPTOGRAPHIC_INTEGRITY_VALIDATION_FAILED {
                Errno::EBADMSG
            } else {
                Errno::EACCES
            }
        }
        DriveErrorKind::WriteProtected | DriveErrorKind::WormOverwrite => match during {
            During::Open => Errno::EROFS,
            During::Read | During::Write | During::Control => Errno::EACCES,
        },
        DriveErrorKind::EndOfMedium => match during {
            During::Write => Errno::ENOSPC,
            During::Open | During::Read | During::Control => Errno::EIO,
        },
        DriveErrorKind::NotReady => {
            if has_no_medium(error) {
                Errno::ENOMEDIUM
            } else {
                Errno::EIO
            }
        }
        DriveErrorKind::ReservationConflict => match during {
            During::Open => Errno::EBUSY,
            During::Read | During::Write | During::Control => Errno::EIO,
        },
        DriveErrorKind::UnitAttention
        | DriveErrorKind::Reset
        | DriveErrorKind::EndOfData
        | DriveErrorKind::Medium
        | DriveErrorKind::Hardware
        | DriveErrorKind::IllegalRequest
        | DriveErrorKind::Transport => Errno::EIO,
    }
}

impl St {
    /// Takes note of a failed command, and says what the program is told.
    pub(super) fn fail(&mut self, during: During, doing: &str, error: &DriveError) -> Errno {
        let errno = errno_of(error, during);
        if error.kind == DriveErrorKind::NotReady {
            self.medium = if has_no_medium(error) { Medium::Absent } else { Medium::NotReady };
        }
        if error.position_lost() {
            self.position_unknown = true;
        }
        self.note(&format!("{doing}: {error}"), errno);
        errno
    }

    /// Takes note of a failure that has no command behind it.
    pub(super) fn note(&self, message: &str, errno: Errno) {
        self.board.update(|status| {
            // A program that tries the same again and again does not fill the log.
            if status.last_error.as_deref() == Some(message) {
                tracing::debug!(drive = %status.name, %errno, "{message}");
            } else {
                tracing::warn!(drive = %status.name, %errno, "{message}");
            }
            status.counters.errors += 1;
            status.last_error = Some(message.to_owned());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealtape_drivers::scsi::{Sense, SenseKey};

    #[test]
    fn a_refusal_looks_neither_blank_nor_full() {
        let refusal = DriveError::new(DriveErrorKind::Security, "no key");
        for during in [During::Open, During::Read, During::Write, During::Control] {
            assert_eq!(errno_of(&refusal, during), Errno::EACCES);
        }
        let tag = AdditionalSense::CRYPTOGRAPHIC_INTEGRITY_VALIDATION_FAILED;
        let tampered = refusal.clone().with_sense(Sense::new(SenseKey::DATA_PROTECT, tag));
        assert_eq!(errno_of(&tampered, During::Read), Errno::EBADMSG);
    }

    #[test]
    fn lost_records_are_an_error_whatever_else_the_sense_says() {
        for kind in [DriveErrorKind::EndOfMedium, DriveErrorKind::Security, DriveErrorKind::WriteProtected] {
            let mut error = DriveError::new(kind, "late");
            error.sense.flags.deferred = true;
            assert_eq!(errno_of(&error, During::Write), Errno::EIO);
        }
    }

    #[test]
    fn the_kernel_distinguishes_open_from_the_rest() {
        let protected = DriveError::new(DriveErrorKind::WriteProtected, "tab");
        assert_eq!(errno_of(&protected, During::Open), Errno::EROFS);
        assert_eq!(errno_of(&protected, During::Write), Errno::EACCES);
        let full = DriveError::new(DriveErrorKind::EndOfMedium, "full");
        assert_eq!(errno_of(&full, During::Write), Errno::ENOSPC);
        assert_eq!(errno_of(&full, During::Control), Errno::EIO);
        let empty = DriveError::new(DriveErrorKind::NotReady, "empty");
        assert_eq!(errno_of(&empty, During::Open), Errno::ENOMEDIUM);
    }
}
