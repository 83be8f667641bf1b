//! The key of a loaded volume ends while it is in use: input and output stop, nothing hangs, and no copy of the key stays in memory.
//! Real services, a real token (SoftHSM2), real GNU tar.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/memory.rs"]
mod memory;
#[path = "crash_support/site.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod site;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hkdf::Hkdf;
use memory::{data_key, found_in_memory, has};
use nix::unistd::geteuid;
use sealtape_drivers::image::{ImageDrive, OpenMode};
use sealtape_drivers::medium::{DriveIdentity, ReadOutcome, TapeDrive};
use sha2::Sha256;
use site::{Site, close, ready, record};

/// Within this time a host hears of an end: seconds, not minutes.
const SOON: Duration = Duration::from_secs(10);

fn wait_for(what: &str, limit: Duration, mut until: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !until() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    begun.elapsed()
}

fn ended(child: &mut Child, limit: Duration) -> (bool, String) {
    wait_for("the program's end", limit, || child.try_wait().unwrap().is_some());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().success(), said)
}

/// A site with a labelled volume that was loaded anew, and its data key.
fn site(longest_release: Option<&str>) -> (Site, [u8; 32]) {
    let mut site = Site::founded(str::to_owned);
    site.start();
    if let Some(seconds) = longest_release {
        site.done(&["pool", "set", "default", "--longest-release", seconds]);
    }
    site.cartridge("256M");
    site.done(&["volume", "load", "drive0", &site.image()]);
    site.done(&["volume", "label", "drive0", "V1"]);
    site.done(&["volume", "unload", "drive0"]);
    let key = data_key(&site.home(), site.image().as_ref());
    site.done(&["volume", "load", "drive0", &site.image()]);
    (site, key)
}

fn drive(site: &Site) -> serde_json::Value {
    match site.json(&["drive", "status", "drive0"]) {
        serde_json::Value::Array(mut drives) => drives.remove(0),
        other => other,
    }
}

/// The record key of the session that the first record behind the hidden objects belongs to (format 1, section 4).
fn record_key(image: &std::path::Path, key: &[u8; 32]) -> [u8; 32] {
    let identity = DriveIdentity { vendor: "V".into(), product: "P".into(), revision: "0".into(), serial: "S".into() };
    let mut drive = ImageDrive::new(identity);
    drive.insert(image, OpenMode::ReadOnly).unwrap();
    drive.load().unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut objects = (0..4).map(|_| match drive.read(&mut buffer).unwrap() {
        ReadOutcome::Block { length } => buffer[..length].to_vec(),
        ReadOutcome::Filemark | ReadOutcome::EndOfData | ReadOutcome::EndOfPartition => Vec::new(),
    });
    let label = sealtape::seal::VolumeLabel::parse(&objects.next().unwrap()).unwrap();
    let generation = sealtape::seal::GenerationRecord::parse(&objects.nth(1).unwrap(), &label).unwrap();
    let record = objects.next().unwrap();
    let header = sealtape::seal::envelope::parse_record(&record, false, generation.scope.suite).unwrap();
    let mut info = [0_u8; 56];
    info[..6].copy_from_slice(b"record");
    info[16] = 1;
    info[17] = generation.scope.suite.0;
    info[18] = generation.scope.partition;
    info[20..24].copy_from_slice(&generation.scope.generation.to_be_bytes());
    info[24..40].copy_from_slice(generation.scope.volume.as_bytes());
    info[40..56].copy_from_slice(&header.session.0);
    let mut derived = [0; 32];
    Hkdf::<Sha256>::new(None, key).expand(&info, &mut derived).unwrap();
    derived
}

fn root() -> bool {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root may look into the memory of the data path");
    }
    geteuid().is_root()
}

