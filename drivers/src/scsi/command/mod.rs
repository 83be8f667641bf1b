//! Command descriptor blocks (SPC-4 4.3, SSC-4 clauses 5 and 7): one type for what a unit is asked and what a drive is asked.
//!
//! [`Command::parse`] reads a block once, so that nothing behind it looks at bytes again; [`Command::encode`] writes it.
//! Fields that a drive has to check, but that cannot be told apart by their layout alone, stay in the command.

mod encode;
mod parse;

use super::{AdditionalSense, FieldPointer, Sense, SenseKey};

/// A place on the medium that LOCATE is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Destination {
    /// A logical object number (DEST_TYPE 00b).
    Object(u64),
    /// The beginning of a file: a number of filemarks from the beginning of the partition (DEST_TYPE 01b).
    File(u64),
    /// End of data (DEST_TYPE 11b).
    EndOfData,
}

/// Which values MODE SENSE and LOG SENSE ask for (PC field).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PageControl {
    /// 00b: current (mode), threshold (log).
    Current,
    /// 01b: changeable (mode), cumulative (log).
    Changeable,
    /// 10b: default (mode), default threshold (log).
    Default,
    /// 11b: saved (mode), default cumulative (log).
    Saved,
}

impl PageControl {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Current,
            1 => Self::Changeable,
            2 => Self::Default,
            _ => Self::Saved,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Current => 0,
            Self::Changeable => 1,
            Self::Default => 2,
            Self::Saved => 3,
        }
    }
}

/// Whether a mode command is the 6-byte or the 10-byte one; their parameter headers differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Form {
    /// 6 bytes: header of 4 bytes.
    Six,
    /// 10 bytes: header of 8 bytes.
    Ten,
}

