//! The data path in an attacker's hands: he has its socket and asks for everything. Nothing is unwrapped for a volume that the unit may
//! not use, nothing without its entry; the token's own count, taken by the shim, is held against the custody log.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{
    CONTROL_SOCKET, Cartridge, DataPathReply, DataPathRequest, GenerationRef, KEYS_SOCKET, LabelOrder, PoolPolicy,
    RefusalCode, STREAM_SOCKET, Ticket, VolumeState,
};
use sha2::{Digest, Sha256};
use support::books::{Books, Handed, handed};
use support::host::{Host, serve_if_asked};
use support::install::{ME, labelled, session};
use support::shim::{Shimmed, site_dir};
use uuid::Uuid;

/// The unit that the attacker has taken over; the other one has a pool of its own.
const TAKEN: &str = "drive0";
const OTHER: &str = "drive1";

/// Not a test by itself: the key authority under attack.
#[test]
fn host() {
    serve_if_asked();
}

/// What there is, seen by one who knows everything but the keys.
struct Scene {
    install: Shimmed,
    /// The taken unit may use this one.
    mine: GenerationRef,
    /// And not these.
    superseded: GenerationRef,
    others: GenerationRef,
    retired: GenerationRef,
    replaced: GenerationRef,
    stream: GenerationRef,
    /// A ticket of the other unit.
    ticket: Ticket,
    before: Books,
    calls_before: usize,
}

fn order(unit: &str, label: &str, pool: Option<&str>, relabel: bool) -> LabelOrder {
    let pool = pool.map(str::to_owned);
    LabelOrder { unit: unit.into(), label: label.into(), barcode: None, pool, partitions: 1, relabel }
}

impl Scene {
    fn new() -> Self {
        let install = Shimmed::new();
        let authority = install.open();
        let (volume, superseded, _) = labelled(&authority, "mine");
        let (next, _) = authority.create_generation(ME, TAKEN, volume.volume, 0, None).unwrap();
        authority.activate_generation(ME, TAKEN, next.at, Hex([7; 32])).unwrap();
        let retired = labelled(&authority, "retired").1;
        authority.set_volume_state(ME, "retired", VolumeState::Retired, "test").unwrap();
        let replaced = labelled(&authority, "replaced").1;
        let ticket = authority.authorize_label(ME, &order(TAKEN, "replaced", None, true)).unwrap().ticket;
        let over = authority.create_volume(ME, &ticket, TAKEN, Some(replaced.volume), &Cartridge::default()).unwrap();
        let (generation, _) = authority.create_generation(ME, TAKEN, over.volume, 0, None).unwrap();
        authority.activate_generation(ME, TAKEN, generation.at, Hex([7; 32])).unwrap();
        authority.create_pool(ME, &PoolPolicy::standard("secret")).unwrap();
        authority.restrict_unit(ME, TAKEN, &["default".into()]).unwrap();
        let ticket = authority.authorize_label(ME, &order(OTHER, "others", Some("secret"), false)).unwrap().ticket;
        let volume = authority.create_volume(ME, &ticket, OTHER, None, &Cartridge::default()).unwrap();
        let (others, _) = authority.create_generation(ME, OTHER, volume.volume, 0, None).unwrap();
        authority.activate_generation(ME, OTHER, others.at, Hex([7; 32])).unwrap();
        let stream = authority.create_stream(ME, None).unwrap().0.at;
        let ticket = authority.authorize_label(ME, &order(OTHER, "another", Some("secret"), false)).unwrap().ticket;
        let before = Books::audit(&authority, &install.database());
        let calls_before = install.site.journal().unwrap().len();
        let (mine, others) = (next.at, others.at);
        Self { install, mine, superseded, others, retired, replaced, stream, ticket, before, calls_before }
    }

    fn host(&self, run: &Path) -> Host {
        Host::start(&self.install.home, run, Some(&site_dir(self.install.dir.path())))
    }

    fn forbidden(&self) -> [GenerationRef; 5] {
        [self.superseded, self.others, self.retired, self.replaced, self.stream]
    }

