//! The token behind its worker, on real SoftHSM2.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sealtape_kms::custody::{Checkpoint, VerifierKey};
use sealtape_kms::hex::HexBytes;
use sealtape_kms::pkcs11::{SignAlgorithm, TokenError, WrapMechanism, WrapWith};
use support::SoftToken;
use uuid::Uuid;

fn with(kek: Uuid, mechanism: WrapMechanism, aad: &[u8]) -> WrapWith {
    WrapWith { kek, mechanism, aad: HexBytes(aad.to_vec()) }
}

#[test]
fn keys_are_made_wrapped_and_unwrapped_both_ways() {
    let soft = SoftToken::new();
    let token = soft.token();
    let (kw, gcm) = (Uuid::new_v4(), Uuid::new_v4());
    token.make_kek(kw, "kw", WrapMechanism::AesKeyWrap).unwrap();
    token.make_kek(gcm, "gcm", WrapMechanism::AesGcm).unwrap();
    let wraps = vec![with(kw, WrapMechanism::AesKeyWrap, b""), with(gcm, WrapMechanism::AesGcm, b"place")];
    let (key, blobs) = token.make_data_key(wraps.clone()).unwrap();
    assert_eq!(blobs.iter().map(Vec::len).collect::<Vec<_>>(), [40, 60]);
    for (with, blob) in wraps.iter().zip(&blobs) {
        assert!(token.unwrap(with, blob).unwrap().ct_eq(&key));
        for at in [0, blob.len() / 2, blob.len() - 1] {
            let mut bad = blob.clone();
            bad[at] ^= 1;
            token.unwrap(with, &bad).expect_err("a damaged blob");
            // The token still works afterwards.
            assert!(token.unwrap(with, blob).unwrap().ct_eq(&key));
        }
        assert!(token.unwrap(with, &blob[1..]).is_err());
    }
    token.unwrap(&with(gcm, WrapMechanism::AesGcm, b"other place"), &blobs[1]).expect_err("another AAD");
    let (other, _) = token.make_data_key(wraps).unwrap();
    assert!(!other.ct_eq(&key));
    // A KEK of one purpose is not fit for the other, and one of an id is not made twice.
    assert!(matches!(token.check_kek(kw, WrapMechanism::AesGcm), Err(TokenError::KeyUnfit { .. })));
    assert!(matches!(token.make_kek(kw, "kw", WrapMechanism::AesKeyWrap), Err(TokenError::KeyAmbiguous { .. })));
    assert!(matches!(token.check_kek(Uuid::new_v4(), WrapMechanism::AesGcm), Err(TokenError::KeyNotFound { .. })));
    assert!(token.mechanisms().unwrap().contains(&0x2109));
}

#[test]
fn a_key_goes_from_one_kek_to_another_and_to_another_token() {
    let soft = SoftToken::new();
    let token = soft.token();
    let (a, b, c) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    token.make_kek(a, "a", WrapMechanism::AesKeyWrap).unwrap();
    token.make_kek(b, "b", WrapMechanism::AesKeyWrap).unwrap();
    token.make_kek(c, "c", WrapMechanism::AesGcm).unwrap();
    let all = [
        with(a, WrapMechanism::AesKeyWrap, b""),
        with(b, WrapMechanism::AesKeyWrap, b""),
        with(c, WrapMechanism::AesGcm, b"place"),
    ];
    let (key, blobs) = token.make_data_key(all.to_vec()).unwrap();
    for (from, blob) in all.iter().zip(&blobs) {
        for to in &all {
            let again = token.rewrap(from, blob, to).unwrap();
            assert!(token.unwrap(to, &again).unwrap().ct_eq(&key));
        }
        let mut bad = blob.clone();
        bad[20] ^= 1;
        token.rewrap(from, &bad, &all[0]).expect_err("a damaged blob");
    }
    let other_soft = SoftToken::new();
    let other = other_soft.token();
    let there = with(Uuid::new_v4(), WrapMechanism::AesKeyWrap, b"");
    other.make_kek(there.kek, "there", WrapMechanism::AesKeyWrap).unwrap();
    let moved = other.wrap(&key, vec![there.clone()]).unwrap();
    assert!(other.unwrap(&there, &moved[0]).unwrap().ct_eq(&key));
    assert!(token.unwrap(&there, &moved[0]).is_err());
}

