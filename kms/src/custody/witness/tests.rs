use ed25519_dalek::{Signer, SigningKey};

use super::*;

/// A checkpoint of a public certificate-transparency log with the cosignature of a public witness.
const PUBLIC: &str = "arche2025h1.staging.ct.transparency.dev\n\
    1432088532\n\
    U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\
    \n\
    \u{2014} arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n\
    \u{2014} transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n\
    \u{2014} remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n";
const PUBLIC_WITNESS: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";

fn key() -> (SigningKey, WitnessKey) {
    let signing = SigningKey::from_bytes(&[2; 32]);
    let key = WitnessKey::new("witness.example/w1", signing.verifying_key().as_bytes()).unwrap();
    (signing, key)
}

fn line(signing: &SigningKey, key: &WitnessKey, time: u64, text: &str) -> String {
    key.line(time, &signing.sign(WitnessKey::message(time, text).as_bytes()).to_bytes())
}

#[test]
fn a_public_witness_is_verified() {
    let key: WitnessKey = PUBLIC_WITNESS.parse().unwrap();
    assert_eq!(key.to_string(), PUBLIC_WITNESS);
    let cosignature = key.cosigned(PUBLIC).unwrap();
    assert_eq!(cosignature.time, 0x6a12_2120);
    assert_eq!(cosignature.checkpoint.size, 1_432_088_532);
    assert!(cosignature.line.starts_with("\u{2014} remora.n621.de 2net5w"));
    let wrong = |note: String| key.cosigned(&note).unwrap_err();
    assert!(matches!(wrong(PUBLIC.replace("1432088532", "1432088533")), NoteError::Signature(_)));
    assert!(matches!(wrong(PUBLIC.replace("2net5wAAAABqEiEg", "2net5wAAAABqEiEh")), NoteError::Signature(_)));
    assert!(matches!(wrong(PUBLIC.replace("2net5w", "2nft5w")), NoteError::Unsigned(_)));
    assert!(matches!(wrong(PUBLIC.replace("remora", "remara")), NoteError::Unsigned(_)));
}

#[test]
fn only_keys_of_witnesses_are_read() {
    let (_, key) = key();
    let text = key.to_string();
    assert_eq!(text.parse::<WitnessKey>().unwrap(), key);
    let log = super::super::VerifierKey::new("a", &[2; 32]).map(|k| k.to_string());
    let spare = [
        text.replace("w1+", "w2+"),
        text.replace("w1+", "w 1+"),
        text.replace("+", "-"),
        format!("{text}AA=="),
        "a+00000000+BA==".to_owned(),
        "peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".to_owned(),
    ];
    for bad in spare.into_iter().chain(log) {
        assert!(bad.parse::<WitnessKey>().is_err(), "{bad}");
    }
    // The neutral element: of small order.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert!(WitnessKey::new("w", &neutral).is_err());
}

#[test]
fn a_changed_cosignature_is_refused() {
    let (signing, key) = key();
    let text = "log\n3\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n";
    let note = format!("{text}\n{}", line(&signing, &key, 1_700_000_000, text));
    assert_eq!(key.cosigned(&note).unwrap().time, 1_700_000_000);
    for at in 0..note.len() {
        let mut bad = note.clone().into_bytes();
        bad[at] ^= 1;
        if let Ok(bad) = String::from_utf8(bad) {
            assert!(key.cosigned(&bad).is_err(), "{bad:?}");
        }
    }
    // Not a plain signature, not time 0, not a time beyond 63 bits, not a line twice, nothing cut off.
    let plain = key.line(5, &signing.sign(text.as_bytes()).to_bytes());
    for line in [plain, line(&signing, &key, 0, text), line(&signing, &key, 1 << 63, text)] {
        assert!(matches!(key.cosigned(&format!("{text}\n{line}")), Err(NoteError::Signature(_))), "{line}");
    }
    let twice = format!("{note}{}", line(&signing, &key, 1_700_000_001, text));
    assert!(matches!(key.cosigned(&twice), Err(NoteError::Form(_))));
    for cut in (0..note.len()).filter(|n| note.is_char_boundary(*n)) {
        assert!(key.cosigned(&note[..cut]).is_err());
    }
}

#[test]
fn a_cosignature_is_added_once_and_only_if_it_is_right() {
    let (signing, key) = key();
    let text = "log\n3\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n";
    let note = format!("{text}\n\u{2014} log AAAAAAAA\n");
    let first = key.add_to(&note, line(&signing, &key, 7, text).trim_end()).unwrap();
    let second = key.add_to(&first, line(&signing, &key, 8, text).trim_end()).unwrap();
    assert_eq!(key.cosigned(&second).unwrap().time, 8);
    assert_eq!(second.lines().count(), first.lines().count());
    assert!(key.add_to(&note, line(&signing, &key, 7, "other\n3\nAAAA\n").trim_end()).is_err());
    assert!(key.add_to(&note, "\u{2014} witness.example/w1 AAAAAAAA").is_err());
    // A second line smuggled in is a signature line too, or the note is malformed.
    let both = format!("{}\n\nfree text", line(&signing, &key, 7, text).trim_end());
    assert!(key.add_to(&note, &both).is_err());
}
