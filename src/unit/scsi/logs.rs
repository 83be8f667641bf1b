//! LOG SENSE and LOG SELECT (SPC-4 6.6, 6.7). What the drive says of itself is passed on; a drive that says nothing (a file-backed
//! one) has the pages that backup programs and `sg_logs` ask for made up from what is known of its medium.

use sealtape_drivers::medium::{Description, DriveError, DriveErrorKind};
use sealtape_drivers::scsi::{Command, DataIn, PageControl};

use super::ScsiUnit;
use super::outcome::{Answer, Fault, invalid_field};

const SUPPORTED: u8 = 0x00;
const WRITE_ERRORS: u8 = 0x02;
const READ_ERRORS: u8 = 0x03;
const SEQUENTIAL_ACCESS: u8 = 0x0c;
const VOLUME_STATISTICS: u8 = 0x17;
const TAPE_ALERT: u8 = 0x2e;
const TAPE_CAPACITY: u8 = 0x31;
const ALL_SUBPAGES: u8 = 0xff;

/// Pages of a drive that describes none itself.
const OWN_PAGES: &[u8] =
    &[SUPPORTED, WRITE_ERRORS, READ_ERRORS, SEQUENTIAL_ACCESS, VOLUME_STATISTICS, TAPE_ALERT, TAPE_CAPACITY];

/// A page under construction.
struct LogPage {
    bytes: Vec<u8>,
}

impl LogPage {
    /// DS: nothing of it is saved.
    fn new(page: u8) -> Self {
        Self { bytes: vec![page, 0, 0, 0] }
    }

    /// A binary list parameter (FORMAT AND LINKING 11b) from a code on.
    fn parameter(&mut self, code: u16, value: &[u8]) {
        self.bytes.extend(code.to_be_bytes());
        self.bytes.push(0x03);
        self.bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.bytes.extend(value.iter().take(usize::from(u8::MAX)));
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u16::try_from(self.bytes.len().saturating_sub(4)).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(2..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.bytes
    }
}

impl ScsiUnit {
    pub(super) fn logs(&mut self, command: &Command, data_in: &mut DataIn<'_>) -> Answer {
        match *command {
            Command::LogSense { save, control, page, subpage, parameter, allocation } => {
                if save {
                    return Err(invalid_field(1, Some(0)));
                }
                if control != PageControl::Changeable && page != SUPPORTED && page != TAPE_ALERT {
                    // Cumulative values only (PC 01b); there are no thresholds. Programs ask for current ones of TapeAlert, too.
                    return Err(invalid_field(2, Some(7)));
                }
                let data = self.log_page(page, subpage)?;
                data_in.put(&from_parameter(data, parameter), usize::from(allocation));
                Ok(())
            }
            // PCR sets counters to zero, which are the drive's and count for its service.
            Command::LogSelect { length: 0, .. } => Ok(()),
            Command::LogSelect { .. } => Err(invalid_field(7, None)),
            _ => Err(Fault::UnknownOperation),
        }
    }

    fn log_page(&mut self, page: u8, subpage: u8) -> Result<Vec<u8>, Fault> {
        if let Some(data) = self.drive.describe(Description::LogPage { page, subpage })? {
            return Ok(data);
        }
        // A drive that has this page's list has told of all its pages.
        let described = self.drive.describe(Description::LogPage { page: SUPPORTED, subpage: 0 })?.is_some();
        if described || !OWN_PAGES.contains(&page) {
            return Err(invalid_field(2, Some(5)));
        }
        match (page, subpage) {
            (SUPPORTED, 0) => {
                let mut list = LogPage::new(SUPPORTED);
                list.bytes.extend(OWN_PAGES);
                return Ok(list.finish());
            }
            (SUPPORTED, ALL_SUBPAGES) => {
                let mut list = LogPage { bytes: vec![0x40, ALL_SUBPAGES, 0, 0] };
                list.bytes.extend(OWN_PAGES.iter().flat_map(|page| [*page, 0]));
                return Ok(list.finish());
            }
            (_, 0) => {}
            _ => return Err(invalid_field(3, None)),
        }
        let mut log = LogPage::new(page);
        let counters = self.board.read().counters;
        match page {
            WRITE_ERRORS | READ_ERRORS => {
                let bytes = if page == WRITE_ERRORS { counters.bytes_written } else { counters.bytes_read };
                for code in 0..=4 {
                    log.parameter(code, &[0; 4]);
                }
                log.parameter(5, &bytes.to_be_bytes());
                log.parameter(6, &[0; 4]);
            }
            SEQUENTIAL_ACCESS => {
                log.parameter(0, &counters.bytes_written.to_be_bytes());
                log.parameter(1, &counters.bytes_written.to_be_bytes());
                log.parameter(2, &counters.bytes_read.to_be_bytes());
                log.parameter(3, &counters.bytes_read.to_be_bytes());
            }
            VOLUME_STATISTICS => self.volume_statistics(&mut log)?,
            TAPE_ALERT => {
                for flag in 1..=64 {
                    log.parameter(flag, &[0]);
                }
            }
            _ => self.tape_capacity(&mut log)?,
        }
        Ok(log.finish())
    }

    /// Remaining and maximum capacity of both partitions in MiB, codes 1 to 4, as LTO drives have it.
    fn tape_capacity(&mut self, log: &mut LogPage) -> Answer {
        let (remaining, maximum) = match self.drive.medium_status() {
            Ok(status) => (status.remaining_bytes.unwrap_or(0), status.capacity_bytes),
            Err(DriveError { kind: DriveErrorKind::NotReady, .. }) => (0, 0),
            Err(error) => return Err(error.into()),
        };
        let mebibytes = |bytes: u64| u32::try_from(bytes >> 20).unwrap_or(u32::MAX).to_be_bytes();
        log.parameter(1, &mebibytes(remaining));
        log.parameter(2, &[0; 4]);
        log.parameter(3, &mebibytes(maximum));
        log.parameter(4, &[0; 4]);
        Ok(())
    }

    /// SSC-4 8.3.6: page valid, and what is known of the medium.
    fn volume_statistics(&mut self, log: &mut LogPage) -> Answer {
        match self.drive.medium_status() {
            Ok(status) => {
                log.parameter(0x0000, &[1]);
                if let Some(serial) = &status.serial {
                    log.parameter(0x0040, format!("{serial:32}").as_bytes());
                }
                if let Some(barcode) = &status.barcode {
                    log.parameter(0x0042, format!("{barcode:32}").as_bytes());
                }
                log.parameter(0x0080, &[u8::from(status.write_protected)]);
                log.parameter(0x0081, &[u8::from(status.medium_type == sealtape_drivers::medium::MediumType::Worm)]);
            }
            Err(DriveError { kind: DriveErrorKind::NotReady, .. }) => log.parameter(0x0000, &[0]),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The page from a parameter on (PARAMETER POINTER).
fn from_parameter(page: Vec<u8>, pointer: u16) -> Vec<u8> {
    let listing = page.first().is_some_and(|code| code & 0x3f == SUPPORTED);
    if pointer == 0 || listing || page.len() < 4 {
        return page;
    }
    let (header, mut rest) = page.split_at(4);
    while let [high, low, _, length, ..] = rest {
        if u16::from_be_bytes([*high, *low]) >= pointer {
            break;
        }
        rest = rest.get(4 + usize::from(*length)..).unwrap_or(&[]);
    }
    let mut cut = header.to_vec();
    cut.extend(rest);
    LogPage { bytes: cut }.finish()
}
