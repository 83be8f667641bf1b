//! Faults of the drive, through the services: what a writer and a reader see, and what is left.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "crash_support/site.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod site;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use nix::errno::Errno;
use sealtape_drivers::image::{ImageDrive, OpenMode};
use sealtape_drivers::medium::{DriveIdentity, Position, ReadOutcome, TapeDrive};
use site::{LONGEST_RECORD, Object, Site, close, ready, record};

/// So small that every write is waited for: early warning is never further away than the window is long.
const SYNCHRONOUS: &str = "64M";
/// So large that writes are acknowledged before the drive has them.
const WRITE_BEHIND: &str = "256M";

/// A site whose drive follows a plan of faults, with services running and a labelled cartridge loaded.
fn faulty(plan: &str, capacity: &str) -> Site {
    let mut site =
        Site::founded(|text| text.replace("back_end = \"image\"", "back_end = \"image\"\nfault_plan = \"plan\""));
    fs::write(site.home().join("plan"), plan).unwrap();
    site.start();
    site.cartridge(capacity);
    site.done(&["volume", "load", "drive0", &site.image()]);
    site.done(&["volume", "label", "drive0", "V1"]);
    site
}

/// What a writer got: records that were acknowledged, and the error that ended it.
fn write_through(site: &Site, from: u64, count: u64) -> (Vec<Object>, Option<i32>) {
    let mut file = match File::options().write(true).open(site.node()) {
        Ok(file) => file,
        Err(error) => return (Vec::new(), error.raw_os_error()),
    };
    let mut acknowledged = Vec::new();
    for number in from..from + count {
        let bytes = record(number, 6000);
        match file.write(&bytes) {
            Ok(length) => {
                assert_eq!(length, bytes.len(), "records do not split");
                acknowledged.push(Object::Record(bytes));
            }
            Err(error) => {
                let code = error.raw_os_error();
                // What the close says on top of it is of no interest: it was told.
                let _ = close(file);
                return (acknowledged, code);
            }
        }
    }
    let failed = close(file).err().map(|errno| errno as i32);
    if failed.is_none() {
        acknowledged.push(Object::Filemark);
    }
    (acknowledged, failed)
}

/// The fourth record of the second file fails. Label and generation record are the first two writes, the first file is ten.
fn plan(effect: &str) -> String {
    format!("write 16 {effect}\n")
}

/// After it has moved, the writer can write on, and the catalogue agrees with the medium.
fn goes_on(site: &Site, effect: &str, mut all: Vec<Object>) {
    assert!(site.mt(&["eod"]), "{effect}: {}", site.status());
    let (mut more, failed) = write_through(site, 400, 5);
    assert_eq!(failed, None, "{effect}: {}", site.status());
    all.append(&mut more);
    assert!(site.read_all() == all, "{effect}: after writing on");
    let verified = site.done(&["volume", "verify", "drive0"]);
    assert!(verified.contains("as in the catalogue"), "{effect}: {verified}");
    site.done(&["volume", "unload", "drive0"]);
    let loaded = site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(!loaded.contains("READ-ONLY"), "{effect}: {loaded}");
}

/// Each kind of failure at a write that is waited for: the writer gets the error of that record, what was closed before
/// restores, and nothing stands behind what was lost.
#[test]
fn a_write_that_fails_is_an_error_and_costs_nothing_synchronised() {
    if !ready() {
        return;
    }
    let eio = Errno::EIO as i32;
    for (effect, expected, keeps) in [
        ("medium", eio, true),
        ("hardware", eio, true),
        ("transport", eio, false),
        ("transport-after", eio, false),
        ("reset", eio, false),
        ("lost", eio, false),
        ("unit-attention", eio, false),
        ("not-ready", Errno::ENOMEDIUM as i32, false),
        ("end-of-medium", Errno::ENOSPC as i32, true),
    ] {
        let mut site = faulty(&plan(effect), SYNCHRONOUS);
        let (mut safe, failed) = write_through(&site, 100, 10);
        assert_eq!(failed, None, "{effect}: {}", site.status());
        let (mut loose, failed) = write_through(&site, 200, 10);
        assert_eq!((loose.len(), failed), (3, Some(expected)), "{effect}: {}", site.status());
        assert!(site.logged().contains(&format!("injected fault `write 16 {effect}`")), "{}", site.logged());
        assert!(site.status().contains("last error"), "{}", site.status());
        if !keeps {
            // A writer that carries on where something acknowledged may be lost is refused until it has moved.
            let (more, failed) = write_through(&site, 300, 1);
            assert!(more.is_empty() && failed == Some(eio), "{effect}: {}", site.status());
        }
        let found = site.read_all();
        assert!(found.starts_with(&safe), "{effect}: {} objects, {} were synchronised", found.len(), safe.len());
        safe.append(&mut loose);
        if keeps {
            safe.push(Object::Filemark);
            assert!(found == safe, "{effect}: {} objects instead of {}", found.len(), safe.len());
        } else {
            // The record that failed may have arrived, if the way failed behind it.
            safe.push(Object::Record(record(203, 6000)));
            assert!(safe.starts_with(&found), "{effect}: something stands behind what was lost");
        }
        goes_on(&site, effect, found);
        site.stop();
    }
}

