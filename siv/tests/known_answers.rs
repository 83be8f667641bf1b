//! RFC 8452, appendices C.2 and C.3, and Project Wycheproof, for both implementations.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_siv::{Aes256GcmSiv, Implementation, TagMismatch};
use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/");

fn json(file: &str) -> Value {
    let path = format!("{FOLDER}{file}");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn ciphers(key: &Value) -> Vec<Aes256GcmSiv> {
    let key: [u8; 32] = hex(key).try_into().unwrap();
    let chosen = Aes256GcmSiv::new(&key);
    if chosen.implementation() == Implementation::Portable {
        println!("SKIPPED: the wide kernel; this processor has no AVX-512 with VAES and VPCLMULQDQ");
    }
    vec![chosen, Aes256GcmSiv::portable(&key)]
}

#[test]
fn rfc_8452() {
    let file = json("rfc8452.json");
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 24 + 2);
    for vector in vectors {
        for cipher in ciphers(&vector["key"]) {
            let name = format!("{}: {vector}", cipher.implementation());
            let nonce: [u8; 12] = hex(&vector["nonce"]).try_into().unwrap();
            let (aad, plain) = (hex(&vector["aad"]), hex(&vector["plaintext"]));
            let mut text = plain.clone();
            let tag = cipher.seal_in_place(&nonce, &aad, &mut text).unwrap();
            assert_eq!([&text[..], &tag].concat(), hex(&vector["ciphertext"]), "{name}");
            cipher.open_in_place(&nonce, &aad, &mut text, &tag).unwrap();
            assert_eq!(text, plain, "{name}");
        }
    }
}

#[test]
fn wycheproof() {
    let file = json("wycheproof/aes_gcm_siv_test.json");
    let groups = file["testGroups"].as_array().unwrap();
    let tests = groups.iter().filter(|group| group["keySize"] == 256 && group["ivSize"] == 96);
    let mut seen = 0;
    for test in tests.flat_map(|group| group["tests"].as_array().unwrap()) {
        seen += 1;
        for cipher in ciphers(&test["key"]) {
            let name = format!("{}: test {}: {}", cipher.implementation(), test["tcId"], test["comment"]);
            let nonce: [u8; 12] = hex(&test["iv"]).try_into().unwrap();
            let tag: [u8; 16] = hex(&test["tag"]).try_into().unwrap();
            let (aad, plain, sealed) = (hex(&test["aad"]), hex(&test["msg"]), hex(&test["ct"]));
            let mut text = sealed.clone();
            let opened = cipher.open_in_place(&nonce, &aad, &mut text, &tag);
            if test["result"] == "valid" {
                assert_eq!((opened, &text), (Ok(()), &plain), "{name}");
                assert_eq!(cipher.seal_in_place(&nonce, &aad, &mut text), Ok(tag), "{name}");
                assert_eq!(text, sealed, "{name}");
            } else {
                assert_eq!(opened, Err(TagMismatch), "{name}");
                assert!(text.iter().all(|byte| *byte == 0), "{name}");
            }
        }
    }
    assert!(seen > 50, "{seen} tests");
}
