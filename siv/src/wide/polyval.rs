//! POLYVAL (RFC 8452, section 3), up to 33 blocks for one reduction.
//!
//! POLYVAL is S_n = dot(S_(n-1) + X_n, H) with dot(a, b) = a * b * x^-128. Unrolled, block X_i of n is multiplied by the power
//! n - i + 1 of H (powers in the sense of dot), so products of many blocks are summed up and reduced once.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_xor_si128, _mm512_broadcast_i32x4, _mm512_bslli_epi128, _mm512_bsrli_epi128,
    _mm512_castsi512_si128, _mm512_castsi512_si256, _mm512_clmulepi64_epi128, _mm512_extracti32x4_epi32,
    _mm512_inserti32x4, _mm512_inserti64x4, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_epi32,
    _mm512_shuffle_i64x2, _mm512_ternarylogic_epi64, _mm512_xor_si512, _mm512_zextsi128_si512,
};

use zeroize::Zeroize;

use crate::sys;

/// Vectors that are worked on side by side.
pub(crate) const GROUP: usize = 8;
/// Blocks in them.
pub(crate) const GROUP_BLOCKS: usize = 4 * GROUP;
/// The highest power in a full table: a group and the block of lengths behind it, in whole vectors.
const HIGHEST: usize = GROUP_BLOCKS + 4;

/// x^57 + x^62 + x^63: the field's polynomial without x^128 and 1, divided by x^64.
const POLYNOMIAL: i64 = 0xc200_0000_0000_0000_u64.cast_signed();

/// Powers of H, the highest first, lane by lane: H^36 to H^1, then a vector of zeros. Wiped when dropped.
pub(crate) struct Powers([__m512i; HIGHEST / 4 + 1]);

impl Drop for Powers {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Powers {
    /// The powers of `h` as far as a text of so many blocks needs them; the others stay zero.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    pub(crate) fn new(h: __m128i, aad_blocks: usize, text_blocks: usize) -> Self {
        let needed = (text_blocks.min(GROUP_BLOCKS) + 1).max(aad_blocks.min(GROUP_BLOCKS));
        let mut powers = Self([_mm512_setzero_si512(); HIGHEST / 4 + 1]);
        let one = _mm512_zextsi128_si512(h);
        let two = dot(one, one);
        let low = _mm512_inserti32x4::<1>(two, h);
        let high = dot(low, first_lane(two));
        let first = _mm512_inserti64x4::<1>(high, _mm512_castsi512_si256(low));
        let table = &mut powers.0;
        table[8] = first;
        if needed > 4 {
            table[7] = dot(first, first_lane(first));
        }
        if needed > 8 {
            let eight = first_lane(table[7]);
            table[6] = dot(table[8], eight);
            table[5] = dot(table[7], eight);
        }
        if needed > 16 {
            let sixteen = first_lane(table[5]);
            table[4] = dot(table[8], sixteen);
            table[3] = dot(table[7], sixteen);
            table[2] = dot(table[6], sixteen);
            table[1] = dot(table[5], sixteen);
        }
        if needed > 32 {
            table[0] = dot(first, first_lane(table[1]));
        }
        powers
    }

