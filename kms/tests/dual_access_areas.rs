//! Tokens, exchange, recovery, backups, anchors: each request, the roles that may ask for it, and where they have to hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sealtape_kms::authority::{Actor, Authority};
use sealtape_kms::exchange::{Body, Package};
use sealtape_kms::hex::{Hex, HexBytes};
use sealtape_kms::protocol::Role::{self, Administrator, Auditor, Backup, Operator, Recovery, SecurityOfficer};
use sealtape_kms::protocol::{
    AnchorRequest, AuditRequest, BackupRequest, ControlRequest, EnrolOrder, ExchangeRequest, HsmRequest, IdentityKind,
    Operation, PartnerOrder, PoolPolicy, Principal, RecoveryRequest, RefusalCode,
};
use sealtape_kms::recovery::drill::Report;
use sealtape_kms::recovery::generate;
use support::custodians::{Custodians, root};
use support::install::{Install, labelled};
use uuid::Uuid;

const FIRST: u32 = 2001;

fn uid(role: Role) -> u32 {
    FIRST + Role::ALL.iter().position(|r| *r == role).unwrap() as u32
}

/// Who has one role alone, everywhere; and `more`.
fn roles(more: &[Operation]) -> (Install, std::sync::Arc<Authority>) {
    let install = Install::new();
    let authority = install.open();
    authority.create_pool(root(), &PoolPolicy::standard("other")).unwrap();
    labelled(&authority, "ONE001");
    let people = Custodians::register(&authority);
    let everywhere =
        |role: Role| Operation::Grant { role, principal: Principal::User(uid(role)), tenant: None, pool: None };
    for operation in Role::ALL.into_iter().map(everywhere).chain(more.iter().cloned()) {
        people.change(&authority, operation);
    }
    (install, authority)
}

fn allowed(authority: &Authority, uid: u32, request: &ControlRequest) -> bool {
    match authority.authorise(Actor::User(uid), request) {
        Ok(Actor::InRole(who, _)) if who == uid => true,
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => {
            assert_eq!(refusal.code, RefusalCode::NotAllowed, "{refusal}");
            false
        }
    }
}

fn package() -> Package {
    let body = Body {
        package: Uuid::nil(),
        origin: "o".into(),
        site_key: "k".into(),
        partner: "p".into(),
        recipient: Hex([0; 32]),
        post_quantum: true,
        created: String::new(),
        expires: String::new(),
        sealed_sha256: Hex([0; 32]),
        keys: Vec::new(),
    };
    Package { format: String::new(), body, sealed: String::new(), note: String::new() }
}

fn ask(volumes: &[&str]) -> ControlRequest {
    let order = PartnerOrder {
        partner: "p".into(),
        recipient: "age1".into(),
        volumes: volumes.iter().map(|v| (*v).to_owned()).collect(),
        expires: "2990-01-01".into(),
        labels: false,
        allow_classic: false,
        reason: None,
    };
    ControlRequest::Exchange { request: ExchangeRequest::Ask(order) }
}

fn import(pool: Option<&str>) -> ControlRequest {
    let request = ExchangeRequest::Import {
        package: Box::new(package()),
        site_key: String::new(),
        identity: IdentityKind::Hybrid,
        pool: pool.map(str::to_owned),
    };
    ControlRequest::Exchange { request }
}

