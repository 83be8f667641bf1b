//! The data path: its drives, and what operators ask of them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sealtape_drivers::fuse::{DriveNodes, NodePaths};
use sealtape_drivers::image::OpenMode;
use sealtape_drivers::medium::{
    DriveError, DriveErrorKind, DriveIdentity, MediumStatus, Position, SharedDrive, TapeDrive,
};
use sealtape_kms::client::DataPathClient;

use super::barcode::BarcodeReader;
use super::config::{BackEnd, Config, DriveConfig, FrontEnd};
use super::drive_status::{medium_status, read_only, volume_status};
use super::front::Front;
use super::key_authority::{KeyAuthority, SharedCartridge};
use super::key_guard::KeyGuard;
use super::raw_drive::{DriveOwnership, RawDrive};
use super::verify;
use crate::control::{
    ControlError, Counters, DataPath, DriveState, DriveStatus, ErrorCode, LabelOrder, LabelReport, LastError, Nodes,
    Notice, Observer, Overwrite, PartitionLabelled, PositionStatus, Progress, ProgressUnit, VerifyReport, Window,
};
use crate::pipeline::{SealPool, WindowLimits};
use crate::unit::scsi::{ScsiOptions, ScsiUnit, SharedUnit};
use crate::unit::st::{StNode, StOptions};
use crate::unit::{self, LabelRequest, SealedTape, UnitOptions, UnitStatus, UnsynchronisedMark};
use crate::volume::Access;

/// How long an operator's command waits for one of the host's.
const LONGEST_COMMAND_WAITED_FOR: Duration = Duration::from_secs(3);

/// What the kernel's own SCSI layer carries in one command: 256 segments of a page (field notes 2). `st` refuses a drive that promises more.
const LONGEST_LOCAL_BLOCK: u32 = 1 << 20;

/// Longest data of one command of a virtual SCSI drive.
fn longest_transfer(drive: &DriveConfig) -> anyhow::Result<u32> {
    let configured = u32::try_from(drive.max_block.0)?.min(0xff_ffff);
    Ok(if drive.local { configured.min(LONGEST_LOCAL_BLOCK) } else { configured })
}

/// A virtual SCSI drive to be served.
pub struct VirtualUnit {
    /// The drive's name.
    pub name: String,
    /// The serial number of the drive below.
    pub serial: String,
    /// Longest data of one command, in bytes.
    pub max_transfer: u32,
    /// Whether it is linked to this kernel.
    pub local: bool,
    /// What it does.
    pub unit: SharedUnit,
}

/// One drive: the raw one, the sealed unit over it, and what hosts reach it by.
struct Drive {
    name: String,
    back_end: BackEnd,
    local: bool,
    max_transfer: u32,
    raw: RawDrive,
    ownership: Mutex<Option<DriveOwnership>>,
    unit: SharedDrive<SealedTape>,
    front: Front,
    paths: Mutex<Option<Nodes>>,
    seen: Mutex<Seen>,
    cartridge: SharedCartridge,
    limits: WindowLimits,
}

/// What was last seen of a unit, for a status that never waits for the drive.
#[derive(Default)]
struct Seen {
    cartridge: Option<PathBuf>,
    unit: Option<UnitStatus>,
    medium: Option<MediumStatus>,
    identity: Option<DriveIdentity>,
    failure: Option<LastError>,
}

/// Every drive of the configuration.
pub struct Drives {
    drives: Vec<Drive>,
    /// Ends keys that were released to them.
    _guard: KeyGuard,
}

