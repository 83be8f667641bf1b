//! Power cuts. A tape is written with random commands while every write of the file is recorded; then the file is built as a cut
//! at some point would leave it: everything up to the last synchronisation, and of what came after any part, in any
//! order, whole or torn. What was synchronised has to be there; what else is there has to be a state that the tape had.
//! Then the tape is used on from there, and cut again: what a cut dropped must never come back.

use proptest::prelude::*;
use proptest::test_runner::TestRng;
use sealtape_drivers::image::trace::{Operation, TraceStorage, apply};
use sealtape_drivers::image::{CreateOptions, ImageDrive, create_on};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape, Object};
use sealtape_drivers::medium::{Position, ReadOutcome, TapeDrive};

use crate::commands::{Command, Outcome, identity, run, writing};

const CAPACITY: u64 = 60_000;
const ROUNDS: usize = 4;
const CUTS_PER_ROUND: usize = 24;

type Contents = Vec<Vec<Object>>;

/// What must hold if the power is cut while one command runs.
struct Moment {
    /// Operations done when the command began.
    from: usize,
    /// Objects of each partition that are synchronised, and that the command does not write over.
    guaranteed: Contents,
    /// All states that the tape may be in: it holds a beginning of one of them in each partition.
    possible: Vec<Contents>,
}

fn options() -> CreateOptions {
    CreateOptions { second_partition: Some(20_000), early_warning: 0, ..CreateOptions::new(CAPACITY) }
}

fn model_of(contents: &Contents) -> ModelTape {
    let mut model = ModelTape::new(ModelOptions {
        second_partition: Some(20_000),
        early_warning: 0,
        ..ModelOptions::new(CAPACITY)
    });
    for (partition, objects) in (0..).zip(contents) {
        *model.objects_mut(partition).expect("partition") = objects.clone();
    }
    model.rewind().expect("rewound, and synchronised");
    model
}

fn contents_of(model: &ModelTape) -> Contents {
    (0..2).map(|partition| model.objects(partition).to_vec()).collect()
}

fn synchronised_of(model: &ModelTape) -> Contents {
    (0..2).map(|p| model.objects(p)[..model.synchronised(p) as usize].to_vec()).collect()
}

fn load(storage: &TraceStorage) -> ImageDrive {
    let mut drive = ImageDrive::new(identity());
    drive.insert_storage(Box::new(storage.clone()), "cut.img").expect("inserted");
    drive.load().expect("loaded");
    drive
}

/// Reads everything; the drive is left rewound.
fn read_all(drive: &mut ImageDrive) -> Contents {
    let mut buffer = vec![0; 1 << 16];
    let mut contents = Contents::new();
    for partition in 0..2 {
        let mut objects = Vec::new();
        drive.locate(Position { partition, object: 0 }).expect("located");
        loop {
            match drive.read(&mut buffer).expect("readable") {
                ReadOutcome::Block { length } => objects.push(Object::Block(buffer[..length].to_vec())),
                ReadOutcome::Filemark => objects.push(Object::Filemark),
                ReadOutcome::EndOfData => break,
                ReadOutcome::EndOfPartition => panic!("the file-backed drive has an end of data always"),
            }
        }
        contents.push(objects);
    }
    drive.locate(Position { partition: 0, object: 0 }).expect("located");
    contents
}

/// Runs the commands on drive and model, and notes what must hold while each of them runs.
fn run_all(
    drive: &mut ImageDrive,
    model: &mut ModelTape,
    commands: &[Command],
    first: u64,
    storage: &TraceStorage,
) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut possible = vec![contents_of(model)];
    for (number, command) in (first..).zip(commands) {
        let (from, before) = (storage.operation_count(), synchronised_of(model));
        let position = model.read_position().expect("loaded").position;
        let (image, expected) = (run(drive, command, number), run(model, command, number));
        assert_eq!(image, expected, "{command:?}");
        let after = contents_of(model);
        if possible.last() != Some(&after) {
            possible.push(after.clone());
        }
        // What the command wrote over is promised no more; what it synchronises is promised from its end on.
        let mut guaranteed = before;
        let writes = match command {
            Command::Write { .. } | Command::Erase { .. } => true,
            Command::WriteFilemarks { count, .. } => *count > 0,
            _ => false,
        };
        if writes && !matches!(image, Outcome::Failed(..)) {
            guaranteed[usize::from(position.partition)].truncate(position.object as usize);
        }
        moments.push(Moment { from, guaranteed, possible: possible.clone() });
        if synchronised_of(model) == after {
            possible = vec![after];
        }
    }
    let (from, guaranteed) = (storage.operation_count(), synchronised_of(model));
    moments.push(Moment { from, guaranteed, possible });
    moments
}

/// The bytes after a cut when `done` operations were begun: what is behind the last synchronisation may be there or not.
fn cut(base: &[u8], operations: &[Operation], done: usize, rng: &mut TestRng) -> Vec<u8> {
    let done = &operations[..done];
    let durable = done.iter().rposition(|operation| *operation == Operation::Sync).map_or(0, |last| last + 1);
    let mut bytes = base.to_vec();
    for operation in &done[..durable] {
        apply(operation, &mut bytes, usize::MAX);
    }
    let mut rest: Vec<&Operation> = done[durable..].iter().collect();
    // Nothing is ever written twice between two synchronisations except over a torn place, but the order is free all the same.
    if rng.random_bool(0.3) {
        rest.reverse();
    }
    let keep_all = rng.random_bool(0.3);
    let count = rest.len();
    for (number, operation) in rest.into_iter().enumerate() {
        let length = match operation {
            Operation::Write { bytes, .. } => bytes.len(),
            Operation::Sync | Operation::Discard { .. } => 0,
        };
        match rng.random_range(0..4) {
            _ if keep_all && number + 1 < count => apply(operation, &mut bytes, usize::MAX),
            0 => apply(operation, &mut bytes, usize::MAX),
            1 => apply(operation, &mut bytes, rng.random_range(0..=length)),
            2 => tear_sectors(operation, &mut bytes, rng),
            _ => {}
        }
    }
    bytes
}

