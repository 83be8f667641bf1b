//! Virtual SCSI drives of this kernel, and its own drives below them: what the services do with a drive that is configured so.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sealtape::unit::scsi::{ScsiOptions, ScsiUnit, SharedUnit};
use sealtape_drivers::medium::{SharedDrive, TapeDrive};
use sealtape_drivers::sg::{Ownership, RecordFile, ScsiTapeDrive, SgDevice, Sharing, StDriver};
use sealtape_drivers::tcmu::{Lun, Server, UnitConfig};

use crate::serve::LONGEST_LOCAL_BLOCK;

/// How long the kernel's drivers may take to give a new drive its nodes.
const LONGEST_BINDING: Duration = Duration::from_secs(10);

/// Units served to this kernel and linked to it.
pub(crate) struct VirtualDrives {
    served: Vec<(Server, Lun)>,
    nodes: Vec<PathBuf>,
}

impl VirtualDrives {
    /// Shows each drive under its name, which is its serial number too. `over_scsi`: what shows the serial number of a drive must not be
    /// taken for one, or it could be put over itself.
    pub(crate) fn start(drives: Vec<(String, Box<dyn TapeDrive>)>, over_scsi: bool) -> Result<Self> {
        let mut started = Self { served: Vec::new(), nodes: Vec::new() };
        for (name, drive) in drives {
            let options = ScsiOptions {
                serial: Some(name.clone()),
                marked_as_virtual: over_scsi,
                reset_loses_place: over_scsi,
                largest_block: LONGEST_LOCAL_BLOCK,
                ..ScsiOptions::as_drive(name.clone())
            };
            let unit = SharedUnit::new(ScsiUnit::new(drive, options));
            let (server, lun) = Server::start_linked(&UnitConfig::new(&name, &name), Box::new(unit))
                .with_context(|| format!("{name} cannot be shown as a virtual SCSI drive"))?;
            let node = node(&lun).with_context(|| name);
            // Before an error: a unit that is linked has to be unlinked while it is served.
            started.served.push((server, lun));
            match node {
                Ok(node) => started.nodes.push(node),
                Err(error) => {
                    started.stop()?;
                    return Err(error);
                }
            }
        }
        Ok(started)
    }

    /// The nodes that do not rewind.
    pub(crate) fn nodes(&self) -> &[PathBuf] {
        &self.nodes
    }

    pub(crate) fn stop(self) -> Result<()> {
        for (server, lun) in self.served {
            // Both, whatever becomes of the first.
            let unlinked = lun.unlink();
            server.stop()?;
            unlinked?;
        }
        Ok(())
    }
}

/// The node that `st` gives a drive, a moment after it is linked.
fn node(lun: &Lun) -> Result<PathBuf> {
    let begun = Instant::now();
    while begun.elapsed() < LONGEST_BINDING {
        if let Some(tape) = lun.host_devices()?.tape {
            let node = Path::new("/dev").join(format!("n{tape}"));
            if node.exists() {
                return Ok(node);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("{} has no tape node: is the module st loaded? (modprobe st)", lun.address())
}

/// A drive of this kernel that is ours alone.
pub(crate) struct OwnedDrive {
    drive: SharedDrive<ScsiTapeDrive<SgDevice>>,
    ownership: Ownership<SgDevice>,
}

impl OwnedDrive {
    /// `record` is where the key of the reservation is kept.
    pub(crate) fn take(serial: &str, record: &Path) -> Result<Self> {
        let device = SgDevice::by_serial(serial, Sharing::Exclusive)?;
        let ownership =
            Ownership::take(device.try_clone()?, device.address(), StDriver::default(), RecordFile::new(record))?;
        let mut drive = ScsiTapeDrive::open(device)?;
        drive.load()?;
        Ok(Self { drive: SharedDrive::new(drive), ownership })
    }

    /// The same drive, for a unit.
    pub(crate) fn boxed(&self) -> Box<dyn TapeDrive> {
        Box::new(self.drive.clone())
    }

    pub(crate) fn give_back(self) -> Result<()> {
        self.drive.lock().set_programmable_early_warning(0)?;
        Ok(self.ownership.release()?)
    }
}
