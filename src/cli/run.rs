//! `run`: both services in the foreground.
//!
//! The key authority starts first, the data path second; they stop in the other order, so that the data path can still
//! record where the media end. None is started again: when one dies, the other is stopped, and the command fails.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, stderr, stdin};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval, timeout};

use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::table;
use crate::control::DriveStatus;
use crate::control::client::Client;
use crate::service::config::{Config, PinSource};
use crate::service::home::Home;
use crate::service::notify;

/// A service that is not ready after this is given up. (A person who types a PIN has no deadline.)
const LONGEST_START: Duration = Duration::from_secs(90);
/// Signals that come within this time after the first are the same wish to stop.
const SAME_BREATH: Duration = Duration::from_secs(1);
/// A data path that has not synchronised its drives and stopped after this is killed.
const LONGEST_STOP: Duration = Duration::from_secs(300);
/// A key authority has nothing to wait for but its token.
const LONGEST_KEYD_STOP: Duration = Duration::from_secs(60);

/// Run both services in the foreground until interrupted.
#[derive(Debug, Args)]
pub(super) struct Run {}

/// A service that was started.
struct Service {
    name: &'static str,
    child: Child,
    /// It says when it is ready, and when it stops: somebody has to be there.
    _heard: Rc<Heard>,
}

/// A socket on which a service tells its state; its name goes with it.
struct Heard {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Heard {
    fn bind(path: PathBuf) -> Result<Self, Failure> {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::file("removing the stale socket", &path, &e));
            }
            Ok(()) | Err(_) => {}
        }
        let socket = UnixDatagram::bind(&path).map_err(|e| Failure::file("making the socket", &path, &e))?;
        Ok(Self { socket, path })
    }

    async fn ready(&self) -> Result<(), Failure> {
        let mut datagram = [0; 4096];
        loop {
            let length = self.socket.recv(&mut datagram).await.map_err(|e| system("hearing from the service", &e))?;
            if notify::says_ready(&datagram[..length]) {
                return Ok(());
            }
        }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), error = %e, "a socket could not be removed");
        }
    }
}

/// What ended the wait.
enum Event {
    Asked(&'static str),
    Died(&'static str, ExitStatus),
}

impl Run {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let config = Config::load(home)?;
        home.make_run().map_err(|e| Failure::file("making the folder", &home.run(), &e))?;
        let _alone = alone(home)?;
        if config.keyd.pin == PinSource::Prompt && !stdin().is_terminal() {
            return Err(Failure::new(
                Exit::Configuration,
                format!("{} says pin = \"prompt\", and there is no terminal to ask on", config.file.display()),
                "name a file or a systemd credential there, or run this on a terminal",
            ));
        }
        // The services end with the thread that started them: it has to be this one.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| system("starting", &e))?.block_on(supervise(home, &config, output))
    }
}

/// A second one in the same home folder would take the first one's sockets away.
fn alone(home: &Home) -> Result<Flock<File>, Failure> {
    let path = home.run().join("run.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|e| Failure::file("opening the lock", &path, &e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        Failure::new(
            Exit::Busy,
            format!(
                "sealtape run is at work in {} already ({} is locked: {errno})",
                home.path().display(),
                path.display()
            ),
            "stop it first, or use another home folder (--home DIR)",
        )
    })
}

async fn supervise(home: &Home, config: &Config, output: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut running: Vec<Service> = Vec::new();
    let outcome = async {
        for name in ["sealtape-keyd", "sealtaped"] {
            let prompts = name == "sealtape-keyd" && config.keyd.pin == PinSource::Prompt;
            if let Some(event) = start(home, name, prompts, &mut running, &mut signals).await? {
                return Ok(event);
            }
        }
        let drives = Client::connect(&home.data_socket())?.drives()?;
        output.value(&drives, |drives| nodes(drives))?;
        output.note("ready; stop with Ctrl-C");
        if let Err(e) = notify::ready() {
            tracing::warn!(error = %e, "the service manager cannot be told that the services are ready");
        }
        Ok::<_, Failure>(wait(&mut running, &mut signals).await)
    }
    .await;
    if let Ok(Event::Asked(signal)) = outcome {
        output.note(&format!("{signal}: stopping"));
    }
    let stopped = stop(running, &mut signals, output).await;
    match outcome? {
        Event::Asked(_) => stopped,
        Event::Died(name, status) => Err(Failure::new(
            Exit::Failed,
            format!("{name} ended by itself ({status}); the other service was stopped too"),
            "its last lines above say why; mend that, and run this again",
        )),
    }
}

/// The signals that ask to stop.
struct Signals([(tokio::signal::unix::Signal, &'static str); 3]);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let hear = |kind| signal(kind).map_err(|e| system("hearing signals", &e));
        Ok(Self([
            (hear(SignalKind::interrupt())?, "interrupted"),
            (hear(SignalKind::terminate())?, "asked to end"),
            (hear(SignalKind::hangup())?, "the terminal is gone"),
        ]))
    }

    async fn next(&mut self) -> &'static str {
        let [(a, interrupt), (b, terminate), (c, hangup)] = &mut self.0;
        tokio::select! {
            _ = a.recv() => interrupt,
            _ = b.recv() => terminate,
            _ = c.recv() => hangup,
        }
    }
}

