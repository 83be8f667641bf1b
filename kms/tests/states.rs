//! States of keys and volumes that were changed in the database: found at the start, and before a key leaves. On real SoftHSM2.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sealtape_kms::authority::Authority;
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{GenerationRef, RefusalCode, RotationState, VolumeState};
use support::install::{Install, ME, UNIT, labelled, options};

/// A tape, something done to it or its keys, and how the database is changed afterwards so that it gives its key again.
struct Case {
    name: &'static str,
    done: fn(&Authority, GenerationRef),
    changed: &'static str,
    /// The operation whose entry speaks against the row.
    against: &'static str,
}

fn kek(authority: &Authority, purpose: &str) -> String {
    authority.list_keks().unwrap().into_iter().find(|k| k.purpose == purpose).unwrap().id.to_string()
}

fn superseded(authority: &Authority, at: GenerationRef) {
    let (next, _) = authority.create_generation(ME, UNIT, at.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, next.at, Hex([9; 32])).unwrap();
}

fn compromised(authority: &Authority, what: &str) {
    authority.compromise(ME, what, "lost").unwrap();
}

const CASES: &[Case] = &[
    Case {
        name: "a compromised key",
        done: |a, at| compromised(a, &at.key_id.to_string()),
        changed: "UPDATE generations SET key_state = 'active'; DELETE FROM compromised_keys; DELETE FROM compromises",
        against: "key.compromise",
    },
    Case {
        name: "the key of a compromised volume",
        done: |a, at| compromised(a, &at.volume.to_string()),
        changed: "UPDATE generations SET key_state = 'deactivated'",
        against: "key.compromise",
    },
    Case {
        name: "a key under a compromised medium key",
        done: |a, _| compromised(a, &kek(a, "medium")),
        changed: "UPDATE generations SET key_state = 'active'",
        against: "key.compromise",
    },
    Case {
        name: "a key under a compromised catalogue key",
        done: |a, _| compromised(a, &kek(a, "catalogue")),
        changed: "UPDATE generations SET key_state = 'active'; UPDATE keks SET state = 'active'",
        against: "key.compromise",
    },
    Case {
        name: "a key that was rewrapped before the new catalogue key was compromised",
        done: |a, _| {
            rotated(a);
            let active = a.list_keks().unwrap().into_iter().filter(|k| k.purpose == "catalogue").map(|k| k.id);
            active.for_each(|id| compromised(a, &id.to_string()));
        },
        changed: "UPDATE generations SET key_state = 'active'",
        against: "key.compromise",
    },
    Case {
        name: "an older generation in the place of the newer one",
        done: superseded,
        changed: "UPDATE generations SET state = 'superseded', key_state = 'deactivated' WHERE generation = 2;
                  UPDATE generations SET state = 'active', key_state = 'active' WHERE generation = 1",
        against: "key.activate",
    },
    Case {
        name: "an older generation that opens only",
        done: superseded,
        changed: "UPDATE generations SET state = 'superseded' WHERE generation = 2;
                  UPDATE generations SET state = 'active' WHERE generation = 1",
        against: "key.activate",
    },
    Case {
        name: "an older generation as one not yet in use",
        done: superseded,
        changed: "UPDATE generations SET state = 'pending', key_state = 'pre_active' WHERE generation = 1",
        against: "key.activate",
    },
    Case {
        name: "a retired volume",
        done: |a, at| a.set_volume_state(ME, &at.volume.to_string(), VolumeState::Retired, "worn").unwrap(),
        changed: "UPDATE volumes SET state = 'active'",
        against: "volume.state",
    },
    Case {
        name: "a key-encryption key that was replaced",
        done: |a, _| rotated(a),
        changed: "UPDATE keks SET state = 'active'; UPDATE generations SET kek = (SELECT old_kek FROM rotations),
                  wrapped_leaf = NULL",
        against: "kek.deactivate",
    },
];

fn rotated(authority: &Authority) {
    authority.rotate(ME, "yearly").unwrap();
    while authority.work().unwrap() {}
    assert_eq!(authority.rotation().unwrap().unwrap().state, RotationState::Done);
}

#[test]
fn a_state_changed_in_the_database_is_found_before_release_and_at_the_start() {
    for case in CASES {
        let install = Install::new();
        let authority = install.open();
        let (_, at, _) = labelled(&authority, "MON001");
        let old: Vec<u8> = install.database().query_row("SELECT wrapped FROM generations", [], |r| r.get(0)).unwrap();
        (case.done)(&authority, at);
        install.database().execute_batch(case.changed).unwrap();
        if case.against == "kek.deactivate" {
            install.database().execute("UPDATE generations SET wrapped = ?1", [old]).unwrap();
        }
        let refusal = authority.load(ME, UNIT, at).map(drop).unwrap_err();
        let says = |what: &str| what.contains("custody entry") && what.contains(case.against);
        assert!(refusal.code == RefusalCode::Damaged && says(&refusal.what), "{}: {refusal}", case.name);
        drop(authority);
        let refusal = Authority::open(&install.home, options()).map(drop).unwrap_err();
        assert!(refusal.code == RefusalCode::Damaged && says(&refusal.what), "{}: {refusal}", case.name);
    }
}

#[test]
fn nothing_is_made_under_a_key_encryption_key_that_was_compromised() {
    let install = Install::new();
    let authority = install.open();
    let (_, at, _) = labelled(&authority, "MON001");
    compromised(&authority, &kek(&authority, "medium"));
    install.database().execute("UPDATE keks SET state = 'active'", []).unwrap();
    let refusal = authority.create_generation(ME, UNIT, at.volume, 0, None).map(drop).unwrap_err();
    assert!(refusal.code == RefusalCode::Damaged && refusal.what.contains("key.compromise"), "{refusal}");
}

#[test]
fn what_is_worse_in_the_row_than_in_the_log_stays_refused_and_the_rest_works() {
    let install = Install::new();
    let authority = install.open();
    let (_, at, key) = labelled(&authority, "MON001");
    let (_, other, _) = labelled(&authority, "MON002");
    // Neither a rotation, nor a newer generation, nor another volume's compromise is held against a key.
    rotated(&authority);
    compromised(&authority, &other.volume.to_string());
    assert!(authority.load(ME, UNIT, at).unwrap().1.ct_eq(&key));
    superseded(&authority, at);
    assert_eq!(authority.load(ME, UNIT, at).map(drop).unwrap_err().code, RefusalCode::Superseded);
    // A catalogue key that no key is under any more.
    let old = authority.list_keks().unwrap().into_iter().find(|k| k.purpose == "catalogue" && k.keys == 0).unwrap();
    compromised(&authority, &old.id.to_string());
    drop(authority);
    let authority = install.open();
    let newest = authority.show_volume("MON001").unwrap().partitions[0].active().unwrap().clone();
    let at = GenerationRef { generation: newest.generation, key_id: newest.key_id, ..at };
    authority.load(ME, UNIT, at).unwrap();
    // Without the index that finds the entries nothing is released.
    install.database().execute("DROP INDEX state_leaves_of_key", []).unwrap();
    authority.load(ME, UNIT, at).map(drop).unwrap_err();
}
