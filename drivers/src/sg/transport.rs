//! What carries a command to a drive.

use std::io;
use std::time::Duration;

use crate::scsi::Completion;

/// The data of a command.
#[derive(Debug)]
pub enum Data<'a> {
    /// None.
    None,
    /// From the drive.
    In(&'a mut [u8]),
    /// To the drive.
    Out(&'a [u8]),
}

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Status and sense.
    pub completion: Completion,
    /// How many bytes of data were moved (the length less the residue).
    pub transferred: usize,
}

/// The way to one drive. One command at a time.
pub trait Transport: Send {
    /// Executes a command and waits for it, `limit` at most.
    ///
    /// # Errors
    /// When the command did not reach the drive, or its answer did not come back (host adapter, time-out): what the drive
    /// did with it, and where it stands, is unknown.
    fn execute(&mut self, cdb: &[u8], data: Data<'_>, limit: Duration) -> io::Result<Answer>;

    /// Longest data of one command, in bytes.
    fn largest_transfer(&self) -> usize;

    /// How an operator names it: `/dev/sg3`.
    fn name(&self) -> &str;
}

impl Data<'_> {
    /// The same data, for sending a command once more.
    pub fn again(&mut self) -> Data<'_> {
        match self {
            Self::None => Data::None,
            Self::In(buffer) => Data::In(buffer),
            Self::Out(bytes) => Data::Out(bytes),
        }
    }
}
