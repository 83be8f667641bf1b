//! What is loaded: kind of cartridge, protection, partitions, capacity, names.

use super::drive::ScsiTapeDrive;
use super::fault::{self, Intent};
use super::partitions::{MEDIUM_PARTITION, partition_page};
use super::settings::DEVICE_CONFIGURATION;
use super::{Data, Transport};
use crate::medium::{DriveError, MediumStatus, MediumType};
use crate::scsi::{
    AdditionalSense, Command, LogPage, ModePage, ModeParameters, PartitionRecord, Sense, SenseKey, TapeCapacity,
    attribute, log_page, volume_statistics,
};

const MEDIUM_CONFIGURATION: (u8, u8) = (0x1d, 0x00);
/// MAM capacities and log page 31h count MiB.
const MEBIBYTE: u64 = 1 << 20;
/// Log page 17h counts MB.
const MEGABYTE: u64 = 1_000_000;

/// A cartridge that holds no data, where sense data says so: no label is looked for on it.
pub(super) fn without_data(sense: &Sense) -> Option<MediumType> {
    let AdditionalSense { asc, ascq } = sense.additional;
    if sense.flags.deferred || !matches!(sense.key, SenseKey::NOT_READY | SenseKey::MEDIUM_ERROR) {
        return None;
    }
    match (asc, ascq) {
        // CLEANING CARTRIDGE INSTALLED, CLEANING FAILURE, CLEANING REQUEST REJECTED, CLEANING VOLUME EXPIRED.
        (0x30, 0x03 | 0x07 | 0x0a | 0x13) => Some(MediumType::Cleaning),
        // NOT READY, MICROCODE DOWNLOAD / ACTIVATION: the drive reads its firmware from the cartridge.
        (0x04, 0x1c | 0x23) => Some(MediumType::Firmware),
        _ => None,
    }
}

impl<T: Transport> ScsiTapeDrive<T> {
    pub(super) fn ask_medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        if self.attention.is_none()
            && let Some(sense) = self.link.send(Command::TestUnitReady, Data::None)?.sense
            && !fault::is_done(&sense)
        {
            return match without_data(&sense) {
                Some(medium_type) => Ok(no_data(medium_type)),
                None => Err(self.link.fault(&Command::TestUnitReady, sense, Intent::Other)),
            };
        }
        let medium_type = self.ask_medium_type()?;
        if matches!(medium_type, MediumType::Cleaning | MediumType::Firmware) {
            return Ok(no_data(medium_type));
        }
        let pages = match self.mode_sense(MEDIUM_PARTITION)? {
            Some(pages) => Some(pages),
            None => self.mode_sense(DEVICE_CONFIGURATION)?,
        };
        let Some(pages) = pages else {
            return Err(self.not_ready("the drive tells nothing of its medium (MODE SENSE)"));
        };
        let additional = partition_page(&pages).map_or(0, |page| page.additional_defined);
        let current = match self.stand.counted() {
            Some(position) => position.partition,
            None => self.ask_position()?.position.partition,
        };
        let (capacity_bytes, remaining_bytes) = self.ask_capacity(current)?;
        Ok(MediumStatus {
            medium_type,
            write_protected: pages.write_protected,
            partitions: additional.saturating_add(1),
            capacity_bytes: capacity_bytes.unwrap_or(0),
            remaining_bytes,
            serial: self.text_attribute(attribute::MEDIUM_SERIAL_NUMBER)?,
            barcode: self.text_attribute(attribute::BARCODE)?,
        })
    }

    /// MAM says it of every cartridge with a chip; the medium configuration page says at least whether it is WORM.
    fn ask_medium_type(&mut self) -> Result<MediumType, DriveError> {
        match self.number_attribute(attribute::MEDIUM_TYPE)? {
            Some(0x01) => return Ok(MediumType::Cleaning),
            Some(0x80) => return Ok(MediumType::Worm),
            None | Some(0x00) => {}
            // No kind that SPC-4 knows: a firmware cartridge, or what a maker keeps for itself. Nothing of it is data of ours.
            Some(_) => return Ok(MediumType::Firmware),
        }
        let worm = |pages: &ModeParameters| {
            pages.pages.iter().any(|page| matches!(page, ModePage::MediumConfiguration(page) if page.worm_mode))
        };
        let pages = self.mode_sense(MEDIUM_CONFIGURATION)?;
        Ok(if pages.as_ref().is_some_and(worm) { MediumType::Worm } else { MediumType::Data })
    }

    /// Capacity and rest of a partition in bytes: what the drive counts now goes before what it noted on the chip at the last unload.
    fn ask_capacity(&mut self, partition: u8) -> Result<(Option<u64>, Option<u64>), DriveError> {
        let page = self.log_page(log_page::TAPE_CAPACITY, 0)?;
        let page = page.and_then(|bytes| TapeCapacity::from_page(&LogPage::parse(&bytes).ok()?));
        let told = page.and_then(|page| match partition {
            0 => Some((page.main_maximum, page.main_remaining)),
            1 if page.alternate_maximum > 0 => Some((page.alternate_maximum, page.alternate_remaining)),
            _ => None,
        });
        if let Some((maximum, remaining)) = told {
            let bytes = |count: u32| Some(u64::from(count).saturating_mul(MEBIBYTE));
            return Ok((bytes(maximum), bytes(remaining)));
        }
        let bytes = |count: Option<u64>| count.map(|count| count.saturating_mul(MEBIBYTE));
        let maximum = bytes(self.number_attribute(attribute::MAXIMUM_CAPACITY_IN_PARTITION)?);
        if maximum.is_some() {
            return Ok((maximum, bytes(self.number_attribute(attribute::REMAINING_CAPACITY_IN_PARTITION)?)));
        }
        let page = self.log_page(log_page::VOLUME_STATISTICS, 0)?;
        let page = page.and_then(|bytes| LogPage::parse(&bytes).ok());
        let of_partition = |code| {
            let records = PartitionRecord::list(page.as_ref()?.parameter(code)?);
            let record = records.into_iter().find(|record| record.partition == u16::from(partition))?;
            Some(record.counter.saturating_mul(MEGABYTE))
        };
        let maximum = of_partition(volume_statistics::NATIVE_CAPACITY_OF_PARTITIONS);
        Ok((maximum, of_partition(volume_statistics::REMAINING_NATIVE_CAPACITY_OF_PARTITIONS)))
    }
}

fn no_data(medium_type: MediumType) -> MediumStatus {
    MediumStatus {
        medium_type,
        write_protected: true,
        partitions: 1,
        capacity_bytes: 0,
        remaining_bytes: None,
        serial: None,
        barcode: None,
    }
}
