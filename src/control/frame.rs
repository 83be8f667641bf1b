//! Lines of the control protocol, and their limits.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ControlError, DriveStatus, ErrorCode, LabelOrder, LabelReport, Progress, VerifyReport};

/// Version of the protocol.
pub const VERSION: u32 = 1;
/// Longest request, the newline included.
pub const LONGEST_REQUEST: usize = 64 * 1024;
/// Longest reply, the newline included.
pub const LONGEST_REPLY: usize = 4 * 1024 * 1024;
/// A working server sends a line at least this often.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// A client gives up when it has heard nothing for so long.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Every drive.
    Drives {},
    /// One drive.
    Drive {
        /// Its name.
        drive: String,
    },
    /// Load.
    Load {
        /// The drive.
        drive: String,
        /// The image file to insert, as an absolute path.
        cartridge: Option<PathBuf>,
    },
    /// Unload.
    Unload {
        /// The drive.
        drive: String,
    },
    /// Label.
    Label {
        /// The drive.
        drive: String,
        /// The order.
        order: LabelOrder,
    },
    /// Verify.
    Verify {
        /// The drive.
        drive: String,
    },
    /// Acknowledge.
    Acknowledge {
        /// The drive.
        drive: String,
    },
}

/// What a request that was done gives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To `drives`.
    Drives(Vec<DriveStatus>),
    /// To `drive`, `load`, `unload` and `acknowledge`.
    Drive(Box<DriveStatus>),
    /// To `label`.
    Labelled(LabelReport),
    /// To `verify`.
    Verified(VerifyReport),
}

/// A line from the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Still at it.
    Working(Option<Progress>),
    /// Done.
    Done(Answer),
    /// Not done.
    Failed(ControlError),
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// A line with its newline.
pub fn encode<T: Serialize>(body: &T, limit: usize) -> Result<Vec<u8>, ControlError> {
    let mut line = serde_json::to_vec(&Line { version: VERSION, body }).map_err(|e| {
        ControlError::new(
            ErrorCode::Failed,
            format!("a control message cannot be written as JSON: {e}"),
            "report this as a bug",
        )
    })?;
    line.push(b'\n');
    match line.len() <= limit {
        true => Ok(line),
        false => Err(too_long(limit)),
    }
}

/// A line, with or without its newline. The version is looked at before anything else.
pub fn decode<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Result<T, ControlError> {
    let wrong = |e: serde_json::Error| {
        ControlError::new(
            ErrorCode::BadRequest,
            format!("this is no line of control protocol version {VERSION}: {e}"),
            "use the sealtape command of the same version as the service",
        )
    };
    let VersionOnly { version } = serde_json::from_slice(line).map_err(wrong)?;
    if version != VERSION {
        return Err(ControlError::new(
            ErrorCode::Version,
            format!("the other end speaks version {version} of the control protocol, this end version {VERSION}"),
            "bring command and service to the same version, and restart the service",
        ));
    }
    serde_json::from_slice::<Line<T>>(line).map(|line| line.body).map_err(wrong)
}

/// A line is longer than its limit.
pub(super) fn too_long(limit: usize) -> ControlError {
    ControlError::new(
        ErrorCode::BadRequest,
        format!("a control message is longer than {limit} bytes"),
        "ask for less at once; if this was an ordinary command, report it as a bug",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_stable() {
        let request = Request::Load { drive: "a".into(), cartridge: None };
        let line = encode(&request, LONGEST_REQUEST).unwrap();
        assert_eq!(line, b"{\"version\":1,\"op\":\"load\",\"drive\":\"a\",\"cartridge\":null}\n");
        assert_eq!(decode::<Request>(&line).unwrap(), request);
        let failed = Reply::Failed(ControlError::new(ErrorCode::Busy, "what", "mend"));
        let line = encode(&failed, LONGEST_REPLY).unwrap();
        assert_eq!(line, b"{\"version\":1,\"failed\":{\"code\":\"busy\",\"message\":\"what\",\"mend\":\"mend\"}}\n");
        assert_eq!(decode::<Reply>(&line).unwrap(), failed);
    }

    #[test]
    fn another_version_is_named_before_its_content_is_looked_at() {
        let error = decode::<Request>(br#"{"version":2,"op":"dance","with":[]}"#).unwrap_err();
        assert_eq!(error.code, ErrorCode::Version);
        assert!(error.message.contains("version 2"), "{error}");
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for line in [
            &b""[..],
            b"{}",
            b"null",
            b"{\"version\":1}",
            b"{\"version\":1,\"op\":\"dance\"}",
            b"{\"version\":1,\"op\":\"drive\"}",
            b"{\"version\":1,\"op\":\"drive\",\"drive\":\"a\",\"more\":1}",
            b"\xff\xfe",
        ] {
            assert_eq!(decode::<Request>(line).unwrap_err().code, ErrorCode::BadRequest, "{}", line.escape_ascii());
        }
        let long = Request::Drive { drive: "x".repeat(LONGEST_REQUEST) };
        assert!(encode(&long, LONGEST_REQUEST).is_err());
    }

    #[test]
    fn an_error_code_of_a_newer_version_is_still_an_error() {
        let line = br#"{"version":1,"failed":{"code":"eclipse","message":"m","mend":"n"}}"#;
        let Reply::Failed(error) = decode(line).unwrap() else { panic!("not an error") };
        assert_eq!(error.code, ErrorCode::Other);
    }
}
