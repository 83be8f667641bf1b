//! A destruction makes the backup of the catalogue that takes the place of those it closes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sealtape_kms::authority::{Authority, AuthorityOptions};
use sealtape_kms::custody::certificate::{Certificate, verify};
use sealtape_kms::custody::{Leaf, Outcome, verify_export};
use sealtape_kms::home::Home;
use sealtape_kms::protocol::{
    BackupReply, BackupRequest, BackupState, BackupView, BatchState, BatchView, DestructionOrder, GenerationRef,
    RefusalCode,
};
use sealtape_kms::restore::{RestoreReport, RestoreToken, restore_home};
use support::custodians::{Custodians, root};
use support::install::{Install, ME, UNIT, labelled, options};

struct Site {
    install: Install,
    folder: PathBuf,
}

impl Site {
    fn new() -> Self {
        let install = Install::new();
        let folder = install.dir.path().join("usb");
        std::fs::create_dir(&folder).unwrap();
        Self { install, folder }
    }

    fn options(&self) -> AuthorityOptions {
        AuthorityOptions { backup_folder: Some(self.folder.clone()), ..options() }
    }

    fn open(&self) -> Arc<Authority> {
        Arc::new(Authority::open(&self.install.home, self.options()).unwrap())
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.folder).unwrap().map(|e| e.unwrap().path()).collect()
    }

    fn restore(&self, file: &Path, to: &Path) -> Result<RestoreReport, sealtape_kms::protocol::Refusal> {
        let token = RestoreToken::CopiedFrom(self.install.home.dir().to_owned());
        restore_home(&Home::new(to), file, &token, options())
    }

    fn wrapped(&self, at: GenerationRef) -> Vec<u8> {
        let query = "SELECT wrapped FROM generations WHERE key_id = ?1";
        self.install.database().query_row(query, [at.key_id.to_string()], |r| r.get(0)).unwrap()
    }
}

fn begun(authority: &Authority, people: &Custodians, at: GenerationRef) -> BatchView {
    let order = DestructionOrder {
        volumes: vec![at.volume.to_string()],
        keys: Vec::new(),
        even_active: true,
        hsm_backups: "none".into(),
    };
    let asked = authority.ask_destruction(ME, &order, "end of retention").unwrap();
    people.approve(authority, asked.request);
    authority.carry_out_destruction(root(), asked.request).unwrap()
}

fn done(authority: &Authority, people: &Custodians, at: GenerationRef) -> BatchView {
    let begun = begun(authority, people, at);
    while authority.work().unwrap() {}
    let view = authority.destruction(begun.batch).unwrap();
    assert_eq!(view.state, BatchState::Done, "{view:?}");
    view
}

fn certificate(authority: &Authority, view: &BatchView) -> Certificate {
    verify(&authority.certificate(view.batch).unwrap(), &authority.log_key()).unwrap()
}

fn backups(authority: &Authority) -> Vec<BackupView> {
    match authority.serve_backup(ME, BackupRequest::List).unwrap() {
        BackupReply::Backups(list) => list,
        other => panic!("{other:?}"),
    }
}

fn holds(file: &Path, bytes: &[u8]) -> bool {
    assert!(bytes.len() >= 32);
    std::fs::read(file).unwrap().windows(bytes.len()).any(|w| w == bytes)
}

fn entries(authority: &Authority, op: &str) -> Vec<Leaf> {
    let leaves = authority.audit_show(None, 500).unwrap();
    leaves.iter().map(|l| Leaf::parse(l).unwrap()).filter(|l| l.op == op).collect()
}

