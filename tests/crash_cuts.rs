//! Power cuts, in this process. A sealed tape over an image is written with random commands while every write of the
//! image is recorded; then the image is built as a cut at some moment leaves it, the catalogue is the one of that moment,
//! and another unit loads the volume. What a completed synchronising command covered has to be there, what else is there
//! has to be what the host wrote, the label is readable, and the volume can be used on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/catalogue.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod catalogue;
#[path = "crash_support/cuts.rs"]
mod cuts;
#[path = "crash_support/witness.rs"]
mod witness;

use std::collections::BTreeMap;
use std::path::Path;

use catalogue::Catalogue;
use cuts::{cut_at_random, cuts_at, drive_over, read_all, scratch, unit_over};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sealtape::seal::{Compression, Suite, VolumeLabel};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape};
use sealtape::volume::Access;
use sealtape_drivers::image::trace::{Operation, TraceStorage};
use sealtape_drivers::image::{CreateOptions, create_on};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape, Object};
use sealtape_drivers::medium::{Position, ReadOutcome, SpaceKind, TapeDrive};
use uuid::Uuid;
use witness::{Notes, Witness};

const CAPACITY: u64 = 4 << 20;

/// One command of the host.
#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Filemarks { count: u32, immediate: bool },
    Synchronise,
    Locate(u64),
    EndOfData,
    Rewind,
    Erase,
}

fn random_step(rng: &mut TestRng) -> Step {
    match rng.random_range(0..20) {
        0..=9 => Step::Write(rng.random_range(1..3000)),
        10..=12 => Step::Filemarks { count: rng.random_range(1..3), immediate: false },
        13 => Step::Filemarks { count: 1, immediate: true },
        14 | 15 => Step::Synchronise,
        16 => Step::Locate(rng.random_range(0..12)),
        17 | 18 => Step::EndOfData,
        _ if rng.random_bool(0.5) => Step::Rewind,
        _ => Step::Erase,
    }
}

/// Does one command, and tells whether it succeeded.
fn apply_step(tape: &mut dyn TapeDrive, step: &Step, fill: u64) -> bool {
    let done = match step {
        Step::Write(length) => tape.write(&noise(*length, fill)).map(drop),
        Step::Filemarks { count, immediate } => tape.write_filemarks(*count, *immediate).map(drop),
        Step::Synchronise => tape.write_filemarks(0, false).map(drop),
        Step::Locate(object) => tape.locate(Position { partition: 0, object: *object }),
        Step::EndOfData => tape.space(SpaceKind::EndOfData, 0).map(drop),
        Step::Rewind => tape.rewind(),
        Step::Erase => tape.erase(false),
    };
    done.is_ok()
}

/// Bytes that no other call gives; every second one shrinks.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    if seed.is_multiple_of(2) { (0..length).map(|_| next()).collect() } else { vec![next(); length] }
}

/// What must hold if the power is cut while one command runs.
struct Moment {
    /// Operations begun when the command began.
    from: usize,
    step: String,
    /// Objects that are synchronised, and that the command does not write over.
    guaranteed: Vec<Object>,
    /// All states that the tape may be in: it holds a beginning of one of them.
    possible: Vec<Vec<Object>>,
}

/// A labelled cartridge, what was done to it, and what must hold at each moment.
struct Life {
    base: Vec<u8>,
    operations: Vec<Operation>,
    notes: Notes,
    moments: Vec<Moment>,
    volume: Uuid,
}

fn blank() -> Vec<u8> {
    let storage = TraceStorage::default();
    create_on(&storage, "cut.img", &CreateOptions::new(CAPACITY)).unwrap();
    storage.bytes()
}

fn label(unit: &mut SealedTape, overwrite: Overwrite) -> VolumeLabel {
    unit.label_medium(&LabelRequest { ticket: String::new(), overwrite }).unwrap()
}

fn synchronised(model: &ModelTape) -> Vec<Object> {
    model.objects(0)[..model.synchronised(0) as usize].to_vec()
}

