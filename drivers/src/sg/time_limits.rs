//! How long a command may take, and which commands the drive has.
//!
//! A time-out aborts the command and loses the position, so a limit is what the drive itself recommends (REPORT SUPPORTED
//! OPERATION CODES, SPC-4 6.35), and otherwise longer than any drive needs: it only has to end a wait for a drive that is dead.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::scsi::{Command, SupportedCommand, SupportedCommands};

const SECOND: u64 = 1;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// What a drive recommends is kept within these, so that no number of a drive makes a wait endless or a command impossible.
const SHORTEST: u64 = 10 * SECOND;
const LONGEST: u64 = 48 * HOUR;

/// Limits by command.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct TimeLimits {
    /// Recommended seconds, 0 where there are none. Empty: the drive did not tell.
    told: BTreeMap<(u8, Option<u16>), u32>,
}

impl TimeLimits {
    pub(super) fn told(commands: &SupportedCommands) -> Self {
        let recommended = |command: &SupportedCommand| command.timeouts.map_or(0, |timeouts| timeouts.recommended);
        let entry = |command: &SupportedCommand| ((command.operation, command.service_action), recommended(command));
        Self { told: commands.0.iter().map(entry).collect() }
    }

    /// Whether the drive has an operation code; `None` when it did not tell.
    pub(super) fn has(&self, operation: u8) -> Option<bool> {
        let mut codes = self.told.keys().map(|(code, _)| *code);
        (!self.told.is_empty()).then(|| codes.any(|code| code == operation))
    }

    /// The same of a service action. A drive that lists the operation code without service actions may have any.
    pub(super) fn has_action(&self, operation: u8, action: u16) -> Option<bool> {
        if self.told.contains_key(&(operation, None)) {
            return None;
        }
        (!self.told.is_empty()).then(|| self.told.contains_key(&(operation, Some(action))))
    }

    pub(super) fn of(&self, command: &Command) -> Duration {
        let cdb = command.encode();
        let operation = command.operation();
        let action = cdb.as_bytes().get(1).map_or(0, |byte| u16::from(byte & 0x1f));
        let told = self.told.get(&(operation, Some(action))).or_else(|| self.told.get(&(operation, None)));
        let seconds = match told {
            Some(seconds) if *seconds > 0 => u64::from(*seconds).clamp(SHORTEST, LONGEST),
            Some(_) | None => default_seconds(command),
        };
        Duration::from_secs(seconds)
    }
}

/// What the slowest drives of the last fifteen years recommend, rounded up.
fn default_seconds(command: &Command) -> u64 {
    match command {
        // With error recovery, and a buffer to be written first.
        Command::Read6 { .. } | Command::Write6 { .. } | Command::WriteFilemarks6 { .. } | Command::Verify6 { .. } => {
            30 * MINUTE
        }
        Command::Rewind { .. }
        | Command::Space6 { .. }
        | Command::Space16 { .. }
        | Command::Locate10 { .. }
        | Command::Locate16 { .. } => HOUR,
        // A new cartridge of LTO-9 is measured for up to two hours when it is loaded for the first time.
        Command::LoadUnload { .. } => 3 * HOUR,
        Command::Erase6 { .. } | Command::Erase16 { .. } => 24 * HOUR,
        Command::FormatMedium { .. } | Command::SetCapacity { .. } => 6 * HOUR,
        // These write to the medium, or wait for what is being written.
        Command::ModeSelect { .. } | Command::WriteAttribute { .. } | Command::ReadAttribute { .. } => 20 * MINUTE,
        Command::SendDiagnostic { .. } | Command::WriteBuffer { .. } | Command::InitializeElementStatus => HOUR,
        Command::ReadElementStatus { .. } => 10 * MINUTE,
        _ => 2 * MINUTE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::CommandTimeouts;

    const REWIND: Command = Command::Rewind { immediate: false };

    fn limits(operation: u8, service_action: Option<u16>, recommended: u32) -> TimeLimits {
        let timeouts = Some(CommandTimeouts { recommended, ..CommandTimeouts::default() });
        let command = SupportedCommand { operation, service_action, cdb_length: 6, timeouts };
        TimeLimits::told(&SupportedCommands(vec![command]))
    }

    #[test]
    fn the_drive_s_recommendation_goes_before_the_table_and_is_bounded() {
        let of = |limits: TimeLimits, command| limits.of(&command).as_secs();
        assert_eq!(of(TimeLimits::default(), REWIND), 3600);
        assert_eq!(of(limits(0x01, None, 500), REWIND), 500);
        assert_eq!(of(limits(0x01, None, 0), REWIND), 3600);
        assert_eq!(of(limits(0x01, None, 1), REWIND), 10);
        assert_eq!(of(limits(0x01, None, u32::MAX), REWIND), 48 * 3600);
        let report = Command::ReadPosition { action: 6, allocation: 0 };
        assert_eq!(of(limits(0x34, Some(6), 77), report), 77);
        assert_eq!(of(limits(0x34, Some(8), 77), report), 120);
    }

    #[test]
    fn what_the_drive_has() {
        assert_eq!(TimeLimits::default().has(0x92), None);
        assert_eq!(limits(0x92, None, 0).has(0x92), Some(true));
        assert_eq!(limits(0x2b, None, 0).has(0x92), Some(false));
        assert_eq!(limits(0x34, Some(6), 0).has_action(0x34, 6), Some(true));
        assert_eq!(limits(0x34, Some(0), 0).has_action(0x34, 6), Some(false));
        assert_eq!(limits(0x34, None, 0).has_action(0x34, 6), None);
    }
}
