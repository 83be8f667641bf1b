//! AES-256-GCM-SIV of the product and of aws-lc-rs, two implementations without common ancestors, give the same bytes.
//!
//! By hand, like all of this workspace: `cargo test --release --manifest-path bench/Cargo.toml`.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use sealtape_siv::Aes256GcmSiv;

fn bytes(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 131 + (at >> 8) * 17 + seed * 29) as u8).collect()
}

#[test]
fn the_same_bytes() {
    for (round, length) in (0..=1100).chain([4095, 4096, 4097, 65_536, 262_144, 262_145, (1 << 20) + 33]).enumerate() {
        let key: [u8; 32] = bytes(32, round).try_into().expect("32 bytes");
        let nonce: [u8; 12] = bytes(12, round + 1).try_into().expect("12 bytes");
        let (aad, plain) = (bytes(round % 130, round + 2), bytes(length, round + 3));
        let theirs = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key).expect("a key"));
        let mut sealed = plain.clone();
        let nonce_of = || Nonce::assume_unique_for_key(nonce);
        let tag = theirs.seal_in_place_separate_tag(nonce_of(), Aad::from(&aad), &mut sealed).expect("a short text");
        for ours in [Aes256GcmSiv::new(&key), Aes256GcmSiv::portable(&key)] {
            let mut text = plain.clone();
            let our_tag = ours.seal_in_place(&nonce, &aad, &mut text).expect("a short text");
            assert_eq!(our_tag, tag.as_ref(), "{}: tag of {length} bytes", ours.implementation());
            assert!(text == sealed, "{}: {length} bytes", ours.implementation());
            ours.open_in_place(&nonce, &aad, &mut text, &our_tag).expect("its own tag");
            assert!(text == plain, "{}: {length} bytes opened", ours.implementation());
        }
    }
}
