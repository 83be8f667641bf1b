//! Several tenants: each one's keys under its own key-encryption key, and what is done to one leaves the others alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sealtape_kms::authority::{Actor, Authority};
use sealtape_kms::custody::{Completeness, Leaf, Outcome, VerifierKey, verify_export};
use sealtape_kms::hex::{Hex, HexBytes};
use sealtape_kms::pkcs11::WrapWith;
use sealtape_kms::protocol::{
    BatchState, Cartridge, CopyKind, DestructionOrder, Fate, GenerationRef, LabelOrder, PoolPolicy, RecoveryReply,
    RecoveryRequest, RefusalCode, RotationState, TenantRequest,
};
use sealtape_kms::recovery::{PublicHalf, generate};
use sealtape_kms::secret::DataKey;
use sealtape_pkcs11_shim::{Fault, Plan, Rule};
use support::custodians::{Custodians, root};
use support::host::{Host, serve_if_asked};
use support::install::{Install, ME, UNIT, order};
use support::shim::{Shimmed, site_dir};
use uuid::Uuid;

/// Not a test by itself: the process that is killed.
#[test]
fn host() {
    serve_if_asked();
}

struct Tape {
    at: GenerationRef,
    key: DataKey,
}

fn tape(authority: &Authority, label: &str, pool: &str) -> Tape {
    let order = LabelOrder { pool: Some(pool.into()), barcode: None, ..order(label) };
    let ticket = authority.authorize_label(ME, &order).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    let (generation, key) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, generation.at, Hex([7; 32])).unwrap();
    Tape { at: generation.at, key }
}

fn opens(authority: &Authority, tape: &Tape) -> bool {
    match authority.load(ME, UNIT, tape.at) {
        Ok((_, key)) => {
            assert!(key.ct_eq(&tape.key));
            true
        }
        Err(_) => false,
    }
}

/// The tenants `default` and `acme`, a pool and a tape of each.
struct Two {
    install: Install,
    authority: Arc<Authority>,
    ours: Tape,
    theirs: Tape,
}

impl Two {
    fn new() -> Self {
        let install = Install::new();
        let authority = install.open();
        authority.create_tenant(ME, "acme", Some("a new customer")).unwrap();
        authority.create_pool_of(ME, Some("acme"), &PoolPolicy::standard("vault")).unwrap();
        let (ours, theirs) = (tape(&authority, "OURS01", "default"), tape(&authority, "ACME01", "vault"));
        Self { install, authority, ours, theirs }
    }

