//! Reading ahead is not to be seen: whatever the drive does and the host asks for, a unit that reads ahead says what one says that does
//! not. And what it read for nobody is wiped.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "attack_support/mod.rs"]
mod bench;
#[path = "support/catalogue.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod catalogue;

use std::time::{Duration, Instant};

use catalogue::Catalogue;
use sealtape::seal::{Compression, Suite};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape};
use sealtape_drivers::image::faults::{Command, Effect, FaultPlan, FaultyDrive};
use sealtape_drivers::medium::model::{ModelTape, Object};
use sealtape_drivers::medium::{DriveError, DriveErrorKind, Position, SharedDrive, SpaceKind, TapeDrive};

/// Blocks of the tape, in front of a filemark.
const BLOCKS: u64 = 30;
/// Read by the host, so that reading ahead has begun.
const READ: u64 = 8;
/// Windows of one record, which read nothing ahead, and of eight.
const WINDOWS: [usize; 2] = [1, 8];
const EFFECTS: [Effect; 7] = [
    Effect::Medium,
    Effect::Hardware,
    Effect::Transport,
    Effect::TransportAfter,
    Effect::Reset,
    Effect::UnitAttention,
    Effect::NotReady,
];

type Raw = SharedDrive<FaultyDrive<ModelTape>>;

struct Tape {
    folder: tempfile::TempDir,
    raw: Raw,
    catalogue: Catalogue,
}

fn block(number: u64) -> Vec<u8> {
    (0..1000 + number * 37 % 500).map(|at| (at * 7 + number) as u8).collect()
}

/// A volume with [`BLOCKS`] blocks, a filemark, a block.
fn tape() -> Tape {
    let folder = bench::scratch();
    let catalogue = Catalogue::new(Suite::AES_256_GCM_SIV, Compression::LZ4, 1);
    let raw = SharedDrive::new(FaultyDrive::new(bench::model(1), FaultPlan::default()));
    let tape = Tape { folder, raw, catalogue };
    let mut unit = tape.loaded(8);
    unit.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    for number in 0..BLOCKS {
        if number == BLOCKS / 2 {
            // Another session from here on.
            unit.unload().unwrap();
            unit.load().unwrap();
            unit.space(SpaceKind::EndOfData, 0).unwrap();
        }
        unit.write(&block(number)).unwrap();
    }
    unit.write_filemarks(1, false).unwrap();
    unit.write(b"behind the filemark").unwrap();
    unit.unload().unwrap();
    tape
}

impl Tape {
    fn loaded(&self, window: usize) -> SealedTape {
        let drive = Box::new(self.raw.clone());
        let mut unit = bench::unit_over(drive, &self.catalogue, &self.folder.path().join("mark"), window, true);
        unit.load_medium().unwrap();
        // It says once that a medium came.
        drop(unit.test_unit_ready());
        unit.test_unit_ready().unwrap();
        unit
    }

    /// The drive's own position.
    fn drive_at(&self) -> u64 {
        self.raw.lock().inner_mut().read_position().unwrap().position.object - bench::HIDDEN as u64
    }

    /// The host has read the first blocks, and the drive is ahead of it.
    fn ahead(&self) -> SealedTape {
        let mut unit = self.loaded(8);
        for number in 0..READ {
            assert_eq!(bench::read_one(&mut unit).unwrap().unwrap(), block(number));
        }
        let begun = Instant::now();
        while self.drive_at() <= READ + 3 {
            assert!(begun.elapsed() < Duration::from_secs(20), "nothing is read ahead");
            std::thread::sleep(Duration::from_millis(1));
        }
        unit
    }
}

/// What a command gave, in a form that two units can be compared by.
fn show<T: std::fmt::Debug>(result: Result<T, DriveError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind),
    }
}

/// Reads all there is, whatever comes between; then once more from the beginning.
fn read_through(unit: &mut SealedTape) -> Vec<String> {
    let mut seen: Vec<String> = (0..BLOCKS + 4).map(|_| show(bench::read_one(unit))).collect();
    seen.push(show(unit.read_position().map(|report| report.position)));
    seen.push(show(unit.rewind()));
    seen.push(show(unit.rewind()));
    seen.extend((0..READ).map(|_| show(bench::read_one(unit))));
    seen
}

#[test]
fn a_fault_of_a_read_comes_at_its_block_and_not_before() {
    for effect in EFFECTS {
        for at in [1, 4, 5, 6, 9, BLOCKS, BLOCKS + 1, BLOCKS + 2] {
            let [without, with] = WINDOWS.map(|window| {
                let tape = tape();
                let mut unit = tape.loaded(window);
                tape.raw.lock().set_plan(bench::once(Command::Read, at, effect));
                let seen = read_through(&mut unit);
                assert_eq!(tape.raw.lock().happened(), 1, "{effect:?} at {at}");
                seen
            });
            assert_eq!(with, without, "{effect:?} at {at}");
        }
    }
}

