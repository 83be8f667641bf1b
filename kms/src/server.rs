//! The sockets of the key authority.
//!
//! | socket | who (peer credentials) | what |
//! |---|---|---|
//! | `keys.sock` | the data path's users, the key authority's own | [`DataPathRequest`] but streams |
//! | `stream.sock` | the above, root, members of the stream group | streams |
//! | `keyd.sock` | root, the key authority's own user, members of the control group, whoever has a role | [`ControlRequest`] |
//!
//! The sockets themselves are open to all users of the machine: the peer's identity decides, before anything it sends is read.
//! Each connection is a thread; their number is bounded per socket and per peer, frames are bounded, and a frame once begun has to
//! arrive in time.

mod background;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};
use serde::Serialize;

use background::{keep_checkpoints, keep_health, scrub, tell_of_key_ends, work_on};

use crate::authority::{Actor, Authority};
use crate::frame::{Deadline, MAX_CONTROL_REQUEST, MAX_REPLY, MAX_REQUEST, read_frame, write_frame};
use crate::protocol::{
    AuditRequest, CONTROL_SOCKET, ControlReply, ControlRequest, DataPathReply, DataPathRequest, ExportOrder,
    KEYS_SOCKET, Loaded, Refusal, RefusalCode, STREAM_SOCKET,
};
use crate::secret::DataKey;

/// How often a waiting thread looks whether it shall stop.
const TICK: u16 = 200;
/// How long a frame may take once it has begun, and a reply.
const FRAME_LIMIT: Duration = Duration::from_secs(10);
/// How often the journal is told what is wrong with the anchors.
const WARN_INTERVAL: Duration = Duration::from_secs(600);
/// How often the tokens are tried.
const HEALTH_INTERVAL: Duration = Duration::from_secs(30);
/// How long stopping waits for requests under way.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where the sockets are made.
    pub run_dir: PathBuf,
    /// Users whose processes are data paths, besides the key authority's own.
    pub data_path_uids: Vec<u32>,
    /// The units that there are; none where every name will do. A unit without a restriction may use every pool, so a data path
    /// that invents one would be bound by nothing.
    pub units: Option<BTreeSet<String>>,
    /// Group whose members may use the control socket.
    pub control_group: Option<u32>,
    /// Group whose members may seal and open streams.
    pub stream_group: Option<u32>,
    /// Connections per socket; a single user other than root and the own one gets at most half of them.
    pub max_connections: usize,
    /// A checkpoint is signed after this many leaves,
    pub checkpoint_leaves: u64,
    /// and this long after a leaf at the latest.
    pub checkpoint_interval: Duration,
    /// How often the whole catalogue is checked in the background, beginning at the start.
    pub scrub_interval: Duration,
}

impl ServerConfig {
    /// Sockets in `run_dir` for this user and root alone.
    pub fn new(run_dir: impl Into<PathBuf>) -> Self {
        Self {
            run_dir: run_dir.into(),
            data_path_uids: Vec::new(),
            units: None,
            control_group: None,
            stream_group: None,
            max_connections: 64,
            checkpoint_leaves: 256,
            checkpoint_interval: Duration::from_secs(60),
            scrub_interval: Duration::from_secs(24 * 3600),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Keys,
    Stream,
    Control,
}

impl Door {
    fn name(self) -> &'static str {
        match self {
            Self::Keys => KEYS_SOCKET,
            Self::Stream => STREAM_SOCKET,
            Self::Control => CONTROL_SOCKET,
        }
    }

    fn admits(self, config: &ServerConfig, peer: Peer) -> bool {
        let own = peer.uid == geteuid().as_raw();
        let data_path = own || config.data_path_uids.contains(&peer.uid);
        let in_group = |group: Option<u32>| group.is_some_and(|g| peer.is_member(g));
        match self {
            Self::Keys => data_path,
            Self::Stream => data_path || peer.uid == 0 || in_group(config.stream_group),
            Self::Control => own || peer.uid == 0 || in_group(config.control_group),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    uid: u32,
    gid: u32,
}

impl Peer {
    fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = getsockopt(stream, PeerCredentials)?;
        Ok(Self { uid: credentials.uid(), gid: credentials.gid() })
    }

    /// Membership by the system's user database (NSS), where groups of a directory arrive too.
    fn is_member(self, group: u32) -> bool {
        if self.gid == group {
            return true;
        }
        let Ok(Some(user)) = User::from_uid(Uid::from_raw(self.uid)) else { return false };
        let Ok(name) = CString::new(user.name) else { return false };
        getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&Gid::from_raw(group)))
    }
}

