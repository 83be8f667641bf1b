//! Between the unit and its drive, on its guard's side: a drive that may be ahead of its host.
//!
//! Every command of the unit comes through here, so none of them can meet the drive where the host does not stand.

use std::sync::{Arc, MutexGuard, PoisonError};

use sealtape_drivers::medium::{
    Attribute, BlockLimits, Description, DriveError, DriveIdentity, MediumStatus, Position, PositionReport,
    ReadOutcome, SpaceKind, SpaceOutcome, TapeDrive, Warning,
};

use crate::pipeline::{ReadAhead, SharedDrive, is_elsewhere};

/// The drive as the unit commands it, while a [`ReadAhead`] reads from it.
pub(super) struct AheadDrive {
    drive: SharedDrive,
    ahead: Arc<ReadAhead>,
}

impl AheadDrive {
    pub(super) fn new(drive: SharedDrive, ahead: Arc<ReadAhead>) -> Self {
        Self { drive, ahead }
    }

    /// The drive, for a command that neither depends on where it stands nor moves it.
    fn anywhere(&self) -> MutexGuard<'_, Box<dyn TapeDrive>> {
        self.drive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The drive, where the host stands.
    fn here(&self) -> Result<MutexGuard<'_, Box<dyn TapeDrive>>, DriveError> {
        self.ahead.leave()?;
        self.ahead.count_other();
        Ok(self.anywhere())
    }

    /// The drive, for a command that says itself where it goes.
    fn leaving(&self) -> Result<MutexGuard<'_, Box<dyn TapeDrive>>, DriveError> {
        self.ahead.abandon()?;
        self.ahead.count_other();
        Ok(self.anywhere())
    }

    /// A drive that was reset, or has another medium, does not go back to where the host stood.
    fn watch<T>(&self, result: Result<T, DriveError>) -> Result<T, DriveError> {
        if let Err(error) = &result
            && is_elsewhere(error)
        {
            self.ahead.forget();
        }
        result
    }
}

impl TapeDrive for AheadDrive {
    fn identity(&self) -> DriveIdentity {
        self.anywhere().identity()
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        let result = self.anywhere().block_limits();
        self.watch(result)
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        let result = self.anywhere().test_unit_ready();
        self.watch(result)
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        let result = self.anywhere().medium_status();
        self.watch(result)
    }

    fn load(&mut self) -> Result<(), DriveError> {
        self.leaving()?.load()
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        self.leaving()?.unload()
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        let result = self.anywhere().prevent_removal(prevent);
        self.watch(result)
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        self.here()?.write(block)
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        self.here()?.write_filemarks(count, immediate)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        self.ahead.leave()?;
        let outcome = self.anywhere().read(buffer);
        match &outcome {
            Ok(ReadOutcome::Block { .. }) => self.ahead.count_block(),
            _ => self.ahead.count_other(),
        }
        outcome
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        self.here()?.space(kind, count)
    }

    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        self.leaving()?.locate(to)
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        self.leaving()?.rewind()
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        self.here()?.read_position()
    }

    fn erase(&mut self, long: bool) -> Result<(), DriveError> {
        self.here()?.erase(long)
    }

    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        self.leaving()?.format_medium(second_partition_bytes)
    }

    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        let result = self.anywhere().set_programmable_early_warning(bytes);
        self.watch(result)
    }

    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        let result = self.anywhere().read_attribute(id);
        self.watch(result)
    }

    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        let result = self.anywhere().write_attribute(attribute);
        self.watch(result)
    }

    fn describe(&mut self, what: Description) -> Result<Option<Vec<u8>>, DriveError> {
        let result = self.anywhere().describe(what);
        self.watch(result)
    }
}
