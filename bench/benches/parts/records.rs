//! Whole records, sealed and opened as the data path does it: compression by a pool's policy, cipher, header, checksum.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use sealtape::seal::envelope::parse_record;
use sealtape::seal::opener::open_in_place;
use sealtape::seal::suite::RecordOpener;
use sealtape::seal::{
    Compression, GenerationKeys, GenerationScope, Link, OVERHEAD, OpeningKeys, PlainRecord, RecordKind, SealedRecord,
    SessionId, SessionSealer, Suite,
};
use sealtape_kms::secret::DataKey;
use uuid::Uuid;

use crate::data::{Kind, RECORD, kinds};

const SESSION: SessionId = SessionId([1; 16]);

pub(crate) fn records(criterion: &mut Criterion) {
    let mut shrunk = Vec::new();
    for Kind { name, records } in kinds() {
        for compression in Compression::ALL {
            let mut path = Path::new(Suite::AES_256_GCM_SIV);
            let sealed: Vec<Vec<u8>> =
                records.iter().map(|text| path.seal(text, compression).0.bytes().to_vec()).collect();
            let stored: usize = sealed.iter().map(|record| record.len() - OVERHEAD).sum();
            let ratio = (records.len() * RECORD) as f64 / stored as f64;
            shrunk.push(format!(r#"{{"data":"{name}","compression":"{compression}","ratio":{ratio:.4}}}"#));
            measure(criterion, &format!("{name}, {compression}"), &mut path, &records, &sealed, compression);
        }
    }
    // The suites, with nothing compressed.
    let records = [vec![5; RECORD]];
    for suite in Suite::ALL {
        let mut path = Path::new(suite);
        let sealed = [path.seal(&records[0], Compression::NONE).0.bytes().to_vec()];
        measure(criterion, &suite.to_string(), &mut path, &records, &sealed, Compression::NONE);
    }
    let file = folder().join("shrunk.json");
    std::fs::create_dir_all(folder()).expect("the folder of the results");
    std::fs::write(&file, format!("[{}]\n", shrunk.join(",\n"))).expect("the shrinkage is written down");
}

/// Where criterion writes too.
fn folder() -> PathBuf {
    std::env::var_os("CRITERION_HOME").expect("CRITERION_HOME says where results go: cargo xtask bench parts").into()
}

fn measure(
    criterion: &mut Criterion,
    name: &str,
    path: &mut Path,
    records: &[Vec<u8>],
    sealed: &[Vec<u8>],
    compression: Compression,
) {
    let mut group = criterion.benchmark_group("record, seal");
    group.throughput(Throughput::Bytes(RECORD as u64));
    group.bench_function(BenchmarkId::new(name, RECORD), |bencher| {
        bencher.iter_custom(|times| {
            let texts = records.iter().cycle().take(times as usize);
            texts.map(|text| path.seal_and_forget(text, compression)).sum()
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("record, open");
    group.throughput(Throughput::Bytes(RECORD as u64));
    group.bench_function(BenchmarkId::new(name, RECORD), |bencher| {
        bencher.iter_custom(|times| sealed.iter().cycle().take(times as usize).map(|block| path.open(block)).sum());
    });
    group.finish();
}

/// The keys and buffers of a drive's records.
struct Path {
    opener: Arc<dyn RecordOpener>,
    scope: GenerationScope,
    sealer: SessionSealer,
    buffer: Vec<u8>,
    expanded: Vec<u8>,
}

impl Path {
    fn new(suite: Suite) -> Self {
        let key = DataKey::copy_from(&[7; 32]).expect("a locked page");
        let scope = GenerationScope { volume: Uuid::nil(), partition: 0, generation: 1, suite };
        let keys = GenerationKeys::new(key, scope);
        let sealer = SessionSealer::open(&keys, RecordKind::TapeBlock, SESSION, 1, 0, Link::BEGINNING);
        let opener = keys.record_opener(SESSION).expect("a known suite");
        Self { opener, scope, sealer: sealer.expect("a known suite"), buffer: Vec::new(), expanded: Vec::new() }
    }

    /// Only the sealing is timed, not how the text came into the record.
    fn seal(&mut self, text: &[u8], compression: Compression) -> (SealedRecord, Duration) {
        let reserved = self.sealer.reserve(self.sealer.records(), 0).expect("a counter");
        let mut record = PlainRecord::in_buffer(std::mem::take(&mut self.buffer));
        record.extend(text);
        let at = Instant::now();
        let sealed = reserved.seal(record, compression).expect("a record of usual length");
        (sealed, at.elapsed())
    }

    fn seal_and_forget(&mut self, text: &[u8], compression: Compression) -> Duration {
        let (sealed, took) = self.seal(text, compression);
        self.buffer = sealed.into_buffer();
        took
    }

    fn open(&mut self, block: &[u8]) -> Duration {
        self.buffer.clear();
        self.buffer.extend_from_slice(block);
        let at = Instant::now();
        let header = parse_record(&self.buffer, false, self.scope.suite).expect("a whole record");
        let opened = open_in_place(&header, &mut self.buffer, &*self.opener, &self.scope, &mut self.expanded);
        assert_eq!(opened.expect("its own key").plain_len, RECORD);
        at.elapsed()
    }
}
