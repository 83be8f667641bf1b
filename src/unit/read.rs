//! Reading: every block is verified whole before a byte of it leaves.

use sealtape_drivers::medium::{DriveError, DriveErrorKind, ReadOutcome};

use super::refusals;
use super::sealed::SealedTape;
use super::write::of_the_sealed_length;
use crate::seal::opener::{check_record, open_in_place};
use crate::seal::wipe::wipe;
use crate::seal::{MAX_PLAIN, OVERHEAD, OpenedRecord, RecordMark, Refusal};
use crate::volume::Access;

/// What stands at a place, once verified.
pub(super) enum Opened {
    Record(RecordMark),
    Filemark,
    EndOfData,
}

/// The same, with plaintext that stands in the unit's buffers, the block of so many bytes among them, and has to be wiped.
enum Read {
    Record(OpenedRecord, usize),
    Filemark,
    EndOfData,
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
            Read::Record(opened, block) => {
                let text = opened.text(&self.raw, &self.plain);
                let (length, wanted) = (text.len(), text.len().min(buffer.len()));
                buffer[..wanted].copy_from_slice(&text[..wanted]);
                opened.wipe(&mut self.raw[..block], &mut self.plain);
                Ok(ReadOutcome::Block { length })
            }
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
            Read::Record(opened, block) => {
                opened.wipe(&mut self.raw[..block], &mut self.plain);
                Opened::Record(opened.mark)
            }
        })
    }

    fn read_object(&mut self) -> Result<Read, DriveError> {
        let limit = self.drive_limits()?.maximum.min((MAX_PLAIN + OVERHEAD) as u32) as usize;
        if self.raw.len() < limit {
            self.raw.resize(limit, 0);
        }
        let outcome = {
            let mut drive = self.drive.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            drive.read(&mut self.raw)
        };
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
        match self.try_open_block(length) {
            Ok(opened) => {
                if let Some(state) = self.state_mut() {
                    state.pass_record(opened.mark);
                }
                Ok(Read::Record(opened, length))
            }
            Err(refusal) => {
                // What failed may stand there decrypted.
                if let Some(block) = self.raw.get_mut(..length) {
                    wipe(block);
                }
                wipe(&mut self.plain);
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
}
