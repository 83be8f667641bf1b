//! One installation whose two services can be started, stopped and killed on their own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SEALTAPE: &str = env!("CARGO_BIN_EXE_sealtape");
const KEYD: &str = env!("CARGO_BIN_EXE_sealtape-keyd");
const DATA: &str = env!("CARGO_BIN_EXE_sealtaped");
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const START_LIMIT: Duration = Duration::from_secs(90);
/// More than any record of these suites.
pub(crate) const LONGEST_RECORD: usize = 256 << 10;

/// Whether services can run here: a token and FUSE. Says in one line what is missing.
pub(crate) fn ready() -> bool {
    let fuse = File::options().read(true).write(true).open("/dev/fuse");
    if let Err(error) = &fuse {
        eprintln!("SKIPPED: /dev/fuse: {error}");
    }
    let (module, mt) = (Path::new(MODULE).exists(), Path::new("/usr/bin/mt").exists() || Path::new("/bin/mt").exists());
    if !module || !mt {
        eprintln!("SKIPPED: softhsm2 or mt-st is not installed");
    }
    fuse.is_ok() && module && mt
}

/// A logical object, as a program sees it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Object {
    Record(Vec<u8>),
    Filemark,
}

impl Object {
    /// For messages: a record by its number and length.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Filemark => "a filemark".into(),
            Self::Record(bytes) => match bytes.first_chunk() {
                Some(number) => format!("record {}, {} bytes", u64::from_be_bytes(*number), bytes.len()),
                None => format!("a record of {} bytes", bytes.len()),
            },
        }
    }
}

/// The suites open nodes in this very process. While one thread starts a program, the child has a copy of every
/// descriptor until it executes, and a node that the other thread has closed stays busy so long: one site at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// One installation in a folder of its own.
pub(crate) struct Site {
    _alone: MutexGuard<'static, ()>,
    keyd: Option<Child>,
    data: Option<Child>,
    folder: tempfile::TempDir,
}

impl Site {
    /// Set up, with `configure` applied to the configuration; nothing runs.
    pub(crate) fn founded(configure: impl FnOnce(&str) -> String) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let shared_memory = Path::new("/dev/shm");
        let parent = if shared_memory.is_dir() { shared_memory.to_path_buf() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("sc-").tempdir_in(parent).unwrap();
        let site = Self { _alone: alone, keyd: None, data: None, folder };
        site.done(&["init"]);
        let file = site.home().join("sealtape.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, configure(&text)).unwrap();
        site
    }

    /// Set up, both services running, and a labelled cartridge loaded.
    pub(crate) fn labelled() -> Self {
        let mut site = Self::founded(str::to_owned);
        site.start();
        site.cartridge("256M");
        site.done(&["volume", "load", "drive0", &site.image()]);
        site.done(&["volume", "label", "drive0", "V1"]);
        site
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("h")
    }

    pub(crate) fn image(&self) -> String {
        self.folder.path().join("t.img").display().to_string()
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.home().join("nodes/nst0")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn cartridge(&self, capacity: &str) {
        self.done(&["image", "create", &self.image(), "--capacity", capacity]);
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(&self.home(), arguments)
    }

    /// `sealtape --home HOME …`, which has to succeed; gives its standard output.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}{}", said(&output), self.logged());
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.done(&[&["--json"], arguments].concat())).unwrap()
    }

