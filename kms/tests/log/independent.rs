//! `docs/custody/verify.py`, written from the specification alone, agrees with our verifier about every export, good and tampered.

use std::path::Path;
use std::process::Command;

use sealtape_kms::custody::{
    Anchoring, Completeness, Trust, VerifiedExport, VerifierKey, VerifyError, WitnessKey, base64_decode, verify_export,
    verify_export_trusting,
};
use sealtape_kms::protocol::{ExportOrder, ExportScope};
use sealtape_lab_witness::Witness;
use serde_json::{Value, json};

use super::anchors_support::{self, Lab, loose, open};
use super::support::install::{Install, ME};
use super::tampering::{Numbers, tamper};
use super::{Good, corpus, lived, of_volume};

/// A Python with `cryptography`: the one that the set-up made, else the system's if it has it.
fn python() -> Option<std::ffi::OsString> {
    let named = std::env::var_os("SEALTAPE_PYTHON");
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let able = Command::new(&python).args(["-c", "import cryptography"]).output().is_ok_and(|o| o.status.success());
    assert!(able || named.is_none(), "{} lacks the package cryptography", python.display());
    able.then_some(python)
}

/// What `verify.py` says of files, in their order.
fn verdicts(
    python: &std::ffi::OsStr,
    folder: &Path,
    key: &str,
    witnesses: &[WitnessKey],
    files: &[String],
) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/custody/verify.py");
    let done = Command::new(python)
        .arg(script)
        .args(["--key", key])
        .args(witnesses.iter().flat_map(|key| ["--witness".into(), key.to_string()]))
        .args(files)
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(errors.is_empty(), "verify.py: {errors}");
    let said: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused = said.iter().any(|verdict| verdict["verdict"] == "refused");
    assert_eq!(done.status.code(), Some(if refused { 2 } else { 0 }));
    said
}

/// A verdict without its words and the file's name, which our verifier does not give.
fn bare(mut said: Value) -> (Value, Option<Value>) {
    let members = said.as_object_mut().unwrap();
    members.remove("file");
    let words = members.remove("what");
    (said, words)
}

/// Our verdict, as verify.py writes it, without the words.
fn ours(result: &Result<VerifiedExport, VerifyError>) -> Value {
    match result {
        Ok(verified) if !verified.missing_witnesses.is_empty() => {
            json!({ "verdict": "refused", "kind": "witness", "missing": verified.missing_witnesses })
        }
        Ok(verified) => json!({
            "anchoring": verified.anchoring,
            "verdict": "verified", "origin": verified.origin, "size": verified.size, "entries": verified.entries,
            "root": verified.root, "checkpoints": verified.checkpoints, "keys": verified.keys,
            "first_time": verified.first_time, "last_time": verified.last_time,
            "unchecked_cosignatures": verified.unchecked_cosignatures,
            "completeness": match &verified.completeness {
                Completeness::Complete => json!("complete"),
                Completeness::InclusionOnly => json!("inclusion_only"),
                Completeness::CompleteForTenant { tenant, as_of, time } =>
                    json!({ "tenant": tenant, "as_of": as_of, "time": time }),
            },
        }),
        Err(VerifyError::Line { line, .. }) => json!({ "verdict": "refused", "kind": "line", "line": line }),
        Err(VerifyError::Cut { line }) => json!({ "verdict": "refused", "kind": "cut", "line": line }),
        Err(VerifyError::Root { first, last, checkpoint }) => {
            json!({ "verdict": "refused", "kind": "root", "first": first, "last": last, "checkpoint": checkpoint })
        }
        Err(e) => panic!("{e}"),
    }
}

/// What follows the header.
fn body(text: &[u8]) -> Option<&[u8]> {
    let lines = if text.starts_with(b"\"") { 2 } else { 1 };
    text.splitn(lines + 1, |byte| *byte == b'\n').nth(lines)
}

/// All lines but checkpoints.
fn entries(text: &[u8]) -> Vec<&[u8]> {
    let checkpoint =
        |line: &&[u8]| line.windows(12).any(|w| w == b"\"checkpoint\"") || line.starts_with(b"checkpoint,");
    text.split(|byte| *byte == b'\n').filter(|line| !checkpoint(line)).collect()
}

