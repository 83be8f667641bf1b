//! Files that were changed by accident or on purpose: never a panic, never an object that was not written.

use proptest::prelude::*;
use sealtape_drivers::image::dump::Dump;
use sealtape_drivers::image::trace::TraceStorage;
use sealtape_drivers::image::{CreateOptions, ImageDrive, create_on};
use sealtape_drivers::medium::{Position, ReadOutcome, SpaceKind, TapeDrive};

use crate::commands::{block, identity};

const OBJECTS: u64 = 12;

/// Two partitions with blocks and filemarks; the last ones are not synchronised.
fn image() -> Vec<u8> {
    let storage = TraceStorage::default();
    let options = CreateOptions { second_partition: Some(20_000), ..CreateOptions::new(60_000) };
    create_on(&storage, "tape.img", &options).expect("created");
    let mut drive = ImageDrive::new(identity());
    drive.insert_storage(Box::new(storage.clone()), "tape.img").expect("inserted");
    drive.load().expect("loaded");
    for partition in [1, 0] {
        drive.locate(Position { partition, object: 0 }).expect("located");
        for number in 0..OBJECTS {
            if number % 4 == 3 {
                drive.write_filemarks(1, number > 8).expect("written");
            } else {
                drive.write(&block(100, number)).expect("written");
            }
        }
    }
    storage.bytes()
}

/// Uses the cartridge as far as it goes.
fn use_it(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let storage = TraceStorage::new(bytes);
    if let Ok(dump) = Dump::open_storage(Box::new(storage.read_only_view()), "tape.img") {
        for object in dump.objects().take(10_000) {
            drop(object);
        }
    }
    let mut drive = ImageDrive::new(identity());
    if drive.insert_storage(Box::new(storage), "tape.img").is_err() || drive.load().is_err() {
        return Ok(());
    }
    let mut buffer = [0; 200];
    for partition in 0..drive.medium_status().expect("loaded").partitions {
        let mut refused = drive.locate(Position { partition, object: 0 }).is_err();
        while !refused {
            match drive.read(&mut buffer) {
                Ok(ReadOutcome::Block { length }) => {
                    let object = drive.read_position().expect("position").position.object - 1;
                    prop_assert!(
                        length == 100 && buffer[..100] == block(100, object)[..],
                        "object {object} was never written"
                    );
                }
                Ok(ReadOutcome::Filemark) => {}
                Ok(ReadOutcome::EndOfData | ReadOutcome::EndOfPartition) => break,
                // An unreadable block is passed; a broken chain is not.
                Err(_) => {
                    let before = drive.read_position().expect("position").position;
                    refused = drive.space(SpaceKind::Blocks, 1).is_err();
                    refused |= drive.read_position().expect("position").position == before;
                }
            }
        }
        let _outcome = drive.space(SpaceKind::EndOfData, 0);
        let _outcome = drive.space(SpaceKind::Filemarks, -2);
        let _outcome = drive.write(&[1; 50]);
        let _outcome = drive.write_filemarks(1, false);
    }
    let _outcome = drive.format_medium(Some(10_000));
    Ok(())
}

fn seal_superblock(bytes: &mut [u8], slot: usize) {
    let length = u32::from_be_bytes(bytes[slot + 16..slot + 20].try_into().expect("four bytes")) as usize;
    if (160..=16380).contains(&length) {
        let crc = crc32c::crc32c(&bytes[slot..slot + length]);
        bytes[slot + length..slot + length + 4].copy_from_slice(&crc.to_be_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes(changes in prop::collection::vec((0usize..80_000, any::<u8>(), 1usize..40), 1..6)) {
        let mut bytes = image();
        for (at, value, length) in changes {
            let at = at % bytes.len();
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(value);
        }
        use_it(bytes)?;
    }

    /// Superblocks with good checksums and numbers of which nobody knows where they come from.
    #[test]
    fn made_up_superblocks(
        changes in prop::collection::vec((0usize..22, prop_oneof![any::<u64>(), 0u64..100_000, Just(u64::MAX)]), 1..4),
    ) {
        let mut bytes = image();
        for slot in [4096, 20480] {
            for (field, value) in &changes {
                bytes[slot + 8 + field * 8..][..8].copy_from_slice(&value.to_be_bytes());
            }
            seal_superblock(&mut bytes, slot);
        }
        use_it(bytes)?;
    }

    #[test]
    fn cut_off(length in 0usize..80_000) {
        let mut bytes = image();
        bytes.truncate(length);
        use_it(bytes)?;
    }
}
