//! Who the drive is, and what it has: asked once, when it is opened.

use super::data::MOST_24_BITS;
use super::drive::ScsiTapeDrive;
use super::fault;
use super::link::Link;
use super::time_limits::TimeLimits;
use super::{Data, Transport};
use crate::medium::{BlockLimits, DriveError, DriveErrorKind, DriveIdentity};
use crate::scsi::{
    BlockLengthLimits, Command, Peripheral, SenseKey, StandardInquiry, SupportedCommands, Vpd, vpd_page,
};

/// INQUIRY data: what the ALLOCATION LENGTH of old drives can ask for.
const INQUIRY_ALLOCATION: u16 = 252;
/// Pending unit attentions, one for each reason since somebody last asked.
const MOST_ATTENTIONS: u32 = 16;
/// A list of all 256 operation codes with all their service actions is shorter.
const OPCODES_ALLOCATION: u32 = 32 << 10;

pub(super) fn ask<T: Transport>(link: &mut Link<T>) -> Result<DriveIdentity, DriveError> {
    let command = Command::Inquiry { vital_product_data: false, page: 0, allocation: INQUIRY_ALLOCATION };
    let bytes = link.fetch(command, usize::from(INQUIRY_ALLOCATION))?;
    let inquiry = StandardInquiry::parse(&bytes).map_err(|error| link.nonsense(&command, error, None))?;
    if inquiry.peripheral != Peripheral::TAPE {
        let text = format!(
            "{}: {} {} is no tape drive (device type {:02X}h, qualifier {}); name the drive's node",
            link.name, inquiry.vendor, inquiry.product, inquiry.peripheral.device_type, inquiry.peripheral.qualifier
        );
        return Err(DriveError::new(DriveErrorKind::IllegalRequest, text));
    }
    let mut serial = String::new();
    for page in [vpd_page::UNIT_SERIAL_NUMBER, vpd_page::MANUFACTURER_SERIAL_NUMBER] {
        let command = Command::Inquiry { vital_product_data: true, page, allocation: INQUIRY_ALLOCATION };
        let told = link.fetch_if_told(command, usize::from(INQUIRY_ALLOCATION))?;
        if let Some(Ok((_, Vpd::UnitSerialNumber(text) | Vpd::ManufacturerSerialNumber(text)))) =
            told.map(|bytes| Vpd::parse(&bytes))
        {
            serial = text.trim().to_owned();
        }
        if !serial.is_empty() {
            break;
        }
    }
    if serial.is_empty() {
        tracing::warn!(drive = %link.name, "the drive tells no serial number");
    }
    Ok(DriveIdentity { vendor: inquiry.vendor, product: inquiry.product, revision: inquiry.revision, serial })
}

/// TEST UNIT READY until nothing is pending. Whether a medium is loaded does not matter here.
pub(super) fn consume_attentions<T: Transport>(link: &mut Link<T>) -> Result<(), DriveError> {
    for _ in 0..MOST_ATTENTIONS {
        match link.send(Command::TestUnitReady, Data::None)?.sense {
            Some(sense) if sense.key == SenseKey::UNIT_ATTENTION || sense.flags.deferred => {
                tracing::info!(drive = %link.name, %sense, "was pending when the drive was opened");
            }
            Some(_) | None => return Ok(()),
        }
    }
    Err(fault::nonsense(&link.name, "TEST UNIT READY", "unit attentions without end", None))
}

impl<T: Transport> ScsiTapeDrive<T> {
    /// READ BLOCK LIMITS, within what the way to the drive carries.
    pub(super) fn ask_block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        let command = Command::ReadBlockLimits { largest_object: false };
        let bytes = self.link.fetch(command, BlockLengthLimits::LENGTH)?;
        let told = BlockLengthLimits::parse(&bytes).map_err(|error| self.link.nonsense(&command, error, None))?;
        let carried = u32::try_from(self.longest_block()).unwrap_or(MOST_24_BITS);
        // 0: the drive has no limit of its own.
        let maximum = if told.maximum == 0 { carried } else { told.maximum.min(carried) };
        let minimum = u32::from(told.minimum).max(1);
        if minimum > maximum {
            let what = format!("blocks of {minimum} to {maximum} bytes");
            return Err(self.link.nonsense(&command, what, None));
        }
        Ok(BlockLimits { minimum, maximum })
    }
}

/// REPORT SUPPORTED OPERATION CODES, all of them with their time-outs. A drive that does not tell gets the table's defaults.
pub(super) fn time_limits<T: Transport>(link: &mut Link<T>) -> Result<TimeLimits, DriveError> {
    for timeouts in [true, false] {
        let allocation = OPCODES_ALLOCATION.min(u32::try_from(link.largest_transfer()).unwrap_or(OPCODES_ALLOCATION));
        let command = Command::ReportSupportedOperationCodes {
            timeouts,
            options: 0,
            operation: 0,
            service_action: 0,
            allocation,
        };
        if let Some(bytes) = link.fetch_if_told(command, usize::try_from(allocation).unwrap_or(0))? {
            let told = SupportedCommands::parse(&bytes).map_err(|error| link.nonsense(&command, error, None))?;
            return Ok(TimeLimits::told(&told));
        }
    }
    Ok(TimeLimits::default())
}
