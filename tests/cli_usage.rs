//! The command line itself: help, manual, completions, exit codes, and errors that name the thing and the mend.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn sealtape() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealtape"));
    command.env_remove("SEALTAPE_HOME").env_remove("SEALTAPE_LOG").stdin(Stdio::null());
    command
}

fn at(home: &Path, arguments: &[&str]) -> Output {
    sealtape().arg("--home").arg(home).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn help_goes_to_stdout_and_usage_errors_exit_with_2() {
    for arguments in [&["--help"][..], &["help"], &["volume", "label", "--help"], &["--version"]] {
        let output = sealtape().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["drive", "status", "--watch=0"],
        &["volume", "label"],
        &["volume", "label", "a", "L", "--overwrite", "not-a-uuid"],
        &["volume", "label", "a", "L", "--partitions", "3"],
        &["--quiet", "--verbose", "drive", "list"],
    ] {
        let output = sealtape().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_service_that_does_not_run_is_exit_code_5_with_the_next_step() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        &["drive", "list"][..],
        &["drive", "status"],
        &["volume", "list"],
        &["volume", "load", "a"],
        &["volume", "unload", "a"],
        &["volume", "verify", "a"],
        &["volume", "label", "a", "L"],
    ] {
        let output = at(home.path(), arguments);
        assert_eq!(output.status.code(), Some(5), "{arguments:?}: {}", stderr(&output));
        let text = stderr(&output);
        assert!(text.contains("\n  next: start it with: sealtape run"), "{text}");
        assert!(text.contains(home.path().to_str().unwrap()), "{text}");
    }
}

#[test]
fn errors_are_json_when_json_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let output = at(home.path(), &["--json", "drive", "list"]);
    let error: serde_json::Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!(error["error"]["code"], "not-running");
    assert_eq!(error["error"]["exit"], 5);
    assert!(error["error"]["message"].as_str().unwrap().contains("data.sock"));
    assert!(error["error"]["mend"].as_str().unwrap().contains("sealtape run"));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_home_folder_whose_sockets_have_too_long_a_path_is_refused() {
    let home = std::env::temp_dir().join("h".repeat(100));
    let output = at(&home, &["drive", "list"]);
    assert_eq!(output.status.code(), Some(7));
    let text = stderr(&output);
    assert!(text.contains("107") && text.contains("shorter home folder"), "{text}");
}

#[test]
fn a_configuration_that_is_not_right_is_refused_with_place_and_mend() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sealtape.toml");
    let refused = |what: &str, parts: &[&str]| {
        let output = at(folder.path(), &["run"]);
        assert_eq!(output.status.code(), Some(7), "{what}: {}", stderr(&output));
        let text = stderr(&output);
        for part in parts.iter().chain(&[file.to_str().unwrap()]) {
            assert!(text.contains(part), "{what}: no \"{part}\" in {text}");
        }
    };
    refused("there is none", &["does not exist", "init"]);
    let right = "[keyd]\nmodule = \"/m.so\"\ntoken = \"pkcs11:token=t\"\npin = { file = \"pin\" }\n";
    std::fs::write(&file, right).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    refused("others can read it", &["0644", "next: correct it with: chmod 600 "]);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&file, format!("{right}[data_path]\nseal_thread = 2\n")).unwrap();
    refused("an unknown key", &["line 6", "unknown field `seal_thread`", "did you mean `seal_threads`?"]);
    std::fs::write(&file, format!("{right}[data_path]\nwindow_bytes = \"huge\"\n")).unwrap();
    refused("a bad value", &["line 6", "\"huge\" is not a size"]);
    std::fs::write(&file, right.replace("{ file = \"pin\" }", "\"1234\"")).unwrap();
    refused("a PIN in it", &["line 4", "never the PIN itself"]);
    assert!(!stderr(&at(folder.path(), &["run"])).contains("1234"));
    std::fs::write(&file, right.replace("{ file = \"pin\" }", "\"prompt\"")).unwrap();
    refused("nobody to ask for the PIN", &["no terminal"]);
}

#[test]
fn completions_and_manual_pages_come_from_the_grammar() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = sealtape().args(["completions", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(stdout(&output).contains("acknowledge"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man/man1");
    let output = sealtape().arg("man").arg(&pages).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for page in ["sealtape.1", "sealtape-volume-label.1", "sealtape-drive-status.1"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    // The pipe's reading end is closed before anything is written.
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let child = sealtape().args(["completions", "bash"]).stdout(write).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}
