//! SPACE, LOCATE, REWIND and READ POSITION (SSC-4 clause 7). Every number is the host's: the drive below has translated it.

use sealtape_drivers::medium::{DriveError, DriveErrorKind, Position, PositionReport, SpaceKind, SpaceStop};
use sealtape_drivers::scsi::{
    AdditionalSense, BlockLengthLimits, Command, DataIn, Destination, Location, PositionData, SenseKey,
};

use super::ScsiUnit;
use super::outcome::{Answer, END_OF_MEDIUM, FILEMARK, Fault, NONE, invalid_field, met};

impl ScsiUnit {
    pub(super) fn motion(&mut self, command: &Command, data_in: &mut DataIn<'_>) -> Answer {
        match *command {
            Command::Space6 { code, count } => self.space(code, i64::from(count)),
            Command::Space16 { code, count } => self.space(code, count),
            Command::Rewind { .. } => {
                self.moved(|drive| drive.rewind())?;
                self.place_lost = false;
                Ok(())
            }
            Command::Locate10 { partition, object, .. } => {
                self.locate(partition, Destination::Object(u64::from(object)))
            }
            Command::Locate16 { partition, destination, .. } => self.locate(partition, destination),
            Command::ReadPosition { action, allocation } => self.read_position(action, allocation, data_in),
            Command::ReadBlockLimits { largest_object } => self.read_block_limits(largest_object, data_in),
            _ => Err(Fault::UnknownOperation),
        }
    }

    /// A motion: where early warning was told before, it may be told again.
    pub(super) fn moved<T>(
        &mut self,
        go: impl FnOnce(&mut dyn sealtape_drivers::medium::TapeDrive) -> Result<T, DriveError>,
    ) -> Result<T, DriveError> {
        self.mode.programmable_warning_told = false;
        go(&mut *self.drive)
    }

    fn space(&mut self, code: u8, count: i64) -> Answer {
        let kind = match code {
            0 => SpaceKind::Blocks,
            1 => SpaceKind::Filemarks,
            3 => SpaceKind::EndOfData,
            _ => return Err(invalid_field(1, Some(3))),
        };
        if count == i64::MIN {
            return Err(invalid_field(4, None)); // It has no magnitude.
        }
        let outcome = self.moved(|drive| drive.space(kind, count))?;
        self.place_lost &= kind != SpaceKind::EndOfData; // The other kinds count from a place that the host does not know.
        let Some((stop, residue)) = outcome.stopped else { return Ok(()) };
        let residue = i64::try_from(residue).unwrap_or(i64::MAX);
        Err(match stop {
            SpaceStop::Filemark => met(SenseKey::NO_SENSE, AdditionalSense::FILEMARK_DETECTED, FILEMARK, residue),
            SpaceStop::EndOfData => met(SenseKey::BLANK_CHECK, AdditionalSense::END_OF_DATA_DETECTED, NONE, residue),
            SpaceStop::BeginningOfPartition => {
                met(SenseKey::NO_SENSE, AdditionalSense::BEGINNING_OF_PARTITION_DETECTED, END_OF_MEDIUM, residue)
            }
        })
    }

    fn locate(&mut self, partition: Option<u8>, destination: Destination) -> Answer {
        let current = |unit: &mut Self| match partition {
            Some(partition) => Ok(partition),
            None => unit.drive.read_position().map(|report| report.position.partition),
        };
        match destination {
            Destination::Object(object) => {
                let partition = current(self)?;
                self.go(Position { partition, object })
            }
            Destination::File(file) => {
                let partition = current(self)?;
                self.go(Position { partition, object: 0 })?;
                let count = i64::try_from(file).map_err(|_| invalid_field(4, None))?;
                match count {
                    0 => Ok(()),
                    count => self.space(1, count),
                }
            }
            Destination::EndOfData => {
                if let Some(partition) = partition {
                    self.go(Position { partition, object: 0 })?;
                }
                self.space(3, 0)
            }
        }
    }

    fn go(&mut self, to: Position) -> Answer {
        match self.moved(|drive| drive.locate(to)) {
            Ok(()) => {
                self.place_lost = false;
                Ok(())
            }
            // A partition that is not there: the field is named (SSC-4 7.3).
            Err(error) if error.kind == DriveErrorKind::IllegalRequest => Err(invalid_field(3, None)),
            Err(error) => Err(error.into()),
        }
    }

    fn read_position(&mut self, action: u8, allocation: u16, data_in: &mut DataIn<'_>) -> Answer {
        if !matches!(action, 0 | 1 | 6 | 8) {
            return Err(invalid_field(1, Some(4)));
        }
        if !matches!(action, 8) && allocation != 0 {
            return Err(invalid_field(7, None)); // SSC-4 7.7: zero for short and long form.
        }
        let data = match self.drive.read_position() {
            Ok(report) => position_data(&report),
            Err(error) if error.sense.additional == AdditionalSense::SEQUENTIAL_POSITIONING_ERROR => {
                PositionData::default()
            }
            Err(error) => return Err(error.into()),
        };
        match action {
            0 | 1 => data_in.put(&data.to_short(), usize::MAX),
            6 => data_in.put(&data.to_long(), usize::MAX),
            _ => data_in.put(&data.to_extended(), usize::from(allocation)),
        }
        Ok(())
    }

    fn read_block_limits(&mut self, largest_object: bool, data_in: &mut DataIn<'_>) -> Answer {
        if largest_object {
            return Err(invalid_field(1, Some(0)));
        }
        let limits = self.drive.block_limits()?;
        let data = BlockLengthLimits {
            granularity: 0,
            maximum: limits.maximum.min(self.options.largest_block),
            minimum: u16::try_from(limits.minimum).unwrap_or(u16::MAX),
        };
        data_in.put(&data.to_bytes(), usize::MAX);
        Ok(())
    }
}

fn position_data(report: &PositionReport) -> PositionData {
    let first = report.position.object;
    PositionData {
        beginning_of_partition: report.beginning_of_partition,
        end_of_partition: report.end_of_partition,
        location: Some(Location {
            partition: report.position.partition,
            first,
            last: Some(first.saturating_sub(report.objects_in_buffer)),
        }),
        filemarks: report.filemarks,
        objects_in_buffer: Some(report.objects_in_buffer),
        ..PositionData::default()
    }
}
