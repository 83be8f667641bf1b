//! The data path's end of the control socket.
//!
//! Bounds: [`MOST_CONNECTIONS`] at a time (the next one is told so and closed), one request at a time on each, limited
//! lines, a deadline for every read and write. An operation runs on a blocking thread and is never dropped half done:
//! when the client goes away it is asked to stop, and its end is awaited.

mod access;

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Gid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use super::frame::{Answer, LONGEST_REPLY, LONGEST_REQUEST, Reply, Request, SIGN_OF_LIFE, decode, encode, too_long};
use super::{ControlError, DataPath, ErrorCode, Observer};
pub use access::Access;

/// Most connections at a time.
pub const MOST_CONNECTIONS: usize = 32;
/// A connection without a request is closed after this.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// A client that does not take a line for so long is gone.
const LONGEST_WRITE: Duration = Duration::from_secs(10);
/// Progress lines come no faster than this.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A control socket that is bound and that nobody else can bind.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    access: Access,
    path: PathBuf,
    /// Held for as long as the socket is: without it, two services that find a stale socket would take it from each other.
    _lock: Flock<File>,
}

impl ControlSocket {
    /// Binds the socket (in a Tokio runtime), taking a stale one away. Besides root and the service's own user, the members of the operator group may ask.
    pub fn bind(path: &Path, operator_group: Option<Gid>) -> Result<Self, ControlError> {
        let failed = |what: &str, source: std::io::Error| {
            ControlError::new(
                ErrorCode::Configuration,
                format!("{what} {} failed: {source}", path.display()),
                "the folder must exist and belong to the service's user; correct it and start the service again",
            )
        };
        let lock = lock(path)?;
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed("removing the stale socket", e)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(|e| failed("binding the control socket", e))?;
        // Open to all: who the peer is decides, before anything it sends is read.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))
            .map_err(|e| failed("setting the permissions of the socket", e))?;
        Ok(Self { listener, access: Access::new(operator_group), path: path.to_path_buf(), _lock: lock })
    }

    /// Serves until `shutdown` is done; then accepts nothing more, asks what runs to stop, and waits for its end.
    pub async fn serve(self, service: Arc<dyn DataPath>, shutdown: impl Future<Output = ()>) {
        let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let stream = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(e) => {
                        // Out of descriptors, mostly: it passes, and must not become a busy loop.
                        tracing::error!(socket = %self.path.display(), error = %e, "accepting on the control socket failed");
                        sleep(Duration::from_millis(200)).await;
                        continue;
                    }
                },
            };
            let (service, access, stopped) = (service.clone(), self.access.clone(), stopped.clone());
            let permit = permits.clone().try_acquire_owned();
            if permit.is_err() && connections.len() >= 2 * MOST_CONNECTIONS {
                continue; // Not even the refusals are taken: dropping the stream closes it.
            }
            connections.spawn(async move {
                let mut connection = Connection::new(stream);
                let outcome = match permit {
                    Ok(_permit) => connection.run(&service, &access, stopped).await,
                    Err(_) => connection.send(&Reply::Failed(full())).await,
                };
                if let Err(gone) = outcome {
                    tracing::debug!(reason = %gone.0, "a control connection ended");
                }
            });
        }
        stop.send_replace(true);
        while connections.join_next().await.is_some() {}
        if let Err(e) = std::fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), error = %e, "the control socket could not be removed");
        }
    }
}

fn lock(socket: &Path) -> Result<Flock<File>, ControlError> {
    let path = socket.with_extension("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(|e| {
        ControlError::new(
            ErrorCode::Configuration,
            format!("the lock {} cannot be opened: {e}", path.display()),
            "the folder must exist and belong to the service's user; correct it and start the service again",
        )
    })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        ControlError::new(
            ErrorCode::Busy,
            format!("{} is locked ({errno}): another data path runs in this home folder", path.display()),
            "stop it first, or give this one a home folder of its own (--home DIR)",
        )
    })
}

fn full() -> ControlError {
    ControlError::new(
        ErrorCode::Busy,
        format!("the control socket serves {MOST_CONNECTIONS} connections, and no more"),
        "try again when other sealtape commands have ended",
    )
}

/// The connection is over, and why. Nothing is left to tell the client.
struct Gone(String);

