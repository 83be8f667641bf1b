//! Between the unit and its drive: nothing is written where a drive stands by accident.
//!
//! A drive that was reset says so once, to whichever command comes first, and stands at the beginning of the tape, at the
//! label. That command may be a question of the unit's while records of the window wait for the same drive. So what a
//! drive says of its position is kept here, under the lock that every command takes.

use sealtape_drivers::medium::{
    Attribute, BlockLimits, Description, DriveError, DriveIdentity, MediumStatus, Position, PositionReport,
    ReadOutcome, SpaceKind, SpaceOutcome, TapeDrive, Warning,
};

/// A drive that refuses to write from an error that lost the position, or records that were taken before, until the position was set or asked for. It is
/// asked for with an empty window only.
pub(super) struct GuardedDrive {
    drive: Box<dyn TapeDrive>,
    lost: Option<DriveError>,
}

impl GuardedDrive {
    pub(super) fn new(drive: Box<dyn TapeDrive>) -> Self {
        Self { drive, lost: None }
    }

    fn check(&self) -> Result<(), DriveError> {
        self.lost.clone().map_or(Ok(()), Err)
    }

    fn watch<T>(&mut self, result: Result<T, DriveError>) -> Result<T, DriveError> {
        if let Err(error) = &result
            && (error.position_lost() || error.sense.flags.deferred)
        {
            self.lost.get_or_insert_with(|| error.clone());
        }
        result
    }

    /// As [`watch`](Self::watch), of a command after which the position is known.
    fn settle<T>(&mut self, result: Result<T, DriveError>) -> Result<T, DriveError> {
        if result.is_ok() {
            self.lost = None;
        }
        self.watch(result)
    }
}

impl TapeDrive for GuardedDrive {
    fn identity(&self) -> DriveIdentity {
        self.drive.identity()
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        let result = self.drive.block_limits();
        self.watch(result)
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        let result = self.drive.test_unit_ready();
        self.watch(result)
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        let result = self.drive.medium_status();
        self.watch(result)
    }

    fn load(&mut self) -> Result<(), DriveError> {
        let result = self.drive.load();
        self.settle(result)
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        let result = self.drive.unload();
        self.settle(result)
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        let result = self.drive.prevent_removal(prevent);
        self.watch(result)
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        self.check()?;
        let result = self.drive.write(block);
        self.watch(result)
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        if count > 0 {
            self.check()?;
        }
        let result = self.drive.write_filemarks(count, immediate);
        self.watch(result)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        let result = self.drive.read(buffer);
        self.watch(result)
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        let result = self.drive.space(kind, count);
        self.watch(result)
    }

    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        let result = self.drive.locate(to);
        self.settle(result)
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        let result = self.drive.rewind();
        self.settle(result)
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        let result = self.drive.read_position();
        self.settle(result)
    }

    fn erase(&mut self, long: bool) -> Result<(), DriveError> {
        self.check()?;
        let result = self.drive.erase(long);
        self.watch(result)
    }

    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        let result = self.drive.format_medium(second_partition_bytes);
        self.settle(result)
    }

    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        let result = self.drive.set_programmable_early_warning(bytes);
        self.watch(result)
    }

    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        let result = self.drive.read_attribute(id);
        self.watch(result)
    }

    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        let result = self.drive.write_attribute(attribute);
        self.watch(result)
    }

    fn describe(&mut self, what: Description) -> Result<Option<Vec<u8>>, DriveError> {
        let result = self.drive.describe(what);
        self.watch(result)
    }
}
