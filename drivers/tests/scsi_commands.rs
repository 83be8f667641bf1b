//! Command descriptor blocks against the tables of SPC-4 clause 6, SSC-4 clauses 6 and 7 and SMC-3 clause 6; expected bytes
//! are written by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use sealtape_drivers::scsi::{
    CdbError, Command as C, Destination, FieldPointer, Form, PageControl, SenseKey, cdb_length,
};

/// Every command, with its fields set so that no two of them can be mixed up.
fn commands() -> Vec<(C, Vec<u8>)> {
    vec![
        (C::TestUnitReady, vec![0x00, 0, 0, 0, 0, 0]),
        (C::Rewind { immediate: true }, vec![0x01, 0x01, 0, 0, 0, 0]),
        (C::RequestSense { descriptor: true, allocation: 0xfc }, vec![0x03, 0x01, 0, 0, 0xfc, 0]),
        (
            C::FormatMedium { verify: true, immediate: false, format: 2, length: 0x0102 },
            vec![0x04, 0x02, 0x02, 1, 2, 0],
        ),
        (C::FormatMedium { verify: false, immediate: true, format: 1, length: 0 }, vec![0x04, 0x01, 0x01, 0, 0, 0]),
        (C::ReadBlockLimits { largest_object: true }, vec![0x05, 0x01, 0, 0, 0, 0]),
        (C::InitializeElementStatus, vec![0x07, 0, 0, 0, 0, 0]),
        (C::Read6 { fixed: true, suppress_incorrect_length: false, length: 0x01_0203 }, vec![0x08, 0x01, 1, 2, 3, 0]),
        (
            C::Read6 { fixed: false, suppress_incorrect_length: true, length: 0x80_0000 },
            vec![0x08, 0x02, 0x80, 0, 0, 0],
        ),
        (C::Write6 { fixed: true, length: 0x01_0203 }, vec![0x0a, 0x01, 1, 2, 3, 0]),
        (C::SetCapacity { immediate: true, proportion: 0xff01 }, vec![0x0b, 0x01, 0, 0xff, 0x01, 0]),
        (C::WriteFilemarks6 { immediate: true, count: 0x01_0203 }, vec![0x10, 0x01, 1, 2, 3, 0]),
        (C::Space6 { code: 1, count: -2 }, vec![0x11, 0x01, 0xff, 0xff, 0xfe, 0]),
        (C::Space6 { code: 3, count: 0x7f_ffff }, vec![0x11, 0x03, 0x7f, 0xff, 0xff, 0]),
        (C::Inquiry { vital_product_data: true, page: 0x83, allocation: 0x0102 }, vec![0x12, 0x01, 0x83, 1, 2, 0]),
        (C::Inquiry { vital_product_data: false, page: 0, allocation: 96 }, vec![0x12, 0, 0, 0, 96, 0]),
        (
            C::Verify6 { fixed: true, byte_compare: false, immediate: true, length: 0x01_0203 },
            vec![0x13, 0x05, 1, 2, 3, 0],
        ),
        (C::Verify6 { fixed: false, byte_compare: true, immediate: false, length: 0 }, vec![0x13, 0x02, 0, 0, 0, 0]),
        (
            C::ModeSelect { form: Form::Six, page_format: true, save: false, length: 0x1c },
            vec![0x15, 0x10, 0, 0, 0x1c, 0],
        ),
        (
            C::ModeSelect { form: Form::Ten, page_format: false, save: true, length: 0x0102 },
            vec![0x55, 0x01, 0, 0, 0, 0, 0, 1, 2, 0],
        ),
        (C::Reserve6, vec![0x16, 0, 0, 0, 0, 0]),
        (C::Release6, vec![0x17, 0, 0, 0, 0, 0]),
        (C::Reserve10, vec![0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (C::Release10, vec![0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (C::Erase6 { immediate: true, long: false }, vec![0x19, 0x02, 0, 0, 0, 0]),
        (C::Erase16 { immediate: false, long: true }, vec![0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (
            C::ModeSense {
                form: Form::Six,
                no_block_descriptors: true,
                control: PageControl::Changeable,
                page: 0x0f,
                subpage: 0xff,
                allocation: 0xfe,
            },
            vec![0x1a, 0x08, 0x4f, 0xff, 0xfe, 0],
        ),
        (
            C::ModeSense {
                form: Form::Ten,
                no_block_descriptors: false,
                control: PageControl::Saved,
                page: 0x10,
                subpage: 0x01,
                allocation: 0x0102,
            },
            vec![0x5a, 0, 0xd0, 0x01, 0, 0, 0, 1, 2, 0],
        ),
        (
            C::LoadUnload { immediate: true, hold: true, end_of_tape: false, retension: true, load: false },
            vec![0x1b, 0x01, 0, 0, 0x0a, 0],
        ),
        (
            C::LoadUnload { immediate: false, hold: false, end_of_tape: true, retension: false, load: true },
            vec![0x1b, 0x00, 0, 0, 0x05, 0],
        ),
        (
            C::ReceiveDiagnosticResults { page_code_valid: true, page: 0x3f, allocation: 0x0102 },
            vec![0x1c, 0x01, 0x3f, 1, 2, 0],
        ),
        (
            C::SendDiagnostic { self_test_code: 5, page_format: false, self_test: true, length: 0x0102 },
            vec![0x1d, 0xa4, 0, 1, 2, 0],
        ),
        (
            C::SendDiagnostic { self_test_code: 0, page_format: true, self_test: false, length: 0 },
            vec![0x1d, 0x10, 0, 0, 0, 0],
        ),
        (C::PreventAllowMediumRemoval { prevent: 1 }, vec![0x1e, 0, 0, 0, 0x01, 0]),
        (
            C::Locate10 { immediate: true, block_address_type: false, partition: Some(3), object: 0x0102_0304 },
            vec![0x2b, 0x03, 0, 1, 2, 3, 4, 0, 3, 0],
        ),
        (
            C::Locate10 { immediate: false, block_address_type: true, partition: None, object: 7 },
            vec![0x2b, 0x04, 0, 0, 0, 0, 7, 0, 0, 0],
        ),
        (C::ReadPosition { action: 0x08, allocation: 0x0020 }, vec![0x34, 0x08, 0, 0, 0, 0, 0, 0, 0x20, 0]),
        (
            C::WriteBuffer { mode: 5, id: 1, offset: 0x02_0304, length: 0x05_0607 },
            vec![0x3b, 0x05, 1, 2, 3, 4, 5, 6, 7, 0],
        ),
        (
            C::ReadBuffer { mode: 3, id: 1, offset: 0x02_0304, allocation: 0x05_0607 },
            vec![0x3c, 0x03, 1, 2, 3, 4, 5, 6, 7, 0],
        ),
        (
            C::ReportDensitySupport { medium: true, medium_type: false, allocation: 0x0102 },
            vec![0x44, 0x01, 0, 0, 0, 0, 0, 1, 2, 0],
        ),
        (
            C::ReportDensitySupport { medium: false, medium_type: true, allocation: 0 },
            vec![0x44, 0x02, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            C::LogSelect {
                reset: true,
                save: false,
                control: PageControl::Saved,
                page: 0x02,
                subpage: 0x03,
                length: 0x0405,
            },
            vec![0x4c, 0x02, 0xc2, 0x03, 0, 0, 0, 4, 5, 0],
        ),
        (
            C::LogSense {
                save: true,
                control: PageControl::Changeable,
                page: 0x2e,
                subpage: 0x01,
                parameter: 0x0203,
                allocation: 0x0405,
            },
            vec![0x4d, 0x01, 0x6e, 0x01, 0, 2, 3, 4, 5, 0],
        ),
        (C::PersistentReserveIn { action: 2, allocation: 0x0102 }, vec![0x5e, 0x02, 0, 0, 0, 0, 0, 1, 2, 0]),
        (
            C::PersistentReserveOut { action: 1, scope: 0, kind: 3, length: 0x18 },
            vec![0x5f, 0x01, 0x03, 0, 0, 0, 0, 0, 0x18, 0],
        ),
        (
            C::AllowOverwrite { mode: 2, partition: 1, object: 0x0102_0304_0506_0708 },
            vec![0x82, 0, 0x02, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0],
        ),
        (
            C::ReadAttribute {
                action: 5,
                volume: 1,
                partition: 2,
                first: 0x0304,
                cache: true,
                allocation: 0x0506_0708,
            },
            vec![0x8c, 0x05, 0, 0, 0, 1, 0, 2, 3, 4, 5, 6, 7, 8, 0x01, 0],
        ),
        (
            C::WriteAttribute { write_through: true, volume: 1, partition: 2, length: 0x0506_0708 },
            vec![0x8d, 0x01, 0, 0, 0, 1, 0, 2, 0, 0, 5, 6, 7, 8, 0, 0],
        ),
        (
            C::Space16 { code: 0, count: -0x0102_0304_0506 },
            vec![0x91, 0, 0, 0, 0xff, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xfa, 0, 0, 0, 0],
        ),
        (
            C::Locate16 {
                immediate: true,
                partition: Some(1),
                destination: Destination::Object(0x0102_0304_0506_0708),
            },
            vec![0x92, 0x03, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0],
        ),
        (
            C::Locate16 { immediate: false, partition: None, destination: Destination::File(9) },
            vec![0x92, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0],
        ),
        (
            C::Locate16 { immediate: false, partition: Some(2), destination: Destination::EndOfData },
            vec![0x92, 0x1a, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (C::ReportLuns { select: 2, allocation: 0x0102_0304 }, vec![0xa0, 0, 2, 0, 0, 0, 1, 2, 3, 4, 0, 0]),
        (
            C::SecurityProtocolIn { protocol: 0x20, specific: 0x0102, allocation: 0x0304_0506 },
            vec![0xa2, 0x20, 1, 2, 0, 0, 3, 4, 5, 6, 0, 0],
        ),
        (
            C::SecurityProtocolOut { protocol: 0x20, specific: 0x0102, length: 0x0304_0506 },
            vec![0xb5, 0x20, 1, 2, 0, 0, 3, 4, 5, 6, 0, 0],
        ),
        (C::ReportDeviceIdentifier { allocation: 0x0102_0304 }, vec![0xa3, 0x05, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0]),
        (C::ReportTargetPortGroups { allocation: 0x0102_0304 }, vec![0xa3, 0x0a, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0]),
        (
            C::ReportSupportedOperationCodes {
                timeouts: true,
                options: 2,
                operation: 0xa3,
                service_action: 0x000c,
                allocation: 0x0102_0304,
            },
            vec![0xa3, 0x0c, 0x82, 0xa3, 0, 0x0c, 1, 2, 3, 4, 0, 0],
        ),
        (
            C::ReportSupportedTaskManagement { extended: true, allocation: 16 },
            vec![0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 16, 0, 0],
        ),
        (C::ReportTimestamp { allocation: 12 }, vec![0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0]),
        (C::SetTimestamp { length: 12 }, vec![0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0]),
        (C::ReadMediaSerialNumber { allocation: 0x0104 }, vec![0xab, 0x01, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0]),
        (
            C::ReadElementStatus {
                volume_tags: true,
                kind: 4,
                first: 0x0102,
                count: 0x0304,
                device_identifiers: true,
                current: false,
                allocation: 0x05_0607,
            },
            vec![0xb8, 0x14, 1, 2, 3, 4, 0x01, 5, 6, 7, 0, 0],
        ),
        (
            C::ReadElementStatus {
                volume_tags: false,
                kind: 0,
                first: 0,
                count: 0xffff,
                device_identifiers: false,
                current: true,
                allocation: 8,
            },
            vec![0xb8, 0, 0, 0, 0xff, 0xff, 0x02, 0, 0, 8, 0, 0],
        ),
    ]
}

#[test]
fn every_command_as_its_table_has_it() {
    for (command, bytes) in commands() {
        assert_eq!(command.encode().as_bytes(), bytes, "{command:?}");
        assert_eq!(C::parse(&bytes), Ok(command));
        assert_eq!(command.operation(), bytes[0]);
        assert_eq!(cdb_length(bytes[0]), Some(bytes.len()));
        // Longer blocks, as transports pad them; shorter ones are none.
        assert_eq!(C::parse(&[&bytes[..], &[0xff; 4]].concat()), Ok(command));
        assert_eq!(C::parse(&bytes[..bytes.len() - 1]), Err(CdbError::Short));
    }
}

/// The list above leaves no command out: what the parser knows stands there.
#[test]
fn the_list_is_whole() {
    let listed = commands();
    for operation in 0..=0xff_u8 {
        for action in 0..0x20 {
            let mut cdb = [0; 16];
            (cdb[0], cdb[1]) = (operation, action);
            let Ok(command) = C::parse(&cdb) else { continue };
            let same = |other: &&(C, Vec<u8>)| std::mem::discriminant(&other.0) == std::mem::discriminant(&command);
            assert!(listed.iter().any(|other| same(&other)), "{operation:02x}h/{action:02x}h: {command:?}");
        }
    }
}

#[test]
fn refusals_name_the_field() {
    let refused = |cdb: &[u8]| C::parse(cdb).unwrap_err();
    let at = |byte, bit| CdbError::InvalidField(FieldPointer { in_cdb: true, byte, bit });
    let operation = |operation: u8, changes: &[(usize, u8)]| {
        let mut cdb = vec![0; cdb_length(operation).unwrap_or(16)];
        cdb[0] = operation;
        changes.iter().for_each(|&(at, value)| cdb[at] = value);
        cdb
    };
    assert_eq!(refused(&[]), CdbError::Short);
    assert_eq!(refused(&operation(0xff, &[])), CdbError::UnknownOperation);
    assert_eq!(refused(&operation(0x02, &[])), CdbError::UnknownOperation);
    // An unknown operation with NACA set is unknown all the same.
    assert_eq!(refused(&operation(0x02, &[(5, 4)])), CdbError::UnknownOperation);
    assert_eq!(refused(&operation(0x00, &[(5, 4)])), at(5, Some(2)));
    assert_eq!(refused(&operation(0x92, &[(15, 1)])), at(15, Some(0)));
    assert_eq!(refused(&operation(0x08, &[(1, 3)])), at(1, Some(1)));
    assert_eq!(refused(&operation(0x10, &[(1, 2)])), at(1, Some(1)));
    assert_eq!(refused(&operation(0x12, &[(1, 2)])), at(1, Some(1)));
    assert_eq!(refused(&operation(0x12, &[(2, 0x80)])), at(2, None));
    assert_eq!(refused(&operation(0x92, &[(1, 0x10)])), at(1, Some(4)));
    assert_eq!(refused(&operation(0xa2, &[(4, 0x80)])), at(4, Some(7)));
    assert_eq!(refused(&operation(0xa3, &[(1, 0x1f)])), at(1, Some(4)));
    let sense = at(1, Some(4)).sense();
    assert_eq!((sense.key, sense.additional.asc, sense.additional.ascq), (SenseKey::ILLEGAL_REQUEST, 0x24, 0x00));
    assert_eq!(sense.to_fixed()[15..], [0xcc, 0, 1]);
    assert_eq!(CdbError::UnknownOperation.sense().additional.asc, 0x20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Every command that a block can say comes back from the block that it is written as. The operation codes are those of the
    /// list; random bytes set their fields.
    #[test]
    fn commands_come_back(number: proptest::sample::Index, fields in vec(any::<u8>(), 15)) {
        let listed = commands();
        let (_, model) = &listed[number.index(listed.len())];
        let mut cdb = model.clone();
        cdb.iter_mut().skip(1).zip(&fields).for_each(|(to, from)| *to = *from);
        // A service action stays what it was; CONTROL stays 0.
        if matches!(cdb[0], 0xa3 | 0xa4 | 0xab) {
            cdb[1] = cdb[1] & 0xe0 | model[1] & 0x1f;
        }
        if let Some(control) = cdb.last_mut() {
            *control = 0;
        }
        if let Ok(command) = C::parse(&cdb) {
            let written = command.encode();
            prop_assert_eq!(C::parse(written.as_bytes()), Ok(command));
            prop_assert_eq!(written.as_bytes()[0], cdb[0]);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..20)) {
        if let Ok(command) = C::parse(&bytes) {
            prop_assert_eq!(C::parse(command.encode().as_bytes()), Ok(command));
        }
    }
}
