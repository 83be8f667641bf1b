//! Everything that parses bytes of others, fed with made-up and with damaged input: it refuses, and does nothing else.
//! The functions are those of the fuzz targets (`fuzz/`); here they run on every build, for a bounded time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fuzz/noise.rs"]
#[allow(unreachable_pub, reason = "used from elsewhere too")]
mod noise;
#[path = "../fuzz/targets.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets are a crate of their own, which uses them from outside")]
mod targets;

use std::time::{Duration, Instant};

use noise::Noise;
use sealtape::seal::{VolumeKind, VolumeLabel};
use sealtape_drivers::image::trace::TraceStorage;
use sealtape_drivers::image::{CreateOptions, ImageDrive, create_on};
use sealtape_drivers::medium::{DriveIdentity, TapeDrive};
use uuid::Uuid;

fn drive(name: &str, target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let limit = Duration::from_secs(if std::env::var_os("SEALTAPE_LONG").is_some() { 60 } else { 3 });
    let (begun, mut inputs, mut noise) = (Instant::now(), 0_u64, Noise(0x5ea1_7a9e));
    seeds.iter().for_each(|seed| target(seed));
    while begun.elapsed() < limit {
        let input = noise.input(seeds, 600);
        let one = Instant::now();
        target(&input);
        assert!(one.elapsed() < Duration::from_secs(20), "{name}: an input of {} bytes took too long", input.len());
        inputs += 1;
    }
    println!("{name}: {inputs} inputs");
    assert!(inputs >= 20, "{name}: {inputs} inputs in {limit:?}");
}

/// Files of the corpus, which the format's tests use too.
fn media() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/media");
    let files = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
    let files: Vec<_> = files.filter(|bytes| bytes.len() < 100_000).collect();
    assert!(files.len() > 20);
    files
}

/// What begins with `magic` in the corpus, up to the next of them.
fn pieces(magic: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for bytes in media() {
        let places: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(magic)).collect();
        for (number, &at) in places.iter().enumerate().take(4) {
            let end = places.get(number + 1).copied().unwrap_or(bytes.len());
            pieces.push(bytes[at..end].to_vec());
        }
    }
    assert!(!pieces.is_empty());
    pieces
}

#[test]
fn records() {
    let seeds = pieces(b"SLTR");
    drive("record", targets::record, &seeds);
    drive("open", targets::open, &seeds);
}

#[test]
fn sealed_in_a_wrong_form() {
    let text = b"words that compress, ".repeat(30);
    let frame = zstd::bulk::compress(&text, 1).unwrap();
    let block = lz4_flex::block::compress(&text);
    let seeds: Vec<_> =
        [&frame, &block, &text].iter().flat_map(|t| (0..3).map(|c| [&[c, 9], &t[..]].concat())).collect();
    drive("sealed_form", targets::sealed_form, &seeds);
}

#[test]
fn labels_and_generation_records() {
    let label = VolumeLabel {
        volume: Uuid::from_u128(9),
        kind: VolumeKind::Tape,
        partition: 0,
        partitions: 1,
        label: Some("a label".into()),
        barcode: Some("ABC123L8".into()),
    };
    let block = label.encode().unwrap().to_vec();
    let fields = block.windows(8).position(|window| window == b"fields:\n").unwrap() + 8;
    let end = block.windows(8).position(|window| window == b"crc32c: ").unwrap();
    drive("volume_label", targets::volume_label, &[block.clone(), block[fields..end].to_vec()]);
    let records = pieces(b"SLTG");
    let bodies = records.iter().map(|record| record[5..].to_vec());
    drive("generation", targets::generation, &bodies.chain(records.iter().cloned()).collect::<Vec<_>>());
}

#[test]
fn streams() {
    drive("stream", targets::stream, &media());
}

#[test]
fn images() {
    let storage = TraceStorage::new(Vec::new());
    create_on(&storage, "seed", &CreateOptions::new(1 << 20)).unwrap();
    let identity = DriveIdentity { vendor: "V".into(), product: "P".into(), revision: "0".into(), serial: "S".into() };
    let mut tape = ImageDrive::new(identity);
    tape.insert_storage(Box::new(storage.clone()), "seed").unwrap();
    tape.load().unwrap();
    for length in [1, 100, 5000] {
        tape.write(&vec![7; length]).unwrap();
        tape.write_filemarks(1, false).unwrap();
    }
    tape.unload().unwrap();
    drive("image", targets::image, &[storage.bytes()]);
}

#[test]
fn messages_configuration_and_custody_log() {
    let messages =
        [r#"{"op":"list_volumes"}"#, r#"{"hello":{"unit":"drive0","version":1}}"#, "[[[[[[", "{\"a\":1e999}"];
    let messages: Vec<_> = messages.iter().map(|text| text.as_bytes().to_vec()).collect();
    drive("protocol", targets::protocol, &messages);
    let config = b"[data_path]\nwindow_bytes = \"64M\"\n[[drive]]\nname = \"drive0\"\nmax_block = \"1M\"\n".to_vec();
    drive("config", targets::config, &[config]);
    let leaf =
        br#"{"actor":{"uid":0},"n":1,"op":"key.create","outcome":"done","time":"2026-01-01T00:00:00Z"}"#.to_vec();
    drive("custody", targets::custody, &[leaf]);
}
