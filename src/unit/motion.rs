//! Motion, and the [`TapeDrive`] that the host sees: every number is the host's, the hidden objects are not counted.

use sealtape_drivers::medium::{
    Attribute, BlockLimits, Description, DriveError, DriveErrorKind, DriveIdentity, MediumStatus, Position,
    PositionReport, ReadOutcome, SpaceKind, SpaceOutcome, SpaceStop, TapeDrive, Warning,
};

use super::sealed::SealedTape;
use crate::volume::{HIDDEN_FILEMARKS, HIDDEN_OBJECTS};

impl SealedTape {
    /// Before a motion that the host asked for: what was acknowledged is synchronised. A loss is told once, as a
    /// deferred error; the motion that follows ends the blockade of writes.
    fn before_motion(&mut self) -> Result<(), DriveError> {
        if self.write_blocked.is_some() {
            return Ok(());
        }
        self.synchronise().map(|_| ())
    }

    /// The host has moved of its own will: it knows where it stands, and writing is possible again.
    fn after_motion(&mut self) {
        self.pipeline.reset();
        self.write_blocked = None;
        self.unsynchronised_objects = 0;
        self.permit_removal();
        if let Err(error) = self.mark.clear() {
            tracing::error!(path = %self.mark.path().display(), %error, "the mark of unsynchronised records cannot be removed");
        }
    }

    /// Moves the tape for somebody else than the host: if the host's writes fail until it moves, they go on to fail.
    pub fn keeping_writes_blocked<R>(&mut self, serve: impl FnOnce(&mut Self) -> R) -> R {
        let (blocked, marked) = (self.write_blocked.clone(), self.mark.is_set());
        let result = serve(self);
        if self.write_blocked.is_none() {
            self.write_blocked = blocked;
            if marked
                && self.write_blocked.is_some()
                && let Err(error) = self.set_mark()
            {
                tracing::error!(drive = %self.name, %error, "the mark of unsynchronised records was lost");
            }
        }
        result
    }

    /// Asks the drive where it stands and takes that for the host's position.
    pub(super) fn ask_position(&mut self) {
        let report = self.drive().read_position();
        let Some(loaded) = self.loaded.as_mut() else { return };
        match report {
            Ok(report) if report.position.partition == loaded.current && report.position.object >= HIDDEN_OBJECTS => {
                loaded.position_known = true;
                if let Some(state) = loaded.state_mut() {
                    let filemarks = report.filemarks.map(|count| count.saturating_sub(HIDDEN_FILEMARKS));
                    state.moved(report.position.object - HIDDEN_OBJECTS, filemarks);
                }
            }
            Ok(_) | Err(_) => loaded.position_known = false,
        }
    }

    fn space_host(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        self.notice_end();
        self.check_readable()?;
        self.before_motion()?;
        if self.write_blocked.is_some() || !self.loaded.as_ref().is_some_and(|loaded| loaded.position_known) {
            // Relative motion from an unknown place leads to an unknown place.
            return Err(self.write_blocked.clone().unwrap_or_else(|| self.position_unknown()));
        }
        if self.state().is_none_or(|state| state.generation().is_none()) {
            return Ok(empty_space(kind, count));
        }
        if count == 0 && kind != SpaceKind::EndOfData {
            return Ok(SpaceOutcome { stopped: None });
        }
        let outcome = self.drive().space(kind, count);
        let outcome = outcome.map_err(|error| self.motion_failed(error))?;
        let report = self.drive().read_position();
        let report = report.map_err(|error| self.motion_failed(error))?;
        self.after_motion();
        let partition = report.position.partition;
        if report.position.object < HIDDEN_OBJECTS {
            return self.stop_at_beginning(kind, outcome, report.position);
        }
        let filemarks = report.filemarks.map(|count| count.saturating_sub(HIDDEN_FILEMARKS));
        let object = report.position.object - HIDDEN_OBJECTS;
        let own_count = self.count_filemarks(kind, count, outcome, object);
        if let Some(loaded) = self.loaded.as_mut() {
            loaded.current = partition;
            if let Some(state) = loaded.state_mut() {
                state.moved(object, own_count.or(filemarks));
                let at_end = kind == SpaceKind::EndOfData || matches!(outcome.stopped, Some((SpaceStop::EndOfData, _)));
                if at_end {
                    state.meet_end_of_data();
                }
            }
        }
        Ok(outcome)
    }

