//! Attacks on dual control by whoever has the machine: signatures for something else, time, replays, and the database edited, and
//! even the log continued, behind the key authority's back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sealtape_kms::authority::{Authority, AuthorityOptions, Clock};
use sealtape_kms::custody::tree::{RightEdge, leaf_hash};
use sealtape_kms::custody::{Leaf, canonical};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{Operation, Principal, Refusal, RefusalCode, RequestState, Role};
use sha2::{Digest, Sha256};
use support::custodians::{Custodians, Person, grant, root};
use support::install::{Install, options};
use uuid::Uuid;

fn operator(uid: u32) -> Operation {
    Operation::Grant { role: Role::Operator, principal: Principal::User(uid), tenant: None, pool: None }
}

fn asked(authority: &Authority, operation: Operation) -> (Uuid, String) {
    let request = authority.submit(root(), operation, None).unwrap().request;
    (request, authority.show_request(request).unwrap().1)
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>, why: &str) {
    let refusal = result.unwrap_err();
    assert!(refusal.what.contains(why), "{why:?} in {refusal}");
}

#[test]
fn a_signature_for_something_else_does_not_count() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    let (first, text) = asked(&authority, operator(7));
    let (second, other) = asked(&authority, operator(7));
    assert_ne!(text, other, "the same wish twice is two requests");
    let alice = &people.alice;
    // For another request, another namespace, an edited file, and of a stranger.
    refused(authority.approve(root(), first, &alice.sign(&other)), "not a signature of this key over this request");
    refused(authority.approve(root(), first, &alice.sign_for(&text, "file", "sha512")), "it was made for \"file\"");
    for edited in [format!("{text}\n"), text.replace("uid:7", "uid:8"), text.replace("operator", "auditor")] {
        assert_ne!(edited, text);
        refused(authority.approve(root(), first, &alice.sign(&edited)), "not a signature of this key");
    }
    let mallory = Person::with_key(people.dir.path(), "mallory", "ed25519");
    refused(authority.approve(root(), first, &mallory.sign(&text)), "not that of a registered person");
    refused(authority.approve(root(), None, &mallory.sign(&text)), "fits no request");
    for rubbish in ["", "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n", &"A".repeat(5000)] {
        assert_eq!(authority.approve(root(), first, rubbish).unwrap_err().code, RefusalCode::BadRequest);
    }
    // The hash that the signature names is part of what is signed: another name makes it another one. Both hashes are taken.
    let good = alice.sign_for(&text, "sealtape-approval@sealtape", "sha256");
    let body: String = good.lines().filter(|l| !l.starts_with('-')).collect();
    let mut bytes = unbase64(&body);
    let at = bytes.windows(6).position(|w| w == b"sha256").unwrap();
    bytes[at..at + 6].copy_from_slice(b"sha512");
    let changed = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", base64(&bytes));
    refused(authority.approve(root(), first, &changed), "not a signature");
    authority.approve(root(), first, &good).unwrap();
    // Bob's fits the second one, without its name.
    let view = authority.approve(root(), None, &people.bob.sign(&other)).unwrap();
    assert_eq!((view.request, view.approvals.len()), (second, 1));
    refused(authority.execute_change(root(), first), "1 of 2 approvals");
    // Another installation's request, approved by the same keys there, means nothing here.
    let elsewhere = Install::new();
    let there = elsewhere.open();
    refused(there.approve(root(), first, &alice.sign(&text)), "there is no request");
}

