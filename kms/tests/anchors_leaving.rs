//! Packages, backups and copies for the recovery key wait for their anchors as keys do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anchors_support;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anchors_support::{Scripted, at, leaves, open, response, strict, witness};
use sealtape_kms::age::{Identity, Kind};
use sealtape_kms::anchor::AnchoringPolicy;
use sealtape_kms::authority::Authority;
use sealtape_kms::custody::{Leaf, Outcome, op};
use sealtape_kms::protocol::{
    BackupReply, BackupRequest, ExchangeReply, ExchangeRequest, PartnerOrder, RecoveryReply, RecoveryRequest, Refusal,
    RefusalCode, RequestState,
};
use sealtape_kms::recovery::generate;
use support::custodians::{Custodians, root};
use support::install::{Install, ME, labelled};
use uuid::Uuid;

/// What the witness cosigns: everything, nothing, or logs up to this many entries.
const ALL: u64 = u64::MAX;
const AWAY: u64 = 0;
/// It says that it knows a longer log.
const LIES: u64 = 1;

struct Site {
    install: Install,
    authority: Arc<Authority>,
    gate: Arc<AtomicU64>,
    _server: Scripted,
    _dir: tempfile::TempDir,
}

impl Site {
    /// Keys wait, and not for long.
    fn new() -> Self {
        let install = Install::new();
        let dir = tempfile::tempdir().unwrap();
        let known = witness(dir.path(), &install);
        let gate = Arc::new(AtomicU64::new(ALL));
        let (inner, script) = (Arc::clone(&known), Arc::clone(&gate));
        let server = Scripted::new(move |path, body| {
            if path != "/add-checkpoint" {
                return Some(response(404, "text/plain", ""));
            }
            let size: u64 = body.split_once("\n\n").unwrap().1.lines().nth(1).unwrap().parse().unwrap();
            match script.load(Ordering::Acquire) {
                LIES => Some(response(409, "text/x.tlog.size", "1000000\n")),
                limit if size > limit => Some(response(500, "text/plain", "")),
                _ => {
                    let answer = inner.add_checkpoint(body, 1_800_000_000);
                    Some(response(answer.status, answer.content_type, &answer.body))
                }
            }
        });
        let policy = AnchoringPolicy { deadline: Duration::from_secs(2), ..strict(vec![at(&known, &server.url)]) };
        let authority = open(&install, policy);
        Self { install, authority, gate, _server: server, _dir: dir }
    }

    fn cosigns(&self, limit: u64) {
        self.gate.store(limit, Ordering::Release);
    }

    /// What stands now is cosigned, with the root of the tenant that the next checkpoint brings; nothing behind it.
    fn cosigns_no_more(&self) {
        self.cosigns(self.authority.status().unwrap().log_size + 1);
    }

    fn count(&self, query: &str) -> i64 {
        self.install.database().query_row(query, [], |r| r.get(0)).unwrap()
    }

    fn entered(&self, operation: &str) -> usize {
        leaves(&self.authority).iter().filter(|l| l.op == operation && l.outcome == Outcome::Done).count()
    }

    fn withheld(&self) -> usize {
        leaves(&self.authority).iter().filter(|l| l.op == op::KEY_WITHHELD).count()
    }

    /// The last `key.withheld` says this of `entry`.
    fn says(&self, what: &str, entry: &Leaf) {
        let reason = leaves(&self.authority).into_iter().rfind(|l| l.op == op::KEY_WITHHELD).unwrap().reason.unwrap();
        assert!(reason.contains(&format!("{what} of entry {} did not leave", entry.seq)), "{reason}");
    }

    fn done(&self, operation: &str) -> Vec<Leaf> {
        leaves(&self.authority).into_iter().filter(|l| l.op == operation && l.outcome == Outcome::Done).collect()
    }
}

fn not_anchored<T: std::fmt::Debug>(answer: Result<T, Refusal>) {
    assert_eq!(answer.unwrap_err().code, RefusalCode::NotAnchored);
}

fn contradicted<T: std::fmt::Debug>(answer: Result<T, Refusal>) {
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Damaged);
    assert!(refusal.what.contains("cosigned 1000000 entries"), "{refusal}");
}

fn ask(site: &Site, people: &Custodians) -> Uuid {
    let order = PartnerOrder {
        partner: "Partner Ltd".into(),
        recipient: Identity::generate(Kind::Hybrid).unwrap().recipient().unwrap().to_string(),
        volumes: vec!["ONE001".into()],
        expires: "2990-01-31".into(),
        labels: false,
        allow_classic: false,
        reason: None,
    };
    let asked = site.authority.serve_exchange(root(), ExchangeRequest::Ask(order), None).unwrap();
    let ExchangeReply::Asked(view) = asked else { panic!("{asked:?}") };
    people.approve(&site.authority, view.request);
    view.request
}