    /// Holds what the attacker received and what the token did against the log.
    fn settle(self, received: &BTreeMap<Handed, u32>) {
        let authority = self.install.open();
        let books = Books::audit(&authority, &self.install.database());
        let released = less(books.releases(), self.before.releases());
        let created = less(books.creations(), self.before.creations());
        let mut entered = released.clone();
        for (key, count) in &created {
            *entered.entry(key.clone()).or_default() += count;
        }
        assert_eq!(&entered, received, "keys entered as handed out, and keys received");
        for at in self.forbidden() {
            assert!(entered.keys().all(|(_, _, _, _, key)| *key != at.key_id), "{at:?} was released");
        }
        assert!(entered.keys().all(|(_, volume, ..)| *volume != self.others.volume));
        // Which key each wrapped copy is of, by the log; canaries have a key-encryption key there.
        let mut copies: BTreeMap<[u8; 32], Uuid> = BTreeMap::new();
        for leaf in &books.leaves {
            copies.extend(leaf.blobs.iter().filter_map(|blob| Some((blob.sha256.0, leaf.key?))));
        }
        let mut unwrapped: BTreeMap<Uuid, u32> = BTreeMap::new();
        for call in self.install.site.journal().unwrap().into_iter().skip(self.calls_before) {
            let Some(input) = call.input else { continue };
            let bytes: Vec<u8> =
                (0..input.len() / 2).map(|n| u8::from_str_radix(&input[2 * n..2 * n + 2], 16).unwrap()).collect();
            let key = copies.get(&<[u8; 32]>::from(Sha256::digest(bytes)));
            *unwrapped.entry(*key.expect("the token unwrapped what the log does not know")).or_default() += 1;
        }
        for at in self.forbidden() {
            assert_eq!(unwrapped.get(&at.key_id), None, "{at:?} was unwrapped");
        }
        let counts = |of: &BTreeMap<Handed, u32>| {
            let mut counts: BTreeMap<Uuid, u32> = BTreeMap::new();
            for ((.., key), count) in of {
                *counts.entry(*key).or_default() += count;
            }
            counts
        };
        let (released, created) = (counts(&released), counts(&created));
        let data_keys = books.creations().into_keys().map(|(.., key)| key);
        for key in data_keys {
            // At its making each of its two copies is unwrapped once, to see that it is the same key.
            let wanted = released.get(&key).unwrap_or(&0) + 2 * created.get(&key).unwrap_or(&0);
            assert_eq!(
                unwrapped.get(&key).copied().unwrap_or(0),
                wanted,
                "unwrappings of {key}, by the token and by the log"
            );
        }
        assert!(!unwrapped.is_empty());
    }
}

fn less(mut now: BTreeMap<Handed, u32>, before: BTreeMap<Handed, u32>) -> BTreeMap<Handed, u32> {
    for (key, count) in before {
        *now.get_mut(&key).unwrap() -= count;
    }
    now.retain(|_, count| *count > 0);
    now
}

/// A connection that sends whatever it likes.
struct Raw(UnixStream);

