//! Vital product data pages of INQUIRY (SPC-4 7.8, SSC-4 8.6).

use super::TapeAlertFlags;
use super::inquiry::Peripheral;
use super::wire::{Bytes, WireError, at_most, flag, len8, len16, put_text, text};

/// Page codes.
pub mod vpd_page {
    /// Supported VPD pages.
    pub const SUPPORTED: u8 = 0x00;
    /// Unit serial number.
    pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
    /// Device identification.
    pub const DEVICE_IDENTIFICATION: u8 = 0x83;
    /// Extended INQUIRY data.
    pub const EXTENDED_INQUIRY: u8 = 0x86;
    /// Sequential-access device capabilities.
    pub const SEQUENTIAL_ACCESS_CAPABILITIES: u8 = 0xb0;
    /// Manufacturer-assigned serial number.
    pub const MANUFACTURER_SERIAL_NUMBER: u8 = 0xb1;
    /// TapeAlert supported flags.
    pub const TAPE_ALERT_SUPPORTED: u8 = 0xb2;
    /// Automation device serial number.
    pub const AUTOMATION_SERIAL_NUMBER: u8 = 0xb3;
}

/// A page, without its header. Texts are ASCII, 65 535 characters at most; more is cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Vpd {
    /// 00h: page codes, ascending.
    Supported(Vec<u8>),
    /// 80h: PRODUCT SERIAL NUMBER.
    UnitSerialNumber(String),
    /// 83h: designation descriptors.
    DeviceIdentification(Vec<Designator>),
    /// 86h.
    ExtendedInquiry(ExtendedInquiry),
    /// B0h of a sequential-access device (SSC-4 8.6.2).
    SequentialAccessCapabilities {
        /// WORM: WORM media are supported.
        worm: bool,
        /// TSMC: tape stream mirroring is supported.
        tape_stream_mirroring: bool,
    },
    /// B1h of a sequential-access device (SSC-4 8.6.3).
    ManufacturerSerialNumber(String),
    /// B2h of a sequential-access device (SSC-4 8.6.4).
    TapeAlertSupported(TapeAlertFlags),
    /// B3h of a sequential-access device (SSC-4 8.6.5): the serial number of the changer.
    AutomationSerialNumber(String),
    /// Any other page, as it came.
    Other {
        /// Page code.
        page: u8,
        /// What follows the header.
        bytes: Vec<u8>,
    },
}

impl Vpd {
    /// The page code.
    pub fn page(&self) -> u8 {
        match self {
            Self::Supported(_) => vpd_page::SUPPORTED,
            Self::UnitSerialNumber(_) => vpd_page::UNIT_SERIAL_NUMBER,
            Self::DeviceIdentification(_) => vpd_page::DEVICE_IDENTIFICATION,
            Self::ExtendedInquiry(_) => vpd_page::EXTENDED_INQUIRY,
            Self::SequentialAccessCapabilities { .. } => vpd_page::SEQUENTIAL_ACCESS_CAPABILITIES,
            Self::ManufacturerSerialNumber(_) => vpd_page::MANUFACTURER_SERIAL_NUMBER,
            Self::TapeAlertSupported(_) => vpd_page::TAPE_ALERT_SUPPORTED,
            Self::AutomationSerialNumber(_) => vpd_page::AUTOMATION_SERIAL_NUMBER,
            Self::Other { page, .. } => *page,
        }
    }

