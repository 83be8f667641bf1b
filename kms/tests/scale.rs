//! Size: what is asked often costs what is printed, or the logarithm of the catalogue. Counted in bytes read, not in time.
//!
//! `SEALTAPE_LONG=1` fills 100 000 volumes and 1 000 000 entries and prints the table of `docs/custody/scale.md`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use rusqlite::params;
use sealtape_kms::authority::{Authority, ScrubPace};
use sealtape_kms::custody::tree::{RightEdge, leaf_hash};
use sealtape_kms::custody::{Blob, Leaf, Outcome, op, verify_export};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{EntryFilter, ExportOrder, ExportScope, VolumeQuery};
use sha2::{Digest, Sha256};
use support::install::{Install, ME, UNIT, labelled};
use uuid::Uuid;

/// Entries of each volume.
const EACH: u64 = 10;

/// Writes volumes and their entries behind the key authority's back, as it would have written them.
fn fill(install: &Install, volumes: u64) -> Uuid {
    let mut sql = install.database();
    sql.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let tenant: String = sql.query_row("SELECT uuid FROM tenants WHERE id = 1", [], |r| r.get(0)).unwrap();
    let kek: String = sql.query_row("SELECT id FROM keks WHERE purpose = 'catalogue'", [], |r| r.get(0)).unwrap();
    let (tenant, kek): (Uuid, Uuid) = (tenant.parse().unwrap(), kek.parse().unwrap());
    let leaves: Vec<String> = {
        let mut query = sql.prepare("SELECT leaf FROM custody_leaves ORDER BY seq").unwrap();
        query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let (mut edge, mut tenant_seq, mut last) = (RightEdge::default(), 0, None);
    for text in &leaves {
        edge.append(leaf_hash(text.as_bytes()), |_, _| {});
        let leaf = Leaf::parse(text).unwrap();
        tenant_seq += u64::from(leaf.tenant_seq.is_some());
        last = Some(leaf);
    }
    let last = last.unwrap();
    let pattern = Leaf {
        approvals: Vec::new(),
        blobs: Vec::new(),
        digest: None,
        key: None,
        op: op::KEY_RELEASE.into(),
        outcome: Outcome::Done,
        reason: None,
        tenant: Some(tenant),
        tenant_root: None,
        tenant_size: None,
        unit: Some(UNIT.into()),
        ..last
    };
    let wrapped = [7u8; 40];
    let blob = Blob { kek, sha256: Hex(Sha256::digest(wrapped).into()) };
    let transaction = sql.transaction().unwrap();
    let mut middle = Uuid::nil();
    {
        let mut leaf_row = transaction.prepare("INSERT INTO custody_leaves (seq, leaf) VALUES (?1, ?2)").unwrap();
        let mut node_row =
            transaction.prepare("INSERT INTO custody_nodes (level, idx, hash) VALUES (?1, ?2, ?3)").unwrap();
        let mut volume_row = transaction
            .prepare(
                "INSERT INTO volumes (id, tenant, pool, kind, state, label, barcode, partitions, created)
                 VALUES (?1, 1, 1, 'tape', 'active', ?2, ?3, 1, ?4)",
            )
            .unwrap();
        let mut partition_row = transaction
            .prepare("INSERT INTO partitions (volume, partition, next_generation, next_ordinal) VALUES (?1, 0, 2, 1)")
            .unwrap();
        let mut generation_row = transaction
            .prepare(
                "INSERT INTO generations (volume, partition, generation, key_id, suite, compression, first_ordinal, state,
                 key_state, commitment, kek, wrapped, created, created_leaf)
                 VALUES (?1, 0, 1, ?2, 1, 1, 1, 'active', 'active', zeroblob(32), ?3, ?4, ?5, ?6)",
            )
            .unwrap();
        for number in 0..volumes {
            let (volume, key) = (Uuid::new_v4(), Uuid::new_v4());
            if number == volumes / 2 {
                middle = volume;
            }
            let id = volume.to_string();
            volume_row.execute(params![id, format!("V{number}"), format!("{number:06}L9"), pattern.time]).unwrap();
            partition_row.execute([&id]).unwrap();
            let created = edge.size() as i64;
            generation_row
                .execute(params![id, key.to_string(), kek.to_string(), wrapped, pattern.time, created])
                .unwrap();
            for nth in 0..EACH {
                let mut salt = [0u8; 16];
                getrandom::fill(&mut salt).unwrap();
                let leaf = Leaf {
                    blobs: if nth == 0 { vec![blob.clone()] } else { Vec::new() },
                    generation: Some(1),
                    key: Some(key),
                    op: match nth {
                        0 => op::KEY_CREATE.into(),
                        1 => op::KEY_ACTIVATE.into(),
                        _ => pattern.op.clone(),
                    },
                    partition: Some(0),
                    salt: Hex(salt),
                    seq: edge.size(),
                    tenant_seq: Some(tenant_seq),
                    volume: Some(volume),
                    ..pattern.clone()
                };
                tenant_seq += 1;
                let text = serde_json::to_string(&leaf).unwrap();
                leaf_row.execute(params![leaf.seq as i64, text]).unwrap();
                edge.append(leaf_hash(text.as_bytes()), |node, hash| {
                    node_row.execute(params![node.level, node.index as i64, hash]).unwrap();
                });
            }
        }
    }
    transaction.commit().unwrap();
    middle
}

