//! The thread of one unit: takes commands from the ring, lets the unit execute them, answers.

use std::any::Any;
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::device::Device;
use super::ring::{Next, Request, Ring};
use super::{RingError, TcmuError};
use crate::scsi::{AdditionalSense, Completion, DataIn, LogicalUnit, Sense, SenseKey, Status};

/// How often a broken ring is reset with no command answered in between, before it is given up.
const MOST_MENDINGS: u32 = 3;

/// `TCMU_TMR_LUN_RESET`, and the resets of a whole target, which reset its units.
const RESETS: [u8; 3] = [5, 6, 7];

/// The thread's state.
#[derive(Debug)]
pub(super) struct Worker {
    device: Device,
    attendant: Attendant,
    stop: PipeReader,
    mendings: u32,
}

enum Trouble {
    Ring(RingError),
    Node(TcmuError),
}

impl From<RingError> for Trouble {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl Worker {
    /// Serves `unit` on `ring` until the other end of `stop` is closed.
    pub(super) fn new(device: Device, ring: Ring, unit: GuardedUnit, room: usize, stop: PipeReader) -> Self {
        Self { device, attendant: Attendant::new(ring, unit, room), stop, mendings: 0 }
    }

    pub(super) fn run(mut self) -> Result<(), TcmuError> {
        loop {
            match self.serve() {
                Ok(()) => return Ok(()),
                Err(Trouble::Ring(error)) => self.mend(error)?,
                Err(Trouble::Node(error)) => return Err(error),
            }
        }
    }

    fn serve(&mut self) -> Result<(), Trouble> {
        loop {
            self.drain()?;
            if self.wait().map_err(Trouble::Node)? {
                // Whoever stops us has blocked the device: nothing new comes, and what came before is answered.
                return self.drain();
            }
        }
    }

    /// Answers all that is in the ring.
    fn drain(&mut self) -> Result<(), Trouble> {
        while self.attendant.step()? {
            self.mendings = 0;
            // The kernel looks at the answers when it is written to. After each: the next command may take minutes.
            let kick = (&self.device.node).write_all(&1_u32.to_ne_bytes());
            kick.map_err(|error| Trouble::Node(TcmuError::file("written", self.device.path.join("uio"), error)))?;
        }
        Ok(())
    }

    /// Waits for the kernel, or for being told to stop: `true`.
    fn wait(&self) -> Result<bool, TcmuError> {
        let failed = |error: io::Error| TcmuError::file("waited for", self.device.path.join("uio"), error);
        loop {
            let mut fds = [
                PollFd::new(self.device.node.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno.into())),
            }
            let [node, stop] = fds.map(|fd| fd.any().unwrap_or(true));
            if node {
                forget_events(&self.device.node).map_err(failed)?;
            }
            if node || stop {
                return Ok(stop);
            }
        }
    }

    /// Resets a ring that cannot be read any more: what is in it fails, and the unit hears of a reset.
    fn mend(&mut self, error: RingError) -> Result<(), TcmuError> {
        let unit = self.device.name.clone();
        tracing::error!(unit, %error, "the ring of a virtual drive is broken; it is reset");
        self.mendings += 1;
        self.device.interrupt()?;
        if self.mendings > MOST_MENDINGS {
            return Err(TcmuError::Ring { unit, source: error });
        }
        self.attendant.ring.restart().map_err(|source| TcmuError::Ring { unit, source })?;
        self.attendant.unit.reset();
        self.device.resume()
    }
}

impl Drop for Worker {
    /// However the thread ends: commands are told BUSY rather than left to wait for nobody.
    fn drop(&mut self) {
        if let Err(error) = self.device.block() {
            tracing::debug!(unit = self.device.name, %error, "a virtual drive that is served no longer is not blocked");
        }
    }
}