    /// Adds the full groups of a text, `follow` of which come behind this one. Until the last of them `state` is four sums side by
    /// side, one a lane, then it is their sum in the first lane.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    pub(crate) fn add_group(&self, state: __m512i, group: &[__m512i; GROUP], follow: usize) -> __m512i {
        if follow == 0 {
            // What is behind may have fewer blocks than there are lanes.
            return _mm512_zextsi128_si512(self.add_last(state, group, GROUP_BLOCKS, None));
        }
        self.add_side_by_side(state, group)
    }

    /// The distance from each block to the one that has its place in the next group is the same: so is the power for all lanes of
    /// a vector, and no lane waits for another.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    fn add_side_by_side(&self, state: __m512i, group: &[__m512i; GROUP]) -> __m512i {
        let mut sum = Sum::zero();
        for at in (1..GROUP).rev() {
            sum.add(group[at], first_lane(self.0[at + 1]));
        }
        // The only one that waits for the group before comes last.
        sum.add(_mm512_xor_si512(group[0], state), first_lane(self.0[1]));
        sum.reduced()
    }

    /// Adds the last blocks (at most 32) of a field, and `lengths` behind them if there is such a block: the end of POLYVAL.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    pub(crate) fn add_last(
        &self,
        state: __m512i,
        group: &[__m512i; GROUP],
        blocks: usize,
        lengths: Option<__m128i>,
    ) -> __m128i {
        let mut sum = Sum::zero();
        let mut state = state;
        let behind = usize::from(lengths.is_some());
        for (at, vector) in group.iter().enumerate() {
            if 4 * at >= blocks {
                break;
            }
            // Lanes behind the last block are zero, whatever they are multiplied by.
            let power = HIGHEST - blocks - behind + 4 * at;
            sum.add(_mm512_xor_si512(*vector, state), sys::load_lanes(&self.0, power));
            state = _mm512_setzero_si512();
        }
        if let Some(lengths) = lengths {
            let last = _mm512_xor_si512(_mm512_zextsi128_si512(lengths), state);
            sum.add(last, sys::load_lanes(&self.0, HIGHEST - 1));
        }
        across(sum.reduced())
    }
}

/// Products that are not reduced yet: 256 bits a lane, the middle half overlapping the others.
struct Sum {
    low: __m512i,
    middle: __m512i,
    high: __m512i,
}

/// a + b + c.
const XOR3: i32 = 0x96;

impl Sum {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    fn zero() -> Self {
        Self { low: _mm512_setzero_si512(), middle: _mm512_setzero_si512(), high: _mm512_setzero_si512() }
    }

    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    fn add(&mut self, a: __m512i, b: __m512i) {
        self.low = _mm512_xor_si512(self.low, _mm512_clmulepi64_epi128::<0x00>(a, b));
        self.high = _mm512_xor_si512(self.high, _mm512_clmulepi64_epi128::<0x11>(a, b));
        let (one, other) = (_mm512_clmulepi64_epi128::<0x01>(a, b), _mm512_clmulepi64_epi128::<0x10>(a, b));
        self.middle = _mm512_ternarylogic_epi64::<XOR3>(self.middle, one, other);
    }

    /// Times x^-128: a multiple of the polynomial, whose lowest term is 1, clears the lowest 64 bits; twice.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    fn reduced(self) -> __m512i {
        let polynomial = _mm512_set1_epi64(POLYNOMIAL);
        let low = _mm512_xor_si512(self.low, _mm512_bslli_epi128::<8>(self.middle));
        let once = _mm512_clmulepi64_epi128::<0x00>(low, polynomial);
        let low = _mm512_xor_si512(_mm512_shuffle_epi32::<0b01_00_11_10>(low), once);
        let twice = _mm512_clmulepi64_epi128::<0x00>(low, polynomial);
        let high = _mm512_xor_si512(self.high, _mm512_bsrli_epi128::<8>(self.middle));
        _mm512_ternarylogic_epi64::<XOR3>(high, _mm512_shuffle_epi32::<0b01_00_11_10>(low), twice)
    }
}

/// dot(a, b) of RFC 8452, section 3, lane by lane.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn dot(a: __m512i, b: __m512i) -> __m512i {
    let mut sum = Sum::zero();
    sum.add(a, b);
    sum.reduced()
}

/// The first lane in all lanes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn first_lane(vector: __m512i) -> __m512i {
    _mm512_broadcast_i32x4(_mm512_castsi512_si128(vector))
}

/// The sum of the four lanes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn across(vector: __m512i) -> __m128i {
    let sums = _mm512_xor_si512(vector, _mm512_shuffle_i64x2::<0b01_00_11_10>(vector, vector));
    _mm_xor_si128(_mm512_castsi512_si128(sums), _mm512_extracti32x4_epi32::<1>(sums))
}
