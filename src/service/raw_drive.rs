//! The drive below the sealed unit: a file-backed one, or a real one.

use sealtape_drivers::image::ImageDrive;
use sealtape_drivers::image::faults::FaultyDrive;
use sealtape_drivers::medium::{DriveError, SharedDrive, TapeDrive};

/// One drive, shared between its unit and the service.
#[derive(Clone)]
pub(super) enum RawDrive {
    /// Cartridges are image files.
    Image(SharedDrive<FaultyDrive<ImageDrive>>),
}

impl RawDrive {
    /// The same drive, for the unit.
    pub(super) fn boxed(&self) -> Box<dyn TapeDrive> {
        match self {
            Self::Image(drive) => Box::new(drive.clone()),
        }
    }

    pub(super) fn test_unit_ready(&self) -> Result<(), DriveError> {
        match self {
            Self::Image(drive) => drive.lock().test_unit_ready(),
        }
    }
}
