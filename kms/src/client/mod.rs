//! Blocking clients of the key authority. Every call ends within its timeout; a broken connection is made again at the next call.

mod areas;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::AsRawFd;
use uuid::Uuid;

use crate::frame::{Deadline, MAX_CONTROL_REQUEST, MAX_REPLY, read_frame, write_frame};
use crate::hex::Hex;
use crate::protocol::{
    AuditReply, AuditRequest, Cartridge, CheckpointView, ControlReply, ControlRequest, DataPathReply, DataPathRequest,
    Ended, EntryFilter, ExportOrder, ExportScope, GenerationRef, LabelOrder, LabelTicket, Loaded, NewGeneration,
    NewVolume, PoolPolicy, PoolView, Refusal, Rights, SessionStart, Status, SyncPoint, Ticket, VolumePage, VolumeQuery,
    VolumeState, VolumeSummary, VolumeView,
};
use crate::secret::DataKey;

/// How long a call may take when nothing else is said.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The key authority is not there, or went away.
    #[error("the key authority does not answer at {}: {source}; is sealtape-keyd running?", socket.display())]
    Unavailable {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("the key authority at {} gave no answer within {} s; see its log", socket.display(), limit.as_secs())]
    Timeout {
        /// Its socket.
        socket: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// An answer that is not one.
    #[error("the key authority at {} answered what this program does not understand ({what}); are both of the same version?", socket.display())]
    Protocol {
        /// Its socket.
        socket: PathBuf,
        /// What came.
        what: String,
    },
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was received could not be written.
    #[error("cannot write the export: {0}")]
    Output(#[source] io::Error),
}

/// One connection, made when needed.
#[derive(Debug)]
struct Channel {
    socket: PathBuf,
    limit: Duration,
    stream: Mutex<Option<UnixStream>>,
}

impl Channel {
    fn new(socket: PathBuf, limit: Duration) -> Self {
        Self { socket, limit, stream: Mutex::new(None) }
    }

    fn failed(&self, e: io::Error) -> ClientError {
        match e.kind() {
            io::ErrorKind::TimedOut => ClientError::Timeout { socket: self.socket.clone(), limit: self.limit },
            io::ErrorKind::InvalidData => ClientError::Protocol { socket: self.socket.clone(), what: e.to_string() },
            _ => ClientError::Unavailable { socket: self.socket.clone(), source: e },
        }
    }

    fn unexpected(&self, what: &str) -> ClientError {
        ClientError::Protocol { socket: self.socket.clone(), what: format!("unexpected {what}") }
    }

    /// Sends `request` and takes frames until `take` says that it has all; the connection is kept only if everything went well.
    fn call<Q: Serialize, R: DeserializeOwned, T>(
        &self,
        request: &Q,
        secret: Option<&DataKey>,
        mut take: impl FnMut(R, Option<DataKey>) -> Result<Option<T>, ClientError>,
    ) -> Result<T, ClientError> {
        let mut slot = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = match slot.take().filter(|s| !closed(s)) {
            Some(stream) => stream,
            None => dial(&self.socket, self.limit).map_err(|e| self.failed(e))?,
        };
        let sent = write_frame(&mut Deadline::new(&stream, self.limit), request, secret, MAX_CONTROL_REQUEST);
        match sent {
            // A peer that was turned away is told why, and may find the other end closed before it has asked.
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                let mut from = Deadline::new(&stream, self.limit);
                return match read_frame(&mut from, MAX_REPLY) {
                    Ok(Some((reply, secret))) => take(reply, secret)?.ok_or_else(|| self.failed(e)),
                    _ => Err(self.failed(e)),
                };
            }
            other => other.map_err(|e| self.failed(e))?,
        }
        loop {
            let frame = read_frame(&mut Deadline::new(&stream, self.limit), MAX_REPLY).map_err(|e| self.failed(e))?;
            let (reply, secret) = frame.ok_or_else(|| self.failed(io::ErrorKind::UnexpectedEof.into()))?;
            if let Some(result) = take(reply, secret)? {
                *slot = Some(stream);
                return Ok(result);
            }
        }
    }
}

/// Connects within `limit`: a plain connect waits without end while the listener's queue is full.
fn dial(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let limit = TimeVal::milliseconds(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1));
    setsockopt(&fd, SendTimeout, &limit)?;
    match connect(fd.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => Ok(fd.into()),
        Err(nix::errno::Errno::EAGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(e) => Err(e.into()),
    }
}

