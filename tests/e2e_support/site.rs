//! One installation: `sealtape init`, `sealtape run` and what operators do.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SEALTAPE: &str = env!("CARGO_BIN_EXE_sealtape");
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Whether services can run here: a token and FUSE. Says in one line what is missing.
pub(crate) fn ready() -> bool {
    if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
        eprintln!("SKIPPED: /dev/fuse: {error}");
        return false;
    }
    if !Path::new(MODULE).exists() {
        eprintln!("SKIPPED: {MODULE} is not installed (Debian: softhsm2)");
        return false;
    }
    programs::has("mt") && programs::has("tar")
}

use super::programs;

/// What differs from what `init` sets up.
pub(crate) struct SiteOptions<'a> {
    /// The drives are `drive0`, `drive1`, …
    pub(crate) drives: usize,
    /// Changes the configuration before the first start.
    pub(crate) configure: &'a dyn Fn(&str) -> String,
}

impl Default for SiteOptions<'_> {
    fn default() -> Self {
        Self { drives: 1, configure: &|text| text.to_owned() }
    }
}

/// One installation with its services running.
pub(crate) struct Site {
    services: Option<Child>,
    folder: tempfile::TempDir,
}

impl Site {
    /// One drive, the default configuration, services running.
    pub(crate) fn new() -> Self {
        Self::with(&SiteOptions::default())
    }

    /// As the options say, services running.
    pub(crate) fn with(options: &SiteOptions<'_>) -> Self {
        let mut site = Self::founded(options);
        site.start();
        site
    }

    /// Set up, services not started.
    pub(crate) fn founded(options: &SiteOptions<'_>) -> Self {
        let shared_memory = Path::new("/dev/shm");
        let parent = if shared_memory.is_dir() { shared_memory.to_path_buf() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("st-").tempdir_in(parent).unwrap();
        // Other users may pass, as they may pass the home folder.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        let site = Self { services: None, folder };
        let mut init = site.command();
        init.arg("init");
        for number in 0..options.drives {
            init.args(["--drive", &format!("drive{number}")]);
        }
        succeed(&mut init);
        let file = site.home().join("sealtape.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, (options.configure)(&text)).unwrap();
        site
    }

    /// The folder that everything of this installation stands in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The home folder.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder().join("h")
    }

    /// A folder for the programs' files.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder().join("work")
    }

    /// The node of drive `number` that does not rewind.
    pub(crate) fn nst(&self, number: usize) -> PathBuf {
        self.home().join(format!("nodes/nst{number}"))
    }

    /// The node of drive `number` that rewinds at close.
    pub(crate) fn st(&self, number: usize) -> PathBuf {
        self.home().join(format!("nodes/st{number}"))
    }

