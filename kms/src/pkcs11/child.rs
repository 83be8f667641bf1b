//! The key authority's side of a worker process: starting and ending it, and many calls at once over its one socket.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::TokenError;
use super::pin::PinLatch;
use super::token::WorkerCommand;
use super::wire::{Answer, Area, Call, Reply, Request, receive, send};
use crate::frame::Deadline;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn fault(e: impl ToString) -> TokenError {
    TokenError::Worker { what: e.to_string() }
}

fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModuleCommand {
    pub(super) worker: WorkerCommand,
    pub(super) module: PathBuf,
    pub(super) parameters: Option<String>,
    pub(super) environment: Vec<(String, String)>,
}

/// A module and the one process in which it runs, shared by the tokens behind it.
#[derive(Debug)]
pub(super) struct ModuleProcess {
    command: ModuleCommand,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Arc<Running>>,
    /// Number of the last process.
    epoch: u64,
    tokens: u32,
    failed: Option<(Instant, TokenError)>,
}

impl ModuleProcess {
    pub(super) fn new(command: ModuleCommand) -> Self {
        Self { command, state: Mutex::default() }
    }

    pub(super) fn command(&self) -> &ModuleCommand {
        &self.command
    }

    /// A number for one more token.
    pub(super) fn seat(&self) -> u32 {
        let mut state = locked(&self.state);
        state.tokens += 1;
        state.tokens
    }

    /// The process, if it runs.
    pub(super) fn running(&self) -> Option<Arc<Running>> {
        locked(&self.state).running.as_ref().filter(|r| r.is_open()).cloned()
    }

    /// The process id, without waiting for one that is just being started.
    pub(super) fn pid(&self) -> Option<u32> {
        let state = self.state.try_lock().ok()?;
        state.running.as_ref().filter(|r| r.is_open()).map(|r| r.pid)
    }

    /// The process, started if it does not run. After a failure nothing is tried for a while.
    pub(super) fn start(&self, limit: Duration, pause: Duration) -> Result<Arc<Running>, TokenError> {
        let mut state = locked(&self.state);
        if let Some(running) = state.running.as_ref().filter(|r| r.is_open()) {
            return Ok(Arc::clone(running));
        }
        if let Some((until, error)) = &state.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        state.running = None;
        state.epoch += 1;
        let started = Running::start(&self.command, state.epoch).and_then(|running| {
            let request =
                Request::Load { module: self.command.module.clone(), parameters: self.command.parameters.clone() };
            match running.call(0, 0, request, &Area::empty().map_err(fault)?, limit)?.0 {
                Reply::Done => Ok(Arc::new(running)),
                _ => Err(fault("unexpected reply")),
            }
        });
        match started {
            Ok(running) => {
                state.failed = None;
                state.running = Some(Arc::clone(&running));
                Ok(running)
            }
            Err(error) => {
                if !matches!(error, TokenError::Crashed { .. }) {
                    state.failed = Some((Instant::now() + pause, error.clone()));
                }
                Err(error)
            }
        }
    }

    /// Nothing is started before `pause` is over; who asks meanwhile hears `error`.
    pub(super) fn rest(&self, pause: Duration, error: &TokenError) {
        locked(&self.state).failed = Some((Instant::now() + pause, error.clone()));
    }

    /// Waits until a new process may be started.
    pub(super) fn wait_out(&self) {
        let left =
            locked(&self.state).failed.as_ref().map(|(until, _)| until.saturating_duration_since(Instant::now()));
        std::thread::sleep(left.unwrap_or_default().min(Duration::from_secs(5)));
    }

    /// Lets a new process be started at once.
    pub(super) fn forgive(&self) {
        locked(&self.state).failed = None;
    }
}

/// A process that runs, or ran.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) epoch: u64,
    pub(super) pid: u32,
    child: Mutex<Child>,
    writer: Mutex<UnixStream>,
    /// To close it while a writer is at work.
    socket: UnixStream,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    latches: Mutex<HashMap<u32, (PinLatch, String)>>,
}

#[derive(Debug)]
struct Waiting {
    open: bool,
    last: u64,
    calls: HashMap<u64, SyncSender<Answered>>,
}

type Answered = (Reply, Area);

impl std::fmt::Debug for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Area(secret)")
    }
}

impl Running {
    fn start(command: &ModuleCommand, epoch: u64) -> Result<Self, TokenError> {
        let start = || -> io::Result<(Child, UnixStream, UnixStream)> {
            let (ours, theirs) = UnixStream::pair()?;
            let reader = ours.try_clone()?;
            let child = Command::new(&command.worker.program)
                .arg0("sealtape-pkcs11-worker")
                .args(&command.worker.arguments)
                .env_remove("CREDENTIALS_DIRECTORY")
                .env_remove("NOTIFY_SOCKET")
                .envs(command.environment.iter().map(|(k, v)| (k, v)))
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                // An interrupt from a terminal goes to its whole foreground group: the last checkpoint still has to be signed.
                .process_group(0)
                .spawn()?;
            Ok((child, ours, reader))
        };
        let (child, writer, reader) = start().map_err(fault)?;
        let socket = writer.try_clone().map_err(fault)?;
        let waiting = Mutex::new(Waiting { open: true, last: 0, calls: HashMap::new() });
        let shared = Arc::new(Shared { waiting, latches: Mutex::default() });
        let running = Self {
            epoch,
            pid: child.id(),
            child: Mutex::new(child),
            writer: Mutex::new(writer),
            socket,
            shared: Arc::clone(&shared),
        };
        let read = move || shared.read(&reader);
        std::thread::Builder::new().name("pkcs11 answers".into()).spawn(read).map_err(fault)?;
        Ok(running)
    }

