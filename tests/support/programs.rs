//! Running programs, and files for them to save.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a shell script came to.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a bash script with `$N` (nst0), `$S` (st0) and other variables, in `folder`.
pub(crate) fn shell(folder: &Path, variables: &[(&str, &Path)], script: &str) -> Ran {
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("set -o pipefail; export LC_ALL=C; {script}")])
        .current_dir(folder)
        .stdin(Stdio::null());
    for (name, value) in variables {
        command.env(name, value);
    }
    // Its own group, so that a test that ends early leaves none of its programs behind.
    command.process_group(0);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// As [`shell`], and it has to succeed.
#[track_caller]
pub(crate) fn must(folder: &Path, variables: &[(&str, &Path)], script: &str) -> String {
    let ran = shell(folder, variables, script);
    assert_eq!(ran.code, Some(0), "{script}\n--- stdout\n{}\n--- stderr\n{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// Whether a program is installed; says so when not.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new("bash").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// Bytes that look random and are the same every time.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A folder with files of many sizes, a subfolder, a link, an empty file.
pub(crate) fn plant(folder: &Path, seed: u64, bytes: usize) -> PathBuf {
    fs::create_dir_all(folder.join("sub/deeper")).unwrap();
    fs::write(folder.join("empty"), b"").unwrap();
    fs::write(folder.join("one"), b"1").unwrap();
    fs::write(folder.join("sub/text"), "a line of text\n".repeat(300)).unwrap();
    fs::write(folder.join("sub/deeper/block"), noise(seed, 10_240)).unwrap();
    fs::write(folder.join("large"), noise(seed + 1, bytes)).unwrap();
    std::os::unix::fs::symlink("one", folder.join("link")).unwrap();
    folder.to_path_buf()
}
