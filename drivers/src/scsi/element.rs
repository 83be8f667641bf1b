//! READ ELEMENT STATUS data of a medium changer (SMC-3 6.11): what is in which slot and drive.

use super::Designator;
use super::wire::{Bytes, WireError, flag, len16, put_text};

/// Element type (SMC-3 table 10), 4 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct ElementType(pub u8);

#[allow(missing_docs, reason = "the names are those of SMC-3 table 10")]
impl ElementType {
    pub const ALL: Self = Self(0);
    pub const MEDIUM_TRANSPORT: Self = Self(1);
    pub const STORAGE: Self = Self(2);
    pub const IMPORT_EXPORT: Self = Self(3);
    pub const DATA_TRANSFER: Self = Self(4);
}

/// Volume tag information (SMC-3 6.11.8): what the changer's reader made of the label.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct VolumeTag {
    /// VOLUME IDENTIFICATION FIELD, 32 characters: the barcode.
    pub identification: String,
    /// VOLUME SEQUENCE NUMBER.
    pub sequence: u16,
}

impl VolumeTag {
    const LENGTH: usize = 36;

    fn write(tag: Option<&Self>, to: &mut Vec<u8>) {
        match tag {
            None => to.extend([0; Self::LENGTH]),
            Some(tag) => {
                put_text(to, &tag.identification, 32);
                to.extend([0; 2]);
                to.extend(tag.sequence.to_be_bytes());
            }
        }
    }

    /// A tag of zeros or spaces is none.
    fn read(bytes: &[u8]) -> Option<Self> {
        let b = Bytes::new("volume tag", bytes);
        let tag = Self { identification: b.text(0, 32), sequence: b.u16(34) };
        (!tag.identification.is_empty() || tag.sequence != 0).then_some(tag)
    }
}

/// An element descriptor (SMC-3 6.11.4 to 6.11.7). Which flags mean something depends on the element's type.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Element {
    /// ELEMENT ADDRESS.
    pub address: u16,
    /// FULL: a volume is in it.
    pub full: bool,
    /// IMPEXP: an operator put it there, not the changer.
    pub placed_by_operator: bool,
    /// EXCEPT: something is wrong; ASC and ASCQ tell what.
    pub exception: bool,
    /// ACCESS: the transport can reach it.
    pub accessible: bool,
    /// EXENAB, import/export: it can export.
    pub export_enabled: bool,
    /// INENAB, import/export: it can import.
    pub import_enabled: bool,
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
    /// INVERT.
    pub inverted: bool,
    /// ED: the element is disabled.
    pub disabled: bool,
    /// MEDIUM TYPE, 3 bits: 0 unspecified, 1 data, 2 cleaning.
    pub medium_type: u8,
    /// SOURCE STORAGE ELEMENT ADDRESS, where SVALID says that it counts.
    pub source: Option<u16>,
    /// Primary volume tag, where the page has them and this one is not blank.
    pub primary_tag: Option<VolumeTag>,
    /// Alternate volume tag, likewise.
    pub alternate_tag: Option<VolumeTag>,
    /// Device identifier of a data transfer element, with DVCID. 243 bytes at most.
    pub device: Option<Designator>,
}

impl Element {
    /// Descriptor without tags and identifier.
    const FIXED: usize = 12;

    /// The barcode of the volume in it.
    pub fn barcode(&self) -> Option<&str> {
        let tag = self.primary_tag.as_ref()?;
        (self.full && !tag.identification.is_empty()).then_some(tag.identification.as_str())
    }

    /// The serial number of the drive in it. T10 vendor based identifiers have it behind vendor and product; changers that give
    /// nothing but the serial number call it vendor specific.
    pub fn drive_serial(&self) -> Option<String> {
        let device = self.device.as_ref()?;
        let serial = match (device.kind, device.bytes.len()) {
            (Designator::T10_VENDOR_ID, 25..) => device.bytes.get(24..)?,
            (Designator::T10_VENDOR_ID, _) => device.bytes.get(8..)?,
            (0, _) => &device.bytes,
            _ => return None,
        };
        let serial = super::wire::text(serial).trim().to_owned();
        (!serial.is_empty()).then_some(serial)
    }

    fn write(&self, page: &ElementPage, length: usize, to: &mut Vec<u8>) {
        let end = to.len() + length;
        to.extend(self.address.to_be_bytes());
        to.push(
            flag(self.import_enabled, 5)
                | flag(self.export_enabled, 4)
                | flag(self.accessible, 3)
                | flag(self.exception, 2)
                | flag(self.placed_by_operator, 1)
                | flag(self.full, 0),
        );
        to.extend([0, self.asc, self.ascq, 0, 0, 0]);
        to.push(
            flag(self.source.is_some(), 7) | flag(self.inverted, 6) | flag(self.disabled, 3) | self.medium_type & 7,
        );
        to.extend(self.source.unwrap_or(0).to_be_bytes());
        if page.primary_tags {
            VolumeTag::write(self.primary_tag.as_ref(), to);
        }
        if page.alternate_tags {
            VolumeTag::write(self.alternate_tag.as_ref(), to);
        }
        if let Some(device) = &self.device {
            to.extend(device.to_bytes());
        }
        to.resize(end, 0);
    }

