//! Tenants by the real programs: made, listed, with pools, rotations, exports and recovery keys of their own; wrong names refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SEALTAPE: &str = env!("CARGO_BIN_EXE_sealtape");
const KEYD: &str = env!("CARGO_BIN_EXE_sealtape-keyd");

/// A home folder that was set up, with its key authority.
struct Home {
    folder: tempfile::TempDir,
    keyd: Option<Child>,
}

impl Home {
    fn start() -> Self {
        let mut home = Self { folder: tempfile::tempdir().unwrap(), keyd: None };
        home.done(&["init"]);
        let heard = UnixDatagram::bind(home.folder.path().join("ready")).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let child = Command::new(KEYD)
            .arg("--home")
            .arg(home.path())
            .env("NOTIFY_SOCKET", home.folder.path().join("ready"))
            .stderr(std::fs::File::create(home.folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        home.keyd = Some(child);
        let mut message = [0; 64];
        let length = heard.recv(&mut message).unwrap_or_else(|e| panic!("{e}: {}", home.logged()));
        assert!(message[..length].starts_with(b"READY=1"));
        home
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("h")
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(SEALTAPE)
            .arg("--home")
            .arg(self.path())
            .args(arguments)
            .env_remove("SEALTAPE_HOME")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let read = std::thread::spawn(move || {
            let mut out = Vec::new();
            stdout.read_to_end(&mut out).unwrap();
            out
        });
        stdin.write_all(input).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Output { stdout: read.join().unwrap(), ..output }
    }

    fn done(&self, arguments: &[&str]) -> Vec<u8> {
        self.piped(arguments, b"")
    }

    fn piped(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.done(&[&["--json"], arguments].concat())).unwrap()
    }

    fn refused(&self, arguments: &[&str], code: i32, part: &str) {
        let output = self.run(arguments, b"");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: no {part:?} in {text}");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let Some(mut keyd) = self.keyd.take() else { return };
        kill(Pid::from_raw(keyd.id() as i32), Signal::SIGTERM).unwrap();
        let ended = keyd.wait().unwrap();
        assert!(std::thread::panicking() || ended.success(), "{}", self.logged());
    }
}

#[test]
fn a_second_tenant_from_the_command_line() {
    let home = Home::start();
    let made = home.json(&["tenant", "create", "acme", "--reason", "a new customer"]);
    let kek = made["kek"].as_str().unwrap().to_owned();
    assert_eq!(made["name"], "acme");
    home.refused(&["tenant", "create", "acme"], 2, "exists");
    home.refused(&["pool", "create", "vault", "--tenant", "nobody"], 2, "no tenant \"nobody\"");
    let pool = home.json(&["pool", "create", "vault", "--tenant", "acme", "--compression", "none"]);
    assert_eq!((&pool["tenant"], &pool["name"], &pool["compression"]), (&"acme".into(), &"vault".into(), &0.into()));
    home.refused(&["pool", "create", "vault"], 2, "over all tenants");
    assert_eq!(home.json(&["pool", "show", "default"])["tenant"], "default");
    let set = home.json(&["pool", "set", "vault", "--compression", "zstd"]);
    assert_eq!((&set["tenant"], &set["compression"]), (&"acme".into(), &1.into()));
    let text = String::from_utf8(home.done(&["pool", "list"])).unwrap();
    assert!(text.lines().any(|line| line.starts_with("vault") && line.contains("acme")), "{text}");

    // A stream of each, sealed and opened.
    for pool in ["default", "vault"] {
        let sealed = home.piped(&["seal", "--pool", pool], pool.as_bytes());
        assert_eq!(home.piped(&["open"], &sealed), pool.as_bytes());
    }
    let tenants = home.json(&["tenant", "list"]);
    let told: Vec<_> = tenants.as_array().unwrap().iter().map(|t| (&t["name"], &t["pools"], &t["volumes"])).collect();
    let (default, vault) = (serde_json::json!(["default"]), serde_json::json!(["vault"]));
    assert_eq!(told, [(&"default".into(), &default, &1.into()), (&"acme".into(), &vault, &1.into())]);
    let text = String::from_utf8(home.done(&["tenant", "list"])).unwrap();
    assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("acme") && line.contains(&kek)), "{text}");

    let rotated = home.json(&["key", "rotate", "--tenant", "acme", "--reason", "yearly"]);
    assert_eq!(
        (&rotated["tenant"], &rotated["old_kek"], &rotated["state"]),
        (&"acme".into(), &kek.into(), &"done".into())
    );
    assert!(home.json(&["key", "rotate", "--status"]).is_null(), "the other tenant's was never replaced");
    let keks = home.json(&["key", "list", "--keks"]);
    assert_eq!(keks.as_array().unwrap().iter().filter(|kek| kek["tenant"] == "acme").count(), 3);

    let export = home.file("acme.jsonl");
    home.done(&["audit", "export", &export, "--tenant", "acme"]);
    let key = home.path().join("keyd/custody.pub").display().to_string();
    let verified = String::from_utf8(home.done(&["audit", "verify", &export, "--key", &key])).unwrap();
    assert!(
        verified.contains("every entry of tenant") && verified.contains(made["tenant"].as_str().unwrap()),
        "{verified}"
    );
    home.refused(&["audit", "export", &home.file("x"), "--tenant", "nobody"], 2, "no tenant \"nobody\"");

    let folder = home.file("shares");
    home.done(&["recovery", "init", "--tenant", "acme", "--shares", "3", "--threshold", "2", "--dir", &folder]);
    home.json(&["recovery", "install", &format!("{folder}/recovery-public.json")]);
    assert_eq!(home.json(&["recovery", "backfill", "--tenant", "acme"])["wrapped"], 1);
    home.refused(&["recovery", "backfill"], 2, "no recovery key in use");
    let keys = home.json(&["recovery", "list"]);
    assert_eq!((&keys[0]["tenant"], &keys[0]["wrapped"], &keys[0]["of"]), (&"acme".into(), &1.into(), &1.into()));
}
