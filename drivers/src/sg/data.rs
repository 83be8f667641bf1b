//! READ, WRITE and WRITE FILEMARKS: what a drive answers, as outcomes.

use super::drive::ScsiTapeDrive;
use super::fault::{self, Intent};
use super::link::Reply;
use super::stand::Stand;
use super::{Data, Transport};
use crate::medium::{DriveError, DriveErrorKind, Position, ReadOutcome, Warning};
use crate::scsi::{AdditionalSense, Command, Sense, SenseKey};

/// TRANSFER LENGTH and FILEMARK COUNT have 24 bits.
pub(super) const MOST_24_BITS: u32 = 0xff_ffff;

impl<T: Transport> ScsiTapeDrive<T> {
    /// The longest block that one command can carry.
    pub(super) fn longest_block(&self) -> usize {
        self.link.largest_transfer().min(MOST_24_BITS as usize)
    }

    pub(super) fn write_block(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        let longest = self.longest_block();
        let length = u32::try_from(block.len()).ok().filter(|_| (1..=longest).contains(&block.len()));
        let length = length.ok_or_else(|| {
            let text = format!("{}: a block has 1 to {longest} bytes, not {}", self.link.name, block.len());
            DriveError::new(DriveErrorKind::IllegalRequest, text)
        })?;
        self.prepare_to_write()?;
        let command = Command::Write6 { fixed: false, length };
        self.unsynchronised = self.unsynchronised.saturating_add(1);
        let reply = self.link.send(command, Data::Out(block))?;
        let warning = self.accepted(&command, &reply)?;
        if reply.transferred != block.len() {
            return Err(self.short_transfer("WRITE", reply.transferred, block.len()));
        }
        self.stand.advance(1);
        Ok(warning)
    }