/// The same where writes are acknowledged before the drive has them: the error comes late, and before anything else is
/// accepted.
#[test]
fn a_write_that_fails_behind_its_acknowledgement_is_told_before_anything_else_is_accepted() {
    if !ready() {
        return;
    }
    for effect in ["medium", "transport", "reset", "lost", "end-of-medium"] {
        let mut site = faulty(&plan(effect), WRITE_BEHIND);
        let (mut safe, failed) = write_through(&site, 100, 10);
        assert_eq!(failed, None, "{effect}: {}", site.status());
        let (loose, failed) = write_through(&site, 200, 10);
        // A record that was waited for by chance is not lost by it, and may say ENOSPC.
        let late = failed == Some(Errno::EIO as i32);
        assert!(late || effect == "end-of-medium" && loose.len() == 3, "{effect}: {failed:?} {}", site.status());
        assert!((3..=10).contains(&loose.len()), "{effect}: {} acknowledged", loose.len());
        if loose.len() > 3 {
            let status = site.status();
            assert!(status.contains("LOST RECORDS"), "{effect}: {status}");
            let (more, failed) = write_through(&site, 300, 1);
            assert!(more.is_empty() && failed == Some(Errno::EIO as i32), "{effect}: {}", site.status());
        }
        let found = site.read_all();
        assert!(found.starts_with(&safe), "{effect}: {} objects, {} were synchronised", found.len(), safe.len());
        safe.extend_from_slice(&loose[..3]);
        safe.push(Object::Filemark);
        assert!(safe.starts_with(&found), "{effect}: something stands behind what was lost");
        goes_on(&site, effect, found);
        site.stop();
    }
}

/// A filemark that cannot be written or synchronised: the close says so, or the next open.
#[test]
fn a_synchronisation_that_fails_is_told() {
    if !ready() {
        return;
    }
    for effect in ["medium", "reset", "lost"] {
        // Synchronising commands: label 1, generation record 2; file 1 its flush 3 and filemark 4; then the flush of file 2.
        let mut site = faulty(&format!("write-filemarks 5 {effect}\n"), WRITE_BEHIND);
        let (safe, failed) = write_through(&site, 100, 5);
        assert_eq!(failed, None, "{effect}: {}", site.status());
        let (_, first) = write_through(&site, 200, 5);
        let (_, second) = write_through(&site, 300, 5);
        assert!(first.or(second) == Some(Errno::EIO as i32), "{effect}: nobody was told: {}", site.status());
        let found = site.read_all();
        assert!(found.starts_with(&safe), "{effect}: {} objects", found.len());
        assert!(site.mt(&["eod"]), "{effect}: {}", site.status());
        assert_eq!(write_through(&site, 400, 5).1, None, "{effect}: {}", site.status());
        let verified = site.done(&["volume", "verify", "drive0"]);
        assert!(verified.contains("as in the catalogue"), "{effect}: {verified}");
        site.stop();
    }
}

/// What a reader of 9 records gets: before the fault everything, at the fault its error, behind it the rest.
fn read_across(site: &Site, fault_at: usize, expected: &[Object]) -> Option<i32> {
    assert!(site.mt(&["rewind"]));
    let mut file = File::open(site.node()).unwrap();
    let mut buffer = vec![0; LONGEST_RECORD];
    let mut code = None;
    for (number, object) in expected.iter().enumerate() {
        let read = file.read(&mut buffer);
        match read {
            Err(error) => {
                assert_eq!(number, fault_at, "{error}");
                code = error.raw_os_error();
            }
            Ok(length) => {
                assert_ne!(number, fault_at, "{length} bytes were delivered at the fault");
                let found = if length == 0 { Object::Filemark } else { Object::Record(buffer[..length].to_vec()) };
                assert!(found == *object, "object {number} is another one");
            }
        }
    }
    code
}

