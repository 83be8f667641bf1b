//! Both services under `sealtape run`, a drive node, and what an operator does around a backup: the real programs, SoftHSM2,
//! FUSE and GNU tar. Needs root or a FUSE that an ordinary user may mount.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const SEALTAPE: &str = env!("CARGO_BIN_EXE_sealtape");

struct Site {
    folder: tempfile::TempDir,
    running: Option<Child>,
}

impl Site {
    fn start() -> Self {
        // The services' programs stand beside the command's.
        for program in [env!("CARGO_BIN_EXE_sealtaped"), env!("CARGO_BIN_EXE_sealtape-keyd")] {
            assert_eq!(Path::new(program).parent(), Path::new(SEALTAPE).parent());
        }
        let mut site = Self { folder: tempfile::tempdir().unwrap(), running: None };
        site.done(&["init"]);
        site.run();
        site
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("h")
    }

    fn node(&self) -> PathBuf {
        self.home().join("nodes/nst0")
    }

    fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.command(&["--json", "run"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        // The nodes are printed when everything is ready; nothing comes when it fails.
        let mut byte = [0];
        let ready = child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
        self.running = Some(child);
        assert_eq!(ready, 1, "{}", self.logged());
    }

    fn wait(&mut self) -> Option<i32> {
        let mut child = self.running.take().unwrap();
        let start = Instant::now();
        loop {
            match child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if start.elapsed() > Duration::from_secs(60) => {
                    child.kill().unwrap();
                    panic!("not ended within 60 s: {}", self.logged());
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn stop(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.running.as_ref().unwrap().id() as i32), signal).unwrap();
        assert_eq!(self.wait(), Some(0), "{}", self.logged());
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SEALTAPE);
        command.arg("--home").arg(self.home()).args(arguments).env_remove("SEALTAPE_HOME");
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.logged()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[&["--json"], arguments].concat())).unwrap()
    }

    fn refused(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let output = self.output(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}: no \"{part}\" in {text}");
        }
    }

    /// The process of a service that `run` started.
    fn service(&self, name: &str) -> Pid {
        let parent = self.running.as_ref().unwrap().id().to_string();
        let output = Command::new("pgrep").args(["-P", &parent, "-x", name]).output().unwrap();
        Pid::from_raw(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            // A test failed: the services end with their parent.
            kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
    }
}

