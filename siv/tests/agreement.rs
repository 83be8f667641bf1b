//! The wide kernel and the crate `aes-gcm-siv` give the same bytes, whatever the lengths; what was changed is refused and wiped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sealtape_siv::{Aes256GcmSiv, Implementation, TagMismatch};

/// Bytes that look random and are the same in every run (SplitMix64).
struct Bytes(u64);

impl Bytes {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap()
    }
}

/// `None` where there is nothing to compare.
fn pair(key: &[u8; 32]) -> Option<(Aes256GcmSiv, Aes256GcmSiv)> {
    let wide = Aes256GcmSiv::new(key);
    if wide.implementation() == Implementation::Portable {
        println!("SKIPPED: this processor has no AVX-512 with VAES and VPCLMULQDQ");
        return None;
    }
    Some((wide, Aes256GcmSiv::portable(key)))
}

/// Seals with each, opens with the other.
fn agree((wide, portable): &(Aes256GcmSiv, Aes256GcmSiv), nonce: &[u8; 12], aad: &[u8], plain: &[u8]) -> [u8; 16] {
    let what = (aad.len(), plain.len());
    let (mut ours, mut theirs) = (plain.to_vec(), plain.to_vec());
    let tag = wide.seal_in_place(nonce, aad, &mut ours).unwrap();
    assert_eq!(Ok(tag), portable.seal_in_place(nonce, aad, &mut theirs), "tags of {what:?}");
    assert!(ours == theirs, "texts of {what:?}");
    wide.open_in_place(nonce, aad, &mut theirs, &tag).unwrap();
    assert!(theirs == plain, "opened text of {what:?}");
    portable.open_in_place(nonce, aad, &mut ours, &tag).unwrap();
    tag
}

#[test]
fn every_short_length() {
    let mut bytes = Bytes(1);
    let (texts, aads) = (bytes.take(2000), bytes.take(2000));
    for length in 0..=1100 {
        let Some(pair) = pair(&bytes.array()) else { return };
        agree(&pair, &bytes.array(), &aads[..112], &texts[..length]);
        // Other places of the text in memory, and other lengths of the additional data.
        let from = length % 67;
        agree(&pair, &bytes.array(), &aads[from..from + length % 65], &texts[from..from + length]);
    }
}

#[test]
fn every_short_length_of_additional_data() {
    let mut bytes = Bytes(2);
    let (texts, aads) = (bytes.take(5000), bytes.take(5000));
    let Some(pair) = pair(&bytes.array()) else { return };
    for aad in (0..=65).chain([112, 127, 128, 129, 511, 512, 513, 1023, 1024, 1025, 1100, 4096, 4999]) {
        for text in [0, 1, 16, 63, 64, 65, 511, 512, 513, 528, 1024, 1100, 4096] {
            agree(&pair, &bytes.array(), &aads[..aad], &texts[..text]);
        }
    }
}

#[test]
fn lengths_around_powers_of_two() {
    let mut bytes = Bytes(3);
    let text = bytes.take((1 << 20) + 100);
    let Some(pair) = pair(&bytes.array()) else { return };
    for length in (11..=20).map(|bits| 1_usize << bits) {
        for length in [length - 17, length - 16, length - 1, length, length + 1, length + 15, length + 16, length + 63]
        {
            agree(&pair, &bytes.array(), &text[..112], &text[..length]);
        }
    }
}

#[test]
fn the_longest_record_and_one_more() {
    let mut bytes = Bytes(4);
    let text = bytes.take((16 << 20) + 1);
    let Some(pair) = pair(&bytes.array()) else { return };
    for length in [16 << 20, (16 << 20) + 1] {
        agree(&pair, &bytes.array(), &text[..112], &text[..length]);
    }
}

/// Found by searching: under this key and these nonces the tags of 4096 zero blocks begin so that the counter wraps inside the text.
#[test]
fn the_counter_wraps_inside_a_long_text() {
    let Some(pair) = pair(&WRAP_KEY) else { return };
    let text = vec![0; WRAP_BLOCKS * 16];
    for counter in WRAP_NONCES {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        let tag = agree(&pair, &nonce, &[], &text);
        let begins = u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]]);
        assert!(begins.checked_add(WRAP_BLOCKS as u32 - 1).is_none(), "{begins:08x}: no wrap with nonce {counter}");
    }
}

