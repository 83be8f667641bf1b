//! Tape nodes in a folder, used by real programs.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

#[macro_use]
mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use sealtape_drivers::image::{CreateOptions, ImageDrive, OpenMode, create};
use sealtape_drivers::medium::{DriveError, DriveErrorKind, DriveIdentity, TapeDrive};
use support::programs::must;
use support::tape::MemoryTape;
use support::{Station, fuse_is_here};

fn memory_drive(_scratch: &Path, capacity: u64) -> Box<dyn TapeDrive> {
    Box::new(MemoryTape::new(capacity))
}

fn image_drive(scratch: &Path, capacity: u64) -> Box<dyn TapeDrive> {
    let path = scratch.join("cartridge.image");
    create(&path, &CreateOptions::new(capacity)).unwrap();
    let text = |words: &str| words.to_owned();
    let mut drive = ImageDrive::new(DriveIdentity {
        vendor: text("SEALTAPE"),
        product: text("IMAGE"),
        revision: text("1"),
        serial: text("TEST"),
    });
    drive.insert(&path, OpenMode::ReadWrite).unwrap();
    drive.load().unwrap();
    Box::new(drive)
}

node_suite!(memory, crate::memory_drive);
node_suite!(image, crate::image_drive);

#[test]
fn a_slow_drive_holds_up_nobody_else() {
    if !fuse_is_here() {
        return;
    }
    let slow = MemoryTape::new(1 << 20);
    let station = Station::of(vec![Box::new(slow.clone()), Box::new(MemoryTape::new(1 << 20))]);
    slow.controls().motion = Duration::from_secs(3);
    let (work, first, second) = (station.work(), station.nst(0), station.nst(1));
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let rewinding = scope.spawn(|| must(&work, &[("N", &first)], "mt -f $N rewind"));
        std::thread::sleep(Duration::from_millis(500));
        must(&work, &[("N", &second)], "tar cf $N -C / etc/hostname; mt -f $N rewind; tar tf $N");
        let refused = File::open(&first).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::EBUSY as i32));
        std::fs::metadata(&first).unwrap();
        assert!(begun.elapsed() < Duration::from_millis(2500), "held up for {:?}", begun.elapsed());
        rewinding.join().unwrap();
    });
    // The rewind at close is waited for by the next opener only.
    File::open(station.st(0)).unwrap();
    let begun = Instant::now();
    must(&work, &[("N", &second)], "mt -f $N rewind");
    assert!(begun.elapsed() < Duration::from_secs(2), "held up for {:?}", begun.elapsed());
    File::open(&first).unwrap();
    assert!(begun.elapsed() > Duration::from_secs(2), "did not wait for the rewind");
    station.stop().unwrap();
}

#[test]
fn a_client_killed_in_a_slow_command_frees_the_node() {
    if !fuse_is_here() {
        return;
    }
    let slow = MemoryTape::new(1 << 20);
    let station = Station::of(vec![Box::new(slow.clone())]);
    slow.controls().motion = Duration::from_secs(2);
    let node = station.nst(0);
    let mut client = Command::new("mt").arg("-f").arg(&node).arg("rewind").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    client.kill().unwrap();
    assert_eq!(client.wait().unwrap().signal(), Some(9));
    slow.controls().motion = Duration::ZERO;
    let deadline = Instant::now() + Duration::from_secs(10);
    while File::open(&node).is_err() {
        assert!(Instant::now() < deadline, "the node stays busy");
        std::thread::sleep(Duration::from_millis(20));
    }
    station.stop().unwrap();
}

