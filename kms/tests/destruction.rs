//! Keys are destroyed: what is reached is gone, what is not was predicted, and no kill leaves it half done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealtape_kms::authority::{Authority, AuthorityOptions};
use sealtape_kms::custody::certificate::{Certificate, verify};
use sealtape_kms::custody::{Leaf, VerifierKey, verify_export};
use sealtape_kms::hex::Hex;
use sealtape_kms::home::Home;
use sealtape_kms::offline;
use sealtape_kms::protocol::{
    BatchState, BatchView, Cartridge, CopyKind, DestructionOrder, Fate, GenerationRef, KeyLife, KeyState, LabelOrder,
    PoolPolicy, RefusalCode, Stanza, VolumeState,
};
use sealtape_kms::restore::{RestoreToken, restore_home};
use sealtape_kms::secret::DataKey;
use support::custodians::{Custodians, root};
use support::install::{Install, ME, UNIT, options, order};
use support::worker;
use uuid::Uuid;

struct Tape {
    volume: Uuid,
    at: GenerationRef,
    key: DataKey,
    stanzas: Vec<Stanza>,
}

fn tape(authority: &Authority, label: &str, pool: &str) -> Tape {
    let order = LabelOrder { pool: Some(pool.into()), ..order(label) };
    let ticket = authority.authorize_label(ME, &order).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    let (generation, key) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, generation.at, Hex([7; 32])).unwrap();
    Tape { volume: volume.volume, at: generation.at, key, stanzas: generation.stanzas }
}

fn loads(authority: &Authority, tape: &Tape) -> bool {
    match authority.load(ME, UNIT, tape.at) {
        Ok((_, key)) => {
            assert!(key.ct_eq(&tape.key));
            true
        }
        Err(_) => false,
    }
}

fn shred(tapes: &[&Tape]) -> DestructionOrder {
    DestructionOrder {
        volumes: tapes.iter().map(|t| t.volume.to_string()).collect(),
        keys: Vec::new(),
        even_active: true,
        hsm_backups: "none".into(),
    }
}

/// A pool that keeps no keys on media.
fn secret_pool(authority: &Authority) {
    authority.create_pool(ME, &PoolPolicy { key_on_medium: false, ..PoolPolicy::standard("secret") }).unwrap();
}

fn work_off(authority: &Authority, batch: &BatchView) -> BatchView {
    while authority.work().unwrap() {}
    let view = authority.destruction(batch.batch).unwrap();
    assert_eq!(view.state, BatchState::Done, "{view:?}");
    view
}

fn carried_out(authority: &Authority, people: &Custodians, order: &DestructionOrder) -> BatchView {
    let asked = authority.ask_destruction(ME, order, "end of retention").unwrap();
    people.approve(authority, asked.request);
    let begun = authority.carry_out_destruction(root(), asked.request).unwrap();
    work_off(authority, &begun)
}

fn checked_certificate(install: &Install, authority: &Authority, batch: &BatchView) -> Certificate {
    let note = authority.certificate(batch.batch).unwrap();
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    let certificate = verify(&note, &key).unwrap();
    // Its entry stands where it says, in an export that verifies.
    let mut out = Vec::new();
    authority.audit_export(ME, &mut out).unwrap();
    verify_export(&mut out.as_slice(), &key).unwrap();
    let leaf = Leaf::parse(&authority.audit_show(Some(certificate.log.size), 1).unwrap()[0]).unwrap();
    assert!(certificate.is_entered_by(&leaf), "{leaf:?}");
    assert_eq!(certificate.approvals.len(), 2);
    certificate
}

/// Whether any file under `dir` holds `bytes`.
fn held_by(dir: &Path, bytes: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(held_by(&path, bytes));
        } else if path.is_file() && std::fs::read(&path).unwrap().windows(bytes.len()).any(|w| w == bytes) {
            found.push(path);
        }
    }
    found
}

