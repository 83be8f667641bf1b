//! Log pages and medium auxiliary memory attributes against SPC-4 7.3 and 7.4 and SSC-4 8.2; expected bytes are written by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use sealtape_drivers::medium::Attribute;
use sealtape_drivers::scsi::{
    AttributeIds, AttributeValues, LogBody, LogPage, LogParameter, MamAttribute, NumberRange, PartitionRecord,
    TapeAlertFlags, TapeCapacity, WireError, attribute, attribute_format, error_counter, log_page, volume_statistics,
};

#[test]
fn supported_pages() {
    let bytes = [0x00, 0, 0, 5, 0x00, 0x02, 0x03, 0x0c, 0x2e];
    let page = LogPage::supported(vec![0x00, 0x02, 0x03, 0x0c, 0x2e]);
    assert_eq!(page.to_bytes(), bytes);
    assert_eq!(LogPage::parse(&bytes).unwrap(), page);
    let bytes = [0x40, 0xff, 0, 6, 0x00, 0x00, 0x00, 0xff, 0x17, 0x00];
    let page = LogPage::supported_subpages(vec![(0x00, 0x00), (0x00, 0xff), (0x17, 0x00)]);
    assert_eq!(page.to_bytes(), bytes);
    assert_eq!(LogPage::parse(&bytes).unwrap(), page);
}

#[test]
fn counters() {
    let page = LogPage::new(
        log_page::WRITE_ERROR_COUNTERS,
        vec![
            LogParameter::counter(error_counter::TOTAL_RETRIES, 0x1_0000, 2),
            LogParameter::counter(error_counter::BYTES_PROCESSED, 0x0102_0304_0506, 8),
        ],
    );
    let bytes = [
        0x02, 0, 0, 18, // header
        0x00, 0x02, 0x02, 2, 0xff, 0xff, // does not fit: stands at its largest
        0x00, 0x05, 0x02, 8, 0, 0, 1, 2, 3, 4, 5, 6,
    ];
    assert_eq!(page.to_bytes(), bytes);
    let read = LogPage::parse(&bytes).unwrap();
    assert_eq!(read, page);
    assert_eq!(read.number(error_counter::BYTES_PROCESSED), Some(0x0102_0304_0506));
    assert_eq!(read.number(error_counter::TOTAL_UNCORRECTED), None);
    // Cut: a parameter is there whole or not at all.
    assert_eq!(LogPage::parse(&bytes[..21]).unwrap().parameters().len(), 1);
    assert!(LogPage::parse(&bytes[..3]).is_err());
    assert_eq!(LogPage::parse_list(&bytes), Ok((page, bytes.len())));
    assert!(matches!(LogPage::parse_list(&bytes[..21]), Err(WireError::Short { needed: 22, have: 21, .. })));
    // PAGE LENGTH ends within the second parameter.
    let mut torn = bytes;
    torn[3] = 17;
    assert!(matches!(LogPage::parse_list(&torn), Err(WireError::Invalid { at: 10, .. })));
}

#[test]
fn a_subpage_sets_spf() {
    let page = LogPage { disable_save: true, subpage: 0x02, ..LogPage::new(0x14, vec![]) };
    assert_eq!(page.to_bytes(), [0xd4, 0x02, 0, 0]);
    assert_eq!(LogPage::parse(&[0xd4, 0x02, 0, 0]).unwrap(), page);
}

#[test]
fn tape_alert_in_both_pages() {
    let mut flags = TapeAlertFlags::default();
    for number in [1, 20, 64, 0, 65] {
        flags.set(number);
    }
    assert_eq!(flags.numbers().collect::<Vec<_>>(), [1, 20, 64]);
    assert_eq!(format!("{flags:?}"), "{1, 20, 64}");
    let bytes = LogPage::tape_alert(flags).to_bytes();
    assert_eq!(bytes[..9], [0x2e, 0, 0x01, 0x40, 0x00, 0x01, 0x03, 1, 1]);
    assert_eq!(bytes[9..14], [0x00, 0x02, 0x03, 1, 0]);
    assert_eq!(bytes[4 + 19 * 5..][..5], [0x00, 0x14, 0x03, 1, 1]);
    assert_eq!(bytes[4 + 63 * 5..], [0x00, 0x40, 0x03, 1, 1]);
    assert_eq!(LogPage::parse(&bytes).unwrap().tape_alert_flags(), Some(flags));
    let response = [0x12, 0, 0, 12, 0x00, 0x00, 0x03, 8, 0x80, 0x00, 0x10, 0, 0, 0, 0, 0x01];
    assert_eq!(LogPage::tape_alert_response(flags).to_bytes(), response);
    assert_eq!(LogPage::parse(&response).unwrap().tape_alert_flags(), Some(flags));
    assert_eq!(LogPage::new(0x0c, vec![]).tape_alert_flags(), None);
    assert!(TapeAlertFlags::text(20).unwrap().contains("cleaning"));
}

