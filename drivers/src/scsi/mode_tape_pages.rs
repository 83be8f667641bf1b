//! Mode pages of sequential-access devices (SSC-4 8.3). Byte numbers are those of the tables, counted from the page's header; a
//! page that is shorter than it should be reads as zeros behind its end.

use super::wire::{Bytes, flag};

/// 0Ah/F0h: control data protection, which is logical block protection (SSC-4 8.3.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct ControlDataProtection {
    /// LOGICAL BLOCK PROTECTION METHOD: 0 none, 1 Reed-Solomon CRC, 2 CRC-32C.
    pub method: u8,
    /// LOGICAL BLOCK PROTECTION INFORMATION LENGTH in bytes, 6 bits.
    pub information_length: u8,
    /// LBP_W: blocks of WRITE carry it.
    pub writes: bool,
    /// LBP_R: blocks of READ carry it.
    pub reads: bool,
    /// RBDP: blocks of RECOVER BUFFERED DATA carry it.
    pub recovers: bool,
}

impl ControlDataProtection {
    pub(super) fn to_page(self) -> [u8; 32] {
        let mut p = [0; 32];
        p[4] = self.method;
        p[5] = self.information_length & 0x3f;
        p[6] = flag(self.writes, 7) | flag(self.reads, 6) | flag(self.recovers, 5);
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            method: b.u8(4),
            information_length: b.u8(5) & 0x3f,
            writes: b.bit(6, 7),
            reads: b.bit(6, 6),
            recovers: b.bit(6, 5),
        }
    }
}

/// 0Fh: data compression (SSC-4 8.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct DataCompression {
    /// DCE: blocks that are written are compressed.
    pub enabled: bool,
    /// DCC: the drive can compress.
    pub capable: bool,
    /// DDE: blocks that are read are expanded.
    pub decompression: bool,
    /// RED, 2 bits: how it is reported that compression changes between blocks.
    pub report_exceptions: u8,
    /// COMPRESSION ALGORITHM: 0 none, 1 the drive's default, 10h IBM ALDC with 2 048 bytes.
    pub compression_algorithm: u32,
    /// DECOMPRESSION ALGORITHM.
    pub decompression_algorithm: u32,
}

impl DataCompression {
    pub(super) fn to_page(self) -> [u8; 16] {
        let mut p = [0; 16];
        p[2] = flag(self.enabled, 7) | flag(self.capable, 6);
        p[3] = flag(self.decompression, 7) | (self.report_exceptions & 3) << 5;
        p[4..8].copy_from_slice(&self.compression_algorithm.to_be_bytes());
        p[8..12].copy_from_slice(&self.decompression_algorithm.to_be_bytes());
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            enabled: b.bit(2, 7),
            capable: b.bit(2, 6),
            decompression: b.bit(3, 7),
            report_exceptions: b.u8(3) >> 5 & 3,
            compression_algorithm: b.u32(4),
            decompression_algorithm: b.u32(8),
        }
    }
}

/// 10h: device configuration (SSC-4 8.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[allow(missing_docs, reason = "the names are those of SSC-4 8.3.3")]
pub struct DeviceConfiguration {
    /// CAF.
    pub change_active_format: bool,
    /// 5 bits.
    pub active_format: u8,
    pub active_partition: u8,
    pub write_buffer_full_ratio: u8,
    pub read_buffer_empty_ratio: u8,
    /// In units of 100 ms: how long data may stand in the buffer before it is written.
    pub write_delay_time: u16,
    /// OBR: RECOVER BUFFERED DATA works.
    pub object_buffer_recovery: bool,
    /// LOIS: objects are numbered on the medium.
    pub logical_object_identifiers: bool,
    /// RSMK, obsolete.
    pub report_setmarks: bool,
    /// AVC: the speed follows the data by itself.
    pub automatic_velocity_control: bool,
    /// SOCF, 2 bits.
    pub stop_on_consecutive_filemarks: u8,
    /// ROBO.
    pub recover_object_buffer_order: bool,
    /// REW: early warning is reported for reads too.
    pub report_early_warning_on_reads: bool,
    /// Obsolete.
    pub gap_size: u8,
    /// 3 bits.
    pub eod_defined: u8,
    /// EEG.
    pub enable_eod_generation: bool,
    /// SEW: at early warning the buffer is synchronised.
    pub synchronize_at_early_warning: bool,
    /// SWP: software write protect, until the power goes.
    pub software_write_protect: bool,
    /// BAML.
    pub block_address_mode_lock: bool,
    /// BAM.
    pub block_address_mode: bool,
    /// In bytes, 24 bits.
    pub buffer_size_at_early_warning: u32,
    /// 0: not compressed; 1: the default algorithm.
    pub select_data_compression_algorithm: u8,
    /// WTRE, 2 bits: what a WORM cartridge that was tampered with may still be used for.
    pub worm_tamper_read_enable: u8,
    /// OIR: commands need a reservation.
    pub only_if_reserved: bool,
    /// 2 bits.
    pub rewind_on_reset: u8,
    /// ASOCWP: the volume is write protected until it is unloaded.
    pub associated_write_protect: bool,
    /// PERSWP: the volume is write protected until the bit is cleared.
    pub persistent_write_protect: bool,
    /// PRMWP: the volume is write protected for good.
    pub permanent_write_protect: bool,
}

