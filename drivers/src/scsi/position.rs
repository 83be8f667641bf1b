//! READ POSITION data (SSC-4 7.6): one type for the short, the long and the extended form.

use super::wire::{Bytes, WireError, flag};

/// Where the medium stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Location {
    /// Partition number.
    pub partition: u8,
    /// First logical object location: the object that the initiator's next command meets.
    pub first: u64,
    /// Last logical object location: the object that goes to the medium next. The long form does not tell.
    pub last: Option<u64>,
}

/// READ POSITION data. What its form cannot carry, or the drive does not know, is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct PositionData {
    /// BOP: at the beginning of the partition.
    pub beginning_of_partition: bool,
    /// EOP: between early warning and the end of the partition.
    pub end_of_partition: bool,
    /// BPEW: beyond the programmable early warning.
    pub beyond_programmable_early_warning: bool,
    /// PERR: the position does not fit this form. There is no location then; a longer form tells it.
    pub position_error: bool,
    /// `None`: LOLU (short, extended) or LONU (long).
    pub location: Option<Location>,
    /// Logical file identifier: filemarks between the beginning of the partition and the position. Long form only; `None`: MPU.
    pub filemarks: Option<u64>,
    /// Logical objects in the drive's buffer; `None`: LOCU. Not in the long form.
    pub objects_in_buffer: Option<u64>,
    /// Bytes in the drive's buffer; `None`: BYCU. Not in the long form.
    pub bytes_in_buffer: Option<u64>,
}

impl PositionData {
    /// Length of the short form.
    pub const SHORT_LENGTH: usize = 20;
    /// Length of the long and of the extended form.
    pub const LONG_LENGTH: usize = 32;

    /// Short form, service actions 00h and 01h (SSC-4 table 65).
    ///
    /// A location above 32 bits sets PERR, and LOLU too, for initiators that look at that alone. A count that does not fit its
    /// field is told as unknown: the position is still right.
    pub fn to_short(&self) -> [u8; Self::SHORT_LENGTH] {
        let mut bytes = [0; Self::SHORT_LENGTH];
        let fits = |location: Location| {
            let first = u32::try_from(location.first).ok()?;
            let last = u32::try_from(location.last.unwrap_or(location.first)).ok()?;
            Some((location.partition, first, last))
        };
        let place = self.location.and_then(fits);
        let objects =
            self.objects_in_buffer.and_then(|count| u32::try_from(count).ok()).filter(|&count| count < 1 << 24);
        let held = self.bytes_in_buffer.and_then(|count| u32::try_from(count).ok());
        let overflow = self.position_error || (self.location.is_some() && place.is_none());
        bytes[0] = self.counted_flags(place.is_none(), overflow, objects.is_none(), held.is_none());
        if let Some((partition, first, last)) = place {
            bytes[1] = partition;
            bytes[4..8].copy_from_slice(&first.to_be_bytes());
            bytes[8..12].copy_from_slice(&last.to_be_bytes());
        }
        bytes[12..16].copy_from_slice(&objects.unwrap_or(0).to_be_bytes());
        bytes[16..20].copy_from_slice(&held.unwrap_or(0).to_be_bytes());
        bytes
    }

    /// Reads the short form.
    ///
    /// # Errors
    /// Fewer than 20 bytes.
    pub fn parse_short(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("READ POSITION data, short form", bytes).at_least(Self::SHORT_LENGTH)?;
        let location = Location { partition: b.u8(1), first: u64::from(b.u32(4)), last: Some(u64::from(b.u32(8))) };
        Ok(Self::counted(b, location, u64::from(b.u24(13)), u64::from(b.u32(16))))
    }