/// Starts a service and waits until it is ready; for one that `prompts` a person, without a limit. An event instead means that it never became ready.
async fn start(
    home: &Home,
    name: &'static str,
    prompts: bool,
    running: &mut Vec<Service>,
    signals: &mut Signals,
) -> Result<Option<Event>, Failure> {
    let limit = if prompts { Duration::MAX } else { LONGEST_START };
    let heard = Rc::new(Heard::bind(home.notify_socket(name))?);
    let program = program(name)?;
    let mut command = Command::new(&program);
    if !prompts {
        // An interrupt from the terminal is for this process: it decides in which order the services stop, and their own
        // worker processes must live until then. Who asks for a PIN has to stay with the terminal.
        command.process_group(0);
    }
    let child = command
        .arg("--home")
        .arg(home.path())
        .arg(format!("--parent={}", std::process::id()))
        .env(notify::VARIABLE, &heard.path)
        .stdin(if name == "sealtape-keyd" { Stdio::inherit() } else { Stdio::null() })
        .stdout(Stdio::from(stderr())) // Stdout is for our own result.
        .spawn()
        .map_err(|e| Failure::file("starting", &program, &e))?;
    running.push(Service { name, child, _heard: Rc::clone(&heard) });
    tokio::select! {
        ready = timeout(limit, heard.ready()) => match ready {
            Ok(ready) => ready.map(|()| None),
            Err(_) => Err(Failure::new(
                Exit::NotRunning,
                format!("{name} was not ready after {} s", limit.as_secs()),
                "its last lines above say what it waits for; mend that, and run this again",
            )),
        },
        event = wait(running, signals) => Ok(Some(event)),
    }
}

/// Waits until a service ends, or somebody asks to stop.
async fn wait(running: &mut [Service], signals: &mut Signals) -> Event {
    let ends = running.iter_mut().map(|service| {
        Box::pin(async {
            match service.child.wait().await {
                Ok(status) => (service.name, status),
                // It cannot be waited for: then it is not ours any more.
                Err(e) => {
                    tracing::error!(service = service.name, error = %e, "a service cannot be waited for");
                    (service.name, ExitStatus::default())
                }
            }
        })
    });
    let mut ends: Vec<_> = ends.collect();
    tokio::select! {
        (name, status) = first(&mut ends) => Event::Died(name, status),
        asked = signals.next() => Event::Asked(asked),
    }
}

/// The first of several futures to be done.
async fn first<F: Future + Unpin>(futures: &mut [F]) -> F::Output {
    std::future::poll_fn(|context| {
        for future in futures.iter_mut() {
            if let std::task::Poll::Ready(output) = std::pin::Pin::new(future).poll(context) {
                return std::task::Poll::Ready(output);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Stops the services, the last one first.
async fn stop(running: Vec<Service>, signals: &mut Signals, output: &Output) -> Result<(), Failure> {
    let mut failure = None;
    for mut service in running.into_iter().rev() {
        if let Err(e) = stop_one(&mut service, signals, output).await {
            // The other one is to be stopped in any case.
            failure.get_or_insert(e);
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn stop_one(service: &mut Service, signals: &mut Signals, output: &Output) -> Result<(), Failure> {
    let name = service.name;
    let waiting = |e: std::io::Error| system(&format!("waiting for {name}"), &e);
    if service.child.try_wait().map_err(waiting)?.is_some() {
        return Ok(());
    }
    if let Some(pid) = service.child.id().and_then(|pid| i32::try_from(pid).ok()) {
        kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|e| system(&format!("stopping {name}"), &e.into()))?;
    }
    let (limit, lost) = match name {
        "sealtape-keyd" => (LONGEST_KEYD_STOP, "the last entries of the custody log have no checkpoint yet"),
        _ => (LONGEST_STOP, "what it had not synchronised is lost"),
    };
    let start = Instant::now();
    let mut reminder = interval(Duration::from_secs(10));
    reminder.reset();
    let killed = loop {
        tokio::select! {
            status = service.child.wait() => {
                let status = status.map_err(waiting)?;
                return match status.success() {
                    true => Ok(()),
                    false => Err(Failure::new(
                        Exit::Failed,
                        format!("{name} did not stop cleanly ({status})"),
                        "its last lines above say why; look at the drives after the next start: sealtape drive status",
                    )),
                };
            }
            _ = reminder.tick() => {
                if start.elapsed() > limit {
                    break format!("{name} did not stop within {} s", limit.as_secs());
                }
                output.note(&format!("waiting for {name} to stop; interrupt again to kill it"));
            }
            // timeout(1) and some supervisors ask twice in one breath, which is no second thought.
            _ = signals.next() => if start.elapsed() >= SAME_BREATH {
                break format!("{name} was not waited for");
            },
        }
    };
    service.child.kill().await.map_err(waiting)?;
    Err(Failure::new(
        Exit::Stopped,
        format!("{killed}, and was killed: {lost}"),
        "look at the drives after the next start: sealtape drive status",
    ))
}

/// The service's program stands beside this one.
fn program(name: &str) -> Result<PathBuf, Failure> {
    let here = std::env::current_exe().map_err(|e| system("finding this program's own folder", &e))?;
    let program = here.parent().unwrap_or(Path::new("/")).join(name);
    match program.is_file() {
        true => Ok(program),
        false => Err(Failure::new(
            Exit::Failed,
            format!("{} is missing", program.display()),
            "install all programs of Sealtape into one folder",
        )),
    }
}

fn nodes(drives: &[DriveStatus]) -> String {
    let rows: Vec<_> = drives
        .iter()
        .filter_map(|drive| drive.nodes.as_ref().map(|nodes| (drive, nodes)))
        .map(|(drive, nodes)| {
            [drive.name.clone(), nodes.non_rewinding.display().to_string(), nodes.rewinding.display().to_string()]
        })
        .collect();
    table(["DRIVE", "NODE", "NODE THAT REWINDS AT CLOSE"], &rows)
}

fn system(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{what} failed: {error}"), "check the limits of this user and machine")
}
