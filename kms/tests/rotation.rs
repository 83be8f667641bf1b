//! The catalogue's key-encryption key is replaced: every key is rewrapped and verified, whatever is killed, and work goes on meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sealtape_kms::authority::Authority;
use sealtape_kms::custody::{VerifierKey, verify_export};
use sealtape_kms::home::Home;
use sealtape_kms::offline;
use sealtape_kms::protocol::{Cartridge, GenerationRef, RefusalCode, RotationState, RotationView};
use sealtape_kms::secret::DataKey;
use support::install::{Install, ME, UNIT, labelled, options, order};
use support::worker;

fn work_off(authority: &Authority) -> RotationView {
    while authority.work().unwrap() {}
    authority.rotation().unwrap().unwrap()
}

/// A volume and `count` generations of it, of which the last is active.
fn many(authority: &Authority, label: &str, count: usize) -> Vec<(GenerationRef, DataKey)> {
    let (volume, at, key) = labelled(authority, label);
    let mut keys = vec![(at, key)];
    for _ in 1..count {
        let (generation, key) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
        keys.push((generation.at, key));
    }
    keys
}

fn all_load(authority: &Authority, keys: &[(GenerationRef, DataKey)]) {
    for (at, key) in keys {
        assert!(authority.load(ME, UNIT, *at).unwrap().1.ct_eq(key), "{at:?}");
    }
}

