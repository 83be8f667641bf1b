//! The real services with a real token (SoftHSM2): what is secret stays where it belongs. Not in logs, not in output,
//! not on command lines or in environments, not in files, not in core dumps; and in the data path's memory only as long
//! as the volume is loaded, in locked pages.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/memory.rs"]
mod memory;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use memory::{data_key, found_in_memory, has};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

const SEALTAPE: &str = env!("CARGO_BIN_EXE_sealtape");
// Both services have to stand beside `sealtape`, which starts them.
const _: [&str; 2] = [env!("CARGO_BIN_EXE_sealtaped"), env!("CARGO_BIN_EXE_sealtape-keyd")];
const PLAIN: &[u8] = b"the plaintext of a backup that nobody else may see";
const LIMIT: Duration = Duration::from_secs(60);

/// A home with both services running in it.
struct Running {
    folder: tempfile::TempDir,
    services: Child,
    said: Vec<u8>,
}

impl Running {
    fn start() -> Self {
        let place = if Path::new("/dev/shm").is_dir() { Path::new("/dev/shm") } else { Path::new("/tmp") };
        let folder = tempfile::Builder::new().prefix("st").tempdir_in(place).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let home = folder.path().join("h");
        let mut init = Command::new(SEALTAPE);
        let done = init.arg("--home").arg(&home).arg("init").env("SEALTAPE_LOG", "trace").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let mut said = done.stdout;
        said.extend(done.stderr);
        let services = Command::new(SEALTAPE)
            .arg("--home")
            .arg(&home)
            .arg("run")
            .env("SEALTAPE_LOG", "trace")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut running = Self { folder, services, said };
        running.wait("the services", |running| {
            running.try_sealtape(&["drive", "list", "--json"]).is_some() && running.node().exists()
        });
        running
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("h")
    }

    fn node(&self) -> PathBuf {
        self.home().join("nodes/nst0")
    }

