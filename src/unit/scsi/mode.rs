//! MODE SENSE and MODE SELECT (SPC-4 6.11 to 6.14, SSC-4 8.5).

use sealtape_drivers::medium::{Description, DriveError, DriveErrorKind, MediumType};
use sealtape_drivers::scsi::{AdditionalSense, Command, DataIn, Form, PageControl};

use super::ScsiUnit;
use super::outcome::{Answer, Fault, illegal, invalid_field, invalid_parameter};
use super::pages::{self, Page, Shown};

/// MODE SENSE: every page, and with FFh as subpage every subpage.
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;
/// WP in the device-specific parameter.
const WRITE_PROTECT: u8 = 0x80;
/// BUFFERED MODE 1 in the device-specific parameter.
const BUFFERED: u8 = 0x10;
const BLOCK_DESCRIPTOR: usize = 8;

/// What the host set, and the state that goes with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModeState {
    /// Block length of fixed mode; 0: variable.
    pub(super) block_length: u32,
    /// BUFFERED MODE is not 0.
    pub(super) buffered: bool,
    /// Programmable early warning was told since the last motion.
    pub(super) programmable_warning_told: bool,
    /// DCE: what the host asked for. What is compressed is the pool's policy.
    pub(super) compression: bool,
    /// PEWS, in megabytes.
    pub(super) programmable_early_warning_mb: u16,
    /// Size of a second partition that FORMAT MEDIUM makes, in units of 10^`partition_units` bytes.
    pub(super) second_partition: Option<u16>,
    /// PARTITION UNITS.
    pub(super) partition_units: u8,
}

impl Default for ModeState {
    fn default() -> Self {
        Self {
            block_length: 0,
            buffered: true,
            programmable_warning_told: false,
            compression: true,
            programmable_early_warning_mb: 0,
            second_partition: None,
            partition_units: 9,
        }
    }
}

impl ScsiUnit {
    pub(super) fn mode(&mut self, command: &Command, data_out: &[u8], data_in: &mut DataIn<'_>) -> Answer {
        match *command {
            Command::ModeSense { form, no_block_descriptors, control, page, subpage, allocation } => {
                if control == PageControl::Saved {
                    return Err(illegal(AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED));
                }
                let data = self.mode_sense(form, no_block_descriptors, control, page, subpage)?;
                data_in.put(&data, usize::from(allocation));
                Ok(())
            }
            Command::ModeSelect { form, page_format, save, length } => {
                if save {
                    return Err(invalid_field(1, Some(0)));
                }
                let list = data_out.get(..usize::from(length)).ok_or_else(list_too_short)?;
                self.mode_select(form, page_format, list)
            }
            _ => Err(Fault::UnknownOperation),
        }
    }

