//! What the drive answers, command by command, and what it makes of a damaged cartridge or a failing disk.

use sealtape_drivers::image::dump::Dump;
use sealtape_drivers::image::faults::{Command, Effect, Fault, FaultPlan, FaultyDrive};
use sealtape_drivers::image::trace::TraceStorage;
use sealtape_drivers::image::{CreateOptions, ImageDrive, MAX_BLOCK_BYTES, create_on};
use sealtape_drivers::medium::{
    Attribute, DriveError, DriveErrorKind, MediumType, Position, PowerCut, ReadOutcome, SpaceKind, SpaceStop,
    TapeDrive, Warning,
};
use sealtape_drivers::scsi::{AdditionalSense, SenseKey};

use crate::commands::identity;

const DATA: usize = 36864;

fn storage(options: &CreateOptions) -> TraceStorage {
    let storage = TraceStorage::default();
    create_on(&storage, "tape.img", options).expect("created");
    storage
}

fn load(storage: &TraceStorage) -> ImageDrive {
    let mut drive = ImageDrive::new(identity());
    drive.insert_storage(Box::new(storage.clone()), "tape.img").expect("inserted");
    drive.load().expect("loaded");
    drive.test_unit_ready().expect_err("a unit attention");
    drive
}

fn drive(options: &CreateOptions) -> ImageDrive {
    load(&storage(options))
}

fn position(drive: &mut ImageDrive) -> (u8, u64) {
    let position = drive.read_position().expect("position").position;
    (position.partition, position.object)
}

fn locate(drive: &mut ImageDrive, object: u64) {
    drive.locate(Position { partition: 0, object }).expect("located");
}

fn end_of_data(drive: &mut ImageDrive) -> u64 {
    drive.space(SpaceKind::EndOfData, 0).expect("spaced");
    position(drive).1
}

fn kind<T: std::fmt::Debug>(result: Result<T, DriveError>) -> DriveErrorKind {
    result.expect_err("an error").kind
}

#[test]
fn an_empty_drive_is_not_ready_and_a_new_cartridge_is_announced_once() {
    let mut drive = ImageDrive::new(identity());
    assert_eq!(kind(drive.test_unit_ready()), DriveErrorKind::NotReady);
    assert_eq!(kind(drive.load()), DriveErrorKind::NotReady);
    let storage = storage(&CreateOptions::new(1 << 20));
    drive.insert_storage(Box::new(storage.clone()), "tape.img").unwrap();
    assert_eq!(kind(drive.write(b"x")), DriveErrorKind::NotReady);
    drive.load().unwrap();
    let attention = drive.test_unit_ready().unwrap_err();
    assert_eq!(attention.sense.additional, AdditionalSense::MEDIUM_MAY_HAVE_CHANGED);
    drive.test_unit_ready().unwrap();
    let second = drive.insert_storage(Box::new(storage), "other.img").unwrap_err();
    assert!(second.message.contains("other.img") && second.message.contains("tape.img is in the drive"), "{second}");
}

#[test]
fn prevented_removal_keeps_the_cartridge() {
    let mut drive = drive(&CreateOptions::new(1 << 20));
    drive.prevent_removal(true).unwrap();
    for refused in [drive.unload(), drive.eject()] {
        assert_eq!(refused.unwrap_err().sense.additional, AdditionalSense::new(0x53, 0x02));
    }
    drive.write(b"still loaded").unwrap();
    drive.prevent_removal(false).unwrap();
    drive.eject().unwrap();
    assert!(drive.cartridge().is_none());
}

