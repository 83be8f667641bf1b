//! Element status, density support, supported operation codes and the small reports against SMC-3 6.11, SSC-4 7.11 and SPC-4
//! 6.25 to 6.45; expected bytes are written by hand, or come from drives where that is said.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sealtape_drivers::scsi::{
    CommandSupport, CommandTimeouts, Density, DensitySupport, Designator, Element, ElementPage, ElementStatus,
    ElementType, LogicalUnits, MediaSerialNumber, MediumTypeDescriptor, MediumTypeSupport, Support, SupportedCommand,
    SupportedCommands, TaskManagement, Timestamp, VolumeTag, WireError,
};

fn tag(identification: &str) -> Option<VolumeTag> {
    Some(VolumeTag { identification: identification.into(), sequence: 0 })
}

/// A changer with two slots and a drive, asked with VOLTAG and DVCID.
fn library() -> (ElementStatus, Vec<u8>) {
    let slots = vec![
        Element {
            address: 0x0400,
            full: true,
            accessible: true,
            medium_type: 1,
            primary_tag: tag("SEA001L8"),
            ..Element::default()
        },
        Element { address: 0x0401, exception: true, asc: 0x83, ascq: 0x01, disabled: true, ..Element::default() },
    ];
    let drive = Element {
        address: 0x0100,
        full: true,
        accessible: true,
        inverted: true,
        source: Some(0x0402),
        primary_tag: tag("SEA002L8"),
        device: Some(Designator {
            protocol: None,
            code_set: 2,
            association: 0,
            kind: Designator::T10_VENDOR_ID,
            bytes: b"IBM     ULT3580-TD8     1013000123".to_vec(),
        }),
        ..Element::default()
    };
    let port = Element {
        address: 0x0010,
        full: true,
        placed_by_operator: true,
        export_enabled: true,
        import_enabled: true,
        ..Element::default()
    };
    let page = |kind, primary_tags, elements| ElementPage { kind, primary_tags, alternate_tags: false, elements };
    let status = ElementStatus {
        first: 0x0010,
        available: 4,
        pages: vec![
            page(ElementType::IMPORT_EXPORT, false, vec![port]),
            page(ElementType::DATA_TRANSFER, true, vec![drive]),
            page(ElementType::STORAGE, true, slots),
        ],
    };
    let mut bytes = vec![0x00, 0x10, 0x00, 0x04, 0, 0, 0x00, 8 + 16 + 8 + 86 + 8 + 104];
    bytes.extend([0x03, 0x00, 0x00, 16, 0, 0, 0, 16]);
    bytes.extend([0x00, 0x10, 0x33, 0, 0, 0, 0, 0, 0, 0x00, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0x04, 0x80, 0x00, 86, 0, 0, 0, 86]);
    bytes.extend([0x01, 0x00, 0x09, 0, 0, 0, 0, 0, 0, 0xc0, 0x04, 0x02]);
    bytes.extend(b"SEA002L8                        \0\0\0\0");
    bytes.extend([0x02, 0x01, 0, 34]);
    bytes.extend(b"IBM     ULT3580-TD8     1013000123");
    bytes.extend([0x02, 0x80, 0x00, 52, 0, 0, 0, 104]);
    bytes.extend([0x04, 0x00, 0x09, 0, 0, 0, 0, 0, 0, 0x01, 0, 0]);
    bytes.extend(b"SEA001L8                        \0\0\0\0\0\0\0\0");
    bytes.extend([0x04, 0x01, 0x04, 0, 0x83, 0x01, 0, 0, 0, 0x08, 0, 0]);
    bytes.extend([0; 40]);
    (status, bytes)
}

