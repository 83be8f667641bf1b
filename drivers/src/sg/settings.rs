//! The mode pages that a drive of ours has: variable blocks, buffered, no compression, and programmable early warning.
//!
//! They are the drive's defaults again after a reset, and others' after another initiator was there. So they are written before the
//! first command that needs them, and read back: what the drive did not take is not assumed.

use super::drive::ScsiTapeDrive;
use super::{Data, Transport};
use crate::medium::{DriveError, DriveErrorKind};
use crate::scsi::{Command, DeviceConfigurationExtension, Form, ModePage, ModeParameters, PageControl};

/// More than the longest mode page of a tape drive, with header and block descriptor.
const MODE_ALLOCATION: u16 = 1024;
/// PEWS counts megabytes of 10^6 bytes (SSC-4 8.3.8).
const MEGABYTE: u64 = 1_000_000;
pub(super) const DATA_COMPRESSION: (u8, u8) = (0x0f, 0x00);
pub(super) const DEVICE_CONFIGURATION: (u8, u8) = (0x10, 0x00);
pub(super) const DEVICE_CONFIGURATION_EXTENSION: (u8, u8) = (0x10, 0x01);
/// Buffered: GOOD when the data is in the buffer.
const BUFFERED: u8 = 1;

impl<T: Transport> ScsiTapeDrive<T> {
    /// MODE SENSE(10), current values; `None` when the drive does not have the page.
    pub(super) fn mode_sense(&mut self, (page, subpage): (u8, u8)) -> Result<Option<ModeParameters>, DriveError> {
        let command = Command::ModeSense {
            form: Form::Ten,
            no_block_descriptors: false,
            control: PageControl::Current,
            page,
            subpage,
            allocation: MODE_ALLOCATION,
        };
        let Some(bytes) = self.link.fetch_if_told(command, usize::from(MODE_ALLOCATION))? else { return Ok(None) };
        let told = ModeParameters::parse(Form::Ten, &bytes);
        told.map(Some).map_err(|error| self.link.nonsense(&command, error, None))
    }

    /// MODE SELECT(10) of what MODE SENSE gave, changed.
    pub(super) fn mode_select(&mut self, mut parameters: ModeParameters) -> Result<(), DriveError> {
        // Reserved in MODE SELECT.
        parameters.write_protected = false;
        let list = parameters.to_list(Form::Ten);
        let length = u16::try_from(list.len()).unwrap_or(u16::MAX);
        let command = Command::ModeSelect { form: Form::Ten, page_format: true, save: false, length };
        self.link.ask(command, Data::Out(&list)).map(drop)
    }

    /// Sets what has to be set, where it is not known to be.
    pub(super) fn settle(&mut self) -> Result<(), DriveError> {
        if self.settled {
            return Ok(());
        }
        self.set_blocks_and_compression()?;
        if self.programmable > 0 && !self.set_early_warning()? {
            tracing::warn!(drive = %self.link.name, "the drive does not take the programmable early warning any more");
        }
        self.settled = true;
        Ok(())
    }

    fn set_blocks_and_compression(&mut self) -> Result<(), DriveError> {
        // Whichever compression page the drive has carries header and block descriptor too.
        let page = match self.mode_sense(DATA_COMPRESSION)? {
            Some(told) => Some((DATA_COMPRESSION, told)),
            None => self.mode_sense(DEVICE_CONFIGURATION)?.map(|told| (DEVICE_CONFIGURATION, told)),
        };
        let Some((code, told)) = page else {
            let text = format!(
                "{}: the drive has neither mode page 0Fh nor 10h: it is not one that can be used",
                self.link.name
            );
            return Err(DriveError::new(DriveErrorKind::Hardware, text));
        };
        let mut now = told.clone();
        if !is_as_wanted(&told) {
            self.mode_select(as_wanted(told))?;
            now = self.mode_sense(code)?.unwrap_or_default();
        }
        if now.block_descriptor.is_some_and(|descriptor| descriptor.block_length != 0) {
            let text =
                format!("{}: the drive does not take variable block mode; it stays at fixed blocks", self.link.name);
            return Err(DriveError::new(DriveErrorKind::Hardware, text));
        }
        if now.buffered_mode == 0 {
            tracing::warn!(drive = %self.link.name, "the drive does not buffer writes: it will be slow");
        }
        self.compression_off(&now)
    }

