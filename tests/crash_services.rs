//! The real services, killed and cut off from what they need: token, key authority, power.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "crash_support/site.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod site;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sealtape_drivers::image::DATA_OFFSET;
use site::{Object, Site, close, ready, record};

/// What a writer saw, in its order.
enum Seen {
    Acknowledged(Object),
    /// A close came back without an error, or the open after it: everything before is covered. The image as it was then.
    Synchronised(ImageMark),
    /// Where the writer's error came; it may have reached the medium all the same.
    Failed(Object),
}

/// What is known of the image file at a moment when nothing was on its way.
struct ImageMark {
    length: u64,
    head: Vec<u8>,
}

impl ImageMark {
    fn of(image: &Path) -> Self {
        let file = File::open(image).unwrap();
        let mut head = vec![0; DATA_OFFSET as usize];
        file.read_exact_at(&mut head, 0).unwrap();
        Self { length: file.metadata().unwrap().len(), head }
    }
}

/// Writes records and closes, again and again, until something fails.
fn write_until_it_fails(node: &Path, image: &Path, first: u64, seed: u8, seen: &Sender<Seen>) {
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut number = first;
    loop {
        // The open waits for the closing filemark of the file before.
        let Ok(mut file) = File::options().write(true).open(node) else {
            seen.send(Seen::Failed(Object::Filemark)).unwrap();
            return;
        };
        if number != first {
            seen.send(Seen::Acknowledged(Object::Filemark)).unwrap();
        }
        // The closing filemark synchronised, too; nothing is on its way now.
        seen.send(Seen::Synchronised(ImageMark::of(image))).unwrap();
        for _ in 0..rng.random_range(1..200) {
            let bytes = record(number, rng.random_range(8..20_000));
            number += 1;
            let object = Object::Record(bytes.clone());
            match file.write(&bytes) {
                Ok(length) => {
                    assert_eq!(length, bytes.len());
                    seen.send(Seen::Acknowledged(object)).unwrap();
                }
                Err(_) => {
                    seen.send(Seen::Failed(object)).unwrap();
                    // It carries on all the same: nothing may be acknowledged any more.
                    for _ in 0..3 {
                        assert!(file.write(&bytes).is_err(), "acknowledged after an error");
                    }
                    return;
                }
            }
        }
        if close(file).is_err() {
            seen.send(Seen::Failed(Object::Filemark)).unwrap();
            return;
        }
        seen.send(Seen::Synchronised(ImageMark::of(image))).unwrap();
    }
}

/// What has to be there, and what may be.
struct Promise {
    covered: usize,
    acknowledged: Vec<Object>,
    in_flight: Object,
    mark: Option<ImageMark>,
}

fn promise(before: Vec<Object>, seen: &Receiver<Seen>) -> Promise {
    let mut covered = before.len();
    let mut acknowledged = before;
    let mut mark = None;
    for event in seen {
        match event {
            Seen::Acknowledged(object) => acknowledged.push(object),
            Seen::Synchronised(image) => {
                covered = acknowledged.len();
                mark = Some(image);
            }
            Seen::Failed(in_flight) => return Promise { covered, acknowledged, in_flight, mark },
        }
    }
    panic!("the writer went away without an error");
}

/// What a power cut takes beside what the death of the services took: of the bytes behind the last synchronisation some
/// never reached the disk. Nothing is known when a synchronisation was under way, which the head of the file shows.
fn lose_unsynchronised(image: &Path, mark: &ImageMark, rng: &mut TestRng) -> u64 {
    let now = ImageMark::of(image);
    if now.head != mark.head || now.length <= mark.length {
        return 0;
    }
    let file = File::options().write(true).open(image).unwrap();
    let keep = rng.random_range(mark.length..=now.length);
    if rng.random_bool(0.5) {
        file.set_len(keep).unwrap();
    } else {
        for at in (keep..now.length).step_by(512) {
            if rng.random_bool(0.5) {
                file.write_all_at(&[0; 512][..512.min((now.length - at) as usize)], at).unwrap();
            }
        }
    }
    now.length - keep
}