fn wrapped(install: &Install, at: GenerationRef) -> Vec<u8> {
    let query = "SELECT wrapped FROM generations WHERE key_id = ?1";
    install.database().query_row(query, [at.key_id.to_string()], |r| r.get(0)).unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_volume_without_a_key_on_its_medium_is_gone_for_good() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    secret_pool(&authority);
    let (doomed, kept, other) = (
        tape(&authority, "DOOMED", "secret"),
        tape(&authority, "KEPT", "secret"),
        tape(&authority, "OTHER", "default"),
    );
    // An old rotation's key-encryption key stands in the token still.
    authority.rotate(ME, "yearly").unwrap();
    while authority.work().unwrap() {}
    let blob = wrapped(&install, doomed.at);
    drop(authority);
    let before = tempfile::tempdir().unwrap();
    copy_folder(install.home.dir(), &before.path().join("home"));
    let authority = install.open();

    let asked = authority.ask_destruction(ME, &shred(&[&doomed]), "end of retention").unwrap();
    assert!(asked.plan.copies.iter().all(|c| c.fate == Fate::Destroyed), "{:?}", asked.plan.copies);
    assert_eq!(asked.plan.keks.iter().filter(|k| k.fate == Fate::Destroyed).count(), 2);
    // What the custodians sign names the plan.
    let (_, text) = authority.show_request(asked.request).unwrap();
    assert!(text.contains(&asked.plan_sha256.to_string()), "{text}");
    let refusal = authority.carry_out_destruction(root(), asked.request).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotApproved, "{refusal}");
    people.alice.approve(&authority, asked.request);
    assert!(authority.carry_out_destruction(root(), asked.request).is_err());
    assert!(loads(&authority, &doomed));
    people.bob.approve(&authority, asked.request);
    let begun = authority.carry_out_destruction(root(), asked.request).unwrap();
    assert_eq!(begun.state, BatchState::Rewrapping);
    assert_eq!(authority.load(ME, UNIT, doomed.at).unwrap_err().code, RefusalCode::VolumeState);
    assert!(authority.renew(ME, UNIT, doomed.at).is_err());
    assert!(authority.stop_rotation(ME, "no").unwrap_err().what.contains("destruction"));
    assert!(authority.certificate(asked.batch).is_err());
    let done = work_off(&authority, &begun);
    assert!(loads(&authority, &kept) && loads(&authority, &other));
    let view = authority.show_volume(&doomed.volume.to_string()).unwrap();
    assert_eq!(view.state, VolumeState::Destroyed);
    assert_eq!(view.partitions[0].generations[0].key_state, KeyState::Destroyed);

    // Once: the request is used, and the volume has no key left.
    assert_eq!(authority.carry_out_destruction(root(), asked.request).unwrap().state, BatchState::Done);
    assert!(authority.ask_destruction(ME, &shred(&[&doomed]), "again").is_err());
    let certificate = checked_certificate(&install, &authority, &done);
    assert_eq!((certificate.unreachable(), certificate.keys.len(), certificate.keys[0].key), (0, 1, doomed.at.key_id));
    assert!(certificate.words().contains("none is left"));
    drop(authority);

    // The wrapped key is in no file, of the service at rest and as it was.
    assert_eq!(held_by(install.home.dir(), &blob), Vec::<std::path::PathBuf>::new());
    assert!(!held_by(before.path(), &blob).is_empty(), "the search finds what is there");

    // The catalogue of before with the token of today opens nothing.
    let old = tempfile::tempdir().unwrap();
    copy_folder(install.home.dir(), &old.path().join("home"));
    for file in ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm"] {
        drop(std::fs::remove_file(old.path().join("home").join(file)));
    }
    copy_folder(&before.path().join("home/catalogue.db"), &old.path().join("home/catalogue.db"));
    let old = Home::new(old.path().join("home"));
    assert_eq!(Authority::open(&old, options()).map(drop).unwrap_err().code, RefusalCode::KekMissing);
    let away = AuthorityOptions { token_may_be_away: true, ..options() };
    let authority = Authority::open(&old, away.clone()).unwrap();
    for tape in [&doomed, &kept] {
        assert_eq!(authority.load(ME, UNIT, tape.at).unwrap_err().code, RefusalCode::KekMissing);
    }
    drop(authority);
    // With the token of before it does: the test above does not pass for another reason.
    assert!(loads(&Authority::open(&Home::new(before.path().join("home")), options()).unwrap(), &doomed));
    // And the medium carries nothing.
    assert!(doomed.stanzas.is_empty());
    assert!(loads(&install.open(), &kept));
}

