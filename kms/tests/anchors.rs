//! Keys and their anchors: what waits for them, and what follows when one is away, slow, or answers wrongly.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anchors_support;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anchors_support::{
    Lab, Scripted, at, export, file, leaves, loose, only, open, response, strict, try_open, witness,
};
use sealtape_kms::anchor::{AnchorConfig, AnchorKind, AnchoringPolicy};
use sealtape_kms::authority::Authority;
use sealtape_kms::custody::{Checkpoint, Leaf, Outcome, VerifierKey, op};
use sealtape_kms::protocol::{
    AnchorReply, AnchorRequest, AnchorTrouble, AnchoringView, Cartridge, Refusal, RefusalCode,
};
use support::install::{Install, ME, UNIT, labelled, order};

/// Within this a bounded wait has ended on a machine that has other work.
const BOUNDED: Duration = Duration::from_secs(20);

/// A refusal that does not take long, and time enough for an anchor that answers.
fn impatient(anchors: Vec<AnchorConfig>) -> AnchoringPolicy {
    AnchoringPolicy { deadline: Duration::from_secs(2), ..strict(anchors) }
}

fn patience(anchor: AnchorConfig, timeout: Duration) -> AnchorConfig {
    match anchor.kind {
        AnchorKind::Witness { url, key, ca, .. } => {
            AnchorConfig { kind: AnchorKind::Witness { url, key, timeout, ca }, ..anchor }
        }
        _ => anchor,
    }
}

fn ask(authority: &Authority, request: AnchorRequest) -> Result<AnchoringView, Refusal> {
    match authority.serve_anchor(ME, request)? {
        AnchorReply::Status(view) => Ok(view),
        AnchorReply::Asked(view) => panic!("{view:?}"),
    }
}

fn accept(authority: &Authority, name: &str) -> Result<AnchoringView, Refusal> {
    ask(authority, AnchorRequest::Accept { name: name.into(), reason: "a new medium".into() })
}

/// Every release that was entered as done left, or its entry was taken back by one of its own.
fn accounted(all: &[Leaf], left: usize) {
    let of = |name: &str, outcome| all.iter().filter(|l| l.op == name && l.outcome == outcome).count();
    let entered = of(op::KEY_RELEASE, Outcome::Done) + of(op::KEY_CREATE, Outcome::Done);
    assert_eq!(entered, left + of(op::KEY_WITHHELD, Outcome::Refused));
}

#[test]
fn a_key_leaves_only_when_its_entry_is_cosigned() {
    let install = Install::new();
    let lab = Lab::new(&install);
    let authority = open(&install, strict(vec![lab.anchor()]));
    let origin = install.report.log_key.split('+').next().unwrap();
    let (_, at, _) = labelled(&authority, "A");
    for _ in 0..3 {
        authority.load(ME, UNIT, at).unwrap();
        let last = leaves(&authority).iter().rposition(|l| l.op == op::KEY_RELEASE).unwrap();
        assert!(lab.witness.size(origin) > last as u64);
    }
    authority.create_stream(ME, None).unwrap();
    let view = authority.anchoring().unwrap();
    assert_eq!((view.refused, view.anchors[0].trouble), (None, None));
    // What was cosigned is kept with its checkpoints, verifiable.
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    let mut cosigned = 0;
    let database = install.database();
    let mut query = database.prepare("SELECT note FROM custody_checkpoints ORDER BY size").unwrap();
    for note in query.query_map([], |r| r.get::<_, String>(0)).unwrap().map(Result::unwrap) {
        let checkpoint = key.open(&note).unwrap().0;
        if let Ok(cosignature) = lab.witness.key().cosigned(&note) {
            assert_eq!(cosignature.checkpoint, checkpoint);
            cosigned += 1;
        }
    }
    assert!(cosigned >= 5, "{cosigned}");
    // Which anchors there were is entered once, not at every start.
    drop(query);
    authority.shut_down().unwrap();
    drop(authority);
    let authority = open(&install, strict(vec![lab.anchor()]));
    let policies = |authority: &Authority| leaves(authority).iter().filter(|l| l.op == op::ANCHOR_POLICY).count();
    assert_eq!(policies(&authority), 1);
    drop(authority);
    assert_eq!(policies(&open(&install, loose(vec![lab.anchor()]))), 2);
}

