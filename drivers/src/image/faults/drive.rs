//! The drive that fails by plan.

use super::plan::{COMMANDS, Command, Effect, Fault, FaultPlan};
use crate::medium::{
    Attribute, BlockLimits, Description, DriveError, DriveErrorKind, DriveIdentity, MediumStatus, Position,
    PositionReport, PowerCut, ReadOutcome, SpaceKind, SpaceOutcome, TapeDrive, Warning,
};
use crate::scsi::{AdditionalSense, Sense, SenseKey};

/// A drive that fails by plan; with an empty plan it is the drive itself.
pub struct FaultyDrive<D> {
    drive: D,
    plan: FaultPlan,
    counts: [u64; COMMANDS.len()],
    happened: u64,
}

impl<D: PowerCut> FaultyDrive<D> {
    /// Puts a plan before a drive. Counting starts now.
    pub fn new(drive: D, plan: FaultPlan) -> Self {
        Self { drive, plan, counts: [0; COMMANDS.len()], happened: 0 }
    }

    /// Another plan. Counting starts anew.
    pub fn set_plan(&mut self, plan: FaultPlan) {
        self.plan = plan;
        self.counts = [0; COMMANDS.len()];
    }

    /// How many faults have happened.
    pub fn happened(&self) -> u64 {
        self.happened
    }

    /// The drive, past the plan: to insert and eject.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.drive
    }

    /// The drive.
    pub fn into_inner(self) -> D {
        self.drive
    }

    fn count(&mut self, command: Command) -> u64 {
        let place = COMMANDS.iter().position(|(_, other)| *other == command).unwrap_or(0);
        self.counts[place] += 1;
        self.counts[place]
    }

    fn due(&mut self, command: Command) -> Option<Fault> {
        let (any, of_kind) = (self.count(Command::Any), self.count(command));
        self.plan.faults.iter().copied().find(|fault| {
            (fault.command == Command::Any && fault.covers(any)) || (fault.command == command && fault.covers(of_kind))
        })
    }

    fn run<T>(
        &mut self,
        command: Command,
        call: impl FnOnce(&mut D) -> Result<T, DriveError>,
    ) -> Result<T, DriveError> {
        let Some(fault) = self.due(command) else { return call(&mut self.drive) };
        self.happened += 1;
        let error = |kind| DriveError::new(kind, format!("injected fault `{fault}`"));
        Err(match fault.effect {
            Effect::Medium if command == Command::Read => {
                call(&mut self.drive)?;
                let sense = Sense::new(SenseKey::MEDIUM_ERROR, AdditionalSense::UNRECOVERED_READ_ERROR);
                error(DriveErrorKind::Medium).with_sense(sense)
            }
            Effect::Medium => error(DriveErrorKind::Medium),
            Effect::Hardware => error(DriveErrorKind::Hardware),
            Effect::Transport => error(DriveErrorKind::Transport),
            Effect::TransportAfter => {
                call(&mut self.drive)?;
                error(DriveErrorKind::Transport)
            }
            Effect::Reset => {
                unless_empty(self.drive.power_cut())?;
                error(DriveErrorKind::Reset)
            }
            Effect::Lost => {
                unless_empty(self.drive.discard_unsynchronised())?;
                let mut error = error(DriveErrorKind::Medium);
                error.sense.flags.deferred = true;
                error
            }
            Effect::EndOfMedium => error(DriveErrorKind::EndOfMedium),
            Effect::UnitAttention => error(DriveErrorKind::UnitAttention),
            Effect::NotReady => error(DriveErrorKind::NotReady),
        })
    }
}