#[test]
fn a_key_on_the_medium_is_predicted_and_goes_with_its_key_encryption_key() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    secret_pool(&authority);
    let (doomed, kept) = (tape(&authority, "DOOMED", "default"), tape(&authority, "KEPT", "default"));
    let done = carried_out(&authority, &people, &shred(&[&doomed]));
    let medium: Vec<_> = done.plan.copies.iter().filter(|c| c.kind == CopyKind::Medium).collect();
    assert_eq!((medium.len(), medium[0].fate), (1, Fate::Unreachable));
    assert!(medium[0].means.contains("1 other key"), "{}", medium[0].means);
    let certificate = checked_certificate(&install, &authority, &done);
    assert_eq!(certificate.unreachable(), 1);
    assert!(certificate.words().contains("NOT REACHED: 1"));
    // As it says: whoever has the medium and may use the HSM opens it.
    assert!(!loads(&authority, &doomed));
    let kek = offline::parse_stanza(&doomed.stanzas[0]).unwrap().unwrap().kek;
    let opens = || {
        let uri = install.report.token_uri.parse().unwrap();
        let config = install.home.embedded_token(support::MODULE.as_ref(), uri, worker()).unwrap();
        offline::unwrap_stanza(config, &doomed.stanzas[0], doomed.at)
    };
    assert!(opens().unwrap().ct_eq(&doomed.key));
    // The key-encryption key stays while a volume has a copy under it.
    let order =
        DestructionOrder { volumes: Vec::new(), keys: vec![kek], even_active: false, hsm_backups: "none".into() };
    let refusal = authority.ask_destruction(ME, &order, "epoch is over").unwrap_err();
    assert!(refusal.what.contains("1 other key"), "{refusal}");
    // With the last volume it goes by itself.
    let done = carried_out(&authority, &people, &shred(&[&kept]));
    assert!(done.plan.keks.iter().any(|k| k.kek == kek && k.fate == Fate::Destroyed), "{:?}", done.plan.keks);
    assert_eq!(checked_certificate(&install, &authority, &done).unreachable(), 0);
    assert!(opens().is_err());
    assert!(authority.ask_destruction(ME, &order, "again").unwrap_err().what.contains("destroyed already"));
    // The pool goes on with another one.
    let next = tape(&authority, "NEXT", "default");
    assert_ne!(offline::parse_stanza(&next.stanzas[0]).unwrap().unwrap().kek, kek);
    assert!(loads(&authority, &next));
}

#[test]
fn a_key_encryption_key_that_nothing_needs_is_destroyed_by_itself() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    let tape = tape(&authority, "A", "default");
    let old = authority.rotate(ME, "yearly").unwrap().old_kek;
    let order = DestructionOrder {
        volumes: Vec::new(),
        keys: vec![old],
        even_active: false,
        hsm_backups: "tape in safe 3".into(),
    };
    assert!(authority.ask_destruction(ME, &order, "too early").is_err());
    while authority.work().unwrap() {}
    let done = carried_out(&authority, &people, &order);
    assert_eq!(done.rotation, None);
    let certificate = checked_certificate(&install, &authority, &done);
    assert_eq!((certificate.keys.len(), certificate.keks.len(), certificate.unreachable()), (0, 1, 1));
    assert!(certificate.words().contains("tape in safe 3"));
    assert!(loads(&authority, &tape));
}