/// Some of the pieces of a write arrive, others do not.
fn tear_sectors(operation: &Operation, bytes: &mut Vec<u8>, rng: &mut TestRng) {
    let Operation::Write { offset, bytes: written } = operation else { return };
    let piece = [16, 64, 512][rng.random_range(0..3)];
    for (number, part) in written.chunks(piece).enumerate() {
        if rng.random_bool(0.5) {
            let offset = offset + (number * piece) as u64;
            apply(&Operation::Write { offset, bytes: part.to_vec() }, bytes, usize::MAX);
        }
    }
}

fn check(found: &Contents, moment: &Moment) {
    for partition in 0..2 {
        let (found, guaranteed) = (&found[partition], &moment.guaranteed[partition]);
        assert!(
            found.starts_with(guaranteed),
            "partition {partition}: {} objects were synchronised, found {}",
            guaranteed.len(),
            found.len()
        );
        let known = moment.possible.iter().any(|state| state[partition].starts_with(found));
        assert!(known, "partition {partition}: {} objects that the tape never held like this", found.len());
    }
}

fn cut_and_go_on(rounds: &[Vec<Command>], rng: &mut TestRng) {
    let first = TraceStorage::default();
    create_on(&first, "cut.img", &options()).expect("created");
    let mut base = first.bytes();
    for (round, commands) in rounds.iter().enumerate() {
        let storage = TraceStorage::new(base.clone());
        let mut drive = load(&storage);
        let start = read_all(&mut drive);
        let mut model = model_of(&start);
        let moments = run_all(&mut drive, &mut model, commands, round as u64 * 1000, &storage);
        drop(drive);
        let operations = storage.take_operations();
        let mut next = base.clone();
        for _ in 0..CUTS_PER_ROUND {
            let done = rng.random_range(0..=operations.len());
            let moment = moments.iter().rev().find(|moment| moment.from <= done).unwrap_or(&moments[0]);
            let bytes = cut(&base, &operations, done, rng);
            check(&read_all(&mut load(&TraceStorage::new(bytes.clone()))), moment);
            next = bytes;
        }
        base = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn what_was_synchronised_survives(
        rounds in prop::collection::vec(prop::collection::vec(writing(), 1..30), ROUNDS),
        rng in any::<u64>().prop_perturb(|_, rng| rng),
    ) {
        cut_and_go_on(&rounds, &mut rng.clone());
    }
}

/// Every byte of every write of one short life, without chance.
#[test]
fn a_cut_at_every_byte() {
    let storage = TraceStorage::default();
    create_on(&storage, "cut.img", &options()).unwrap();
    let base = storage.bytes();
    storage.take_operations();
    let mut drive = load(&storage);
    let mut model = model_of(&vec![Vec::new(), Vec::new()]);
    let commands = [
        Command::Write { length: 100 },
        Command::Write { length: 8 },
        Command::WriteFilemarks { count: 2, immediate: true },
        Command::WriteFilemarks { count: 0, immediate: false },
        Command::Write { length: 50 },
        Command::WriteFilemarks { count: 1, immediate: false },
        Command::Locate { partition: 0, object: 1 },
        Command::Write { length: 8 },
        Command::Write { length: 30 },
        Command::WriteFilemarks { count: 1, immediate: false },
        Command::Write { length: 64 },
    ];
    let moments = run_all(&mut drive, &mut model, &commands, 0, &storage);
    drop(drive);
    let operations = storage.take_operations();
    let mut cuts = 0;
    for (done, operation) in operations.iter().enumerate() {
        let length = match operation {
            Operation::Write { bytes, .. } => bytes.len(),
            Operation::Sync | Operation::Discard { .. } => 0,
        };
        for keep in 0..=length {
            let mut bytes = base.clone();
            operations[..done].iter().for_each(|operation| apply(operation, &mut bytes, usize::MAX));
            apply(operation, &mut bytes, keep);
            let moment = moments.iter().rev().find(|moment| moment.from <= done).unwrap_or(&moments[0]);
            check(&read_all(&mut load(&TraceStorage::new(bytes))), moment);
            cuts += 1;
        }
    }
    assert!(cuts > 1000, "{cuts} cuts");
}

/// A test that cannot fail shows nothing: an older superblock with a new file, or a missing synchronised write, is found.
#[test]
fn the_check_sees_a_lost_object() {
    let moment = Moment {
        from: 0,
        guaranteed: vec![vec![Object::Filemark], Vec::new()],
        possible: vec![vec![vec![Object::Filemark, Object::Filemark], Vec::new()]],
    };
    let refused = |found: Contents| std::panic::catch_unwind(|| check(&found, &moment)).is_err();
    assert!(!refused(vec![vec![Object::Filemark], Vec::new()]));
    assert!(refused(vec![Vec::new(), Vec::new()]));
    assert!(refused(vec![vec![Object::Filemark, Object::Block(vec![1])], Vec::new()]));
    assert!(refused(vec![vec![Object::Filemark; 3], Vec::new()]));
    assert!(matches!(run(&mut model_of(&vec![Vec::new(), Vec::new()]), &Command::Rewind, 0), Outcome::Done));
}
