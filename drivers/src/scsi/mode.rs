//! Mode parameter lists of MODE SENSE and MODE SELECT (SPC-4 7.5.3 to 7.5.7, SSC-4 8.3).

use super::Form;
use super::mode_pages::{
    Control, ControlExtension, DisconnectReconnect, InformationalExceptions, PowerCondition, ReadWriteErrorRecovery,
};
use super::mode_tape_pages::{
    ControlDataProtection, DataCompression, DeviceConfiguration, DeviceConfigurationExtension, MediumConfiguration,
    MediumPartition,
};
use super::wire::{Bytes, WireError, at_most, flag, len8, len16};

/// The short LBA mode parameter block descriptor, as a tape drive uses it (SSC-4 8.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct BlockDescriptor {
    /// DENSITY CODE.
    pub density: u8,
    /// NUMBER OF BLOCKS, 24 bits: 0 is all that follow.
    pub blocks: u32,
    /// BLOCK LENGTH in bytes, 24 bits: 0 is variable mode.
    pub block_length: u32,
}

impl BlockDescriptor {
    const LENGTH: usize = 8;

    fn to_bytes(self) -> [u8; Self::LENGTH] {
        let [_, a, b, c] = self.blocks.min(0xff_ffff).to_be_bytes();
        let [_, d, e, f] = self.block_length.min(0xff_ffff).to_be_bytes();
        [self.density, a, b, c, 0, d, e, f]
    }
}

/// A mode parameter list: header, block descriptor and pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ModeParameters {
    /// MEDIUM TYPE.
    pub medium_type: u8,
    /// WP: the medium is write protected. Means nothing in MODE SELECT.
    pub write_protected: bool,
    /// BUFFERED MODE, 3 bits: 0 unbuffered, 1 buffered, 2 buffered and synchronised between initiators.
    pub buffered_mode: u8,
    /// SPEED, 4 bits: 0 is the default.
    pub speed: u8,
    /// The block descriptor, unless DBD kept it out.
    pub block_descriptor: Option<BlockDescriptor>,
    /// The pages.
    pub pages: Vec<ModePage>,
}

impl ModeParameters {
    /// MODE SENSE data: MODE DATA LENGTH counts all that follows it. Pages that the length field cannot count are left out.
    pub fn to_bytes(&self, form: Form) -> Vec<u8> {
        let mut bytes = self.to_list(form);
        match form {
            Form::Six => {
                let following = bytes.len().saturating_sub(1);
                if let Some(length) = bytes.first_mut() {
                    *length = len8(following);
                }
            }
            Form::Ten => {
                let following = len16(bytes.len().saturating_sub(2)).to_be_bytes();
                bytes.iter_mut().zip(following).for_each(|(to, from)| *to = from);
            }
        }
        bytes
    }

    /// A parameter list for MODE SELECT, where MODE DATA LENGTH is reserved. The header goes as it is: a drive checks WP too, so
    /// what came from MODE SENSE wants [`write_protected`](Self::write_protected) cleared first.
    pub fn to_list(&self, form: Form) -> Vec<u8> {
        let specific = flag(self.write_protected, 7) | (self.buffered_mode & 7) << 4 | self.speed & 0x0f;
        let descriptor = self.block_descriptor.map_or(0, |_| len8(BlockDescriptor::LENGTH));
        let (mut bytes, most) = match form {
            Form::Six => (vec![0, self.medium_type, specific, descriptor], usize::from(u8::MAX) + 1),
            Form::Ten => (vec![0, 0, self.medium_type, specific, 0, 0, 0, descriptor], usize::from(u16::MAX) + 2),
        };
        if let Some(descriptor) = self.block_descriptor {
            bytes.extend(descriptor.to_bytes());
        }
        for page in &self.pages {
            let page = page.to_bytes();
            if bytes.len() + page.len() > most {
                break;
            }
            bytes.extend(page);
        }
        bytes
    }

    /// Reads MODE SENSE data, as far as MODE DATA LENGTH and the data go. A page that was cut off is left out.
    ///
    /// # Errors
    /// Not even a header, or a block descriptor length that is not that of short descriptors.
    pub fn parse(form: Form, bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("mode parameter data", bytes).at_least(header_length(form))?;
        let b = b.cut(match form {
            Form::Six => 1 + usize::from(b.u8(0)),
            Form::Ten => 2 + usize::from(b.u16(0)),
        });
        let (mut parameters, mut at) = Self::header(form, b)?;
        while let Ok((page, next)) = ModePage::at(b, at) {
            parameters.pages.push(page);
            at = next;
        }
        Ok(parameters)
    }