#[test]
fn both_services_killed_and_the_power_cut_at_random_moments() {
    if !ready() {
        return;
    }
    let cuts = if std::env::var_os("SEALTAPE_LONG").is_some() { 200 } else { 25 };
    let mut site = Site::labelled();
    let image = site.image();
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut expected: Vec<Object> = Vec::new();
    let (mut lost_bytes, mut lost_objects, mut kept, mut refused, mut generations) = (0, 0, 0, 0, 0);
    for cut in 0..cuts {
        let mut older = None;
        if expected.len() > 2000 {
            // What stands there is read back each time: begin again, with a new generation.
            assert!(site.mt(&["rewind"]));
            older = Some(std::mem::take(&mut expected));
        } else if cut > 0 {
            assert!(site.mt(&["eod"]), "{}", site.status());
        }
        let (tell, seen) = channel();
        let (node, path) = (site.node(), image.clone());
        let first = 1_000_000 * (cut as u64 + 1);
        let writer = thread::spawn(move || write_until_it_fails(&node, Path::new(&path), first, cut as u8, &tell));
        thread::sleep(Duration::from_millis(rng.random_range(1..120)));
        let data_only = rng.random_bool(0.3);
        if !data_only && rng.random_bool(0.5) {
            site.kill_keyd();
            site.kill_data();
        } else {
            site.kill_data();
            if !data_only {
                site.kill_keyd();
            }
        }
        writer.join().unwrap();
        let promise = promise(std::mem::take(&mut expected), &seen);
        let marked = site.home().join("data/drive0.unsynchronised").exists();
        let unsynchronised = promise.acknowledged.len() - promise.covered;
        // Without a mark a synchronisation was done whose answer the writer did not live to hear: nothing is left to lose.
        if let Some(mark) = promise.mark.as_ref().filter(|_| marked) {
            lost_bytes += lose_unsynchronised(Path::new(&image), mark, &mut rng);
        }
        if !data_only {
            site.start_keyd();
        }
        site.start_data();
        site.done(&["volume", "load", "drive0", &image]);
        let status = site.json(&["drive", "status", "drive0"]);
        assert!(status["read_only"].is_null(), "cut {cut}: {status}");
        if marked {
            // A writer that carries on as if nothing had happened.
            let mut file = File::options().write(true).open(site.node()).unwrap();
            let error = file.write(b"carries on").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32), "{error}");
            assert!(!status["lost_records"].is_null(), "cut {cut}: {status}");
            refused += 1;
            drop(file);
            // The close that followed failed, too, and the next opener hears of it once.
            drop(File::open(site.node()));
        }
        let found = site.read_all();
        assert!(
            marked || found.starts_with(&promise.acknowledged),
            "cut {cut}: no mark, and {unsynchronised} acknowledged objects were not synchronised"
        );
        assert!(
            found.starts_with(&promise.acknowledged[..promise.covered]),
            "cut {cut}: {} objects were synchronised, {} are there",
            promise.covered,
            found.len()
        );
        // A first record that was refused (the key authority was gone already) leaves the closing filemark alone, as `st` does: it writes
        // one after an attempt to write, and a filemark there needs nobody's leave.
        let refused_record = [&promise.acknowledged[..], &[Object::Filemark]].concat();
        let mut possible = promise.acknowledged;
        possible.extend([promise.in_flight, Object::Filemark]);
        let still_older = promise.covered == 0 && older.as_ref().is_some_and(|older| *older == found);
        if !still_older && !possible.starts_with(&found) && found != refused_record {
            let at = found.iter().zip(&possible).position(|(found, possible)| found != possible);
            panic!(
                "cut {cut}: {} objects that nobody wrote like this, from {at:?} on ({}); {} synchronised, {} acknowledged, new \
                 generation {}, data path alone {data_only}",
                found.len(),
                found[at.unwrap_or(possible.len())].words(),
                promise.covered,
                possible.len() - 2,
                older.is_some()
            );
        }
        kept += promise.covered;
        lost_objects += (possible.len() - 2).saturating_sub(found.len());
        generations += usize::from(still_older);
        expected = found;
    }
    site.done(&["volume", "verify", "drive0"]);
    eprintln!(
        "{cuts} cuts: {kept} synchronised objects checked, {lost_objects} acknowledged objects and {lost_bytes} bytes lost behind \
         them, {refused} writers refused, {generations} times the generation before"
    );
    assert!(kept > 0 && refused > 0);
    site.stop();
}

