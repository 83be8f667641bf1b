//! What keeps tenants apart: roles, the custody log against rows that were moved between tenants, imports and backups.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use sealtape_kms::age::{Identity, Kind};
use sealtape_kms::authority::{Actor, Authority};
use sealtape_kms::hex::Hex;
use sealtape_kms::home::Home;
use sealtape_kms::protocol::{
    AuditRequest, Cartridge, ControlRequest, DestructionOrder, DestructionRequest, EntryFilter, ExchangeReply,
    ExchangeRequest, ExportOrder, ExportScope, GenerationRef, IdentityKind, KeysRequest, LabelOrder, Operation,
    PartnerOrder, PoolPolicy, Principal, RecoveryRequest, Refusal, RefusalCode, Role, TenantReply, TenantRequest,
    VolumeState,
};
use sealtape_kms::restore::{RestoreToken, restore_home};
use sealtape_kms::secret::DataKey;
use support::custodians::{Custodians, root};
use support::install::{Install, ME, UNIT, backup, options, order};
use uuid::Uuid;

fn tape(authority: &Authority, label: &str, pool: &str) -> GenerationRef {
    let order = LabelOrder { pool: Some(pool.into()), barcode: None, ..order(label) };
    let ticket = authority.authorize_label(ME, &order).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    let (generation, _) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, generation.at, Hex([7; 32])).unwrap();
    generation.at
}

/// The tenants `default` and `acme`, each with a pool and a tape.
fn two() -> (Install, Arc<Authority>, GenerationRef, GenerationRef) {
    let install = Install::new();
    let authority = install.open();
    authority.create_tenant(ME, "acme", None).unwrap();
    authority.create_pool_of(ME, Some("acme"), &PoolPolicy::standard("vault")).unwrap();
    let (ours, theirs) = (tape(&authority, "OURS01", "default"), tape(&authority, "ACME01", "vault"));
    (install, authority, ours, theirs)
}

fn give(role: Role, uid: u32, tenant: Option<&str>, pool: Option<&str>) -> Operation {
    let (tenant, pool) = (tenant.map(str::to_owned), pool.map(str::to_owned));
    Operation::Grant { role, principal: Principal::User(uid), tenant, pool }
}