#[test]
fn warnings_come_in_order_and_the_end_keeps_the_position() {
    // Ten blocks of 1000 bytes of frame each; early warning 3000, programmable 2000 before that.
    let mut drive = drive(&CreateOptions { early_warning: 3000, ..CreateOptions::new(10_000) });
    drive.set_programmable_early_warning(2000).unwrap();
    let block = [7; 952];
    let warnings: Vec<Warning> = (0..10).map(|_| drive.write(&block).unwrap()).collect();
    let (none, programmable, early) = (Warning::None, Warning::Programmable, Warning::Early);
    assert_eq!(warnings, [none, none, none, none, none, programmable, programmable, early, early, early]);
    assert!(drive.read_position().unwrap().end_of_partition);
    for refused in [drive.write(&block), drive.write_filemarks(1, false)] {
        let refused = refused.unwrap_err();
        assert_eq!((refused.kind, refused.sense.key), (DriveErrorKind::EndOfMedium, SenseKey::VOLUME_OVERFLOW));
        assert!(refused.sense.flags.end_of_medium);
    }
    assert_eq!(position(&mut drive), (0, 10));
    assert_eq!(drive.write_filemarks(0, false).unwrap(), Warning::None);
    assert_eq!(drive.medium_status().unwrap().remaining_bytes, Some(0));
    locate(&mut drive, 9);
    assert_eq!(drive.write(&[1; 800]).unwrap(), Warning::Early);
    assert_eq!(drive.write_filemarks(3, false).unwrap(), Warning::Early);
    assert_eq!(kind(drive.write_filemarks(2, false)), DriveErrorKind::EndOfMedium);
}

#[test]
fn worm_appends_only() {
    let storage = storage(&CreateOptions { worm: true, ..CreateOptions::new(1 << 20) });
    let mut drive = load(&storage);
    assert_eq!(drive.medium_status().unwrap().medium_type, MediumType::Worm);
    drive.write(b"one").unwrap();
    drive.write_filemarks(1, false).unwrap();
    for object in [0, 1] {
        locate(&mut drive, object);
        let refused = [drive.write(b"x").err(), drive.write_filemarks(1, false).err(), drive.erase(true).err()];
        for error in refused {
            assert_eq!(error.unwrap().sense.additional, AdditionalSense::WORM_OVERWRITE_ATTEMPTED);
        }
    }
    assert_eq!(kind(drive.format_medium(None)), DriveErrorKind::WormOverwrite);
    assert_eq!(end_of_data(&mut drive), 2);
    drive.write(b"two").unwrap();
    drop(drive);
    assert_eq!(end_of_data(&mut load(&storage)), 3);
}

#[test]
fn write_protection_is_told_with_its_reason() {
    let storage = storage(&CreateOptions { write_protected: true, ..CreateOptions::new(1 << 20) });
    let mut drive = load(&storage);
    let attribute = Attribute { id: 0x0801, format: 1, value: b"x".to_vec() };
    for error in [
        drive.write(b"x").unwrap_err(),
        drive.write_filemarks(1, true).unwrap_err(),
        drive.erase(false).unwrap_err(),
        drive.format_medium(None).unwrap_err(),
        drive.write_attribute(&attribute).unwrap_err(),
    ] {
        assert_eq!(error.kind, DriveErrorKind::WriteProtected);
        assert!(error.message.contains("tape.img is write protected: its write-protect switch"), "{error}");
    }
    drive.write_filemarks(0, false).unwrap();
}

#[test]
fn a_read_only_file_is_read_and_never_written() {
    let storage = storage(&CreateOptions::new(1 << 20));
    let mut writer = load(&storage);
    writer.write(b"one").unwrap();
    drop(writer); // not synchronised: a tail behind the superblock
    let before = storage.bytes();
    let mut drive = ImageDrive::new(identity());
    drive.insert_storage(Box::new(storage.read_only_view()), "tape.img").unwrap();
    drive.load().unwrap();
    assert!(drive.medium_status().unwrap().write_protected);
    assert!(drive.write(b"x").unwrap_err().message.contains("the file may only be read"));
    assert_eq!(end_of_data(&mut drive), 1);
    drive.rewind().unwrap();
    drive.eject().unwrap();
    assert_eq!(storage.bytes(), before);
}