/// Reads the count of events: the node is not ready again until there is another one.
fn forget_events(mut node: &File) -> io::Result<()> {
    match node.read(&mut [0; 4]) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Ring, unit and the buffers between them.
#[derive(Debug)]
struct Attendant {
    ring: Ring,
    unit: GuardedUnit,
    request: Request,
    /// One buffer serves both ways: a command has data one way only.
    data: Vec<u8>,
}

impl Attendant {
    fn new(ring: Ring, unit: GuardedUnit, room: usize) -> Self {
        Self { ring, unit, request: Request::default(), data: vec![0; room] }
    }

    /// Does what is next in the ring; `false` when nothing is.
    fn step(&mut self) -> Result<bool, RingError> {
        match self.ring.next(&mut self.request)? {
            Next::Empty => Ok(false),
            Next::TaskManagement { function, commands } => {
                tracing::info!(unit = self.unit.name, function, commands, "task management");
                if RESETS.contains(&function) {
                    // The kernel's target gives every initiator a unit attention of its own.
                    self.unit.guard(|unit| unit.reset_by_transport());
                }
                Ok(true)
            }
            Next::Command => self.command().map(|()| true),
        }
    }

    fn command(&mut self) -> Result<(), RingError> {
        let Self { ring, unit, request, data } = self;
        let length = request.data_length;
        if data.len() < length {
            // Bounded by the data area, which the ring checked.
            data.resize(length, 0);
        }
        let Some(data) = data.get_mut(..length) else { return Ok(()) };
        let outward = sends_data(&request.cdb);
        let (completion, filled) = if request.bidirectional {
            (illegal_operation(), 0)
        } else if outward {
            ring.gather(request, data)?;
            (unit.execute(&request.cdb, data, &mut DataIn::new(&mut [])), 0)
        } else {
            let mut data_in = DataIn::new(data);
            let completion = unit.execute(&request.cdb, &[], &mut data_in);
            (completion, data_in.filled())
        };
        if !outward {
            // The kernel hands over the whole length where it is told of 0 bytes: what lies there must not be an older
            // command's data.
            ring.scatter(request, data.get(..filled).unwrap_or_default(), filled == 0)?;
        }
        let sense = match completion.status {
            // Fixed form: D_SENSE is zero in the virtual drive's control mode page, and st reads no other.
            Status::CHECK_CONDITION => completion.sense.unwrap_or(INTERNAL_FAILURE).to_fixed().to_vec(),
            _ => Vec::new(),
        };
        tracing::trace!(unit = unit.name, id = request.id, cdb = ?request.cdb, length, filled, ?completion, "command");
        ring.complete(request, completion.status.0, &sense, u32::try_from(filled).unwrap_or(u32::MAX))
    }
}

const INTERNAL_FAILURE: Sense = Sense::new(SenseKey::HARDWARE_ERROR, AdditionalSense::INTERNAL_TARGET_FAILURE);

fn illegal_operation() -> Completion {
    Completion::check(Sense::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_COMMAND_OPERATION_CODE))
}

/// A unit whose panic is not the kernel's.
pub(super) struct GuardedUnit {
    name: String,
    unit: Box<dyn LogicalUnit>,
    dead: bool,
}

impl std::fmt::Debug for GuardedUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedUnit").field("name", &self.name).field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl GuardedUnit {
    pub(super) fn new(name: String, unit: Box<dyn LogicalUnit>) -> Self {
        Self { name, unit, dead: false }
    }

    fn execute(&mut self, cdb: &[u8], data_out: &[u8], data_in: &mut DataIn<'_>) -> Completion {
        let executed = self.guard(|unit| unit.execute(cdb, data_out, data_in));
        executed.unwrap_or_else(|| {
            data_in.set_filled(0);
            Completion::check(INTERNAL_FAILURE)
        })
    }

    pub(super) fn reset(&mut self) {
        self.guard(|unit| unit.reset());
    }

    /// Lets the unit do something; `None` when it panics, or has panicked before: its state is anybody's guess then.
    fn guard<T>(&mut self, action: impl FnOnce(&mut dyn LogicalUnit) -> T) -> Option<T> {
        if self.dead {
            return None;
        }
        let unit = &mut self.unit;
        match catch_unwind(AssertUnwindSafe(|| action(unit.as_mut()))) {
            Ok(done) => Some(done),
            Err(panic) => {
                self.dead = true;
                let reason = reason(panic.as_ref());
                tracing::error!(
                    unit = self.name,
                    reason,
                    "a virtual drive panicked; it answers HARDWARE ERROR until the service is started again"
                );
                None
            }
        }
    }
}

/// What a panic said.
pub(super) fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Whether the initiator sends data with a command. The ring does not tell; the standards do (SPC-4, SSC-4, SBC-3, SMC-3).
/// An operation that is not known here counts as one that does not: its data are not looked at.
fn sends_data(cdb: &[u8]) -> bool {
    let byte = |at: usize| cdb.get(at).copied().unwrap_or(0);
    match byte(0) {
        // FORMAT, REASSIGN BLOCKS, WRITE(6), WRITE REVERSE, MODE SELECT(6), COPY, SEND DIAGNOSTIC
        0x04 | 0x07 | 0x0a | 0x0f | 0x15 | 0x18 | 0x1d => true,
        // WRITE(10), WRITE AND VERIFY(10), WRITE BUFFER, WRITE LONG(10), WRITE SAME(10), UNMAP, LOG SELECT, MODE SELECT(10)
        0x2a | 0x2e | 0x3b | 0x3f | 0x41 | 0x42 | 0x4c | 0x55 => true,
        // COMPARE, COPY AND VERIFY, SEARCH, SANITIZE, PERSISTENT RESERVE OUT
        0x39 | 0x3a | 0x30..=0x32 | 0x48 | 0x5f => true,
        // EXTENDED COPY, WRITE(16), WRITE ATTRIBUTE, WRITE AND VERIFY(16), WRITE SAME(16), WRITE ATOMIC, service action out
        0x83 | 0x8a | 0x8b | 0x8d | 0x8e | 0x93 | 0x9c | 0x9f => true,
        // MAINTENANCE OUT, service action out (12), WRITE(12), WRITE AND VERIFY(12), SECURITY PROTOCOL OUT, SEND VOLUME TAG
        0xa4 | 0xa9 | 0xaa | 0xae | 0xb5 | 0xb6 => true,
        // VERIFY, where it compares bytes: BYTCMP of a tape, BYTCHK of a disk.
        0x13 | 0x2f | 0x8f | 0xaf => byte(1) & 0x06 != 0,
        _ => false,
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
