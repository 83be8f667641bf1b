//! Secrets in memory: data keys and PINs.
//!
//! A secret lives in a page of its own (locked where `RLIMIT_MEMLOCK` allows, excluded from core dumps, wiped in forked children),
//! is wiped on drop, cannot be printed, cloned, serialised or compared but in constant time. It is read from and written to
//! a stream directly, so that no copy is left in a buffer.

use std::fmt;
use std::io::{self, Read, Write};

use subtle::ConstantTimeEq;

use crate::sys::SecretPage;

/// Length of a data key in bytes.
pub const DATA_KEY_LEN: usize = 32;

/// Longest PIN in bytes that is accepted.
pub const PIN_MAX: usize = 254;

/// A data key: 256 bits.
pub struct DataKey(SecretPage);

impl DataKey {
    /// Makes a key by letting `fill` write its bytes in place.
    ///
    /// # Errors
    /// When no page can be mapped, or `fill` fails.
    pub fn fill_with<E: From<io::Error>>(
        fill: impl FnOnce(&mut [u8; DATA_KEY_LEN]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut page = SecretPage::new()?;
        let (head, _) = page
            .bytes_mut()
            .split_first_chunk_mut::<DATA_KEY_LEN>()
            .ok_or_else(|| E::from(io::ErrorKind::InvalidData.into()))?;
        fill(head)?;
        Ok(Self(page))
    }

    /// Copies the key from `bytes`; wiping those is the caller's duty.
    ///
    /// # Errors
    /// When no page can be mapped.
    pub fn copy_from(bytes: &[u8; DATA_KEY_LEN]) -> io::Result<Self> {
        Self::fill_with(|to| {
            to.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// Reads exactly 32 bytes into the key's own page.
    ///
    /// # Errors
    /// Whatever `from` returns, `UnexpectedEof` when it ends early.
    pub fn read_from(from: &mut impl Read) -> io::Result<Self> {
        Self::fill_with(|to| from.read_exact(to))
    }

    /// Writes the 32 bytes from the key's own page.
    ///
    /// # Errors
    /// Whatever `to` returns.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(self.expose())
    }

    /// The key's bytes, for the moment of their use: never copy them into memory that is not wiped.
    #[must_use]
    pub fn expose(&self) -> &[u8; DATA_KEY_LEN] {
        // The page is larger than a key, so the fallback is never taken; it keeps this free of panics.
        self.0.bytes().first_chunk().unwrap_or(&[0; DATA_KEY_LEN])
    }

    /// Equality in constant time; the only one there is.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }

    /// Whether the page is locked into memory (it is not when `RLIMIT_MEMLOCK` is used up).
    #[must_use]
    pub fn locked(&self) -> bool {
        self.0.locked()
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(secret)")
    }
}

/// A PIN of a token, as bytes (PKCS#11 asks for UTF-8).
pub struct Pin {
    page: SecretPage,
    len: usize,
}

impl Pin {
    /// Copies a PIN from `bytes`; wiping those is the caller's duty.
    ///
    /// # Errors
    /// `InvalidInput` when it is empty, longer than [`PIN_MAX`] or not UTF-8.
    pub fn copy_from(bytes: &[u8]) -> io::Result<Self> {
        if bytes.is_empty() || bytes.len() > PIN_MAX || std::str::from_utf8(bytes).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a PIN has 1 to {PIN_MAX} bytes of UTF-8"),
            ));
        }
        let mut page = SecretPage::new()?;
        for (to, from) in page.bytes_mut().iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(Self { page, len: bytes.len() })
    }

    /// Reads a PIN to the end of `from`; one line end after it is dropped.
    ///
    /// # Errors
    /// As [`Pin::copy_from`], and whatever `from` returns.
    pub fn read_from(from: &mut impl Read) -> io::Result<Self> {
        let mut page = SecretPage::new()?;
        let mut len = 0;
        loop {
            let room = page.bytes_mut().get_mut(len..).unwrap_or_default();
            if room.is_empty() {
                break;
            }
            match from.read(room) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let text = page.bytes().get(..len).unwrap_or_default();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Self::copy_from(text)
    }

    /// A random PIN of 32 hexadecimal digits (128 bits).
    ///
    /// # Errors
    /// When the system has no randomness or no page.
    pub fn generate() -> io::Result<Self> {
        let mut random = [0u8; 16];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        let mut page = SecretPage::new()?;
        for (pair, byte) in page.bytes_mut().chunks_exact_mut(2).zip(&random) {
            for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            }
        }
        zeroize::Zeroize::zeroize(&mut random);
        Ok(Self { page, len: 32 })
    }

    /// The PIN's bytes, for the moment of their use.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.page.bytes().get(..self.len).unwrap_or_default()
    }

    /// Equality in constant time (the length is not hidden).
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(secret)")
    }
}

/// Makes this process hold its secrets: no core dumps, not traceable by others of its user, no new privileges.
///
/// # Errors
/// When the kernel refuses one of the settings.
pub fn harden_process() -> io::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_printed() {
        let key = DataKey::copy_from(&[0x41; 32]).unwrap();
        let pin = Pin::copy_from(b"AAAA").unwrap();
        let text = format!("{key:?} {pin:?}");
        assert_eq!(text, "DataKey(secret) Pin(secret)");
    }

    #[test]
    fn keys_round_trip_through_streams() {
        let key = DataKey::fill_with(|k| getrandom::fill(k).map_err(|e| io::Error::other(e.to_string()))).unwrap();
        let mut wire = Vec::new();
        key.write_to(&mut wire).unwrap();
        assert_eq!(wire.len(), 32);
        assert!(DataKey::read_from(&mut wire.as_slice()).unwrap().ct_eq(&key));
        wire[31] ^= 1;
        assert!(!DataKey::read_from(&mut wire.as_slice()).unwrap().ct_eq(&key));
        assert!(DataKey::read_from(&mut &wire[..31]).is_err());
    }

    #[test]
    fn pins_are_read_without_their_line_end() {
        assert_eq!(Pin::read_from(&mut b"1234\n".as_slice()).unwrap().expose(), b"1234");
        assert_eq!(Pin::read_from(&mut b"1234\r\n".as_slice()).unwrap().expose(), b"1234");
        assert!(Pin::read_from(&mut b"\n".as_slice()).is_err());
        assert!(Pin::copy_from(&[b'1'; 255]).is_err());
        assert!(Pin::copy_from(&[0xff]).is_err());
        let generated = Pin::generate().unwrap();
        assert_eq!(generated.expose().len(), 32);
        assert!(generated.expose().iter().all(u8::is_ascii_hexdigit));
    }

    #[test]
    fn a_secret_page_is_outside_core_dumps() {
        let key = DataKey::copy_from(&[7; 32]).unwrap();
        let address = key.expose().as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let mut flags = None;
        for line in maps.lines() {
            if let Some((range, _)) = line.split_once(' ')
                && let Some((from, to)) = range.split_once('-')
                && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                inside = (from..to).contains(&address);
            }
            if inside && let Some(f) = line.strip_prefix("VmFlags:") {
                flags = Some(f.to_owned());
            }
        }
        let flags = flags.unwrap();
        assert!(flags.contains(" dd"), "{flags}");
        assert!(flags.contains(" wf"), "{flags}");
    }
}
