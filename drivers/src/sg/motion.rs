//! SPACE, LOCATE, REWIND, READ POSITION, ERASE.

use super::data::MOST_24_BITS;
use super::drive::ScsiTapeDrive;
use super::fault::{self, Intent};
use super::stand::Stand;
use super::{Data, Transport};
use crate::medium::{DriveError, DriveErrorKind, Position, PositionReport, SpaceKind, SpaceOutcome, SpaceStop};
use crate::scsi::{AdditionalSense, Command, Destination, PositionData, SenseKey};

/// COUNT of SPACE(6): 24 bits, signed.
const LEAST_SPACE6: i64 = -0x80_0000;
const MOST_SPACE6: i64 = 0x7f_ffff;
/// A residue is told in INFORMATION, of which fixed format sense data has four bytes, signed: what could leave more is asked for in parts.
const MOST_RESIDUE: i64 = 0x7fff_ffff;
/// More objects than this many parts hold no tape has.
const MOST_PARTS: u32 = 1 << 12;
const SPACE16: u8 = 0x91;
const LOCATE16: u8 = 0x92;
const READ_POSITION: u8 = 0x34;
const SHORT_FORM: u8 = 0;
const LONG_FORM: u8 = 6;
const EXTENDED_FORM: u8 = 8;

impl<T: Transport> ScsiTapeDrive<T> {
    pub(super) fn space_over(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        let mut left = if kind == SpaceKind::EndOfData { 0 } else { count };
        for _ in 0..MOST_PARTS {
            let part = left.clamp(-MOST_RESIDUE, MOST_RESIDUE);
            let outcome = self.space_part(kind, part)?;
            left -= part;
            match outcome.stopped {
                Some((stop, residue)) => {
                    return Ok(SpaceOutcome { stopped: Some((stop, residue.saturating_add(left.unsigned_abs()))) });
                }
                None if left == 0 => return Ok(outcome),
                None => {}
            }
        }
        let text = format!("{}: it went over more objects than a tape has, and still has not stopped", self.link.name);
        Err(DriveError::new(DriveErrorKind::Hardware, text))
    }

    fn space_part(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        self.stand.check(&self.link.name)?;
        self.settle()?;
        let (code, count) = match kind {
            SpaceKind::Blocks => (0, count),
            SpaceKind::Filemarks => (1, count),
            SpaceKind::EndOfData => (3, 0),
        };
        let command = match i32::try_from(count) {
            Ok(short) if (LEAST_SPACE6..=MOST_SPACE6).contains(&count) => Command::Space6 { code, count: short },
            _ if self.link.limits.has(SPACE16) != Some(false) => Command::Space16 { code, count },
            _ => {
                let text = format!("{}: the drive has SPACE(6) only, which cannot count to {count}", self.link.name);
                return Err(DriveError::new(DriveErrorKind::IllegalRequest, text));
            }
        };
        let before = self.stand.counted();
        self.turn_from_writing();
        self.stand = Stand::Drive;
        let reply = self.link.send(command, Data::None)?;
        self.unsynchronised = 0;
        let Some(sense) = reply.sense else {
            if let (Some(Position { partition, object }), SpaceKind::Blocks) = (before, kind) {
                let object = object.checked_add_signed(count);
                self.stand = object.map_or(Stand::Drive, |object| Stand::Counted(Position { partition, object }));
            }
            return Ok(SpaceOutcome { stopped: None });
        };
        let stop = match sense.key {
            _ if sense.flags.deferred => None,
            SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR if sense.flags.filemark && kind == SpaceKind::Blocks => {
                Some(SpaceStop::Filemark)
            }
            SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR if sense.flags.end_of_medium && count < 0 => {
                Some(SpaceStop::BeginningOfPartition)
            }
            SenseKey::BLANK_CHECK if sense.additional.asc == 0 && count > 0 => Some(SpaceStop::EndOfData),
            // The end of data is where it was sent to.
            SenseKey::BLANK_CHECK if sense.additional.asc == 0 && kind == SpaceKind::EndOfData => {
                return Ok(SpaceOutcome { stopped: None });
            }
            SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR if sense.information.unwrap_or(0) == 0 => {
                return Ok(SpaceOutcome { stopped: None });
            }
            SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR => {
                return Err(self.link.nonsense(&command, "a residue without a reason", Some(&reply)));
            }
            _ => None,
        };
        let Some(stop) = stop else {
            let error = self.link.fault(&command, sense, Intent::Other);
            self.not_moved(&error, before);
            return Err(error);
        };
        // st takes the absolute value too: drives differ in the sign when they went backward.
        let residue = sense.information.map(i64::unsigned_abs).filter(|left| (1..=count.unsigned_abs()).contains(left));
        match residue {
            Some(residue) => Ok(SpaceOutcome { stopped: Some((stop, residue)) }),
            None => {
                let what = format!("stopped ({sense}) without a residue between 1 and {}", count.unsigned_abs());
                Err(self.link.nonsense(&command, what, Some(&reply)))
            }
        }
    }