fn verified(install: &Install, authority: &Authority) -> String {
    let mut out = Vec::new();
    authority.audit_export(ME, &mut out).unwrap();
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    verify_export(&mut out.as_slice(), &key).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_key_comes_under_the_new_kek_and_the_old_one_wraps_no_more() {
    let install = Install::new();
    let authority = install.open();
    let mut keys = many(&authority, "A", 20);
    let begun = authority.rotate(ME, "yearly").unwrap();
    assert_eq!((begun.state, begun.total, begun.rewrapped), (RotationState::Rewrapping, 20, 0));
    assert!(authority.work().unwrap());
    let middle = authority.rotation().unwrap().unwrap();
    assert!(middle.rewrapped > 0 && middle.rewrapped < 20, "{middle:?}");
    // In the middle of it, what is loaded and labelled goes on; stopping and going on does no harm.
    all_load(&authority, &keys);
    keys.extend(many(&authority, "B", 2));
    authority.stop_rotation(ME, "lunch").unwrap();
    assert!(!authority.work().unwrap());
    assert_eq!(authority.stop_rotation(ME, "again").unwrap_err().code, RefusalCode::BadRequest);
    authority.rotate(ME, "after lunch").unwrap();
    let end = work_off(&authority);
    assert_eq!((end.state, end.total, end.rewrapped, end.verified), (RotationState::Done, 22, 22, 22));
    assert_eq!((end.old_kek, end.new_kek), (begun.old_kek, begun.new_kek));
    all_load(&authority, &keys);
    let text = verified(&install, &authority);
    assert_eq!(text.matches("\"op\":\"kek.rewrap\",\"outcome\":\"done\"").count(), 20);
    assert_eq!(text.matches("\"op\":\"kek.deactivate\",\"outcome\":\"done\"").count(), 1);
    drop(authority);
    let database = install.database();
    let state = |kek: uuid::Uuid| -> String {
        database.query_row("SELECT state FROM keks WHERE id = ?1", [kek.to_string()], |r| r.get(0)).unwrap()
    };
    assert_eq!((state(end.old_kek).as_str(), state(end.new_kek).as_str()), ("deactivated", "active"));
    // Nothing can be put under the old one any more, whoever tries.
    let put = "INSERT INTO generations SELECT volume, partition, 99, ?2, suite, compression, first_ordinal, 'pending', key_state,
               NULL, ?1, wrapped, created, created_leaf, NULL, NULL, NULL, NULL, NULL, NULL FROM generations LIMIT 1";
    let id = uuid::Uuid::new_v4().to_string();
    let refused = database.execute(put, [end.old_kek.to_string(), id]).unwrap_err();
    assert!(refused.to_string().contains("replaced"), "{refused}");
    drop(database);
    let authority = install.open();
    all_load(&authority, &keys);
    let again = authority.rotate(ME, "the year after").unwrap();
    assert_eq!(again.old_kek, end.new_kek);
    assert_eq!(work_off(&authority).rewrapped, 22);
    all_load(&authority, &keys);
}

#[test]
fn the_medium_alone_still_opens_after_a_rotation() {
    let install = Install::new();
    let authority = install.open();
    let ticket = authority.authorize_label(ME, &order("A")).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    let (generation, key) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.rotate(ME, "yearly").unwrap();
    assert_eq!(work_off(&authority).state, RotationState::Done);
    drop(authority);
    std::fs::remove_file(install.home.dir().join("catalogue.db")).unwrap();
    let uri = install.report.token_uri.parse().unwrap();
    let config = install.home.embedded_token(support::MODULE.as_ref(), uri, worker()).unwrap();
    assert!(offline::unwrap_stanza(config, &generation.stanzas[0], generation.at).unwrap().ct_eq(&key));
}

#[test]
fn a_damaged_copy_is_named_and_holds_the_end_only() {
    let install = Install::new();
    let authority = install.open();
    let keys = many(&authority, "A", 12);
    // A row changed under the running service: at a start it would be found before anything else. One whose row agrees with the
    // log, and whose KEK did not make it, is not to be had here.
    let database = install.database();
    let (bad, other) = (keys[3].0.key_id, keys[7].0.key_id);
    let before: Vec<u8> = database
        .query_row("SELECT wrapped FROM generations WHERE key_id = ?1", [bad.to_string()], |r| r.get(0))
        .unwrap();
    let swap = "UPDATE generations SET wrapped = (SELECT wrapped FROM generations WHERE key_id = ?2) WHERE key_id = ?1";
    database.execute(swap, [bad.to_string(), other.to_string()]).unwrap();
    drop(database);
    authority.rotate(ME, "yearly").unwrap();
    let held = work_off(&authority);
    assert_eq!((held.state, held.total, held.rewrapped), (RotationState::Held, 12, 11));
    let damaged: Vec<_> = held.damaged.iter().map(|d| (d.at.key_id, d.label.as_str())).collect();
    assert_eq!(damaged, [(bad, "A")]);
    for (at, key) in keys.iter().filter(|k| k.0.key_id != bad) {
        assert!(authority.load(ME, UNIT, *at).unwrap().1.ct_eq(key));
    }
    assert_eq!(authority.load(ME, UNIT, keys[3].0).unwrap_err().code, RefusalCode::TamperedBlob);
    let text = verified(&install, &authority);
    assert!(text.contains("stays in use") && text.contains(&bad.to_string()), "{text}");
    // Put right, it goes on to the end.
    drop(authority);
    let restore = "UPDATE generations SET wrapped = ?2 WHERE key_id = ?1";
    install.database().execute(restore, rusqlite::params![bad.to_string(), before]).unwrap();
    let authority = install.open();
    authority.rotate(ME, "mended").unwrap();
    assert_eq!(work_off(&authority).state, RotationState::Done);
    all_load(&authority, &keys);
}

#[test]
fn a_changed_rotation_is_not_carried_out() {
    let install = Install::new();
    let authority = install.open();
    many(&authority, "A", 3);
    authority.rotate(ME, "yearly").unwrap();
    drop(authority);
    // The keys shall be moved to the key-encryption key of media: it is in the token too.
    let medium = "UPDATE rotations SET new_kek = (SELECT id FROM keks WHERE purpose = 'medium')";
    assert_eq!(install.database().execute(medium, []).unwrap(), 1);
    let authority = install.open();
    assert_eq!(authority.work().unwrap_err().code, RefusalCode::Damaged);
}

const CHILD: &str = "SEALTAPE_ROTATION_HOME";

/// Not a test by itself: what [`killed_twenty_times`] starts and kills.
#[test]
fn child_that_rotates() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let authority = Authority::open(&Home::new(home), options()).unwrap();
    let done = authority.rotation().unwrap().is_some_and(|r| r.state == RotationState::Done);
    if !done {
        authority.rotate(ME, "killed").unwrap();
    }
    while authority.work().unwrap() {}
    assert_eq!(authority.rotation().unwrap().unwrap().state, RotationState::Done);
}

