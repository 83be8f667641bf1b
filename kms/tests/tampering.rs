//! Tampering with exports and with the database behind the key authority's back: each is found and named.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sealtape_kms::authority::Authority;
use sealtape_kms::custody::{VerifierKey, VerifyError, verify_export};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{Cartridge, RefusalCode};
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
        ("edited leaf", "UPDATE custody_leaves SET leaf = replace(leaf, 'done', 'dona') WHERE seq = 3"),
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
