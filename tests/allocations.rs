//! In the steady state nothing is allocated for a record: what went round once goes round for ever.
//!
//! One test, since the allocator that counts is the process's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/catalogue.rs"]
#[allow(dead_code, unreachable_pub, reason = "each suite uses its part of the support")]
mod catalogue;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use catalogue::Catalogue;
use sealtape::filter::{NewStream, open, seal};
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::seal::stream::CHUNK_LEN;
use sealtape::seal::{Compression, GenerationKeys, GenerationScope, Suite};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape_drivers::image::{CreateOptions, ImageDrive, OpenMode, create};
use sealtape_drivers::medium::{DriveIdentity, ReadOutcome, RecordBuffer, TapeDrive};
use sealtape_kms::secret::DataKey;
use uuid::Uuid;

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

/// Records before the steady state: every buffer has gone round.
const WARM: u64 = 100;
const COUNT: u64 = 400;

fn allocated() -> u64 {
    dhat::HeapStats::get().total_blocks
}

/// What was allocated while records `WARM` to `WARM + COUNT` passed, told by the bytes that have.
#[derive(Default)]
struct Span {
    before: Option<u64>,
    after: Option<u64>,
}

impl Span {
    fn passed(&mut self, records: u64) {
        match records {
            WARM => self.before = Some(allocated()),
            n if n == WARM + COUNT => self.after = Some(allocated()),
            _ => {}
        }
    }

    /// Now and then a thread that waits for the first time sets something up: a handful in all, not one per record.
    fn check(&self, what: &str) {
        let allocations = self.after.unwrap() - self.before.unwrap();
        assert!(allocations < COUNT / 20, "{what}: {allocations} allocations for {COUNT} records");
    }
}

fn keys() -> GenerationKeys {
    let scope =
        GenerationScope { volume: Uuid::from_u128(7), partition: 0, generation: 1, suite: Suite::AES_256_GCM_SIV };
    GenerationKeys::new(DataKey::copy_from(&[42; 32]).unwrap(), scope)
}

fn pipes(compression: Compression) {
    let stream = NewStream {
        keys: keys(),
        key_id: Uuid::from_u128(9),
        session_ordinal: 1,
        stanzas: Vec::new(),
        compression,
        threads: 2,
    };
    let length = (WARM + COUNT + 1) * CHUNK_LEN as u64;
    let mut sealed = tempfile::tempfile().unwrap();
    let mut span = Span::default();
    let mut text = std::io::repeat(b'x').take(length);
    seal(&stream, &mut text, &mut sealed, |bytes| span.passed(bytes / CHUNK_LEN as u64)).unwrap();
    span.check("sealing a pipe");

    std::io::Seek::rewind(&mut sealed).unwrap();
    let mut span = Span::default();
    let progress = |bytes: u64| span.passed(bytes / CHUNK_LEN as u64);
    open(&mut sealed, &mut std::io::sink(), |_, _| Ok::<_, sealtape::filter::FilterError>(keys()), progress).unwrap();
    span.check("opening a pipe");
}

fn unit(folder: &Path, compression: Compression) -> SealedTape {
    let path = folder.join("cartridge.tape");
    create(&path, &CreateOptions::new(1 << 30)).unwrap();
    let words = |text: &str| text.to_owned();
    let mut drive = ImageDrive::new(DriveIdentity {
        vendor: words("SEALTAPE"),
        product: words("IMAGE"),
        revision: words("1"),
        serial: words("TEST"),
    });
    drive.insert(&path, OpenMode::ReadWrite).unwrap();
    drive.load().unwrap();
    let options = UnitOptions {
        // As many buffers go round as records may stand in the window; when the last one is made depends on the drive.
        window: WindowLimits { records: 8, bytes: 16 << 20 },
        check_end_at_load: true,
        max_block: 2 << 20,
    };
    let catalogue = Box::new(Catalogue::new(Suite::AES_256_GCM_SIV, compression, 1));
    let mark = UnsynchronisedMark::at(folder.join("mark"));
    let mut unit =
        SealedTape::new("tape", Box::new(drive), catalogue, Arc::clone(&SealPool::start(2).unwrap()), options, mark)
            .unwrap();
    unit.load_medium().unwrap();
    unit.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    unit
}

fn records(compression: Compression) {
    let folder = tempfile::tempdir().unwrap();
    let mut unit = unit(folder.path(), compression);
    let mut block = vec![0; 256 << 10];
    block.chunks_mut(2).for_each(|pair| pair[0] = 7);
    let mut span = Span::default();
    let mut record = RecordBuffer::default();
    for number in 0..=WARM + COUNT {
        span.passed(number);
        record.fill(&block);
        unit.write_record(&mut record).unwrap();
    }
    span.check("writing records");
    unit.write_filemarks(1, false).unwrap();
    unit.rewind().unwrap();
    let mut span = Span::default();
    for number in 0..=WARM + COUNT {
        span.passed(number);
        let outcome = unit.read_record(block.len(), &mut record);
        assert!(matches!(outcome, Ok(ReadOutcome::Block { length }) if length == block.len()));
    }
    assert_eq!(record.as_slice(), block);
    span.check("reading records ahead");
    unit.rewind().unwrap();
    let mut back = vec![0; 256 << 10];
    let mut span = Span::default();
    for number in 0..=WARM + COUNT {
        span.passed(number);
        // Whoever asks where it stands is not read ahead of.
        unit.read_position().unwrap();
        assert!(matches!(unit.read(&mut back), Ok(ReadOutcome::Block { length }) if length == block.len()));
    }
    assert_eq!(back, block);
    span.check("reading records");
}

#[test]
fn no_record_allocates() {
    let _counting = dhat::Profiler::builder().testing().build();
    for compression in [Compression::NONE, Compression::ZSTD, Compression::LZ4] {
        pipes(compression);
        records(compression);
    }
}
