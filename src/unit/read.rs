//! Reading: every block is verified whole before a byte of it leaves.

use sealtape_drivers::medium::{DriveError, DriveErrorKind, Position, ReadOutcome};

use super::refusals;
use super::sealed::SealedTape;
use super::write::of_the_sealed_length;
use crate::pipeline::{Ahead, AheadRecord, Opening, Room};
use crate::seal::opener::{check_place, check_record, open_in_place};
use crate::seal::wipe::wipe;
use crate::seal::{Header, MAX_PLAIN, OVERHEAD, OpenedRecord, RecordMark, Refusal};
use crate::volume::{Access, HIDDEN_OBJECTS};

/// What stands at a place, once verified.
pub(super) enum Opened {
    Record(RecordMark),
    Filemark,
    EndOfData,
}

/// The same, with plaintext that has to be wiped.
enum Read {
    Record(OpenedRecord, Held),
    Filemark,
    EndOfData,
}

/// Where it stands.
enum Held {
    /// In the unit's buffers, the block of so many bytes among them.
    Unit(usize),
    /// In a room of what was read ahead.
    Ahead(Room),
}

impl SealedTape {
    pub(super) fn read_block(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        self.notice_end();
        self.check_readable()?;
        self.leave_writing()?;
        match self.state() {
            // The partition could not be identified: that is not an empty one.
            None => return Err(self.position_unknown()),
            Some(state) if state.generation().is_none() => return Ok(ReadOutcome::EndOfData),
            Some(_) => {}
        }
        if !self.loaded.as_ref().is_some_and(|loaded| loaded.position_known) {
            return Err(self.position_unknown());
        }
        match self.read_object()? {
            Read::Filemark => Ok(ReadOutcome::Filemark),
            Read::EndOfData => Ok(ReadOutcome::EndOfData),
            Read::Record(opened, held) => {
                let text = match &held {
                    Held::Unit(_) => opened.text(&self.raw, &self.plain),
                    Held::Ahead(room) => opened.text(&room.block, &room.expanded),
                };
                let (length, wanted) = (text.len(), text.len().min(buffer.len()));
                buffer[..wanted].copy_from_slice(&text[..wanted]);
                self.put_away(&opened, held);
                Ok(ReadOutcome::Block { length })
            }
        }
    }

    /// Plaintext is wiped: that of a room when it leaves the round, which is cheaper than after each record.
    fn put_away(&mut self, opened: &OpenedRecord, held: Held) {
        match held {
            Held::Unit(block) => opened.wipe(&mut self.raw[..block], &mut self.plain),
            Held::Ahead(room) => self.ahead.give_back(room),
        }
    }

    pub(super) fn check_readable(&self) -> Result<(), DriveError> {
        let loaded = self.loaded.as_ref().ok_or_else(|| self.nothing_loaded())?;
        if let Some(reason) = &loaded.ended {
            return Err(refusals::key_ended(reason));
        }
        match loaded.latch.access() {
            Access::ReadWrite | Access::ReadOnly(_) => Ok(()),
            Access::None(reason) => Err(refusals::locked(&reason)),
        }
    }

    /// A turn of direction: what was acknowledged is written first, and the session ends.
    pub(super) fn leave_writing(&mut self) -> Result<(), DriveError> {
        match &self.write_blocked {
            // Whoever reads on from a known place (after a restart, say) has lost nothing.
            Some(_) if self.loaded.as_ref().is_some_and(|loaded| loaded.position_known) => {}
            Some(error) => return Err(error.clone()),
            None => self.settle()?,
        }
        if let Some(state) = self.state_mut() {
            state.end_session();
        }
        Ok(())
    }

    /// Reads and verifies the object at the present place, and forgets its plaintext.
    pub(super) fn read_record(&mut self) -> Result<Opened, DriveError> {
        Ok(match self.read_object()? {
            Read::Filemark => Opened::Filemark,
            Read::EndOfData => Opened::EndOfData,
            Read::Record(opened, held) => {
                self.put_away(&opened, held);
                Opened::Record(opened.mark)
            }
        })
    }

    /// A host that reads record after record is read ahead of.
    fn read_on(&mut self) -> Result<(), DriveError> {
        if !self.ahead.is_due() {
            return Ok(());
        }
        let Some(loaded) = self.loaded.as_ref() else { return Ok(()) };
        let (Some(state), Some(opening)) = (loaded.state(), self.opening()) else { return Ok(()) };
        let host = Position { partition: loaded.current, object: state.chain().object() + HIDDEN_OBJECTS };
        // The same memory is meant for both directions.
        self.pipeline.release_buffers();
        self.ahead.begin(opening, host)
    }

    /// What opens records of the session that was met last.
    fn opening(&self) -> Option<Opening> {
        let (session, cipher) = self.ciphers.last()?;
        Some(Opening { scope: *self.state()?.generation()?.scope(), session, cipher })
    }

    fn read_object(&mut self) -> Result<Read, DriveError> {
        self.read_on().map_err(|error| self.drive_failed(error))?;
        match self.ahead.take() {
            Some(Ahead::Record(record)) => self.open_ahead(record),
            Some(Ahead::Outcome(outcome)) => self.pass(outcome),
            None => self.read_directly(),
        }
    }

