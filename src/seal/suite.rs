//! Suites: authenticated ciphers behind one trait. Numbers are for ever.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{Aead as _, AeadInOut, KeyInit};
use chacha20poly1305::XChaCha20Poly1305;
use sealtape_siv::{Aes256GcmSiv, Implementation, NONCE_LEN};
use std::fmt;
use std::str::FromStr;

/// Bytes of an authentication tag; the same for every suite of format 1.
pub const TAG_LEN: usize = 16;

/// Suite number as it stands in records and generation records.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Suite(pub u8);

impl Suite {
    /// AES-256-GCM-SIV (RFC 8452), the default.
    pub const AES_256_GCM_SIV: Self = Self(1);
    /// AES-256-GCM (SP 800-38D, IEEE 1619.1).
    pub const AES_256_GCM: Self = Self(2);
    /// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), for processors without AES instructions.
    pub const XCHACHA20_POLY1305: Self = Self(3);
    /// Every suite that format 1 knows.
    pub const ALL: [Self; 3] = [Self::AES_256_GCM_SIV, Self::AES_256_GCM, Self::XCHACHA20_POLY1305];

    /// The name in configuration files and output, `None` for an unknown number.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::AES_256_GCM_SIV => Some("aes-256-gcm-siv"),
            Self::AES_256_GCM => Some("aes-256-gcm"),
            Self::XCHACHA20_POLY1305 => Some("xchacha20-poly1305"),
            Self(_) => None,
        }
    }

    /// Whether format 1 knows the number.
    pub fn is_known(self) -> bool {
        self.name().is_some()
    }

    /// How many records one session may hold under its record key. A session ends before that.
    pub fn session_limit(self) -> u64 {
        match self {
            Self::AES_256_GCM => 1 << 32,
            Self(_) => 1 << 48,
        }
    }

    /// What seals and opens with this suite in this process, where there is a choice.
    pub fn implementation(self) -> Option<Implementation> {
        (self == Self::AES_256_GCM_SIV).then(Implementation::of_this_process)
    }

    /// The cipher under a record key (32 bytes); `None` for an unknown number.
    pub fn cipher(self, key: &[u8; 32]) -> Option<Box<dyn RecordCipher>> {
        match self {
            Self::AES_256_GCM_SIV => Some(Box::new(GcmSiv(Aes256GcmSiv::new(key)))),
            Self::AES_256_GCM => Some(Box::new(Gcm(Aes256Gcm::new(key.into())))),
            Self::XCHACHA20_POLY1305 => Some(Box::new(XChaCha(XChaCha20Poly1305::new(key.into())))),
            Self(_) => None,
        }
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "suite {:#04x}", self.0),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|suite| suite.name() == Some(name)).ok_or_else(|| {
            format!("unknown suite “{name}”; one of aes-256-gcm-siv, aes-256-gcm, xchacha20-poly1305 is meant")
        })
    }
}

/// The tag did not verify. Says nothing else, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagMismatch;

/// One authenticated cipher under one record key, for opening.
///
/// The nonce is always a counter: the seal counter stands big-endian in its last 8 bytes, zeros before.
pub trait RecordOpener: Send + Sync {
    /// Verifies `tag` over `text` and `aad` and decrypts `text` in place. After a mismatch `text` holds no
    /// plaintext.
    fn open_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), TagMismatch>;

    /// Decrypts with a nonce of the caller's, for known-answer tests of the cipher itself.
    #[doc(hidden)]
    fn open_with_nonce(&self, nonce: &[u8], aad: &[u8], text: &[u8]) -> Option<Vec<u8>>;
}

/// The same for sealing too.
pub trait RecordCipher: RecordOpener {
    /// Encrypts `text` in place and returns the tag over it and `aad`.
    ///
    /// Fails only for lengths beyond the cipher's limit, which records (16 MiB) never reach, and when the key has ended.
    fn seal_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], TagMismatch>;

    /// Encrypts with a nonce of the caller's, for known-answer tests of the cipher itself.
    #[doc(hidden)]
    fn seal_with_nonce(&self, nonce: &[u8], aad: &[u8], text: &[u8]) -> Option<Vec<u8>>;

    /// Whether its key has ended and was wiped.
    fn is_ended(&self) -> bool {
        false
    }
}

