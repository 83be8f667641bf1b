//! How hosts reach a drive: nodes of a folder, or a virtual SCSI drive. The operator's work waits for both in the same way.

use std::sync::Arc;

use sealtape_drivers::scsi::LogicalUnit;

use crate::control::{ControlError, ErrorCode};
use crate::unit::scsi::{RemovalPrevented, SharedUnit};
use crate::unit::st::{Activity, Counters, InUse, StNode};

/// One drive's front end.
pub(super) enum Front {
    /// `stN` and `nstN` in the folder of nodes.
    Nodes(Arc<StNode>),
    /// A virtual SCSI drive.
    Scsi(SharedUnit),
}

/// What a front end is doing. Never waits for the drive.
pub(super) struct FrontStatus {
    /// The service itself is at work.
    pub(super) service: bool,
    /// A host uses it.
    pub(super) in_use: bool,
    /// The process that has the node open, where that is known.
    pub(super) host_pid: Option<u32>,
    /// What went over it.
    pub(super) counters: Counters,
    /// The last failure, in words.
    pub(super) last_error: Option<String>,
}

impl Front {
    /// Uses the drive while no host does, in a way that may leave another medium in it.
    pub(super) fn idle<R>(&self, drive: &str, serve: impl FnOnce() -> R) -> Result<R, ControlError> {
        match self {
            Self::Nodes(node) => node.with_idle_drive(|_| serve()).map_err(|in_use| node_in_use(drive, in_use)),
            Self::Scsi(unit) => unit.with_idle_drive(|_| serve()).map_err(|prevented| unit_in_use(drive, prevented)),
        }
    }

    /// Uses the medium while no host does, and puts it back where it stood.
    pub(super) fn idle_medium<R>(&self, drive: &str, serve: impl FnOnce() -> R) -> Result<R, ControlError> {
        match self {
            Self::Nodes(node) => node.with_idle_medium(|_| serve()).map_err(|in_use| node_in_use(drive, in_use)),
            Self::Scsi(unit) => unit.with_idle_medium(|_| serve()).map_err(|prevented| unit_in_use(drive, prevented)),
        }
    }

    /// The front end is taken down: what a host had set ends with it, the prevention of removal above all.
    pub(super) fn host_is_gone(&self) {
        match self {
            Self::Nodes(_) => {} // A node has nothing of a host's once it is closed.
            Self::Scsi(unit) => unit.clone().reset_by_transport(),
        }
    }

    pub(super) fn status(&self) -> FrontStatus {
        match self {
            Self::Nodes(node) => {
                let status = node.status();
                FrontStatus {
                    service: status.activity == Activity::Service,
                    in_use: status.opener.is_some(),
                    host_pid: status.opener.map(|opener| opener.pid),
                    counters: status.counters,
                    last_error: status.last_error,
                }
            }
            Self::Scsi(unit) => {
                let status = unit.status();
                FrontStatus {
                    service: status.service,
                    in_use: status.executing || status.removal_prevented,
                    host_pid: None,
                    counters: status.counters,
                    last_error: status.last_error,
                }
            }
        }
    }
}

fn node_in_use(drive: &str, in_use: InUse) -> ControlError {
    ControlError::new(
        ErrorCode::Busy,
        format!("drive {drive}: process {} has its node open", in_use.pid),
        "wait until that program has closed the node, or stop it",
    )
}

fn unit_in_use(drive: &str, _: RemovalPrevented) -> ControlError {
    ControlError::new(
        ErrorCode::Busy,
        format!("drive {drive}: the host has prevented the removal of the medium"),
        "wait until the backup program is done, or unlock the drive on the host: mt -f NODE unlock",
    )
}