    /// Reads the parameter list of MODE SELECT, all of it.
    ///
    /// # Errors
    /// [`WireError::Short`] when the list ends within a descriptor or a page (PARAMETER LIST LENGTH ERROR),
    /// [`WireError::Invalid`] when a length is not the one that the page has (INVALID FIELD IN PARAMETER LIST).
    pub fn parse_list(form: Form, bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("mode parameter list", bytes).at_least(header_length(form))?;
        let (mut parameters, mut at) = Self::header(form, b)?;
        b.at_least(at)?;
        while at < b.len() {
            let (page, next) = ModePage::at(b, at)?;
            if page.to_bytes().len() != next - at {
                return Err(b.invalid(at + page.length_at()));
            }
            parameters.pages.push(page);
            at = next;
        }
        Ok(parameters)
    }

    /// Header and block descriptor, and where the pages begin.
    fn header(form: Form, b: Bytes<'_>) -> Result<(Self, usize), WireError> {
        let (medium_type, specific, length_at, length) = match form {
            Form::Six => (b.u8(1), b.u8(2), 3, usize::from(b.u8(3))),
            Form::Ten => (b.u8(2), b.u8(3), 6, usize::from(b.u16(6))),
        };
        // LONGLBA descriptors have 16 bytes, and are for disks.
        if length % BlockDescriptor::LENGTH != 0 || (form == Form::Ten && b.bit(4, 0) && length != 0) {
            return Err(b.invalid(length_at));
        }
        let at = header_length(form);
        let block_descriptor = match length {
            0 => None,
            _ if b.len() < at + BlockDescriptor::LENGTH => None,
            _ => Some(BlockDescriptor { density: b.u8(at), blocks: b.u24(at + 1), block_length: b.u24(at + 5) }),
        };
        let parameters = Self {
            medium_type,
            write_protected: specific & 0x80 != 0,
            buffered_mode: specific >> 4 & 7,
            speed: specific & 0x0f,
            block_descriptor,
            pages: Vec::new(),
        };
        Ok((parameters, at + length))
    }
}

fn header_length(form: Form) -> usize {
    match form {
        Form::Six => 4,
        Form::Ten => 8,
    }
}

/// A mode page. PS (the page can be saved) is not kept: it is reserved in MODE SELECT, and nothing here saves pages.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is described at its type")]
pub enum ModePage {
    ReadWriteErrorRecovery(ReadWriteErrorRecovery),
    DisconnectReconnect(DisconnectReconnect),
    Control(Control),
    ControlExtension(ControlExtension),
    ControlDataProtection(ControlDataProtection),
    DataCompression(DataCompression),
    DeviceConfiguration(DeviceConfiguration),
    DeviceConfigurationExtension(DeviceConfigurationExtension),
    MediumPartition(MediumPartition),
    PowerCondition(PowerCondition),
    InformationalExceptions(InformationalExceptions),
    MediumConfiguration(MediumConfiguration),
    /// Any other page, as it came.
    Other {
        /// Page code, 6 bits.
        page: u8,
        /// Subpage code; 0 for a page in page_0 format.
        subpage: u8,
        /// What follows the header, 255 bytes at most in page_0 format.
        bytes: Vec<u8>,
    },
}

impl ModePage {
    /// Page and subpage code.
    pub fn code(&self) -> (u8, u8) {
        match self {
            Self::ReadWriteErrorRecovery(_) => (0x01, 0x00),
            Self::DisconnectReconnect(_) => (0x02, 0x00),
            Self::Control(_) => (0x0a, 0x00),
            Self::ControlExtension(_) => (0x0a, 0x01),
            Self::ControlDataProtection(_) => (0x0a, 0xf0),
            Self::DataCompression(_) => (0x0f, 0x00),
            Self::DeviceConfiguration(_) => (0x10, 0x00),
            Self::DeviceConfigurationExtension(_) => (0x10, 0x01),
            Self::MediumPartition(_) => (0x11, 0x00),
            Self::PowerCondition(_) => (0x1a, 0x00),
            Self::InformationalExceptions(_) => (0x1c, 0x00),
            Self::MediumConfiguration(_) => (0x1d, 0x00),
            Self::Other { page, subpage, .. } => (*page, *subpage),
        }
    }