/// LTO-8: 12 TB are 11 444 224 MiB or so.
#[test]
fn tape_capacity() {
    let bytes = [
        0x31, 0, 0, 32, //
        0, 1, 0x02, 4, 0x00, 0x57, 0x20, 0x00, //
        0, 2, 0x02, 4, 0x00, 0x00, 0x00, 0x10, //
        0, 3, 0x02, 4, 0x00, 0xae, 0x9f, 0x80, //
        0, 4, 0x02, 4, 0x00, 0x00, 0x90, 0x00,
    ];
    let capacity = TapeCapacity {
        main_remaining: 0x57_2000,
        alternate_remaining: 16,
        main_maximum: 11_444_096,
        alternate_maximum: 0x9000,
    };
    assert_eq!(capacity.to_page().to_bytes(), bytes);
    assert_eq!(TapeCapacity::from_page(&LogPage::parse(&bytes).unwrap()), Some(capacity));
    assert_eq!(TapeCapacity::from_page(&LogPage::new(log_page::TAPE_CAPACITY, vec![])), None);
}

#[test]
fn volume_statistics_of_partitions() {
    let records =
        [PartitionRecord { partition: 0, counter: 0x0001_0203 }, PartitionRecord { partition: 1, counter: 37_000 }];
    let page = LogPage::new(
        log_page::VOLUME_STATISTICS,
        vec![
            LogParameter::ascii(volume_statistics::VOLUME_BARCODE, "ABC123L8"),
            PartitionRecord::parameter(volume_statistics::REMAINING_NATIVE_CAPACITY_OF_PARTITIONS, &records),
        ],
    );
    let mut bytes = vec![0x17, 0, 0, 32, 0x00, 0x42, 0x01, 8];
    bytes.extend(b"ABC123L8");
    bytes.extend([0x02, 0x04, 0x03, 16, 7, 0, 0, 0, 0, 1, 2, 3, 7, 0, 0, 1, 0, 0, 0x90, 0x88]);
    assert_eq!(page.to_bytes(), bytes);
    let read = LogPage::parse(&bytes).unwrap();
    assert_eq!(read.parameter(volume_statistics::VOLUME_BARCODE).unwrap().text(), "ABC123L8");
    assert_eq!(PartitionRecord::list(&read.parameters()[1]), records);
    // The counters of positions have 6 bytes; half a record is none.
    let longer = LogParameter::binary(0x200, vec![9, 0, 0, 1, 0, 0, 0, 1, 0, 0, 7, 0, 0, 1]);
    assert_eq!(PartitionRecord::list(&longer), [PartitionRecord { partition: 1, counter: 0x1_0000 }]);
}

fn mam(id: u16, format: u8, value: &[u8], read_only: bool) -> MamAttribute {
    MamAttribute { attribute: Attribute { id, format, value: value.to_vec() }, read_only }
}

#[test]
fn attributes() {
    let values = AttributeValues(vec![
        mam(attribute::REMAINING_CAPACITY_IN_PARTITION, attribute_format::BINARY, &[0, 0, 0, 0, 0, 1, 2, 3], true),
        mam(attribute::MEDIUM_SERIAL_NUMBER, attribute_format::ASCII, b"A1B2C3D4            ", true),
        mam(attribute::USER_MEDIUM_TEXT_LABEL, attribute_format::TEXT, b"", false),
    ]);
    let mut bytes = vec![0, 0, 0, 13 + 25 + 5];
    bytes.extend([0x00, 0x00, 0x80, 0, 8, 0, 0, 0, 0, 0, 1, 2, 3]);
    bytes.extend(b"\x04\x01\x81\x00\x14A1B2C3D4            ");
    bytes.extend([0x08, 0x03, 0x02, 0, 0]);
    assert_eq!(values.to_bytes(), bytes);
    assert_eq!(AttributeValues::parse(&bytes).unwrap(), values);
    assert_eq!(AttributeValues::parse_list(&bytes).unwrap(), values);
    assert_eq!((values.0[0].number(), values.0[0].text()), (Some(0x01_0203), None));
    assert_eq!((values.0[1].number(), values.0[1].text()), (None, Some("A1B2C3D4".into())));
    // An answer may be cut, an order may not.
    assert_eq!(AttributeValues::parse(&bytes[..45]).unwrap().0.len(), 2);
    assert!(AttributeValues::parse_list(&bytes[..45]).is_err());
    let mut torn = bytes.clone();
    torn[3] -= 1;
    assert!(matches!(AttributeValues::parse_list(&torn), Err(WireError::Short { what: "attribute", .. })));
    assert!(AttributeValues::parse(&[0, 0, 0]).is_err());
    // A length of 4 GiB costs nothing.
    assert_eq!(AttributeValues::parse(&[0xff; 4]).unwrap(), AttributeValues::default());
    assert!(AttributeValues::parse_list(&[0xff; 9]).is_err());
}

