//! What two custodians decide about the life of keys: extension and rescue, with real OpenSSH signatures and a clock of the test's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sealtape_kms::authority::{Authority, AuthorityOptions, Clock};
use sealtape_kms::protocol::{KeyFilter, KeyLife, PoolPolicy, RefusalCode, Rights};
use support::custodians::{Custodians, root};
use support::install::{Install, ME, UNIT, labelled, options, session};

const HOUR: u64 = 3600;

#[test]
fn an_expired_key_opens_again_when_two_decide_so() {
    let install = Install::new();
    let ahead = Arc::new(AtomicU64::new(0));
    let clock = {
        let ahead = Arc::clone(&ahead);
        Clock::new(move || SystemTime::now() + Duration::from_secs(ahead.load(Ordering::Relaxed)))
    };
    let authority: Arc<Authority> =
        Arc::new(Authority::open(&install.home, AuthorityOptions { clock, ..options() }).unwrap());
    let people = Custodians::register(&authority);
    let life = KeyLife { seal_days: Some(1), open_days: Some(2), ..KeyLife::default() };
    authority.set_pool(ME, &PoolPolicy { life, ..authority.show_pool("default").unwrap() }).unwrap();
    let (_, at, _) = labelled(&authority, "MON001");
    ahead.store(49 * HOUR, Ordering::Relaxed);
    assert_eq!(authority.load(ME, UNIT, at).unwrap_err().code, RefusalCode::KeyExpired);
    let until = "2199-12-31T23:59:59.999Z";
    for bad in ["2199-12-31", "2001-01-01T00:00:00.000Z"] {
        let refusal = authority.request_extension(root(), &["MON001".into()], bad, None).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::BadRequest, "{refusal}");
    }
    let view = authority.request_extension(root(), &["MON001".into()], until, Some("audit")).unwrap();
    people.alice.approve(&authority, view.request);
    let refusal = authority.carry_out_key_request(root(), view.request).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotApproved, "{refusal}");
    assert_eq!(authority.load(ME, UNIT, at).unwrap_err().code, RefusalCode::KeyExpired);
    people.bob.approve(&authority, view.request);
    authority.carry_out_key_request(root(), view.request).unwrap();
    // It opens again, and does not seal.
    let (loaded, _) = authority.load(ME, UNIT, at).unwrap();
    assert_eq!(loaded.rights, Rights::OpenOnly);
    assert_eq!(authority.open_session(ME, UNIT, at, &session(0)).unwrap_err().code, RefusalCode::KeyExpired);
    let key = &authority.list_keys(&KeyFilter::Standing, None, 9).unwrap()[0];
    assert_eq!(key.open_until.as_deref(), Some(until));
    // The entry that extended it cannot be left out, or put before the extension.
    let before = install.database();
    before.execute("UPDATE key_life SET open_until = '2299-12-31T23:59:59.999Z'", []).unwrap();
    assert_eq!(authority.load(ME, UNIT, at).unwrap_err().code, RefusalCode::Damaged);
}

#[test]
fn a_compromised_volume_is_read_once_more_when_two_decide_so() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    let (_, at, key) = labelled(&authority, "MON001");
    let (_, sound, _) = labelled(&authority, "MON002");
    authority.compromise(ME, "MON001", "seen elsewhere").unwrap();
    assert_eq!(authority.request_rescue(root(), "MON001", 0, None).unwrap_err().code, RefusalCode::BadRequest);
    let view = authority.request_rescue(root(), "MON001", 2, Some("the only copy")).unwrap();
    people.alice.approve(&authority, view.request);
    people.bob.approve(&authority, view.request);
    assert_eq!(authority.load(ME, UNIT, at).unwrap_err().code, RefusalCode::KeyEnded);
    authority.carry_out_key_request(root(), view.request).unwrap();
    let (loaded, again) = authority.load(ME, UNIT, at).unwrap();
    assert!(again.ct_eq(&key));
    // Read only, no new generation over what is to be saved, and no longer than was decided.
    assert_eq!((loaded.rights, loaded.new_generation_allowed), (Rights::OpenOnly, false));
    assert!((7100..=7201).contains(&loaded.lease_seconds.unwrap()), "{:?}", loaded.lease_seconds);
    let refusal = authority.carry_out_key_request(root(), view.request).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotApproved, "once: {refusal}");
    // A row that nobody decided about helps nobody.
    install.database().execute("UPDATE rescues SET until = '2299-12-31T23:59:59.999Z'", []).unwrap();
    assert_eq!(authority.load(ME, UNIT, at).unwrap_err().code, RefusalCode::Damaged);
    // A volume that needs no rescue gets none.
    authority.load(ME, UNIT, sound).unwrap();
    let view = authority.request_rescue(root(), "MON002", 2, None).unwrap();
    people.alice.approve(&authority, view.request);
    people.bob.approve(&authority, view.request);
    assert_eq!(authority.carry_out_key_request(root(), view.request).unwrap_err().code, RefusalCode::VolumeState);
}
