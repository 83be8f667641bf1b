//! Alarms of anchors outlast a restart, an older database, and the anchor's leaving the configuration; two custodians lift them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anchors_support;
mod support;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anchors_support::{Copy, Lab, Scripted, at, leaves, loose, only, open, response, witness};
use sealtape_kms::anchor::AnchorConfig;
use sealtape_kms::authority::{Actor, Authority};
use sealtape_kms::custody::{Outcome, op};
use sealtape_kms::protocol::{
    AnchorReply, AnchorRequest, AnchorTrouble, GenerationRef, Refusal, RefusalCode, RequestView,
};
use support::custodians::{Custodians, root};
use support::install::{Install, ME, UNIT, labelled};
use uuid::Uuid;

fn lift(authority: &Authority, actor: Actor, request: Option<Uuid>) -> Result<AnchorReply, Refusal> {
    let request = AnchorRequest::Lift { name: "w1".into(), request, reason: "its operator lied".into() };
    authority.serve_anchor(actor, request)
}

fn ask(authority: &Authority) -> RequestView {
    match lift(authority, root(), None).unwrap() {
        AnchorReply::Asked(view) => *view,
        AnchorReply::Status(view) => panic!("{view:?}"),
    }
}

fn refused(authority: &Authority, at: GenerationRef) -> String {
    let refusal = authority.load(ME, UNIT, at).map(drop).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Damaged, "{refusal}");
    refusal.what
}

