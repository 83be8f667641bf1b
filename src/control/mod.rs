//! The data path's control protocol: what operators ask of `sealtaped`, and what it tells them.
//!
//! A connection to `HOME/run/data.sock` carries JSON lines. The client sends one request at a time; the server
//! answers with any number of `working` lines (progress, and a sign of life at least every
//! [`frame::SIGN_OF_LIFE`]), then one `done` or `failed` line. Every line carries the protocol's version, has a
//! limit to its length, and the whole exchange has deadlines. Who the client is comes from the kernel (peer
//! credentials); no secret crosses this socket.
//!
//! There is no logic of the product here: [`server`] calls a [`DataPath`], [`client`] is what the CLI uses.

pub mod client;
mod error;
pub mod frame;
mod observer;
mod report;
pub mod server;
mod status;

use std::path::Path;

pub use error::{ControlError, ErrorCode};
pub use observer::Observer;
pub use report::{
    EndOfData, Fault, LabelOrder, LabelReport, Overwrite, PartitionLabelled, PartitionVerified, Progress, ProgressUnit,
    VerifyReport,
};
pub use status::{
    Counters, DriveState, DriveStatus, LastError, Medium, MediumKind, Nodes, Notice, PositionStatus, Volume, Window,
};

/// What the data path does for its operators. Calls block; each runs on a thread of its own, several at a time.
///
/// A call for a drive that is busy answers [`ErrorCode::Busy`] at once instead of waiting without a limit.
pub trait DataPath: Send + Sync {
    /// Every drive of the configuration, in its order.
    fn drives(&self) -> Vec<DriveStatus>;

    /// One drive.
    fn drive(&self, drive: &str) -> Result<DriveStatus, ControlError>;

    /// Loads the cartridge that is in the drive, or inserts and loads `cartridge` (an image file) where
    /// the back end can. Returns the drive as it stands afterwards.
    fn load(&self, drive: &str, cartridge: Option<&Path>, observer: &Observer) -> Result<DriveStatus, ControlError>;

    /// Synchronises and unloads. Refused, and the medium stays, when records cannot be synchronised.
    fn unload(&self, drive: &str, observer: &Observer) -> Result<DriveStatus, ControlError>;

    /// Labels the medium that is in the drive, and reads the label back.
    fn label(&self, drive: &str, order: &LabelOrder, observer: &Observer) -> Result<LabelReport, ControlError>;

    /// Reads and verifies every record of the volume; the host is kept away meanwhile. Returns a report, also when
    /// faults were found; an error means that the volume could not be verified. Stops early, with
    /// [`ErrorCode::Cancelled`], once [`Observer::cancelled`].
    fn verify(&self, drive: &str, observer: &Observer) -> Result<VerifyReport, ControlError>;

    /// The operator has seen why the volume is read-only: lifts the block where policy allows that.
    fn acknowledge(&self, drive: &str) -> Result<DriveStatus, ControlError>;
}