struct Shared {
    authority: Arc<Authority>,
    config: ServerConfig,
    stop: AtomicBool,
    /// User of each open connection, by door.
    open: Mutex<Vec<(Door, u32)>>,
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Vec<(Door, u32)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place among the open connections.
    fn admit(self: &Arc<Self>, door: Door, uid: u32) -> Option<Place> {
        let mut open = self.open();
        let at_door = open.iter().filter(|(d, _)| *d == door);
        let (all, by_user) = at_door.fold((0, 0), |(all, mine), (_, u)| (all + 1, mine + usize::from(*u == uid)));
        let most = self.config.max_connections;
        let privileged = uid == 0 || uid == geteuid().as_raw() || self.config.data_path_uids.contains(&uid);
        if all >= most || (!privileged && by_user >= most.div_ceil(2)) {
            return None;
        }
        open.push((door, uid));
        Some(Place { shared: Arc::clone(self), door, uid })
    }
}

/// A place among the open connections; given back on drop.
struct Place {
    shared: Arc<Shared>,
    door: Door,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.open();
        if let Some(at) = open.iter().position(|p| *p == (self.door, self.uid)) {
            open.swap_remove(at);
        }
    }
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    scrub_stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Makes the sockets and serves until [`Server::stop`].
    ///
    /// # Errors
    /// When a socket cannot be made, or another key authority serves there.
    pub fn start(authority: Arc<Authority>, config: ServerConfig) -> io::Result<Self> {
        let doors = [Door::Keys, Door::Stream, Door::Control];
        let listeners: Vec<(Door, UnixListener)> =
            doors.into_iter().map(|d| Ok((d, listen(&config.run_dir.join(d.name()))?))).collect::<io::Result<_>>()?;
        let shared = Arc::new(Shared { authority, config, stop: AtomicBool::new(false), open: Mutex::default() });
        let mut threads = Vec::new();
        for (door, listener) in listeners {
            let shared = Arc::clone(&shared);
            threads.push(spawn(door.name(), move || accept(&shared, door, &listener))?);
        }
        let scrub_stop = Arc::new(AtomicBool::new(false));
        let housekeeping = Arc::clone(&shared);
        threads.push(spawn("checkpoints", move || keep_checkpoints(&housekeeping))?);
        let background = Arc::clone(&shared);
        threads.push(spawn("background", move || work_on(&background))?);
        let scrubbing = (Arc::clone(&shared), Arc::clone(&scrub_stop));
        threads.push(spawn("scrub", move || scrub(&scrubbing.0, &scrubbing.1))?);
        let daily = Arc::clone(&shared);
        threads.push(spawn("key-life", move || tell_of_key_ends(&daily))?);
        let health = Arc::clone(&shared);
        threads.push(spawn("token health", move || keep_health(&health))?);
        Ok(Self { shared, scrub_stop, threads })
    }

    /// Stops: no new connections, requests under way are finished within a limit, then the last entry and checkpoint.
    ///
    /// # Errors
    /// When the last entry or checkpoint cannot be made.
    pub fn stop(self) -> Result<(), Refusal> {
        self.shared.stop.store(true, Ordering::Release);
        self.scrub_stop.store(true, Ordering::Release);
        self.shared.authority.wake_watchers();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the server panicked");
            }
        }
        let until = Instant::now() + STOP_LIMIT;
        while !self.shared.open().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        for door in [Door::Keys, Door::Stream, Door::Control] {
            let path = self.shared.config.run_dir.join(door.name());
            if let Err(e) = std::fs::remove_file(&path) {
                tracing::warn!("{}: {e}", path.display());
            }
        }
        self.shared.authority.shut_down()
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

/// A listener in place of one that a dead process left.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    if UnixStream::connect(path).is_ok() {
        return Err(named(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another sealtape-keyd serves here; stop it first",
        )));
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(named(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(named)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(named)?;
    listener.set_nonblocking(true).map_err(named)?;
    Ok(listener)
}

/// Waits until `fd` is readable; false when the server shall stop.
fn readable(shared: &Shared, fd: &impl AsFd, until: Option<Instant>) -> bool {
    while !shared.stopping() {
        if until.is_some_and(|u| Instant::now() >= u) {
            return false;
        }
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(TICK)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return true,
            Err(e) => {
                tracing::error!("poll: {e}");
                return false;
            }
        }
    }
    false
}