const WRAP_KEY: [u8; 32] = [0x5e; 32];
const WRAP_BLOCKS: usize = 4096;
const WRAP_NONCES: [u64; 3] = [873_425, 1_249_861, 1_357_843];

/// How the nonces above were found; 64 GiB are hashed for each.
#[test]
#[ignore = "minutes without optimisation: cargo test --release -p sealtape-siv -- --ignored --nocapture find_nonces"]
fn find_nonces() {
    let cipher = Aes256GcmSiv::new(&WRAP_KEY);
    let mut text = vec![0; WRAP_BLOCKS * 16];
    let mut found = 0;
    for counter in 0_u64.. {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        text.fill(0);
        let tag = cipher.seal_in_place(&nonce, &[], &mut text).unwrap();
        let begins = u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]]);
        if begins.checked_add(WRAP_BLOCKS as u32 - 1).is_none() {
            println!("nonce {counter}: the counter begins with {begins:#010x}");
            found += 1;
            if found == 3 {
                break;
            }
        }
    }
}

#[test]
fn from_several_threads() {
    let mut bytes = Bytes(5);
    let text = bytes.take(70_001);
    let key = bytes.array();
    let Some(pair) = pair(&key) else { return };
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (pair, text) = (&pair, &text);
            scope.spawn(move || {
                let mut bytes = Bytes(100 + thread);
                for _ in 0..40 {
                    let length = bytes.number() as usize % text.len();
                    agree(pair, &bytes.array(), &text[..112], &text[..length]);
                }
            });
        }
    });
}

#[test]
fn any_changed_bit_is_refused_and_the_text_wiped() {
    let mut bytes = Bytes(6);
    let key = bytes.array();
    for cipher in [Aes256GcmSiv::new(&key), Aes256GcmSiv::portable(&key)] {
        for (aad, text) in [(112, 1100), (20, 512), (0, 17), (16, 1), (33, 0)] {
            let (nonce, aad, mut text) = (bytes.array::<12>(), bytes.take(aad), bytes.take(text));
            let tag = cipher.seal_in_place(&nonce, &aad, &mut text).unwrap();
            let refused = |nonce: &[u8; 12], aad: &[u8], text: &[u8], tag: &[u8; 16]| {
                let mut text = text.to_vec();
                assert_eq!(cipher.open_in_place(nonce, aad, &mut text, tag), Err(TagMismatch));
                assert!(text.iter().all(|byte| *byte == 0), "{} bytes stay", text.len());
            };
            for bit in 0..128 {
                let mut tag = tag;
                tag[bit / 8] ^= 1 << (bit % 8);
                refused(&nonce, &aad, &text, &tag);
            }
            for bit in 0..96 {
                let mut nonce = nonce;
                nonce[bit / 8] ^= 1 << (bit % 8);
                refused(&nonce, &aad, &text, &tag);
            }
            for bit in 0..aad.len() * 8 {
                let mut aad = aad.clone();
                aad[bit / 8] ^= 1 << (bit % 8);
                refused(&nonce, &aad, &text, &tag);
            }
            for bit in (0..text.len() * 8).step_by(3) {
                let mut text = text.clone();
                text[bit / 8] ^= 1 << (bit % 8);
                refused(&nonce, &aad, &text, &tag);
            }
            // Shorter and longer: padding is not length.
            refused(&nonce, &aad, &[&text[..], &[0]].concat(), &tag);
            refused(&nonce, &[&aad[..], &[0]].concat(), &text, &tag);
            if let [before @ .., _] = &text[..] {
                refused(&nonce, &aad, before, &tag);
            }
            cipher.open_in_place(&nonce, &aad, &mut text, &tag).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_texts(
        key: [u8; 32],
        nonce: [u8; 12],
        aad in proptest::collection::vec(any::<u8>(), 0..300),
        text in proptest::collection::vec(any::<u8>(), 0..4000),
    ) {
        if let Some(pair) = pair(&key) {
            agree(&pair, &nonce, &aad, &text);
        }
    }
}
