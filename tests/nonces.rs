//! No seal counter is used twice under one record key, whatever happens: overwriting, drive errors, restarts, changes
//! of the partition, new generations. Every block that is handed to the raw drive is looked at, also those that the
//! drive then refuses or loses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "attack_support/mod.rs"]
mod bench;
#[path = "support/catalogue.rs"]
#[allow(dead_code, unreachable_pub, reason = "each suite uses its part of the support")]
mod catalogue;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bench::{HIDDEN, model, scratch, unit_over};
use catalogue::Catalogue;
use proptest::prelude::*;
use sealtape::seal::{Compression, HEADER_LEN, Header, Link, OVERHEAD, SessionId, Suite};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape};
use sealtape_drivers::image::faults::{Command, Effect, FaultPlan, FaultyDrive};
use sealtape_drivers::medium::model::{ModelTape, Object};
use sealtape_drivers::medium::{
    Attribute, BlockLimits, DriveError, DriveIdentity, MediumStatus, Position, PositionReport, ReadOutcome,
    SharedDrive, SpaceKind, SpaceOutcome, TapeDrive, Warning,
};

/// A session, as its first record has it.
#[derive(Debug)]
struct Session {
    place: (u8, u32),
    ordinal: u32,
    first_object: u64,
    link: Link,
    next_counter: u64,
}

/// Everything that was sealed for one volume, in the order in which the drive was given it.
#[derive(Default)]
struct Ledger {
    seals: HashMap<(SessionId, u64), Vec<u8>>,
    sessions: HashMap<SessionId, Session>,
    newest: HashMap<(u8, u32), u32>,
    /// The newest generation record of each partition that the drive was given, whether it took it or not.
    generations: HashMap<u8, u32>,
}

impl Ledger {
    fn enter(&mut self, block: &[u8], at: PositionReport, on_medium: Option<u32>) -> Result<(), String> {
        if let Some(record) = block.strip_prefix(b"SLTG") {
            let generation = generation_of(record);
            let before = self.generations.insert(at.position.partition, generation);
            return check(before.is_none_or(|before| generation > before), || "a generation was written twice".into());
        }
        if !block.starts_with(b"SLTR") {
            return check(block.starts_with(b"SEALTAPE VOLUME "), || "clear text reached the drive".into());
        }
        let header = Header::parse(block.first_chunk::<HEADER_LEN>().unwrap(), false, Suite(block[6]))
            .map_err(|refusal| refusal.to_string())?;
        let seal = (header.session, header.seal_counter);
        if let Some(before) = self.seals.insert(seal, block.to_vec()) {
            return check(before == block, || format!("seal counter {seal:?} was used twice"));
        }
        check(header.record_len() == block.len() && block.len() > OVERHEAD, || "lengths".into())?;
        let physical = (header.partition, header.object + HIDDEN as u64, Some(header.filemarks + 1));
        check(physical == (at.position.partition, at.position.object, at.filemarks), || {
            format!("{header:?} at {at:?}")
        })?;
        let place = (header.partition, header.generation);
        check(on_medium == Some(place.1), || "not the generation on the medium".into())?;
        let newest = self.newest.get(&place).copied().unwrap_or_default();
        let session = self.sessions.entry(header.session).or_insert_with(|| Session {
            place,
            ordinal: header.session_ordinal,
            first_object: header.object,
            link: header.link,
            next_counter: 0,
        });
        let same = session.place == place
            && session.ordinal == header.session_ordinal
            && session.first_object == header.first_object
            && session.link == header.link
            && session.next_counter == header.seal_counter;
        check(same, || format!("{header:?} is not of {session:?}"))?;
        let rises = if session.next_counter == 0 { session.ordinal > newest } else { session.ordinal == newest };
        check(rises, || format!("session {} after session {newest}", session.ordinal))?;
        session.next_counter += 1;
        self.newest.insert(place, header.session_ordinal);
        Ok(())
    }
}

