//! Mode pages of all devices (SPC-4 7.5.8 to 7.5.13) and error recovery (SSC-4 8.3.5). Byte numbers are those of the tables,
//! counted from the page's header; a page that is shorter than it should be reads as zeros behind its end.

use super::wire::{Bytes, flag};

/// 01h: read-write error recovery (SSC-4 8.3.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[allow(missing_docs, reason = "the names are those of SSC-4 8.3.5")]
pub struct ReadWriteErrorRecovery {
    /// TB: a block that could not be read is sent all the same.
    pub transfer_block: bool,
    /// EER: the fastest recovery first.
    pub enable_early_recovery: bool,
    /// PER: recovered errors are reported.
    pub post_error: bool,
    /// DTE: a recovered error ends the transfer.
    pub disable_transfer_on_error: bool,
    /// DCR: no error correction codes.
    pub disable_correction: bool,
    pub read_retry_count: u8,
    pub write_retry_count: u8,
}

impl ReadWriteErrorRecovery {
    pub(super) fn to_page(self) -> [u8; 12] {
        let mut p = [0; 12];
        p[2] = flag(self.transfer_block, 5)
            | flag(self.enable_early_recovery, 3)
            | flag(self.post_error, 2)
            | flag(self.disable_transfer_on_error, 1)
            | flag(self.disable_correction, 0);
        p[3] = self.read_retry_count;
        p[8] = self.write_retry_count;
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            transfer_block: b.bit(2, 5),
            enable_early_recovery: b.bit(2, 3),
            post_error: b.bit(2, 2),
            disable_transfer_on_error: b.bit(2, 1),
            disable_correction: b.bit(2, 0),
            read_retry_count: b.u8(3),
            write_retry_count: b.u8(8),
        }
    }
}

/// 02h: disconnect-reconnect (SPC-4 7.5.10).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[allow(missing_docs, reason = "the names are those of SPC-4 7.5.10")]
pub struct DisconnectReconnect {
    pub buffer_full_ratio: u8,
    pub buffer_empty_ratio: u8,
    pub bus_inactivity_limit: u16,
    pub disconnect_time_limit: u16,
    pub connect_time_limit: u16,
    /// In units of 512 bytes.
    pub maximum_burst_size: u16,
    /// EMDP.
    pub enable_modify_data_pointers: bool,
    /// 3 bits.
    pub fair_arbitration: u8,
    /// DIMM.
    pub disconnect_immediate: bool,
    /// DTDC, 3 bits.
    pub data_transfer_disconnect_control: u8,
    /// In units of 512 bytes.
    pub first_burst_size: u16,
}

impl DisconnectReconnect {
    pub(super) fn to_page(self) -> [u8; 16] {
        let mut p = [0; 16];
        p[2] = self.buffer_full_ratio;
        p[3] = self.buffer_empty_ratio;
        p[4..6].copy_from_slice(&self.bus_inactivity_limit.to_be_bytes());
        p[6..8].copy_from_slice(&self.disconnect_time_limit.to_be_bytes());
        p[8..10].copy_from_slice(&self.connect_time_limit.to_be_bytes());
        p[10..12].copy_from_slice(&self.maximum_burst_size.to_be_bytes());
        p[12] = flag(self.enable_modify_data_pointers, 7)
            | (self.fair_arbitration & 7) << 4
            | flag(self.disconnect_immediate, 3)
            | self.data_transfer_disconnect_control & 7;
        p[14..16].copy_from_slice(&self.first_burst_size.to_be_bytes());
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            buffer_full_ratio: b.u8(2),
            buffer_empty_ratio: b.u8(3),
            bus_inactivity_limit: b.u16(4),
            disconnect_time_limit: b.u16(6),
            connect_time_limit: b.u16(8),
            maximum_burst_size: b.u16(10),
            enable_modify_data_pointers: b.bit(12, 7),
            fair_arbitration: b.u8(12) >> 4 & 7,
            disconnect_immediate: b.bit(12, 3),
            data_transfer_disconnect_control: b.u8(12) & 7,
            first_burst_size: b.u16(14),
        }
    }
}

