//! Roles: who may ask for what, and where.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use nix::unistd::{Group, Uid, User};
use sealtape_kms::authority::{Actor, Authority};
use sealtape_kms::custody::{Leaf, Outcome};
use sealtape_kms::protocol::{
    AuditRequest, ControlRequest, DualRequest, ExportOrder, ExportScope, LabelOrder, Operation, PoolPolicy, Principal,
    RefusalCode, Role, VolumeQuery, VolumeState,
};
use support::custodians::{Custodians, root};
use support::install::{Install, labelled, order};

fn give(role: Role, principal: Principal, pool: Option<&str>) -> Operation {
    Operation::Grant { role, principal, tenant: pool.map(|_| "default".into()), pool: pool.map(str::to_owned) }
}

fn full_export() -> ControlRequest {
    let order = ExportOrder { scope: ExportScope::Full, csv: false };
    ControlRequest::Audit { request: AuditRequest::Export { order } }
}

fn role_for(authority: &Authority, uid: u32, request: &ControlRequest) -> Option<Role> {
    match authority.authorise(Actor::User(uid), request) {
        Ok(Actor::InRole(who, role)) if who == uid => Some(role),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => {
            assert_eq!(refusal.code, RefusalCode::NotAllowed, "{refusal}");
            None
        }
    }
}

#[test]
fn roles_hold_within_pools_and_before_the_first_the_socket_decides() {
    let install = Install::new();
    let authority = install.open();
    authority.create_pool(root(), &PoolPolicy::standard("other")).unwrap();
    labelled(&authority, "A");
    let label = |pool: &str| ControlRequest::AuthorizeLabel(LabelOrder { pool: Some(pool.into()), ..order("B") });
    let state = |volume: &str| ControlRequest::SetVolumeState {
        volume: volume.into(),
        state: VolumeState::Retired,
        reason: "x".into(),
    };
    let show = |volume: &str| ControlRequest::ShowVolume { volume: volume.into() };
    let pool = ControlRequest::CreatePool { policy: PoolPolicy::standard("third"), tenant: None };
    // Without grants: members of the control group as ever, with the role in the log.
    assert_eq!(role_for(&authority, 7, &label("other")), Some(Role::Operator));
    assert_eq!(role_for(&authority, 7, &pool), Some(Role::Administrator));
    assert_eq!(role_for(&authority, 7, &full_export()), Some(Role::Auditor));
    let people = Custodians::register(&authority);
    assert_eq!(role_for(&authority, 7, &label("other")), Some(Role::Operator), "persons are no users of the machine");
    // From the first grant on only grants count.
    people.change(&authority, give(Role::Operator, Principal::User(1001), Some("default")));
    let mine = nix::unistd::geteuid().as_raw();
    for uid in [7, mine] {
        assert_eq!(role_for(&authority, uid, &label("other")), None);
        assert_eq!(role_for(&authority, uid, &ControlRequest::ListVolumes(VolumeQuery::default())), None);
    }
    let last = Leaf::parse(&authority.audit_show(None, 1).unwrap()[0]).unwrap();
    assert_eq!((last.op.as_str(), last.outcome), ("access", Outcome::Refused));
    // Signatures decide about dual control, whoever brings them.
    let dual = ControlRequest::Dual { request: DualRequest::Requests { all: false } };
    assert_eq!(authority.authorise(Actor::User(7), &dual).unwrap(), Actor::User(7));
    // The operator of one pool.
    assert_eq!(role_for(&authority, 1001, &label("default")), Some(Role::Operator));
    assert_eq!(role_for(&authority, 1001, &label("other")), None);
    assert_eq!(role_for(&authority, 1001, &state("A")), Some(Role::Operator));
    assert_eq!(role_for(&authority, 1001, &show("A")), Some(Role::Operator));
    for refused in [&pool, &full_export(), &ControlRequest::ClearPinLatch] {
        assert_eq!(role_for(&authority, 1001, refused), None, "{refused:?}");
    }
    people.change(&authority, give(Role::Auditor, Principal::User(1002), Some("other")));
    assert_eq!(role_for(&authority, 1002, &show("A")), None);
    assert_eq!(role_for(&authority, 1002, &ControlRequest::ListVolumes(VolumeQuery::default())), Some(Role::Auditor));
    assert_eq!(role_for(&authority, 1002, &full_export()), None, "the log is everything");
    // A group of the system.
    let daemon = User::from_uid(Uid::from_raw(1)).unwrap().unwrap();
    let group = Group::from_gid(daemon.gid).unwrap().unwrap().name;
    people.change(&authority, give(Role::Administrator, Principal::Group(group), None));
    assert_eq!(role_for(&authority, 1, &pool), Some(Role::Administrator));
    assert_eq!(role_for(&authority, 2, &pool), None);
    // What is done carries the role.
    let actor = authority.authorise(Actor::User(1001), &state("A")).unwrap();
    authority.set_volume_state(actor, "A", VolumeState::Retired, "x").unwrap();
    let last = Leaf::parse(&authority.audit_show(None, 1).unwrap()[0]).unwrap();
    assert_eq!((last.op.as_str(), last.role.as_deref()), ("volume.state", Some("operator")));
    // Taken back, and after a restart too.
    let revoke = Operation::Revoke {
        role: Role::Operator,
        principal: Principal::User(1001),
        tenant: Some("default".into()),
        pool: Some("default".into()),
    };
    people.change(&authority, revoke);
    assert_eq!(role_for(&authority, 1001, &label("default")), None);
    drop(authority);
    let authority = install.open();
    assert_eq!(role_for(&authority, 1001, &label("default")), None);
    assert_eq!(role_for(&authority, 1, &pool), Some(Role::Administrator));
}
