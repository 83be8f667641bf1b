//! Cryptoperiods, epochs of medium key-encryption keys and pool policy, under a clock of the test's, on real SoftHSM2.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sealtape_kms::authority::{Authority, AuthorityOptions, Clock};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{
    Cartridge, EpochRule, GenerationRef, KeyFilter, KeyLife, PoolPolicy, RefusalCode, Rights,
};
use support::install::{Install, ME, UNIT, labelled, options, session};

const DAY: u64 = 86_400;

/// A clock that is so many seconds ahead of the system's.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicU64>);

impl Ahead {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    fn open(&self, install: &Install) -> Arc<Authority> {
        let ahead = Arc::clone(&self.0);
        let clock = Clock::new(move || SystemTime::now() + Duration::from_secs(ahead.load(Ordering::Relaxed)));
        Arc::new(Authority::open(&install.home, AuthorityOptions { clock, ..options() }).unwrap())
    }
}

fn set(authority: &Authority, life: KeyLife) {
    let policy = PoolPolicy { life, ..authority.show_pool("default").unwrap() };
    authority.set_pool(ME, &policy).unwrap();
}

fn medium_kek(authority: &Authority, at: GenerationRef) -> uuid::Uuid {
    let keys = authority.list_keys(&KeyFilter::All, None, 5000).unwrap();
    keys.iter().find(|k| k.at == at).unwrap().medium_kek.unwrap()
}

#[test]
fn periods_end_and_a_clock_set_back_revives_nothing() {
    let install = Install::new();
    let ahead = Ahead::default();
    let authority = ahead.open(&install);
    // What was made before has no periods, whatever the policy becomes.
    let (_, timeless, _) = labelled(&authority, "OLD001");
    set(&authority, KeyLife { seal_days: Some(10), open_days: Some(100), ..KeyLife::default() });
    let (volume, at, _) = labelled(&authority, "MON001");
    let (loaded, _) = authority.load(ME, UNIT, at).unwrap();
    assert_eq!((loaded.rights, loaded.new_generation_allowed), (Rights::SealAndOpen, true));
    // Its rights may last no longer than they do, even where the pool has no limit.
    let lease = u64::from(loaded.lease_seconds.unwrap());
    assert!((10 * DAY - 60..=10 * DAY + 1).contains(&lease), "{lease}");
    assert_eq!(authority.load(ME, UNIT, timeless).unwrap().0.lease_seconds, None);
    authority.open_session(ME, UNIT, at, &session(0)).unwrap();

    // Warnings ahead: the sealing period ends within the month, the opening period does not.
    let summary = authority.key_life_summary().unwrap();
    assert_eq!((summary.sealing_ends, summary.opening_ends, summary.expired), (1, 0, 0));
    let expiring = |days| authority.list_keys(&KeyFilter::Expiring { days }, None, 100).unwrap();
    assert!(expiring(9).is_empty());
    assert_eq!(expiring(11).iter().map(|k| k.at).collect::<Vec<_>>(), [at]);

    ahead.set(10 * DAY + 60);
    let (loaded, _) = authority.load(ME, UNIT, at).unwrap();
    assert_eq!((loaded.rights, loaded.new_generation_allowed), (Rights::OpenOnly, true));
    assert_eq!(authority.renew(ME, UNIT, at).unwrap().1, Rights::OpenOnly);
    let refusal = authority.open_session(ME, UNIT, at, &session(0)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::KeyExpired, "{refusal}");
    assert!(refusal.mend.contains("new generation"), "{refusal}");
    // The way on.
    let (next, _) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, next.at, Hex([8; 32])).unwrap();
    assert_eq!(authority.load(ME, UNIT, next.at).unwrap().0.rights, Rights::SealAndOpen);

    ahead.set(120 * DAY);
    for refusal in
        [authority.load(ME, UNIT, next.at).map(drop).unwrap_err(), authority.renew(ME, UNIT, next.at).unwrap_err()]
    {
        assert_eq!(refusal.code, RefusalCode::KeyExpired, "{refusal}");
        let year = authority.list_keys(&KeyFilter::Volume { volume: "MON001".into() }, None, 9).unwrap();
        let until = year.iter().find(|k| k.at == next.at).unwrap().open_until.clone().unwrap();
        for part in ["MON001", until.as_str(), "sealtape key extend"] {
            assert!(refusal.to_string().contains(part), "{refusal} lacks {part}");
        }
    }
    let summary = authority.key_life_summary().unwrap();
    assert_eq!((summary.opening_ends, summary.expired), (0, 1));
    authority.load(ME, UNIT, timeless).unwrap();

    // The clock is set back, while running and over a restart: the log knows better.
    ahead.set(0);
    assert_eq!(authority.load(ME, UNIT, next.at).unwrap_err().code, RefusalCode::KeyExpired);
    drop(authority);
    let authority = ahead.open(&install);
    assert_eq!(authority.load(ME, UNIT, next.at).unwrap_err().code, RefusalCode::KeyExpired);
    assert_eq!(authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap().0.at.generation, 3);
}

