//! Anchors with the services as processes: a witness and a file from the configuration, `audit anchors`, an anchored export,
//! and a catalogue that was rolled back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sealtape_lab_witness::{Serving, Witness};
use serde_json::Value;

struct Site {
    folder: tempfile::TempDir,
    keyd: Option<(Child, UnixDatagram)>,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), keyd: None };
        assert!(site.run(&["init"]).status.success());
        site
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("h")
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealtape"));
        command.arg("--home").arg(self.home()).args(arguments).env_remove("SEALTAPE_HOME").output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let output = self.run(&[&["--json"], arguments].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{errors}")))
    }

    fn start(&mut self) {
        let ready = self.folder.path().join("ready");
        drop(std::fs::remove_file(&ready));
        let heard = UnixDatagram::bind(&ready).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.file("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealtape-keyd"));
        command.arg("--home").arg(self.home()).env("NOTIFY_SOCKET", &ready).stderr(log);
        let child = command.spawn().unwrap();
        self.keyd = Some((child, heard));
        let mut message = [0; 64];
        let length = self.keyd.as_ref().unwrap().1.recv(&mut message);
        let length = length.unwrap_or_else(|e| panic!("{e}: {}", self.logged()));
        assert!(message[..length].starts_with(b"READY=1"));
    }

    fn stop(&mut self) {
        if let Some((mut keyd, _)) = self.keyd.take() {
            kill(Pid::from_raw(keyd.id() as i32), Signal::SIGTERM).unwrap();
            assert!(keyd.wait().unwrap().success(), "{}", self.logged());
        }
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    fn seal(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealtape"));
        command.arg("--home").arg(self.home()).arg("seal").env_remove("SEALTAPE_HOME");
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        // A refused key ends the program before it has read anything.
        let _sent = child.stdin.take().unwrap().write_all(b"hello");
        child.wait_with_output().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((mut keyd, _)) = self.keyd.take() {
            drop(keyd.kill());
            drop(keyd.wait());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-aT").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn from_the_configuration_to_the_alarm() {
    let mut site = Site::new();
    let log_key = std::fs::read_to_string(site.home().join("keyd/custody.pub")).unwrap();
    let witness = Witness::open(site.file("witness"), "witness.localhost/test").unwrap();
    witness.follow(log_key.trim().parse().unwrap()).unwrap();
    let witness = Arc::new(witness);
    let serving = Serving::start(Arc::clone(&witness), "127.0.0.1:0".parse().unwrap()).unwrap();
    let toml = site.home().join("sealtape.toml");
    let mut text = std::fs::read_to_string(&toml).unwrap();
    text.push_str(&format!(
        "\n[keyd.anchoring]\nbefore_release = true\nquorum = 2\n\
         [[keyd.anchor]]\nname = \"w\"\nkind = \"witness\"\nurl = \"{}\"\nkey = \"{}\"\ntimeout_seconds = 2\n\
         [[keyd.anchor]]\nname = \"usb\"\nkind = \"file\"\npath = \"{}\"\n",
        serving.url(),
        witness.key(),
        site.file("anchor")
    ));
    std::fs::write(&toml, text).unwrap();
    site.start();
    let (code, view) = site.json(&["audit", "anchors"]);
    assert_eq!(code, Some(0), "{view}");
    assert_eq!(view["anchors"][0]["compared"], true);
    assert!(site.seal().status.success());
    let (code, view) = site.json(&["audit", "anchor", "now"]);
    assert_eq!((code, &view["anchored_size"]), (Some(0), &view["log_size"]));
    let people = String::from_utf8(site.run(&["audit", "anchors"]).stdout).unwrap();
    assert!(people.contains("witness  in order") && people.contains("for their anchors"), "{people}");

    // An export says by whom it is anchored.
    let (export, custody) = (site.file("export"), site.home().join("keyd/custody.pub").display().to_string());
    assert!(site.run(&["audit", "export", &export]).status.success());
    let trusted = witness.key().to_string();
    let (code, report) = site.json(&["audit", "verify", &export, "--key", &custody, "--witness", &trusted]);
    assert_eq!(code, Some(0));
    assert_eq!(report["anchoring"]["anchored"][0]["entries"], report["size"], "{report}");
    let (_, report) = site.json(&["audit", "verify", &export, "--key", &custody]);
    assert_eq!(report["anchoring"], "internally_consistent_only");

    // An older copy of the catalogue, with all that it holds.
    site.stop();
    let keyd = site.home().join("keyd");
    copy(&keyd, Path::new(&site.file("old")));
    site.start();
    assert!(site.seal().status.success());
    site.stop();
    std::fs::remove_dir_all(&keyd).unwrap();
    copy(Path::new(&site.file("old")), &keyd);
    site.start();
    let output = site.run(&["audit", "anchors"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(4), "{out}{err}");
    assert_eq!(out.matches("CONTRADICTS").count(), 2, "{out}");
    assert!(err.contains("rolled back"), "{err}");
    assert!(site.logged().contains("rolled back"), "the journal tells it too");
    let refused = site.seal();
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(refused.stdout.is_empty(), "not a byte, sealed or clear");
    // What is there can still be read.
    assert!(site.run(&["audit", "export", &site.file("evidence")]).status.success());
    site.stop();
}
