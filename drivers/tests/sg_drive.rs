//! What the drive over commands makes of each answer: golden exchanges.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sg_support;

use std::io::ErrorKind;

use sealtape_drivers::medium::{
    Attribute, Description, DriveError, DriveErrorKind as K, MediumType, Position, ReadOutcome, SpaceKind,
    SpaceOutcome, SpaceStop, TapeDrive, Warning,
};
use sealtape_drivers::scsi::SenseKey;
use sealtape_drivers::sg::ScsiTapeDrive;
use sg_support::*;

fn kind<R: std::fmt::Debug>(result: Result<R, DriveError>) -> K {
    result.unwrap_err().kind
}

fn read_command(length: u32) -> [u8; 6] {
    let [_, a, b, c] = length.to_be_bytes();
    [0x08, 0, a, b, c, 0]
}

fn write_command(length: u32) -> [u8; 6] {
    let [_, a, b, c] = length.to_be_bytes();
    [0x0a, 0, a, b, c, 0]
}

/// A drive that has read a filemark: settled, at object 6.
fn reading() -> (ScsiTapeDrive<Script>, Script) {
    let (mut drive, script) = drive_at(5);
    script.expect(settling());
    script.expect([on(&read_command(16)).says(filemark(16))]);
    assert_eq!(drive.read(&mut [0; 16]).unwrap(), ReadOutcome::Filemark);
    script.assert_done();
    (drive, script)
}

/// A drive that has written a block of 4 bytes: settled, at object 7.
fn writing() -> (ScsiTapeDrive<Script>, Script) {
    let (mut drive, script) = reading();
    script.expect([position(0, 6), on(&write_command(4)).takes(b"ABCD")]);
    assert_eq!(drive.write(b"ABCD").unwrap(), Warning::None);
    script.assert_done();
    (drive, script)
}

#[test]
fn open_asks_who_the_drive_is() {
    let (drive, _script) = drive_at(0);
    let identity = drive.identity();
    assert_eq!((identity.vendor.as_str(), identity.product.as_str()), ("ACME", "Ultrium 8-SCSI"));
    assert_eq!((identity.revision.as_str(), identity.serial.as_str()), ("H4K1", "0123456789"));
}

#[test]
fn open_refuses_what_is_no_tape_drive() {
    let script = Script::default();
    let mut disk = vec![0; 96];
    disk[4] = 91;
    disk[8..12].copy_from_slice(b"DISK");
    script.expect([on(&[0x12, 0, 0, 0, 252, 0]).gives(&disk)]);
    let error = ScsiTapeDrive::open(script).unwrap_err();
    assert!(error.message.contains("/dev/sg9") && error.message.contains("no tape drive"), "{error}");
}

#[test]
fn the_length_of_a_block_is_known_whatever_the_room() {
    // Requested, INFORMATION, bytes that came, length of the block.
    for (requested, information, came, length) in [
        (16_u32, None, 16, 16),
        (16, Some(6), 10, 10),
        (16, Some(15), 1, 1),
        (16, Some(-1), 16, 17),
        (16, Some(-1_048_560), 16, 1_048_576),
        (16, Some(16 - 0xff_ffff), 16, 0xff_ffff),
        // A transport that cannot tell the residue.
        (16, Some(6), 16, 10),
    ] {
        let (mut drive, script) = reading();
        let block: Vec<u8> = (0..came as u8).collect();
        let exchange = on(&read_command(requested)).gives(&block);
        script.expect([match information {
            Some(_) => exchange.says(wrong_length(information)),
            None => exchange,
        }]);
        let mut buffer = vec![0xee; requested as usize];
        assert_eq!(drive.read(&mut buffer).unwrap(), ReadOutcome::Block { length }, "{information:?}");
        let here = length.min(came);
        assert_eq!(buffer[..here], block[..here]);
    }
}

#[test]
fn no_room_still_passes_the_block() {
    let (mut drive, script) = reading();
    script.expect([on(&read_command(1)).gives(b"x").says(wrong_length(Some(-99)))]);
    assert_eq!(drive.read(&mut []).unwrap(), ReadOutcome::Block { length: 100 });
}

#[test]
fn a_length_that_cannot_be_is_an_error_and_no_length() {
    for information in [None, Some(0), Some(16), Some(17), Some(i64::MIN), Some(i64::MAX), Some(16 - 0x100_0000)] {
        let (mut drive, script) = reading();
        script.expect([
            on(&read_command(16)).gives(&[1; 16]).says(wrong_length(information)),
            on(&ALERTS).says(unsupported()),
        ]);
        assert_eq!(kind(drive.read(&mut [0; 16])), K::Hardware, "{information:?}");
        script.assert_done();
    }
}