impl Drives {
    /// Makes the drives of a configuration; none is loaded.
    ///
    /// # Errors
    /// When threads cannot be started, or a fault plan cannot be read.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let settings = &config.data_path;
        let pool = SealPool::start(usize::from(settings.seal_threads))?;
        let limits = WindowLimits {
            records: settings.window_records as usize,
            bytes: usize::try_from(settings.window_bytes.0)?,
        };
        let guard = KeyGuard::start(&config.home.keys_socket())?;
        let drives = config
            .drives
            .iter()
            .enumerate()
            .map(|(number, drive)| Drive::new(config, drive, number, Arc::clone(&pool), limits, &guard));
        let drives = drives.collect::<Result<_, _>>()?;
        Ok(Self { drives, _guard: guard })
    }

    /// What the FUSE front end serves.
    pub fn nodes(&self) -> Vec<DriveNodes> {
        let nodes = self.drives.iter().enumerate().filter_map(|(number, drive)| match &drive.front {
            Front::Nodes(node) => Some(DriveNodes {
                number: u16::try_from(number).unwrap_or(u16::MAX),
                name: drive.name.clone(),
                node: Arc::clone(node) as _,
            }),
            Front::Scsi(_) => None,
        });
        nodes.collect()
    }

    /// What the TCMU front end serves.
    pub fn units(&self) -> Vec<VirtualUnit> {
        let units = self.drives.iter().filter_map(|drive| match &drive.front {
            Front::Nodes(_) => None,
            Front::Scsi(unit) => Some(VirtualUnit {
                name: drive.name.clone(),
                serial: match &lock(&drive.seen).identity {
                    Some(identity) => identity.serial.clone(),
                    None => drive.name.clone(),
                },
                max_transfer: drive.max_transfer,
                local: drive.local,
                unit: unit.clone(),
            }),
        });
        units.collect()
    }

    /// A virtual drive is linked to this kernel: the device nodes it got.
    pub fn linked(&self, drive: &str, rewinding: PathBuf, non_rewinding: PathBuf) {
        if let Some(drive) = self.drives.iter().find(|known| known.name == drive) {
            *lock(&drive.paths) = Some(Nodes { rewinding, non_rewinding });
        }
    }

    /// The front end is mounted: where the nodes are.
    pub fn mounted(&self, paths: &[NodePaths]) {
        for path in paths {
            if let Some(drive) = self.drives.iter().find(|drive| drive.name == path.drive) {
                let nodes = Nodes { rewinding: path.rewinding.clone(), non_rewinding: path.non_rewinding.clone() };
                *lock(&drive.paths) = Some(nodes);
            }
        }
    }

    /// Unloads everything, at the end, when the front ends are gone: no host is asked, and what one left unsynchronised is synchronised.
    /// What cannot be is told.
    pub fn unload_all(&self) {
        for drive in &self.drives {
            drive.front.host_is_gone();
            let unloaded = drive.done(Ok(drive.unload()));
            match unloaded {
                Ok(()) => {}
                Err(error) => tracing::error!(drive = %drive.name, %error, "not unloaded in order at the end"),
            }
            if let Err(error) = drive.raw.give_back() {
                tracing::error!(drive = %drive.name, %error, "the drive keeps the programmable early warning of this service");
            }
            if let Some(ownership) = lock(&drive.ownership).take()
                && let Err(error) = ownership.release()
            {
                tracing::error!(drive = %drive.name, %error, "the drive could not be given back in order");
            }
        }
    }

    fn find(&self, name: &str) -> Result<&Drive, ControlError> {
        self.drives
            .iter()
            .find(|drive| drive.name == name)
            .ok_or_else(|| ControlError::unknown_drive(name, self.drives.iter().map(|drive| &drive.name)))
    }
}