#[test]
fn what_may_not_be_destroyed_is_not() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    secret_pool(&authority);
    let (doomed, other) = (tape(&authority, "DOOMED", "secret"), tape(&authority, "OTHER", "secret"));
    let order = shred(&[&doomed]);
    let refused = |order: &DestructionOrder, part: &str| {
        let refusal = authority.ask_destruction(ME, order, "why").unwrap_err();
        assert!(refusal.what.contains(part), "{refusal}");
    };
    refused(&DestructionOrder { even_active: false, ..order.clone() }, "in use");
    refused(&DestructionOrder { hsm_backups: " ".into(), ..order.clone() }, "clones and backups");
    refused(&DestructionOrder { volumes: vec!["DOOMED".into(), doomed.volume.to_string()], ..order.clone() }, "twice");
    refused(&DestructionOrder { volumes: Vec::new(), ..order.clone() }, "nothing is named");
    refused(&DestructionOrder { volumes: vec!["NONE".into()], ..order.clone() }, "no active volume");
    let keys = vec![Uuid::new_v4()];
    refused(&DestructionOrder { volumes: Vec::new(), keys, ..order.clone() }, "there is no key");
    authority.hold_volume(ME, "DOOMED", true, "inquiry 7").unwrap();
    assert!(authority.hold_volume(ME, "DOOMED", true, "again").is_err());
    assert_eq!(authority.holds().unwrap()[0].volume, doomed.volume);
    refused(&order, "inquiry 7");
    authority.hold_volume(ME, "DOOMED", false, "closed").unwrap();
    authority.set_volume_state(ME, "OTHER", VolumeState::Retired, "old").unwrap();
    authority.plan_destruction(&DestructionOrder { even_active: false, ..shred(&[&other]) }).unwrap();

    // Held after it was approved; another generation since; a rotation under way; an approval for something else.
    let asked = authority.ask_destruction(ME, &order, "why").unwrap();
    people.approve(&authority, asked.request);
    authority.hold_volume(ME, "DOOMED", true, "inquiry 8").unwrap();
    let refusal = authority.carry_out_destruction(root(), asked.request).unwrap_err();
    assert!(refusal.what.contains("inquiry 8"), "{refusal}");
    authority.hold_volume(ME, "DOOMED", false, "closed").unwrap();
    authority.rotate(ME, "yearly").unwrap();
    assert_eq!(authority.carry_out_destruction(root(), asked.request).unwrap_err().code, RefusalCode::Busy);
    while authority.work().unwrap() {}
    let refusal = authority.carry_out_destruction(root(), asked.request).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotApproved, "the rotation changed the plan: {refusal}");
    let asked = authority.ask_destruction(ME, &order, "why").unwrap();
    people.approve(&authority, asked.request);
    authority.create_generation(ME, UNIT, doomed.volume, 0, None).unwrap();
    assert_eq!(authority.carry_out_destruction(root(), asked.request).unwrap_err().code, RefusalCode::NotApproved);
    let asked = authority.ask_destruction(ME, &order, "why").unwrap();
    let swap = authority.ask_destruction(ME, &shred(&[&other]), "why").unwrap();
    people.approve(&authority, swap.request);
    for (to, from) in [("x".to_owned(), swap.request), (swap.request.to_string(), asked.request)] {
        let exchange = "UPDATE destructions SET request = ?1 WHERE request = ?2";
        assert_eq!(install.database().execute(exchange, [to, from.to_string()]).unwrap(), 1);
    }
    let refusal = authority.carry_out_destruction(root(), swap.request).unwrap_err();
    assert!(refusal.what.contains("approves something else"), "{refusal}");
    assert!(loads(&authority, &doomed));
    assert!(!authority.work().unwrap());
    // Nothing is left in the token of what was begun in vain: one catalogue key-encryption key for each that the catalogue has.
    let undone: Vec<Leaf> = authority.audit_show(None, 200).unwrap().iter().map(|l| Leaf::parse(l).unwrap()).collect();
    assert!(
        undone
            .iter()
            .any(|l| l.op == "kek.create" && l.reason.as_deref().is_some_and(|r| r.starts_with("destroyed again")))
    );
}

#[test]
fn how_long_a_volume_counts_as_in_use_is_its_pools_policy() {
    let install = Install::new();
    let authority = install.open();
    let _people = Custodians::register(&authority);
    secret_pool(&authority);
    let (old, new) = (tape(&authority, "OLD", "secret"), tape(&authority, "NEW", "secret"));
    let plan = |tape: &Tape| authority.plan_destruction(&DestructionOrder { even_active: false, ..shred(&[tape]) });
    let refused = |tape: &Tape, days: &str| {
        let refusal = plan(tape).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::VolumeState);
        assert!(refusal.what.contains(&format!("within the {days} days of pool secret")), "{refusal}");
    };
    let written = "UPDATE volumes SET written = strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-11 days') WHERE label = 'OLD'";
    assert_eq!(install.database().execute(written, []).unwrap(), 1);
    refused(&old, "30");
    let policy = authority.show_pool("secret").unwrap();
    assert_eq!(policy.life.in_use_days, 30);
    let with = |days| PoolPolicy { life: KeyLife { in_use_days: days, ..KeyLife::default() }, ..policy.clone() };
    for days in [0, 36_526, u32::MAX] {
        let refusal = authority.set_pool(ME, &with(days)).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::BadRequest);
        assert!(refusal.what.contains(&format!("in use of {days} days")), "{refusal}");
    }
    authority.set_pool(ME, &with(12)).unwrap();
    refused(&old, "12");
    let set = PoolPolicy { recovery_on_medium: false, ..with(10) };
    authority.set_pool(ME, &set).unwrap();
    assert_eq!(authority.show_pool("secret").unwrap(), set);
    plan(&old).unwrap();
    refused(&new, "10");
    // Somebody with the database makes it short.
    let short = "UPDATE pools SET life = '{\"in_use_days\":1}' WHERE name = 'secret'";
    assert_eq!(install.database().execute(short, []).unwrap(), 1);
    assert_eq!(plan(&new).unwrap_err().code, RefusalCode::Damaged);
}