/// 0Ah: control (SPC-4 7.5.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[allow(missing_docs, reason = "the names are those of SPC-4 7.5.8")]
pub struct Control {
    /// TST, 3 bits: 0 one task set for all, 1 one for each nexus.
    pub task_set_type: u8,
    /// TMF_ONLY.
    pub task_management_only: bool,
    /// DPICZ.
    pub disable_protection_check_if_zero: bool,
    /// D_SENSE: sense data goes in descriptor format.
    pub descriptor_sense: bool,
    /// GLTSD: log parameters are not saved by themselves.
    pub global_logging_target_save_disable: bool,
    /// RLEC: a log threshold that was met is reported.
    pub report_log_exception: bool,
    /// 4 bits: 0 restricted, 1 unrestricted.
    pub queue_algorithm_modifier: u8,
    /// NUAR.
    pub no_unit_attention_on_release: bool,
    /// QERR, 2 bits.
    pub queue_error_management: u8,
    /// RAC.
    pub report_a_check: bool,
    /// UA_INTLCK_CTRL, 2 bits.
    pub unit_attention_interlocks: u8,
    /// SWP: software write protect.
    pub software_write_protect: bool,
    /// ATO.
    pub application_tag_owner: bool,
    /// TAS: TASK ABORTED for commands that another initiator ended.
    pub task_aborted_status: bool,
    /// ATMPE.
    pub application_tag_mode_page: bool,
    /// RWWP.
    pub reject_write_without_protection: bool,
    /// 3 bits: 0 loads fully, 1 the auxiliary memory only, 2 not at all.
    pub autoload_mode: u8,
    /// In units of 100 ms; FFFFh: without limit.
    pub busy_timeout_period: u16,
    /// In seconds.
    pub extended_self_test_completion_time: u16,
}

impl Control {
    pub(super) fn to_page(self) -> [u8; 12] {
        let mut p = [0; 12];
        p[2] = self.task_set_type << 5
            | flag(self.task_management_only, 4)
            | flag(self.disable_protection_check_if_zero, 3)
            | flag(self.descriptor_sense, 2)
            | flag(self.global_logging_target_save_disable, 1)
            | flag(self.report_log_exception, 0);
        p[3] = self.queue_algorithm_modifier << 4
            | flag(self.no_unit_attention_on_release, 3)
            | (self.queue_error_management & 3) << 1;
        p[4] = flag(self.report_a_check, 6)
            | (self.unit_attention_interlocks & 3) << 4
            | flag(self.software_write_protect, 3);
        p[5] = flag(self.application_tag_owner, 7)
            | flag(self.task_aborted_status, 6)
            | flag(self.application_tag_mode_page, 5)
            | flag(self.reject_write_without_protection, 4)
            | self.autoload_mode & 7;
        p[8..10].copy_from_slice(&self.busy_timeout_period.to_be_bytes());
        p[10..12].copy_from_slice(&self.extended_self_test_completion_time.to_be_bytes());
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            task_set_type: b.u8(2) >> 5,
            task_management_only: b.bit(2, 4),
            disable_protection_check_if_zero: b.bit(2, 3),
            descriptor_sense: b.bit(2, 2),
            global_logging_target_save_disable: b.bit(2, 1),
            report_log_exception: b.bit(2, 0),
            queue_algorithm_modifier: b.u8(3) >> 4,
            no_unit_attention_on_release: b.bit(3, 3),
            queue_error_management: b.u8(3) >> 1 & 3,
            report_a_check: b.bit(4, 6),
            unit_attention_interlocks: b.u8(4) >> 4 & 3,
            software_write_protect: b.bit(4, 3),
            application_tag_owner: b.bit(5, 7),
            task_aborted_status: b.bit(5, 6),
            application_tag_mode_page: b.bit(5, 5),
            reject_write_without_protection: b.bit(5, 4),
            autoload_mode: b.u8(5) & 7,
            busy_timeout_period: b.u16(8),
            extended_self_test_completion_time: b.u16(10),
        }
    }
}

/// 0Ah/01h: control extension (SPC-4 7.5.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[allow(missing_docs, reason = "the names are those of SPC-4 7.5.9")]
pub struct ControlExtension {
    /// TCMOS: the clock can be set from elsewhere than SET TIMESTAMP.
    pub timestamp_changeable_by_others: bool,
    /// SCSIP: SET TIMESTAMP goes before every other way.
    pub scsi_precedence: bool,
    /// IALUAE.
    pub implicit_asymmetric_access: bool,
    /// 4 bits.
    pub initial_command_priority: u8,
    pub maximum_sense_data_length: u8,
}

impl ControlExtension {
    pub(super) fn to_page(self) -> [u8; 32] {
        let mut p = [0; 32];
        p[4] = flag(self.timestamp_changeable_by_others, 2)
            | flag(self.scsi_precedence, 1)
            | flag(self.implicit_asymmetric_access, 0);
        p[5] = self.initial_command_priority & 0x0f;
        p[6] = self.maximum_sense_data_length;
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            timestamp_changeable_by_others: b.bit(4, 2),
            scsi_precedence: b.bit(4, 1),
            implicit_asymmetric_access: b.bit(4, 0),
            initial_command_priority: b.u8(5) & 0x0f,
            maximum_sense_data_length: b.u8(6),
        }
    }
}

