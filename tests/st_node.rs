//! Tape nodes in a folder, used by real programs.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

#[path = "support/catalogue.rs"]
#[allow(dead_code, unreachable_pub, reason = "each suite uses its part of the support")]
mod catalogue;
#[macro_use]
mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use catalogue::Catalogue;
use nix::errno::Errno;
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::seal::{Compression, Suite};
use sealtape::unit::st::{StNode, StOptions};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape_drivers::fuse::{DriveNodes, MountOptions, mount};
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
    // A program that another test starts at this moment holds every descriptor, and so the lock that
    // create() took, until its exec.
    let inserted = (0..200).any(|_| {
        let inserted = drive.insert(&path, OpenMode::ReadWrite).is_ok();
        if !inserted {
            std::thread::sleep(Duration::from_millis(10));
        }
        inserted
    });
    assert!(inserted, "{} stays locked", path.display());
    drive.load().unwrap();
    Box::new(drive)
}

/// The sealed unit over a cartridge in a file, labelled, with a catalogue in memory.
fn sealed_drive(scratch: &Path, capacity: u64) -> Box<dyn TapeDrive> {
    static POOL: LazyLock<Arc<SealPool>> = LazyLock::new(|| SealPool::start(2).unwrap());
    let mut sealed = SealedTape::new(
        "tape",
        image_drive(scratch, capacity),
        Box::new(Catalogue::new(Suite::AES_256_GCM_SIV, Compression::ZSTD, 1)),
        Arc::clone(&POOL),
        UnitOptions {
            window: WindowLimits { records: 64, bytes: 16 << 20 },
            check_end_at_load: true,
            max_block: 2 << 20,
        },
        UnsynchronisedMark::at(scratch.join("mark")),
    )
    .unwrap();
    sealed.load_medium().unwrap();
    sealed.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    Box::new(sealed)
}

node_suite!(memory, crate::memory_drive);
node_suite!(image, crate::image_drive);
node_suite!(sealed, crate::sealed_drive);

/// What a motion takes on the slow drive: long beside what the programs take on a machine with other work.
const MOTION: Duration = Duration::from_secs(8);

#[test]
fn a_slow_drive_holds_up_nobody_else() {
    if !fuse_is_here() {
        return;
    }
    let slow = MemoryTape::new(1 << 20);
    let station = Station::of(vec![Box::new(slow.clone()), Box::new(MemoryTape::new(1 << 20))]);
    slow.controls().motion = MOTION;
    let (work, first, second) = (station.work(), station.nst(0), station.nst(1));
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let rewinding = scope.spawn(|| must(&work, &[("N", &first)], "mt -f $N rewind"));
        std::thread::sleep(Duration::from_millis(500));
        must(&work, &[("N", &second)], "tar cf $N -C / etc/hostname; mt -f $N rewind; tar tf $N");
        let refused = File::open(&first).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::EBUSY as i32));
        std::fs::metadata(&first).unwrap();
        assert!(begun.elapsed() < MOTION, "held up for {:?}", begun.elapsed());
        rewinding.join().unwrap();
    });
    // The rewind at close is waited for by the next opener only.
    File::open(station.st(0)).unwrap();
    let begun = Instant::now();
    must(&work, &[("N", &second)], "mt -f $N rewind");
    assert!(begun.elapsed() < MOTION / 2, "held up for {:?}", begun.elapsed());
    File::open(&first).unwrap();
    assert!(begun.elapsed() > MOTION / 2, "did not wait for the rewind");
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
fn owner_and_mode_are_those_of_the_configuration() {
    if !fuse_is_here() {
        return;
    }
    let root = nix::unistd::geteuid().is_root();
    let (uid, gid) = if root { (34, 26) } else { (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()) };
    let options = MountOptions { uid: Some(uid), gid: Some(gid), mode: 0o640, ..MountOptions::default() };
    let station = Station::with_options(vec![memory_drive(Path::new(""), 1 << 20)], &options);
    let metadata = std::fs::metadata(station.st(0)).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777, metadata.len()), (uid, gid, 0o640, 0));
    assert!(metadata.is_file());
    let refused = std::fs::set_permissions(station.st(0), std::fs::Permissions::from_mode(0o777)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::EPERM as i32));
    let names: Vec<_> =
        std::fs::read_dir(station.mounted().folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["st0", "nst0"]);
    assert!(std::fs::metadata(station.mounted().folder().join("nst1")).is_err());
    if root {
        // The folder of the test is closed to others; the nodes are told apart by the kernel.
        std::fs::set_permissions(station.work().parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let node = station.nst(0);
        let as_user = |ids: &str, what: &str| {
            let script = format!("setpriv {ids} --clear-groups {what}");
            support::programs::shell(Path::new("/"), &[("N", &node)], &script).code
        };
        assert_eq!(as_user("--reuid=65534 --regid=65534", "head -c 1 $N"), Some(1));
        assert_eq!(as_user("--reuid=65534 --regid=26", "mt -f $N status"), Some(0));
        assert_eq!(as_user("--reuid=65534 --regid=26", "truncate -s 0 $N"), Some(1));
        assert_eq!(as_user("--reuid=34 --regid=34", "truncate -s 0 $N"), Some(0));
    }
    station.stop().unwrap();
}

