//! Superblocks that arrive in part, or may not have arrived: no chance, one life after the other.

use sealtape_drivers::image::trace::{Operation, TraceStorage, apply};
use sealtape_drivers::image::{CreateOptions, ImageDrive, create_on};
use sealtape_drivers::medium::{Attribute, Position, ReadOutcome, SpaceKind, TapeDrive};

use crate::commands::identity;

const SECOND: u64 = 20_000;
/// A superblock without attributes, less its CRC.
const BEFORE_CRC: usize = 160;

fn load(storage: &TraceStorage) -> ImageDrive {
    let mut drive = ImageDrive::new(identity());
    drive.insert_storage(Box::new(storage.clone()), "tape.img").expect("inserted");
    drive.load().expect("loaded");
    drive
}

/// A cartridge with one block in each of its two partitions, all synchronised.
fn cartridge() -> TraceStorage {
    let storage = TraceStorage::default();
    let options = CreateOptions { second_partition: Some(SECOND), early_warning: 0, ..CreateOptions::new(60_000) };
    create_on(&storage, "tape.img", &options).expect("created");
    let mut drive = load(&storage);
    for partition in 0..2 {
        drive.locate(Position { partition, object: 0 }).expect("located");
        drive.write(b"precious").expect("written");
    }
    drive.unload().expect("unloaded");
    storage
}

fn objects(bytes: &[u8]) -> [u64; 2] {
    let mut drive = load(&TraceStorage::new(bytes.to_vec()));
    [0, 1].map(|partition| {
        drive.locate(Position { partition, object: 0 }).expect("located");
        drive.space(SpaceKind::EndOfData, 0).expect("spaced");
        drive.read_position().expect("position").position.object
    })
}

/// A drive loads the cartridge `bytes`, and writes over `partition`; the power is cut while the superblock that says so is written.
/// `arrives` is the part of it that is on the medium.
fn cut_in_superblock(bytes: &[u8], partition: u8, arrives: impl Fn(&[u8]) -> std::ops::Range<usize>) -> Vec<u8> {
    let storage = TraceStorage::new(bytes.to_vec());
    let mut drive = load(&storage);
    drive.locate(Position { partition, object: 0 }).expect("located");
    drive.write(b"over it").expect("written");
    let mut after = bytes.to_vec();
    for operation in storage.take_operations() {
        match operation {
            Operation::Write { offset, bytes } if bytes.starts_with(b"STSUPER1") => {
                let part = arrives(&bytes);
                let offset = offset + part.start as u64;
                apply(&Operation::Write { offset, bytes: bytes[part].to_vec() }, &mut after, usize::MAX);
                return after;
            }
            other => apply(&other, &mut after, usize::MAX),
        }
    }
    panic!("no superblock was written");
}

/// Both have the same sequence number and stand in the same slot: the second brought the bytes that the first lacked, and
/// the first, which never counted, did, with a partition in it that had been written over.
#[test]
fn two_torn_superblocks_do_not_make_a_whole_one() {
    let bytes = cartridge().bytes();
    for split in (16..=BEFORE_CRC).step_by(8) {
        let first = cut_in_superblock(&bytes, 1, |superblock| split..superblock.len());
        assert_eq!(objects(&first), [1, 1], "without the first {split} bytes");
        let second = cut_in_superblock(&first, 0, |_| 0..split);
        assert_eq!(objects(&second), [1, 1], "then the first {split} bytes of another");
        // The other way round.
        let first = cut_in_superblock(&bytes, 1, |_| 0..split);
        let second = cut_in_superblock(&first, 0, |superblock| split..superblock.len());
        assert_eq!(objects(&second), [1, 1], "split at {split}, beginning first");
    }
}

/// A format whose superblock may have arrived counts from then on: partitions of the old sizes are not gone on with.
#[test]
fn after_a_format_that_was_not_synchronised_the_partitions_are_those_of_the_medium() {
    for second in [None, Some(30_000), Some(SECOND)] {
        for failing in 1..=4 {
            let storage = cartridge();
            let mut drive = load(&storage);
            drive.locate(Position { partition: 1, object: 1 }).unwrap();
            // Synchronises everything: the first synchronisation that fails is the one behind the format's superblock.
            drive.write_attribute(&Attribute { id: 0x0801, format: 0, value: vec![1] }).unwrap();
            storage.fail_syncs(failing);
            assert!(drive.format_medium(second).is_err(), "{failing} failures");
            storage.fail_syncs(0);
            drive.load().unwrap();
            let partition = drive.medium_status().unwrap().partitions - 1;
            drive.locate(Position { partition, object: 0 }).unwrap();
            drive.write(b"after it").unwrap();
            drive.unload().unwrap();
            let mut drive = load(&storage);
            drive.locate(Position { partition, object: 0 }).unwrap();
            let mut buffer = [0; 8];
            let read = drive.read(&mut buffer).unwrap();
            assert_eq!(
                (read, &buffer),
                (ReadOutcome::Block { length: 8 }, b"after it"),
                "{second:?}, {failing} failures"
            );
        }
    }
}
