//! Writing: sessions, generations, synchronisation.

use std::time::{Duration, Instant};

use sealtape_drivers::medium::{DriveError, DriveErrorKind, Position, ReadOutcome, SpaceKind, SpaceStop, Warning};

use super::read::Opened;
use super::refusals;
use super::sealed::{GENERATION_RECORD, SealedTape};
use crate::pipeline::{PipelineFailure, SubmitError};
use crate::seal::{GenerationRecord, PlainRecord, RecordKind, Refusal, SessionId, SessionSealer, VolumeKind};
use crate::volume::keys::{NewGeneration, SessionOpening, SyncReport};
use crate::volume::partition::Generation;
use crate::volume::{Access, HIDDEN_OBJECTS, PartitionState, WritePlan};
use sealtape_drivers::scsi::{AdditionalSense, Sense, SenseKey};

/// A pause of the host after which the drive is asked where it stands before it writes on.
const IDLE: Duration = Duration::from_secs(1);

impl SealedTape {
    pub(super) fn write_block(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        self.notice_end();
        self.check_writable()?;
        if block.is_empty() {
            return Ok(Warning::None);
        }
        let maximum = self.max_plain_of(self.drive_limits()?.maximum);
        if block.len() > maximum as usize {
            return Err(DriveError::new(
                DriveErrorKind::IllegalRequest,
                format!("drive {}: a block of {} bytes was asked for, {maximum} fit", self.name, block.len()),
            ));
        }
        self.prepare_record()?;
        self.set_mark()?;
        let mut record = PlainRecord::in_buffer(self.pipeline.buffer(block.len()));
        record.extend(block);
        let (session, compression, object, filemarks) = {
            let state = self.loaded.as_mut().and_then(|loaded| loaded.state_mut());
            let Some(state) = state else { return Err(refusals::locked("no generation is open")) };
            let compression = state.generation().map(|generation| generation.policy.compression);
            match (state.session_mut(), compression) {
                (Some((session, chain)), Some(compression)) => {
                    let filemarks = chain.filemarks().unwrap_or_default();
                    (session, compression, chain.object(), filemarks)
                }
                _ => return Err(refusals::locked("no session is open")),
            }
        };
        let reservation = session
            .reserve(object, filemarks)
            .map_err(|_| refusals::locked("the session's seal counters are used up; write again to open another"))?;
        match self.pipeline.submit(reservation, record, compression) {
            Ok(warning) => {
                if let Some(state) = self.state_mut() {
                    state.pass_submitted();
                }
                self.unsynchronised_objects += 1;
                self.last_write = Some(Instant::now());
                Ok(self.host_warning(warning))
            }
            Err(error) => Err(self.submit_failed(error)),
        }
    }

