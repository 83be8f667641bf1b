//! Who the unit is and what it can do: INQUIRY, REPORT LUNS, REPORT SUPPORTED OPERATION CODES, densities, time (SPC-4 clause 6).

use std::time::Instant;

use sealtape_drivers::medium::Description;
use sealtape_drivers::scsi::{
    Command, DataIn, Designator, ExtendedInquiry, Peripheral, StandardInquiry, VERSION_SPC_4, Vpd, version, vpd_page,
};
use sealtape_drivers::sg::VIRTUAL_DRIVE_MARK;
use sha2::{Digest, Sha256};

use super::ScsiUnit;
use super::operations::{self, OPERATIONS, Operation};
use super::outcome::{Answer, Fault, illegal, invalid_field};

/// Pages of vital product data, ascending.
const VPD_PAGES: &[u8] = &[
    vpd_page::SUPPORTED,
    vpd_page::UNIT_SERIAL_NUMBER,
    vpd_page::DEVICE_IDENTIFICATION,
    vpd_page::EXTENDED_INQUIRY,
    vpd_page::SEQUENTIAL_ACCESS_CAPABILITIES,
    vpd_page::MANUFACTURER_SERIAL_NUMBER,
];

/// What the unit says of itself.
struct Presented {
    vendor: String,
    product: String,
    revision: String,
    serial: String,
}

impl ScsiUnit {
    fn presented(&self) -> Presented {
        let drive = self.drive.identity();
        let own = |own: &Option<String>, drive: String| own.clone().unwrap_or(drive);
        Presented {
            vendor: own(&self.options.vendor, drive.vendor),
            product: own(&self.options.product, drive.product),
            revision: drive.revision,
            serial: own(&self.options.serial, drive.serial),
        }
    }

    pub(super) fn identify(&mut self, command: &Command, data_in: &mut DataIn<'_>) -> Answer {
        match *command {
            Command::Inquiry { vital_product_data: false, allocation, .. } => {
                data_in.put(&self.standard_inquiry(), usize::from(allocation));
                Ok(())
            }
            Command::Inquiry { page, allocation, .. } => {
                let page = self.vital_product_data(page).ok_or_else(|| invalid_field(2, None))?;
                data_in.put(&page.to_bytes(Peripheral::TAPE), usize::from(allocation));
                Ok(())
            }
            Command::ReportLuns { select, allocation } => {
                // 00h and 02h: logical unit 0, this one; 01h: well-known units, of which there is none.
                let luns: &[u8] = match select {
                    0x00 | 0x02 => &[0; 8],
                    0x01 => &[],
                    _ => return Err(invalid_field(2, None)),
                };
                let mut list = u32::try_from(luns.len()).unwrap_or(0).to_be_bytes().to_vec();
                list.extend([0; 4]);
                list.extend(luns);
                data_in.put(&list, allocation as usize);
                Ok(())
            }
            _ => Err(Fault::UnknownOperation),
        }
    }

    fn standard_inquiry(&self) -> Vec<u8> {
        let presented = self.presented();
        let inquiry = StandardInquiry {
            peripheral: Peripheral::TAPE,
            removable: true,
            version: VERSION_SPC_4,
            target_port_groups: 0,
            protect: false,
            multiple_ports: false,
            command_queuing: true,
            vendor: presented.vendor,
            product: presented.product,
            revision: presented.revision,
            vendor_specific: [0; 20],
            version_descriptors: vec![version::SAM_5, version::SPC_4, version::SSC_4],
        };
        inquiry.to_bytes()
    }

