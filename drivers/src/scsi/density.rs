//! REPORT DENSITY SUPPORT data (SSC-4 7.11).

use super::wire::{Bytes, WireError, at_most, flag, len8, len16, put_text};

/// A density support data block descriptor (SSC-4 table 76).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Density {
    /// PRIMARY DENSITY CODE.
    pub primary: u8,
    /// SECONDARY DENSITY CODE; the primary again where there is no other.
    pub secondary: u8,
    /// WRTOK: the drive can write it.
    pub writable: bool,
    /// DUP: the primary density code stands in another descriptor too.
    pub duplicate: bool,
    /// DEFLT: what the drive writes unless told otherwise.
    pub default: bool,
    /// BITS PER MM, 24 bits.
    pub bits_per_mm: u32,
    /// MEDIA WIDTH in tenths of a millimetre.
    pub media_width: u16,
    /// TRACKS.
    pub tracks: u16,
    /// CAPACITY in megabytes (of 10^6 bytes).
    pub capacity: u32,
    /// ASSIGNING ORGANIZATION, 8 characters.
    pub organization: String,
    /// DENSITY NAME, 8 characters.
    pub name: String,
    /// DESCRIPTION, 20 characters.
    pub description: String,
}

impl Density {
    const LENGTH: usize = 52;

    fn write(&self, to: &mut Vec<u8>) {
        let flags = flag(self.writable, 7) | flag(self.duplicate, 6) | flag(self.default, 5);
        // DLV and DESCRIPTOR LENGTH stay 0: all descriptors have 52 bytes.
        to.extend([self.primary, self.secondary, flags, 0, 0]);
        to.extend(&self.bits_per_mm.min(0xff_ffff).to_be_bytes()[1..]);
        to.extend(self.media_width.to_be_bytes());
        to.extend(self.tracks.to_be_bytes());
        to.extend(self.capacity.to_be_bytes());
        put_text(to, &self.organization, 8);
        put_text(to, &self.name, 8);
        put_text(to, &self.description, 20);
    }

    fn read(b: Bytes<'_>) -> Self {
        Self {
            primary: b.u8(0),
            secondary: b.u8(1),
            writable: b.bit(2, 7),
            duplicate: b.bit(2, 6),
            default: b.bit(2, 5),
            bits_per_mm: b.u24(5),
            media_width: b.u16(8),
            tracks: b.u16(10),
            capacity: b.u32(12),
            organization: b.text(16, 8),
            name: b.text(24, 8),
            description: b.text(32, 20),
        }
    }
}

/// REPORT DENSITY SUPPORT data with MEDIUM TYPE at zero.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DensitySupport(pub Vec<Density>);

impl DensitySupport {
    /// The header of 4 bytes and the descriptors. What the length cannot count is left out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let densities = self.0.get(..MOST / Density::LENGTH).unwrap_or(&self.0);
        let mut bytes = header(densities.len() * Density::LENGTH);
        densities.iter().for_each(|density| density.write(&mut bytes));
        bytes
    }

    /// Reads what is there; DLV is honoured. A descriptor that was cut off is left out.
    ///
    /// # Errors
    /// Not even a header, or a descriptor too short for what it has to say.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = descriptors(bytes)?;
        let (mut densities, mut at) = (Vec::new(), HEADER);
        while b.len() >= at + Density::LENGTH {
            let length = if b.bit(at + 2, 0) { usize::from(b.u16(at + 3)) } else { Density::LENGTH };
            if length < Density::LENGTH {
                return Err(b.invalid(at + 3));
            }
            densities.push(Density::read(Bytes::new("density descriptor", b.slice(at, length))));
            at += length;
        }
        Ok(Self(densities))
    }
}

/// A medium type descriptor (SSC-4 table 77).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediumTypeDescriptor {
    /// MEDIUM TYPE, as in the mode parameter header.
    pub medium_type: u8,
    /// PRIMARY DENSITY CODES, 9 at most.
    pub densities: Vec<u8>,
    /// MEDIA WIDTH in tenths of a millimetre.
    pub media_width: u16,
    /// MEDIUM LENGTH in metres.
    pub medium_length: u16,
    /// ASSIGNING ORGANIZATION, 8 characters.
    pub organization: String,
    /// MEDIUM TYPE NAME, 8 characters.
    pub name: String,
    /// DESCRIPTION, 20 characters.
    pub description: String,
}

impl MediumTypeDescriptor {
    const LENGTH: usize = 56;
    const CODES: usize = 9;

    fn write(&self, to: &mut Vec<u8>) {
        let codes = at_most(&self.densities, Self::CODES);
        // DESCRIPTOR LENGTH counts what follows it.
        to.extend([self.medium_type, 0, 0, 52, len8(codes.len())]);
        to.extend(codes.iter().copied().chain(std::iter::repeat(0)).take(Self::CODES));
        to.extend(self.media_width.to_be_bytes());
        to.extend(self.medium_length.to_be_bytes());
        to.extend([0; 2]);
        put_text(to, &self.organization, 8);
        put_text(to, &self.name, 8);
        put_text(to, &self.description, 20);
    }

    fn read(b: Bytes<'_>) -> Self {
        Self {
            medium_type: b.u8(0),
            densities: b.slice(5, usize::from(b.u8(4)).min(Self::CODES)).to_vec(),
            media_width: b.u16(14),
            medium_length: b.u16(16),
            organization: b.text(20, 8),
            name: b.text(28, 8),
            description: b.text(36, 20),
        }
    }
}

/// REPORT DENSITY SUPPORT data with MEDIUM TYPE at one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MediumTypeSupport(pub Vec<MediumTypeDescriptor>);

impl MediumTypeSupport {
    /// The header of 4 bytes and the descriptors. What the length cannot count is left out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let types = self.0.get(..MOST / MediumTypeDescriptor::LENGTH).unwrap_or(&self.0);
        let mut bytes = header(types.len() * MediumTypeDescriptor::LENGTH);
        types.iter().for_each(|medium| medium.write(&mut bytes));
        bytes
    }

    /// Reads what is there. A descriptor that was cut off is left out.
    ///
    /// # Errors
    /// Not even a header, or a descriptor too short for what it has to say.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = descriptors(bytes)?;
        let (mut types, mut at) = (Vec::new(), HEADER);
        while b.len() >= at + MediumTypeDescriptor::LENGTH {
            let length = 4 + usize::from(b.u16(at + 2));
            if length < MediumTypeDescriptor::LENGTH {
                return Err(b.invalid(at + 2));
            }
            types.push(MediumTypeDescriptor::read(Bytes::new("medium type descriptor", b.slice(at, length))));
            at += length;
        }
        Ok(Self(types))
    }
}

const HEADER: usize = 4;
/// AVAILABLE DENSITY SUPPORT LENGTH counts the 2 reserved bytes behind it, and the descriptors.
const MOST: usize = u16::MAX as usize - 2;

fn header(following: usize) -> Vec<u8> {
    let [high, low] = len16(following + 2).to_be_bytes();
    vec![high, low, 0, 0]
}

fn descriptors(bytes: &[u8]) -> Result<Bytes<'_>, WireError> {
    let b = Bytes::new("density support data", bytes).at_least(HEADER)?;
    Ok(b.cut(2 + usize::from(b.u16(0))))
}
