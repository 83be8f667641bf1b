//! Tampering with exports and with the database behind the key authority's back: each is found and named.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sealtape_kms::authority::{Authority, ScrubPace};
use sealtape_kms::custody::tree::verify_consistency;
use sealtape_kms::custody::{EntryLines, VerifierKey, VerifyError, verify_export};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{Cartridge, RefusalCode, ScrubState};
use support::install::{Install, ME, UNIT, labelled, options, order, session};

fn export(authority: &Authority) -> String {
    let mut out = Vec::new();
    authority.audit_export(ME, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

struct Export {
    lines: Vec<String>,
    key: VerifierKey,
}

impl Export {
    fn error(&self, change: impl FnOnce(&mut Vec<String>)) -> VerifyError {
        let mut lines = self.lines.clone();
        change(&mut lines);
        assert_ne!(lines, self.lines, "the tampering changes something");
        let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
        verify_export(&mut text.as_bytes(), &self.key).expect_err("a tampered export")
    }
}

/// Changes one character of a string member's value, keeping the form.
fn edit(line: &str, from: &str, to: &str) -> String {
    assert!(line.contains(from), "{from} in {line}");
    line.replacen(from, to, 1)
}

fn at_line(error: &VerifyError) -> u64 {
    match error {
        VerifyError::Line { line, .. } => *line,
        other => panic!("{other}"),
    }
}

#[test]
fn twenty_tamperings_of_an_export_are_each_refused() {
    let install = Install::new();
    let authority = install.open();
    labelled(&authority, "A");
    authority.checkpoint().unwrap();
    let (_, at, _) = labelled(&authority, "B");
    authority.open_session(ME, UNIT, at, &session(0)).unwrap();
    let text = export(&authority);
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    let good = Export { lines: text.lines().map(str::to_owned).collect(), key: key.clone() };
    let report = verify_export(&mut text.as_bytes(), &key).unwrap();
    assert!(report.checkpoints >= 3);
    let last = good.lines.len() - 1;
    let checkpoint =
        |n: usize| good.lines.iter().enumerate().filter(|(_, l)| l.starts_with("{\"checkpoint\"")).nth(n).unwrap().0;
    let (first_checkpoint, second_checkpoint) = (checkpoint(0), checkpoint(1));
    let leaf = second_checkpoint + 2;
    assert!(good.lines[leaf].starts_with("{\"actor\"") && good.lines[leaf + 1].starts_with("{\"actor\""));

    // 1-4: a leaf changed in content; the error names the lines between two checkpoints.
    for (from, to) in
        [("\"actor\":\"", "\"actor\":\"0"), ("\"salt\":\"", "\"salt\":\"0"), ("done", "failed"), ("intent", "done")]
    {
        let error = good.error(|l| {
            let n = (second_checkpoint + 1..last).find(|n| l[*n].contains(from)).unwrap();
            l[n] = if from.contains("salt") {
                // Another salt of the same length.
                let start = l[n].find(from).unwrap() + from.len();
                let digit = if l[n].as_bytes()[start] == b'0' { "1" } else { "0" };
                let mut line = l[n].clone();
                line.replace_range(start..=start, digit);
                line
            } else {
                edit(&l[n], from, to)
            };
        });
        match error {
            VerifyError::Root { first, last: to_line, checkpoint } => {
                assert_eq!(first as usize, second_checkpoint + 2);
                assert!(to_line < checkpoint && checkpoint as usize <= last + 1);
            }
            other => panic!("{other}"),
        }
    }
    // 5: a leaf left out. 6: one twice. 7: two swapped. 8: the first missing.
    assert_eq!(at_line(&good.error(|l| drop(l.remove(leaf)))), leaf as u64 + 1);
    assert_eq!(at_line(&good.error(|l| l.insert(leaf, l[leaf].clone()))), leaf as u64 + 2);
    assert_eq!(at_line(&good.error(|l| l.swap(leaf, leaf + 1))), leaf as u64 + 1);
    assert_eq!(at_line(&good.error(|l| drop(l.remove(1)))), 2);
    // 9: time set back. 10: white space. 11: a number in another form. 12: no JSON.
    let error = good.error(|l| l[leaf] = edit(&l[leaf], "\"time\":\"2", "\"time\":\"1"));
    assert_eq!(at_line(&error), leaf as u64 + 1);
    assert_eq!(at_line(&good.error(|l| l[leaf].push(' '))), leaf as u64 + 1);
    assert_eq!(at_line(&good.error(|l| l[leaf] = edit(&l[leaf], "\"seq\":", "\"seq\":0"))), leaf as u64 + 1);
    assert_eq!(at_line(&good.error(|l| l[leaf].truncate(20))), leaf as u64 + 1);
    // 13: cut behind a leaf. 14: cut at an earlier checkpoint. 15: the last checkpoint replaced by an earlier one.
    assert!(matches!(good.error(|l| l.truncate(last)), VerifyError::Cut { .. }));
    assert_eq!(at_line(&good.error(|l| l.truncate(first_checkpoint + 1))), first_checkpoint as u64 + 1);
    assert_eq!(at_line(&good.error(|l| l[last] = l[first_checkpoint].clone())), last as u64 + 1);
    // 16: the checkpoint's size. 17: its root. 18: its signature. 19: its origin.
    let size = format!("\\n{}\\n", report.size);
    assert_eq!(at_line(&good.error(|l| l[last] = edit(&l[last], &size, "\\n3\\n"))), last as u64 + 1);
    let root = format!("\\n{}\\n", report.size);
    for change in [0usize, 1, 2] {
        let error = good.error(|l| {
            let place = match change {
                0 => l[last].find(&root).unwrap() + root.len(),
                1 => l[last].rfind(' ').unwrap() + 10,
                _ => l[last].find("sealtape/").unwrap() + 10,
            };
            let other = if l[last].as_bytes()[place] == b'a' { "b" } else { "a" };
            l[last].replace_range(place..=place, other);
        });
        assert_eq!(at_line(&error), last as u64 + 1);
    }
    // 20: the header's size, and cut to match. 21: its origin. 22: its format. 23: something after the end. 24: empty.
    let header = format!("\"size\":{}", report.size);
    assert!(matches!(good.error(|l| l[0] = edit(&l[0], &header, "\"size\":1")), VerifyError::Line { .. }));
    assert_eq!(at_line(&good.error(|l| l[0] = edit(&l[0], "sealtape/", "sealtope/"))), 1);
    assert_eq!(at_line(&good.error(|l| l[0] = edit(&l[0], "export 1", "export 2"))), 1);
    assert_eq!(at_line(&good.error(|l| l.push(l[leaf].clone()))), last as u64 + 2);
    assert!(matches!(good.error(Vec::clear), VerifyError::Cut { line: 0 }));
    // 25: another installation's key. 26: another installation's export.
    let other = Install::new();
    let other_key: VerifierKey = other.report.log_key.parse().unwrap();
    assert!(verify_export(&mut text.as_bytes(), &other_key).is_err());
    assert!(verify_export(&mut export(&other.open()).as_bytes(), &key).is_err());
    // 27: every single byte of the file, flipped in its lowest bit.
    let (mut refused, bytes) = (0, text.into_bytes());
    for at in (0..bytes.len()).step_by(7) {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let result = verify_export(&mut bad.as_slice(), &key);
        assert!(result.is_err(), "byte {at} of {}: {result:?}", bytes.len());
        refused += usize::from(result.is_err());
    }
    assert!(refused > 500);
}

#[test]
fn a_changed_database_is_found_at_the_start() {
    let cases: [(&str, &str); 9] = [
        ("edited leaf", "UPDATE custody_leaves SET leaf = replace(leaf, 'done', 'dona') WHERE seq = 4"),
        (
            "edited leaf, same form",
            "UPDATE custody_leaves SET leaf = replace(leaf, 'medium default', 'medium Default')",
        ),
        ("removed leaf", "DELETE FROM custody_leaves WHERE seq = 4"),
        (
            "removed tail",
            "DELETE FROM custody_leaves WHERE seq >= 4; DELETE FROM custody_nodes WHERE idx >= 4 AND level = 0",
        ),
        (
            "swapped leaves",
            "UPDATE custody_leaves SET leaf = (SELECT leaf FROM custody_leaves WHERE seq = 3) WHERE seq = 2",
        ),
        ("changed root", "UPDATE custody_nodes SET hash = randomblob(32) WHERE level = 1 AND idx = 0"),
        ("removed node", "DELETE FROM custody_nodes WHERE level = 0 AND idx = 1"),
        ("changed checkpoint", "UPDATE custody_checkpoints SET note = replace(note, 'sealtape/', 'sealtope/')"),
        ("moved checkpoint", "UPDATE custody_checkpoints SET size = size + 1"),
    ];
    for (name, change) in cases {
        let install = Install::new();
        let database = install.database();
        let before: i64 = database.query_row("SELECT total_changes()", [], |r| r.get(0)).unwrap();
        database.execute_batch(change).unwrap();
        let after: i64 = database.query_row("SELECT total_changes()", [], |r| r.get(0)).unwrap();
        assert!(after > before, "{name} changes something");
        drop(database);
        let error = Authority::open(&install.home, options()).map(drop).expect_err(name);
        assert_eq!(error.code, RefusalCode::Damaged, "{name}: {error}");
    }
    // A rewritten history with all its nodes, but not the token's signature.
    let install = Install::new();
    let database = install.database();
    database.execute("DELETE FROM custody_nodes", []).unwrap();
    let leaves: Vec<String> = {
        let mut query = database.prepare("SELECT leaf FROM custody_leaves ORDER BY seq").unwrap();
        query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let mut edge = sealtape_kms::custody::tree::RightEdge::default();
    for (seq, leaf) in leaves.iter().enumerate() {
        let leaf = leaf.replace("catalogue default", "catalogue Default");
        database
            .execute("UPDATE custody_leaves SET leaf = ?2 WHERE seq = ?1", rusqlite::params![seq as i64, leaf])
            .unwrap();
        edge.append(sealtape_kms::custody::tree::leaf_hash(leaf.as_bytes()), |node, hash| {
            let insert = "INSERT INTO custody_nodes (level, idx, hash) VALUES (?1, ?2, ?3)";
            database.execute(insert, rusqlite::params![node.level, node.index as i64, hash]).unwrap();
        });
    }
    drop(database);
    let error = Authority::open(&install.home, options()).map(drop).expect_err("a rewritten history");
    assert!(error.what.contains("not those that were signed"), "{error}");
}

#[test]
fn swapped_wrapped_keys_are_refused_by_name() {
    const SWAP: &str = "UPDATE generations SET COLUMNS = (SELECT COLUMNS FROM before b
                        WHERE b.volume <> generations.volume AND b.volume IN (?1, ?2))";
    let cases = [
        ("wrapped keys swapped", SWAP.replace("COLUMNS", "(wrapped)")),
        ("entries swapped", SWAP.replace("COLUMNS", "(created_leaf)")),
        (
            "both swapped",
            SWAP.replace("(SELECT COLUMNS", "(SELECT wrapped, created_leaf")
                .replace("COLUMNS", "(wrapped, created_leaf)"),
        ),
        ("another KEK", "UPDATE generations SET kek = (SELECT id FROM keks WHERE purpose = 'medium')".into()),
        ("zeros", "UPDATE generations SET wrapped = zeroblob(40)".into()),
        ("an entry that does not exist", "UPDATE generations SET created_leaf = 100000".into()),
        ("another entry", "UPDATE generations SET created_leaf = 0".into()),
    ];
    let install = Install::new();
    let authority = install.open();
    for (name, change) in cases {
        let (_, one, _) = labelled(&authority, &format!("{name} 1"));
        let (_, two, _) = labelled(&authority, &format!("{name} 2"));
        authority.load(ME, UNIT, one).unwrap();
        let database = install.database();
        database.execute_batch("CREATE TEMP TABLE before AS SELECT * FROM generations").unwrap();
        let ids = [one.volume.to_string(), two.volume.to_string()];
        let changed = database.execute(&format!("{change} WHERE volume IN (?1, ?2)"), ids).unwrap();
        assert_eq!(changed, 2, "{name}");
        for at in [one, two] {
            let error = authority.load(ME, UNIT, at).map(|(loaded, _)| loaded).expect_err(name);
            let named = error.code == RefusalCode::TamperedBlob && error.what.contains(&at.volume.to_string());
            assert!(named || name == "an entry that does not exist", "{name}: {error}");
        }
    }
}

#[test]
fn the_log_is_not_writable_and_nothing_is_released() {
    let install = Install::new();
    let authority = install.open();
    let (_, at, _) = labelled(&authority, "A");
    let database = install.database();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = authority.load(ME, UNIT, at).expect_err("a release without an entry");
    assert_eq!(error.code, RefusalCode::Busy);
    database.execute_batch("ROLLBACK").unwrap();
    authority.load(ME, UNIT, at).unwrap();
}

#[test]
fn nothing_secret_stands_in_text() {
    let install = Install::new();
    let authority = install.open();
    let ticket = authority.authorize_label(ME, &order("A")).unwrap();
    let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
    let (generation, key) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, generation.at, Hex([0; 32])).unwrap();
    let (loaded, again) = authority.load(ME, UNIT, generation.at).unwrap();
    let secret = Hex(*key.expose()).to_string();
    let pin = std::fs::read_to_string(install.home.dir().join("user.pin")).unwrap();
    let so_pin = std::fs::read_to_string(install.home.dir().join("so.pin")).unwrap();
    let texts = [
        format!("{generation:?} {loaded:?} {key:?} {again:?} {authority:?} {ticket:?}"),
        serde_json::to_string(&generation).unwrap(),
        serde_json::to_string(&loaded).unwrap(),
        serde_json::to_string(&authority.status().unwrap()).unwrap(),
        export(&authority),
    ];
    for text in texts {
        for secret in [&secret, &pin, &so_pin] {
            assert!(!text.contains(secret.as_str()), "{text}");
        }
    }
    // The catalogue holds wrapped keys only, and neither the worker's command line nor its environment a PIN.
    authority.shut_down().unwrap();
    for file in ["catalogue.db", "catalogue.db-wal"] {
        let bytes = std::fs::read(install.home.dir().join(file)).unwrap_or_default();
        assert!(!bytes.windows(32).any(|w| w == key.expose()), "{file}");
        assert!(!bytes.windows(pin.len()).any(|w| w == pin.as_bytes()), "{file}");
    }
    let pid = authority.token().worker().1.unwrap();
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        assert!(!bytes.windows(pin.len()).any(|w| w == pin.as_bytes()), "{file}");
    }
}

