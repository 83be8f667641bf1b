//! Custodians, roles and approvals on the command line, with real OpenSSH: files signed elsewhere, and an agent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const SEALTAPE: &str = env!("CARGO_BIN_EXE_sealtape");
const KEYD: &str = env!("CARGO_BIN_EXE_sealtape-keyd");
const NAMESPACE: &str = "sealtape-approval@sealtape";

/// A process that this test started, stopped by its id.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        self.0.wait().unwrap();
    }
}

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Process {
        let heard = UnixDatagram::bind(self.path("ready")).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new(KEYD);
        command.arg("--home").arg(self.path("h")).env("NOTIFY_SOCKET", self.path("ready")).stderr(log);
        let keyd = Process(command.spawn().unwrap());
        let mut message = [0; 64];
        let length = heard.recv(&mut message).unwrap();
        assert!(message[..length].starts_with(b"READY=1"));
        keyd
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SEALTAPE);
        command.arg("--home").arg(self.path("h")).args(arguments).env_remove("SEALTAPE_HOME");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[&["--json"], arguments].concat())).unwrap()
    }

    fn refused(&self, arguments: &[&str], code: i32, part: &str) {
        let output = self.run(&[&["--json"], arguments].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: no {part:?} in {text}");
    }

    fn key(&self, name: &str, kind: &str) -> String {
        let key = self.path(name);
        done(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-C", "comment", "-f"]).arg(&key));
        key.display().to_string()
    }
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn two_persons_agree_on_the_command_line() {
    let site = Site { folder: tempfile::tempdir().unwrap() };
    site.done(&["init"]);
    let _keyd = site.start();
    let (alice, bob, carol) = (site.key("alice", "ed25519"), site.key("bob", "ecdsa"), site.key("carol", "ed25519"));
    let public = |key: &str| format!("{key}.pub");
    site.refused(&["custodian", "add", "alice", "--key", &alice], 2, "private key");
    for (name, key) in [("alice", &alice), ("bob", &bob)] {
        site.done(&["custodian", "add", name, "--key", &public(key), "--role", "security-officer"]);
    }
    let persons = site.json(&["custodian", "list"]);
    assert_eq!(persons.as_array().unwrap().len(), 2);
    assert!(text(&persons[0]["keys"][0]["fingerprint"]).starts_with("SHA256:"));
    assert_eq!(persons[1]["grants"][0]["role"], "security_officer");

    // From now on a request, which alice signs here and bob on another machine.
    let asked = site.json(&[
        "role",
        "grant",
        "operator",
        "uid:4711",
        "--pool",
        "default",
        "--reason",
        "\u{202e}night \"shift\"",
    ]);
    let id = text(&asked["request"]);
    assert_eq!((asked["state"].as_str(), asked["needed"].as_u64()), (Some("pending"), Some(2)));
    site.refused(&["approval", "execute", &id], 3, "0 of 2 approvals");
    site.done(&["--quiet", "approval", "sign", &id, "--key", &alice]);
    site.refused(&["approval", "sign", &id, "--key", &alice], 3, "has approved");
    let file = site.path("request.json").display().to_string();
    let shown = site.done(&["--quiet", "approval", "show", &id, "--file", &file]);
    assert!(shown.contains("give \"uid:4711\" the role operator") && shown.contains("\\u{202e}night"), "{shown}");
    site.refused(&["approval", "show", &id, "--file", &file], 9, "request.json");
    let mut elsewhere = Command::new(SEALTAPE);
    let explained = done(elsewhere.args(["--home", "/nonexistent", "approval", "explain", &file]));
    assert!(shown.starts_with(explained.split("digest:").next().unwrap()), "{explained}");
    let edited = std::fs::read_to_string(&file).unwrap().replace("4711", "0");
    std::fs::write(site.path("edited.json"), format!("{edited} ")).unwrap();
    site.refused(&["approval", "explain", site.path("edited.json").to_str().unwrap()], 4, "canonical");
    std::fs::write(site.path("edited.json"), &edited).unwrap();
    sign(&bob, &site.path("edited.json"));
    site.refused(&["approval", "add", site.path("edited.json.sig").to_str().unwrap()], 3, "fits no request");
    sign(&bob, Path::new(&file));
    let view = site.json(&["approval", "add", &format!("{file}.sig")]);
    assert_eq!((view["state"].as_str(), view["approvals"].as_array().unwrap().len()), (Some("approved"), 2));
    // OpenSSH agrees about what was signed.
    let allowed = site.path("allowed");
    std::fs::write(&allowed, format!("bob {}", std::fs::read_to_string(public(&bob)).unwrap())).unwrap();
    let mut verify = Command::new("ssh-keygen");
    verify
        .args(["-Y", "verify", "-n", NAMESPACE, "-I", "bob", "-f"])
        .arg(&allowed)
        .args(["-s", &format!("{file}.sig")]);
    done(verify.stdin(std::fs::File::open(&file).unwrap()));
    assert!(site.json(&["approval", "execute", &id])["entry"].as_u64().is_some());
    site.refused(&["approval", "execute", &id], 3, "carried out or taken back");
    let roles = site.json(&["role", "list"]);
    let granted = roles.as_array().unwrap().iter().find(|g| g["principal"] == "uid:4711").unwrap();
    assert_eq!((granted["pool"].as_str(), granted["tenant"].as_str()), (Some("default"), Some("default")));

    // A user of the machine has a role now, so root's own has gone; requests and approvals go on.
    site.refused(&["pool", "list"], 11, "any role");
    let roles = ["grant", "auditor", &format!("uid:{}", nix::unistd::geteuid())].map(str::to_owned);
    let id = text(&site.json(&["role", &roles[0], &roles[1], &roles[2]])["request"]);
    // Bob's key lies in an agent this time: only its public half is named.
    let agent = site.path("agent");
    let mut command = Command::new("ssh-agent");
    let _agent = Process(command.arg("-D").arg("-a").arg(&agent).stdout(std::process::Stdio::null()).spawn().unwrap());
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while !agent.exists() && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    done(Command::new("ssh-add").args(["-q", &bob]).env("SSH_AUTH_SOCK", &agent));
    std::fs::remove_file(&bob).unwrap();
    let signed = ["--quiet", "approval", "sign", &id, "--key", &public(&bob)];
    done(site.command(&signed).env("SSH_AUTH_SOCK", &agent));
    site.done(&["--quiet", "approval", "sign", &id, "--key", &alice]);
    assert!(site.done(&["approval", "list"]).contains("2/2"));
    site.done(&["approval", "execute", &id]);
    site.done(&["pool", "list"]);
    assert!(site.done(&["audit", "show"]).contains("role.grant"));
    site.refused(&["hsm", "unlatch"], 11, "administrator");

    // Taken back; and what makes no sense.
    let id = text(&site.json(&["custodian", "add", "carol", "--key", &public(&carol)])["request"]);
    let withdrawn = site.json(&["approval", "withdraw", &id, "--reason", "not needed"]);
    assert_eq!(withdrawn["state"], "withdrawn");
    assert!(site.json(&["approval", "list"]).as_array().unwrap().is_empty());
    assert_eq!(site.json(&["approval", "list", "--all"]).as_array().unwrap().len(), 3);
    site.refused(&["custodian", "remove", "bob"], 11, "1 security officer(s)");
    site.refused(&["custodian", "remove", "nobody"], 10, "no person");
    site.refused(&["approval", "show", "00000000-0000-0000-0000-000000000000"], 10, "no request");
    site.refused(&["role", "grant", "root", "uid:1"], 2, "is no role");
    site.refused(&["role", "grant", "operator", "somebody"], 2, "names nobody");
    site.refused(&["role", "grant", "operator", "group:no-such-group-here"], 2, "no group");
}

fn sign(key: &str, file: &Path) {
    done(Command::new("ssh-keygen").args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f", key]).arg(file));
}
