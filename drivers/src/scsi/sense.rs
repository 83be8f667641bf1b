//! Sense data (SPC-4 4.5).

use std::fmt;

/// Sense key (SPC-4 table 53), 4 bits. A newtype, so that a value unknown to us survives and prints.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenseKey(pub u8);

#[allow(missing_docs, reason = "the names are those of SPC-4 table 53")]
impl SenseKey {
    pub const NO_SENSE: Self = Self(0x0);
    pub const RECOVERED_ERROR: Self = Self(0x1);
    pub const NOT_READY: Self = Self(0x2);
    pub const MEDIUM_ERROR: Self = Self(0x3);
    pub const HARDWARE_ERROR: Self = Self(0x4);
    pub const ILLEGAL_REQUEST: Self = Self(0x5);
    pub const UNIT_ATTENTION: Self = Self(0x6);
    pub const DATA_PROTECT: Self = Self(0x7);
    pub const BLANK_CHECK: Self = Self(0x8);
    pub const COPY_ABORTED: Self = Self(0xa);
    pub const ABORTED_COMMAND: Self = Self(0xb);
    pub const VOLUME_OVERFLOW: Self = Self(0xd);
}

impl fmt::Debug for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NO_SENSE => "NO SENSE",
            Self::RECOVERED_ERROR => "RECOVERED ERROR",
            Self::NOT_READY => "NOT READY",
            Self::MEDIUM_ERROR => "MEDIUM ERROR",
            Self::HARDWARE_ERROR => "HARDWARE ERROR",
            Self::ILLEGAL_REQUEST => "ILLEGAL REQUEST",
            Self::UNIT_ATTENTION => "UNIT ATTENTION",
            Self::DATA_PROTECT => "DATA PROTECT",
            Self::BLANK_CHECK => "BLANK CHECK",
            Self::COPY_ABORTED => "COPY ABORTED",
            Self::ABORTED_COMMAND => "ABORTED COMMAND",
            Self::VOLUME_OVERFLOW => "VOLUME OVERFLOW",
            Self(other) => return write!(f, "SENSE KEY {other:#x}"),
        };
        f.write_str(name)
    }
}

/// Additional sense code and qualifier (SPC-4 annex F).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdditionalSense {
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
}