#[test]
fn both_verifiers_agree() {
    let Some(python) = python() else {
        eprintln!("skipped: no Python with the package cryptography");
        return;
    };
    let long = std::env::var_os("SEALTAPE_LONG").is_some();
    let tamperings = if long { 2000 } else { 150 };
    let corpus = corpus();
    let folder = tempfile::tempdir().unwrap();
    for (number, Good { name, text, key }) in corpus.iter().enumerate() {
        let mut numbers = Numbers::new(number as u64);
        let mut cases: Vec<(&str, Vec<u8>)> = vec![("as it is", text.clone().into_bytes())];
        let other = &corpus[(number + 1) % corpus.len()].text;
        cases.extend((0..tamperings).map(|_| tamper(text, other, &mut numbers)));
        let files: Vec<String> = (0..cases.len()).map(|n| format!("{number}-{n}")).collect();
        for (file, (_, bytes)) in files.iter().zip(&cases) {
            std::fs::write(folder.path().join(file), bytes).unwrap();
        }
        let theirs = verdicts(&python, folder.path(), &key.to_string(), &[], &files);
        assert_eq!(theirs.len(), cases.len(), "{name}");
        for ((what, bytes), said) in cases.iter().zip(theirs) {
            let result = verify_export(&mut bytes.as_slice(), key);
            let file = said["file"].clone();
            let (said, words) = bare(said);
            assert_eq!(ours(&result), said, "{name}, {what}, {file:?}: {result:?}; verify.py: {words:?}");
            assert!(*what != "as it is" || result.is_ok(), "{name}: {result:?}");
            // Nothing that was changed passes, but what a selection says it was asked for, which is not verified, and a full export
            // without one of the checkpoints before its last: they vouch for nothing that the last one does not.
            let Ok(verified) = result else { continue };
            let asked = verified.completeness == Completeness::InclusionOnly && body(bytes) == body(text.as_bytes());
            let thinned = verified.completeness == Completeness::Complete && entries(bytes) == entries(text.as_bytes());
            assert!(*what == "as it is" || asked || thinned, "{name}, {what}, {file:?}");
        }
    }
}

/// The line of a witness under the last checkpoint, as it stands in the file.
fn cosignature<'a>(text: &'a str, witness: &WitnessKey) -> (usize, &'a str) {
    let begin = text.rfind(&format!("\u{2014} {} ", witness.name())).unwrap();
    let end = begin + text[begin..].find("\\n").unwrap() + 2;
    (begin, &text[begin..end])
}

fn base64_encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().chain(&[0; 2]).take(3).fold(0usize, |bits, byte| bits << 8 | usize::from(*byte));
        let digit = |n: usize| if n <= three.len() { char::from(DIGITS[bits >> (18 - 6 * n) & 63]) } else { '=' };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

/// The file with another line in place of the last cosignature: of one with `change` made to the bytes behind its name.
fn with_bytes(text: &str, witness: &WitnessKey, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (begin, line) = cosignature(text, witness);
    let (head, encoded) = line.trim_end_matches("\\n").rsplit_once(' ').unwrap();
    let mut bytes = base64_decode(encoded).unwrap();
    change(&mut bytes);
    format!("{}{head} {}\\n{}", &text[..begin], base64_encode(&bytes), &text[begin + line.len()..])
}

