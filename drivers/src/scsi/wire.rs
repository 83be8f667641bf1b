//! The bounded reader under all wire types, and what they refuse.
//!
//! A field behind the end of the data reads as zero, as SPC-4 has it for fields that a device of an older version does not
//! send and that a small allocation length cut off. What a type cannot do without it asks for with [`Bytes::at_least`].

/// Data that is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// The data ends before what cannot be done without.
    #[error("{what}: {have} bytes where at least {needed} are needed")]
    Short {
        /// Which structure.
        what: &'static str,
        /// Bytes that it has at least.
        needed: usize,
        /// Bytes that came.
        have: usize,
    },
    /// A field has a value that it cannot have.
    #[error("{what}: the value in byte {at} cannot be")]
    Invalid {
        /// Which structure.
        what: &'static str,
        /// The field's first byte, counted from the beginning of the structure.
        at: usize,
    },
}

/// The bytes of one structure.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a> {
    what: &'static str,
    bytes: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes }
    }

    pub(super) fn len(self) -> usize {
        self.bytes.len()
    }

    pub(super) fn at_least(self, needed: usize) -> Result<Self, WireError> {
        let have = self.bytes.len();
        if have < needed { Err(WireError::Short { what: self.what, needed, have }) } else { Ok(self) }
    }

    pub(super) fn invalid(self, at: usize) -> WireError {
        WireError::Invalid { what: self.what, at }
    }

    /// What is there of `length` bytes from `from`.
    pub(super) fn slice(self, from: usize, length: usize) -> &'a [u8] {
        let behind = self.bytes.get(from..).unwrap_or_default();
        behind.get(..length).unwrap_or(behind)
    }

    /// The same structure without what stands behind its first `length` bytes.
    pub(super) fn cut(self, length: usize) -> Self {
        Self { what: self.what, bytes: self.slice(0, length) }
    }

    pub(super) fn rest(self, from: usize) -> &'a [u8] {
        self.bytes.get(from..).unwrap_or_default()
    }

    pub(super) fn array<const N: usize>(self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        for (to, from) in array.iter_mut().zip(self.rest(at)) {
            *to = *from;
        }
        array
    }

    pub(super) fn u8(self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }
    pub(super) fn bit(self, at: usize, number: u8) -> bool {
        self.u8(at) >> number & 1 == 1
    }
    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }
    pub(super) fn u24(self, at: usize) -> u32 {
        let [a, b, c] = self.array(at);
        u32::from_be_bytes([0, a, b, c])
    }
    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }
    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }

    /// ASCII data (SPC-4 4.3.1): left aligned, filled with spaces (or zeros, by some devices). What is not ASCII shows as `?`.
    pub(super) fn text(self, from: usize, length: usize) -> String {
        text(self.slice(from, length))
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|&byte| byte != b' ' && byte != 0).map_or(0, |last| last + 1);
    let shown = |&byte: &u8| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '?' };
    bytes.get(..end).unwrap_or_default().iter().map(shown).collect()
}

pub(super) fn flag(set: bool, number: u8) -> u8 {
    u8::from(set) << number
}

/// A length for a field of one byte; what does not fit has been cut before.
pub(super) fn len8(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// A length for a field of two bytes; what does not fit has been cut before.
pub(super) fn len16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// A length for a field of four bytes; nothing here comes near its limit.
pub(super) fn len32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// At most `length` bytes of `bytes`.
pub(super) fn at_most(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

/// ASCII data of a fixed width: cut, or filled with spaces.
pub(super) fn put_text(to: &mut Vec<u8>, text: &str, width: usize) {
    let shown = text.chars().map(|c| if (' '..='~').contains(&c) { c as u8 } else { b'?' });
    to.extend(shown.chain(std::iter::repeat(b' ')).take(width));
}