#[test]
fn each_request_is_for_its_roles_alone() {
    let id = Uuid::nil();
    let report = Report {
        format: String::new(),
        canary: id,
        recovery_key: id,
        set: Hex([0; 8]),
        shares: Vec::new(),
        time: String::new(),
        note: String::new(),
        signature: HexBytes(Vec::new()),
    };
    let public = Box::new(generate("default", 1, 3, 2).unwrap().0);
    let enrol = EnrolOrder { name: "t".into(), module: None, parameters: None, uri: None, pin: None };
    let hsm = |request| ControlRequest::Hsm { request };
    let exchange = |request| ControlRequest::Exchange { request };
    let recovery = |request| ControlRequest::Recovery { request };
    let backup = |request| ControlRequest::Backup { request };
    let anchor = |request| ControlRequest::Audit { request: AuditRequest::Anchor { request } };
    let reading = [SecurityOfficer, Administrator, Auditor, Backup, Recovery];
    let security = [SecurityOfficer, Administrator];
    let wanted: Vec<(ControlRequest, &[Role])> = vec![
        (hsm(HsmRequest::List), &Role::ALL),
        (hsm(HsmRequest::Enrol(enrol)), &security),
        (ask(&["ONE001"]), &[SecurityOfficer, Administrator, Backup]),
        (ask(&[]), &[SecurityOfficer, Administrator, Backup]),
        (exchange(ExchangeRequest::Export { request: id }), &[SecurityOfficer, Administrator, Backup]),
        (import(None), &[Administrator, Recovery]),
        (exchange(ExchangeRequest::Packages), &reading),
        (
            recovery(RecoveryRequest::Install { key: public, request: None, reason: None }),
            &[SecurityOfficer, Administrator, Recovery],
        ),
        (
            recovery(RecoveryRequest::Retire { key: id, request: None, reason: None }),
            &[SecurityOfficer, Administrator, Recovery],
        ),
        (recovery(RecoveryRequest::Keys), &reading),
        (recovery(RecoveryRequest::Backfill { tenant: None, most: 1 }), &[Administrator, Recovery]),
        (recovery(RecoveryRequest::Canary { key: None, tenant: None }), &[Administrator, Recovery]),
        (recovery(RecoveryRequest::EnterDrill { report: Box::new(report) }), &[Administrator, Recovery]),
        (backup(BackupRequest::Make { place: "safe".into() }), &[Administrator, Backup]),
        (backup(BackupRequest::Read { backup: id, offset: 0 }), &[Administrator, Backup]),
        (backup(BackupRequest::Forget { backup: id }), &[Administrator, Backup]),
        (backup(BackupRequest::List), &reading),
        (backup(BackupRequest::Destroyed { backup: id, reason: "burnt".into() }), &security),
        (anchor(AnchorRequest::Status), &Role::ALL),
        (anchor(AnchorRequest::Now), &[SecurityOfficer, Administrator, Auditor]),
        (anchor(AnchorRequest::Accept { name: "w1".into(), reason: "x".into() }), &security),
        (anchor(AnchorRequest::Lift { name: "w1".into(), request: None, reason: "x".into() }), &security),
    ];
    let (_install, authority) = roles(&[]);
    for (request, roles) in &wanted {
        for role in Role::ALL {
            assert_eq!(allowed(&authority, uid(role), request), roles.contains(&role), "{role}: {request:?}");
        }
        assert!(!allowed(&authority, 7, request), "nobody: {request:?}");
        // Nor does being root help, once roles are given.
        assert!(!allowed(&authority, 0, request), "root: {request:?}");
    }
}

#[test]
fn a_role_in_one_pool_reaches_what_lies_there_and_nothing_of_the_whole_installation() {
    let in_pool = |role, uid, pool: &str| Operation::Grant {
        role,
        principal: Principal::User(uid),
        tenant: Some("default".into()),
        pool: Some(pool.into()),
    };
    let (here, there) = (3001, 3002);
    let mut grants = Vec::new();
    for role in [Backup, Recovery] {
        grants.extend([in_pool(role, here, "default"), in_pool(role, there, "other")]);
    }
    grants.push(in_pool(Operator, here, "default"));
    let (_install, authority) = roles(&grants);
    assert!(allowed(&authority, here, &ask(&["ONE001"])));
    assert!(!allowed(&authority, there, &ask(&["ONE001"])));
    // What lies in two places, or nowhere that is known, needs the role everywhere.
    assert!(!allowed(&authority, here, &ask(&["ONE001", "TWO001"])));
    assert!(allowed(&authority, uid(Backup), &ask(&["ONE001", "TWO001"])));
    for pool in [None, Some("default")] {
        assert!(allowed(&authority, here, &import(pool)) && !allowed(&authority, there, &import(pool)));
    }
    assert!(allowed(&authority, there, &import(Some("other"))) && !allowed(&authority, here, &import(Some("other"))));
    for request in [
        ControlRequest::Exchange { request: ExchangeRequest::Export { request: Uuid::nil() } },
        ControlRequest::Exchange { request: ExchangeRequest::Packages },
        ControlRequest::Recovery { request: RecoveryRequest::Backfill { tenant: None, most: 1 } },
        ControlRequest::Backup { request: BackupRequest::Make { place: "safe".into() } },
        ControlRequest::Backup { request: BackupRequest::List },
    ] {
        for uid in [here, there] {
            assert!(!allowed(&authority, uid, &request), "{request:?}");
        }
    }
}