#[test]
fn a_refused_record_is_refused_at_its_place() {
    let changes: [fn(&mut Vec<Object>, usize); 4] = [
        |objects, at| {
            let Object::Block(block) = &mut objects[at] else { panic!("a block") };
            let middle = block.len() / 2;
            block[middle] ^= 1;
        },
        |objects, at| {
            // With a checksum that agrees: only the tag tells.
            let Object::Block(block) = &mut objects[at] else { panic!("a block") };
            let (middle, body) = (block.len() / 2, block.len() - 4);
            block[middle] ^= 1;
            let crc = crc32c::crc32c(&block[..body]).to_be_bytes();
            block[body..].copy_from_slice(&crc);
        },
        |objects, at| objects.swap(at, at + 1),
        |objects, at| objects[at] = Object::Block(b"clear text".to_vec()),
    ];
    for change in changes {
        for at in [2, 5, 9, BLOCKS as usize / 2, BLOCKS as usize - 2] {
            let [without, with] = WINDOWS.map(|window| {
                let tape = tape();
                change(tape.raw.lock().inner_mut().objects_mut(0).unwrap(), at + bench::HIDDEN);
                let mut unit = tape.loaded(window);
                let seen = read_through(&mut unit);
                let incidents = tape.catalogue.incidents();
                assert!(incidents.iter().any(|text| text.contains(&format!("object {at}"))), "{incidents:?}");
                (seen, unit.status().access, unit.status().records_refused, incidents)
            });
            assert_eq!(with, without, "at {at}");
        }
    }
}

#[test]
fn every_other_command_finds_the_drive_where_the_host_stands() {
    type Ask = fn(&mut SealedTape) -> String;
    let commands: [(&str, Ask); 9] = [
        ("space over a block", |unit| show(unit.space(SpaceKind::Blocks, 1))),
        ("space back", |unit| show(unit.space(SpaceKind::Blocks, -1))),
        ("space to the filemark", |unit| show(unit.space(SpaceKind::Filemarks, 1))),
        ("locate", |unit| show(unit.locate(Position { partition: 0, object: 3 }))),
        ("rewind", |unit| show(unit.rewind())),
        ("write", |unit| show(unit.write(b"here the tape is cut"))),
        ("filemark", |unit| show(unit.write_filemarks(1, false))),
        ("erase", |unit| show(unit.erase(false))),
        ("reload", |unit| show(unit.unload().and_then(|()| unit.load()))),
    ];
    for (name, command) in commands {
        let [without, with] = WINDOWS.map(|window| {
            let tape = tape();
            let mut unit = match window {
                1 => {
                    let mut unit = tape.loaded(1);
                    (0..READ).for_each(|_| drop(bench::read_one(&mut unit).unwrap()));
                    unit
                }
                _ => tape.ahead(),
            };
            let position = show(unit.read_position().map(|report| report.position));
            let mut unit = if window == 1 {
                unit
            } else {
                drop(unit);
                tape.ahead()
            };
            let mut seen = vec![position, command(&mut unit)];
            seen.push(show(unit.read_position().map(|report| report.position)));
            seen.extend((0..6).map(|_| show(bench::read_one(&mut unit))));
            seen.push(show(unit.unload()));
            (seen, tape.raw.lock().inner_mut().objects(0).len())
        });
        assert_eq!(with, without, "{name}");
    }
}

/// A command that needs no place leaves what was read alone.
#[test]
fn questions_do_not_move_the_drive() {
    let tape = tape();
    let mut unit = tape.ahead();
    tape.raw.lock().set_plan(bench::once(Command::Locate, 1, Effect::Hardware));
    unit.test_unit_ready().unwrap();
    unit.medium_status().unwrap();
    unit.block_limits().unwrap();
    for number in READ..BLOCKS {
        assert_eq!(bench::read_one(&mut unit).unwrap().unwrap(), block(number));
    }
    assert_eq!(bench::read_one(&mut unit).unwrap(), None);
    assert_eq!(tape.raw.lock().happened(), 0, "the drive was moved");
    assert_eq!(bench::read_one(&mut unit).unwrap().unwrap(), b"behind the filemark");
}

/// What was read for nobody has no effect; but a drive tells once that it was reset or lost its medium, and somebody has to hear it.
#[test]
fn a_reset_met_ahead_is_told_to_the_next_command() {
    for effect in EFFECTS {
        for rewind in [false, true] {
            let tape = tape();
            let mut unit = tape.loaded(8);
            tape.raw.lock().set_plan(bench::once(Command::Read, READ + 3, effect));
            (0..READ).for_each(|_| drop(bench::read_one(&mut unit).unwrap()));
            let begun = Instant::now();
            while tape.raw.lock().happened() == 0 {
                assert!(begun.elapsed() < Duration::from_secs(20), "nothing is read ahead");
                std::thread::sleep(Duration::from_millis(1));
            }
            let told = if rewind { unit.rewind() } else { unit.space(SpaceKind::Blocks, 1).map(drop) };
            match effect {
                Effect::Medium => assert_eq!(show(told), "()", "a bad block is nobody's yet"),
                _ => assert!(told.is_err(), "{effect:?} was swallowed"),
            }
            // Wherever the host is said to stand, it does.
            if let Ok(report) = unit.read_position() {
                let at = report.position.object;
                assert!(at == 0 || (READ..=READ + 1).contains(&at), "{effect:?}: the host stands at {at}");
                assert_eq!(bench::read_one(&mut unit).unwrap().unwrap(), block(at), "{effect:?}");
            }
            if effect == Effect::UnitAttention {
                assert!(unit.status().label.is_none(), "it may be another cartridge");
                unit.test_unit_ready().unwrap();
            }
            unit.rewind().unwrap();
            assert_eq!(bench::read_one(&mut unit).unwrap().unwrap(), block(0));
        }
    }
}

