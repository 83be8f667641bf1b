//! The offline recovery key in a whole installation: installed, wrapped to, drilled, replaced; and the stanzas that it opens.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sealtape_kms::age::{self, Identity};
use sealtape_kms::authority::{Actor, Authority};
use sealtape_kms::custody::{Leaf, verify_export};
use sealtape_kms::hex::Hex;
use sealtape_kms::offline;
use sealtape_kms::protocol::{
    GenerationRef, Operation, RecoveryKeyState, RecoveryKeyView, RecoveryReply, RecoveryRequest, RefusalCode, Stanza,
};
use sealtape_kms::recovery::shares::{Share, combine};
use sealtape_kms::recovery::{PublicHalf, generate, stanza};
use support::custodians::{Custodians, root};
use support::install::{Install, ME, UNIT, labelled};

fn install_key(authority: &Authority, actor: Actor, key: &PublicHalf) -> RecoveryReply {
    let request = RecoveryRequest::Install { key: Box::new(key.clone()), request: None, reason: None };
    authority.serve_recovery(actor, request).unwrap()
}

fn keys(authority: &Authority) -> Vec<RecoveryKeyView> {
    match authority.serve_recovery(ME, RecoveryRequest::Keys).unwrap() {
        RecoveryReply::Keys(keys) => keys,
        other => panic!("{other:?}"),
    }
}

fn refused(authority: &Authority, request: RecoveryRequest) -> String {
    authority.serve_recovery(ME, request).unwrap_err().to_string()
}

fn backfill(authority: &Authority, most: u32) -> (u32, u64) {
    match authority.serve_recovery(ME, RecoveryRequest::Backfill { tenant: None, most }).unwrap() {
        RecoveryReply::Backfilled { wrapped, remaining, .. } => (wrapped, remaining),
        other => panic!("{other:?}"),
    }
}

