//! The semantics of the Linux kernel's `st` driver over a [`TapeDrive`].
//!
//! Programs that write tapes know how `/dev/nst0` behaves, quirks included, and much of it is in no
//! standard. [`StNode`] behaves so:
//!
//! | what a program does | what it gets |
//! |---|---|
//! | reads into a buffer longer than the record | the record |
//! | reads into a shorter one | ENOMEM, and the record is skipped |
//! | reads at a filemark | 0, then the records of the next file |
//! | reads at the end of data behind a filemark | 0 once, then EIO |
//! | reads at the end of data behind a record, or a blank tape | EIO |
//! | writes at early warning | the record is accepted; then ENOSPC and acceptance in turn (a trailer fits) |
//! | writes at the end of the medium | ENOSPC |
//! | closes after writing | a filemark |
//! | MTREW, MTOFFL, MTSEEK, MTBSF, MTBSFM after writing | a filemark first; MTBSF and MTBSFM pass it, too |
//! | opens for writing what is write protected | EROFS |
//! | opens an empty drive | ENOMEDIUM, unless O_NONBLOCK |
//! | goes on after the drive was reset | EIO until MTREW, MTSEEK, MTEOM, MTOFFL, MTLOAD, MTRETEN or MTERASE |
//!
//! `mt_fileno` and `mt_blkno` are counted as `st` counts them, and are -1 where `st` does not know.
//!
//! It departs from `st` where a FUSE node has to, or where silence would be worse:
//! - `close` synchronises and reports; filemark and rewind belong to the last close, and when they
//!   fail, the next `open` fails with EIO and says why in the log.
//! - Sealtape's refusals are EACCES, and a record whose tag does not verify is EBADMSG: a blank tape
//!   gives EIO, and a sealed tape must never look like one to a program that labels blank tapes.
//! - An empty drive is not waited for; a drive that is becoming ready is.
//! - At `open` the drive is asked where it stands: a tape that was moved or changed behind our back
//!   has its position told from that, instead of from memory.
//! - In fixed block mode, blocks that were read before an error are delivered before the error.

mod control;
mod data;
mod errors;
mod motion;
mod open;
mod options;
mod state;
mod status;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use sealtape_drivers::fuse::mtio::{MtOp, MtStatus};
use sealtape_drivers::fuse::{OpenRequest, TapeNode};
use sealtape_drivers::medium::{RecordBuffer, TapeDrive};

use open::Opening;
use state::St;
pub use status::{Activity, Counters, StStatus};

/// How often a drive that is becoming ready is asked.
const READY_POLL: Duration = Duration::from_millis(250);

/// What may differ between drives.
#[derive(Clone, Copy, Debug)]
pub struct StOptions {
    /// How long `open` waits for a drive that is becoming ready.
    pub ready_timeout: Duration,
    /// Whether MTSETPART and MTMKPART are allowed before a program switches them on
    /// (`mt stsetoptions can-partitions`).
    pub partitions: bool,
}

impl Default for StOptions {
    fn default() -> Self {
        // 120 s is what `st` waits.
        Self { ready_timeout: Duration::from_secs(120), partitions: false }
    }
}

/// A program has the node open; what was asked for has to wait until it has closed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the drive is in use by process {pid}: wait until it has closed the node, or stop it")]
pub struct InUse {
    /// The process that opened the node.
    pub pid: u32,
}

/// A drive as `/dev/stN` and `/dev/nstN` show it.
pub struct StNode {
    st: Mutex<St>,
    board: Arc<status::Board>,
    ready_timeout: Duration,
    interrupted: AtomicBool,
}

impl StNode {
    /// A node named `name` (for log and status) over `drive`, which it owns.
    pub fn new(name: impl Into<String>, drive: Box<dyn TapeDrive>, options: StOptions) -> Self {
        let board = Arc::new(status::Board::new(name.into()));
        let st = Mutex::new(St::new(drive, options, Arc::clone(&board)));
        Self { st, board, ready_timeout: options.ready_timeout, interrupted: AtomicBool::new(false) }
    }

