//! Parts of the data path, each by itself and on one thread: ciphers, checksum, and whole records by what is in them.
//!
//! `cargo xtask bench parts` runs this and reads what criterion writes. The shrinkage of records goes into `shrunk.json` beside it.

mod data;
mod records;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use sealtape::seal::Suite;
use sealtape::seal::suite::{RecordCipher, RecordOpener, TAG_LEN, TagMismatch};
use sealtape_siv::{Aes256GcmSiv, Implementation};

const LENGTHS: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];
/// As long as that of a record: a header and the volume.
const AAD: [u8; 112] = [3; 112];

fn main() {
    // `cargo xtask bench` repeats all of it, round after round, so each figure of a round may be quick.
    let mut criterion = Criterion::default()
        .sample_size(10)
        .nresamples(1000)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .without_plots()
        .configure_from_args();
    ciphers(&mut criterion);
    checksum(&mut criterion);
    records::records(&mut criterion);
    criterion.final_summary();
}

/// The default suite as the crate `aes-gcm-siv` has it, for comparison.
struct Portable(Aes256GcmSiv);

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

impl RecordOpener for Portable {
    fn open_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), TagMismatch> {
        self.0.open_in_place(&nonce(counter), aad, text, tag).map_err(|_| TagMismatch)
    }

    fn open_with_nonce(&self, _: &[u8], _: &[u8], _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

impl RecordCipher for Portable {
    fn seal_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], TagMismatch> {
        self.0.seal_in_place(&nonce(counter), aad, text).map_err(|_| TagMismatch)
    }

    fn seal_with_nonce(&self, _: &[u8], _: &[u8], _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

fn ciphers(criterion: &mut Criterion) {
    let key = [7; 32];
    let mut ciphers: Vec<(String, Box<dyn RecordCipher>)> = Vec::new();
    for suite in Suite::ALL {
        ciphers.push((suite.to_string(), suite.cipher(&key).expect("a known suite")));
    }
    if Suite::AES_256_GCM_SIV.implementation() == Some(Implementation::Wide) {
        let portable = Portable(Aes256GcmSiv::portable(&key));
        ciphers.push((format!("{} (portable)", Suite::AES_256_GCM_SIV), Box::new(portable)));
    }
    let mut group = criterion.benchmark_group("cipher, seal");
    for length in LENGTHS {
        group.throughput(Throughput::Bytes(length as u64));
        for (name, cipher) in &ciphers {
            let mut text = vec![5; length];
            group.bench_function(BenchmarkId::new(name, length), |bencher| {
                bencher.iter(|| cipher.seal_in_place(1, &AAD, black_box(&mut text)).expect("a short text"));
            });
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("cipher, open");
    for length in LENGTHS {
        group.throughput(Throughput::Bytes(length as u64));
        for (name, cipher) in &ciphers {
            let mut sealed = vec![5; length];
            let tag = cipher.seal_in_place(1, &AAD, &mut sealed).expect("a short text");
            let mut text = sealed.clone();
            group.bench_function(BenchmarkId::new(name, length), |bencher| {
                bencher.iter_custom(|times| {
                    let mut took = Duration::ZERO;
                    for _ in 0..times {
                        text.copy_from_slice(&sealed);
                        let at = Instant::now();
                        cipher.open_in_place(1, &AAD, black_box(&mut text), &tag).expect("its own tag");
                        took += at.elapsed();
                    }
                    took
                });
            });
        }
    }
    group.finish();
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for length in LENGTHS {
        let record = vec![5_u8; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("crc32c", length), |bencher| {
            bencher.iter(|| sealtape::seal::checksum::crc32c(black_box(&record)));
        });
    }
    group.finish();
}