fn stanzas(install: &Install, at: GenerationRef) -> Vec<Vec<u8>> {
    let sql = install.database();
    let mut query = sql.prepare("SELECT body FROM recovery_stanzas WHERE key_id = ?1").unwrap();
    query.query_map([at.key_id.to_string()], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}

fn copies(install: &Install, at: GenerationRef) -> Vec<(String, String)> {
    let sql = install.database();
    let mut query = sql.prepare("SELECT kind, state FROM copies WHERE key_id = ?1 ORDER BY kind").unwrap();
    query.query_map([at.key_id.to_string()], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn keys_before_and_after_are_wrapped_and_shares_open_them() {
    let install = Install::new();
    let authority = install.open();
    let (_, old, old_key) = labelled(&authority, "OLD001");
    assert_eq!(copies(&install, old), [("medium".into(), "exists".into())]);
    let (public, shares) = generate("default", 1, 3, 2).unwrap();
    // Nobody is registered who could approve: root alone installs the first one. Others do not.
    let request = RecoveryRequest::Install { key: Box::new(public.clone()), request: None, reason: None };
    assert_eq!(authority.serve_recovery(ME, request).unwrap_err().code, RefusalCode::NotApproved);
    assert!(matches!(install_key(&authority, root(), &public), RecoveryReply::Key(_)));

    let ticket = authority.authorize_label(ME, &support::install::order("NEW001")).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Default::default()).unwrap();
    let (new, new_key) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    assert_eq!(new.stanzas.iter().map(|s| s.kind).collect::<Vec<_>>(), [1, stanza::KIND]);
    let unknown = [("medium", "unknown"), ("recovery", "exists"), ("recovery_medium", "unknown")];
    assert_eq!(copies(&install, new.at), unknown.map(|(k, s)| (k.to_owned(), s.to_owned())));
    authority.activate_generation(ME, UNIT, new.at, Hex([7; 32])).unwrap();
    assert!(copies(&install, new.at).iter().all(|(_, state)| state == "exists"));

    assert_eq!((keys(&authority)[0].wrapped, keys(&authority)[0].of), (1, 2));
    assert_eq!(backfill(&authority, 10), (1, 0));
    assert_eq!(backfill(&authority, 10), (0, 0));
    assert_eq!((keys(&authority)[0].wrapped, keys(&authority)[0].of), (2, 2));
    let leaf = Leaf::parse(&authority.audit_show(None, 1).unwrap()[0]).unwrap();
    assert_eq!((leaf.op.as_str(), leaf.key, leaf.blobs.len()), ("recovery.wrap", Some(old.key_id), 1));

    let identity = combine(&shares[1..], None).unwrap().identity;
    for (at, key) in [(old, &old_key), (new.at, &new_key)] {
        let body = stanzas(&install, at).pop().unwrap();
        assert!(stanza::unwrap(&identity, &body, at).unwrap().ct_eq(key));
    }
    // From the medium, without the token.
    assert!(offline::unwrap_recovery(&identity, &new.stanzas, new.at).unwrap().ct_eq(&new_key));
    let without = [new.stanzas[0].clone()];
    assert!(offline::unwrap_recovery(&identity, &without, new.at).unwrap_err().to_string().contains("recovery"));
    let moved =
        [Stanza { kind: stanza::KIND, body: sealtape_kms::hex::HexBytes(stanzas(&install, old).pop().unwrap()) }];
    assert!(offline::unwrap_recovery(&identity, &moved, new.at).unwrap_err().to_string().contains("moved"));
    let other = combine(&generate("default", 1, 2, 2).unwrap().1, None).unwrap().identity;
    let text = offline::unwrap_recovery(&other, &new.stanzas, new.at).unwrap_err().to_string();
    assert!(text.contains("bring those of"), "{text}");

    let mut out = Vec::new();
    authority.audit_export(ME, &mut out).unwrap();
    verify_export(&mut out.as_slice(), &authority.log_key()).unwrap();
}

#[test]
fn a_recovery_key_put_in_anothers_place_is_noticed() {
    let install = Install::new();
    let authority = install.open();
    let (public, _) = generate("default", 1, 3, 2).unwrap();
    install_key(&authority, root(), &public);
    labelled(&authority, "ONE001");
    // A stranger's public half under the name of ours; then the row of another name.
    let (strange, _) = generate("default", 1, 3, 2).unwrap();
    let text = serde_json::to_string(&strange).unwrap();
    install.database().execute("UPDATE recovery_keys SET public = ?1", [&text]).unwrap();
    let ticket = authority.authorize_label(ME, &support::install::order("TWO001")).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Default::default()).unwrap();
    let refusal = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TamperedBlob, "{refusal}");
    let id = sealtape_kms::recovery::key_id(&strange.check().unwrap()).to_string();
    let sql = install.database();
    sql.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    sql.execute("UPDATE recovery_keys SET id = ?1", [&id]).unwrap();
    let refusal = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TamperedBlob, "{refusal}");
}