/// Bytes that this process has read so far.
fn bytes_read() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

struct Cost {
    what: &'static str,
    took: Duration,
    read: u64,
}

#[derive(Default)]
struct Costs {
    rows: Vec<Cost>,
    /// Sizes of the whole exports.
    exported: Vec<usize>,
}

impl Costs {
    fn of<T>(&mut self, what: &'static str, work: impl FnOnce() -> T) -> T {
        let (begun, before) = (Instant::now(), bytes_read());
        let value = work();
        self.rows.push(Cost { what, took: begun.elapsed(), read: bytes_read() - before });
        value
    }
}

fn measure(volumes: u64, long: bool) -> Costs {
    let install = Install::new();
    let authority = install.open();
    labelled(&authority, "A");
    authority.shut_down().unwrap();
    drop(authority);
    let middle = fill(&install, volumes);
    // The first start reads everything that no checkpoint covers, and signs one when it stops.
    let authority = install.open();
    authority.shut_down().unwrap();
    drop(authority);
    let mut costs = Costs::default();
    let authority = costs.of("start", || install.open());
    costs.of("a volume labelled: 8 entries", || labelled(&authority, "B"));
    costs.of("a checkpoint", || authority.checkpoint().unwrap());
    costs.of("the last 50 entries", || authority.audit_show(None, 50).unwrap());
    let of_one = || EntryFilter { volume: Some(middle.to_string()), ..EntryFilter::default() };
    let found =
        costs.of("the entries of a volume", || authority.audit_entries(&of_one(), None, false, 1000, false).unwrap());
    assert_eq!(found.leaves.len() as u64, EACH);
    let page = costs.of("100 volumes of the list", || {
        authority.list_volumes(&VolumeQuery { count: 100, ..VolumeQuery::default() }).unwrap()
    });
    assert_eq!(page.volumes.len(), 100);
    costs.of("a volume by its label", || authority.show_volume("V5").unwrap());
    costs.of("a consistency proof", || authority.audit_consistency(volumes, None).unwrap());
    let mut text = Vec::new();
    let order = ExportOrder { scope: ExportScope::Selection(of_one()), csv: false };
    costs.of("export of a volume's entries, with proofs", || authority.audit_export_as(ME, &order, &mut text).unwrap());
    let key = authority.log_key();
    let verified = costs.of("its verification", || verify_export(&mut text.as_slice(), &key).unwrap());
    assert_eq!(verified.entries, EACH);
    if long {
        whole(&authority, &mut costs);
    }
    costs
}

/// What grows with the log: told, not bounded.
fn whole(authority: &Authority, costs: &mut Costs) {
    let key = authority.log_key();
    for (what, check, scope) in [
        ("full export", "verification of the full export", ExportScope::Full),
        (
            "export of the tenant, with proofs",
            "verification of the tenant's export",
            ExportScope::Tenant("default".into()),
        ),
    ] {
        let mut text = Vec::new();
        costs.of(what, || authority.audit_export_as(ME, &ExportOrder { scope, csv: false }, &mut text).unwrap());
        costs.exported.push(text.len() >> 20);
        costs.of(check, || verify_export(&mut text.as_slice(), &key).unwrap());
    }
    let pace = ScrubPace { rows: 5000, rest: std::time::Duration::ZERO };
    let stop = std::sync::Arc::default();
    assert!(costs.of("the check of everything, without rests", || authority.scrub(pace, &stop).unwrap()));
}

/// The table of `docs/custody/scale.md`.
fn tell(small: &Costs, large: &Costs) {
    println!("\n| what | 10 000 volumes, 100 000 entries | 100 000 volumes, 1 000 000 entries |\n|---|---|---|");
    let figure = |cost: &Cost| format!("{:.1} ms, {} KiB", cost.took.as_secs_f64() * 1e3, cost.read / 1024);
    for (small, large) in small.rows.iter().zip(&large.rows) {
        println!("| {} | {} | {} |", small.what, figure(small), figure(large));
    }
    println!("\nThe exports have {:?} and {:?} MiB.", small.exported, large.exported);
}

#[test]
fn costs_grow_with_the_logarithm_or_with_what_is_printed() {
    if std::env::var_os("SEALTAPE_LONG").is_some() {
        tell(&measure(10_000, true), &measure(100_000, true));
        return;
    }
    // Both above the size below which everything is checked before the start.
    let (small, large) = (measure(2_200, false), measure(8_800, false));
    for (Cost { what, read: before, .. }, Cost { read: after, .. }) in small.rows.iter().zip(&large.rows) {
        // Four times the catalogue: two levels more in every tree. The catalogue's own pages make up a bottom of some hundred KiB.
        assert!(*after < before + before / 2 + 200_000, "{what}: {before} bytes read, then {after}");
    }
}
