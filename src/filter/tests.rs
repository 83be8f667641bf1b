use std::io::Cursor;

use sealtape_kms::secret::DataKey;

use super::*;
use crate::seal::{Compression, GenerationKeys, GenerationRecord, GenerationScope, Refusal, Suite};

pub(super) fn keys(suite: Suite) -> GenerationKeys {
    let scope = GenerationScope { volume: Uuid::from_u128(7), partition: 0, generation: 1, suite };
    GenerationKeys::new(DataKey::copy_from(&[42; 32]).unwrap(), scope)
}

pub(super) fn sealed(plain: &[u8], suite: Suite, compression: Compression, threads: usize) -> (Vec<u8>, SealedStream) {
    let stream = NewStream {
        keys: keys(suite),
        key_id: Uuid::from_u128(9),
        session_ordinal: 3,
        stanzas: Vec::new(),
        compression,
        threads,
    };
    let mut out = Vec::new();
    let report = seal(&stream, &mut Cursor::new(plain), &mut out, |_| {}).unwrap();
    (out, report)
}

fn opened(stream: &[u8]) -> (Vec<u8>, Result<OpenedStream, FilterError>) {
    let mut out = Vec::new();
    let report = open(
        &mut Cursor::new(stream),
        &mut out,
        |_, generation| Ok::<_, FilterError>(keys(generation.scope.suite)),
        |_| {},
    );
    (out, report)
}

fn refused(stream: &[u8]) -> (usize, &'static str) {
    match opened(stream) {
        (out, Err(FilterError::Refused { refusal, .. })) => (out.len(), refusal.name()),
        (_, other) => panic!("not refused: {other:?}"),
    }
}

/// Half of it does not compress.
pub(super) fn text(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    });
    noise.enumerate().map(|(at, byte)| if at & 0x8_0000 == 0 { b'x' } else { byte }).take(length).collect()
}

#[test]
fn every_length_and_suite_comes_back() {
    let chunk = crate::seal::stream::CHUNK_LEN;
    for length in [0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk, 2_500_000] {
        let plain = text(length);
        for suite in Suite::ALL {
            for (compression, threads) in [(Compression::ZSTD, 1), (Compression::LZ4, 3), (Compression::NONE, 4)] {
                let (stream, sealed) = sealed(&plain, suite, compression, threads);
                assert_eq!(sealed.stream_bytes, stream.len() as u64);
                assert_eq!((sealed.records, sealed.plain_bytes), (length.div_ceil(chunk) as u64 + 1, length as u64));
                let (out, report) = opened(&stream);
                let report = report.unwrap();
                assert!(out == plain, "{length} {suite} {compression}");
                assert_eq!((report.records, report.plain_bytes), (sealed.records, sealed.plain_bytes));
            }
        }
    }
}

#[test]
fn a_cut_anywhere_is_an_error_and_what_came_before_is_right() {
    let plain = text(700_000);
    let (stream, _) = sealed(&plain, Suite::AES_256_GCM_SIV, Compression::NONE, 2);
    let records: Vec<usize> = record_boundaries(&stream);
    let around = records.iter().flat_map(|at| [at - 1, *at, at + 1, at + 50, at + 97]);
    for cut in around.chain([0, 1, 4095, 4096, 4099, 4100, 4200]).filter(|cut| *cut < stream.len()) {
        let (out, report) = opened(&stream[..cut]);
        assert!(matches!(report, Err(FilterError::Refused { .. })), "cut at {cut}: {report:?}");
        assert!(plain.starts_with(&out), "cut at {cut}");
    }
    for at in &records[..records.len() - 1] {
        assert_eq!(refused(&stream[..*at]).1, "no-final");
    }
}

/// Offsets behind each record, and of the first.
pub(super) fn record_boundaries(stream: &[u8]) -> Vec<usize> {
    let generation = u32::from_be_bytes(stream[4096..4100].try_into().unwrap()) as usize;
    let mut at = 4100 + generation;
    let mut boundaries = vec![at];
    while at < stream.len() {
        at += crate::seal::stream::record_len(stream[at..at + 96].try_into().unwrap()).unwrap();
        boundaries.push(at);
    }
    boundaries
}

