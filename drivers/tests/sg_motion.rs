//! SPACE, LOCATE and READ POSITION: golden exchanges.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sg_support;

use sealtape_drivers::medium::{DriveErrorKind as K, Position, SpaceKind, SpaceOutcome, SpaceStop, TapeDrive};
use sealtape_drivers::scsi::SenseKey;
use sealtape_drivers::sg::ScsiTapeDrive;
use sg_support::*;

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