#[test]
fn the_new_backup_opens_what_is_left_and_no_backup_opens_what_was_destroyed() {
    let site = Site::new();
    let authority = site.open();
    let people = Custodians::register(&authority);
    let (_, first, _) = labelled(&authority, "FIRST");
    let (_, second, _) = labelled(&authority, "SECOND");
    let (_, kept, key) = labelled(&authority, "KEPT");
    let blobs = [site.wrapped(first), site.wrapped(second)];
    let old = done(&authority, &people, first);
    let [old_file] = site.files().try_into().unwrap();
    let second_blob = site.wrapped(second);
    assert!(!holds(&old_file, &blobs[0]) && holds(&old_file, &second_blob), "the search finds what is there");

    let new = done(&authority, &people, second);
    let [new_file] = site.files().into_iter().filter(|f| *f != old_file).collect::<Vec<_>>().try_into().unwrap();
    assert!([&blobs[0], &blobs[1], &second_blob].iter().all(|blob| !holds(&new_file, blob)));
    assert_eq!(std::fs::metadata(&new_file).unwrap().permissions().mode() & 0o777, 0o600);
    // It is entered, listed, and named by the certificate; the one before is closed.
    let list = backups(&authority);
    assert_eq!(list.iter().map(|b| b.state).collect::<Vec<_>>(), [BackupState::Exists, BackupState::Closed]);
    assert_eq!(list[0].place, new_file.display().to_string());
    assert_eq!(list[0].catalogue_keks.len(), 1, "the destroyed key-encryption key is not among those it needs");
    let leaf = Leaf::parse(&authority.audit_show(Some(list[0].entry), 1).unwrap()[0]).unwrap();
    assert_eq!((leaf.op.as_str(), leaf.outcome), ("backup.made", Outcome::Done));
    let named = certificate(&authority, &new).backup.unwrap();
    assert_eq!(leaf.reason.as_ref(), Some(&named));
    assert!(named.contains(&new.batch.to_string()) && named.contains(&list[0].place), "{named}");
    assert_eq!(new.backup.or(authority.destruction(new.batch).unwrap().backup), Some(named));
    assert!(certificate(&authority, &old).backup.unwrap().contains(&old_file.display().to_string()));
    assert_eq!(authority.status().unwrap().backup_lacking, None);
    let plan = authority.destruction(new.batch).unwrap().plan;
    assert!(plan.copies.iter().any(|c| c.place.contains(&old_file.display().to_string())), "{:?}", plan.copies);
    drop(authority);

    let to = site.install.dir.path();
    let refusal = site.restore(&old_file, &to.join("old")).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::KekMissing, "{refusal}");
    site.restore(&new_file, &to.join("new")).unwrap();
    // The backup was made within the destruction: the new machine brings that to its end, too, and puts its own backup elsewhere.
    let again = Authority::open(&Home::new(to.join("new")), site.options()).unwrap();
    let load = |at| again.load(ME, UNIT, at).map(|(_, key)| key);
    assert_eq!(again.destruction(new.batch).unwrap().state, BatchState::Backup);
    for done in [false, true] {
        assert!(load(first).is_err() && load(second).is_err() && load(kept).unwrap().ct_eq(&key), "{done}");
        while again.work().unwrap() {}
    }
    let view = again.destruction(new.batch).unwrap();
    assert_eq!(view.state, BatchState::Done);
    assert_eq!(site.files().len(), 3);
    let mut export = Vec::new();
    again.audit_export(ME, &mut export).unwrap();
    verify_export(&mut export.as_slice(), &again.log_key()).unwrap();
}

