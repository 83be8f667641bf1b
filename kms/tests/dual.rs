//! Dual control with real OpenSSH signatures: who is refused, and why.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sealtape_kms::authority::{Actor, Authority, Changed};
use sealtape_kms::custody::{Leaf, Outcome};
use sealtape_kms::protocol::{Operation, Principal, RefusalCode, RequestState, Role};
use support::custodians::{Custodians, Person, root};
use support::install::Install;

fn operator(uid: u32) -> Operation {
    Operation::Grant { role: Role::Operator, principal: Principal::User(uid), tenant: None, pool: None }
}

fn last_leaf(authority: &Authority) -> Leaf {
    Leaf::parse(&authority.audit_show(None, 1).unwrap()[0]).unwrap()
}

#[test]
fn two_persons_approve_and_it_is_done_once() {
    let install = Install::new();
    let authority = install.open();
    // Before there are two officers nothing can be asked, and strangers register nobody.
    let refusal = authority.submit(root(), operator(7), None).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotApproved, "{refusal}");
    let stranger = Actor::User(54_321);
    assert_eq!(authority.change_persons(stranger, operator(7), None).unwrap_err().code, RefusalCode::NotAllowed);
    let people = Custodians::register(&authority);
    // From now on root changes nothing alone.
    let Changed::Requested(view) = authority.change_persons(root(), operator(7), Some("night shift")).unwrap() else {
        panic!("root alone");
    };
    assert_eq!((view.state, view.needed, view.approvals.len()), (RequestState::Pending, 2, 0));
    let refusal = authority.execute_change(root(), view.request).unwrap_err();
    assert!(refusal.what.contains("0 of 2 approvals"), "{refusal}");
    assert_eq!(people.alice.approve(&authority, view.request).state, RequestState::Pending);
    let refusal = authority.execute_change(root(), view.request).unwrap_err();
    assert!(refusal.what.contains("1 of 2 approvals"), "{refusal}");
    let refused = last_leaf(&authority);
    assert_eq!((refused.op.as_str(), refused.outcome), ("approval.execute", Outcome::Refused));
    assert_eq!(people.bob.approve(&authority, view.request).state, RequestState::Approved);
    authority.execute_change(root(), view.request).unwrap();
    let leaf = last_leaf(&authority);
    assert_eq!(
        (leaf.op.as_str(), leaf.outcome, leaf.role.as_deref()),
        ("role.grant", Outcome::Done, Some("security_officer"))
    );
    assert_eq!(leaf.approvals.len(), 2);
    assert_ne!(leaf.approvals[0].person, leaf.approvals[1].person);
    // Once.
    let refusal = authority.execute_change(root(), view.request).unwrap_err();
    assert!(refusal.what.contains("carried out or taken back"), "{refusal}");
    // The next start finds all of it again, from the log.
    drop(authority);
    let authority = install.open();
    let refusal = authority.execute_change(root(), view.request).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotApproved, "{refusal}");
    assert!(authority.pending().unwrap().is_empty());
}

#[test]
fn the_same_person_twice_is_one_person() {
    let install = Install::new();
    let authority = install.open();
    let people = Custodians::register(&authority);
    // Alice gets a second key.
    let second = Person::with_key(people.dir.path(), "alice", "ecdsa");
    let keys = vec![people.alice.public(), second.public()];
    people.change(&authority, Operation::PersonKeys { name: "alice".into(), keys });
    let request = authority.submit(root(), operator(7), None).unwrap().request;
    let (_, text) = authority.show_request(request).unwrap();
    authority.approve(root(), request, &people.alice.sign(&text)).unwrap();
    for again in [&people.alice, &second] {
        let refusal = authority.approve(root(), request, &again.sign(&text)).unwrap_err();
        assert!(refusal.what.contains("has approved"), "{refusal}");
    }
    // The second signature put into the database as if it were another person's.
    let signature: String = second.sign(&text).lines().filter(|l| !l.starts_with('-')).collect();
    install
        .database()
        .execute(
            "INSERT INTO approvals (request, person, key, signature, added) VALUES (?1, 'bob', 'x', ?2, '2026-01-01T00:00:00.000Z')",
            [request.to_string(), signature],
        )
        .unwrap();
    let refusal = authority.execute_change(root(), request).unwrap_err();
    assert!(refusal.what.contains("\"alice\" approved twice"), "{refusal}");
    // Carol is registered and has no role; Bob does it.
    install.database().execute("DELETE FROM approvals WHERE person = 'bob'", []).unwrap();
    let refusal = authority.approve(root(), request, &people.carol.sign(&text)).unwrap_err();
    assert!(refusal.what.contains("has not the role"), "{refusal}");
    people.bob.approve(&authority, request);
    authority.execute_change(root(), request).unwrap();
}