#[test]
fn many_releases_share_a_checkpoint() {
    let install = Install::new();
    let dir = tempfile::tempdir().unwrap();
    let slow = witness(dir.path(), &install);
    let server = Scripted::slow(Arc::clone(&slow), Duration::from_millis(150));
    let authority = open(&install, strict(vec![at(&slow, &server.url)]));
    let (_, generation, _) = labelled(&authority, "A");
    let before = server.count();
    let began = Instant::now();
    std::thread::scope(|s| {
        for _ in 0..16 {
            s.spawn(|| {
                for _ in 0..2 {
                    authority.load(ME, UNIT, generation).unwrap();
                }
            });
        }
    });
    let (exchanges, took) = (server.count() - before, began.elapsed());
    assert!(exchanges <= 16, "{exchanges} exchanges for 32 releases");
    assert!(took < BOUNDED, "{took:?}");
    accounted(&leaves(&authority), 33);
}

#[test]
fn without_the_witness_a_key_is_refused_in_time_and_nothing_is_unlogged() {
    let install = Install::new();
    let lab = Lab::new(&install);
    let authority = open(&install, impatient(vec![lab.anchor()]));
    let (_, generation, _) = labelled(&authority, "A");
    let Lab { dir, witness: known, serving } = lab;
    let address = serving.address();
    drop(serving);
    for _ in 0..2 {
        let began = Instant::now();
        let refusal = authority.load(ME, UNIT, generation).map(drop).unwrap_err();
        let took = began.elapsed();
        assert!(took < BOUNDED, "{took:?}");
        assert_eq!(refusal.code, RefusalCode::NotAnchored);
        assert!(refusal.what.contains("anchor w1 since 2") && refusal.what.contains("cannot be reached"), "{refusal}");
    }
    accounted(&leaves(&authority), 1);
    let view = only(&authority);
    assert_eq!(view.trouble, Some(AnchorTrouble::Away));
    // It comes back, at the same address, with its state from the disk.
    drop(known);
    let known = witness(dir.path(), &install);
    let serving = sealtape_lab_witness::Serving::start(Arc::clone(&known), address).unwrap();
    authority.load(ME, UNIT, generation).unwrap();
    accounted(&leaves(&authority), 2);
    assert_eq!(only(&authority).trouble, None);
    drop(serving);
}