    /// The page with its header, of 2 bytes in page_0 format and 4 bytes in sub_page format (SPC-4 7.5.7).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = match self {
            Self::ReadWriteErrorRecovery(page) => page.to_page().to_vec(),
            Self::DisconnectReconnect(page) => page.to_page().to_vec(),
            Self::Control(page) => page.to_page().to_vec(),
            Self::ControlExtension(page) => page.to_page().to_vec(),
            Self::ControlDataProtection(page) => page.to_page().to_vec(),
            Self::DataCompression(page) => page.to_page().to_vec(),
            Self::DeviceConfiguration(page) => page.to_page().to_vec(),
            Self::DeviceConfigurationExtension(page) => page.to_page().to_vec(),
            Self::MediumPartition(page) => page.to_page(),
            Self::PowerCondition(page) => page.to_page().to_vec(),
            Self::InformationalExceptions(page) => page.to_page().to_vec(),
            Self::MediumConfiguration(page) => page.to_page().to_vec(),
            Self::Other { subpage: 0, bytes, .. } => [&[0; 2], at_most(bytes, usize::from(u8::MAX))].concat(),
            Self::Other { bytes, .. } => [&[0; 4], at_most(bytes, usize::from(u16::MAX))].concat(),
        };
        let (page, subpage) = self.code();
        let header = match subpage {
            0 => vec![page & 0x3f, len8(bytes.len() - 2)],
            _ => {
                let [high, low] = len16(bytes.len() - 4).to_be_bytes();
                vec![page & 0x3f | 0x40, subpage, high, low]
            }
        };
        bytes.iter_mut().zip(header).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Reads the one page that `bytes` begins with.
    ///
    /// # Errors
    /// When `bytes` ends within the page.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        Self::at(Bytes::new("mode page", bytes), 0).map(|(page, _)| page)
    }

    /// Where, in its header, the length begins.
    fn length_at(&self) -> usize {
        if self.code().1 == 0 { 1 } else { 2 }
    }

    /// The page at `at`, and where the next one begins.
    fn at(list: Bytes<'_>, at: usize) -> Result<(Self, usize), WireError> {
        let sub_page = list.at_least(at + 2)?.bit(at, 6);
        let (header, length, subpage) = match sub_page {
            true => (4, usize::from(list.at_least(at + 4)?.u16(at + 2)), list.u8(at + 1)),
            false => (2, usize::from(list.u8(at + 1)), 0),
        };
        // A sub_page format page with subpage code 0 has no other place to be written to than page_0 format.
        if sub_page && subpage == 0 {
            return Err(list.invalid(at + 1));
        }
        let next = at + header + length;
        let whole = list.at_least(next)?.slice(at, header + length);
        let (page, b) = (list.u8(at) & 0x3f, Bytes::new("mode page", whole));
        let page = match (page, subpage) {
            (0x01, 0x00) => Self::ReadWriteErrorRecovery(ReadWriteErrorRecovery::from_page(b)),
            (0x02, 0x00) => Self::DisconnectReconnect(DisconnectReconnect::from_page(b)),
            (0x0a, 0x00) => Self::Control(Control::from_page(b)),
            (0x0a, 0x01) => Self::ControlExtension(ControlExtension::from_page(b)),
            (0x0a, 0xf0) => Self::ControlDataProtection(ControlDataProtection::from_page(b)),
            (0x0f, 0x00) => Self::DataCompression(DataCompression::from_page(b)),
            (0x10, 0x00) => Self::DeviceConfiguration(DeviceConfiguration::from_page(b)),
            (0x10, 0x01) => Self::DeviceConfigurationExtension(DeviceConfigurationExtension::from_page(b)),
            (0x11, 0x00) => Self::MediumPartition(MediumPartition::from_page(b)),
            (0x1a, 0x00) => Self::PowerCondition(PowerCondition::from_page(b)),
            (0x1c, 0x00) => Self::InformationalExceptions(InformationalExceptions::from_page(b)),
            (0x1d, 0x00) => Self::MediumConfiguration(MediumConfiguration::from_page(b)),
            _ => Self::Other { page, subpage, bytes: b.rest(header).to_vec() },
        };
        Ok((page, next))
    }
}