#[test]
fn the_next_epoch_takes_two_persons_and_takes_over() {
    let install = Install::new();
    let authority = install.open();
    let (first, _) = generate("default", 1, 3, 2).unwrap();
    install_key(&authority, root(), &first);
    let (_, at, _) = labelled(&authority, "ONE001");
    let people = Custodians::register(&authority);
    let (second, shares) = generate("default", 2, 5, 3).unwrap();
    // Not this tenant, not the next epoch, not post-quantum, not its form.
    let install_request =
        |key: &PublicHalf, request| RecoveryRequest::Install { key: Box::new(key.clone()), request, reason: None };
    for (key, what) in [
        (generate("other", 2, 3, 2).unwrap().0, "tenant \"other\""),
        (generate("default", 3, 3, 2).unwrap().0, "the next one here is 2"),
        (first.clone(), "the next one here is 2"),
        (PublicHalf { threshold: 6, ..second.clone() }, "cannot be needed"),
        (
            PublicHalf {
                recipient: "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj".into(),
                ..second.clone()
            },
            "classic",
        ),
    ] {
        let text = refused(&authority, install_request(&key, None));
        assert!(text.contains(what), "{text}");
    }
    let RecoveryReply::Asked(view) = install_key(&authority, root(), &second) else { panic!("root alone") };
    assert!(refused(&authority, install_request(&second, Some(view.request))).contains("0 of 2"));
    people.approve(&authority, view.request);
    // Approved was this key: another one of the same numbers is refused, and the approval not spent.
    let other = generate("default", 2, 5, 3).unwrap().0;
    let text = refused(&authority, install_request(&other, Some(view.request)));
    assert!(text.contains(&view.request.to_string()), "{text}");
    let reply = authority.serve_recovery(ME, install_request(&second, Some(view.request))).unwrap();
    assert!(matches!(reply, RecoveryReply::Key(_)), "{reply:?}");
    let views = keys(&authority);
    let states: Vec<_> = views.iter().map(|k| (k.epoch, k.state)).collect();
    assert_eq!(states, [(2, RecoveryKeyState::Active), (1, RecoveryKeyState::Retired)]);
    assert_eq!(backfill(&authority, 10), (1, 0));
    let identity = combine(&shares[2..], None).unwrap().identity;
    let opened = stanzas(&install, at).iter().filter(|s| stanza::unwrap(&identity, s, at).is_ok()).count();
    assert_eq!((opened, stanzas(&install, at).len()), (1, 2));
    // Retired: nothing is wrapped any more.
    let retire = |request| RecoveryRequest::Retire { key: views[0].key, request, reason: None };
    let RecoveryReply::Asked(view) = authority.serve_recovery(root(), retire(None)).unwrap() else { panic!("alone") };
    people.approve(&authority, view.request);
    authority.serve_recovery(root(), retire(Some(view.request))).unwrap();
    assert!(
        refused(&authority, RecoveryRequest::Backfill { tenant: None, most: 1 }).contains("no recovery key in use")
    );
    let (_, later, _) = labelled(&authority, "TWO001");
    assert!(stanzas(&install, later).is_empty());
    assert!(refused(&authority, retire(None)).contains("retired"));
}

/// What custodians approve is the next key in place of the one in use; when that is another one, or none, they have not.
#[test]
fn an_approval_does_not_outlast_the_recovery_keys_that_it_was_given_for() {
    let install = Install::new();
    let authority = install.open();
    let (first, _) = generate("default", 1, 3, 2).unwrap();
    install_key(&authority, root(), &first);
    let key = keys(&authority)[0].key;
    let people = Custodians::register(&authority);
    let (second, _) = generate("default", 2, 3, 2).unwrap();
    let state = |request| authority.show_request(request).unwrap().1.split("\"state\":").last().unwrap().to_owned();
    let asked = |reply| match reply {
        RecoveryReply::Asked(view) => {
            people.approve(&authority, view.request);
            view.request
        }
        other => panic!("{other:?}"),
    };
    let in_place_of_the_first = asked(install_key(&authority, root(), &second));
    let retire = |request| RecoveryRequest::Retire { key, request, reason: None };
    let active = asked(authority.serve_recovery(root(), retire(None)).unwrap());
    let text = authority.show_request(active).unwrap().1;
    assert!(text.contains(&format!("{key}")) && text.contains("epoch 1, active"), "{text}");
    authority.serve_recovery(root(), retire(Some(active))).unwrap();
    // Now there is none in use, and the next one is still of epoch 2.
    let request = |request| RecoveryRequest::Install { key: Box::new(second.clone()), request, reason: None };
    let refusal = authority.serve_recovery(root(), request(Some(in_place_of_the_first))).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotApproved, "{refusal}");
    assert!(refusal.what.contains("has changed since it was made"), "{refusal}");
    let again = asked(authority.serve_recovery(root(), request(None)).unwrap());
    assert_ne!(state(again), state(in_place_of_the_first));
    assert!(matches!(authority.serve_recovery(root(), request(Some(again))).unwrap(), RecoveryReply::Key(_)));
    // Asked for behind the rules of this area, it is another state too; and of an unknown key nothing is asked.
    let retired = authority.submit(root(), Operation::RecoveryKeyRetire { key }, None).unwrap().request;
    assert_ne!(state(retired), state(active));
    let unknown = authority.submit(root(), Operation::RecoveryKeyRetire { key: uuid::Uuid::nil() }, None).unwrap_err();
    assert!(unknown.what.contains("no recovery key"), "{unknown}");
}