fn accept(shared: &Arc<Shared>, door: Door, listener: &UnixListener) {
    while readable(shared, listener, None) {
        let (stream, peer) = match listener.accept().and_then(|(s, _)| Ok((Peer::of(&s)?, s))) {
            Ok((peer, stream)) => (stream, peer),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => continue,
            Err(e) => {
                // Out of descriptors or memory: without a pause this would spin.
                tracing::error!("accept on {}: {e}", door.name());
                std::thread::sleep(Duration::from_millis(u64::from(TICK)));
                continue;
            }
        };
        let by_role = || door == Door::Control && shared.authority.has_role(peer.uid);
        if !door.admits(&shared.config, peer) && !by_role() {
            shared.authority.turned_away(peer.uid, door.name());
            turn_away(&stream, door, RefusalCode::NotAllowed, format!("user {} may not use {}", peer.uid, door.name()));
            continue;
        }
        let Some(place) = shared.admit(door, peer.uid) else {
            turn_away(&stream, door, RefusalCode::Busy, format!("too many connections on {}", door.name()));
            continue;
        };
        let result = spawn(door.name(), move || {
            if let Err(e) = serve(&place, &stream) {
                tracing::debug!("connection on {} ended: {e}", place.door.name());
            }
        });
        if let Err(e) = result {
            tracing::error!("no thread for a connection: {e}");
        }
    }
}

/// Says why, briefly: the peer may not read it, and nobody waits for it.
fn turn_away(stream: &UnixStream, door: Door, code: RefusalCode, what: String) {
    let mend = "ask the administrator for the group that may";
    let refusal = Refusal::new(code, what, if code == RefusalCode::Busy { "try again" } else { mend });
    let mut to = Deadline::new(stream, Duration::from_millis(100));
    let sent = match door {
        Door::Control => write_frame(&mut to, &ControlReply::Refused(refusal), None, MAX_REPLY),
        Door::Keys | Door::Stream => write_frame(&mut to, &DataPathReply::Refused(refusal), None, MAX_REPLY),
    };
    if let Err(e) = sent {
        tracing::debug!("turning a peer away: {e}");
    }
}

fn serve(place: &Place, stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let authority = &place.shared.authority;
    let actor = Actor::User(place.uid);
    // The data path keeps its connection for days; people and pipes do not.
    let idle = |minutes: u64| (place.door != Door::Keys).then(|| Instant::now() + Duration::from_secs(60 * minutes));
    while readable(&place.shared, stream, idle(10)) {
        match place.door {
            Door::Keys | Door::Stream => {
                let request = match read_frame::<DataPathRequest>(&mut Deadline::new(stream, FRAME_LIMIT), MAX_REQUEST)
                {
                    Ok(None) => return Ok(()),
                    Ok(Some((request, _))) => request,
                    Err(e) => {
                        send(stream, &DataPathReply::Refused(not_understood(&e)), None)?;
                        return Err(e);
                    }
                };
                let known = known_unit(&place.shared.config, authority, actor, &request);
                let (reply, key) = match known.and_then(|()| data_path(authority, place.door, actor, request)) {
                    Ok(answer) => answer,
                    Err(refusal) => (DataPathReply::Refused(refusal), None),
                };
                too_large(send(stream, &reply, key.as_ref()), |r| send(stream, &DataPathReply::Refused(r), None))?;
            }
            Door::Control => {
                let mut from = Deadline::new(stream, FRAME_LIMIT);
                let (request, secret) = match read_frame::<ControlRequest>(&mut from, MAX_CONTROL_REQUEST) {
                    Ok(None) => return Ok(()),
                    Ok(Some(frame)) => frame,
                    Err(e) => {
                        send(stream, &ControlReply::Refused(not_understood(&e)), None)?;
                        return Err(e);
                    }
                };
                if let ControlRequest::Audit { request: AuditRequest::Export { order } } = &request {
                    export(authority, authority.authorise(actor, &request), order, stream)?;
                } else {
                    let reply = control(authority, actor, request, secret).unwrap_or_else(ControlReply::Refused);
                    too_large(send(stream, &reply, None), |r| send(stream, &ControlReply::Refused(r), None))?;
                }
            }
        }
    }
    Ok(())
}

fn not_understood(e: &io::Error) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, format!("the request was not understood: {e}"), "use programs of one version")
}

