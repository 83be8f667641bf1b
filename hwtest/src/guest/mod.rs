//! A Linux guest with a real SCSI stack, for machines that have neither one nor virtualisation hardware.
//!
//! A [`Guest`] boots a kernel of its own whose root folder is this machine's, read-only, runs one script with bash, and is gone
//! again. The script finds programs at the same paths as here, the job folder (writable) as its working directory, `/run`, `/tmp`-like
//! space in memory under `$TMPDIR`, and the functions of `hwtest/guest/lab.sh`. What it prints, its exit code and the
//! kernel's console come back as an [`Outcome`]; whatever keeps it from ending is an [`Error`].
//!
//! Several guests can run side by side. None leaves a process or a file behind, not even if the process that started it is killed.
//!
//! Deliberately absent: protection of the host. The script is root in the guest, and can mount the host's files writable.
//!
//! ```no_run
//! let outcome = sealtape_hwtest::guest::Guest::uml().module("st").run("lsscsi --version; cat /proc/modules")?;
//! assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
//! # Ok::<(), sealtape_hwtest::guest::Error>(())
//! ```

mod cpio;
mod error;
mod group;
mod job;
mod qemu;
mod uml;

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use error::{Error, LastWords};
use group::Group;
use job::JobFolder;

/// How often the host looks whether the guest has ended or printed something.
const LOOK: Duration = Duration::from_millis(10);

/// What a guest is to be.
#[derive(Debug, Clone)]
pub struct Guest {
    kind: Kind,
    memory_mib: u32,
    time_limit: Duration,
    environment: Vec<(String, String)>,
    modules: Vec<String>,
    folders: Vec<PathBuf>,
    stop: Option<Arc<AtomicBool>>,
}

/// What runs the guest's kernel.
#[derive(Debug, Clone)]
enum Kind {
    Uml,
    /// With the kernel in this folder, or the one that xtask has unpacked.
    Qemu(Option<PathBuf>),
}

/// What a script did that ran to its end.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The script's exit code, as the shell has it.
    pub exit_code: i32,
    /// Standard output and error of the script, in the order of printing. Bytes that are no UTF-8 are replaced.
    pub output: String,
    /// What the guest's kernel printed.
    pub console: String,
    /// From start to end, boot included.
    pub duration: Duration,
}

impl Guest {
    /// A guest by User-Mode Linux: one processor, 1 GiB of memory, a limit of two minutes.
    pub fn uml() -> Self {
        Self::new(Kind::Uml, Duration::from_secs(120))
    }

    /// A guest by QEMU with Debian's own kernel, as `cargo xtask lab --guest qemu` has put it into Cargo's target folder: one
    /// processor, 1 GiB of memory, a limit of ten minutes.
    pub fn qemu() -> Self {
        Self::new(Kind::Qemu(None), Duration::from_secs(600))
    }

    /// As [`qemu`](Self::qemu), with the kernel in `folder`: `boot/vmlinuz-VERSION` and `lib/modules/VERSION`, of one version.
    pub fn qemu_with_kernel(folder: impl Into<PathBuf>) -> Self {
        Self::new(Kind::Qemu(Some(folder.into())), Duration::from_secs(600))
    }

    fn new(kind: Kind, time_limit: Duration) -> Self {
        Self {
            kind,
            memory_mib: 1024,
            time_limit,
            environment: Vec::new(),
            modules: Vec::new(),
            folders: Vec::new(),
            stop: None,
        }
    }

    /// The guest's memory. The host gives only what the guest touches.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// The longest time from start to end, boot included. Then the guest is killed.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// An environment variable of the script. Nothing of this process's environment is handed on by itself.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// A kernel module to load before the script, with what it depends on. Parameters may follow: `"loop max_loop=2"`.
    #[must_use]
    pub fn module(mut self, module: impl Into<String>) -> Self {
        self.modules.push(module.into());
        self
    }

    /// A folder of the host that the script may write to, at the same path.
    #[must_use]
    pub fn writable(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push(folder.into());
        self
    }

    /// Kills the guest as soon as `flag` is true, for callers that are told to end.
    #[must_use]
    pub fn stop_when(mut self, flag: Arc<AtomicBool>) -> Self {
        self.stop = Some(flag);
        self
    }

    /// For the product's own chain: its binaries are those of the build that this program belongs to, their folder is `$BIN`, and the
    /// functions of `hwtest/guest/chain.sh` stand before the script.
    ///
    /// # Errors
    /// When the binaries have not been built.
    pub fn run_chain(&self, script: &str) -> Result<Outcome, Error> {
        let folder = binaries()?;
        let guest = self.clone().env("BIN", folder.display().to_string()).module("fuse");
        guest.run(&format!("{CHAIN}\n{script}"))
    }