/// The number in a generation record, behind its magic.
fn generation_of(record: &[u8]) -> u32 {
    u32::from_be_bytes([record[4], record[5], record[6], record[7]])
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// What all cases together met, so that a run that met nothing is a failure.
static SEALS: AtomicU64 = AtomicU64::new(0);
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// The raw drive, with a witness before it.
#[derive(Clone)]
struct Witnessed {
    drive: SharedDrive<FaultyDrive<ModelTape>>,
    ledger: Arc<Mutex<Ledger>>,
    fault: Arc<Mutex<Option<String>>>,
}

impl TapeDrive for Witnessed {
    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        let (at, on_medium) = {
            let mut drive = self.drive.lock();
            let tape = drive.inner_mut();
            let at = tape.read_position()?;
            let record = match tape.objects(at.position.partition).get(HIDDEN - 1) {
                Some(Object::Block(record)) => record.strip_prefix(b"SLTG").map(generation_of),
                Some(Object::Filemark) | None => None,
            };
            (at, record)
        };
        SEALS.fetch_add(1, Ordering::Relaxed);
        if let Err(fault) = self.ledger.lock().unwrap().enter(block, at, on_medium) {
            self.fault.lock().unwrap().get_or_insert(fault);
        }
        self.drive.write(block)
    }
    fn identity(&self) -> DriveIdentity {
        self.drive.identity()
    }
    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        self.drive.block_limits()
    }
    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        self.drive.test_unit_ready()
    }
    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        self.drive.medium_status()
    }
    fn load(&mut self) -> Result<(), DriveError> {
        self.drive.load()
    }
    fn unload(&mut self) -> Result<(), DriveError> {
        self.drive.unload()
    }
    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        self.drive.prevent_removal(prevent)
    }
    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        self.drive.write_filemarks(count, immediate)
    }
    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        self.drive.read(buffer)
    }
    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        self.drive.space(kind, count)
    }
    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        self.drive.locate(to)
    }
    fn rewind(&mut self) -> Result<(), DriveError> {
        self.drive.rewind()
    }
    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        self.drive.read_position()
    }
    fn erase(&mut self, long: bool) -> Result<(), DriveError> {
        self.drive.erase(long)
    }
    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        self.drive.format_medium(second_partition_bytes)
    }
    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        self.drive.set_programmable_early_warning(bytes)
    }
    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        self.drive.read_attribute(id)
    }
    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        self.drive.write_attribute(attribute)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u16),
    Filemarks(u32, bool),
    Read,
    Space(SpaceKind, i64),
    Locate(u8, u64),
    Rewind,
    Synchronise,
    Buffered(bool),
    Ready,
    Erase,
    Reload,
    Restart,
    Fault(Command, u64, Effect),
}

fn step() -> impl Strategy<Value = Step> {
    let command = prop_oneof![
        3 => Just(Command::Write),
        1 => Just(Command::WriteFilemarks),
        1 => Just(Command::Read),
        1 => Just(Command::Locate),
        1 => Just(Command::Space),
        1 => Just(Command::ReadPosition),
        1 => Just(Command::TestUnitReady),
        1 => Just(Command::Any),
    ];
    let effect = prop_oneof![
        Just(Effect::Medium),
        Just(Effect::Hardware),
        Just(Effect::Transport),
        Just(Effect::TransportAfter),
        Just(Effect::Reset),
        Just(Effect::Lost),
        Just(Effect::EndOfMedium),
        Just(Effect::UnitAttention),
        Just(Effect::NotReady),
    ];
    let kind = prop_oneof![Just(SpaceKind::Blocks), Just(SpaceKind::Filemarks)];
    prop_oneof![
        12 => (1_u16..300).prop_map(Step::Write),
        2 => (1_u32..3, any::<bool>()).prop_map(|(count, immediate)| Step::Filemarks(count, immediate)),
        2 => Just(Step::Read),
        2 => (kind, -4_i64..5).prop_map(|(kind, count)| Step::Space(kind, count)),
        1 => Just(Step::Space(SpaceKind::EndOfData, 0)),
        3 => (0_u8..2, 0_u64..16).prop_map(|(partition, object)| Step::Locate(partition, object)),
        2 => Just(Step::Rewind),
        1 => Just(Step::Synchronise),
        1 => any::<bool>().prop_map(Step::Buffered),
        1 => Just(Step::Ready),
        1 => Just(Step::Erase),
        1 => Just(Step::Reload),
        2 => Just(Step::Restart),
        4 => (command, 1_u64..6, effect).prop_map(|(command, at, effect)| Step::Fault(command, at, effect)),
    ]
}

fn apply(unit: &mut SealedTape, raw: &Witnessed, step: &Step) -> Result<(), DriveError> {
    match step {
        Step::Write(length) => unit.write(&vec![*length as u8; usize::from(*length)]).map(drop),
        Step::Filemarks(count, immediate) => unit.write_filemarks(*count, *immediate).map(drop),
        Step::Read => unit.read(&mut [0; 400]).map(drop),
        Step::Space(kind, count) => unit.space(*kind, *count).map(drop),
        Step::Locate(partition, object) => unit.locate(Position { partition: *partition, object: *object }),
        Step::Rewind => unit.rewind(),
        Step::Synchronise => unit.write_filemarks(0, false).map(drop),
        Step::Buffered(buffered) => unit.set_buffered(*buffered),
        Step::Ready => unit.test_unit_ready(),
        Step::Erase => unit.erase(false),
        Step::Reload => unit.unload().and_then(|()| unit.load()),
        Step::Restart => Ok(()),
        Step::Fault(command, at, effect) => {
            raw.drive.lock().set_plan(bench::once(*command, *at, *effect));
            Ok(())
        }
    }
}

