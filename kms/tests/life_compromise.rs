//! Compromise, renewal and the watch over ended releases, on real SoftHSM2.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sealtape_kms::client::{ControlClient, DataPathClient};
use sealtape_kms::protocol::{
    CONTROL_SOCKET, KEYS_SOCKET, KeyFilter, KeyLife, KeyState, KeysReply, KeysRequest, PoolPolicy, RefusalCode, Rights,
    VolumeState,
};
use sealtape_kms::server::{Server, ServerConfig};
use support::install::{Install, ME, UNIT, labelled};

#[test]
fn a_compromised_key_is_released_no_more() {
    let install = Install::new();
    let authority = install.open();
    let (volume, at, _) = labelled(&authority, "MON001");
    let (_, other, _) = labelled(&authority, "MON002");
    let report = authority.compromise(ME, &at.key_id.to_string(), "seen on a laptop").unwrap();
    assert_eq!((report.kind.as_str(), report.keys, report.volumes, report.ended), ("key", 1, 1, 1));
    for refusal in [authority.load(ME, UNIT, at).map(drop).unwrap_err(), authority.renew(ME, UNIT, at).unwrap_err()] {
        assert_eq!(refusal.code, RefusalCode::KeyEnded, "{refusal}");
        assert!(refusal.what.contains("MON001") && refusal.what.contains("compromised"), "{refusal}");
    }
    let (to, keys) = authority.ended_after(0).unwrap();
    assert_eq!(keys.iter().map(|k| (k.volume, k.key_id)).collect::<Vec<_>>(), [(volume.volume, at.key_id)]);
    assert!(keys[0].reason.contains("seen on a laptop"));
    assert_eq!(to, 1);
    // Once is enough; a second time is named.
    let refusal = authority.compromise(ME, &at.key_id.to_string(), "again").unwrap_err();
    assert_eq!(refusal.code, RefusalCode::KeyEnded, "{refusal}");
    authority.load(ME, UNIT, other).unwrap();
    // What is to be written anew, until it is.
    let listed = authority.list_keys(&KeyFilter::Compromised, None, 10).unwrap();
    assert_eq!((listed.len(), listed[0].label.as_str(), listed[0].rights), (1, "MON001", None));
    assert_eq!(listed[0].compromised.as_ref().unwrap().reason, "seen on a laptop");
    assert_eq!(authority.key_life_summary().unwrap().compromised_volumes, 1);
    let (next, _) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, next.at, sealtape_kms::hex::Hex([9; 32])).unwrap();
    assert!(authority.list_keys(&KeyFilter::Compromised, None, 10).unwrap().is_empty());
    authority.load(ME, UNIT, next.at).unwrap();
    // A volume by its label; the generation before it is one of its keys too, and was marked.
    let report = authority.compromise(ME, "MON001", "the cartridge was away").unwrap();
    assert_eq!((report.kind.as_str(), report.keys, report.ended), ("volume", 1, 1));
    let refusal = authority.compromise(ME, "nobody", "x").unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownVolume);
    assert_eq!(authority.compromise(ME, "MON002", " ").unwrap_err().code, RefusalCode::BadRequest);
}

#[test]
fn a_compromised_kek_marks_every_volume_under_it() {
    let install = Install::new();
    let authority = install.open();
    let made: Vec<_> = ["A", "B", "C"].map(|label| labelled(&authority, label)).into_iter().collect();
    let medium = authority.list_keks().unwrap().into_iter().find(|k| k.purpose == "medium").unwrap();
    let report = authority.compromise(ME, &medium.id.to_string(), "the HSM's backup was lost").unwrap();
    assert_eq!((report.kind.as_str(), report.keys, report.volumes, report.ended), ("kek", 3, 3, 3));
    for (_, at, _) in &made {
        assert_eq!(authority.load(ME, UNIT, *at).unwrap_err().code, RefusalCode::KeyEnded);
    }
    let page = authority.list_keys(&KeyFilter::Compromised, None, 2).unwrap();
    let rest = authority.list_keys(&KeyFilter::Compromised, Some(page[1].at.key_id), 2).unwrap();
    assert_eq!((page.len(), rest.len()), (2, 1));
    assert!(page.iter().chain(&rest).all(|k| k.key_state == KeyState::Compromised));
    // New keys come under a new one.
    let (next, _) = authority.create_generation(ME, UNIT, made[0].0.volume, 0, None).unwrap();
    assert_ne!(next.stanzas[0].body.0[..16], *medium.id.as_bytes());
    // Without a catalogue key-encryption key there are no new ones, and nothing was begun.
    let catalogue = authority.list_keks().unwrap().into_iter().find(|k| k.purpose == "catalogue").unwrap();
    let report = authority.compromise(ME, &catalogue.id.to_string(), "and so was this").unwrap();
    assert_eq!((report.keys, report.ended), (1, 1));
    let refusal = authority.create_generation(ME, UNIT, made[1].0.volume, 0, None).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::KeyEnded, "{refusal}");
    assert_eq!(authority.compromise(ME, &catalogue.id.to_string(), "x").unwrap_err().code, RefusalCode::KeyEnded);
}

