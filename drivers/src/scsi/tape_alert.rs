//! TapeAlert flags (SSC-4 4.2.17, annex A): what a drive wants an operator to know.

use std::fmt;

/// The 64 flags. Flag `n` (1 to 64) is bit `n - 1`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct TapeAlertFlags(pub u64);

impl TapeAlertFlags {
    /// How many there are.
    pub const COUNT: u8 = 64;

    /// Whether flag `number` (1 to 64) is set.
    pub fn is_set(self, number: u8) -> bool {
        number.checked_sub(1).and_then(|bit| self.0.checked_shr(u32::from(bit))).is_some_and(|bits| bits & 1 == 1)
    }

    /// Sets flag `number` (1 to 64); another number does nothing.
    pub fn set(&mut self, number: u8) {
        let bit = number.checked_sub(1).and_then(|bit| 1_u64.checked_shl(u32::from(bit)));
        self.0 |= bit.unwrap_or(0);
    }

    /// The numbers of the flags that are set, ascending.
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        (1..=Self::COUNT).filter(move |&number| self.is_set(number))
    }

    /// As VPD page B2h, log page 12h and MAM attribute 0002h have them: flag 01h is the highest bit of the first byte.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.reverse_bits().to_be_bytes()
    }

    /// Reads them.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes).reverse_bits())
    }

    /// What flag `number` means, and what to do, in words for an operator.
    pub fn text(number: u8) -> Option<&'static str> {
        Some(match number {
            0x01 => "reading is in trouble: copy what is needed from this tape",
            0x02 => "writing is in trouble: use another tape, then clean the drive",
            0x03 => "hard error: the last operation stopped on a read or write error that was not mended",
            0x04 => "the medium is bad: copy what is needed from it, and take it out of use",
            0x05 => "reading failed: tape or drive is damaged; try another drive",
            0x06 => "writing failed: tape or drive is damaged; try another tape",
            0x07 => "the medium is at the end of its life: copy it, and take it out of use",
            0x08 => "the medium is not of data grade: do not trust data to it",
            0x09 => "the medium is write protected",
            0x0a => "the medium cannot be unloaded: a program prevents removal",
            0x0b => "a cleaning cartridge is loaded",
            0x0c => "the medium's format is not supported by this drive",
            0x0d => "the tape broke, and can be recovered: have it taken out by the vendor's procedure",
            0x0e => "the tape broke inside the drive: call service",
            0x0f => "the cartridge's memory chip failed: take the cartridge out of use when it is empty",
            0x10 => "the cartridge was taken out by force",
            0x11 => "this medium can only be read in this drive",
            0x12 => "the tape directory is damaged: searching is slow until the whole tape has been read",
            0x13 => "the medium is near the end of its life: copy it soon",
            0x14 => "the drive wants cleaning now: load a cleaning cartridge",
            0x15 => "the drive wants its routine cleaning: load a cleaning cartridge soon",
            0x16 => "the cleaning cartridge is used up: put in a new one",
            0x17 => "this is no valid cleaning cartridge",
            0x18 => "retensioning was asked for",
            0x19 => "one of the drive's interfaces failed: look at cables and ports",
            0x1a => "a fan failed: call service",
            0x1b => "the power supply failed: call service",
            0x1c => "the drive draws too much power: call service",
            0x1d => "the drive wants preventive maintenance: see its manual",
            0x1e => "drive hardware failed: reset it; call service when that does not help",
            0x1f => "drive hardware failed: power it off and on; call service when that does not help",
            0x20 => "the host interface failed: look at cables and ports",
            0x21 => "the medium should be ejected: eject it, load it again, and repeat the operation",
            0x22 => "a firmware download failed: get the right firmware and repeat it",
            0x23 => "humidity is out of limits",
            0x24 => "temperature is out of limits",
            0x25 => "supply voltage is out of limits",
            0x26 => "drive failure is predicted: call service",
            0x27 => "drive diagnostics are wanted: call service",
            0x33 => {
                "the tape directory was not written at unload: searching is slow until the whole tape has been read"
            }
            0x34 => "the tape's system area cannot be written: copy what is needed from it",
            0x35 => "the tape's system area cannot be read: copy what is needed from it",
            0x36 => "no start of data found: the tape is not in this drive's format, or damaged",
            0x37 => "the medium cannot be loaded and threaded: take it out, look at it, try another",
            0x38 => "the medium cannot be unloaded: call service",
            0x39 => "the automation interface failed",
            0x3a => "drive firmware failed: call service when it happens again",
            0x3b => "the integrity of a WORM medium cannot be shown: do not trust it as WORM",
            0x3c => "an attempt was made to write over a WORM medium",
            _ => return None,
        })
    }
}

impl fmt::Debug for TapeAlertFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.numbers()).finish()
    }
}