/// A drive with nothing loaded has nothing to lose.
fn unless_empty(lost: Result<u64, DriveError>) -> Result<(), DriveError> {
    match lost {
        Err(error) if error.kind != DriveErrorKind::NotReady => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

impl<D: PowerCut> PowerCut for FaultyDrive<D> {
    fn power_cut(&mut self) -> Result<u64, DriveError> {
        self.drive.power_cut()
    }

    fn discard_unsynchronised(&mut self) -> Result<u64, DriveError> {
        self.drive.discard_unsynchronised()
    }
}

impl<D: PowerCut> TapeDrive for FaultyDrive<D> {
    fn identity(&self) -> DriveIdentity {
        self.drive.identity()
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        self.run(Command::Other, |drive| drive.block_limits())
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        self.run(Command::TestUnitReady, |drive| drive.test_unit_ready())
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        self.run(Command::Other, |drive| drive.medium_status())
    }

    fn load(&mut self) -> Result<(), DriveError> {
        self.run(Command::Load, |drive| drive.load())
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        self.run(Command::Unload, |drive| drive.unload())
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        self.run(Command::Other, |drive| drive.prevent_removal(prevent))
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        self.run(Command::Write, |drive| drive.write(block))
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        self.run(Command::WriteFilemarks, |drive| drive.write_filemarks(count, immediate))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        let outcome = self.run(Command::Read, |drive| drive.read(buffer));
        if outcome.is_err() {
            buffer.fill(0);
        }
        outcome
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        self.run(Command::Space, |drive| drive.space(kind, count))
    }

    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        self.run(Command::Locate, |drive| drive.locate(to))
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        self.run(Command::Rewind, |drive| drive.rewind())
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        self.run(Command::ReadPosition, |drive| drive.read_position())
    }

    fn erase(&mut self, long: bool) -> Result<(), DriveError> {
        self.run(Command::Erase, |drive| drive.erase(long))
    }

    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        self.run(Command::FormatMedium, |drive| drive.format_medium(second_partition_bytes))
    }

    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        self.run(Command::Other, |drive| drive.set_programmable_early_warning(bytes))
    }

    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        self.run(Command::ReadAttribute, |drive| drive.read_attribute(id))
    }

    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        self.run(Command::WriteAttribute, |drive| drive.write_attribute(attribute))
    }

    fn describe(&mut self, what: Description) -> Result<Option<Vec<u8>>, DriveError> {
        self.run(Command::Other, |drive| drive.describe(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::model::{ModelOptions, ModelTape};

    fn drive(plan: &str) -> FaultyDrive<ModelTape> {
        FaultyDrive::new(ModelTape::new(ModelOptions::new(1 << 20)), plan.parse().unwrap())
    }

    fn object(drive: &mut FaultyDrive<ModelTape>) -> u64 {
        drive.inner_mut().read_position().unwrap().position.object
    }

    #[test]
    fn the_kth_command_of_a_kind_fails_and_nothing_is_done() {
        for (word, kind) in [
            ("medium", DriveErrorKind::Medium),
            ("hardware", DriveErrorKind::Hardware),
            ("transport", DriveErrorKind::Transport),
            ("end-of-medium", DriveErrorKind::EndOfMedium),
            ("unit-attention", DriveErrorKind::UnitAttention),
            ("not-ready", DriveErrorKind::NotReady),
        ] {
            let mut drive = drive(&format!("write 2 {word}"));
            drive.write(b"one").unwrap();
            drive.read_position().unwrap();
            let error = drive.write(b"two").unwrap_err();
            assert_eq!(error.kind, kind);
            assert!(error.message.contains(&format!("write 2 {word}")), "{error}");
            assert_eq!(object(&mut drive), 1);
            drive.write(b"two").unwrap();
            assert_eq!(drive.happened(), 1);
        }
    }

    #[test]
    fn any_counts_all_commands_and_for_ever_is_for_ever() {
        let mut drive = drive("any 3 hardware for-ever");
        drive.rewind().unwrap();
        drive.write(b"x").unwrap();
        for _ in 0..5 {
            assert_eq!(drive.write_filemarks(0, false).unwrap_err().kind, DriveErrorKind::Hardware);
        }
    }

    #[test]
    fn a_reset_loses_what_was_not_synchronised() {
        let mut drive = drive("any 5 reset");
        drive.write(b"kept").unwrap();
        drive.write_filemarks(1, false).unwrap();
        drive.write(b"lost").unwrap();
        drive.write_filemarks(1, true).unwrap();
        assert_eq!(drive.write(b"not done").unwrap_err().kind, DriveErrorKind::Reset);
        assert_eq!(object(&mut drive), 0);
        drive.space(SpaceKind::EndOfData, 0).unwrap();
        assert_eq!(object(&mut drive), 2);
    }

    #[test]
    fn lost_objects_are_a_deferred_error() {
        let mut drive = drive("write 3 lost");
        drive.write_filemarks(1, false).unwrap();
        drive.write(b"lost").unwrap();
        drive.write(b"lost").unwrap();
        let error = drive.write(b"not done").unwrap_err();
        assert!(error.sense.flags.deferred && error.kind == DriveErrorKind::Medium);
        assert_eq!(object(&mut drive), 1);
    }

    #[test]
    fn an_unreadable_block_is_passed_and_yields_nothing() {
        let mut drive = drive("read 1 medium\nwrite 2 transport-after");
        drive.write(b"first").unwrap();
        assert_eq!(drive.write(b"second").unwrap_err().kind, DriveErrorKind::Transport);
        drive.rewind().unwrap();
        let mut buffer = [1; 10];
        let error = drive.read(&mut buffer).unwrap_err();
        assert_eq!(error.sense.additional, AdditionalSense::UNRECOVERED_READ_ERROR);
        assert_eq!(buffer, [0; 10]);
        assert_eq!(drive.read(&mut buffer).unwrap(), ReadOutcome::Block { length: 6 });
        assert_eq!(&buffer[..6], b"second");
    }
}