    fn read(b: Bytes<'_>, primary: bool, alternate: bool) -> Self {
        let mut at = Self::FIXED;
        let mut tag = |present: bool| {
            let tag = VolumeTag::read(b.slice(at, VolumeTag::LENGTH)).filter(|_| present);
            at += if present { VolumeTag::LENGTH } else { 0 };
            tag
        };
        let (primary_tag, alternate_tag) = (tag(primary), tag(alternate));
        Self {
            address: b.u16(0),
            full: b.bit(2, 0),
            placed_by_operator: b.bit(2, 1),
            exception: b.bit(2, 2),
            accessible: b.bit(2, 3),
            export_enabled: b.bit(2, 4),
            import_enabled: b.bit(2, 5),
            asc: b.u8(4),
            ascq: b.u8(5),
            inverted: b.bit(9, 6),
            disabled: b.bit(9, 3),
            medium_type: b.u8(9) & 7,
            source: b.bit(9, 7).then(|| b.u16(10)),
            primary_tag,
            alternate_tag,
            device: Designator::list(b.rest(at)).into_iter().next().filter(|device| !device.bytes.is_empty()),
        }
    }
}

/// An element status page (SMC-3 6.11.3): elements of one type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElementPage {
    /// ELEMENT TYPE CODE.
    pub kind: ElementType,
    /// PVOLTAG: there is room for primary volume tags.
    pub primary_tags: bool,
    /// AVOLTAG: there is room for alternate volume tags.
    pub alternate_tags: bool,
    /// The elements.
    pub elements: Vec<Element>,
}

impl ElementPage {
    /// ELEMENT DESCRIPTOR LENGTH: that of the longest, since all have the same. The 4 bytes of a device identifier's header are
    /// there, as reserved ones, without one too.
    fn descriptor_length(&self) -> usize {
        let tags = usize::from(self.primary_tags) + usize::from(self.alternate_tags);
        let devices = self.elements.iter().filter_map(|element| element.device.as_ref());
        let device = devices.map(|device| device.bytes.len().min(255)).max().unwrap_or(0);
        Element::FIXED + tags * VolumeTag::LENGTH + 4 + device
    }
}

/// READ ELEMENT STATUS data (SMC-3 6.11.2).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ElementStatus {
    /// FIRST ELEMENT ADDRESS REPORTED.
    pub first: u16,
    /// NUMBER OF ELEMENTS AVAILABLE, which is more than the pages have when the data was cut.
    pub available: u16,
    /// Pages, ascending by element address.
    pub pages: Vec<ElementPage>,
}

impl ElementStatus {
    const HEADER: usize = 8;

    /// The whole data.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for page in &self.pages {
            let length = page.descriptor_length();
            body.extend([page.kind.0 & 0x0f, flag(page.primary_tags, 7) | flag(page.alternate_tags, 6)]);
            body.extend(len16(length).to_be_bytes());
            body.extend(count(length * page.elements.len()));
            page.elements.iter().for_each(|element| element.write(page, length, &mut body));
        }
        let mut bytes = Vec::with_capacity(Self::HEADER + body.len());
        bytes.extend(self.first.to_be_bytes());
        bytes.extend(self.available.to_be_bytes());
        bytes.extend(count(body.len()));
        bytes.extend(body);
        bytes
    }

    /// How much room the whole data wants, by a header of 8 bytes that a short allocation got.
    pub fn wanted(header: &[u8]) -> usize {
        let b = Bytes::new("element status header", header);
        Self::HEADER + usize::try_from(b.u24(5)).unwrap_or(usize::MAX - Self::HEADER)
    }

    /// Reads what is there. An element that was cut off is left out.
    ///
    /// # Errors
    /// Not even a header, or descriptors too short to say anything.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("element status data", bytes).at_least(Self::HEADER)?;
        let b = b.cut(Self::wanted(bytes));
        let mut status = Self { first: b.u16(0), available: b.u16(2), pages: Vec::new() };
        let mut at = Self::HEADER;
        while b.len() >= at + Self::HEADER {
            let (length, count) = (usize::from(b.u16(at + 2)), usize::try_from(b.u24(at + 5)).unwrap_or(usize::MAX));
            if count > 0 && length < Element::FIXED {
                return Err(b.invalid(at + 2));
            }
            let (primary_tags, alternate_tags) = (b.bit(at + 1, 7), b.bit(at + 1, 6));
            let descriptors = b.slice(at + Self::HEADER, count).chunks_exact(length.max(1));
            let elements = descriptors
                .map(|bytes| Element::read(Bytes::new("element descriptor", bytes), primary_tags, alternate_tags));
            let kind = ElementType(b.u8(at) & 0x0f);
            status.pages.push(ElementPage { kind, primary_tags, alternate_tags, elements: elements.collect() });
            at = at.saturating_add(Self::HEADER).saturating_add(count);
        }
        Ok(status)
    }

    /// All elements with their type.
    pub fn elements(&self) -> impl Iterator<Item = (ElementType, &Element)> {
        self.pages.iter().flat_map(|page| page.elements.iter().map(|element| (page.kind, element)))
    }
}

/// A reserved byte and BYTE COUNT … AVAILABLE, 24 bits.
fn count(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).min(0xff_ffff).to_be_bytes()
}