fn live(steps: &[Step], suite: Suite, compression: Compression, folder: &Path) -> Life {
    let catalogue = Catalogue::new(suite, compression, 1);
    let mark = folder.join("life");
    let storage = TraceStorage::new(blank());
    let volume = label(&mut unit_over(&storage, Box::new(catalogue.clone()), &mark), Overwrite::Nothing).volume;
    storage.take_operations();
    let base = storage.bytes();
    let notes = Notes::new(&catalogue);
    let witness = Witness { catalogue, storage: storage.clone(), notes: notes.clone() };
    let mut unit = unit_over(&storage, Box::new(witness), &mark);
    assert_eq!(unit.load_medium().unwrap().access, Access::ReadWrite);
    let mut model = ModelTape::new(ModelOptions { early_warning: 0, ..ModelOptions::new(CAPACITY) });
    let mut possible = vec![Vec::new()];
    let mut moments = Vec::new();
    for (fill, step) in (1..).zip(steps) {
        let from = storage.operation_count();
        let mut guaranteed = synchronised(&model);
        let at = model.read_position().unwrap().position.object as usize;
        if matches!(step, Step::Write(_) | Step::Filemarks { .. } | Step::Erase) {
            guaranteed.truncate(at);
        }
        let expected = apply_step(&mut model, step, fill);
        assert_eq!(apply_step(&mut unit, step, fill), expected, "{step:?} of {steps:?}");
        possible.push(model.objects(0).to_vec());
        moments.push(Moment { from, step: format!("{step:?}"), guaranteed, possible: possible.clone() });
        if model.objects(0).len() == synchronised(&model).len() {
            possible = vec![model.objects(0).to_vec()];
        }
    }
    moments.push(Moment {
        from: storage.operation_count(),
        step: "the end".into(),
        guaranteed: synchronised(&model),
        possible,
    });
    drop(unit);
    let operations = storage.take_operations();
    Life { base, operations, notes, moments, volume }
}

impl Life {
    fn moment(&self, done: usize) -> &Moment {
        self.moments.iter().rev().find(|moment| moment.from <= done).unwrap_or(&self.moments[0])
    }

    /// One cut, and everything that has to hold after it.
    fn check(&self, done: usize, bytes: Vec<u8>, catalogue: &Catalogue, marked: bool, folder: &Path) {
        let moment = self.moment(done);
        let at = format!("cut at operation {done}, during {}", moment.step);
        let storage = TraceStorage::new(bytes);
        assert_eq!(label_on(&storage).map(|label| label.volume), Some(self.volume), "{at}");
        let mark = folder.join("after");
        if marked {
            std::fs::write(&mark, "left").unwrap();
        }
        let mut unit = unit_over(&storage, Box::new(catalogue.clone()), &mark);
        let report = unit.load_medium().unwrap();
        assert_eq!(report.access, Access::ReadWrite, "{at}");
        if marked {
            assert!(unit.write(b"carries on").is_err(), "{at}: a writer that carries on has to see an error");
        }
        let found = read_all(&mut unit).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert!(
            found.starts_with(&moment.guaranteed),
            "{at}: {} objects were synchronised, {} are there",
            moment.guaranteed.len(),
            found.len()
        );
        assert!(
            moment.possible.iter().any(|state| state.starts_with(&found)),
            "{at}: {} objects that the host never wrote like this",
            found.len()
        );
        self.use_on(unit, found, &storage, catalogue, &mark, &at);
    }

    /// The volume is written on from where the cut left it, and loads once more.
    fn use_on(
        &self,
        mut unit: SealedTape,
        mut expected: Vec<Object>,
        storage: &TraceStorage,
        catalogue: &Catalogue,
        mark: &Path,
        at: &str,
    ) {
        for more in [b"after the cut".to_vec(), vec![7; 2000]] {
            unit.write(&more).unwrap_or_else(|error| panic!("{at}: writing on: {error}"));
            expected.push(Object::Block(more));
        }
        unit.write_filemarks(1, false).unwrap();
        expected.push(Object::Filemark);
        unit.unload().unwrap();
        drop(unit);
        let mut unit = unit_over(storage, Box::new(catalogue.clone()), mark);
        assert_eq!(unit.load_medium().unwrap().access, Access::ReadWrite, "{at}: loading once more");
        let found = read_all(&mut unit).unwrap_or_else(|error| panic!("{at}: after writing on: {error}"));
        assert!(found == expected, "{at}: after writing on {} objects, not {}", found.len(), expected.len());
        assert!(catalogue.incidents().is_empty(), "{at}: {:?}", catalogue.incidents());
    }
}

/// The label at object 0, read as anybody can.
fn label_on(storage: &TraceStorage) -> Option<VolumeLabel> {
    let mut drive = drive_over(storage);
    drive.load().unwrap();
    let mut buffer = vec![0; 8192];
    match drive.read(&mut buffer).unwrap() {
        ReadOutcome::Block { length } => VolumeLabel::parse(&buffer[..length]).ok(),
        ReadOutcome::Filemark | ReadOutcome::EndOfData | ReadOutcome::EndOfPartition => None,
    }
}

fn rng(seed: u8) -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32])
}

