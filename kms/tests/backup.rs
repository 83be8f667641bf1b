//! Backups of the catalogue while it is in use, restoring them with the token alone, and a catalogue of an earlier version.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use sealtape_kms::authority::Authority;
use sealtape_kms::custody::{Leaf, VerifierKey, verify_export};
use sealtape_kms::hex::Hex;
use sealtape_kms::home::Home;
use sealtape_kms::protocol::{
    BackupReply, BackupRequest, BackupState, Cartridge, GenerationRef, RefusalCode, SyncPoint, VolumeQuery,
};
use sealtape_kms::restore::{GAP, RestoreReport, RestoreToken, restore_home};
use support::install::{Install, ME, UNIT, backup, labelled, options, order, session};

fn restore(from: &Install, file: &Path, to: &Path) -> Result<RestoreReport, sealtape_kms::protocol::Refusal> {
    let token = RestoreToken::CopiedFrom(from.home.dir().to_owned());
    restore_home(&Home::new(to), file, &token, options())
}

fn next(authority: &Authority, at: GenerationRef) -> (u32, u32) {
    let (generation, _) = authority.create_generation(ME, UNIT, at.volume, 0, None).unwrap();
    (generation.at.generation, generation.first_ordinal)
}

#[test]
fn a_backup_comes_back_on_an_empty_machine_under_a_new_origin() {
    let install = Install::new();
    let authority = install.open();
    let (_, at, key) = labelled(&authority, "ONE001");
    let ordinal = authority.open_session(ME, UNIT, at, &session(0)).unwrap();
    authority.record_sync(ME, UNIT, at, &SyncPoint { ordinal, end_object: 0, end_filemarks: 0, last: None }).ok();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    let head = backup(&authority, &file);
    let leaf = Leaf::parse(&authority.audit_show(None, 1).unwrap()[0]).unwrap();
    assert_eq!((leaf.op.as_str(), leaf.digest), ("backup.made", Some(Hex(head.manifest.digest().unwrap()))));
    // What happens behind the backup is lost with the machine; its numbers are not given again.
    let lost = next(&authority, at);
    let old_key = authority.log_key().clone();
    drop(authority);

    let to = dir.path().join("restored");
    let report = restore(&install, &file, &to).unwrap();
    assert_eq!(report.former_origin, old_key.name());
    assert_ne!(report.origin, report.former_origin);
    assert!(report.missing_keks.is_empty());
    // The former log, by the former key; the present one, by the present key.
    let mut former = std::io::BufReader::new(std::fs::File::open(&report.former_log).unwrap());
    assert_eq!(verify_export(&mut former, &old_key).unwrap().size, report.former_size);
    let home = Home::new(&to);
    let authority = Authority::open(&home, options()).unwrap();
    let key_file = std::fs::read_to_string(home.log_key_file()).unwrap();
    assert_eq!(key_file.parse::<VerifierKey>().unwrap(), authority.log_key());
    let mut out = Vec::new();
    authority.audit_export(ME, &mut out).unwrap();
    verify_export(&mut out.as_slice(), &authority.log_key()).unwrap();
    let text = String::from_utf8(out).unwrap();
    let opened: Vec<Leaf> = text.lines().filter_map(|l| Leaf::parse(l).ok()).filter(|l| l.op == "log.open").collect();
    assert_eq!(opened.len(), 2);
    assert_eq!(opened[1].reason.as_deref(), Some(report.origin.as_str()));
    assert!(opened[1].digest.is_some(), "it cites the last known checkpoint");
    // Everything works: labels load, keys are the same, and new numbers are beyond all that were given.
    let (loaded, again) = authority.load(ME, UNIT, at).unwrap();
    assert!(again.ct_eq(&key));
    assert_eq!(loaded.at, at);
    assert!(authority.open_session(ME, UNIT, at, &session(0)).unwrap() > GAP);
    let (generation, ordinal) = next(&authority, at);
    assert!(generation > GAP && ordinal > GAP && generation > lost.0, "{generation} {ordinal} {lost:?}");
    labelled(&authority, "TWO001");
    // And once more from there.
    let second = dir.path().join("second");
    backup(&authority, &second);
    drop(authority);
    let again = Install { home, ..install };
    let third = dir.path().join("third");
    let report = restore(&again, &second, &third).unwrap();
    assert!(Authority::open(&Home::new(&third), options()).unwrap().load(ME, UNIT, at).is_ok(), "{report:?}");
}

/// The former log is verified by its first key, through the changes to those that came later.
#[test]
fn a_backup_from_after_a_change_of_the_log_s_key_comes_back() {
    let install = Install::new();
    let authority = install.open();
    let first = authority.log_key();
    let (_, at, key) = labelled(&authority, "ONE001");
    let keys = authority.rotate_log_key(ME, "yearly").unwrap();
    labelled(&authority, "TWO001");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    let head = backup(&authority, &file);
    assert_eq!(head.manifest.log_key, keys[1]);
    drop(authority);
    let to = dir.path().join("restored");
    let report = restore(&install, &file, &to).unwrap();
    let former = std::fs::read(&report.former_log).unwrap();
    let verified = verify_export(&mut former.as_slice(), &first).unwrap();
    assert_eq!((verified.size, verified.keys), (report.former_size, keys));
    let authority = Authority::open(&Home::new(&to), options()).unwrap();
    assert!(authority.load(ME, UNIT, at).unwrap().1.ct_eq(&key));
    // The new log has a key of its own, which changes like any other.
    let old = authority.log_key();
    authority.rotate_log_key(ME, "after the restore").unwrap();
    let mut out = Vec::new();
    authority.audit_export(ME, &mut out).unwrap();
    assert_eq!(verify_export(&mut out.as_slice(), &old).unwrap().keys.len(), 2);
}

