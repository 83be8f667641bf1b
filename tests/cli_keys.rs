//! The key authority as a process with a real token (SoftHSM2), and what the command line does with it: init, pools, pipes,
//! the custody log, restoring a stream. Nothing secret shows in arguments, environment, output or logs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SEALTAPE: &str = env!("CARGO_BIN_EXE_sealtape");
const KEYD: &str = env!("CARGO_BIN_EXE_sealtape-keyd");
const AMCRYPT: &str = env!("CARGO_BIN_EXE_sealtape-amcrypt");

/// A home folder that was set up, and the key authority when it runs.
struct Home {
    folder: tempfile::TempDir,
    keyd: Option<(Child, UnixDatagram)>,
}

impl Home {
    fn init() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Self { folder, keyd: None };
        home.done(&["init"]);
        home
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("h")
    }

    fn start(&mut self) {
        drop(std::fs::remove_file(self.folder.path().join("ready")));
        let heard = UnixDatagram::bind(self.folder.path().join("ready")).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let child = Command::new(KEYD)
            .arg("--home")
            .arg(self.path())
            .env("NOTIFY_SOCKET", self.folder.path().join("ready"))
            .env("SEALTAPE_LOG", "trace")
            .stderr(log)
            .spawn()
            .unwrap();
        let mut message = [0; 64];
        let length = heard.recv(&mut message).unwrap_or_else(|e| panic!("{e}: {}", self.logged()));
        assert!(message[..length].starts_with(b"READY=1"));
        self.keyd = Some((child, heard));
    }

    fn stop(&mut self) {
        if let Some((mut keyd, _)) = self.keyd.take() {
            kill(Pid::from_raw(keyd.id() as i32), Signal::SIGTERM).unwrap();
            assert!(keyd.wait().unwrap().success(), "{}", self.logged());
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SEALTAPE);
        command.arg("--home").arg(self.path()).args(arguments).env_remove("SEALTAPE_HOME");
        command
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        piped(self.command(arguments), input)
    }

    fn done(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments, b"");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.done(&[&["--json"], arguments].concat())).unwrap()
    }

    fn refused(&self, arguments: &[&str], input: &[u8], code: i32, parts: &[&str]) -> String {
        let output = self.run(arguments, input);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}: no \"{part}\" in {text}");
        }
        text
    }

    fn pin(&self) -> String {
        std::fs::read_to_string(self.path().join("keyd/user.pin")).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some((mut keyd, _)) = self.keyd.take() {
            // The test failed before it stopped the process.
            keyd.kill().unwrap();
            keyd.wait().unwrap();
        }
    }
}

fn piped(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that does not read all of it is not at fault.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    output
}

/// Words that compress, and bytes that do not.
fn text() -> Vec<u8> {
    let words = b"The quick brown fox jumps over the lazy dog. ".iter().copied().cycle().take(900_000);
    let mut state = 9_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    });
    words.chain(noise.take(300_000)).collect()
}

