//! A witness behind TLS: certificates that are trusted, and those that are not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anchors_support;
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anchors_support::{NAME, Scripted, at, only, open, response, strict, witness};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use sealtape_kms::anchor::{AnchorConfig, AnchorKind, AnchoringPolicy};
use sealtape_kms::protocol::{AnchorTrouble, RefusalCode};
use sealtape_lab_witness::Witness;
use support::install::{Install, ME, UNIT, labelled};

/// An authority for certificates, of the test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = dir.join(format!("{name}.pem"));
        std::fs::write(&pem, parameters.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// What a server with a certificate for `host` needs.
    fn server(&self, host: &str, over: bool) -> Arc<rustls::ServerConfig> {
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).unwrap();
        if over {
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        Arc::new(config)
    }
}

fn serve(witness: &Arc<Witness>, tls: Arc<rustls::ServerConfig>) -> Scripted {
    let witness = Arc::clone(witness);
    Scripted::over(Some(tls), move |_, body| {
        let answer = witness.add_checkpoint(body, 1_800_000_000);
        Some(response(answer.status, answer.content_type, &answer.body))
    })
}

fn trusting(anchor: AnchorConfig, pem: Option<&Path>) -> AnchoringPolicy {
    let AnchorConfig { name, kind: AnchorKind::Witness { url, key, timeout, .. } } = anchor else { unreachable!() };
    let ca = pem.map(Path::to_owned);
    let anchor = AnchorConfig { name, kind: AnchorKind::Witness { url, key, timeout, ca } };
    AnchoringPolicy { deadline: std::time::Duration::from_secs(2), ..strict(vec![anchor]) }
}

#[test]
fn a_key_waits_for_a_witness_whose_certificate_is_trusted() {
    let install = Install::new();
    let dir = tempfile::tempdir().unwrap();
    let known = witness(dir.path(), &install);
    let (ours, other) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "other"));

    let server = serve(&known, ours.server("127.0.0.1", false));
    let authority = open(&install, trusting(at(&known, &server.url), Some(&ours.pem)));
    let generation = labelled(&authority, "A").1;
    authority.load(ME, UNIT, generation).unwrap();
    let view = only(&authority);
    assert!(view.trouble.is_none() && view.anchored.is_some(), "{view:?}");
    let export = anchors_support::export(&authority);
    assert!(export.contains(&format!("\u{2014} {NAME} ")), "the cosignature came over TLS");
    let before = known.size(install.report.log_key.split('+').next().unwrap());
    drop(authority);

    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    for (name, tls, pem, words) in [
        ("not trusted", ours.server("127.0.0.1", false), None, "certificate"),
        ("another authority", ours.server("127.0.0.1", false), Some(&other.pem), "certificate"),
        ("another host", ours.server("localhost", false), Some(&ours.pem), "certificate"),
        ("expired", ours.server("127.0.0.1", true), Some(&ours.pem), "certificate"),
        ("no certificate in the file", ours.server("127.0.0.1", false), Some(&empty), "holds no certificate"),
    ] {
        let server = serve(&known, tls);
        let authority = open(&install, trusting(at(&known, &server.url), pem.map(PathBuf::as_path)));
        let view = only(&authority);
        let fault = view.fault.unwrap_or_default();
        assert!(view.trouble.is_some() && fault.contains(words), "{name}: {fault}");
        let refusal = authority.load(ME, UNIT, generation).map(drop).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAnchored, "{name}: {refusal}");
        assert_eq!(server.count(), 0, "{name}: nothing is said to whom nobody vouches for");
    }
    // A server without TLS where TLS was asked for.
    let plain = Scripted::new(|_, _| Some(response(200, "text/plain", "")));
    let url = plain.url.replace("http:", "https:");
    let authority = open(&install, trusting(at(&known, &url), Some(&ours.pem)));
    assert_eq!(only(&authority).trouble, Some(AnchorTrouble::Away));
    assert!(authority.load(ME, UNIT, generation).is_err());
    assert_eq!(known.size(install.report.log_key.split('+').next().unwrap()), before);
}