    fn log(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("log")).unwrap()
    }

    fn wait(&mut self, what: &str, mut until: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !until(self) {
            assert!(self.services.try_wait().unwrap().is_none(), "{}", String::from_utf8_lossy(&self.log()));
            assert!(begun.elapsed() < LIMIT, "no {what}: {}", String::from_utf8_lossy(&self.log()));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_sealtape(&mut self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(SEALTAPE);
        command.arg("--home").arg(self.home()).args(arguments).env("SEALTAPE_LOG", "trace").stdin(Stdio::null());
        let output = command.output().unwrap();
        self.said.extend(&output.stdout);
        self.said.extend(&output.stderr);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn sealtape(&mut self, arguments: &[&str]) -> String {
        let done = self.try_sealtape(arguments);
        done.unwrap_or_else(|| panic!("{arguments:?}: {}", String::from_utf8_lossy(&self.said)))
    }

    /// The services and what they started.
    fn processes(&self) -> Vec<(i32, String)> {
        let mut found = vec![(self.services.id() as i32, "sealtape".to_owned())];
        let mut at = 0;
        while at < found.len() {
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
                let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
                let Some((head, tail)) = stat.rsplit_once(')') else { continue };
                if tail.split_whitespace().nth(1) == Some(&found[at].0.to_string()) {
                    found.push((pid, head.split_once('(').unwrap().1.to_owned()));
                }
            }
            at += 1;
        }
        found
    }

    fn data_path(&self) -> i32 {
        let found = self.processes();
        found.iter().find(|(_, name)| name == "sealtaped").unwrap_or_else(|| panic!("{found:?}")).0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.services.try_wait().unwrap().is_none() {
            kill(Pid::from_raw(self.services.id() as i32), Signal::SIGTERM).unwrap();
            let begun = Instant::now();
            while self.services.try_wait().unwrap().is_none() {
                if begun.elapsed() > Duration::from_secs(20) {
                    self.services.kill().unwrap();
                    self.services.wait().unwrap();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        // A data path that was killed leaves a dead mount behind.
        let unmounted = Command::new("umount").arg("-l").arg(self.home().join("nodes")).stderr(Stdio::null()).status();
        drop(unmounted);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A secret, in the forms in which it may be written.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let list: Vec<_> = secret.iter().map(u8::to_string).collect();
    let lower = hex(secret);
    vec![
        secret.to_vec(),
        lower.to_uppercase().into_bytes(),
        lower.into_bytes(),
        list.join(",").into_bytes(),
        list.join(", ").into_bytes(),
    ]
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !entry.path().ends_with("nodes") {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

#[test]
fn what_is_secret_stays_where_it_belongs() {
    let tools = ["/usr/bin/softhsm2-util", "/dev/fuse"].iter().find(|path| !Path::new(path).exists());
    if let Some(missing) = tools {
        eprintln!("SKIPPED: {missing} is not there");
        return;
    }
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root may look into the memory of the services");
        return;
    }
    let mut running = Running::start();
    let (home, image) = (running.home(), running.folder.path().join("tape.img"));
    let image_name = image.to_str().unwrap().to_owned();
    running.sealtape(&["image", "create", &image_name, "--capacity", "64M", "--barcode", "SEC001L9"]);
    running.sealtape(&["volume", "load", "drive0", &image_name]);
    running.sealtape(&["volume", "label", "drive0", "SECRET1"]);
    let node = running.node();
    let mut tape = File::options().write(true).open(&node).unwrap();
    tape.write_all(PLAIN).unwrap();
    drop(tape);
    // `nst0` is where the writing left it; the next opener reads from the beginning of the tape after a reload.
    running.sealtape(&["volume", "unload", "drive0"]);

    let key = data_key(&home, &image);
    let pin = fs::read(home.join("keyd/user.pin")).unwrap();
    let pin = pin.trim_ascii_end().to_vec();
    assert!(pin.len() >= 8);

    // Memory: nothing when no volume is loaded, locked pages that stay out of core dumps while one is.
    let data_path = running.data_path();
    let found = found_in_memory(data_path, &key);
    assert!(found.is_empty(), "after `volume unload` the data key is found in {found:#?}");
    running.sealtape(&["volume", "load", "drive0", &image_name]);
    let mut buffer = vec![0; 65536];
    let length = File::open(&node).unwrap().read(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], PLAIN);
    let found = found_in_memory(data_path, &key);
    assert!(!found.is_empty(), "a loaded volume has its key somewhere");
    for mapping in &found {
        for flag in [" lo", " dd"] {
            assert!(mapping.contains(flag), "the data key stands in memory that is not locked or is dumped: {mapping}");
        }
    }
    running.sealtape(&["volume", "verify", "drive0", "--json"]);
    running.sealtape(&["volume", "show", "SECRET1", "--json"]);
    running.sealtape(&["volume", "list", "--json"]);
    running.sealtape(&["drive", "status", "--json"]);

    // Command lines, environments, limits.
    let processes = running.processes();
    assert!(processes.len() >= 3, "{processes:?}");
    let secrets: Vec<_> = [&key[..], &pin, PLAIN].iter().flat_map(|secret| forms(secret)).collect();
    for (pid, name) in &processes {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!bytes.is_empty(), "{file} of {name}");
            assert!(!secrets.iter().any(|secret| has(&bytes, secret)), "{name}: /proc/{pid}/{file} has a secret");
        }
        if name != "sealtape" {
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
            assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{name}");
        }
    }

    running.sealtape(&["volume", "unload", "drive0"]);
    let found = found_in_memory(data_path, &key);
    assert!(found.is_empty(), "after `volume unload` the data key is found in {found:#?}");

    // What was said, logged and kept.
    let export = running.folder.path().join("custody");
    running.sealtape(&["audit", "export", export.to_str().unwrap()]);
    assert!(running.log().len() > 1000, "the services log");
    let mut kept = Vec::new();
    files(running.folder.path(), &mut kept);
    assert!(kept.contains(&image) && kept.contains(&export), "{kept:?}");
    for file in &kept {
        let bytes = fs::read(file).unwrap();
        let own_pin = file.ends_with("user.pin");
        let found = secrets.iter().find(|secret| has(&bytes, secret) && !(own_pin && **secret == pin));
        assert!(found.is_none(), "a secret stands in {}", file.display());
    }
    assert!(!secrets.iter().any(|secret| has(&running.said, secret)), "the command line tool tells a secret");

    // A crash leaves nothing behind.
    kill(Pid::from_raw(data_path), Signal::SIGABRT).unwrap();
    let begun = Instant::now();
    while Path::new(&format!("/proc/{data_path}/mem")).exists() && begun.elapsed() < Duration::from_secs(20) {
        if fs::read_to_string(format!("/proc/{data_path}/stat")).is_ok_and(|stat| stat.contains(") Z ")) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut after = Vec::new();
    files(running.folder.path(), &mut after);
    let core = after.iter().find(|file| file.file_name().unwrap().to_string_lossy().starts_with("core"));
    assert_eq!(core, None, "a core file");
}