#[test]
fn space_and_locate_stop_where_ssc_says() {
    let mut drive = drive(&CreateOptions::new(1 << 20));
    for _ in 0..2 {
        drive.write(b"a").unwrap();
        drive.write(b"b").unwrap();
        drive.write_filemarks(1, true).unwrap();
    }
    drive.rewind().unwrap();
    let stopped = |drive: &mut ImageDrive, kind, count| drive.space(kind, count).unwrap().stopped;
    assert_eq!(stopped(&mut drive, SpaceKind::Blocks, 5), Some((SpaceStop::Filemark, 3)));
    assert_eq!(position(&mut drive), (0, 3));
    assert_eq!(stopped(&mut drive, SpaceKind::Blocks, -1), Some((SpaceStop::Filemark, 1)));
    assert_eq!(position(&mut drive), (0, 2));
    assert_eq!(stopped(&mut drive, SpaceKind::Filemarks, 3), Some((SpaceStop::EndOfData, 1)));
    assert_eq!(position(&mut drive), (0, 6));
    assert_eq!(stopped(&mut drive, SpaceKind::Filemarks, -3), Some((SpaceStop::BeginningOfPartition, 1)));
    assert_eq!(position(&mut drive), (0, 0));
    assert_eq!(kind(drive.locate(Position { partition: 0, object: 7 })), DriveErrorKind::EndOfData);
    assert_eq!(position(&mut drive), (0, 6));
    assert_eq!(kind(drive.locate(Position { partition: 1, object: 0 })), DriveErrorKind::IllegalRequest);
    assert_eq!(drive.read_position().unwrap().filemarks, Some(2));
}

#[test]
fn blocks_up_to_16_mib_come_back_whole_and_in_part() {
    let mut drive = drive(&CreateOptions::new(64 << 20));
    let block: Vec<u8> = (0..MAX_BLOCK_BYTES).map(|n| (n * 7 / 8) as u8).collect();
    drive.write(&block).unwrap();
    drive.write(&[9]).unwrap();
    let too_long = vec![0; MAX_BLOCK_BYTES + 1];
    assert_eq!([kind(drive.write(&too_long)), kind(drive.write(&[]))], [DriveErrorKind::IllegalRequest; 2]);
    drive.rewind().unwrap();
    let mut buffer = vec![0; MAX_BLOCK_BYTES];
    assert_eq!(drive.read(&mut buffer).unwrap(), ReadOutcome::Block { length: MAX_BLOCK_BYTES });
    assert!(buffer == block);
    drive.rewind().unwrap();
    let mut small = [0; 10];
    assert_eq!(drive.read(&mut small).unwrap(), ReadOutcome::Block { length: MAX_BLOCK_BYTES });
    assert_eq!(small, block[..10]);
    assert_eq!(drive.read(&mut small).unwrap(), ReadOutcome::Block { length: 1 });
    assert_eq!(drive.read(&mut small).unwrap(), ReadOutcome::EndOfData);
}

