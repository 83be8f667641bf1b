//! Command descriptor blocks (SPC-4 4.3, SSC-4 clauses 5 and 7): one type for what a unit is asked and what a drive is asked.
//!
//! [`Command::parse`] reads a block once, so that nothing behind it looks at bytes again; [`Command::encode`] writes it.
//! Fields that a drive has to check, but that cannot be told apart by their layout alone, stay in the command.

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

fn be16(cdb: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([cdb[at], cdb[at + 1]])
}
fn be24(cdb: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([0, cdb[at], cdb[at + 1], cdb[at + 2]])
}
fn be32(cdb: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]])
}
fn be64(cdb: &[u8], at: usize) -> u64 {
    u64::from(be32(cdb, at)) << 32 | u64::from(be32(cdb, at + 4))
}
fn bit(byte: u8, number: u8) -> bool {
    byte >> number & 1 == 1
}
fn invalid(byte: u16, bit: Option<u8>) -> CdbError {
    CdbError::InvalidField(FieldPointer { in_cdb: true, byte, bit })
}

impl Command {
    /// Reads a command descriptor block; bytes behind its length are ignored.
    ///
    /// # Errors
    /// [`CdbError`], which names the field.
    pub fn parse(cdb: &[u8]) -> Result<Self, CdbError> {
        let &operation = cdb.first().ok_or(CdbError::Short)?;
        let length = cdb_length(operation).ok_or(CdbError::UnknownOperation)?;
        let cdb = cdb.get(..length).ok_or(CdbError::Short)?;
        // NACA and the obsolete LINK (SAM-5 5.2): no drive of this class has either.
        let control = cdb[length - 1];
        if control & 0x05 != 0 {
            let number = if bit(control, 2) { 2 } else { 0 };
            let at = u16::try_from(length - 1).unwrap_or(u16::MAX);
            // An unknown operation code is told as that, whatever stands behind it.
            return Self::fields(operation, cdb).and(Err(invalid(at, Some(number))));
        }
        Self::fields(operation, cdb)
    }