/// A command for a sequential-access device or a medium changer. Lengths are in bytes unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names are those of SPC-4, SSC-4 and SMC-3")]
pub enum Command {
    TestUnitReady,
    Rewind {
        immediate: bool,
    },
    RequestSense {
        descriptor: bool,
        allocation: u8,
    },
    FormatMedium {
        verify: bool,
        immediate: bool,
        format: u8,
        length: u16,
    },
    ReadBlockLimits {
        largest_object: bool,
    },
    /// `length` counts bytes, or blocks when `fixed`.
    Read6 {
        fixed: bool,
        suppress_incorrect_length: bool,
        length: u32,
    },
    /// `length` counts bytes, or blocks when `fixed`.
    Write6 {
        fixed: bool,
        length: u32,
    },
    SetCapacity {
        immediate: bool,
        proportion: u16,
    },
    WriteFilemarks6 {
        immediate: bool,
        count: u32,
    },
    /// Codes: 0 blocks, 1 filemarks, 2 sequential filemarks, 3 end of data.
    Space6 {
        code: u8,
        count: i32,
    },
    Space16 {
        code: u8,
        count: i64,
    },
    Inquiry {
        vital_product_data: bool,
        page: u8,
        allocation: u16,
    },
    Verify6 {
        fixed: bool,
        byte_compare: bool,
        immediate: bool,
        length: u32,
    },
    ModeSelect {
        form: Form,
        page_format: bool,
        save: bool,
        length: u16,
    },
    ModeSense {
        form: Form,
        no_block_descriptors: bool,
        control: PageControl,
        page: u8,
        subpage: u8,
        allocation: u16,
    },
    Reserve6,
    Release6,
    Reserve10,
    Release10,
    Erase6 {
        immediate: bool,
        long: bool,
    },
    Erase16 {
        immediate: bool,
        long: bool,
    },
    LoadUnload {
        immediate: bool,
        hold: bool,
        end_of_tape: bool,
        retension: bool,
        load: bool,
    },
    ReceiveDiagnosticResults {
        page_code_valid: bool,
        page: u8,
        allocation: u16,
    },
    SendDiagnostic {
        self_test_code: u8,
        page_format: bool,
        self_test: bool,
        length: u16,
    },
    /// `prevent`: 0 allows, 1 prevents.
    PreventAllowMediumRemoval {
        prevent: u8,
    },
    Locate10 {
        immediate: bool,
        block_address_type: bool,
        partition: Option<u8>,
        object: u32,
    },
    Locate16 {
        immediate: bool,
        partition: Option<u8>,
        destination: Destination,
    },
    /// Actions: 0 and 1 short form, 6 long form, 8 extended form.
    ReadPosition {
        action: u8,
        allocation: u16,
    },
    WriteBuffer {
        mode: u8,
        id: u8,
        offset: u32,
        length: u32,
    },
    ReadBuffer {
        mode: u8,
        id: u8,
        offset: u32,
        allocation: u32,
    },
    ReportDensitySupport {
        medium: bool,
        medium_type: bool,
        allocation: u16,
    },
    LogSelect {
        reset: bool,
        save: bool,
        control: PageControl,
        page: u8,
        subpage: u8,
        length: u16,
    },
    LogSense {
        save: bool,
        control: PageControl,
        page: u8,
        subpage: u8,
        parameter: u16,
        allocation: u16,
    },
    PersistentReserveIn {
        action: u8,
        allocation: u16,
    },
    PersistentReserveOut {
        action: u8,
        scope: u8,
        kind: u8,
        length: u32,
    },
    AllowOverwrite {
        mode: u8,
        partition: u8,
        object: u64,
    },
    /// Actions: 0 values, 1 list, 2 logical volumes, 3 partitions, 5 supported.
    ReadAttribute {
        action: u8,
        volume: u8,
        partition: u8,
        first: u16,
        cache: bool,
        allocation: u32,
    },
    WriteAttribute {
        write_through: bool,
        volume: u8,
        partition: u8,
        length: u32,
    },
    ReportLuns {
        select: u8,
        allocation: u32,
    },
    SecurityProtocolIn {
        protocol: u8,
        specific: u16,
        allocation: u32,
    },
    SecurityProtocolOut {
        protocol: u8,
        specific: u16,
        length: u32,
    },
    ReportDeviceIdentifier {
        allocation: u32,
    },
    ReportTargetPortGroups {
        allocation: u32,
    },
    /// `options`: 0 all, 1 one operation code, 2 one with its service action, 3 either.
    ReportSupportedOperationCodes {
        timeouts: bool,
        options: u8,
        operation: u8,
        service_action: u16,
        allocation: u32,
    },
    ReportSupportedTaskManagement {
        extended: bool,
        allocation: u32,
    },
    ReportTimestamp {
        allocation: u32,
    },
    SetTimestamp {
        length: u32,
    },
    ReadMediaSerialNumber {
        allocation: u32,
    },
    // A medium changer's (SMC-3), for asking it what is where.
    InitializeElementStatus,
    ReadElementStatus {
        volume_tags: bool,
        kind: u8,
        first: u16,
        count: u16,
        device_identifiers: bool,
        current: bool,
        allocation: u32,
    },
}

/// A command descriptor block that is not a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CdbError {
    /// The operation code, or its service action, is not known here.
    UnknownOperation,
    /// A field has a value that it cannot have, or that is not supported.
    InvalidField(FieldPointer),
    /// Fewer bytes than the operation code asks for.
    Short,
}

impl CdbError {
    /// What a drive says to it (SPC-4 4.3.1, 4.5.2.4.2).
    pub fn sense(self) -> Sense {
        let additional = match self {
            Self::UnknownOperation => AdditionalSense::INVALID_COMMAND_OPERATION_CODE,
            Self::InvalidField(_) | Self::Short => AdditionalSense::INVALID_FIELD_IN_CDB,
        };
        let mut sense = Sense::new(SenseKey::ILLEGAL_REQUEST, additional);
        if let Self::InvalidField(field) = self {
            sense.field = Some(field);
        }
        sense
    }
}