#[test]
fn attributes_are_kept_and_the_volume_change_reference_changes_with_each_write() {
    let storage = storage(&CreateOptions { barcode: Some("ABC123L9".into()), ..CreateOptions::new(8 << 20) });
    let mut drive = load(&storage);
    let value = |drive: &mut ImageDrive, id| drive.read_attribute(id).unwrap().map(|attribute| attribute.value);
    assert_eq!(value(&mut drive, 0x0806).unwrap(), format!("{:32}", "ABC123L9").into_bytes());
    assert_eq!(drive.medium_status().unwrap().barcode.as_deref(), Some("ABC123L9"));
    assert_eq!(value(&mut drive, 0x0001).unwrap(), 8u64.to_be_bytes());
    assert_eq!(value(&mut drive, 0x0801), None);
    let mut references = vec![value(&mut drive, 0x0009)];
    for _ in 0..3 {
        drive.write(b"x").unwrap();
        references.push(value(&mut drive, 0x0009));
    }
    locate(&mut drive, 1);
    drive.write(b"x").unwrap();
    references.push(value(&mut drive, 0x0009));
    let distinct: std::collections::HashSet<_> = references.iter().collect();
    assert_eq!(distinct.len(), references.len(), "{references:?}");
    let coherency = Attribute { id: 0x080c, format: 0, value: vec![5; 70] };
    drive.write_attribute(&coherency).unwrap();
    drop(drive);
    let mut drive = load(&storage);
    assert_eq!(value(&mut drive, 0x0009), references.pop().unwrap());
    assert_eq!(drive.read_attribute(0x080c).unwrap(), Some(coherency.clone()));
    drive.write_attribute(&Attribute { value: Vec::new(), ..coherency }).unwrap();
    assert_eq!(value(&mut drive, 0x080c), None);
    let refused = drive.write_attribute(&Attribute { id: 0x0401, format: 1, value: b"x".to_vec() });
    assert_eq!(kind(refused), DriveErrorKind::IllegalRequest);
    let too_much = drive.write_attribute(&Attribute { id: 0x1400, format: 0, value: vec![0; 20_000] }).unwrap_err();
    assert_eq!(too_much.sense.additional, AdditionalSense::new(0x55, 0x06));
}

#[test]
fn a_power_cut_is_for_good() {
    let storage = storage(&CreateOptions::new(1 << 20));
    let mut drive = load(&storage);
    drive.write(b"kept").unwrap();
    drive.write_filemarks(1, false).unwrap();
    (0..3).for_each(|_| assert_eq!(drive.write(b"lost").unwrap(), Warning::None));
    assert_eq!(drive.read_position().unwrap().objects_in_buffer, 3);
    assert_eq!(drive.power_cut().unwrap(), 3);
    assert_eq!(position(&mut drive), (0, 0));
    drop(drive);
    assert_eq!(end_of_data(&mut load(&storage)), 2);
}

#[test]
fn a_reset_by_plan_loses_the_buffer_of_the_file_backed_drive() {
    let storage = storage(&CreateOptions::new(1 << 20));
    let plan = FaultPlan { faults: vec![Fault::once(Command::Write, 3, Effect::Reset)] };
    let mut drive = FaultyDrive::new(load(&storage), plan);
    drive.write_filemarks(1, false).unwrap();
    drive.write(b"lost").unwrap();
    drive.write(b"lost").unwrap();
    assert_eq!(kind(drive.write(b"not done")), DriveErrorKind::Reset);
    drop(drive);
    assert_eq!(end_of_data(&mut load(&storage)), 1);
}

/// The most spiteful payload: frames that are right in all but the salt of an epoch that has not begun yet,
/// laid out so that each shorter block written over it ends where one of them begins.
#[test]
fn frames_inside_a_payload_are_never_taken_for_frames() {
    let storage = storage(&CreateOptions::new(1 << 20));
    let mut drive = load(&storage);
    drive.write(b"begins the epoch").unwrap();
    drive.write_filemarks(0, false).unwrap();
    let frame = {
        let bytes = storage.bytes();
        bytes[DATA..DATA + 64].to_vec()
    };
    let forge = |object: u64, epoch: u64| {
        let mut forged = frame.clone();
        forged[8..16].copy_from_slice(&object.to_be_bytes());
        forged[16..24].copy_from_slice(&epoch.to_be_bytes());
        let crc = crc32c::crc32c(&forged[..44]);
        forged[44..48].copy_from_slice(&crc.to_be_bytes());
        forged
    };
    // Objects 2, 3, 4... of this epoch (with its true salt) and of the ones to come.
    for epoch_ahead in 0..4 {
        let epoch = u64::from_be_bytes(frame[16..24].try_into().unwrap()) + epoch_ahead;
        let payload: Vec<u8> = (2..40).flat_map(|object| forge(object, epoch)).collect();
        locate(&mut drive, 1);
        drive.write(&payload).unwrap();
        drive.write_filemarks(1, false).unwrap();
        // The header of the block over it and 16 bytes: what follows is the first forged frame.
        locate(&mut drive, 1);
        drive.write(&[1; 16]).unwrap();
        assert_eq!(end_of_data(&mut load(&storage)), 2, "epoch {epoch_ahead} ahead");
        drive.write_filemarks(0, false).unwrap();
        drop(std::mem::replace(&mut drive, load(&storage)));
        assert_eq!(end_of_data(&mut drive), 2);
    }
}

