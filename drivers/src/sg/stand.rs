//! What is known of where the drive stands.

use crate::medium::{DriveError, DriveErrorKind, Position};
use crate::scsi::{AdditionalSense, SenseKey};

/// Where the drive stands, as far as this side knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stand {
    /// Nobody knows, and why: nothing that depends on it is sent.
    Unknown(String),
    /// The drive knows, and has not been asked since it moved.
    Drive,
    /// The drive told, or was sent there, and every object since has been counted.
    Counted(Position),
}

impl Stand {
    /// Refuses what depends on the position when it is unknown.
    pub(super) fn check(&self, name: &str) -> Result<(), DriveError> {
        match self {
            Self::Unknown(why) => Err(DriveError::new(
                DriveErrorKind::Transport,
                format!(
                    "{name}: where the drive stands is unknown since {why}; rewind, locate, or ask for the position"
                ),
            )),
            Self::Drive | Self::Counted(_) => Ok(()),
        }
    }

    pub(super) fn counted(&self) -> Option<Position> {
        match self {
            Self::Counted(position) => Some(*position),
            Self::Unknown(_) | Self::Drive => None,
        }
    }

    /// `objects` more were passed or written.
    pub(super) fn advance(&mut self, objects: u64) {
        if let Self::Counted(position) = self {
            match position.object.checked_add(objects) {
                Some(object) => position.object = object,
                None => *self = Self::Drive,
            }
        }
    }
}

/// What an error means for position and settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Consequence {
    /// Nobody knows where the drive stands.
    pub(super) position_unknown: bool,
    /// The mode pages may be the drive's defaults again, or another initiator's.
    pub(super) settings_lost: bool,
}

pub(super) fn consequence(error: &DriveError) -> Consequence {
    let AdditionalSense { asc, ascq } = error.sense.additional;
    let attention = error.sense.key == SenseKey::UNIT_ATTENTION && error.kind == DriveErrorKind::UnitAttention;
    let changed_medium = attention && asc == 0x28;
    // Reservations preempted or released, registrations preempted, commands cleared: somebody else was at the drive.
    let somebody_else = attention && matches!((asc, ascq), (0x2a, 0x03..=0x05) | (0x2f, _));
    let mode = attention && matches!((asc, ascq), (0x2a, 0x00 | 0x01) | (0x3f, 0x00 | 0x01));
    // NOT READY and the other attentions move nothing: what comes after them is told in its own words. A layer above may be stricter.
    let lost = matches!(error.kind, DriveErrorKind::Reset | DriveErrorKind::Transport);
    Consequence {
        position_unknown: lost || error.sense.flags.deferred || changed_medium || somebody_else,
        settings_lost: lost || changed_medium || somebody_else || mode || error.kind == DriveErrorKind::NotReady,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::Sense;

    fn attention(asc: u8, ascq: u8) -> Consequence {
        let sense = Sense::new(SenseKey::UNIT_ATTENTION, AdditionalSense::new(asc, ascq));
        let kind = if asc == 0x29 { DriveErrorKind::Reset } else { DriveErrorKind::UnitAttention };
        consequence(&DriveError::new(kind, "").with_sense(sense))
    }

    #[test]
    fn what_attentions_mean() {
        let told = |asc, ascq| {
            let Consequence { position_unknown, settings_lost } = attention(asc, ascq);
            (position_unknown, settings_lost)
        };
        assert_eq!(told(0x28, 0x00), (true, true));
        assert_eq!(told(0x29, 0x00), (true, true));
        assert_eq!(told(0x29, 0x07), (true, true));
        assert_eq!(told(0x2a, 0x01), (false, true));
        assert_eq!(told(0x2a, 0x03), (true, true));
        assert_eq!(told(0x2f, 0x00), (true, true));
        assert_eq!(told(0x3f, 0x01), (false, true));
        assert_eq!(told(0x2a, 0x09), (false, false));
    }
}