/// Another cartridge while a program holds the drive open: nothing of the old one is believed of the new one.
#[test]
fn a_medium_that_changed_is_looked_at_before_it_is_used() {
    for command in [Command::Locate, Command::Space, Command::Write, Command::Read, Command::ReadPosition] {
        let tape = tape();
        let mut unit = tape.loaded(8);
        bench::read_one(&mut unit).unwrap();
        tape.raw.lock().set_plan(bench::once(command, 1, Effect::UnitAttention));
        // Somebody pressed the button.
        let foreign = vec![Object::Block(b"somebody else's backup".to_vec()); 40];
        tape.raw.lock().inner_mut().rewind().unwrap();
        *tape.raw.lock().inner_mut().objects_mut(0).unwrap() = foreign.clone();
        let mut failed = 0;
        for _ in 0..2 {
            failed += u32::from(unit.space(SpaceKind::Blocks, 1).is_err());
            failed += u32::from(unit.read_position().is_err());
            failed += u32::from(bench::read_one(&mut unit).is_err());
            failed += u32::from(unit.rewind().is_err());
            failed += u32::from(unit.write(b"over it").is_err());
            failed += u32::from(unit.write_filemarks(1, false).is_err());
        }
        assert!(tape.raw.lock().happened() == 1 && failed > 0, "{command:?}");
        assert_eq!(tape.raw.lock().inner_mut().objects(0), foreign, "{command:?}: the other cartridge was written to");
    }
}

#[test]
fn a_drive_that_does_not_go_back_is_asked_again_and_never_believed_to_have() {
    for effect in [Effect::Hardware, Effect::Transport, Effect::TransportAfter, Effect::Reset] {
        let tape = tape();
        let mut unit = tape.ahead();
        tape.raw.lock().set_plan(bench::once(Command::Locate, 1, effect));
        unit.write(b"must not stand in the middle of the tape").unwrap_err();
        assert_eq!(tape.raw.lock().happened(), 1);
        let objects = tape.raw.lock().inner_mut().objects(0).len();
        assert_eq!(objects as u64, bench::HIDDEN as u64 + BLOCKS + 2, "{effect:?}: something was written");
        if let Ok(report) = unit.read_position() {
            assert_eq!(report.position.object, READ, "{effect:?}");
            assert_eq!(bench::read_one(&mut unit).unwrap().unwrap(), block(READ), "{effect:?}");
        }
        drop(unit.rewind());
        unit.rewind().unwrap();
        assert_eq!(bench::read_one(&mut unit).unwrap().unwrap(), block(0));
    }
}

#[test]
fn plaintext_that_waits_is_wiped_by_a_motion_and_when_the_key_ends() {
    for compression in [Compression::NONE, Compression::LZ4] {
        for key_ends in [false, true] {
            let folder = bench::scratch();
            let catalogue = Catalogue::new(Suite::AES_256_GCM_SIV, compression, 1);
            let raw = SharedDrive::new(FaultyDrive::new(bench::model(1), FaultPlan::default()));
            let tape = Tape { folder, raw, catalogue };
            let mut unit = tape.loaded(8);
            unit.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
            for number in 0..READ {
                unit.write(&block(number)).unwrap();
            }
            let mut secret = vec![0; 64];
            getrandom::fill(&mut secret).unwrap();
            let mut masked = [0; 64];
            masked.iter_mut().zip(&secret).for_each(|(mask, byte)| *mask = byte ^ 0x5a);
            // It shrinks, where there is compression.
            secret.resize(1000, 0);
            for _ in 0..20 {
                unit.write(&secret).unwrap();
            }
            zeroize::Zeroize::zeroize(&mut secret);
            unit.unload().unwrap();
            drop(unit);
            let mut unit = tape.ahead();
            assert!(bench::in_memory(&masked), "the search finds what waits");
            if key_ends {
                tape.catalogue.end_keys("compromised");
                unit.notice_end();
                assert_eq!(bench::read_one(&mut unit).unwrap_err().kind, DriveErrorKind::Security);
            } else {
                unit.rewind().unwrap();
            }
            assert!(!bench::in_memory(&masked), "plaintext that nobody took is left in memory");
        }
    }
}