    fn vital_product_data(&mut self, page: u8) -> Option<Vpd> {
        let presented = self.presented();
        Some(match page {
            vpd_page::SUPPORTED => Vpd::Supported(VPD_PAGES.to_vec()),
            vpd_page::UNIT_SERIAL_NUMBER => Vpd::UnitSerialNumber(presented.serial),
            vpd_page::MANUFACTURER_SERIAL_NUMBER => Vpd::ManufacturerSerialNumber(presented.serial),
            vpd_page::DEVICE_IDENTIFICATION => {
                let specific = format!("{:16}{}", presented.product, presented.serial);
                let mut designators = vec![
                    Designator::naa(Designator::LOGICAL_UNIT, self.locally_assigned_name(&presented.serial)),
                    Designator::t10_vendor_id(&presented.vendor, &specific),
                    Designator::relative_target_port(1),
                ];
                if self.options.marked_as_virtual {
                    let mark = format!("{VIRTUAL_DRIVE_MARK}{}", self.options.name);
                    designators.push(Designator::t10_vendor_id("SEALTAPE", &mark));
                }
                Vpd::DeviceIdentification(designators)
            }
            vpd_page::EXTENDED_INQUIRY => Vpd::ExtendedInquiry(ExtendedInquiry {
                simple: true,
                ordered: true,
                head_of_queue: true,
                maximum_sense_length: 96,
                ..ExtendedInquiry::default()
            }),
            vpd_page::SEQUENTIAL_ACCESS_CAPABILITIES => {
                Vpd::SequentialAccessCapabilities { worm: true, tape_stream_mirroring: false }
            }
            _ => return None,
        })
    }

    /// NAA 3h: a name of the unit's own, so that links by name never lead to the drive below, whose serial number it may show.
    fn locally_assigned_name(&self, serial: &str) -> u64 {
        let mut hash = Sha256::new();
        hash.update(b"sealtape virtual drive 1");
        for part in [&self.options.name, serial] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let digest = hash.finalize();
        let first = digest.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte));
        3 << 60 | first >> 4
    }

    pub(super) fn identify_or_manage(
        &mut self,
        command: &Command,
        data_out: &[u8],
        data_in: &mut DataIn<'_>,
    ) -> Answer {
        match *command {
            Command::ReportDensitySupport { medium, medium_type, allocation } => {
                self.density_support(medium, medium_type, allocation, data_in)
            }
            Command::ReportDeviceIdentifier { allocation } => {
                data_in.put(&[0; 4], allocation as usize); // Nobody has set one.
                Ok(())
            }
            Command::ReportSupportedOperationCodes { timeouts, options, operation, service_action, allocation } => {
                let list = supported_operations(timeouts, options, operation, service_action)?;
                data_in.put(&list, allocation as usize);
                Ok(())
            }
            Command::ReportSupportedTaskManagement { extended, allocation } => {
                // ABORT TASK, ABORT TASK SET, LOGICAL UNIT RESET (SPC-4 6.36).
                let list: &[u8] =
                    if extended { &[0xc8, 0, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] } else { &[0xc8, 0, 0, 0] };
                data_in.put(list, allocation as usize);
                Ok(())
            }
            Command::ReportTimestamp { allocation } => {
                let (origin, milliseconds) = self.now();
                let mut data = vec![0, 10, origin, 0];
                data.extend(milliseconds.to_be_bytes().into_iter().skip(2));
                data.extend([0; 2]);
                data_in.put(&data, allocation as usize);
                Ok(())
            }
            Command::SetTimestamp { length } => self.set_timestamp(length, data_out),
            Command::SendDiagnostic { self_test_code, self_test, length, .. } => {
                if length != 0 {
                    return Err(invalid_field(3, None));
                }
                if self_test_code != 0 {
                    return Err(invalid_field(1, Some(7)));
                }
                // The default self-test: the drive answers. One of the drive's own could move the tape.
                if self_test {
                    self.drive.block_limits()?;
                }
                Ok(())
            }
            Command::ReceiveDiagnosticResults { page_code_valid, page, allocation } => {
                if !page_code_valid || page != 0 {
                    return Err(invalid_field(2, None));
                }
                data_in.put(&[0, 0, 0, 1, 0], usize::from(allocation));
                Ok(())
            }
            _ => Err(Fault::UnknownOperation),
        }
    }

    fn density_support(
        &mut self,
        medium: bool,
        medium_type: bool,
        allocation: u16,
        data_in: &mut DataIn<'_>,
    ) -> Answer {
        if medium_type {
            return Err(invalid_field(1, Some(1)));
        }
        if medium {
            self.drive.medium_status()?; // NOT READY where none is loaded.
        }
        let told = self.drive.describe(Description::DensitySupport { medium })?;
        // A drive that tells nothing has no density code but the default one.
        let data = told.unwrap_or_else(|| vec![0, 2, 0, 0]);
        data_in.put(&data, usize::from(allocation));
        Ok(())
    }

    /// TIMESTAMP ORIGIN and milliseconds (SPC-4 5.2).
    fn now(&self) -> (u8, u64) {
        let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self.timestamp {
            Some((set, when)) => (2, set.saturating_add(milliseconds(when.elapsed()))),
            None => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                (3, milliseconds(now))
            }
        }
    }

    fn set_timestamp(&mut self, length: u32, data_out: &[u8]) -> Answer {
        if length == 0 {
            return Ok(());
        }
        if length < 12 {
            return Err(illegal(sealtape_drivers::scsi::AdditionalSense::PARAMETER_LIST_LENGTH_ERROR));
        }
        let bytes = data_out.get(4..10).ok_or_else(|| invalid_field(6, None))?;
        let set = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        self.timestamp = Some((set, Instant::now()));
        Ok(())
    }

    /// Keys come from the key authority, and what the drive would encrypt is ciphertext already: a host cannot set keys here.
    pub(super) fn security_protocol(&mut self, command: &Command, data_in: &mut DataIn<'_>) -> Answer {
        match *command {
            // Protocol 00h, specific 0000h: the list of supported protocols, which is this one.
            Command::SecurityProtocolIn { protocol: 0, specific: 0, allocation } => {
                data_in.put(&[0, 0, 0, 0, 0, 0, 0, 1, 0], allocation as usize);
                Ok(())
            }
            Command::SecurityProtocolIn { .. } => Err(invalid_field(1, None)),
            Command::SecurityProtocolOut { protocol, .. } => {
                tracing::warn!(
                    drive = %self.options.name,
                    protocol,
                    "the host tried to set drive encryption (SECURITY PROTOCOL OUT): refused, since every block is sealed here with \
                     keys of the key authority; switch drive encryption off in the backup program"
                );
                Err(Fault::UnknownOperation)
            }
            _ => Err(Fault::UnknownOperation),
        }
    }
}