#[test]
fn a_package_waits_and_approvals_are_not_used_up_in_vain() {
    let site = Site::new();
    let people = Custodians::register(&site.authority);
    labelled(&site.authority, "ONE001");
    let request = ask(&site, &people);
    let export = |request| site.authority.serve_exchange(root(), ExchangeRequest::Export { request }, None);
    let packages = || match site.authority.serve_exchange(ME, ExchangeRequest::Packages, None).unwrap() {
        ExchangeReply::Packages(packages) => packages.len(),
        other => panic!("{other:?}"),
    };
    site.cosigns(AWAY);
    not_anchored(export(request));
    assert_eq!(site.authority.show_request(request).unwrap().0.state, RequestState::Approved);
    assert_eq!((site.entered(op::KEY_EXPORT), packages()), (0, 0));
    site.cosigns(ALL);
    assert!(matches!(export(request).unwrap(), ExchangeReply::Package(_)));
    assert_eq!((site.entered(op::KEY_EXPORT), packages()), (1, 1));

    // It goes away while the package is made: the approvals are used, and nothing leaves.
    let request = ask(&site, &people);
    site.cosigns_no_more();
    not_anchored(export(request));
    assert_eq!((site.entered(op::KEY_EXPORT), packages()), (2, 1));
    let made = site.done(op::EXPORT_MADE).pop().unwrap();
    let package = made.blobs[0].kek;
    site.says(&format!("package {package}"), &made);
    // A certificate of destruction does not count it.
    let of = format!("FROM copies WHERE kind = 'export' AND holder = '{package}' AND state");
    assert_eq!(site.count(&format!("SELECT count(*) {of} = 'destroyed'")), 1);
    assert_eq!(site.count("SELECT count(*) FROM copies WHERE kind = 'export' AND state = 'exists'"), 1);
    site.cosigns(ALL);
    assert_eq!(export(request).unwrap_err().code, RefusalCode::BadRequest);

    let request = ask(&site, &people);
    site.cosigns(LIES);
    contradicted(export(request));
    assert_eq!(site.entered(op::KEY_EXPORT), 2);
}

#[test]
fn a_backup_waits() {
    let site = Site::new();
    labelled(&site.authority, "ONE001");
    let make = || site.authority.serve_backup(ME, BackupRequest::Make { place: "safe".into() });
    let backups = || match site.authority.serve_backup(ME, BackupRequest::List).unwrap() {
        BackupReply::Backups(backups) => backups.len(),
        other => panic!("{other:?}"),
    };
    let files = || {
        let names = std::fs::read_dir(site.install.home.dir()).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|n| n.to_str().unwrap().starts_with("backup-")).count()
    };
    site.cosigns(AWAY);
    not_anchored(make());
    assert_eq!((site.count("SELECT count(*) FROM backups"), files()), (0, 0));
    site.cosigns_no_more();
    not_anchored(make());
    assert_eq!((backups(), files()), (0, 0));
    let made = site.done(op::BACKUP_MADE).pop().unwrap();
    site.says(made.reason.as_ref().unwrap().split(" of ").next().unwrap(), &made);
    site.cosigns(ALL);
    let BackupReply::Made(head) = make().unwrap() else { panic!("no backup") };
    let read = || site.authority.serve_backup(ME, BackupRequest::Read { backup: head.manifest.backup, offset: 0 });
    assert!(matches!(read().unwrap(), BackupReply::Part(_)));
    assert_eq!(backups(), 1);
    site.cosigns(LIES);
    contradicted(make());
    contradicted(read());
}

#[test]
fn no_copy_for_the_recovery_key_is_kept_before_its_entry_is_anchored() {
    let site = Site::new();
    for label in ["ONE001", "TWO001"] {
        labelled(&site.authority, label);
    }
    let install = |epoch| {
        let key = Box::new(generate("default", epoch, 3, 2).unwrap().0);
        site.authority.serve_recovery(root(), RecoveryRequest::Install { key, request: None, reason: None })
    };
    assert!(matches!(install(1).unwrap(), RecoveryReply::Key(_)));
    let backfill = || site.authority.serve_recovery(ME, RecoveryRequest::Backfill { tenant: None, most: 10 });
    let kept = || {
        let copies = site.count("SELECT count(*) FROM copies WHERE kind = 'recovery'");
        (site.count("SELECT count(*) FROM recovery_stanzas"), copies)
    };
    site.cosigns(AWAY);
    not_anchored(backfill());
    assert_eq!((kept(), site.withheld()), ((0, 0), 0));
    site.cosigns_no_more();
    not_anchored(backfill());
    assert_eq!((kept(), site.withheld()), ((0, 0), 1));
    site.says("the first", &site.done(op::RECOVERY_WRAP)[0]);
    site.cosigns(ALL);
    let RecoveryReply::Backfilled { wrapped, remaining, .. } = backfill().unwrap() else { panic!("no figures") };
    assert_eq!((wrapped, remaining, kept()), (2, 0, (2, 2)));

    labelled(&site.authority, "THR001");
    site.install.database().execute("DELETE FROM recovery_stanzas", []).unwrap();
    site.cosigns(LIES);
    contradicted(backfill());
    assert_eq!(site.count("SELECT count(*) FROM recovery_stanzas"), 0);
    contradicted(install(2));
}
