//! Medium auxiliary memory attributes: READ ATTRIBUTE and WRITE ATTRIBUTE data (SPC-4 6.16, 6.46, 7.4).

use super::wire::{Bytes, WireError, at_most, flag, len16, len32, text};
use crate::medium::Attribute;

/// Service actions of READ ATTRIBUTE (SPC-4 table 192).
#[allow(missing_docs, reason = "the names are those of SPC-4 table 192")]
pub mod attribute_action {
    pub const VALUES: u8 = 0x00;
    pub const LIST: u8 = 0x01;
    pub const LOGICAL_VOLUME_LIST: u8 = 0x02;
    pub const PARTITION_LIST: u8 = 0x03;
    pub const SUPPORTED_ATTRIBUTES: u8 = 0x05;
}

/// Attribute identifiers (SPC-4 7.4.2): the device's 0000h to 03FFh, the medium's 0400h to 07FFh, the host's 0800h to 0BFFh.
#[allow(missing_docs, reason = "the names are those of SPC-4 tables 386, 388 and 390")]
pub mod attribute {
    /// MiB, 8 bytes.
    pub const REMAINING_CAPACITY_IN_PARTITION: u16 = 0x0000;
    /// MiB, 8 bytes.
    pub const MAXIMUM_CAPACITY_IN_PARTITION: u16 = 0x0001;
    pub const TAPE_ALERT_FLAGS: u16 = 0x0002;
    pub const LOAD_COUNT: u16 = 0x0003;
    pub const MAM_SPACE_REMAINING: u16 = 0x0004;
    pub const ASSIGNING_ORGANIZATION: u16 = 0x0005;
    pub const FORMATTED_DENSITY_CODE: u16 = 0x0006;
    pub const INITIALIZATION_COUNT: u16 = 0x0007;
    pub const VOLUME_IDENTIFIER: u16 = 0x0008;
    /// VCR: changes whenever the volume's contents do.
    pub const VOLUME_CHANGE_REFERENCE: u16 = 0x0009;
    pub const DEVICE_AT_LAST_LOAD: u16 = 0x020a;
    pub const DEVICE_AT_LOAD_BEFORE_1: u16 = 0x020b;
    pub const DEVICE_AT_LOAD_BEFORE_2: u16 = 0x020c;
    pub const DEVICE_AT_LOAD_BEFORE_3: u16 = 0x020d;
    /// MiB, 8 bytes, as are the following three.
    pub const TOTAL_WRITTEN_IN_LIFE: u16 = 0x0220;
    pub const TOTAL_READ_IN_LIFE: u16 = 0x0221;
    pub const TOTAL_WRITTEN_IN_CURRENT_LOAD: u16 = 0x0222;
    pub const TOTAL_READ_IN_CURRENT_LOAD: u16 = 0x0223;
    pub const FIRST_ENCRYPTED_LOGICAL_OBJECT: u16 = 0x0224;
    pub const FIRST_UNENCRYPTED_LOGICAL_OBJECT: u16 = 0x0225;
    pub const MEDIUM_USAGE_HISTORY: u16 = 0x0340;
    pub const PARTITION_USAGE_HISTORY: u16 = 0x0341;

    pub const MEDIUM_MANUFACTURER: u16 = 0x0400;
    pub const MEDIUM_SERIAL_NUMBER: u16 = 0x0401;
    /// Metres.
    pub const MEDIUM_LENGTH: u16 = 0x0402;
    /// Tenths of a millimetre.
    pub const MEDIUM_WIDTH: u16 = 0x0403;
    pub const MEDIUM_ASSIGNING_ORGANIZATION: u16 = 0x0404;
    pub const MEDIUM_DENSITY_CODE: u16 = 0x0405;
    pub const MEDIUM_MANUFACTURE_DATE: u16 = 0x0406;
    pub const MAM_CAPACITY: u16 = 0x0407;
    /// 00h data, 01h cleaning, 80h WORM.
    pub const MEDIUM_TYPE: u16 = 0x0408;
    pub const MEDIUM_TYPE_INFORMATION: u16 = 0x0409;
    pub const NUMERIC_MEDIUM_SERIAL_NUMBER: u16 = 0x040a;

    pub const APPLICATION_VENDOR: u16 = 0x0800;
    pub const APPLICATION_NAME: u16 = 0x0801;
    pub const APPLICATION_VERSION: u16 = 0x0802;
    pub const USER_MEDIUM_TEXT_LABEL: u16 = 0x0803;
    pub const DATE_AND_TIME_LAST_WRITTEN: u16 = 0x0804;
    pub const TEXT_LOCALIZATION_IDENTIFIER: u16 = 0x0805;
    pub const BARCODE: u16 = 0x0806;
    pub const OWNING_HOST_TEXTUAL_NAME: u16 = 0x0807;
    pub const MEDIA_POOL: u16 = 0x0808;
    pub const PARTITION_USER_TEXT_LABEL: u16 = 0x0809;
    pub const LOAD_UNLOAD_AT_PARTITION: u16 = 0x080a;
    pub const APPLICATION_FORMAT_VERSION: u16 = 0x080b;
    /// Where LTFS says which of its indexes belongs to the volume's contents.
    pub const VOLUME_COHERENCY_INFORMATION: u16 = 0x080c;
    pub const MEDIUM_GLOBALLY_UNIQUE_IDENTIFIER: u16 = 0x0820;
    pub const MEDIA_POOL_GLOBALLY_UNIQUE_IDENTIFIER: u16 = 0x0821;
}

