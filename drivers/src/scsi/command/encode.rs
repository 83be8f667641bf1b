//! Writing command descriptor blocks.

use super::{Cdb, Command, Destination, Form};

impl Command {
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
