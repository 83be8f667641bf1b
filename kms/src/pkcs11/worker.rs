//! The worker process: one module, its tokens, a thread for each of their lanes, on the socket that is its standard input.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::object::ObjectClass;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

use super::blank::BlankToken;
use super::error::TokenError;
use super::module::{Module, Seat};
use super::rewrap::{Step, check_all, rewrap_all};
use super::under_way::UnderWay;
use super::wire::{Answer, Area, Call, Reply, Request, receive, send};
use crate::hex::HexBytes;

/// Serves PKCS#11 requests until the parent goes away; the body of the hidden command [`super::WORKER_ARGUMENT`].
///
/// # Errors
/// When it was not started by a key authority, or the socket fails.
pub fn worker_main() -> io::Result<()> {
    crate::secret::harden_process()?;
    crate::sys::drop_capabilities()?;
    // A service manager's signal reaches every process of the service: it is the parent that says when the end has come.
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).thread_block()?;
    let socket = take_socket()?;
    let under_way = Arc::new(UnderWay::default());
    watch_parent(socket.try_clone()?, Arc::clone(&under_way))?;
    let mut worker = Worker {
        out: Arc::new(Out { socket: Mutex::new(socket.try_clone()?), under_way }),
        module: None,
        blank: None,
        tokens: HashMap::new(),
    };
    loop {
        match receive::<Call<Request>>(&mut &socket) {
            Ok((call, area)) => worker.take(call, area)?,
            // The parent has gone: the normal end.
            Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                worker.out.under_way.leave(0)
            }
            Err(e) => return Err(e),
        }
    }
}

/// Moves the socket away from standard input, where a vendor's library might read, and puts /dev/null there.
fn take_socket() -> io::Result<UnixStream> {
    let copy: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    fcntl(&copy, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    let socket = UnixStream::from(copy);
    socket.peer_addr().map_err(|_| io::Error::other("this command is started by sealtape-keyd, not by hand"))?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

/// Ends the process when the parent is gone, even while the module hangs.
fn watch_parent(socket: UnixStream, under_way: Arc<UnderWay>) -> io::Result<()> {
    let watch = move || {
        loop {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => under_way.leave(1),
            }
            let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
            let [fd] = fds;
            if fd.revents().is_some_and(|r| r.intersects(gone)) {
                under_way.leave(0);
            }
        }
    };
    std::thread::Builder::new().name("parent".into()).spawn(watch)?;
    Ok(())
}

fn worker_fault(e: impl ToString) -> TokenError {
    TokenError::Worker { what: e.to_string() }
}

/// The way back, shared by all lanes.
struct Out {
    socket: Mutex<UnixStream>,
    under_way: Arc<UnderWay>,
}

impl Out {
    fn answer(&self, id: u64, token: u32, reply: Reply, secret: &Area) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = send(&mut &*socket, &Answer { id, token, reply }, secret) {
            // Half an answer would be taken for the beginning of the next.
            // The caller's call is over, and those of other lanes are not.
            eprintln!("sealtape-pkcs11-worker: {e}");
            drop(socket);
            self.under_way.leave(1);
        }
    }

    fn failed(&self, id: u64, token: u32, error: TokenError) {
        match Area::empty() {
            Ok(area) => self.answer(id, token, Reply::Failed(error), &area),
            Err(_) => self.under_way.leave(1),
        }
    }
}

struct Worker {
    out: Arc<Out>,
    module: Option<Arc<Module>>,
    blank: Option<BlankToken>,
    /// The lanes of each token: a thread each.
    tokens: HashMap<u32, Vec<SyncSender<Job>>>,
}

/// A call with its secret.
type Job = Box<(Call<Request>, Area)>;

/// A token's seat, once it is attached.
type OnceSeat = Mutex<Option<Arc<Seat>>>;