#[test]
fn bytes_that_got_lost_on_the_way_are_no_block() {
    for exchange in [
        on(&read_command(16)).gives(&[1; 15]),
        on(&read_command(16)).gives(&[1; 9]).says(wrong_length(Some(6))),
        on(&read_command(16)).gives(&[1; 9]).says(wrong_length(Some(-6))),
    ] {
        let (mut drive, script) = reading();
        script.expect([exchange]);
        assert_eq!(kind(drive.read(&mut [0; 16])), K::Transport);
        // Nothing is sent before the position is known again.
        assert_eq!(kind(drive.read(&mut [0; 16])), K::Transport);
        script.assert_done();
    }
}

#[test]
fn what_a_read_meets() {
    let outcome = |told| {
        let (mut drive, script) = reading();
        script.expect([on(&read_command(16)).gives(&[7; 16]).says(told), on(&ALERTS).says(unsupported())]);
        drive.read(&mut [0; 16]).map_err(|error| error.kind)
    };
    assert_eq!(outcome(filemark(16)), Ok(ReadOutcome::Filemark));
    assert_eq!(outcome(blank_check(16)), Ok(ReadOutcome::EndOfData));
    let end = end_of_medium(SenseKey::MEDIUM_ERROR, 0x00, 0x02, Some(16));
    assert_eq!(outcome(end), Ok(ReadOutcome::EndOfPartition));
    let block = Ok(ReadOutcome::Block { length: 16 });
    assert_eq!(outcome(sense(SenseKey::RECOVERED_ERROR, 0x17, 0x01)), block);
    assert_eq!(outcome(end_of_medium(SenseKey::NO_SENSE, 0x00, 0x02, Some(0))), block);
    assert_eq!(outcome(sense(SenseKey::MEDIUM_ERROR, 0x11, 0x00)), Err(K::Medium));
    // The end of data was not found: not one to rely on.
    assert_eq!(outcome(sense(SenseKey::BLANK_CHECK, 0x14, 0x03)), Err(K::Medium));
    assert_eq!(outcome(sense(SenseKey::HARDWARE_ERROR, 0x44, 0x00)), Err(K::Hardware));
    assert_eq!(outcome(sense(SenseKey::DATA_PROTECT, 0x74, 0x01)), Err(K::Medium));
    assert_eq!(outcome(sense(SenseKey::NOT_READY, 0x3a, 0x00)), Err(K::NotReady));
    assert_eq!(outcome(sense(SenseKey::ABORTED_COMMAND, 0x4b, 0x00)), Err(K::Transport));
    assert_eq!(outcome(deferred(SenseKey::MEDIUM_ERROR, 0x0c, 0x00)), Err(K::Medium));
}

#[test]
fn warnings_are_told_and_the_record_counts() {
    let (mut drive, script) = writing();
    let write = || on(&write_command(4)).takes(b"ABCD");
    script.expect([
        write(),
        write().says(sense(SenseKey::NO_SENSE, 0x00, 0x07)),
        // The drive tells it once; it holds all the same.
        write(),
        write().says(end_of_medium(SenseKey::NO_SENSE, 0x00, 0x02, Some(0))),
        on(&WRITE_MARK).says(end_of_medium(SenseKey::NO_SENSE, 0x00, 0x02, None)),
        position(0, 12),
    ]);
    for expected in [Warning::None, Warning::Programmable, Warning::Programmable, Warning::Early] {
        assert_eq!(drive.write(b"ABCD").unwrap(), expected);
    }
    assert_eq!(drive.write_filemarks(1, false).unwrap(), Warning::Early);
    script.assert_done();
}

#[test]
fn a_full_tape_keeps_the_position_that_the_drive_confirms() {
    let (mut drive, script) = writing();
    script.expect([
        on(&write_command(4)).takes(b"ABCD").says(end_of_medium(SenseKey::VOLUME_OVERFLOW, 0x00, 0x02, Some(4))),
        position(0, 7),
        on(&[0x34, 8, 0, 0, 0, 0, 0, 0, 32, 0]).gives(&[0; 32]),
        position(0, 7),
        on(&[0x34, 8, 0, 0, 0, 0, 0, 0, 32, 0]).gives(&[0; 32]),
        on(&WRITE_MARK),
        position(0, 8),
    ]);
    let error = drive.write(b"ABCD").unwrap_err();
    assert_eq!((error.kind, error.sense.flags.end_of_medium, error.sense.information), (K::EndOfMedium, true, Some(4)));
    drive.write_filemarks(1, false).unwrap();
    script.assert_done();
}