#[test]
fn the_token_goes_away_while_a_program_writes() {
    if !ready() {
        return;
    }
    let mut site = Site::labelled();
    let tokens = site.home().join("keyd/tokens");
    let away = site.home().join("keyd/tokens.away");
    let records: Vec<Vec<u8>> = (0..40).map(|number| record(number, 9000)).collect();
    let mut file = File::options().write(true).open(site.node()).unwrap();
    for (number, bytes) in records.iter().enumerate() {
        if number == 20 {
            fs::rename(&tokens, &away).unwrap();
        }
        assert_eq!(file.write(bytes).unwrap(), bytes.len(), "record {number}");
    }
    close(file).unwrap();
    assert!(site.mt(&["weof"]), "{}", site.status());
    let mut expected: Vec<Object> = records.into_iter().map(Object::Record).collect();
    expected.extend([Object::Filemark, Object::Filemark]);
    assert!(site.read_all() == expected, "the loaded volume is read");
    site.done(&["volume", "unload", "drive0"]);
    let status = site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(status.contains("READ-ONLY") && status.contains("no token matches pkcs11:token=sealtape"), "{status}");
    let error = File::open(site.node()).and_then(|mut file| file.read(&mut [0; 100])).unwrap_err();
    assert!(error.raw_os_error().is_some(), "{error}");
    assert!(File::options().write(true).open(site.node()).is_err());
    site.refused(&["hsm", "status"], 3, &["no token matches", "check that its directory (SoftHSM) is in place"]);
    // It comes back: the next load is served, without a restart.
    fs::rename(&away, &tokens).unwrap();
    site.done(&["volume", "unload", "drive0"]);
    site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(site.read_all() == expected, "{}", site.status());
    site.stop();
}

#[test]
fn a_wrong_pin_is_tried_once_and_latched() {
    if !ready() {
        return;
    }
    let mut site = Site::labelled();
    site.write(&[record(1, 5000)]);
    site.done(&["volume", "unload", "drive0"]);
    site.stop();
    let pin_file = site.home().join("keyd/user.pin");
    let pin = fs::read(&pin_file).unwrap();
    fs::write(&pin_file, "000000").unwrap();
    site.start();
    let latch = site.home().join("keyd/pin.latched");
    assert!(latch.exists(), "{}", site.logged());
    let since = fs::read(&latch).unwrap();
    let status = site.done(&["volume", "load", "drive0", &site.image()]);
    for part in ["READ-ONLY", "the PIN was rejected at", "not tried again", "sealtape hsm unlatch"] {
        assert!(status.contains(part), "no \"{part}\" in {status}");
    }
    let said = site.refused(&["hsm", "status"], 3, &["the PIN was rejected at", "hsm unlatch"]);
    assert!(!said.contains("000000"), "{said}");
    // The right PIN alone changes nothing: it is not tried.
    fs::write(&pin_file, &pin).unwrap();
    site.done(&["volume", "unload", "drive0"]);
    assert!(site.done(&["volume", "load", "drive0", &site.image()]).contains("the PIN was rejected at"));
    assert_eq!(fs::read(&latch).unwrap(), since, "one try, and no more");
    // A restart does not forget it.
    site.done(&["volume", "unload", "drive0"]);
    site.stop();
    site.start();
    assert_eq!(fs::read(&latch).unwrap(), since, "not after a restart either");
    site.done(&["hsm", "unlatch"]);
    site.done(&["hsm", "status"]);
    site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(site.read_all() == [Object::Record(record(1, 5000)), Object::Filemark], "{}", site.status());
    site.stop();
}

#[test]
fn the_key_authority_is_away_while_a_program_reads_the_label() {
    if !ready() {
        return;
    }
    let mut site = Site::labelled();
    let expected = [Object::Record(b"the program's own label".to_vec()), Object::Filemark];
    site.write(&[b"the program's own label".to_vec()]);
    site.done(&["volume", "unload", "drive0"]);
    let before = fs::read(site.image()).unwrap();
    site.kill_keyd();
    let status = site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(status.contains("READ-ONLY") && status.contains("is sealtape-keyd running?"), "{status}");
    let mut file = File::open(site.node()).unwrap();
    assert!(file.read(&mut [0; 4096]).is_err(), "what cannot be opened is an error, and no blank tape");
    drop(file);
    // It returns; the program believes the tape to be blank and labels it.
    site.start_keyd();
    for _ in 0..2 {
        let refused = File::options().write(true).open(site.node()).and_then(|mut file| file.write(b"a new label"));
        assert!(refused.is_err(), "labelled over");
        site.mt(&["rewind"]);
    }
    site.done(&["volume", "unload", "drive0"]);
    assert!(fs::read(site.image()).unwrap() == before, "the image was changed");
    site.done(&["volume", "load", "drive0", &site.image()]);
    // No rewind: a fresh load is at the beginning, whatever happened before it.
    let mut first = [0; 4096];
    let length = File::open(site.node()).and_then(|mut file| file.read(&mut first)).unwrap();
    assert_eq!(&first[..length], b"the program's own label");
    assert!(site.read_all() == expected, "{}", site.status());
    site.stop();
}