/// Asks the anchors until this is so: they answer when they like.
fn until(authority: &Authority, so: impl Fn(&Authority) -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !so(authority) {
        assert!(Instant::now() < end, "{:?}", authority.anchoring().unwrap());
        authority.serve_anchor(ME, AnchorRequest::Now).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_rollback_stays_known_without_the_witness_and_under_the_next_rollback() {
    let install = Install::new();
    let lab = Lab::new(&install);
    let anchor = lab.anchor();
    let authority = open(&install, loose(vec![anchor.clone()]));
    let at = labelled(&authority, "A").1;
    authority.shut_down().unwrap();
    drop(authority);
    let before = Copy::of(install.home.dir());
    let authority = open(&install, loose(vec![anchor.clone()]));
    labelled(&authority, "B");
    authority.shut_down().unwrap();
    drop(authority);
    let newest = Copy::of(install.home.dir());

    before.restore(install.home.dir());
    let authority = open(&install, loose(vec![anchor.clone()]));
    let said = refused(&authority, at);
    assert!(said.contains("rolled back"), "{said}");
    drop(authority);
    let file = install.home.dir().join("anchor.alarms");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // The witness goes, and so does what the database knew of its alarm.
    let Lab { dir, witness: known, serving } = lab;
    let address = serving.address();
    drop(serving);
    before.restore(install.home.dir());
    let authority = open(&install, loose(vec![anchor.clone()]));
    assert_eq!(only(&authority).trouble, Some(AnchorTrouble::Contradicts));
    assert_eq!(refused(&authority, at), said);
    let entry = leaves(&authority).into_iter().rfind(|l| l.op == op::ANCHOR_ALARM).unwrap();
    assert_eq!(entry.outcome, Outcome::Failed);
    assert!(entry.reason.unwrap().contains("at this start still"));
    // It is not accepted as one that was lost, either.
    let accept = AnchorRequest::Accept { name: "w1".into(), reason: "a new one".into() };
    assert_eq!(authority.serve_anchor(root(), accept).unwrap_err().code, RefusalCode::BadRequest);
    drop(authority);
    // Nor does taking it out of the configuration help.
    let authority = open(&install, loose(Vec::new()));
    assert_eq!(refused(&authority, at), said);
    assert_eq!(authority.create_stream(ME, None).map(drop).unwrap_err().code, RefusalCode::Damaged);
    assert!(authority.anchoring().unwrap().refused.unwrap().contains("rolled back"));
    drop(authority);
    // The right database again, and the witness agrees: that ends it, on the disk too.
    newest.restore(install.home.dir());
    let serving = sealtape_lab_witness::Serving::start(Arc::clone(&known), address).unwrap();
    let authority = open(&install, loose(vec![anchor]));
    until(&authority, |authority| only(authority).trouble.is_none());
    authority.load(ME, UNIT, at).unwrap();
    let entry = leaves(&authority).into_iter().rfind(|l| l.op == op::ANCHOR_ALARM).unwrap();
    assert_eq!(entry.outcome, Outcome::Done);
    assert!(!file.exists());
    drop((serving, dir));
}

#[test]
fn a_file_of_alarms_that_was_changed_stops_releases() {
    let install = Install::new();
    let authority = install.open();
    let at = labelled(&authority, "A").1;
    drop(authority);
    let file = install.home.dir().join("anchor.alarms");
    std::fs::write(&file, "{}").unwrap();
    let authority = install.open();
    assert!(refused(&authority, at).contains("anchor.alarms"));
    drop(authority);
    std::fs::remove_file(file).unwrap();
    install.open().load(ME, UNIT, at).unwrap();
}

/// A witness that says, when told to, that it knows a longer log.
struct Liar {
    install: Install,
    at: GenerationRef,
    anchor: AnchorConfig,
    lies: Arc<AtomicBool>,
    _server: Scripted,
    _dir: tempfile::TempDir,
}

impl Liar {
    fn new() -> (Self, Arc<Authority>) {
        let install = Install::new();
        let dir = tempfile::tempdir().unwrap();
        let known = witness(dir.path(), &install);
        let lies = Arc::new(AtomicBool::new(false));
        let (inner, lying) = (Arc::clone(&known), Arc::clone(&lies));
        let server = Scripted::new(move |path, body| {
            if path != "/add-checkpoint" {
                return Some(response(404, "text/plain", ""));
            }
            if lying.load(Ordering::Acquire) {
                return Some(response(409, "text/x.tlog.size", "1000000\n"));
            }
            let answer = inner.add_checkpoint(body, 1_800_000_000);
            Some(response(answer.status, answer.content_type, &answer.body))
        });
        let anchor = at(&known, &server.url);
        let authority = open(&install, loose(vec![anchor.clone()]));
        let at = labelled(&authority, "A").1;
        (Self { install, at, anchor, lies, _server: server, _dir: dir }, authority)
    }

    fn lies(&self, authority: &Authority, lies: bool) {
        self.lies.store(lies, Ordering::Release);
        until(authority, |authority| only(authority).trouble.is_some() == lies);
    }

    fn open(&self) -> Arc<Authority> {
        open(&self.install, loose(vec![self.anchor.clone()]))
    }
}

#[test]
fn two_custodians_lift_an_alarm_and_one_that_comes_later_is_another() {
    let (liar, authority) = Liar::new();
    let people = Custodians::register(&authority);
    let nothing = lift(&authority, root(), None).unwrap_err();
    assert!(nothing.what.contains("no alarm"), "{nothing}");
    liar.lies(&authority, true);
    refused(&authority, liar.at);
    let first = ask(&authority).request;
    assert_eq!(lift(&authority, root(), Some(first)).unwrap_err().code, RefusalCode::NotApproved);
    people.approve(&authority, first);
    // It agrees, and contradicts again: that is not what they approved.
    liar.lies(&authority, false);
    liar.lies(&authority, true);
    let refusal = lift(&authority, root(), Some(first)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotApproved, "{refusal}");
    refused(&authority, liar.at);
    let second = ask(&authority).request;
    people.alice.approve(&authority, second);
    drop(authority);
    // Over a restart with the witness out of the configuration.
    let authority = open(&liar.install, loose(Vec::new()));
    refused(&authority, liar.at);
    assert_eq!(lift(&authority, root(), Some(second)).unwrap_err().code, RefusalCode::NotApproved);
    people.bob.approve(&authority, second);
    assert!(
        matches!(lift(&authority, root(), Some(second)).unwrap(), AnchorReply::Status(view) if view.refused.is_none())
    );
    authority.load(ME, UNIT, liar.at).unwrap();
    let entry =
        leaves(&authority).into_iter().rfind(|l| l.op == op::ANCHOR_LIFT && l.outcome == Outcome::Done).unwrap();
    assert_eq!((entry.approvals.len(), entry.role.as_deref()), (2, Some("security_officer")));
    drop(authority);
    assert!(!liar.install.home.dir().join("anchor.alarms").exists());
    // With the witness as it was, it is heard again.
    let authority = liar.open();
    assert!(refused(&authority, liar.at).contains("cosigned 1000000 entries"));
}

#[test]
fn before_there_are_custodians_root_lifts_an_alarm_and_nobody_else() {
    let (liar, authority) = Liar::new();
    liar.lies(&authority, true);
    assert_eq!(lift(&authority, ME, None).unwrap_err().code, RefusalCode::NotApproved);
    // The witness says it again at once.
    lift(&authority, root(), None).unwrap();
    refused(&authority, liar.at);
    liar.lies.store(false, Ordering::Release);
    lift(&authority, root(), None).unwrap();
    authority.load(ME, UNIT, liar.at).unwrap();
    let lifted = leaves(&authority).into_iter().filter(|l| l.op == op::ANCHOR_LIFT && l.outcome == Outcome::Done);
    assert!(lifted.map(|l| l.role).eq([Some("bootstrap".to_owned()), Some("bootstrap".to_owned())]));
}
