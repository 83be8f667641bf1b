//! Mode parameters against the tables of SPC-4 7.5 and SSC-4 8.3; expected bytes are written by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use sealtape_drivers::scsi::{
    BlockDescriptor, Control, ControlDataProtection, ControlExtension, DataCompression, DeviceConfiguration,
    DeviceConfigurationExtension, DisconnectReconnect, Form, InformationalExceptions, MediumConfiguration,
    MediumPartition, ModePage, ModeParameters, PowerCondition, ReadWriteErrorRecovery, WireError,
};

fn padded(head: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.resize(length, 0);
    bytes
}

/// Each page with a field of every kind set, so that no two of them can be mixed up.
fn pages() -> Vec<(ModePage, Vec<u8>)> {
    vec![
        (
            ModePage::ReadWriteErrorRecovery(ReadWriteErrorRecovery {
                transfer_block: true,
                enable_early_recovery: false,
                post_error: true,
                disable_transfer_on_error: false,
                disable_correction: true,
                read_retry_count: 3,
                write_retry_count: 4,
            }),
            vec![0x01, 0x0a, 0x25, 3, 0, 0, 0, 0, 4, 0, 0, 0],
        ),
        (
            ModePage::DisconnectReconnect(DisconnectReconnect {
                buffer_full_ratio: 1,
                buffer_empty_ratio: 2,
                bus_inactivity_limit: 0x0304,
                disconnect_time_limit: 0x0506,
                connect_time_limit: 0x0708,
                maximum_burst_size: 0x090a,
                enable_modify_data_pointers: true,
                fair_arbitration: 3,
                disconnect_immediate: false,
                data_transfer_disconnect_control: 1,
                first_burst_size: 0x0b0c,
            }),
            vec![0x02, 0x0e, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x0a, 0xb1, 0, 0x0b, 0x0c],
        ),
        (
            ModePage::Control(Control {
                task_set_type: 1,
                descriptor_sense: true,
                report_log_exception: true,
                queue_algorithm_modifier: 1,
                queue_error_management: 3,
                unit_attention_interlocks: 2,
                software_write_protect: true,
                task_aborted_status: true,
                autoload_mode: 2,
                busy_timeout_period: 0xffff,
                extended_self_test_completion_time: 0x0102,
                ..Control::default()
            }),
            vec![0x0a, 0x0a, 0x25, 0x16, 0x28, 0x42, 0, 0, 0xff, 0xff, 0x01, 0x02],
        ),
        (
            ModePage::Control(Control {
                task_management_only: true,
                disable_protection_check_if_zero: true,
                global_logging_target_save_disable: true,
                no_unit_attention_on_release: true,
                report_a_check: true,
                application_tag_owner: true,
                application_tag_mode_page: true,
                reject_write_without_protection: true,
                ..Control::default()
            }),
            vec![0x0a, 0x0a, 0x1a, 0x08, 0x40, 0xb0, 0, 0, 0, 0, 0, 0],
        ),
        (
            ModePage::ControlExtension(ControlExtension {
                timestamp_changeable_by_others: true,
                scsi_precedence: false,
                implicit_asymmetric_access: true,
                initial_command_priority: 7,
                maximum_sense_data_length: 96,
            }),
            padded(&[0x4a, 0x01, 0x00, 0x1c, 0x05, 0x07, 0x60], 32),
        ),
        (
            ModePage::ControlDataProtection(ControlDataProtection {
                method: 2,
                information_length: 4,
                writes: true,
                reads: true,
                recovers: false,
            }),
            padded(&[0x4a, 0xf0, 0x00, 0x1c, 0x02, 0x04, 0xc0], 32),
        ),
        (
            // What LTO drives say by default.
            ModePage::DataCompression(DataCompression {
                enabled: true,
                capable: true,
                decompression: true,
                report_exceptions: 0,
                compression_algorithm: 1,
                decompression_algorithm: 0,
            }),
            vec![0x0f, 0x0e, 0xc0, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            ModePage::DataCompression(DataCompression {
                enabled: false,
                capable: true,
                decompression: false,
                report_exceptions: 3,
                compression_algorithm: 0x10,
                decompression_algorithm: 0x20,
            }),
            vec![0x0f, 0x0e, 0x40, 0x60, 0, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0],
        ),
        (
            ModePage::DeviceConfiguration(DeviceConfiguration {
                change_active_format: true,
                active_format: 1,
                active_partition: 2,
                write_buffer_full_ratio: 3,
                read_buffer_empty_ratio: 4,
                write_delay_time: 0x0096,
                logical_object_identifiers: true,
                automatic_velocity_control: true,
                stop_on_consecutive_filemarks: 2,
                report_early_warning_on_reads: true,
                gap_size: 5,
                eod_defined: 3,
                enable_eod_generation: true,
                software_write_protect: true,
                block_address_mode: true,
                buffer_size_at_early_warning: 0x01_0203,
                select_data_compression_algorithm: 1,
                worm_tamper_read_enable: 2,
                rewind_on_reset: 1,
                associated_write_protect: true,
                permanent_write_protect: true,
                ..DeviceConfiguration::default()
            }),
            vec![0x10, 0x0e, 0x21, 2, 3, 4, 0x00, 0x96, 0x59, 5, 0x75, 1, 2, 3, 1, 0x8d],
        ),
        (
            ModePage::DeviceConfiguration(DeviceConfiguration {
                object_buffer_recovery: true,
                report_setmarks: true,
                recover_object_buffer_order: true,
                synchronize_at_early_warning: true,
                block_address_mode_lock: true,
                only_if_reserved: true,
                persistent_write_protect: true,
                ..DeviceConfiguration::default()
            }),
            vec![0x10, 0x0e, 0, 0, 0, 0, 0, 0, 0xa2, 0, 0x0a, 0, 0, 0, 0, 0x22],
        ),
        (
            ModePage::DeviceConfigurationExtension(DeviceConfigurationExtension {
                tape_alert_respects_fields: true,
                tape_alert_select_exception_reporting: false,
                tape_alert_respects_page_control: true,
                tape_alert_prevent_log_sense_deactivation: false,
                write_mode: 1,
                short_erase_mode: 2,
                programmable_early_warning: 0x0203,
                volume_encryption_required: true,
            }),
            padded(&[0x50, 0x01, 0x00, 0x1c, 0x0a, 0x12, 0x02, 0x03, 0x01], 32),
        ),
        (
            ModePage::MediumPartition(MediumPartition {
                maximum_additional: 3,
                additional_defined: 1,
                initiator_defined: true,
                size_unit: 3,
                on_format_medium: true,
                format_recognition: 3,
                partitioning_type: 1,
                partition_units: 9,
                sizes: vec![0x0025, 0xffff],
                ..MediumPartition::default()
            }),
            vec![0x11, 0x0a, 3, 1, 0x3c, 3, 0x19, 0, 0x00, 0x25, 0xff, 0xff],
        ),
        (
            ModePage::MediumPartition(MediumPartition {
                fixed: true,
                select: true,
                clear: true,
                add: true,
                ..MediumPartition::default()
            }),
            vec![0x11, 0x06, 0, 0, 0xc3, 0, 0, 0],
        ),
        (
            ModePage::PowerCondition(PowerCondition {
                background_precedence: 1,
                standby_y: true,
                idle_c: true,
                idle_b: false,
                idle_a: true,
                standby_z: false,
                idle_a_timer: 1,
                standby_z_timer: 2,
                idle_b_timer: 3,
                idle_c_timer: 4,
                standby_y_timer: 5,
                check_condition_from: 0x54,
            }),
            [
                &[0x1a, 0x26, 0x41, 0x0a, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5][..],
                &[0; 15],
                &[0x54],
            ]
            .concat(),
        ),
        (
            ModePage::InformationalExceptions(InformationalExceptions {
                performance: true,
                enable_warning: true,
                disable_exception_control: true,
                test: true,
                log_errors: true,
                method_of_reporting: 3,
                interval_timer: 0x0102_0304,
                report_count: 0x0506_0708,
                ..InformationalExceptions::default()
            }),
            vec![0x1c, 0x0a, 0x9d, 0x03, 1, 2, 3, 4, 5, 6, 7, 8],
        ),
        (
            ModePage::MediumConfiguration(MediumConfiguration {
                worm_mode: true,
                label_restrictions: 1,
                filemark_restrictions: 2,
            }),
            padded(&[0x1d, 0x1e, 0x01, 0, 1, 2], 32),
        ),
        (ModePage::Other { page: 0x24, subpage: 0, bytes: vec![1, 2, 3] }, vec![0x24, 3, 1, 2, 3]),
        (ModePage::Other { page: 0x30, subpage: 0x20, bytes: vec![1, 2] }, vec![0x70, 0x20, 0, 2, 1, 2]),
    ]
}

#[test]
fn every_page_as_its_table_has_it() {
    for (page, bytes) in pages() {
        assert_eq!(page.to_bytes(), bytes, "{page:?}");
        assert_eq!(ModePage::parse(&bytes).unwrap(), page);
        // PS, as MODE SENSE sets it.
        let mut savable = bytes.clone();
        savable[0] |= 0x80;
        assert_eq!(ModePage::parse(&savable).unwrap(), page);
        assert!(ModePage::parse(&bytes[..bytes.len() - 1]).is_err());
    }
}

fn lto_8(pages: Vec<ModePage>) -> ModeParameters {
    ModeParameters {
        medium_type: 0x88,
        write_protected: true,
        buffered_mode: 1,
        speed: 0,
        block_descriptor: Some(BlockDescriptor { density: 0x5e, blocks: 0, block_length: 0x04_0000 }),
        pages,
    }
}

#[test]
fn the_header_of_both_forms() {
    let page = ModePage::Other { page: 0x24, subpage: 0, bytes: vec![1, 2] };
    let six = [0x0f, 0x88, 0x90, 0x08, 0x5e, 0, 0, 0, 0, 0x04, 0, 0, 0x24, 2, 1, 2];
    let ten = [0, 0x12, 0x88, 0x90, 0, 0, 0, 0x08, 0x5e, 0, 0, 0, 0, 0x04, 0, 0, 0x24, 2, 1, 2];
    let whole = lto_8(vec![page]);
    assert_eq!(whole.to_bytes(Form::Six), six);
    assert_eq!(whole.to_bytes(Form::Ten), ten);
    assert_eq!(ModeParameters::parse(Form::Six, &six).unwrap(), whole);
    assert_eq!(ModeParameters::parse(Form::Ten, &ten).unwrap(), whole);
    // Fewer bytes: the page goes first, then the descriptor, then it is no mode parameter data.
    assert_eq!(ModeParameters::parse(Form::Six, &six[..15]).unwrap(), lto_8(vec![]));
    let header = ModeParameters { block_descriptor: None, ..lto_8(vec![]) };
    assert_eq!(ModeParameters::parse(Form::Six, &six[..4]).unwrap(), header);
    assert!(ModeParameters::parse(Form::Ten, &ten[..7]).is_err());
    // What stands behind MODE DATA LENGTH is not mode parameter data.
    assert_eq!(ModeParameters::parse(Form::Six, &[&six[..], &[0x24, 0]].concat()).unwrap(), whole);
}

#[test]
fn a_mode_select_list_is_taken_whole_or_not_at_all() {
    // st sets the block size: header and descriptor, no page.
    let list = [0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0x02, 0x00];
    let parameters = ModeParameters::parse_list(Form::Six, &list).unwrap();
    let descriptor = BlockDescriptor { density: 0, blocks: 0, block_length: 512 };
    assert_eq!((parameters.buffered_mode, parameters.block_descriptor), (1, Some(descriptor)));
    assert_eq!(parameters.to_list(Form::Six), list);
    let short = |needed, have| Err(WireError::Short { what: "mode parameter list", needed, have });
    assert_eq!(ModeParameters::parse_list(Form::Six, &list[..3]), short(4, 3));
    assert_eq!(ModeParameters::parse_list(Form::Six, &list[..9]), short(12, 9));
    let page = [&list[..], &[0x0f, 0x0e, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(ModeParameters::parse_list(Form::Six, &page).unwrap().pages.len(), 1);
    assert_eq!(ModeParameters::parse_list(Form::Six, &page[..27]), short(28, 27));
    // A page length that is not the page's; the field pointer goes to it.
    let wrong = |at| Err(WireError::Invalid { what: "mode parameter list", at });
    let other = [&list[..], &[0x0f, 0x02, 0x40, 0]].concat();
    assert_eq!(ModeParameters::parse_list(Form::Six, &other), wrong(13));
    let other = [&list[..], &[0x4a, 0x01, 0, 2, 0, 0]].concat();
    assert_eq!(ModeParameters::parse_list(Form::Six, &other), wrong(14));
    // Block descriptors have 8 bytes; those of LONGLBA are not a tape's.
    assert_eq!(ModeParameters::parse_list(Form::Six, &[0, 0, 0, 7]), wrong(3));
    assert_eq!(ModeParameters::parse_list(Form::Ten, &[0, 0, 0, 0, 1, 0, 0, 16]), wrong(6));
}

fn any_other() -> impl Strategy<Value = ModePage> {
    // Codes that no type has.
    (0x21..0x3f_u8, any::<u8>(), vec(any::<u8>(), 0..60)).prop_map(|(page, subpage, bytes)| ModePage::Other {
        page,
        subpage,
        bytes,
    })
}

proptest! {
    #[test]
    fn parameters_come_back(
        medium_type: u8, write_protected: bool, buffered_mode in 0..8_u8, speed in 0..16_u8,
        descriptor in proptest::option::of((any::<u8>(), 0..1_u32 << 24, 0..1_u32 << 24)),
        chosen in vec(0..18_usize, 0..3), others in vec(any_other(), 0..2),
    ) {
        let all = pages();
        let pages = chosen.into_iter().map(|number| all[number % all.len()].0.clone()).chain(others).collect();
        let descriptor =
            descriptor.map(|(density, blocks, block_length)| BlockDescriptor { density, blocks, block_length });
        let whole =
            ModeParameters { medium_type, write_protected, buffered_mode, speed, block_descriptor: descriptor, pages };
        for form in [Form::Six, Form::Ten] {
            prop_assert_eq!(&ModeParameters::parse(form, &whole.to_bytes(form)).unwrap(), &whole);
            prop_assert_eq!(&ModeParameters::parse_list(form, &whole.to_list(form)).unwrap(), &whole);
        }
    }

    /// Whatever the bits of a page say, writing and reading it again says the same.
    #[test]
    fn what_was_read_comes_back(bits in vec(any::<u8>(), 40), number in 0..18_usize) {
        let (_, mut bytes) = pages().swap_remove(number);
        let header = if bytes[0] & 0x40 == 0 { 2 } else { 4 };
        bytes.iter_mut().skip(header).zip(&bits).for_each(|(to, from)| *to = *from);
        let page = ModePage::parse(&bytes).unwrap();
        prop_assert_eq!(page.to_bytes().len(), bytes.len());
        prop_assert_eq!(ModePage::parse(&page.to_bytes()).unwrap(), page);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300), codes in (0..64_u8, any::<u8>())) {
        for form in [Form::Six, Form::Ten] {
            for bytes in [&bytes[..], &[&[0xff, 0xff, 0, 0, 0, 0, 0, 0, codes.0], &bytes[..]].concat()] {
                if let Ok(read) = ModeParameters::parse(form, bytes) {
                    prop_assert!(read.pages.len() <= bytes.len() / 2);
                    let _ = read.to_bytes(form);
                }
                let _ = ModeParameters::parse_list(form, bytes);
            }
        }
        let _ = ModePage::parse(&[&[codes.0], &bytes[..]].concat());
        let _ = ModePage::parse(&[&[codes.0 | 0x40, codes.1, 0, 8], &bytes[..]].concat());
    }
}
