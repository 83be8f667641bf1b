//! A sealed unit over a tape that an attacker holds: everything on it can be exchanged between two loads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each suite uses its part of the support")]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::catalogue::Catalogue;
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::seal::{Compression, Suite};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape::volume::Access;
use sealtape_drivers::image::faults::{Command, Effect, Fault, FaultPlan, FaultyDrive};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape, Object};
use sealtape_drivers::medium::{DriveError, Position, ReadOutcome, SharedDrive, TapeDrive};

pub(crate) static POOL: LazyLock<Arc<SealPool>> = LazyLock::new(|| SealPool::start(2).unwrap());

/// Objects before the host's first.
pub(crate) const HIDDEN: usize = 3;
/// What a buffer holds before a read: a refused read leaves it so.
const UNTOUCHED: u8 = 0xee;
const LONGEST: usize = 4096;

/// The mark of unsynchronised records is written durably, often: not to a disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub(crate) fn model(partitions: u8) -> ModelTape {
    let mut options = ModelOptions::new(64 << 20);
    options.second_partition = (partitions == 2).then_some(16 << 20);
    options.maximum_block = 1 << 20;
    ModelTape::new(options)
}

pub(crate) fn unit_over(
    drive: Box<dyn TapeDrive>,
    catalogue: &Catalogue,
    mark: &Path,
    records: usize,
    check_end_at_load: bool,
) -> SealedTape {
    let window = WindowLimits { records, bytes: 64 << 10 };
    let options = UnitOptions { window, check_end_at_load, max_block: 1 << 20 };
    let mark = UnsynchronisedMark::at(mark);
    SealedTape::new("drive0", drive, Box::new(catalogue.clone()), Arc::clone(&POOL), options, mark).unwrap()
}

/// The k-th command of a kind fails.
pub(crate) fn once(command: Command, at: u64, effect: Effect) -> FaultPlan {
    FaultPlan { faults: vec![Fault::once(command, at, effect)] }
}

/// A tape, the key authority that knows it, and what a reader has to find.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    pub(crate) catalogue: Catalogue,
    pub(crate) raw: SharedDrive<ModelTape>,
}

/// What one place gave.
pub(crate) type Read = Result<Option<Vec<u8>>, DriveError>;

impl Bench {
    pub(crate) fn new(catalogue: &Catalogue, partitions: u8) -> Self {
        Self { folder: scratch(), catalogue: catalogue.clone(), raw: SharedDrive::new(model(partitions)) }
    }

    pub(crate) fn labelled(suite: Suite, compression: Compression, partitions: u8) -> Self {
        Self::new(&Catalogue::new(suite, compression, partitions), partitions).label()
    }

    pub(crate) fn label(self) -> Self {
        let mut unit = self.unit(true);
        unit.load_medium().unwrap();
        unit.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
        unit.unload().unwrap();
        drop(unit);
        self
    }

    /// A unit as a started service has it; nothing is loaded yet.
    pub(crate) fn unit(&self, check_end_at_load: bool) -> SealedTape {
        let mark = self.folder.path().join("mark");
        unit_over(Box::new(self.raw.clone()), &self.catalogue, &mark, 4, check_end_at_load)
    }

    /// Loads, does something as a host, and unloads: synchronised, known to the catalogue.
    pub(crate) fn host(&self, work: impl FnOnce(&mut SealedTape)) {
        let mut unit = self.unit(true);
        let access = unit.load_medium().unwrap().access;
        assert_eq!(access, Access::ReadWrite, "an honest host has to be let in");
        work(&mut unit);
        unit.unload().unwrap();
    }

    /// Everything on a partition, hidden objects too.
    pub(crate) fn objects(&self, partition: u8) -> Vec<Object> {
        self.raw.lock().objects(partition).to_vec()
    }

    /// The attacker has the tape on the table.
    pub(crate) fn tamper(&self, partition: u8, change: impl FnOnce(&mut Vec<Object>)) {
        change(self.raw.lock().objects_mut(partition).unwrap());
    }
}

/// Reads one object into a buffer of its own; shows that a refused read left the buffer alone.
pub(crate) fn read_one(unit: &mut SealedTape) -> Read {
    let mut buffer = vec![UNTOUCHED; LONGEST];
    match unit.read(&mut buffer) {
        Ok(ReadOutcome::Block { length }) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Ok(ReadOutcome::Filemark | ReadOutcome::EndOfData | ReadOutcome::EndOfPartition) => {
            assert!(buffer.iter().all(|&byte| byte == UNTOUCHED), "bytes without a block");
            Ok(None)
        }
        Err(error) => {
            assert!(buffer.iter().all(|&byte| byte == UNTOUCHED), "a refused read left bytes behind: {error}");
            Err(error)
        }
    }
}

/// Reads `count` objects forward from the beginning of a partition.
pub(crate) fn forward(unit: &mut SealedTape, partition: u8, count: u64) -> Vec<Read> {
    match unit.locate(Position { partition, object: 0 }) {
        Ok(()) => (0..count).map(|_| read_one(unit)).collect(),
        Err(error) => vec![Err(error)],
    }
}

/// Reads each of `count` objects after a LOCATE of its own, from the last to the first.
pub(crate) fn by_locate(unit: &mut SealedTape, partition: u8, count: u64) -> Vec<Read> {
    let mut reads = Vec::new();
    for object in (0..count).rev() {
        // From the far end, so that nothing but the jump leads here.
        reads.push(unit.locate(Position { partition, object }).and_then(|()| read_one(unit)));
    }
    reads.reverse();
    reads
}

/// Whether a text, of which only a masked copy is held, stands anywhere in this process's writable memory.
pub(crate) fn in_memory(masked: &[u8; 64]) -> bool {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let writable = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw")));
    let mut piece = vec![0; 1 << 20];
    let own = piece.as_ptr() as u64;
    for line in writable {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let (mut from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        while from < to {
            let length = ((to - from) as usize).min(piece.len());
            if memory.read_exact_at(&mut piece[..length], from).is_ok() {
                let found = piece[..length].windows(64).position(|window| {
                    window[0] ^ 0x5a == masked[0] && window.iter().zip(masked).all(|(byte, mask)| byte ^ 0x5a == *mask)
                });
                // What was copied into the buffer of this search is not counted.
                let outside = found.map(|at| from + at as u64).filter(|at| !(own..own + (1 << 20)).contains(at));
                if outside.is_some() {
                    piece.fill(0);
                    return true;
                }
            }
            // Overlapping, so that nothing is missed between two pieces.
            from += if from + length as u64 == to { length as u64 } else { length as u64 - 64 };
        }
    }
    piece.fill(0);
    false
}

/// A unit over a drive that fails by plan, labelled.
pub(crate) fn faulty() -> (tempfile::TempDir, SharedDrive<FaultyDrive<ModelTape>>, SealedTape) {
    let folder = scratch();
    let catalogue = Catalogue::new(Suite::AES_256_GCM_SIV, Compression::NONE, 1);
    let raw = SharedDrive::new(FaultyDrive::new(model(1), FaultPlan::default()));
    let mut unit = unit_over(Box::new(raw.clone()), &catalogue, &folder.path().join("mark"), 8, true);
    unit.load_medium().unwrap();
    unit.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    (folder, raw, unit)
}