#[test]
fn a_read_error_in_the_middle_costs_its_own_record_only() {
    if !ready() {
        return;
    }
    // One read for the generation record that is read back, two for the end check at load: found by the count below.
    let mut site = faulty("", WRITE_BEHIND);
    let (expected, failed) = write_through(&site, 1, 9);
    assert_eq!(failed, None);
    site.done(&["volume", "unload", "drive0"]);
    site.stop();
    for k in [6, 8, 10] {
        fs::write(site.home().join("plan"), format!("read {k} medium\n")).unwrap();
        site.start();
        site.done(&["volume", "load", "drive0", &site.image()]);
        assert!(site.mt(&["rewind"]));
        let mut file = File::open(site.node()).unwrap();
        let (mut buffer, mut errors, mut delivered) = (vec![0; LONGEST_RECORD], 0, 0);
        for object in &expected {
            match file.read(&mut buffer) {
                Ok(0) => assert!(*object == Object::Filemark),
                Ok(length) => {
                    assert!(*object == Object::Record(buffer[..length].to_vec()), "read {k}");
                    delivered += 1;
                }
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(Errno::EIO as i32));
                    errors += 1;
                }
            }
        }
        assert_eq!((errors, delivered), (1, 8), "read {k}");
        drop(file);
        assert!(site.status().contains(&format!("injected fault `read {k} medium`")), "{}", site.status());
        site.done(&["volume", "unload", "drive0"]);
        site.stop();
    }
}

/// Changes the sealed record of a logical object as somebody with a drive of his own could: the tape is whole for the
/// drive, and the record's CRC is made right again.
fn forge(image: &Path, object: u64) {
    let identity = DriveIdentity { vendor: "X".into(), product: "X".into(), revision: "1".into(), serial: "1".into() };
    let mut drive = ImageDrive::new(identity);
    drive.insert(image, OpenMode::ReadWrite).unwrap();
    drive.load().unwrap();
    let place = Position { partition: 0, object: object + 3 };
    drive.locate(place).unwrap();
    let mut tail = Vec::new();
    let mut buffer = vec![0; LONGEST_RECORD];
    loop {
        match drive.read(&mut buffer).unwrap() {
            ReadOutcome::Block { length } => tail.push(Some(buffer[..length].to_vec())),
            ReadOutcome::Filemark => tail.push(None),
            ReadOutcome::EndOfData | ReadOutcome::EndOfPartition => break,
        }
    }
    let sealed = tail[0].as_mut().unwrap();
    let end = sealed.len() - 4;
    sealed[100] ^= 1;
    let crc = crc32c::crc32c(&sealed[..end]);
    sealed[end..].copy_from_slice(&crc.to_be_bytes());
    drive.locate(place).unwrap();
    for object in tail {
        match object {
            Some(block) => drop(drive.write(&block).unwrap()),
            None => drop(drive.write_filemarks(1, false).unwrap()),
        }
    }
    drive.unload().unwrap();
}

#[test]
fn a_changed_record_is_refused_and_the_rest_is_salvaged() {
    if !ready() {
        return;
    }
    let mut site = Site::labelled();
    let (expected, failed) = write_through(&site, 1, 9);
    assert_eq!(failed, None);
    site.done(&["volume", "unload", "drive0"]);
    forge(Path::new(&site.image()), 4);
    let loaded = site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(!loaded.contains("READ-ONLY"), "the fault is in the middle: {loaded}");
    // A writer is welcome until somebody has met the fault.
    let code = read_across(&site, 4, &expected);
    assert!(code == Some(Errno::EBADMSG as i32) || code == Some(Errno::EIO as i32), "{code:?}");
    // The rest, with mt fsr.
    assert!(site.mt(&["rewind"]) && site.mt(&["fsr", "5"]), "{}", site.status());
    let mut buffer = vec![0; LONGEST_RECORD];
    let length = File::open(site.node()).and_then(|mut file| file.read(&mut buffer)).unwrap();
    assert!(expected[5] == Object::Record(buffer[..length].to_vec()));
    // Read-only from now on, until an operator has seen it.
    let refused = File::options().write(true).open(site.node()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::EROFS as i32), "{refused}");
    let status = site.status();
    assert!(status.contains("READ-ONLY") && status.contains("volume acknowledge drive0"), "{status}");
    site.refused(&["volume", "verify", "drive0"], 4, &["did not verify: 1 faults"]);
    site.done(&["volume", "acknowledge", "drive0"]);
    site.refused(&["volume", "acknowledge", "drive0"], 2, &["nothing was refused"]);
    assert!(site.mt(&["eod"]), "{}", site.status());
    assert_eq!(write_through(&site, 50, 2).1, None, "{}", site.status());
    let custody = site.done(&["audit", "show"]);
    assert!(custody.contains("incident"), "{custody}");
    site.stop();
}
