//! AES-256 (FIPS 197), four blocks a vector.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_aesenclast_si128, _mm_set_epi8, _mm_set1_epi32, _mm_setzero_si128, _mm_shuffle_epi8,
    _mm_shuffle_epi32, _mm_slli_si128, _mm_xor_si128, _mm512_aesenc_epi128, _mm512_aesenclast_epi128,
    _mm512_broadcast_i32x4, _mm512_xor_si512,
};

use zeroize::Zeroize;

/// Rounds of AES with a key of 256 bits.
const ROUNDS: usize = 14;

/// An expanded key. Wiped when dropped.
pub(crate) struct RoundKeys([__m128i; ROUNDS + 1]);

impl RoundKeys {
    /// Room for an expanded key.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    pub(crate) fn empty() -> Self {
        Self([_mm_setzero_si128(); ROUNDS + 1])
    }
}

impl Drop for RoundKeys {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Expands the key whose halves are `first` and `second` (FIPS 197, section 5.2).
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn expand(first: __m128i, second: __m128i, to: &mut RoundKeys) {
    let keys = &mut to.0;
    let (mut even, mut odd) = (first, second);
    keys[0] = even;
    keys[1] = odd;
    // RotWord of the last word, in every column.
    let rotated = _mm_set_epi8(12, 15, 14, 13, 12, 15, 14, 13, 12, 15, 14, 13, 12, 15, 14, 13);
    for (at, constant) in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40].into_iter().enumerate() {
        // With the same word in every column ShiftRows changes nothing: the last round of AES is SubWord, and adds the constant.
        let word = _mm_aesenclast_si128(_mm_shuffle_epi8(odd, rotated), _mm_set1_epi32(constant));
        even = _mm_xor_si128(running_sum(even), word);
        keys[2 * at + 2] = even;
        if let Some(key) = keys.get_mut(2 * at + 3) {
            let word = _mm_aesenclast_si128(_mm_shuffle_epi32::<0xff>(even), _mm_setzero_si128());
            odd = _mm_xor_si128(running_sum(odd), word);
            *key = odd;
        }
    }
}

/// Each word with all words before it added.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn running_sum(words: __m128i) -> __m128i {
    let pairs = _mm_xor_si128(words, _mm_slli_si128::<4>(words));
    _mm_xor_si128(pairs, _mm_slli_si128::<8>(pairs))
}

/// Encrypts `N` vectors of blocks side by side, and adds each result to what stands in `to`.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn add_encrypted<const N: usize>(keys: &RoundKeys, mut blocks: [__m512i; N], to: &mut [__m512i; N]) {
    let whitening = _mm512_broadcast_i32x4(keys.0[0]);
    for block in &mut blocks {
        *block = _mm512_xor_si512(*block, whitening);
    }
    for key in &keys.0[1..ROUNDS] {
        let key = _mm512_broadcast_i32x4(*key);
        for block in &mut blocks {
            *block = _mm512_aesenc_epi128(*block, key);
        }
    }
    let last = _mm512_broadcast_i32x4(keys.0[ROUNDS]);
    for (block, to) in blocks.iter().zip(to) {
        // The last round ends with adding its key: what is added to the key is added to the result.
        *to = _mm512_aesenclast_epi128(*block, _mm512_xor_si512(last, *to));
    }
}