impl Worker {
    fn take(&mut self, call: Call<Request>, area: Area) -> io::Result<()> {
        let (id, token) = (call.id, call.token);
        let out = Arc::clone(&self.out);
        let Some(within) = out.under_way.begin() else { return Ok(()) };
        let served = match &call.request {
            Request::Load { module, parameters } => {
                self.load(module.clone(), parameters.as_deref()).map(|()| Reply::Done)
            }
            Request::InitToken { label } => self.init_token(&area, label).map(|()| Reply::Done),
            Request::InitPin => self.init_pin(&area),
            Request::Attach { lanes, .. } => match self.make_lanes(token, *lanes)? {
                Err(e) => Err(e),
                Ok(()) => return self.hand_on(call, area),
            },
            _ => return self.hand_on(call, area),
        };
        drop(within);
        match served {
            Ok(reply) => self.out.answer(id, token, reply, &Area::empty()?),
            Err(e) => self.out.failed(id, token, e),
        }
        Ok(())
    }

    fn load(&mut self, path: std::path::PathBuf, parameters: Option<&str>) -> Result<(), TokenError> {
        if self.module.is_some() {
            return Err(worker_fault("a module is loaded already"));
        }
        let out = Arc::clone(&self.out);
        let rejected = Box::new(move |token, error| out.failed(0, token, error));
        self.module = Some(Arc::new(Module::load(path, parameters, rejected)?));
        Ok(())
    }

    fn module(&self) -> Result<&Arc<Module>, TokenError> {
        self.module.as_ref().ok_or_else(|| worker_fault("no module is loaded"))
    }

    fn init_token(&mut self, area: &Area, label: &str) -> Result<(), TokenError> {
        let blank = BlankToken::initialise(self.module()?, area.to_pin().map_err(worker_fault)?, label)?;
        self.blank = Some(blank);
        Ok(())
    }

    fn init_pin(&mut self, area: &Area) -> Result<Reply, TokenError> {
        let blank = self.blank.take().ok_or_else(|| worker_fault("no token was initialised before"))?;
        let uri = blank.set_user_pin(self.module()?, &area.to_pin().map_err(worker_fault)?)?;
        Ok(Reply::Token(uri.to_string()))
    }

    fn make_lanes(&mut self, token: u32, lanes: u16) -> io::Result<Result<(), TokenError>> {
        let module = match self.module() {
            Ok(module) => Arc::clone(module),
            Err(e) => return Ok(Err(e)),
        };
        if self.tokens.get(&token).is_some_and(|known| known.len() >= usize::from(lanes)) {
            return Ok(Ok(()));
        }
        let seat = Arc::new(OnceSeat::default());
        let mut senders = Vec::new();
        for lane in 0..lanes {
            let (to, from) = sync_channel(1);
            let serving = Serving { module: Arc::clone(&module), seat: Arc::clone(&seat), out: Arc::clone(&self.out) };
            std::thread::Builder::new().name(format!("token {token}.{lane}")).spawn(move || serving.lane(&from))?;
            senders.push(to);
        }
        self.tokens.insert(token, senders);
        Ok(Ok(()))
    }

    fn hand_on(&self, call: Call<Request>, area: Area) -> io::Result<()> {
        let (id, token) = (call.id, call.token);
        let lane = self.tokens.get(&token).and_then(|lanes| lanes.get(usize::from(call.lane)));
        // A lane has one call at a time, so its queue of one is free.
        let handed = lane.map(|lane| lane.try_send(Box::new((call, area))));
        match handed {
            Some(Ok(())) => {}
            Some(Err(_)) => self.out.failed(id, token, worker_fault("the lane is at work")),
            None => self.out.failed(id, token, worker_fault("no such token is attached")),
        }
        Ok(())
    }
}

/// What a lane's thread works with.
struct Serving {
    module: Arc<Module>,
    seat: Arc<OnceSeat>,
    out: Arc<Out>,
}

impl Serving {
    fn lane(&self, calls: &Receiver<Job>) {
        while let Ok(job) = calls.recv() {
            let (call, area) = *job;
            let answered = Area::empty().map_err(worker_fault).and_then(|mut secret| {
                let Some(_within) = self.out.under_way.begin() else { return Err(worker_fault("the end has come")) };
                let reply = self.serve(&call, &area, &mut secret)?;
                Ok((reply, secret))
            });
            match answered {
                Ok((reply, secret)) => self.out.answer(call.id, call.token, reply, &secret),
                Err(e) => self.out.failed(call.id, call.token, e),
            }
        }
    }

    fn attached(&self) -> Result<Arc<Seat>, TokenError> {
        let seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        seat.clone().ok_or_else(|| worker_fault("no token is attached"))
    }