/// A reply beyond the limit, of which nothing was sent, becomes a refusal that says so.
fn too_large(sent: io::Result<()>, refuse: impl FnOnce(Refusal) -> io::Result<()>) -> io::Result<()> {
    match sent {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => refuse(Refusal::new(
            RefusalCode::Internal,
            format!("the answer is too large: {e}"),
            "ask for less at a time",
        )),
        other => other,
    }
}

fn send(stream: &UnixStream, reply: &impl Serialize, key: Option<&DataKey>) -> io::Result<()> {
    write_frame(&mut Deadline::new(stream, FRAME_LIMIT), reply, key, MAX_REPLY)
}

/// Refuses what is asked for a unit that there is not.
fn known_unit(
    config: &ServerConfig,
    authority: &Authority,
    actor: Actor,
    request: &DataPathRequest,
) -> Result<(), Refusal> {
    match (&config.units, request.unit()) {
        (Some(units), Some(unit)) if !units.contains(unit) => Err(authority.foreign_unit(actor, unit)),
        _ => Ok(()),
    }
}

type DataPathAnswer = (DataPathReply, Option<DataKey>);

fn data_path(
    authority: &Authority,
    door: Door,
    actor: Actor,
    request: DataPathRequest,
) -> Result<DataPathAnswer, Refusal> {
    use DataPathRequest as Q;
    let stream = matches!(request, Q::CreateStream { .. } | Q::LoadStream { .. } | Q::FinishStream { .. });
    if stream != (door == Door::Stream) {
        let what = format!("this cannot be asked on {}", door.name());
        return Err(Refusal::new(RefusalCode::NotAllowed, what, "streams have a socket of their own"));
    }
    let done = |()| (DataPathReply::Done, None);
    Ok(match request {
        Q::CreateVolume { ticket, unit, replaces, cartridge } => {
            (DataPathReply::Volume(authority.create_volume(actor, &ticket, &unit, replaces, &cartridge)?), None)
        }
        Q::AuthorizeByPolicy { unit, cartridge } => {
            (DataPathReply::Ticket { ticket: authority.authorize_by_policy(&unit, &cartridge)? }, None)
        }
        Q::CreateGeneration { unit, volume, partition, suite } => {
            let (generation, key) = authority.create_generation(actor, &unit, volume, partition, suite)?;
            (DataPathReply::Generation(generation), Some(key))
        }
        Q::ActivateGeneration { unit, at, commitment } => {
            done(authority.activate_generation(actor, &unit, at, commitment)?)
        }
        Q::Lookup { unit, volume } => (DataPathReply::View(authority.lookup(actor, &unit, volume)?), None),
        Q::Load { unit, at, cartridge } => {
            let learn_cartridge = authority.check_cartridge(actor, &unit, at.volume, &cartridge)?;
            let (loaded, key) = authority.load(actor, &unit, at)?;
            (DataPathReply::Loaded(Loaded { learn_cartridge, ..loaded }), Some(key))
        }
        Q::LearnCartridge { unit, volume, cartridge } => {
            done(authority.learn_cartridge(actor, &unit, volume, &cartridge)?)
        }
        Q::OpenSession { unit, at, session } => {
            (DataPathReply::Session { ordinal: authority.open_session(actor, &unit, at, &session)? }, None)
        }
        Q::RecordSync { unit, at, end } => done(authority.record_sync(actor, &unit, at, &end)?),
        Q::Release { unit, volume } => done(authority.returned(actor, &unit, volume)?),
        Q::Incident { unit, volume, text } => done(authority.incident(actor, &unit, volume, &text)?),
        Q::Watch { after } => {
            let (to, keys) = authority.ended_after(after)?;
            (DataPathReply::Ended { to, keys }, None)
        }
        Q::Renew { unit, at } => {
            let (lease_seconds, rights) = authority.renew(actor, &unit, at)?;
            (DataPathReply::Renewed { lease_seconds, rights }, None)
        }
        Q::CreateStream { pool } => {
            let (generation, key) = authority.create_stream(actor, pool.as_deref())?;
            (DataPathReply::Generation(generation), Some(key))
        }
        Q::LoadStream { at } => {
            let (loaded, key) = authority.load_stream(actor, at)?;
            (DataPathReply::Loaded(loaded), Some(key))
        }
        Q::FinishStream { volume, records, last_tag } => {
            done(authority.finish_stream(actor, volume, records, last_tag)?)
        }
    })
}