#[test]
fn a_role_in_one_tenant_reaches_nothing_of_the_other() {
    let (_install, authority, ours_at, _) = two();
    let people = Custodians::register(&authority);
    // 1000 and more: all roles in a tenant; 3000: one pool; 4000: everywhere.
    for (uid, tenant) in [(1001, "default"), (1002, "acme")] {
        for role in Role::ALL {
            people.change(&authority, give(role, uid, Some(tenant), None));
        }
    }
    people.change(&authority, give(Role::Operator, 3000, Some("acme"), Some("vault")));
    people.change(&authority, give(Role::Administrator, 4000, None, None));
    assert!(authority.submit(root(), give(Role::Operator, 1, Some("default"), Some("vault")), None).is_err());

    let ask = |uid, request: &ControlRequest| authority.authorise(Actor::User(uid), request).map(drop);
    let label = |pool: &str| ControlRequest::AuthorizeLabel(LabelOrder { pool: Some(pool.into()), ..order("B") });
    let state = |volume: &str| {
        let (volume, reason) = (volume.to_owned(), "x".to_owned());
        ControlRequest::SetVolumeState { volume, state: VolumeState::Retired, reason }
    };
    let keys = |request| ControlRequest::Keys { request };
    let work = |request| ControlRequest::Destruction { request };
    let audit = |request| ControlRequest::Audit { request };
    let in_pool = |pool: &str, volume: &str, tenant: &str| {
        let tenant = || Some(tenant.to_owned());
        let filter = EntryFilter { tenant: tenant(), ..EntryFilter::default() };
        let order = ExportOrder { scope: ExportScope::Tenant(tenant().unwrap()), csv: false };
        let public = sealtape_kms::recovery::generate(&tenant().unwrap(), 1, 3, 2).unwrap().0;
        let recovery = |request| ControlRequest::Recovery { request };
        vec![
            label(pool),
            state(volume),
            ControlRequest::ShowVolume { volume: volume.into() },
            keys(KeysRequest::ShowPool { pool: pool.into() }),
            keys(KeysRequest::SetPool { policy: PoolPolicy::standard(pool) }),
            ControlRequest::CreatePool { policy: PoolPolicy::standard("new"), tenant: tenant() },
            work(DestructionRequest::Rotate { tenant: tenant(), reason: "x".into() }),
            work(DestructionRequest::StopRotation { tenant: tenant(), reason: "x".into() }),
            work(DestructionRequest::ShowRotation { tenant: tenant() }),
            audit(AuditRequest::Export { order }),
            audit(AuditRequest::Entries { filter, from: None, backwards: true, count: 1, names: true }),
            recovery(RecoveryRequest::Install { key: Box::new(public), request: None, reason: None }),
            recovery(RecoveryRequest::Backfill { tenant: tenant(), most: 1 }),
            recovery(RecoveryRequest::Canary { key: None, tenant: tenant() }),
        ]
    };
    let (ours, theirs) = (in_pool("default", "OURS01", "default"), in_pool("vault", "ACME01", "acme"));
    for (mine, others, uid) in [(&ours, &theirs, 1001), (&theirs, &ours, 1002)] {
        for request in mine {
            ask(uid, request).unwrap_or_else(|e| panic!("{uid} {request:?}: {e}"));
        }
        for request in others {
            let refusal = ask(uid, request).expect_err(&format!("{uid} {request:?}"));
            assert_eq!(refusal.code, RefusalCode::NotAllowed, "{request:?}: {refusal}");
        }
    }
    // What concerns several, or nobody's yet, is for roles that hold everywhere.
    let shred = DestructionOrder {
        volumes: vec!["ACME01".into()],
        keys: vec![],
        even_active: true,
        hsm_backups: "none".into(),
    };
    for request in [
        work(DestructionRequest::List),
        work(DestructionRequest::Holds),
        work(DestructionRequest::Plan { order: shred }),
        keys(KeysRequest::ListKeks),
        audit(AuditRequest::Export { order: ExportOrder { scope: ExportScope::Full, csv: false } }),
        ControlRequest::Tenants { request: TenantRequest::Create { name: "new".into(), reason: None } },
    ] {
        assert_eq!(ask(1002, &request).unwrap_err().code, RefusalCode::NotAllowed, "{request:?}");
    }
    for request in [ours, theirs].concat() {
        let wants_more = matches!(request, ControlRequest::AuthorizeLabel(_) | ControlRequest::Audit { .. });
        assert!(wants_more || ask(4000, &request).is_ok(), "{request:?}");
    }
    // Another tenant's pool is as unknown as one that there is not, and its tenant is not told.
    let other = ask(1002, &label("default")).unwrap_err();
    assert_eq!(other.what, ask(1002, &label("no such pool")).unwrap_err().what);
    assert!(!other.what.contains("tenant"), "{other}");
    // A role in one pool.
    ask(3000, &label("vault")).unwrap();
    for request in [label("default"), state("OURS01"), label("no such pool")] {
        assert_eq!(ask(3000, &request).unwrap_err().code, RefusalCode::NotAllowed);
    }
    // A label that the other has is in use, and no more is told; nor is the other's medium labelled over.
    let taken = LabelOrder { pool: Some("vault".into()), relabel: true, ..order("OURS01") };
    let refusal = authority.authorize_label(ME, &taken).unwrap_err();
    assert!(
        refusal.code == RefusalCode::LabelInUse && !refusal.what.contains(&ours_at.volume.to_string()),
        "{refusal}"
    );
    let over = LabelOrder { pool: Some("vault".into()), relabel: true, barcode: None, ..order("ACME02") };
    let ticket = authority.authorize_label(ME, &over).unwrap().ticket;
    let create = || authority.create_volume(ME, &ticket, UNIT, Some(ours_at.volume), &Cartridge::default());
    assert_eq!(create().unwrap_err().code, RefusalCode::WouldReplace);
    authority.set_volume_state(ME, "OURS01", VolumeState::Retired, "the cartridge is acme's now").unwrap();
    create().unwrap();
    // Lists show what roles reach.
    let seen = |uid| match authority.serve_tenants(Actor::User(uid), TenantRequest::List).unwrap() {
        TenantReply::Tenants(tenants) => tenants.into_iter().map(|t| t.name).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (seen(1001), seen(1002), seen(3000)),
        (vec!["default".into()], vec!["acme".into()], vec!["acme".into()])
    );
    assert_eq!(seen(4000), ["default", "acme"]);
    assert!(seen(5000).is_empty());
}