impl Drive {
    fn new(
        config: &Config,
        drive: &DriveConfig,
        number: usize,
        pool: Arc<SealPool>,
        limits: WindowLimits,
        guard: &KeyGuard,
    ) -> anyhow::Result<Self> {
        let name = drive.name.to_string();
        let (raw, identity, ownership) = RawDrive::open(config, drive, number)?;
        let client = DataPathClient::new(config.home.keys_socket(), name.clone(), sealtape_kms::client::CALL_TIMEOUT);
        let options = UnitOptions {
            window: limits,
            check_end_at_load: config.data_path.check_end_at_load,
            max_block: u32::try_from(drive.max_block.0)?,
        };
        let mark = UnsynchronisedMark::at(config.data_path_state().join(format!("{name}.unsynchronised")));
        let barcodes = match drive.back_end {
            BackEnd::Image => BarcodeReader::default(),
            BackEnd::Scsi => BarcodeReader::of_drive(identity.serial.clone()),
        };
        let cartridge = SharedCartridge::default();
        let keys = Box::new(KeyAuthority::new(client, &name, guard.guarded(), barcodes, Arc::clone(&cartridge)));
        let unit = SealedTape::new(name.clone(), raw.boxed(), keys, pool, options, mark)?;
        let unit = SharedDrive::new(unit);
        guard.attach(&name, unit.clone());
        let front = match drive.front_end {
            FrontEnd::Nodes => {
                let node = StNode::new(name.clone(), Box::new(unit.clone()), StOptions::default());
                Front::Nodes(Arc::new(node))
            }
            FrontEnd::Tcmu => {
                let serial = drive.virtual_serial.clone();
                let largest_block = longest_transfer(drive)?;
                let options = ScsiOptions {
                    serial,
                    largest_block,
                    marked_as_virtual: true,
                    reset_loses_place: true,
                    ..ScsiOptions::as_drive(name.clone())
                };
                Front::Scsi(SharedUnit::new(ScsiUnit::new(Box::new(unit.clone()), options)))
            }
        };
        let seen = Seen { identity: Some(identity), ..Seen::default() };
        Ok(Self {
            name,
            back_end: drive.back_end,
            local: drive.local,
            max_transfer: longest_transfer(drive)?,
            raw,
            ownership: Mutex::new(ownership),
            unit,
            front,
            paths: Mutex::new(None),
            seen: Mutex::new(seen),
            cartridge,
            limits,
        })
    }

    /// Uses the drive while no host does, to change what is loaded.
    fn idle<R>(&self, serve: impl FnOnce(&Self) -> Result<R, ControlError>) -> Result<R, ControlError> {
        self.done(self.unsynchronised_host().and_then(|()| self.front.idle(&self.name, || serve(self))))
    }

    /// Uses the medium while no host does, and puts it back where it stood.
    fn idle_medium<R>(&self, serve: impl FnOnce(&Self) -> Result<R, ControlError>) -> Result<R, ControlError> {
        self.done(self.unsynchronised_host().and_then(|()| self.front.idle_medium(&self.name, || serve(self))))
    }