#[test]
fn a_drill_is_entered_once_as_it_was_held() {
    let install = Install::new();
    let authority = install.open();
    assert!(refused(&authority, RecoveryRequest::Canary { key: None, tenant: None }).contains("no recovery key"));
    let (public, shares) = generate("default", 1, 3, 2).unwrap();
    install_key(&authority, root(), &public);
    let canary = || match authority.serve_recovery(ME, RecoveryRequest::Canary { key: None, tenant: None }).unwrap() {
        RecoveryReply::Canary(canary) => *canary,
        other => panic!("{other:?}"),
    };
    let (one, two) = (canary(), canary());
    let sheets: Vec<_> = shares.iter().map(|s| s.sheet()).collect();
    let typed: Vec<Share> = sheets[..2].iter().map(|s| Share::parse(s.as_bytes(), "sheet").unwrap()).collect();
    let recovered = combine(&typed, Some(one.recovery_key)).unwrap();
    let report = sealtape_kms::recovery::drill::run(&one, &recovered, "in the vault").unwrap();
    let enter = |report: &sealtape_kms::recovery::drill::Report| {
        authority.serve_recovery(ME, RecoveryRequest::EnterDrill { report: Box::new(report.clone()) })
    };
    let edited = sealtape_kms::recovery::drill::Report { note: "elsewhere".into(), ..report.clone() };
    assert!(enter(&edited).unwrap_err().what.contains("signature"));
    let swapped = sealtape_kms::recovery::drill::Report { canary: two.canary, ..report.clone() };
    assert!(enter(&swapped).unwrap_err().what.contains("signature"));
    enter(&report).unwrap();
    assert!(enter(&report).unwrap_err().what.contains("was entered on"));
    assert!(keys(&authority)[0].drilled.is_some());
    let leaf = authority.audit_show(None, 2).unwrap().into_iter().map(|l| Leaf::parse(&l).unwrap()).next().unwrap();
    assert_eq!(leaf.op, "recovery.drill");
    assert!(leaf.reason.unwrap().contains("shares 1, 2 of set"));
    // The key that verifies the report exchanged in the database.
    install.database().execute("UPDATE recovery_canaries SET public = zeroblob(32)", []).unwrap();
    let report = sealtape_kms::recovery::drill::run(&two, &recovered, "").unwrap();
    assert_eq!(enter(&report).unwrap_err().code, RefusalCode::Damaged);
}

/// A file that age's TypeScript implementation (age-encryption 0.3.0) wrote, and one that Debian's age writes and reads.
#[test]
fn stock_age_understands_us() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/age");
    let identity = Identity::parse(&std::fs::read(fixtures.join("hybrid.identity")).unwrap()).unwrap();
    assert_eq!(*age::open(&std::fs::read(fixtures.join("hybrid.age")).unwrap(), &identity).unwrap(), b"from js");

    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let output = std::process::Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let identity = Identity::generate(age::Kind::X25519).unwrap();
    std::fs::write(path("identity"), identity.to_text().as_bytes()).unwrap();
    let recipient = identity.recipient().unwrap();
    let shown = run("age-keygen", &["-y".as_ref(), path("identity").as_os_str()]);
    assert_eq!(String::from_utf8(shown).unwrap().trim(), recipient.to_string());
    let plain = vec![7; 100_000];
    std::fs::write(path("ours"), age::seal(&recipient, &plain).unwrap()).unwrap();
    let opened = run("age", &["-d".as_ref(), "-i".as_ref(), path("identity").as_os_str(), path("ours").as_os_str()]);
    assert_eq!(opened, plain);
    std::fs::write(path("plain"), &plain).unwrap();
    let to = recipient.to_string();
    let sealed = run("age", &["-r".as_ref(), to.as_ref(), path("plain").as_os_str()]);
    assert_eq!(*age::open(&sealed, &identity).unwrap(), plain);
}