    /// What the drive is doing and where it stands. Never waits for the drive.
    pub fn status(&self) -> StStatus {
        self.board.read()
    }

    /// The last failure in words, since the node exists.
    pub fn last_error(&self) -> Option<String> {
        self.board.read().last_error
    }

    /// Uses the drive while no program has the node open, in a way that may leave another medium in it
    /// or the same one in another place (to load, label, unload). The next program to open the node
    /// finds the tape where it then stands, as after a change of cartridges. Programs that open the
    /// node meanwhile wait.
    pub fn with_idle_drive<R>(&self, use_drive: impl FnOnce(&mut dyn TapeDrive) -> R) -> Result<R, InUse> {
        let mut st = self.idle()?;
        let result = st.serve(use_drive);
        st.expect_another_medium();
        Ok(result)
    }

    /// Uses the loaded medium while no program has the node open (to verify it), and puts the tape back
    /// where it stood: a program that goes on writing at its place must not find itself elsewhere, or
    /// it writes over what it wrote before. When the tape cannot be put back, programs get EIO until
    /// they have moved it themselves. Programs that open the node meanwhile wait.
    pub fn with_idle_medium<R>(&self, use_drive: impl FnOnce(&mut dyn TapeDrive) -> R) -> Result<R, InUse> {
        let mut st = self.idle()?;
        let stood = st.drive.read_position().ok().map(|report| report.position);
        let result = st.serve(use_drive);
        st.put_back(stood);
        Ok(result)
    }

    fn idle(&self) -> Result<MutexGuard<'_, St>, InUse> {
        let st = self.lock();
        match st.opener {
            Some(opener) => Err(InUse { pid: opener.pid }),
            None => Ok(st),
        }
    }

    fn lock(&self) -> MutexGuard<'_, St> {
        // A panic under this lock ends the node: the front end refuses everything afterwards.
        self.st.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_open_file<R>(&self, serve: impl FnOnce(&mut St) -> Result<R, Errno>) -> Result<R, Errno> {
        let mut st = self.lock();
        if st.opener.is_none() {
            return Err(Errno::EBADF);
        }
        let result = serve(&mut st);
        st.publish();
        result
    }
}

impl TapeNode for StNode {
    fn open(&self, request: &OpenRequest) -> Result<(), Errno> {
        let deadline = Instant::now() + self.ready_timeout;
        loop {
            let mut st = self.lock();
            let result = st.open(request, Instant::now() < deadline);
            st.publish();
            // Not held while waiting: the service may have to act on the drive.
            drop(st);
            match result? {
                Opening::Done => return Ok(()),
                Opening::BecomingReady if self.interrupted.load(Ordering::Relaxed) => return Err(Errno::EIO),
                Opening::BecomingReady => thread::sleep(READY_POLL),
            }
        }
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.on_open_file(|st| st.read(buffer))
    }

    fn write(&self, record: &[u8]) -> Result<usize, Errno> {
        self.on_open_file(|st| st.write(record))
    }

    fn read_record(&self, longest: usize, record: &mut RecordBuffer) -> Result<(), Errno> {
        self.on_open_file(|st| st.read_into(longest, record))
    }

    fn write_record(&self, record: &mut RecordBuffer) -> Result<usize, Errno> {
        self.on_open_file(|st| st.write_from(record))
    }

    fn mt_op(&self, op: MtOp, count: i32) -> Result<(), Errno> {
        self.on_open_file(|st| st.operate(op, count))
    }

    fn mt_get(&self) -> Result<MtStatus, Errno> {
        self.on_open_file(St::mt_status)
    }

    fn mt_pos(&self) -> Result<u64, Errno> {
        self.on_open_file(St::tell)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.on_open_file(St::flush)
    }

    fn release(&self) {
        let mut st = self.lock();
        st.release();
        st.publish();
    }

    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }
}
