//! How a command ends when it does not succeed.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use sealtape_drivers::image::ImageError;
use sealtape_kms::client::ClientError;
use sealtape_kms::protocol::{Refusal, RefusalCode};

use crate::control::{ControlError, ErrorCode};
use crate::service::config::ConfigError;
use crate::service::home::HomeError;

/// Exit codes. Stable: scripts decide by them. 0 is success.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// 1: anything that has no code of its own.
    Failed,
    /// 2: the command line makes no sense.
    Usage,
    /// 3: refused by the key authority or by policy.
    Refused,
    /// 4: what stands there is not what was written.
    Integrity,
    /// 5: a service does not run, or does not answer.
    NotRunning,
    /// 6: drive, file or service is in use.
    Busy,
    /// 7: configuration or home folder are refused.
    Configuration,
    /// 8: no medium, or it is not in a state for this.
    Medium,
    /// 9: the drive or a file failed.
    Drive,
    /// 10: no drive, volume, pool or file of this name.
    Unknown,
    /// 11: this user may not do that.
    NotPermitted,
    /// 12: stopped before its end.
    Stopped,
    /// 141: nobody reads the output any more (as a process that SIGPIPE ends).
    BrokenPipe,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Integrity => 4,
            Self::NotRunning => 5,
            Self::Busy => 6,
            Self::Configuration => 7,
            Self::Medium => 8,
            Self::Drive => 9,
            Self::Unknown => 10,
            Self::NotPermitted => 11,
            Self::Stopped => 12,
            Self::BrokenPipe => 141,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What happened, to which thing, and what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What happened, to which volume, drive or file.
    pub message: String,
    /// What to do next; empty where the message says it.
    pub mend: String,
}

impl Failure {
    /// A failure with its mend.
    pub fn new(exit: Exit, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { exit, message: message.into(), mend: mend.into() }
    }

    /// Writing to stdout failed. That nobody reads any more is no message: the reader had enough.
    pub fn stdout(error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::new(Exit::BrokenPipe, "nobody reads the output any more", ""),
            _ => Self::new(
                Exit::Drive,
                format!("writing to standard output failed: {error}"),
                "make room where the output goes, and run the command again",
            ),
        }
    }

    /// An operation on a file failed.
    pub fn file(what: &str, path: &Path, error: &std::io::Error) -> Self {
        let (exit, mend) = match error.kind() {
            ErrorKind::NotFound => (Exit::Unknown, "check the path"),
            ErrorKind::PermissionDenied => {
                (Exit::NotPermitted, "run this as a user who may, or correct the permissions")
            }
            ErrorKind::AlreadyExists => (Exit::Failed, "choose another name, or remove what is there"),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (Exit::Drive, "make room, and run the command again"),
            _ => (Exit::Drive, "check the file and its file system, and run the command again"),
        };
        Self::new(exit, format!("{what} {} failed: {error}", path.display()), mend)
    }

    /// The same failure, its message beginning with the thing that it happened to.
    #[must_use]
    pub fn of(mut self, thing: &str) -> Self {
        self.message = format!("{thing}: {}", self.message);
        self
    }

    /// The error as a JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": { "code": self.exit, "exit": self.exit.code(), "message": self.message, "mend": self.mend }
        })
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let exit = match error.code {
            ErrorCode::BadRequest => Exit::Usage,
            ErrorCode::NotPermitted => Exit::NotPermitted,
            ErrorCode::Unknown => Exit::Unknown,
            ErrorCode::Refused => Exit::Refused,
            ErrorCode::Integrity => Exit::Integrity,
            ErrorCode::Busy => Exit::Busy,
            ErrorCode::Medium => Exit::Medium,
            ErrorCode::Drive => Exit::Drive,
            ErrorCode::NotRunning => Exit::NotRunning,
            ErrorCode::Configuration => Exit::Configuration,
            ErrorCode::Cancelled => Exit::Stopped,
            ErrorCode::Version | ErrorCode::Failed | ErrorCode::Other => Exit::Failed,
        };
        Self::new(exit, error.message, error.mend)
    }
}

