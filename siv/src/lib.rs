//! AES-256-GCM-SIV (RFC 8452), the cipher of Sealtape's records, at the speed of the processor.
//!
//! On processors with AVX-512, VAES and VPCLMULQDQ a kernel of this crate works on vectors of four blocks; everywhere else, and when
//! the kernel fails its test at the first use in a process, the crate `aes-gcm-siv` does. Both give the same bytes. Why there is a
//! kernel of our own: `docs/adr/0021-wide-gcm-siv.md`.
//!
//! What holds:
//! - Tags are compared in constant time, and after a mismatch nothing of the text stays.
//! - What derives from the key wipes itself when dropped, and cannot be copied, compared or shown. A copy of a key schedule may
//!   remain in the 8 KiB of stack below the caller, who overwrites them where that matters.
//! - No lookup and no branch depends on key, text or tag. Lengths are public.
//! - `unsafe` stands in `sys.rs` alone.
//!
//! Deliberately absent: other key sizes, other tag sizes, and streaming. A text is in memory, whole.

mod choice;
mod portable;
#[cfg(any(test, target_arch = "x86_64"))]
mod self_test;
#[cfg(target_arch = "x86_64")]
mod sys;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::fmt;

pub use choice::Implementation;
use portable::Portable;
#[cfg(target_arch = "x86_64")]
use wide::Wide;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of a tag.
pub const TAG_LEN: usize = 16;
/// The most bytes of text, and of additional data (RFC 8452, section 6).
pub const LONGEST: u64 = 1 << 36;

/// Text or additional data has more than [`LONGEST`] bytes. Nothing was encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AES-256-GCM-SIV takes at most {LONGEST} bytes of text and of additional data; seal less at a time")
    }
}

impl std::error::Error for TooLong {}

/// The tag did not verify. Says nothing else, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagMismatch;

impl fmt::Display for TagMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tag does not verify")
    }
}

impl std::error::Error for TagMismatch {}

/// What an implementation does with a text whose length was checked.
trait Kernel {
    /// Encrypts in place and gives the tag.
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]>;

    /// Decrypts in place and tells whether `tag` is right. If not, what `text` holds is no one's to see.
    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> bool;
}

enum Chosen {
    #[cfg(target_arch = "x86_64")]
    Wide(Wide),
    Portable(Portable),
}

/// AEAD_AES_256_GCM_SIV under one key-generating key.
pub struct Aes256GcmSiv(Chosen);

impl Aes256GcmSiv {
    /// Expands `key`, for the fastest implementation that works here.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(instructions) = choice::instructions() {
            return Self(Chosen::Wide(Wide::new(instructions, key)));
        }
        Self::portable(key)
    }

    /// Expands `key` for the crate `aes-gcm-siv`, whatever the processor can do: for tests and comparison.
    pub fn portable(key: &[u8; KEY_LEN]) -> Self {
        Self(Chosen::Portable(Portable::new(key)))
    }

    /// What seals and opens under this key.
    pub fn implementation(&self) -> Implementation {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Chosen::Wide(_) => Implementation::Wide,
            Chosen::Portable(_) => Implementation::Portable,
        }
    }

    fn kernel(&self) -> &dyn Kernel {
        match &self.0 {
            #[cfg(target_arch = "x86_64")]
            Chosen::Wide(wide) => wide,
            Chosen::Portable(portable) => portable,
        }
    }

    /// Encrypts `text` in place and gives the tag over it and `aad` (RFC 8452, section 4).
    pub fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], TooLong> {
        if !within_limits(aad.len(), text.len()) {
            return Err(TooLong);
        }
        self.kernel().seal(nonce, aad, text).ok_or(TooLong)
    }

    /// Verifies `tag` over `text` and `aad`, and decrypts `text` in place (RFC 8452, section 5). After a mismatch `text` is zeros.
    pub fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), TagMismatch> {
        if within_limits(aad.len(), text.len()) && self.kernel().open(nonce, aad, text, tag) {
            return Ok(());
        }
        // The cipher decrypts before it knows the tag. At the speed of memory: `Zeroize` goes byte by byte.
        text.fill(0);
        zeroize::optimization_barrier(text);
        Err(TagMismatch)
    }
}

fn within_limits(aad: usize, text: usize) -> bool {
    aad as u64 <= LONGEST && text as u64 <= LONGEST
}

#[cfg(test)]
mod tests;
