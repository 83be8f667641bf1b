//! kill -9 at random moments, under load through the real sockets: whatever was acknowledged is durable, and the books agree.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sealtape_kms::client::{ClientError, ControlClient, DataPathClient};
use sealtape_kms::protocol::{Cartridge, GenerationRef, LabelOrder, PoolPolicy};
use sealtape_kms::secret::DataKey;
use sha2::{Digest, Sha256};
use support::books::{Books, Handed, handed};
use support::host::{Host, serve_if_asked};
use support::install::{Install, labelled, session};
use uuid::Uuid;

/// Not a test by itself: the process that is killed.
#[test]
fn host() {
    serve_if_asked();
}

/// What clients were told, over all lives of the key authority.
#[derive(Default)]
struct Told {
    /// Hash of each key, by where it belongs.
    keys: BTreeMap<(Uuid, u32), [u8; 32]>,
    at: BTreeMap<(Uuid, u32), GenerationRef>,
    released: BTreeMap<Handed, u32>,
    created: BTreeMap<Handed, u32>,
    ordinals: BTreeSet<(Uuid, u32)>,
    pools: BTreeSet<String>,
    active: BTreeSet<Uuid>,
}

impl Told {
    fn key(&mut self, at: GenerationRef, key: &DataKey) {
        let hash: [u8; 32] = Sha256::digest(key.expose()).into();
        let known = *self.keys.entry((at.volume, at.generation)).or_insert(hash);
        assert_eq!(known, hash, "{at:?}: two keys");
        self.at.insert((at.volume, at.generation), at);
    }
}

fn label(control: &ControlClient, client: &DataPathClient, unit: &str, told: &Mutex<Told>) -> Result<(), ClientError> {
    let label = Uuid::new_v4().to_string();
    let order = LabelOrder { unit: unit.into(), label, barcode: None, pool: None, partitions: 1, relabel: false };
    let ticket = control.authorize_label(order)?;
    let volume = client.create_volume(&ticket.ticket, None, &Cartridge::default())?;
    let at = create(client, unit, volume.volume, told)?;
    client.activate_generation(at, &[7; 32])?;
    told.lock().unwrap().active.insert(volume.volume);
    Ok(())
}

fn create(client: &DataPathClient, unit: &str, volume: Uuid, told: &Mutex<Told>) -> Result<GenerationRef, ClientError> {
    let (generation, key) = client.create_generation(volume, 0, None)?;
    let mut told = told.lock().unwrap();
    told.key(generation.at, &key);
    let before = told.created.insert(handed(unit, generation.at), 1);
    assert!(before.is_none(), "{:?} was given twice", generation.at);
    Ok(generation.at)
}

/// One client until its key authority dies.
fn work(n: usize, host: &Host, base: GenerationRef, told: &Mutex<Told>) -> ClientError {
    let unit = format!("drive{}", n % 4);
    let (client, control) = (host.data_path(&unit), host.control());
    loop {
        let step = match n {
            0 | 1 => client.load(base, &Cartridge::default()).map(|(loaded, key)| {
                let mut told = told.lock().unwrap();
                told.key(loaded.at, &key);
                *told.released.entry(handed(&unit, loaded.at)).or_default() += 1;
            }),
            2 | 3 => client.open_session(base, session(0)).map(|ordinal| {
                assert!(
                    told.lock().unwrap().ordinals.insert((base.volume, ordinal)),
                    "ordinal {ordinal} was given twice"
                );
            }),
            4 | 5 => create(&client, &unit, base.volume, told).map(drop),
            6 => label(&control, &client, &unit, told),
            _ => {
                let name = Uuid::new_v4().to_string();
                control.create_pool(PoolPolicy::standard(&name), None).map(|()| {
                    told.lock().unwrap().pools.insert(name);
                })
            }
        };
        if let Err(error) = step {
            return error;
        }
    }
}

#[test]
fn killed_at_random_moments_tree_catalogue_and_releases_agree() {
    let rounds = if std::env::var_os("SEALTAPE_LONG").is_some() { 200 } else { 25 };
    let install = Install::new();
    let run = tempfile::tempdir().unwrap();
    let base = {
        let authority = install.open();
        labelled(&authority, "A").1
    };
    let told = Mutex::new(Told::default());
    let began = Instant::now();
    for round in 0..rounds {
        let host = Host::start(&install.home, run.path(), None);
        let mut random = [0u8; 1];
        getrandom::fill(&mut random).unwrap();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|n| {
                    scope.spawn({
                        let (host, told) = (&host, &told);
                        move || work(n, host, base, told)
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(10 + u64::from(random[0])));
            host.kill();
            for worker in workers {
                let error = worker.join().unwrap();
                assert!(matches!(error, ClientError::Unavailable { .. }), "round {round}: {error}");
            }
        });
        drop(host);
    }
    let took = began.elapsed();

    let authority = install.open();
    let books = Books::audit(&authority, &install.database());
    let told = told.into_inner().unwrap();
    let (releases, creations) = (books.releases(), books.creations());
    for (key, count) in &told.released {
        assert!(releases.get(key).is_some_and(|entered| entered >= count), "{key:?}: released {count} times");
    }
    for key in told.created.keys() {
        assert_eq!(creations.get(key), Some(&1), "{key:?} was handed out");
    }
    // No more releases than were asked for and killed on the way: two clients load, one request each.
    let (entered, acknowledged) = (releases.values().sum::<u32>(), told.released.values().sum::<u32>());
    assert!(entered - acknowledged <= 2 * rounds, "{entered} releases entered, {acknowledged} acknowledged");
    let sessions: BTreeSet<(Uuid, u32)> = {
        let database = install.database();
        let mut query = database.prepare("SELECT volume, ordinal FROM sessions").unwrap();
        let rows = query.query_map([], |r| Ok((r.get::<_, String>(0)?.parse().unwrap(), r.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert!(told.ordinals.is_subset(&sessions));
    let pools: BTreeSet<String> = authority.list_pools().unwrap().into_iter().map(|pool| pool.name).collect();
    assert!(told.pools.is_subset(&pools));
    for volume in &told.active {
        assert!(authority.show_volume(&volume.to_string()).unwrap().partitions[0].active().is_some());
    }
    // Every key that a client ever got is the one that the token gives now.
    for (place, at) in &told.at {
        let (_, key) = authority.load(support::install::ME, "drive0", *at).unwrap();
        assert_eq!(<[u8; 32]>::from(Sha256::digest(key.expose())), told.keys[place], "{at:?}");
    }
    let next = authority.open_session(support::install::ME, "drive0", base, &session(0)).unwrap();
    assert!(sessions.iter().all(|(volume, ordinal)| *volume != base.volume || *ordinal < next));
    let counts = [
        told.released.values().sum::<u32>() as usize,
        told.created.len(),
        told.ordinals.len(),
        told.active.len(),
        told.pools.len(),
    ];
    assert!(counts.iter().all(|count| *count > 0), "the load did not reach everything: {counts:?}");
    eprintln!(
        "{rounds} kills in {took:?}: {} loads, {} keys, {} sessions, {} volumes, {} pools, {} leaves",
        counts[0],
        counts[1],
        counts[2],
        counts[3],
        counts[4],
        books.leaves.len()
    );
}