#[test]
fn the_row_of_a_key_encryption_key_is_proven_by_its_entry() {
    let cases = [
        ("the mechanism", "UPDATE keks SET mechanism = 'aes_gcm' WHERE purpose = 'catalogue'"),
        ("the purpose", "UPDATE keks SET purpose = 'medium' WHERE purpose = 'catalogue'"),
        ("the canary", "UPDATE keks SET canary = zeroblob(40)"),
        ("the canary's hash", "UPDATE keks SET canary_sha256 = zeroblob(32)"),
        ("the entry", "UPDATE keks SET created_leaf = 0"),
    ];
    for (name, change) in cases {
        let install = Install::new();
        let authority = install.open();
        let (_, at, _) = labelled(&authority, "A");
        install.database().execute_batch(change).unwrap();
        let error = authority.load(ME, UNIT, at).map(|(loaded, _)| loaded).expect_err(name);
        assert!(matches!(error.code, RefusalCode::TamperedBlob | RefusalCode::Damaged), "{name}: {error}");
        drop(authority);
        let error = Authority::open(&install.home, options()).map(drop).expect_err(name);
        assert!(matches!(error.code, RefusalCode::TamperedBlob | RefusalCode::Damaged), "{name}: {error}");
    }
}

#[test]
fn the_check_in_the_background_names_the_first_entry_and_stops_releases() {
    let install = Install::new();
    let authority = install.open();
    let (_, at, _) = labelled(&authority, "A");
    labelled(&authority, "B");
    authority.checkpoint().unwrap();
    let never = Arc::new(AtomicBool::new(false));
    let pace = ScrubPace { rows: 3, rest: std::time::Duration::ZERO };
    assert!(authority.scrub(pace, &never).unwrap());
    assert_eq!(authority.status().unwrap().scrub.state, ScrubState::Clean);
    assert!(!authority.scrub(pace, &Arc::new(AtomicBool::new(true))).unwrap());
    assert_eq!(authority.status().unwrap().scrub.state, ScrubState::Stopped);
    let change = "UPDATE custody_leaves SET leaf = replace(leaf, '\"outcome\":\"done\"', '\"outcome\":\"failed\"') WHERE seq = 6";
    install.database().execute_batch(change).unwrap();
    let before = authority.load(ME, UNIT, at).map(drop);
    let error = authority.scrub(pace, &never).expect_err("a changed leaf");
    assert!(error.what.contains("leaf 6 "), "{error}");
    let view = authority.status().unwrap().scrub;
    assert_eq!((view.state, view.fault), (ScrubState::Fault, Some(error)));
    // Whether or not the key released belongs to the leaf that was changed.
    let refusal = authority.load(ME, UNIT, at).map(drop).expect_err("a release after a fault was found");
    assert!(refusal.what.contains("background") && refusal.what.contains("leaf 6 "), "{before:?} {refusal}");
    let last = authority.audit_show(None, 1).unwrap();
    assert!(last[0].contains("\"op\":\"log.fault\"") && last[0].contains("leaf 6 "), "{last:?}");
}