#[test]
fn an_approval_is_for_things_as_they_were_and_for_one_time() {
    let install = Install::new();
    let hours = Arc::new(AtomicU64::new(1000));
    let ticking = Arc::clone(&hours);
    let start = SystemTime::now();
    let clock = Clock::new(move || {
        start + Duration::from_secs(3600 * ticking.load(Ordering::SeqCst)) - Duration::from_secs(3_600_000)
    });
    let authority = Authority::open(&install.home, AuthorityOptions { clock: clock.clone(), ..options() }).unwrap();
    let people = Custodians::register(&authority);
    // The state changed between approval and carrying out.
    let (request, _) = asked(&authority, grant(Role::Operator, "carol"));
    people.approve(&authority, request);
    people.change(&authority, grant(Role::Auditor, "carol"));
    refused(authority.execute_change(root(), request), "has changed since");
    // And back to what it was: an approval of before would fit again, and is for what it was made for.
    let revoke = Operation::Revoke {
        role: Role::Auditor,
        principal: Principal::Person("carol".into()),
        tenant: None,
        pool: None,
    };
    people.change(&authority, revoke);
    authority.execute_change(root(), request).unwrap();
    refused(authority.execute_change(root(), request), "carried out or taken back");
    // A person who went, or whose key went, since.
    let (request, text) = asked(&authority, operator(7));
    people.change(&authority, grant(Role::SecurityOfficer, "carol"));
    authority.approve(root(), request, &people.carol.sign(&text)).unwrap();
    people.alice.approve(&authority, request);
    people.change(&authority, Operation::PersonRemove { name: "carol".into() });
    refused(authority.execute_change(root(), request), "1 of 2 approvals");
    let fresh = Person::with_key(people.dir.path(), "alice", "ed25519");
    people.change(&authority, Operation::PersonKeys { name: "alice".into(), keys: vec![fresh.public()] });
    refused(authority.execute_change(root(), request), "0 of 2 approvals");
    // Taken back.
    authority.withdraw(root(), request, "not any more").unwrap();
    refused(authority.approve(root(), request, &fresh.sign(&text)), "withdrawn");
    // Expired; setting the clock back does not help, since the log's time does not go back.
    let (request, text) = asked(&authority, operator(9));
    for person in [&fresh, &people.bob] {
        authority.approve(root(), request, &person.sign(&text)).unwrap();
    }
    hours.fetch_add(24 * 7 + 1, Ordering::SeqCst);
    refused(authority.execute_change(root(), request), "expired");
    hours.store(1000, Ordering::SeqCst);
    refused(authority.execute_change(root(), request), "expired");
    assert!(authority.pending().unwrap().is_empty());
    assert_eq!(authority.show_request(request).unwrap().0.state, RequestState::Expired);
    drop(authority);
    let authority = Authority::open(&install.home, AuthorityOptions { clock, ..options() }).unwrap();
    refused(authority.execute_change(root(), request), "expired");
}

#[test]
fn two_officers_remain_and_nobody_is_two_persons() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    let submit = |operation| authority.submit(root(), operation, None);
    refused(submit(Operation::PersonRemove { name: "bob".into() }), "1 security officer(s)");
    let officer = |name: &str| Principal::Person(name.into());
    let revoke =
        Operation::Revoke { role: Role::SecurityOfficer, principal: officer("alice"), tenant: None, pool: None };
    refused(submit(revoke.clone()), "1 security officer(s)");
    // With a third one, approved requests for two of them are not both carried out.
    people.change(&authority, grant(Role::SecurityOfficer, "carol"));
    let (first, _) = asked(&authority, Operation::PersonRemove { name: "bob".into() });
    let (second, text) = asked(&authority, Operation::PersonRemove { name: "carol".into() });
    people.approve(&authority, first);
    for person in [&people.alice, &people.carol] {
        authority.approve(root(), second, &person.sign(&text)).unwrap();
    }
    authority.execute_change(root(), first).unwrap();
    refused(authority.execute_change(root(), second), "1 security officer(s)");
    // One key, one person; one name, one person, for ever.
    let again = |name: &str, key: &Person| Operation::PersonAdd { name: name.into(), keys: vec![key.public()] };
    refused(submit(again("dave", &people.alice)), "is that of \"alice\"");
    let dave = Person::with_key(people.dir.path(), "dave", "ed25519");
    for name in ["bob", "Bob", "ALICE"] {
        refused(submit(again(name, &dave)), "was given before");
    }
    for name in ["", "a b", "аlice", "\u{202e}eve", "x\n"] {
        refused(submit(again(name, &dave)), "no name of a person");
    }
    refused(submit(grant(Role::Operator, "nobody")), "there is no person");
    refused(
        submit(Operation::Grant {
            role: Role::Operator,
            principal: officer("alice"),
            tenant: Some("x".into()),
            pool: None,
        }),
        "no tenant",
    );
    let pool = Operation::Grant {
        role: Role::SecurityOfficer,
        principal: officer("alice"),
        tenant: Some("default".into()),
        pool: Some("default".into()),
    };
    authority.submit(root(), pool, None).unwrap();
    refused(authority.submit(root(), operator(5), Some("a\u{7}b")), "no reason");
    // Kinds of keys that are not taken, as ssh-keygen makes them.
    let key = Person::with_key(people.dir.path(), "eve", "rsa");
    refused(submit(again("eve", &key)), "ssh-rsa");
}

#[test]
fn only_so_many_requests_wait() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    let short = Duration::from_millis(1);
    let (first, _) = asked(&authority, operator(1));
    for uid in 2..=100 {
        authority.submit(root(), operator(uid), None).unwrap();
    }
    let full = |result: Result<_, Refusal>| assert_eq!(result.unwrap_err().code, RefusalCode::Busy);
    full(authority.submit(root(), operator(101), None));
    // One that was taken back or has expired waits no more.
    authority.withdraw(root(), first, "enough").unwrap();
    authority.submit_for(root(), operator(101), None, short).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let (last, _) = asked(&authority, operator(102));
    people.approve(&authority, last);
    authority.execute_change(root(), last).unwrap();
    assert_eq!(authority.pending().unwrap().len(), 99);
    for wrong in [Duration::ZERO, Duration::from_secs(31 * 86_400)] {
        refused(authority.submit_for(root(), operator(3), None, wrong), "30 days");
    }
}