#[test]
fn what_is_no_backup_of_this_installation_is_refused_and_leaves_nothing() {
    let (install, other) = (Install::new(), Install::new());
    let authority = install.open();
    labelled(&authority, "ONE001");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    backup(&authority, &file);
    let good = std::fs::read(&file).unwrap();
    let line = good.iter().position(|b| *b == b'\n').unwrap();
    let written = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut flipped = good.clone();
    flipped[line + 5000] ^= 1;
    let mut edited = good.clone();
    let at = good.windows(9).position(|w| w == b"\"created\"").unwrap() + 12;
    edited[at] = b'3';
    for (file, what) in [
        (written("flipped", &flipped), "or others than were signed"),
        (written("cut", &good[..good.len() - 100]), "or others than were signed"),
        (written("longer", &[good.as_slice(), b"x"].concat()), "or others than were signed"),
        (written("edited", &edited), "not the one that was signed"),
        (written("nonsense", b"nonsense\n"), "is no whole backup"),
        (dir.path().join("missing"), "missing"),
    ] {
        let refusal = restore(&install, &file, &dir.path().join("to")).unwrap_err();
        assert!(refusal.what.contains(what), "{refusal}");
        let _ = std::fs::remove_dir_all(dir.path().join("to"));
    }
    // Another installation's token; no token; a folder that is in use.
    let refusal = restore(&other, &file, &dir.path().join("to2")).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TokenMissing, "{refusal}");
    let to = Home::new(dir.path().join("to3"));
    let refusal = restore_home(&to, &file, &RestoreToken::AsBefore, options()).unwrap_err();
    assert!(refusal.what.contains("embedded token"), "{refusal}");
    let refusal = restore(&install, &file, other.home.dir()).unwrap_err();
    assert!(refusal.what.contains("is not empty"), "{refusal}");
    assert!(other.open().list_volumes(&VolumeQuery { count: 1000, ..Default::default() }).unwrap().volumes.is_empty());
}

/// As after a destruction: the catalogue's key-encryption key is gone from the token.
#[test]
fn a_backup_whose_key_is_destroyed_is_named() {
    let install = Install::new();
    let authority = install.open();
    labelled(&authority, "ONE001");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    let head = backup(&authority, &file);
    let kek = head.manifest.catalogue_keks[0];
    assert!(authority.token().destroy_kek(kek).unwrap());
    drop(authority);
    let refusal = restore(&install, &file, &dir.path().join("to")).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::KekMissing);
    assert!(refusal.what.contains(&kek.to_string()) && refusal.what.contains("destroyed"), "{refusal}");
    assert!(!dir.path().join("to/catalogue.db").exists());
}

#[test]
fn backups_are_listed_and_their_end_is_reported() {
    let install = Install::new();
    let authority = install.open();
    let dir = tempfile::tempdir().unwrap();
    let head = backup(&authority, &dir.path().join("backup"));
    let list = || match authority.serve_backup(ME, BackupRequest::List).unwrap() {
        BackupReply::Backups(list) => list,
        other => panic!("{other:?}"),
    };
    assert_eq!((list()[0].backup, list()[0].state), (head.manifest.backup, BackupState::Exists));
    let report = |backup| BackupRequest::Destroyed { backup, reason: "burnt".into() };
    authority.serve_backup(ME, report(head.manifest.backup)).unwrap();
    assert_eq!(list()[0].state, BackupState::ReportedDestroyed);
    assert!(authority.serve_backup(ME, report(head.manifest.backup)).is_err());
    // The copy that was fetched is gone.
    let read = BackupRequest::Read { backup: head.manifest.backup, offset: 0 };
    assert!(authority.serve_backup(ME, read).is_err());
    let left: Vec<_> = std::fs::read_dir(install.home.dir())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with("backup-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A state folder as the released catalogue version 2 left it, its token included.
#[test]
fn a_catalogue_of_version_2_is_migrated_and_its_keys_load() {
    let dir = tempfile::tempdir().unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/home-v2.tar.gz");
    let unpacked = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).status().unwrap();
    assert!(unpacked.success());
    let home = dir.path().join("home-v2");
    let chmod = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    chmod(&home, 0o700);
    let version: u32 = rusqlite::Connection::open(home.join("catalogue.db"))
        .unwrap()
        .query_row("PRAGMA user_version", [], |r| r.get(0))
        .unwrap();
    assert_eq!(version, 2);
    let authority = Authority::open(&Home::new(&home), options()).unwrap();
    let volumes = authority.list_volumes(&VolumeQuery { count: 1000, ..Default::default() }).unwrap().volumes;
    assert_eq!(volumes.iter().map(|v| v.label.as_str()).collect::<Vec<_>>(), ["A", "B"]);
    for volume in volumes {
        let view = authority.show_volume(&volume.volume.to_string()).unwrap();
        let active = view.partitions[0].active().unwrap();
        let at =
            GenerationRef { volume: volume.volume, partition: 0, generation: active.generation, key_id: active.key_id };
        authority.load(ME, UNIT, at).unwrap();
    }
    // And it goes on: a new volume, and a backup of the whole.
    let ticket = authority.authorize_label(ME, &order("C")).unwrap();
    let new = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    authority.create_generation(ME, UNIT, new.volume, 0, None).unwrap();
    backup(&authority, &dir.path().join("backup"));
    let mut out = Vec::new();
    authority.audit_export(ME, &mut out).unwrap();
    verify_export(&mut out.as_slice(), &authority.log_key()).unwrap();
}