/// Splits "what happened; what to do" of the errors that come as one text.
pub(super) fn split(exit: Exit, text: &str) -> Failure {
    match text.rsplit_once("; ") {
        Some((message, mend)) => Failure::new(exit, message, mend),
        None => Failure::new(exit, text, ""),
    }
}

impl From<std::io::Error> for Failure {
    /// For failures of the system that are about no file: those say [`Failure::file`].
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, format!("the system refused: {error}"), "check the limits of this user and machine")
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unavailable { socket, source } => {
                let (exit, mend) = match source.kind() {
                    ErrorKind::PermissionDenied => (
                        Exit::NotPermitted,
                        "run this as root, as the service's user, or as a member of the operator group",
                    ),
                    _ => (
                        Exit::NotRunning,
                        "start it with: sealtape run (and check the home folder: --home DIR or $SEALTAPE_HOME)",
                    ),
                };
                let socket = socket.display();
                Self::new(
                    exit,
                    format!("the key authority (sealtape-keyd) does not answer at {socket}: {source}"),
                    mend,
                )
            }
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::Output(source) if source.kind() == ErrorKind::BrokenPipe => Self::stdout(&source),
            timeout @ ClientError::Timeout { .. } => split(Exit::NotRunning, &timeout.to_string()),
            output @ ClientError::Output(_) => {
                Self::new(Exit::Drive, output.to_string(), "make room, and run the command again")
            }
            other => split(Exit::Failed, &other.to_string()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal_exit(refusal.code), refusal.what, refusal.mend)
    }
}

fn refusal_exit(code: RefusalCode) -> Exit {
    match code {
        RefusalCode::BadRequest => Exit::Usage,
        RefusalCode::NotAllowed => Exit::NotPermitted,
        RefusalCode::UnknownVolume
        | RefusalCode::UnknownPool
        | RefusalCode::UnknownGeneration
        | RefusalCode::UnknownRequest
        | RefusalCode::UnknownPerson => Exit::Unknown,
        RefusalCode::TamperedBlob | RefusalCode::Damaged => Exit::Integrity,
        RefusalCode::Busy => Exit::Busy,
        RefusalCode::Internal => Exit::Failed,
        RefusalCode::Superseded
        | RefusalCode::VolumeState
        | RefusalCode::KeyExpired
        | RefusalCode::KeyEnded
        | RefusalCode::OtherCartridge
        | RefusalCode::UnitRestricted
        | RefusalCode::Ticket
        | RefusalCode::NotApproved
        | RefusalCode::LabelInUse
        | RefusalCode::WouldReplace
        | RefusalCode::TokenMissing
        | RefusalCode::PinLatched
        | RefusalCode::TokenHung
        | RefusalCode::KekMissing
        | RefusalCode::Token
        | RefusalCode::NotAnchored
        | RefusalCode::LogUnwritable => Exit::Refused,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        split(Exit::Configuration, &error.to_string())
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        split(Exit::Configuration, &error.to_string())
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let text = error.to_string();
        match error {
            ImageError::Io { what, name, source } => Self::file(what, name.as_ref(), &source),
            ImageError::Locked { .. } => split(Exit::Busy, &text),
            ImageError::NotAnImage { .. } => split(Exit::Medium, &text),
            ImageError::Damaged { .. } => split(Exit::Integrity, &text),
            ImageError::Options { .. } => split(Exit::Usage, &text),
        }
    }
}

/// Prints what clap has to say: help and version on stdout (0), errors of usage on stderr (2).
pub fn usage(error: &clap::Error) -> ExitCode {
    let wanted = !error.use_stderr();
    match error.print() {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Exit::BrokenPipe.into(),
        Ok(()) if wanted => ExitCode::SUCCESS,
        // Where even this cannot be printed, the code still tells.
        Ok(()) | Err(_) => Exit::Usage.into(),
    }
}