#[test]
fn both_verifiers_agree_about_witnesses() {
    let Some(python) = python() else {
        eprintln!("skipped: no Python with the package cryptography");
        return;
    };
    let install = Install::new();
    let lab = Lab::new(&install);
    let authority = open(&install, loose(vec![lab.anchor()]));
    let (one, _) = lived(&authority);
    let key: VerifierKey = install.report.log_key.parse().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = |name| Witness::open(elsewhere.path().join(name), name).unwrap().key().clone();
    let (witness, second) = (lab.witness.key().clone(), other("witness.example/w2"));
    // The same name, another key.
    let impostor = other(anchors_support::NAME);
    let everybody: [&[WitnessKey]; 4] = [
        &[],
        std::slice::from_ref(&witness),
        &[witness.clone(), second.clone()],
        &[impostor.clone(), witness.clone(), witness.clone()],
    ];
    let mut cases: Vec<(String, String)> = Vec::new();
    for scope in [ExportScope::Full, ExportScope::Tenant("default".into()), of_volume(one.volume)] {
        for csv in [false, true].into_iter().take(if scope == ExportScope::Full { 2 } else { 1 }) {
            let mut out = Vec::new();
            authority.audit_export_as(ME, &ExportOrder { scope: scope.clone(), csv }, &mut out).unwrap();
            let good = String::from_utf8(out).unwrap();
            let (begin, line) = cosignature(&good, &witness);
            let without = format!("{}{}", &good[..begin], &good[begin + line.len()..]);
            let bytes =
                |what: &str, change: &dyn Fn(&mut Vec<u8>)| (what.to_owned(), with_bytes(&good, &witness, change));
            let mut changed = vec![
                ("good".to_owned(), good.clone()),
                ("left out".into(), without.clone()),
                ("twice".into(), good.replace(line, &line.repeat(2))),
                ("of another name".into(), good.replace(line, &line.replace(witness.name(), second.name()))),
                ("malformed".into(), good.replace(line, &line.replace(' ', "  "))),
                bytes("another key id", &|b| b[0] ^= 1),
                bytes("the key id alone", &|b| b.truncate(5)),
                bytes("an earlier time", &|b| b[11] ^= 1),
                bytes("no time", &|b| b[4..12].fill(0)),
                bytes("a time beyond", &|b| b[4] = 0x80),
                bytes("the signature's first point", &|b| b[12] ^= 1),
                bytes("a point of small order", &|b| {
                    b[12..44].fill(0);
                    b[12] = 1;
                }),
                bytes("the signature's number", &|b| b[50] ^= 1),
                bytes("a number too large", &|b| b[75] |= 0xf0),
                bytes("a byte more", &|b| b.push(0)),
                bytes("a byte less", &|b| b.truncate(75)),
            ];
            // One from under an earlier checkpoint.
            if let Some(earlier) = good[..begin].rfind(&format!("\u{2014} {} ", witness.name())) {
                let end = earlier + good[earlier..begin].find("\\n").unwrap() + 2;
                changed.push(("an earlier one".into(), good.replace(line, &good[earlier..end])));
            }
            cases.extend(changed.into_iter().map(|(what, text)| (format!("{scope:?}, CSV {csv}: {what}"), text)));
        }
    }
    assert!(cases.iter().any(|(what, _)| what.ends_with("an earlier one")));
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<String> = (0..cases.len()).map(|n| n.to_string()).collect();
    for (file, (_, text)) in files.iter().zip(&cases) {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let mut counts = [0; 3];
    for witnesses in everybody {
        let theirs = verdicts(&python, folder.path(), &key.to_string(), witnesses, &files);
        assert_eq!(theirs.len(), cases.len());
        for ((what, text), said) in cases.iter().zip(theirs) {
            let trust = Trust { keys: std::slice::from_ref(&key), witnesses };
            let result = verify_export_trusting(&mut text.as_bytes(), &trust, |_, _, _| {});
            let (said, words) = bare(said);
            assert_eq!(ours(&result), said, "{what}, {witnesses:?}: {result:?}; verify.py: {words:?}");
            let place = match (said["verdict"].as_str(), said["kind"].as_str()) {
                (Some("verified"), None) => 0,
                (_, Some("witness")) => 1,
                (_, Some("line")) => 2,
                other => panic!("{what}: {other:?}"),
            };
            counts[place] += 1;
            // The last checkpoint counts as cosigned in what was not changed alone.
            if witnesses == std::slice::from_ref(&witness) {
                let to_the_end = result.is_ok_and(|v| match &v.anchoring {
                    Anchoring::Anchored(by) => by[0].entries == v.size,
                    Anchoring::InternallyConsistentOnly => false,
                });
                assert_eq!(to_the_end, what.ends_with(": good"), "{what}");
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}