#[test]
fn periods_and_policies_cannot_be_changed_in_the_database() {
    let install = Install::new();
    let authority = install.open();
    set(&authority, KeyLife { open_days: Some(1), longest_release: Some(600), ..KeyLife::default() });
    let (_, at, _) = labelled(&authority, "MON001");
    assert_eq!(authority.load(ME, UNIT, at).unwrap().0.lease_seconds, Some(600));
    for tampering in [
        "UPDATE key_life SET open_until = '2999-01-01T00:00:00.000Z'",
        "UPDATE key_life SET open_until = NULL",
        "DELETE FROM key_life",
        "UPDATE pools SET life = '{}'",
        "UPDATE pools SET life = '{}', policy_leaf = (SELECT created_leaf FROM keks WHERE purpose = 'medium')",
    ] {
        let sql = install.database();
        sql.execute_batch("SAVEPOINT before").unwrap();
        type Row = (String, Option<String>, Option<String>, Option<String>, i64);
        let copy: Vec<Row> = {
            let mut query =
                sql.prepare("SELECT key_id, seal_until, open_until, medium_kek, leaf FROM key_life").unwrap();
            let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let pool: (String, i64) =
            sql.query_row("SELECT life, policy_leaf FROM pools", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        assert_eq!(sql.execute(tampering, []).unwrap(), 1, "{tampering}");
        sql.execute_batch("RELEASE before").unwrap();
        let refusal = authority.load(ME, UNIT, at).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Damaged, "{tampering}: {refusal}");
        assert!(refusal.what.contains("custody entry"), "{tampering}: {refusal}");
        sql.execute("DELETE FROM key_life", []).unwrap();
        for row in copy {
            sql.execute("INSERT INTO key_life VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
        }
        sql.execute("UPDATE pools SET life = ?1, policy_leaf = ?2", pool).unwrap();
        authority.load(ME, UNIT, at).unwrap();
    }
}

#[test]
fn each_epoch_has_a_medium_key_of_its_own() {
    let install = Install::new();
    let ahead = Ahead::default();
    let authority = ahead.open(&install);
    let (_, first, _) = labelled(&authority, "A");
    let life = KeyLife { open_days: Some(3650), epoch: EpochRule::Yearly, ..KeyLife::default() };
    set(&authority, life.clone());
    let (_, second, _) = labelled(&authority, "B");
    let (_, third, _) = labelled(&authority, "C");
    ahead.set(366 * DAY);
    let (_, fourth, _) = labelled(&authority, "D");
    let keks = [first, second, third, fourth].map(|at| medium_kek(&authority, at));
    assert_eq!(keks[1], keks[2]);
    assert!(keks[0] != keks[1] && keks[1] != keks[3] && keks[0] != keks[3], "{keks:?}");
    let listed = authority.list_keks().unwrap();
    let of = |id| listed.iter().find(|k| k.id == id).unwrap();
    assert_eq!((of(keks[0]).epoch.as_deref(), of(keks[0]).until.as_deref()), (Some("single"), None));
    let (year, until) = (of(keks[1]).epoch.clone().unwrap(), of(keks[1]).until.clone().unwrap());
    assert_eq!(until, format!("{year}-12-31T23:59:59.999Z"));
    assert_eq!(of(keks[3]).epoch.clone().unwrap(), (year.parse::<u32>().unwrap() + 1).to_string());
    assert_eq!((of(keks[1]).pool.as_deref(), of(keks[1]).keys, of(keks[1]).held_by), (Some("default"), 2, 2));
    // A name, and the copy that stands on the medium under that key.
    set(&authority, KeyLife { epoch: EpochRule::try_from("audit-7".to_owned()).unwrap(), ..life });
    let order = sealtape_kms::protocol::LabelOrder { label: "E".into(), ..support::install::order("E") };
    let ticket = authority.authorize_label(ME, &order).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    let (new, _) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    let named = medium_kek(&authority, new.at);
    assert_eq!(new.stanzas[0].body.0[..16], *named.as_bytes());
    assert_eq!(
        authority.list_keks().unwrap().iter().find(|k| k.id == named).unwrap().epoch.as_deref(),
        Some("audit-7")
    );
    // Rewritten or expired, the keys of an epoch no longer hold its key-encryption key back.
    ahead.set(3652 * DAY);
    assert_eq!(authority.list_keks().unwrap().iter().find(|k| k.id == keks[1]).unwrap().held_by, 0);
    assert_eq!(authority.list_keks().unwrap().iter().find(|k| k.id == keks[0]).unwrap().held_by, 1);
}

#[test]
fn units_that_begin_an_epoch_together_share_its_key() {
    let install = Install::new();
    let authority = install.open();
    let volumes: Vec<_> = ["A", "B", "C", "D"].map(|label| labelled(&authority, label).0.volume).to_vec();
    set(&authority, KeyLife { epoch: EpochRule::Named("new".into()), ..KeyLife::default() });
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = volumes
            .iter()
            .map(|volume| scope.spawn(|| authority.create_generation(ME, UNIT, *volume, 0, None).unwrap().0.at))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let keks: std::collections::BTreeSet<_> = made.into_iter().map(|at| medium_kek(&authority, at)).collect();
    assert_eq!(keks.len(), 1);
}

#[test]
fn a_policy_changes_for_new_generations_and_bad_ones_are_refused() {
    let install = Install::new();
    let authority = install.open();
    let (volume, at, _) = labelled(&authority, "MON001");
    let old = authority.show_pool("default").unwrap();
    let new = PoolPolicy { suite: 3, compression: 2, key_on_medium: false, ..old.clone() };
    authority.set_pool(ME, &new).unwrap();
    let (loaded, _) = authority.load(ME, UNIT, at).unwrap();
    assert_eq!((loaded.suite, loaded.policy.suite, loaded.policy.compression), (1, 1, 1));
    let (next, _) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    assert_eq!((next.suite, next.compression, next.stanzas.len()), (3, 2, 0));
    let life = |seal_days, open_days, longest_release| PoolPolicy {
        life: KeyLife { seal_days, open_days, longest_release, ..KeyLife::default() },
        ..old.clone()
    };
    for bad in [
        life(Some(0), None, None),
        life(None, Some(40_000), None),
        life(Some(20), Some(10), None),
        life(None, None, Some(1)),
        PoolPolicy { suite: 9, ..old.clone() },
        PoolPolicy { compression: 3, ..old.clone() },
    ] {
        assert_eq!(authority.set_pool(ME, &bad).unwrap_err().code, RefusalCode::BadRequest, "{bad:?}");
    }
    let unknown = PoolPolicy { name: "nobody".into(), ..old };
    assert_eq!(authority.set_pool(ME, &unknown).unwrap_err().code, RefusalCode::UnknownPool);
    assert_eq!(authority.show_pool("default").unwrap(), new);
    for text in ["", "a b", "é", &"x".repeat(33)] {
        EpochRule::try_from(text.to_owned()).unwrap_err();
    }
}
