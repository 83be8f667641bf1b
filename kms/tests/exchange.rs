//! Keys given to a partner and taken in there: two installations with tokens of their own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sealtape_kms::age::{Identity, Kind};
use sealtape_kms::authority::Authority;
use sealtape_kms::custody::Leaf;
use sealtape_kms::exchange::Package;
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{
    ExchangeReply, ExchangeRequest, GenerationRef, IdentityKind, KeyState, LastRecord, PartnerOrder, Refusal,
    RefusalCode, Rights, SyncPoint, VolumeQuery,
};
use sealtape_kms::secret::DataKey;
use support::custodians::{Custodians, root};
use support::install::{Install, ME, UNIT, labelled, session};

const FAR: &str = "2990-01-31";

fn order(identity: &Identity, volumes: &[&str]) -> PartnerOrder {
    PartnerOrder {
        partner: "Partner Ltd".into(),
        recipient: identity.recipient().unwrap().to_string(),
        volumes: volumes.iter().map(|v| (*v).to_owned()).collect(),
        expires: FAR.into(),
        labels: true,
        allow_classic: false,
        reason: Some("their restore".into()),
    }
}

fn export(authority: &Authority, people: &Custodians, order: PartnerOrder) -> Package {
    let ExchangeReply::Asked(view) = authority.serve_exchange(root(), ExchangeRequest::Ask(order), None).unwrap()
    else {
        panic!("without approval")
    };
    let export = || authority.serve_exchange(root(), ExchangeRequest::Export { request: view.request }, None);
    assert_eq!(export().unwrap_err().code, RefusalCode::NotApproved);
    people.approve(authority, view.request);
    let ExchangeReply::Package(package) = export().unwrap() else { panic!("no package") };
    assert!(export().is_err(), "an approval counts once");
    // It goes through a file.
    Package::parse(&serde_json::to_string_pretty(&package).unwrap()).unwrap()
}

fn import(
    authority: &Authority,
    package: &Package,
    site_key: &str,
    identity: &Identity,
) -> Result<ExchangeReply, Refusal> {
    let kind = if identity.kind() == Kind::Hybrid { IdentityKind::Hybrid } else { IdentityKind::X25519 };
    let request = ExchangeRequest::Import {
        package: Box::new(package.clone()),
        site_key: site_key.into(),
        identity: kind,
        pool: None,
    };
    authority.serve_exchange(ME, request, Some(DataKey::copy_from(identity.seed().expose()).unwrap()))
}

fn leaves(authority: &Authority, count: u32) -> Vec<Leaf> {
    authority.audit_show(None, count).unwrap().iter().map(|l| Leaf::parse(l).unwrap()).collect()
}

/// A tape with a session and an end.
fn written(authority: &Authority, label: &str) -> (GenerationRef, DataKey, SyncPoint) {
    let (_, at, key) = labelled(authority, label);
    let ordinal = authority.open_session(ME, UNIT, at, &session(0)).unwrap();
    let last = Some(LastRecord { object: 8, tag: Hex([3; 16]) });
    let end = SyncPoint { ordinal, end_object: 10, end_filemarks: 1, last };
    authority.record_sync(ME, UNIT, at, &end).unwrap();
    (at, key, end)
}