    fn serve(&self, call: &Call<Request>, area: &Area, secret: &mut Area) -> Result<Reply, TokenError> {
        let (module, lane) = (&self.module, call.lane);
        if let Request::Attach { uri, lanes, template, unresolved } = &call.request {
            let pin = area.to_pin().map_err(worker_fault)?;
            let put = |seat| *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = seat;
            put(None);
            let seat =
                module.attach(call.token, uri.parse()?, pin, *lanes, template.unwrap_or_default(), *unresolved)?;
            put(Some(seat));
            return Ok(Reply::Done);
        }
        let seat = &*self.attached()?;
        match &call.request {
            Request::Load { .. } | Request::Attach { .. } | Request::InitToken { .. } | Request::InitPin => {
                Err(worker_fault("served elsewhere"))
            }
            Request::MakeKek { id, label, mechanism } => {
                module.run(seat, lane, None, |l| l.vacant(*id, ObjectClass::SECRET_KEY))?;
                module.once(seat, lane, |l| l.make_kek(*id, label, *mechanism))?;
                Ok(Reply::Done)
            }
            Request::CheckKek { id, mechanism } => {
                module.run(seat, lane, None, |l| l.check_kek(*id, *mechanism))?;
                Ok(Reply::Done)
            }
            Request::MakeDataKey { wraps } => {
                let (key, blobs) = module.run(seat, lane, None, |l| l.make_data_key(wraps))?;
                *secret = Area::key(&key).map_err(worker_fault)?;
                Ok(Reply::Blobs(blobs))
            }
            Request::Unwrap { with, blob } => {
                let key = module.run(seat, lane, Some(with), |l| l.unwrap(with, &blob.0))?;
                *secret = Area::key(&key).map_err(worker_fault)?;
                Ok(Reply::Key)
            }
            Request::Wrap { wraps } => {
                let key = area.to_key().map_err(worker_fault)?;
                Ok(Reply::Blobs(module.run(seat, lane, None, |l| l.wrap(&key, wraps))?))
            }
            Request::Rewrap { from, blob, to } => {
                Ok(Reply::Blobs(vec![module.run(seat, lane, Some(from), |l| l.rewrap(from, &blob.0, to))?]))
            }
            Request::MakeSigningKey { id, label, algorithm } => {
                module.run(seat, lane, None, |l| l.vacant(*id, ObjectClass::PRIVATE_KEY))?;
                let key = module.once(seat, lane, |l| l.make_signing_key(*id, label, *algorithm))?;
                Ok(Reply::PublicKey(HexBytes(key)))
            }
            Request::Sign { id, algorithm, data } => {
                let signature = module.run(seat, lane, None, |l| l.sign(*id, *algorithm, &data.0))?;
                Ok(Reply::Signature(HexBytes(signature)))
            }
            Request::Probe => {
                let report = module.once(seat, lane, |l| {
                    let slot = seat.slot().ok_or(TokenError::TokenMissing { uri: seat.name() })?;
                    super::probe::run(l, &module.context, slot)
                })?;
                Ok(Reply::Report(Box::new(report)))
            }
            Request::Mechanisms => Ok(Reply::Mechanisms(module.run(seat, lane, None, |_| module.mechanisms(seat))?)),
            Request::RewrapAll { from, to, items } => {
                Ok(Reply::Rewrapped(rewrap_all(|step| run_step(module, seat, lane, &step), from, to, items)?))
            }
            Request::RewrapCheck { kek, items } => {
                Ok(Reply::Rewrapped(check_all(|step| run_step(module, seat, lane, &step), kek, items)?))
            }
            Request::DestroyKek { id } => Ok(Reply::Destroyed(module.run(seat, lane, None, |l| l.destroy_kek(*id))?)),
        }
    }
}

fn run_step(module: &Module, seat: &Seat, lane: u16, step: &Step<'_>) -> Result<HexBytes, TokenError> {
    match step {
        Step::Rewrap(from, blob, to) => module.run(seat, lane, Some(from), |l| l.rewrap(from, blob, to)),
        Step::Open(with, blob) => {
            module.run(seat, lane, Some(with), |l| l.unwrap(with, blob)).map(|_| HexBytes(Vec::new()))
        }
    }
}
