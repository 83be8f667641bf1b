//! One thread per drive, with a bounded queue before it: a rewind that takes minutes holds up its
//! own drive only, and requests of one drive keep the order in which the kernel sent them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fuser::{Errno as FuseErrno, FileHandle, FopenFlags, ReplyData, ReplyEmpty, ReplyIoctl, ReplyOpen, ReplyWrite};
use nix::errno::Errno;

use super::mtio::MtOp;
use super::node::{OpenRequest, TapeNode};
use crate::medium::RecordBuffer;

/// Waiting requests of one drive. The kernel serialises the writes of an open file, so that the
/// queue is this deep only when very many processes share one descriptor.
const QUEUE_DEPTH: usize = 256;
/// Record buffers kept for reuse.
const POOL_DEPTH: usize = 4;

const OPEN_FLAGS: FopenFlags =
    FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NONSEEKABLE).union(FopenFlags::FOPEN_STREAM);

/// A request with the place to answer it.
pub(super) enum Job {
    Open { request: OpenRequest, handle: u64, reply: ReplyOpen },
    Read { size: usize, reply: ReplyData },
    Write { record: RecordBuffer, reply: ReplyWrite },
    Operate { op: MtOp, count: i32, reply: ReplyIoctl },
    Status { short: bool, reply: ReplyIoctl },
    Position { short: bool, reply: ReplyIoctl },
    Flush { reply: ReplyEmpty },
    Release { reply: ReplyEmpty },
}

impl Job {
    fn refuse(self, errno: Errno) {
        let errno = wire(errno);
        match self {
            Self::Open { reply, .. } => reply.error(errno),
            Self::Read { reply, .. } => reply.error(errno),
            Self::Write { reply, .. } => reply.error(errno),
            Self::Operate { reply, .. } | Self::Status { reply, .. } | Self::Position { reply, .. } => {
                reply.error(errno)
            }
            Self::Flush { reply } | Self::Release { reply } => reply.error(errno),
        }
    }
}

/// An errno as `fuser` sends it.
pub(super) fn wire(errno: Errno) -> FuseErrno {
    FuseErrno::from_i32(errno as i32)
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// The open file that holds the drive: from the arrival of its OPEN to the arrival of its RELEASE.
    holder: Option<u64>,
    opened: u64,
    /// The open file was told that its transfers are too long.
    told: bool,
    stopping: bool,
}

/// A drive as dispatcher and worker share it.
pub(super) struct Drive {
    pub(super) number: u16,
    pub(super) name: String,
    node: Arc<dyn TapeNode>,
    queue: Mutex<Queue>,
    wake: Condvar,
    pool: Mutex<Vec<RecordBuffer>>,
}

