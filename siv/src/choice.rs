//! Which implementation this process uses: decided once, after a self test.

use std::fmt;
#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::{self_test, sys::Instructions, wide::Wide};

/// What seals and opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// This crate's kernel: VAES and VPCLMULQDQ in vectors of 512 bits.
    Wide,
    /// The crate `aes-gcm-siv`.
    Portable,
}

impl Implementation {
    /// What [`Aes256GcmSiv::new`](crate::Aes256GcmSiv::new) takes in this process. The first call tests the wide kernel, which takes
    /// some microseconds.
    pub fn of_this_process() -> Self {
        #[cfg(target_arch = "x86_64")]
        if instructions().is_some() {
            return Self::Wide;
        }
        Self::Portable
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wide => "VAES and VPCLMULQDQ, 512 bits",
            Self::Portable => "RustCrypto aes-gcm-siv",
        })
    }
}

/// The instructions of the wide kernel, where the processor has them and the kernel passed its test in this process.
#[cfg(target_arch = "x86_64")]
pub(crate) fn instructions() -> Option<Instructions> {
    static CHOICE: OnceLock<Option<Instructions>> = OnceLock::new();
    *CHOICE.get_or_init(|| {
        Instructions::detect().filter(|found| self_test::passes(|key| Box::new(Wide::new(*found, key))))
    })
}