#[test]
fn failures_at_close_reach_somebody() {
    if !fuse_is_here() {
        return;
    }
    let tape = MemoryTape::new(1 << 20);
    let station = Station::of(vec![Box::new(tape.clone())]);
    let (work, node) = (station.work(), station.nst(0));
    // What cannot be synchronised is told by close itself: dd fails.
    tape.controls().fail_sync = Some(DriveError::new(DriveErrorKind::Hardware, "head fell off"));
    let ran = support::programs::shell(&work, &[("N", &node)], "dd if=/dev/zero of=$N bs=512 count=1");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("Input/output error"), "{}", ran.stderr);
    // Waits for the last close.
    File::open(&node).unwrap();
    // What fails after it is told by the next open.
    tape.controls().fail_filemark = Some(DriveError::new(DriveErrorKind::Medium, "worn out"));
    must(&work, &[("N", &node)], "dd if=/dev/zero of=$N bs=512 count=1 2>/dev/null");
    assert_eq!(File::open(&node).unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
    assert!(station.node(0).last_error().unwrap().contains("worn out"));
    File::open(&node).unwrap();
    tape.controls().write_protected = true;
    let refused = std::fs::OpenOptions::new().write(true).open(&node).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::EROFS as i32));
    station.stop().unwrap();
}

#[test]
fn stopping_under_an_open_node_synchronises_and_unmounts() {
    if !fuse_is_here() {
        return;
    }
    let tape = MemoryTape::new(1 << 20);
    let station = Station::of(vec![Box::new(tape.clone())]);
    let folder = station.mounted().folder().to_path_buf();
    let mut client = File::create(station.nst(0)).unwrap();
    client.write_all(b"half a file").unwrap();
    station.stop().unwrap();
    assert_eq!(tape.layout(), "11", "no filemark: the program has not closed its file");
    assert!(tape.controls().log.contains(&"sync".to_owned()));
    let refused = client.write(b"more").unwrap_err().raw_os_error();
    assert!(
        matches!(refused, Some(code) if code == Errno::ENOTCONN as i32 || code == Errno::ECONNABORTED as i32 || code == Errno::EIO as i32),
        "{refused:?}"
    );
    assert_eq!(tape.layout(), "11");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*folder.to_string_lossy()), "still mounted");
}

/// Not a test of its own: the service that [`what_a_killed_service_leaves_is_taken_away`] kills.
#[test]
#[ignore = "helper process of another test"]
fn helper_serves_until_killed() {
    let Some(folder) = std::env::var_os("SEALTAPE_TEST_FOLDER") else { return };
    let node = std::sync::Arc::new(sealtape::unit::st::StNode::new(
        "tape0",
        Box::new(MemoryTape::new(1 << 20)),
        sealtape::unit::st::StOptions::default(),
    ));
    let drives = vec![sealtape_drivers::fuse::DriveNodes { number: 0, name: "tape0".into(), node }];
    let mounted = sealtape_drivers::fuse::mount(Path::new(&folder), drives, &Default::default());
    match mounted {
        Ok(_mounted) => {
            println!("served");
            std::thread::sleep(Duration::from_secs(60));
        }
        Err(error) => println!("refused: {error}"),
    }
}

fn helper(folder: &Path) -> (std::process::Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_serves_until_killed", "--ignored", "--nocapture"])
        .env("SEALTAPE_TEST_FOLDER", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut text = String::new();
    while !text.contains("served\n") && !text.contains("refused") {
        let mut buffer = [0; 1024];
        let length = output.read(&mut buffer).unwrap();
        assert!(length > 0, "the helper ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    (child, text)
}

#[test]
fn what_a_killed_service_leaves_is_taken_away() {
    if !fuse_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let (mut service, said) = helper(folder.path());
        assert!(said.contains("served"), "{said}");
        File::open(folder.path().join("nst0")).unwrap();
        // A second service on the same folder is refused while the first lives.
        let (mut second, said) = helper(folder.path());
        second.wait().unwrap();
        assert!(said.contains("another service"), "{said}");
        service.kill().unwrap();
        service.wait().unwrap();
        let dead = std::fs::metadata(folder.path()).unwrap_err();
        assert_eq!(dead.raw_os_error(), Some(Errno::ENOTCONN as i32));
    }
    let (mut service, said) = helper(folder.path());
    assert!(said.contains("served"), "{said}");
    service.kill().unwrap();
    service.wait().unwrap();
    must(Path::new("/"), &[("D", folder.path())], "umount -l $D");
}
