//! READ BLOCK LIMITS data (SSC-4 7.5).

use super::wire::{Bytes, WireError};

/// READ BLOCK LIMITS block length data (SSC-4 table 61).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct BlockLengthLimits {
    /// GRANULARITY: lengths between minimum and maximum are multiples of 2 to this power. 5 bits.
    pub granularity: u8,
    /// MAXIMUM BLOCK LENGTH LIMIT in bytes, 24 bits; 0: there is none.
    pub maximum: u32,
    /// MINIMUM BLOCK LENGTH LIMIT in bytes.
    pub minimum: u16,
}

impl BlockLengthLimits {
    /// Its length on the wire.
    pub const LENGTH: usize = 6;

    /// The 6 bytes; a maximum of more than 24 bits is cut to the largest that can be said.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let [_, a, b, c] = self.maximum.min(0xff_ffff).to_be_bytes();
        let [high, low] = self.minimum.to_be_bytes();
        [self.granularity & 0x1f, a, b, c, high, low]
    }

    /// Reads them.
    ///
    /// # Errors
    /// Fewer than 6 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("READ BLOCK LIMITS data", bytes).at_least(Self::LENGTH)?;
        Ok(Self { granularity: b.u8(0) & 0x1f, maximum: b.u24(1), minimum: b.u16(4) })
    }
}

/// READ BLOCK LIMITS maximum logical object identifier data, with MLOI set to one (SSC-4 table 62).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct MaximumLogicalObject(pub u64);

impl MaximumLogicalObject {
    /// Its length on the wire.
    pub const LENGTH: usize = 20;

    /// The 20 bytes.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[12..20].copy_from_slice(&self.0.to_be_bytes());
        bytes
    }

    /// Reads them.
    ///
    /// # Errors
    /// Fewer than 20 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        Ok(Self(Bytes::new("READ BLOCK LIMITS data, MLOI", bytes).at_least(Self::LENGTH)?.u64(12)))
    }
}
