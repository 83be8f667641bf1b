//! The sealed unit over the reference tape behaves as the reference tape does, whatever the host asks for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/catalogue.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod catalogue;

use std::sync::{Arc, LazyLock};

use catalogue::Catalogue;
use proptest::prelude::*;
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::seal::{Compression, Suite};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape};
use sealtape_drivers::medium::{DriveErrorKind, Position, RecordBuffer, SharedDrive, SpaceKind, TapeDrive};

static POOL: LazyLock<Arc<SealPool>> = LazyLock::new(|| SealPool::start(2).unwrap());

#[derive(Clone, Debug)]
enum Step {
    Write(u16, u8),
    /// So many blocks, one after another.
    WriteOn(u8, u8),
    Filemarks(u8, bool),
    Read(u16),
    /// So many objects, one after another: the unit begins to read ahead.
    ReadOn(u8),
    Space(SpaceKind, i8),
    Locate(u8, u8),
    Rewind,
    Synchronise,
    Reload,
    Erase,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(SpaceKind::Blocks), Just(SpaceKind::Filemarks)];
    prop_oneof![
        6 => (1_u16..3000, any::<u8>()).prop_map(|(length, fill)| Step::Write(length, fill)),
        2 => (8_u8..30, any::<u8>()).prop_map(|(count, fill)| Step::WriteOn(count, fill)),
        2 => (1_u8..3, any::<bool>()).prop_map(|(count, immediate)| Step::Filemarks(count, immediate)),
        5 => (1_u16..3000).prop_map(Step::Read),
        2 => (1_u8..24).prop_map(Step::ReadOn),
        3 => (kind, -6_i8..7).prop_map(|(kind, count)| Step::Space(kind, count)),
        1 => Just(Step::Space(SpaceKind::EndOfData, 0)),
        2 => (0_u8..2, 0_u8..60).prop_map(|(partition, object)| Step::Locate(partition, object)),
        1 => Just(Step::Rewind),
        1 => Just(Step::Synchronise),
        1 => Just(Step::Reload),
        1 => Just(Step::Erase),
    ]
}

fn block(length: u16, fill: u8) -> Vec<u8> {
    // Half of the blocks shrink, half do not.
    (0..length)
        .map(|at| if fill & 1 == 0 { fill } else { (u32::from(at).wrapping_mul(2_654_435_761) >> 13) as u8 ^ fill })
        .collect()
}

/// The mark of unsynchronised records is written durably, thousands of times: not to a disk.
fn scratch() -> tempfile::TempDir {
    let shared_memory = std::path::Path::new("/dev/shm");
    if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// What a command gave, in a form that both tapes can be compared by.
fn show<T: std::fmt::Debug>(result: Result<T, sealtape_drivers::medium::DriveError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind),
    }
}

fn apply(tape: &mut dyn TapeDrive, step: &Step) -> String {
    match step {
        Step::Write(length, fill) if length % 3 == 0 => {
            let mut record = RecordBuffer::default();
            record.fill(&block(*length, *fill));
            show(tape.write_record(&mut record))
        }
        Step::Write(length, fill) => show(tape.write(&block(*length, *fill))),
        Step::WriteOn(count, fill) => {
            let length = |number: u8| 1 + u16::from(number.wrapping_mul(*fill)) * 11;
            (0..*count).map(|number| apply(tape, &Step::Write(length(number), *fill))).collect::<Vec<_>>().join(" ")
        }
        Step::Filemarks(count, immediate) => show(tape.write_filemarks(u32::from(*count), *immediate)),
        Step::Read(length) => {
            let mut buffer = vec![0; usize::from(*length)];
            let outcome = if length % 3 == 0 {
                let mut record = RecordBuffer::default();
                let outcome = show(tape.read_record(buffer.len(), &mut record));
                buffer[..record.as_slice().len()].copy_from_slice(record.as_slice());
                outcome
            } else {
                show(tape.read(&mut buffer))
            };
            format!("{outcome} {:08x}", crc32c::crc32c(&buffer))
        }
        Step::ReadOn(count) => (0..*count).map(|_| apply(tape, &Step::Read(3000))).collect::<Vec<_>>().join(" "),
        Step::Space(kind, count) => show(tape.space(*kind, i64::from(*count))),
        Step::Locate(partition, object) => {
            show(tape.locate(Position { partition: *partition, object: u64::from(*object) }))
        }
        Step::Rewind => show(tape.rewind()),
        Step::Synchronise => show(tape.write_filemarks(0, false)),
        Step::Reload => {
            let unloaded = show(tape.unload());
            format!("{unloaded} {}", show(tape.load()))
        }
        Step::Erase => show(tape.erase(false)),
    }
}

fn options(partitions: u8) -> ModelOptions {
    let mut options = ModelOptions::new(64 << 20);
    options.second_partition = (partitions == 2).then_some(16 << 20);
    options.maximum_block = 1 << 20;
    options
}

