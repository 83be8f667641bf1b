//! The key authority's side of a token: a worker process with deadlines.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::error::TokenError;
use super::pin::{PinLatch, PinSource};
use super::uri::Uri;
use super::wire::{Area, Reply, Request, SignAlgorithm, WrapMechanism, WrapWith, receive, send};
use crate::frame::Deadline;
use crate::hex::HexBytes;
use crate::secret::{DataKey, Pin};

/// The hidden argument with which an executable becomes a worker: its `main` calls [`super::worker_main`] then.
pub const WORKER_ARGUMENT: &str = "pkcs11-worker";

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl WorkerCommand {
    /// The executable that runs now, with [`WORKER_ARGUMENT`]; right even after the file on disk was replaced.
    #[must_use]
    pub fn this_executable() -> Self {
        Self { program: "/proc/self/exe".into(), arguments: vec![WORKER_ARGUMENT.into()] }
    }

    /// Another executable, with [`WORKER_ARGUMENT`].
    pub fn executable(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: vec![WORKER_ARGUMENT.into()] }
    }
}

/// Deadlines.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Loading the module and logging in.
    pub start: Duration,
    /// Any other call, the ladder inside the worker included.
    pub call: Duration,
    /// How long nothing is tried after a worker hung or failed to start.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { start: Duration::from_secs(15), call: Duration::from_secs(10), pause: Duration::from_millis(500) }
    }
}

/// A token and how to reach it.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// How a worker is started.
    pub worker: WorkerCommand,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The token.
    pub uri: Uri,
    /// Where the PIN comes from.
    pub pin: PinSource,
    /// The mark of a rejected PIN.
    pub latch: PinLatch,
    /// Environment for the module, such as `SOFTHSM2_CONF`.
    pub environment: Vec<(String, String)>,
    /// Deadlines.
    pub limits: Limits,
}

/// A token behind a worker process. Calls are served one after the other.
#[derive(Debug)]
pub struct Token {
    config: TokenConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    worker: Option<Worker>,
    starts: u64,
    failed: Option<(Instant, TokenError)>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    socket: UnixStream,
}

impl Worker {
    fn start(command: &WorkerCommand, environment: &[(String, String)]) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(&command.program)
            .arg0("sealtape-pkcs11-worker")
            .args(&command.arguments)
            .env_remove("CREDENTIALS_DIRECTORY")
            .envs(environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // An interrupt from a terminal goes to its whole foreground group: the last checkpoint still has to be signed.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, socket: ours })
    }

    fn call(&mut self, request: &Request, secret: &Area, limit: Duration) -> Result<(Reply, Area), TokenError> {
        let mut stream = Deadline::new(&self.socket, limit);
        let answer = send(&mut stream, request, secret).and_then(|()| receive(&mut stream));
        answer.map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut => TokenError::Hung {
                call: request.name().into(),
                limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            },
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                TokenError::Crashed { call: request.name().into() }
            }
            _ => TokenError::Worker { what: e.to_string() },
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SIGKILL: a hung module reacts to nothing else, and the worker holds no state worth a farewell.
        if let Err(e) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!("ending the PKCS#11 worker {}: {e}", self.child.id());
        }
    }
}

fn fault(e: impl ToString) -> TokenError {
    TokenError::Worker { what: e.to_string() }
}

impl Token {
    /// A token; its worker starts with the first call.
    #[must_use]
    pub fn new(config: TokenConfig) -> Self {
        Self { config, state: Mutex::new(State::default()) }
    }

