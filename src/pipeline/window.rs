//! The window of one drive.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use sealtape_drivers::medium::{DriveError, DriveErrorKind, TapeDrive, Warning};

use super::pool::{SealJob, SealPool};
use crate::seal::{Compression, OVERHEAD, PlainRecord, RecordMark, Reservation, SealedRecord, Unsealable};

/// How much may stand in a window, acknowledged and not yet given to the drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowLimits {
    /// Records (and immediate filemarks).
    pub records: usize,
    /// Bytes of records.
    pub bytes: usize,
}

/// Everything that was submitted was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrainReport {
    /// The last record that was written since the window was last reset.
    pub last: Option<RecordMark>,
    /// The worst warning since then.
    pub warning: Warning,
}

/// The drive failed at a record; nothing behind it was written.
#[derive(Clone, Debug)]
pub struct PipelineFailure {
    /// What the drive said.
    pub error: DriveError,
    /// Acknowledged records and filemarks that are lost, the failed one among them.
    pub lost: u64,
}

/// A record was not taken.
#[derive(Clone, Debug)]
pub enum SubmitError {
    /// An earlier, acknowledged record failed: drain tells which error and how much is lost.
    Failed,
    /// This very record failed, and was waited for: it was not acknowledged, and nothing else is lost.
    Refused(DriveError),
}

enum Entry {
    Free,
    Sealing,
    Sealed(Result<SealedRecord, Unsealable>),
    Filemarks(u32),
}

struct Slot {
    place: Mutex<Place>,
    ready: Condvar,
}

struct Place {
    entry: Entry,
    /// The writer sleeps until something stands here.
    waited_for: bool,
}

/// The places of a window, used in turn.
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    fn put(&self, index: usize, entry: Entry) {
        let slot = &self.0[index];
        let mut place = lock(&slot.place);
        place.entry = entry;
        let wake = place.waited_for;
        drop(place);
        if wake {
            slot.ready.notify_one();
        }
    }

    pub(super) fn put_sealed(&self, index: usize, sealed: Result<SealedRecord, Unsealable>) {
        self.put(index, Entry::Sealed(sealed));
    }

    fn take_ready(&self, index: usize) -> Entry {
        let slot = &self.0[index];
        let mut place = lock(&slot.place);
        while matches!(place.entry, Entry::Sealing | Entry::Free) {
            place.waited_for = true;
            place = sleep(&slot.ready, place);
            place.waited_for = false;
        }
        std::mem::replace(&mut place.entry, Entry::Free)
    }
}

struct Progress {
    /// Entries that were submitted, ever.
    submitted: u64,
    /// Entries that the writer is done with, written or dropped.
    done: u64,
    bytes: usize,
    bytes_written: u64,
    last: Option<RecordMark>,
    warning: Warning,
    /// The drive has taken an entry since the last motion: `warning` says how near the end is.
    warning_told: bool,
    failure: Option<PipelineFailure>,
    closed: bool,
    /// The writer sleeps until something is submitted.
    writer_sleeps: bool,
    /// Threads that sleep until something is done. Nobody is woken where nobody sleeps: that would be a system call for each record.
    sleepers: usize,
    free: FreeBuffers,
}

/// Buffers of records that were written. Together with the records in the window they count for no more than the window may have; a
/// record stands in a buffer that is a quarter longer at the most.
#[derive(Default)]
struct FreeBuffers {
    buffers: Vec<Vec<u8>>,
    /// Their capacities.
    bytes: usize,
}

impl FreeBuffers {
    /// One for a record of so many bytes, its own length and not much more: a short record in a long buffer would take more than is
    /// counted for it. Where there is none that fits, the one that lay here longest goes.
    fn take(&mut self, needed: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| (needed..=needed + needed / 4 + 512).contains(&buffer.capacity());
        let found = self.buffers.iter().rposition(fits);
        let taken = match found {
            Some(at) => Some(self.buffers.swap_remove(at)),
            None if self.buffers.is_empty() => None,
            None => Some(self.buffers.remove(0)),
        };
        self.bytes -= taken.as_ref().map_or(0, Vec::capacity);
        taken.filter(|_| found.is_some()).unwrap_or_default()
    }