#[test]
fn a_token_that_is_away_begins_nothing_and_one_that_goes_holds_up() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    secret_pool(&authority);
    let (doomed, kept) = (tape(&authority, "DOOMED", "secret"), tape(&authority, "KEPT", "secret"));
    let asked = authority.ask_destruction(ME, &shred(&[&doomed]), "why").unwrap();
    people.approve(&authority, asked.request);
    let (tokens, away) = (install.home.dir().join("tokens"), install.home.dir().join("tokens.away"));
    std::fs::rename(&tokens, &away).unwrap();
    assert!(authority.carry_out_destruction(root(), asked.request).is_err());
    std::fs::rename(&away, &tokens).unwrap();
    assert!(loads(&authority, &doomed));
    let begun = authority.carry_out_destruction(root(), asked.request).unwrap();
    std::fs::rename(&tokens, &away).unwrap();
    let refusal = authority.work().unwrap_err();
    let view = authority.destruction(begun.batch).unwrap();
    assert!(view.trouble.is_some_and(|t| t.contains(&refusal.what)));
    std::fs::rename(&away, &tokens).unwrap();
    let begun_again = Instant::now();
    while authority.destruction(begun.batch).unwrap().state != BatchState::Done {
        // The first calls after it is back may still fail: the work is done by trying again.
        let _ = authority.work();
        assert!(begun_again.elapsed() < Duration::from_secs(30));
    }
    assert!(loads(&authority, &kept) && !loads(&authority, &doomed));
}

#[test]
fn a_row_alone_destroys_nothing() {
    let install = Install::new();
    let authority = install.open();
    let _people = Custodians::register(&authority);
    secret_pool(&authority);
    let doomed = tape(&authority, "DOOMED", "secret");
    let asked = authority.ask_destruction(ME, &shred(&[&doomed]), "why").unwrap();
    drop(authority);
    // Somebody with the database, and not two approvals.
    for change in [
        "UPDATE destructions SET state = 'keks'",
        "UPDATE destructions SET begun_leaf = plan_leaf",
        "UPDATE destructions SET begun_leaf = plan_leaf + 1",
        "UPDATE destructions SET plan = replace(plan, 'none', 'many')",
    ] {
        install.database().execute(change, []).unwrap();
        let authority = install.open();
        assert_eq!(authority.work().unwrap_err().code, RefusalCode::Damaged, "{change}");
        assert!(loads(&authority, &doomed));
    }
    assert!(install.open().carry_out_destruction(root(), asked.request).is_err());
}

#[test]
fn a_changed_certificate_is_refused() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    secret_pool(&authority);
    let doomed = tape(&authority, "DOOMED", "secret");
    let done = carried_out(&authority, &people, &shred(&[&doomed]));
    let note = authority.certificate(done.request).unwrap();
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    assert!(verify(&note, &key).is_ok());
    for at in (0..note.len()).step_by(11) {
        let mut bytes = note.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(changed) = String::from_utf8(bytes) {
            assert!(verify(&changed, &key).is_err(), "byte {at}");
        }
    }
    // A checkpoint bears the same key's signature, and is no certificate; nor the other way round.
    let checkpoint = authority.checkpoint().unwrap().note;
    assert!(verify(&checkpoint, &key).is_err());
    assert!(key.open(&note).is_err());
    let other: VerifierKey = Install::new().report.log_key.parse().unwrap();
    assert!(verify(&note, &other).is_err());
}

const CHILD: &str = "SEALTAPE_DESTRUCTION_HOME";

/// As [`options`], with a folder of backups beside the home folder.
fn with_backups(home: &Path) -> AuthorityOptions {
    AuthorityOptions { backup_folder: Some(home.with_file_name("backups")), ..options() }
}

