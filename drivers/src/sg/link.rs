//! Commands to the drive and their outcomes: time-outs by command, and what can be sent again.

use std::time::Duration;

use super::fault::{self, Intent};
use super::time_limits::TimeLimits;
use super::{Data, Transport};
use crate::medium::{DriveError, DriveErrorKind};
use crate::scsi::{Command, Sense, SenseKey, Status};

/// A command that was not executed, because of a harmless unit attention or a deferred error that was mended, is sent again this
/// often. A drive that has more to say than this is not to be trusted.
const RESENDS: u32 = 8;

/// What a drive answered: GOOD, or CHECK CONDITION with sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    pub(super) sense: Option<Sense>,
    pub(super) transferred: usize,
}

/// The way to one drive.
#[derive(Debug)]
pub(super) struct Link<T> {
    transport: T,
    pub(super) limits: TimeLimits,
    /// For messages: how an operator names the drive.
    pub(super) name: String,
}

impl<T: Transport> Link<T> {
    pub(super) fn new(transport: T) -> Self {
        let name = transport.name().to_owned();
        Self { transport, limits: TimeLimits::default(), name }
    }

    pub(super) fn transport(&self) -> &T {
        &self.transport
    }

    pub(super) fn into_transport(self) -> T {
        self.transport
    }

    pub(super) fn largest_transfer(&self) -> usize {
        self.transport.largest_transfer()
    }

    /// Sends a command. Sense that comes with it is the caller's to judge, but for what only delays the command.
    ///
    /// # Errors
    /// When there is no answer, or one with neither GOOD nor sense: kinds Transport, `ReservationConflict`, Hardware (busy).
    pub(super) fn send(&mut self, command: Command, mut data: Data<'_>) -> Result<Reply, DriveError> {
        let cdb = command.encode();
        let limit = self.limits.of(&command);
        let mut sent = 0;
        loop {
            sent += 1;
            let reply = self.once(&command, cdb.as_bytes(), data.again(), limit)?;
            match reply.sense {
                Some(sense) if sent <= RESENDS && only_delays(&sense) => {
                    tracing::info!(drive = %self.name, command = %doing(&command), %sense, "not executed, sent again");
                }
                Some(_) | None => return Ok(reply),
            }
        }
    }

    fn once(&mut self, command: &Command, cdb: &[u8], data: Data<'_>, limit: Duration) -> Result<Reply, DriveError> {
        let name = &self.name;
        let failed = |kind, what: &str| DriveError::new(kind, format!("{name}: {}: {what}", doing(command)));
        let answer = self.transport.execute(cdb, data, limit).map_err(|error| {
            DriveError::transport(
                format!("{name}: {}: the drive did not answer; where it stands is unknown", doing(command)),
                error,
            )
        })?;
        let transferred = answer.transferred;
        match (answer.completion.status, answer.completion.sense) {
            (Status::GOOD, _) => Ok(Reply { sense: None, transferred }),
            (Status::CHECK_CONDITION, Some(sense)) => Ok(Reply { sense: Some(sense), transferred }),
            (Status::CHECK_CONDITION, None) => {
                Err(failed(DriveErrorKind::Transport, "the drive failed it and did not say why (no sense data)"))
            }
            (Status::RESERVATION_CONFLICT, _) => Err(failed(
                DriveErrorKind::ReservationConflict,
                "another initiator has reserved the drive; end its use there",
            )),
            (Status::BUSY | Status::TASK_SET_FULL, _) => Err(failed(
                DriveErrorKind::Hardware,
                "the drive stays busy; try again, and reset it when it does not end",
            )),
            (status, _) => Err(failed(
                DriveErrorKind::Transport,
                &format!("the drive ended it with status {:02X}h; what it did is unknown", status.0),
            )),
        }
    }

    /// Sends a command that either works or does not: how many bytes came.
    ///
    /// # Errors
    /// Every sense but NO SENSE and RECOVERED ERROR.
    pub(super) fn ask(&mut self, command: Command, data: Data<'_>) -> Result<usize, DriveError> {
        let room = match &data {
            Data::In(buffer) => buffer.len(),
            Data::Out(bytes) => bytes.len(),
            Data::None => 0,
        };
        let reply = self.send(command, data)?;
        match reply.sense {
            Some(sense) if !fault::is_done(&sense) => Err(self.fault(&command, sense, Intent::Other)),
            Some(_) | None => Ok(reply.transferred.min(room)),
        }
    }

    /// Asks for data: what came of `allocation` bytes at most.
    pub(super) fn fetch(&mut self, command: Command, allocation: usize) -> Result<Vec<u8>, DriveError> {
        let mut bytes = vec![0; allocation];
        let came = self.ask(command, Data::In(&mut bytes))?;
        bytes.truncate(came);
        Ok(bytes)
    }

    /// As [`fetch`](Self::fetch); `None` when the drive does not have it.
    pub(super) fn fetch_if_told(&mut self, command: Command, allocation: usize) -> Result<Option<Vec<u8>>, DriveError> {
        match self.fetch(command, allocation) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if fault::is_unsupported(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn fault(&self, command: &Command, sense: Sense, intent: Intent) -> DriveError {
        fault::error(&self.name, &doing(command), sense, intent)
    }

    pub(super) fn nonsense(
        &self,
        command: &Command,
        what: impl std::fmt::Display,
        reply: Option<&Reply>,
    ) -> DriveError {
        fault::nonsense(&self.name, &doing(command), what, reply)
    }
}

/// The command was not executed, and nothing that its sender has to know has happened: a harmless unit attention, or a
/// deferred error that the drive mended by itself (SPC-4 4.5.7: the command with which it is told is not performed).
fn only_delays(sense: &Sense) -> bool {
    let mended = sense.flags.deferred && matches!(sense.key, SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR);
    mended || fault::is_harmless_attention(sense)
}

/// The command's name, as the standard prints it: `WRITE FILEMARKS`.
pub(super) fn doing(command: &Command) -> String {
    let debug = format!("{command:?}");
    let name = debug.split([' ', '{', '(']).next().unwrap_or_default();
    let mut text = String::with_capacity(name.len() + 8);
    for (at, c) in name.char_indices() {
        let starts_word = c.is_ascii_uppercase() && at > 0;
        if starts_word {
            text.push(' ');
        }
        text.push(c.to_ascii_uppercase());
    }
    text.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
}