    /// `sealtape --home HOME …`, which has to end with `code` and say each of `parts`.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], code: i32, parts: &[&str]) -> String {
        self.refused_in(&self.home().display().to_string(), arguments, code, parts)
    }

    /// The same with another home folder.
    #[track_caller]
    pub(crate) fn refused_in(&self, home: &str, arguments: &[&str], code: i32, parts: &[&str]) -> String {
        let output = command(Path::new(home), arguments).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}: no \"{part}\" in {text}");
        }
        text
    }

    pub(crate) fn start(&mut self) {
        self.start_keyd();
        self.start_data();
    }

    pub(crate) fn start_keyd(&mut self) {
        assert!(self.keyd.is_none());
        self.keyd = Some(self.service(KEYD, "keyd"));
    }

    pub(crate) fn start_data(&mut self) {
        assert!(self.data.is_none());
        self.data = Some(self.service(DATA, "data"));
    }

    fn service(&self, program: &str, name: &str) -> Child {
        let socket = self.path(&format!("{name}.ready"));
        drop(fs::remove_file(&socket));
        let heard = UnixDatagram::bind(&socket).unwrap();
        heard.set_read_timeout(Some(START_LIMIT)).unwrap();
        let log = File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap();
        let mut command = Command::new(program);
        command.arg("--home").arg(self.home()).env("NOTIFY_SOCKET", &socket).stdin(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut message = [0; 64];
        match heard.recv(&mut message) {
            Ok(length) if message[..length].starts_with(b"READY=1") => child,
            other => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{name} did not start: {other:?} {}", self.logged());
            }
        }
    }

    pub(crate) fn logged(&self) -> String {
        let log = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        log("keyd.log") + &log("data.log")
    }

    /// The data path's process.
    pub(crate) fn data_pid(&self) -> i32 {
        self.data.as_ref().unwrap().id() as i32
    }

    /// SIGKILL, as a crash or the loss of power would end it.
    pub(crate) fn kill_data(&mut self) {
        kill_child(self.data.take());
    }

    pub(crate) fn kill_keyd(&mut self) {
        kill_child(self.keyd.take());
    }

    /// SIGTERM, in order.
    pub(crate) fn stop(&mut self) {
        for child in [self.data.take(), self.keyd.take()] {
            let Some(mut child) = child else { continue };
            kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
            assert!(child.wait().unwrap().success(), "{}", self.logged());
        }
    }

    /// `mt -f NODE …`; whether it succeeded.
    pub(crate) fn mt(&self, arguments: &[&str]) -> bool {
        let output = Command::new("mt").arg("-f").arg(self.node()).args(arguments).output().unwrap();
        output.status.success()
    }

    /// The status of the drive, in words.
    pub(crate) fn status(&self) -> String {
        self.done(&["drive", "status", "drive0"])
    }

    /// Writes records through one open file; the close has to succeed. A filemark follows.
    #[track_caller]
    pub(crate) fn write(&self, records: &[Vec<u8>]) {
        let mut file = File::options().write(true).open(self.node()).unwrap();
        for record in records {
            assert_eq!(file.write(record).unwrap(), record.len());
        }
        close(file).unwrap();
    }

    /// Rewinds and reads everything that stands on the tape.
    pub(crate) fn read_all(&self) -> Vec<Object> {
        assert!(self.mt(&["rewind"]), "rewind: {}", self.status());
        let mut file = File::open(self.node()).unwrap();
        let mut objects = Vec::new();
        let mut buffer = vec![0; LONGEST_RECORD];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => objects.push(Object::Filemark),
                Ok(length) => objects.push(Object::Record(buffer[..length].to_vec())),
                Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => break,
                Err(error) => panic!("{error}: {}", self.status()),
            }
        }
        // Behind a filemark the end of data is told by one 0 before the error.
        if objects.last() == Some(&Object::Filemark) {
            objects.pop();
        }
        objects
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        kill_child(self.data.take());
        kill_child(self.keyd.take());
        let nodes = self.home().join("nodes");
        // Nothing is mounted there after an orderly stop.
        drop(Command::new("fusermount3").args(["-u", "-z", "-q"]).arg(&nodes).stderr(Stdio::null()).status());
    }
}

fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(SEALTAPE);
    command.arg("--home").arg(home).args(arguments).env_remove("SEALTAPE_HOME").stdin(Stdio::null());
    command
}

fn kill_child(child: Option<Child>) {
    if let Some(mut child) = child {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Closes, and tells what `close` says: the drop of a file would swallow it. `close` tells what FLUSH came to, and FLUSH
/// comes for each duplicate.
pub(crate) fn close(file: File) -> nix::Result<()> {
    let twin = file.as_fd().try_clone_to_owned().unwrap();
    let closed = nix::unistd::close(twin);
    drop(file);
    closed
}

/// Bytes that tell which record they are of; every second one shrinks.
pub(crate) fn record(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    let mut bytes = number.to_be_bytes().to_vec();
    if number.is_multiple_of(2) {
        bytes.extend((8..length).map(|_| next()));
    } else {
        bytes.resize(length.max(8), next());
    }
    bytes
}
