//! Sense data against the tables of SPC-4 4.5 and SSC-4 4.2.21; expected bytes are written by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sealtape_drivers::scsi::{AdditionalSense, FieldPointer, Sense, SenseFlags, SenseKey, additional_text};

fn filemark_in_fixed_mode() -> Sense {
    let mut sense = Sense::new(SenseKey::NO_SENSE, AdditionalSense::FILEMARK_DETECTED);
    sense.flags.filemark = true;
    sense.information = Some(3);
    sense
}

#[test]
fn a_filemark_with_a_residue() {
    let sense = filemark_in_fixed_mode();
    let fixed = [0xf0, 0, 0x80, 0, 0, 0, 3, 10, 0, 0, 0, 0, 0x00, 0x01, 0, 0, 0, 0];
    assert_eq!(sense.to_fixed(), fixed);
    assert_eq!(Sense::parse(&fixed), Some(sense));
    let descriptor = [
        0x72, 0x00, 0x00, 0x01, 0, 0, 0, 16, // header
        0x00, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 3, // information
        0x04, 0x02, 0, 0x80, // stream commands
    ];
    assert_eq!(sense.to_descriptor(), descriptor);
    assert_eq!(Sense::parse(&descriptor), Some(sense));
}

#[test]
fn a_block_longer_than_asked_for_has_a_negative_residue() {
    let mut sense = Sense::new(SenseKey::NO_SENSE, AdditionalSense::NONE);
    sense.flags.incorrect_length = true;
    sense.information = Some(512 - 1024);
    let fixed = [0xf0, 0, 0x20, 0xff, 0xff, 0xfe, 0x00, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(sense.to_fixed(), fixed);
    assert_eq!(Sense::parse(&fixed), Some(sense));
    let descriptor = sense.to_descriptor();
    assert_eq!(descriptor[8..20], [0x00, 0x0a, 0x80, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x00]);
    assert_eq!(descriptor[20..], [0x04, 0x02, 0, 0x20]);
    assert_eq!(Sense::parse(&descriptor), Some(sense));
}

#[test]
fn a_residue_above_32_bits_is_not_valid_in_fixed_format() {
    let mut sense = filemark_in_fixed_mode();
    sense.information = Some(1 << 31);
    let fixed = sense.to_fixed();
    assert_eq!((fixed[0], &fixed[3..7]), (0x70, &[0; 4][..]));
    assert_eq!(Sense::parse(&fixed).unwrap().information, None);
    assert_eq!(Sense::parse(&sense.to_descriptor()), Some(sense));
}

#[test]
fn a_field_pointer_names_byte_and_bit() {
    let mut sense = Sense::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_FIELD_IN_CDB);
    sense.field = Some(FieldPointer { in_cdb: true, byte: 0x0102, bit: Some(4) });
    let fixed = [0x70, 0, 0x05, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0x00, 0, 0xcc, 0x01, 0x02];
    assert_eq!(sense.to_fixed(), fixed);
    assert_eq!(Sense::parse(&fixed), Some(sense));
    let descriptor = [0x72, 0x05, 0x24, 0x00, 0, 0, 0, 8, 0x02, 0x06, 0, 0, 0xcc, 0x01, 0x02, 0];
    assert_eq!(sense.to_descriptor(), descriptor);
    assert_eq!(Sense::parse(&descriptor), Some(sense));
}

#[test]
fn a_deferred_error_has_its_own_response_codes() {
    let mut sense = Sense::new(SenseKey::MEDIUM_ERROR, AdditionalSense::WRITE_ERROR);
    sense.flags.deferred = true;
    let fixed = [0x71, 0, 0x03, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x0c, 0x00, 0, 0, 0, 0];
    assert_eq!(sense.to_fixed(), fixed);
    assert_eq!(Sense::parse(&fixed), Some(sense));
    assert_eq!(sense.to_descriptor(), [0x73, 0x03, 0x0c, 0x00, 0, 0, 0, 0]);
    assert_eq!(Sense::parse(&sense.to_descriptor()), Some(sense));
}

/// An IBM LTO drive sends 28 to 96 bytes, with vendor data behind byte 18.
#[test]
fn sense_of_a_drive_that_sends_more() {
    let mut bytes = vec![0xf0, 0, 0x48, 0xff, 0xff, 0xff, 0xf8, 0x58, 0, 0, 0, 0, 0x00, 0x05, 0x36, 0, 0, 0];
    bytes.resize(96, 0x77);
    let sense = Sense::parse(&bytes).unwrap();
    assert_eq!((sense.key, sense.additional), (SenseKey::BLANK_CHECK, AdditionalSense::END_OF_DATA_DETECTED));
    assert_eq!((sense.flags.end_of_medium, sense.information), (true, Some(-8)));
}

#[test]
fn what_is_cut_off_is_not_made_up() {
    let fixed = filemark_in_fixed_mode().to_fixed();
    let cut = Sense::parse(&fixed[..6]).unwrap();
    assert_eq!((cut.information, cut.flags.filemark), (None, true));
    // ADDITIONAL SENSE LENGTH 0: the buffer's remains behind it are not sense data.
    let mut short = fixed;
    short[7] = 0;
    assert_eq!(Sense::parse(&short).unwrap().additional, AdditionalSense::NONE);
    let descriptor = filemark_in_fixed_mode().to_descriptor();
    assert_eq!(Sense::parse(&descriptor[..19]).unwrap().information, None);
    for bytes in [&[][..], &[0; 18], &[0x7f; 18], &[0x70, 0], &[0x72, 0, 0]] {
        assert_eq!(Sense::parse(bytes), None, "{bytes:02x?}");
    }
}

#[test]
fn codes_have_words() {
    assert_eq!(additional_text(0x3a, 0x00), Some("no medium is loaded"));
    assert_eq!(additional_text(0x80, 0x00), None);
}

fn any_sense() -> impl Strategy<Value = Sense> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let field = proptest::option::of((any::<bool>(), any::<u16>(), proptest::option::of(0..8_u8)));
    (0..16_u8, any::<(u8, u8)>(), flags, any::<Option<i64>>(), field).prop_map(
        |(key, (asc, ascq), flags, info, field)| {
            let (filemark, end_of_medium, incorrect_length, deferred) = flags;
            let key = SenseKey(key);
            Sense {
                key,
                additional: AdditionalSense { asc, ascq },
                flags: SenseFlags { filemark, end_of_medium, incorrect_length, deferred },
                information: info,
                field: field.filter(|_| key == SenseKey::ILLEGAL_REQUEST).map(|(in_cdb, byte, bit)| FieldPointer {
                    in_cdb,
                    byte,
                    bit,
                }),
            }
        },
    )
}

proptest! {
    #[test]
    fn descriptor_format_keeps_everything(sense in any_sense()) {
        prop_assert_eq!(Sense::parse(&sense.to_descriptor()), Some(sense));
    }

    #[test]
    fn fixed_format_keeps_all_that_fits(mut sense in any_sense()) {
        let bytes = sense.to_fixed();
        sense.information = sense.information.filter(|&information| i32::try_from(information).is_ok());
        prop_assert_eq!(Sense::parse(&bytes), Some(sense));
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..260), code in 0x70..0x74_u8) {
        let _ = Sense::parse(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = *first & 0x80 | code;
        }
        let _ = Sense::parse(&bytes);
    }
}
