//! Threads that seal and open, shared by all drives.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::ahead::OpenJob;
use super::window::{Slots, lock, sleep};
use crate::seal::{Compression, PlainRecord, Reservation};

/// One record to seal, and the slot where the result belongs.
pub(super) struct SealJob {
    pub(super) slots: Arc<Slots>,
    pub(super) index: usize,
    pub(super) reservation: Reservation,
    pub(super) record: PlainRecord,
    pub(super) compression: Compression,
}

enum Job {
    Seal(SealJob),
    Open(OpenJob),
}

/// Jobs on their way to the threads. Who finds none sleeps at once, and nobody is woken where nobody sleeps: a channel that spins and
/// yields before it sleeps takes the processor from those who would give it work, and each waking is a system call.
struct Queue {
    waiting: Mutex<Waiting>,
    /// There is a job, or the end.
    work: Condvar,
    /// There is room for a job.
    room: Condvar,
    most: usize,
}

struct Waiting {
    jobs: VecDeque<Job>,
    /// Threads that have not ended.
    threads: usize,
    /// Threads that sleep without a job.
    idle: usize,
    /// Drives that sleep without room for theirs.
    held_up: usize,
    closed: bool,
}

impl Queue {
    /// Waits for room. Where no thread is left (each has panicked, which is told at the end), the job goes, and whoever holds its promise
    /// hears of that.
    fn put(&self, job: Job) {
        let mut waiting = lock(&self.waiting);
        while waiting.jobs.len() >= self.most && waiting.threads > 0 {
            waiting.held_up += 1;
            waiting = sleep(&self.room, waiting);
            waiting.held_up -= 1;
        }
        if waiting.threads == 0 {
            drop(waiting);
            drop(job);
            return;
        }
        waiting.jobs.push_back(job);
        let wake = waiting.idle > 0;
        drop(waiting);
        if wake {
            self.work.notify_one();
        }
    }

    fn take(&self) -> Option<Job> {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                let wake = waiting.held_up > 0;
                drop(waiting);
                if wake {
                    self.room.notify_one();
                }
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            waiting.idle += 1;
            waiting = sleep(&self.work, waiting);
            waiting.idle -= 1;
        }
    }
}

/// A thread's place at the queue, which it leaves however it ends.
struct Worker(Arc<Queue>);

impl Worker {
    fn new(queue: &Arc<Queue>) -> Self {
        lock(&queue.waiting).threads += 1;
        Self(Arc::clone(queue))
    }

    fn run(self) {
        while let Some(job) = self.0.take() {
            match job {
                Job::Seal(SealJob { slots, index, reservation, record, compression }) => {
                    slots.put_sealed(index, reservation.seal(record, compression));
                }
                Job::Open(job) => job.run(),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut waiting = lock(&self.0.waiting);
        waiting.threads -= 1;
        let left = if waiting.threads == 0 { std::mem::take(&mut waiting.jobs) } else { VecDeque::new() };
        drop(waiting);
        // Not under the lock: promises are told of their end.
        drop(left);
        self.0.room.notify_all();
    }
}

/// A fixed number of threads that seal and open records in any order; each window puts them back in order.
pub struct SealPool {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl SealPool {
    /// Starts `threads` threads (at least one). At most as many jobs again wait for them; a window that wants
    /// more waits, which is what keeps memory bounded.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(threads: usize) -> std::io::Result<Arc<Self>> {
        let threads = threads.max(1);
        let most = threads * 2;
        let jobs = VecDeque::with_capacity(most);
        let waiting = Mutex::new(Waiting { jobs, threads: 0, idle: 0, held_up: 0, closed: false });
        let queue = Arc::new(Queue { waiting, work: Condvar::new(), room: Condvar::new(), most });
        // Dropped at an error, it ends those that were started.
        let mut pool = Self { queue, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let worker = Worker::new(&pool.queue);
            let thread = std::thread::Builder::new().name(format!("seal-{number}")).spawn(move || worker.run())?;
            pool.threads.push(thread);
        }
        Ok(Arc::new(pool))
    }

    pub(super) fn seal(&self, job: SealJob) {
        self.queue.put(Job::Seal(job));
    }

    pub(super) fn open(&self, job: OpenJob) {
        self.queue.put(Job::Open(job));
    }
}

impl Drop for SealPool {
    fn drop(&mut self) {
        lock(&self.queue.waiting).closed = true;
        self.queue.work.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a sealing thread had panicked");
            }
        }
    }
}