macro_rules! record_cipher {
    ($name:ident, $cipher:ty, $nonce:literal) => {
        struct $name($cipher);

        impl RecordOpener for $name {
            fn open_in_place(
                &self,
                counter: u64,
                aad: &[u8],
                text: &mut [u8],
                tag: &[u8; TAG_LEN],
            ) -> Result<(), TagMismatch> {
                let nonce = counter_nonce::<$nonce>(counter);
                self.0.decrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(&mut *text), tag.into()).map_err(
                    |_| {
                        // Whatever the implementation did before it knew the tag, nothing of that may stay.
                        zeroize::Zeroize::zeroize(text);
                        TagMismatch
                    },
                )
            }

            fn open_with_nonce(&self, nonce: &[u8], aad: &[u8], text: &[u8]) -> Option<Vec<u8>> {
                let nonce: [u8; $nonce] = nonce.try_into().ok()?;
                self.0.decrypt(&nonce.into(), aes_gcm::aead::Payload { msg: text, aad }).ok()
            }
        }

        impl RecordCipher for $name {
            fn seal_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], TagMismatch> {
                let nonce = counter_nonce::<$nonce>(counter);
                let tag =
                    self.0.encrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(text)).map_err(|_| TagMismatch)?;
                Ok(tag.into())
            }

            fn seal_with_nonce(&self, nonce: &[u8], aad: &[u8], text: &[u8]) -> Option<Vec<u8>> {
                let nonce: [u8; $nonce] = nonce.try_into().ok()?;
                self.0.encrypt(&nonce.into(), aes_gcm::aead::Payload { msg: text, aad }).ok()
            }
        }
    };
}

record_cipher!(Gcm, Aes256Gcm, 12);
record_cipher!(XChaCha, XChaCha20Poly1305, 24);

struct GcmSiv(Aes256GcmSiv);

impl RecordOpener for GcmSiv {
    fn open_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), TagMismatch> {
        self.0.open_in_place(&counter_nonce(counter), aad, text, tag).map_err(|_| TagMismatch)
    }

    fn open_with_nonce(&self, nonce: &[u8], aad: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let nonce: &[u8; NONCE_LEN] = nonce.try_into().ok()?;
        let (text, tag) = text.split_last_chunk()?;
        let mut text = text.to_vec();
        self.0.open_in_place(nonce, aad, &mut text, tag).ok().map(|()| text)
    }
}

impl RecordCipher for GcmSiv {
    fn seal_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], TagMismatch> {
        self.0.seal_in_place(&counter_nonce(counter), aad, text).map_err(|_| TagMismatch)
    }

    fn seal_with_nonce(&self, nonce: &[u8], aad: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let nonce: &[u8; NONCE_LEN] = nonce.try_into().ok()?;
        let mut text = text.to_vec();
        let tag = self.0.seal_in_place(nonce, aad, &mut text).ok()?;
        text.extend_from_slice(&tag);
        Some(text)
    }
}

fn counter_nonce<const N: usize>(counter: u64) -> [u8; N] {
    let mut nonce = [0; N];
    nonce[N - 8..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_round_trips_and_refuses_a_changed_tag() {
        for suite in Suite::ALL {
            let cipher = suite.cipher(&[7; 32]).unwrap();
            let mut text = *b"some text of a record";
            let tag = cipher.seal_in_place(3, b"aad", &mut text).unwrap();
            assert_ne!(&text, b"some text of a record");
            let sealed = text;
            cipher.open_in_place(3, b"aad", &mut text, &tag).unwrap();
            assert_eq!(&text, b"some text of a record");
            for (counter, aad) in [(4, b"aad"), (3, b"aaD")] {
                let mut text = sealed;
                assert!(cipher.open_in_place(counter, aad, &mut text, &tag).is_err());
                assert_eq!(text, [0; 21], "{suite}: nothing of an unverified record stays");
            }
        }
    }

    #[test]
    fn unknown_suites_have_no_cipher() {
        assert!(Suite(0).cipher(&[0; 32]).is_none());
        assert!(!Suite(4).is_known());
        assert!("rot13".parse::<Suite>().is_err());
    }
}