    /// The page with its header of 4 bytes. What the page length field cannot count is left out.
    pub fn to_bytes(&self, peripheral: Peripheral) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Supported(pages) => body.extend(pages),
            Self::UnitSerialNumber(serial)
            | Self::ManufacturerSerialNumber(serial)
            | Self::AutomationSerialNumber(serial) => put_text(&mut body, serial, serial.chars().count()),
            Self::DeviceIdentification(designators) => {
                for designator in designators {
                    let next = designator.to_bytes();
                    if body.len() + next.len() > usize::from(u16::MAX) {
                        break;
                    }
                    body.extend(next);
                }
            }
            Self::ExtendedInquiry(data) => body.extend(data.to_body()),
            Self::SequentialAccessCapabilities { worm, tape_stream_mirroring } => {
                body.extend([flag(*tape_stream_mirroring, 1) | flag(*worm, 0), 0]);
            }
            Self::TapeAlertSupported(flags) => body.extend(flags.to_bytes()),
            Self::Other { bytes, .. } => body.extend(bytes),
        }
        let body = at_most(&body, usize::from(u16::MAX));
        let mut page = vec![peripheral.byte(), self.page()];
        page.extend(len16(body.len()).to_be_bytes());
        page.extend(body);
        page
    }

    /// Reads a page of a sequential-access device; B0h to B3h mean other things for other device types and stay
    /// [`Other`](Self::Other) there. A page that was cut gives what is there of it.
    ///
    /// # Errors
    /// Fewer than 4 bytes.
    pub fn parse(bytes: &[u8]) -> Result<(Peripheral, Self), WireError> {
        let b = Bytes::new("vital product data page", bytes).at_least(4)?;
        let (peripheral, page) = (Peripheral::from_byte(b.u8(0)), b.u8(1));
        let body = b.slice(4, usize::from(b.u16(2)));
        let tape = peripheral.device_type == Peripheral::TAPE.device_type;
        let vpd = match page {
            vpd_page::SUPPORTED => Self::Supported(body.to_vec()),
            vpd_page::UNIT_SERIAL_NUMBER => Self::UnitSerialNumber(text(body)),
            vpd_page::DEVICE_IDENTIFICATION => Self::DeviceIdentification(Designator::list(body)),
            vpd_page::EXTENDED_INQUIRY => Self::ExtendedInquiry(ExtendedInquiry::parse_body(body)),
            vpd_page::SEQUENTIAL_ACCESS_CAPABILITIES if tape => {
                let first = body.first().copied().unwrap_or(0);
                Self::SequentialAccessCapabilities { worm: first & 1 != 0, tape_stream_mirroring: first & 2 != 0 }
            }
            vpd_page::MANUFACTURER_SERIAL_NUMBER if tape => Self::ManufacturerSerialNumber(text(body)),
            vpd_page::TAPE_ALERT_SUPPORTED if tape => {
                Self::TapeAlertSupported(TapeAlertFlags::from_bytes(Bytes::new("TapeAlert flags", body).array(0)))
            }
            vpd_page::AUTOMATION_SERIAL_NUMBER if tape => Self::AutomationSerialNumber(text(body)),
            page => Self::Other { page, bytes: body.to_vec() },
        };
        Ok((peripheral, vpd))
    }
}

/// A designation descriptor (SPC-4 7.8.6.1).
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Designator {
    /// PROTOCOL IDENTIFIER, 4 bits, where PIV says that it counts.
    pub protocol: Option<u8>,
    /// CODE SET, 4 bits: 1 binary, 2 ASCII, 3 UTF-8.
    pub code_set: u8,
    /// ASSOCIATION, 2 bits: 0 logical unit, 1 target port, 2 target device.
    pub association: u8,
    /// DESIGNATOR TYPE, 4 bits.
    pub kind: u8,
    /// DESIGNATOR, 255 bytes at most; more is cut.
    pub bytes: Vec<u8>,
}

impl Designator {
    /// Designator type: T10 vendor ID based.
    pub const T10_VENDOR_ID: u8 = 1;
    /// Designator type: NAA.
    pub const NAA: u8 = 3;
    /// Designator type: relative target port.
    pub const RELATIVE_TARGET_PORT: u8 = 4;
    /// Association: the logical unit.
    pub const LOGICAL_UNIT: u8 = 0;
    /// Association: the target port.
    pub const TARGET_PORT: u8 = 1;
    /// Association: the target device.
    pub const TARGET_DEVICE: u8 = 2;

    const BINARY: u8 = 1;
    const ASCII: u8 = 2;

    /// T10 vendor ID based: the vendor in 8 characters, then what that vendor makes unique; drives give product and serial number.
    pub fn t10_vendor_id(vendor: &str, specific: &str) -> Self {
        let mut bytes = Vec::with_capacity(8 + specific.len());
        put_text(&mut bytes, vendor, 8);
        put_text(&mut bytes, specific, specific.chars().count());
        Self {
            protocol: None,
            code_set: Self::ASCII,
            association: Self::LOGICAL_UNIT,
            kind: Self::T10_VENDOR_ID,
            bytes,
        }
    }

