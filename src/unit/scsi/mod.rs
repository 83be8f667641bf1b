//! A tape drive as SCSI hosts see it (SSC-4, SPC-4), over any [`TapeDrive`].
//!
//! Over the sealed unit it is the product's virtual drive; over a plain drive it plays the real one in the guest lab, which is how
//! both can be compared command by command. What every operation code is answered with stands in
//! `docs/virtual-drive.md`; the table that REPORT SUPPORTED OPERATION CODES is made of is `operations`.
//!
//! Outcomes of tape become sense data here, in one place each: `data` for blocks and filemarks, `motion` for the rest. What the
//! drive said of a failure passes through unchanged.

mod attributes;
mod board;
mod data;
mod formatting;
mod identify;
mod logs;
mod mode;
mod motion;
mod operations;
mod outcome;
mod pages;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sealtape_drivers::medium::{DriveError, DriveErrorKind, TapeDrive};
use sealtape_drivers::scsi::{AdditionalSense, Command, Completion, DataIn, LogicalUnit, Sense, SenseKey};

use board::Board;
pub use board::BoardStatus;
use mode::ModeState;
use outcome::{Answer, Fault};

/// Longest data that one command may make the unit hold, in bytes; longest block included.
const LONGEST_DATA: usize = 16 << 20;

/// How a unit presents itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScsiOptions {
    /// For log and messages.
    pub name: String,
    /// Vendor identification instead of the drive's.
    pub vendor: Option<String>,
    /// Product identification instead of the drive's.
    pub product: Option<String>,
    /// Serial number instead of the drive's: with the drive's own, a changer's device identifiers match this unit.
    pub serial: Option<String>,
    /// Says in page 83h that it is a virtual drive, so that a search by serial number does not take it for the real one.
    pub marked_as_virtual: bool,
    /// Longest block that the front end carries in one command, in bytes.
    pub largest_block: u32,
}

impl ScsiOptions {
    /// A unit that presents itself as its drive does.
    pub fn as_drive(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            vendor: None,
            product: None,
            serial: None,
            marked_as_virtual: false,
            largest_block: 0xff_ffff,
        }
    }
}

/// A tape drive as SCSI hosts see it.
pub struct ScsiUnit {
    options: ScsiOptions,
    drive: Box<dyn TapeDrive>,
    mode: ModeState,
    /// Unit attentions that no command has told yet, each kind once, in the order of their arrival.
    attentions: Vec<AdditionalSense>,
    removal_prevented: bool,
    /// REPORT TIMESTAMP: what the host set, and when.
    timestamp: Option<(u64, Instant)>,
    /// Reused for blocks that arrive or leave in fixed mode.
    block: Vec<u8>,
    board: Arc<Board>,
}

impl ScsiUnit {
    /// A unit over `drive`, which it owns. Its first command hears of the power-on.
    pub fn new(drive: Box<dyn TapeDrive>, options: ScsiOptions) -> Self {
        Self {
            options,
            drive,
            mode: ModeState::default(),
            attentions: vec![AdditionalSense::POWER_ON_RESET],
            removal_prevented: false,
            timestamp: None,
            block: Vec::new(),
            board: Arc::default(),
        }
    }

    /// The host has to hear of this with its next command.
    fn attention(&mut self, additional: AdditionalSense) {
        if !self.attentions.contains(&additional) {
            self.attentions.push(additional);
        }
    }

    fn serve_operator<R>(&mut self, serve: impl FnOnce(&mut dyn TapeDrive) -> R) -> R {
        self.board.update(|board| board.service = true);
        let result = serve(&mut *self.drive);
        self.board.update(|board| board.service = false);
        result
    }