    pub(super) fn is_open(&self) -> bool {
        locked(&self.shared.waiting).open
    }

    /// Which latch is set when the worker says that the PIN of a token was rejected in between.
    pub(super) fn latch(&self, token: u32, latch: PinLatch, uri: String) {
        locked(&self.shared.latches).insert(token, (latch, uri));
    }

    /// Asks, and waits for the answer. When none comes in time the process is ended, and with it every other call under way.
    pub(super) fn call(
        &self,
        token: u32,
        lane: u16,
        request: Request,
        secret: &Area,
        limit: Duration,
    ) -> Result<Answered, TokenError> {
        let name = request.name();
        let until = Instant::now() + limit;
        let crashed = || TokenError::Crashed { call: name.into() };
        let (id, answer) = self.shared.expect().ok_or_else(crashed)?;
        let sent = {
            let writer = locked(&self.writer);
            send(&mut Deadline::new(&writer, limit), &Call { id, token, lane, request }, secret)
        };
        let hung = || {
            self.end();
            Err(TokenError::Hung { call: name.into(), limit_ms: millis(limit) })
        };
        if let Err(e) = sent {
            if e.kind() == io::ErrorKind::TimedOut {
                return hung();
            }
            self.end();
            return Err(crashed());
        }
        match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((Reply::Failed(e), _)) => Err(e),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => hung(),
            Err(RecvTimeoutError::Disconnected) => Err(crashed()),
        }
    }

    /// Ends a process in which a call hangs. Other lanes get a moment to come out of the module (it may be writing); then SIGKILL, for
    /// a hung module reacts to nothing else.
    pub(super) fn end(&self) {
        let others = self.shared.close() > 1;
        self.end_within(if others { A_MOMENT } else { Duration::ZERO });
    }

    fn end_within(&self, patience: Duration) {
        let farewell = || -> io::Result<()> {
            // To the worker this is its parent's end.
            match self.socket.shutdown(Shutdown::Write) {
                Err(e) if e.kind() != io::ErrorKind::NotConnected => return Err(e),
                _ => {}
            }
            let mut child = locked(&self.child);
            let until = Instant::now() + patience;
            while child.try_wait()?.is_none() {
                if Instant::now() >= until {
                    child.kill()?;
                    child.wait()?;
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        if let Err(e) = farewell() {
            tracing::warn!("ending the PKCS#11 worker {}: {e}", self.pid);
        }
    }
}

/// For calls of other lanes, when one hangs.
const A_MOMENT: Duration = Duration::from_millis(250);
/// For calls under way, when nothing hangs.
const NORMAL_END: Duration = Duration::from_secs(5);

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.close();
        self.end_within(NORMAL_END);
        // The reader has a descriptor of its own.
        if let Err(e) = self.socket.shutdown(Shutdown::Both) {
            tracing::debug!("closing the socket of the PKCS#11 worker: {e}");
        }
    }
}

impl Shared {
    /// A number for a call, and where its answer will come.
    fn expect(&self) -> Option<(u64, Receiver<Answered>)> {
        let mut waiting = locked(&self.waiting);
        if !waiting.open {
            return None;
        }
        waiting.last += 1;
        let (to, from) = sync_channel(1);
        let id = waiting.last;
        waiting.calls.insert(id, to);
        Some((id, from))
    }

    /// Everybody who waits hears that the process ended; gives how many calls were under way.
    fn close(&self) -> usize {
        let mut waiting = locked(&self.waiting);
        waiting.open = false;
        waiting.calls.drain().count()
    }

    fn read(&self, socket: &UnixStream) {
        loop {
            match receive::<Answer>(&mut &*socket) {
                Ok((Answer { id: 0, token, reply }, _)) => self.notice(token, &reply),
                Ok((answer, area)) => {
                    let caller = locked(&self.waiting).calls.remove(&answer.id);
                    if let Some(caller) = caller {
                        // One that gave up has ended the process, or is about to.
                        let _ = caller.try_send((answer.reply, area));
                    }
                }
                Err(e) => {
                    if e.kind() != io::ErrorKind::UnexpectedEof {
                        tracing::error!("the PKCS#11 worker's answers cannot be read: {e}");
                    }
                    self.close();
                    return;
                }
            }
        }
    }

    fn notice(&self, token: u32, reply: &Reply) {
        if let Reply::Failed(e @ (TokenError::PinIncorrect | TokenError::PinLocked)) = reply
            && let Some((latch, uri)) = locked(&self.latches).get(&token)
        {
            tracing::error!("{uri}: {e}");
            if let Err(e) = latch.set(uri) {
                tracing::error!("{e}");
            }
        }
    }
}