#[test]
fn what_was_changed_is_refused_at_its_record() {
    let chunk = crate::seal::stream::CHUNK_LEN;
    let plain = text(3 * chunk);
    let (stream, _) = sealed(&plain, Suite::AES_256_GCM_SIV, Compression::NONE, 2);
    let at = record_boundaries(&stream);
    let record = |n: usize| stream[at[n]..at[n + 1]].to_vec();
    let with = |order: &[usize]| {
        let mut bytes = stream[..at[0]].to_vec();
        order.iter().for_each(|n| bytes.extend(record(*n)));
        bytes
    };
    assert_eq!(refused(&with(&[0, 2, 1, 3])), (chunk, "wrong-place"));
    assert_eq!(refused(&with(&[0, 0, 1, 2, 3])), (chunk, "wrong-place"));
    assert_eq!(refused(&with(&[0, 1, 3])), (2 * chunk, "wrong-place"));
    assert_eq!(refused(&with(&[0, 1, 2, 3, 3])).1, "trailing-data");
    let mut trailing = stream.clone();
    trailing.push(0);
    assert_eq!(refused(&trailing), (plain.len(), "trailing-data"));
    // Who stores it in blocks of one length may hand zeros back, and nothing else.
    trailing.resize(stream.len() + 100_000, 0);
    let padded = |bytes: &[u8]| {
        let keys = |_: &_, generation: &GenerationRecord| Ok::<_, FilterError>(keys(generation.scope.suite));
        open_before(&mut Cursor::new(bytes), &mut std::io::sink(), Behind::Padding, keys, |_| {})
    };
    assert_eq!(padded(&trailing).unwrap().plain_bytes, plain.len() as u64);
    assert_eq!(padded(&stream).unwrap().records, 4);
    *trailing.last_mut().unwrap() = 1;
    assert!(matches!(padded(&trailing), Err(FilterError::Refused { refusal: Refusal::TrailingData, .. })));
    assert!(matches!(padded(&with(&[0, 1, 2])), Err(FilterError::Refused { refusal: Refusal::NoFinal, .. })));

    let mut flipped = stream.clone();
    flipped[at[1] + 500] ^= 1;
    assert_eq!(refused(&flipped), (chunk, "bad-crc"));
    let crc = at[2] - 4;
    let right = crc32c::crc32c(&flipped[at[1]..crc]);
    flipped[crc..at[2]].copy_from_slice(&right.to_be_bytes());
    assert_eq!(refused(&flipped), (chunk, "bad-tag"));

    let mut label = stream.clone();
    label[4090] = b'x';
    assert!(refused(&label).0 == 0);
    assert_eq!(refused(b"hello, this is no stream").1, "foreign");
    assert_eq!(refused(b"").1, "blank");
}

#[test]
fn a_stream_sealed_under_another_key_is_refused_before_anything_is_written() {
    let (stream, _) = sealed(b"text", Suite::AES_256_GCM_SIV, Compression::NONE, 1);
    let mut out = Vec::new();
    let other = |_: &_, generation: &crate::seal::GenerationRecord| {
        Ok::<_, FilterError>(GenerationKeys::new(DataKey::copy_from(&[1; 32]).unwrap(), generation.scope))
    };
    let error = open(&mut Cursor::new(stream), &mut out, other, |_| {}).unwrap_err();
    assert!(
        error.to_string().contains("wrong-key") && error.to_string().contains(&Uuid::from_u128(7).to_string()),
        "{error}"
    );
    assert!(out.is_empty());
}

#[test]
fn a_reader_that_stops_reading_ends_sealing() {
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let stream = NewStream {
        keys: keys(Suite::AES_256_GCM_SIV),
        key_id: Uuid::from_u128(9),
        session_ordinal: 1,
        stanzas: Vec::new(),
        compression: Compression::NONE,
        threads: 2,
    };
    let error = seal(&stream, &mut io::repeat(7), &mut Full(3_000_000), |_| {}).unwrap_err();
    assert!(matches!(error, FilterError::Write(e) if e.kind() == io::ErrorKind::BrokenPipe));
}
