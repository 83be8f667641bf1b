//! What a medium changer tells, and what is made of a changer that tells nonsense.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sg_support;

use sealtape_drivers::scsi::SenseKey;
use sealtape_drivers::sg::{Changer, SlotKind};
use sg_support::*;

const ASSIGNMENT: [u8; 6] = [0x1a, 8, 0x1d, 0, 252, 0];

fn opening() -> Vec<Exchange> {
    let mut inquiry = vec![0x08, 0x80, 0x05, 0x02, 91, 0, 0, 0];
    inquiry.extend(b"ACME    LIBRARY         0100");
    inquiry.resize(96, 0);
    vec![
        on(&[0x12, 0, 0, 0, 252, 0]).gives(&inquiry),
        on(&[0x12, 1, 0x80, 0, 252, 0]).gives(b"\x08\x80\x00\x04LIB1"),
        on(&TEST_UNIT_READY).says(sense(SenseKey::UNIT_ATTENTION, 0x28, 0x01)),
        on(&TEST_UNIT_READY),
    ]
}

/// First address and count of transports, slots, mail slots, drives.
fn assignment(fields: [u16; 8]) -> Exchange {
    let mut page = vec![23, 0, 0, 0, 0x1d, 18];
    page.extend(fields.into_iter().flat_map(u16::to_be_bytes));
    page.extend([0, 0]);
    on(&ASSIGNMENT).gives(&page)
}

fn status(kind: u8, first: u16, count: u16, identifiers: bool) -> [u8; 12] {
    let ([a, b], [c, d]) = (first.to_be_bytes(), count.to_be_bytes());
    [0xb8, 0x10 | kind, a, b, c, d, u8::from(identifiers), 4, 0, 0, 0, 0]
}

/// One page of descriptors with primary volume tags: address, barcode, source, identifier.
fn page(kind: u8, elements: &[(u16, Option<&str>, Option<u16>, &str)]) -> Vec<u8> {
    const LENGTH: usize = 12 + 36 + 4 + 10;
    let mut list = vec![kind, 0x80, 0, LENGTH as u8];
    list.extend(((elements.len() * LENGTH) as u32).to_be_bytes());
    for (address, barcode, source, serial) in elements {
        let mut element = address.to_be_bytes().to_vec();
        element.extend([
            if barcode.is_some() { 9 } else { 8 },
            0,
            0,
            0,
            0,
            0,
            0,
            if source.is_some() { 0x80 } else { 0 },
        ]);
        element.extend(source.unwrap_or(0).to_be_bytes());
        element.extend(format!("{:32}", barcode.unwrap_or("")).bytes().chain([0; 4]));
        element.extend([2, 0, 0, serial.len() as u8]);
        element.extend(serial.bytes());
        element.resize(LENGTH, 0);
        list.extend(element);
    }
    let mut bytes = vec![0, 0, 0, elements.len() as u8, 0, 0, 0, list.len() as u8];
    bytes[5..8].copy_from_slice(&(list.len() as u32).to_be_bytes()[1..]);
    bytes.extend(list);
    bytes
}

#[test]
fn slots_and_drives_with_barcodes_and_serial_numbers() {
    let script = Script::default();
    script.expect(opening());
    let mut changer = Changer::open(script.clone()).unwrap();
    assert_eq!((changer.name(), changer.serial()), ("ACME LIBRARY", Some("LIB1")));
    script.expect([
        assignment([1, 1, 1000, 3, 10, 0, 256, 2]),
        on(&status(1, 1, 1, false)).gives(&page(1, &[(1, None, None, "")])),
        on(&status(2, 1000, 3, false)).gives(&page(
            2,
            &[(1000, Some("TAPE01L8"), None, ""), (1001, None, None, ""), (1002, Some("CLN001L1"), None, "")],
        )),
        on(&status(4, 256, 2, true))
            .gives(&page(4, &[(256, Some("TAPE02L8"), Some(1001), "0123456789"), (257, None, None, "0123456790")])),
    ]);
    let inventory = changer.inventory().unwrap();
    script.assert_done();
    let slots: Vec<_> =
        inventory.slots.iter().map(|slot| (slot.address, slot.kind, slot.barcode.as_deref(), slot.cleaning)).collect();
    assert_eq!(
        slots,
        [
            (1, SlotKind::Transport, None, false),
            (1000, SlotKind::Storage, Some("TAPE01L8"), false),
            (1001, SlotKind::Storage, None, false),
            (1002, SlotKind::Storage, Some("CLN001L1"), true),
        ]
    );
    let drives: Vec<_> = inventory
        .drives
        .iter()
        .map(|drive| (drive.address, drive.serial.as_deref(), drive.barcode.as_deref(), drive.source))
        .collect();
    assert_eq!(
        drives,
        [(256, Some("0123456789"), Some("TAPE02L8"), Some(1001)), (257, Some("0123456790"), None, None)]
    );
}

#[test]
fn what_comes_in_parts_is_asked_for_on() {
    let script = Script::default();
    script.expect(opening());
    let mut changer = Changer::open(script.clone()).unwrap();
    script.expect([
        assignment([0, 0, 10, 600, 0, 0, 0, 0]),
        on(&status(2, 10, 512, false)).gives(&page(2, &[(10, None, None, ""), (11, None, None, "")])),
        on(&status(2, 12, 512, false)).gives(&page(2, &[(609, Some("LAST"), None, "")])),
    ]);
    assert_eq!(changer.inventory().unwrap().slots.len(), 3);
    script.assert_done();
}

#[test]
fn without_identifiers_the_drives_are_there_all_the_same() {
    let script = Script::default();
    script.expect(opening());
    let mut changer = Changer::open(script.clone()).unwrap();
    script.expect([
        assignment([0, 0, 0, 0, 0, 0, 256, 1]),
        on(&status(4, 256, 1, true)).says(sense(SenseKey::ILLEGAL_REQUEST, 0x24, 0x00)),
        on(&status(4, 256, 1, false)).gives(&page(4, &[(256, None, None, "")])),
    ]);
    let inventory = changer.inventory().unwrap();
    assert_eq!((inventory.drives.len(), inventory.drives[0].serial.clone()), (1, None));
    script.assert_done();
}

#[test]
fn a_changer_that_tells_the_same_again_and_again_ends() {
    let script = Script::default();
    script.expect(opening());
    let mut changer = Changer::open(script.clone()).unwrap();
    let same = page(2, &[(10, None, None, "")]);
    script.expect([
        assignment([0, 0, 10, 4000, 0, 0, 0, 0]),
        on(&status(2, 10, 512, false)).gives(&same),
        on(&status(2, 11, 512, false)).gives(&same),
    ]);
    assert_eq!(changer.inventory().unwrap().slots.len(), 1);
    script.assert_done();
    script.expect([on(&ASSIGNMENT).gives(&[3, 0, 0, 0])]);
    let error = changer.inventory().unwrap_err();
    assert!(error.message.contains("no element address assignment page"), "{error}");
}