/// The log continued by somebody who can write the database, tree and all.
fn append(database: &rusqlite::Connection, leaves: &[Leaf]) {
    let texts: Vec<String> = {
        let mut query = database.prepare("SELECT leaf FROM custody_leaves ORDER BY seq").unwrap();
        query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let mut edge = RightEdge::default();
    texts.iter().for_each(|text| edge.append(leaf_hash(text.as_bytes()), |_, _| {}));
    for leaf in leaves {
        let seq = edge.size();
        let leaf = Leaf { seq, ..leaf.clone() };
        let text = serde_json::to_string(&leaf).unwrap();
        database
            .execute("INSERT INTO custody_leaves (seq, leaf) VALUES (?1, ?2)", rusqlite::params![seq as i64, text])
            .unwrap();
        edge.append(leaf_hash(text.as_bytes()), |node, hash| {
            let insert = "INSERT OR REPLACE INTO custody_nodes (level, idx, hash) VALUES (?1, ?2, ?3)";
            database.execute(insert, rusqlite::params![node.level, node.index as i64, hash]).unwrap();
        });
    }
}

fn leaves(authority: &Authority) -> Vec<Leaf> {
    authority.audit_show(Some(0), 1000).unwrap().iter().map(|text| Leaf::parse(text).unwrap()).collect()
}

fn record(before: u64, operation: &Operation, request: Option<String>) -> String {
    let mut value = serde_json::json!({"before": before, "format": "sealtape rights 1", "operation": operation});
    if let Some(request) = request {
        value["request"] = request.into();
    }
    canonical(&value).unwrap()
}

#[test]
fn root_does_not_become_the_second_custodian_by_writing_the_database() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    let mallory = Person::with_key(people.dir.path(), "mallory", "ed25519");
    let key = mallory.public().split(' ').take(2).collect::<Vec<_>>().join(" ");
    let add = Operation::PersonAdd { name: "mallory".into(), keys: vec![key.clone()] };
    // A request that two persons approved, and that was carried out: to be replayed below.
    people.change(&authority, operator(7));
    let history = leaves(&authority);
    let granted = history.iter().rfind(|l| l.op == "role.grant").unwrap().clone();
    let executed = history.iter().rfind(|l| l.op == "approval.execute").unwrap().clone();
    // While it runs: the operation of a request that is being approved is another one now.
    let (request, text) = asked(&authority, operator(8));
    let database = install.database();
    let edit = "UPDATE requests SET text = replace(text, 'uid:8', 'uid:0') WHERE id = ?1";
    assert_eq!(database.execute(edit, [request.to_string()]).unwrap(), 1);
    let shown = authority.show_request(request).unwrap().1;
    refused(authority.approve(root(), request, &people.alice.sign(&shown)), "its text was changed");
    refused(authority.execute_change(root(), request), "its text was changed");
    database.execute("UPDATE requests SET text = ?2 WHERE id = ?1", [request.to_string(), text]).unwrap();
    // Used and withdrawn requests made pending again.
    authority.withdraw(root(), request, "enough").unwrap();
    people_wait(&database);
    refused(authority.execute_change(root(), request), "carried out or taken back");
    let used: String =
        database.query_row("SELECT id FROM requests ORDER BY created LIMIT 1", [], |r| r.get(0)).unwrap();
    refused(authority.execute_change(root(), used.parse().unwrap()), "carried out or taken back");
    database.execute("UPDATE requests SET state = 'executed'", []).unwrap();
    // A custodian by a row alone counts for nothing now, and at the next start it is found.
    let head = granted.seq;
    let row = "INSERT INTO rights (leaf, record) VALUES (?1, ?2)";
    database.execute(row, rusqlite::params![9999, record(head, &add, None)]).unwrap();
    let (request, text) = asked(&authority, operator(9));
    people.alice.approve(&authority, request);
    refused(authority.approve(root(), request, &mallory.sign(&text)), "not that of a registered person");
    authority.shut_down().unwrap();
    drop(authority);
    let starts = |why: &str| {
        let refusal = Authority::open(&install.home, options()).map(drop).expect_err(why);
        assert_eq!(refusal.code, RefusalCode::Damaged, "{why}: {refusal}");
        assert!(refusal.what.contains(why), "{why:?} in {refusal}");
    };
    starts("that no custody entry knows");
    database.execute("DELETE FROM rights WHERE leaf = 9999", []).unwrap();
    let saved = |name: &str| people.dir.path().join(name);
    let save = |name: &str| {
        database.execute("VACUUM INTO ?1", [saved(name).to_str().unwrap()]).unwrap();
    };
    save("good.db");
    let restore = || {
        let good = rusqlite::Connection::open(saved("good.db")).unwrap();
        let mut target = install.database();
        rusqlite::backup::Backup::new(&good, &mut target)
            .unwrap()
            .run_to_completion(1000, Duration::ZERO, None)
            .unwrap();
    };
    // Bob's key swapped for root's; a grant changed; a change left out; the index over the log replaced.
    let bob = people.bob.public().split(' ').take(2).collect::<Vec<_>>().join(" ");
    for (edit, why) in [
        (format!("UPDATE rights SET record = replace(record, '{bob}', '{key}')"), "of another record"),
        ("UPDATE rights SET record = replace(record, 'uid:7', 'uid:0')".into(), "of another record"),
        ("DELETE FROM rights WHERE leaf = (SELECT max(leaf) FROM rights)".into(), "has no record"),
        ("DROP INDEX dual_leaves; CREATE INDEX dual_leaves ON custody_leaves (seq) WHERE seq < 0".into(), ""),
    ] {
        let database = install.database();
        let before: i64 = database.query_row("SELECT total_changes()", [], |r| r.get(0)).unwrap();
        database.execute_batch(&edit).unwrap();
        let after: i64 = database.query_row("SELECT total_changes()", [], |r| r.get(0)).unwrap();
        assert!(after > before || edit.starts_with("DROP"), "{edit} changes something");
        drop(database);
        match why {
            "" => drop(Authority::open(&install.home, options()).map(drop).expect_err("another index")),
            why => starts(why),
        }
        restore();
        drop(Authority::open(&install.home, options()).expect("as it was"));
    }
    // The log itself continued, with a tree that agrees: without approvals, with approvals of something else, with a replay.
    let last = leaves(&Authority::open(&install.home, options()).unwrap()).last().unwrap().clone();
    let forged = |operation: &str, record: &str| Leaf {
        op: operation.into(),
        digest: Some(Hex(Sha256::digest(record.as_bytes()).into())),
        approvals: granted.approvals.clone(),
        reason: None,
        ..last.clone()
    };
    let request: String = install
        .database()
        .query_row("SELECT request FROM rights WHERE leaf = ?1", [granted.seq as i64], |r| r.get(0))
        .unwrap();
    let digest = executed.digest.unwrap();
    let replay = Leaf { time: last.time.clone(), ..executed.clone() };
    let again = Leaf { digest: Some(Hex([9; 32])), ..replay.clone() };
    for (name, before, change, named, why) in [
        ("without a request", None, record(head, &add, None), None, "without approvals"),
        (
            "of another operation",
            None,
            record(head, &add, Some(digest.to_string())),
            Some(&request),
            "does not carry the request out",
        ),
        (
            "not carried out",
            Some(&again),
            record(head, &operator(0), Some(digest.to_string())),
            Some(&request),
            "does not carry",
        ),
        (
            "replayed",
            Some(&replay),
            record(head, &operator(7), Some(digest.to_string())),
            Some(&request),
            "spent before",
        ),
        ("out of order", None, record(head - 1, &add, None), None, "does not follow"),
    ] {
        let operation = if change.contains("person_add") { "custodian.add" } else { "role.grant" };
        restore();
        let database = install.database();
        let mut new: Vec<Leaf> = before.into_iter().cloned().collect();
        new.push(forged(operation, &change));
        append(&database, &new);
        database
            .execute(
                "INSERT INTO rights (leaf, record, request) VALUES ((SELECT max(seq) FROM custody_leaves), ?1, ?2)",
                rusqlite::params![change, named],
            )
            .unwrap();
        drop(database);
        println!("{name}");
        starts(why);
    }
    restore();
    drop(Authority::open(&install.home, options()).unwrap());
}

fn people_wait(database: &rusqlite::Connection) {
    assert!(database.execute("UPDATE requests SET state = 'pending'", []).unwrap() > 1);
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn unbase64(text: &str) -> Vec<u8> {
    let (mut bits, mut have, mut out) = (0u32, 0, Vec::new());
    for c in text.bytes().filter(|c| *c != b'=') {
        bits = bits << 6 | ALPHABET.iter().position(|a| *a == c).unwrap() as u32;
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let c = if i <= group.len() { ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] } else { b'=' };
            text.push(char::from(c));
        }
    }
    text.as_bytes().chunks(70).map(|l| std::str::from_utf8(l).unwrap()).collect::<Vec<_>>().join("\n")
}