    /// A motion that was refused before it began leaves the count as it was; one that failed on its way is undetermined.
    fn not_moved(&mut self, error: &DriveError, before: Option<Position>) {
        use DriveErrorKind as K;
        self.stand = match error.kind {
            K::Medium | K::Hardware => Stand::Unknown(format!("a motion failed ({})", error.sense)),
            _ => before.map_or(Stand::Drive, Stand::Counted),
        };
    }

    pub(super) fn locate_to(&mut self, to: Position) -> Result<(), DriveError> {
        let before = std::mem::replace(&mut self.stand, Stand::Drive);
        let settled = self.settle();
        self.turn_from_writing();
        let done = settled.and_then(|()| self.locate_command(to, &before));
        match done {
            Ok(()) => {
                self.unsynchronised = 0;
                self.stand = Stand::Counted(to);
                Ok(())
            }
            Err(error) => {
                use DriveErrorKind as K;
                self.stand = match error.kind {
                    K::EndOfData => Stand::Drive,
                    K::Medium | K::Hardware => Stand::Unknown(format!("LOCATE failed ({})", error.sense)),
                    _ => before,
                };
                Err(error)
            }
        }
    }

    fn locate_command(&mut self, to: Position, before: &Stand) -> Result<(), DriveError> {
        // CP only where it is needed: drives without partitions refuse it.
        let same = before.counted().is_some_and(|before| before.partition == to.partition);
        let partition = (!same).then_some(to.partition);
        if self.link.limits.has(LOCATE16) != Some(false) && !self.no_locate16 {
            let destination = Destination::Object(to.object);
            let done = self.link.ask(Command::Locate16 { immediate: false, partition, destination }, Data::None);
            match done {
                Err(error) if error.sense.additional == AdditionalSense::INVALID_COMMAND_OPERATION_CODE => {
                    self.no_locate16 = true;
                }
                done => return done.map(drop),
            }
        }
        let object = u32::try_from(to.object).map_err(|_| {
            let text =
                format!("{}: the drive has LOCATE(10) only, which does not reach object {}", self.link.name, to.object);
            DriveError::new(DriveErrorKind::IllegalRequest, text)
        })?;
        let command = Command::Locate10 { immediate: false, block_address_type: false, partition, object };
        self.link.ask(command, Data::None).map(drop)
    }

    pub(super) fn rewind_partition(&mut self) -> Result<(), DriveError> {
        self.turn_from_writing();
        let before = self.stand.counted();
        if let Err(error) = self.link.ask(Command::Rewind { immediate: false }, Data::None) {
            if matches!(error.kind, DriveErrorKind::Medium | DriveErrorKind::Hardware) {
                self.stand = Stand::Unknown(format!("REWIND failed ({})", error.sense));
            }
            return Err(error);
        }
        self.unsynchronised = 0;
        self.stand = match before {
            Some(before) => Stand::Counted(Position { object: 0, ..before }),
            None => Stand::Drive,
        };
        Ok(())
    }