    /// SDCA and DCE are one setting in most drives and two in some.
    fn compression_off(&mut self, told: &ModeParameters) -> Result<(), DriveError> {
        let mut on = compresses(told);
        if let Some(device) = self.mode_sense(DEVICE_CONFIGURATION)?
            && compresses(&device)
        {
            self.mode_select(as_wanted(device))?;
            on = self.mode_sense(DEVICE_CONFIGURATION)?.is_some_and(|device| compresses(&device));
        }
        if on {
            tracing::warn!(
                drive = %self.link.name,
                "the drive's compression cannot be switched off: sealed records do not shrink, and gain nothing from it"
            );
        }
        Ok(())
    }

    /// Whether the drive will warn [`programmable`](Self::programmable) bytes before early warning.
    pub(super) fn set_early_warning(&mut self) -> Result<bool, DriveError> {
        // Up: rather too early. A wish beyond the field is not one that the drive can meet.
        let Ok(megabytes) = u16::try_from(self.programmable.div_ceil(MEGABYTE)) else { return Ok(false) };
        let Some(mut told) = self.mode_sense(DEVICE_CONFIGURATION_EXTENSION)? else { return Ok(megabytes == 0) };
        let Some(page) = early_warning_page(&mut told) else { return Ok(megabytes == 0) };
        if page.programmable_early_warning == megabytes {
            return Ok(true);
        }
        page.programmable_early_warning = megabytes;
        match self.mode_select(told) {
            Ok(()) => {}
            Err(error) if error.kind == DriveErrorKind::IllegalRequest => return Ok(false),
            Err(error) => return Err(error),
        }
        // A drive may round; less than was asked for would be too late.
        let mut now = self.mode_sense(DEVICE_CONFIGURATION_EXTENSION)?.unwrap_or_default();
        Ok(early_warning_page(&mut now).is_some_and(|page| page.programmable_early_warning >= megabytes))
    }
}

fn early_warning_page(parameters: &mut ModeParameters) -> Option<&mut DeviceConfigurationExtension> {
    parameters.pages.iter_mut().find_map(|page| match page {
        ModePage::DeviceConfigurationExtension(page) => Some(page),
        _ => None,
    })
}

fn compresses(parameters: &ModeParameters) -> bool {
    parameters.pages.iter().any(|page| match page {
        ModePage::DataCompression(page) => page.enabled,
        ModePage::DeviceConfiguration(page) => page.select_data_compression_algorithm != 0,
        _ => false,
    })
}

fn is_as_wanted(parameters: &ModeParameters) -> bool {
    let variable = parameters.block_descriptor.is_some_and(|descriptor| descriptor.block_length == 0);
    variable && parameters.buffered_mode == BUFFERED && !compresses(parameters)
}

fn as_wanted(mut parameters: ModeParameters) -> ModeParameters {
    parameters.buffered_mode = BUFFERED;
    let mut descriptor = parameters.block_descriptor.unwrap_or_default();
    (descriptor.blocks, descriptor.block_length) = (0, 0);
    parameters.block_descriptor = Some(descriptor);
    for page in &mut parameters.pages {
        match page {
            ModePage::DataCompression(page) => page.enabled = false,
            ModePage::DeviceConfiguration(page) => {
                page.select_data_compression_algorithm = 0;
                // Changing the format or the partition is not meant.
                page.change_active_format = false;
            }
            _ => {}
        }
    }
    parameters
}