/// Not a test by itself: what [`killed_at_random`] starts and kills.
#[test]
fn child_that_destroys() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let authority = Authority::open(&Home::new(&home), with_backups(Path::new(&home))).unwrap();
    let newest = authority.destructions().unwrap().remove(0);
    authority.carry_out_destruction(root(), newest.request).unwrap();
    while authority.work().unwrap() {}
}

#[test]
fn killed_at_random() {
    let install = Install::new();
    let folder = install.dir.path().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let open = || Arc::new(Authority::open(&install.home, with_backups(install.home.dir())).unwrap());
    let authority = open();
    let people = Custodians::register(&authority);
    secret_pool(&authority);
    let kept: Vec<Tape> = (0..30).map(|n| tape(&authority, &format!("KEPT{n}"), "secret")).collect();
    let wanted = if std::env::var_os("SEALTAPE_LONG").is_some() { 60 } else { 20 };
    let (mut kills, mut within) = (0, 0);
    let (mut destroyed, mut newest, mut last) = (0, PathBuf::new(), None);
    let mut authority = Some(authority);
    let said = install.dir.path().join("said");
    while kills < wanted {
        let opened = authority.take().unwrap_or_else(open);
        let doomed = tape(&opened, &format!("DOOMED{kills}"), "secret");
        let blob = wrapped(&install, doomed.at);
        let asked = opened.ask_destruction(ME, &shred(&[&doomed]), "why").unwrap();
        people.approve(&opened, asked.request);
        drop(opened);
        loop {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "child_that_destroys", "--nocapture"])
                .env(CHILD, install.home.dir())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&said).unwrap())
                .spawn()
                .unwrap();
            let mut byte = [0u8; 1];
            getrandom::fill(&mut byte).unwrap();
            let (begun, wait) = (Instant::now(), Duration::from_millis(60 + u64::from(byte[0])));
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break status,
                    None if begun.elapsed() >= wait && kills < wanted => {
                        child.kill().unwrap();
                        break child.wait().unwrap();
                    }
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            if status.signal() != Some(9) {
                assert!(status.success(), "{status}: {}", std::fs::read_to_string(&said).unwrap());
                break;
            }
            kills += 1;
            let state: String = install
                .database()
                .query_row("SELECT state FROM destructions WHERE request = ?1", [asked.request.to_string()], |r| {
                    r.get(0)
                })
                .unwrap();
            within += usize::from(state != "asked" && state != "done");
            if kills % 4 == 0 {
                // Half way nothing is half: the key opens if nothing was begun, and never again once it was.
                let authority = open();
                assert_eq!(loads(&authority, &doomed), state == "asked", "{state}");
                assert!(kept.iter().all(|tape| loads(&authority, tape)), "{state}");
            }
        }
        let opened = open();
        let view = opened.destruction(asked.batch).unwrap();
        assert_eq!(view.state, BatchState::Done);
        assert!(!loads(&opened, &doomed) && kept.iter().all(|tape| loads(&opened, tape)));
        assert_eq!(checked_certificate(&install, &opened, &view).unreachable(), 0);
        assert!(held_by(install.home.dir(), &blob).is_empty());
        // One backup of each destruction, whole and entered, whatever was interrupted; nothing beside them.
        assert!(held_by(&folder, &blob).is_empty());
        let query = "SELECT place FROM backups ORDER BY leaf";
        let database = install.database();
        let mut places = database.prepare(query).unwrap();
        let places: Vec<String> = places.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
        destroyed += 1;
        assert_eq!((places.len(), std::fs::read_dir(&folder).unwrap().count()), (destroyed, destroyed), "{places:?}");
        newest = places.last().unwrap().into();
        assert!(newest.is_file() && view.backup.unwrap().ends_with(&*newest.to_string_lossy()));
        last = Some(doomed);
        authority = Some(opened);
    }
    drop(authority);
    let to = Home::new(install.dir.path().join("restored"));
    restore_home(&to, &newest, &RestoreToken::CopiedFrom(install.home.dir().to_owned()), options()).unwrap();
    let restored = Authority::open(&to, options()).unwrap();
    assert!(!loads(&restored, &last.unwrap()) && kept.iter().all(|tape| loads(&restored, tape)));
    assert!(within >= 3, "only {within} of {kills} kills came within the work");
    println!("{kills} kills, {within} of them between beginning and end");
}