#[test]
fn init_refuses_a_folder_that_holds_something_and_takes_its_own_traces_away() {
    let home = Home::init();
    home.refused(&["init"], b"", 7, &["not empty", "it holds ", home.path().to_str().unwrap(), "next: "]);
    let mode = |name: &str| std::fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("sealtape.toml"), mode("keyd"), mode("data"), mode("run")), (0o600, 0o700, 0o700, 0o711));

    let failed = home.folder.path().join("failed");
    let output =
        Command::new(SEALTAPE).arg("--home").arg(&failed).args(["init", "--module", "/no/such.so"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such.so"));
    assert!(!failed.exists());
    std::fs::create_dir(&failed).unwrap();
    let output = Command::new(SEALTAPE)
        .arg("--home")
        .arg(&failed)
        .args(["init", "--drive", "left", "--drive", "right"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let config = std::fs::read_to_string(failed.join("sealtape.toml")).unwrap();
    assert!(config.contains("\"left\"") && config.contains("\"right\""));
}

#[test]
fn pipes_come_back_and_what_was_changed_does_not() {
    let mut home = Home::init();
    home.refused(&["seal"], b"x", 5, &["sealtape-keyd", "stream.sock"]);
    home.start();
    let plain = text();
    let sealed = home.run(&["seal"], &plain);
    assert!(sealed.status.success(), "{}", String::from_utf8_lossy(&sealed.stderr));
    let sealed = sealed.stdout;
    assert!(sealed.starts_with(b"SEALTAPE VOLUME 1\n") && sealed.len() < plain.len());
    assert!(!sealed.windows(16).any(|run| run == &plain[..16] || run == &plain[1_000_000..1_000_016]));
    let opened = home.run(&["open"], &sealed);
    assert!(opened.status.success() && opened.stdout == plain, "{}", String::from_utf8_lossy(&opened.stderr));

    home.refused(&["open"], &sealed[..sealed.len() - 30], 4, &["record", "truncated"]);
    let mut changed = sealed.clone();
    changed[300_000] ^= 1;
    home.refused(&["open"], &changed, 4, &["record"]);
    home.refused(&["open"], b"this is no stream at all", 4, &["foreign"]);
    home.refused(&["seal", "--pool", "no-such-pool"], b"x", 10, &["no-such-pool"]);

    // Amanda's contract: the home folder comes from the environment.
    let amcrypt = |arguments: &[&str], input: &[u8]| {
        let mut command = Command::new(AMCRYPT);
        command.args(arguments).env("SEALTAPE_HOME", home.path());
        piped(command, input)
    };
    let encrypted = amcrypt(&[], &plain);
    assert!(encrypted.status.success() && encrypted.stderr.is_empty());
    let decrypted = amcrypt(&["-d"], &encrypted.stdout);
    assert!(decrypted.status.success() && decrypted.stderr.is_empty() && decrypted.stdout == plain);
    assert_eq!(amcrypt(&["-d"], &encrypted.stdout[..90_000]).status.code(), Some(4));
    assert_eq!(amcrypt(&["-x"], b"").status.code(), Some(2));

    // A reader that has enough ends the filter quietly.
    let (read, write) = std::io::pipe().unwrap();
    let mut command = home.command(&["open"]);
    let mut child = command.stdin(Stdio::piped()).stdout(write).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    drop(read);
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(&sealed);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());

    // Without services: token and stream alone.
    home.stop();
    let file = home.folder.path().join("s.sealed");
    std::fs::write(&file, &sealed).unwrap();
    let into = home.folder.path().join("out");
    let report = home.json(&["restore", file.to_str().unwrap(), "--out", into.to_str().unwrap()]);
    assert_eq!((&report["end_proven"], &report["bytes"]), (&true.into(), &plain.len().into()));
    assert!(std::fs::read(into.join("file-00000")).unwrap() == plain);
    home.refused(&["restore", file.to_str().unwrap(), "--out", into.to_str().unwrap()], b"", 2, &["not empty"]);
    assert!(home.done(&["restore", file.to_str().unwrap(), "--stdout"]) == plain);
    let pin_file = home.path().join("keyd/user.pin");
    let mut elsewhere = Command::new(SEALTAPE);
    elsewhere
        .args(["--home", "/nonexistent", "restore", "--stdout"])
        .arg(&file)
        .args(["--module", "/usr/lib/softhsm/libsofthsm2.so", "--token", "pkcs11:token=sealtape", "--pin-file"])
        .arg(&pin_file)
        .env("SOFTHSM2_CONF", home.path().join("keyd/softhsm2.conf"));
    let output = piped(elsewhere, b"");
    assert!(output.stdout == plain, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_custody_log_is_shown_exported_and_verified() {
    let mut home = Home::init();
    home.start();
    assert!(home.run(&["seal"], b"text").status.success());
    let shown = String::from_utf8(home.done(&["audit", "show"])).unwrap();
    assert!(shown.contains("log.open") && shown.contains("key.create") && shown.contains("stream.finish"), "{shown}");
    let last = home.json(&["audit", "show", "--count", "1"]);
    assert!(last["seq"].as_u64().unwrap() > 3);

    let key: String = serde_json::from_slice(&home.done(&["--json", "audit", "key"])).unwrap();
    let export = home.folder.path().join("export.jsonl");
    let checkpoint = home.json(&["audit", "export", export.to_str().unwrap()]);
    assert_eq!(std::fs::metadata(&export).unwrap().permissions().mode() & 0o777, 0o600);
    home.refused(&["audit", "export", export.to_str().unwrap()], b"", 1, &["export.jsonl"]);
    let piped = home.done(&["audit", "export", "-"]);
    assert!(piped.len() > 1000);
    home.stop();

    // The auditor's machine has neither home folder nor service.
    let verify = |arguments: &[&str]| {
        Command::new(SEALTAPE)
            .args(["--json", "--home", "/nonexistent", "audit", "verify"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = verify(&[export.to_str().unwrap(), "--key", &key]);
    let verified: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&verified["size"], &verified["root"]), (&checkpoint["size"], &checkpoint["root"]));
    let key_file = home.folder.path().join("key");
    std::fs::write(&key_file, format!("{key}\n")).unwrap();
    assert!(verify(&[export.to_str().unwrap(), "--key", key_file.to_str().unwrap()]).status.success());
    let custody_pub = home.path().join("custody.pub");
    assert!(verify(&[export.to_str().unwrap(), "--key", custody_pub.to_str().unwrap()]).status.success());
    assert_eq!(verify(&[export.to_str().unwrap(), "--key", "nonsense"]).status.code(), Some(10));
    assert_eq!(verify(&[export.to_str().unwrap()]).status.code(), Some(2));

    let text = std::fs::read_to_string(&export).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let without: Vec<&str> = lines.iter().enumerate().filter(|(n, _)| *n != 4).map(|(_, line)| *line).collect();
    for (what, changed) in [
        ("an entry left out", without.join("\n") + "\n"),
        ("a word changed", text.replacen("key.create", "key.delete", 1)),
        ("the end cut off", lines[..lines.len() - 1].join("\n") + "\n"),
    ] {
        let file = home.folder.path().join("changed.jsonl");
        std::fs::write(&file, changed).unwrap();
        let output = verify(&[file.to_str().unwrap(), "--key", &key]);
        assert_eq!(output.status.code(), Some(4), "{what}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("changed.jsonl"), "{what}");
    }
}

#[test]
fn pools_come_from_the_configuration_and_are_not_changed_by_it() {
    let mut home = Home::init();
    let config = home.path().join("sealtape.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let more = format!(
        "{text}\n[pool.archive]\nsuite = \"xchacha20-poly1305\"\ncompression = \"lz4\"\nkey_on_medium = false\n"
    );
    std::fs::write(&config, &more).unwrap();
    home.start();
    let pools = home.json(&["pool", "list"]);
    let archive = pools.as_array().unwrap().iter().find(|pool| pool["name"] == "archive").unwrap();
    assert_eq!(
        (&archive["suite"], &archive["compression"], &archive["key_on_medium"]),
        (&3.into(), &2.into(), &false.into())
    );
    let sealed = home.run(&["seal", "--pool", "archive"], b"text");
    assert!(sealed.status.success());
    assert_eq!(home.run(&["open"], &sealed.stdout).stdout, b"text");
    home.stop();

    // The catalogue keeps the key of this pool: without it the stream says why it cannot be restored.
    let file = home.folder.path().join("s");
    std::fs::write(&file, &sealed.stdout).unwrap();
    home.refused(&["restore", file.to_str().unwrap(), "--stdout"], b"", 3, &["carries no wrapped key"]);

    std::fs::write(&config, more.replace("lz4", "zstd")).unwrap();
    let output = Command::new(KEYD).arg("--home").arg(home.path()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && words.contains("[pool.archive]") && words.contains("sealtape.toml"), "{words}");
}

#[test]
fn a_wrong_pin_is_tried_once_and_nothing_secret_shows() {
    let mut home = Home::init();
    let pin = home.pin();
    home.start();
    let secret_free = |what: &str, bytes: &[u8]| {
        let shows = bytes.windows(pin.len()).any(|window| window == pin.as_bytes());
        assert!(!shows, "the PIN shows in {what}");
    };
    // A command that is at work while its process is looked at, and the services.
    let mut child = home.command(&["seal"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&text()).unwrap();
    let mut some = [0; 1000];
    child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
    let keyd = home.keyd.as_ref().unwrap().0.id();
    let mut looked_at = 0;
    for process in [vec![child.id(), keyd], children(keyd)].concat() {
        for file in ["cmdline", "environ"] {
            secret_free(&format!("/proc/{process}/{file}"), &std::fs::read(format!("/proc/{process}/{file}")).unwrap());
            looked_at += 1;
        }
    }
    assert!(looked_at >= 6, "the PKCS#11 worker was not found");
    drop(stdin);
    child.kill().unwrap();
    child.wait().unwrap();
    for arguments in
        [&["--json", "pool", "list"][..], &["--json", "audit", "show"], &["-vv", "volume", "list", "--streams"]]
    {
        let output = home.run(arguments, b"");
        secret_free("the output", &output.stdout);
        secret_free("the messages", &output.stderr);
    }
    home.stop();
    secret_free("the log", home.logged().as_bytes());
    secret_free("the configuration", &std::fs::read(home.path().join("sealtape.toml")).unwrap());

    // Now a wrong one.
    let file = home.path().join("keyd/user.pin");
    std::fs::write(&file, "wrong-pin").unwrap();
    home.start();
    let refusal = home.refused(&["seal"], b"x", 3, &["PIN"]);
    assert!(!refusal.contains("wrong-pin"));
    std::fs::write(&file, &pin).unwrap();
    home.refused(&["seal"], b"x", 3, &["PIN", "pin.latched"]);
    let status = home.refused(&["hsm", "status"], b"", 3, &["PIN", "sealtape hsm unlatch"]);
    assert!(!status.contains("wrong-pin"));
    assert!(home.path().join("keyd/pin.latched").exists());
    home.done(&["hsm", "unlatch"]);
    assert!(home.run(&["seal"], b"x").status.success());
    assert_eq!(home.json(&["hsm", "status"])["token_ok"], true);
    home.stop();
    assert!(!home.logged().contains("wrong-pin"));
}

fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| parent_of(*id) == Some(parent)).collect()
}

fn parent_of(process: u32) -> Option<u32> {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

#[test]
fn two_key_authorities_do_not_share_a_home_folder() {
    let mut home = Home::init();
    home.start();
    let started = Instant::now();
    let output = Command::new(KEYD).arg("--home").arg(home.path()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && words.contains("another sealtape-keyd"), "{words}");
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(home.run(&["pool", "list"], b"").status.success());
    home.stop();
}