    /// Write protection, kind of medium and partitions, as far as a medium is loaded.
    fn shown(&mut self) -> Result<Shown, Fault> {
        match self.drive.medium_status() {
            Ok(status) => {
                let position = self.drive.read_position().ok();
                Ok(Shown {
                    write_protected: status.write_protected,
                    worm: status.medium_type == MediumType::Worm,
                    partitions: status.partitions,
                    current_partition: position.map_or(0, |report| report.position.partition),
                    capacity_bytes: status.capacity_bytes,
                })
            }
            // The mode pages of an empty drive are those of an empty drive.
            Err(DriveError { kind: DriveErrorKind::NotReady | DriveErrorKind::Security, .. }) => Ok(Shown::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Medium type and density code of the drive below.
    fn below(&mut self) -> (u8, u8) {
        // MODE SENSE(10): header of 8 bytes with the medium type in byte 2, then a block descriptor with the density code first.
        match self.drive.describe(Description::ModePage { page: 0x0f, subpage: 0 }) {
            Ok(Some(data)) => {
                let descriptor = data.get(7) == Some(&8) || data.get(6..8).is_some_and(|length| length != [0, 0]);
                let density = if descriptor { data.get(8).copied().unwrap_or(0) } else { 0 };
                (data.get(2).copied().unwrap_or(0), density)
            }
            Ok(None) | Err(_) => (0, 0),
        }
    }

    fn mode_sense(
        &mut self,
        form: Form,
        no_block_descriptors: bool,
        control: PageControl,
        page: u8,
        subpage: u8,
    ) -> Result<Vec<u8>, Fault> {
        let shown = self.shown()?;
        let wanted: Vec<Page> = match (page, subpage) {
            (0, 0) => Vec::new(),
            (ALL_PAGES, 0) => pages::all().filter(|page| page.subpage == 0).collect(),
            (ALL_PAGES, ALL_SUBPAGES) => pages::all().collect(),
            (ALL_PAGES, _) => return Err(invalid_field(3, None)),
            (page, ALL_SUBPAGES) => pages::all().filter(|known| known.page == page).collect(),
            (page, subpage) => pages::all().filter(|known| known.page == page && known.subpage == subpage).collect(),
        };
        if wanted.is_empty() && page != 0 {
            return Err(invalid_field(2, Some(5)));
        }
        let mut body = Vec::new();
        for page in wanted {
            match control {
                PageControl::Changeable => body.extend(page.changeable()),
                PageControl::Default => body.extend(page.values(&ModeState::default(), &shown)),
                PageControl::Current | PageControl::Saved => body.extend(page.values(&self.mode, &shown)),
            }
        }
        let (medium_type, density) = self.below();
        let specific =
            if shown.write_protected { WRITE_PROTECT } else { 0 } | if self.mode.buffered { BUFFERED } else { 0 };
        let mut descriptor = Vec::new();
        if !no_block_descriptors {
            let [_, a, b, c] = self.mode.block_length.to_be_bytes();
            descriptor = vec![density, 0, 0, 0, 0, a, b, c];
        }
        let length = descriptor.len() + body.len();
        let mut data = match form {
            Form::Six => {
                let length = u8::try_from(3 + length).map_err(|_| invalid_field(2, None))?;
                vec![length, medium_type, specific, u8::try_from(descriptor.len()).unwrap_or(0)]
            }
            Form::Ten => {
                let [high, low] = u16::try_from(6 + length).map_err(|_| invalid_field(2, None))?.to_be_bytes();
                vec![high, low, medium_type, specific, 0, 0, 0, u8::try_from(descriptor.len()).unwrap_or(0)]
            }
        };
        data.extend(descriptor);
        data.extend(body);
        Ok(data)
    }

    fn mode_select(&mut self, form: Form, page_format: bool, list: &[u8]) -> Answer {
        if list.is_empty() {
            return Ok(());
        }
        let (header, specific_at) = match form {
            Form::Six => (4, 2),
            Form::Ten => (8, 3),
        };
        let (head, rest) = list.split_at_checked(header).ok_or_else(list_too_short)?;
        let descriptors = match form {
            Form::Six => usize::from(head[3]),
            Form::Ten => usize::from(u16::from_be_bytes([head[6], head[7]])),
        };
        if descriptors != 0 && descriptors != BLOCK_DESCRIPTOR {
            return Err(invalid_parameter(header - 1, None));
        }
        let (descriptor, rest) = rest.split_at_checked(descriptors).ok_or_else(list_too_short)?;
        // Everything is checked before anything is set.
        let buffered = match head[specific_at] >> 4 & 7 {
            0 => false,
            1 => true,
            _ => return Err(invalid_parameter(specific_at, Some(6))),
        };
        let block_length = match descriptor {
            [_, _, _, _, _, a, b, c] => Some(self.checked_block_length(u32::from_be_bytes([0, *a, *b, *c]), header)?),
            _ => None,
        };
        let shown = self.shown()?;
        let mut next = ModeState { buffered, ..self.mode };
        if let Some(length) = block_length {
            next.block_length = length;
        }
        let mut at = header + descriptors;
        let mut rest = rest;
        if !rest.is_empty() && !page_format {
            return Err(invalid_field(1, Some(4)));
        }
        while !rest.is_empty() {
            let (page, bytes, behind) = pages::split(rest).ok_or_else(list_too_short)?;
            page.accept(bytes, &mut next, &shown).map_err(|(byte, bit)| invalid_parameter(at + byte, bit))?;
            at += bytes.len();
            rest = behind;
        }
        if next.programmable_early_warning_mb != self.mode.programmable_early_warning_mb {
            self.set_early_warning(next.programmable_early_warning_mb, at)?;
        }
        self.mode = next;
        Ok(())
    }

    fn checked_block_length(&mut self, length: u32, header: usize) -> Result<u32, Fault> {
        if length == 0 {
            return Ok(0);
        }
        let limits = match self.drive.block_limits() {
            Ok(limits) => limits,
            // Nothing is loaded: it is checked when the first block comes.
            Err(DriveError { kind: DriveErrorKind::NotReady, .. }) => return Ok(length),
            Err(error) => return Err(error.into()),
        };
        match (limits.minimum..=limits.maximum).contains(&length) {
            true => Ok(length),
            false => Err(invalid_parameter(header + 5, None)),
        }
    }

    fn set_early_warning(&mut self, megabytes: u16, at: usize) -> Answer {
        let given = self.drive.set_programmable_early_warning(u64::from(megabytes) * 1_000_000)?;
        match given || megabytes == 0 {
            true => Ok(()),
            false => Err(invalid_parameter(at, None)),
        }
    }

    /// The size of the second partition that the host described in the medium partition page.
    pub(super) fn second_partition(&mut self) -> Result<Option<u64>, Fault> {
        let Some(units) = self.mode.second_partition else { return Ok(None) };
        let capacity = self.shown()?.capacity_bytes;
        let unit = 10_u64.checked_pow(u32::from(self.mode.partition_units)).unwrap_or(u64::MAX);
        // FFFFh: what is left (SSC-4 8.5.4); with the other one not smaller, that is half.
        Ok(Some(match units {
            u16::MAX => capacity / 2,
            units => u64::from(units).saturating_mul(unit),
        }))
    }
}

fn list_too_short() -> Fault {
    illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR)
}