    fn fields(operation: u8, cdb: &[u8]) -> Result<Self, CdbError> {
        let flags = cdb[1];
        Ok(match operation {
            0x00 => Self::TestUnitReady,
            0x01 => Self::Rewind { immediate: bit(flags, 0) },
            0x03 => Self::RequestSense { descriptor: bit(flags, 0), allocation: cdb[4] },
            0x04 => Self::FormatMedium {
                verify: bit(flags, 1),
                immediate: bit(flags, 0),
                format: cdb[2] & 0x0f,
                length: be16(cdb, 3),
            },
            0x05 => Self::ReadBlockLimits { largest_object: bit(flags, 0) },
            0x07 => Self::InitializeElementStatus,
            0x08 => {
                let (fixed, sili) = (bit(flags, 0), bit(flags, 1));
                if fixed && sili {
                    return Err(invalid(1, Some(1))); // SSC-4 7.5: SILI and FIXED together are refused.
                }
                Self::Read6 { fixed, suppress_incorrect_length: sili, length: be24(cdb, 2) }
            }
            0x0a => Self::Write6 { fixed: bit(flags, 0), length: be24(cdb, 2) },
            0x0b => Self::SetCapacity { immediate: bit(flags, 0), proportion: be16(cdb, 3) },
            0x10 => {
                if bit(flags, 1) {
                    return Err(invalid(1, Some(1))); // Setmarks are obsolete.
                }
                Self::WriteFilemarks6 { immediate: bit(flags, 0), count: be24(cdb, 2) }
            }
            0x11 => Self::Space6 { code: flags & 0x0f, count: (be24(cdb, 2) << 8).cast_signed() >> 8 },
            0x12 => {
                let vital_product_data = bit(flags, 0);
                if bit(flags, 1) {
                    return Err(invalid(1, Some(1))); // CMDDT is obsolete.
                }
                if !vital_product_data && cdb[2] != 0 {
                    return Err(invalid(2, None));
                }
                Self::Inquiry { vital_product_data, page: cdb[2], allocation: be16(cdb, 3) }
            }
            0x13 => Self::Verify6 {
                fixed: bit(flags, 0),
                byte_compare: bit(flags, 1),
                immediate: bit(flags, 2),
                length: be24(cdb, 2),
            },
            0x15 => Self::ModeSelect {
                form: Form::Six,
                page_format: bit(flags, 4),
                save: bit(flags, 0),
                length: u16::from(cdb[4]),
            },
            0x55 => Self::ModeSelect {
                form: Form::Ten,
                page_format: bit(flags, 4),
                save: bit(flags, 0),
                length: be16(cdb, 7),
            },
            0x1a | 0x5a => Self::ModeSense {
                form: if operation == 0x1a { Form::Six } else { Form::Ten },
                no_block_descriptors: bit(flags, 3),
                control: PageControl::from_bits(cdb[2] >> 6),
                page: cdb[2] & 0x3f,
                subpage: cdb[3],
                allocation: if operation == 0x1a { u16::from(cdb[4]) } else { be16(cdb, 7) },
            },
            0x16 => Self::Reserve6,
            0x17 => Self::Release6,
            0x56 => Self::Reserve10,
            0x57 => Self::Release10,
            0x19 => Self::Erase6 { immediate: bit(flags, 1), long: bit(flags, 0) },
            0x93 => Self::Erase16 { immediate: bit(flags, 1), long: bit(flags, 0) },
            0x1b => Self::LoadUnload {
                immediate: bit(flags, 0),
                hold: bit(cdb[4], 3),
                end_of_tape: bit(cdb[4], 2),
                retension: bit(cdb[4], 1),
                load: bit(cdb[4], 0),
            },
            0x1c => Self::ReceiveDiagnosticResults {
                page_code_valid: bit(flags, 0),
                page: cdb[2],
                allocation: be16(cdb, 3),
            },
            0x1d => Self::SendDiagnostic {
                self_test_code: flags >> 5,
                page_format: bit(flags, 4),
                self_test: bit(flags, 2),
                length: be16(cdb, 3),
            },
            0x1e => Self::PreventAllowMediumRemoval { prevent: cdb[4] & 3 },
            0x2b => Self::Locate10 {
                immediate: bit(flags, 0),
                block_address_type: bit(flags, 2),
                partition: bit(flags, 1).then_some(cdb[8]),
                object: be32(cdb, 3),
            },
            0x92 => Self::Locate16 {
                immediate: bit(flags, 0),
                partition: bit(flags, 1).then_some(cdb[3]),
                destination: match flags >> 3 & 3 {
                    0 => Destination::Object(be64(cdb, 4)),
                    1 => Destination::File(be64(cdb, 4)),
                    3 => Destination::EndOfData,
                    _ => return Err(invalid(1, Some(4))),
                },
            },
            0x91 => Self::Space16 { code: flags & 0x0f, count: be64(cdb, 4).cast_signed() },
            0x34 => Self::ReadPosition { action: flags & 0x1f, allocation: be16(cdb, 7) },
            0x3b => Self::WriteBuffer { mode: flags & 0x1f, id: cdb[2], offset: be24(cdb, 3), length: be24(cdb, 6) },
            0x3c => Self::ReadBuffer { mode: flags & 0x1f, id: cdb[2], offset: be24(cdb, 3), allocation: be24(cdb, 6) },
            0x44 => Self::ReportDensitySupport {
                medium: bit(flags, 0),
                medium_type: bit(flags, 1),
                allocation: be16(cdb, 7),
            },
            0x4c => Self::LogSelect {
                reset: bit(flags, 1),
                save: bit(flags, 0),
                control: PageControl::from_bits(cdb[2] >> 6),
                page: cdb[2] & 0x3f,
                subpage: cdb[3],
                length: be16(cdb, 7),
            },
            0x4d => Self::LogSense {
                save: bit(flags, 0),
                control: PageControl::from_bits(cdb[2] >> 6),
                page: cdb[2] & 0x3f,
                subpage: cdb[3],
                parameter: be16(cdb, 5),
                allocation: be16(cdb, 7),
            },
            0x5e => Self::PersistentReserveIn { action: flags & 0x1f, allocation: be16(cdb, 7) },
            0x5f => Self::PersistentReserveOut {
                action: flags & 0x1f,
                scope: cdb[2] >> 4,
                kind: cdb[2] & 0x0f,
                length: be32(cdb, 5),
            },
            0x82 => Self::AllowOverwrite { mode: cdb[2] & 0x0f, partition: cdb[3], object: be64(cdb, 4) },
            0x8c => Self::ReadAttribute {
                action: flags & 0x1f,
                volume: cdb[5],
                partition: cdb[7],
                first: be16(cdb, 8),
                cache: bit(cdb[14], 0),
                allocation: be32(cdb, 10),
            },
            0x8d => Self::WriteAttribute {
                write_through: bit(flags, 0),
                volume: cdb[5],
                partition: cdb[7],
                length: be32(cdb, 10),
            },
            0xa0 => Self::ReportLuns { select: cdb[2], allocation: be32(cdb, 6) },
            0xa2 => Self::SecurityProtocolIn {
                protocol: flags,
                specific: be16(cdb, 2),
                allocation: transfer(cdb, be32(cdb, 6))?,
            },
            0xb5 => Self::SecurityProtocolOut {
                protocol: flags,
                specific: be16(cdb, 2),
                length: transfer(cdb, be32(cdb, 6))?,
            },
            0xa3 => match flags & 0x1f {
                0x05 => Self::ReportDeviceIdentifier { allocation: be32(cdb, 6) },
                0x0a => Self::ReportTargetPortGroups { allocation: be32(cdb, 6) },
                0x0c => Self::ReportSupportedOperationCodes {
                    timeouts: bit(cdb[2], 7),
                    options: cdb[2] & 7,
                    operation: cdb[3],
                    service_action: be16(cdb, 4),
                    allocation: be32(cdb, 6),
                },
                0x0d => Self::ReportSupportedTaskManagement { extended: bit(cdb[2], 7), allocation: be32(cdb, 6) },
                0x0f => Self::ReportTimestamp { allocation: be32(cdb, 6) },
                _ => return Err(invalid(1, Some(4))),
            },
            0xa4 => match flags & 0x1f {
                0x0f => Self::SetTimestamp { length: be32(cdb, 6) },
                _ => return Err(invalid(1, Some(4))),
            },
            0xab => match flags & 0x1f {
                0x01 => Self::ReadMediaSerialNumber { allocation: be32(cdb, 6) },
                _ => return Err(invalid(1, Some(4))),
            },
            0xb8 => Self::ReadElementStatus {
                volume_tags: bit(flags, 4),
                kind: flags & 0x0f,
                first: be16(cdb, 2),
                count: be16(cdb, 4),
                device_identifiers: bit(cdb[6], 0),
                current: bit(cdb[6], 1),
                allocation: be24(cdb, 7),
            },
            _ => return Err(CdbError::UnknownOperation),
        })
    }