    /// Of a key: its KEK, that one's tenant by name, mechanism, and the wrapped copy.
    fn wrapped(&self, tape: &Tape) -> (Uuid, String, WrapWith, Vec<u8>) {
        let query = "SELECT k.id, t.name, k.mechanism, g.wrapped FROM generations g JOIN keks k ON k.id = g.kek
                     JOIN tenants t ON t.id = k.tenant WHERE g.key_id = ?1";
        let row = |r: &rusqlite::Row<'_>| {
            Ok((r.get::<_, String>(0)?, r.get(1)?, r.get::<_, String>(2)?, r.get::<_, Vec<u8>>(3)?))
        };
        let (kek, tenant, mechanism, blob) =
            self.install.database().query_row(query, [tape.at.key_id.to_string()], row).unwrap();
        let mut aad = b"sealtape dek 1".to_vec();
        aad.extend_from_slice(tape.at.volume.as_bytes());
        aad.push(tape.at.partition);
        aad.extend_from_slice(&tape.at.generation.to_be_bytes());
        aad.extend_from_slice(tape.at.key_id.as_bytes());
        let kek = kek.parse().unwrap();
        let mechanism = serde_json::from_value(mechanism.into()).unwrap();
        (kek, tenant, WrapWith { kek, mechanism, aad: HexBytes(aad) }, blob)
    }

    /// Everything of a tenant's rows that another tenant's work must not touch.
    fn rows_of(&self, tenant: &str) -> Vec<String> {
        let sql = self.install.database();
        let mut query = sql
            .prepare(
                "SELECT json_array(g.key_id, g.kek, hex(g.wrapped), g.wrapped_leaf, g.state, g.key_state, v.state) FROM generations g
                 JOIN volumes v ON v.id = g.volume JOIN tenants t ON t.id = v.tenant WHERE t.name = ?1
                 UNION ALL SELECT json_array(k.id, k.state, k.epoch) FROM keks k JOIN tenants t ON t.id = k.tenant WHERE t.name = ?1
                 ORDER BY 1",
            )
            .unwrap();
        query.query_map([tenant], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

#[test]
fn each_tenant_has_its_own_keys_and_its_own_rotation() {
    let two = Two::new();
    let authority = &two.authority;
    for (name, words) in [
        ("acme", "exists"),
        ("default", "exists"),
        ("", "no name of a tenant"),
        ("a\nb", "no name of a tenant"),
        ("5f0f4e86-9d9c-4b7a-9a3e-0a4d2f0e7c11", "is a UUID"),
        (&"é".repeat(40), "80 bytes"),
    ] {
        let refusal = authority.create_tenant(ME, name, None).unwrap_err();
        assert!(refusal.code == RefusalCode::BadRequest && refusal.what.contains(words), "{name:?}: {refusal}");
    }
    let pool = |tenant| authority.create_pool_of(ME, tenant, &PoolPolicy::standard("vault")).unwrap_err().what;
    assert!(pool(None).contains("exists") && pool(Some("acme")).contains("exists"));
    let nobody = authority.create_pool_of(ME, Some("nobody"), &PoolPolicy::standard("x")).unwrap_err();
    assert!(nobody.what.contains("no tenant \"nobody\""), "{nobody}");
    let tenants = authority.tenants().unwrap();
    let told: Vec<_> = tenants.iter().map(|t| (t.name.as_str(), t.pools.join(" "), t.volumes)).collect();
    assert_eq!(told, [("default", "default".into(), 1), ("acme", "vault".to_owned(), 1)]);
    assert_eq!(authority.pool_with_tenant("vault").unwrap().tenant, "acme");

    // Each key under its own tenant's KEK, and under that alone.
    let (our_kek, our_tenant, our_way, our_blob) = two.wrapped(&two.ours);
    let (kek, tenant, way, blob) = two.wrapped(&two.theirs);
    assert_eq!((our_tenant.as_str(), tenant.as_str()), ("default", "acme"));
    assert_eq!((our_kek, kek), (tenants[0].kek, tenants[1].kek));
    let token = authority.token();
    assert!(token.unwrap(&way, &blob).unwrap().ct_eq(&two.theirs.key));
    assert!(token.unwrap(&our_way, &our_blob).unwrap().ct_eq(&two.ours.key));
    assert!(token.unwrap(&WrapWith { kek: our_kek, ..way.clone() }, &blob).is_err());
    assert!(token.unwrap(&WrapWith { kek, ..our_way }, &our_blob).is_err());

    // Acme's rotation changes nothing of ours.
    let before = two.rows_of("default");
    assert_eq!(authority.rotate_of(ME, Some("acme"), "yearly").unwrap().old_kek, kek);
    assert!(authority.rotation().unwrap().is_none());
    while authority.work().unwrap() {}
    let done = authority.rotation_of(Some("acme")).unwrap().unwrap();
    assert_eq!((done.state, done.tenant.as_str(), done.rewrapped), (RotationState::Done, "acme", 1));
    assert_eq!(two.rows_of("default"), before);
    assert_eq!(two.wrapped(&two.theirs).0, done.new_kek);
    // Both at once: one that is stopped does not hold the other up.
    authority.rotate_of(ME, Some("acme"), "again").unwrap();
    authority.stop_rotation_of(ME, Some("acme"), "lunch").unwrap();
    assert!(authority.stop_rotation(ME, "nothing to stop").is_err());
    authority.rotate(ME, "yearly").unwrap();
    while authority.work().unwrap() {}
    assert_eq!(authority.rotation().unwrap().unwrap().state, RotationState::Done);
    assert_eq!(authority.rotation_of(Some("acme")).unwrap().unwrap().state, RotationState::Stopped);
    assert!(authority.rotation_of(Some("nobody")).is_err());
    assert!(opens(authority, &two.ours) && opens(authority, &two.theirs));
    let Two { install, authority, ours, theirs } = two;
    drop(authority);
    let authority = install.open();
    assert!(opens(&authority, &ours) && opens(&authority, &theirs));
    // A tenant whose key-encryption key the token has lost is noticed at the start.
    let kek = authority.rotation_of(Some("acme")).unwrap().unwrap().new_kek;
    assert!(authority.token().destroy_kek(kek).unwrap());
    drop(authority);
    let refusal = Authority::open(&install.home, support::install::options()).map(drop).unwrap_err();
    assert!(refusal.code == RefusalCode::KekMissing || refusal.what.contains(&kek.to_string()), "{refusal}");
}

#[test]
fn a_tenants_export_is_complete_and_holds_nothing_of_another() {
    use sealtape_kms::protocol::{ExportOrder, ExportScope};
    let two = Two::new();
    let authority = &two.authority;
    authority.rotate_of(ME, Some("acme"), "yearly").unwrap();
    while authority.work().unwrap() {}
    authority.set_pool(ME, &PoolPolicy { suite: 2, ..authority.show_pool("vault").unwrap() }).unwrap();
    let tenants = authority.tenants().unwrap();
    let key: VerifierKey = two.install.report.log_key.parse().unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for (tenant, own, others) in [(&tenants[0], &two.ours, &two.theirs), (&tenants[1], &two.theirs, &two.ours)] {
        let order = ExportOrder { scope: ExportScope::Tenant(tenant.name.clone()), csv: false };
        let mut out = Vec::new();
        authority.audit_export_as(ME, &order, &mut out).unwrap();
        let verified = verify_export(&mut out.as_slice(), &key).unwrap();
        let Completeness::CompleteForTenant { tenant: named, .. } = verified.completeness else {
            panic!("{:?}", verified.completeness)
        };
        assert_eq!(named, tenant.tenant);
        let text = String::from_utf8(out).unwrap();
        let leaves: Vec<serde_json::Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap().get("leaf").cloned())
            .map(|leaf| match leaf {
                serde_json::Value::String(text) => serde_json::from_str(&text).unwrap(),
                leaf => leaf,
            })
            .collect();
        assert!(leaves.iter().all(|leaf| leaf["tenant"] == tenant.tenant.to_string()), "{}", tenant.name);
        assert!(text.contains(&own.at.volume.to_string()) && !text.contains(&others.at.volume.to_string()));
        for op in ["tenant.create", "kek.create", "pool.create", "volume.create", "key.create"] {
            assert!(leaves.iter().any(|leaf| leaf["op"] == op && leaf["outcome"] == "done"), "{op} of {}", tenant.name);
        }
        // All of them: as many as the log has.
        let count: i64 = two
            .install
            .database()
            .query_row(
                "SELECT count(*) FROM custody_leaves WHERE tenant = ?1 AND op <> 'tenant.root'",
                [tenant.tenant.to_string()],
                |r| r.get(0),
            )
            .unwrap();
        assert_eq!(leaves.len() as i64, count);
        seen.insert(tenant.name.clone(), leaves);
    }
    let theirs = &seen["acme"];
    for op in ["kek.rotate", "kek.rewrap", "kek.deactivate", "pool.set"] {
        assert!(
            theirs.iter().any(|leaf| leaf["op"] == op) && !seen["default"].iter().any(|leaf| leaf["op"] == op),
            "{op}"
        );
    }
    assert!(!theirs.iter().any(|leaf| leaf.to_string().contains("acme")), "names of tenants stay out of the log");
}

#[test]
fn what_is_destroyed_in_one_leaves_the_other_openable() {
    let two = Two::new();
    let authority = &two.authority;
    let people = Custodians::register(authority);
    let stays = tape(authority, "ACME02", "vault");
    let order = |tapes: &[&Tape]| DestructionOrder {
        volumes: tapes.iter().map(|t| t.at.volume.to_string()).collect(),
        keys: Vec::new(),
        even_active: true,
        hsm_backups: "none".into(),
    };
    let both = authority.plan_destruction(&order(&[&two.ours, &two.theirs])).unwrap_err();
    assert!(both.what.contains("another tenant") && both.mend.contains("a batch for each tenant"), "{both}");
    let keys = DestructionOrder {
        volumes: Vec::new(),
        keys: vec![two.ours.at.key_id, two.theirs.at.key_id],
        ..order(&[&two.ours])
    };
    assert!(authority.plan_destruction(&keys).unwrap_err().mend.contains("a batch for each tenant"));

    let place = two.install.dir.path().join("backup");
    let make = sealtape_kms::protocol::BackupRequest::Make { place: place.display().to_string() };
    authority.serve_backup(ME, make).unwrap();
    // A rotation of ours that stands still does not hold acme's destruction up.
    authority.rotate(ME, "yearly").unwrap();
    authority.stop_rotation(ME, "lunch").unwrap();
    let (our_kek, their_kek) = (two.wrapped(&two.ours).0, two.wrapped(&two.theirs).0);
    let before = two.rows_of("default");
    let asked = authority.ask_destruction(ME, &order(&[&two.theirs]), "the contract ended").unwrap();
    let doomed = |kek: Uuid| asked.plan.keks.iter().any(|k| k.kek == kek && k.fate == Fate::Destroyed);
    assert!(doomed(their_kek) && !doomed(our_kek), "{:?}", asked.plan.keks);
    let backup = asked.plan.copies.iter().find(|copy| copy.kind == CopyKind::Backup).unwrap();
    assert!(backup.fate == Fate::Destroyed && !backup.holder.contains(&our_kek.to_string()), "{backup:?}");
    people.approve(authority, asked.request);
    let begun = authority.carry_out_destruction(root(), asked.request).unwrap();
    while authority.work().unwrap() {}
    let batch = authority.destruction(begun.batch).unwrap();
    assert_eq!((batch.state, batch.rotation.unwrap().tenant.as_str()), (BatchState::Done, "acme"));
    assert_eq!(two.rows_of("default"), before);
    assert!(opens(authority, &two.ours) && opens(authority, &stays) && !opens(authority, &two.theirs));
    // The old copy of the destroyed key opens under no key of the token.
    let old = |kek, tape: &Tape| WrapWith { kek, ..two.wrapped(tape).2 };
    let (_, _, _, blob) = two.wrapped(&two.ours);
    assert!(authority.token().unwrap(&old(our_kek, &two.ours), &blob).is_ok());
    assert!(authority.token().unwrap(&old(their_kek, &two.theirs), &blob).is_err());
}

fn install_key(authority: &Authority, key: &PublicHalf) -> Result<RecoveryReply, sealtape_kms::protocol::Refusal> {
    let request = RecoveryRequest::Install { key: Box::new(key.clone()), request: None, reason: None };
    authority.serve_recovery(root(), request)
}

#[test]
fn recovery_keys_of_one_wrap_nothing_of_the_other() {
    let two = Two::new();
    let authority = &two.authority;
    let ours = generate("default", 1, 3, 2).unwrap().0;
    let theirs = generate("acme", 1, 3, 2).unwrap().0;
    let nobody = install_key(authority, &generate("nobody", 1, 3, 2).unwrap().0).unwrap_err();
    assert!(nobody.what.contains("\"nobody\""), "{nobody}");
    let id = |reply: RecoveryReply| match reply {
        RecoveryReply::Key(view) => (view.key, view.tenant),
        other => panic!("{other:?}"),
    };
    // Epochs count in each tenant.
    let (their_id, their_tenant) = id(install_key(authority, &theirs).unwrap());
    let (our_id, _) = id(install_key(authority, &ours).unwrap());
    assert_eq!(their_tenant, "acme");
    let holders = |tape: &Tape| -> Vec<String> {
        let sql = two.install.database();
        let mut query = sql.prepare("SELECT recovery_key FROM recovery_stanzas WHERE key_id = ?1").unwrap();
        query.query_map([tape.at.key_id.to_string()], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let (our_new, their_new) = (tape(authority, "OURS02", "default"), tape(authority, "ACME02", "vault"));
    assert_eq!((holders(&our_new), holders(&their_new)), (vec![our_id.to_string()], vec![their_id.to_string()]));
    let backfill = |tenant: Option<&str>| {
        let request = RecoveryRequest::Backfill { tenant: tenant.map(str::to_owned), most: 10 };
        match authority.serve_recovery(root(), request).unwrap() {
            RecoveryReply::Backfilled { key, wrapped, remaining } => (key, wrapped, remaining),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(backfill(Some("acme")), (their_id, 1, 0));
    assert_eq!((holders(&two.ours), holders(&two.theirs)), (vec![], vec![their_id.to_string()]));
    assert_eq!(backfill(None), (our_id, 1, 0));
    let canary = RecoveryRequest::Canary { key: None, tenant: Some("acme".into()) };
    match authority.serve_recovery(root(), canary).unwrap() {
        RecoveryReply::Canary(canary) => assert_eq!(canary.recovery_key, their_id),
        other => panic!("{other:?}"),
    }
    // A row under the other's name or number is no recovery key any more.
    let sql = two.install.database();
    for (change, back) in [
        (
            "UPDATE recovery_keys SET state = 'retired'; UPDATE recovery_keys SET tenant = 3 - tenant, epoch = 9, state = 'active'
             WHERE tenant = 2",
            "UPDATE recovery_keys SET tenant = 2, epoch = 1 WHERE epoch = 9; UPDATE recovery_keys SET state = 'active'",
        ),
        (
            "UPDATE recovery_keys SET public = replace(public, '\"default\"', '\"acme\"') WHERE tenant = 1",
            "UPDATE recovery_keys SET public = replace(public, '\"acme\"', '\"default\"') WHERE tenant = 1",
        ),
    ] {
        sql.execute_batch(change).unwrap();
        let refusal = authority.create_generation(ME, UNIT, two.ours.at.volume, 0, None).map(drop).unwrap_err();
        assert!(refusal.code == RefusalCode::TamperedBlob && refusal.what.contains("recovery key"), "{refusal}");
        sql.execute_batch(back).unwrap();
        authority.create_generation(ME, UNIT, two.ours.at.volume, 0, None).unwrap();
    }
}

/// Through the socket, with a role in one tenant for the user of this test.
#[test]
fn lists_and_requests_end_at_the_tenant() {
    use sealtape_kms::protocol::{ExportOrder, ExportScope, Operation, Principal, Role, TenantReply};
    let Two { install, authority, .. } = Two::new();
    let me = nix::unistd::geteuid().as_raw();
    for role in [Role::Administrator, Role::Auditor] {
        let tenant = Some("acme".into());
        let grant = Operation::Grant { role, principal: Principal::User(me), tenant, pool: None };
        authority.change_persons(root(), grant, None).unwrap();
    }
    drop(authority);
    let run = tempfile::tempdir().unwrap();
    let host = Host::start(&install.home, run.path(), None);
    let control = host.control();
    let pools: Vec<_> = control.list_pools().unwrap().into_iter().map(|p| (p.tenant, p.policy.name)).collect();
    assert_eq!(pools, [("acme".to_owned(), "vault".to_owned())]);
    let labels: Vec<_> = control.list_volumes().unwrap().into_iter().map(|v| v.label).collect();
    assert_eq!(labels, ["ACME01"]);
    match control.tenants(TenantRequest::List).unwrap() {
        TenantReply::Tenants(tenants) => assert!(tenants.len() == 1 && tenants[0].name == "acme"),
        other => panic!("{other:?}"),
    }
    control.show_volume("ACME01").unwrap();
    control.create_pool(PoolPolicy::standard("second"), Some("acme")).unwrap();
    let refused = |what: &str, error: sealtape_kms::client::ClientError| {
        assert!(error.to_string().contains("which this needs"), "{what}: {error}");
    };
    refused("a volume", control.show_volume("OURS01").unwrap_err());
    refused("a pool", control.create_pool(PoolPolicy::standard("third"), None).unwrap_err());
    let made = TenantRequest::Create { name: "third".into(), reason: None };
    refused("a tenant", control.tenants(made).unwrap_err());
    let export = |scope| control.audit_export_as(&ExportOrder { scope, csv: false }, &mut Vec::new());
    export(ExportScope::Tenant("acme".into())).unwrap();
    refused("an export", export(ExportScope::Tenant("default".into())).unwrap_err());
    refused("the whole log", export(ExportScope::Full).unwrap_err());
    host.stop();
}

#[test]
fn a_tape_of_a_tenant_opens_by_token_and_medium_alone() {
    let Two { install, authority, .. } = Two::new();
    let order = LabelOrder { pool: Some("vault".into()), barcode: None, ..order("ACME02") };
    let ticket = authority.authorize_label(ME, &order).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    let (generation, key) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.rotate_of(ME, Some("acme"), "yearly").unwrap();
    while authority.work().unwrap() {}
    drop(authority);
    std::fs::remove_file(install.home.dir().join("catalogue.db")).unwrap();
    let uri = install.report.token_uri.parse().unwrap();
    let config = install.home.embedded_token(support::MODULE.as_ref(), uri, support::worker()).unwrap();
    let opened = sealtape_kms::offline::unwrap_stanza(config, &generation.stanzas[0], generation.at).unwrap();
    assert!(opened.ct_eq(&key));
}

#[test]
fn a_tenant_that_was_being_made_when_the_service_died_leaves_nothing_half() {
    let install = Shimmed::new();
    let run = tempfile::tempdir().unwrap();
    let open_intents = || -> i64 {
        let query = "SELECT count(*) FROM intents WHERE op = 'kek.create'";
        install.database().query_row(query, [], |r| r.get(0)).unwrap()
    };
    // The token's limit is short: should it be over before the kill, the attempt has failed orderly, and the next one counts.
    for attempt in 0.. {
        assert!(attempt < 10, "never killed between intent and outcome");
        let host = Host::start(&install.home, run.path(), Some(&site_dir(install.dir.path())));
        install.site.set(Plan::of(Rule::always("C_GenerateKey", Fault::Hang))).unwrap();
        let control = host.control();
        let asking = std::thread::spawn(move || {
            control.tenants(TenantRequest::Create { name: "acme".into(), reason: Some("a new customer".into()) })
        });
        let until = Instant::now() + Duration::from_secs(30);
        while open_intents() == 0 && Instant::now() < until && !asking.is_finished() {
            std::thread::sleep(Duration::from_millis(2));
        }
        host.kill();
        drop(host);
        assert!(asking.join().unwrap().is_err());
        install.site.mend().unwrap();
        if open_intents() == 1 {
            break;
        }
    }
    let authority = install.open();
    assert_eq!(open_intents(), 0);
    let leaves: Vec<Leaf> =
        authority.audit_show(None, 50).unwrap().iter().map(|text| Leaf::parse(text).unwrap()).collect();
    let of = |op: &str, outcome| leaves.iter().filter(|leaf| leaf.op == op && leaf.outcome == outcome).count();
    assert_eq!(of("kek.create", Outcome::Interrupted), 1);
    let names = || authority.tenants().unwrap().into_iter().map(|t| t.name).collect::<Vec<_>>();
    assert_eq!(names(), ["default"]);
    // The same name again, and all of it works.
    let made = authority.create_tenant(ME, "acme", None).unwrap();
    authority.create_pool_of(ME, Some("acme"), &PoolPolicy::standard("vault")).unwrap();
    let theirs = tape(&authority, "ACME01", "vault");
    assert!(opens(&authority, &theirs));
    assert_eq!(names(), ["default", "acme"]);
    // A token that fails orderly leaves as little.
    install.site.set(Plan::of(Rule::always("C_GenerateKey", Fault::Return { rv: 0x30 }))).unwrap();
    assert!(authority.create_tenant(Actor::User(1), "other", None).is_err());
    install.site.mend().unwrap();
    assert_eq!((names().len(), open_intents()), (2, 0));
    drop(authority);
    let authority = install.open();
    assert_eq!(authority.tenants().unwrap()[1].kek, made.kek);
    assert!(opens(&authority, &theirs));
}
