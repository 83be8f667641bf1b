//! Which commands fail, and how: the plan and its text.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

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

pub(super) const COMMANDS: [(&str, Command); 16] = [
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

    pub(super) fn covers(&self, number: u64) -> bool {
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
    /// A line of a file is not a fault.
    #[error("fault plan {name}, {source}")]
    InFile {
        /// The file.
        name: String,
        /// Which line, and why.
        source: Box<FaultPlanError>,
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
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => text.parse().map_err(|source| FaultPlanError::InFile { name, source: Box::new(source) }),
            Err(source) => Err(FaultPlanError::Io { name, source }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        assert!(FaultPlan::from_file(&path).unwrap_err().to_string().contains("plan"));
        std::fs::write(&path, "write x medium").unwrap();
        let error = FaultPlan::from_file(&path).unwrap_err().to_string();
        assert!(error.contains("plan, line 1: \"x\" is not a number"), "{error}");
        std::fs::write(&path, text).unwrap();
        assert_eq!(FaultPlan::from_file(&path).unwrap(), plan);
    }
}