#[test]
fn renewal_is_entered_and_ends_with_the_rights() {
    let install = Install::new();
    let authority = install.open();
    let life = KeyLife { longest_release: Some(900), ..KeyLife::default() };
    authority.set_pool(ME, &PoolPolicy { life, ..authority.show_pool("default").unwrap() }).unwrap();
    let (volume, at, _) = labelled(&authority, "MON001");
    let before = authority.status().unwrap().log_size;
    assert_eq!(authority.renew(ME, UNIT, at).unwrap(), (Some(900), Rights::SealAndOpen));
    let leaves = authority.audit_show(Some(before), 9).unwrap();
    assert_eq!(leaves.len(), 1);
    assert!(leaves[0].contains("\"op\":\"key.renew\"") && leaves[0].contains(&at.key_id.to_string()), "{}", leaves[0]);
    authority.set_volume_state(ME, "MON001", VolumeState::Retired, "spare").unwrap();
    assert_eq!(authority.renew(ME, UNIT, at).unwrap_err().code, RefusalCode::VolumeState);
    let refused = authority.audit_show(None, 1).unwrap();
    assert!(refused[0].contains("\"outcome\":\"refused\""), "{}", refused[0]);
    authority.set_volume_state(ME, &volume.volume.to_string(), VolumeState::Active, "back").unwrap();
    authority.renew(ME, UNIT, at).unwrap();
}

#[test]
fn a_watch_hears_of_an_end_at_once_and_of_the_stop() {
    let install = Install::new();
    let authority = install.open();
    let (volume, at, _) = labelled(&authority, "MON001");
    let run = install.dir.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let server = Server::start(Arc::clone(&authority), ServerConfig::new(&run)).unwrap();
    let limit = Duration::from_secs(40);
    let watch = DataPathClient::new(run.join(KEYS_SOCKET), UNIT, limit);
    let waiting = std::thread::spawn(move || {
        let first = watch.watch(0).unwrap();
        let heard = Instant::now();
        // The list goes on behind what was heard, and a number that was never given begins it anew.
        assert_eq!(watch.watch(first.0 + 7).unwrap(), first);
        let second = watch.watch(first.0);
        (first, heard, second, Instant::now())
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished());
    let control = ControlClient::new(run.join(CONTROL_SOCKET), limit);
    let told = Instant::now();
    let request = KeysRequest::Compromise { target: "MON001".into(), reason: "lost".into() };
    assert!(matches!(control.keys(request).unwrap(), KeysReply::Compromised(r) if r.ended == 1));
    std::thread::sleep(Duration::from_millis(300));
    let stopped = Instant::now();
    server.stop().unwrap();
    let ((to, keys), heard, second, ended) = waiting.join().unwrap();
    assert_eq!((to, keys.len(), keys[0].volume, keys[0].key_id), (1, 1, volume.volume, at.key_id));
    assert!(heard.duration_since(told) < Duration::from_millis(900), "{:?}", heard.duration_since(told));
    assert!(ended.duration_since(stopped) < Duration::from_secs(2), "a stop waits for nobody who watches");
    assert!(second.is_err() || second.unwrap().1.is_empty());
}

#[test]
fn those_who_wait_are_bounded() {
    let install = Install::new();
    let authority = install.open();
    let refused = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..33).map(|_| scope.spawn(|| authority.ended_after(0))).collect();
        std::thread::sleep(Duration::from_millis(300));
        authority.wake_watchers();
        threads.into_iter().filter_map(|t| t.join().unwrap().err()).collect::<Vec<_>>()
    });
    assert_eq!(refused.iter().map(|r| r.code).collect::<Vec<_>>(), [RefusalCode::Busy]);
}
