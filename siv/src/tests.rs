use crate::within_limits;

#[test]
fn the_limits_are_those_of_the_rfc() {
    let most = 1 << 36;
    assert!(within_limits(most, most));
    assert!(!within_limits(most + 1, 0));
    assert!(!within_limits(0, most + 1));
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use aes_gcm_siv::aes::Aes256;
    use aes_gcm_siv::aes::cipher::{BlockCipherEncrypt, KeyInit};

    use crate::Aes256GcmSiv;
    use crate::choice;
    use crate::sys::Instructions;

    /// The counter mode of RFC 8452, section 4, block by block.
    fn keystream(key: &[u8; 32], tag: &[u8; 16], length: usize) -> Vec<u8> {
        let cipher = Aes256::new(key.into());
        let mut block = *tag;
        block[15] |= 0x80;
        let mut stream = Vec::new();
        while stream.len() < length {
            let mut encrypted = block.into();
            cipher.encrypt_block(&mut encrypted);
            stream.extend_from_slice(&encrypted);
            let counter = u32::from_le_bytes([block[0], block[1], block[2], block[3]]).wrapping_add(1);
            block[..4].copy_from_slice(&counter.to_le_bytes());
        }
        stream.truncate(length);
        stream
    }

    /// A seal ends with its tag in the first 32 bits of the counter: any value may come.
    #[test]
    fn the_counter_wraps_without_carry_wherever_the_end_lies() {
        let Some(instructions) = Instructions::detect() else {
            println!("SKIPPED: this processor has no AVX-512 with VAES and VPCLMULQDQ");
            return;
        };
        let key = std::array::from_fn(|at| at as u8 * 7 + 1);
        let keys = instructions.expand(&key);
        // The blocks before the wrap: none, inside a vector, a group, and the last part of a text; and a text without any.
        for before in (0..140).chain([255, 256, 257, 1000, 4095, 1 << 31]) {
            let mut tag = [0xff; 16];
            tag[..4].copy_from_slice(&0_u32.wrapping_sub(before).to_le_bytes());
            for (last, length) in [(0xff, 2240), (0x7f, 2240), (0x00, 1), (0x80, 16 * 1030 + 5)] {
                tag[15] = last;
                let mut text = vec![0; length];
                instructions.xor_keystream(&keys, &tag, &mut text);
                assert!(text == keystream(&key, &tag, length), "{before} blocks before the wrap, {length} bytes");
            }
        }
    }

    #[test]
    fn a_processor_with_the_instructions_uses_them() {
        let expected = if Instructions::detect().is_some() {
            crate::Implementation::Wide
        } else {
            println!("SKIPPED: this processor has no AVX-512 with VAES and VPCLMULQDQ");
            crate::Implementation::Portable
        };
        assert_eq!(Aes256GcmSiv::new(&[1; 32]).implementation(), expected);
        assert_eq!(choice::instructions().is_some(), Instructions::detect().is_some());
    }
}