    /// NAA of 64 bits.
    pub fn naa(association: u8, name: u64) -> Self {
        let bytes = name.to_be_bytes().to_vec();
        Self { protocol: None, code_set: Self::BINARY, association, kind: Self::NAA, bytes }
    }

    /// Relative target port identifier.
    pub fn relative_target_port(port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        Self {
            protocol: None,
            code_set: Self::BINARY,
            association: Self::TARGET_PORT,
            kind: Self::RELATIVE_TARGET_PORT,
            bytes: vec![0, 0, high, low],
        }
    }

    /// A designator of characters, as text.
    pub fn text(&self) -> Option<String> {
        matches!(self.code_set, 2 | 3).then(|| text(&self.bytes))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let body = at_most(&self.bytes, usize::from(u8::MAX));
        let mut bytes = vec![
            self.protocol.unwrap_or(0) << 4 | self.code_set & 0x0f,
            flag(self.protocol.is_some(), 7) | (self.association & 3) << 4 | self.kind & 0x0f,
            0,
            len8(body.len()),
        ];
        bytes.extend(body);
        bytes
    }

    /// The descriptors in `bytes`; one that was cut is left out, since half a name is another name.
    pub(super) fn list(bytes: &[u8]) -> Vec<Self> {
        let mut designators = Vec::new();
        let mut rest = bytes;
        while let [first, second, _, length, behind @ ..] = rest {
            let Some((body, next)) = behind.split_at_checked(usize::from(*length)) else { break };
            designators.push(Self {
                protocol: (second & 0x80 != 0).then_some(first >> 4),
                code_set: first & 0x0f,
                association: second >> 4 & 3,
                kind: second & 0x0f,
                bytes: body.to_vec(),
            });
            rest = next;
        }
        designators
    }
}

/// Extended INQUIRY data (SPC-4 7.8.7), the fields that a tape drive fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct ExtendedInquiry {
    /// SPT, 3 bits: for sequential-access devices, 1 says that logical block protection is supported.
    pub supported_protection_type: u8,
    /// GRD_CHK: the guard is checked.
    pub guard_check: bool,
    /// HEADSUP: HEAD OF QUEUE is supported.
    pub head_of_queue: bool,
    /// ORDSUP: ORDERED is supported.
    pub ordered: bool,
    /// SIMPSUP: SIMPLE is supported.
    pub simple: bool,
    /// LUICLR: the loss of an I_T nexus clears the commands of that nexus only.
    pub clears_by_nexus: bool,
    /// EXTENDED SELF-TEST COMPLETION MINUTES.
    pub extended_self_test_minutes: u16,
    /// MAXIMUM SUPPORTED SENSE DATA LENGTH.
    pub maximum_sense_length: u8,
}

impl ExtendedInquiry {
    /// PAGE LENGTH: 3Ch.
    const BODY: usize = 60;

    fn to_body(self) -> [u8; Self::BODY] {
        let mut body = [0; Self::BODY];
        body[0] = (self.supported_protection_type & 7) << 3 | flag(self.guard_check, 2);
        body[1] = flag(self.head_of_queue, 2) | flag(self.ordered, 1) | flag(self.simple, 0);
        body[3] = flag(self.clears_by_nexus, 0);
        body[6..8].copy_from_slice(&self.extended_self_test_minutes.to_be_bytes());
        body[9] = self.maximum_sense_length;
        body
    }

    fn parse_body(body: &[u8]) -> Self {
        let b = Bytes::new("extended INQUIRY data", body);
        Self {
            supported_protection_type: b.u8(0) >> 3 & 7,
            guard_check: b.bit(0, 2),
            head_of_queue: b.bit(1, 2),
            ordered: b.bit(1, 1),
            simple: b.bit(1, 0),
            clears_by_nexus: b.bit(3, 0),
            extended_self_test_minutes: b.u16(6),
            maximum_sense_length: b.u8(9),
        }
    }
}