/// Length of a command descriptor block by its operation code (SPC-4 4.2.5.1); `None` for variable and vendor lengths.
pub fn cdb_length(operation: u8) -> Option<usize> {
    match operation >> 5 {
        0 => Some(6),
        1 | 2 => Some(10),
        4 => Some(16),
        5 => Some(12),
        _ => None,
    }
}

impl Command {
    /// The operation code.
    pub fn operation(&self) -> u8 {
        match self {
            Self::TestUnitReady => 0x00,
            Self::Rewind { .. } => 0x01,
            Self::RequestSense { .. } => 0x03,
            Self::FormatMedium { .. } => 0x04,
            Self::ReadBlockLimits { .. } => 0x05,
            Self::InitializeElementStatus => 0x07,
            Self::Read6 { .. } => 0x08,
            Self::Write6 { .. } => 0x0a,
            Self::SetCapacity { .. } => 0x0b,
            Self::WriteFilemarks6 { .. } => 0x10,
            Self::Space6 { .. } => 0x11,
            Self::Inquiry { .. } => 0x12,
            Self::Verify6 { .. } => 0x13,
            Self::ModeSelect { form: Form::Six, .. } => 0x15,
            Self::ModeSelect { form: Form::Ten, .. } => 0x55,
            Self::ModeSense { form: Form::Six, .. } => 0x1a,
            Self::ModeSense { form: Form::Ten, .. } => 0x5a,
            Self::Reserve6 => 0x16,
            Self::Release6 => 0x17,
            Self::Reserve10 => 0x56,
            Self::Release10 => 0x57,
            Self::Erase6 { .. } => 0x19,
            Self::Erase16 { .. } => 0x93,
            Self::LoadUnload { .. } => 0x1b,
            Self::ReceiveDiagnosticResults { .. } => 0x1c,
            Self::SendDiagnostic { .. } => 0x1d,
            Self::PreventAllowMediumRemoval { .. } => 0x1e,
            Self::Locate10 { .. } => 0x2b,
            Self::Locate16 { .. } => 0x92,
            Self::Space16 { .. } => 0x91,
            Self::ReadPosition { .. } => 0x34,
            Self::WriteBuffer { .. } => 0x3b,
            Self::ReadBuffer { .. } => 0x3c,
            Self::ReportDensitySupport { .. } => 0x44,
            Self::LogSelect { .. } => 0x4c,
            Self::LogSense { .. } => 0x4d,
            Self::PersistentReserveIn { .. } => 0x5e,
            Self::PersistentReserveOut { .. } => 0x5f,
            Self::AllowOverwrite { .. } => 0x82,
            Self::ReadAttribute { .. } => 0x8c,
            Self::WriteAttribute { .. } => 0x8d,
            Self::ReportLuns { .. } => 0xa0,
            Self::SecurityProtocolIn { .. } => 0xa2,
            Self::SecurityProtocolOut { .. } => 0xb5,
            Self::ReportDeviceIdentifier { .. }
            | Self::ReportTargetPortGroups { .. }
            | Self::ReportSupportedOperationCodes { .. }
            | Self::ReportSupportedTaskManagement { .. }
            | Self::ReportTimestamp { .. } => 0xa3,
            Self::SetTimestamp { .. } => 0xa4,
            Self::ReadMediaSerialNumber { .. } => 0xab,
            Self::ReadElementStatus { .. } => 0xb8,
        }
    }
}

/// An encoded command descriptor block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb {
    bytes: [u8; 16],
    length: u8,
}

impl Cdb {
    fn new(operation: u8) -> Self {
        let mut bytes = [0; 16];
        bytes[0] = operation;
        let length = cdb_length(operation).and_then(|length| u8::try_from(length).ok()).unwrap_or(16);
        Self { bytes, length }
    }

    /// The bytes, 6 to 16 of them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}