impl DeviceConfiguration {
    pub(super) fn to_page(self) -> [u8; 16] {
        let mut p = [0; 16];
        p[2] = flag(self.change_active_format, 5) | self.active_format & 0x1f;
        p[3] = self.active_partition;
        p[4] = self.write_buffer_full_ratio;
        p[5] = self.read_buffer_empty_ratio;
        p[6..8].copy_from_slice(&self.write_delay_time.to_be_bytes());
        p[8] = flag(self.object_buffer_recovery, 7)
            | flag(self.logical_object_identifiers, 6)
            | flag(self.report_setmarks, 5)
            | flag(self.automatic_velocity_control, 4)
            | (self.stop_on_consecutive_filemarks & 3) << 2
            | flag(self.recover_object_buffer_order, 1)
            | flag(self.report_early_warning_on_reads, 0);
        p[9] = self.gap_size;
        p[10] = self.eod_defined << 5
            | flag(self.enable_eod_generation, 4)
            | flag(self.synchronize_at_early_warning, 3)
            | flag(self.software_write_protect, 2)
            | flag(self.block_address_mode_lock, 1)
            | flag(self.block_address_mode, 0);
        p[11..14].copy_from_slice(&self.buffer_size_at_early_warning.min(0xff_ffff).to_be_bytes()[1..]);
        p[14] = self.select_data_compression_algorithm;
        p[15] = self.worm_tamper_read_enable << 6
            | flag(self.only_if_reserved, 5)
            | (self.rewind_on_reset & 3) << 3
            | flag(self.associated_write_protect, 2)
            | flag(self.persistent_write_protect, 1)
            | flag(self.permanent_write_protect, 0);
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            change_active_format: b.bit(2, 5),
            active_format: b.u8(2) & 0x1f,
            active_partition: b.u8(3),
            write_buffer_full_ratio: b.u8(4),
            read_buffer_empty_ratio: b.u8(5),
            write_delay_time: b.u16(6),
            object_buffer_recovery: b.bit(8, 7),
            logical_object_identifiers: b.bit(8, 6),
            report_setmarks: b.bit(8, 5),
            automatic_velocity_control: b.bit(8, 4),
            stop_on_consecutive_filemarks: b.u8(8) >> 2 & 3,
            recover_object_buffer_order: b.bit(8, 1),
            report_early_warning_on_reads: b.bit(8, 0),
            gap_size: b.u8(9),
            eod_defined: b.u8(10) >> 5,
            enable_eod_generation: b.bit(10, 4),
            synchronize_at_early_warning: b.bit(10, 3),
            software_write_protect: b.bit(10, 2),
            block_address_mode_lock: b.bit(10, 1),
            block_address_mode: b.bit(10, 0),
            buffer_size_at_early_warning: b.u24(11),
            select_data_compression_algorithm: b.u8(14),
            worm_tamper_read_enable: b.u8(15) >> 6,
            only_if_reserved: b.bit(15, 5),
            rewind_on_reset: b.u8(15) >> 3 & 3,
            associated_write_protect: b.bit(15, 2),
            persistent_write_protect: b.bit(15, 1),
            permanent_write_protect: b.bit(15, 0),
        }
    }
}

/// 10h/01h: device configuration extension (SSC-4 8.3.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct DeviceConfigurationExtension {
    /// TARPF: TapeAlert respects the parameter code of LOG SENSE.
    pub tape_alert_respects_fields: bool,
    /// TASER: TapeAlert flags are reported by exceptions only.
    pub tape_alert_select_exception_reporting: bool,
    /// TARPC: TapeAlert respects page control.
    pub tape_alert_respects_page_control: bool,
    /// TAPLSD: TapeAlert flags are prevented from clearing by LOG SENSE.
    pub tape_alert_prevent_log_sense_deactivation: bool,
    /// WRITE MODE, 4 bits: 0 overwrite, 1 append only.
    pub write_mode: u8,
    /// SHORT ERASE MODE, 4 bits: 0 as SSC-2 has it, 1 changes nothing on the medium, 2 records the end of data at the position.
    pub short_erase_mode: u8,
    /// PEWS: programmable early warning is this many megabytes (of 10^6 bytes) before early warning; 0: none.
    pub programmable_early_warning: u16,
    /// VCELBRE: volumes with encrypted blocks need encryption.
    pub volume_encryption_required: bool,
}