#[test]
fn a_failed_write_that_moved_the_drive_locks_it_until_the_position_is_known() {
    let (mut drive, script) = writing();
    script.expect([
        on(&write_command(4)).takes(b"ABCD").says(sense(SenseKey::MEDIUM_ERROR, 0x0c, 0x00)),
        position(0, 5),
        on(&[0x34, 8, 0, 0, 0, 0, 0, 0, 32, 0]).gives(&[0; 32]),
        on(&ALERTS).says(unsupported()),
    ]);
    assert_eq!(kind(drive.write(b"ABCD")), K::Medium);
    assert_eq!(kind(drive.write(b"ABCD")), K::Transport);
    assert_eq!(kind(drive.read(&mut [0; 4])), K::Transport);
    assert_eq!(kind(drive.space(SpaceKind::Blocks, 1)), K::Transport);
    assert_eq!(kind(drive.erase(false)), K::Transport);
    script.assert_done();
    script.expect([on(&[0x01, 0, 0, 0, 0, 0]), position(0, 0)]);
    drive.rewind().unwrap();
    assert_eq!(drive.read_position().unwrap().position, Position { partition: 0, object: 0 });
    script.assert_done();
}

#[test]
fn deferred_errors_are_kept_apart() {
    for (key, expected) in [
        (SenseKey::MEDIUM_ERROR, K::Medium),
        (SenseKey::HARDWARE_ERROR, K::Hardware),
        (SenseKey::VOLUME_OVERFLOW, K::Medium),
    ] {
        let (mut drive, script) = writing();
        script.expect([
            on(&write_command(4)).takes(b"ABCD").says(deferred(key, 0x0c, 0x00)),
            on(&ALERTS).says(unsupported()),
        ]);
        let error = drive.write(b"ABCD").unwrap_err();
        assert!(error.sense.flags.deferred && error.kind == expected, "{error:?}");
        assert!(error.message.contains("what was accepted before is lost"), "{error}");
        // Records may be missing in front of the position.
        assert_eq!(kind(drive.write(b"ABCD")), K::Transport);
        script.assert_done();
    }
}

#[test]
fn a_deferred_error_that_was_mended_only_delays_the_command() {
    let (mut drive, script) = writing();
    let write = || on(&write_command(4)).takes(b"ABCD");
    script.expect([write().says(deferred(SenseKey::RECOVERED_ERROR, 0x0c, 0x00)), write()]);
    assert_eq!(drive.write(b"ABCD").unwrap(), Warning::None);
    script.assert_done();
}

#[test]
fn no_answer_means_no_position_until_it_is_asked_for() {
    let (mut drive, script) = writing();
    script.expect([on(&write_command(4)).takes(b"ABCD").fails(ErrorKind::TimedOut)]);
    let error = drive.write(b"ABCD").unwrap_err();
    assert!(error.kind == K::Transport && error.source.is_some(), "{error:?}");
    assert_eq!(kind(drive.write(b"ABCD")), K::Transport);
    script.assert_done();
    // The record may be there: the drive is asked, settings are confirmed, and writing goes on from where it says.
    script.expect([position(0, 8), on(&[0x34, 8, 0, 0, 0, 0, 0, 0, 32, 0]).gives(&[0; 32])]);
    assert_eq!(drive.read_position().unwrap().position.object, 8);
    script.expect(settling());
    script.expect([
        position(0, 8),
        on(&[0x34, 8, 0, 0, 0, 0, 0, 0, 32, 0]).gives(&[0; 32]),
        on(&write_command(4)).takes(b"ABCD"),
    ]);
    drive.write(b"ABCD").unwrap();
    script.assert_done();
}