impl Raw {
    fn connect(host: &Host, socket: &str) -> Self {
        let stream = UnixStream::connect(host.socket(socket)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(stream)
    }

    fn send(&mut self, request: &DataPathRequest) {
        let body = serde_json::to_vec(request).unwrap();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.push(0);
        frame.extend(body);
        self.0.write_all(&frame).unwrap();
    }

    /// The next reply, and whether a key came with it.
    fn reply(&mut self) -> (DataPathReply, bool) {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        if head[4] == 1 {
            let mut key = [0; 32];
            self.0.read_exact(&mut key).unwrap();
            assert_ne!(key, [0; 32]);
        }
        (serde_json::from_slice(&body).unwrap(), head[4] == 1)
    }

    fn ask(&mut self, request: &DataPathRequest) -> (DataPathReply, bool) {
        self.send(request);
        self.reply()
    }
}

/// A key in a reply counts as handed out to the unit that asked.
fn take(received: &mut BTreeMap<Handed, u32>, request: &DataPathRequest, reply: &(DataPathReply, bool)) {
    let at = match &reply.0 {
        DataPathReply::Loaded(loaded) => loaded.at,
        DataPathReply::Generation(generation) => generation.at,
        _ => {
            assert!(!reply.1, "a key beside {:?}", reply.0);
            return;
        }
    };
    assert!(reply.1);
    *received.entry(handed(request.unit().unwrap(), at)).or_default() += 1;
}

fn load(unit: &str, at: GenerationRef) -> DataPathRequest {
    DataPathRequest::Load { unit: unit.into(), at, cartridge: Cartridge::default() }
}

#[test]
fn what_the_unit_may_not_have_is_refused_by_name() {
    let scene = Scene::new();
    let run = tempfile::tempdir().unwrap();
    let host = scene.host(run.path());
    let mut raw = Raw::connect(&host, KEYS_SOCKET);
    let mut received = BTreeMap::new();
    let unit = || TAKEN.to_owned();
    let (mine, others) = (scene.mine, scene.others);
    let create = |volume, partition| DataPathRequest::CreateGeneration { unit: unit(), volume, partition, suite: None };
    let volume = |ticket: &Ticket, unit: String| DataPathRequest::CreateVolume {
        ticket: ticket.clone(),
        unit,
        replaces: None,
        cartridge: Cartridge::default(),
    };
    use RefusalCode as R;
    let table = [
        (load(TAKEN, others), R::UnitRestricted),
        (load(TAKEN, scene.retired), R::VolumeState),
        (load(TAKEN, scene.replaced), R::VolumeState),
        (load(TAKEN, scene.superseded), R::Superseded),
        (load(TAKEN, scene.stream), R::NotAllowed),
        (DataPathRequest::LoadStream { at: scene.stream }, R::NotAllowed),
        (DataPathRequest::LoadStream { at: mine }, R::NotAllowed),
        (DataPathRequest::CreateStream { pool: None }, R::NotAllowed),
        // Halves of two volumes put together, and numbers beyond.
        (load(TAKEN, GenerationRef { key_id: others.key_id, ..mine }), R::UnknownGeneration),
        (load(TAKEN, GenerationRef { volume: mine.volume, ..others }), R::UnknownGeneration),
        (load(TAKEN, GenerationRef { generation: mine.generation + 1, ..mine }), R::UnknownGeneration),
        (load(TAKEN, GenerationRef { generation: u32::MAX, ..mine }), R::UnknownGeneration),
        (load(TAKEN, GenerationRef { partition: 1, ..mine }), R::UnknownGeneration),
        (load(TAKEN, GenerationRef { volume: Uuid::nil(), ..mine }), R::UnknownVolume),
        (create(others.volume, 0), R::UnitRestricted),
        (create(scene.retired.volume, 0), R::VolumeState),
        (create(mine.volume, 200), R::BadRequest),
        // A unit that there is not is bound by no restriction; names that are none.
        (load("drive9", others), R::NotAllowed),
        (load("drive9", mine), R::NotAllowed),
        (load("", mine), R::BadRequest),
        (load("drive0\n", mine), R::BadRequest),
        (load(&"x".repeat(60_000), mine), R::BadRequest),
        (volume(&scene.ticket, unit()), R::Ticket),
        (volume(&Ticket("guessed".into()), unit()), R::Ticket),
        (DataPathRequest::ActivateGeneration { unit: unit(), at: others, commitment: Hex([1; 32]) }, R::UnitRestricted),
        (DataPathRequest::OpenSession { unit: unit(), at: others, session: session(0) }, R::UnitRestricted),
        (DataPathRequest::Renew { unit: unit(), at: others }, R::UnitRestricted),
    ];
    for (request, code) in &table {
        let answer = raw.ask(request);
        match &answer {
            (DataPathReply::Refused(refusal), false) => {
                assert_eq!(refusal.code, *code, "{request:?}: {refusal}");
                assert!(refusal.what.len() < 1000, "{request:?}");
            }
            other => panic!("{request:?}: {other:?}"),
        }
    }
    // On the door of streams, tapes are refused, and a stream stands in no drive.
    let mut streams = Raw::connect(&host, STREAM_SOCKET);
    for request in [load(TAKEN, mine), create(mine.volume, 0)] {
        assert!(matches!(streams.ask(&request).0, DataPathReply::Refused(r) if r.code == R::NotAllowed));
    }
    // What he may have he gets, and it is entered.
    let request = load(TAKEN, mine);
    take(&mut received, &request, &raw.ask(&request));
    assert_eq!(received.len(), 1);
    assert!(!host.errors().contains("panicked"), "{}", host.errors());
    host.stop();
    scene.settle(&received);
}

fn wild(rng: &mut TestRng, scene: &Scene, extra: &[GenerationRef]) -> DataPathRequest {
    let known: Vec<GenerationRef> =
        [scene.mine].into_iter().chain(scene.forbidden()).chain(extra.iter().copied()).collect();
    let one = |rng: &mut TestRng| known[rng.random_range(0..known.len())];
    let at = match rng.random_range(0..6) {
        0 => GenerationRef { key_id: one(rng).key_id, ..one(rng) },
        1 => GenerationRef { volume: one(rng).volume, ..one(rng) },
        2 => GenerationRef { generation: [0, 1, 2, 3, 100, u32::MAX][rng.random_range(0..6)], ..one(rng) },
        3 => GenerationRef { partition: rng.random(), ..one(rng) },
        4 => GenerationRef { volume: Uuid::from_u128(rng.random()), ..one(rng) },
        _ => one(rng),
    };
    let unit = match rng.random_range(0..12) {
        0 => "drive9".to_owned(),
        1 => (0..rng.random_range(0..100)).map(|_| char::from(rng.random_range(0..128u8))).collect(),
        // He is drive0: where he says drive1, he is believed, for he has that drive's process, too; not in this game.
        _ => TAKEN.to_owned(),
    };
    let volume = at.volume;
    let cartridge = match rng.random_range(0..8) {
        0 => Cartridge { barcode: Some("A00001L9".into()), serial: None },
        1 => Cartridge { barcode: Some("Z".repeat(rng.random_range(0..100))), serial: Some("\u{1}".into()) },
        _ => Cartridge::default(),
    };
    let number = |rng: &mut TestRng| if rng.random() { rng.random::<u64>() } else { rng.random_range(0..4) };
    match rng.random_range(0..20) {
        0..6 => DataPathRequest::Load { unit, at, cartridge },
        6 | 7 => DataPathRequest::CreateGeneration {
            unit,
            volume,
            partition: at.partition,
            suite: Some(rng.random_range(0..5)),
        },
        8 => DataPathRequest::Lookup { unit, volume },
        9 => DataPathRequest::LoadStream { at },
        10 => DataPathRequest::CreateStream { pool: Some("secret".into()) },
        11 => DataPathRequest::CreateVolume {
            ticket: if rng.random() { scene.ticket.clone() } else { Ticket(rng.random::<u64>().to_string()) },
            unit,
            replaces: rng.random::<bool>().then_some(volume),
            cartridge,
        },
        12 => DataPathRequest::LearnCartridge { unit, volume: scene.others.volume, cartridge },
        13 => {
            let mut start = session(number(rng));
            (start.filemarks, start.after_ordinal) = (number(rng), rng.random());
            DataPathRequest::OpenSession { unit, at, session: start }
        }
        14 => DataPathRequest::RecordSync {
            unit,
            at,
            end: sealtape_kms::protocol::SyncPoint {
                ordinal: rng.random(),
                end_object: number(rng),
                end_filemarks: number(rng),
                last: None,
            },
        },
        15 => DataPathRequest::Release { unit, volume },
        16 => DataPathRequest::Incident { unit, volume: Some(volume), text: "x".repeat(rng.random_range(0..3000)) },
        17 => DataPathRequest::Renew { unit, at },
        18 => DataPathRequest::AuthorizeByPolicy { unit, cartridge },
        _ => DataPathRequest::FinishStream { volume, records: number(rng), last_tag: Hex([0; 16]) },
    }
}

#[test]
fn ten_thousand_wild_requests() {
    let total = if std::env::var_os("SEALTAPE_LONG").is_some() { 100_000 } else { 10_000 };
    let scene = Scene::new();
    let run = tempfile::tempdir().unwrap();
    let host = scene.host(run.path());
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).unwrap();
    eprintln!("seed {}", Hex(seed));
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut received = BTreeMap::new();
    let mut raw = Raw::connect(&host, KEYS_SOCKET);
    let mut made = Vec::new();
    let (began, start, mut refused) = (Instant::now(), host.peak_memory(), 0);
    let mut sent = 0;
    while sent < total {
        // Pipelined: many requests before the first reply is read.
        let batch: Vec<DataPathRequest> = (0..rng.random_range(1..60)).map(|_| wild(&mut rng, &scene, &made)).collect();
        for request in &batch {
            raw.send(request);
        }
        for request in &batch {
            let reply = raw.reply();
            refused += usize::from(matches!(reply.0, DataPathReply::Refused(_)));
            if let DataPathReply::Generation(generation) = &reply.0
                && made.len() < 20
            {
                made.push(generation.at);
            }
            take(&mut received, request, &reply);
        }
        sent += batch.len();
    }
    let grown = host.peak_memory() - start;
    assert!(grown < 64 * 1024, "the key authority has grown by {grown} KiB");
    assert!(!host.errors().contains("panicked"), "{}", host.errors());
    host.stop();
    eprintln!(
        "{sent} requests in {:?}: {refused} refused, {} keys received, {grown} KiB more memory",
        began.elapsed(),
        received.values().sum::<u32>()
    );
    scene.settle(&received);
}