/// An ordinary user mounts through `fusermount3`, with a /dev/fuse that he may open.
#[test]
fn an_ordinary_user_can_mount() {
    if !fuse_is_here() || !nix::unistd::geteuid().is_root() || !support::programs::has("fusermount3") {
        eprintln!("SKIPPED: needs root, to become somebody else");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let open = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(home.path(), open(0o777)).unwrap();
    // A copy where he may run it.
    std::fs::copy(std::env::current_exe().unwrap(), home.path().join("service")).unwrap();
    let script = "mknod fuse c 10 229 && chmod 666 fuse && mount --bind fuse /dev/fuse && mkdir nodes && chown 65534:65534 nodes
        as='setpriv --reuid=65534 --regid=65534 --clear-groups'
        SEALTAPE_TEST_FOLDER=$PWD/nodes $as ./service --exact helper_serves_until_killed --ignored --nocapture > said 2>&1 & service=$!
        for i in $(seq 100); do grep -q -e served -e refused said && break; sleep 0.1; done
        cat said
        $as bash -e -c 'tar cf nodes/nst0 -C / etc/hostname; mt -f nodes/nst0 rewind; tar tf nodes/nst0'; code=$?
        kill -9 $service; wait $service 2>/dev/null
        # What he left is taken away by his next service.
        SEALTAPE_TEST_FOLDER=$PWD/nodes $as ./service --exact helper_serves_until_killed --ignored --nocapture > again 2>&1 & service=$!
        for i in $(seq 100); do grep -q -e served -e refused again && break; sleep 0.1; done
        cat again
        kill -9 $service; wait $service 2>/dev/null; umount -l nodes; exit $code";
    std::fs::write(home.path().join("script"), script).unwrap();
    let said = must(home.path(), &[], "unshare -m bash script");
    assert_eq!(said.matches("served").count(), 2, "{said}");
    assert!(said.contains("etc/hostname"), "{said}");
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

/// Not a test of its own: a service for [`what_a_killed_service_leaves_is_taken_away`] to kill, and
/// for playing with: the folder of the nodes is in SEALTAPE_TEST_FOLDER, an empty one for the
/// cartridge in SEALTAPE_TEST_IMAGE.
#[test]
#[ignore = "helper process of another test"]
fn helper_serves_until_killed() {
    let Some(folder) = std::env::var_os("SEALTAPE_TEST_FOLDER") else { return };
    let drive = match std::env::var_os("SEALTAPE_TEST_IMAGE") {
        Some(scratch) => image_drive(Path::new(&scratch), 4 << 30),
        None => memory_drive(Path::new(""), 1 << 20),
    };
    let node = Arc::new(StNode::new("tape0", drive, StOptions::default()));
    let drives = vec![DriveNodes { number: 0, name: "tape0".into(), node }];
    match mount(Path::new(&folder), drives, &MountOptions { mode: 0o666, ..MountOptions::default() }) {
        Ok(_mounted) => {
            println!("served");
            std::thread::sleep(Duration::from_secs(3600));
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