#[test]
fn attribute_lists() {
    let ids = AttributeIds(vec![0x0000, 0x0401, 0x0806]);
    let bytes = [0, 0, 0, 6, 0x00, 0x00, 0x04, 0x01, 0x08, 0x06];
    assert_eq!(ids.to_bytes(), bytes);
    assert_eq!(AttributeIds::parse(&bytes).unwrap(), ids);
    assert_eq!(AttributeIds::parse(&bytes[..9]).unwrap().0, [0x0000, 0x0401]);
    let range = NumberRange { first: 0, count: 2 };
    assert_eq!(range.to_bytes(), [0, 2, 0, 2]);
    assert_eq!(NumberRange::parse(&[0, 2, 0, 2]).unwrap(), range);
}

proptest! {
    #[test]
    fn log_pages_come_back(
        disable_save: bool, page in 1..0x40_u8, subpage in 0..0xff_u8,
        parameters in vec((any::<u16>(), any::<u8>(), vec(any::<u8>(), 0..256)), 0..12),
    ) {
        let parameters = parameters.into_iter().map(|(code, control, value)| LogParameter { code, control, value });
        let page = LogPage { disable_save, page, subpage, body: LogBody::Parameters(parameters.collect()) };
        let bytes = page.to_bytes();
        prop_assert_eq!(&LogPage::parse(&bytes).unwrap(), &page);
        prop_assert_eq!(LogPage::parse_list(&bytes).unwrap(), (page, bytes.len()));
    }

    #[test]
    fn numbers_come_back(count: u64, width in 1..9_usize, flags: u64) {
        let largest = u64::MAX >> (64 - 8 * width);
        prop_assert_eq!(LogParameter::counter(1, count, width).number(), Some(count.min(largest)));
        let flags = TapeAlertFlags(flags);
        prop_assert_eq!(TapeAlertFlags::from_bytes(flags.to_bytes()), flags);
        prop_assert_eq!(LogPage::tape_alert(flags).tape_alert_flags(), Some(flags));
        prop_assert_eq!(LogPage::tape_alert_response(flags).tape_alert_flags(), Some(flags));
    }

    #[test]
    fn attributes_come_back(list in vec((any::<u16>(), 0..4_u8, vec(any::<u8>(), 0..300), any::<bool>()), 0..8)) {
        let list = list.iter().map(|(id, format, value, read_only)| mam(*id, *format, value, *read_only));
        let values = AttributeValues(list.collect());
        prop_assert_eq!(&AttributeValues::parse(&values.to_bytes()).unwrap(), &values);
        prop_assert_eq!(AttributeValues::parse_list(&values.to_bytes()).unwrap(), values);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        for bytes in [&bytes[..], &[&[0x17, 0, 0xff, 0xff], &bytes[..]].concat(), &[&[0, 0, 1, 0], &bytes[..]].concat()] {
            if let Ok(page) = LogPage::parse(bytes) {
                prop_assert!(page.parameters().len() <= bytes.len() / 4);
                let _ = (page.tape_alert_flags(), TapeCapacity::from_page(&page));
                let _ = page.parameters().iter().map(PartitionRecord::list).count();
            }
            let _ = LogPage::parse_list(bytes);
            if let Ok(values) = AttributeValues::parse(bytes) {
                prop_assert!(values.0.len() <= bytes.len() / 5);
            }
            let _ = AttributeValues::parse_list(bytes);
            let _ = AttributeIds::parse(bytes);
            let _ = NumberRange::parse(bytes);
        }
    }
}