/// Whether the peer has closed, or left something unasked for: then the connection is of no use any more.
fn closed(stream: &UnixStream) -> bool {
    let mut one = [0u8];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    !matches!(recv(stream.as_raw_fd(), &mut one, flags), Err(nix::errno::Errno::EAGAIN))
}

/// The data path's side of `keys.sock`, for one unit.
#[derive(Debug)]
pub struct DataPathClient {
    channel: Channel,
    unit: String,
}

impl DataPathClient {
    /// A client for `unit`; connects at the first call.
    pub fn new(socket: impl AsRef<Path>, unit: impl Into<String>, timeout: Duration) -> Self {
        Self { channel: Channel::new(socket.as_ref().to_owned(), timeout), unit: unit.into() }
    }

    fn call(&self, request: &DataPathRequest) -> Result<(DataPathReply, Option<DataKey>), ClientError> {
        call_data_path(&self.channel, request)
    }

    fn done(&self, request: &DataPathRequest) -> Result<(), ClientError> {
        match self.call(request)? {
            (DataPathReply::Done, None) => Ok(()),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Registers the volume that `ticket` allows; `replaces` is the volume found on the medium, if it holds one of ours.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn create_volume(
        &self,
        ticket: &Ticket,
        replaces: Option<Uuid>,
        cartridge: &Cartridge,
    ) -> Result<NewVolume, ClientError> {
        let (unit, cartridge) = (self.unit.clone(), cartridge.clone());
        match self.call(&DataPathRequest::CreateVolume { ticket: ticket.clone(), unit, replaces, cartridge })? {
            (DataPathReply::Volume(volume), None) => Ok(volume),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// A ticket to label the blank cartridge in the unit, if a pool's policy wants that.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn authorize_by_policy(&self, cartridge: &Cartridge) -> Result<Option<Ticket>, ClientError> {
        let (unit, cartridge) = (self.unit.clone(), cartridge.clone());
        match self.call(&DataPathRequest::AuthorizeByPolicy { unit, cartridge })? {
            (DataPathReply::Ticket { ticket }, None) => Ok(ticket),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Makes the next generation of a partition.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn create_generation(
        &self,
        volume: Uuid,
        partition: u8,
        suite: Option<u8>,
    ) -> Result<(NewGeneration, DataKey), ClientError> {
        let unit = self.unit.clone();
        match self.call(&DataPathRequest::CreateGeneration { unit, volume, partition, suite })? {
            (DataPathReply::Generation(generation), Some(key)) => Ok((generation, key)),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Says that a generation's record stands on the medium; older ones are deactivated.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn activate_generation(&self, at: GenerationRef, commitment: &[u8; 32]) -> Result<(), ClientError> {
        let unit = self.unit.clone();
        self.done(&DataPathRequest::ActivateGeneration { unit, at, commitment: Hex(*commitment) })
    }

    /// What the catalogue knows of a volume.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn lookup(&self, volume: Uuid) -> Result<VolumeView, ClientError> {
        match self.call(&DataPathRequest::Lookup { unit: self.unit.clone(), volume })? {
            (DataPathReply::View(view), None) => Ok(view),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// The data key of a generation, if its volume stands in this cartridge.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn load(&self, at: GenerationRef, cartridge: &Cartridge) -> Result<(Loaded, DataKey), ClientError> {
        let (unit, cartridge) = (self.unit.clone(), cartridge.clone());
        match self.call(&DataPathRequest::Load { unit, at, cartridge })? {
            (DataPathReply::Loaded(loaded), Some(key)) => Ok((loaded, key)),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Says in which cartridge a verified volume stands: what the catalogue did not know is entered.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn learn_cartridge(&self, volume: Uuid, cartridge: &Cartridge) -> Result<(), ClientError> {
        let (unit, cartridge) = (self.unit.clone(), cartridge.clone());
        self.done(&DataPathRequest::LearnCartridge { unit, volume, cartridge })
    }

    /// A new session; durable before the answer. A call that failed may have used an ordinal up.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn open_session(&self, at: GenerationRef, session: SessionStart) -> Result<u32, ClientError> {
        match self.call(&DataPathRequest::OpenSession { unit: self.unit.clone(), at, session })? {
            (DataPathReply::Session { ordinal }, None) => Ok(ordinal),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Records where the medium ends after a synchronisation.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn record_sync(&self, at: GenerationRef, end: SyncPoint) -> Result<(), ClientError> {
        self.done(&DataPathRequest::RecordSync { unit: self.unit.clone(), at, end })
    }

    /// Says that the volume is unloaded and its keys are wiped.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn release(&self, volume: Uuid) -> Result<(), ClientError> {
        self.done(&DataPathRequest::Release { unit: self.unit.clone(), volume })
    }

    /// Puts an incident into the custody log.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn incident(&self, volume: Option<Uuid>, text: impl Into<String>) -> Result<(), ClientError> {
        self.done(&DataPathRequest::Incident { unit: self.unit.clone(), volume, text: text.into() })
    }
}

impl DataPathClient {
    /// Waits for ends of releases behind number `after`, at the longest [`WATCH_LIMIT`](crate::protocol::WATCH_LIMIT), which the
    /// client's own limit has to exceed. For a client of its own.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn watch(&self, after: u64) -> Result<(u64, Vec<Ended>), ClientError> {
        match self.call(&DataPathRequest::Watch { after })? {
            (DataPathReply::Ended { to, keys }, None) => Ok((to, keys)),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// The key of a loaded generation may be kept for another period: for how many seconds, and with which rights.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn renew(&self, at: GenerationRef) -> Result<(Option<u32>, Rights), ClientError> {
        match self.call(&DataPathRequest::Renew { unit: self.unit.clone(), at })? {
            (DataPathReply::Renewed { lease_seconds, rights }, None) => Ok((lease_seconds, rights)),
            _ => Err(self.channel.unexpected("reply")),
        }
    }
}

fn call_data_path(
    channel: &Channel,
    request: &DataPathRequest,
) -> Result<(DataPathReply, Option<DataKey>), ClientError> {
    let answer = channel.call(request, None, |reply, secret| Ok(Some((reply, secret))))?;
    match answer {
        (DataPathReply::Refused(refusal), _) => Err(refusal.into()),
        other => Ok(other),
    }
}

/// The side of a pipe (`seal`, `open`) on `stream.sock`: an ordinary user's program.
#[derive(Debug)]
pub struct StreamClient {
    channel: Channel,
}

impl StreamClient {
    /// Connects at the first call.
    pub fn new(socket: impl AsRef<Path>, timeout: Duration) -> Self {
        Self { channel: Channel::new(socket.as_ref().to_owned(), timeout) }
    }

    /// A new stream with its one generation, already active; the session ordinal is `first_ordinal`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn create_stream(&self, pool: Option<&str>) -> Result<(NewGeneration, DataKey), ClientError> {
        let request = DataPathRequest::CreateStream { pool: pool.map(str::to_owned) };
        match call_data_path(&self.channel, &request)? {
            (DataPathReply::Generation(generation), Some(key)) => Ok((generation, key)),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// The key of a stream.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn load_stream(&self, at: GenerationRef) -> Result<(Loaded, DataKey), ClientError> {
        match call_data_path(&self.channel, &DataPathRequest::LoadStream { at })? {
            (DataPathReply::Loaded(loaded), Some(key)) => Ok((loaded, key)),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Records the end of a stream.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn finish_stream(&self, volume: Uuid, records: u64, last_tag: &[u8; 16]) -> Result<(), ClientError> {
        let request = DataPathRequest::FinishStream { volume, records, last_tag: Hex(*last_tag) };
        match call_data_path(&self.channel, &request)? {
            (DataPathReply::Done, None) => Ok(()),
            _ => Err(self.channel.unexpected("reply")),
        }
    }
}

/// The command line's side of `keyd.sock`.
#[derive(Debug)]
pub struct ControlClient {
    channel: Channel,
}

impl ControlClient {
    /// Connects at the first call.
    pub fn new(socket: impl AsRef<Path>, timeout: Duration) -> Self {
        Self { channel: Channel::new(socket.as_ref().to_owned(), timeout) }
    }

    /// Sends any control request and gives its one reply, a refusal as an error. Not for `AuditExport`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn call(&self, request: &ControlRequest) -> Result<ControlReply, ClientError> {
        match self.channel.call(request, None, |reply, _| Ok(Some(reply)))? {
            ControlReply::Refused(refusal) => Err(refusal.into()),
            other => Ok(other),
        }
    }

    /// As [`ControlClient::call`], with 32 secret bytes, which are never part of the message's text.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn call_with_secret(&self, request: &ControlRequest, secret: &DataKey) -> Result<ControlReply, ClientError> {
        match self.channel.call(request, Some(secret), |reply, _| Ok(Some(reply)))? {
            ControlReply::Refused(refusal) => Err(refusal.into()),
            other => Ok(other),
        }
    }

    fn done(&self, request: &ControlRequest) -> Result<(), ClientError> {
        match self.call(request)? {
            ControlReply::Done => Ok(()),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Allows a unit to label one medium.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn authorize_label(&self, order: LabelOrder) -> Result<LabelTicket, ClientError> {
        match self.call(&ControlRequest::AuthorizeLabel(order))? {
            ControlReply::Ticket(ticket) => Ok(ticket),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// A volume stands in this cartridge now.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn set_cartridge(
        &self,
        volume: impl Into<String>,
        cartridge: Cartridge,
        reason: impl Into<String>,
    ) -> Result<(), ClientError> {
        self.done(&ControlRequest::SetCartridge { volume: volume.into(), cartridge, reason: reason.into() })
    }

    /// A page of volumes.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn volumes(&self, query: VolumeQuery) -> Result<VolumePage, ClientError> {
        match self.call(&ControlRequest::ListVolumes(query))? {
            ControlReply::Volumes(page) => Ok(page),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// All volumes, page by page.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn list_volumes(&self) -> Result<Vec<VolumeSummary>, ClientError> {
        let mut query = VolumeQuery { count: 1000, ..VolumeQuery::default() };
        let mut volumes = Vec::new();
        loop {
            let page = self.volumes(query.clone())?;
            volumes.extend(page.volumes);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(volumes),
            }
        }
    }

    /// One volume by UUID or label.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn show_volume(&self, volume: impl Into<String>) -> Result<VolumeView, ClientError> {
        match self.call(&ControlRequest::ShowVolume { volume: volume.into() })? {
            ControlReply::Volume(view) => Ok(view),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Retires a volume or takes it back into use.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn set_volume_state(
        &self,
        volume: impl Into<String>,
        state: VolumeState,
        reason: impl Into<String>,
    ) -> Result<(), ClientError> {
        self.done(&ControlRequest::SetVolumeState { volume: volume.into(), state, reason: reason.into() })
    }

    /// The pools.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn list_pools(&self) -> Result<Vec<PoolView>, ClientError> {
        match self.call(&ControlRequest::ListPools)? {
            ControlReply::Pools(pools) => Ok(pools),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Makes a pool of a tenant (none: the one called default), with a medium KEK of its own.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn create_pool(&self, policy: PoolPolicy, tenant: Option<&str>) -> Result<(), ClientError> {
        self.done(&ControlRequest::CreatePool { policy, tenant: tenant.map(str::to_owned) })
    }

    /// Says which pools a unit may use; none lifts the restriction.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn restrict_unit(&self, unit: impl Into<String>, pools: Vec<String>) -> Result<(), ClientError> {
        self.done(&ControlRequest::RestrictUnit { unit: unit.into(), pools })
    }

    /// Writes the whole custody log to `to`, as JSON Lines, and gives the checkpoint it ends with.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn audit_export(&self, to: &mut impl Write) -> Result<CheckpointView, ClientError> {
        self.audit_export_as(&ExportOrder { scope: ExportScope::Full, csv: false }, to)
    }

    /// Writes an export to `to` and gives the checkpoint under it.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn audit_export_as(&self, order: &ExportOrder, to: &mut impl Write) -> Result<CheckpointView, ClientError> {
        let request = ControlRequest::Audit { request: AuditRequest::Export { order: order.clone() } };
        self.channel.call(&request, None, |reply: ControlReply, _| match reply {
            ControlReply::ExportPart(lines) => {
                to.write_all(lines.as_bytes()).map_err(ClientError::Output)?;
                Ok(None)
            }
            ControlReply::Exported(checkpoint) => Ok(Some(checkpoint)),
            ControlReply::Refused(refusal) => Err(refusal.into()),
            _ => Err(self.channel.unexpected("reply")),
        })
    }

    /// Leaves of the custody log, as they stand there: from `first`, or the last `count`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn audit_show(&self, first: Option<u64>, count: u32) -> Result<Vec<String>, ClientError> {
        let (filter, backwards) = (EntryFilter::default(), first.is_none());
        match self.audit(AuditRequest::Entries { filter, from: first, backwards, count, names: false })? {
            AuditReply::Entries(mut page) => {
                if backwards {
                    page.leaves.reverse();
                }
                Ok(page.leaves)
            }
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Signs a checkpoint now.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn checkpoint(&self) -> Result<CheckpointView, ClientError> {
        match self.call(&ControlRequest::Checkpoint)? {
            ControlReply::Checkpoint(checkpoint) => Ok(checkpoint),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Health.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn status(&self) -> Result<Status, ClientError> {
        match self.call(&ControlRequest::Status)? {
            ControlReply::Status(status) => Ok(status),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Lets the PIN be tried again.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn clear_pin_latch(&self) -> Result<(), ClientError> {
        self.done(&ControlRequest::ClearPinLatch)
    }
}
