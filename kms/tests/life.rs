//! The life of volumes, keys and sessions in a whole installation on real SoftHSM2.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use sealtape_kms::authority::{Actor, Authority};
use sealtape_kms::custody::{VerifierKey, verify_export};
use sealtape_kms::hex::Hex;
use sealtape_kms::home::{InitOptions, init_home, init_home_signed};
use sealtape_kms::offline;
use sealtape_kms::protocol::{
    Cartridge, GenerationRef, GenerationState, KeyState, LastRecord, PoolPolicy, RefusalCode, Rights, SyncPoint,
    VolumeState,
};
use support::install::{Install, ME, UNIT, labelled, options, order, session};
use support::worker;
use uuid::Uuid;

fn export(authority: &Authority) -> String {
    let mut out = Vec::new();
    authority.audit_export(ME, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_tape_from_label_to_load_over_a_restart() {
    let install = Install::new();
    let authority = install.open();
    let (volume, at, key) = labelled(&authority, "MON001");
    assert_eq!(at.generation, 1);
    let ordinal = authority.open_session(ME, UNIT, at, &session(0)).unwrap();
    assert_eq!(ordinal, 1);
    let last = Some(LastRecord { object: 8, tag: Hex([3; 16]) });
    let end = SyncPoint { ordinal, end_object: 10, end_filemarks: 1, last };
    authority.record_sync(ME, UNIT, at, &end).unwrap();
    authority.returned(ME, UNIT, volume.volume).unwrap();
    authority.shut_down().unwrap();
    drop(authority);

    let authority = install.open();
    let view = authority.lookup(ME, UNIT, volume.volume).unwrap();
    assert_eq!(view.state, VolumeState::Active);
    assert_eq!(view.partitions[0].active().unwrap().key_id, at.key_id);
    let (loaded, again) = authority.load(ME, UNIT, at).unwrap();
    assert!(again.ct_eq(&key));
    assert_eq!(loaded.rights, Rights::SealAndOpen);
    assert_eq!(loaded.commitment, Some(Hex([7; 32])));
    assert_eq!(loaded.sessions.len(), 1);
    assert!(loaded.sessions[0].confirmed);
    assert_eq!(loaded.end, Some(end));
    // Ordinals go on, over a restart and over generations.
    assert_eq!(authority.open_session(ME, UNIT, at, &session(10)).unwrap(), 2);
    // Nothing of the second session is there yet: a synchronisation tells so, and a later one that it is.
    authority.record_sync(ME, UNIT, at, &end).unwrap();
    assert_eq!(authority.load(ME, UNIT, at).unwrap().0.sessions.len(), 1);
    let later = SyncPoint { ordinal: 2, end_object: 12, ..end };
    authority.record_sync(ME, UNIT, at, &later).unwrap();
    assert_eq!(authority.load(ME, UNIT, at).unwrap().0.sessions.len(), 2);
    // A session before the end takes the known end away.
    authority.open_session(ME, UNIT, at, &session(5)).unwrap();
    assert_eq!(authority.load(ME, UNIT, at).unwrap().0.end, None);
    for impossible in [
        SyncPoint { ordinal: 9, ..end },
        SyncPoint { ordinal: 0, ..end },
        SyncPoint { end_filemarks: 11, ..end },
        SyncPoint { end_object: 8, ..end },
        SyncPoint { last: None, ..end },
    ] {
        assert_eq!(authority.record_sync(ME, UNIT, at, &impossible).unwrap_err().code, RefusalCode::BadRequest);
    }
    let (next, next_key) = authority.create_generation(ME, UNIT, volume.volume, 0, Some(2)).unwrap();
    assert_eq!((next.at.generation, next.first_ordinal, next.suite), (2, 4, 2));
    assert!(!next_key.ct_eq(&key));
    // Pending: both can be loaded, only the active one can be written.
    assert_eq!(authority.load(ME, UNIT, next.at).unwrap().0.state, GenerationState::Pending);
    authority.load(ME, UNIT, at).unwrap();
    assert_eq!(authority.open_session(ME, UNIT, next.at, &session(0)).unwrap_err().code, RefusalCode::VolumeState);
    let (third, _) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, third.at, Hex([8; 32])).unwrap();
    authority.activate_generation(ME, UNIT, third.at, Hex([8; 32])).unwrap();
    for old in [at, next.at] {
        assert_eq!(authority.load(ME, UNIT, old).unwrap_err().code, RefusalCode::Superseded);
        assert_eq!(
            authority.activate_generation(ME, UNIT, old, Hex([7; 32])).unwrap_err().code,
            RefusalCode::Superseded
        );
    }
    let view = authority.lookup(ME, UNIT, volume.volume).unwrap();
    let states: Vec<_> = view.partitions[0].generations.iter().map(|g| (g.generation, g.state, g.key_state)).collect();
    assert_eq!(
        states,
        [
            (3, GenerationState::Active, KeyState::Active),
            (2, GenerationState::Abandoned, KeyState::PreActive),
            (1, GenerationState::Superseded, KeyState::Deactivated),
        ]
    );
    let text = export(&authority);
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    let verified = verify_export(&mut text.as_bytes(), &key).unwrap();
    assert_eq!(verified.size + 1 + verified.checkpoints, text.lines().count() as u64);
    for (name, op) in [("release", "key.release"), ("create", "key.create"), ("stop", "service.stop")] {
        assert!(text.contains(op), "{name}");
    }
    assert!(text.contains("\"outcome\":\"intent\""));
}

#[test]
fn every_stanza_gives_the_key_with_the_token_alone() {
    let install = Install::new();
    let authority = install.open();
    let ticket = authority.authorize_label(ME, &order("A")).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    let (generation, key) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    assert_eq!(generation.stanzas.len(), 1);
    assert_eq!((generation.stanzas[0].kind, generation.stanzas[0].body.0.len()), (1, 56));
    drop(authority);
    std::fs::remove_file(install.home.dir().join("catalogue.db")).unwrap();
    let uri = install.report.token_uri.parse().unwrap();
    let config = install.home.embedded_token(support::MODULE.as_ref(), uri, worker()).unwrap();
    let opened = offline::unwrap_stanza(config.clone(), &generation.stanzas[0], generation.at).unwrap();
    assert!(opened.ct_eq(&key));
    for at in [0, 15, 16, 40, 55] {
        let mut bad = generation.stanzas[0].clone();
        bad.body.0[at] ^= 1;
        offline::unwrap_stanza(config.clone(), &bad, generation.at).expect_err("a damaged stanza");
    }
    let mut unknown = generation.stanzas[0].clone();
    unknown.kind = 77;
    let both = [unknown.clone(), generation.stanzas[0].clone()];
    assert!(offline::unwrap_any(config.clone(), &both, generation.at).unwrap().ct_eq(&key));
    assert!(matches!(offline::unwrap_any(config, &[unknown], generation.at), Err(offline::OfflineError::NoStanza)));
}

#[test]
fn labelling_keeps_its_rules() {
    let install = Install::new();
    let authority = install.open();
    let code = |r: Result<_, sealtape_kms::protocol::Refusal>| r.map(|_: ()| ()).unwrap_err().code;
    let (first, at, _) = labelled(&authority, "A");
    assert_eq!(code(authority.authorize_label(ME, &order("A")).map(drop)), RefusalCode::LabelInUse);
    // A ticket is for one unit, one medium, one use.
    let ticket = authority.authorize_label(ME, &order("B")).unwrap().ticket;
    assert_eq!(
        code(authority.create_volume(ME, &ticket, "drive1", None, &Cartridge::default()).map(drop)),
        RefusalCode::Ticket
    );
    assert_eq!(
        code(authority.create_volume(ME, &ticket, UNIT, Some(first.volume), &Cartridge::default()).map(drop)),
        RefusalCode::WouldReplace
    );
    let second = authority.create_volume(ME, &ticket, UNIT, None, &Cartridge::default()).unwrap();
    assert_eq!(
        authority.create_volume(ME, &ticket, UNIT, None, &Cartridge::default()).unwrap(),
        second,
        "finishing after a crash"
    );
    let (generation, _) = authority.create_generation(ME, UNIT, second.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, generation.at, Hex([0; 32])).unwrap();
    assert_eq!(
        code(authority.create_volume(ME, &ticket, UNIT, None, &Cartridge::default()).map(drop)),
        RefusalCode::Ticket
    );
    let forged = sealtape_kms::protocol::Ticket("00".repeat(16));
    assert_eq!(
        code(authority.create_volume(ME, &forged, UNIT, None, &Cartridge::default()).map(drop)),
        RefusalCode::Ticket
    );

    // Relabelling: the old volume stays until the new one is complete on both partitions.
    let mut relabel = order("A");
    (relabel.relabel, relabel.partitions) = (true, 2);
    let ticket = authority.authorize_label(ME, &relabel).unwrap().ticket;
    assert_eq!(
        code(authority.create_volume(ME, &ticket, UNIT, None, &Cartridge::default()).map(drop)),
        RefusalCode::LabelInUse
    );
    let third = authority.create_volume(ME, &ticket, UNIT, Some(first.volume), &Cartridge::default()).unwrap();
    for partition in 0..2 {
        authority.load(ME, UNIT, at).unwrap();
        let (generation, _) = authority.create_generation(ME, UNIT, third.volume, partition, None).unwrap();
        authority.activate_generation(ME, UNIT, generation.at, Hex([0; 32])).unwrap();
    }
    assert_eq!(code(authority.load(ME, UNIT, at).map(drop)), RefusalCode::VolumeState);
    assert_eq!(authority.show_volume("A").unwrap().volume, third.volume);
    assert_eq!(authority.show_volume(&first.volume.to_string()).unwrap().state, VolumeState::Replaced);
    assert_eq!(code(authority.create_generation(ME, UNIT, third.volume, 2, None).map(drop)), RefusalCode::BadRequest);
    for label in ["", " A", "A\n", &"x".repeat(65)] {
        assert_eq!(code(authority.authorize_label(ME, &order(label)).map(drop)), RefusalCode::BadRequest);
    }
}

#[test]
fn states_units_and_pools_are_enforced() {
    let install = Install::new();
    let authority = install.open();
    let (volume, at, _) = labelled(&authority, "A");
    let no_key = PoolPolicy { key_on_medium: false, ..PoolPolicy::standard("dark") };
    authority.create_pool(ME, &no_key).unwrap();
    assert_eq!(authority.create_pool(ME, &no_key).unwrap_err().code, RefusalCode::BadRequest);
    authority.restrict_unit(ME, "drive9", &["dark".into()]).unwrap();
    assert_eq!(authority.load(ME, "drive9", at).unwrap_err().code, RefusalCode::UnitRestricted);
    assert_eq!(
        authority.create_generation(ME, "drive9", volume.volume, 0, None).unwrap_err().code,
        RefusalCode::UnitRestricted
    );
    authority.restrict_unit(ME, "drive9", &[]).unwrap();
    authority.load(ME, "drive9", at).unwrap();

    authority.set_volume_state(ME, "A", VolumeState::Retired, "worn").unwrap();
    for refused in [
        authority.load(ME, UNIT, at).map(drop),
        authority.open_session(ME, UNIT, at, &session(0)).map(drop),
        authority.create_generation(ME, UNIT, volume.volume, 0, None).map(drop),
    ] {
        assert_eq!(refused.unwrap_err().code, RefusalCode::VolumeState);
    }
    let id = volume.volume.to_string();
    authority.set_volume_state(ME, &id, VolumeState::Active, "not so worn").unwrap();
    authority.load(ME, UNIT, at).unwrap();
    assert!(authority.set_volume_state(ME, &id, VolumeState::Destroyed, "no").is_err());

    let unknown = GenerationRef { key_id: Uuid::new_v4(), ..at };
    assert_eq!(authority.load(ME, UNIT, unknown).unwrap_err().code, RefusalCode::UnknownGeneration);
    assert_eq!(authority.lookup(ME, UNIT, Uuid::new_v4()).unwrap_err().code, RefusalCode::UnknownVolume);

    let mut dark = order("D");
    dark.pool = Some("dark".into());
    let ticket = authority.authorize_label(ME, &dark).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    assert!(authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap().0.stanzas.is_empty());
    // Each refusal stands in the log.
    let text = export(&authority);
    assert!(text.matches("\"outcome\":\"refused\"").count() >= 8, "{text}");
}

#[test]
fn streams_belong_to_their_owner() {
    let install = Install::new();
    let authority = install.open();
    let (stream, key) = authority.create_stream(Actor::User(1001), None).unwrap();
    let at = stream.at;
    assert_eq!((at.partition, at.generation, stream.first_ordinal), (0, 1, 1));
    assert!(authority.load_stream(Actor::User(1001), at).unwrap().1.ct_eq(&key));
    assert!(authority.load_stream(Actor::User(0), at).unwrap().1.ct_eq(&key));
    assert_eq!(authority.load_stream(Actor::User(1002), at).unwrap_err().code, RefusalCode::NotAllowed);
    assert_eq!(authority.load(ME, UNIT, at).unwrap_err().code, RefusalCode::NotAllowed);
    authority.finish_stream(Actor::User(1001), at.volume, 3, Hex([1; 16])).unwrap();
    assert!(authority.finish_stream(Actor::User(1001), at.volume, 3, Hex([1; 16])).is_err());
    let (_, tape, _) = labelled(&authority, "A");
    assert_eq!(authority.load_stream(Actor::User(0), tape).unwrap_err().code, RefusalCode::NotAllowed);
    let (loaded, _) = authority.load_stream(Actor::User(1001), at).unwrap();
    assert_eq!(loaded.end.unwrap().end_object, 3);
}

#[test]
fn ordinals_are_unique_under_concurrency() {
    let install = Install::new();
    let authority = install.open();
    let (_, at, _) = labelled(&authority, "A");
    let before = authority.status().unwrap().log_size;
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let authority = Arc::clone(&authority);
            std::thread::spawn(move || {
                (0..25).map(|_| authority.open_session(ME, UNIT, at, &session(0)).unwrap()).collect::<Vec<_>>()
            })
        })
        .collect();
    let ordinals: Vec<u32> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    assert_eq!(ordinals.iter().collect::<BTreeSet<_>>().len(), 400);
    assert_eq!(*ordinals.iter().max().unwrap(), 400);
    assert_eq!(authority.status().unwrap().log_size, before + 400);
    let again = session(0);
    authority.open_session(ME, UNIT, at, &again).unwrap();
    assert!(authority.open_session(ME, UNIT, at, &again).is_err(), "a session id is used once");
}