    fn serve(&mut self, command: &Command, data_out: &[u8], data_in: &mut DataIn<'_>) -> Answer {
        match *command {
            // These neither report nor clear a unit attention (SPC-4 5.14), but for REQUEST SENSE.
            Command::Inquiry { .. } | Command::ReportLuns { .. } => return self.identify(command, data_in),
            Command::RequestSense { descriptor, allocation } => {
                return self.request_sense(descriptor, allocation, data_in);
            }
            _ => {}
        }
        if !self.attentions.is_empty() {
            let additional = self.attentions.remove(0);
            return Err(Fault::Sense(Sense::new(SenseKey::UNIT_ATTENTION, additional)));
        }
        use Command as C;
        match *command {
            C::TestUnitReady => Ok(self.drive.test_unit_ready()?),
            C::Read6 { .. } | C::Write6 { .. } | C::WriteFilemarks6 { .. } | C::Verify6 { .. } => {
                self.data(command, data_out, data_in)
            }
            C::Space6 { .. }
            | C::Space16 { .. }
            | C::Locate10 { .. }
            | C::Locate16 { .. }
            | C::Rewind { .. }
            | C::ReadPosition { .. }
            | C::ReadBlockLimits { .. } => self.motion(command, data_in),
            C::LoadUnload { .. }
            | C::PreventAllowMediumRemoval { .. }
            | C::Erase6 { .. }
            | C::Erase16 { .. }
            | C::FormatMedium { .. }
            | C::SetCapacity { .. }
            | C::AllowOverwrite { .. } => self.formatting(command),
            C::ModeSense { .. } | C::ModeSelect { .. } => self.mode(command, data_out, data_in),
            C::LogSense { .. } | C::LogSelect { .. } => self.logs(command, data_in),
            C::ReadAttribute { .. } | C::WriteAttribute { .. } | C::ReadMediaSerialNumber { .. } => {
                self.attributes(command, data_out, data_in)
            }
            // One initiator per unit: reservations of others are the transport's matter (the kernel's, for TCMU).
            C::Reserve6 | C::Release6 | C::Reserve10 | C::Release10 => Ok(()),
            C::Inquiry { .. }
            | C::RequestSense { .. }
            | C::ReportLuns { .. }
            | C::ReportDensitySupport { .. }
            | C::ReportDeviceIdentifier { .. }
            | C::ReportSupportedOperationCodes { .. }
            | C::ReportSupportedTaskManagement { .. }
            | C::ReportTimestamp { .. }
            | C::SetTimestamp { .. }
            | C::SendDiagnostic { .. }
            | C::ReceiveDiagnosticResults { .. } => self.identify_or_manage(command, data_out, data_in),
            C::SecurityProtocolIn { .. } | C::SecurityProtocolOut { .. } => self.security_protocol(command, data_in),
            C::WriteBuffer { .. }
            | C::ReadBuffer { .. }
            | C::PersistentReserveIn { .. }
            | C::PersistentReserveOut { .. }
            | C::ReportTargetPortGroups { .. }
            | C::InitializeElementStatus
            | C::ReadElementStatus { .. } => Err(Fault::UnknownOperation),
        }
    }

    fn request_sense(&mut self, descriptor: bool, allocation: u8, data_in: &mut DataIn<'_>) -> Answer {
        let sense = match self.attentions.is_empty() {
            true => Sense::new(SenseKey::NO_SENSE, AdditionalSense::NONE),
            false => Sense::new(SenseKey::UNIT_ATTENTION, self.attentions.remove(0)),
        };
        match descriptor {
            true => data_in.put(&sense.to_descriptor(), usize::from(allocation)),
            false => data_in.put(&sense.to_fixed(), usize::from(allocation)),
        }
        Ok(())
    }

    /// What went wrong is told to the operator in words; the host gets the sense.
    fn failed(&mut self, command: &Command, error: DriveError) -> Completion {
        match error.kind {
            DriveErrorKind::EndOfData | DriveErrorKind::NotReady => {}
            DriveErrorKind::UnitAttention => {
                tracing::info!(drive = %self.options.name, ?command, %error, "unit attention")
            }
            _ => tracing::warn!(drive = %self.options.name, ?command, %error, "command failed"),
        }
        let completion = match error.kind {
            DriveErrorKind::ReservationConflict => {
                Completion { status: sealtape_drivers::scsi::Status::RESERVATION_CONFLICT, sense: None }
            }
            _ => Completion::check(error.sense),
        };
        if !matches!(error.kind, DriveErrorKind::EndOfData | DriveErrorKind::NotReady | DriveErrorKind::UnitAttention) {
            self.board.update(|board| {
                board.last_error = Some(error.to_string());
                board.counters.errors += 1;
            });
        }
        completion
    }
}

