//! The stage of the demo: a fresh folder, the services in it, and taking all of it down again
//! whatever happens: at the end, on an error, on Ctrl-C and on SIGTERM.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, geteuid};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::command::{self, Profile, output};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Leaves room for `/PID/home/run/` and the longest name of a socket.
const LONGEST_FOLDER: usize = 60;

/// Beside the folder of a demo that was left running: the process to stop.
const PID_FILE: &str = "service.pid";

/// Everything that has to be taken down.
#[derive(Default)]
struct Standing {
    services: Option<Child>,
    /// Removed at the end; `None` when it is to stay.
    folder: Option<PathBuf>,
    /// Removed as well.
    others: Vec<PathBuf>,
}

pub(crate) struct Stage {
    folder: PathBuf,
    sealtape: PathBuf,
    node: OnceLock<PathBuf>,
    standing: Arc<Mutex<Standing>>,
}

impl Stage {
    /// A fresh folder below the target folder. From here on the signals that end a program clean up first.
    pub(crate) fn set(profile: Profile) -> Result<Self> {
        let sealtape = command::binaries(profile)?.join("sealtape");
        if !sealtape.is_file() {
            bail!("{} is not built; leave out --no-build", sealtape.display());
        }
        let demos = demos()?;
        sweep(&demos)?;
        let folder = demos.join(std::process::id().to_string());
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;

        let standing = Arc::new(Mutex::new(Standing { folder: Some(folder.clone()), ..Standing::default() }));
        take_down_on_signal(Arc::clone(&standing))?;
        Ok(Self { folder, sealtape, node: OnceLock::new(), standing })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A folder elsewhere that goes with this one.
    pub(crate) fn remove_too(&self, folder: &Path) {
        self.standing().others.push(folder.to_owned());
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// The node of the first drive that does not rewind when it is closed, as the data path tells it.
    pub(crate) fn node(&self) -> Result<&Path> {
        self.node.get().map(PathBuf::as_path).context("the services are not started")
    }

    /// `sealtape --home HOME`, to be completed.
    pub(crate) fn sealtape(&self) -> Command {
        let mut command = Command::new(&self.sealtape);
        command.arg("--home").arg(self.home()).stdin(Stdio::null());
        command
    }

    /// `sealtape` as in the hands of somebody who has no installation of their own.
    pub(crate) fn sealtape_elsewhere(&self) -> Command {
        let mut command = Command::new(&self.sealtape);
        command.stdin(Stdio::null());
        command
    }

    /// Starts both services and waits until they answer and the node is there.
    pub(crate) fn start_services(&self) -> Result<Duration> {
        let began = Instant::now();
        let log = self.folder.join("services.log");
        let sink = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
        let mut run = self.sealtape();
        // A group of its own: Ctrl-C at the terminal reaches the demo, which then stops things in order.
        run.arg("run").stdout(sink.try_clone()?).stderr(sink).process_group(0);
        let child = run.spawn().with_context(|| format!("cannot run {}", command::shown(&run)))?;
        std::fs::write(self.folder.join(PID_FILE), child.id().to_string())?;
        self.standing().services = Some(child);

        loop {
            if let Some(services) = &mut self.standing().services
                && let Some(status) = services.try_wait()?
            {
                return Err(anyhow!("the services ended at once ({status}):\n{}", tail(&log)));
            }
            if let Some(node) = self.ask_for_node()
                && node.exists()
            {
                self.node.get_or_init(|| node);
                return Ok(began.elapsed());
            }
            if began.elapsed() > START_LIMIT {
                bail!("no answer from the services, or no node, in {} s:\n{}", START_LIMIT.as_secs(), tail(&log));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Nothing as long as the data path does not answer.
    fn ask_for_node(&self) -> Option<PathBuf> {
        let drives = output(self.sealtape().args(["drive", "list", "--json"])).ok()?;
        let drives: serde_json::Value = serde_json::from_str(&drives).ok()?;
        drives[0]["nodes"]["non_rewinding"].as_str().map(PathBuf::from)
    }

    /// Stops them as an operator would, and insists on a clean exit.
    pub(crate) fn stop_services(&self) -> Result<()> {
        let services = self.standing().services.take();
        let Some(mut services) = services else { return Ok(()) };
        let status = stop(&mut services)?;
        if !status.success() {
            bail!("the services ended with {status}:\n{}", tail(&self.folder.join("services.log")));
        }
        Ok(())
    }

    /// Leaves folder and services standing; gives the process to stop by hand.
    pub(crate) fn leave_standing(&self) -> Option<u32> {
        let mut standing = self.standing();
        standing.folder = None;
        standing.services.take().map(|services| services.id())
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        take_down(&mut self.standing());
    }
}

fn take_down(standing: &mut Standing) {
    if let Some(mut services) = standing.services.take()
        && let Err(error) = stop(&mut services)
    {
        eprintln!("demo: {error:#}");
    }
    for folder in standing.folder.take().into_iter().chain(standing.others.drain(..)) {
        if let Err(error) = remove(&folder) {
            eprintln!("demo: {error:#}");
        }
    }
}

/// SIGTERM, and SIGKILL to the whole group when that is not heeded.
fn stop(services: &mut Child) -> Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(services.id())?);
    let began = Instant::now();
    if services.try_wait()?.is_none() {
        kill(pid, Signal::SIGTERM).context("stopping the services")?;
    }
    while began.elapsed() < STOP_LIMIT {
        if let Some(status) = services.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(POLL);
    }
    killpg(pid, Signal::SIGKILL).context("killing the services")?;
    services.wait()?;
    bail!("the services did not stop in {} s and were killed", STOP_LIMIT.as_secs());
}

/// Unmounts what is still mounted below `folder`, then removes it.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    // The fifth field is the mount point; later mounts first, since they may stand on earlier ones.
    for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).map(Path::new) {
        if point.starts_with(folder) {
            output(Command::new("fusermount3").args(["-u", "-z"]).arg(point))?;
        }
    }
    std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
}

/// The folder of all demos. Sockets have short paths (108 bytes), so a checkout deep down cannot hold it.
fn demos() -> Result<PathBuf> {
    let below_target = command::target()?.join("demo");
    let folder = if below_target.as_os_str().len() <= LONGEST_FOLDER {
        below_target
    } else {
        std::env::temp_dir().join(format!("sealtape-demo-{}", geteuid()))
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| folder.display().to_string())?;
    let found = folder.symlink_metadata().with_context(|| folder.display().to_string())?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        bail!("{} is not a folder of this user; remove it", folder.display());
    }
    Ok(folder)
}