#[test]
fn a_folder_that_is_away_stops_nothing_is_told_and_tried_again() {
    let site = Site::new();
    let authority = site.open();
    let people = Custodians::register(&authority);
    let (_, doomed, _) = labelled(&authority, "DOOMED");
    let (_, kept, _) = labelled(&authority, "KEPT");
    let away = site.install.dir.path().join("away");
    std::fs::rename(&site.folder, &away).unwrap();
    let view = done(&authority, &people, doomed);
    let told = certificate(&authority, &view).backup.unwrap();
    assert!(told.starts_with("none yet") && told.contains(&site.folder.display().to_string()), "{told}");
    let lacking = authority.status().unwrap().backup_lacking.unwrap();
    assert_eq!((lacking.batch, lacking.folder), (view.batch, Some(site.folder.display().to_string())));
    assert!(lacking.trouble.unwrap().contains("No such file"));
    let failed = entries(&authority, "backup.made");
    assert_eq!((failed.len(), failed[0].outcome), (1, Outcome::Failed));
    assert!(!site.folder.exists(), "a mount point is not made");
    drop(authority);

    // Not a folder; then back, at the next start.
    std::fs::write(&site.folder, "x").unwrap();
    let authority = site.open();
    while authority.work().unwrap() {}
    assert!(authority.status().unwrap().backup_lacking.unwrap().trouble.unwrap().contains("is no folder"));
    drop(authority);
    std::fs::remove_file(&site.folder).unwrap();
    std::fs::rename(&away, &site.folder).unwrap();
    let authority = site.open();
    while authority.work().unwrap() {}
    assert_eq!(authority.status().unwrap().backup_lacking, None);
    let [file] = site.files().try_into().unwrap();
    assert!(authority.destruction(view.batch).unwrap().backup.unwrap().contains(&file.display().to_string()));
    assert_eq!(entries(&authority, "backup.made").len(), 2, "failures are entered once");
    // What is signed stays.
    assert_eq!(certificate(&authority, &view).backup.unwrap(), told);
    drop(authority);
    let to = site.install.dir.path().join("to");
    site.restore(&file, &to).unwrap();
    let again = Authority::open(&Home::new(to), options()).unwrap();
    assert!(again.load(ME, UNIT, kept).is_ok() && again.load(ME, UNIT, doomed).is_err());
}

#[test]
fn a_folder_that_is_back_before_the_certificate_is_named_by_it() {
    let site = Site::new();
    let authority = site.open();
    let people = Custodians::register(&authority);
    let (_, doomed, _) = labelled(&authority, "DOOMED");
    let away = site.install.dir.path().join("away");
    std::fs::rename(&site.folder, &away).unwrap();
    let begun = begun(&authority, &people, doomed);
    while authority.destruction(begun.batch).unwrap().state != BatchState::Keks {
        authority.work().unwrap();
    }
    std::fs::rename(&away, &site.folder).unwrap();
    while authority.work().unwrap() {}
    let view = authority.destruction(begun.batch).unwrap();
    let [file] = site.files().try_into().unwrap();
    assert!(certificate(&authority, &view).backup.unwrap().contains(&file.display().to_string()));
}

#[test]
fn without_a_folder_the_certificate_says_none_and_the_status_that_one_is_lacking() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    let (_, doomed, _) = labelled(&authority, "DOOMED");
    assert_eq!(authority.status().unwrap().backup_lacking, None, "nothing was destroyed yet");
    let view = done(&authority, &people, doomed);
    let certificate = certificate(&authority, &view);
    assert_eq!(certificate.backup, None);
    assert!(certificate.words().contains("made afterwards: none"));
    let lacking = authority.status().unwrap().backup_lacking.unwrap();
    assert_eq!((lacking.batch, lacking.folder, lacking.trouble), (view.batch, None, None));
    // One that an operator makes will do.
    let made = authority.serve_backup(ME, BackupRequest::Make { place: "safe 3".into() }).unwrap();
    assert!(matches!(made, BackupReply::Made(_)));
    assert_eq!(authority.status().unwrap().backup_lacking, None);
}

#[test]
fn a_row_alone_is_no_backup() {
    let site = Site::new();
    let authority = site.open();
    let people = Custodians::register(&authority);
    let (_, doomed, _) = labelled(&authority, "DOOMED");
    let begun = begun(&authority, &people, doomed);
    while authority.destruction(begun.batch).unwrap().state != BatchState::Certifying {
        authority.work().unwrap();
    }
    // Somebody with the database points to another entry.
    assert_eq!(site.install.database().execute("UPDATE backups SET leaf = leaf + 1", []).unwrap(), 1);
    assert_eq!(authority.work().unwrap_err().code, RefusalCode::Damaged);
}
