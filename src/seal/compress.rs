//! Compression before sealing, a record at a time; what does not shrink is stored as it is.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use zeroize::Zeroize;

use super::refusal::Refusal;
use super::wipe::wipe;

/// Compression number as it stands in a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression(pub u8);

impl Compression {
    /// Stored as it is.
    pub const NONE: Self = Self(0);
    /// One zstd frame (RFC 8878).
    pub const ZSTD: Self = Self(1);
    /// One LZ4 block without a size before it.
    pub const LZ4: Self = Self(2);
    /// Every number that format 1 knows.
    pub const ALL: [Self; 3] = [Self::NONE, Self::ZSTD, Self::LZ4];

    /// The name in configuration files and output, `None` for an unknown number.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::NONE => Some("none"),
            Self::ZSTD => Some("zstd"),
            Self::LZ4 => Some("lz4"),
            Self(_) => None,
        }
    }

    /// Whether format 1 knows the number.
    pub fn is_known(self) -> bool {
        self.name().is_some()
    }
}

impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "compression {:#04x}", self.0),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|compression| compression.name() == Some(name))
            .ok_or_else(|| format!("unknown compression “{name}”; one of none, zstd, lz4 is meant"))
    }
}

/// zstd's level: 1 feeds a drive, 3 no longer does (field notes 5).
const ZSTD_LEVEL: i32 = 1;

/// The state of both compressors is kept per thread: making it anew for each record costs more than the work.
struct Scratch {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    unzstd: Option<zstd::bulk::Decompressor<'static>>,
    /// Positions in the text before, which it clears first. For texts of any length: what a record becomes shall not depend on those
    /// that came before it.
    lz4: Option<CompressTable>,
    buffer: Vec<u8>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { zstd: None, unzstd: None, lz4: None, buffer: Vec::new() }) };
}

/// Compresses `buffer[start..]` in place if that makes it shorter and returns what was done. What stood behind the
/// shortened text is wiped.
pub(super) fn shrink(wanted: Compression, buffer: &mut Vec<u8>, start: usize) -> Compression {
    if wanted == Compression::NONE || buffer.len() <= start {
        return Compression::NONE;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let plain = buffer.len() - start;
        let shrunk = match wanted {
            Compression::ZSTD => scratch.zstd(&buffer[start..]),
            Compression::LZ4 => scratch.lz4(&buffer[start..]),
            Compression(_) => None,
        };
        let Some(length) = shrunk.filter(|&length| length < plain) else { return Compression::NONE };
        buffer[start..start + length].copy_from_slice(&scratch.buffer[..length]);
        wipe(&mut scratch.buffer[..length]);
        wipe(&mut buffer[start + length..]);
        buffer.truncate(start + length);
        wanted
    })
}

/// Expands `stored` to exactly `output.len()` bytes.
pub(super) fn expand(how: Compression, stored: &[u8], output: &mut [u8]) -> Result<(), Refusal> {
    let length = match how {
        // The decompressor would go on over further frames; a record holds exactly one.
        Compression::ZSTD if zstd::zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) => None,
        Compression::ZSTD => SCRATCH.with_borrow_mut(|scratch| {
            if scratch.unzstd.is_none() {
                scratch.unzstd = zstd::bulk::Decompressor::new().ok();
            }
            scratch.unzstd.as_mut().and_then(|zstd| zstd.decompress_to_buffer(stored, output).ok())
        }),
        Compression::LZ4 => lz4_flex::block::decompress_into(stored, output).ok(),
        Compression(_) => None,
    };
    match length {
        Some(length) if length == output.len() => Ok(()),
        Some(_) | None => {
            output.zeroize();
            Err(Refusal::BadCompression)
        }
    }
}

impl Scratch {
    fn room(&mut self, length: usize) {
        if self.buffer.len() < length {
            // Growing moves the content; nothing secret is in it between two records.
            self.buffer.resize(length, 0);
        }
    }

    fn zstd(&mut self, plain: &[u8]) -> Option<usize> {
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        self.room(plain.len());
        // One byte less than the text: "does not fit" and "does not shrink" are the same answer.
        let room = &mut self.buffer[..plain.len() - 1];
        let length = self.zstd.as_mut()?.compress_to_buffer(plain, room).ok();
        if length.is_none() {
            wipe(room);
        }
        length
    }

    fn lz4(&mut self, plain: &[u8]) -> Option<usize> {
        self.room(get_maximum_output_size(plain.len()));
        let room = &mut self.buffer[..get_maximum_output_size(plain.len())];
        let table = self.lz4.get_or_insert_with(CompressTable::large);
        let length = compress_into_with_table(plain, room, table).ok();
        if length.is_none_or(|length| length >= plain.len()) {
            wipe(room);
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_shrinks_and_comes_back() {
        let text = b"all work and no play ".repeat(500);
        for how in [Compression::ZSTD, Compression::LZ4] {
            let mut buffer = [&b"head"[..], &text].concat();
            assert_eq!(shrink(how, &mut buffer, 4), how);
            assert!(buffer.len() < text.len() / 4);
            assert_eq!(&buffer[..4], b"head");
            let mut back = vec![0; text.len()];
            expand(how, &buffer[4..], &mut back).unwrap();
            assert_eq!(back, text);
            let mut short = vec![0; text.len() - 1];
            assert_eq!(expand(how, &buffer[4..], &mut short), Err(Refusal::BadCompression));
            let mut long = vec![0; text.len() + 1];
            assert_eq!(expand(how, &buffer[4..], &mut long), Err(Refusal::BadCompression));
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored_raw() {
        let mut noise = vec![0; 4096];
        getrandom::fill(&mut noise).unwrap();
        for how in Compression::ALL {
            for length in [1, 2, 17, 4096] {
                let mut buffer = noise[..length].to_vec();
                assert_eq!(shrink(how, &mut buffer, 0), Compression::NONE);
                assert_eq!(buffer, noise[..length]);
            }
        }
    }
}
