//! The sockets: clients against a running server, peers that may not, peers that misbehave, and kill -9.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealtape_kms::authority::Authority;
use sealtape_kms::client::{ClientError, ControlClient, DataPathClient, StreamClient};
use sealtape_kms::custody::{VerifierKey, verify_export};
use sealtape_kms::home::Home;
use sealtape_kms::protocol::{
    CONTROL_SOCKET, Cartridge, ControlRequest, KEYS_SOCKET, LastRecord, RefusalCode, STREAM_SOCKET, SyncPoint, Ticket,
    VolumeState,
};
use sealtape_kms::server::{Server, ServerConfig};
use support::install::{Install, ME, UNIT, labelled, options, order, session};

const LIMIT: Duration = Duration::from_secs(20);

struct Running {
    install: Install,
    run: tempfile::TempDir,
    server: Option<Server>,
}

impl Running {
    fn start() -> Self {
        Self::with(Install::new(), tempfile::tempdir().unwrap())
    }

    fn with(install: Install, run: tempfile::TempDir) -> Self {
        std::fs::set_permissions(run.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = ServerConfig {
            checkpoint_interval: Duration::from_millis(300),
            max_connections: 8,
            ..ServerConfig::new(run.path())
        };
        let server = Server::start(install.open(), config).unwrap();
        Self { install, run, server: Some(server) }
    }

    fn path(&self, socket: &str) -> PathBuf {
        self.run.path().join(socket)
    }

    fn data_path(&self) -> DataPathClient {
        DataPathClient::new(self.path(KEYS_SOCKET), UNIT, LIMIT)
    }

    fn control(&self) -> ControlClient {
        ControlClient::new(self.path(CONTROL_SOCKET), LIMIT)
    }

    fn streams(&self) -> StreamClient {
        StreamClient::new(self.path(STREAM_SOCKET), LIMIT)
    }

    fn stop(&mut self) {
        self.server.take().unwrap().stop().unwrap();
    }
}

fn refused(error: ClientError) -> RefusalCode {
    match error {
        ClientError::Refused(refusal) => refusal.code,
        other => panic!("{other}"),
    }
}

#[test]
fn the_whole_life_over_the_sockets() {
    let mut running = Running::start();
    let (data_path, control, streams) = (running.data_path(), running.control(), running.streams());
    let ticket = control.authorize_label(order("A")).unwrap();
    let volume = data_path.create_volume(&ticket.ticket, None, &Cartridge::default()).unwrap();
    let (generation, key) = data_path.create_generation(volume.volume, 0, None).unwrap();
    data_path.activate_generation(generation.at, &[5; 32]).unwrap();
    let ordinal = data_path.open_session(generation.at, session(0)).unwrap();
    let end = SyncPoint {
        ordinal,
        end_object: 2,
        end_filemarks: 1,
        last: Some(LastRecord { object: 0, tag: sealtape_kms::hex::Hex([1; 16]) }),
    };
    data_path.record_sync(generation.at, end).unwrap();
    let (loaded, again) = data_path.load(generation.at, &Cartridge::default()).unwrap();
    assert!(again.ct_eq(&key));
    assert_eq!(loaded.end, Some(end));
    data_path.incident(Some(volume.volume), "record 7 refused: tag").unwrap();
    data_path.release(volume.volume).unwrap();
    let (stream, stream_key) = streams.create_stream(None).unwrap();
    streams.finish_stream(stream.at.volume, 2, &[9; 16]).unwrap();
    assert!(streams.load_stream(stream.at).unwrap().1.ct_eq(&stream_key));
    assert_eq!(refused(data_path.load(stream.at, &Cartridge::default()).unwrap_err()), RefusalCode::NotAllowed);
    assert_eq!(refused(streams.load_stream(generation.at).unwrap_err()), RefusalCode::NotAllowed);

    assert_eq!(control.list_volumes().unwrap().len(), 2);
    assert_eq!(control.show_volume("A").unwrap().volume, volume.volume);
    control.set_volume_state("A", VolumeState::Retired, "test").unwrap();
    assert_eq!(refused(data_path.load(generation.at, &Cartridge::default()).unwrap_err()), RefusalCode::VolumeState);
    assert_eq!(
        refused(data_path.create_volume(&Ticket("x".into()), None, &Cartridge::default()).unwrap_err()),
        RefusalCode::Ticket
    );
    assert_eq!(control.list_pools().unwrap().len(), 1);
    assert!(control.status().unwrap().token_ok);
    assert!(!control.audit_show(None, 5).unwrap().is_empty());
    control.call(&ControlRequest::ListPools).unwrap();

    let mut export = Vec::new();
    let checkpoint = control.audit_export(&mut export).unwrap();
    let key: VerifierKey = running.install.report.log_key.parse().unwrap();
    let verified = verify_export(&mut export.as_slice(), &key).unwrap();
    assert_eq!((verified.size, verified.root), (checkpoint.size, checkpoint.root));
    // The log is signed by itself soon after the last leaf, and at the stop.
    control.authorize_label(order("B")).unwrap();
    let start = Instant::now();
    while control.status().unwrap().checkpoint_size < control.status().unwrap().log_size {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
    running.stop();
    assert!(!running.path(KEYS_SOCKET).exists());
    // Gone: the next call says so at once; back: the call after that works, with the same client.
    assert!(matches!(data_path.lookup(volume.volume), Err(ClientError::Unavailable { .. })));
    let Running { install, run, .. } = running;
    let mut running = Running::with(install, run);
    assert_eq!(data_path.lookup(volume.volume).unwrap().state, VolumeState::Retired);
    let other = Install::new();
    let second = Server::start(other.open(), ServerConfig::new(running.run.path()));
    assert!(second.is_err_and(|e| e.to_string().contains("another sealtape-keyd")));
    running.stop();
}

#[test]
fn misbehaving_peers_hold_nothing_up() {
    let running = Running::start();
    let path = running.path(KEYS_SOCKET);
    let ask = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        String::from_utf8_lossy(&reply).into_owned()
    };
    // A frame too large, no JSON, an unknown operation, an unknown flag.
    assert!(ask(&[0xff; 5]).contains("exceeds the limit"));
    assert!(ask(b"\0\0\0\x02\0{{").contains("bad_request"));
    assert!(ask(b"\0\0\0\x10\0{\"op\":\"no_such\"}").contains("bad_request"));
    assert!(ask(b"\0\0\0\x02\x09{}").contains("flag"));
    // Half a frame, then silence: it ends by itself, and others are served meanwhile.
    let mut half = UnixStream::connect(&path).unwrap();
    half.write_all(b"\0\0").unwrap();
    let client = running.data_path();
    assert_eq!(refused(client.lookup(uuid::Uuid::nil()).unwrap_err()), RefusalCode::UnknownVolume);
    // More connections than allowed: refused with a reason, and room again when one goes.
    let mut held: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let late = DataPathClient::new(&path, UNIT, LIMIT);
    assert_eq!(refused(late.lookup(uuid::Uuid::nil()).unwrap_err()), RefusalCode::Busy);
    held.clear();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(refused(late.lookup(uuid::Uuid::nil()).unwrap_err()), RefusalCode::UnknownVolume);
    half.set_read_timeout(Some(LIMIT)).unwrap();
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).unwrap();
    assert!(!rest.is_empty());
}

