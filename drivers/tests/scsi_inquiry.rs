//! INQUIRY, READ POSITION and READ BLOCK LIMITS data against SPC-4 6.6 and 7.8, SSC-4 7.5, 7.6 and 8.6; expected bytes are
//! written by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use sealtape_drivers::scsi::{
    BlockLengthLimits, Designator, ExtendedInquiry, Location, MaximumLogicalObject, Peripheral, PositionData,
    StandardInquiry, TapeAlertFlags, VERSION_SPC_4, Vpd, WireError, version,
};

/// As an LTO-8 drive says it: SPC-4, removable, tagged commands, two ports, logical block protection.
fn lto_8() -> (StandardInquiry, Vec<u8>) {
    let data = StandardInquiry {
        peripheral: Peripheral::TAPE,
        removable: true,
        version: VERSION_SPC_4,
        target_port_groups: 1,
        protect: true,
        multiple_ports: true,
        command_queuing: true,
        vendor: "IBM".into(),
        product: "ULT3580-TD8".into(),
        revision: "N9M1".into(),
        vendor_specific: *b"12345678901234567890",
        version_descriptors: vec![version::SAM_5, version::SPC_4, version::SSC_4, version::SPL_2],
    };
    let mut bytes = vec![0x01, 0x80, 0x06, 0x02, 0x5b, 0x11, 0x10, 0x02];
    bytes.extend(b"IBM     ULT3580-TD8     N9M112345678901234567890");
    bytes.extend([0, 0, 0x00, 0xa0, 0x04, 0x60, 0x05, 0x20, 0x20, 0xc0]);
    bytes.resize(96, 0);
    (data, bytes)
}

#[test]
fn standard_inquiry_data() {
    let (data, bytes) = lto_8();
    assert_eq!(data.to_bytes(), bytes);
    assert_eq!(StandardInquiry::parse(&bytes).unwrap(), data);
}

#[test]
fn standard_inquiry_data_that_was_cut_or_is_short() {
    let (data, bytes) = lto_8();
    let cut = StandardInquiry::parse(&bytes[..36]).unwrap();
    assert_eq!((cut.product, cut.revision, cut.version_descriptors), (data.product, data.revision, vec![]));
    let mut short = bytes.clone();
    short[4] = 31; // 36 bytes: what follows is not INQUIRY data
    assert_eq!(StandardInquiry::parse(&short).unwrap().version_descriptors, Vec::<u16>::new());
    let refused = WireError::Short { what: "standard INQUIRY data", needed: 5, have: 4 };
    assert_eq!(StandardInquiry::parse(&bytes[..4]), Err(refused));
    assert_eq!(StandardInquiry::parse(&[0x7f, 0, 0, 0, 0]).unwrap().peripheral, Peripheral::NONE);
}

#[test]
fn vital_product_data() {
    let mut alerts = TapeAlertFlags::default();
    alerts.set(1);
    alerts.set(20);
    alerts.set(64);
    let identification = vec![
        Designator::t10_vendor_id("HPE", "Ultrium 8-SCSI  CZ12345678"),
        Designator::naa(Designator::LOGICAL_UNIT, 0x5001_1043_2a5b_c6d7),
        Designator { protocol: Some(6), ..Designator::naa(Designator::TARGET_PORT, 0x5001_1043_2a5b_c6d8) },
        Designator { protocol: Some(6), ..Designator::relative_target_port(1) },
    ];
    let mut identification_bytes = vec![0x01, 0x83, 0x00, 0x26 + 0x0c + 0x0c + 0x08];
    identification_bytes.extend(b"\x02\x01\x00\x22HPE     Ultrium 8-SCSI  CZ12345678");
    identification_bytes.extend([0x01, 0x03, 0, 8, 0x50, 0x01, 0x10, 0x43, 0x2a, 0x5b, 0xc6, 0xd7]);
    identification_bytes.extend([0x61, 0x93, 0, 8, 0x50, 0x01, 0x10, 0x43, 0x2a, 0x5b, 0xc6, 0xd8]);
    identification_bytes.extend([0x61, 0x94, 0, 4, 0, 0, 0, 1]);
    let mut extended = vec![0x01, 0x86, 0x00, 0x3c, 0x0c, 0x07, 0x00, 0x01, 0, 0, 0x01, 0x2c, 0, 0x60];
    extended.resize(64, 0);
    let pages = [
        (Vpd::Supported(vec![0x00, 0x80, 0x83, 0xb0]), vec![0x01, 0x00, 0x00, 0x04, 0x00, 0x80, 0x83, 0xb0]),
        (Vpd::UnitSerialNumber("CZ12345678".into()), b"\x01\x80\x00\x0aCZ12345678".to_vec()),
        (Vpd::DeviceIdentification(identification), identification_bytes),
        (
            Vpd::ExtendedInquiry(ExtendedInquiry {
                supported_protection_type: 1,
                guard_check: true,
                head_of_queue: true,
                ordered: true,
                simple: true,
                clears_by_nexus: true,
                extended_self_test_minutes: 300,
                maximum_sense_length: 96,
            }),
            extended,
        ),
        (
            Vpd::SequentialAccessCapabilities { worm: true, tape_stream_mirroring: false },
            vec![0x01, 0xb0, 0x00, 0x02, 0x01, 0x00],
        ),
        (Vpd::ManufacturerSerialNumber("HU1234".into()), b"\x01\xb1\x00\x06HU1234".to_vec()),
        (Vpd::TapeAlertSupported(alerts), vec![0x01, 0xb2, 0x00, 0x08, 0x80, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x01]),
        (Vpd::AutomationSerialNumber("LIB9".into()), b"\x01\xb3\x00\x04LIB9".to_vec()),
        (Vpd::Other { page: 0xc0, bytes: vec![1, 2] }, vec![0x01, 0xc0, 0x00, 0x02, 1, 2]),
    ];
    for (page, bytes) in pages {
        assert_eq!(page.to_bytes(Peripheral::TAPE), bytes, "{page:?}");
        assert_eq!(Vpd::parse(&bytes).unwrap(), (Peripheral::TAPE, page));
    }
}