    pub(super) fn write_marks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        self.notice_end();
        if count == 0 {
            return self.synchronise();
        }
        self.check_writable()?;
        self.prepare_filemark()?;
        self.confirm_drive_position()?;
        self.set_mark()?;
        if immediate {
            return match self.pipeline.submit_filemarks(count) {
                Ok(warning) => {
                    if let Some(state) = self.state_mut() {
                        state.pass_written_filemarks(count);
                    }
                    self.unsynchronised_objects += u64::from(count);
                    Ok(self.host_warning(warning))
                }
                Err(error) => Err(self.submit_failed(error)),
            };
        }
        self.settle()?;
        let written = self.drive().write_filemarks(count, false);
        match written {
            Ok(warning) => {
                if let Some(state) = self.state_mut() {
                    state.pass_written_filemarks(count);
                }
                self.synchronised();
                Ok(self.host_warning(warning))
            }
            Err(error) => Err(self.drive_failed(error)),
        }
    }

    /// Carries out what a filemark (or an erasure) at this place needs before it.
    pub(super) fn prepare_filemark(&mut self) -> Result<(), DriveError> {
        self.check_position()?;
        // Each round brings the plan further: confirm, then tell the catalogue.
        for _ in 0..3 {
            let state = self.state().ok_or_else(|| refusals::locked("no generation is open"))?;
            let plan = state.plan_filemark();
            if let Some(generation) = state.generation().filter(|generation| generation.keys.sealing().is_none())
                && plan != Some(WritePlan::NewGeneration)
            {
                return Err(not_sealing(&self.name, generation));
            }
            match plan {
                None | Some(WritePlan::Continue) => return Ok(()),
                Some(WritePlan::NewGeneration) => self.write_new_generation()?,
                Some(WritePlan::ConfirmBefore) => self.confirm_before()?,
                Some(WritePlan::NotAtEndOfData) => return Err(self.not_at_end_of_data()),
                Some(WritePlan::OpenSession { link, filemarks, after_ordinal }) => {
                    self.confirm_drive_position()?;
                    self.open_session(link, filemarks, after_ordinal)?;
                    if let Some(state) = self.state_mut() {
                        state.end_session();
                    }
                    return Ok(());
                }
            }
        }
        Err(refusals::locked("the place of the filemark could not be confirmed"))
    }

    /// Everything that was acknowledged stands on the medium when this returns.
    pub(super) fn synchronise(&mut self) -> Result<Warning, DriveError> {
        if let Some(error) = &self.write_blocked {
            // What is lost is lost; it was told once and is told again until the host moves.
            return Err(error.clone());
        }
        self.settle()?;
        if !self.mark.is_set() && !self.catalogue_behind {
            return Ok(Warning::None);
        }
        let synchronised = if self.mark.is_set() { self.drive().write_filemarks(0, false) } else { Ok(Warning::None) };
        match synchronised {
            Ok(warning) => {
                self.synchronised();
                Ok(self.host_warning(warning))
            }
            Err(error) => Err(self.drive_failed(error)),
        }
    }

    /// A synchronising command covered everything: the catalogue learns the end of data, the mark goes.
    fn synchronised(&mut self) {
        self.unsynchronised_objects = 0;
        self.permit_removal();
        let report = self.state().and_then(|state| {
            let generation = state.generation()?;
            let end = state.known_end()?;
            Some(SyncReport { scope: *generation.scope(), key_id: generation.key_id, end })
        });
        if let Some(report) = report {
            if let Some(state) = self.state_mut() {
                state.remember_end(report.end);
            }
            self.catalogue_behind = match self.keys.record_sync(&report) {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(drive = %self.name, %error, "the catalogue could not be told of the end of data; it is told at the next synchronisation");
                    true
                }
            };
        }
        if let Err(error) = self.mark.clear() {
            tracing::error!(path = %self.mark.path().display(), %error, "the mark of unsynchronised records cannot be removed");
        }
    }

    /// Nothing is unsynchronised any more: the cartridge may be taken out, unless the host said otherwise.
    pub(super) fn permit_removal(&mut self) {
        if self.host_prevents_removal {
            return;
        }
        let permitted = self.drive().prevent_removal(false);
        if let Err(error) = permitted.map_err(|error| self.drive_failed(error)) {
            tracing::warn!(drive = %self.name, %error, "the drive keeps preventing the removal of its cartridge");
        }
    }

    /// Waits for the window; the state learns what was written last.
    pub(super) fn settle(&mut self) -> Result<(), DriveError> {
        match self.pipeline.drain() {
            Ok(report) => {
                if let Some(state) = self.state_mut() {
                    state.settle(report.last);
                }
                Ok(())
            }
            Err(failure) => Err(self.pipeline_failed(&failure)),
        }
    }

    /// Remembers on disk, before it is acknowledged, that something is not synchronised.
    pub(super) fn set_mark(&mut self) -> Result<(), DriveError> {
        if self.mark.is_set() {
            return Ok(());
        }
        let loaded = self.loaded.as_ref().ok_or_else(|| self.nothing_loaded())?;
        let volume = loaded.label.as_ref().map(|label| label.volume).unwrap_or_default();
        let partition = loaded.current;
        self.mark.set(volume, partition).map_err(|error| {
            let path = self.mark.path().display();
            DriveError::transport(
                format!(
                    "drive {}: nothing can be acknowledged, since {path} cannot be written; make room there",
                    self.name
                ),
                error,
            )
        })?;
        // Nobody takes the cartridge out while records of it stand in a window or a buffer.
        let prevented = self.drive().prevent_removal(true);
        prevented.map_err(|error| self.drive_failed(error))
    }

    pub(super) fn check_writable(&self) -> Result<(), DriveError> {
        let loaded = self.loaded.as_ref().ok_or_else(|| self.nothing_loaded())?;
        if let Some(error) = &self.write_blocked {
            return Err(error.clone());
        }
        if let Some(reason) = &loaded.ended {
            return Err(refusals::key_ended(reason));
        }
        match loaded.latch.access() {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly(reason) | Access::None(reason) => Err(refusals::read_only(&reason)),
        }
    }

    fn not_at_end_of_data(&self) -> DriveError {
        refusals::read_only(&format!(
            "drive {}: the volume's pool is append-only, and this is not the end of data; move there (mt eod)",
            self.name
        ))
    }

    /// Carries out what a record at this place needs before it.
    fn prepare_record(&mut self) -> Result<(), DriveError> {
        self.check_position()?;
        // Each round brings the plan further: confirm, then open; or a new generation, then open.
        for _ in 0..3 {
            let plan = self.state().ok_or_else(|| refusals::locked("no generation is open"))?.plan_write();
            match plan {
                WritePlan::Continue => return self.confirm_after_idling(),
                WritePlan::NotAtEndOfData => return Err(self.not_at_end_of_data()),
                WritePlan::NewGeneration => self.write_new_generation()?,
                WritePlan::ConfirmBefore => self.confirm_before()?,
                WritePlan::OpenSession { link, filemarks, after_ordinal } => {
                    self.settle()?;
                    self.confirm_drive_position()?;
                    self.open_session(link, filemarks, after_ordinal)?;
                }
            }
        }
        Err(refusals::locked("the place of the write could not be confirmed"))
    }

    /// While a host paused, somebody else may have reached the drive on a way of his own and moved it.
    fn confirm_after_idling(&mut self) -> Result<(), DriveError> {
        match self.last_write {
            Some(last) if last.elapsed() < IDLE => Ok(()),
            _ => self.confirm_drive_position(),
        }
    }

    fn open_session(&mut self, link: crate::seal::Link, filemarks: u64, after_ordinal: u32) -> Result<(), DriveError> {
        let Some(state) = self.loaded.as_mut().and_then(|loaded| loaded.state_mut()) else {
            return Err(refusals::locked("no generation is open"));
        };
        let first_object = state.chain().object();
        let Some(generation) = state.generation() else { return Err(refusals::locked("no generation is open")) };
        let Some(keys) = generation.keys.sealing() else {
            return Err(not_sealing(&self.name, generation));
        };
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| {
            DriveError::transport("the system gives no random numbers", std::io::Error::other(error))
        })?;
        let session = SessionId(id);
        let opening = SessionOpening {
            scope: *generation.scope(),
            key_id: generation.key_id,
            session,
            first_object,
            filemarks,
            link,
            after_ordinal,
        };
        let ordinal = self.keys.open_session(&opening).map_err(|refusal| {
            let refusal = refusals::key_refused(&refusal);
            DriveError { message: format!("drive {}: {}; nothing was written", self.name, refusal.message), ..refusal }
        })?;
        let sealer = SessionSealer::open(keys, RecordKind::TapeBlock, session, ordinal, first_object, link)
            .ok_or_else(|| refusals::refused(Refusal::UnknownSuite, Refusal::UnknownSuite.words()))?;
        state.begin_session(sealer, link);
        Ok(())
    }

    /// Finds and verifies the record before this place, with nothing but filemarks between, and comes back.
    fn confirm_before(&mut self) -> Result<(), DriveError> {
        self.settle()?;
        self.confirm_drive_position()?;
        let loaded = self.loaded.as_ref().ok_or_else(|| self.nothing_loaded())?;
        let partition = loaded.current;
        let object = self.state().map(|state| state.chain().object()).unwrap_or_default();
        let at_end = self.state().is_some_and(PartitionState::is_at_end_of_data);
        let here = Position { partition, object: object + HIDDEN_OBJECTS };
        let before = self.step_to_record_before(here);
        let before = before.map_err(|error| self.drive_failed(error))?;
        let mark = match before {
            None => None,
            Some(record) => {
                if let Some(state) = self.state_mut() {
                    state.moved(record, None);
                }
                match self.read_record()? {
                    Opened::Record(mark) => Some(mark),
                    Opened::Filemark | Opened::EndOfData => {
                        return Err(self.drive_failed(DriveError::new(
                            DriveErrorKind::Hardware,
                            format!("drive {}: spacing back over a block did not come to a block", self.name),
                        )));
                    }
                }
            }
        };
        let back = self.drive().locate(here);
        back.map_err(|error| self.drive_failed(error))?;
        if let Some(state) = self.state_mut() {
            state.moved(object, None);
            state.confirm_before(mark);
            if at_end {
                state.meet_end_of_data();
            }
        }
        Ok(())
    }

    /// Moves back over filemarks until a block was passed; its logical object number, `None` at the beginning.
    fn step_to_record_before(&mut self, here: Position) -> Result<Option<u64>, DriveError> {
        let mut drive = self.drive();
        loop {
            let outcome = drive.space(SpaceKind::Blocks, -1)?;
            let at = drive.read_position()?.position;
            if at.partition != here.partition || at.object < HIDDEN_OBJECTS {
                return Ok(None);
            }
            match outcome.stopped {
                None => return Ok(Some(at.object - HIDDEN_OBJECTS)),
                Some((SpaceStop::Filemark, _)) => {}
                Some((SpaceStop::BeginningOfPartition | SpaceStop::EndOfData, _)) => return Ok(None),
            }
        }
    }

    /// The drive has to stand where the host believes it to stand, before anything is written.
    pub(super) fn confirm_drive_position(&mut self) -> Result<(), DriveError> {
        let Some(loaded) = self.loaded.as_ref() else { return Err(self.nothing_loaded()) };
        let (Some(state), true) = (loaded.state(), loaded.position_known) else {
            return Err(self.position_unknown());
        };
        if state.generation().is_none() {
            return Ok(());
        }
        let (fill, _) = self.pipeline.fill();
        if fill > 0 {
            // The window is being written: nobody else moves the drive, and draining would undo its purpose.
            return Ok(());
        }
        let expected = Position { partition: loaded.current, object: state.chain().object() + HIDDEN_OBJECTS };
        let report = self.drive().read_position();
        let found = report.map_err(|error| self.drive_failed(error))?.position;
        if found == expected {
            return Ok(());
        }
        let error = DriveError::new(
            DriveErrorKind::Hardware,
            format!(
                "drive {}: it stands at object {} of partition {} and not at {} of {}, where this unit left it; somebody \
                 else moved it. Nothing was written; rewind or locate",
                self.name, found.object, found.partition, expected.object, expected.partition
            ),
        );
        Err(self.drive_failed(DriveError { kind: DriveErrorKind::Reset, ..error }))
    }

    /// Nothing is written where the drive's position is not the host's.
    fn check_position(&self) -> Result<(), DriveError> {
        let known = self.loaded.as_ref().is_some_and(|loaded| loaded.position_known);
        if known { Ok(()) } else { Err(self.position_unknown()) }
    }

    pub(super) fn position_unknown(&self) -> DriveError {
        let sense = Sense::new(SenseKey::HARDWARE_ERROR, AdditionalSense::SEQUENTIAL_POSITIONING_ERROR);
        DriveError::new(
            DriveErrorKind::Hardware,
            format!("drive {}: the position is not known after an error; rewind or locate first", self.name),
        )
        .with_sense(sense)
    }

    /// Writes a new generation: pending in the catalogue, on the medium, read back, active. Everything that the
    /// partition held is lost with the first step on the medium.
    pub(super) fn write_new_generation(&mut self) -> Result<(), DriveError> {
        self.settle()?;
        let loaded = self.loaded.as_ref().ok_or_else(|| self.nothing_loaded())?;
        let partition = loaded.current;
        let Some(label) = &loaded.label else { return Err(refusals::locked("the medium has no label")) };
        let volume = label.volume;
        let status = self.drive().medium_status();
        let status = status.map_err(|error| self.drive_failed(error))?;
        if status.medium_type == sealtape_drivers::medium::MediumType::Worm {
            return Err(refusals::read_only(&format!(
                "drive {}: the cartridge is write-once and its first generation holds data already; append at its end",
                self.name
            )));
        }
        let new = self.keys.create_generation(volume, partition).map_err(|refusal| {
            let refusal = refusals::key_refused(&refusal);
            DriveError { message: format!("drive {}: {}; nothing was written", self.name, refusal.message), ..refusal }
        })?;
        let written = self.put_generation(partition, &new);
        if let Err(error) = written {
            // Neither the old nor the new generation may be there now: nothing more until it is looked at again.
            if let Some(loaded) = self.loaded.as_mut() {
                loaded.position_known = false;
                loaded.latch.lock(format!(
                    "drive {}: volume {volume}: writing a new generation failed: {}; unload and load again",
                    self.name, error.message
                ));
            }
            return Err(error);
        }
        let commitment = new.keys.commitment();
        let activated = self.keys.activate_generation(new.keys.scope(), new.key_id, &commitment);
        if let Err(refusal) = activated {
            let text = format!(
                "drive {}: volume {volume}: the new generation stands on the medium but could not be activated: \
                 {refusal}; unload and load again when the key authority is back",
                self.name
            );
            if let Some(loaded) = self.loaded.as_mut() {
                loaded.latch.lock(text.clone());
            }
            return Err(DriveError { message: text, ..refusals::key_refused(&refusal) });
        }
        if let Some(loaded) = self.loaded.as_mut() {
            loaded.set_partition(partition, PartitionState::new_generation(new));
            loaded.position_known = true;
        }
        self.ciphers = Default::default();
        self.pipeline.reset();
        Ok(())
    }

    /// Writes, synchronises and reads back a generation record; afterwards the drive stands behind it.
    pub(super) fn put_generation(&mut self, partition: u8, new: &NewGeneration) -> Result<(), DriveError> {
        let label_block = self
            .loaded
            .as_ref()
            .and_then(|loaded| loaded.label_blocks.get(usize::from(partition))?.as_ref())
            .ok_or_else(|| refusals::locked("the partition has no label"))?;
        let record = GenerationRecord {
            scope: *new.keys.scope(),
            kind: VolumeKind::Tape,
            first_session_ordinal: new.first_session_ordinal,
            key_id: new.key_id,
            commitment: new.keys.commitment(),
            stanzas: new.stanzas.clone(),
        };
        let block = record
            .encode(&new.keys, label_block)
            .map_err(|text| DriveError::new(DriveErrorKind::IllegalRequest, text))?;
        let mut drive = self.drive();
        let place = Position { partition, object: GENERATION_RECORD };
        match drive.locate(place) {
            // Labelling was cut short before the filemark that follows the label.
            Err(error) if error.kind == DriveErrorKind::EndOfData => drive.write_filemarks(1, false).map(drop)?,
            located => located?,
        }
        if drive.read_position()?.position != place {
            return Err(DriveError::new(
                DriveErrorKind::Medium,
                format!("drive {}: more than a filemark is missing before the generation record", self.name),
            ));
        }
        drive.write(&block)?;
        drive.write_filemarks(0, false)?;
        drive.locate(place)?;
        let mut back = vec![0; block.len() + 1];
        let outcome = drive.read(&mut back)?;
        if outcome != (ReadOutcome::Block { length: block.len() }) || back[..block.len()] != block {
            return Err(DriveError::new(
                DriveErrorKind::Medium,
                format!("drive {}: the generation record does not read back as it was written", self.name),
            ));
        }
        Ok(())
    }

    fn submit_failed(&mut self, error: SubmitError) -> DriveError {
        match error {
            SubmitError::Failed => match self.pipeline.drain() {
                Err(failure) => self.pipeline_failed(&failure),
                Ok(_) => refusals::locked("the window failed without an error"),
            },
            SubmitError::Refused(error) => {
                // Its seal counter is consumed, so its session is over; nothing else was lost.
                let report = self.pipeline.drain();
                if let (Ok(report), Some(state)) = (report, self.state_mut()) {
                    state.settle(report.last);
                }
                self.drive_failed(of_the_sealed_length(error))
            }
        }
    }

    /// Acknowledged records are lost: every write fails from now on, until the host moves.
    fn pipeline_failed(&mut self, failure: &PipelineFailure) -> DriveError {
        if let Some(error) = &self.write_blocked {
            return error.clone();
        }
        let error = refusals::deferred(&failure.error, failure.lost);
        tracing::error!(drive = %self.name, lost = failure.lost, cause = %failure.error, "acknowledged records were lost");
        self.write_blocked = Some(error.clone());
        if let Some(loaded) = self.loaded.as_mut() {
            loaded.position_known = false;
            if let Some(state) = loaded.state_mut() {
                state.lose_position();
            }
        }
        error
    }

    /// A command of the drive failed, of which the host is told at once. Every failed command comes here, also one that
    /// only asks: a drive tells once that it was reset, with whatever command comes first. A deferred error is about what
    /// the drive had accepted before: that is lost, as it may be after a reset.
    pub(super) fn drive_failed(&mut self, error: DriveError) -> DriveError {
        let deferred = error.sense.flags.deferred;
        if error.position_lost() || deferred {
            // What still stands in the window is refused by the guard, and has left it before the drive is moved again.
            // A failure is kept by the window, and told by the next command that settles.
            drop(self.pipeline.drain());
        }
        // It says so once, and not always to a command that asks for it.
        let changed = error.sense.additional == AdditionalSense::MEDIUM_MAY_HAVE_CHANGED;
        if error.kind == DriveErrorKind::UnitAttention && changed && self.loaded.is_some() {
            self.medium_changed(&error);
            return error;
        }
        if let Some(loaded) = self.loaded.as_mut() {
            if error.position_lost() || deferred {
                loaded.position_known = false;
            }
            if let Some(state) = loaded.state_mut() {
                state.end_session();
                if error.position_lost() || deferred {
                    state.lose_position();
                }
            }
        }
        let lost_in_drive = deferred || matches!(error.kind, DriveErrorKind::Reset | DriveErrorKind::Transport);
        if lost_in_drive && self.mark.is_set() && self.write_blocked.is_none() {
            // What the drive had buffered may be gone: nothing may follow it as if it stood there.
            self.write_blocked = Some(refusals::lost_in_drive(&error, self.unsynchronised_objects));
        }
        error
    }

    /// The drive has one programmable early warning for two: the window's margin, and what the host asked for. It comes at the
    /// earlier of both, and the host hears of it if it asked.
    fn host_warning(&self, warning: Warning) -> Warning {
        match warning {
            Warning::Programmable if self.host_early_warning == 0 => Warning::None,
            warning => warning,
        }
    }
}

/// The key opens only: nothing is written behind what it sealed.
fn not_sealing(drive: &str, generation: &Generation) -> DriveError {
    let reason = generation.not_sealing().unwrap_or("the key has ended");
    refusals::read_only(&format!(
        "drive {drive}: volume {}: {reason}; written from its beginning, the volume gets a new generation with a new key",
        generation.scope().volume
    ))
}

/// INFORMATION counts bytes of the sealed record, or blocks of another length than the host's: the host's own residue takes its place.
pub(super) fn of_the_sealed_length(mut error: DriveError) -> DriveError {
    error.sense.information = None;
    error
}