#[allow(missing_docs, reason = "the names are those of SPC-4 annex F")]
impl AdditionalSense {
    pub const NONE: Self = Self::new(0x00, 0x00);
    pub const FILEMARK_DETECTED: Self = Self::new(0x00, 0x01);
    pub const END_OF_PARTITION_MEDIUM_DETECTED: Self = Self::new(0x00, 0x02);
    pub const BEGINNING_OF_PARTITION_DETECTED: Self = Self::new(0x00, 0x04);
    pub const END_OF_DATA_DETECTED: Self = Self::new(0x00, 0x05);
    pub const PROGRAMMABLE_EARLY_WARNING: Self = Self::new(0x00, 0x07);
    pub const OPERATION_IN_PROGRESS: Self = Self::new(0x00, 0x16);
    pub const CLEANING_REQUESTED: Self = Self::new(0x00, 0x17);
    pub const PERIPHERAL_DEVICE_WRITE_FAULT: Self = Self::new(0x03, 0x00);
    pub const EXCESSIVE_WRITE_ERRORS: Self = Self::new(0x03, 0x02);
    pub const CAUSE_NOT_REPORTABLE: Self = Self::new(0x04, 0x00);
    pub const LOGICAL_UNIT_NOT_READY_BECOMING_READY: Self = Self::new(0x04, 0x01);
    pub const INITIALIZING_COMMAND_REQUIRED: Self = Self::new(0x04, 0x02);
    pub const MANUAL_INTERVENTION_REQUIRED: Self = Self::new(0x04, 0x03);
    pub const FORMAT_IN_PROGRESS: Self = Self::new(0x04, 0x04);
    pub const LOGICAL_UNIT_NOT_READY_OPERATION_IN_PROGRESS: Self = Self::new(0x04, 0x07);
    pub const LOGICAL_UNIT_OFFLINE: Self = Self::new(0x04, 0x12);
    pub const WRITE_ERROR: Self = Self::new(0x0c, 0x00);
    pub const AUXILIARY_MEMORY_WRITE_ERROR: Self = Self::new(0x0c, 0x0b);
    pub const WRITE_APPEND_ERROR: Self = Self::new(0x50, 0x00);
    pub const WRITE_APPEND_POSITION_ERROR: Self = Self::new(0x50, 0x01);
    pub const LOGICAL_BLOCK_GUARD_CHECK_FAILED: Self = Self::new(0x10, 0x01);
    pub const UNRECOVERED_READ_ERROR: Self = Self::new(0x11, 0x00);
    pub const READ_RETRIES_EXHAUSTED: Self = Self::new(0x11, 0x01);
    pub const CANNOT_DECOMPRESS_USING_DECLARED_ALGORITHM: Self = Self::new(0x11, 0x0e);
    pub const AUXILIARY_MEMORY_READ_ERROR: Self = Self::new(0x11, 0x12);
    pub const RECORDED_ENTITY_NOT_FOUND: Self = Self::new(0x14, 0x00);
    pub const RECORD_NOT_FOUND: Self = Self::new(0x14, 0x01);
    pub const FILEMARK_OR_SETMARK_NOT_FOUND: Self = Self::new(0x14, 0x02);
    pub const END_OF_DATA_NOT_FOUND: Self = Self::new(0x14, 0x03);
    pub const BLOCK_SEQUENCE_ERROR: Self = Self::new(0x14, 0x04);
    pub const RANDOM_POSITIONING_ERROR: Self = Self::new(0x15, 0x00);
    pub const POSITIONING_ERROR_DETECTED_BY_READ: Self = Self::new(0x15, 0x02);
    pub const PARAMETER_LIST_LENGTH_ERROR: Self = Self::new(0x1a, 0x00);
    pub const INVALID_COMMAND_OPERATION_CODE: Self = Self::new(0x20, 0x00);
    pub const INVALID_FIELD_IN_CDB: Self = Self::new(0x24, 0x00);
    pub const LOGICAL_UNIT_NOT_SUPPORTED: Self = Self::new(0x25, 0x00);
    pub const INVALID_FIELD_IN_PARAMETER_LIST: Self = Self::new(0x26, 0x00);
    pub const PARAMETER_NOT_SUPPORTED: Self = Self::new(0x26, 0x01);
    pub const PARAMETER_VALUE_INVALID: Self = Self::new(0x26, 0x02);
    pub const WRITE_PROTECTED: Self = Self::new(0x27, 0x00);
    pub const HARDWARE_WRITE_PROTECTED: Self = Self::new(0x27, 0x01);
    pub const LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED: Self = Self::new(0x27, 0x02);
    pub const ASSOCIATED_WRITE_PROTECT: Self = Self::new(0x27, 0x03);
    pub const PERSISTENT_WRITE_PROTECT: Self = Self::new(0x27, 0x04);
    pub const PERMANENT_WRITE_PROTECT: Self = Self::new(0x27, 0x05);
    pub const CONDITIONAL_WRITE_PROTECT: Self = Self::new(0x27, 0x06);
    pub const MEDIUM_MAY_HAVE_CHANGED: Self = Self::new(0x28, 0x00);
    pub const IMPORT_OR_EXPORT_ELEMENT_ACCESSED: Self = Self::new(0x28, 0x01);
    pub const POWER_ON_RESET: Self = Self::new(0x29, 0x00);
    pub const POWER_ON_OCCURRED: Self = Self::new(0x29, 0x01);
    pub const SCSI_BUS_RESET_OCCURRED: Self = Self::new(0x29, 0x02);
    pub const BUS_DEVICE_RESET: Self = Self::new(0x29, 0x03);
    pub const DEVICE_INTERNAL_RESET: Self = Self::new(0x29, 0x04);
    pub const I_T_NEXUS_LOSS_OCCURRED: Self = Self::new(0x29, 0x07);
    pub const PARAMETERS_CHANGED: Self = Self::new(0x2a, 0x00);
    pub const MODE_PARAMETERS_CHANGED: Self = Self::new(0x2a, 0x01);
    pub const LOG_PARAMETERS_CHANGED: Self = Self::new(0x2a, 0x02);
    pub const RESERVATIONS_PREEMPTED: Self = Self::new(0x2a, 0x03);
    pub const RESERVATIONS_RELEASED: Self = Self::new(0x2a, 0x04);
    pub const DATA_ENCRYPTION_PARAMETERS_CHANGED_BY_ANOTHER_I_T_NEXUS: Self = Self::new(0x2a, 0x11);
    pub const COMMAND_SEQUENCE_ERROR: Self = Self::new(0x2c, 0x00);
    pub const COMMANDS_CLEARED_BY_ANOTHER_INITIATOR: Self = Self::new(0x2f, 0x00);
    pub const INCOMPATIBLE_MEDIUM_INSTALLED: Self = Self::new(0x30, 0x00);
    pub const CANNOT_READ_MEDIUM_UNKNOWN_FORMAT: Self = Self::new(0x30, 0x01);
    pub const CANNOT_READ_MEDIUM_INCOMPATIBLE_FORMAT: Self = Self::new(0x30, 0x02);
    pub const CLEANING_CARTRIDGE_INSTALLED: Self = Self::new(0x30, 0x03);
    pub const CANNOT_WRITE_MEDIUM: Self = Self::new(0x30, 0x05);
    pub const CLEANING_FAILURE: Self = Self::new(0x30, 0x07);
    pub const WORM_OVERWRITE_ATTEMPTED: Self = Self::new(0x30, 0x0c);
    pub const MEDIUM_FORMAT_CORRUPTED: Self = Self::new(0x31, 0x00);
    pub const TAPE_LENGTH_ERROR: Self = Self::new(0x33, 0x00);
    pub const ROUNDED_PARAMETER: Self = Self::new(0x37, 0x00);
    pub const SAVING_PARAMETERS_NOT_SUPPORTED: Self = Self::new(0x39, 0x00);
    pub const MEDIUM_NOT_PRESENT: Self = Self::new(0x3a, 0x00);
    pub const MEDIUM_NOT_PRESENT_LOADABLE: Self = Self::new(0x3a, 0x03);
    pub const MEDIUM_NOT_PRESENT_MEDIUM_AUXILIARY_MEMORY_ACCESSIBLE: Self = Self::new(0x3a, 0x04);
    pub const SEQUENTIAL_POSITIONING_ERROR: Self = Self::new(0x3b, 0x00);
    pub const POSITION_PAST_BEGINNING_OF_MEDIUM: Self = Self::new(0x3b, 0x0c);
    pub const TAPE_POSITION_ERROR_AT_BEGINNING_OF_MEDIUM: Self = Self::new(0x3b, 0x01);
    pub const TAPE_POSITION_ERROR_AT_END_OF_MEDIUM: Self = Self::new(0x3b, 0x02);
    pub const REPOSITION_ERROR: Self = Self::new(0x3b, 0x08);
    pub const MEDIUM_DESTINATION_ELEMENT_FULL: Self = Self::new(0x3b, 0x0d);
    pub const MEDIUM_SOURCE_ELEMENT_EMPTY: Self = Self::new(0x3b, 0x0e);
    pub const LOGICAL_UNIT_HAS_NOT_SELF_CONFIGURED_YET: Self = Self::new(0x3e, 0x00);
    pub const LOGICAL_UNIT_FAILURE: Self = Self::new(0x3e, 0x01);
    pub const TARGET_OPERATING_CONDITIONS_HAVE_CHANGED: Self = Self::new(0x3f, 0x00);
    pub const MICROCODE_HAS_BEEN_CHANGED: Self = Self::new(0x3f, 0x01);
    pub const INQUIRY_DATA_HAS_CHANGED: Self = Self::new(0x3f, 0x03);
    pub const REPORTED_LUNS_DATA_HAS_CHANGED: Self = Self::new(0x3f, 0x0e);
    pub const LOGICAL_UNIT_FAILED_SELF_TEST: Self = Self::new(0x3e, 0x03);
    pub const INTERNAL_TARGET_FAILURE: Self = Self::new(0x44, 0x00);
    pub const DATA_PHASE_ERROR: Self = Self::new(0x4b, 0x00);
    pub const OVERLAPPED_COMMANDS_ATTEMPTED: Self = Self::new(0x4e, 0x00);
    pub const ERASE_FAILURE: Self = Self::new(0x51, 0x00);
    pub const CARTRIDGE_FAULT: Self = Self::new(0x52, 0x00);
    pub const MEDIA_LOAD_OR_EJECT_FAILED: Self = Self::new(0x53, 0x00);
    pub const UNLOAD_TAPE_FAILURE: Self = Self::new(0x53, 0x01);
    pub const MEDIUM_REMOVAL_PREVENTED: Self = Self::new(0x53, 0x02);
    pub const AUXILIARY_MEMORY_OUT_OF_SPACE: Self = Self::new(0x55, 0x06);
    pub const OPERATOR_MEDIUM_REMOVAL_REQUEST: Self = Self::new(0x5a, 0x01);
    pub const OPERATOR_SELECTED_WRITE_PROTECT: Self = Self::new(0x5a, 0x02);
    pub const LOG_EXCEPTION: Self = Self::new(0x5b, 0x00);
    pub const FAILURE_PREDICTION_THRESHOLD_EXCEEDED: Self = Self::new(0x5d, 0x00);
    pub const FAILURE_PREDICTION_THRESHOLD_EXCEEDED_FALSE: Self = Self::new(0x5d, 0xff);
    pub const LOW_POWER_CONDITION_ON: Self = Self::new(0x5e, 0x00);
    pub const SECURITY_ERROR: Self = Self::new(0x74, 0x00);
    pub const UNABLE_TO_DECRYPT_DATA: Self = Self::new(0x74, 0x01);
    pub const UNENCRYPTED_DATA_WHILE_DECRYPTING: Self = Self::new(0x74, 0x02);
    pub const INCORRECT_DATA_ENCRYPTION_KEY: Self = Self::new(0x74, 0x03);
    pub const CRYPTOGRAPHIC_INTEGRITY_VALIDATION_FAILED: Self = Self::new(0x74, 0x04);
    pub const LOGICAL_UNIT_ACCESS_NOT_AUTHORIZED: Self = Self::new(0x74, 0x71);

