//! Faults on demand: a drive that fails where a plan says, each time at the same place.
//!
//! A plan is text, one fault a line: `COMMAND NUMBER EFFECT [times N | for-ever]`. Commands of a kind are
//! counted from 1; `any` counts all of them. Empty lines and what follows a `#` are ignored.
//!
//! ```text
//! write 5 medium              # the fifth block cannot be written
//! read 3 medium times 2       # the third and fourth reads find an unreadable block
//! any 40 reset                # the fortieth command finds the drive reset: what was buffered is lost
//! write 9 end-of-medium for-ever
//! ```

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::medium::{
    Attribute, BlockLimits, DriveError, DriveErrorKind, DriveIdentity, MediumStatus, Position, PositionReport,
    PowerCut, ReadOutcome, SpaceKind, SpaceOutcome, TapeDrive, Warning,
};
use crate::scsi::{AdditionalSense, Sense, SenseKey};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names are those of the commands")]
pub enum Command {
    /// Every command.
    Any,
    Write,
    WriteFilemarks,
    Read,
    Space,
    Locate,
    Rewind,
    ReadPosition,
    TestUnitReady,
    Load,
    Unload,
    Erase,
    FormatMedium,
    ReadAttribute,
    WriteAttribute,
    /// What is left: block limits, status, PREVENT, early warning.
    Other,
}

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Effect {
    /// MEDIUM ERROR. A write is not done; a read moves past the block, and yields nothing.
    Medium,
    /// HARDWARE ERROR; nothing is done.
    Hardware,
    /// The way to the drive fails before the command reaches it.
    Transport,
    /// The way to the drive fails after the command was done.
    TransportAfter,
    /// The drive was reset: unsynchronised objects are lost, the position is the beginning of partition 0; nothing else is done.
    Reset,
    /// Deferred MEDIUM ERROR: unsynchronised objects are lost, the position is not behind the end of data; nothing else is done.
    Lost,
    /// The physical end of the partition; nothing is done.
    EndOfMedium,
    /// UNIT ATTENTION; nothing is done.
    UnitAttention,
    /// NOT READY; nothing is done.
    NotReady,
}

const COMMANDS: [(&str, Command); 16] = [
    ("any", Command::Any),
    ("write", Command::Write),
    ("write-filemarks", Command::WriteFilemarks),
    ("read", Command::Read),
    ("space", Command::Space),
    ("locate", Command::Locate),
    ("rewind", Command::Rewind),
    ("read-position", Command::ReadPosition),
    ("test-unit-ready", Command::TestUnitReady),
    ("load", Command::Load),
    ("unload", Command::Unload),
    ("erase", Command::Erase),
    ("format-medium", Command::FormatMedium),
    ("read-attribute", Command::ReadAttribute),
    ("write-attribute", Command::WriteAttribute),
    ("other", Command::Other),
];

const EFFECTS: [(&str, Effect); 9] = [
    ("medium", Effect::Medium),
    ("hardware", Effect::Hardware),
    ("transport", Effect::Transport),
    ("transport-after", Effect::TransportAfter),
    ("reset", Effect::Reset),
    ("lost", Effect::Lost),
    ("end-of-medium", Effect::EndOfMedium),
    ("unit-attention", Effect::UnitAttention),
    ("not-ready", Effect::NotReady),
];

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which commands are counted.
    pub command: Command,
    /// Which of them fails, from 1.
    pub at: u64,
    /// How many in a row fail; `u64::MAX` for ever.
    pub times: u64,
    /// How.
    pub effect: Effect,
}

impl Fault {
    /// A fault that happens once.
    pub fn once(command: Command, at: u64, effect: Effect) -> Self {
        Self { command, at, times: 1, effect }
    }

    fn covers(&self, number: u64) -> bool {
        number >= self.at && number - self.at < self.times
    }
}

/// Which commands fail, and how. Where two faults meet, the first one counts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FaultPlan {
    /// The faults.
    pub faults: Vec<Fault>,
}

/// A fault plan cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FaultPlanError {
    /// A line is not a fault.
    #[error("line {line}: {reason}; a fault is `COMMAND NUMBER EFFECT [times N | for-ever]`")]
    Line {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read.
    #[error("cannot read the fault plan {name}: {source}")]
    Io {
        /// The file.
        name: String,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl FaultPlan {
    /// Reads a plan from a file.
    pub fn from_file(path: &Path) -> Result<Self, FaultPlanError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| FaultPlanError::Io { name: path.display().to_string(), source })?;
        text.parse()
    }
}

impl FromStr for FaultPlan {
    type Err = FaultPlanError;

    fn from_str(text: &str) -> Result<Self, FaultPlanError> {
        let mut faults = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            if !words.is_empty() {
                faults.push(parse_fault(&words).map_err(|reason| FaultPlanError::Line { line: number, reason })?);
            }
        }
        Ok(Self { faults })
    }
}

fn parse_fault(words: &[&str]) -> Result<Fault, String> {
    let (command, at, effect, times) = match words {
        [command, at, effect] => (command, at, effect, 1),
        [command, at, effect, "for-ever"] => (command, at, effect, u64::MAX),
        [command, at, effect, "times", times] => (command, at, effect, parse_count(times)?),
        _ => return Err(format!("{} words", words.len())),
    };
    Ok(Fault { command: named(command, &COMMANDS)?, at: parse_count(at)?, times, effect: named(effect, &EFFECTS)? })
}

fn parse_count(word: &str) -> Result<u64, String> {
    word.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("{word:?} is not a number from 1"))
}

fn named<T: Copy>(word: &str, names: &[(&str, T)]) -> Result<T, String> {
    names.iter().find(|(name, _)| *name == word).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("{word:?} is none of {}", names.join(", "))
    })
}

fn name_of<T: PartialEq>(value: T, names: &[(&'static str, T)]) -> &'static str {
    names.iter().find(|(_, other)| *other == value).map_or("?", |(name, _)| name)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", name_of(self.command, &COMMANDS), self.at, name_of(self.effect, &EFFECTS))?;
        match self.times {
            1 => Ok(()),
            u64::MAX => f.write_str(" for-ever"),
            times => write!(f, " times {times}"),
        }
    }
}

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
    fn plans_are_read_and_printed() {
        let text =
            "# nothing\n\nwrite 5 medium\nread 3 medium times 2 # two\nany 40 reset\nwrite 9 end-of-medium for-ever\n";
        let plan: FaultPlan = text.parse().unwrap();
        let printed: Vec<String> = plan.faults.iter().map(Fault::to_string).collect();
        let expected = ["write 5 medium", "read 3 medium times 2", "any 40 reset", "write 9 end-of-medium for-ever"];
        assert_eq!(printed, expected);
        assert_eq!(printed.join("\n").parse::<FaultPlan>().unwrap(), plan);
        for (bad, reason) in [
            ("\nwrite 0 medium", "line 2: \"0\" is not a number from 1"),
            ("wrote 1 medium", "\"wrote\" is none of any, write"),
            ("write 1 boom", "\"boom\" is none of medium"),
            ("write 1", "2 words"),
            ("write 1 medium times x", "\"x\" is not a number"),
        ] {
            let error = bad.parse::<FaultPlan>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
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