impl From<std::io::Error> for Gone {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    async fn run(
        &mut self,
        service: &Arc<dyn DataPath>,
        access: &Access,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), Gone> {
        let peer = self.reader.get_ref().as_ref().peer_cred()?;
        let access = access.clone();
        let permitted = spawn_blocking(move || access.check(peer.uid(), peer.gid())).await;
        if let Err(refused) = permitted.map_err(|e| Gone(e.to_string()))? {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "a control connection was refused");
            return self.send(&Reply::Failed(refused)).await;
        }
        loop {
            let line = tokio::select! {
                line = timeout(LONGEST_IDLE, self.read_line()) => match line {
                    Ok(line) => line?,
                    Err(_) => return Ok(()),
                },
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            };
            let Some(line) = line else { return Ok(()) };
            let request = match line.and_then(|line| decode::<Request>(&line)) {
                Ok(request) => request,
                // Where the next request would begin is not known: this ends the connection.
                Err(refused) => return self.send(&Reply::Failed(refused)).await,
            };
            self.answer(service, request, &mut stopped).await?;
        }
    }

    /// `None` at the end of the stream.
    async fn read_line(&mut self) -> Result<Option<Result<Vec<u8>, ControlError>>, Gone> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LONGEST_REQUEST as u64).read_until(b'\n', &mut line).await?;
        match (read, line.last()) {
            (0, _) => Ok(None),
            (_, Some(b'\n')) => Ok(Some(Ok(line))),
            (LONGEST_REQUEST, _) => Ok(Some(Err(too_long(LONGEST_REQUEST)))),
            _ => Err(Gone("the client closed the connection within a line".to_owned())),
        }
    }

    async fn send(&mut self, reply: &Reply) -> Result<(), Gone> {
        let line = encode(reply, LONGEST_REPLY).or_else(|e| encode(&Reply::Failed(e), LONGEST_REPLY));
        let line = line.map_err(|e| Gone(e.to_string()))?;
        match timeout(LONGEST_WRITE, self.writer.write_all(&line)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Gone("the client does not read".to_owned())),
        }
    }

    /// Runs one operation to its end, whatever the client does meanwhile.
    async fn answer(
        &mut self,
        service: &Arc<dyn DataPath>,
        request: Request,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), Gone> {
        let (observer, mut reports) = Observer::new();
        let (service, working) = (service.clone(), observer.clone());
        let mut operation = spawn_blocking(move || perform(&*service, request, &working));
        let mut gone: Option<Gone> = None;
        let mut watching = true; // For the client's end of the stream.
        let mut next_line = Instant::now() + SIGN_OF_LIFE;
        let mut earliest_line = Instant::now();
        let outcome = loop {
            let due = tokio::select! {
                outcome = &mut operation => break outcome,
                changed = async { tokio::time::sleep_until(earliest_line).await; reports.changed().await }, if gone.is_none() => changed.is_ok(),
                () = tokio::time::sleep_until(next_line), if gone.is_none() => true,
                _ = stopped.wait_for(|stopped| *stopped), if !observer.cancelled() => { observer.cancel(); false }
                more = self.reader.fill_buf(), if watching && gone.is_none() => {
                    match more {
                        Ok([]) => gone = Some(Gone("the client went away".to_owned())),
                        Ok(_) => watching = false, // The next request, early: it waits.
                        Err(e) => gone = Some(e.into()),
                    }
                    false
                }
            };
            if due {
                let progress = reports.borrow_and_update().clone();
                gone = self.send(&Reply::Working(progress)).await.err();
                earliest_line = Instant::now() + PROGRESS_INTERVAL;
                next_line = Instant::now() + SIGN_OF_LIFE;
            }
            if gone.is_some() {
                observer.cancel();
            }
        };
        let reply = match outcome {
            Ok(Ok(answer)) => Reply::Done(answer),
            Ok(Err(refused)) => Reply::Failed(refused),
            Err(e) => {
                tracing::error!(error = %e, "a control operation ended abnormally");
                let mend = "look into the service's log, check the drive with: sealtape drive status, and report this as a bug";
                Reply::Failed(ControlError::new(
                    ErrorCode::Failed,
                    "the operation ended abnormally in the data path",
                    mend,
                ))
            }
        };
        match gone {
            Some(gone) => Err(gone),
            None => self.send(&reply).await,
        }
    }
}

fn perform(service: &dyn DataPath, request: Request, observer: &Observer) -> Result<Answer, ControlError> {
    let drive = |status| Answer::Drive(Box::new(status));
    match request {
        Request::Drives {} => Ok(Answer::Drives(service.drives())),
        Request::Drive { drive: name } => service.drive(&name).map(drive),
        Request::Load { drive: name, cartridge } => service.load(&name, cartridge.as_deref(), observer).map(drive),
        Request::Unload { drive: name } => service.unload(&name, observer).map(drive),
        Request::Label { drive: name, order } => service.label(&name, &order, observer).map(Answer::Labelled),
        Request::Verify { drive: name } => service.verify(&name, observer).map(Answer::Verified),
        Request::Acknowledge { drive: name } => service.acknowledge(&name).map(drive),
    }
}