    /// Filemarks before the new place, from the count before and what was passed, where both are known.
    fn count_filemarks(&self, kind: SpaceKind, count: i64, outcome: SpaceOutcome, object: u64) -> Option<u64> {
        let chain = self.state()?.chain();
        let before = chain.filemarks()?;
        let residue = outcome.stopped.map_or(0, |(_, residue)| residue);
        let passed = match (kind, outcome.stopped) {
            (SpaceKind::Filemarks, _) => count.unsigned_abs().checked_sub(residue)?,
            (SpaceKind::Blocks, Some((SpaceStop::Filemark, _))) => 1,
            (SpaceKind::Blocks, _) => 0,
            (SpaceKind::EndOfData, _) => return (object == chain.object()).then_some(before),
        };
        if count < 0 { before.checked_sub(passed) } else { before.checked_add(passed) }
    }

    /// Backward motion ran into the hidden objects: the host stands at its beginning, with the residue that a tape
    /// without them would give.
    fn stop_at_beginning(
        &mut self,
        kind: SpaceKind,
        outcome: SpaceOutcome,
        physical: Position,
    ) -> Result<SpaceOutcome, DriveError> {
        let residue = outcome.stopped.map_or(0, |(_, residue)| residue);
        // Blocks: the generation record was counted, and the label where motion got over the hidden filemark's far
        // side. Filemarks: the hidden one was counted.
        let hidden = match kind {
            SpaceKind::Blocks => 1,
            SpaceKind::Filemarks => HIDDEN_FILEMARKS,
            SpaceKind::EndOfData => 0,
        };
        let returned = self.return_to_host_beginning(physical.partition);
        returned.map_err(|error| self.motion_failed(error))?;
        Ok(SpaceOutcome { stopped: Some((SpaceStop::BeginningOfPartition, residue + hidden)) })
    }

    fn motion_failed(&mut self, error: DriveError) -> DriveError {
        let error = self.drive_failed(error);
        self.ask_position();
        error
    }

    fn locate_host(&mut self, to: Position) -> Result<(), DriveError> {
        self.notice_end();
        let Some(loaded) = self.loaded.as_ref() else { return Err(self.nothing_loaded()) };
        if usize::from(to.partition) >= loaded.partitions.len() {
            return Err(DriveError::new(
                DriveErrorKind::IllegalRequest,
                format!("drive {}: there is no partition {}", self.name, to.partition),
            ));
        }
        self.before_motion()?;
        let known = self.loaded.as_ref().is_some_and(|loaded| loaded.partitions[usize::from(to.partition)].is_some());
        if !known {
            let identified = self.identify_partition(to.partition);
            identified.map_err(|error| self.motion_failed(error))?;
        }
        self.check_readable()?;
        if let Some(loaded) = self.loaded.as_mut() {
            loaded.current = to.partition;
        }
        if to.object == 0 || self.state().is_none_or(|state| state.generation().is_none()) {
            let returned = self.return_to_host_beginning(to.partition);
            returned.map_err(|error| self.motion_failed(error))?;
            self.after_motion();
            return if to.object == 0 { Ok(()) } else { Err(self.end_of_data(to)) };
        }
        let located = self.drive().locate(Position { object: to.object.saturating_add(HIDDEN_OBJECTS), ..to });
        match located {
            Ok(()) => {
                self.after_motion();
                self.ask_position();
                Ok(())
            }
            Err(error) if error.kind == DriveErrorKind::EndOfData => {
                self.after_motion();
                self.ask_position();
                if let Some(state) = self.state_mut() {
                    state.meet_end_of_data();
                }
                Err(self.end_of_data(to))
            }
            Err(error) => Err(self.motion_failed(error)),
        }
    }

    fn end_of_data(&self, to: Position) -> DriveError {
        DriveError::new(
            DriveErrorKind::EndOfData,
            format!("drive {}: data ends before object {} of partition {}", self.name, to.object, to.partition),
        )
    }
}

fn empty_space(kind: SpaceKind, count: i64) -> SpaceOutcome {
    let stop = if count < 0 { SpaceStop::BeginningOfPartition } else { SpaceStop::EndOfData };
    let stopped = (kind != SpaceKind::EndOfData && count != 0).then_some((stop, count.unsigned_abs()));
    SpaceOutcome { stopped }
}