#[test]
fn killed_twenty_times() {
    let install = Install::new();
    let authority = install.open();
    let keys = many(&authority, "A", 250);
    drop(authority);
    let said = install.dir.path().join("said");
    let child = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_rotates", "--nocapture"])
            .env(CHILD, install.home.dir())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said).unwrap())
            .spawn()
            .unwrap()
    };
    let (mut kills, mut within, mut rotations) = (0, 0, 0);
    let mut limit = Duration::from_millis(60);
    while kills < 20 {
        let mut running = child();
        let begun = Instant::now();
        let mut byte = [0u8; 1];
        getrandom::fill(&mut byte).unwrap();
        let wait = limit + Duration::from_millis(u64::from(byte[0]) / 2);
        let status = loop {
            match running.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() >= wait => {
                    running.kill().unwrap();
                    break running.wait().unwrap();
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        if status.signal() != Some(9) {
            // It came to its end: that has to be a good one, and the next begins anew.
            assert!(status.success(), "{status}: {}", std::fs::read_to_string(&said).unwrap());
            let authority = install.open();
            all_load(&authority, &keys);
            authority.rotate(ME, "once more").unwrap();
            rotations += 1;
            limit = Duration::from_millis(60);
            continue;
        }
        kills += 1;
        let state: Option<(String, i64)> = install
            .database()
            .query_row(
                "SELECT state, (SELECT count(*) FROM generations WHERE kek = new_kek) FROM rotations ORDER BY leaf DESC LIMIT 1",
                [],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )
            .ok();
        match state {
            Some((state, moved)) if state != "done" && moved > 0 => within += 1,
            _ => limit += Duration::from_millis(20),
        }
    }
    assert!(within >= 5, "only {within} of {kills} kills came within the work");
    let authority = install.open();
    if authority.rotation().unwrap().unwrap().state != RotationState::Done {
        let end = work_off(&authority);
        assert_eq!((end.state, end.rewrapped, end.verified), (RotationState::Done, 250, 250));
    }
    all_load(&authority, &keys);
    verified(&install, &authority);
    println!("{kills} kills, {within} of them within the work, {} rotations", rotations + 1);
}

#[test]
fn labelling_and_loading_go_on_during_a_rotation() {
    let install = Install::new();
    let authority = install.open();
    let keys = many(&authority, "A", 100);
    let stop = AtomicBool::new(false);
    let (made, loads) = std::thread::scope(|scope| {
        let labelling = scope.spawn(|| {
            let mut made = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let (generation, key) = authority.create_generation(ME, UNIT, keys[0].0.volume, 0, None).unwrap();
                made.push((generation.at, key));
            }
            made
        });
        let loading = scope.spawn(|| {
            let mut loads = 0;
            for (at, key) in keys.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                assert!(authority.load(ME, UNIT, *at).unwrap().1.ct_eq(key));
                loads += 1;
            }
            loads
        });
        // Each rotation ends while keys are being made: none may be left under the old KEK.
        for round in 0..3 {
            authority.rotate(ME, "under load").unwrap();
            let begun = Instant::now();
            while authority.rotation().unwrap().unwrap().state != RotationState::Done {
                authority.work().unwrap();
                assert!(begun.elapsed() < Duration::from_secs(60), "round {round}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        (labelling.join().unwrap(), loading.join().unwrap())
    });
    assert!(made.len() > 3 && loads > 3, "{} made, {loads} loaded", made.len());
    all_load(&authority, &keys);
    all_load(&authority, &made);
    verified(&install, &authority);
}

#[test]
fn keys_per_second() {
    let count = if std::env::var_os("SEALTAPE_LONG").is_some() { 10_000 } else { 200 };
    let install = Install::new();
    let authority = install.open();
    let keys = many(&authority, "A", count);
    authority.rotate(ME, "yearly").unwrap();
    let begun = Instant::now();
    while authority.rotation().unwrap().unwrap().state == RotationState::Rewrapping {
        assert!(authority.work().unwrap());
    }
    let rewrapped = begun.elapsed();
    let end = work_off(&authority);
    let verified = begun.elapsed() - rewrapped;
    assert_eq!((end.state, end.rewrapped, end.verified), (RotationState::Done, count as u64, count as u64));
    let rate = |took: Duration| count as f64 / took.as_secs_f64();
    println!("{count} keys: {:.0} rewrapped a second, {:.0} verified a second", rate(rewrapped), rate(verified));
    all_load(&authority, &keys[count - 20..]);
}

#[test]
fn the_token_rewraps_tells_a_damaged_copy_in_its_place_and_destroys() {
    use sealtape_kms::hex::HexBytes;
    use sealtape_kms::pkcs11::{Canary, Rewrapped, TokenError, WrapMechanism, WrapWith, WrappedItem};
    let soft = support::SoftToken::new();
    let token = soft.token();
    let kek = |mechanism: WrapMechanism| {
        let with = WrapWith { kek: uuid::Uuid::new_v4(), mechanism, aad: HexBytes(b"canary".to_vec()) };
        token.make_kek(with.kek, "test", mechanism).unwrap();
        let blob = HexBytes(token.make_data_key(vec![with.clone()]).unwrap().1.remove(0));
        Canary { with, blob }
    };
    let keks = [WrapMechanism::AesKeyWrap, WrapMechanism::AesGcm, WrapMechanism::AesKeyWrap].map(kek);
    for (from, to) in [(0, 1), (1, 0), (0, 2), (1, 1)] {
        let (from, to) = (&keks[from], &keks[to]);
        let mut made: Vec<(WrappedItem, DataKey)> = (0..5u8)
            .map(|n| {
                let aad = HexBytes(vec![n; 20]);
                let with = WrapWith { aad: aad.clone(), ..from.with.clone() };
                let (key, mut blobs) = token.make_data_key(vec![with]).unwrap();
                (WrappedItem { aad, blob: HexBytes(blobs.remove(0)) }, key)
            })
            .collect();
        made[1].0.blob.0[20] ^= 1;
        made[3].0.blob.0.pop();
        let items: Vec<_> = made.iter().map(|(item, _)| item.clone()).collect();
        let opened = token.check_wrapped(from, items.clone()).unwrap();
        let copies = token.rewrap_all(from, to, items).unwrap();
        for (n, ((item, key), copy)) in made.iter().zip(&copies).enumerate() {
            let fine = n != 1 && n != 3;
            assert_eq!(opened[n] == Rewrapped::Opens, fine, "{:?}", opened[n]);
            match copy {
                Rewrapped::To(blob) if fine => {
                    let with = WrapWith { aad: item.aad.clone(), ..to.with.clone() };
                    assert!(token.unwrap(&with, &blob.0).unwrap().ct_eq(key));
                }
                Rewrapped::Damaged(_) if !fine => {}
                other => panic!("{n}: {other:?}"),
            }
        }
        let with = WrapWith { aad: HexBytes(vec![9]), ..to.with.clone() };
        let copy = token.wrap(&made[0].1, vec![with.clone()]).unwrap().remove(0);
        assert!(token.unwrap(&with, &copy).unwrap().ct_eq(&made[0].1));
    }
    assert!(token.destroy_kek(keks[0].with.kek).unwrap());
    assert!(!token.destroy_kek(keks[0].with.kek).unwrap());
    let gone = token.unwrap(&keks[0].with, &keks[0].blob.0).map(drop).unwrap_err();
    assert!(matches!(gone, TokenError::KeyNotFound { .. }), "{gone}");
    // With the KEK gone it is the KEK's fault, not the copies'.
    let item = WrappedItem { aad: keks[0].with.aad.clone(), blob: keks[0].blob.clone() };
    assert!(token.rewrap_all(&keks[0], &keks[1], vec![item]).is_err());
    token.unwrap(&keks[1].with, &keks[1].blob.0).unwrap();
}
