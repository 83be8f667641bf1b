//! What the language cannot check: that the processor has the instructions, and reads and writes of whole vectors.
//!
//! [`Instructions`] is the proof of the first: only [`Instructions::detect`] makes one. The second goes through slices and arrays
//! whose lengths bound every access. Everything else of the kernel is safe code.

#![allow(unsafe_code, reason = "a call across target features, and vector loads and stores, have no safe interface")]

use std::arch::x86_64::{
    __m128i, __m512i, _mm_loadu_si128, _mm_storeu_si128, _mm512_loadu_si512, _mm512_mask_storeu_epi8,
    _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi8, _mm512_storeu_si512,
};

use crate::wide::aes::RoundKeys;
use crate::wide::record;

/// Bytes of a vector.
pub(crate) const VECTOR: usize = 64;
/// Lanes of 128 bits in a vector.
const LANES: usize = 4;

/// The processor has AVX-512 (F, BW, VL), VAES and VPCLMULQDQ, and the system keeps their registers.
#[derive(Clone, Copy)]
pub(crate) struct Instructions(());

impl Instructions {
    /// Asks the processor.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("vpclmulqdq"))
        .then_some(Self(()))
    }

    /// [`record::expand`]
    pub(crate) fn expand(self, key: &[u8; 32]) -> Box<RoundKeys> {
        // SAFETY: `self` exists, so `detect` found every feature that the function enables.
        unsafe { record::expand(key) }
    }

    /// [`record::seal`]
    pub(crate) fn seal(self, generating: &RoundKeys, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        // SAFETY: as in `expand`.
        unsafe { record::seal(generating, nonce, aad, text) }
    }

    /// [`record::open`]
    pub(crate) fn open(
        self,
        generating: &RoundKeys,
        nonce: &[u8; 12],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; 16],
    ) -> [u8; 16] {
        // SAFETY: as in `expand`.
        unsafe { record::open(generating, nonce, aad, text, tag) }
    }

    /// [`record::xor_keystream`], for the test of the counter.
    #[cfg(test)]
    pub(crate) fn xor_keystream(self, keys: &RoundKeys, tag: &[u8; 16], text: &mut [u8]) {
        // SAFETY: as in `expand`.
        unsafe { record::xor_keystream(keys, tag, text) }
    }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn load_block(from: &[u8; 16]) -> __m128i {
    // SAFETY: the array has 16 bytes; the instruction needs no alignment.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn store_block(to: &mut [u8; 16], block: __m128i) {
    // SAFETY: as in `load_block`, and the array is borrowed for writing.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), block) }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn load(from: &[u8; VECTOR]) -> __m512i {
    // SAFETY: the array has 64 bytes; the instruction needs no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn store(to: &mut [u8; VECTOR], vector: __m512i) {
    // SAFETY: as in `load`, and the array is borrowed for writing.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), vector) }
}

/// The first bytes, at most 64, with zeros behind the end of a shorter slice.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn load_part(from: &[u8]) -> __m512i {
    // SAFETY: the mask has a bit for each byte of the slice and no other; bytes without one are not read.
    unsafe { _mm512_maskz_loadu_epi8(mask(from.len()), from.as_ptr().cast()) }
}

/// Writes as many bytes as the slice has, at most 64; gives the vector with zeros for those that were not written.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn store_part(to: &mut [u8], vector: __m512i) -> __m512i {
    let written = mask(to.len());
    // SAFETY: as in `load_part`: bytes without a bit are not written.
    unsafe { _mm512_mask_storeu_epi8(to.as_mut_ptr().cast(), written, vector) }
    _mm512_maskz_mov_epi8(written, vector)
}

/// A bit for each of the first `bytes` bytes of a vector.
#[inline]
fn mask(bytes: usize) -> u64 {
    if bytes >= VECTOR { u64::MAX } else { (1 << bytes) - 1 }
}

/// Four lanes of a table, beginning at the lane `at`.
///
/// Panics when the table has no four lanes there.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn load_lanes<const N: usize>(table: &[__m512i; N], at: usize) -> __m512i {
    assert!(at <= (N - 1) * LANES, "four lanes at {at}");
    // SAFETY: the lanes `at` to `at + 3` lie inside the table, as was just checked; the instruction needs no alignment.
    unsafe { _mm512_loadu_si512(table.as_ptr().cast::<__m128i>().add(at).cast()) }
}