    /// Boots, runs `script` with bash, and waits for the end.
    pub fn run(&self, script: &str) -> Result<Outcome, Error> {
        self.run_shown(script, &mut std::io::sink())
    }

    /// As [`run`](Self::run), with the script's output written to `to` while it comes.
    pub fn run_shown(&self, script: &str, to: &mut dyn Write) -> Result<Outcome, Error> {
        if self.memory_mib < 64 {
            return Err(Error::Asked(format!(
                "{} MiB of memory is too little: give the guest 64 or more",
                self.memory_mib
            )));
        }
        let job = JobFolder::new()?;
        job.fill(script, &self.environment, &self.modules, &self.folders)?;
        let console = job.create("console")?;
        let mut command = match &self.kind {
            Kind::Uml => uml::command(&job, self.memory_mib)?,
            Kind::Qemu(kernel) => qemu::command(&job, self.memory_mib, kernel.as_deref(), &self.folders)?,
        };
        command.stdin(Stdio::null()).stderr(console.try_clone().map_err(Error::host("the console's file"))?);
        command.stdout(console);

        let began = Instant::now();
        let mut shown = Shown { from: File::open(job.file("output")).map_err(Error::path(job.file("output")))?, to };
        let group = Group::start(command, job.path())?;
        let end = self.watch(&group, began, &mut shown)?;
        let status = group.end()?;
        shown.catch_up()?;
        let duration = began.elapsed();
        let outcome = conclude(&job, end, status, duration, self.time_limit);
        job.remove()?;
        outcome
    }

    fn watch(&self, group: &Group, began: Instant, shown: &mut Shown<'_>) -> Result<End, Error> {
        loop {
            shown.catch_up()?;
            if group.has_ended()? {
                return Ok(End::ByItself);
            }
            if began.elapsed() >= self.time_limit {
                return Ok(End::TimeLimit);
            }
            if self.stop.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Ok(End::Stopped);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Why watching ended.
enum End {
    ByItself,
    TimeLimit,
    Stopped,
}

/// The script's output on its way from the job folder to the caller.
struct Shown<'a> {
    from: File,
    to: &'a mut dyn Write,
}

impl Shown<'_> {
    fn catch_up(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 16384];
        loop {
            let length = self.from.read(&mut buffer).map_err(Error::host("reading the script's output"))?;
            let new = buffer.get(..length).unwrap_or_default();
            if new.is_empty() {
                return Ok(());
            }
            self.to
                .write_all(new)
                .and_then(|()| self.to.flush())
                .map_err(Error::host("showing the script's output"))?;
        }
    }
}

/// Reads from the job folder what has become of the script.
fn conclude(
    job: &JobFolder,
    end: End,
    status: ExitStatus,
    duration: Duration,
    limit: Duration,
) -> Result<Outcome, Error> {
    let last = job.last_words()?;
    if let Some(line) = panic_line(&last.console) {
        return Err(Error::Panicked { line, last });
    }
    match end {
        End::ByItself => {}
        End::TimeLimit => return Err(Error::TimeLimit { limit, last }),
        End::Stopped => return Err(Error::Stopped { last }),
    }
    if let Some(message) = job.text("failed")? {
        return Err(Error::NotReady { message: message.trim().to_owned(), last });
    }
    match job.text("exit")?.and_then(|code| code.trim().parse().ok()) {
        Some(exit_code) => Ok(Outcome { exit_code, output: last.output, console: last.console, duration }),
        None => Err(Error::NoResult { status: status.to_string(), last }),
    }
}

fn panic_line(console: &str) -> Option<String> {
    console.lines().find(|line| line.contains("Kernel panic - not syncing")).map(|line| line.trim().to_owned())
}

/// What `sealtape-lab-drive` and the services are started by.
const CHAIN: &str = include_str!("../../guest/chain.sh");

/// The folder of the binaries of this build: a test stands in its `deps`, a program in it.
fn binaries() -> Result<PathBuf, Error> {
    let own = std::env::current_exe()
        .map_err(|source| Error::Asked(format!("this program's own file is not known: {source}")))?;
    let folder = own
        .ancestors()
        .skip(1)
        .find(|folder| folder.join("sealtape-lab-drive").is_file() && folder.join("sealtape").is_file());
    folder.map(std::path::Path::to_path_buf).ok_or_else(|| {
        Error::Asked("sealtape and sealtape-lab-drive are not built: cargo build --workspace".to_owned())
    })
}