impl Drive {
    pub(super) fn new(number: u16, name: String, node: Arc<dyn TapeNode>) -> Self {
        Self { number, name, node, queue: Mutex::default(), wake: Condvar::new(), pool: Mutex::default() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding this lock; a poisoned queue is a whole queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the drive to a new open file, or says that another has it. An open that follows a
    /// release which is still running waits for it in the queue.
    pub(super) fn open(&self, request: OpenRequest, reply: ReplyOpen) {
        let mut queue = self.queue();
        if queue.holder.is_some() {
            drop(queue);
            reply.error(FuseErrno::EBUSY);
            return;
        }
        queue.opened += 1;
        let handle = queue.opened;
        queue.holder = Some(handle);
        queue.told = false;
        drop(queue);
        if let Err(job) = self.submit(Job::Open { request, handle, reply }) {
            self.give_up(handle);
            job.refuse(Errno::ENXIO);
        }
    }

    /// The last descriptor of an open file is gone.
    pub(super) fn release(&self, handle: u64, reply: ReplyEmpty) {
        self.give_up(handle);
        let mut queue = self.queue();
        if queue.stopping {
            drop(queue);
            reply.ok();
            return;
        }
        // Never refused for want of room: there is one release for an open that succeeded.
        queue.jobs.push_back(Job::Release { reply });
        drop(queue);
        self.wake.notify_one();
    }

    fn give_up(&self, handle: u64) {
        let mut queue = self.queue();
        if queue.holder == Some(handle) {
            queue.holder = None;
        }
    }

    /// Queues a request of the open file; answers it at once when the drive is being taken down or
    /// its queue is full.
    pub(super) fn request(&self, job: Job) {
        if let Err(job) = self.submit(job) {
            let stopping = self.queue().stopping;
            if !stopping {
                tracing::warn!(drive = %self.name, "more than {QUEUE_DEPTH} requests wait for the drive: one refused");
            }
            job.refuse(if stopping { Errno::EIO } else { Errno::EAGAIN });
        }
    }

    fn submit(&self, job: Job) -> Result<(), Job> {
        let mut queue = self.queue();
        if queue.stopping || queue.jobs.len() >= QUEUE_DEPTH {
            return Err(job);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// No new requests; those that wait are refused, the one that runs is finished.
    pub(super) fn stop(&self) {
        let waiting = {
            let mut queue = self.queue();
            queue.stopping = true;
            std::mem::take(&mut queue.jobs)
        };
        self.wake.notify_all();
        self.node.interrupt();
        for job in waiting {
            job.refuse(Errno::EIO);
        }
    }

    /// Whether this is the first time for the open file that something is worth a line in the log.
    pub(super) fn tell_once(&self) -> bool {
        !std::mem::replace(&mut self.queue().told, true)
    }

    /// A copy of what the host wrote, in a buffer that is used again.
    pub(super) fn copy_record(&self, data: &[u8]) -> RecordBuffer {
        let mut record = {
            let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            // A host that writes long and short records in turn finds one of each.
            let found = pool.iter().rposition(|record| record.fits(data.len()));
            found.map(|at| pool.swap_remove(at)).unwrap_or_default()
        };
        record.fill(data);
        record
    }

    fn return_record(&self, record: RecordBuffer) {
        if record.is_bare() {
            return;
        }
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() == POOL_DEPTH {
            // The one that lay here longest fits nothing that comes now.
            pool.remove(0);
        }
        pool.push(record);
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.stopping {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The worker thread: serves the queue until [`Drive::stop`].
    pub(super) fn serve(&self) {
        let mut worker = Worker { drive: self, open: false, failed: false, buffer: RecordBuffer::default() };
        while let Some(job) = self.next() {
            if worker.failed {
                job.refuse(Errno::EIO);
                continue;
            }
            // A panic drops the reply, which answers EIO. The state behind it is not to be trusted.
            if catch_unwind(AssertUnwindSafe(|| worker.answer(job))).is_err() {
                tracing::error!(drive = %self.name, "the drive's handler failed unexpectedly: every request is refused until the service is restarted");
                worker.failed = true;
            }
        }
        worker.finish();
    }
}

struct Worker<'a> {
    drive: &'a Drive,
    open: bool,
    failed: bool,
    buffer: RecordBuffer,
}

impl Worker<'_> {
    fn answer(&mut self, job: Job) {
        let node = &self.drive.node;
        match job {
            Job::Open { request, handle, reply } => match node.open(&request) {
                Ok(()) => {
                    self.open = true;
                    reply.opened(FileHandle(handle), OPEN_FLAGS);
                }
                Err(errno) => {
                    self.drive.give_up(handle);
                    reply.error(wire(errno));
                }
            },
            Job::Read { size, reply } => match node.read_record(size, &mut self.buffer) {
                Ok(()) => {
                    let record = self.buffer.as_slice();
                    reply.data(&record[..record.len().min(size)]);
                }
                Err(errno) => reply.error(wire(errno)),
            },
            Job::Write { mut record, reply } => {
                match node.write_record(&mut record) {
                    // A record has at most 16 MiB: the cast cannot cut.
                    Ok(length) => reply.written(length as u32),
                    Err(errno) => reply.error(wire(errno)),
                }
                self.drive.return_record(record);
            }
            Job::Operate { op, count, reply } => match node.mt_op(op, count) {
                Ok(()) => reply.ioctl(0, &[]),
                Err(errno) => reply.error(wire(errno)),
            },
            Job::Status { short, reply } => match node.mt_get() {
                Ok(status) if short => reply.ioctl(0, &status.to_bytes_32()),
                Ok(status) => reply.ioctl(0, &status.to_bytes()),
                Err(errno) => reply.error(wire(errno)),
            },
            Job::Position { short, reply } => match node.mt_pos() {
                // The kernel's own structure holds 32 bits for these clients.
                Ok(object) if short => reply.ioctl(0, &(object as u32).to_ne_bytes()),
                Ok(object) => reply.ioctl(0, &object.to_ne_bytes()),
                Err(errno) => reply.error(wire(errno)),
            },
            Job::Flush { reply } => match node.flush() {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(wire(errno)),
            },
            Job::Release { reply } => {
                node.release();
                self.open = false;
                // Nobody reads again what the last one read.
                self.buffer.wipe();
                reply.ok();
            }
        }
    }

    /// The service stops under an open file: what was acknowledged is put on the medium. No
    /// filemark: the host has not closed its file.
    fn finish(&mut self) {
        if !self.open || self.failed {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| self.drive.node.flush())) {
            Ok(Ok(())) => {
                tracing::warn!(drive = %self.drive.name, "stopped while a program had the node open; its data is on the medium, without a closing filemark")
            }
            Ok(Err(errno)) => {
                tracing::error!(drive = %self.drive.name, %errno, "stopped while a program had the node open, and what it wrote could not all be put on the medium")
            }
            Err(_) => {
                tracing::error!(drive = %self.drive.name, "stopped while a program had the node open; synchronising failed unexpectedly")
            }
        }
    }
}