    /// READ POSITION; the count starts from what it says.
    pub(super) fn ask_position(&mut self) -> Result<PositionReport, DriveError> {
        let data = self.position_data()?;
        let name = &self.link.name;
        let Some(location) = data.location else {
            let text =
                format!("{name}: READ POSITION: the drive itself does not know where it stands; rewind or locate");
            return Err(DriveError::new(DriveErrorKind::Hardware, text));
        };
        let position = Position { partition: location.partition, object: location.first };
        let objects_in_buffer = match (self.unsynchronised, data.objects_in_buffer) {
            (0, _) => 0,
            (most, Some(told)) => told.min(most),
            (most, None) => self.objects_in_buffer()?.unwrap_or(most).min(most),
        };
        if data.beyond_programmable_early_warning {
            self.beyond_programmable = self.beyond_programmable.or(Some(position));
        }
        self.stand = Stand::Counted(position);
        Ok(PositionReport {
            position,
            filemarks: data.filemarks,
            beginning_of_partition: data.beginning_of_partition,
            end_of_partition: data.end_of_partition,
            objects_in_buffer,
        })
    }

    fn position_data(&mut self) -> Result<PositionData, DriveError> {
        // Short and long form have their length by themselves: ALLOCATION LENGTH is zero (SSC-4 7.6.1).
        let long = Command::ReadPosition { action: LONG_FORM, allocation: 0 };
        let has_long = self.link.limits.has_action(READ_POSITION, u16::from(LONG_FORM)) != Some(false);
        if has_long && !self.no_long_position {
            if let Some(bytes) = self.link.fetch_if_told(long, PositionData::LONG_LENGTH)? {
                return PositionData::parse_long(&bytes).map_err(|error| self.link.nonsense(&long, error, None));
            }
            self.no_long_position = true;
        }
        let short = Command::ReadPosition { action: SHORT_FORM, allocation: 0 };
        let bytes = self.link.fetch(short, PositionData::SHORT_LENGTH)?;
        PositionData::parse_short(&bytes).map_err(|error| self.link.nonsense(&short, error, None))
    }

    /// The long form does not tell the buffer's count: the extended one does, or the short one.
    fn objects_in_buffer(&mut self) -> Result<Option<u64>, DriveError> {
        if self.link.limits.has_action(READ_POSITION, u16::from(EXTENDED_FORM)) == Some(true) {
            let extended =
                Command::ReadPosition { action: EXTENDED_FORM, allocation: PositionData::LONG_LENGTH as u16 };
            let bytes = self.link.fetch_if_told(extended, PositionData::LONG_LENGTH)?;
            return Ok(bytes.and_then(|bytes| PositionData::parse_extended(&bytes).ok()?.objects_in_buffer));
        }
        let short = Command::ReadPosition { action: SHORT_FORM, allocation: 0 };
        let bytes = self.link.fetch_if_told(short, PositionData::SHORT_LENGTH)?;
        Ok(bytes.and_then(|bytes| PositionData::parse_short(&bytes).ok()?.objects_in_buffer))
    }

    pub(super) fn erase_here(&mut self, long: bool) -> Result<(), DriveError> {
        self.prepare_to_write()?;
        self.turn_from_writing();
        let command = Command::Erase6 { immediate: false, long };
        let reply = self.link.send(command, Data::None)?;
        match reply.sense {
            Some(sense) if !fault::is_done(&sense) => {
                let error = self.link.fault(&command, sense, Intent::Write);
                if matches!(error.kind, DriveErrorKind::Medium | DriveErrorKind::Hardware) {
                    self.stand = Stand::Unknown(format!("ERASE failed ({sense})"));
                }
                Err(error)
            }
            Some(_) | None => {
                self.unsynchronised = 0;
                Ok(())
            }
        }
    }
}

const _: () = assert!(MOST_SPACE6 < MOST_24_BITS as i64);
