//! The worker process: one module, one request at a time, on the socket that is its standard input.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::TokenError;
use super::module::Module;
use super::wire::{Area, Reply, Request, receive, send};
use crate::sys::exit_now;

/// Serves PKCS#11 requests until the parent goes away; the body of the hidden command [`super::WORKER_ARGUMENT`].
///
/// # Errors
/// When it was not started by a key authority, or the socket fails.
pub fn worker_main() -> io::Result<()> {
    crate::secret::harden_process()?;
    let socket = take_socket()?;
    watch_parent(socket.try_clone()?)?;
    let mut module = None;
    loop {
        let (request, area) = match receive::<Request>(&mut &socket) {
            Ok(message) => message,
            // The parent has gone: the normal end.
            Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let mut secret = Area::empty()?;
        let reply = serve(&mut module, &request, &area, &mut secret).unwrap_or_else(Reply::Failed);
        send(&mut &socket, &reply, &secret)?;
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
fn watch_parent(socket: UnixStream) -> io::Result<()> {
    let watch = move || {
        loop {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => exit_now(1),
            }
            let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
            let [fd] = fds;
            if fd.revents().is_some_and(|r| r.intersects(gone)) {
                exit_now(0);
            }
        }
    };
    std::thread::Builder::new().name("parent".into()).spawn(watch)?;
    Ok(())
}

fn worker_fault(e: impl ToString) -> TokenError {
    TokenError::Worker { what: e.to_string() }
}

fn serve(slot: &mut Option<Module>, request: &Request, area: &Area, secret: &mut Area) -> Result<Reply, TokenError> {
    if let Request::Attach { module, uri } = request {
        *slot = None;
        let mut loaded = Module::load(module.clone())?;
        if let Some(uri) = uri {
            loaded.attach(uri.parse()?, area.to_pin().map_err(worker_fault)?)?;
        }
        *slot = Some(loaded);
        return Ok(Reply::Done);
    }
    let module = slot.as_mut().ok_or_else(|| worker_fault("no module is loaded"))?;
    match request {
        Request::Attach { .. } => Err(worker_fault("served above")),
        Request::InitToken { label } => {
            module.init_token(area.to_pin().map_err(worker_fault)?, label)?;
            Ok(Reply::Done)
        }
        Request::InitPin => {
            let uri = module.init_pin(&area.to_pin().map_err(worker_fault)?)?;
            Ok(Reply::Token(uri.to_string()))
        }
        Request::MakeKek { id, label, mechanism } => {
            // Not repeated on a rung of the ladder: a second key of one id would be worse than none.
            module.make_kek(*id, label, *mechanism).map_err(|f| module.plain(f))?;
            Ok(Reply::Done)
        }
        Request::CheckKek { id, mechanism } => {
            module.run(|m| m.check_kek(*id, *mechanism))?;
            Ok(Reply::Done)
        }
        Request::MakeDataKey { wraps } => {
            let (key, blobs) = module.run(|m| m.make_data_key(wraps))?;
            *secret = Area::key(&key).map_err(worker_fault)?;
            Ok(Reply::Blobs(blobs))
        }
        Request::Unwrap { with, blob } => {
            let key = module.run(|m| m.unwrap(with, &blob.0))?;
            *secret = Area::key(&key).map_err(worker_fault)?;
            Ok(Reply::Key)
        }
        Request::Wrap { wraps } => {
            let key = area.to_key().map_err(worker_fault)?;
            Ok(Reply::Blobs(module.run(|m| m.wrap(&key, wraps))?))
        }
        Request::Rewrap { from, blob, to } => Ok(Reply::Blobs(vec![module.run(|m| m.rewrap(from, &blob.0, to))?])),
        Request::MakeSigningKey { id, label, algorithm } => {
            let key = module.make_signing_key(*id, label, *algorithm).map_err(|f| module.plain(f))?;
            Ok(Reply::PublicKey(crate::hex::HexBytes(key)))
        }
        Request::Sign { id, algorithm, data } => {
            let signature = module.run(|m| m.sign(*id, *algorithm, &data.0))?;
            Ok(Reply::Signature(crate::hex::HexBytes(signature)))
        }
        Request::Mechanisms => Ok(Reply::Mechanisms(module.run(Module::mechanisms)?)),
    }
}