impl DeviceConfigurationExtension {
    pub(super) fn to_page(self) -> [u8; 32] {
        let mut p = [0; 32];
        p[4] = flag(self.tape_alert_respects_fields, 3)
            | flag(self.tape_alert_select_exception_reporting, 2)
            | flag(self.tape_alert_respects_page_control, 1)
            | flag(self.tape_alert_prevent_log_sense_deactivation, 0);
        p[5] = self.write_mode << 4 | self.short_erase_mode & 0x0f;
        p[6..8].copy_from_slice(&self.programmable_early_warning.to_be_bytes());
        p[8] = flag(self.volume_encryption_required, 0);
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self {
            tape_alert_respects_fields: b.bit(4, 3),
            tape_alert_select_exception_reporting: b.bit(4, 2),
            tape_alert_respects_page_control: b.bit(4, 1),
            tape_alert_prevent_log_sense_deactivation: b.bit(4, 0),
            write_mode: b.u8(5) >> 4,
            short_erase_mode: b.u8(5) & 0x0f,
            programmable_early_warning: b.u16(6),
            volume_encryption_required: b.bit(8, 0),
        }
    }
}

/// 11h: medium partition (SSC-4 8.3.4).
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct MediumPartition {
    /// MAXIMUM ADDITIONAL PARTITIONS.
    pub maximum_additional: u8,
    /// ADDITIONAL PARTITIONS DEFINED.
    pub additional_defined: u8,
    /// FDP: fixed data partitions.
    pub fixed: bool,
    /// SDP: the drive chooses the sizes.
    pub select: bool,
    /// IDP: the initiator chooses the sizes.
    pub initiator_defined: bool,
    /// PSUM, 2 bits: unit of the sizes: 0 bytes, 1 kilobytes, 2 megabytes, 3 ten to the power of `partition_units` bytes.
    pub size_unit: u8,
    /// POFM: the medium is partitioned by FORMAT MEDIUM, not by MODE SELECT.
    pub on_format_medium: bool,
    /// CLEAR.
    pub clear: bool,
    /// ADDP.
    pub add: bool,
    /// MEDIUM FORMAT RECOGNITION: 3 recognises format and partitions.
    pub format_recognition: u8,
    /// PARTITIONING TYPE, 4 bits: 0 drive's default, 1 optimised for streaming, 2 for fast access.
    pub partitioning_type: u8,
    /// PARTITION UNITS, 4 bits: the power of ten with `size_unit` 3.
    pub partition_units: u8,
    /// PARTITION SIZE of each, in that unit; FFFFh is what is left. 124 at most.
    pub sizes: Vec<u16>,
}

impl MediumPartition {
    /// As many sizes as the page length can count.
    const MOST: usize = 124;

    pub(super) fn to_page(&self) -> Vec<u8> {
        let mut p = vec![0; 8];
        p[2] = self.maximum_additional;
        p[3] = self.additional_defined;
        p[4] = flag(self.fixed, 7)
            | flag(self.select, 6)
            | flag(self.initiator_defined, 5)
            | (self.size_unit & 3) << 3
            | flag(self.on_format_medium, 2)
            | flag(self.clear, 1)
            | flag(self.add, 0);
        p[5] = self.format_recognition;
        p[6] = self.partitioning_type << 4 | self.partition_units & 0x0f;
        p.extend(self.sizes.iter().take(Self::MOST).flat_map(|size| size.to_be_bytes()));
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        let sizes = b.rest(8).chunks_exact(2).map(|pair| Bytes::new("partition size", pair).u16(0));
        Self {
            maximum_additional: b.u8(2),
            additional_defined: b.u8(3),
            fixed: b.bit(4, 7),
            select: b.bit(4, 6),
            initiator_defined: b.bit(4, 5),
            size_unit: b.u8(4) >> 3 & 3,
            on_format_medium: b.bit(4, 2),
            clear: b.bit(4, 1),
            add: b.bit(4, 0),
            format_recognition: b.u8(5),
            partitioning_type: b.u8(6) >> 4,
            partition_units: b.u8(6) & 0x0f,
            sizes: sizes.collect(),
        }
    }
}

/// 1Dh: medium configuration (SSC-4 8.3.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct MediumConfiguration {
    /// WORMM: the medium is treated as WORM.
    pub worm_mode: bool,
    /// WORM MODE LABEL RESTRICTIONS: 0 no block may be written over, 1 some types of labels may not, 2 all labels may.
    pub label_restrictions: u8,
    /// WORM MODE FILEMARKS RESTRICTIONS: of the filemarks right before the end of data may be written over: 2 all but the first, 3 all.
    pub filemark_restrictions: u8,
}

impl MediumConfiguration {
    pub(super) fn to_page(self) -> [u8; 32] {
        let mut p = [0; 32];
        p[2] = flag(self.worm_mode, 0);
        p[4] = self.label_restrictions;
        p[5] = self.filemark_restrictions;
        p
    }

    pub(super) fn from_page(b: Bytes<'_>) -> Self {
        Self { worm_mode: b.bit(2, 0), label_restrictions: b.u8(4), filemark_restrictions: b.u8(5) }
    }
}
