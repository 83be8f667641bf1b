//! Threads that seal and open, shared by all drives.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::ahead::OpenJob;
use super::window::Slots;
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

/// A fixed number of threads that seal and open records in any order; each window puts them back in order.
pub struct SealPool {
    jobs: Option<Sender<Job>>,
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
        let (jobs, queue) = bounded::<Job>(threads * 2);
        let threads = (0..threads)
            .map(|number| {
                let queue = queue.clone();
                std::thread::Builder::new().name(format!("seal-{number}")).spawn(move || {
                    for job in queue {
                        match job {
                            Job::Seal(SealJob { slots, index, reservation, record, compression }) => {
                                slots.put_sealed(index, reservation.seal(record, compression));
                            }
                            Job::Open(job) => job.run(),
                        }
                    }
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { jobs: Some(jobs), threads }))
    }

    pub(super) fn seal(&self, job: SealJob) {
        self.submit(Job::Seal(job));
    }

    pub(super) fn open(&self, job: OpenJob) {
        self.submit(Job::Open(job));
    }

    fn submit(&self, job: Job) {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        debug_assert!(sent, "the pool outlives every window, which holds it in an Arc");
    }
}

impl Drop for SealPool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a sealing thread had panicked");
            }
        }
    }
}
