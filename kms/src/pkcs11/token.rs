//! The key authority's side of a token: lanes, deadlines, the latch, and what is asked of the token.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::child::{ModuleCommand, ModuleProcess, Running, fault};
use super::error::TokenError;
use super::pin::{PinLatch, PinSource};
use super::profile::TokenReport;
use super::uri::Uri;
use super::wire::{Area, Reply, Request, SignAlgorithm, UnwrapTemplate, WrapMechanism, WrapWith};
use crate::hex::HexBytes;
use crate::secret::{DataKey, Pin};

/// The hidden argument with which an executable becomes a worker: its `main` calls [`super::worker_main`] then.
pub const WORKER_ARGUMENT: &str = "pkcs11-worker";

/// How a worker is started.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Any other call, the ladder inside the worker included; as long a call waits for a free session before.
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
    /// What the module takes as `pReserved` of `C_Initialize`; few do (NSS).
    pub parameters: Option<String>,
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

/// Sessions of a token in which requests run at once, unless told otherwise.
pub const DEFAULT_LANES: u16 = 4;

/// A token behind a worker process, which it may share with other tokens of the module. As many calls run at once as the token has
/// lanes; more wait, at the longest one call's limit.
#[derive(Debug)]
pub struct Token {
    config: TokenConfig,
    lanes: Lanes,
    template: Option<UnwrapTemplate>,
    module: Arc<ModuleProcess>,
    /// This token's number in the worker.
    seat: u32,
    starts: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The process that it was opened in.
    attached: Option<u64>,
    failed: Option<(Instant, TokenError)>,
}

/// The lanes that are free.
#[derive(Debug)]
struct Lanes {
    count: u16,
    free: Mutex<Vec<u16>>,
    freed: Condvar,
}

/// A lane, until dropped.
struct Taken<'a> {
    lanes: &'a Lanes,
    lane: u16,
}

impl Lanes {
    fn new(count: u16) -> Self {
        Self { count, free: Mutex::new((0..count).rev().collect()), freed: Condvar::new() }
    }

    fn take(&self, limit: Duration) -> Result<Taken<'_>, TokenError> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_timeout_while(free, limit, |free| free.is_empty());
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let lane = free.pop().ok_or(TokenError::Busy { sessions: self.count, limit_ms })?;
        Ok(Taken { lanes: self, lane })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.lanes.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.lane);
        self.lanes.freed.notify_one();
    }
}

impl Token {
    /// A token with a worker process of its own, which starts with the first call.
    #[must_use]
    pub fn new(config: TokenConfig) -> Self {
        Self::beside(config, &[])
    }

    /// A token that shares the worker process of one of `others` when it is behind the same module: `C_Finalize` hits all tokens of
    /// a module in a process, so the process has to know them all.
    #[must_use]
    pub fn beside(config: TokenConfig, others: &[Arc<Self>]) -> Self {
        let command = ModuleCommand {
            worker: config.worker.clone(),
            module: config.module.clone(),
            parameters: config.parameters.clone(),
            environment: config.environment.clone(),
        };
        let known = others.iter().map(|t| &t.module).find(|m| *m.command() == command);
        let module = known.map_or_else(|| Arc::new(ModuleProcess::new(command)), Arc::clone);
        let seat = module.seat();
        let lanes = Lanes::new(DEFAULT_LANES);
        Self { config, lanes, template: None, module, seat, starts: AtomicU64::new(0), state: Mutex::default() }
    }

    /// How many sessions work at once; a network HSM gains by more, up to its licence.
    #[must_use]
    pub fn with_lanes(mut self, lanes: u16) -> Self {
        self.lanes = Lanes::new(lanes.clamp(1, 64));
        self
    }

