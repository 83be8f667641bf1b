//! Commands through the real drive's back end and the virtual drive's front end, and the reference tape without either: the same
//! outcomes, positions and objects.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../drivers/tests/image_suite/commands.rs"]
#[allow(dead_code, reason = "shared with the suite of the file-backed drive")]
mod commands;

use std::io;
use std::time::Duration;

use commands::{Command, Outcome, any_command, run};
use proptest::prelude::*;
use sealtape::unit::scsi::{ScsiOptions, ScsiUnit};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape};
use sealtape_drivers::medium::{DriveErrorKind, Position, ReadOutcome, SpaceKind, TapeDrive};
use sealtape_drivers::scsi::{DataIn, LogicalUnit};
use sealtape_drivers::sg::{Answer, Data, ScsiTapeDrive, Transport};

const CAPACITY: u64 = 70_000;
/// What PEWS counts.
const MEGABYTE: u64 = 1_000_000;

/// A unit whose host is in the same process.
struct Loopback(ScsiUnit);

impl Transport for Loopback {
    fn execute(&mut self, cdb: &[u8], data: Data<'_>, _limit: Duration) -> io::Result<Answer> {
        let (sent, room): (&[u8], &mut [u8]) = match data {
            Data::None => (&[], &mut []),
            Data::In(buffer) => (&[], buffer),
            Data::Out(bytes) => (bytes, &mut []),
        };
        let mut data_in = DataIn::new(room);
        let completion = self.0.execute(cdb, sent, &mut data_in);
        Ok(Answer { completion, transferred: if sent.is_empty() { data_in.filled() } else { sent.len() } })
    }
    fn largest_transfer(&self) -> usize {
        1 << 20
    }
    fn name(&self) -> &str {
        "loopback"
    }
}

fn options(second_partition: Option<u64>, early_warning: u64, worm: bool, write_protected: bool) -> ModelOptions {
    let barcode = Some("TAPE01L9".into());
    ModelOptions { second_partition, early_warning, worm, write_protected, barcode, ..ModelOptions::new(CAPACITY) }
}

/// Sense data is the front end's, and has more to say; kinds and outcomes have to agree. Bytes behind a block are nobody's.
fn comparable(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(kind, _) => format!("failed: {kind:?}"),
        Outcome::Read(ReadOutcome::Block { length }, data) => {
            format!("block of {length}: {:02x?}", &data[..length.min(data.len())])
        }
        Outcome::Read(read, _) => format!("{read:?}"),
        other => format!("{other:?}"),
    }
}

fn compare(options: ModelOptions, commands: &[Command]) {
    let protected = options.write_protected;
    let mut model = ModelTape::new(options.clone());
    let unit = ScsiUnit::new(Box::new(ModelTape::new(options)), ScsiOptions::as_drive("loopback"));
    let mut drive = ScsiTapeDrive::open(Loopback(unit)).unwrap();
    for (number, command) in (0..).zip(commands) {
        let command = match command {
            Command::PowerCut | Command::Kill => continue,
            Command::EarlyWarning { bytes } => Command::EarlyWarning { bytes: bytes.div_ceil(MEGABYTE) * MEGABYTE },
            // Refused before the drive is asked, loaded or not.
            Command::Write { length } => Command::Write { length: (*length).max(1) },
            // The unit refuses the one count that has no absolute value.
            Command::Space { kind, count } => Command::Space { kind: *kind, count: (*count).max(-i64::MAX) },
            // Which of two reasons for a refusal is told first differs.
            Command::WriteAttribute { .. } if protected => continue,
            // The reference tape does not list its attributes, and the unit looks for the standard's only.
            Command::WriteAttribute { id: 0x1400.., .. } | Command::ReadAttribute { id: 0x1400.. } => continue,
            other => other.clone(),
        };
        let expected = comparable(run(&mut model, &command, number));
        let told = comparable(run(&mut drive, &command, number));
        assert_eq!(told, expected, "command {number}: {command:?}");
        match (model.read_position(), drive.read_position()) {
            (Ok(expected), Ok(told)) => assert_eq!(
                (told.position, told.filemarks, told.beginning_of_partition),
                (expected.position, expected.filemarks, expected.beginning_of_partition),
                "command {number}: {command:?}"
            ),
            (Err(expected), Err(told)) => {
                assert_eq!((told.kind, expected.kind), (DriveErrorKind::NotReady, DriveErrorKind::NotReady));
            }
            (expected, told) => panic!("command {number}: {command:?}: {told:?}, expected {expected:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_same_as_the_reference_tape(
        second in prop_oneof![Just(None), (4096u64..60_000).prop_map(Some)],
        early_warning in 0u64..4096,
        worm in prop::bool::weighted(0.1),
        write_protected in prop::bool::weighted(0.03),
        commands in prop::collection::vec(any_command(), 1..80),
    ) {
        compare(options(second, early_warning, worm, write_protected), &commands);
    }
}

/// A residue above 31 bits does not fit the INFORMATION field that tells it.
#[test]
fn a_count_beyond_what_sense_data_can_tell_is_spaced_in_parts() {
    let options = ModelOptions::new(3 << 20);
    let unit = ScsiUnit::new(Box::new(ModelTape::new(options.clone())), ScsiOptions::as_drive("loop"));
    let mut drive = ScsiTapeDrive::open(Loopback(unit)).unwrap();
    let mut model = ModelTape::new(options);
    drive.load().unwrap();
    model.load().unwrap();
    for tape in [&mut model as &mut dyn TapeDrive, &mut drive] {
        for _ in 0..3 {
            tape.write(b"block").unwrap();
        }
        tape.write_filemarks(1, false).unwrap();
        tape.write(b"block").unwrap();
    }
    for count in [1 << 33, i64::MAX, 0x7fff_ffff, 0x8000_0000] {
        for (kind, count) in
            [SpaceKind::Blocks, SpaceKind::Filemarks].into_iter().flat_map(|kind| [(kind, count), (kind, -count)])
        {
            for object in [0, 2, 4, 5] {
                let place = Position { partition: 0, object };
                model.locate(place).unwrap();
                drive.locate(place).unwrap();
                let expected = model.space(kind, count).unwrap();
                assert!(expected.stopped.is_some());
                assert_eq!(drive.space(kind, count).unwrap(), expected, "{kind:?} {count} from {object}");
                assert_eq!(drive.read_position().unwrap().position, model.read_position().unwrap().position);
            }
        }
    }
}