#[test]
fn one_process_and_an_empty_folder() {
    let install = Install::new();
    let authority = install.open();
    assert_eq!(Authority::open(&install.home, options()).unwrap_err().code, RefusalCode::Busy);
    drop(authority);
    let error = init_home(&install.home, &InitOptions::embedded(worker())).unwrap_err();
    assert!(error.what.contains("not empty"), "{error}");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(install.home.dir(), std::fs::Permissions::from_mode(0o750)).unwrap();
    let error = Authority::open(&install.home, options()).unwrap_err();
    assert!(error.mend.contains("chmod 0700"), "{error}");
}

#[test]
fn without_the_token_nothing_is_released_and_it_says_so() {
    let install = Install::new();
    let authority = install.open();
    let (volume, at, key) = labelled(&authority, "A");
    let (tokens, away) = (install.home.dir().join("tokens"), install.home.dir().join("away"));
    std::fs::rename(&tokens, &away).unwrap();
    assert_eq!(authority.load(ME, UNIT, at).unwrap_err().code, RefusalCode::TokenMissing);
    assert_eq!(
        authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap_err().code,
        RefusalCode::TokenMissing
    );
    // What needs no token goes on.
    authority.open_session(ME, UNIT, at, &session(0)).unwrap();
    assert!(!authority.status().unwrap().token_ok);
    std::fs::rename(&away, &tokens).unwrap();
    assert!(authority.load(ME, UNIT, at).unwrap().1.ct_eq(&key));
    assert!(authority.status().unwrap().token_ok);
    let text = export(&authority);
    assert!(text.contains("\"outcome\":\"failed\""));
}

