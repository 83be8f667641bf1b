//! A hundred threads and four units at once, through the real sockets: no release is lost, doubled, or without its entry.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use sealtape_kms::client::{ClientError, ControlClient, DataPathClient};
use sealtape_kms::protocol::{
    CONTROL_SOCKET, Cartridge, GenerationRef, KEYS_SOCKET, LabelOrder, PoolPolicy, RefusalCode,
};
use sealtape_kms::server::{Server, ServerConfig};
use sha2::{Digest, Sha256};
use support::books::{Books, Handed, handed};
use support::install::{Install, session};
use uuid::Uuid;

const THREADS: usize = 100;
const UNITS: usize = 4;
const LIMIT: Duration = Duration::from_secs(120);

/// What one thread was told.
#[derive(Default)]
struct Told {
    released: Vec<Handed>,
    created: Vec<Handed>,
    keys: Vec<(GenerationRef, [u8; 32])>,
    ordinals: Vec<(Uuid, u32)>,
    refused: usize,
}

fn unit(n: usize) -> String {
    format!("drive{}", n % UNITS)
}

/// A pool for each unit alone, and a tape in it.
fn tape(control: &ControlClient, run: &std::path::Path, n: usize) -> GenerationRef {
    let (unit, pool) = (unit(n), format!("pool{n}"));
    control.create_pool(PoolPolicy::standard(&pool), None).unwrap();
    control.restrict_unit(&unit, vec![pool.clone()]).unwrap();
    let client = DataPathClient::new(run.join(KEYS_SOCKET), &unit, LIMIT);
    let order =
        LabelOrder { unit, label: format!("T{n}"), barcode: None, pool: Some(pool), partitions: 1, relabel: false };
    let ticket = control.authorize_label(order).unwrap();
    let volume = client.create_volume(&ticket.ticket, None, &Cartridge::default()).unwrap();
    let (generation, _) = client.create_generation(volume.volume, 0, None).unwrap();
    client.activate_generation(generation.at, &[7; 32]).unwrap();
    generation.at
}

fn ask(client: &DataPathClient, n: usize, rounds: usize, tapes: &[GenerationRef]) -> Told {
    let mut told = Told::default();
    let (unit, mine) = (unit(n), tapes[n % UNITS]);
    for round in 0..rounds {
        match (n + round) % 4 {
            0 | 1 => {
                let (loaded, key) = client.load(mine, &Cartridge::default()).unwrap();
                told.released.push(handed(&unit, loaded.at));
                told.keys.push((loaded.at, Sha256::digest(key.expose()).into()));
            }
            2 => {
                let (generation, key) = client.create_generation(mine.volume, 0, None).unwrap();
                told.created.push(handed(&unit, generation.at));
                told.keys.push((generation.at, Sha256::digest(key.expose()).into()));
            }
            _ => {
                told.ordinals.push((mine.volume, client.open_session(mine, session(0)).unwrap()));
                // Another unit's tape, in the middle of all that.
                match client.load(tapes[(n + 1) % UNITS], &Cartridge::default()) {
                    Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::UnitRestricted),
                    other => panic!("{other:?}"),
                }
                told.refused += 1;
            }
        }
    }
    told
}

#[test]
fn a_hundred_threads_and_four_units_at_once() {
    let rounds = if std::env::var_os("SEALTAPE_LONG").is_some() { 100 } else { 8 };
    let install = Install::new();
    let run = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        max_connections: THREADS + 8,
        checkpoint_interval: Duration::from_millis(300),
        ..ServerConfig::new(run.path())
    };
    let server = Server::start(install.open(), config).unwrap();
    let control = ControlClient::new(run.path().join(CONTROL_SOCKET), LIMIT);
    let tapes: Vec<GenerationRef> = (0..UNITS).map(|n| tape(&control, run.path(), n)).collect();
    let (began, start) = (Instant::now(), Arc::new(Barrier::new(THREADS)));
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let client = DataPathClient::new(run.path().join(KEYS_SOCKET), unit(n), LIMIT);
            let (start, tapes) = (Arc::clone(&start), tapes.clone());
            std::thread::spawn(move || {
                start.wait();
                ask(&client, n, rounds, &tapes)
            })
        })
        .collect();
    let told: Vec<Told> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let took = began.elapsed();
    server.stop().unwrap();

    let authority = install.open();
    let books = Books::audit(&authority, &install.database());
    let count = |lists: Vec<&Vec<Handed>>| {
        let mut counts: BTreeMap<Handed, u32> = BTreeMap::new();
        for key in lists.into_iter().flatten() {
            *counts.entry(key.clone()).or_default() += 1;
        }
        counts
    };
    let released = count(told.iter().map(|t| &t.released).collect());
    assert_eq!(books.releases(), released, "releases entered, and keys received");
    let mut creations = books.creations();
    for (n, at) in tapes.iter().enumerate() {
        assert_eq!(creations.remove(&handed(&unit(n), *at)), Some(1));
    }
    let created = count(told.iter().map(|t| &t.created).collect());
    assert_eq!(creations, created, "keys entered as made, and keys received");
    assert!(created.values().all(|count| *count == 1), "a generation was given twice");
    let numbers: BTreeSet<(Uuid, u32)> =
        created.keys().map(|(_, volume, _, generation, _)| (*volume, *generation)).collect();
    assert_eq!(numbers.len(), created.len(), "a generation number was given twice");
    let ordinals: Vec<(Uuid, u32)> = told.iter().flat_map(|t| t.ordinals.iter().copied()).collect();
    assert_eq!(ordinals.iter().collect::<BTreeSet<_>>().len(), ordinals.len(), "a session ordinal was given twice");
    // One key for each place, and no key for two.
    let mut keys: BTreeMap<Uuid, [u8; 32]> = BTreeMap::new();
    for (at, hash) in told.iter().flat_map(|t| &t.keys) {
        assert_eq!(keys.entry(at.key_id).or_insert(*hash), hash, "{at:?}");
    }
    assert_eq!(keys.values().collect::<BTreeSet<_>>().len(), keys.len(), "a key stands in two places");
    eprintln!(
        "{THREADS} threads in {took:?}: {} releases, {} keys, {} sessions, {} refused, {} leaves",
        released.values().sum::<u32>(),
        created.len(),
        ordinals.len(),
        told.iter().map(|t| t.refused).sum::<usize>(),
        books.leaves.len()
    );
}