    /// The block as it goes to a drive, and its length. Values that do not fit their field are cut to it.
    pub fn encode(&self) -> Cdb {
        let mut cdb = Cdb::new(self.operation());
        let b = &mut cdb.bytes;
        match *self {
            Self::TestUnitReady
            | Self::Reserve6
            | Self::Release6
            | Self::Reserve10
            | Self::Release10
            | Self::InitializeElementStatus => {}
            Self::Rewind { immediate } => b[1] = u8::from(immediate),
            Self::RequestSense { descriptor, allocation } => {
                b[1] = u8::from(descriptor);
                b[4] = allocation;
            }
            Self::FormatMedium { verify, immediate, format, length } => {
                b[1] = flag(verify, 1) | flag(immediate, 0);
                b[2] = format & 0x0f;
                put16(b, 3, length);
            }
            Self::ReadBlockLimits { largest_object } => b[1] = u8::from(largest_object),
            Self::Read6 { fixed, suppress_incorrect_length, length } => {
                b[1] = flag(fixed, 0) | flag(suppress_incorrect_length, 1);
                put24(b, 2, length);
            }
            Self::Write6 { fixed, length } => {
                b[1] = flag(fixed, 0);
                put24(b, 2, length);
            }
            Self::SetCapacity { immediate, proportion } => {
                b[1] = flag(immediate, 0);
                put16(b, 3, proportion);
            }
            Self::WriteFilemarks6 { immediate, count } => {
                b[1] = flag(immediate, 0);
                put24(b, 2, count);
            }
            Self::Space6 { code, count } => {
                b[1] = code & 0x0f;
                put24(b, 2, count.cast_unsigned());
            }
            Self::Space16 { code, count } => {
                b[1] = code & 0x0f;
                put64(b, 4, count.cast_unsigned());
            }
            Self::Inquiry { vital_product_data, page, allocation } => {
                b[1] = flag(vital_product_data, 0);
                b[2] = page;
                put16(b, 3, allocation);
            }
            Self::Verify6 { fixed, byte_compare, immediate, length } => {
                b[1] = flag(fixed, 0) | flag(byte_compare, 1) | flag(immediate, 2);
                put24(b, 2, length);
            }
            Self::ModeSelect { form, page_format, save, length } => {
                b[1] = flag(page_format, 4) | flag(save, 0);
                put_form(b, form, length);
            }
            Self::ModeSense { form, no_block_descriptors, control, page, subpage, allocation } => {
                b[1] = flag(no_block_descriptors, 3);
                b[2] = control.bits() << 6 | page & 0x3f;
                b[3] = subpage;
                put_form(b, form, allocation);
            }
            Self::Erase6 { immediate, long } | Self::Erase16 { immediate, long } => {
                b[1] = flag(immediate, 1) | flag(long, 0);
            }
            Self::LoadUnload { immediate, hold, end_of_tape, retension, load } => {
                b[1] = flag(immediate, 0);
                b[4] = flag(hold, 3) | flag(end_of_tape, 2) | flag(retension, 1) | flag(load, 0);
            }
            Self::ReceiveDiagnosticResults { page_code_valid, page, allocation } => {
                b[1] = flag(page_code_valid, 0);
                b[2] = page;
                put16(b, 3, allocation);
            }
            Self::SendDiagnostic { self_test_code, page_format, self_test, length } => {
                b[1] = self_test_code << 5 | flag(page_format, 4) | flag(self_test, 2);
                put16(b, 3, length);
            }
            Self::PreventAllowMediumRemoval { prevent } => b[4] = prevent & 3,
            Self::Locate10 { immediate, block_address_type, partition, object } => {
                b[1] = flag(immediate, 0) | flag(partition.is_some(), 1) | flag(block_address_type, 2);
                put32(b, 3, object);
                b[8] = partition.unwrap_or(0);
            }
            Self::Locate16 { immediate, partition, destination } => {
                let (kind, number) = match destination {
                    Destination::Object(object) => (0, object),
                    Destination::File(file) => (1, file),
                    Destination::EndOfData => (3, 0),
                };
                b[1] = flag(immediate, 0) | flag(partition.is_some(), 1) | kind << 3;
                b[3] = partition.unwrap_or(0);
                put64(b, 4, number);
            }
            Self::ReadPosition { action, allocation } => {
                b[1] = action & 0x1f;
                put16(b, 7, allocation);
            }
            Self::WriteBuffer { mode, id, offset, length }
            | Self::ReadBuffer { mode, id, offset, allocation: length } => {
                b[1] = mode & 0x1f;
                b[2] = id;
                put24(b, 3, offset);
                put24(b, 6, length);
            }
            Self::ReportDensitySupport { medium, medium_type, allocation } => {
                b[1] = flag(medium, 0) | flag(medium_type, 1);
                put16(b, 7, allocation);
            }
            Self::LogSelect { reset, save, control, page, subpage, length } => {
                b[1] = flag(reset, 1) | flag(save, 0);
                b[2] = control.bits() << 6 | page & 0x3f;
                b[3] = subpage;
                put16(b, 7, length);
            }
            Self::LogSense { save, control, page, subpage, parameter, allocation } => {
                b[1] = flag(save, 0);
                b[2] = control.bits() << 6 | page & 0x3f;
                b[3] = subpage;
                put16(b, 5, parameter);
                put16(b, 7, allocation);
            }
            Self::PersistentReserveIn { action, allocation } => {
                b[1] = action & 0x1f;
                put16(b, 7, allocation);
            }
            Self::PersistentReserveOut { action, scope, kind, length } => {
                b[1] = action & 0x1f;
                b[2] = scope << 4 | kind & 0x0f;
                put32(b, 5, length);
            }
            Self::AllowOverwrite { mode, partition, object } => {
                b[2] = mode & 0x0f;
                b[3] = partition;
                put64(b, 4, object);
            }
            Self::ReadAttribute { action, volume, partition, first, cache, allocation } => {
                b[1] = action & 0x1f;
                b[5] = volume;
                b[7] = partition;
                put16(b, 8, first);
                put32(b, 10, allocation);
                b[14] = flag(cache, 0);
            }
            Self::WriteAttribute { write_through, volume, partition, length } => {
                b[1] = flag(write_through, 0);
                b[5] = volume;
                b[7] = partition;
                put32(b, 10, length);
            }
            Self::ReportLuns { select, allocation } => {
                b[2] = select;
                put32(b, 6, allocation);
            }
            Self::SecurityProtocolIn { protocol, specific, allocation: length }
            | Self::SecurityProtocolOut { protocol, specific, length } => {
                b[1] = protocol;
                put16(b, 2, specific);
                put32(b, 6, length);
            }
            Self::ReportDeviceIdentifier { allocation } => service_action(b, 0x05, allocation),
            Self::ReportTargetPortGroups { allocation } => service_action(b, 0x0a, allocation),
            Self::ReportSupportedOperationCodes {
                timeouts,
                options,
                operation,
                service_action: action,
                allocation,
            } => {
                service_action(b, 0x0c, allocation);
                b[2] = flag(timeouts, 7) | options & 7;
                b[3] = operation;
                put16(b, 4, action);
            }
            Self::ReportSupportedTaskManagement { extended, allocation } => {
                service_action(b, 0x0d, allocation);
                b[2] = flag(extended, 7);
            }
            Self::ReportTimestamp { allocation } => service_action(b, 0x0f, allocation),
            Self::SetTimestamp { length } => service_action(b, 0x0f, length),
            Self::ReadMediaSerialNumber { allocation } => service_action(b, 0x01, allocation),
            Self::ReadElementStatus { volume_tags, kind, first, count, device_identifiers, current, allocation } => {
                b[1] = flag(volume_tags, 4) | kind & 0x0f;
                put16(b, 2, first);
                put16(b, 4, count);
                b[6] = flag(device_identifiers, 0) | flag(current, 1);
                put24(b, 7, allocation);
            }
        }
        cdb
    }

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

/// INC_512 asks for units of 512 bytes, which tape drives do not take (SPC-4 6.40, 6.41).
fn transfer(cdb: &[u8], length: u32) -> Result<u32, CdbError> {
    match bit(cdb[4], 7) {
        true => Err(invalid(4, Some(7))),
        false => Ok(length),
    }
}

fn flag(set: bool, number: u8) -> u8 {
    u8::from(set) << number
}
fn put16(b: &mut [u8; 16], at: usize, value: u16) {
    b[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
fn put24(b: &mut [u8; 16], at: usize, value: u32) {
    b[at..at + 3].copy_from_slice(&value.to_be_bytes()[1..]);
}
fn put32(b: &mut [u8; 16], at: usize, value: u32) {
    b[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
fn put64(b: &mut [u8; 16], at: usize, value: u64) {
    b[at..at + 8].copy_from_slice(&value.to_be_bytes());
}
fn put_form(b: &mut [u8; 16], form: Form, length: u16) {
    match form {
        Form::Six => b[4] = length.to_be_bytes()[1],
        Form::Ten => put16(b, 7, length),
    }
}
fn service_action(b: &mut [u8; 16], action: u8, length: u32) {
    b[1] = action;
    put32(b, 6, length);
}