#[test]
fn a_witness_that_misbehaves_is_never_believed() {
    let install = Install::new();
    let lab = tempfile::tempdir().unwrap();
    let known = witness(lab.path(), &install);
    let elsewhere = tempfile::tempdir().unwrap();
    // The same name, another key.
    let impostor = witness(elsewhere.path(), &install);
    let text = "text/plain";
    type Script = Box<dyn Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync>;
    let cases: Vec<(&str, AnchorTrouble, &str, Script)> = vec![
        (
            "garbage",
            AnchorTrouble::Away,
            "cannot be reached",
            Box::new(|_, _| Some(b"\x00\xffgarbage\r\n\r\n".to_vec())),
        ),
        ("closes", AnchorTrouble::Away, "cannot be reached", Box::new(|_, _| Some(Vec::new()))),
        ("silence", AnchorTrouble::Away, "did not answer within", Box::new(|_, _| None)),
        ("empty 200", AnchorTrouble::Faulty, "no cosignature", Box::new(move |_, _| Some(response(200, text, "")))),
        (
            "text 200",
            AnchorTrouble::Faulty,
            "no cosignature",
            Box::new(move |_, _| Some(response(200, text, "welcome\n"))),
        ),
        ("binary 200", AnchorTrouble::Faulty, "what is no text", {
            Box::new(|_, _| Some(b"HTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\n\xff\xfe\x00".to_vec()))
        }),
        (
            "a note in place of a line",
            AnchorTrouble::Faulty,
            "no cosignature",
            Box::new(move |_, body| Some(response(200, text, body.split_once("\n\n").unwrap().1))),
        ),
        ("huge body", AnchorTrouble::Faulty, "answers too much", {
            Box::new(move |_, _| Some(response(200, text, &"\u{2014} x AAAAAAAA\n".repeat(100_000))))
        }),
        ("endless head", AnchorTrouble::Faulty, "answers too much", {
            Box::new(|_, _| Some([b"HTTP/1.1 200 X\r\nA: ".to_vec(), vec![b'a'; 1 << 20]].concat()))
        }),
        ("redirect", AnchorTrouble::Faulty, "redirects (307)", {
            Box::new(|_, _| {
                Some(
                    b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/add-checkpoint\r\nContent-Length: 0\r\n\r\n"
                        .to_vec(),
                )
            })
        }),
        ("404", AnchorTrouble::Faulty, "does not know this log", Box::new(move |_, _| Some(response(404, text, "")))),
        (
            "403",
            AnchorTrouble::Faulty,
            "does not accept",
            Box::new(move |_, _| Some(response(403, text, "no\x1b[31m"))),
        ),
        (
            "400",
            AnchorTrouble::Faulty,
            "refuses the request (400)",
            Box::new(move |_, _| Some(response(400, text, "x"))),
        ),
        ("500", AnchorTrouble::Away, "out of order (500)", Box::new(move |_, _| Some(response(500, text, "x")))),
        ("409 without a size", AnchorTrouble::Faulty, "409 without a size", {
            Box::new(move |_, _| Some(response(409, text, "3\n")))
        }),
        ("409 and no number", AnchorTrouble::Faulty, "409 without a size", {
            Box::new(|_, _| Some(response(409, "text/x.tlog.size", "03\n")))
        }),
        ("409 for ever", AnchorTrouble::Away, "named another size 4 times", {
            let n = std::sync::atomic::AtomicU64::new(0);
            Box::new(move |_, _| {
                let n = n.fetch_add(1, std::sync::atomic::Ordering::AcqRel) % 7 + 1;
                Some(response(409, "text/x.tlog.size", &format!("{n}\n")))
            })
        }),
        ("wrong cosignature", AnchorTrouble::Faulty, "no cosignature", {
            Box::new(move |_, body| {
                let answer = impostor.add_checkpoint(body, 1_800_000_000);
                Some(response(answer.status, answer.content_type, &answer.body))
            })
        }),
    ];
    let first = open(&install, loose(Vec::new()));
    let (_, generation, _) = labelled(&first, "A");
    drop(first);
    for (name, kind, words, script) in cases {
        let server = Scripted::new(script);
        let anchor = patience(at(&known, &server.url), Duration::from_millis(300));
        let hasty = AnchoringPolicy { deadline: Duration::from_millis(150), ..strict(vec![anchor]) };
        let authority = open(&install, hasty);
        let view = only(&authority);
        assert_eq!(view.trouble, Some(kind), "{name}: {view:?}");
        let fault = view.fault.unwrap();
        assert!(fault.contains(words) && !fault.contains('\x1b'), "{name}: {fault}");
        let began = Instant::now();
        let refusal = authority.load(ME, UNIT, generation).map(drop).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAnchored, "{name}: {refusal}");
        assert!(began.elapsed() < BOUNDED, "{name}");
        assert!(server.count() < 30, "{name}: {} requests", server.count());
        drop(authority);
    }
}

#[test]
fn an_answer_that_was_lost_is_caught_up_with() {
    let install = Install::new();
    let lab = Lab::new(&install);
    let authority = open(&install, strict(vec![lab.anchor()]));
    let (_, generation, _) = labelled(&authority, "A");
    drop(authority);
    // The witness had cosigned, and the service stopped before it kept that: 409 with a size that the log knows.
    let changed = install.database().execute("UPDATE custody_anchors SET size = 3", []).unwrap();
    assert_eq!(changed, 1);
    let authority = open(&install, strict(vec![lab.anchor()]));
    assert_eq!(only(&authority).trouble, None);
    authority.load(ME, UNIT, generation).unwrap();
    // Nothing kept at all.
    drop(authority);
    install.database().execute("DELETE FROM custody_anchors", []).unwrap();
    open(&install, strict(vec![lab.anchor()])).load(ME, UNIT, generation).unwrap();
}