    pub(super) fn write_marks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        if count > MOST_24_BITS {
            let text = format!("{}: {count} filemarks in one command; {MOST_24_BITS} is the most", self.link.name);
            return Err(DriveError::new(DriveErrorKind::IllegalRequest, text));
        }
        if count > 0 {
            self.prepare_to_write()?;
            self.unsynchronised = self.unsynchronised.saturating_add(u64::from(count));
        }
        let command = Command::WriteFilemarks6 { immediate, count };
        let reply = self.link.send(command, Data::None)?;
        let warning = self.accepted(&command, &reply)?;
        self.stand.advance(u64::from(count));
        if !immediate {
            self.unsynchronised = 0;
            self.confirm_count()?;
        }
        Ok(if count == 0 { Warning::None } else { warning })
    }

    /// Whether what was sent was taken, and how near the end is.
    fn accepted(&mut self, command: &Command, reply: &Reply) -> Result<Warning, DriveError> {
        let Some(sense) = reply.sense else { return Ok(self.at_least_programmable(Warning::None)) };
        if !fault::is_done(&sense) {
            return Err(self.write_failed(command, sense));
        }
        if sense.additional == AdditionalSense::PROGRAMMABLE_EARLY_WARNING {
            self.beyond_programmable = self.beyond_programmable.or(self.stand.counted());
            return Ok(Warning::Programmable);
        }
        if !sense.flags.end_of_medium {
            return Ok(self.at_least_programmable(Warning::None));
        }
        // Early warning with something left over would be a record that was not taken: that has keys of its own.
        if sense.information.is_some_and(|left| left != 0) {
            self.stand = Stand::Unknown("a write that the drive says was done in part".into());
            return Err(self.link.nonsense(command, "early warning with a residue", Some(reply)));
        }
        Ok(Warning::Early)
    }

    fn at_least_programmable(&self, warning: Warning) -> Warning {
        match self.beyond_programmable {
            Some(_) => warning.max(Warning::Programmable),
            None => warning,
        }
    }

    /// After a write that failed the position should be what it was. Whether it is, the drive is asked; a count that is not
    /// confirmed counts for nothing.
    fn write_failed(&mut self, command: &Command, sense: Sense) -> DriveError {
        let error = self.link.fault(command, sense, Intent::Write);
        let moved =
            matches!(error.kind, DriveErrorKind::Medium | DriveErrorKind::Hardware | DriveErrorKind::EndOfMedium);
        if moved && !sense.flags.deferred {
            let before = self.stand.counted();
            let now = self.ask_position();
            if before.is_none() || now.as_ref().ok().map(|report| report.position) != before {
                self.stand = Stand::Unknown(format!("a write failed ({sense})"));
            }
            if let Err(further) = now {
                tracing::warn!(drive = %self.link.name, cause = %further, "no position after a failed write");
                self.take_note(&further);
            }
        }
        error
    }

    pub(super) fn read_block(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        self.stand.check(&self.link.name)?;
        self.settle()?;
        self.turn_from_writing();
        let longest = self.longest_block();
        // A length of 0 would not move the medium; a block's length is told whatever the room.
        let mut scratch = [0; 1];
        let room = if buffer.is_empty() { &mut scratch[..] } else { buffer };
        let requested = room.len().min(longest);
        let room = room.get_mut(..requested).unwrap_or_default();
        let length = u32::try_from(requested).unwrap_or(MOST_24_BITS);
        let command = Command::Read6 { fixed: false, suppress_incorrect_length: false, length };
        let reply = self.link.send(command, Data::In(room))?;
        let outcome = self.read_outcome(&command, &reply, requested);
        match &outcome {
            Ok(ReadOutcome::Block { .. } | ReadOutcome::Filemark) => self.stand.advance(1),
            Ok(ReadOutcome::EndOfData) => {}
            Ok(ReadOutcome::EndOfPartition) => self.stand = Stand::Drive,
            Err(error) => match error.kind {
                DriveErrorKind::Medium | DriveErrorKind::Hardware => self.stand = Stand::Drive,
                _ => {}
            },
        }
        outcome
    }

    /// SSC-4 7.5, with SILI and FIXED zero.
    fn read_outcome(&self, command: &Command, reply: &Reply, requested: usize) -> Result<ReadOutcome, DriveError> {
        let Some(sense) = reply.sense else { return self.whole_block(reply, requested) };
        let Sense { key, flags, additional, .. } = sense;
        let failed = || Err(self.link.fault(command, sense, Intent::Other));
        if flags.deferred {
            return failed();
        }
        match key {
            SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR if flags.filemark => Ok(ReadOutcome::Filemark),
            SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR if flags.incorrect_length => {
                self.other_length(command, reply, requested)
            }
            // Recovered, or early warning with REW set: the block is there.
            SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR => self.whole_block(reply, requested),
            SenseKey::BLANK_CHECK if additional.asc == 0 => Ok(ReadOutcome::EndOfData),
            SenseKey::MEDIUM_ERROR
                if flags.end_of_medium && additional == AdditionalSense::END_OF_PARTITION_MEDIUM_DETECTED =>
            {
                Ok(ReadOutcome::EndOfPartition)
            }
            _ => failed(),
        }
    }

    /// Without ILI the block has the length that was asked for, and all of it has to be here.
    fn whole_block(&self, reply: &Reply, requested: usize) -> Result<ReadOutcome, DriveError> {
        match reply.transferred == requested {
            true => Ok(ReadOutcome::Block { length: requested }),
            false => Err(self.short_transfer("READ", reply.transferred, requested)),
        }
    }

    /// ILI: INFORMATION is the requested length less that of the block, negative when the block is longer.
    fn other_length(&self, command: &Command, reply: &Reply, requested: usize) -> Result<ReadOutcome, DriveError> {
        let difference = reply.sense.and_then(|sense| sense.information);
        let length = difference
            .and_then(|difference| i64::try_from(requested).ok()?.checked_sub(difference))
            .and_then(|length| usize::try_from(length).ok())
            .filter(|length| (1..=MOST_24_BITS as usize).contains(length) && *length != requested);
        let Some(length) = length else {
            let what = match difference {
                None => "a block of another length, without saying which".to_owned(),
                Some(difference) => format!("a block {difference} bytes shorter than the {requested} asked for"),
            };
            return Err(self.link.nonsense(command, what, Some(reply)));
        };
        // A transport that cannot tell how much came says that all did; less than the block is a block with a hole.
        let needed = length.min(requested);
        match reply.transferred >= needed {
            true => Ok(ReadOutcome::Block { length }),
            false => Err(self.short_transfer("READ", reply.transferred, needed)),
        }
    }

    fn short_transfer(&self, doing: &str, moved: usize, needed: usize) -> DriveError {
        let name = &self.link.name;
        let text = format!(
            "{name}: {doing}: the drive says all is done, but {moved} of {needed} bytes were moved; check host adapter and cable"
        );
        DriveError::new(DriveErrorKind::Transport, text)
    }

    /// What a write needs: a known position, our settings, and the drive's own word for the position when it was not writing
    /// just now: another initiator, a reset that told nobody, or a command executed twice would show here.
    pub(super) fn prepare_to_write(&mut self) -> Result<(), DriveError> {
        self.stand.check(&self.link.name)?;
        self.settle()?;
        if self.writes_on() {
            return Ok(());
        }
        match self.stand.counted() {
            Some(_) => self.confirm_count()?,
            None => drop(self.ask_position()?),
        }
        // What is written before the place of the warning makes that place another one.
        if self
            .stand
            .counted()
            .zip(self.beyond_programmable)
            .is_some_and(|(here, warned)| here.partition != warned.partition || here.object < warned.object)
        {
            self.beyond_programmable = None;
        }
        self.turn_to_writing();
        Ok(())
    }

    /// Compares the drive's position with the count.
    fn confirm_count(&mut self) -> Result<(), DriveError> {
        let Some(counted) = self.stand.counted() else { return Ok(()) };
        let told = self.ask_position()?.position;
        if told == counted {
            return Ok(());
        }
        let show = |Position { partition, object }: Position| format!("object {object} of partition {partition}");
        let text = format!(
            "the drive stands at {}, and should at {}: another program moved it, or a command was executed twice or not at all",
            show(told),
            show(counted)
        );
        self.stand = Stand::Unknown(text.clone());
        let text = format!("{}: {text}; keep other programs off the drive, then rewind", self.link.name);
        Err(DriveError::new(DriveErrorKind::Transport, text))
    }
}