/// A change behind the key authority's back, how it is undone, and what the check at the start says of it.
struct Move {
    name: &'static str,
    change: &'static str,
    back: &'static str,
    at_start: &'static str,
    /// Whether it stands in the way of a release of one of the two tapes.
    stops: bool,
}

const MOVES: [Move; 12] = [
    Move {
        name: "a volume's tenant",
        change: "UPDATE volumes SET tenant = 1 WHERE label = 'ACME01'",
        back: "UPDATE volumes SET tenant = 2 WHERE label = 'ACME01'",
        at_start: "another tenant",
        stops: true,
    },
    Move {
        name: "a volume's pool",
        change: "UPDATE volumes SET pool = 1 WHERE label = 'ACME01'",
        back: "UPDATE volumes SET pool = 2 WHERE label = 'ACME01'",
        at_start: "pool of another tenant",
        stops: true,
    },
    Move {
        name: "a volume's tenant and pool",
        change: "UPDATE volumes SET (tenant, pool) = (1, 1) WHERE label = 'ACME01'",
        back: "UPDATE volumes SET (tenant, pool) = (2, 2) WHERE label = 'ACME01'",
        at_start: "another tenant",
        stops: true,
    },
    Move {
        name: "a pool's tenant",
        change: "UPDATE pools SET tenant = 1 WHERE name = 'vault'",
        back: "UPDATE pools SET tenant = 2 WHERE name = 'vault'",
        at_start: "pool vault stands under another tenant",
        stops: true,
    },
    Move {
        name: "a pool that no entry names any more",
        change: "UPDATE pools SET tenant = 1, policy_leaf = NULL WHERE name = 'vault'",
        back: "UPDATE pools SET tenant = 2, policy_leaf = (SELECT seq FROM custody_leaves WHERE op = 'pool.create'
               ORDER BY seq DESC LIMIT 1) WHERE name = 'vault'",
        at_start: "no custody entry has the policy of pool vault",
        stops: true,
    },
    Move {
        name: "a key-encryption key's tenant",
        change: "UPDATE keks SET tenant = 1, epoch = 2 WHERE tenant = 2 AND purpose = 'catalogue'",
        back: "UPDATE keks SET tenant = 2, epoch = 1 WHERE tenant = 1 AND epoch = 2",
        at_start: "key-encryption key",
        stops: true,
    },
    Move {
        name: "everything of a tenant",
        change: "UPDATE keks SET tenant = 1 WHERE tenant = 2; UPDATE pools SET tenant = 1 WHERE tenant = 2;
                 UPDATE volumes SET tenant = 1 WHERE tenant = 2",
        back: "UPDATE pools SET tenant = 2 WHERE name = 'vault'; UPDATE volumes SET tenant = 2 WHERE label = 'ACME01';
               UPDATE keks SET tenant = 2 WHERE id IN (SELECT kek FROM medium_keks WHERE pool = 2) OR id IN
               (SELECT kek FROM generations g JOIN volumes v ON v.id = g.volume WHERE v.label = 'ACME01')",
        at_start: "pool vault stands under another tenant",
        stops: true,
    },
    Move {
        name: "a wrapped key of the other",
        change: "CREATE TABLE kept AS SELECT key_id, kek, wrapped FROM generations;
                 UPDATE generations SET (kek, wrapped) = (SELECT kek, wrapped FROM kept k WHERE k.key_id <> generations.key_id)",
        back: "UPDATE generations SET (kek, wrapped) = (SELECT kek, wrapped FROM kept k WHERE k.key_id = generations.key_id)
               WHERE key_id IN (SELECT key_id FROM kept); DROP TABLE kept",
        at_start: "wrapped key",
        stops: true,
    },
    Move {
        name: "names of tenants",
        change: "UPDATE tenants SET name = 'x' WHERE id = 1; UPDATE tenants SET name = 'default' WHERE id = 2;
                 UPDATE tenants SET name = 'acme' WHERE id = 1",
        back: "UPDATE tenants SET name = 'x' WHERE id = 1; UPDATE tenants SET name = 'acme' WHERE id = 2;
               UPDATE tenants SET name = 'default' WHERE id = 1",
        at_start: "tenant \"acme\" is not the one",
        stops: false,
    },
    Move {
        name: "a tenant that no entry names any more",
        change: "UPDATE tenants SET leaf = NULL WHERE id = 2",
        back: "UPDATE tenants SET leaf = (SELECT seq FROM custody_leaves WHERE op = 'tenant.create' ORDER BY seq DESC LIMIT 1)
               WHERE id = 2",
        at_start: "tenant \"acme\" was made by no custody entry",
        stops: false,
    },
    Move {
        name: "the first tenant, as if it were from before",
        change: "UPDATE tenants SET leaf = NULL, name = 'mine' WHERE id = 1",
        back: "UPDATE tenants SET leaf = (SELECT min(seq) FROM custody_leaves WHERE op = 'tenant.create'), name = 'default'
               WHERE id = 1",
        at_start: "tenant \"mine\" was made by no custody entry",
        stops: false,
    },
    Move {
        name: "a tenant that nobody made",
        change: "INSERT INTO tenants (id, name, uuid) VALUES (3, 'mine', '5f0f4e86-9d9c-4b7a-9a3e-0a4d2f0e7c11')",
        back: "DELETE FROM tenants WHERE id = 3",
        at_start: "tenant \"mine\" was made by no custody entry",
        stops: false,
    },
];