    /// The unwrap template of the token's profile, so that it is not searched for.
    #[must_use]
    pub fn with_template(mut self, template: UnwrapTemplate) -> Self {
        self.template = Some(template);
        self
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

    /// How to reach it.
    #[must_use]
    pub fn config(&self) -> &TokenConfig {
        &self.config
    }

    /// How often the token was opened in a new worker process, and the process id of the present one.
    #[must_use]
    pub fn worker(&self) -> (u64, Option<u32>) {
        (self.starts.load(Ordering::Relaxed), self.module.pid())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clears the PIN latch.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn clear_latch(&self) -> io::Result<()> {
        self.state().failed = None;
        self.module.forgive();
        self.config.latch.clear()
    }

    /// The worker process with this token open in it.
    fn attached(&self) -> Result<Arc<Running>, TokenError> {
        let mut state = self.state();
        if let Some(running) = self.module.running()
            && state.attached == Some(running.epoch)
        {
            return Ok(running);
        }
        state.attached = None;
        self.config.latch.check()?;
        if let Some((until, error)) = &state.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let uri = self.config.uri.to_string();
        let pin = self.config.pin.take(&uri)?;
        self.starts.fetch_add(1, Ordering::Relaxed);
        let limits = self.config.limits;
        let opened = self.module.start(limits.start, limits.pause).and_then(|running| {
            running.latch(self.seat, self.config.latch.clone(), uri.clone());
            let unresolved = self.config.latch.begin_login()?;
            let request =
                Request::Attach { uri: uri.clone(), lanes: self.lanes.count, template: self.template, unresolved };
            let secret = Area::pin(&pin).map_err(fault)?;
            let answer = running.call(self.seat, 0, request, &secret, limits.start);
            if !answer.as_ref().is_err_and(cut_off) {
                self.config.latch.end_login();
            }
            match answer?.0 {
                Reply::Done => Ok(running),
                _ => Err(fault("unexpected reply")),
            }
        });
        match opened {
            Ok(running) => {
                state.failed = None;
                state.attached = Some(running.epoch);
                Ok(running)
            }
            Err(error) => Err(self.note(&mut state, error)),
        }
    }

    /// Draws the consequences of a failure.
    fn note(&self, state: &mut State, error: TokenError) -> TokenError {
        match &error {
            TokenError::PinIncorrect | TokenError::PinLocked | TokenError::PinInDoubt => {
                state.attached = None;
                if let Err(worse) = self.config.latch.set(&self.config.uri.to_string()) {
                    // Without the mark on disk at least this process must not try again.
                    state.failed = Some((Instant::now() + Duration::from_secs(u64::from(u32::MAX)), worse.clone()));
                    return worse;
                }
            }
            TokenError::Hung { .. } | TokenError::Worker { .. } => {
                tracing::error!("{error}");
                self.module.rest(self.config.limits.pause, &error);
            }
            TokenError::Crashed { .. } => tracing::error!("{error}"),
            // So that the token is looked for again, and not in a process where it was open once.
            TokenError::TokenMissing { .. } => state.attached = None,
            _ => {}
        }
        error
    }

    pub(super) fn call(&self, request: &Request) -> Result<(Reply, Area), TokenError> {
        self.call_with(request, &Area::empty().map_err(fault)?)
    }

    fn call_with(&self, request: &Request, secret: &Area) -> Result<(Reply, Area), TokenError> {
        self.call_within(request, secret, self.config.limits.call)
    }

    fn call_within(&self, request: &Request, secret: &Area, limit: Duration) -> Result<(Reply, Area), TokenError> {
        let lane = self.lanes.take(self.config.limits.call)?;
        let mut again = request.repeatable();
        loop {
            let running = self.attached()?;
            let error = match running.call(self.seat, lane.lane, request.clone(), secret, limit) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let error = self.note(&mut self.state(), error);
            // The process ended, before the call or during it, by a crash or because the call of another lane hung: once more with a
            // new one.
            if !(matches!(error, TokenError::Crashed { .. }) && again) {
                return Err(error);
            }
            again = false;
            self.module.wait_out();
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

    /// Runs the tests of enrolment, with keys made for them and removed again.
    ///
    /// # Errors
    /// [`TokenError`] when they cannot be run; what they find is in the report.
    pub fn probe(&self) -> Result<TokenReport, TokenError> {
        let limit = PROBE_LIMIT.max(self.config.limits.call * 4);
        match self.call_within(&Request::Probe, &Area::empty().map_err(fault)?, limit)?.0 {
            Reply::Report(report) => Ok(*report),
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

/// As long may the tests of enrolment take, at least: a few hundred calls.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

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
    let command = ModuleCommand {
        worker: worker.clone(),
        module: module.to_owned(),
        parameters: None,
        environment: environment.to_vec(),
    };
    let process = ModuleProcess::new(command);
    let running = process.start(limit, Duration::ZERO)?;
    let so_pin = Area::pin(so_pin).map_err(fault)?;
    running.call(0, 0, Request::InitToken { label: label.into() }, &so_pin, limit)?;
    match running.call(0, 0, Request::InitPin, &Area::pin(user_pin).map_err(fault)?, limit)?.0 {
        Reply::Token(name) => name.parse(),
        _ => Err(fault("the token was not named")),
    }
}

/// Whether it is unknown how a login ended.
fn cut_off(error: &TokenError) -> bool {
    matches!(error, TokenError::Hung { .. } | TokenError::Crashed { .. } | TokenError::Worker { .. })
}