#[test]
fn unit_attentions_are_told_apart() {
    for (asc, ascq, expected, locked) in [
        (0x28, 0x00, K::UnitAttention, true),
        (0x29, 0x00, K::Reset, true),
        (0x29, 0x03, K::Reset, true),
        (0x29, 0x07, K::Reset, true),
        (0x2a, 0x01, K::UnitAttention, false),
        (0x2a, 0x03, K::UnitAttention, true),
        (0x3f, 0x01, K::UnitAttention, false),
    ] {
        let (mut drive, script) = writing();
        script.expect([on(&TEST_UNIT_READY).says(sense(SenseKey::UNIT_ATTENTION, asc, ascq))]);
        assert_eq!(kind(drive.test_unit_ready()), expected, "{asc:02x}/{ascq:02x}");
        if locked {
            assert_eq!(kind(drive.write(b"ABCD")), K::Transport, "{asc:02x}/{ascq:02x}");
        } else {
            // The mode pages may be others': looked at, and set right, before the next record.
            script.expect([
                on(&sense_page(0x0f, 0)).gives(&compression(true, 0, 512)),
                on(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 32, 0]).takes(&{
                    let mut list = compression(false, 1, 0);
                    (list[1], list[16]) = (0, 0x0f);
                    list
                }),
                on(&sense_page(0x0f, 0)).gives(&compression(false, 1, 0)),
                on(&sense_page(0x10, 0)).gives(&device_configuration(0)),
                position(0, 7),
                on(&[0x34, 8, 0, 0, 0, 0, 0, 0, 32, 0]).gives(&[0; 32]),
                on(&write_command(4)).takes(b"ABCD"),
            ]);
            drive.write(b"ABCD").unwrap();
        }
        script.assert_done();
    }
}

#[test]
fn harmless_attentions_do_not_break_a_backup() {
    let (mut drive, script) = writing();
    let write = || on(&write_command(4)).takes(b"ABCD");
    script.expect([
        write().says(sense(SenseKey::UNIT_ATTENTION, 0x3f, 0x0e)),
        write().says(sense(SenseKey::UNIT_ATTENTION, 0x2a, 0x02)),
        write(),
    ]);
    drive.write(b"ABCD").unwrap();
    script.assert_done();
}

#[test]
fn statuses_other_than_good_and_check_condition() {
    for (status, expected) in [
        (0x18, K::ReservationConflict),
        (0x08, K::Hardware),
        (0x28, K::Hardware),
        (0x40, K::Transport),
        (0x02, K::Transport),
        (0x22, K::Transport),
    ] {
        let (mut drive, script) = writing();
        script.expect([on(&write_command(4)).takes(b"ABCD").status(status)]);
        if expected == K::Hardware {
            script.expect([on(&ALERTS).says(unsupported())]);
        }
        assert_eq!(kind(drive.write(b"ABCD")), expected, "{status:02x}");
    }
}

#[test]
fn a_drive_that_was_moved_by_others_is_not_written_to() {
    // Before the first write after reading.
    let (mut drive, script) = reading();
    script.expect([position(0, 0)]);
    let error = drive.write(b"ABCD").unwrap_err();
    assert!(
        error.kind == K::Transport && error.message.contains("object 0") && error.message.contains("at object 6"),
        "{error}"
    );
    assert_eq!(kind(drive.write(b"ABCD")), K::Transport);
    script.assert_done();
    // At the synchronisation: one record too many, as when a command was executed twice.
    let (mut drive, script) = writing();
    script.expect([on(&WRITE_MARK), position(0, 9)]);
    assert_eq!(kind(drive.write_filemarks(1, false)), K::Transport);
    script.assert_done();
}

#[test]
fn filemarks_that_only_keep_their_place_are_not_confirmed() {
    let (mut drive, script) = writing();
    script.expect([on(&[0x10, 1, 0, 0, 2, 0]), on(&SYNCHRONISE), position(0, 9)]);
    drive.write_filemarks(2, true).unwrap();
    assert_eq!(drive.write_filemarks(0, false).unwrap(), Warning::None);
    assert_eq!(kind(drive.write_filemarks(0x100_0000, false)), K::IllegalRequest);
    script.assert_done();
}

