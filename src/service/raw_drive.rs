//! The drive below the sealed unit: a file-backed one, or a real one that is ours alone.

use std::path::Path;

use anyhow::Context;
use sealtape_drivers::image::ImageDrive;
use sealtape_drivers::image::faults::{FaultPlan, FaultyDrive};
use sealtape_drivers::medium::{DriveError, DriveIdentity, SharedDrive, TapeDrive};
use sealtape_drivers::sg::{Ownership, RecordFile, ScsiTapeDrive, SgDevice, Sharing, StDriver};

use super::config::{BackEnd, Config, DriveConfig};

/// One drive, shared between its unit and the service.
pub(super) enum RawDrive {
    /// Cartridges are image files.
    Image(SharedDrive<FaultyDrive<ImageDrive>>),
    /// A real drive.
    Scsi(SharedDrive<ScsiTapeDrive<SgDevice>>),
}

/// What keeps others off a real drive.
pub(super) type DriveOwnership = Ownership<SgDevice>;

impl RawDrive {
    /// Opens the drive of a configuration; a real one is taken from the kernel's tape driver and from other initiators.
    ///
    /// # Errors
    /// When a fault plan cannot be read, or the real drive cannot be found, is in use, or does not answer.
    pub(super) fn open(
        config: &Config,
        drive: &DriveConfig,
        number: usize,
    ) -> anyhow::Result<(Self, DriveIdentity, Option<DriveOwnership>)> {
        match drive.back_end {
            BackEnd::Image => {
                let identity = DriveIdentity {
                    vendor: "SEALTAPE".into(),
                    product: "IMAGE".into(),
                    revision: env!("CARGO_PKG_VERSION").chars().take(4).collect(),
                    serial: format!("IMG{number:07}"),
                };
                let plan = match &drive.fault_plan {
                    Some(file) => FaultPlan::from_file(&config.home.resolve(file))?,
                    None => FaultPlan::default(),
                };
                let raw = FaultyDrive::new(ImageDrive::new(identity.clone()), plan);
                Ok((Self::Image(SharedDrive::new(raw)), identity, None))
            }
            BackEnd::Scsi => {
                let record = config.data_path_state().join(format!("{}.owner", drive.name));
                open_scsi(drive, &record).with_context(|| format!("drive {}", drive.name))
            }
        }
    }

    /// The same drive, for the unit.
    pub(super) fn boxed(&self) -> Box<dyn TapeDrive> {
        match self {
            Self::Image(drive) => Box::new(drive.clone()),
            Self::Scsi(drive) => Box::new(drive.clone()),
        }
    }

    /// Before others use the drive again: they would be warned of the end of each medium by as much as this unit's window needs.
    pub(super) fn give_back(&self) -> Result<(), DriveError> {
        match self {
            Self::Image(_) => Ok(()), // It ends with this service.
            Self::Scsi(drive) => drive.lock().set_programmable_early_warning(0).map(drop),
        }
    }

    pub(super) fn test_unit_ready(&self) -> Result<(), DriveError> {
        match self {
            Self::Image(drive) => drive.lock().test_unit_ready(),
            Self::Scsi(drive) => drive.lock().test_unit_ready(),
        }
    }
}

fn open_scsi(drive: &DriveConfig, record: &Path) -> anyhow::Result<(RawDrive, DriveIdentity, Option<DriveOwnership>)> {
    let device = match (&drive.serial, &drive.device) {
        (Some(serial), _) => SgDevice::by_serial(serial, Sharing::Exclusive)?,
        (None, Some(device)) => SgDevice::open(device, Sharing::Exclusive)?,
        (None, None) => anyhow::bail!("neither serial nor device is configured"),
    };
    let ownership =
        Ownership::take(device.try_clone()?, device.address(), StDriver::default(), RecordFile::new(record))?;
    let raw = ScsiTapeDrive::open(device)?;
    let identity = raw.identity();
    Ok((RawDrive::Scsi(SharedDrive::new(raw)), identity, Some(ownership)))
}
