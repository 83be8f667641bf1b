//! The wide kernel: AES-256-GCM-SIV in vectors of four blocks, for processors with AVX-512, VAES and VPCLMULQDQ.
//!
//! Constant time by construction: no table is looked up and nothing branches on key, text or tag; lengths are public. Everything
//! that derives from the key stands in [`aes::RoundKeys`] and [`polyval::Powers`], which wipe themselves; what the compiler puts
//! down on the stack beside them stays below 4 KiB, for the caller to overwrite (Sealtape does, after each record).

pub(crate) mod aes;
pub(crate) mod polyval;
pub(crate) mod record;

use crate::Kernel;
use crate::sys::Instructions;
use aes::RoundKeys;

/// A key-generating key (RFC 8452, section 4), expanded.
pub(crate) struct Wide {
    instructions: Instructions,
    generating: Box<RoundKeys>,
}

impl Wide {
    pub(crate) fn new(instructions: Instructions, key: &[u8; 32]) -> Self {
        Self { instructions, generating: instructions.expand(key) }
    }
}

impl Kernel for Wide {
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> Option<[u8; 16]> {
        Some(self.instructions.seal(&self.generating, nonce, aad, text))
    }

    fn open(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
        let expected = self.instructions.open(&self.generating, nonce, aad, text, tag);
        subtle::ConstantTimeEq::ct_eq(&expected[..], &tag[..]).into()
    }
}
