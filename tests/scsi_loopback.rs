//! The back end for real drives, over the virtual drive, over the reference tape, behaves as the reference tape does: positions, outcomes,
//! residues and errors survive the way through command blocks and sense data.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/loopback.rs"]
mod loopback;

use loopback::Loopback;
use proptest::prelude::*;
use sealtape::unit::scsi::{ScsiOptions, ScsiUnit};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape};
use sealtape_drivers::medium::{Attribute, DriveError, Position, SpaceKind, TapeDrive};
use sealtape_drivers::sg::ScsiTapeDrive;

#[derive(Clone, Debug)]
enum Step {
    Write(u32, u8),
    Filemarks(u8, bool),
    Read(u32),
    Space(SpaceKind, i8),
    Locate(u8, u8),
    Rewind,
    Synchronise,
    Reload,
    Erase,
    Format(bool),
    Attribute(u8),
    Status,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(SpaceKind::Blocks), Just(SpaceKind::Filemarks)];
    prop_oneof![
        8 => (1_u32..3000, any::<u8>()).prop_map(|(length, fill)| Step::Write(length, fill)),
        2 => (1_u8..3, any::<bool>()).prop_map(|(count, immediate)| Step::Filemarks(count, immediate)),
        6 => (1_u32..3000).prop_map(Step::Read),
        4 => (kind, -6_i8..7).prop_map(|(kind, count)| Step::Space(kind, count)),
        1 => Just(Step::Space(SpaceKind::EndOfData, 0)),
        2 => (0_u8..3, 0_u8..24).prop_map(|(partition, object)| Step::Locate(partition, object)),
        1 => Just(Step::Rewind),
        1 => Just(Step::Synchronise),
        1 => Just(Step::Reload),
        1 => Just(Step::Erase),
        1 => any::<bool>().prop_map(Step::Format),
        1 => any::<u8>().prop_map(Step::Attribute),
        1 => Just(Step::Status),
    ]
}

fn show<T: std::fmt::Debug>(result: Result<T, DriveError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?} {:?} {:?}", error.kind, error.sense.key, error.sense.additional),
    }
}

fn apply(tape: &mut dyn TapeDrive, step: &Step) -> String {
    match step {
        Step::Write(length, fill) => show(tape.write(&vec![*fill; *length as usize])),
        Step::Filemarks(count, immediate) => show(tape.write_filemarks(u32::from(*count), *immediate)),
        Step::Read(length) => {
            let mut buffer = vec![0; *length as usize];
            let outcome = show(tape.read(&mut buffer));
            format!("{outcome} {:08x}", crc32c::crc32c(&buffer))
        }
        Step::Space(kind, count) => show(tape.space(*kind, i64::from(*count))),
        Step::Locate(partition, object) => {
            show(tape.locate(Position { partition: *partition, object: u64::from(*object) }))
        }
        Step::Rewind => show(tape.rewind()),
        Step::Synchronise => show(tape.write_filemarks(0, false)),
        Step::Reload => {
            let unloaded = show(tape.unload());
            let loaded = show(tape.load());
            // The change of the medium is told once, to whichever command asks first.
            let _told = tape.test_unit_ready();
            format!("{unloaded} {loaded} {}", show(tape.test_unit_ready()))
        }
        Step::Erase => show(tape.erase(false)),
        Step::Format(two) => {
            // Both stand at the beginning of partition 0 then, as the standard wants it.
            let moved = show(tape.locate(Position { partition: 0, object: 0 }));
            format!("{moved} {}", show(tape.format_medium(two.then_some(1 << 20))))
        }
        Step::Attribute(value) => {
            let attribute = Attribute { id: 0x0803, format: 1, value: vec![*value % 96 + 32; 20] };
            let written = show(tape.write_attribute(&attribute));
            format!("{written} {}", show(tape.read_attribute(0x0803)))
        }
        Step::Status => {
            show(tape.medium_status().map(|status| (status.medium_type, status.write_protected, status.partitions)))
        }
    }
}

fn compare(steps: &[Step]) {
    let options =
        ModelOptions { second_partition: Some(1 << 20), maximum_block: 1 << 16, ..ModelOptions::new(3 << 20) };
    let unit = ScsiUnit::new(Box::new(ModelTape::new(options.clone())), ScsiOptions::as_drive("loop"));
    let mut drive = ScsiTapeDrive::open(Loopback::new(unit)).unwrap();
    let mut model = ModelTape::new(options);
    drive.load().unwrap();
    model.load().unwrap();
    for (number, step) in steps.iter().enumerate() {
        assert_eq!(apply(&mut drive, step), apply(&mut model, step), "step {number} {step:?} of {steps:?}");
        let (at, expected) = (drive.read_position().unwrap(), model.read_position().unwrap());
        assert_eq!(at.position, expected.position, "position after step {number} {step:?} of {steps:?}");
        assert_eq!(at.filemarks, expected.filemarks, "filemarks after step {number} {step:?} of {steps:?}");
        assert_eq!(at.end_of_partition, expected.end_of_partition, "end after step {number} {step:?}");
    }
}

/// Each case is up to 40 commands; more of them behind `cargo xtask test --long`.
fn cases() -> u32 {
    if std::env::var_os("SEALTAPE_LONG").is_some() { 100_000 } else { 3_000 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_drive_behind_commands_behaves_as_the_drive(steps in proptest::collection::vec(step(), 1..40)) {
        compare(&steps);
    }
}

/// A residue above 31 bits does not fit the INFORMATION field that tells it.
#[test]
fn a_count_beyond_what_sense_data_can_tell_is_spaced_in_parts() {
    let options = ModelOptions::new(3 << 20);
    let unit = ScsiUnit::new(Box::new(ModelTape::new(options.clone())), ScsiOptions::as_drive("loop"));
    let mut drive = ScsiTapeDrive::open(Loopback::new(unit)).unwrap();
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
        for count in [count, -count] {
            for kind in [SpaceKind::Blocks, SpaceKind::Filemarks] {
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
}