#[test]
fn rows_moved_between_tenants_are_refused_before_a_key_leaves_and_named_at_the_start() {
    let (install, authority, ours, theirs) = two();
    let sql = install.database();
    let may = |uid: u32, request| authority.authorise(Actor::User(uid), &request).map(drop);
    let people = Custodians::register(&authority);
    people.change(&authority, give(Role::Operator, 1001, Some("default"), None));
    let both = || -> Vec<Refusal> {
        [ours, theirs].into_iter().filter_map(|at| authority.load(ME, UNIT, at).map(drop).err()).collect()
    };
    for Move { name, change, back, stops, .. } in &MOVES {
        sql.execute_batch(change).unwrap();
        let refusals = both();
        assert_eq!(!refusals.is_empty(), *stops, "{name}: {refusals:?}");
        let named = |r: &Refusal| matches!(r.code, RefusalCode::TamperedBlob | RefusalCode::Damaged);
        assert!(refusals.iter().all(|r| named(r) && r.what.contains("changed")), "{name}: {refusals:?}");
        // No new key for the volume under the other tenant's keys, and no role reaches it that did not before.
        let made = authority.create_generation(ME, UNIT, theirs.volume, 0, None).map(drop);
        assert_eq!(made.is_err(), *stops && !name.contains("wrapped key"), "{name}: {made:?}");
        let show = ControlRequest::ShowVolume { volume: theirs.volume.to_string() };
        let label = ControlRequest::AuthorizeLabel(LabelOrder { pool: Some("vault".into()), ..order("B") });
        for request in [show, label] {
            let refusal = may(1001, request).expect_err(name);
            let expected = named(&refusal) || refusal.code == RefusalCode::NotAllowed;
            assert!(expected, "{name}: {refusal}");
        }
        sql.execute_batch(back).unwrap();
        assert!(both().is_empty(), "{name}: {:?}", both());
    }
    authority.create_generation(ME, UNIT, theirs.volume, 0, None).unwrap();
    drop(authority);
    for Move { name, change, back, at_start, .. } in &MOVES {
        sql.execute_batch(change).unwrap();
        let refusal = Authority::open(&install.home, options()).map(drop).expect_err(name);
        assert!(refusal.what.contains(at_start), "{name}: {refusal}");
        sql.execute_batch(back).unwrap();
    }
    // A tenant that was taken out with all its rows.
    let kept = install.dir.path().join("kept.db");
    sql.execute("VACUUM INTO ?1", [kept.display().to_string()]).unwrap();
    sql.execute_batch(
        "PRAGMA foreign_keys = OFF;
         DELETE FROM sessions; DELETE FROM key_life WHERE key_id IN (SELECT key_id FROM generations g JOIN volumes v
         ON v.id = g.volume WHERE v.tenant = 2); DELETE FROM copies; DELETE FROM generations WHERE volume IN
         (SELECT id FROM volumes WHERE tenant = 2); DELETE FROM partitions WHERE volume IN (SELECT id FROM volumes WHERE
         tenant = 2); UPDATE tickets SET volume = NULL WHERE volume IN (SELECT id FROM volumes WHERE tenant = 2);
         DELETE FROM tickets WHERE pool = 2; DELETE FROM volumes WHERE tenant = 2; DELETE FROM medium_keks WHERE pool = 2;
         DELETE FROM pools WHERE tenant = 2; DELETE FROM keks WHERE tenant = 2; DELETE FROM tenant_trees WHERE tenant = 2;
         DELETE FROM tenants WHERE id = 2",
    )
    .unwrap();
    let refusal = Authority::open(&install.home, options()).map(drop).unwrap_err();
    assert!(refusal.what.contains("the tenant that custody entry"), "{refusal}");
}