#[test]
fn signatures_verify_outside() {
    let soft = SoftToken::new();
    let token = soft.token();
    for algorithm in [SignAlgorithm::Ed25519, SignAlgorithm::EcdsaP256] {
        let id = Uuid::new_v4();
        let public = token.make_signing_key(id, "log", algorithm).unwrap();
        let key = match algorithm {
            SignAlgorithm::Ed25519 => VerifierKey::new("log", &public.try_into().unwrap()),
            SignAlgorithm::EcdsaP256 => VerifierKey::p256("log", &public),
        }
        .unwrap();
        assert_eq!(key.to_string().parse::<VerifierKey>().unwrap(), key);
        let checkpoint = Checkpoint { origin: "log".into(), size: 1, root: [1; 32] };
        let text = checkpoint.to_text();
        let note = key.note(&text, &token.sign(id, algorithm, text.as_bytes()).unwrap());
        assert_eq!(key.open(&note).unwrap().0, checkpoint);
        assert!(key.open(&note.replace("\n1\n", "\n2\n")).is_err());
        assert!(matches!(token.make_signing_key(id, "log", algorithm), Err(TokenError::KeyAmbiguous { .. })));
    }
}

#[test]
fn a_wrong_pin_is_tried_once_and_latched_over_restarts() {
    let soft = SoftToken::new();
    let right = std::fs::read(soft.path("user.pin")).unwrap();
    std::fs::write(soft.path("user.pin"), "00000000").unwrap();
    let token = soft.token();
    assert_eq!(token.mechanisms().unwrap_err(), TokenError::PinIncorrect);
    assert!(matches!(token.mechanisms(), Err(TokenError::PinLatched { .. })));
    // The right PIN changes nothing until an operator clears the latch; 50 restarts do not log in.
    std::fs::write(soft.path("user.pin"), &right).unwrap();
    for _ in 0..50 {
        let again = soft.token();
        let error = again.mechanisms().unwrap_err();
        assert!(matches!(error, TokenError::PinLatched { .. }));
        assert!(error.to_string().contains("pin.latched"));
        assert_eq!(again.worker().0, 0);
    }
    assert_eq!(token.worker().0, 1);
    token.clear_latch().unwrap();
    token.mechanisms().unwrap();
}

#[test]
fn a_killed_worker_is_started_again() {
    let soft = SoftToken::new();
    let token = soft.token();
    let kek = Uuid::new_v4();
    token.make_kek(kek, "k", WrapMechanism::AesKeyWrap).unwrap();
    let with = with(kek, WrapMechanism::AesKeyWrap, b"");
    let (key, blobs) = token.make_data_key(vec![with.clone()]).unwrap();
    for round in 2..5 {
        let pid = token.worker().1.unwrap();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
        assert!(token.unwrap(&with, &blobs[0]).unwrap().ct_eq(&key));
        assert_eq!(token.worker().0, round);
    }
}

#[test]
fn a_hung_worker_ends_at_the_deadline_and_is_started_again() {
    let soft = SoftToken::new();
    let mut config = soft.config();
    config.limits.call = Duration::from_millis(700);
    let token = sealtape_kms::pkcs11::Token::new(config);
    token.mechanisms().unwrap();
    let pid = Pid::from_raw(i32::try_from(token.worker().1.unwrap()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    assert!(matches!(token.mechanisms(), Err(TokenError::Hung { limit_ms: 700, .. })));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(kill(pid, None).is_err(), "the hung worker is gone");
    std::thread::sleep(Duration::from_millis(50));
    token.mechanisms().unwrap();
    assert_eq!(token.worker().0, 2);
}

#[test]
fn a_worker_ends_with_its_parent_even_while_stopped_in_between() {
    let soft = SoftToken::new();
    let token = soft.token();
    token.mechanisms().unwrap();
    let pid = Pid::from_raw(i32::try_from(token.worker().1.unwrap()).unwrap());
    drop(token);
    assert!(kill(pid, None).is_err());
}

#[test]
fn a_token_directory_that_goes_away_and_comes_back() {
    let soft = SoftToken::new();
    let token = soft.token();
    let kek = Uuid::new_v4();
    token.make_kek(kek, "k", WrapMechanism::AesKeyWrap).unwrap();
    let with = with(kek, WrapMechanism::AesKeyWrap, b"");
    let (key, blobs) = token.make_data_key(vec![with.clone()]).unwrap();
    std::fs::rename(soft.path("tokens"), soft.path("away")).unwrap();
    let error = token.unwrap(&with, &blobs[0]).expect_err("no token");
    assert!(matches!(error, TokenError::TokenMissing { .. }), "{error:?}");
    std::fs::rename(soft.path("away"), soft.path("tokens")).unwrap();
    assert!(token.unwrap(&with, &blobs[0]).unwrap().ct_eq(&key));
}