#[test]
fn a_silent_key_authority_ends_a_call_at_its_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("silent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let client = DataPathClient::new(&path, UNIT, Duration::from_millis(200));
    let start = Instant::now();
    assert!(matches!(client.lookup(uuid::Uuid::nil()), Err(ClientError::Timeout { .. })));
    // Even when the queue of connections is full.
    let waiting: Vec<_> = (0..200).map_while(|_| connect_now(&path)).collect();
    assert!(!waiting.is_empty());
    let start_full = Instant::now();
    assert!(client.lookup(uuid::Uuid::nil()).is_err());
    assert!(start_full.elapsed() < Duration::from_secs(5) && start.elapsed() < Duration::from_secs(10));
    drop(listener);
}

fn connect_now(path: &Path) -> Option<UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    connect(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).ok()?;
    Some(fd.into())
}

/// Not a test by itself: what another user's process or the victim of kill -9 runs.
#[test]
fn helper() {
    match std::env::var("SEALTAPE_TEST_HELPER").as_deref() {
        Ok("stranger") => {
            let run = PathBuf::from(std::env::var("SEALTAPE_TEST_DIR").unwrap());
            for socket in [KEYS_SOCKET, STREAM_SOCKET] {
                let client = DataPathClient::new(run.join(socket), UNIT, LIMIT);
                assert_eq!(refused(client.lookup(uuid::Uuid::nil()).unwrap_err()), RefusalCode::NotAllowed);
            }
            let client = ControlClient::new(run.join(CONTROL_SOCKET), LIMIT);
            assert_eq!(refused(client.list_volumes().unwrap_err()), RefusalCode::NotAllowed);
            println!("turned away");
        }
        Ok("victim") => victim(),
        _ => {}
    }
}