#[test]
fn what_a_synchronising_command_covered_survives_a_power_cut() {
    let lives = if std::env::var_os("SEALTAPE_LONG").is_some() { 200 } else { 20 };
    let folder = scratch();
    let (mut cuts, mut cut_in_sync) = (0, 0);
    for seed in 0..lives {
        let mut rng = rng(seed);
        let steps: Vec<Step> = (0..rng.random_range(5..50)).map(|_| random_step(&mut rng)).collect();
        let (suite, compression) = (Suite(1 + seed % 3), Compression(seed % 3));
        let life = live(&steps, suite, compression, folder.path());
        for _ in 0..24 {
            let done = rng.random_range(0..=life.operations.len());
            let bytes = cut_at_random(&life.base, &life.operations, done, &mut rng);
            let catalogues = life.notes.at(done, false);
            let catalogue = &catalogues[rng.random_range(0..catalogues.len())];
            let marked = rng.random_bool(0.5);
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                life.check(done, bytes, catalogue, marked, folder.path());
            }));
            if let Err(panic) = checked {
                eprintln!("seed {seed}, cut {cuts}, steps {steps:?}");
                std::panic::resume_unwind(panic);
            }
            cuts += 1;
            cut_in_sync += usize::from(!life.moment(done).guaranteed.is_empty());
        }
    }
    assert!(cuts >= 200 && cut_in_sync * 3 > cuts, "{cut_in_sync} of {cuts} cuts had something to lose");
}

/// Labelling, labelling again, or writing from the beginning, with everything that a cut needs.
struct Act {
    base: Vec<u8>,
    operations: Vec<Operation>,
    notes: Notes,
}

/// Prepares a cartridge, and then watches `act`.
fn watch(
    catalogue: &Catalogue,
    partitions: u8,
    folder: &Path,
    prepare: impl FnOnce(&mut SealedTape),
    act: impl FnOnce(&mut SealedTape),
) -> Act {
    let options =
        CreateOptions { second_partition: (partitions == 2).then_some(1 << 20), ..CreateOptions::new(CAPACITY) };
    let storage = TraceStorage::default();
    create_on(&storage, "cut.img", &options).unwrap();
    let mark = folder.join("act");
    let mut unit = unit_over(&storage, Box::new(catalogue.clone()), &mark);
    unit.load_medium().unwrap();
    prepare(&mut unit);
    unit.unload().unwrap();
    drop(unit);
    storage.take_operations();
    let base = storage.bytes();
    let notes = Notes::new(catalogue);
    let witness = Witness { catalogue: catalogue.clone(), storage: storage.clone(), notes: notes.clone() };
    let mut unit = unit_over(&storage, Box::new(witness), &mark);
    unit.load_medium().unwrap();
    act(&mut unit);
    drop(unit);
    Act { base, operations: storage.take_operations(), notes }
}

impl Act {
    /// Loads the volume after each cut at each operation, with each catalogue that is possible then. `look` gives a word
    /// for what it found; how often each was found is returned.
    fn cut_everywhere(
        &self,
        folder: &Path,
        mut look: impl FnMut(&str, &mut SealedTape, &TraceStorage) -> &'static str,
    ) -> BTreeMap<&'static str, usize> {
        let mut found = BTreeMap::new();
        for done in 0..=self.operations.len() {
            for (number, bytes) in cuts_at(&self.base, &self.operations, done).into_iter().enumerate() {
                for catalogue in self.notes.at(done, done < self.operations.len()) {
                    let at = format!("cut {number} at operation {done} of {}", self.operations.len());
                    let storage = TraceStorage::new(bytes.clone());
                    let mark = folder.join("after");
                    let mut unit = unit_over(&storage, Box::new(catalogue), &mark);
                    unit.load_medium().unwrap_or_else(|error| panic!("{at}: {error}"));
                    *found.entry(look(&at, &mut unit, &storage)).or_default() += 1;
                }
            }
        }
        found
    }
}

/// The host's records of the volume before.
fn old_records() -> Vec<Object> {
    (1..6).map(|fill| Object::Block(noise(700, fill))).chain([Object::Filemark]).collect()
}

fn write_old(unit: &mut SealedTape) {
    for object in old_records() {
        match object {
            Object::Block(block) => drop(unit.write(&block).unwrap()),
            Object::Filemark => drop(unit.write_filemarks(1, false).unwrap()),
        }
    }
}

/// The volume in the unit can be written from the beginning and read back.
fn assert_usable(at: &str, unit: &mut SealedTape) {
    unit.rewind().unwrap_or_else(|error| panic!("{at}: {error}"));
    for more in [b"new".to_vec(), vec![9; 3000]] {
        unit.write(&more).unwrap_or_else(|error| panic!("{at}: writing: {error}"));
    }
    unit.write_filemarks(1, false).unwrap();
    let expected = [Object::Block(b"new".to_vec()), Object::Block(vec![9; 3000]), Object::Filemark];
    assert!(read_all(unit).unwrap() == expected, "{at}: it does not read back");
}