#[test]
fn vital_product_data_of_others() {
    // B0h of a disk is block limits.
    let (peripheral, page) = Vpd::parse(&[0x00, 0xb0, 0, 2, 1, 1]).unwrap();
    assert_eq!((peripheral, page), (Peripheral::DISK, Vpd::Other { page: 0xb0, bytes: vec![1, 1] }));
    // Serial numbers are padded by some with spaces, by some with zeros; a page cut to 8 bytes gives what is there.
    let serial = |bytes: &[u8]| Vpd::parse(bytes).unwrap().1;
    assert_eq!(serial(b"\x01\x80\x00\x0cSN12  \0\0\0\0\0\0"), Vpd::UnitSerialNumber("SN12".into()));
    assert_eq!(serial(b"\x01\x80\x00\x0aCZ12"), Vpd::UnitSerialNumber("CZ12".into()));
    // Half a designator is none.
    assert_eq!(serial(&[0x01, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 1]), Vpd::DeviceIdentification(vec![]));
    assert!(Vpd::parse(&[0x01, 0x83, 0]).is_err());
}

fn at(partition: u8, first: u64, last: u64) -> PositionData {
    PositionData {
        location: Some(Location { partition, first, last: Some(last) }),
        objects_in_buffer: Some(first - last),
        bytes_in_buffer: Some(0x1_0000),
        ..PositionData::default()
    }
}