impl LogicalUnit for ScsiUnit {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], data_in: &mut DataIn<'_>) -> Completion {
        let command = match Command::parse(cdb) {
            Ok(command) => command,
            Err(error) => return Completion::check(error.sense()),
        };
        self.board.update(|board| board.executing = true);
        let answer = self.serve(&command, data_out, data_in);
        self.board.update(|board| {
            board.executing = false;
            board.removal_prevented = self.removal_prevented;
        });
        match answer {
            Ok(()) => Completion::GOOD,
            Err(Fault::Sense(sense)) => Completion::check(sense),
            Err(Fault::UnknownOperation) => {
                Completion::check(sealtape_drivers::scsi::CdbError::UnknownOperation.sense())
            }
            Err(Fault::Drive(error)) => self.failed(&command, *error),
        }
    }

    fn reset(&mut self) {
        self.reset_by_transport();
        // The power-on that no command has told yet says it all.
        if !self.attentions.contains(&AdditionalSense::POWER_ON_RESET) {
            self.attention(AdditionalSense::BUS_DEVICE_RESET);
        }
    }

    fn reset_by_transport(&mut self) {
        // What a reset does to a drive (SAM-5 6.3.3): prevention ends, mode parameters return; reset has the host hear of it.
        let before = std::mem::take(&mut self.mode);
        if before.programmable_early_warning_mb != 0
            && let Err(error) = self.drive.set_programmable_early_warning(0)
        {
            tracing::warn!(drive = %self.options.name, %error, "after a reset, the programmable early warning stays");
        }
        if std::mem::take(&mut self.removal_prevented)
            && let Err(error) = self.drive.prevent_removal(false)
        {
            tracing::warn!(drive = %self.options.name, %error, "after a reset, removal stays prevented");
        }
    }
}

/// A unit that its front end and the service share: the operator's work goes between two commands of the host.
#[derive(Clone)]
pub struct SharedUnit {
    unit: Arc<Mutex<ScsiUnit>>,
    board: Arc<Board>,
}

impl SharedUnit {
    /// Shares a unit.
    pub fn new(unit: ScsiUnit) -> Self {
        Self { board: Arc::clone(&unit.board), unit: Arc::new(Mutex::new(unit)) }
    }

    fn lock(&self) -> MutexGuard<'_, ScsiUnit> {
        self.unit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> Result<MutexGuard<'_, ScsiUnit>, RemovalPrevented> {
        let unit = self.lock();
        match unit.removal_prevented {
            true => Err(RemovalPrevented),
            false => Ok(unit),
        }
    }

    /// Uses the drive between two commands, in a way that may leave another medium in it: the host hears of it as a unit attention.
    ///
    /// # Errors
    /// [`RemovalPrevented`] when the host has prevented the removal of the medium.
    pub fn with_idle_drive<R>(&self, serve: impl FnOnce(&mut dyn TapeDrive) -> R) -> Result<R, RemovalPrevented> {
        let mut unit = self.idle()?;
        let result = unit.serve_operator(serve);
        unit.attention(AdditionalSense::MEDIUM_MAY_HAVE_CHANGED);
        Ok(result)
    }

    /// Uses the loaded medium between two commands and puts it back where it stood. Where that fails, the host hears of a change
    /// of the medium, after which it has to find its place anew.
    ///
    /// # Errors
    /// [`RemovalPrevented`] when the host has prevented the removal of the medium.
    pub fn with_idle_medium<R>(&self, serve: impl FnOnce(&mut dyn TapeDrive) -> R) -> Result<R, RemovalPrevented> {
        let mut unit = self.idle()?;
        let stood = unit.drive.read_position().ok().map(|report| report.position);
        let result = unit.serve_operator(serve);
        let returned = stood.map(|position| unit.drive.locate(position));
        if !matches!(returned, Some(Ok(()))) {
            unit.attention(AdditionalSense::MEDIUM_MAY_HAVE_CHANGED);
        }
        Ok(result)
    }

    /// What it is doing. Never waits for the drive.
    pub fn status(&self) -> BoardStatus {
        self.board.read()
    }
}

impl LogicalUnit for SharedUnit {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], data_in: &mut DataIn<'_>) -> Completion {
        self.lock().execute(cdb, data_out, data_in)
    }

    fn reset(&mut self) {
        self.lock().reset();
    }

    fn reset_by_transport(&mut self) {
        self.lock().reset_by_transport();
    }
}

/// The host has prevented the removal of the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the host has prevented the removal of the medium: let it finish, or unlock the drive there (mt unlock)")]
pub struct RemovalPrevented;