    fn read_directly(&mut self) -> Result<Read, DriveError> {
        let limit = self.drive_limits()?.maximum.min((MAX_PLAIN + OVERHEAD) as u32) as usize;
        if self.raw.len() < limit {
            self.raw.resize(limit, 0);
        }
        let outcome = {
            let mut drive = self.drive.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            drive.read(&mut self.raw)
        };
        self.pass(outcome)
    }

    /// What the drive said to READ; a block stands in the unit's buffer.
    fn pass(&mut self, outcome: Result<ReadOutcome, DriveError>) -> Result<Read, DriveError> {
        match outcome {
            Ok(ReadOutcome::Filemark) => {
                if let Some(state) = self.state_mut() {
                    state.pass_filemark();
                }
                Ok(Read::Filemark)
            }
            Ok(ReadOutcome::EndOfData | ReadOutcome::EndOfPartition) => {
                if let Some(state) = self.state_mut() {
                    state.meet_end_of_data();
                }
                Ok(Read::EndOfData)
            }
            Ok(ReadOutcome::Block { length }) => self.open_block(length),
            Err(error) => {
                if error.kind == DriveErrorKind::Medium
                    && let Some(state) = self.state_mut()
                {
                    // The drive's position is past the bad block or before it; it is asked for.
                    state.pass_refused(Refusal::Truncated);
                }
                let error = self.drive_failed(of_the_sealed_length(error));
                self.ask_position();
                Err(error)
            }
        }
    }

    fn open_block(&mut self, length: usize) -> Result<Read, DriveError> {
        let opened = self.try_open_block(length);
        if opened.is_err() {
            // What failed may stand there decrypted.
            if let Some(block) = self.raw.get_mut(..length) {
                wipe(block);
            }
            wipe(&mut self.plain);
        }
        if let Ok(opened) = &opened {
            self.ahead.count_text(opened.plain_len);
        }
        self.judge(opened, Held::Unit(length))
    }

    fn open_ahead(&mut self, record: AheadRecord) -> Result<Read, DriveError> {
        let AheadRecord { mut room, length, header, opened } = record;
        let opened = self.try_open_ahead(&mut room, length, header, opened);
        // A room that is not given back is wiped, whatever stands there.
        self.judge(opened, Held::Ahead(room))
    }

    fn judge(&mut self, opened: Result<OpenedRecord, Refusal>, held: Held) -> Result<Read, DriveError> {
        match opened {
            Ok(opened) => {
                if let Some(state) = self.state_mut() {
                    state.pass_record(opened.mark);
                }
                Ok(Read::Record(opened, held))
            }
            Err(refusal) => {
                // Without its key nothing verifies: that says nothing of what stands there.
                self.notice_end();
                if let Some(reason) = self.loaded.as_ref().and_then(|loaded| loaded.ended.as_ref()) {
                    return Err(refusals::key_ended(reason));
                }
                self.records_refused += 1;
                let object = self.state().map(|state| state.chain().object()).unwrap_or_default();
                if let Some(state) = self.state_mut() {
                    state.pass_refused(refusal);
                }
                let text = format!("drive {}: object {object}: {refusal}", self.name);
                tracing::warn!("{text}");
                self.report_incident(&format!("object {object}: {refusal}"));
                if let Some(loaded) = self.loaded.as_mut() {
                    loaded.latch.refuse_writing(format!(
                        "{text}. Reading goes on behind it; writing waits for unloading or: sealtape volume acknowledge {}",
                        self.name
                    ));
                }
                Err(refusals::refused(refusal, text))
            }
        }
    }

    fn try_open_block(&mut self, length: usize) -> Result<OpenedRecord, Refusal> {
        let block = self.raw.get_mut(..length).ok_or(Refusal::BadLengths)?;
        let state = self.loaded.as_ref().and_then(|loaded| loaded.state()).ok_or(Refusal::NoGeneration)?;
        let generation = state.generation().ok_or(Refusal::NoGeneration)?;
        let header = check_record(block, generation.scope(), false, state.chain())?;
        let cipher = self.ciphers.cipher(&generation.keys, header.session)?;
        let opened = open_in_place(&header, block, &*cipher, generation.scope(), &mut self.plain)?;
        generation.check_catalogue(&header)?;
        Ok(opened)
    }

    /// The same checks in the same order, of a block whose envelope and tag were looked at before.
    fn try_open_ahead(
        &mut self,
        room: &mut Room,
        length: usize,
        header: Result<Header, Refusal>,
        opened: Option<Result<OpenedRecord, Refusal>>,
    ) -> Result<OpenedRecord, Refusal> {
        let state = self.loaded.as_ref().and_then(|loaded| loaded.state()).ok_or(Refusal::NoGeneration)?;
        let generation = state.generation().ok_or(Refusal::NoGeneration)?;
        let header = header?;
        check_place(&header, generation.scope(), state.chain())?;
        let opened = match opened {
            Some(opened) => opened?,
            None => {
                // The first of another session; those behind it are likely to be of the same.
                let cipher = self.ciphers.cipher(&generation.keys, header.session)?;
                let block = room.block.get_mut(..length).ok_or(Refusal::BadLengths)?;
                let opened = open_in_place(&header, block, &*cipher, generation.scope(), &mut room.expanded)?;
                let (scope, session) = (*generation.scope(), header.session);
                self.ahead.open_with(Opening { scope, session, cipher });
                opened
            }
        };
        generation.check_catalogue(&header)?;
        Ok(opened)
    }
}