#[test]
fn element_status() {
    let (status, bytes) = library();
    assert_eq!(status.to_bytes(), bytes);
    let read = ElementStatus::parse(&bytes).unwrap();
    assert_eq!(read, status);
    assert_eq!(ElementStatus::wanted(&bytes[..8]), bytes.len());
    let drive = &read.pages[1].elements[0];
    assert_eq!((drive.drive_serial().unwrap().as_str(), drive.barcode()), ("1013000123", Some("SEA002L8")));
    assert_eq!(read.elements().filter(|(kind, _)| *kind == ElementType::STORAGE).count(), 2);
}

#[test]
fn element_status_that_was_cut_or_is_wrong() {
    let (_, bytes) = library();
    // Header alone: how much there is to fetch.
    let header = ElementStatus::parse(&bytes[..8]).unwrap();
    assert_eq!((header.available, header.pages.len()), (4, 0));
    let cut = ElementStatus::parse(&bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(cut.pages[2].elements.len(), 1);
    let mut short = bytes.clone();
    short[8 + 3] = 11;
    assert_eq!(ElementStatus::parse(&short), Err(WireError::Invalid { what: "element status data", at: 10 }));
    assert!(ElementStatus::parse(&bytes[..7]).is_err());
    // Byte counts that promise 16 MiB.
    let empty = [0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 4, 0, 0, 12, 0, 0xff, 0xff, 0xff];
    assert_eq!(ElementStatus::parse(&empty).unwrap().elements().count(), 0);
}

/// Some changers give nothing but the serial number, in a field of 10 characters.
#[test]
fn a_device_identifier_that_is_only_a_serial_number() {
    let device = |kind, bytes: &[u8]| Element {
        device: Some(Designator { protocol: None, code_set: 2, association: 0, kind, bytes: bytes.to_vec() }),
        ..Element::default()
    };
    assert_eq!(device(0, b"XYZZY_A1  ").drive_serial().as_deref(), Some("XYZZY_A1"));
    assert_eq!(device(1, b"HPE     CZ1234").drive_serial().as_deref(), Some("CZ1234"));
    assert_eq!(device(1, b"HPE").drive_serial(), None);
    assert_eq!(device(3, &[0x50, 1, 2, 3, 4, 5, 6, 7]).drive_serial(), None);
    assert_eq!(device(0, b"    ").drive_serial(), None);
}

/// As an HP Ultrium 5 drive answered (published with sg3_utils as `rep_density.hex`).
const LTO_5_DENSITIES: &[u8] = b"\x00\x9e\x00\x00\
    \x44\x44\x00\x00\x00\x00\x25\xa6\x00\x7f\x02\xc0\x00\x06\x1a\x80LTO-CVE U-316   Ultrium 3/16T       \
    \x46\x46\x80\x00\x00\x00\x31\xb5\x00\x7f\x03\x80\x00\x0c\x35\x00LTO-CVE U-416   Ultrium 4/16T       \
    \x58\x58\xa0\x00\x00\x00\x3b\x26\x00\x7f\x05\x00\x00\x16\xe3\x60LTO-CVE U-516   Ultrium 5/16T       ";

#[test]
fn densities_of_a_drive() {
    let read = DensitySupport::parse(LTO_5_DENSITIES).unwrap();
    assert_eq!(read.0.len(), 3);
    let lto_5 = Density {
        primary: 0x58,
        secondary: 0x58,
        writable: true,
        duplicate: false,
        default: true,
        bits_per_mm: 15142,
        media_width: 127,
        tracks: 1280,
        capacity: 1_500_000,
        organization: "LTO-CVE".into(),
        name: "U-516".into(),
        description: "Ultrium 5/16T".into(),
    };
    assert_eq!(read.0[2], lto_5);
    assert_eq!((read.0[0].writable, read.0[0].capacity), (false, 400_000));
    assert_eq!(read.to_bytes(), LTO_5_DENSITIES);
    assert_eq!(DensitySupport::parse(&LTO_5_DENSITIES[..159]).unwrap().0.len(), 2);
    // DLV with a descriptor too short.
    let mut wrong = LTO_5_DENSITIES.to_vec();
    wrong[4 + 2] |= 1;
    assert_eq!(DensitySupport::parse(&wrong), Err(WireError::Invalid { what: "density support data", at: 7 }));
}

#[test]
fn medium_types_of_a_drive() {
    // The same drive, with MEDIUM TYPE (`rep_density_media_typem.hex`).
    let bytes = b"\x00\x3a\x00\x00\
        \x00\x00\x00\x34\x01\x58\x00\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x4e\x00\x00\
        HP      LTO5DataUltrium 5 Data Tape ";
    let medium = MediumTypeDescriptor {
        medium_type: 0,
        densities: vec![0x58],
        media_width: 127,
        medium_length: 846,
        organization: "HP".into(),
        name: "LTO5Data".into(),
        description: "Ultrium 5 Data Tape".into(),
    };
    let types = MediumTypeSupport(vec![medium]);
    assert_eq!(MediumTypeSupport::parse(bytes).unwrap(), types);
    assert_eq!(types.to_bytes(), bytes);
    let mut wrong = bytes.to_vec();
    wrong[7] = 51;
    assert_eq!(MediumTypeSupport::parse(&wrong), Err(WireError::Invalid { what: "density support data", at: 6 }));
}

#[test]
fn all_commands() {
    let timeouts = CommandTimeouts { command_specific: 0, nominal: 60, recommended: 0x5678 };
    let rewind = SupportedCommand { operation: 0x01, service_action: None, cdb_length: 6, timeouts: Some(timeouts) };
    let codes = SupportedCommand { operation: 0xa3, service_action: Some(0x0c), cdb_length: 12, timeouts: None };
    let bytes = [
        0, 0, 0, 28, // header
        0x01, 0, 0, 0, 0, 0x02, 0, 6, 0, 10, 0, 0, 0, 0, 0, 60, 0, 0, 0x56, 0x78, // REWIND
        0xa3, 0, 0, 0x0c, 0, 0x01, 0, 12, // REPORT SUPPORTED OPERATION CODES
    ];
    let list = SupportedCommands(vec![rewind, codes]);
    assert_eq!(list.to_bytes(), bytes);
    assert_eq!(SupportedCommands::parse(&bytes).unwrap(), list);
    assert_eq!(SupportedCommands::parse(&bytes[..23]).unwrap().0, []);
    assert_eq!(list.find(0xa3, Some(0x0c)), Some(&codes));
    assert_eq!(list.find(0x01, None).unwrap().timeouts.unwrap().limit(), Some(Duration::from_secs(0x5678)));
    assert_eq!(CommandTimeouts::default().limit(), None);
}

#[test]
fn one_command() {
    let bytes = [0, 0x83, 0, 6, 0x01, 0x01, 0, 0, 0, 0, 0, 10, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    let rewind = CommandSupport {
        support: Support::STANDARD,
        usage: vec![0x01, 0x01, 0, 0, 0, 0],
        timeouts: Some(CommandTimeouts { command_specific: 1, nominal: 2, recommended: 3 }),
    };
    assert_eq!(rewind.to_bytes(), bytes);
    assert_eq!(CommandSupport::parse(&bytes).unwrap(), rewind);
    assert_eq!(CommandSupport::parse(&bytes[..12]).unwrap().timeouts, None);
    assert_eq!(CommandSupport::NOT_SUPPORTED.to_bytes(), [0, 1, 0, 0]);
    assert_eq!(CommandSupport::parse(&[0, 1]).unwrap(), CommandSupport::NOT_SUPPORTED);
    assert!(CommandSupport::parse(&[0]).is_err());
}

#[test]
fn task_management() {
    let some = TaskManagement {
        abort_task: true,
        clear_task_set: true,
        logical_unit_reset: true,
        query_task_set: true,
        ..TaskManagement::default()
    };
    assert_eq!(some.to_bytes(false), [0x98, 0x02, 0, 0]);
    assert_eq!(some.to_bytes(true), [0x98, 0x02, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(TaskManagement::parse(&[0x98, 0x02, 0, 0]).unwrap(), some);
    let others = TaskManagement {
        abort_task_set: true,
        clear_aca: true,
        query_task: true,
        query_asynchronous_event: true,
        i_t_nexus_reset: true,
        ..TaskManagement::default()
    };
    assert_eq!(others.to_bytes(false), [0x64, 0x05, 0, 0]);
    assert_eq!(TaskManagement::parse(&others.to_bytes(true)).unwrap(), others);
}

#[test]
fn small_reports() {
    let units = LogicalUnits(vec![[0; 8], [0, 1, 0, 0, 0, 0, 0, 0]]);
    let bytes = [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(units.to_bytes(), bytes);
    assert_eq!(LogicalUnits::parse(&bytes).unwrap(), units);
    assert_eq!(LogicalUnits::parse(&bytes[..23]).unwrap().0.len(), 1);

    let clock = Timestamp { origin: 2, milliseconds: 0x0102_0304_0506 };
    let bytes = [0, 10, 2, 0, 1, 2, 3, 4, 5, 6, 0, 0];
    assert_eq!(clock.to_bytes(), bytes);
    assert_eq!(Timestamp::parse(&bytes).unwrap(), clock);
    assert_eq!(clock.to_list(), [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0]);
    assert!(Timestamp::parse(&bytes[..9]).is_err());

    let serial = MediaSerialNumber("A1B2C".into());
    assert_eq!(serial.to_bytes(), b"\0\0\0\x08A1B2C   ");
    assert_eq!(MediaSerialNumber::parse(b"\0\0\0\x08A1B2C   ").unwrap(), serial);
    assert_eq!(MediaSerialNumber::parse(b"\0\0\0\0").unwrap().to_bytes(), b"\0\0\0\0");
}

fn words(most: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("([ -~]{{0,{}}}[!-~])?", most - 1)).unwrap()
}

fn any_tag() -> impl Strategy<Value = Option<VolumeTag>> {
    proptest::option::of((words(32), 1..u16::MAX))
        .prop_map(|tag| tag.map(|(identification, sequence)| VolumeTag { identification, sequence }))
}

prop_compose! {
    fn any_element()(
        address: u16, flags: [bool; 8], asc: u8, ascq: u8, medium_type in 0..8_u8, source: Option<u16>,
        primary_tag in any_tag(), alternate_tag in any_tag(),
        device in proptest::option::of((0..16_u8, 0..16_u8, vec(any::<u8>(), 1..250))),
    ) -> Element {
        let [full, placed_by_operator, exception, accessible, export_enabled, import_enabled, inverted, disabled] = flags;
        let device = device.map(|(code_set, kind, bytes)| {
            Designator { protocol: None, code_set, association: 0, kind, bytes }
        });
        Element {
            address, full, placed_by_operator, exception, accessible, export_enabled, import_enabled, asc, ascq,
            inverted, disabled, medium_type, source, primary_tag, alternate_tag, device,
        }
    }
}

prop_compose! {
    fn any_page()(
        kind in 0..16_u8, primary_tags: bool, alternate_tags: bool, mut elements in vec(any_element(), 0..5),
    ) -> ElementPage {
        for element in &mut elements {
            element.primary_tag = element.primary_tag.take().filter(|_| primary_tags);
            element.alternate_tag = element.alternate_tag.take().filter(|_| alternate_tags);
        }
        ElementPage { kind: ElementType(kind), primary_tags, alternate_tags, elements }
    }
}

proptest! {
    #[test]
    fn element_status_comes_back(first: u16, available: u16, pages in vec(any_page(), 0..4)) {
        let status = ElementStatus { first, available, pages };
        prop_assert_eq!(ElementStatus::parse(&status.to_bytes()).unwrap(), status);
    }

    #[test]
    fn densities_come_back(
        codes: (u8, u8), flags: (bool, bool, bool), bits_per_mm in 0..1_u32 << 24, media_width: u16, tracks: u16,
        capacity: u32, texts in (words(8), words(8), words(20)), medium_length: u16,
        densities in vec(any::<u8>(), 0..10),
    ) {
        let density = Density {
            primary: codes.0, secondary: codes.1, writable: flags.0, duplicate: flags.1, default: flags.2, bits_per_mm,
            media_width, tracks, capacity, organization: texts.0.clone(), name: texts.1.clone(), description: texts.2.clone(),
        };
        let list = DensitySupport(vec![density.clone(), density]);
        prop_assert_eq!(DensitySupport::parse(&list.to_bytes()).unwrap(), list);
        let medium = MediumTypeDescriptor {
            medium_type: codes.0, densities, media_width, medium_length, organization: texts.0, name: texts.1,
            description: texts.2,
        };
        let list = MediumTypeSupport(vec![medium.clone(), medium]);
        prop_assert_eq!(MediumTypeSupport::parse(&list.to_bytes()).unwrap(), list);
    }

    #[test]
    fn commands_come_back(
        list in vec((any::<u8>(), any::<Option<u16>>(), any::<u16>(), any::<Option<(u8, u32, u32)>>()), 0..9),
        support in 0..8_u8, usage in vec(any::<u8>(), 0..32), luns in vec(any::<[u8; 8]>(), 0..9),
    ) {
        let timeouts = |told: Option<(u8, u32, u32)>| told.map(|(command_specific, nominal, recommended)| {
            CommandTimeouts { command_specific, nominal, recommended }
        });
        let one = CommandSupport {
            support: Support(support), usage, timeouts: timeouts(list.first().and_then(|&(.., told)| told)),
        };
        prop_assert_eq!(CommandSupport::parse(&one.to_bytes()).unwrap(), one);
        let list = list.into_iter().map(|(operation, service_action, cdb_length, told)| {
            SupportedCommand { operation, service_action, cdb_length, timeouts: timeouts(told) }
        });
        let list = SupportedCommands(list.collect());
        prop_assert_eq!(SupportedCommands::parse(&list.to_bytes()).unwrap(), list);
        let units = LogicalUnits(luns);
        prop_assert_eq!(LogicalUnits::parse(&units.to_bytes()).unwrap(), units);
    }

    #[test]
    fn clocks_and_serial_numbers_come_back(origin in 0..8_u8, milliseconds in 0..1_u64 << 48, serial in words(40)) {
        let clock = Timestamp { origin, milliseconds };
        prop_assert_eq!(Timestamp::parse(&clock.to_bytes()).unwrap(), clock);
        prop_assert_eq!(Timestamp::parse(&clock.to_list()).unwrap(), Timestamp { origin: 0, milliseconds });
        let serial = MediaSerialNumber(serial);
        prop_assert_eq!(MediaSerialNumber::parse(&serial.to_bytes()).unwrap(), serial);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400), length in 0..120_u8) {
        let head = [0, 0, 0, 9, 0, 0, 4, 0, length & 0x0f, length << 3, 0, length, 0, 0, 3, 0];
        for bytes in [&bytes[..], &[&head, &bytes[..]].concat(), &[&[0, 0, 2, 0], &bytes[..]].concat()] {
            if let Ok(status) = ElementStatus::parse(bytes) {
                prop_assert!(status.elements().count() <= bytes.len() / 12);
                status.elements().for_each(|(_, element)| drop((element.drive_serial(), element.barcode().is_some())));
                let _ = status.to_bytes();
            }
            let _ = DensitySupport::parse(bytes);
            let _ = MediumTypeSupport::parse(bytes);
            let _ = SupportedCommands::parse(bytes);
            let _ = CommandSupport::parse(bytes);
            let _ = TaskManagement::parse(bytes);
            let _ = LogicalUnits::parse(bytes);
            let _ = Timestamp::parse(bytes);
            let _ = MediaSerialNumber::parse(bytes);
        }
    }
}
