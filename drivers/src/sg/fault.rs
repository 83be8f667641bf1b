//! What the drive said, as the error that the layer above acts on.

use super::link::Reply;
use crate::medium::{DriveError, DriveErrorKind};
use crate::scsi::{AdditionalSense, Sense, SenseKey, additional_text};

/// What a command wanted, which decides how DATA PROTECT is to be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Intent {
    /// To change what stands on the medium.
    Write,
    /// Anything else.
    Other,
}

/// Sense that says that the command was done, whatever it says beside that.
pub(super) fn is_done(sense: &Sense) -> bool {
    !sense.flags.deferred && matches!(sense.key, SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR)
}

/// The kind of failure that sense data tells (SPC-4 tables 53 and annex F).
pub(super) fn kind(sense: &Sense, intent: Intent) -> DriveErrorKind {
    use DriveErrorKind as K;
    let AdditionalSense { asc, ascq } = sense.additional;
    if sense.flags.deferred {
        // About a command that was acknowledged before: what it wrote is lost, at a place that is not this command's. A
        // deferred VOLUME OVERFLOW too: taken for the current command's, it would be counted as one record.
        return match sense.key {
            SenseKey::HARDWARE_ERROR | SenseKey::ABORTED_COMMAND => K::Hardware,
            _ => K::Medium,
        };
    }
    match sense.key {
        SenseKey::NOT_READY => K::NotReady,
        SenseKey::MEDIUM_ERROR => K::Medium,
        // 3Bh/xxh position errors and the rest; NO SENSE and RECOVERED ERROR come here only where they make no sense.
        SenseKey::HARDWARE_ERROR | SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR => K::Hardware,
        SenseKey::ILLEGAL_REQUEST => K::IllegalRequest,
        SenseKey::UNIT_ATTENTION => match asc {
            0x29 => K::Reset,
            _ => K::UnitAttention,
        },
        SenseKey::DATA_PROTECT => match (asc, ascq, intent) {
            (0x30, 0x0c | 0x0d, _) => K::WormOverwrite,
            (_, _, Intent::Write) => K::WriteProtected,
            // Reading is refused: recorded with a key that the drive does not have, say.
            (0x27, _, Intent::Other) => K::WriteProtected,
            (_, _, Intent::Other) => K::Medium,
        },
        SenseKey::BLANK_CHECK => match asc {
            0x00 => K::EndOfData,
            // 14h/03h END OF DATA NOT FOUND and its like are no end of data that anyone may rely on.
            _ => K::Medium,
        },
        SenseKey::VOLUME_OVERFLOW => K::EndOfMedium,
        // The drive gave up in the middle (bus error, overlap, abort by another): what it did is not known.
        SenseKey::ABORTED_COMMAND => K::Transport,
        // Keys that no tape drive gives for a command of ours.
        _ => K::Hardware,
    }
}

/// The error for sense data, in words.
pub(super) fn error(name: &str, doing: &str, sense: Sense, intent: Intent) -> DriveError {
    let text = additional_text(sense.additional.asc, sense.additional.ascq);
    let told = match text {
        Some(text) => text.to_owned(),
        None => format!("{:?}", sense.additional),
    };
    let deferred = if sense.flags.deferred { "what was accepted before is lost: " } else { "" };
    DriveError::new(kind(&sense, intent), format!("{name}: {doing}: {deferred}{told}")).with_sense(sense)
}

/// The drive's answer makes no sense: nothing that rests on it may be believed.
pub(super) fn nonsense(name: &str, doing: &str, what: impl std::fmt::Display, reply: Option<&Reply>) -> DriveError {
    let error = DriveError::new(
        DriveErrorKind::Hardware,
        format!(
            "{name}: {doing}: the drive's answer cannot be right: {what}; update its firmware, or have it looked at"
        ),
    );
    match reply.and_then(|reply| reply.sense) {
        Some(sense) if !is_done(&sense) => error.with_sense(sense),
        Some(_) | None => error,
    }
}

/// Unit attentions that concern neither medium nor position nor mode: INQUIRY or list of units changed, log parameters or
/// timestamp changed, a threshold passed. The command was not executed and can be sent again.
pub(super) fn is_harmless_attention(sense: &Sense) -> bool {
    let AdditionalSense { asc, ascq } = sense.additional;
    sense.key == SenseKey::UNIT_ATTENTION
        && !sense.flags.deferred
        && matches!((asc, ascq), (0x3f, 0x03 | 0x0e) | (0x2a, 0x02 | 0x10) | (0x5d, _))
}

/// The command does not exist there, or not with these fields: for falling back to an older one.
pub(super) fn is_unsupported(error: &DriveError) -> bool {
    let AdditionalSense { asc, .. } = error.sense.additional;
    error.kind == DriveErrorKind::IllegalRequest && matches!(asc, 0x20 | 0x24 | 0x25 | 0x26)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sense(key: SenseKey, asc: u8, ascq: u8) -> Sense {
        Sense::new(key, AdditionalSense::new(asc, ascq))
    }

    #[test]
    fn kinds() {
        use DriveErrorKind as K;
        for (key, asc, ascq, expected) in [
            (SenseKey::NOT_READY, 0x04, 0x01, K::NotReady),
            (SenseKey::NOT_READY, 0x3a, 0x00, K::NotReady),
            (SenseKey::MEDIUM_ERROR, 0x11, 0x00, K::Medium),
            (SenseKey::HARDWARE_ERROR, 0x44, 0x00, K::Hardware),
            (SenseKey::ILLEGAL_REQUEST, 0x24, 0x00, K::IllegalRequest),
            (SenseKey::UNIT_ATTENTION, 0x28, 0x00, K::UnitAttention),
            (SenseKey::UNIT_ATTENTION, 0x29, 0x04, K::Reset),
            (SenseKey::UNIT_ATTENTION, 0x2a, 0x01, K::UnitAttention),
            (SenseKey::UNIT_ATTENTION, 0x3f, 0x01, K::UnitAttention),
            (SenseKey::DATA_PROTECT, 0x27, 0x00, K::WriteProtected),
            (SenseKey::DATA_PROTECT, 0x30, 0x0c, K::WormOverwrite),
            (SenseKey::DATA_PROTECT, 0x74, 0x01, K::WriteProtected),
            (SenseKey::BLANK_CHECK, 0x00, 0x05, K::EndOfData),
            (SenseKey::BLANK_CHECK, 0x14, 0x03, K::Medium),
            (SenseKey::VOLUME_OVERFLOW, 0x00, 0x02, K::EndOfMedium),
            (SenseKey::ABORTED_COMMAND, 0x4b, 0x00, K::Transport),
            (SenseKey(0xf), 0x00, 0x00, K::Hardware),
        ] {
            assert_eq!(kind(&sense(key, asc, ascq), Intent::Write), expected, "{key:?} {asc:02X}/{ascq:02X}");
        }
        assert_eq!(kind(&sense(SenseKey::DATA_PROTECT, 0x74, 0x01), Intent::Other), K::Medium);
    }

    #[test]
    fn deferred_errors_are_of_the_medium_or_the_drive_whatever_their_key() {
        for key in (0..16).map(SenseKey) {
            let mut deferred = sense(key, 0x00, 0x02);
            deferred.flags.deferred = true;
            let kind = kind(&deferred, Intent::Write);
            assert!(matches!(kind, DriveErrorKind::Medium | DriveErrorKind::Hardware), "{key:?}: {kind:?}");
            assert!(!is_done(&deferred));
            assert!(error("d", "WRITE", deferred, Intent::Write).sense.flags.deferred);
        }
    }
}
