//! LOAD, the medium, its attributes and partitions, settings, and what the drive says of itself: golden exchanges.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sg_support;

use sealtape_drivers::medium::{Attribute, Description, DriveErrorKind as K, MediumType, TapeDrive};
use sealtape_drivers::scsi::SenseKey;
use sealtape_drivers::sg::ScsiTapeDrive;
use sg_support::*;

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