#[test]
fn read_position_short_form() {
    let data = PositionData { end_of_partition: true, beyond_programmable_early_warning: true, ..at(1, 0x102, 0x100) };
    let bytes = [0x41, 1, 0, 0, 0, 0, 1, 2, 0, 0, 1, 0, 0, 0, 0, 2, 0, 1, 0, 0];
    assert_eq!(data.to_short(), bytes);
    assert_eq!(PositionData::parse_short(&bytes).unwrap(), data);
    let nothing = PositionData::default();
    let bytes = [0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(nothing.to_short(), bytes);
    assert_eq!(PositionData::parse_short(&bytes).unwrap(), nothing);
}

#[test]
fn a_position_above_32_bits_is_a_position_error_in_the_short_form() {
    let far = at(0, 1 << 32, 1 << 32);
    let bytes = [0x06, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(far.to_short(), bytes);
    let read = PositionData::parse_short(&bytes).unwrap();
    assert_eq!((read.position_error, read.location), (true, None));
    // PERR alone, as drives set it: the numbers beside it are not a position.
    let mut alone = bytes;
    alone[0] = 0x02;
    assert_eq!(PositionData::parse_short(&alone).unwrap().location, None);
    // A count that does not fit is unknown; the position is right.
    let busy = PositionData { objects_in_buffer: Some(1 << 24), bytes_in_buffer: Some(1 << 32), ..at(0, 7, 7) };
    assert_eq!(busy.to_short(), [0x30, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn read_position_long_form() {
    let data = PositionData {
        beginning_of_partition: false,
        location: Some(Location { partition: 1, first: 0x1_0000_0002, last: None }),
        filemarks: Some(0x0304),
        ..PositionData::default()
    };
    let mut bytes = [0; 32];
    bytes[7] = 1;
    bytes[11] = 1;
    bytes[15] = 2;
    bytes[22] = 3;
    bytes[23] = 4;
    assert_eq!(data.to_long(), bytes);
    assert_eq!(PositionData::parse_long(&bytes).unwrap(), data);
    let mut unknown = [0; 32];
    unknown[0] = 0x8c;
    let data = PositionData { beginning_of_partition: true, ..PositionData::default() };
    assert_eq!(data.to_long(), unknown);
    assert_eq!(PositionData::parse_long(&unknown).unwrap(), data);
    bytes[6] = 1;
    let refused = WireError::Invalid { what: "READ POSITION data, long form", at: 4 };
    assert_eq!(PositionData::parse_long(&bytes), Err(refused));
}

#[test]
fn read_position_extended_form() {
    let data = PositionData { beginning_of_partition: true, ..at(2, 0x1_0000_0003, 0x1_0000_0001) };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&[0x80, 2, 0, 0x1c, 0, 0, 0, 2]);
    bytes[8..16].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 3]);
    bytes[16..24].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    bytes[24..32].copy_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(data.to_extended(), bytes);
    assert_eq!(PositionData::parse_extended(&bytes).unwrap(), data);
    assert!(PositionData::parse_extended(&bytes[..31]).is_err());
}

#[test]
fn read_block_limits() {
    // LTO: 1 byte to 8 MiB.
    let limits = BlockLengthLimits { granularity: 0, maximum: 0x80_0000, minimum: 1 };
    let bytes = [0x00, 0x80, 0x00, 0x00, 0x00, 0x01];
    assert_eq!(limits.to_bytes(), bytes);
    assert_eq!(BlockLengthLimits::parse(&bytes).unwrap(), limits);
    assert!(BlockLengthLimits::parse(&bytes[..5]).is_err());
    let mut largest = [0; 20];
    largest[15] = 0xff;
    largest[19] = 0xfe;
    assert_eq!(MaximumLogicalObject(0xff_0000_00fe).to_bytes(), largest);
    assert_eq!(MaximumLogicalObject::parse(&largest), Ok(MaximumLogicalObject(0xff_0000_00fe)));
}

/// Printable, and without the spaces at the end that a padded field cannot keep.
fn words(most: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("([ -~]{{0,{}}}[!-~])?", most - 1)).unwrap()
}

fn peripheral() -> impl Strategy<Value = Peripheral> {
    (0..8_u8, 0..32_u8).prop_map(|(qualifier, device_type)| Peripheral { qualifier, device_type })
}

proptest! {
    #[test]
    fn inquiry_data_comes_back(
        peripheral in peripheral(), removable: bool, version: u8, flags: (bool, bool, bool), tpgs in 0..4_u8,
        vendor in words(8), product in words(16), revision in words(4), vendor_specific: [u8; 20],
        version_descriptors in vec(1..u16::MAX, 0..9),
    ) {
        let data = StandardInquiry {
            peripheral, removable, version, target_port_groups: tpgs, protect: flags.0, multiple_ports: flags.1,
            command_queuing: flags.2, vendor, product, revision, vendor_specific, version_descriptors,
        };
        prop_assert_eq!(StandardInquiry::parse(&data.to_bytes()).unwrap(), data);
    }

    #[test]
    fn designators_come_back(
        list in vec((proptest::option::of(0..16_u8), 0..16_u8, 0..4_u8, 0..16_u8, vec(any::<u8>(), 0..256)), 0..6)
    ) {
        let list = list.into_iter().map(|(protocol, code_set, association, kind, bytes)| {
            Designator { protocol, code_set, association, kind, bytes }
        });
        let page = Vpd::DeviceIdentification(list.collect());
        prop_assert_eq!(Vpd::parse(&page.to_bytes(Peripheral::CHANGER)).unwrap(), (Peripheral::CHANGER, page));
    }

    #[test]
    fn positions_come_back(
        bop: bool, eop: bool, bpew: bool, partition: u8, first: u64, last: u64,
        filemarks: Option<u64>, objects in proptest::option::of(0..1_u64 << 24), bytes: Option<u64>, known: bool,
    ) {
        let whole = PositionData {
            beginning_of_partition: bop, end_of_partition: eop, beyond_programmable_early_warning: bpew,
            position_error: false, location: known.then_some(Location { partition, first, last: Some(last) }),
            filemarks, objects_in_buffer: objects, bytes_in_buffer: bytes,
        };
        let extended = PositionData { filemarks: None, ..whole };
        prop_assert_eq!(PositionData::parse_extended(&whole.to_extended()).unwrap(), extended);
        let long = PositionData {
            location: known.then_some(Location { partition, first, last: None }), objects_in_buffer: None,
            bytes_in_buffer: None, ..whole
        };
        prop_assert_eq!(PositionData::parse_long(&whole.to_long()).unwrap(), long);
        // The short form tells the same place or none.
        let short = PositionData::parse_short(&whole.to_short()).unwrap();
        let fits = first <= u64::from(u32::MAX) && last <= u64::from(u32::MAX);
        prop_assert_eq!(short.location, whole.location.filter(|_| fits));
        prop_assert_eq!(short.position_error, known && !fits);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300), page in 0xb0..0xb4_u8) {
        let _ = StandardInquiry::parse(&bytes);
        let _ = PositionData::parse_short(&bytes);
        let _ = PositionData::parse_long(&bytes);
        let _ = PositionData::parse_extended(&bytes);
        let _ = BlockLengthLimits::parse(&bytes);
        let _ = MaximumLogicalObject::parse(&bytes);
        for page in [page, bytes.first().copied().unwrap_or(0), 0x83, 0x86] {
            let _ = Vpd::parse(&[&[0x01, page], &bytes[..]].concat());
        }
    }
}
