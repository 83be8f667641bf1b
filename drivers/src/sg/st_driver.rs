//! Keeping the kernel's `st` off a drive: unbound from the device, or its node held open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::device::ScsiAddress;
use super::owner_record::system;
use super::ownership::OwnershipError;

/// The driver `st` in sysfs, and its nodes.
#[derive(Clone, Debug)]
pub struct StDriver {
    sysfs: PathBuf,
    dev: PathBuf,
}

impl Default for StDriver {
    fn default() -> Self {
        Self::at("/sys", "/dev")
    }
}

/// How `st` is kept off.
#[derive(Debug)]
pub(super) enum StHold {
    /// It had not taken the drive, and is not given it.
    NotBound,
    /// It was unbound from the device here, by us.
    Unbound(ScsiAddress),
    /// Its node is open, which it allows once.
    HeldOpen { node: String, _file: File },
}

impl StHold {
    pub(super) fn unbound(&self) -> Option<ScsiAddress> {
        match self {
            Self::Unbound(address) => Some(*address),
            Self::NotBound | Self::HeldOpen { .. } => None,
        }
    }
}

impl StDriver {
    /// With other roots than `/sys` and `/dev`.
    pub fn at(sysfs: impl Into<PathBuf>, dev: impl Into<PathBuf>) -> Self {
        Self { sysfs: sysfs.into(), dev: dev.into() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.sysfs.join("bus/scsi/drivers/st").join(name)
    }

    fn is_bound(&self, address: ScsiAddress) -> bool {
        self.file(&address.to_string()).exists()
    }

    /// Takes `st` off the device. `unbound_before`: what a crashed service had unbound and never gave back.
    pub(super) fn hold(
        &self,
        address: ScsiAddress,
        unbound_before: Option<ScsiAddress>,
    ) -> Result<StHold, OwnershipError> {
        if !self.is_bound(address) {
            return Ok(if unbound_before == Some(address) { StHold::Unbound(address) } else { StHold::NotBound });
        }
        // Open while it is unbound, so that nobody opens it between the check and the unbinding.
        let node = self.node(address);
        let file = match &node {
            Some(node) => open_alone(node)?,
            None => None,
        };
        match self.tell("unbind", address) {
            Ok(()) if self.is_bound(address) => {
                let text = format!("unbinding st from {address}: it is still bound");
                Err(system(&text)(io::Error::other("the kernel took the request and did nothing")))
            }
            Ok(()) => Ok(StHold::Unbound(address)),
            Err(error) => match (error.raw_os_error(), node, file) {
                (Some(libc::EACCES | libc::EPERM | libc::EROFS), Some(node), Some(file)) => {
                    Ok(StHold::HeldOpen { node: node.display().to_string(), _file: file })
                }
                (_, _, _) => Err(system(&format!("unbinding st from {address}"))(error)),
            },
        }
    }

    pub(super) fn give_back(&self, hold: StHold) -> Result<(), OwnershipError> {
        let StHold::Unbound(address) = hold else { return Ok(()) };
        // Somebody was faster, or the device is gone: either way there is nothing to bind.
        if self.is_bound(address) || !self.sysfs.join("bus/scsi/devices").join(address.to_string()).exists() {
            return Ok(());
        }
        let text = format!("binding st to {address} again (`echo {address} > {}`)", self.file("bind").display());
        self.tell("bind", address).map_err(system(&text))
    }

    fn tell(&self, what: &str, address: ScsiAddress) -> io::Result<()> {
        // One write: the kernel takes each as a request of its own.
        OpenOptions::new().write(true).open(self.file(what))?.write_all(address.to_string().as_bytes())
    }

    /// The node that does not rewind: opening and closing it moves nothing.
    fn node(&self, address: ScsiAddress) -> Option<PathBuf> {
        let folder = self.sysfs.join("bus/scsi/devices").join(address.to_string()).join("scsi_tape");
        let names = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let plain = |name: &String| {
            name.strip_prefix("nst")
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        names.take(64).find(plain).map(|name| self.dev.join(name))
    }
}

/// `st` allows one opener: who gets in knows that nobody else is. `None`: there is no node that anybody could have opened.
fn open_alone(node: &Path) -> Result<Option<File>, OwnershipError> {
    match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(node) {
        Ok(file) => Ok(Some(file)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EBUSY) => Err(OwnershipError::InUse { node: node.display().to_string() }),
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => Ok(None),
            _ => Err(system(&node.display().to_string())(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        folder: tempfile::TempDir,
    }

    impl Fake {
        fn new(bound: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let sys = folder.path().join("sys/bus/scsi");
            fs::create_dir_all(sys.join("drivers/st")).unwrap();
            fs::create_dir_all(sys.join("devices/3:0:0:0/scsi_tape/nst0")).unwrap();
            fs::create_dir_all(sys.join("devices/3:0:0:0/scsi_tape/nst0a")).unwrap();
            for name in ["bind", "unbind"] {
                fs::write(sys.join("drivers/st").join(name), "").unwrap();
            }
            if bound {
                fs::write(sys.join("drivers/st/3:0:0:0"), "").unwrap();
            }
            Self { folder }
        }

        fn driver(&self) -> StDriver {
            StDriver::at(self.folder.path().join("sys"), self.folder.path().join("dev"))
        }

        fn told(&self, name: &str) -> String {
            fs::read_to_string(self.driver().file(name)).unwrap()
        }
    }

    fn address() -> ScsiAddress {
        "3:0:0:0".parse().unwrap()
    }

    #[test]
    fn a_drive_that_st_does_not_have_is_not_given_to_it() {
        let fake = Fake::new(false);
        let hold = fake.driver().hold(address(), None).unwrap();
        assert!(matches!(hold, StHold::NotBound));
        fake.driver().give_back(hold).unwrap();
        assert_eq!(fake.told("bind"), "");
    }

    #[test]
    fn what_a_crashed_service_unbound_is_bound_again() {
        let fake = Fake::new(false);
        let hold = fake.driver().hold(address(), Some(address())).unwrap();
        assert_eq!(hold.unbound(), Some(address()));
        fake.driver().give_back(hold).unwrap();
        assert_eq!(fake.told("bind"), "3:0:0:0");
    }

    #[test]
    fn unbinding_that_does_nothing_is_an_error() {
        // A plain file takes the request, and the device stays bound.
        let fake = Fake::new(true);
        let error = fake.driver().hold(address(), None).unwrap_err().to_string();
        assert!(error.contains("still bound") && error.contains("3:0:0:0"), "{error}");
        assert_eq!(fake.told("unbind"), "3:0:0:0");
    }
}