#[test]
fn a_changed_payload_is_unreadable_and_what_follows_is_not() {
    let storage = storage(&CreateOptions::new(1 << 20));
    let mut writer = load(&storage);
    [&b"first"[..], b"second", b"third"]
        .iter()
        .for_each(|block| assert_eq!(writer.write(block).unwrap(), Warning::None));
    writer.eject().unwrap();
    storage.alter(|bytes| bytes[DATA + 56 + 48] ^= 1);
    let mut drive = load(&storage);
    let mut buffer = [0; 16];
    drive.read(&mut buffer).unwrap();
    let error = drive.read(&mut buffer[..2]).unwrap_err();
    assert_eq!((error.kind, error.sense.additional), (DriveErrorKind::Medium, AdditionalSense::UNRECOVERED_READ_ERROR));
    assert!(error.message.contains("tape.img holds a block with a wrong checksum (partition 0, object 1"), "{error}");
    assert_eq!(drive.read(&mut buffer).unwrap(), ReadOutcome::Block { length: 5 });
    let dump = Dump::open_storage(Box::new(storage.clone()), "tape.img").unwrap();
    let good: Vec<bool> = dump.objects().map(|object| object.unwrap().crc_ok).collect();
    assert_eq!(good, [true, false, true]);
}

#[test]
fn a_broken_chain_is_damage_and_not_the_end_of_data() {
    let storage = storage(&CreateOptions { second_partition: Some(1 << 19), ..CreateOptions::new(1 << 20) });
    let mut writer = load(&storage);
    writer.locate(Position { partition: 1, object: 0 }).unwrap();
    writer.write(b"other partition").unwrap();
    locate(&mut writer, 0);
    (0..4).for_each(|_| assert_eq!(writer.write(&[3; 8]).unwrap(), Warning::None));
    writer.eject().unwrap();
    storage.alter(|bytes| bytes[DATA + 2 * 56 + 20] ^= 1);
    let dump = Dump::open_storage(Box::new(storage.clone()), "tape.img").unwrap();
    let listed: Vec<_> = dump.objects().collect();
    assert_eq!(listed.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true]);

    let mut drive = load(&storage);
    let mut buffer = [0; 16];
    drive.read(&mut buffer).unwrap();
    drive.read(&mut buffer).unwrap();
    for _ in 0..2 {
        let error = drive.read(&mut buffer).unwrap_err();
        assert!(error.kind == DriveErrorKind::Medium && error.message.contains("partition 0, object 2"), "{error}");
    }
    assert_eq!(kind(drive.space(SpaceKind::EndOfData, 0)), DriveErrorKind::Medium);
    assert_eq!(kind(drive.space(SpaceKind::Filemarks, 1)), DriveErrorKind::Medium);
    assert_eq!(kind(drive.locate(Position { partition: 0, object: 3 })), DriveErrorKind::Medium);
    // A program that takes "unreadable" for "blank" must not write here.
    assert_eq!(kind(drive.write(b"label")), DriveErrorKind::Medium);
    drive.locate(Position { partition: 1, object: 0 }).unwrap();
    drive.read(&mut buffer).unwrap();
    drive.write(b"goes on").unwrap();
    // Writing over it on purpose, from before, mends it.
    locate(&mut drive, 1);
    drive.write(b"again").unwrap();
    assert_eq!(end_of_data(&mut drive), 2);
    drop(drive);
    assert_eq!(end_of_data(&mut load(&storage)), 2);
}