    /// `sealtape --home HOME`, to be completed.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(SEALTAPE);
        command.arg("--home").arg(self.home()).stdin(Stdio::null());
        command
    }

    /// Runs `sealtape --home HOME …`, which has to succeed; gives its standard output.
    #[track_caller]
    pub(crate) fn sealtape<A: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let output = succeed(self.command().args(arguments));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `sealtape --home HOME …`, which has to fail; gives its exit code and standard error.
    #[track_caller]
    pub(crate) fn refused<A: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> (i32, String) {
        let mut command = self.command();
        let output = command.args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code().unwrap_or_else(|| panic!("{command:?} died: {} {said}", output.status));
        assert_ne!(code, 0, "{command:?} was not refused");
        (code, said)
    }

    /// Makes a blank cartridge.
    pub(crate) fn cartridge(&self, name: &str, capacity: &str) -> PathBuf {
        let path = self.folder().join(name);
        self.sealtape([
            "image".as_ref(),
            "create".as_ref(),
            path.as_os_str(),
            "--capacity".as_ref(),
            capacity.as_ref(),
        ]);
        path
    }

    /// Loads a cartridge into drive `number`.
    pub(crate) fn load(&self, number: usize, cartridge: &Path) {
        let drive = format!("drive{number}");
        self.sealtape(["volume".as_ref(), "load".as_ref(), drive.as_ref(), cartridge.as_os_str()]);
    }

    /// Synchronises and unloads drive `number`.
    pub(crate) fn unload(&self, number: usize) {
        self.sealtape(["volume", "unload", &format!("drive{number}")]);
    }

    /// Labels the blank cartridge in drive `number`.
    pub(crate) fn label(&self, number: usize, label: &str) {
        self.sealtape(["volume", "label", &format!("drive{number}"), label]);
    }

    /// A cartridge made, loaded into drive `number` and labelled.
    pub(crate) fn volume(&self, number: usize, label: &str, capacity: &str) -> PathBuf {
        let cartridge = self.cartridge(&format!("{label}.tape"), capacity);
        self.load(number, &cartridge);
        self.label(number, label);
        cartridge
    }

    /// `drive status --json` of drive `number`.
    pub(crate) fn status(&self, number: usize) -> serde_json::Value {
        let said = self.sealtape(["drive", "status", &format!("drive{number}"), "--json"]);
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        match value {
            serde_json::Value::Array(mut drives) => drives.remove(0),
            other => other,
        }
    }

    /// Starts both services and waits until they are ready.
    pub(crate) fn start(&mut self) {
        assert!(self.services.is_none(), "the services run already");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut run = self.command();
        run.args(["--quiet", "run"]).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.services = Some(run.spawn().unwrap());
        let begun = Instant::now();
        while !self.command().args(["drive", "list"]).output().unwrap().status.success() || !self.nst(0).exists() {
            if let Some(status) = self.services.as_mut().and_then(|services| services.try_wait().unwrap()) {
                panic!("the services ended ({status}):\n{}", self.log());
            }
            assert!(begun.elapsed() < START_LIMIT, "the services do not answer:\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Stops both services in order; they have to end cleanly.
    pub(crate) fn stop(&mut self) {
        let Some(mut services) = self.services.take() else { return };
        let status = end(&mut services);
        assert!(status.is_some_and(|status| status.success()), "the services ended with {status:?}:\n{}", self.log());
    }

    /// Kills a service by its name (`sealtaped`, `sealtape-keyd`) with SIGKILL. `sealtape run` stops the other one.
    pub(crate) fn kill_service(&self, name: &str) {
        kill(self.service(name), Signal::SIGKILL).unwrap();
    }

    /// The process of a service.
    pub(crate) fn service(&self, name: &str) -> Pid {
        let run = self.services.as_ref().expect("the services run").id();
        let children = fs::read_to_string(format!("/proc/{run}/task/{run}/children")).unwrap();
        let is_it = |pid: &&str| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                line.split(|byte| *byte == 0).next().is_some_and(|path| path.ends_with(format!("/{name}").as_bytes()))
            })
        };
        let pid = children.split_whitespace().find(is_it).unwrap_or_else(|| panic!("{name} does not run: {children}"));
        Pid::from_raw(pid.parse().unwrap())
    }

    /// Waits until `sealtape run` has ended by itself, as it does when a service died; takes stale mounts away.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut services = self.services.take().expect("the services run");
        let begun = Instant::now();
        loop {
            if let Some(status) = services.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > STOP_LIMIT {
                end(&mut services);
                panic!("the services do not end:\n{}", self.log());
            }
            std::thread::sleep(POLL);
        }
    }

    /// What the services said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join("services.log")
    }

    /// Takes away what is mounted in the home folder, as after a kill.
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).map(Path::new) {
            if point.starts_with(self.folder()) {
                let unmounted = Command::new("fusermount3").args(["-u", "-z"]).arg(point).status();
                if !unmounted.is_ok_and(|status| status.success()) {
                    eprintln!("{} stays mounted", point.display());
                }
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut services) = self.services.take() {
            end(&mut services);
        }
        self.unmount();
        if std::thread::panicking() {
            eprintln!("--- services\n{}", self.log());
        }
    }
}

/// Asks to end, then kills: the services end with the process that started them. `None` when they had to be killed.
fn end(services: &mut Child) -> Option<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(services.id()).ok()?);
    if let Ok(Some(status)) = services.try_wait() {
        return Some(status);
    }
    let begun = Instant::now();
    if kill(pid, Signal::SIGTERM).is_ok() {
        while begun.elapsed() < STOP_LIMIT {
            if let Ok(Some(status)) = services.try_wait() {
                return Some(status);
            }
            std::thread::sleep(POLL);
        }
    }
    let killed = services.kill().and_then(|()| services.wait());
    if let Err(error) = killed {
        eprintln!("process {pid} cannot be killed: {error}");
    }
    None
}

#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