#[test]
fn a_compromise_stops_tar_and_leaves_no_key_in_memory() {
    if !ready() || !root() {
        return;
    }
    let (mut site, key) = site(None);
    let file = site.path("big");
    fs::write(&file, record(2, 64 << 20)).unwrap();
    // Two megabytes a second at the most: tar would need half a minute.
    let mut tar = Command::new("tar")
        .args(["-b", "64", "--checkpoint=32", "--checkpoint-action=sleep=1", "-cf"])
        .arg(site.node())
        .arg("-C")
        .arg(file.parent().unwrap())
        .arg("big")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let written = |site: &Site| drive(site)["counters"]["medium_bytes_written"].as_u64().unwrap();
    wait_for("records", Duration::from_secs(30), || written(&site) > 1 << 20);
    let copy = site.path("copy.img");
    fs::copy(site.image(), &copy).unwrap();
    let derived = record_key(&copy, &key);
    let pid = site.data_pid();
    assert!(!found_in_memory(pid, &key).is_empty(), "a loaded volume has its data key somewhere");
    assert!(!found_in_memory(pid, &derived).is_empty(), "an open session has its record key somewhere");
    assert!(tar.try_wait().unwrap().is_none(), "tar is to be writing still");

    let id = drive(&site)["volume"]["key_id"].as_str().unwrap().to_owned();
    let begun = Instant::now();
    let report = site.json(&["key", "compromise", &id, "--reason", "the token was away for a night"]);
    assert_eq!((report["ended"].as_u64(), report["volumes"].as_u64()), (Some(1), Some(1)));
    let (success, said) = ended(&mut tar, SOON);
    let took = begun.elapsed();
    assert!(!success, "tar was not told");
    assert!(said.contains("Cannot write") || said.contains("Cannot close"), "{said}");
    wait_for("the state in the status", SOON, || drive(&site)["read_only"].is_object());
    let notice = drive(&site)["read_only"]["message"].as_str().unwrap().to_owned();
    for part in ["compromised", "the token was away for a night", "keys are wiped"] {
        assert!(notice.contains(part), "{notice}");
    }
    // All memory of the data path, before it is unloaded.
    for (what, secret) in [("data key", key), ("record key", derived)] {
        let found = found_in_memory(pid, &secret);
        assert!(found.is_empty(), "the {what} is found in {found:#?}");
    }
    eprintln!("tar ended {took:?} after the compromise was ordered: {}", said.trim());

    // Nothing is read or written, and nothing hangs.
    let opened = Instant::now();
    let refused = File::open(site.node()).and_then(|mut node| node.read(&mut [0; 65536]));
    assert!(refused.is_err());
    let refused = File::options().write(true).open(site.node()).and_then(|mut node| node.write(&[7; 512]));
    assert!(refused.is_err());
    assert!(opened.elapsed() < SOON);
    site.done(&["volume", "unload", "drive0"]);
    let log = site.done(&["audit", "show", "--count", "60"]);
    let incident = log.lines().find(|line| line.contains("incident")).unwrap_or_else(|| panic!("no incident in {log}"));
    assert!(incident.contains("keys are wiped"), "{incident}");
    // It is loaded no more, and says why; what it held is in the list of what has to be written anew.
    drop(site.command(&["volume", "load", "drive0", &site.image()]).output().unwrap());
    assert!(drive(&site)["read_only"]["message"].as_str().unwrap().contains("compromised"));
    assert!(found_in_memory(pid, &key).is_empty());
    let list = site.done(&["key", "list", "--compromised"]);
    assert!(list.contains("V1") && list.contains("the token was away for a night"), "{list}");
    assert!(!has(site.logged().as_bytes(), &key));
    site.stop();
}

#[test]
fn a_lease_ends_with_its_key_authority_and_none_goes_on_without_it() {
    if !ready() || !root() {
        return;
    }
    let (mut site, key) = site(Some("3"));
    let mut node = File::options().write(true).open(site.node()).unwrap();
    // Renewed for as long as the key authority is there: three times its length.
    let begun = Instant::now();
    for number in 0.. {
        assert_eq!(node.write(&record(number, 4096)).unwrap(), 4096, "{}", site.status());
        std::thread::sleep(Duration::from_millis(300));
        if begun.elapsed() > Duration::from_secs(9) {
            break;
        }
    }
    assert!(!found_in_memory(site.data_pid(), &key).is_empty());
    let log = site.done(&["audit", "show", "--count", "60"]);
    assert!(log.matches("key.renew").count() >= 3, "{log}");
    site.kill_keyd();
    let killed = Instant::now();
    let refused = loop {
        if let Err(error) = node.write(&record(1, 4096)) {
            break error;
        }
        assert!(killed.elapsed() < SOON, "writing goes on without a release");
        std::thread::sleep(Duration::from_millis(100));
    };
    // Not before the lease's end: at most half of it had passed when it was renewed last.
    assert!(killed.elapsed() > Duration::from_millis(1200), "{:?}: {refused}", killed.elapsed());
    assert!(found_in_memory(site.data_pid(), &key).is_empty());
    let status = site.status();
    assert!(status.contains("its release ran out"), "{status}");
    drop(close(node));
    site.done(&["volume", "unload", "drive0"]);
    site.start_keyd();
    site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(!found_in_memory(site.data_pid(), &key).is_empty(), "released again");
    site.stop();
}

#[test]
fn without_a_lease_writing_outlives_the_key_authority_and_the_watch_comes_back() {
    if !ready() || !root() {
        return;
    }
    let (mut site, key) = site(None);
    let mut node = File::options().write(true).open(site.node()).unwrap();
    let mut write = |number| node.write(&record(number, 4096));
    write(0).unwrap();
    site.kill_keyd();
    let begun = Instant::now();
    for number in 1.. {
        assert_eq!(write(number).unwrap(), 4096, "{}", site.status());
        std::thread::sleep(Duration::from_millis(200));
        if begun.elapsed() > Duration::from_secs(4) {
            break;
        }
    }
    site.start_keyd();
    write(1).unwrap();
    // What is ordered after the key authority came back is heard: the volume is named by its label.
    site.done(&["key", "compromise", "V1", "--reason", "test"]);
    wait_for("the end", SOON, || write(1).is_err());
    assert!(found_in_memory(site.data_pid(), &key).is_empty());
    drop(close(node));
    // A retired volume's release is ended by nobody; a compromised one is loaded no more, but labelled anew.
    site.done(&["volume", "unload", "drive0"]);
    site.stop();
}