#[test]
fn one_superblock_may_be_lost_but_not_both() {
    let storage = storage(&CreateOptions::new(1 << 20));
    let mut writer = load(&storage);
    writer.write(b"one").unwrap();
    writer.eject().unwrap();
    let whole = storage.bytes();
    for slot in [4096, 20480] {
        storage.alter(|bytes| *bytes = whole.clone());
        storage.alter(|bytes| bytes[slot + 40] ^= 1);
        // With the newer one gone, the older one has the epoch, and the frame is found by walking.
        assert_eq!(end_of_data(&mut load(&storage)), 1);
    }
    storage.alter(|bytes| *bytes = whole.clone());
    storage.alter(|bytes| [4096, 20480].iter().for_each(|slot| bytes[slot + 40] ^= 1));
    let mut drive = ImageDrive::new(identity());
    drive.insert_storage(Box::new(storage), "tape.img").unwrap();
    let error = drive.load().unwrap_err();
    assert!(error.kind == DriveErrorKind::Medium && error.message.contains("superblocks"), "{error}");
    assert_eq!(kind(drive.test_unit_ready()), DriveErrorKind::NotReady);
}

#[test]
fn a_full_disk_is_told_and_writing_goes_on_when_there_is_room() {
    let storage = storage(&CreateOptions::new(1 << 20));
    let mut drive = load(&storage);
    drive.write(&[1; 1000]).unwrap();
    storage.limit(Some(storage.bytes().len() as u64 + 500));
    for _ in 0..2 {
        let error = drive.write(&[2; 1000]).unwrap_err();
        assert_eq!((error.kind, error.sense.key), (DriveErrorKind::Medium, SenseKey::MEDIUM_ERROR));
        assert!(error.message.contains("tape.img") && error.message.contains("file system is full"), "{error}");
        assert_eq!(position(&mut drive), (0, 1));
    }
    drive.write_filemarks(1, false).unwrap();
    assert_eq!(kind(drive.write_filemarks(100, false)), DriveErrorKind::Medium);
    assert_eq!(position(&mut drive), (0, 2));
    storage.limit(None);
    drive.write(&[3; 1000]).unwrap();
    drop(drive);
    assert_eq!(end_of_data(&mut load(&storage)), 3);
}

#[test]
fn a_failed_synchronisation_loses_the_buffer_and_says_so() {
    let storage = storage(&CreateOptions::new(1 << 20));
    let mut drive = load(&storage);
    drive.write(b"kept").unwrap();
    drive.write_filemarks(1, false).unwrap();
    drive.write(b"lost").unwrap();
    storage.fail_syncs(1);
    let error = drive.write_filemarks(1, false).unwrap_err();
    assert!(error.position_lost() && error.sense.flags.deferred, "{error}");
    assert!(error.message.contains("cannot synchronise tape.img"), "{error}");
    assert_eq!(position(&mut drive), (0, 2));
    drive.write(b"again").unwrap();
    drive.write_filemarks(1, false).unwrap();
    drop(drive);
    assert_eq!(end_of_data(&mut load(&storage)), 4);
}

#[test]
fn what_cannot_be_cut_off_stops_the_drive_until_the_next_load() {
    for unload in [false, true] {
        let storage = storage(&CreateOptions::new(1 << 20));
        let mut drive = load(&storage);
        drive.write_filemarks(1, false).unwrap();
        drive.write(b"lost").unwrap();
        storage.fail_syncs(3);
        assert_eq!(kind(drive.write_filemarks(0, false)), DriveErrorKind::Transport);
        assert_eq!(kind(drive.rewind()), DriveErrorKind::Transport);
        assert_eq!(kind(drive.write(b"x")), DriveErrorKind::Transport);
        if unload {
            drive.unload().unwrap();
        }
        assert!(drive.load().is_err(), "the disk still fails");
        drive.load().unwrap();
        assert_eq!(end_of_data(&mut drive), 1, "unload: {unload}");
    }
}
