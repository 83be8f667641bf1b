//! FORMAT MEDIUM, with the medium partition mode page.

use super::drive::ScsiTapeDrive;
use super::fault::{self, Intent};
use super::stand::Stand;
use super::{Data, Transport};
use crate::medium::{DriveError, DriveErrorKind, Position};
use crate::scsi::{Command, MediumPartition, ModePage, ModeParameters};

pub(super) const MEDIUM_PARTITION: (u8, u8) = (0x11, 0x00);
/// PARTITION SIZE of the partition that takes what is left.
const REST: u16 = 0xffff;
const MOST_UNITS: u64 = 0xfffe;
/// PSUM 11b: PARTITION UNITS says the power of ten.
const POWER_OF_TEN: u8 = 3;
/// FORMAT field (SSC-4 7.1): one partition; as the medium partition page says.
const FORMAT_DEFAULT: u8 = 0;
const FORMAT_PARTITIONED: u8 = 1;

const BEGINNING: Position = Position { partition: 0, object: 0 };

impl<T: Transport> ScsiTapeDrive<T> {
    pub(super) fn format(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        self.turn_from_writing();
        let Some(told) = self.mode_sense(MEDIUM_PARTITION)? else {
            return match second_partition_bytes {
                None => self.format_command(FORMAT_DEFAULT),
                Some(_) => {
                    let text = format!("{}: the drive has no partitions (mode page 11h)", self.link.name);
                    Err(DriveError::new(DriveErrorKind::IllegalRequest, text))
                }
            };
        };
        if told.write_protected {
            let text = format!("{}: the cartridge is write protected: it cannot be formatted", self.link.name);
            return Err(DriveError::new(DriveErrorKind::WriteProtected, text));
        }
        match second_partition_bytes {
            None => self.format_command(FORMAT_DEFAULT),
            Some(bytes) => {
                self.choose_sizes(&told, bytes)?;
                self.format_command(FORMAT_PARTITIONED)
            }
        }
    }

    /// MODE SELECT of the sizes, in the finest unit that can say them and that the drive takes: LTO drives take few.
    fn choose_sizes(&mut self, told: &ModeParameters, bytes: u64) -> Result<(), DriveError> {
        let page = partition_page(told).cloned().unwrap_or_default();
        let mut refused = None;
        for (unit, exponent, size) in units(&page, bytes) {
            let mut wanted = told.clone();
            wanted.pages = vec![ModePage::MediumPartition(MediumPartition {
                additional_defined: 1,
                fixed: false,
                select: false,
                initiator_defined: true,
                size_unit: unit,
                partition_units: exponent,
                clear: false,
                add: false,
                sizes: vec![REST, size],
                ..page.clone()
            })];
            match self.mode_select(wanted) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == DriveErrorKind::IllegalRequest => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let text = format!("{}: a second partition of {bytes} bytes cannot be said to the drive", self.link.name);
            DriveError::new(DriveErrorKind::IllegalRequest, text)
        }))
    }

    /// FORMAT MEDIUM works at the beginning of partition 0 only (SSC-4 7.1).
    fn format_command(&mut self, format: u8) -> Result<(), DriveError> {
        let before = self.stand.counted();
        self.locate_to(BEGINNING)?;
        let command = Command::FormatMedium { verify: false, immediate: false, format, length: 0 };
        let reply = self.link.send(command, Data::None)?;
        let failed = reply.sense.filter(|sense| !fault::is_done(sense));
        let Some(sense) = failed else {
            self.unsynchronised = 0;
            self.settled = false;
            self.beyond_programmable = None;
            self.stand = Stand::Counted(BEGINNING);
            return Ok(());
        };
        let error = self.link.fault(&command, sense, Intent::Write);
        match (error.kind, before) {
            (DriveErrorKind::Medium | DriveErrorKind::Hardware, _) => {
                self.stand = Stand::Unknown(format!("FORMAT MEDIUM failed ({sense})"));
            }
            // Refused: nothing happened to the medium, so the host stands where it stood.
            (_, Some(before)) if before != BEGINNING => self.locate_to(before)?,
            (_, _) => {}
        }
        Err(error)
    }
}

pub(super) fn partition_page(parameters: &ModeParameters) -> Option<&MediumPartition> {
    parameters.pages.iter().find_map(|page| match page {
        ModePage::MediumPartition(page) => Some(page),
        _ => None,
    })
}

/// PSUM, PARTITION UNITS and PARTITION SIZE for a size: bytes, kilobytes and megabytes have units of their own.
fn units(page: &MediumPartition, bytes: u64) -> Vec<(u8, u8, u16)> {
    let size = |exponent: u8| {
        let unit = 10_u64.checked_pow(u32::from(exponent))?;
        let size = bytes.div_ceil(unit);
        u16::try_from(size).ok().filter(|_| (1..=MOST_UNITS).contains(&size))
    };
    let finest = (0..=15).find(|exponent| size(*exponent).is_some());
    let own = match page.size_unit {
        0 => 0,
        1 => 3,
        2 => 6,
        _ => page.partition_units,
    };
    let mut tried = Vec::new();
    for exponent in finest.into_iter().chain([own, 9, 8]) {
        let Some(size) = size(exponent) else { continue };
        let simple = [(0, 0), (3, 1), (6, 2)].into_iter().find(|(power, _)| *power == exponent);
        for unit in simple.map(|(_, unit)| (unit, 0)).into_iter().chain([(POWER_OF_TEN, exponent)]) {
            let entry = (unit.0, unit.1, size);
            if !tried.contains(&entry) {
                tried.push(entry);
            }
        }
    }
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_unit_first_then_the_drive_s_own() {
        let lto = MediumPartition { size_unit: 3, partition_units: 9, ..MediumPartition::default() };
        assert_eq!(units(&lto, 36_000_000_000)[0], (2, 0, 36_000));
        assert!(units(&lto, 36_000_000_000).contains(&(3, 9, 36)));
        assert_eq!(units(&MediumPartition::default(), 50_000)[0], (0, 0, 50_000));
        assert_eq!(units(&lto, 1_500_000_000_000)[0], (3, 8, 15_000));
        assert!(units(&lto, 0).is_empty());
        assert!(units(&lto, u64::MAX).iter().all(|(_, _, size)| *size > 0));
    }
}
