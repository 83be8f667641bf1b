//! The bytes that a power cut leaves, and a sealed unit over them.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::test_runner::TestRng;
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::unit::{SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape::volume::KeySource;
use sealtape_drivers::image::ImageDrive;
use sealtape_drivers::image::trace::{Operation, TraceStorage, apply};
use sealtape_drivers::medium::model::Object;
use sealtape_drivers::medium::{DriveError, DriveIdentity, ReadOutcome, SharedDrive, TapeDrive};

static POOL: LazyLock<Arc<SealPool>> = LazyLock::new(|| SealPool::start(2).unwrap());

/// The mark of unsynchronised records is written durably, thousands of times: not to a disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub(crate) fn identity() -> DriveIdentity {
    DriveIdentity { vendor: "TEST".into(), product: "CUT".into(), revision: "1".into(), serial: "0".into() }
}

/// A drive with the cartridge in it; not loaded.
pub(crate) fn drive_over(storage: &TraceStorage) -> SharedDrive<ImageDrive> {
    let mut drive = ImageDrive::new(identity());
    drive.insert_storage(Box::new(storage.clone()), "cut.img").unwrap();
    SharedDrive::new(drive)
}

/// A sealed unit over a cartridge; `mark` is a file.
pub(crate) fn unit_over(storage: &TraceStorage, keys: Box<dyn KeySource>, mark: &Path) -> SealedTape {
    let window = WindowLimits { records: 6, bytes: 64 << 10 };
    let options = UnitOptions { window, check_end_at_load: true, max_block: 1 << 20 };
    let mark = UnsynchronisedMark::at(mark);
    SealedTape::new("drive0", Box::new(drive_over(storage)), keys, Arc::clone(&POOL), options, mark).unwrap()
}

/// Everything of the current partition from its beginning on.
pub(crate) fn read_all(tape: &mut dyn TapeDrive) -> Result<Vec<Object>, DriveError> {
    let mut buffer = vec![0; 1 << 16];
    let mut objects = Vec::new();
    tape.rewind()?;
    loop {
        match tape.read(&mut buffer)? {
            ReadOutcome::Block { length } => objects.push(Object::Block(buffer[..length].to_vec())),
            ReadOutcome::Filemark => objects.push(Object::Filemark),
            ReadOutcome::EndOfData => return Ok(objects),
            ReadOutcome::EndOfPartition => panic!("the file-backed drive has an end of data always"),
        }
    }
}

fn length_of(operation: &Operation) -> usize {
    match operation {
        Operation::Write { bytes, .. } => bytes.len(),
        Operation::Sync | Operation::FailedSync | Operation::Discard { .. } => 0,
    }
}

/// How many of the first `done` operations are on the medium for sure.
fn durable(operations: &[Operation], done: usize) -> usize {
    operations[..done].iter().rposition(|operation| *operation == Operation::Sync).map_or(0, |last| last + 1)
}

/// The bytes after a cut when `done` operations were begun: each one behind the last synchronisation may be there, or
/// torn, or missing, in any order.
pub(crate) fn cut_at_random(base: &[u8], operations: &[Operation], done: usize, rng: &mut TestRng) -> Vec<u8> {
    let durable = durable(operations, done);
    let mut bytes = base.to_vec();
    operations[..durable].iter().for_each(|operation| apply(operation, &mut bytes, usize::MAX));
    let mut rest: Vec<&Operation> = operations[durable..done].iter().collect();
    if rng.random_bool(0.3) {
        rest.reverse();
    }
    let keep_all = rng.random_bool(0.3);
    let count = rest.len();
    for (number, operation) in rest.into_iter().enumerate() {
        match rng.random_range(0..4) {
            _ if keep_all && number + 1 < count => apply(operation, &mut bytes, usize::MAX),
            0 => apply(operation, &mut bytes, usize::MAX),
            1 => apply(operation, &mut bytes, rng.random_range(0..=length_of(operation))),
            2 => tear(operation, &mut bytes, |_| rng.random_bool(0.5)),
            _ => {}
        }
    }
    bytes
}

/// Some of the 512-byte pieces of a write arrive, others do not.
fn tear(operation: &Operation, bytes: &mut Vec<u8>, mut arrives: impl FnMut(usize) -> bool) {
    let Operation::Write { offset, bytes: written } = operation else { return };
    for (number, part) in written.chunks(512).enumerate() {
        if arrives(number) {
            let offset = offset + (number * 512) as u64;
            apply(&Operation::Write { offset, bytes: part.to_vec() }, bytes, usize::MAX);
        }
    }
}

/// Every way in which a cut at the operation `done` is tried without chance: what was not synchronised before it is
/// there, is missing, is there in part; the operation itself is missing, whole, or torn in several places.
pub(crate) fn cuts_at(base: &[u8], operations: &[Operation], done: usize) -> Vec<Vec<u8>> {
    let durable = durable(operations, done);
    let mut synchronised = base.to_vec();
    operations[..durable].iter().for_each(|operation| apply(operation, &mut synchronised, usize::MAX));
    let pending = &operations[durable..done];
    let mut befores = vec![synchronised.clone()];
    for kept in 1..=pending.len() {
        let mut first_ones = synchronised.clone();
        pending[..kept].iter().for_each(|operation| apply(operation, &mut first_ones, usize::MAX));
        let mut one = synchronised.clone();
        apply(&pending[kept - 1], &mut one, usize::MAX);
        befores.extend([first_ones, one]);
    }
    let Some(operation) = operations.get(done) else { return befores };
    let length = length_of(operation);
    let mut cuts = Vec::new();
    for before in befores {
        for keep in [0, 1, 20, 48, 100, length / 2, length.saturating_sub(1), length] {
            let mut bytes = before.clone();
            apply(operation, &mut bytes, keep.min(length));
            cuts.push(bytes);
        }
        for parity in [0, 1] {
            let mut bytes = before.clone();
            tear(operation, &mut bytes, |number| number % 2 == parity);
            cuts.push(bytes);
        }
    }
    cuts
}