#[test]
fn space_tells_what_stopped_it_and_what_was_left() {
    let space = |kind, count: i64, cdb: &[u8], told| {
        let (mut drive, script) = reading();
        let exchange = on(cdb);
        script.expect([match told {
            Some(told) => exchange.says(told),
            None => exchange,
        }]);
        let outcome = drive.space(kind, count).map_err(|error| error.kind);
        (outcome, script.is_done())
    };
    let stopped = |stop, residue| (Ok(SpaceOutcome { stopped: Some((stop, residue)) }), true);
    let done = (Ok(SpaceOutcome { stopped: None }), true);
    let bop = |residue| end_of_medium(SenseKey::NO_SENSE, 0x00, 0x04, Some(residue));
    use SpaceKind::{Blocks, EndOfData, Filemarks};
    assert_eq!(space(Blocks, 3, &[0x11, 0, 0, 0, 3, 0], None), done);
    assert_eq!(space(Blocks, 3, &[0x11, 0, 0, 0, 3, 0], Some(filemark(2))), stopped(SpaceStop::Filemark, 2));
    assert_eq!(space(Blocks, -3, &[0x11, 0, 0xff, 0xff, 0xfd, 0], Some(filemark(3))), stopped(SpaceStop::Filemark, 3));
    assert_eq!(space(Blocks, -3, &[0x11, 0, 0xff, 0xff, 0xfd, 0], Some(filemark(-1))), stopped(SpaceStop::Filemark, 1));
    assert_eq!(space(Filemarks, 2, &[0x11, 1, 0, 0, 2, 0], Some(blank_check(1))), stopped(SpaceStop::EndOfData, 1));
    assert_eq!(
        space(Filemarks, -2, &[0x11, 1, 0xff, 0xff, 0xfe, 0], Some(bop(2))),
        stopped(SpaceStop::BeginningOfPartition, 2)
    );
    assert_eq!(space(EndOfData, 77, &[0x11, 3, 0, 0, 0, 0], None), done);
    assert_eq!(space(EndOfData, 0, &[0x11, 3, 0, 0, 0, 0], Some(blank_check(0))), done);
    let long = [0x91, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(space(Blocks, 1 << 24, &long, None), done);
    let back = [0x91, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(space(Filemarks, -0x80_0001, &back, None), done);
    // A residue that cannot be.
    for wrong in [0, 4, i64::MIN] {
        let (mut drive, script) = reading();
        script.expect([on(&[0x11, 0, 0, 0, 3, 0]).says(filemark(wrong)), on(&ALERTS).says(unsupported())]);
        assert_eq!(kind(drive.space(Blocks, 3)), K::Hardware, "{wrong}");
    }
}

#[test]
fn after_blocks_were_spaced_over_the_count_goes_on() {
    let (mut drive, script) = reading();
    script.expect([on(&[0x11, 0, 0xff, 0xff, 0xfe, 0]), position(0, 4), on(&write_command(4)).takes(b"ABCD")]);
    drive.space(SpaceKind::Blocks, -2).unwrap();
    drive.write(b"ABCD").unwrap();
    script.assert_done();
}

fn locate(partition: Option<u8>, object: u64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x92;
    (cdb[1], cdb[3]) = (if partition.is_some() { 2 } else { 0 }, partition.unwrap_or(0));
    cdb[4..12].copy_from_slice(&object.to_be_bytes());
    cdb
}

#[test]
fn locate_changes_the_partition_only_where_it_has_to() {
    let (mut drive, script) = reading();
    script.expect([on(&locate(None, 1 << 40)), on(&locate(Some(1), 3)), position(1, 3)]);
    drive.locate(Position { partition: 0, object: 1 << 40 }).unwrap();
    drive.locate(Position { partition: 1, object: 3 }).unwrap();
    assert_eq!(drive.read_position().unwrap().position, Position { partition: 1, object: 3 });
    script.expect([on(&locate(None, 99)).says(sense(SenseKey::BLANK_CHECK, 0x00, 0x05)), position(1, 17)]);
    assert_eq!(kind(drive.locate(Position { partition: 1, object: 99 })), K::EndOfData);
    assert_eq!(drive.read_position().unwrap().position.object, 17);
    script.assert_done();
}

#[test]
fn an_old_drive_gets_the_old_commands() {
    let script = Script::default();
    script.expect(opening(None));
    let mut short = vec![0; 20];
    (short[1], short[7]) = (0, 5);
    script
        .expect([on(&POSITION).says(sense(SenseKey::ILLEGAL_REQUEST, 0x24, 0x00)), on(&SHORT_POSITION).gives(&short)]);
    let mut drive = ScsiTapeDrive::open(script.clone()).unwrap();
    script.expect(settling());
    script.expect([
        on(&locate(None, 7)).says(unsupported()),
        on(&[0x2b, 0, 0, 0, 0, 0, 7, 0, 0, 0]),
        on(&[0x2b, 0, 0, 0, 0, 0, 8, 0, 0, 0]),
    ]);
    for object in [7, 8] {
        drive.locate(Position { partition: 0, object }).unwrap();
    }
    assert_eq!(kind(drive.locate(Position { partition: 0, object: 1 << 32 })), K::IllegalRequest);
    let report = {
        script.expect([on(&SHORT_POSITION).gives(&short)]);
        drive.read_position().unwrap()
    };
    assert_eq!((report.position.object, report.filemarks), (5, None));
    script.assert_done();
}

#[test]
fn what_stands_in_the_buffer_is_told() {
    let (mut drive, script) = writing();
    let mut extended = vec![0; 32];
    (extended[3], extended[7]) = (28, 1);
    script.expect([position(0, 7), on(&[0x34, 8, 0, 0, 0, 0, 0, 0, 32, 0]).gives(&extended)]);
    assert_eq!(drive.read_position().unwrap().objects_in_buffer, 1);
    script.expect([on(&SYNCHRONISE), position(0, 7), position(0, 7)]);
    drive.write_filemarks(0, false).unwrap();
    assert_eq!(drive.read_position().unwrap().objects_in_buffer, 0);
    script.assert_done();
}

#[test]
fn a_drive_that_does_not_know_where_it_stands_is_not_guessed_for() {
    let (mut drive, script) = writing();
    let mut unknown = at(0, 7, 0);
    unknown[0] = 0x0c;
    script.expect([on(&POSITION).gives(&unknown), on(&ALERTS).says(unsupported())]);
    let error = drive.read_position().unwrap_err();
    assert!(error.message.contains("does not know where it stands"), "{error}");
    for length in [0, 7, 23] {
        script.expect([on(&POSITION).gives(&at(0, 7, 0)[..length]), on(&ALERTS).says(unsupported())]);
        assert_eq!(kind(drive.read_position()), K::Hardware, "{length}");
    }
    script.assert_done();
}

const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 1, 0];

#[test]
fn a_load_tells_once_that_the_medium_changed() {
    let (mut drive, script) = drive_at(0);
    let mut alerts = vec![0x2e, 0, 0, 10];
    alerts.extend([0, 0x14, 3, 1, 1, 0, 0x15, 3, 1, 0]);
    script.expect([
        on(&LOAD).says(sense(SenseKey::UNIT_ATTENTION, 0x28, 0x00)),
        on(&LOAD),
        on(&TEST_UNIT_READY).says(sense(SenseKey::NOT_READY, 0x04, 0x01)),
        on(&TEST_UNIT_READY),
    ]);
    script.expect(settling());
    script.expect([on(&ALERTS).gives(&alerts)]);
    drive.load().unwrap();
    assert_eq!(drive.tape_alerts().numbers().collect::<Vec<_>>(), [0x14]);
    let attention = drive.test_unit_ready().unwrap_err();
    assert_eq!((attention.kind, attention.sense.additional.asc), (K::UnitAttention, 0x28));
    script.expect([on(&TEST_UNIT_READY), position(0, 0), on(&write_command(1)).takes(b"x")]);
    drive.test_unit_ready().unwrap();
    drive.write(b"x").unwrap();
    // The flags are the drive's no more; they are kept.
    script.expect([on(&ALERTS).gives(&[0x2e, 0, 0, 0])]);
    let page = drive.describe(Description::LogPage { page: 0x2e, subpage: 0 }).unwrap().unwrap();
    assert_eq!(page.len(), 4 + 64 * 5);
    assert_eq!((page[4 + 0x13 * 5 + 4], page[4 + 0x14 * 5 + 4]), (1, 0));
    script.assert_done();
}

#[test]
fn a_reset_during_a_load_is_told() {
    let (mut drive, script) = drive_at(0);
    script.expect([on(&LOAD).says(sense(SenseKey::UNIT_ATTENTION, 0x29, 0x00))]);
    assert_eq!(kind(drive.load()), K::Reset);
    script.assert_done();
}

#[test]
fn cleaning_and_firmware_cartridges_are_recognised_before_a_label_is_looked_for() {
    for (asc, ascq, expected) in
        [(0x30, 0x03, MediumType::Cleaning), (0x30, 0x07, MediumType::Cleaning), (0x04, 0x1c, MediumType::Firmware)]
    {
        let (mut drive, script) = drive_at(0);
        let told = sense(SenseKey::NOT_READY, asc, ascq);
        script.expect([on(&LOAD).says(told), on(&ALERTS).says(unsupported()), on(&TEST_UNIT_READY).says(told)]);
        drive.load().unwrap();
        let status = drive.medium_status().unwrap();
        assert_eq!((status.medium_type, status.write_protected), (expected, true));
        script.assert_done();
    }
}

fn read_attribute(id: u16) -> [u8; 16] {
    let [high, low] = id.to_be_bytes();
    [0x8c, 0, 0, 0, 0, 0, 0, 0, high, low, 0, 0, 4, 9, 0, 0]
}

fn attribute(id: u16, format: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = (value.len() as u32 + 5).to_be_bytes().to_vec();
    bytes.extend(id.to_be_bytes());
    bytes.push(format);
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes
}

fn partitions(additional: u8, write_protected: bool) -> Vec<u8> {
    let mut bytes = vec![0, 24, 0, if write_protected { 0x90 } else { 0x10 }, 0, 0, 0, 8, 0x5e, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([0x11, 8, 1, additional, 0x3c, 3, 9, 0, 0xff, 0xff]);
    bytes
}

#[test]
fn what_is_loaded() {
    let (mut drive, script) = drive_at(0);
    let mut capacity = vec![0x31, 0, 0, 32];
    for (code, count) in [(1_u8, 900_u32), (2, 0), (3, 1000), (4, 0)] {
        capacity.extend([0, code, 3, 4]);
        capacity.extend(count.to_be_bytes());
    }
    script.expect([
        on(&TEST_UNIT_READY),
        on(&read_attribute(0x0408)).gives(&attribute(0x0408, 0x80, &[0x80])),
        on(&sense_page(0x11, 0)).gives(&partitions(1, true)),
        on(&[0x4d, 0, 0x71, 0, 0, 0, 0, 0xff, 0xff, 0]).gives(&capacity),
        on(&read_attribute(0x0401)).gives(&attribute(0x0401, 0x81, b"SN0001          ")),
        on(&read_attribute(0x0806)).says(sense(SenseKey::ILLEGAL_REQUEST, 0x24, 0x00)),
    ]);
    let status = drive.medium_status().unwrap();
    assert_eq!((status.medium_type, status.write_protected, status.partitions), (MediumType::Worm, true, 2));
    assert_eq!((status.capacity_bytes, status.remaining_bytes), (1000 << 20, Some(900 << 20)));
    assert_eq!((status.serial.as_deref(), status.barcode), (Some("SN0001"), None));
    script.assert_done();
}

#[test]
fn attributes_are_read_and_written() {
    let (mut drive, script) = drive_at(0);
    script.expect([on(&read_attribute(0x0801)).gives(&attribute(0x0802, 1, b"later"))]);
    assert_eq!(drive.read_attribute(0x0801).unwrap(), None);
    // Longer than the first try has room for.
    let long = vec![7; 3000];
    let mut again = read_attribute(0x0801);
    again[10..14].copy_from_slice(&(4_u32 + 5 + 0xffff).to_be_bytes());
    script.expect([
        on(&read_attribute(0x0801)).gives(&attribute(0x0801, 0, &long)),
        on(&again).gives(&attribute(0x0801, 0, &long)),
    ]);
    assert_eq!(drive.read_attribute(0x0801).unwrap().unwrap().value, long);
    script.expect([on(&[0x8d, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 0, 0])
        .takes(&[0, 0, 0, 9, 8, 3, 1, 0, 4, b'n', b'a', b'm', b'e'])]);
    drive.write_attribute(&Attribute { id: 0x0803, format: 1, value: b"name".to_vec() }).unwrap();
    let too_long = Attribute { id: 0x0803, format: 1, value: vec![0; 0x1_0000] };
    assert_eq!(kind(drive.write_attribute(&too_long)), K::IllegalRequest);
    script.assert_done();
}

fn extension(megabytes: u16) -> Vec<u8> {
    let mut bytes = vec![0, 46, 0, 0x10, 0, 0, 0, 8, 0x5e, 0, 0, 0, 0, 0, 0, 0, 0x50, 1, 0, 28, 0, 1];
    bytes.extend(megabytes.to_be_bytes());
    bytes.resize(48, 0);
    bytes
}

#[test]
fn the_programmable_early_warning_is_what_the_drive_took() {
    let extension_sense = sense_page(0x10, 1);
    let select = [0x55, 0x10, 0, 0, 0, 0, 0, 0, 48, 0];
    let list = |megabytes| {
        let mut list = extension(megabytes);
        list[1] = 0;
        list
    };
    let (mut drive, script) = drive_at(0);
    for (read_back, taken) in [(3, true), (4, true), (2, false)] {
        script.expect([
            on(&extension_sense).gives(&extension(0)),
            on(&select).takes(&list(3)),
            on(&extension_sense).gives(&extension(read_back)),
        ]);
        assert_eq!(drive.set_programmable_early_warning(2_000_001).unwrap(), taken, "{read_back}");
    }
    script.expect([on(&extension_sense).says(sense(SenseKey::ILLEGAL_REQUEST, 0x24, 0x00))]);
    assert!(!drive.set_programmable_early_warning(1).unwrap());
    assert!(!drive.set_programmable_early_warning(u64::MAX).unwrap());
    script.assert_done();
}

#[test]
fn format_chooses_a_unit_that_the_drive_takes() {
    let (mut drive, script) = drive_at(0);
    let select = [0x55, 0x10, 0, 0, 0, 0, 0, 0, 28, 0];
    let list = |flags: u8, units: u8, size: u16| {
        let [high, low] = size.to_be_bytes();
        let mut bytes = vec![0, 0, 0, 0x10, 0, 0, 0, 8, 0x5e, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([0x11, 10, 1, 1, flags, 3, units, 0, 0xff, 0xff, high, low]);
        bytes
    };
    let invalid = sense(SenseKey::ILLEGAL_REQUEST, 0x26, 0x00);
    script.expect([
        on(&sense_page(0x11, 0)).gives(&partitions(0, false)),
        on(&select).takes(&list(0x34, 0, 36_000)).says(invalid),
        on(&select).takes(&list(0x3c, 6, 36_000)).says(invalid),
        on(&select).takes(&list(0x3c, 9, 36)).says(sense(SenseKey::RECOVERED_ERROR, 0x37, 0x00)),
    ]);
    script.expect(settling());
    script.expect([on(&locate(None, 0)), on(&[0x04, 0, 1, 0, 0, 0])]);
    drive.format_medium(Some(36_000_000_000)).unwrap();
    script.assert_done();
    script.expect([on(&sense_page(0x11, 0)).gives(&partitions(1, true))]);
    assert_eq!(kind(drive.format_medium(None)), K::WriteProtected);
    script.assert_done();
}

#[test]
fn pages_are_passed_on_as_long_as_they_say() {
    let (mut drive, script) = drive_at(0);
    let log = on(&[0x4d, 0, 0x42, 0, 0, 0, 0, 0xff, 0xff, 0]);
    script.expect([
        log.clone().gives(&[2, 0, 0, 3, 1, 2, 3, 9, 9]),
        log.says(sense(SenseKey::ILLEGAL_REQUEST, 0x24, 0x00)),
        on(&[0x12, 1, 0xb1, 0xff, 0xff, 0]).gives(&[1, 0xb1, 0, 2, b'A', b'B', 0]),
        on(&[0x44, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0]).gives(&[0, 2, 0, 0, 7]),
        on(&[0x5a, 0, 0x0a, 0, 0, 0, 0, 0xff, 0xff, 0]).gives(&[0, 6, 0, 0x10, 0, 0, 0, 0]),
        on(&[0x8c, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 4, 0, 0]).gives(&[0, 0, 0, 4, 4, 1, 8, 6]),
    ]);
    let page = Description::LogPage { page: 2, subpage: 0 };
    assert_eq!(drive.describe(page).unwrap(), Some(vec![2, 0, 0, 3, 1, 2, 3]));
    assert_eq!(drive.describe(page).unwrap(), None);
    assert_eq!(
        drive.describe(Description::VitalProductData { page: 0xb1 }).unwrap(),
        Some(vec![1, 0xb1, 0, 2, b'A', b'B'])
    );
    assert_eq!(drive.describe(Description::DensitySupport { medium: true }).unwrap(), Some(vec![0, 2, 0, 0]));
    let mode = Description::ModePage { page: 0x0a, subpage: 0 };
    assert_eq!(drive.describe(mode).unwrap(), Some(vec![0, 6, 0, 0x10, 0, 0, 0, 0]));
    assert_eq!(drive.describe(Description::AttributeList).unwrap(), Some(vec![4, 1, 8, 6]));
    script.assert_done();
}

#[test]
fn block_limits_are_those_of_drive_and_way() {
    let (mut drive, script) = drive_at(0);
    let limits = |exchange: &[u8]| on(&[0x05, 0, 0, 0, 0, 0]).gives(exchange);
    script.expect([limits(&[0, 0x80, 0, 0, 0, 1]), limits(&[0, 0, 0x80, 0, 0, 4]), limits(&[0, 0, 0, 0, 0, 0])]);
    let told = |drive: &mut ScsiTapeDrive<Script>| {
        let limits = drive.block_limits().unwrap();
        (limits.minimum, limits.maximum)
    };
    assert_eq!(told(&mut drive), (1, 1 << 20));
    assert_eq!(told(&mut drive), (4, 32768));
    assert_eq!(told(&mut drive), (1, 1 << 20));
    assert_eq!(kind(drive.write(&[])), K::IllegalRequest);
    assert_eq!(kind(drive.write(&vec![0; (1 << 20) + 1])), K::IllegalRequest);
    script.assert_done();
}
