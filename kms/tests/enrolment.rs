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

/// NSS softoken with a database of its own.
struct Nss(tempfile::TempDir);

impl Nss {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_pin_file(&dir.path().join("pin"), &Pin::copy_from(b"sesame-12345").unwrap()).unwrap();
        let made = std::process::Command::new("certutil")
            .args(["-N", "-d", &format!("sql:{}", dir.path().display()), "-f"])
            .arg(dir.path().join("pin"))
            .status()
            .expect("certutil of libnss3-tools");
        assert!(made.success());
        Self(dir)
    }

    fn module() -> &'static str {
        [
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/x86_64-linux-gnu/nss",
            "/usr/lib/aarch64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu/nss",
        ]
        .into_iter()
        .find_map(|dir| {
            std::fs::exists(format!("{dir}/libsoftokn3.so")).unwrap().then(|| &*format!("{dir}/libsoftokn3.so").leak())
        })
        .expect("libnss3")
    }

    fn config(&self) -> TokenConfig {
        let database = self.0.path().display();
        TokenConfig {
            worker: support::worker(),
            module: Self::module().into(),
            parameters: Some(format!(
                "configdir='sql:{database}' certPrefix='' keyPrefix='' secmod='secmod.db' flags="
            )),
            uri: "pkcs11:token=NSS%20Certificate%20DB".parse().unwrap(),
            pin: PinSource::File(self.0.path().join("pin")),
            latch: PinLatch::new(self.0.path().join("pin.latched")),
            environment: Vec::new(),
            limits: support::limits(),
        }
    }
}

#[test]
fn nss_softoken_is_refused_with_the_reason() {
    let nss = Nss::new();
    let report = Token::new(nss.config()).probe().unwrap();
    println!("{}", table(&report));
    let why = report.refusal().expect("NSS softoken lets its keys out");
    assert!(why.contains("lets keys out") && why.contains("private key leaving the token"), "{why}");
    // It is what the token does that is wrong, not how it was asked.
    assert!(report.checks.iter().any(|c| c.test == "RFC 3394 4.6 unwrapped" && c.verdict == Verdict::Passed));
}

#[test]
fn what_is_no_module_is_named_with_the_mend() {
    let soft = SoftToken::new();
    for (module, word) in [
        ("/nonexistent.so", "/nonexistent.so"),
        ("/usr/lib/x86_64-linux-gnu/libz.so.1", "libz"),
        ("/etc/passwd", "/etc/passwd"),
    ] {
        let mut config = soft.config();
        config.module = module.into();
        let error = Token::new(config).probe().unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("check its path"), "{error}");
    }
    let mut config = soft.config();
    config.uri = "pkcs11:token=none".parse().unwrap();
    let error = Token::new(config).probe().unwrap_err().to_string();
    assert!(error.contains("no token matches pkcs11:token=none"), "{error}");
}
