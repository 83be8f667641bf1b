//! What can go wrong between a unit and the kernel, and what mends it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::RingError;

/// Why a virtual drive cannot be served, linked or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TcmuError {
    /// A kernel module is not there.
    #[error(
        "the kernel has no {module}: `modprobe target_core_user tcm_loop` as root, or load them at boot (modules-load.d)"
    )]
    Module {
        /// Which one.
        module: &'static str,
    },
    /// configfs is not mounted and cannot be.
    #[error("configfs cannot be mounted on {}: {source} (is the service root, or has CAP_SYS_ADMIN?)", path.display())]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder of configfs, sysfs or /dev.
    #[error("{} cannot be {action}: {source}", path.display())]
    File {
        /// What was tried: `written "1"`, `made`, `removed`, `read`, `opened`.
        action: String,
        /// On which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that the kernel or its control files would misread.
    #[error("{what} {value:?} cannot be used: {why}")]
    Name {
        /// Which name.
        what: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The unit is being served by another process.
    #[error("virtual drive {unit} is served by another process already ({} is open)", node.display())]
    Served {
        /// Its name.
        unit: String,
        /// The node.
        node: PathBuf,
    },
    /// There is a device of that name that is not ours.
    #[error("{} belongs to another program (its configuration is {found:?}): give the unit another name or HBA number", path.display())]
    Foreign {
        /// The device in configfs.
        path: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// A link keeps a device.
    #[error("virtual drive {unit} is still linked at {}: initiators are told BUSY until it is served again; remove the link, then the drive", link.display())]
    Linked {
        /// The unit's name.
        unit: String,
        /// The link in configfs.
        link: PathBuf,
    },
    /// No uio device for our device.
    #[error(
        "no uio device is named {name:?} under /sys/class/uio (the kernel did not make it, or sysfs is not mounted)"
    )]
    NoUio {
        /// The name looked for.
        name: String,
    },
    /// The ring cannot be served.
    #[error("virtual drive {unit}: {source}")]
    Ring {
        /// The unit's name.
        unit: String,
        /// Why.
        source: RingError,
    },
    /// The kernel did not make the SCSI device of a link.
    #[error("the kernel made no SCSI device for {} within {seconds} s (look for the reason in its log)", path.display())]
    NoScsiDevice {
        /// The link.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The thread that serves a unit is gone.
    #[error("the thread that served virtual drive {unit} {how}")]
    Thread {
        /// The unit's name.
        unit: String,
        /// How it ended.
        how: String,
    },
}

impl TcmuError {
    pub(super) fn file(action: impl Into<String>, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::File { action: action.into(), path: path.into(), source: source.into() }
    }
}

/// The steps of an orderly removal that failed, in their order; the others were carried out.
#[derive(Debug)]
pub struct Failures(pub Vec<TcmuError>);

impl Failures {
    /// `Ok` when there was none.
    pub(super) fn check(failures: Vec<TcmuError>) -> Result<(), Self> {
        if failures.is_empty() { Ok(()) } else { Err(Self(failures)) }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.0.iter().enumerate() {
            write!(f, "{}{failure}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Failures {}