#[test]
fn a_restore_looks_for_every_tenants_key() {
    let (install, authority, ours, theirs) = two();
    let people = Custodians::register(&authority);
    let stays = tape(&authority, "ACME02", "vault");
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    backup(&authority, &file("before"));
    let order = DestructionOrder {
        volumes: vec!["ACME01".into()],
        keys: vec![],
        even_active: true,
        hsm_backups: "none".into(),
    };
    let asked = authority.ask_destruction(ME, &order, "the contract ended").unwrap();
    people.approve(&authority, asked.request);
    authority.carry_out_destruction(root(), asked.request).unwrap();
    while authority.work().unwrap() {}
    backup(&authority, &file("after"));
    drop(authority);
    let restore = |name: &str| {
        let to = Home::new(file(&format!("{name} home")));
        let token = RestoreToken::CopiedFrom(install.home.dir().to_owned());
        restore_home(&to, &file(name), &token, options()).map(|_| to)
    };
    let refusal = restore("before").map(drop).unwrap_err();
    assert!(refusal.code == RefusalCode::KekMissing && refusal.what.contains("of tenant \"acme\""), "{refusal}");
    let restored = Authority::open(&restore("after").unwrap(), options()).unwrap();
    assert_eq!(restored.tenants().unwrap().len(), 2);
    for at in [ours, stays] {
        restored.load(ME, UNIT, at).unwrap();
    }
    assert!(restored.load(ME, UNIT, theirs).is_err());
}

