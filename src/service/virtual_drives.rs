//! The virtual SCSI drives: units served to this kernel and linked to it, and taken away in order.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use sealtape_drivers::tcmu::{DEFAULT_HBA, Lun, Server, UnitConfig, remove_leftovers};

use super::data_path::{Drives, VirtualUnit};

/// How long the host's drivers may take to give a new drive its nodes.
const LONGEST_BINDING: Duration = Duration::from_secs(10);

/// All virtual drives of this service.
pub struct VirtualDrives {
    served: Vec<(Server, Option<Lun>)>,
}

impl VirtualDrives {
    /// Serves every drive that is configured so, and links it to this kernel. What a killed service left under the same names is
    /// taken over; what it left under others is removed.
    ///
    /// # Errors
    /// When modules are missing or the kernel refuses; what was made before is removed.
    pub fn start(drives: &Drives) -> anyhow::Result<Self> {
        let units = drives.units();
        let mut started = Self { served: Vec::new() };
        let adapter = PathBuf::from(format!("/sys/kernel/config/target/core/user_{DEFAULT_HBA}"));
        if units.is_empty() && !adapter.exists() {
            return Ok(started); // Nothing is wanted, and nothing was left: a machine without the modules is as good.
        }
        let leftovers = remove_leftovers(DEFAULT_HBA, |found| units.iter().any(|unit| unit.name == found))
            .context("what a killed service left of its virtual drives cannot be looked for")?;
        for name in &leftovers.removed {
            tracing::info!(drive = %name, "a virtual drive that is not configured any more was removed");
        }
        for error in &leftovers.failures {
            tracing::warn!(%error, "what a killed service left of its virtual drives could not be removed whole");
        }
        for unit in &units {
            match serve(unit).with_context(|| format!("drive {} cannot be shown as a virtual SCSI drive", unit.name)) {
                Ok((server, lun)) => {
                    if let Some(lun) = &lun {
                        announce(drives, &unit.name, lun);
                    }
                    started.served.push((server, lun));
                }
                Err(error) => {
                    if let Err(error) = started.stop() {
                        tracing::warn!("{error:#}");
                    }
                    return Err(error);
                }
            }
        }
        Ok(started)
    }

    /// Takes the drives away from the host, then ends their service.
    ///
    /// # Errors
    /// The first step that failed; all others were taken nevertheless.
    pub fn stop(self) -> anyhow::Result<()> {
        let mut first = Ok(());
        for (server, lun) in self.served {
            let name = server.name().to_owned();
            let unlinked = lun.map_or(Ok(()), Lun::unlink).map_err(anyhow::Error::from);
            let stopped = server.stop().map_err(anyhow::Error::from);
            let result = unlinked
                .and(stopped)
                .with_context(|| format!("the virtual drive {name} could not be removed in order"));
            if first.is_ok() {
                first = result;
            } else if let Err(error) = result {
                tracing::error!("{error:#}");
            }
        }
        first
    }
}

fn serve(unit: &VirtualUnit) -> anyhow::Result<(Server, Option<Lun>)> {
    let mut config = UnitConfig::new(&unit.name, &unit.serial);
    config.max_transfer = config.max_transfer.max(unit.max_transfer as usize);
    // Two commands of the longest kind: one is served while the next one comes.
    config.data_area_mib = config.data_area_mib.max((unit.max_transfer >> 20) * 2);
    let served = Box::new(unit.unit.clone());
    if unit.local {
        let (server, lun) = Server::start_linked(&config, served)?;
        return Ok((server, Some(lun)));
    }
    let server = Server::start(&config, served)?;
    tracing::info!(drive = %unit.name, backstore = %format!("user_{DEFAULT_HBA}/{}", unit.name), "virtual drive, to be exported");
    Ok((server, None))
}

/// Tells which nodes the host's drivers gave the drive; they come a moment after the link.
fn announce(drives: &Drives, name: &str, lun: &Lun) {
    let begun = Instant::now();
    loop {
        match lun.host_devices() {
            Ok(devices) => {
                if let Some(tape) = &devices.tape {
                    let node = |prefix: &str| PathBuf::from(format!("/dev/{prefix}{tape}"));
                    drives.linked(name, node(""), node("n"));
                    let generic = devices.generic.as_deref().unwrap_or("none");
                    tracing::info!(drive = %name, address = %lun.address(), node = %format!("/dev/n{tape}"), generic, "virtual drive");
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(drive = %name, %error, "the nodes of the virtual drive cannot be found");
                return;
            }
        }
        if begun.elapsed() > LONGEST_BINDING {
            tracing::warn!(drive = %name, address = %lun.address(), "the virtual drive has no tape node: is the module st loaded? (modprobe st)");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