#[test]
fn an_anchor_that_forgot_has_to_be_accepted() {
    let install = Install::new();
    let lab = Lab::new(&install);
    let authority = open(&install, impatient(vec![lab.anchor()]));
    let (_, generation, _) = labelled(&authority, "A");
    assert_eq!(accept(&authority, "w1").unwrap_err().code, RefusalCode::BadRequest, "nothing is lost");
    let Lab { dir, serving, .. } = lab;
    let address = serving.address();
    drop(serving);
    let origin = install.report.log_key.split('+').next().unwrap();
    std::fs::remove_file(sealtape_lab_witness::file_of(dir.path(), origin)).unwrap();
    let forgetful = witness(dir.path(), &install);
    let serving = sealtape_lab_witness::Serving::start(forgetful, address).unwrap();
    let refusal = authority.load(ME, UNIT, generation).map(drop).unwrap_err();
    assert!(refusal.code == RefusalCode::NotAnchored && refusal.what.contains("lost its state"), "{refusal}");
    assert_eq!(only(&authority).trouble, Some(AnchorTrouble::Lost));
    assert!(accept(&authority, "w2").is_err());
    assert_eq!(accept(&authority, "w1").unwrap().anchors[0].trouble, None);
    authority.load(ME, UNIT, generation).unwrap();
    assert!(leaves(&authority).iter().any(|l| l.op == op::ANCHOR_ACCEPT));
    drop(serving);
}

#[test]
fn too_long_without_an_anchor_refuses_and_warns_before() {
    let install = Install::new();
    let lab = Lab::new(&install);
    let long = Duration::from_secs(4);
    let policy = |anchor| AnchoringPolicy { longest_without: Some(long), ..loose(vec![anchor]) };
    let authority = open(&install, policy(lab.anchor()));
    let (_, generation, _) = labelled(&authority, "A");
    ask(&authority, AnchorRequest::Now).unwrap();
    // With everything anchored, time does not run.
    std::thread::sleep(long + Duration::from_millis(200));
    let anchor = lab.anchor();
    drop(lab.serving);
    authority.load(ME, UNIT, generation).unwrap();
    let began = Instant::now();
    assert_eq!(authority.anchoring().unwrap().refused, None);
    std::thread::sleep(long * 6 / 10);
    let view = authority.anchoring().unwrap();
    assert!(view.refused.is_none() && view.warnings.iter().any(|w| w.contains("keys are refused once")), "{view:?}");
    std::thread::sleep((long + Duration::from_millis(100)).saturating_sub(began.elapsed()));
    let refusal = authority.load(ME, UNIT, generation).map(drop).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotAnchored);
    assert!(refusal.what.contains("has not been anchored since 2"), "{refusal}");
    assert!(authority.anchoring().unwrap().refused.is_some());
    // A new start does not begin to count anew.
    drop(authority);
    let authority = open(&install, policy(anchor));
    assert_eq!(authority.load(ME, UNIT, generation).map(drop).unwrap_err().code, RefusalCode::NotAnchored);
    accounted(&leaves(&authority), 2);
}