    /// Makes room for `in_use` bytes of records: those that lay here longest go.
    fn make_way(&mut self, in_use: usize, limits: WindowLimits) {
        let mut going = 0;
        while in_use + self.bytes > limits.bytes && going < self.buffers.len() {
            self.bytes -= self.buffers[going].capacity();
            going += 1;
        }
        self.buffers.drain(..going);
    }

    /// Keeps a buffer if there is room beside `in_use` bytes.
    fn put(&mut self, buffer: Vec<u8>, in_use: usize, limits: WindowLimits) {
        if self.buffers.len() < limits.records && in_use + self.bytes + buffer.capacity() <= limits.bytes {
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }
}

struct Shared {
    slots: Arc<Slots>,
    progress: Mutex<Progress>,
    /// Something was submitted, or the window closes.
    work: Condvar,
    /// An entry is done.
    done: Condvar,
    limits: WindowLimits,
}

/// A drive that a pipeline writes to and its unit commands in between; the unit drains before it does.
pub type SharedDrive = Arc<Mutex<Box<dyn TapeDrive>>>;

/// The write-behind window of one drive.
pub struct WritePipeline {
    shared: Arc<Shared>,
    pool: Arc<SealPool>,
    writer: Option<JoinHandle<()>>,
    synchronous: bool,
}

impl WritePipeline {
    /// Starts the writer thread of `drive`.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(drive: SharedDrive, pool: Arc<SealPool>, limits: WindowLimits) -> std::io::Result<Self> {
        let limits = WindowLimits { records: limits.records.max(1), bytes: limits.bytes.max(1) };
        let slots = (0..limits.records).map(|_| Slot {
            place: Mutex::new(Place { entry: Entry::Free, waited_for: false }),
            ready: Condvar::new(),
        });
        let shared = Arc::new(Shared {
            slots: Arc::new(Slots(slots.collect())),
            progress: Mutex::new(Progress {
                submitted: 0,
                done: 0,
                bytes: 0,
                bytes_written: 0,
                last: None,
                warning: Warning::None,
                warning_told: false,
                failure: None,
                closed: false,
                writer_sleeps: false,
                sleepers: 0,
                free: FreeBuffers { buffers: Vec::with_capacity(limits.records), bytes: 0 },
            }),
            work: Condvar::new(),
            done: Condvar::new(),
            limits,
        });
        let of_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("tape-writer".into()).spawn(move || of_writer.write(&drive))?;
        Ok(Self { shared, pool, writer: Some(writer), synchronous: false })
    }

    /// A buffer for the next record, which has so many bytes of text: that of an earlier one, if one is free that fits.
    pub fn buffer(&self, text: usize) -> Vec<u8> {
        lock(&self.shared.progress).free.take(text + OVERHEAD)
    }

    /// Gives up buffers that no record is in, before another use of the same memory.
    pub fn release_buffers(&self) {
        let mut progress = lock(&self.shared.progress);
        progress.free.buffers.clear();
        progress.free.bytes = 0;
    }

    /// Whether each record is waited for. So is the first one after a motion: only its outcome tells whether the end of the medium is
    /// nearer than a window's length.
    pub fn is_synchronous(&self) -> bool {
        let progress = lock(&self.shared.progress);
        self.synchronous || !progress.warning_told || progress.warning > Warning::None
    }

    /// From now on each record is waited for (or not).
    pub fn set_synchronous(&mut self, synchronous: bool) {
        self.synchronous = synchronous;
    }

    /// Gives a record its place in the window, and waits until there is one; when synchronous, until it is written.
    ///
    /// # Errors
    /// [`SubmitError`]; the record was not acknowledged then.
    pub fn submit(
        &mut self,
        reservation: Reservation,
        record: PlainRecord,
        compression: Compression,
    ) -> Result<Warning, SubmitError> {
        let synchronous = self.is_synchronous();
        let bytes = record.plain_len() + OVERHEAD;
        let number = self.shared.take_place(bytes).ok_or(SubmitError::Failed)?;
        let slots = Arc::clone(&self.shared.slots);
        let index = self.shared.index(number);
        lock(&slots.0[index].place).entry = Entry::Sealing;
        self.shared.announce(number);
        self.pool.seal(SealJob { slots, index, reservation, record, compression });
        self.finish_submit(number, synchronous)
    }

