//! Enrolment: the table of tests on real tokens. SoftHSM2 passes; NSS softoken, which lets key-encryption keys out, fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sealtape_kms::pkcs11::{
    PinLatch, PinSource, SignAlgorithm, Token, TokenConfig, TokenReport, Verdict, WrapMechanism, write_pin_file,
};
use sealtape_kms::secret::Pin;
use support::SoftToken;

fn table(report: &TokenReport) -> String {
    let line =
        |c: &sealtape_kms::pkcs11::Check| format!("{:14} {:50} {:12} {}\n", c.subject, c.test, c.verdict, c.seen);
    report.checks.iter().map(line).collect()
}

#[test]
fn softhsm_passes_and_nothing_is_left_in_it() {
    let soft = SoftToken::new();
    let objects = || {
        std::fs::read_dir(soft.path("tokens"))
            .unwrap()
            .flatten()
            .map(|d| std::fs::read_dir(d.path()).unwrap().count())
            .sum::<usize>()
    };
    let before = objects();
    let report = soft.token().probe().unwrap();
    println!("{}", table(&report));
    assert_eq!(report.refusal(), None);
    assert_eq!(report.mechanisms, [WrapMechanism::AesKeyWrap, WrapMechanism::AesGcm]);
    assert_eq!(report.signing, [SignAlgorithm::Ed25519, SignAlgorithm::EcdsaP256]);
    assert!(report.imports && report.facts.serial == soft.uri.serial.clone().unwrap());
    assert!(report.checks.len() > 30, "{}", report.checks.len());
    assert!(report.checks.iter().all(|c| c.verdict == Verdict::Passed));
    assert_eq!(objects(), before);
}