#[test]
fn a_file_is_read_back_before_it_is_written() {
    let install = Install::new();
    let medium = tempfile::tempdir().unwrap();
    let path = medium.path().join("anchor");
    let start = || open(&install, impatient(vec![file(&path)]));
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    let authority = start();
    let (_, generation, _) = labelled(&authority, "A");
    // The thread of the anchor may not have looked again when the wait ends: then the word is an older one.
    let refused = |authority: &Authority, words: &str| {
        let began = Instant::now();
        loop {
            let refusal = authority.load(ME, UNIT, generation).map(drop).unwrap_err();
            if refusal.what.contains(words) {
                return;
            }
            assert!(began.elapsed() < BOUNDED, "{words}: {refusal}");
        }
    };
    let read = || std::fs::read_to_string(&path).unwrap();
    let notes: Vec<Checkpoint> = read()
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["checkpoint"].as_str().unwrap().to_owned())
        .map(|note| key.open(&note).unwrap().0)
        .collect();
    assert!(notes.len() >= 2 && notes.windows(2).all(|w| w[0].size < w[1].size));
    // A line that was cut off is closed and passed over.
    let whole = read();
    std::fs::write(&path, format!("{whole}{}", &whole[..100])).unwrap();
    authority.load(ME, UNIT, generation).unwrap();
    let grown = read();
    let behind: Vec<&str> = grown.lines().skip(whole.lines().count()).collect();
    assert_eq!(behind[0], &whole[..100]);
    assert!(behind.len() > 1 && behind[1..].iter().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
    // The medium is away.
    let aside = medium.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    refused(&authority, "is its medium mounted?");
    assert!(!path.exists(), "nothing is written into an empty mount point");
    // An older copy of it, an empty one.
    std::fs::write(&path, &whole).unwrap();
    refused(&authority, "it was cut off, or is an older copy");
    std::fs::write(&path, "").unwrap();
    refused(&authority, "is empty");
    // It comes back as it was.
    std::fs::rename(&aside, &path).unwrap();
    authority.load(ME, UNIT, generation).unwrap();
    // Open to others; something else; a FIFO that would hang.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    refused(&authority, "can be written by others");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let good = read();
    std::fs::write(&path, "hello\n").unwrap();
    refused(&authority, "holds no checkpoint");
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    refused(&authority, "no plain file");
    // A new medium, accepted.
    std::fs::remove_file(&path).unwrap();
    refused(&authority, "mounted?");
    accept(&authority, "file").unwrap();
    authority.load(ME, UNIT, generation).unwrap();
    assert!(read().len() < good.len());
}

#[test]
fn syslog_is_told_and_counts_only_by_policy() {
    let install = Install::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let syslog = AnchorConfig { name: "syslog".into(), kind: AnchorKind::Syslog { socket: path.clone() } };
    assert_eq!(try_open(&install, strict(vec![syslog.clone()])).map(drop).unwrap_err().code, RefusalCode::BadRequest);
    let counted = AnchoringPolicy { syslog_counts: true, ..impatient(vec![syslog]) };
    let authority = open(&install, counted);
    let (_, generation, _) = labelled(&authority, "A");
    authority.load(ME, UNIT, generation).unwrap();
    let mut buffer = [0; 1000];
    let length = daemon.recv(&mut buffer).unwrap();
    let message = std::str::from_utf8(&buffer[..length]).unwrap();
    let origin = install.report.log_key.split('+').next().unwrap();
    assert!(
        message.starts_with("<85>sealtape-keyd[") && message.contains(&format!("origin=\"{origin}\" size=")),
        "{message}"
    );
    drop(daemon);
    std::fs::remove_file(&path).unwrap();
    let refusal = authority.load(ME, UNIT, generation).map(drop).unwrap_err();
    assert!(refusal.code == RefusalCode::NotAnchored && refusal.what.contains("anchor syslog since"), "{refusal}");
}

#[test]
fn a_quorum_of_two_does_with_one_of_three_away() {
    let install = Install::new();
    let (lab, medium) = (Lab::new(&install), tempfile::tempdir().unwrap());
    let silent = Scripted::new(|_, _| None);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = sealtape_lab_witness::Witness::open(elsewhere.path(), "witness.example/w2").unwrap();
    let hung = AnchorConfig { name: "w2".into(), ..patience(at(&other, &silent.url), Duration::from_secs(4)) };
    let two = AnchoringPolicy { quorum: 2, ..strict(vec![hung, lab.anchor(), file(medium.path().join("anchor"))]) };
    let authority = open(&install, two);
    let (_, generation, _) = labelled(&authority, "A");
    let began = Instant::now();
    for _ in 0..5 {
        authority.load(ME, UNIT, generation).unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(16), "the slow one holds nobody up: {:?}", began.elapsed());
    let view = authority.anchoring().unwrap();
    assert_eq!(view.anchors[0].trouble, Some(AnchorTrouble::Away));
    assert!(view.anchored_size > 0 && view.refused.is_none());
    // One more, and it is not enough.
    drop(lab.serving);
    let refusal = authority.load(ME, UNIT, generation).map(drop).unwrap_err();
    assert!(refusal.what.contains("anchor w1 since") && refusal.what.contains("anchor w2 since"), "{refusal}");
    assert!(!refusal.what.contains("anchor file"), "{refusal}");
}

