//! The crate `aes-gcm-siv` of RustCrypto: what every processor can do.

use aes_gcm_siv::aead::inout::InOutBuf;
use aes_gcm_siv::aead::{AeadInOut, KeyInit};

use crate::Kernel;

/// A key-generating key, expanded. It wipes itself when dropped (feature `zeroize`).
pub(crate) struct Portable(Box<aes_gcm_siv::Aes256GcmSiv>);

impl Portable {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Box::new(aes_gcm_siv::Aes256GcmSiv::new(key.into())))
    }
}

impl Kernel for Portable {
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> Option<[u8; 16]> {
        self.0.encrypt_inout_detached(nonce.into(), aad, InOutBuf::from(text)).ok().map(Into::into)
    }

    fn open(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
        self.0.decrypt_inout_detached(nonce.into(), aad, InOutBuf::from(text), tag.into()).is_ok()
    }
}