    /// The pair as SPC-4 writes it: `ASCh/ASCQh`.
    pub const fn new(asc: u8, ascq: u8) -> Self {
        Self { asc, ascq }
    }
}

impl fmt::Debug for AdditionalSense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}h/{:02X}h", self.asc, self.ascq)
    }
}

/// The stream-command bits of sense data (SSC-4 4.2.21).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Hash)]
pub struct SenseFlags {
    /// FILEMARK: the command met a filemark.
    pub filemark: bool,
    /// EOM: the command met the end (or, backward, the beginning) of the partition, or early warning.
    pub end_of_medium: bool,
    /// ILI: the requested length was not the length of the block.
    pub incorrect_length: bool,
    /// Deferred: the error belongs to a command that was acknowledged before (response code 71h).
    pub deferred: bool,
}

/// Which field was wrong (SPC-4 4.5.2.4.2): the sense-key specific bytes of ILLEGAL REQUEST.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct FieldPointer {
    /// C/D: the field stands in the command descriptor block, not in the parameter data.
    pub in_cdb: bool,
    /// Its first byte, from 0.
    pub byte: u16,
    /// Its highest bit, where the field is not whole bytes.
    pub bit: Option<u8>,
}

/// Sense data, independent of its form on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sense {
    /// Sense key.
    pub key: SenseKey,
    /// ASC and ASCQ.
    pub additional: AdditionalSense,
    /// FILEMARK, EOM, ILI, deferred.
    pub flags: SenseFlags,
    /// INFORMATION where VALID is set: the residue, signed (requested minus done).
    pub information: Option<i64>,
    /// With ILLEGAL REQUEST: which field was wrong.
    pub field: Option<FieldPointer>,
}

impl Sense {
    /// Sense with neither flags nor information.
    pub const fn new(key: SenseKey, additional: AdditionalSense) -> Self {
        let flags = SenseFlags { filemark: false, end_of_medium: false, incorrect_length: false, deferred: false };
        Self { key, additional, flags, information: None, field: None }
    }
}

impl fmt::Debug for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.key, self.additional)?;
        for (set, name) in [
            (self.flags.filemark, "FILEMARK"),
            (self.flags.end_of_medium, "EOM"),
            (self.flags.incorrect_length, "ILI"),
            (self.flags.deferred, "DEFERRED"),
        ] {
            if set {
                write!(f, " {name}")?;
            }
        }
        if let Some(information) = self.information {
            write!(f, " INFORMATION={information}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