fn start(raw: &Witnessed, catalogue: &Catalogue, folder: &Path, records: usize) -> SealedTape {
    unit_over(Box::new(raw.clone()), catalogue, &folder.join("mark"), records, true)
}

fn run(steps: &[Step], partitions: u8, suite: Suite, records: usize) -> Result<(), String> {
    let folder = scratch();
    let catalogue = Catalogue::new(suite, Compression::ZSTD, partitions);
    let drive = SharedDrive::new(FaultyDrive::new(model(partitions), FaultPlan::default()));
    let raw = Witnessed { drive, ledger: Arc::default(), fault: Arc::default() };
    let mut unit = start(&raw, &catalogue, folder.path(), records);
    unit.load_medium().unwrap();
    unit.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    for step in steps {
        if let Err(error) = apply(&mut unit, &raw, step) {
            FAILURES.fetch_add(1, Ordering::Relaxed);
            // Some hosts carry on as if nothing were, some rewind first: both are among the random steps.
            drop(error);
        }
        if let Step::Restart = step {
            drop(unit);
            unit = start(&raw, &catalogue, folder.path(), records);
            // A fault may hit the load itself; the operator tries again.
            let _ = unit.load_medium().or_else(|_| unit.load_medium());
        }
        let _ = unit.acknowledge();
    }
    drop(unit);
    let fault = raw.fault.lock().unwrap().take();
    fault.map_or(Ok(()), Err)
}

/// Each case is up to 60 commands; more of them behind `cargo xtask test --long`.
fn cases() -> u32 {
    if std::env::var_os("SEALTAPE_LONG").is_some() { 40_000 } else { 2500 }
}

#[test]
fn no_seal_counter_is_used_twice_under_one_key() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let runs = (proptest::collection::vec(step(), 1..60), 1_u8..3, 1_u8..4, 1_usize..9);
    let held = runner.run(&runs, |(steps, partitions, suite, records)| {
        run(&steps, partitions, Suite(suite), records).map_err(TestCaseError::fail)
    });
    held.unwrap();
    let (seals, failures) = (SEALS.load(Ordering::Relaxed), FAILURES.load(Ordering::Relaxed));
    println!("{seals} blocks reached the drive, {failures} commands failed");
    assert!(seals > 10 * u64::from(cases()) && failures > u64::from(cases()), "{seals} seals, {failures} failures");
}

/// The witness sees what it is there for.
#[test]
fn the_ledger_notices_a_counter_that_is_used_again() {
    let header = Header {
        kind: sealtape::seal::RecordKind::TapeBlock,
        suite: Suite::AES_256_GCM,
        compression: Compression::NONE,
        partition: 0,
        generation: 1,
        session_ordinal: 1,
        plain_len: 1,
        stored_len: 1,
        session: SessionId([7; 16]),
        link: Link::BEGINNING,
        first_object: 0,
        seal_counter: 0,
        object: 0,
        filemarks: 0,
    };
    let at = |object: u64| PositionReport {
        position: Position { partition: 0, object: object + HIDDEN as u64 },
        filemarks: Some(1),
        beginning_of_partition: false,
        end_of_partition: false,
        objects_in_buffer: 0,
    };
    let block = |header: &Header, fill: u8| [&header.encode()[..], &[fill; 21]].concat();
    let mut ledger = Ledger::default();
    ledger.enter(&block(&header, 1), at(0), Some(1)).unwrap();
    ledger.enter(&block(&header, 1), at(0), Some(1)).unwrap();
    let again = ledger.enter(&block(&header, 2), at(0), Some(1)).unwrap_err();
    assert!(again.contains("used twice"), "{again}");
    let skipped = Header { seal_counter: 2, object: 1, ..header.clone() };
    assert!(ledger.enter(&block(&skipped, 1), at(1), Some(1)).is_err());
    let older = Header { session: SessionId([8; 16]), ..header.clone() };
    assert!(ledger.enter(&block(&older, 1), at(0), Some(1)).unwrap_err().contains("session 1 after session 1"));
    assert!(ledger.enter(b"clear", at(0), Some(1)).unwrap_err().contains("clear text"));
}
