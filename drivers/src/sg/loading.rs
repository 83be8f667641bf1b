//! LOAD and UNLOAD, and the wait until the drive is ready.

use std::thread;
use std::time::{Duration, Instant};

use super::cartridge;
use super::drive::ScsiTapeDrive;
use super::fault::{self, Intent};
use super::stand::Stand;
use super::{Data, Transport};
use crate::medium::{DriveError, DriveErrorKind, Position};
use crate::scsi::{AdditionalSense, Command, Sense, SenseKey, TapeAlertFlags};

/// Unit attentions that a load may meet, one after the other.
const MOST_ATTENTIONS: u32 = 8;
const FIRST_POLL: Duration = Duration::from_millis(50);
const LONGEST_POLL: Duration = Duration::from_secs(5);

fn load_unload(load: bool) -> Command {
    Command::LoadUnload { immediate: false, hold: false, end_of_tape: false, retension: false, load }
}

/// The medium changed, or the drive announces that it came up with other settings: what a load expects.
fn is_of_loading(sense: &Sense) -> bool {
    sense.key == SenseKey::UNIT_ATTENTION
        && !sense.flags.deferred
        && (sense.additional.asc == 0x28 || sense.additional == AdditionalSense::MODE_PARAMETERS_CHANGED)
}

/// The drive works on it, and will be ready by itself (SPC-4 annex F): becoming ready, calibration, format or operation in
/// progress.
fn is_becoming_ready(sense: &Sense) -> bool {
    sense.key == SenseKey::NOT_READY
        && matches!((sense.additional.asc, sense.additional.ascq), (0x04, 0x01 | 0x04 | 0x07 | 0x08 | 0x09))
}

impl<T: Transport> ScsiTapeDrive<T> {
    pub(super) fn load_medium(&mut self) -> Result<(), DriveError> {
        // What a load before this one met is still to be told.
        let untold = self.attention.take();
        self.forget_cartridge();
        self.alerts = TapeAlertFlags::default();
        let begin = Instant::now();
        let limit = self.link.limits.of(&load_unload(true));
        let mut changed = None;
        let loaded = self.insist(load_unload(true), begin, limit, &mut changed)?;
        if loaded {
            let ready = self.insist(Command::TestUnitReady, begin, limit, &mut changed)?;
            if ready {
                self.settle()?;
                self.stand = Stand::Counted(Position { partition: 0, object: 0 });
            }
        }
        self.latch_alerts();
        self.attention = changed.or(untold);
        Ok(())
    }

    /// Sends a command until it is done. `false`: a cartridge that is no data cartridge is in, of which
    /// [`medium_status`](crate::medium::TapeDrive::medium_status) tells.
    fn insist(
        &mut self,
        command: Command,
        begin: Instant,
        limit: Duration,
        changed: &mut Option<DriveError>,
    ) -> Result<bool, DriveError> {
        let (mut attentions, mut wait) = (0, FIRST_POLL);
        loop {
            let Some(sense) = self.link.send(command, Data::None)?.sense else { return Ok(true) };
            if fault::is_done(&sense) {
                return Ok(true);
            }
            let error = self.link.fault(&command, sense, Intent::Other);
            if is_of_loading(&sense) && attentions < MOST_ATTENTIONS {
                attentions += 1;
                if sense.additional.asc == 0x28 {
                    *changed = Some(error);
                }
            } else if cartridge::without_data(&sense).is_some() {
                return Ok(false);
            } else if is_becoming_ready(&sense) && begin.elapsed() < limit {
                thread::sleep(wait);
                wait = (wait * 2).min(LONGEST_POLL);
            } else {
                return Err(error);
            }
        }
    }

    pub(super) fn unload_medium(&mut self) -> Result<(), DriveError> {
        self.turn_from_writing();
        self.link.ask(load_unload(false), Data::None)?;
        self.latch_alerts();
        self.forget_cartridge();
        Ok(())
    }

    fn forget_cartridge(&mut self) {
        self.turn_from_writing();
        self.attention = None;
        self.beyond_programmable = None;
        self.unsynchronised = 0;
        self.settled = false;
        self.stand = Stand::Drive;
    }

    /// What the drive says when nothing is loaded and why, in one place for whoever waits for a cartridge.
    pub(super) fn not_ready(&self, what: &str) -> DriveError {
        DriveError::new(DriveErrorKind::NotReady, format!("{}: {what}", self.link.name))
    }
}