#[test]
fn garbage_half_frames_and_silence_hold_nobody_up() {
    let scene = Scene::new();
    let run = tempfile::tempdir().unwrap();
    let host = scene.host(run.path());
    let start = host.peak_memory();
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    for n in 0..400 {
        let mut raw = Raw::connect(&host, KEYS_SOCKET);
        let mut garbage = vec![0; rng.random_range(1..2000)];
        rng.fill(&mut garbage[..]);
        match n % 4 {
            // A length beyond the limit, up to 4 GiB.
            0 => garbage[0] = 0xff,
            // The largest length that is allowed, and less than that behind it.
            1 => garbage.splice(..4.min(garbage.len()), 65_536u32.to_be_bytes()).for_each(drop),
            // A request that brings a key along.
            2 => {
                garbage = b"\0\0\0\x02\x01{}".to_vec();
                garbage.extend([0x41; 32]);
            }
            _ => {}
        }
        // The other end may hang up before all is written.
        let _ = raw.0.write_all(&garbage);
        if n % 2 == 0 {
            let _ = raw.0.shutdown(std::net::Shutdown::Write);
            let _ = raw.0.read_to_end(&mut Vec::new());
        }
    }
    // As many half frames as there are places, and one who asks without ever reading: the others' doors stay open.
    let held: Vec<UnixStream> = (0..130)
        .filter_map(|_| {
            let mut stream = UnixStream::connect(host.socket(KEYS_SOCKET)).ok()?;
            stream.write_all(b"\0\0").ok()?;
            Some(stream)
        })
        .collect();
    let control = host.control();
    let asked = Instant::now();
    assert!(control.status().unwrap().token_ok);
    assert!(control.list_volumes().unwrap().len() >= 4);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    drop(held);
    let mut deaf = Raw::connect(&host, KEYS_SOCKET);
    deaf.0.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let lookup = DataPathRequest::Lookup { unit: TAKEN.into(), volume: scene.mine.volume };
    let body = serde_json::to_vec(&lookup).unwrap();
    let frame = [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &[0], &body].concat();
    while deaf.0.write_all(&frame).is_ok() {}
    let mut received = BTreeMap::new();
    let request = load(TAKEN, scene.mine);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = Raw::connect(&host, KEYS_SOCKET).ask(&request);
        // The places of those who hung up come free one by one.
        if matches!(&reply.0, DataPathReply::Refused(r) if r.code == RefusalCode::Busy) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        take(&mut received, &request, &reply);
        break;
    }
    assert_eq!(received.len(), 1);
    let grown = host.peak_memory() - start;
    assert!(grown < 64 * 1024, "the key authority has grown by {grown} KiB");
    assert!(!host.errors().contains("panicked"), "{}", host.errors());
    assert!(host.socket(CONTROL_SOCKET).exists());
    drop(deaf);
    host.stop();
    scene.settle(&received);
}
