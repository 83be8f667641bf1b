//! Random commands, and doing one to a drive so that two drives can be compared.

use proptest::prelude::*;
use sealtape_drivers::medium::{
    Attribute, DriveError, DriveErrorKind, DriveIdentity, Position, ReadOutcome, SpaceKind, SpaceOutcome, TapeDrive,
    Warning,
};
use sealtape_drivers::scsi::Sense;

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Write {
        length: usize,
    },
    WriteFilemarks {
        count: u32,
        immediate: bool,
    },
    Read {
        buffer: usize,
    },
    Space {
        kind: SpaceKind,
        count: i64,
    },
    Locate {
        partition: u8,
        object: u64,
    },
    Rewind,
    Erase {
        long: bool,
    },
    Format {
        second: Option<u64>,
    },
    EarlyWarning {
        bytes: u64,
    },
    WriteAttribute {
        id: u16,
        length: usize,
    },
    ReadAttribute {
        id: u16,
    },
    Prevent(bool),
    Unload,
    Load,
    TestUnitReady,
    PowerCut,
    /// The process ends without warning, and the file is loaded again.
    Kill,
}

/// What a command yielded.
#[derive(PartialEq, Debug)]
pub(crate) enum Outcome {
    Done,
    Warned(Warning),
    Read(ReadOutcome, Vec<u8>),
    Spaced(SpaceOutcome),
    Attribute(Option<Attribute>),
    Lost(u64),
    Failed(DriveErrorKind, Sense),
}

pub(crate) fn identity() -> DriveIdentity {
    DriveIdentity {
        vendor: "SEALTAPE".into(),
        product: "IMAGE".into(),
        revision: "0001".into(),
        serial: "DRIVE1".into(),
    }
}

/// A block that is like no other of the same test.
pub(crate) fn block(length: usize, number: u64) -> Vec<u8> {
    number.to_be_bytes().into_iter().chain((0..).map(|n: u64| (n * 31 + number) as u8)).take(length).collect()
}

pub(crate) fn outcome(result: Result<Outcome, DriveError>) -> Outcome {
    result.unwrap_or_else(|error| Outcome::Failed(error.kind, error.sense))
}

/// Does a command that every drive knows. `number` makes what is written unique.
pub(crate) fn run(drive: &mut dyn TapeDrive, command: &Command, number: u64) -> Outcome {
    let result = match *command {
        Command::Write { length } => drive.write(&block(length, number)).map(Outcome::Warned),
        Command::WriteFilemarks { count, immediate } => drive.write_filemarks(count, immediate).map(Outcome::Warned),
        Command::Read { buffer } => {
            let mut buffer = vec![0; buffer];
            drive.read(&mut buffer).map(|read| Outcome::Read(read, buffer))
        }
        Command::Space { kind, count } => drive.space(kind, count).map(Outcome::Spaced),
        Command::Locate { partition, object } => drive.locate(Position { partition, object }).map(|()| Outcome::Done),
        Command::Rewind => drive.rewind().map(|()| Outcome::Done),
        Command::Erase { long } => drive.erase(long).map(|()| Outcome::Done),
        Command::Format { second } => drive.format_medium(second).map(|()| Outcome::Done),
        Command::EarlyWarning { bytes } => drive.set_programmable_early_warning(bytes).map(|_| Outcome::Done),
        Command::WriteAttribute { id, length } => {
            let value = block(length, number);
            drive.write_attribute(&Attribute { id, format: 0, value }).map(|()| Outcome::Done)
        }
        Command::ReadAttribute { id } => drive.read_attribute(id).map(Outcome::Attribute),
        Command::Prevent(prevent) => drive.prevent_removal(prevent).map(|()| Outcome::Done),
        Command::Unload => drive.unload().map(|()| Outcome::Done),
        Command::Load => drive.load().map(|()| Outcome::Done),
        Command::TestUnitReady => drive.test_unit_ready().map(|()| Outcome::Done),
        Command::PowerCut | Command::Kill => panic!("the suite does {command:?} itself"),
    };
    outcome(result)
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => prop::sample::select(vec![8usize, 16, 100, 4000]),
        4 => 1usize..3000,
        1 => 3000usize..30000,
        1 => Just(0usize),
    ]
}

fn kind() -> impl Strategy<Value = SpaceKind> {
    prop::sample::select(vec![SpaceKind::Blocks, SpaceKind::Blocks, SpaceKind::Filemarks, SpaceKind::EndOfData])
}

fn count() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -4i64..5, 1 => prop::sample::select(vec![i64::MIN, i64::MAX, 1000, -1000])]
}

/// Commands that a host uses to write, weighted so that tapes fill and are overwritten.
pub(crate) fn writing() -> impl Strategy<Value = Command> {
    prop_oneof![
        12 => length().prop_map(|length| Command::Write { length }),
        5 => (0u32..4, any::<bool>()).prop_map(|(count, immediate)| Command::WriteFilemarks { count, immediate }),
        3 => (0u8..2, 0u64..30).prop_map(|(partition, object)| Command::Locate { partition, object }),
        3 => (kind(), count()).prop_map(|(kind, count)| Command::Space { kind, count }),
        1 => Just(Command::Rewind),
        1 => any::<bool>().prop_map(|long| Command::Erase { long }),
    ]
}

/// All commands.
pub(crate) fn any_command() -> impl Strategy<Value = Command> {
    let second = prop_oneof![
        2 => Just(None),
        3 => (0u64..70_000).prop_map(Some),
    ];
    let id = || prop::sample::select(vec![0x0401u16, 0x0801, 0x0806, 0x080c, 0x1400, 0x0300, 0x1800]);
    prop_oneof![
        30 => writing(),
        12 => prop_oneof![0usize..64, 0usize..5000, Just(30000usize)].prop_map(|buffer| Command::Read { buffer }),
        1 => Just(Command::Locate { partition: 2, object: 0 }),
        1 => second.prop_map(|second| Command::Format { second }),
        1 => (0u64..80_000).prop_map(|bytes| Command::EarlyWarning { bytes }),
        1 => (id(), 0usize..40).prop_map(|(id, length)| Command::WriteAttribute { id, length }),
        1 => id().prop_map(|id| Command::ReadAttribute { id }),
        1 => any::<bool>().prop_map(Command::Prevent),
        1 => Just(Command::Unload),
        2 => Just(Command::Load),
        2 => Just(Command::TestUnitReady),
        1 => Just(Command::PowerCut),
        1 => Just(Command::Kill),
    ]
}