/// Removes what earlier demos left that could not clean up; one that still runs is left alone.
fn sweep(demos: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(demos) else { return Ok(()) };
    for entry in entries {
        let folder = entry?.path();
        match running(&folder) {
            Some(pid) => println!("an earlier demo still runs in {} (kill {pid} stops it)\n", folder.display()),
            None => remove(&folder)?,
        }
    }
    Ok(())
}

/// The process of the services of the demo in `folder`, if it lives: a demo in its first moments or
/// between stopping and starting is known by its own process, whose id is the folder's name.
fn running(folder: &Path) -> Option<u32> {
    let own = folder.file_name()?.to_str()?.parse().ok();
    let services = std::fs::read_to_string(folder.join(PID_FILE)).ok().and_then(|pid| pid.trim().parse().ok());
    let mentions = |pid: &u32, what: &str| {
        let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command_line).contains(what)
    };
    let folder = folder.to_string_lossy();
    services.filter(|pid| mentions(pid, &folder)).or_else(|| own.filter(|pid| mentions(pid, "xtask")))
}

fn take_down_on_signal(standing: Arc<Mutex<Standing>>) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(entered);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
                _ = hangup.recv() => SignalKind::hangup(),
            }
        });
        eprintln!("\ndemo: interrupted, cleaning up");
        // The lock stays held: the story does not go on while its stage is taken down.
        let mut standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
        take_down(&mut standing);
        std::process::exit(128 + number.as_raw_value());
    })?;
    Ok(())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_else(|error| format!("{}: {error}", log.display()));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].iter().map(|line| format!("    {line}\n")).collect()
}