fn unit(catalogue: &Catalogue, raw: &SharedDrive<ModelTape>, folder: &std::path::Path, records: usize) -> SealedTape {
    SealedTape::new(
        "drive0",
        Box::new(raw.clone()),
        Box::new(catalogue.clone()),
        Arc::clone(&POOL),
        UnitOptions { window: WindowLimits { records, bytes: 64 << 10 }, check_end_at_load: true, max_block: 1 << 20 },
        UnsynchronisedMark::at(folder.join("mark")),
    )
    .unwrap()
}

fn compare(steps: &[Step], partitions: u8, suite: Suite, compression: Compression, records: usize) {
    let folder = scratch();
    let catalogue = Catalogue::new(suite, compression, partitions);
    let raw = SharedDrive::new(ModelTape::new(options(partitions)));
    let mut sealed = unit(&catalogue, &raw, folder.path(), records);
    sealed.load_medium().unwrap();
    sealed.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    let mut model = ModelTape::new(options(partitions));
    model.load().unwrap();
    for (number, step) in steps.iter().enumerate() {
        if let Step::Reload = step {
            // Another service, another day.
            assert_eq!(apply(&mut sealed, step), apply(&mut model, step), "step {number} {step:?}");
            drop(sealed);
            sealed = unit(&catalogue, &raw, folder.path(), records);
            sealed.load_medium().unwrap();
        } else {
            assert_eq!(apply(&mut sealed, step), apply(&mut model, step), "step {number} {step:?} of {steps:?}");
        }
        // Whoever asks where it stands ends its reading ahead: not always here.
        if let Step::Read(length) | Step::Write(length, _) = step
            && length % 2 == 0
        {
            continue;
        }
        if let Step::ReadOn(count) = step
            && count % 4 != 0
        {
            continue;
        }
        let (at, expected) = (sealed.read_position().unwrap(), model.read_position().unwrap());
        assert_eq!(at.position, expected.position, "position after step {number} {step:?} of {steps:?}");
        if let Some(filemarks) = at.filemarks {
            assert_eq!(Some(filemarks), expected.filemarks, "filemarks after step {number} {step:?} of {steps:?}");
        }
    }
    assert!(catalogue.incidents().is_empty(), "{:?}", catalogue.incidents());
}

/// Each case is up to 40 commands; more of them behind `cargo xtask test --long`.
fn cases() -> u32 {
    if std::env::var_os("SEALTAPE_LONG").is_some() { 100_000 } else { 5_000 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_sealed_tape_behaves_as_a_tape(
        steps in proptest::collection::vec(step(), 1..40),
        partitions in 1_u8..3,
        suite in 1_u8..4,
        compression in 0_u8..3,
        records in 1_usize..9,
    ) {
        compare(&steps, partitions, Suite(suite), Compression(compression), records);
    }
}

#[test]
fn the_key_authority_is_away_and_comes_back_and_nothing_is_labelled_over() {
    let folder = scratch();
    let catalogue = Catalogue::new(Suite::AES_256_GCM_SIV, Compression::ZSTD, 1);
    let raw = SharedDrive::new(ModelTape::new(options(1)));
    let mut sealed = unit(&catalogue, &raw, folder.path(), 4);
    sealed.load_medium().unwrap();
    sealed.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    sealed.write(b"the host's own label").unwrap();
    sealed.write_filemarks(1, false).unwrap();
    sealed.unload().unwrap();
    catalogue.set_away(true);
    sealed.load().unwrap();
    let mut buffer = [0; 100];
    assert_eq!(sealed.read(&mut buffer).unwrap_err().kind, DriveErrorKind::Security);
    catalogue.set_away(false);
    assert_eq!(sealed.write(b"a new label").unwrap_err().kind, DriveErrorKind::WriteProtected);
    sealed.rewind().unwrap();
    assert_eq!(sealed.write(b"a new label").unwrap_err().kind, DriveErrorKind::WriteProtected);
    sealed.unload().unwrap();
    sealed.load().unwrap();
    assert_eq!(show(sealed.read(&mut buffer)), "Block { length: 20 }");
    assert_eq!(&buffer[..20], b"the host's own label");
}

#[test]
fn writing_needs_the_key_authority_at_a_session_s_start_only() {
    let folder = scratch();
    let catalogue = Catalogue::new(Suite::AES_256_GCM_SIV, Compression::NONE, 1);
    let raw = SharedDrive::new(ModelTape::new(options(1)));
    let mut sealed = unit(&catalogue, &raw, folder.path(), 4);
    sealed.load_medium().unwrap();
    sealed.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    catalogue.set_away(true);
    let error = sealed.write(b"one").unwrap_err();
    assert_eq!(error.kind, DriveErrorKind::Security, "{error}");
    assert!(error.message.contains("nothing was written"), "{error}");
    catalogue.set_away(false);
    sealed.write(b"one").unwrap();
    catalogue.set_away(true);
    sealed.write(b"two").unwrap();
    sealed.write_filemarks(1, false).unwrap();
    assert!(sealed.status().catalogue_behind);
    catalogue.set_away(false);
    sealed.write_filemarks(0, false).unwrap();
    assert!(!sealed.status().catalogue_behind);
}