#[test]
fn a_partner_reads_and_never_writes() {
    let (here, there) = (Install::new(), Install::new());
    let (ours, theirs) = (here.open(), there.open());
    let people = Custodians::register(&ours);
    let identity = Identity::generate(Kind::Hybrid).unwrap();
    let (one, key, end) = written(&ours, "ONE001");
    let (two, _, _) = written(&ours, "TWO001");
    let package = export(&ours, &people, order(&identity, &["ONE001", &two.volume.to_string()]));
    assert_eq!(package.body.keys.len(), 2);
    assert!(package.body.post_quantum && package.body.expires.starts_with(FAR));
    // The last one is the refused second try.
    let ops: Vec<_> = leaves(&ours, 4).into_iter().map(|l| l.op).take(3).collect();
    assert_eq!(ops, ["export.made", "key.export", "key.export"].map(String::from));
    let exports: i64 = here
        .database()
        .query_row(
            "SELECT count(*) FROM copies WHERE kind = 'export' AND holder = ?1",
            [package.body.package.to_string()],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(exports, 2);

    // The label is taken there.
    labelled(&theirs, "ONE001");
    let site = ours.log_key().to_string();
    let ExchangeReply::Imported(view) = import(&theirs, &package, &site, &identity).unwrap() else { panic!("no view") };
    assert_eq!((view.keys, view.package), (2, package.body.package));
    let done = leaves(&theirs, 3);
    assert_eq!(done[0].op, "import.done");
    assert_eq!(done[0].digest, Some(Hex(package.body.digest().unwrap())));
    let shown = theirs.show_volume(&one.volume.to_string()).unwrap();
    assert!(shown.label.starts_with("ONE001@"), "{}", shown.label);
    assert_eq!(theirs.show_volume("TWO001").unwrap().volume, two.volume);
    assert_eq!(shown.partitions[0].active().unwrap().key_state, KeyState::Deactivated);

    let (loaded, again) = theirs.load(ME, UNIT, one).unwrap();
    assert!(again.ct_eq(&key));
    assert_eq!(loaded.rights, Rights::OpenOnly);
    assert_eq!((loaded.end, loaded.sessions.len()), (Some(end), 1));
    assert_eq!(loaded.commitment, Some(Hex([7; 32])));
    for refusal in [
        theirs.create_generation(ME, UNIT, one.volume, 0, None).map(drop).unwrap_err(),
        theirs.open_session(ME, UNIT, one, &session(20)).map(drop).unwrap_err(),
    ] {
        assert!(refusal.what.contains("never seal"), "{refusal}");
    }
    // Nor is it passed on, nor taken in twice.
    let refusal = theirs.serve_exchange(root(), ExchangeRequest::Ask(order(&identity, &["TWO001"])), None).unwrap_err();
    assert!(refusal.what.contains("a partner's"), "{refusal}");
    assert!(import(&theirs, &package, &site, &identity).unwrap_err().what.contains("was imported on"));

    // Written on here, exported again: the newer package tells the newer sessions.
    ours.open_session(ME, UNIT, one, &session(10)).unwrap();
    let later = SyncPoint { ordinal: 2, end_object: 12, ..end };
    ours.record_sync(ME, UNIT, one, &later).unwrap();
    let newer = export(&ours, &people, order(&identity, &["ONE001"]));
    import(&theirs, &newer, &site, &identity).unwrap();
    let (loaded, _) = theirs.load(ME, UNIT, one).unwrap();
    assert_eq!((loaded.end, loaded.sessions.len()), (Some(later), 2));
    // All of it over a restart.
    drop(theirs);
    let theirs = there.open();
    assert_eq!(theirs.load(ME, UNIT, two).unwrap().0.rights, Rights::OpenOnly);
    let ExchangeReply::Packages(packages) = theirs.serve_exchange(ME, ExchangeRequest::Packages, None).unwrap() else {
        panic!("no list")
    };
    assert_eq!(packages.len(), 2);
}

#[test]
fn what_is_wrong_with_a_package_is_named_and_changes_nothing() {
    let (here, there) = (Install::new(), Install::new());
    let (ours, theirs) = (here.open(), there.open());
    let people = Custodians::register(&ours);
    let identity = Identity::generate(Kind::Hybrid).unwrap();
    let (at, _, _) = written(&ours, "ONE001");
    let site = ours.log_key().to_string();
    let package = export(&ours, &people, order(&identity, &["ONE001"]));

    let other = Identity::generate(Kind::Hybrid).unwrap();
    let classic = Identity::generate(Kind::X25519).unwrap();
    let edited = |edit: &dyn Fn(&mut Package)| {
        let mut changed = package.clone();
        edit(&mut changed);
        changed
    };
    let sealed_by_other = export(&ours, &people, order(&other, &["ONE001"])).sealed;
    let cases: Vec<(Package, String, &Identity, &str)> = vec![
        (package.clone(), site.clone(), &other, "is for the recipient"),
        (package.clone(), site.clone(), &classic, "is for the recipient"),
        (package.clone(), theirs.log_key().to_string(), &identity, "the site key given is that of"),
        (package.clone(), "nonsense".into(), &identity, "verifier key"),
        (edited(&|p| p.body.expires = "2999-01-01T00:00:00.000Z".into()), site.clone(), &identity, "was changed"),
        (edited(&|p| p.body.keys[0].label = Some("X".into())), site.clone(), &identity, "was changed"),
        (edited(&|p| p.body.keys[0].at.generation = 9), site.clone(), &identity, "was changed"),
        (edited(&|p| p.body.origin = "sealtape/x".into()), site.clone(), &identity, "is of sealtape/x"),
        (
            edited(&|p| p.sealed = sealed_by_other.clone()),
            site.clone(),
            &identity,
            "keys are not those that were signed",
        ),
        (edited(&|p| p.note = p.note.replace("sha256 ", "sha256 0")), site.clone(), &identity, "signature"),
        (edited(&|p| p.body.keys.clear()), site.clone(), &identity, "holds 0 keys"),
        (edited(&|p| p.format = "sealtape-package-2".into()), site.clone(), &identity, "sealtape-package-2"),
    ];
    for (package, site, identity, what) in cases {
        let refusal = import(&theirs, &package, &site, identity).unwrap_err();
        assert!(refusal.what.contains(what), "{refusal} (wanted {what})");
        assert!(theirs.list_volumes(&VolumeQuery { count: 1000, ..Default::default() }).unwrap().volumes.is_empty());
    }
    // A package comes home: refused, since the volume is ours.
    assert!(import(&ours, &package, &site, &identity).unwrap_err().what.contains("made by this installation"));
    let _ = at;
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let install = Install::new();
    let authority = install.open();
    let _people = Custodians::register(&authority);
    written(&authority, "ONE001");
    let identity = Identity::generate(Kind::Hybrid).unwrap();
    let classic = Identity::generate(Kind::X25519).unwrap();
    let good = || order(&identity, &["ONE001"]);
    for (order, what) in [
        (PartnerOrder { recipient: classic.recipient().unwrap().to_string(), ..good() }, "classic one"),
        (PartnerOrder { recipient: "age1pq1nonsense".into(), ..good() }, "recipient"),
        (PartnerOrder { expires: "2020-01-01".into(), ..good() }, "is past"),
        (PartnerOrder { expires: "tomorrow".into(), ..good() }, "no date"),
        (PartnerOrder { volumes: vec!["TWO001".into()], ..good() }, "no active volume"),
        (PartnerOrder { volumes: vec![], ..good() }, "no volume"),
    ] {
        let refusal = authority.serve_exchange(root(), ExchangeRequest::Ask(order), None).unwrap_err();
        assert!(refusal.what.contains(what), "{refusal}");
    }
    let allowed = PartnerOrder { recipient: classic.recipient().unwrap().to_string(), allow_classic: true, ..good() };
    authority.serve_exchange(root(), ExchangeRequest::Ask(allowed), None).unwrap();
}

/// The expiry is made to pass by giving the log a last entry in the future: the clock set back later does not help.
#[test]
fn keys_end_with_their_package() {
    let (here, there) = (Install::new(), Install::new());
    let (ours, theirs) = (here.open(), there.open());
    let people = Custodians::register(&ours);
    let identity = Identity::generate(Kind::Hybrid).unwrap();
    let (at, _, _) = written(&ours, "ONE001");
    let site = ours.log_key().to_string();
    let soon = sealtape_kms_time(6);
    let package = export(&ours, &people, PartnerOrder { expires: soon.clone(), ..order(&identity, &["ONE001"]) });
    import(&theirs, &package, &site, &identity).unwrap();
    theirs.load(ME, UNIT, at).unwrap();
    // Longer by an edit of the database: noticed.
    there.database().execute("UPDATE imported_keys SET expires = '2999-01-01T00:00:00.000Z'", []).unwrap();
    assert_eq!(theirs.load(ME, UNIT, at).unwrap_err().code, RefusalCode::Damaged);
    there.database().execute("UPDATE imported_keys SET expires = ?1", [&soon]).unwrap();
    let sql = there.database();
    sql.execute_batch("CREATE TEMP TABLE kept AS SELECT * FROM imported_keys; DELETE FROM imported_keys;").unwrap();
    assert_eq!(theirs.load(ME, UNIT, at).unwrap_err().code, RefusalCode::Damaged);
    sql.execute_batch("INSERT INTO imported_keys SELECT * FROM kept;").unwrap();
    drop(sql);
    theirs.load(ME, UNIT, at).unwrap();
    while sealtape_kms_time(0) <= soon {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let refusal = theirs.load(ME, UNIT, at).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::KeyExpired, "{refusal}");
    // And a package that is over is not taken in at all.
    let third = Install::new();
    assert!(import(&third.open(), &package, &site, &identity).unwrap_err().what.contains("ended on"));
}

/// The time in `seconds`, as the catalogue writes it.
fn sealtape_kms_time(seconds: u64) -> String {
    let date = std::process::Command::new("date")
        .args(["-u", "-d", &format!("+{seconds} seconds"), "+%Y-%m-%dT%H:%M:%S.%3NZ"])
        .output()
        .unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}
