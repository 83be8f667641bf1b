//! Opening a drive, READ, WRITE, WRITE FILEMARKS and what a drive says of them: golden exchanges.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sg_support;

use std::io::ErrorKind;

use sealtape_drivers::medium::{DriveErrorKind as K, Position, ReadOutcome, SpaceKind, TapeDrive, Warning};
use sealtape_drivers::scsi::SenseKey;
use sealtape_drivers::sg::ScsiTapeDrive;
use sg_support::*;

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