/// FORMAT of an attribute (SPC-4 table 384).
#[allow(missing_docs, reason = "the names are those of SPC-4 table 384")]
pub mod attribute_format {
    pub const BINARY: u8 = 0;
    pub const ASCII: u8 = 1;
    pub const TEXT: u8 = 2;
}

/// An attribute as READ ATTRIBUTE tells it (SPC-4 7.4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MamAttribute {
    /// Identifier, format and value.
    pub attribute: Attribute,
    /// READ ONLY: initiators cannot change it.
    pub read_only: bool,
}

impl MamAttribute {
    /// As characters, unless it is binary.
    pub fn text(&self) -> Option<String> {
        (self.attribute.format != attribute_format::BINARY).then(|| text(&self.attribute.value))
    }

    /// As a number, where it is binary with 1 to 8 bytes.
    pub fn number(&self) -> Option<u64> {
        let value = &self.attribute.value;
        let fits = self.attribute.format == attribute_format::BINARY && (1..=8).contains(&value.len());
        fits.then(|| value.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }
}

/// Attributes with their values: data of READ ATTRIBUTE (action 00h) and the parameter list of WRITE ATTRIBUTE.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AttributeValues(pub Vec<MamAttribute>);

impl AttributeValues {
    const WHAT: &str = "attribute list";

    /// The list with its header of 4 bytes, which counts what follows. A value is cut at 65 535 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        for MamAttribute { attribute, read_only } in &self.0 {
            let value = at_most(&attribute.value, usize::from(u16::MAX));
            bytes.extend(attribute.id.to_be_bytes());
            bytes.push(flag(*read_only, 7) | attribute.format & 3);
            bytes.extend(len16(value.len()).to_be_bytes());
            bytes.extend(value);
        }
        let length = len32(bytes.len() - 4).to_be_bytes();
        bytes.iter_mut().zip(length).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Reads READ ATTRIBUTE data, as far as it goes. An attribute that was cut off is left out.
    ///
    /// # Errors
    /// Not even a header.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new(Self::WHAT, bytes).at_least(4)?;
        let length = usize::try_from(b.u32(0)).unwrap_or(usize::MAX);
        Ok(Self(attributes(b.slice(4, length)).0))
    }

    /// Reads the parameter list of WRITE ATTRIBUTE, all of it (SPC-4 6.46).
    ///
    /// # Errors
    /// [`WireError::Short`] when the list is shorter than it says or ends within an attribute (PARAMETER LIST LENGTH ERROR).
    pub fn parse_list(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new(Self::WHAT, bytes).at_least(4)?;
        let length = usize::try_from(b.u32(0)).unwrap_or(usize::MAX);
        let b = b.at_least(length.saturating_add(4))?.cut(length.saturating_add(4));
        let (list, read) = attributes(b.rest(4));
        match b.len() - 4 - read {
            0 => Ok(Self(list)),
            _ => Err(WireError::Short { what: "attribute", needed: b.len() + 1, have: b.len() }),
        }
    }
}

/// The attributes in `bytes`, and how many bytes they are.
fn attributes(bytes: &[u8]) -> (Vec<MamAttribute>, usize) {
    let (mut list, mut rest) = (Vec::new(), bytes);
    while let [id_high, id_low, format, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, next)) = behind.split_at_checked(length) else { break };
        let id = u16::from_be_bytes([*id_high, *id_low]);
        let attribute = Attribute { id, format: format & 3, value: value.to_vec() };
        list.push(MamAttribute { attribute, read_only: format & 0x80 != 0 });
        rest = next;
    }
    (list, bytes.len() - rest.len())
}

/// Attribute identifiers: data of READ ATTRIBUTE, actions 01h and 05h.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AttributeIds(pub Vec<u16>);

impl AttributeIds {
    /// The list with its header of 4 bytes, which counts what follows.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 + 2 * self.0.len());
        bytes.extend(len32(2 * self.0.len()).to_be_bytes());
        bytes.extend(self.0.iter().flat_map(|id| id.to_be_bytes()));
        bytes
    }

    /// Reads it, as far as it goes.
    ///
    /// # Errors
    /// Not even a header.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("attribute identifier list", bytes).at_least(4)?;
        let length = usize::try_from(b.u32(0)).unwrap_or(usize::MAX);
        let ids = b.slice(4, length).chunks_exact(2).map(|pair| Bytes::new("attribute identifier", pair).u16(0));
        Ok(Self(ids.collect()))
    }
}

/// First number and count: data of READ ATTRIBUTE, actions 02h (logical volumes) and 03h (partitions).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct NumberRange {
    /// FIRST LOGICAL VOLUME NUMBER or FIRST PARTITION NUMBER.
    pub first: u8,
    /// NUMBER OF … AVAILABLE.
    pub count: u8,
}

impl NumberRange {
    /// The 4 bytes: AVAILABLE DATA is 2.
    pub fn to_bytes(&self) -> [u8; 4] {
        [0, 2, self.first, self.count]
    }

    /// Reads them.
    ///
    /// # Errors
    /// Fewer than 4 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("logical volume or partition list", bytes).at_least(4)?;
        Ok(Self { first: b.u8(2), count: b.u8(3) })
    }
}
