//! What changes the medium as a whole: LOAD UNLOAD, PREVENT ALLOW MEDIUM REMOVAL, ERASE, FORMAT MEDIUM.

use sealtape_drivers::scsi::{AdditionalSense, Command};

use super::ScsiUnit;
use super::outcome::{Answer, Fault, illegal, invalid_field};

impl ScsiUnit {
    pub(super) fn formatting(&mut self, command: &Command) -> Answer {
        match *command {
            Command::LoadUnload { hold, end_of_tape, load, .. } => self.load_unload(hold, end_of_tape, load),
            Command::PreventAllowMediumRemoval { prevent } => self.prevent(prevent),
            Command::Erase6 { long, .. } | Command::Erase16 { long, .. } => Ok(self.drive.erase(long)?),
            Command::FormatMedium { format, length, .. } => self.format_medium(format, length),
            // Append-only mode belongs to the pool's policy, and so does leave to write over.
            Command::AllowOverwrite { .. } => Err(invalid_field(2, Some(3))),
            _ => Err(Fault::UnknownOperation),
        }
    }

    fn load_unload(&mut self, hold: bool, end_of_tape: bool, load: bool) -> Answer {
        if end_of_tape {
            return Err(invalid_field(4, Some(2)));
        }
        if hold {
            // A medium that is neither loaded nor out is a state of autoloaders.
            return Err(invalid_field(4, Some(3)));
        }
        if load {
            self.moved(|drive| drive.load())?;
            self.place_lost = false;
            return Ok(());
        }
        if self.removal_prevented {
            return Err(illegal(AdditionalSense::MEDIUM_REMOVAL_PREVENTED));
        }
        Ok(self.moved(|drive| drive.unload())?)
    }

    fn prevent(&mut self, prevent: u8) -> Answer {
        let prevent = match prevent {
            0 => false,
            1 => true,
            _ => return Err(invalid_field(4, Some(1))), // For attached changers, obsolete.
        };
        self.drive.prevent_removal(prevent)?;
        self.removal_prevented = prevent;
        Ok(())
    }

    fn format_medium(&mut self, format: u8, length: u16) -> Answer {
        if length != 0 {
            return Err(illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR));
        }
        let position = self.drive.read_position()?;
        if position.position.partition != 0 || position.position.object != 0 {
            // SSC-4 7.1: only at the beginning of partition 0.
            return Err(illegal(AdditionalSense::POSITION_PAST_BEGINNING_OF_MEDIUM));
        }
        let second = match format {
            0 => None,
            1 | 2 => self.second_partition()?,
            _ => return Err(invalid_field(2, Some(3))),
        };
        Ok(self.moved(|drive| drive.format_medium(second))?)
    }
}
