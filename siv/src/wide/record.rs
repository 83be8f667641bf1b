//! Sealing and opening one text (RFC 8452, sections 4 and 5).

use std::arch::x86_64::{
    __m128i, __m512i, _mm_and_si128, _mm_or_si128, _mm_set_epi32, _mm_set_epi64x, _mm_unpacklo_epi64, _mm_xor_si128,
    _mm512_add_epi32, _mm512_broadcast_i32x4, _mm512_castsi512_si128, _mm512_extracti32x4_epi32, _mm512_set_epi32,
    _mm512_setzero_si512, _mm512_zextsi128_si512,
};

use super::aes::{self, RoundKeys, add_encrypted};
use super::polyval::{GROUP, Powers};
use crate::sys::{VECTOR, load, load_block, load_part, store, store_block, store_part};

/// Bytes that are worked on side by side.
const GROUP_BYTES: usize = GROUP * VECTOR;
const BLOCK: usize = 16;

/// Expands a key-generating key.
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn expand(key: &[u8; 32]) -> Box<RoundKeys> {
    let (halves, _) = key.as_chunks::<BLOCK>();
    // Filled where it stays: moving it would leave copies.
    let mut keys = Box::new(RoundKeys::empty());
    aes::expand(load_block(&halves[0]), load_block(&halves[1]), &mut keys);
    keys
}

/// Encrypts `text` in place; gives the tag (section 4).
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn seal(generating: &RoundKeys, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
    let mut keys = RoundKeys::empty();
    let powers = derive(generating, nonce, aad.len(), text.len(), &mut keys);
    let mut state = absorb(&powers, aad);
    let (groups, last) = split(text);
    for (at, group) in groups.iter().enumerate() {
        state = powers.add_group(state, &array_of(group), groups.len() - 1 - at);
    }
    let sum = powers.add_last(state, &part_of(last), last.len().div_ceil(BLOCK), Some(lengths(aad.len(), text.len())));
    let tag = tag_of(&keys, sum, nonce);
    let mut bytes = [0; 16];
    store_block(&mut bytes, tag);
    xor_keystream(&keys, &bytes, text);
    bytes
}

/// Decrypts `text` in place; gives the tag it would have to have (section 5). Each group is hashed beside its decryption.
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn open(generating: &RoundKeys, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> [u8; 16] {
    let mut keys = RoundKeys::empty();
    let powers = derive(generating, nonce, aad.len(), text.len(), &mut keys);
    let mut state = absorb(&powers, aad);
    let lengths = lengths(aad.len(), text.len());
    let mut counter = Counter::new(tag);
    let (groups, last) = split_mut(text);
    let mut follow = groups.len();
    for group in groups {
        let mut vectors = array_of(group);
        add_encrypted(&keys, counter.next(), &mut vectors);
        store_group(group, &vectors);
        follow -= 1;
        state = powers.add_group(state, &vectors, follow);
    }
    let mut vectors = part_of(last);
    add_encrypted(&keys, counter.next(), &mut vectors);
    store_last(last, &mut vectors);
    let sum = powers.add_last(state, &vectors, last.len().div_ceil(BLOCK), Some(lengths));
    let mut expected = [0; 16];
    store_block(&mut expected, tag_of(&keys, sum, nonce));
    expected
}

/// Adds the key stream that begins at `tag` (section 4, AES in counter mode).
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn xor_keystream(keys: &RoundKeys, tag: &[u8; 16], text: &mut [u8]) {
    let mut counter = Counter::new(tag);
    let (groups, last) = split_mut(text);
    for group in groups {
        let mut vectors = array_of(group);
        add_encrypted(keys, counter.next(), &mut vectors);
        store_group(group, &vectors);
    }
    let mut vectors = part_of(last);
    add_encrypted(keys, counter.next(), &mut vectors);
    store_last(last, &mut vectors);
}

/// The keys of one nonce: powers of the message-authentication key, and the expanded message-encryption key.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn derive(generating: &RoundKeys, nonce: &[u8; 12], aad: usize, text: usize, keys: &mut RoundKeys) -> Powers {
    // Blocks of a counter from 0 to 5 and the nonce, of whose encryption the first half counts. Two more go along unused.
    let mut block = [0; BLOCK];
    block[4..].copy_from_slice(nonce);
    let first = _mm512_broadcast_i32x4(load_block(&block));
    let counters = [_mm512_add_epi32(first, lanes(0)), _mm512_add_epi32(first, lanes(4))];
    let mut derived = [_mm512_setzero_si512(); 2];
    add_encrypted(generating, counters, &mut derived);
    let [low, high] = derived;
    let pair = |one, other| _mm_unpacklo_epi64(one, other);
    let authentication = pair(_mm512_castsi512_si128(low), _mm512_extracti32x4_epi32::<1>(low));
    let encryption = [
        pair(_mm512_extracti32x4_epi32::<2>(low), _mm512_extracti32x4_epi32::<3>(low)),
        pair(_mm512_castsi512_si128(high), _mm512_extracti32x4_epi32::<1>(high)),
    ];
    aes::expand(encryption[0], encryption[1], keys);
    Powers::new(authentication, aad.div_ceil(BLOCK), text.div_ceil(BLOCK))
}

