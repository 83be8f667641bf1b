//! A storage in memory that remembers each write and synchronisation, so that suites can build the bytes as
//! any power cut would leave them.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Storage;

/// One thing done to a storage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Bytes were written.
    Write {
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Everything before is on the medium.
    Sync,
    /// A synchronisation failed: what was written since the one before may be there or not, and no later one brings it there.
    FailedSync,
    /// Bytes were made zero.
    Discard {
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
}

#[derive(Default)]
struct Inner {
    bytes: Vec<u8>,
    operations: Vec<Operation>,
    room: Option<u64>,
    failing_syncs: u32,
}

/// A storage in memory. Clones share the bytes, so that a suite keeps its hands on what a drive writes.
#[derive(Clone, Default)]
pub struct TraceStorage {
    inner: Arc<Mutex<Inner>>,
    read_only: bool,
}

impl TraceStorage {
    /// A storage that holds `bytes`, with nothing recorded yet.
    pub fn new(bytes: Vec<u8>) -> Self {
        let storage = Self::default();
        storage.inner().bytes = bytes;
        storage
    }

    /// The same bytes, to read only.
    #[must_use]
    pub fn read_only_view(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), read_only: true }
    }

    /// The bytes as they stand.
    pub fn bytes(&self) -> Vec<u8> {
        self.inner().bytes.clone()
    }

    /// Changes the bytes behind the drive's back.
    pub fn alter(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.inner().bytes);
    }

    /// What was done since the beginning, or the last call.
    pub fn take_operations(&self) -> Vec<Operation> {
        std::mem::take(&mut self.inner().operations)
    }

    /// How many operations were done since the beginning or [`Self::take_operations`].
    pub fn operation_count(&self) -> usize {
        self.inner().operations.len()
    }

    /// From now on the disk is full when the bytes would grow beyond `bytes`: the write is done in part, and fails. `None`: no limit.
    pub fn limit(&self, bytes: Option<u64>) {
        self.inner().room = bytes;
    }

    /// The next `count` synchronisations fail.
    pub fn fail_syncs(&self, count: u32) {
        self.inner().failing_syncs = count;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `operation` to `bytes`, as far as its first `keep` bytes (all of it: `usize::MAX`).
pub fn apply(operation: &Operation, bytes: &mut Vec<u8>, keep: usize) {
    match operation {
        Operation::Write { offset, bytes: written } => {
            let written = &written[..written.len().min(keep)];
            let at = *offset as usize;
            if bytes.len() < at + written.len() {
                bytes.resize(at + written.len(), 0);
            }
            bytes[at..at + written.len()].copy_from_slice(written);
        }
        Operation::Sync | Operation::FailedSync => {}
        Operation::Discard { offset, length } => {
            let start = (*offset as usize).min(bytes.len());
            let length = (*length).min(keep as u64).min((bytes.len() - start) as u64) as usize;
            bytes[start..start + length].fill(0);
        }
    }
}

impl Storage for TraceStorage {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.inner();
        let start = (offset.min(inner.bytes.len() as u64)) as usize;
        let read = buffer.len().min(inner.bytes.len() - start);
        buffer[..read].copy_from_slice(&inner.bytes[start..start + read]);
        Ok(read)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut written: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let mut inner = self.inner();
        let grown = offset + written.len() as u64;
        let over = inner.room.map_or(0, |room| grown.saturating_sub(room.max(inner.bytes.len() as u64)));
        written.truncate(written.len().saturating_sub(over as usize));
        let operation = Operation::Write { offset, bytes: written };
        apply(&operation, &mut inner.bytes, usize::MAX);
        inner.operations.push(operation);
        if over > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.failing_syncs > 0 {
            inner.failing_syncs -= 1;
            inner.operations.push(Operation::FailedSync);
            return Err(io::Error::other("injected"));
        }
        inner.operations.push(Operation::Sync);
        Ok(())
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut inner = self.inner();
        let operation = Operation::Discard { offset, length };
        apply(&operation, &mut inner.bytes, usize::MAX);
        inner.operations.push(operation);
        Ok(())
    }

    fn read_only(&self) -> bool {
        self.read_only
    }
}
