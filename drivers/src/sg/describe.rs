//! What the drive says about itself, passed on in its own words; and the TapeAlert flags, which it says once.

use super::Transport;
use super::drive::ScsiTapeDrive;
use crate::medium::{Description, DriveError};
use crate::scsi::{Command, Form, LogPage, PageControl, TapeAlertFlags, log_page};

/// The longest page that its length field can say.
const LONGEST_PAGE: u16 = u16::MAX;

impl<T: Transport> ScsiTapeDrive<T> {
    /// Every TapeAlert flag that the drive has raised since the cartridge was loaded. Reading page 2Eh clears the flags in the
    /// drive (SSC-4 8.2.4), so they are read here alone, and kept for whoever asks.
    pub fn tape_alerts(&self) -> TapeAlertFlags {
        self.alerts
    }

    /// Reads page 2Eh and keeps what it says. A drive that does not tell just now is asked again the next time.
    pub(super) fn latch_alerts(&mut self) {
        match self.log_page(log_page::TAPE_ALERT, 0) {
            Ok(page) => {
                let flags = page.and_then(|bytes| LogPage::parse(&bytes).ok()?.tape_alert_flags());
                let fresh: Vec<u8> = flags.iter().flat_map(|flags| flags.numbers()).collect();
                for number in fresh {
                    if !self.alerts.is_set(number) {
                        let text = TapeAlertFlags::text(number).unwrap_or("a flag of the maker's");
                        tracing::warn!(drive = %self.link.name, flag = number, "TapeAlert: {text}");
                    }
                    self.alerts.set(number);
                }
            }
            Err(error) => {
                tracing::warn!(drive = %self.link.name, cause = %error, "TapeAlert flags were not told");
                self.take_note(&error);
            }
        }
    }

    /// LOG SENSE, cumulative values: the page as it came, of the length that it says.
    pub(super) fn log_page(&mut self, page: u8, subpage: u8) -> Result<Option<Vec<u8>>, DriveError> {
        let command = Command::LogSense {
            save: false,
            control: PageControl::Changeable, // 01b: cumulative values.
            page,
            subpage,
            parameter: 0,
            allocation: self.allocation(),
        };
        let bytes = self.link.fetch_if_told(command, usize::from(self.allocation()))?;
        Ok(bytes.and_then(|bytes| whole(bytes, 2, 4)))
    }

    pub(super) fn description(&mut self, what: Description) -> Result<Option<Vec<u8>>, DriveError> {
        let allocation = self.allocation();
        let (command, length_at, header) = match what {
            Description::LogPage { page: log_page::TAPE_ALERT, subpage: 0 } => {
                self.latch_alerts();
                return Ok(Some(LogPage::tape_alert(self.alerts).to_bytes()));
            }
            Description::LogPage { page, subpage } => return self.log_page(page, subpage),
            Description::AttributeList => return self.attribute_list(),
            Description::DensitySupport { medium } => {
                (Command::ReportDensitySupport { medium, medium_type: false, allocation }, 0, 2)
            }
            Description::ModePage { page, subpage } => {
                let control = PageControl::Current;
                let form = Form::Ten;
                (Command::ModeSense { form, no_block_descriptors: false, control, page, subpage, allocation }, 0, 2)
            }
            Description::VitalProductData { page } => {
                (Command::Inquiry { vital_product_data: true, page, allocation }, 2, 4)
            }
        };
        let bytes = self.link.fetch_if_told(command, usize::from(allocation))?;
        Ok(bytes.and_then(|bytes| whole(bytes, length_at, header)))
    }

    fn allocation(&self) -> u16 {
        u16::try_from(self.link.largest_transfer()).unwrap_or(LONGEST_PAGE)
    }
}

/// What came, cut to what its length field of 2 bytes (which counts what follows `header`) says; `None` when not even that came.
fn whole(mut bytes: Vec<u8>, length_at: usize, header: usize) -> Option<Vec<u8>> {
    let field: [u8; 2] = bytes.get(length_at..)?.first_chunk().copied()?;
    if bytes.len() < header {
        return None;
    }
    bytes.truncate(header + usize::from(u16::from_be_bytes(field)));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn pages_end_where_they_say() {
        assert_eq!(whole(vec![0x2e, 0, 0, 2, 7, 8, 9, 9], 2, 4), Some(vec![0x2e, 0, 0, 2, 7, 8]));
        assert_eq!(whole(vec![0, 3, 1, 2, 3, 4], 0, 2), Some(vec![0, 3, 1, 2, 3]));
        assert_eq!(whole(vec![0x80, 0, 0], 2, 4), None);
        assert_eq!(whole(vec![0x31, 0, 0xff, 0xff, 1], 2, 4), Some(vec![0x31, 0, 0xff, 0xff, 1]));
    }
}
