//! Power cuts. A tape is written with random commands while every write of the file is recorded; then the file is built as a cut
//! at some point would leave it: everything up to the last synchronisation, and of what came after any part, in any
//! order, whole or torn. What was synchronised has to be there; what else is there has to be a state that the tape had.
//! Then the tape is used on from there, and cut again: what a cut dropped must never come back.

use proptest::prelude::*;
use proptest::test_runner::TestRng;
use sealtape_drivers::image::trace::{Operation, TraceStorage, apply};
use sealtape_drivers::image::{CreateOptions, ImageDrive, create_on};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape, Object};
use sealtape_drivers::medium::{Position, PowerCut, ReadOutcome, TapeDrive};

use crate::commands::{Command, Outcome, identity, outcome, run, writing};

const CAPACITY: u64 = 60_000;
const SECOND: u64 = 20_000;
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
    CreateOptions { second_partition: Some(SECOND), early_warning: 0, ..CreateOptions::new(CAPACITY) }
}

fn model_of(contents: &Contents) -> ModelTape {
    let mut model = ModelTape::new(ModelOptions {
        second_partition: Some(SECOND),
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

/// One thing that happens to the drive.
#[derive(Clone, Debug)]
enum Step {
    Do(Command),
    /// The command runs while the disk has so many bytes left.
    OnFullDisk(Command, u64),
    /// The command runs while so many synchronisations fail.
    WithoutSync(Command, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => writing().prop_map(Step::Do),
        1 => Just(Step::Do(Command::PowerCut)),
        1 => Just(Step::Do(Command::WriteAttribute { id: 0x0801, length: 30 })),
        1 => Just(Step::Do(Command::Format { second: Some(SECOND) })),
        1 => (writing(), 0u64..3000).prop_map(|(command, room)| Step::OnFullDisk(command, room)),
        1 => (writing(), 1u32..5).prop_map(|(command, count)| Step::WithoutSync(command, count)),
    ]
}

/// A drive and the model of it, and what has been promised so far.
struct Life<'a> {
    storage: &'a TraceStorage,
    drive: ImageDrive,
    model: ModelTape,
    possible: Vec<Contents>,
    moments: Vec<Moment>,
}

impl<'a> Life<'a> {
    fn new(storage: &'a TraceStorage) -> Self {
        let mut drive = load(storage);
        let start = read_all(&mut drive);
        Self { storage, drive, model: model_of(&start), possible: vec![start], moments: Vec::new() }
    }

    fn step(&mut self, step: &Step, number: u64) {
        let from = self.storage.operation_count();
        let mut guaranteed = synchronised_of(&self.model);
        let position = self.model.read_position().expect("loaded").position;
        let command = match step {
            Step::Do(command) => command,
            Step::OnFullDisk(command, room) => {
                self.storage.limit(Some(self.storage.bytes().len() as u64 + room));
                command
            }
            Step::WithoutSync(command, count) => {
                self.storage.fail_syncs(*count);
                command
            }
        };
        let (image, expected) = match command {
            Command::PowerCut => {
                (outcome(self.drive.power_cut().map(Outcome::Lost)), outcome(self.model.power_cut().map(Outcome::Lost)))
            }
            command => (run(&mut self.drive, command, number), run(&mut self.model, command, number)),
        };
        self.storage.limit(None);
        self.storage.fail_syncs(0);
        let disturbed = !matches!(step, Step::Do(_)) && image != expected;
        assert!(disturbed || image == expected, "{step:?}: {image:?}, not {expected:?}");
        // What the command writes over is promised no more; what it synchronises is promised from its end on.
        match command {
            _ if !disturbed && matches!(image, Outcome::Failed(..)) => {}
            Command::Write { .. } | Command::Erase { .. } | Command::WriteFilemarks { count: 1.., .. } => {
                guaranteed[usize::from(position.partition)].truncate(position.object as usize);
            }
            Command::Format { .. } => guaranteed = vec![Vec::new(), Vec::new()],
            _ => {}
        }
        self.possible.push(contents_of(&self.model));
        self.moments.push(Moment { from, guaranteed, possible: self.possible.clone() });
        if disturbed {
            self.go_on_after();
        }
        if contents_of(&self.model) == synchronised_of(&self.model) {
            self.possible = vec![contents_of(&self.model)];
        }
    }

    /// After a failure the drive says what is there, and that has to be something that was promised.
    fn go_on_after(&mut self) {
        self.drive.load().expect("it goes on");
        let found = read_all(&mut self.drive);
        let moment = self.moments.last().expect("the failed one");
        check(&found, moment);
        self.model = model_of(&found);
    }

    fn end(mut self) -> Vec<Moment> {
        let (from, guaranteed) = (self.storage.operation_count(), synchronised_of(&self.model));
        self.moments.push(Moment { from, guaranteed, possible: self.possible });
        self.moments
    }
}

fn moment_of(moments: &[Moment], done: usize) -> &Moment {
    moments.iter().rev().find(|moment| moment.from <= done).unwrap_or(&moments[0])
}

/// The bytes after a cut when `done` operations were begun: what is behind the last synchronisation may be there or not. After a
/// failed synchronisation the kernel has dropped what it could not write: what has not arrived then never does.
fn cut(base: &[u8], operations: &[Operation], done: usize, rng: &mut TestRng) -> Vec<u8> {
    let mut bytes = base.to_vec();
    let mut written = Vec::new();
    for operation in &operations[..done] {
        match operation {
            Operation::Write { .. } | Operation::Discard { .. } => written.push(operation),
            Operation::Sync => written.drain(..).for_each(|operation| apply(operation, &mut bytes, usize::MAX)),
            Operation::FailedSync => arrive_in_part(std::mem::take(&mut written), &mut bytes, rng),
        }
    }
    arrive_in_part(written, &mut bytes, rng);
    bytes
}

fn arrive_in_part(mut rest: Vec<&Operation>, bytes: &mut Vec<u8>, rng: &mut TestRng) {
    // Nothing is ever written twice between two synchronisations except over a torn place, but the order is free all the same.
    if rng.random_bool(0.3) {
        rest.reverse();
    }
    let keep_all = rng.random_bool(0.3);
    let count = rest.len();
    for (number, operation) in rest.into_iter().enumerate() {
        let length = match operation {
            Operation::Write { bytes, .. } => bytes.len(),
            Operation::Sync | Operation::FailedSync | Operation::Discard { .. } => 0,
        };
        match rng.random_range(0..4) {
            _ if keep_all && number + 1 < count => apply(operation, bytes, usize::MAX),
            0 => apply(operation, bytes, usize::MAX),
            1 => apply(operation, bytes, rng.random_range(0..=length)),
            2 => tear_sectors(operation, bytes, rng),
            _ => {}
        }
    }
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

fn cut_and_go_on(rounds: &[Vec<Step>], rng: &mut TestRng) {
    let first = TraceStorage::default();
    create_on(&first, "cut.img", &options()).expect("created");
    let mut base = first.bytes();
    for (round, steps) in rounds.iter().enumerate() {
        let storage = TraceStorage::new(base.clone());
        let mut life = Life::new(&storage);
        (round as u64 * 1000..).zip(steps).for_each(|(number, step)| life.step(step, number));
        let moments = life.end();
        let operations = storage.take_operations();
        let mut next = base.clone();
        for _ in 0..CUTS_PER_ROUND {
            let done = rng.random_range(0..=operations.len());
            let bytes = cut(&base, &operations, done, rng);
            check(&read_all(&mut load(&TraceStorage::new(bytes.clone()))), moment_of(&moments, done));
            next = bytes;
        }
        base = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn what_was_synchronised_survives(
        rounds in prop::collection::vec(prop::collection::vec(step(), 1..30), ROUNDS),
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
    let mut life = Life::new(&storage);
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
    (0..).zip(commands).for_each(|(number, command)| life.step(&Step::Do(command), number));
    let moments = life.end();
    let operations = storage.take_operations();
    let mut cuts = 0;
    for (done, operation) in operations.iter().enumerate() {
        let length = match operation {
            Operation::Write { bytes, .. } => bytes.len(),
            Operation::Sync | Operation::FailedSync | Operation::Discard { .. } => 0,
        };
        for keep in 0..=length {
            let mut bytes = base.clone();
            operations[..done].iter().for_each(|operation| apply(operation, &mut bytes, usize::MAX));
            apply(operation, &mut bytes, keep);
            check(&read_all(&mut load(&TraceStorage::new(bytes))), moment_of(&moments, done));
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