    /// Gives immediate filemarks their place in the order.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_filemarks(&mut self, count: u32) -> Result<Warning, SubmitError> {
        let synchronous = self.is_synchronous();
        let number = self.shared.take_place(0).ok_or(SubmitError::Failed)?;
        self.shared.slots.put(self.shared.index(number), Entry::Filemarks(count));
        self.shared.announce(number);
        self.finish_submit(number, synchronous)
    }

    fn finish_submit(&self, number: u64, synchronous: bool) -> Result<Warning, SubmitError> {
        if !synchronous {
            return Ok(lock(&self.shared.progress).warning);
        }
        let mut progress = self.shared.wait_until(|progress| progress.done > number);
        // Alone in the window since it was synchronous: a failure is this entry's, unless more than it was lost.
        match progress.failure.take() {
            Some(failure) if failure.lost <= 1 => Err(SubmitError::Refused(failure.error)),
            Some(failure) => {
                progress.failure = Some(failure);
                Err(SubmitError::Failed)
            }
            None => Ok(progress.warning),
        }
    }

    /// Waits until everything that was submitted is written, or lost.
    ///
    /// # Errors
    /// [`PipelineFailure`], until [`reset`](Self::reset).
    pub fn drain(&mut self) -> Result<DrainReport, PipelineFailure> {
        let progress = self.shared.wait_until(|progress| progress.done == progress.submitted);
        match &progress.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(DrainReport { last: progress.last, warning: progress.warning }),
        }
    }

    /// Entries in the window, and their bytes.
    pub fn fill(&self) -> (u64, usize) {
        let progress = lock(&self.shared.progress);
        (progress.submitted - progress.done, progress.bytes)
    }

    /// Bytes of records that the drive took, ever.
    pub fn bytes_written(&self) -> u64 {
        lock(&self.shared.progress).bytes_written
    }

    /// After a motion: forgets the last record, the warning and a failure. The window has to be drained.
    pub fn reset(&mut self) {
        let mut progress = self.shared.wait_until(|progress| progress.done == progress.submitted);
        progress.last = None;
        progress.warning = Warning::None;
        progress.warning_told = false;
        progress.failure = None;
    }
}

impl Drop for WritePipeline {
    fn drop(&mut self) {
        lock(&self.shared.progress).closed = true;
        self.shared.work.notify_all();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("a writer thread had panicked");
        }
    }
}

impl Shared {
    fn index(&self, number: u64) -> usize {
        (number % self.slots.0.len() as u64) as usize
    }

    /// Waits for room and takes the next place; `None` after a failure.
    fn take_place(&self, bytes: usize) -> Option<u64> {
        let fits = |progress: &Progress| {
            let records = progress.submitted - progress.done;
            records == 0 || (records < self.limits.records as u64 && progress.bytes + bytes <= self.limits.bytes)
        };
        let mut progress = self.wait_until(|progress| progress.failure.is_some() || fits(progress));
        if progress.failure.is_some() {
            return None;
        }
        progress.bytes += bytes;
        let in_use = progress.bytes;
        progress.free.make_way(in_use, self.limits);
        Some(progress.submitted)
    }

    /// The entry stands in its slot (or will soon): the writer may look for it.
    fn announce(&self, number: u64) {
        let mut progress = lock(&self.progress);
        debug_assert_eq!(progress.submitted, number, "one thread submits");
        progress.submitted = number + 1;
        let wake = progress.writer_sleeps;
        drop(progress);
        if wake {
            self.work.notify_one();
        }
    }