#[test]
fn strangers_are_turned_away_and_entered() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("only root can be another user; the rule itself has a unit test");
        return;
    }
    let running = Running::start();
    // The test's executable lies where another user may not reach it.
    let copy = running.run.path().join("stranger");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&copy)
        .args(["--exact", "helper", "--nocapture"])
        .env("SEALTAPE_TEST_HELPER", "stranger")
        .env("SEALTAPE_TEST_DIR", running.run.path())
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("turned away"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let leaves = running.control().audit_show(None, 100).unwrap();
    assert_eq!(leaves.iter().filter(|l| l.contains("\"op\":\"peer\"") && l.contains("refused")).count(), 3);
}

/// Opens sessions, makes generations and loads keys until killed, telling each result after it was acknowledged.
fn victim() {
    let home = Home::new(std::env::var("SEALTAPE_TEST_DIR").unwrap());
    let authority = Arc::new(Authority::open(&home, options()).unwrap());
    let view = authority.show_volume("A").unwrap();
    let volume = view.volume;
    let active = view.partitions[0].active().unwrap();
    let at = sealtape_kms::protocol::GenerationRef {
        volume,
        partition: 0,
        generation: active.generation,
        key_id: active.key_id,
    };
    println!("ready");
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let authority = Arc::clone(&authority);
            std::thread::spawn(move || {
                loop {
                    let text = match n {
                        0 => format!("ordinal {}", authority.open_session(ME, UNIT, at, &session(0)).unwrap()),
                        1 => format!(
                            "generation {}",
                            authority.create_generation(ME, UNIT, volume, 0, None).unwrap().0.at.generation
                        ),
                        _ => {
                            authority.load(ME, UNIT, at).unwrap();
                            "load".to_owned()
                        }
                    };
                    println!("{text}");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| drop(t.join()));
}

#[test]
fn killed_at_any_moment_log_and_catalogue_agree() {
    let install = Install::new();
    let authority = install.open();
    labelled(&authority, "A");
    drop(authority);
    let mut ordinals = BTreeSet::new();
    let mut generations = BTreeSet::from([1]);
    let mut loads = 0;
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper", "--nocapture"])
            .env("SEALTAPE_TEST_HELPER", "victim")
            .env("SEALTAPE_TEST_DIR", install.home.dir())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.by_ref().any(|l| l.ends_with("ready")), "round {round}");
        std::thread::sleep(Duration::from_millis(20 + round * 17 % 130));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            match line.split_once(' ') {
                Some(("ordinal", n)) => {
                    assert!(ordinals.insert(n.parse::<u32>().unwrap()), "ordinal {n} was given twice")
                }
                Some(("generation", n)) => {
                    assert!(generations.insert(n.parse::<u32>().unwrap()), "generation {n} twice")
                }
                _ => loads += usize::from(line == "load"),
            }
        }
    }
    let authority = install.open();
    let mut export = Vec::new();
    authority.audit_export(ME, &mut export).unwrap();
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    let verified = verify_export(&mut export.as_slice(), &key).unwrap();
    let text = String::from_utf8(export).unwrap();
    // Every acknowledged result is there, every intent has an outcome, and nothing was released without an entry.
    let view = authority.show_volume("A").unwrap();
    let known: BTreeSet<u32> = view.partitions[0].generations.iter().map(|g| g.generation).collect();
    assert!(generations.is_subset(&known));
    let count = |what: &[&str]| text.lines().filter(|l| what.iter().all(|w| l.contains(w))).count();
    let intents = count(&["\"op\":\"key.create\"", "\"outcome\":\"intent\""]);
    let outcomes = count(&["\"op\":\"key.create\""]) - intents;
    assert_eq!(intents, outcomes);
    assert_eq!(count(&["\"op\":\"key.create\"", "\"outcome\":\"done\""]), known.len());
    assert!(count(&["\"op\":\"key.release\""]) >= loads);
    let entered: BTreeSet<u32> = {
        let database = install.database();
        let mut query = database.prepare("SELECT ordinal FROM sessions").unwrap();
        query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert!(ordinals.is_subset(&entered));
    assert_eq!(count(&["\"op\":\"session.open\""]), entered.len());
    assert!(!ordinals.is_empty() && generations.len() > 1 && loads > 0);
    let next = authority.open_session(ME, UNIT, active(&authority), &session(0)).unwrap();
    assert!(next > *ordinals.last().unwrap());
    eprintln!(
        "12 kills: {} ordinals, {} generations, {loads} loads, {} leaves",
        ordinals.len(),
        known.len(),
        verified.size
    );
}

fn active(authority: &Authority) -> sealtape_kms::protocol::GenerationRef {
    let view = authority.show_volume("A").unwrap();
    let active = view.partitions[0].active().unwrap();
    sealtape_kms::protocol::GenerationRef {
        volume: view.volume,
        partition: 0,
        generation: active.generation,
        key_id: active.key_id,
    }
}
