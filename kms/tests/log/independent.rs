//! `docs/custody/verify.py`, written from the specification alone, agrees with our verifier about every export, good and tampered.

use std::path::Path;
use std::process::Command;

use sealtape_kms::custody::{Completeness, VerifiedExport, VerifyError, verify_export};
use serde_json::{Value, json};

use super::tampering::{Numbers, tamper};
use super::{Good, corpus};

/// A Python with `cryptography`: the one that the set-up made, else the system's if it has it.
fn python() -> Option<std::ffi::OsString> {
    let named = std::env::var_os("SEALTAPE_PYTHON");
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let able = Command::new(&python).args(["-c", "import cryptography"]).output().is_ok_and(|o| o.status.success());
    assert!(able || named.is_none(), "{} lacks the package cryptography", python.display());
    able.then_some(python)
}

/// What `verify.py` says of files, in their order.
fn verdicts(python: &std::ffi::OsStr, folder: &Path, key: &str, files: &[String]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/custody/verify.py");
    let done = Command::new(python)
        .arg(script)
        .args(["--key", key])
        .args(files)
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(errors.is_empty(), "verify.py: {errors}");
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Our verdict, as verify.py writes it, without the words.
fn ours(result: &Result<VerifiedExport, VerifyError>) -> Value {
    match result {
        Ok(verified) => json!({
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
        let theirs = verdicts(&python, folder.path(), &key.to_string(), &files);
        assert_eq!(theirs.len(), cases.len(), "{name}");
        for ((what, bytes), mut said) in cases.iter().zip(theirs) {
            let result = verify_export(&mut bytes.as_slice(), key);
            let words = said.as_object_mut().and_then(|o| o.remove("what"));
            let file = said.as_object_mut().and_then(|o| o.remove("file"));
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