fn access_of(unit: &SealedTape) -> Access {
    unit.status().access.unwrap()
}

#[test]
fn a_new_generation_cut_at_every_write_leaves_the_old_one_or_an_empty_volume() {
    let folder = scratch();
    let catalogue = Catalogue::new(Suite::AES_256_GCM_SIV, Compression::ZSTD, 1);
    let prepare = |unit: &mut SealedTape| {
        label(unit, Overwrite::Nothing);
        write_old(unit);
    };
    let act = watch(&catalogue, 1, folder.path(), prepare, |unit| {
        unit.rewind().unwrap();
        unit.write(b"first record of the new generation").unwrap();
        unit.write_filemarks(1, false).unwrap();
    });
    let new = [Object::Block(b"first record of the new generation".to_vec()), Object::Filemark];
    let found = act.cut_everywhere(folder.path(), |at, unit, storage| {
        assert!(label_on(storage).is_some(), "{at}: no label");
        assert_eq!(access_of(unit), Access::ReadWrite, "{at}");
        let objects = read_all(unit).unwrap_or_else(|error| panic!("{at}: {error}"));
        let generation = unit.status().generation.map(|generation| generation.number);
        assert_usable(at, unit);
        match generation {
            Some(1) if objects == old_records() => "old",
            Some(2) if new.starts_with(&objects) => "new",
            None if objects.is_empty() => "empty",
            other => panic!("{at}: generation {other:?} with {} objects", objects.len()),
        }
    });
    eprintln!("a new generation: {found:?}");
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["empty", "new", "old"]);
}

#[test]
fn labelling_cut_at_every_write_can_be_done_again() {
    let folder = scratch();
    for partitions in [1, 2] {
        let catalogue = Catalogue::new(Suite::AES_256_GCM_SIV, Compression::ZSTD, partitions);
        let act = watch(&catalogue, partitions, folder.path(), |_| {}, |unit| drop(label(unit, Overwrite::Nothing)));
        let found = act.cut_everywhere(folder.path(), |at, unit, storage| {
            if access_of(unit) == Access::ReadWrite {
                assert!(label_on(storage).is_some(), "{at}: no label");
                assert!(read_all(unit).unwrap().is_empty(), "{at}");
                assert_usable(at, unit);
                return "labelled";
            }
            let present = unit.status().label.map(|label| label.volume);
            let word = if present.is_some() { "unfinished" } else { "blank" };
            label(unit, present.map_or(Overwrite::Nothing, Overwrite::Volume));
            assert_usable(at, unit);
            word
        });
        eprintln!("labelling, {partitions} partitions: {found:?}");
        assert!(found["labelled"] > 0 && found["blank"] > 0, "{found:?}");
    }
}

#[test]
fn labelling_again_cut_at_every_write_leaves_the_old_volume_or_one_to_label() {
    let folder = scratch();
    for partitions in [1, 2] {
        let catalogue = Catalogue::new(Suite::AES_256_GCM_SIV, Compression::LZ4, partitions);
        let mut old = None;
        let prepare = |unit: &mut SealedTape| {
            old = Some(label(unit, Overwrite::Nothing).volume);
            write_old(unit);
        };
        let mut new = None;
        let relabel = |unit: &mut SealedTape| {
            let present = unit.status().label.unwrap().volume;
            new = Some(label(unit, Overwrite::Volume(present)).volume);
        };
        let act = watch(&catalogue, partitions, folder.path(), prepare, relabel);
        let found = act.cut_everywhere(folder.path(), |at, unit, storage| {
            let present = unit.status().label.map(|label| label.volume);
            assert_eq!(
                label_on(storage).map(|label| label.volume),
                present,
                "{at}: what stands there and what is said"
            );
            if access_of(unit) == Access::ReadWrite {
                let objects = read_all(unit).unwrap_or_else(|error| panic!("{at}: {error}"));
                assert_usable(at, unit);
                return match present {
                    _ if present == old && objects == old_records() => "old",
                    _ if present == new && objects.is_empty() => "new",
                    other => panic!("{at}: volume {other:?} with {} objects", objects.len()),
                };
            }
            assert!(present.is_none() || present == new, "{at}: the old volume is closed: {:?}", access_of(unit));
            let word = if present.is_some() { "unfinished" } else { "blank" };
            label(unit, present.map_or(Overwrite::Nothing, Overwrite::Volume));
            assert_usable(at, unit);
            word
        });
        eprintln!("labelling again, {partitions} partitions: {found:?}");
        assert!(found["old"] > 0 && found["new"] > 0, "{found:?}");
    }
}
