//! Small reports: REPORT LUNS (SPC-4 6.33), timestamps (6.38, 6.45), READ MEDIA SERIAL NUMBER (6.25).

use super::wire::{Bytes, WireError, len32, put_text};

/// REPORT LUNS data: logical unit numbers in the form of SAM-5 4.6, 8 bytes each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogicalUnits(pub Vec<[u8; 8]>);

impl LogicalUnits {
    const HEADER: usize = 8;

    /// The header, which counts what follows, and the numbers.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = len32(8 * self.0.len()).to_be_bytes().to_vec();
        bytes.resize(Self::HEADER, 0);
        bytes.extend(self.0.iter().flatten());
        bytes
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// Not even a header.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("REPORT LUNS data", bytes).at_least(Self::HEADER)?;
        let list = b.slice(Self::HEADER, usize::try_from(b.u32(0)).unwrap_or(usize::MAX));
        Ok(Self(list.chunks_exact(8).map(|number| Bytes::new("logical unit number", number).array(0)).collect()))
    }
}

/// The device's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Timestamp {
    /// TIMESTAMP ORIGIN, 3 bits: 0 power on, 2 SET TIMESTAMP, 3 another way.
    pub origin: u8,
    /// TIMESTAMP: milliseconds since 1970 (or since power on), 48 bits.
    pub milliseconds: u64,
}

impl Timestamp {
    /// Length of REPORT TIMESTAMP data and of the parameter list of SET TIMESTAMP.
    pub const LENGTH: usize = 12;

    /// REPORT TIMESTAMP data.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = self.to_list();
        bytes[1] = 10;
        bytes[2] = self.origin & 7;
        bytes
    }

    /// The parameter list of SET TIMESTAMP.
    pub fn to_list(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let milliseconds = self.milliseconds.min((1 << 48) - 1);
        bytes[4..10].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
        bytes
    }

    /// Reads either; SET TIMESTAMP has no origin.
    ///
    /// # Errors
    /// Fewer than 10 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("timestamp", bytes).at_least(10)?;
        let milliseconds = u64::from(b.u16(4)) << 32 | u64::from(b.u32(6));
        Ok(Self { origin: b.u8(2) & 7, milliseconds })
    }
}

/// READ MEDIA SERIAL NUMBER data.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MediaSerialNumber(pub String);

impl MediaSerialNumber {
    /// The header of 4 bytes, which counts what follows: a multiple of 4.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = self.0.chars().count().next_multiple_of(4);
        let mut bytes = len32(length).to_be_bytes().to_vec();
        put_text(&mut bytes, &self.0, length);
        bytes
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// Not even a header.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("READ MEDIA SERIAL NUMBER data", bytes).at_least(4)?;
        Ok(Self(b.text(4, usize::try_from(b.u32(0)).unwrap_or(usize::MAX))))
    }
}