fn control(
    authority: &Authority,
    actor: Actor,
    request: ControlRequest,
    secret: Option<DataKey>,
) -> Result<ControlReply, Refusal> {
    use ControlRequest as Q;
    let done = |()| ControlReply::Done;
    let actor = authority.authorise(actor, &request)?;
    Ok(match request {
        Q::AuthorizeLabel(order) => ControlReply::Ticket(authority.authorize_label(actor, &order)?),
        Q::ListVolumes(query) => {
            let (mut page, visible) = (authority.list_volumes(&query)?, authority.visible(actor)?);
            page.volumes.retain(|v| visible(&v.pool));
            ControlReply::Volumes(page)
        }
        Q::ShowVolume { volume } => ControlReply::Volume(authority.show_volume(&volume)?),
        Q::SetVolumeState { volume, state, reason } => {
            done(authority.set_volume_state(actor, &volume, state, &reason)?)
        }
        Q::SetCartridge { volume, cartridge, reason } => {
            done(authority.set_cartridge(actor, &volume, &cartridge, &reason)?)
        }
        Q::ListPools => {
            let (mut pools, visible) = (authority.pools_with_tenants()?, authority.visible(actor)?);
            pools.retain(|p| visible(&p.policy.name));
            ControlReply::Pools(pools)
        }
        Q::CreatePool { policy, tenant } => done(authority.create_pool_of(actor, tenant.as_deref(), &policy)?),
        Q::Tenants { request } => ControlReply::Tenants(authority.serve_tenants(actor, request)?),
        Q::RestrictUnit { unit, pools } => done(authority.restrict_unit(actor, &unit, &pools)?),
        Q::Checkpoint => ControlReply::Checkpoint(authority.checkpoint()?),
        Q::Status => ControlReply::Status(authority.status()?),
        Q::ClearPinLatch => done(authority.clear_pin_latch(actor)?),
        Q::Hsm { request } => ControlReply::Hsm(authority.serve_hsm(actor, request)?),
        Q::Keys { request } => ControlReply::Keys(authority.serve_keys(actor, request)?),
        Q::Dual { request } => ControlReply::Dual(authority.serve_dual(actor, request)?),
        Q::Destruction { request } => ControlReply::Destruction(authority.serve_destruction(actor, request)?),
        Q::Exchange { request } => ControlReply::Exchange(authority.serve_exchange(actor, request, secret)?),
        Q::Recovery { request } => ControlReply::Recovery(authority.serve_recovery(actor, request)?),
        Q::Backup { request } => ControlReply::Backup(authority.serve_backup(actor, request)?),
        Q::Audit { request } => ControlReply::Audit(authority.serve_audit(actor, request)?),
    })
}

fn export(
    authority: &Authority,
    authorised: Result<Actor, Refusal>,
    order: &ExportOrder,
    stream: &UnixStream,
) -> io::Result<()> {
    let refused = |refusal| send(stream, &ControlReply::Refused(refusal), None);
    let mut run = match authorised.and_then(|actor| authority.audit_begin(actor, order)) {
        Ok(run) => run,
        Err(refusal) => return refused(refusal),
    };
    loop {
        match run.next_part(authority) {
            Ok(Some(lines)) => send(stream, &ControlReply::ExportPart(lines), None)?,
            Ok(None) => return send(stream, &ControlReply::Exported(run.checkpoint().clone()), None),
            Err(refusal) => return refused(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_use_which_door() {
        let own = geteuid().as_raw();
        let config = ServerConfig {
            data_path_uids: vec![5001],
            control_group: Some(6001),
            stream_group: Some(6002),
            ..ServerConfig::new("/nonexistent")
        };
        let peer = |uid, gid| Peer { uid, gid };
        // Door, then: own user, data path, control group, stream group, anybody.
        let table = [
            (Door::Keys, [true, true, false, false, false]),
            (Door::Stream, [true, true, false, true, false]),
            (Door::Control, [true, false, true, false, false]),
        ];
        for (door, wanted) in table {
            let peers = [peer(own, 7000), peer(5001, 7000), peer(5002, 6001), peer(5002, 6002), peer(5002, 7000)];
            assert_eq!(peers.map(|p| door.admits(&config, p)), wanted, "{door:?}");
        }
        // Root holds no data keys of tapes unless it is the data path.
        assert_eq!(Door::Keys.admits(&config, peer(0, 0)), own == 0);
        assert!(Door::Control.admits(&config, peer(0, 0)) && Door::Stream.admits(&config, peer(0, 0)));
        let bare = ServerConfig::new("/nonexistent");
        assert!(!Door::Control.admits(&bare, peer(5002, 6001)));
    }
}
