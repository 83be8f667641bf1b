//! One drive, reached by two: a front end that commands it, and its owner who inserts cartridges or asks for status.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Attribute, BlockLimits, Description, DriveError, DriveIdentity, MediumStatus, Position, PositionReport,
    ReadOutcome, RecordBuffer, SpaceKind, SpaceOutcome, TapeDrive, Warning,
};

/// A drive behind a lock. Each command holds the lock for its own time only.
#[derive(Debug)]
pub struct SharedDrive<D>(Arc<Mutex<D>>);

impl<D> Clone for SharedDrive<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D> SharedDrive<D> {
    /// Shares a drive.
    pub fn new(drive: D) -> Self {
        Self(Arc::new(Mutex::new(drive)))
    }

    /// The drive, once nobody else commands it.
    pub fn lock(&self) -> MutexGuard<'_, D> {
        // A panic in a command leaves the drive's own state to its own checks; nothing is gained by a second panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The drive, if nobody commands it now.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, D>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

impl<D: TapeDrive> TapeDrive for SharedDrive<D> {
    fn identity(&self) -> DriveIdentity {
        self.lock().identity()
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        self.lock().block_limits()
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        self.lock().test_unit_ready()
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        self.lock().medium_status()
    }

    fn load(&mut self) -> Result<(), DriveError> {
        self.lock().load()
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        self.lock().unload()
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        self.lock().prevent_removal(prevent)
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        self.lock().write(block)
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        self.lock().write_filemarks(count, immediate)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        self.lock().read(buffer)
    }

    fn write_record(&mut self, record: &mut RecordBuffer) -> Result<Warning, DriveError> {
        self.lock().write_record(record)
    }

    fn read_record(&mut self, longest: usize, record: &mut RecordBuffer) -> Result<ReadOutcome, DriveError> {
        self.lock().read_record(longest, record)
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        self.lock().space(kind, count)
    }

    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        self.lock().locate(to)
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        self.lock().rewind()
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        self.lock().read_position()
    }

    fn erase(&mut self, long: bool) -> Result<(), DriveError> {
        self.lock().erase(long)
    }

    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        self.lock().format_medium(second_partition_bytes)
    }

    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        self.lock().set_programmable_early_warning(bytes)
    }

    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        self.lock().read_attribute(id)
    }

    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        self.lock().write_attribute(attribute)
    }

    fn describe(&mut self, what: Description) -> Result<Option<Vec<u8>>, DriveError> {
        self.lock().describe(what)
    }
}
