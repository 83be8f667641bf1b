//! Refusals and failures as operators and scripts see them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure: stable, for scripts. Each code has one exit status, see `docs/cli.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request makes no sense: malformed, or a value out of range.
    BadRequest,
    /// Client and service speak different versions of the protocol.
    Version,
    /// The user may not ask for this.
    NotPermitted,
    /// No drive, volume or pool of this name.
    Unknown,
    /// Refused by the key authority or by policy.
    Refused,
    /// A tag, a count or a hash is wrong: what stands there is not what was written.
    Integrity,
    /// The drive is used by a host or by another operation.
    Busy,
    /// There is no medium, or it is not in a state for this (not blank, clear, write protected, read-only).
    Medium,
    /// The drive or the file behind it failed.
    Drive,
    /// The service, or the key authority behind it, does not answer.
    NotRunning,
    /// The configuration is refused.
    Configuration,
    /// Stopped because the client asked for it, or went away.
    Cancelled,
    /// Anything else, a bug included.
    Failed,
    /// A code of a newer version.
    #[serde(other)]
    Other,
}

/// A refusal or failure: what happened, to which volume or drive, and what to do next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ControlError {
    /// What kind.
    pub code: ErrorCode,
    /// What happened; names the volume, drive or file. Never a secret, never record bytes.
    pub message: String,
    /// What to do next.
    pub mend: String,
}

impl ControlError {
    /// An error of a kind.
    pub fn new(code: ErrorCode, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { code, message: message.into(), mend: mend.into() }
    }

    /// No drive of this name among those that there are.
    pub fn unknown_drive(drive: &str, known: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        let known: Vec<String> = known.into_iter().map(|name| name.to_string()).collect();
        let mend = match known.is_empty() {
            true => "the configuration has no [[drive]]; add one to sealtape.toml and restart the service".to_owned(),
            false => format!("the drives are: {}", known.join(", ")),
        };
        Self::new(ErrorCode::Unknown, format!("there is no drive \"{drive}\""), mend)
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.mend)
    }
}

impl std::error::Error for ControlError {}