fn supported_operations(timeouts: bool, options: u8, operation: u8, service_action: u16) -> Result<Vec<u8>, Fault> {
    let has_actions = |operation: u8| {
        OPERATIONS.iter().any(|entry| entry.usage.first() == Some(&operation) && entry.service_action.is_some())
    };
    let wanted = match options {
        0 => return Ok(all_operations(timeouts)),
        1 if has_actions(operation) => return Err(invalid_field(2, Some(2))),
        1 => operations::find(operation, None),
        2 if !has_actions(operation) => return Err(invalid_field(2, Some(2))),
        2 => operations::find(operation, Some(service_action)),
        3 if has_actions(operation) => operations::find(operation, Some(service_action)),
        3 if service_action == 0 => operations::find(operation, None),
        3 => None,
        _ => return Err(invalid_field(2, Some(2))),
    };
    let Some(entry) = wanted else { return Ok(vec![0, 0x01, 0, 0]) }; // SUPPORT 001b: not supported.
    let length = u16::try_from(entry.usage.len()).unwrap_or(0);
    // SUPPORT 011b: as the standard has it; CTDP says that a time-out descriptor follows.
    let mut data = vec![0, 0x03 | u8::from(timeouts) << 7];
    data.extend(length.to_be_bytes());
    data.extend(entry.usage.iter().copied());
    if let (Some(action), Some(byte)) = (entry.service_action, data.get_mut(5)) {
        *byte = action;
    }
    if timeouts {
        data.extend(timeout_descriptor(entry));
    }
    Ok(data)
}

fn all_operations(timeouts: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in OPERATIONS {
        let operation = entry.usage.first().copied().unwrap_or(0);
        body.extend([operation, 0, 0, entry.service_action.unwrap_or(0), 0]);
        body.push(u8::from(timeouts) << 1 | u8::from(entry.service_action.is_some()));
        body.extend(u16::try_from(entry.usage.len()).unwrap_or(0).to_be_bytes());
        if timeouts {
            body.extend(timeout_descriptor(entry));
        }
    }
    let mut data = u32::try_from(body.len()).unwrap_or(0).to_be_bytes().to_vec();
    data.extend(body);
    data
}

/// Command timeouts descriptor (SPC-4 6.35.4): nominal time not told, the recommended one in seconds.
fn timeout_descriptor(entry: &Operation) -> Vec<u8> {
    let mut descriptor = vec![0, 10, 0, 0, 0, 0, 0, 0];
    descriptor.extend(entry.longest_s.to_be_bytes());
    descriptor
}