    /// A virtual SCSI drive has no "open": what shows that a backup is running is what it has not synchronised yet. A command that is
    /// being executed is waited for, a moment long.
    fn unsynchronised_host(&self) -> Result<(), ControlError> {
        let Front::Scsi(_) = &self.front else { return Ok(()) };
        let begun = Instant::now();
        let status = loop {
            match self.unit.try_lock() {
                Some(unit) => break Some(unit.status()),
                None if begun.elapsed() > LONGEST_COMMAND_WAITED_FOR => break None,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let what = match status {
            None => "the host's command is still being executed".to_owned(),
            // Those are lost already, and the host has been told or will be.
            Some(status) if status.write_blocked.is_some() => return Ok(()),
            Some(status) => match status.unsynchronised_objects {
                0 => return Ok(()),
                count => format!("the host is writing; {count} records or filemarks are not synchronised"),
            },
        };
        Err(ControlError::new(
            ErrorCode::Busy,
            format!("drive {}: {what}", self.name),
            "wait until the backup program has written its filemark or rewound, or stop it and rewind (mt rewind)",
        ))
    }

    fn done<R>(&self, result: Result<Result<R, ControlError>, ControlError>) -> Result<R, ControlError> {
        let result = result.and_then(|result| result);
        match &result {
            // What was wrong before an operation that succeeded is past; what is wrong now stands in the access.
            Ok(_) => lock(&self.seen).failure = None,
            Err(error) => self.remember(&error.message, &error.mend),
        }
        self.look();
        result
    }

    fn remember(&self, message: &str, mend: &str) {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        lock(&self.seen).failure =
            Some(LastError { time_unix_s: time.as_secs(), message: message.to_owned(), mend: mend.to_owned() });
    }

    fn load(&self, cartridge: Option<&Path>) -> Result<(), ControlError> {
        if let Some(path) = cartridge {
            self.insert(path)?;
        }
        if lock(&self.seen).cartridge.is_none() && self.back_end == BackEnd::Image {
            return Err(ControlError::new(
                ErrorCode::BadRequest,
                format!("drive {}: no cartridge is in the drive", self.name),
                format!("name the image of a cartridge: sealtape volume load {} FILE", self.name),
            ));
        }
        let report = self.unit.lock().load_medium().map_err(|error| self.failed(&error))?;
        self.absorb_attention();
        if let Access::None(reason) | Access::ReadOnly(reason) = &report.access {
            tracing::warn!("{reason}");
        }
        Ok(())
    }

    /// The drive tells once that its medium changed; whoever opens the node next did not miss anything.
    fn absorb_attention(&self) {
        if let Err(error) = self.raw.test_unit_ready()
            && error.kind != DriveErrorKind::UnitAttention
        {
            tracing::warn!(drive = %self.name, %error, "after loading");
        }
    }

    fn insert(&self, path: &Path) -> Result<(), ControlError> {
        let RawDrive::Image(raw) = &self.raw else {
            return Err(ControlError::new(
                ErrorCode::BadRequest,
                format!("drive {}: it is a real drive, and {} is a file", self.name, path.display()),
                format!(
                    "put the cartridge into the drive (by hand, or mtx load), then: sealtape volume load {}",
                    self.name
                ),
            ));
        };
        let inside = lock(&self.seen).cartridge.clone();
        if let Some(inside) = inside {
            return Err(ControlError::new(
                ErrorCode::Busy,
                format!("drive {}: cartridge {} is in the drive", self.name, inside.display()),
                format!("unload it first: sealtape volume unload {}", self.name),
            ));
        }
        let inserted = raw.lock().inner_mut().insert(path, OpenMode::ReadWrite);
        inserted.map_err(|error| self.not_inserted(&error))?;
        lock(&self.seen).cartridge = Some(path.to_path_buf());
        Ok(())
    }

    /// A file that is no cartridge, or is somebody else's, is no fault of the drive.
    fn not_inserted(&self, error: &DriveError) -> ControlError {
        let (code, mend) = match error.kind {
            DriveErrorKind::NotReady => (ErrorCode::Busy, "the drive is empty, and the file was not touched"),
            DriveErrorKind::Medium => (ErrorCode::Medium, "the drive is empty, and the file was not touched"),
            _ => return self.failed(error),
        };
        ControlError::new(code, format!("drive {}: {}", self.name, error.message), mend)
    }

    fn unload(&self) -> Result<(), ControlError> {
        let mut unit = self.unit.lock();
        if unit.is_loaded() {
            unit.unload_medium().map_err(|error| self.failed(&error))?;
        }
        drop(unit);
        if let RawDrive::Image(raw) = &self.raw
            && lock(&self.seen).cartridge.take().is_some()
        {
            raw.lock().inner_mut().eject().map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    fn label(&self, order: &LabelOrder) -> Result<LabelReport, ControlError> {
        let request = LabelRequest {
            ticket: order.ticket.clone(),
            overwrite: match order.overwrite {
                Overwrite::Nothing => unit::Overwrite::Nothing,
                Overwrite::Volume(volume) => unit::Overwrite::Volume(volume),
                Overwrite::Clear => unit::Overwrite::Clear,
            },
        };
        let mut unit = self.unit.lock();
        let label = unit.label_medium(&request).map_err(|error| self.failed(&error))?;
        self.absorb_attention();
        let mut partitions = Vec::new();
        let mut suite = None;
        for partition in 0..label.partitions {
            unit.locate(Position { partition, object: 0 }).map_err(|error| self.failed(&error))?;
            let status = unit.status();
            let generation = status.generation.ok_or_else(|| {
                ControlError::new(
                    ErrorCode::Failed,
                    format!("drive {}: partition {partition} has no generation after labelling", self.name),
                    "label the medium again",
                )
            })?;
            suite = Some(generation.suite);
            partitions.push(PartitionLabelled { partition, generation: generation.number, key_id: generation.key_id });
        }
        unit.locate(Position { partition: 0, object: 0 }).map_err(|error| self.failed(&error))?;
        Ok(LabelReport {
            drive: self.name.clone(),
            volume: label.volume,
            label: label.label,
            barcode: label.barcode,
            suite: suite.map(|suite| suite.to_string()).unwrap_or_default(),
            partitions,
        })
    }

    /// Puts a drive's failure into the operator's words.
    fn failed(&self, error: &DriveError) -> ControlError {
        let (code, mend) = match error.kind {
            DriveErrorKind::Security => (ErrorCode::Refused, "see the reason; the custody log has it too"),
            DriveErrorKind::WriteProtected | DriveErrorKind::WormOverwrite => {
                (ErrorCode::Refused, "nothing was changed on the medium")
            }
            DriveErrorKind::NotReady | DriveErrorKind::UnitAttention => {
                (ErrorCode::Medium, "load a cartridge: sealtape volume load DRIVE FILE")
            }
            DriveErrorKind::Medium | DriveErrorKind::EndOfMedium | DriveErrorKind::EndOfData => {
                (ErrorCode::Medium, "clean the drive, try another drive, or take the cartridge out of use")
            }
            DriveErrorKind::IllegalRequest => (ErrorCode::BadRequest, "see the reason"),
            DriveErrorKind::Reset
            | DriveErrorKind::Hardware
            | DriveErrorKind::ReservationConflict
            | DriveErrorKind::Transport => (ErrorCode::Drive, "see the service's log, and try again"),
        };
        let message = match error.message.contains(&self.name) {
            true => error.message.clone(),
            false => format!("drive {}: {}", self.name, error.message),
        };
        ControlError::new(code, message, mend)
    }

    /// Looks at unit and medium, unless a program keeps them busy: then what was seen last stands.
    fn look(&self) {
        let Some(mut unit) = self.unit.try_lock() else { return };
        let status = unit.status();
        let medium = if unit.is_loaded() { unit.medium_status().ok() } else { None };
        let mut seen = lock(&self.seen);
        seen.unit = Some(status);
        seen.medium = medium;
    }

    fn status(&self) -> DriveStatus {
        self.look();
        let front = self.front.status();
        let seen = lock(&self.seen);
        let unit = seen.unit.as_ref();
        let state = match unit.and_then(|unit| unit.access.as_ref()) {
            _ if front.service => DriveState::Loading,
            _ if front.in_use => DriveState::InUse,
            None => DriveState::Empty,
            Some(_) => DriveState::Ready,
        };
        let last_error = front
            .last_error
            .map(|message| LastError { time_unix_s: 0, message, mend: String::new() })
            .or_else(|| seen.failure.clone());
        DriveStatus {
            name: self.name.clone(),
            back_end: self.back_end.name().into(),
            identity: seen
                .identity
                .as_ref()
                .map(|identity| format!("{} {} {}", identity.vendor, identity.product, identity.serial)),
            nodes: lock(&self.paths).clone(),
            state,
            host_pid: front.host_pid,
            cartridge: match &seen.cartridge {
                Some(path) => Some(path.display().to_string()),
                None => {
                    seen.medium.as_ref().and_then(|medium| medium.barcode.clone().or_else(|| medium.serial.clone()))
                }
            },
            medium: seen.medium.as_ref().map(|medium| medium_status(medium, unit, &lock(&self.cartridge))),
            volume: unit.and_then(volume_status),
            position: unit.and_then(|unit| {
                let position = unit.position?;
                Some(PositionStatus {
                    partition: position.partition,
                    object: position.object,
                    filemarks: unit.filemarks,
                    beginning_of_partition: position.object == 0,
                    end_of_data: unit.at_end_of_data,
                })
            }),
            counters: Counters {
                records_written: front.counters.records_written,
                host_bytes_written: front.counters.bytes_written,
                medium_bytes_written: unit.map_or(0, |unit| unit.medium_bytes_written),
                records_read: front.counters.records_read,
                host_bytes_read: front.counters.bytes_read,
                records_refused: unit.map_or(0, |unit| unit.records_refused),
            },
            window: Window {
                records: unit.map_or(0, |unit| unit.window.0),
                bytes: unit.map_or(0, |unit| unit.window.1 as u64),
                limit_records: self.limits.records as u64,
                limit_bytes: self.limits.bytes as u64,
            },
            unsynchronised_objects: unit.map_or(0, |unit| unit.unsynchronised_objects),
            lost_records: unit.and_then(|unit| unit.write_blocked.clone()).map(|message| Notice {
                message,
                mend: "rewind or locate, and repeat the backup from its last synchronised point".into(),
            }),
            read_only: unit.and_then(|unit| read_only(unit, &self.name)),
            last_error,
        }
    }
}

impl DataPath for Drives {
    fn drives(&self) -> Vec<DriveStatus> {
        self.drives.iter().map(Drive::status).collect()
    }

    fn drive(&self, drive: &str) -> Result<DriveStatus, ControlError> {
        Ok(self.find(drive)?.status())
    }

    fn load(&self, drive: &str, cartridge: Option<&Path>, observer: &Observer) -> Result<DriveStatus, ControlError> {
        let drive = self.find(drive)?;
        observer.report(step("loading"));
        drive.idle(|drive| drive.load(cartridge))?;
        Ok(drive.status())
    }

    fn unload(&self, drive: &str, observer: &Observer) -> Result<DriveStatus, ControlError> {
        let drive = self.find(drive)?;
        observer.report(step("synchronising and unloading"));
        drive.idle(Drive::unload)?;
        Ok(drive.status())
    }

    fn label(&self, drive: &str, order: &LabelOrder, observer: &Observer) -> Result<LabelReport, ControlError> {
        let drive = self.find(drive)?;
        observer.report(step("labelling"));
        drive.idle(|drive| drive.label(order))
    }

    fn verify(&self, drive: &str, observer: &Observer) -> Result<VerifyReport, ControlError> {
        let drive = self.find(drive)?;
        let begun = Instant::now();
        drive.idle_medium(|drive| {
            let mut unit = drive.unit.lock();
            verify::verify(&mut unit, &drive.name, begun, observer).map_err(|error| match error {
                verify::Stopped::Cancelled => ControlError::new(
                    ErrorCode::Cancelled,
                    format!("drive {}: verification was cancelled", drive.name),
                    "the volume stays loaded; nothing was changed",
                ),
                verify::Stopped::Drive(error) => drive.failed(&error),
            })
        })
    }

    fn acknowledge(&self, drive: &str) -> Result<DriveStatus, ControlError> {
        let drive = self.find(drive)?;
        drive.idle_medium(|drive| match drive.unit.lock().acknowledge() {
            Some(_) => Ok(()),
            None => Err(ControlError::new(
                ErrorCode::BadRequest,
                format!("drive {}: nothing was refused that could be acknowledged", drive.name),
                format!("see: sealtape drive status {}", drive.name),
            )),
        })?;
        Ok(drive.status())
    }
}

fn step(stage: &str) -> Progress {
    Progress { stage: stage.into(), done: 0, total: None, unit: ProgressUnit::Steps }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