    /// Its URI.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.config.uri
    }

    /// The PKCS#11 module.
    #[must_use]
    pub fn module(&self) -> &std::path::Path {
        &self.config.module
    }

    /// The PIN latch.
    #[must_use]
    pub fn latch(&self) -> &PinLatch {
        &self.config.latch
    }

    /// How often a worker was started, and the process id of the present one.
    #[must_use]
    pub fn worker(&self) -> (u64, Option<u32>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.starts, state.worker.as_ref().map(|w| w.child.id()))
    }

    /// Clears the PIN latch.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn clear_latch(&self) -> io::Result<()> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed = None;
        self.config.latch.clear()
    }

    fn attach(&self, state: &mut State) -> Result<(), TokenError> {
        self.config.latch.check()?;
        if let Some((until, error)) = &state.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let uri = self.config.uri.to_string();
        let pin = self.config.pin.take(&uri)?;
        state.starts += 1;
        let result = (|| {
            let mut worker = Worker::start(&self.config.worker, &self.config.environment).map_err(fault)?;
            let request = Request::Attach { module: self.config.module.clone(), uri: Some(uri.clone()) };
            let secret = Area::pin(&pin).map_err(fault)?;
            match worker.call(&request, &secret, self.config.limits.start)?.0 {
                Reply::Done => Ok(worker),
                Reply::Failed(e) => Err(e),
                _ => Err(fault("unexpected reply")),
            }
        })();
        match result {
            Ok(worker) => {
                state.failed = None;
                state.worker = Some(worker);
                Ok(())
            }
            Err(e) => Err(self.note(state, e)),
        }
    }

    /// Draws the consequences of a failure.
    fn note(&self, state: &mut State, error: TokenError) -> TokenError {
        match &error {
            TokenError::PinIncorrect | TokenError::PinLocked => {
                state.worker = None;
                if let Err(worse) = self.config.latch.set(&self.config.uri.to_string()) {
                    // Without the mark on disk at least this process must not try again.
                    state.failed = Some((Instant::now() + Duration::from_secs(u64::from(u32::MAX)), worse.clone()));
                    return worse;
                }
            }
            TokenError::Hung { .. } | TokenError::Crashed { .. } | TokenError::Worker { .. } => {
                tracing::error!("{error}");
                state.worker = None;
                if !matches!(error, TokenError::Crashed { .. }) {
                    state.failed = Some((Instant::now() + self.config.limits.pause, error.clone()));
                }
            }
            _ => {}
        }
        error
    }

    fn call(&self, request: &Request) -> Result<(Reply, Area), TokenError> {
        self.call_with(request, &Area::empty().map_err(fault)?)
    }

    fn call_with(&self, request: &Request, secret: &Area) -> Result<(Reply, Area), TokenError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut again = request.repeatable();
        loop {
            if state.worker.is_none() {
                self.attach(&mut state)?;
            }
            let worker = state.worker.as_mut().ok_or_else(|| fault("no worker"))?;
            match worker.call(request, secret, self.config.limits.call) {
                Ok((Reply::Failed(e), _)) => return Err(self.note(&mut state, e)),
                Ok(answer) => return Ok(answer),
                Err(e) => {
                    let crashed = matches!(e, TokenError::Crashed { .. });
                    let e = self.note(&mut state, e);
                    // A worker that was killed between two calls shows only now: once more with a new one.
                    if !(crashed && again) {
                        return Err(e);
                    }
                    again = false;
                }
            }
        }
    }

    /// Makes a KEK in the token and checks its attributes.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn make_kek(&self, id: Uuid, label: &str, mechanism: WrapMechanism) -> Result<(), TokenError> {
        match self.call(&Request::MakeKek { id, label: label.into(), mechanism })?.0 {
            Reply::Done => Ok(()),
            _ => Err(fault("unexpected reply")),
        }
    }

    /// Reads a KEK's attributes and refuses one that could leave the token.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn check_kek(&self, id: Uuid, mechanism: WrapMechanism) -> Result<(), TokenError> {
        match self.call(&Request::CheckKek { id, mechanism })?.0 {
            Reply::Done => Ok(()),
            _ => Err(fault("unexpected reply")),
        }
    }

    /// Makes a data key in the token; gives it and its wrapped copies, each verified by unwrapping.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn make_data_key(&self, wraps: Vec<WrapWith>) -> Result<(DataKey, Vec<Vec<u8>>), TokenError> {
        let count = wraps.len();
        match self.call(&Request::MakeDataKey { wraps })? {
            (Reply::Blobs(blobs), area) if blobs.len() == count => {
                Ok((area.to_key().map_err(fault)?, blobs.into_iter().map(|b| b.0).collect()))
            }
            _ => Err(fault("unexpected reply")),
        }
    }

    /// Unwraps a data key.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn unwrap(&self, with: &WrapWith, blob: &[u8]) -> Result<DataKey, TokenError> {
        match self.call(&Request::Unwrap { with: with.clone(), blob: HexBytes(blob.to_vec()) })? {
            (Reply::Key, area) => area.to_key().map_err(fault),
            _ => Err(fault("unexpected reply")),
        }
    }

    /// Wraps a data key that comes from elsewhere (another token, a recovery copy); each copy is verified by unwrapping.
    ///
    /// # Errors
    /// [`TokenError`]; a token that takes no keys in the clear can only encrypt ([`WrapMechanism::AesGcm`]).
    pub fn wrap(&self, key: &DataKey, wraps: Vec<WrapWith>) -> Result<Vec<Vec<u8>>, TokenError> {
        let count = wraps.len();
        match self.call_with(&Request::Wrap { wraps }, &Area::key(key).map_err(fault)?)?.0 {
            Reply::Blobs(blobs) if blobs.len() == count => Ok(blobs.into_iter().map(|b| b.0).collect()),
            _ => Err(fault("unexpected reply")),
        }
    }

    /// Wraps the data key in `blob` under another KEK of this token, verified by unwrapping. The key stays with the token's worker.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn rewrap(&self, from: &WrapWith, blob: &[u8], to: &WrapWith) -> Result<Vec<u8>, TokenError> {
        let request = Request::Rewrap { from: from.clone(), blob: HexBytes(blob.to_vec()), to: to.clone() };
        match self.call(&request)?.0 {
            Reply::Blobs(blobs) => blobs.into_iter().next().map(|b| b.0).ok_or_else(|| fault("unexpected reply")),
            _ => Err(fault("unexpected reply")),
        }
    }

    /// Makes a signing key in the token; gives its public half: 32 bytes for Ed25519, 65 (uncompressed SEC1) for P-256.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn make_signing_key(&self, id: Uuid, label: &str, algorithm: SignAlgorithm) -> Result<Vec<u8>, TokenError> {
        match self.call(&Request::MakeSigningKey { id, label: label.into(), algorithm })?.0 {
            Reply::PublicKey(key) => Ok(key.0),
            _ => Err(fault("unexpected reply")),
        }
    }

    /// Signs.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn sign(&self, id: Uuid, algorithm: SignAlgorithm, data: &[u8]) -> Result<Vec<u8>, TokenError> {
        match self.call(&Request::Sign { id, algorithm, data: HexBytes(data.to_vec()) })?.0 {
            Reply::Signature(signature) => Ok(signature.0),
            _ => Err(fault("unexpected reply")),
        }
    }

    /// All mechanisms of the token, by PKCS#11 number.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn mechanisms(&self) -> Result<Vec<u64>, TokenError> {
        match self.call(&Request::Mechanisms)?.0 {
            Reply::Mechanisms(list) => Ok(list),
            _ => Err(fault("unexpected reply")),
        }
    }
}

/// Initialises a free slot's token and its user PIN; gives the token's URI.
///
/// # Errors
/// [`TokenError`]
pub fn init_token(
    worker: &WorkerCommand,
    module: &std::path::Path,
    environment: &[(String, String)],
    label: &str,
    so_pin: &Pin,
    user_pin: &Pin,
) -> Result<Uri, TokenError> {
    let limit = Limits::default().start;
    let mut worker = Worker::start(worker, environment).map_err(fault)?;
    let steps = [
        (Request::Attach { module: module.to_owned(), uri: None }, Area::empty()),
        (Request::InitToken { label: label.into() }, Area::pin(so_pin)),
        (Request::InitPin, Area::pin(user_pin)),
    ];
    let mut uri = None;
    for (request, secret) in steps {
        match worker.call(&request, &secret.map_err(fault)?, limit)?.0 {
            Reply::Failed(e) => return Err(e),
            Reply::Token(name) => uri = Some(name.parse()?),
            _ => {}
        }
    }
    uri.ok_or_else(|| fault("the token was not named"))
}
