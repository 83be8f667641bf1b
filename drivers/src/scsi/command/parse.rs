//! Reading command descriptor blocks.

use super::{CdbError, Command, Destination, FieldPointer, Form, PageControl, cdb_length};

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

/// INC_512 asks for units of 512 bytes, which tape drives do not take (SPC-4 6.40, 6.41).
fn transfer(cdb: &[u8], length: u32) -> Result<u32, CdbError> {
    match bit(cdb[4], 7) {
        true => Err(invalid(4, Some(7))),
        false => Ok(length),
    }
}