/// The first entry in which two exports differ.
fn parts_at(old: &str, new: &str) -> Option<usize> {
    let (mut old, mut new) = (old.as_bytes(), new.as_bytes());
    let (mut old, mut new) = (EntryLines::new(&mut old).unwrap(), EntryLines::new(&mut new).unwrap());
    (0..).find_map(|n| match (old.next_entry().unwrap(), new.next_entry().unwrap()) {
        (Some((_, a)), Some((_, b))) if a == b => None,
        (None, _) => Some(None),
        _ => Some(Some(n)),
    })?
}

#[test]
fn a_rolled_back_catalogue_shows_against_anything_that_was_kept_elsewhere() {
    let install = Install::new();
    let authority = install.open();
    labelled(&authority, "A");
    authority.shut_down().unwrap();
    drop(authority);
    let path = install.home.dir().join("catalogue.db");
    install.database().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let older = std::fs::read(&path).unwrap();
    let authority = install.open();
    let common = authority.status().unwrap().log_size - 1;
    labelled(&authority, "B");
    let kept = export(&authority);
    let kept_checkpoint = authority.checkpoint().unwrap();
    drop(authority);
    for file in ["catalogue.db-wal", "catalogue.db-shm"] {
        let _ = std::fs::remove_file(install.home.dir().join(file));
    }
    std::fs::write(&path, &older).unwrap();
    // With all its checkpoints, the older copy is a log that agrees with itself.
    let authority = install.open();
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    let shorter = export(&authority);
    verify_export(&mut shorter.as_bytes(), &key).unwrap();
    let at = parts_at(&kept, &shorter).unwrap() as u64;
    assert_eq!(at, common, "the first entry after the copy differs");
    let refusal = authority.audit_consistency(kept_checkpoint.size, None).expect_err("fewer entries than before");
    assert!(refusal.mend.contains("rolled back"), "{refusal}");
    // Nor does it help to let it grow.
    while authority.status().unwrap().log_size <= kept_checkpoint.size {
        labelled(&authority, &format!("C{}", authority.status().unwrap().log_size));
    }
    let view = authority.audit_consistency(kept_checkpoint.size, None).unwrap();
    let (new, _) = key.open(&view.new.note).unwrap();
    let proof: Vec<[u8; 32]> = view.proof.iter().map(|h| h.0).collect();
    let root = |checkpoint: &sealtape_kms::protocol::CheckpointView| checkpoint.root.0;
    assert!(!verify_consistency(kept_checkpoint.size, &root(&kept_checkpoint), new.size, &new.root, &proof));
    // What was not rolled back is consistent.
    let view = authority.audit_consistency(at, None).unwrap();
    let proof: Vec<[u8; 32]> = view.proof.iter().map(|h| h.0).collect();
    let mut edge = sealtape_kms::custody::tree::RightEdge::default();
    let mut lines = kept.as_bytes();
    let mut lines = EntryLines::new(&mut lines).unwrap();
    for _ in 0..at {
        let (_, leaf) = lines.next_entry().unwrap().unwrap();
        edge.append(sealtape_kms::custody::tree::leaf_hash(leaf.as_bytes()), |_, _| {});
    }
    assert!(verify_consistency(at, &edge.root(), view.new.size, &root(&view.new), &proof));
    // Another installation in its place is another log.
    let other = Install::new();
    assert!(verify_export(&mut export(&other.open()).as_bytes(), &key).is_err());
}
