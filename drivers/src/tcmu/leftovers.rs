//! What a killed service left in the kernel, and nobody serves any more.

use super::device::{self, Device, unit_of};
use super::{TcmuError, configfs, lun};

/// What was found of ours in the kernel.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Names of units that were removed, links and all.
    pub removed: Vec<String>,
    /// Names of units that a living process serves; they were left alone.
    pub served: Vec<String>,
    /// Steps that failed; the others were taken nevertheless.
    pub failures: Vec<TcmuError>,
}

/// Removes the units under HBA number `hba` that are Sealtape's, that nobody serves, and whose name `keep` does not claim: those
/// that the configuration has no more. Units to keep are taken over by [`Server::start`](super::Server::start) instead.
///
/// # Errors
/// When configfs is not there, or cannot be read.
pub fn remove_leftovers(hba: u32, keep: impl Fn(&str) -> bool) -> Result<Leftovers, TcmuError> {
    configfs::prepare("target_core_user")?;
    let mut found = Leftovers::default();
    for name in configfs::entries(&configfs::hba(hba))? {
        let path = configfs::device(hba, &name);
        if !path.is_dir() {
            continue;
        }
        match configfs::read(&path.join("attrib/dev_config")) {
            Ok(mark) if unit_of(&mark) == Some(&name) && !keep(&name) => match remove(hba, &name, &mark) {
                Ok(failures) => {
                    found.failures.extend(failures);
                    if !path.exists() {
                        tracing::info!(unit = name, "what was left of a virtual drive is removed");
                        found.removed.push(name);
                    }
                }
                Err(TcmuError::Served { .. }) => found.served.push(name),
                Err(error) => found.failures.push(error),
            },
            Ok(_) => {}
            Err(error) => found.failures.push(error),
        }
    }
    found.failures.extend(remove_empty_adapters()?);
    Ok(found)
}

fn remove(hba: u32, name: &str, mark: &str) -> Result<Vec<TcmuError>, TcmuError> {
    let path = configfs::device(hba, name);
    let mut failures = Vec::new();
    if device::is_enabled(&path)? {
        // The node is ours alone while it is open: nobody begins to serve meanwhile.
        let device = Device::attach(hba, name, mark)?;
        // Removing a link waits for the unit's answers, and nobody is going to give them.
        device.interrupt()?;
        for link in lun::links_to(&path)? {
            match lun::our_adapter(&link) {
                Some(adapter) => failures.extend(lun::remove(adapter)),
                None => failures.push(TcmuError::Linked { unit: name.to_owned(), link }),
            }
        }
    }
    failures.extend(device::remove(hba, name));
    Ok(failures)
}

/// Adapters of ours that lead nowhere: their service was killed before it had linked a unit.
fn remove_empty_adapters() -> Result<Vec<TcmuError>, TcmuError> {
    let loopback = configfs::loopback();
    let ours = configfs::entries(&loopback)?.into_iter().filter(|name| lun::is_ours(name));
    let empty = ours.map(|name| loopback.join(name)).filter(|adapter| lun::is_empty(adapter));
    Ok(empty.flat_map(|adapter| lun::remove(&adapter)).collect())
}