#[test]
fn what_is_imported_comes_under_the_pools_tenant() {
    let partner = Install::new();
    let site = partner.open();
    let people = Custodians::register(&site);
    let at = tape(&site, "PART01", "default");
    let identity = Identity::generate(Kind::Hybrid).unwrap();
    let package = || {
        let order = PartnerOrder {
            partner: "Acme".into(),
            recipient: identity.recipient().unwrap().to_string(),
            volumes: vec!["PART01".into()],
            expires: "2990-01-31".into(),
            labels: true,
            allow_classic: false,
            reason: None,
        };
        let asked = site.serve_exchange(root(), ExchangeRequest::Ask(order), None).unwrap();
        let ExchangeReply::Asked(view) = asked else { panic!("without approval") };
        people.approve(&site, view.request);
        let export = ExchangeRequest::Export { request: view.request };
        let ExchangeReply::Package(package) = site.serve_exchange(root(), export, None).unwrap() else {
            panic!("no package")
        };
        package
    };
    let (install, authority, ..) = two();
    let import = |pool: Option<&str>| {
        let request = ExchangeRequest::Import {
            package: package(),
            site_key: site.log_key().to_string(),
            identity: IdentityKind::Hybrid,
            pool: pool.map(str::to_owned),
        };
        let seed = DataKey::copy_from(identity.seed().expose()).unwrap();
        authority.serve_exchange(ME, request, Some(seed)).map(drop)
    };
    import(Some("vault")).unwrap();
    let tenant_of_kek: String = install
        .database()
        .query_row(
            "SELECT t.name FROM generations g JOIN keks k ON k.id = g.kek JOIN tenants t ON t.id = k.tenant WHERE g.key_id = ?1",
            [at.key_id.to_string()],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(tenant_of_kek, "acme");
    authority.load(ME, UNIT, at).unwrap();
    // A newer package of the same volume stays with the tenant.
    let refusal = import(None).unwrap_err();
    assert!(refusal.what.contains("another tenant"), "{refusal}");
    import(Some("vault")).unwrap();
    drop(authority);
    let authority = install.open();
    authority.load(ME, UNIT, at).unwrap();
}

/// A state folder of catalogue version 2, from before there were tenants: its one tenant is entered, and another can be made.
#[test]
fn the_tenant_of_an_earlier_version_is_entered_once() {
    let dir = tempfile::tempdir().unwrap();
    let archive = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/home-v2.tar.gz");
    let unpacked = std::process::Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).status();
    assert!(unpacked.unwrap().success());
    let home = dir.path().join("home-v2");
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let open = || Authority::open(&Home::new(&home), options()).unwrap();
    let authority = open();
    let first = authority.tenants().unwrap();
    assert_eq!((first.len(), first[0].name.as_str(), first[0].volumes), (1, "default", 2));
    authority.create_tenant(ME, "acme", None).unwrap();
    authority.create_pool_of(ME, Some("acme"), &PoolPolicy::standard("vault")).unwrap();
    let theirs = tape(&authority, "ACME01", "vault");
    let old: Uuid = authority.show_volume("A").unwrap().volume;
    drop(authority);
    let authority = open();
    assert_eq!(authority.tenants().unwrap()[0], first[0], "entered once");
    authority.load(ME, UNIT, theirs).unwrap();
    let active = authority.show_volume("A").unwrap().partitions[0].active().cloned().unwrap();
    let at = GenerationRef { volume: old, partition: 0, generation: active.generation, key_id: active.key_id };
    authority.load(ME, UNIT, at).unwrap();
    authority.rotate(ME, "yearly").unwrap();
    while authority.work().unwrap() {}
    authority.load(ME, UNIT, at).unwrap();
    // What entries from before say nothing of is the first tenant's, and no other's.
    let sql = rusqlite::Connection::open(home.join("catalogue.db")).unwrap();
    sql.execute("UPDATE volumes SET (tenant, pool) = (2, 2) WHERE id = ?1", [old.to_string()]).unwrap();
    let refusal = authority.load(ME, UNIT, at).map(drop).unwrap_err();
    assert!(refusal.code == RefusalCode::TamperedBlob && refusal.what.contains("another tenant"), "{refusal}");
}