fn tar(arguments: &[&str], node: &Path) {
    let output = Command::new("tar").args(["-b", "512", "-f"]).arg(node).args(arguments).output().unwrap();
    assert!(output.status.success(), "tar {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder of files with words, and one that does not compress.
fn files(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for number in 0..20_usize {
        std::fs::write(folder.join(format!("words{number}")), format!("The words of file {number}. ").repeat(3000))
            .unwrap();
    }
    let mut noise = vec![0; 2_000_000];
    File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    std::fs::write(folder.join("noise"), noise).unwrap();
}

#[test]
fn from_a_blank_cartridge_to_restored_files() {
    let mut site = Site::start();
    let image = site.folder.path().join("a.tape");
    let image = image.to_str().unwrap();
    let source = site.folder.path().join("source");
    files(&source);

    site.done(&["image", "create", image, "--capacity", "256MiB", "--barcode", "A00001L9"]);
    site.refused(&["volume", "load", "no-such-drive", image], 10, &["no-such-drive", "drive0"]);
    let loaded = site.json(&["volume", "load", "drive0", image]);
    assert_eq!((&loaded["state"], &loaded["medium"]["kind"]), (&"ready".into(), &"blank".into()));
    let labelled = site.json(&["volume", "label", "drive0", "WEEK-1", "--barcode", "A00001L9"]);
    assert_eq!((&labelled["label"], &labelled["partitions"][0]["generation"]), (&"WEEK-1".into(), &1.into()));
    let volume = labelled["volume"].as_str().unwrap();

    // What is not blank is labelled over only when it is named.
    site.refused(&["volume", "label", "drive0", "WEEK-2"], 3, &[volume, "--overwrite"]);
    let other = "00000000-0000-4000-8000-000000000000";
    assert_ne!(site.output(&["volume", "label", "drive0", "WEEK-2", "--overwrite", other]).status.code(), Some(0));
    assert_ne!(site.output(&["volume", "label", "drive0", "WEEK-2", "--overwrite", "clear"]).status.code(), Some(0));

    tar(&["-C", source.to_str().unwrap(), "-c", "."], &site.node());
    let drives = site.json(&["drive", "list"]);
    assert_eq!(drives[0]["volume"]["label"], "WEEK-1");
    assert!(drives[0]["counters"]["records_written"].as_u64().unwrap() > 3);
    assert_eq!(drives[0]["unsynchronised_objects"], 0);
    assert!(site.done(&["drive", "status", "drive0"]).contains("WEEK-1"));
    assert!(site.done(&["drive", "list"]).contains("WEEK-1"));

    let verified = site.json(&["volume", "verify", "drive0"]);
    assert_eq!(
        (&verified["partitions"][0]["faults_total"], &verified["partitions"][0]["end"]["is"]),
        (&0.into(), &"proven".into())
    );
    let listed = site.json(&["volume", "list"]);
    assert_eq!((&listed[0]["label"], &listed[0]["volume"]), (&"WEEK-1".into(), &volume.into()));
    assert_eq!(site.json(&["volume", "show", "WEEK-1"])["volume"], volume);

    // In use: told at once.
    let held = File::open(site.node()).unwrap();
    site.refused(&["volume", "unload", "drive0"], 6, &["drive0", "has its node open", "next: "]);
    drop(held);
    site.done(&["volume", "unload", "drive0"]);
    assert_eq!(site.json(&["drive", "status", "drive0"])["state"], "empty");

    site.done(&["volume", "retire", "WEEK-1", "--reason", "a test"]);
    let retired = site.json(&["volume", "load", "drive0", image]);
    assert!(retired["read_only"]["message"].as_str().unwrap().contains(volume), "{retired}");
    site.done(&["volume", "unload", "drive0"]);
    site.done(&["volume", "reinstate", volume, "--reason", "a test"]);
    site.stop(Signal::SIGTERM);
    assert!(
        std::fs::read_dir(site.home().join("run"))
            .unwrap()
            .flatten()
            .all(|entry| { entry.file_name().to_string_lossy().ends_with(".lock") })
    );

    // After the disaster: token and cartridge alone.
    let out = site.folder.path().join("out");
    let report = site.json(&["restore", image, "--out", out.to_str().unwrap()]);
    assert_eq!((&report["volume"], &report["end_proven"]), (&volume.into(), &false.into()));
    tar(&["-C", source.to_str().unwrap(), "-d"], &out.join("file-00000"));
    assert!(
        site.done(&["restore", image, "--out", site.folder.path().join("out2").to_str().unwrap()])
            .contains("end not proven")
    );
}

#[test]
fn run_is_alone_and_ends_when_a_service_dies() {
    let mut site = Site::start();
    site.refused(&["run"], 6, &["run.lock"]);
    for (name, other) in [("sealtaped", "sealtape-keyd"), ("sealtape-keyd", "sealtaped")] {
        let left = site.service(other);
        kill(site.service(name), Signal::SIGKILL).unwrap();
        assert_eq!(site.wait(), Some(1));
        assert!(site.logged().contains(&format!("{name} ended by itself")), "{}", site.logged());
        assert!(kill(left, None).is_err(), "{other} is still there");
        // And a new start takes over what was left behind.
        site.run();
        site.json(&["drive", "list"]);
    }
    site.stop(Signal::SIGINT);
}

#[test]
fn services_end_with_run_itself() {
    let mut site = Site::start();
    let services = [site.service("sealtaped"), site.service("sealtape-keyd")];
    let mut run = site.running.take().unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    let start = Instant::now();
    while services.iter().any(|pid| kill(*pid, None).is_ok()) {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", site.logged());
        thread::sleep(Duration::from_millis(20));
    }
    site.run();
    site.stop(Signal::SIGTERM);
}

#[test]
fn the_pin_is_asked_for_once_and_not_shown_and_ctrl_c_stops_everything() {
    let mut site = Site::start();
    site.stop(Signal::SIGTERM);
    let config = site.home().join("sealtape.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("pin = { file = \"keyd/user.pin\" }", "pin = \"prompt\"")).unwrap();
    let pin = std::fs::read_to_string(site.home().join("keyd/user.pin")).unwrap();

    // script(1) gives the command a terminal of its own.
    let command = format!("exec {SEALTAPE} --home {} run", site.home().display());
    let mut script = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("SHELL", "/bin/sh") // It runs the command; without exec, dash would end by the interrupt itself.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = script.stdin.take().unwrap();
    let (shown, screen) = std::sync::mpsc::channel();
    let mut output = script.stdout.take().unwrap();
    let reading = thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut bytes) {
            shown.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).unwrap();
        }
    });
    let mut seen = String::new();
    let mut wait_for = |what: &str| {
        while !seen.contains(what) {
            seen +=
                &screen.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|e| panic!("no {what:?} ({e}) in {seen}"));
        }
        std::mem::take(&mut seen)
    };
    let mut all = wait_for("PIN for pkcs11:");
    keyboard.write_all(format!("{pin}\r").as_bytes()).unwrap();
    all += &wait_for("ready; stop with Ctrl-C");
    keyboard.write_all(b"\x03").unwrap();
    all += &wait_for("stopping");
    let status = script.wait().unwrap();
    drop(keyboard);
    reading.join().unwrap();
    all += &screen.iter().collect::<String>();
    assert_eq!(status.code(), Some(0), "{all}");
    assert!(!all.contains("ERROR"), "the interrupt took something with it that was needed to stop: {all}");
    assert_eq!(all.matches("PIN for").count(), 1, "{all}");
    assert!(!all.contains(&pin), "the PIN is shown");
}