/// 1Ah: power condition (SPC-4 7.5.13).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[allow(missing_docs, reason = "the names are those of SPC-4 7.5.13")]
pub struct PowerCondition {
    /// PM_BG_PRECEDENCE, 2 bits.
    pub background_precedence: u8,
    pub standby_y: bool,
    pub idle_c: bool,
    pub idle_b: bool,
    pub idle_a: bool,
    pub standby_z: bool,
    /// In units of 100 ms, as are the other timers.
    pub idle_a_timer: u32,
    pub standby_z_timer: u32,
    pub idle_b_timer: u32,
    pub idle_c_timer: u32,
    pub standby_y_timer: u32,
    /// CCF_IDLE, CCF_STANDBY and CCF_STOPPED, 2 bits each from bit 7 on.
    pub check_condition_from: u8,
}

impl PowerCondition {
    pub(super) fn to_page(self) -> [u8; 40] {
        let mut p = [0; 40];
        p[2] = self.background_precedence << 6 | flag(self.standby_y, 0);
        p[3] = flag(self.idle_c, 3) | flag(self.idle_b, 2) | flag(self.idle_a, 1) | flag(self.standby_z, 0);
        p[4..8].copy_from_slice(&self.idle_a_timer.to_be_bytes());
        p[8..12].copy_from_slice(&self.standby_z_timer.to_be_bytes());
        p[12..16].copy_from_slice(&self.idle_b_timer.to_be_bytes());
        p[16..20].copy_from_slice(&self.idle_c_timer.to_be_bytes());
        p[20..24].copy_from_slice(&self.standby_y_timer.to_be_bytes());
        p[39] = self.check_condition_from & 0xfc;
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            background_precedence: b.u8(2) >> 6,
            standby_y: b.bit(2, 0),
            idle_c: b.bit(3, 3),
            idle_b: b.bit(3, 2),
            idle_a: b.bit(3, 1),
            standby_z: b.bit(3, 0),
            idle_a_timer: b.u32(4),
            standby_z_timer: b.u32(8),
            idle_b_timer: b.u32(12),
            idle_c_timer: b.u32(16),
            standby_y_timer: b.u32(20),
            check_condition_from: b.u8(39) & 0xfc,
        }
    }
}

/// 1Ch: informational exceptions control (SPC-4 7.5.12, SSC-4 8.3.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[allow(missing_docs, reason = "the names are those of SPC-4 7.5.12")]
pub struct InformationalExceptions {
    /// PERF.
    pub performance: bool,
    /// EBF.
    pub enable_background_function: bool,
    /// EWASC: warnings are reported.
    pub enable_warning: bool,
    /// DEXCPT: no failure predictions; TapeAlert is then only polled.
    pub disable_exception_control: bool,
    /// TEST: a made-up prediction, to see who hears it.
    pub test: bool,
    /// EBACKERR.
    pub enable_background_error: bool,
    /// LOGERR.
    pub log_errors: bool,
    /// MRIE, 4 bits.
    pub method_of_reporting: u8,
    /// In units of 100 ms.
    pub interval_timer: u32,
    /// REPORT COUNT, or TEST FLAG NUMBER of a TapeAlert test.
    pub report_count: u32,
}

impl InformationalExceptions {
    pub(super) fn to_page(self) -> [u8; 12] {
        let mut p = [0; 12];
        p[2] = flag(self.performance, 7)
            | flag(self.enable_background_function, 5)
            | flag(self.enable_warning, 4)
            | flag(self.disable_exception_control, 3)
            | flag(self.test, 2)
            | flag(self.enable_background_error, 1)
            | flag(self.log_errors, 0);
        p[3] = self.method_of_reporting & 0x0f;
        p[4..8].copy_from_slice(&self.interval_timer.to_be_bytes());
        p[8..12].copy_from_slice(&self.report_count.to_be_bytes());
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            performance: b.bit(2, 7),
            enable_background_function: b.bit(2, 5),
            enable_warning: b.bit(2, 4),
            disable_exception_control: b.bit(2, 3),
            test: b.bit(2, 2),
            enable_background_error: b.bit(2, 1),
            log_errors: b.bit(2, 0),
            method_of_reporting: b.u8(3) & 0x0f,
            interval_timer: b.u32(4),
            report_count: b.u32(8),
        }
    }
}