#[test]
fn a_wrong_pin_is_latched_and_named() {
    let install = Install::new();
    let pin = install.home.dir().join("user.pin");
    let right = std::fs::read(&pin).unwrap();
    std::fs::write(&pin, "wrong").unwrap();
    assert_eq!(Authority::open(&install.home, options()).unwrap_err().code, RefusalCode::PinLatched);
    std::fs::write(&pin, right).unwrap();
    let error = Authority::open(&install.home, options()).unwrap_err();
    assert_eq!(error.code, RefusalCode::PinLatched);
    assert!(error.what.contains("pin.latched"), "{error}");
    let authority = Authority::open(
        &install.home,
        sealtape_kms::authority::AuthorityOptions { token_may_be_away: true, ..options() },
    )
    .unwrap();
    assert!(authority.status().unwrap().pin_latched);
    authority.clear_pin_latch(ME).unwrap();
    assert!(authority.status().unwrap().token_ok);
}

#[test]
fn a_log_signed_with_p256_verifies_too() {
    let dir = tempfile::tempdir().unwrap();
    let home = sealtape_kms::home::Home::new(dir.path().join("home"));
    let signing = Some(sealtape_kms::pkcs11::SignAlgorithm::EcdsaP256);
    let report = init_home_signed(&home, &InitOptions::embedded(worker()), signing).unwrap();
    let authority = Authority::open(&home, options()).unwrap();
    labelled(&authority, "A");
    let text = export(&authority);
    let key: VerifierKey = report.log_key.parse().unwrap();
    verify_export(&mut text.as_bytes(), &key).unwrap();
    let changed = text.replacen("\"outcome\":\"done\"", "\"outcome\":\"failed\"", 1);
    assert!(verify_export(&mut changed.as_bytes(), &key).is_err());
}

/// Mean times on this machine (`--nocapture` shows them); the bounds are far above, for a machine under load.
#[test]
fn figures() {
    let install = Install::new();
    let authority = install.open();
    let (volume, at, _) = labelled(&authority, "A");
    let rounds = 40;
    let time = |name: &str, bound_ms: u128, work: &dyn Fn()| {
        let start = std::time::Instant::now();
        (0..rounds).for_each(|_| work());
        let mean = start.elapsed() / rounds;
        eprintln!("{name}: {mean:?}");
        assert!(mean.as_millis() < bound_ms, "{name} takes {mean:?}");
    };
    time("create_generation", 2000, &|| drop(authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap()));
    time("load", 2000, &|| drop(authority.load(ME, UNIT, at).unwrap()));
    time("open_session", 1000, &|| {
        authority.open_session(ME, UNIT, at, &session(0)).unwrap();
    });
    time("checkpoint with one leaf", 2000, &|| {
        authority.returned(ME, UNIT, volume.volume).unwrap();
        authority.checkpoint().unwrap();
    });
}