    fn wait_until(&self, mut condition: impl FnMut(&Progress) -> bool) -> MutexGuard<'_, Progress> {
        let mut progress = lock(&self.progress);
        while !condition(&progress) {
            progress.sleepers += 1;
            progress = sleep(&self.done, progress);
            progress.sleepers -= 1;
        }
        progress
    }

    /// The writer thread.
    fn write(&self, drive: &SharedDrive) {
        loop {
            let mut progress = lock(&self.progress);
            while progress.submitted == progress.done && !progress.closed {
                progress.writer_sleeps = true;
                progress = sleep(&self.work, progress);
                progress.writer_sleeps = false;
            }
            if progress.submitted == progress.done {
                return;
            }
            let number = progress.done;
            let failed = progress.failure.is_some();
            drop(progress);
            let entry = self.slots.take_ready(self.index(number));
            let outcome = if failed { Ok(Warning::None) } else { write_entry(drive, &entry) };
            self.finish(entry, outcome, failed);
        }
    }

    fn finish(&self, entry: Entry, outcome: Result<Warning, DriveError>, dropped: bool) {
        let mut progress = lock(&self.progress);
        match outcome {
            Ok(warning) if !dropped => {
                progress.warning = progress.warning.max(warning);
                progress.warning_told = true;
                if let Entry::Sealed(Ok(record)) = &entry {
                    progress.last = Some(*record.mark());
                    progress.bytes_written += record.bytes().len() as u64;
                }
            }
            Ok(_) => {
                if let Some(failure) = &mut progress.failure {
                    failure.lost += 1;
                }
            }
            Err(error) => progress.failure = Some(PipelineFailure { error, lost: 1 }),
        }
        match entry {
            Entry::Sealed(Ok(record)) => {
                progress.bytes -= record.plain_len() + OVERHEAD;
                let in_use = progress.bytes;
                progress.free.put(record.into_buffer(), in_use, self.limits);
            }
            Entry::Sealed(Err(unsealable)) => progress.bytes -= unsealable.plain_len() + OVERHEAD,
            Entry::Filemarks(_) | Entry::Free | Entry::Sealing => {}
        }
        progress.done += 1;
        let wake = progress.sleepers > 0;
        drop(progress);
        if wake {
            self.done.notify_all();
        }
    }
}

fn write_entry(drive: &SharedDrive, entry: &Entry) -> Result<Warning, DriveError> {
    let mut drive = lock(drive);
    match entry {
        Entry::Sealed(Ok(record)) => drive.write(record.bytes()),
        Entry::Sealed(Err(Unsealable::KeyEnded(_))) => {
            Err(DriveError::new(DriveErrorKind::Security, "the key ended before they were sealed"))
        }
        Entry::Sealed(Err(Unsealable::Length(length))) => {
            Err(DriveError::new(DriveErrorKind::IllegalRequest, format!("a block of {length} bytes cannot be sealed")))
        }
        Entry::Filemarks(count) => drive.write_filemarks(*count, true),
        Entry::Free | Entry::Sealing => unreachable!("`take_ready` waits for a filled slot"),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while a lock is held leaves values that are valid on their own; the panic itself is reported at join.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn sleep<'a, T>(until: &Condvar, held: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    until.wait(held).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_buffers_and_records_take_no_more_than_the_window() {
        let limits = WindowLimits { records: 64, bytes: 10_000 };
        let mut free = FreeBuffers::default();
        // Long and short records in turn, with half of the window in use.
        for round in 0..200 {
            let length = if round % 2 == 0 { 4000 } else { 250 };
            let mut buffer = free.take(length);
            assert!(buffer.capacity() == 0 || (length..=length + length / 4 + 512).contains(&buffer.capacity()));
            buffer.reserve_exact(length);
            free.put(buffer, 5000, limits);
            assert_eq!(free.bytes, free.buffers.iter().map(Vec::capacity).sum::<usize>());
            assert!(free.bytes + 5000 <= limits.bytes);
        }
        // Short ones that lie here make way for long records.
        let mut free = FreeBuffers::default();
        for _ in 0..39 {
            free.put(Vec::with_capacity(250), 0, limits);
        }
        free.make_way(4000, limits);
        assert_eq!((free.bytes, free.buffers.len()), (6000, 24));
        free.make_way(12_000, limits);
        assert_eq!((free.bytes, free.buffers.len()), (0, 0));
        // What no longer fits anything makes room for what does.
        for _ in 0..64 {
            let mut buffer = free.take(1000);
            buffer.reserve_exact(1000);
            free.put(buffer, 5000, limits);
        }
        assert!(free.take(1000).capacity() == 1000);
    }
}