impl TapeDrive for SealedTape {
    fn identity(&self) -> DriveIdentity {
        self.drive().identity()
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        let limits = self.drive().block_limits();
        let limits = limits.map_err(|error| self.drive_failed(error))?;
        Ok(BlockLimits { minimum: limits.minimum.max(1), maximum: self.max_plain_of(limits.maximum) })
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        let ready = self.drive().test_unit_ready();
        match ready {
            Ok(()) => {
                if self.loaded.is_none() {
                    // Loaded behind our back (by the drive itself): find out what it is before the host uses it.
                    self.take_up_medium()?;
                }
                Ok(())
            }
            Err(error) => {
                match error.kind {
                    DriveErrorKind::NotReady | DriveErrorKind::UnitAttention if self.loaded.is_some() => {
                        self.medium_changed(&error);
                    }
                    DriveErrorKind::Reset | DriveErrorKind::Transport => {
                        return Err(self.drive_failed(error));
                    }
                    _ => {}
                }
                Err(error)
            }
        }
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        self.host_medium_status()
    }

    fn load(&mut self) -> Result<(), DriveError> {
        self.load_medium().map(|_| ())
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        self.unload_medium()
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        self.host_prevents_removal = prevent;
        if !prevent && self.mark.is_set() {
            return Ok(());
        }
        let done = self.drive().prevent_removal(prevent);
        done.map_err(|error| self.drive_failed(error))
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        self.write_block(block)
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        self.write_marks(count, immediate)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        self.read_block(buffer)
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        self.space_host(kind, count)
    }

    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        self.locate_host(to)
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        self.notice_end();
        let Some(loaded) = self.loaded.as_ref() else { return Err(self.nothing_loaded()) };
        let partition = loaded.current;
        self.before_motion()?;
        let moved = self.return_to_host_beginning(partition);
        moved.map_err(|error| self.motion_failed(error))?;
        self.after_motion();
        Ok(())
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        let Some(loaded) = self.loaded.as_ref() else { return Err(self.nothing_loaded()) };
        let (Some(state), true) = (loaded.state(), loaded.position_known) else {
            return Err(self.position_unknown());
        };
        let position = Position { partition: loaded.current, object: state.chain().object() };
        let filemarks = state.chain().filemarks();
        let (in_window, _) = self.pipeline.fill();
        let below = if in_window == 0 { Some(self.drive().read_position()) } else { None };
        let below = below.transpose().map_err(|error| self.drive_failed(error))?;
        Ok(PositionReport {
            position,
            filemarks,
            beginning_of_partition: position.object == 0,
            end_of_partition: below.as_ref().is_some_and(|report| report.end_of_partition),
            objects_in_buffer: in_window + below.map_or(0, |report| report.objects_in_buffer),
        })
    }

    fn erase(&mut self, long: bool) -> Result<(), DriveError> {
        self.notice_end();
        self.check_writable()?;
        self.settle()?;
        self.prepare_filemark()?;
        self.confirm_drive_position()?;
        self.set_mark()?;
        let erased = self.drive().erase(long);
        erased.map_err(|error| self.drive_failed(error))?;
        if let Some(state) = self.state_mut() {
            state.erased();
        }
        self.synchronise().map(|_| ())
    }

    fn format_medium(&mut self, _second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        Err(DriveError::new(
            DriveErrorKind::IllegalRequest,
            format!(
                "drive {}: partitions of a sealed volume are made by the operator, since each needs a label: sealtape \
                 volume label {} --overwrite --partitions 2",
                self.name, self.name
            ),
        ))
    }

    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        self.host_early_warning = bytes;
        match self.loaded {
            None => Ok(true), // It is set in the drive when a medium is loaded.
            Some(_) => self.prepare_early_warning(),
        }
    }

    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        let attribute = self.drive().read_attribute(id);
        attribute.map_err(|error| self.drive_failed(error))
    }

    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        self.check_writable()?;
        let written = self.drive().write_attribute(attribute);
        written.map_err(|error| self.drive_failed(error))
    }

    fn describe(&mut self, what: Description) -> Result<Option<Vec<u8>>, DriveError> {
        let described = self.drive().describe(what);
        described.map_err(|error| self.drive_failed(error))
    }
}