    /// Long form, service action 06h (SSC-4 table 66).
    pub fn to_long(&self) -> [u8; Self::LONG_LENGTH] {
        let mut bytes = [0; Self::LONG_LENGTH];
        bytes[0] = flag(self.beginning_of_partition, 7)
            | flag(self.end_of_partition, 6)
            | flag(self.filemarks.is_none(), 3)
            | flag(self.location.is_none(), 2)
            | flag(self.beyond_programmable_early_warning, 0);
        if let Some(location) = self.location {
            bytes[7] = location.partition;
            bytes[8..16].copy_from_slice(&location.first.to_be_bytes());
        }
        bytes[16..24].copy_from_slice(&self.filemarks.unwrap_or(0).to_be_bytes());
        bytes
    }

    /// Reads the long form.
    ///
    /// # Errors
    /// Fewer than 24 bytes (what follows is obsolete), or a partition number above 255, which no other form or command can name.
    pub fn parse_long(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("READ POSITION data, long form", bytes).at_least(24)?;
        let location = match b.bit(0, 2) {
            true => None,
            false => {
                let partition = u8::try_from(b.u32(4)).map_err(|_| b.invalid(4))?;
                Some(Location { partition, first: b.u64(8), last: None })
            }
        };
        Ok(Self {
            beginning_of_partition: b.bit(0, 7),
            end_of_partition: b.bit(0, 6),
            beyond_programmable_early_warning: b.bit(0, 0),
            position_error: false,
            location,
            filemarks: (!b.bit(0, 3)).then(|| b.u64(16)),
            objects_in_buffer: None,
            bytes_in_buffer: None,
        })
    }

    /// Extended form, service action 08h (SSC-4 table 67).
    pub fn to_extended(&self) -> [u8; Self::LONG_LENGTH] {
        let mut bytes = [0; Self::LONG_LENGTH];
        let objects =
            self.objects_in_buffer.and_then(|count| u32::try_from(count).ok()).filter(|&count| count < 1 << 24);
        bytes[0] = self.counted_flags(
            self.location.is_none(),
            self.position_error,
            objects.is_none(),
            self.bytes_in_buffer.is_none(),
        );
        bytes[3] = 28;
        bytes[4..8].copy_from_slice(&objects.unwrap_or(0).to_be_bytes());
        if let Some(location) = self.location {
            bytes[1] = location.partition;
            bytes[8..16].copy_from_slice(&location.first.to_be_bytes());
            bytes[16..24].copy_from_slice(&location.last.unwrap_or(location.first).to_be_bytes());
        }
        bytes[24..32].copy_from_slice(&self.bytes_in_buffer.unwrap_or(0).to_be_bytes());
        bytes
    }

    /// Reads the extended form.
    ///
    /// # Errors
    /// Fewer than 32 bytes.
    pub fn parse_extended(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("READ POSITION data, extended form", bytes).at_least(Self::LONG_LENGTH)?;
        let location = Location { partition: b.u8(1), first: b.u64(8), last: Some(b.u64(16)) };
        Ok(Self::counted(b, location, u64::from(b.u24(5)), b.u64(24)))
    }

    /// Byte 0 of the forms that tell the buffer's counts.
    fn counted_flags(&self, no_place: bool, overflow: bool, no_objects: bool, no_bytes: bool) -> u8 {
        flag(self.beginning_of_partition, 7)
            | flag(self.end_of_partition, 6)
            | flag(no_objects, 5)
            | flag(no_bytes, 4)
            | flag(no_place, 2)
            | flag(overflow, 1)
            | flag(self.beyond_programmable_early_warning, 0)
    }

    fn counted(b: Bytes<'_>, location: Location, objects: u64, held: u64) -> Self {
        let position_error = b.bit(0, 1);
        Self {
            beginning_of_partition: b.bit(0, 7),
            end_of_partition: b.bit(0, 6),
            beyond_programmable_early_warning: b.bit(0, 0),
            position_error,
            location: (!b.bit(0, 2) && !position_error).then_some(location),
            filemarks: None,
            objects_in_buffer: (!b.bit(0, 5)).then_some(objects),
            bytes_in_buffer: (!b.bit(0, 4)).then_some(held),
        }
    }
}
