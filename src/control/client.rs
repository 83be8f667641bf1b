//! The operators' end of the control socket: blocking, one request at a time.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::frame::{Answer, LONGEST_REPLY, LONGEST_REQUEST, LONGEST_SILENCE, Reply, Request, decode, encode, too_long};
use super::{ControlError, DriveStatus, ErrorCode, LabelOrder, LabelReport, Progress, VerifyReport};

/// A connection to a data path.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    socket: PathBuf,
}

impl Client {
    /// Connects to the control socket.
    pub fn connect(socket: &Path) -> Result<Self, ControlError> {
        let stream = UnixStream::connect(socket).map_err(|e| refused(socket, &e))?;
        let broken = |e| lost(socket, &e);
        stream.set_read_timeout(Some(LONGEST_SILENCE)).map_err(broken)?;
        stream.set_write_timeout(Some(LONGEST_SILENCE)).map_err(broken)?;
        Ok(Self { stream: BufReader::new(stream), socket: socket.to_path_buf() })
    }

    /// Every drive.
    pub fn drives(&mut self) -> Result<Vec<DriveStatus>, ControlError> {
        match self.call(&Request::Drives {}, &mut |_| {})? {
            Answer::Drives(drives) => Ok(drives),
            other => Err(unexpected(&other)),
        }
    }

    /// One drive.
    pub fn drive(&mut self, drive: &str) -> Result<DriveStatus, ControlError> {
        self.for_drive(&Request::Drive { drive: drive.to_owned() }, &mut |_| {})
    }

    /// Loads what is in the drive, or an image file.
    pub fn load(
        &mut self,
        drive: &str,
        cartridge: Option<&Path>,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<DriveStatus, ControlError> {
        let cartridge = cartridge.map(Path::to_path_buf);
        self.for_drive(&Request::Load { drive: drive.to_owned(), cartridge }, progress)
    }

    /// Unloads.
    pub fn unload(&mut self, drive: &str, progress: &mut dyn FnMut(&Progress)) -> Result<DriveStatus, ControlError> {
        self.for_drive(&Request::Unload { drive: drive.to_owned() }, progress)
    }

    /// Lifts a block that the operator has seen.
    pub fn acknowledge(&mut self, drive: &str) -> Result<DriveStatus, ControlError> {
        self.for_drive(&Request::Acknowledge { drive: drive.to_owned() }, &mut |_| {})
    }

    /// Labels.
    pub fn label(
        &mut self,
        drive: &str,
        order: LabelOrder,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<LabelReport, ControlError> {
        match self.call(&Request::Label { drive: drive.to_owned(), order }, progress)? {
            Answer::Labelled(report) => Ok(report),
            other => Err(unexpected(&other)),
        }
    }

    /// Verifies.
    pub fn verify(&mut self, drive: &str, progress: &mut dyn FnMut(&Progress)) -> Result<VerifyReport, ControlError> {
        match self.call(&Request::Verify { drive: drive.to_owned() }, progress)? {
            Answer::Verified(report) => Ok(report),
            other => Err(unexpected(&other)),
        }
    }

    fn for_drive(
        &mut self,
        request: &Request,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<DriveStatus, ControlError> {
        match self.call(request, progress)? {
            Answer::Drive(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    fn call(&mut self, request: &Request, progress: &mut dyn FnMut(&Progress)) -> Result<Answer, ControlError> {
        let line = encode(request, LONGEST_REQUEST)?;
        // A refusal may have been sent before the request was read: then the reply says more than the failed write.
        let sent = self.stream.get_mut().write_all(&line);
        loop {
            match (self.read_reply(), &sent) {
                (Ok(Reply::Working(report)), _) => {
                    if let Some(report) = report {
                        progress(&report);
                    }
                }
                (Ok(Reply::Done(answer)), Ok(())) => return Ok(answer),
                (Ok(Reply::Failed(error)), _) => return Err(error),
                (_, Err(e)) => return Err(lost(&self.socket, e)),
                (Err(e), Ok(())) => return Err(e),
            }
        }
    }

    fn read_reply(&mut self) -> Result<Reply, ControlError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LONGEST_REPLY as u64).read_until(b'\n', &mut line);
        match read.map_err(|e| lost(&self.socket, &e))? {
            LONGEST_REPLY if line.last() != Some(&b'\n') => Err(too_long(LONGEST_REPLY)),
            _ if line.last() == Some(&b'\n') => decode(&line),
            _ => Err(lost(&self.socket, &ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn refused(socket: &Path, error: &std::io::Error) -> ControlError {
    let (code, mend) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => (
            ErrorCode::NotRunning,
            "start it with: sealtape run (and check the home folder: --home DIR or $SEALTAPE_HOME)",
        ),
        ErrorKind::PermissionDenied => {
            (ErrorCode::NotPermitted, "run this as root, as the service's user, or as a member of the operator group")
        }
        _ => (ErrorCode::NotRunning, "check the service and its log"),
    };
    ControlError::new(code, format!("the data path (sealtaped) does not answer at {}: {error}", socket.display()), mend)
}

fn lost(socket: &Path, error: &std::io::Error) -> ControlError {
    let what = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!(
            "the data path (sealtaped) at {} has said nothing for {} s",
            socket.display(),
            LONGEST_SILENCE.as_secs()
        ),
        ErrorKind::UnexpectedEof => {
            format!("the data path (sealtaped) at {} closed the connection before it answered", socket.display())
        }
        _ => format!("the connection to the data path (sealtaped) at {} broke: {error}", socket.display()),
    };
    ControlError::new(
        ErrorCode::NotRunning,
        what,
        "look into the service's log; what it did is shown by: sealtape drive status",
    )
}

fn unexpected(answer: &Answer) -> ControlError {
    let kind = match answer {
        Answer::Drives(_) => "a list of drives",
        Answer::Drive(_) => "a drive",
        Answer::Labelled(_) => "a label report",
        Answer::Verified(_) => "a verification report",
    };
    let mend = "bring command and service to the same version, and restart the service";
    ControlError::new(ErrorCode::Version, format!("the data path answered with {kind}, which was not asked for"), mend)
}