#[test]
fn an_order_to_make_a_key_waits_too() {
    let install = Install::new();
    let silent = Scripted::new(|_, _| None);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = witness(elsewhere.path(), &install);
    let hung = patience(at(&other, &silent.url), Duration::from_millis(200));
    let authority = open(&install, impatient(vec![hung]));
    let ticket = authority.authorize_label(ME, &order("A")).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    let refusal = authority.create_generation(ME, UNIT, volume.volume, 0, None).map(drop).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotAnchored);
    assert_eq!(authority.create_stream(ME, None).map(drop).unwrap_err().code, RefusalCode::NotAnchored);
    accounted(&leaves(&authority), 0);
    // Anything but a key goes on, and the log can be read and exported.
    assert!(export(&authority).lines().count() > 5);
}

#[test]
fn an_anchored_export_tells_by_whom_and_up_to_which_entry() {
    use sealtape_kms::custody::{Anchoring, Trust, VerifyError, verify_export_trusting};
    use sealtape_kms::protocol::{ExportOrder, ExportScope};
    let install = Install::new();
    let lab = Lab::new(&install);
    let authority = open(&install, loose(vec![lab.anchor()]));
    labelled(&authority, "A");
    let key = [install.report.log_key.parse::<VerifierKey>().unwrap()];
    let (ours, elsewhere) = (lab.witness.key().clone(), tempfile::tempdir().unwrap());
    let other = sealtape_lab_witness::Witness::open(elsewhere.path(), "witness.example/w2").unwrap().key().clone();
    let impostor = sealtape_lab_witness::Witness::open(elsewhere.path(), anchors_support::NAME).unwrap().key().clone();
    assert_ne!(impostor, ours);
    let verified = |text: &str, witnesses: &[_]| {
        verify_export_trusting(&mut text.as_bytes(), &Trust { keys: &key, witnesses }, |_, _, _| {})
    };
    for scope in [ExportScope::Full, ExportScope::Tenant("default".into())] {
        for csv in [false, true] {
            let mut out = Vec::new();
            authority.audit_export_as(ME, &ExportOrder { scope: scope.clone(), csv }, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let report = verified(&text, &[ours.clone(), other.clone()]).unwrap();
            let Anchoring::Anchored(by) = &report.anchoring else { panic!("{scope:?}: {:?}", report.anchoring) };
            assert_eq!((by.len(), by[0].entries, by[0].witness.as_str()), (1, report.size, anchors_support::NAME));
            assert!(by[0].time.starts_with("20") && report.unchecked_cosignatures.is_empty());
            // Nobody's word, or that of others, counts for nothing.
            for witnesses in [vec![], vec![other.clone()], vec![impostor.clone()]] {
                let report = verified(&text, &witnesses).unwrap();
                assert_eq!(report.anchoring, Anchoring::InternallyConsistentOnly);
                assert_eq!(report.unchecked_cosignatures, [anchors_support::NAME]);
            }
        }
    }
    // A cosignature that was changed makes the export bad for who knows the witness.
    let text = export(&authority);
    let line = text.rfind(&format!("\u{2014} {} ", anchors_support::NAME)).unwrap();
    let at = text[line..].rfind("\\n\"").unwrap() + line - 10;
    let mut changed = text.clone();
    changed.replace_range(at..=at, if &text[at..=at] == "A" { "B" } else { "A" });
    assert!(matches!(verified(&changed, &[ours]), Err(VerifyError::Line { .. })));
    // Without the anchor an export is what it is without one.
    drop(lab.serving);
    let began = Instant::now();
    let report = verified(&export(&authority), &[other]).unwrap();
    assert_eq!(report.anchoring, Anchoring::InternallyConsistentOnly);
    assert!(began.elapsed() < BOUNDED);
}