/// POLYVAL over the padded additional data, in the first lane.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn absorb(powers: &Powers, aad: &[u8]) -> __m512i {
    let mut state = _mm512_setzero_si512();
    for part in aad.chunks(GROUP_BYTES) {
        state = _mm512_zextsi128_si512(powers.add_last(state, &part_of(part), part.len().div_ceil(BLOCK), None));
    }
    state
}

/// The block that ends the input of POLYVAL: lengths in bits.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn lengths(aad: usize, text: usize) -> __m128i {
    _mm_set_epi64x((text as i64) << 3, (aad as i64) << 3)
}

/// POLYVAL's result with the nonce added and the highest bit cleared, encrypted.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn tag_of(keys: &RoundKeys, sum: __m128i, nonce: &[u8; 12]) -> __m128i {
    let mut block = [0; BLOCK];
    block[..12].copy_from_slice(nonce);
    let masked = _mm_and_si128(_mm_xor_si128(sum, load_block(&block)), _mm_set_epi32(i32::MAX, -1, -1, -1));
    let mut tag = [_mm512_setzero_si512()];
    add_encrypted(keys, [_mm512_zextsi128_si512(masked)], &mut tag);
    _mm512_castsi512_si128(tag[0])
}

/// Counter blocks: the tag with its highest bit set, whose first 32 bits count on without carry.
struct Counter(__m512i);

impl Counter {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    fn new(tag: &[u8; 16]) -> Self {
        let initial = _mm_or_si128(load_block(tag), _mm_set_epi32(i32::MIN, 0, 0, 0));
        Self(_mm512_add_epi32(_mm512_broadcast_i32x4(initial), lanes(0)))
    }

    /// The next blocks of a group.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
    fn next(&mut self) -> [__m512i; GROUP] {
        let mut blocks = [self.0; GROUP];
        for block in &mut blocks {
            *block = self.0;
            self.0 = _mm512_add_epi32(self.0, _mm512_broadcast_i32x4(_mm_set_epi32(0, 0, 0, 4)));
        }
        blocks
    }
}

/// `from` to `from + 3` in the first 32 bits of the lanes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn lanes(from: i32) -> __m512i {
    _mm512_set_epi32(0, 0, 0, from + 3, 0, 0, 0, from + 2, 0, 0, 0, from + 1, 0, 0, 0, from)
}

/// Whole groups that something follows, and the last bytes: a group or less, none only of an empty text.
#[inline]
fn split(text: &[u8]) -> (&[[u8; GROUP_BYTES]], &[u8]) {
    let (groups, last) = text.split_at(text.len().saturating_sub(1) / GROUP_BYTES * GROUP_BYTES);
    (groups.as_chunks().0, last)
}

/// [`split`] for writing.
#[inline]
fn split_mut(text: &mut [u8]) -> (&mut [[u8; GROUP_BYTES]], &mut [u8]) {
    let (groups, last) = text.split_at_mut(text.len().saturating_sub(1) / GROUP_BYTES * GROUP_BYTES);
    (groups.as_chunks_mut().0, last)
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn array_of(group: &[u8; GROUP_BYTES]) -> [__m512i; GROUP] {
    let mut vectors = [_mm512_setzero_si512(); GROUP];
    for (vector, bytes) in vectors.iter_mut().zip(group.as_chunks::<VECTOR>().0) {
        *vector = load(bytes);
    }
    vectors
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn store_group(group: &mut [u8; GROUP_BYTES], vectors: &[__m512i; GROUP]) {
    for (bytes, vector) in group.as_chunks_mut::<VECTOR>().0.iter_mut().zip(vectors) {
        store(bytes, *vector);
    }
}

/// Up to a group of bytes, zeros behind them.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn part_of(bytes: &[u8]) -> [__m512i; GROUP] {
    let mut vectors = [_mm512_setzero_si512(); GROUP];
    for (at, vector) in vectors.iter_mut().enumerate() {
        *vector = load_part(bytes.get(at * VECTOR..).unwrap_or_default());
    }
    vectors
}

/// Writes the last bytes of a text; what of `vectors` is behind them becomes zero, as POLYVAL pads.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,vaes,vpclmulqdq")]
fn store_last(bytes: &mut [u8], vectors: &mut [__m512i; GROUP]) {
    for (at, vector) in vectors.iter_mut().enumerate() {
        let part = bytes.get_mut(at * VECTOR..).unwrap_or_default();
        *vector = store_part(part, *vector);
    }
}
