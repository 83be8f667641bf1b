//! Mounting the folder, and the handle that keeps it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use nix::unistd::{getegid, geteuid};

use super::filesystem::{NodeFolder, Ownership};
use super::limits::{self, TransferLimit};
use super::mountpoint::{self, SOURCE};
use super::node::TapeNode;
use super::worker::Drive;

/// A drive and the number of its nodes: `stN` and `nstN`.
pub struct DriveNodes {
    /// N.
    pub number: u16,
    /// The drive's name in configuration and log.
    pub name: String,
    /// What answers.
    pub node: Arc<dyn TapeNode>,
}

/// Whether other users than the one who mounts may enter the folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AllowOther {
    /// Where it is permitted: as root, or with `user_allow_other` in `/etc/fuse.conf`.
    #[default]
    WherePermitted,
    /// Never.
    Never,
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Owner of the nodes; `None`: the user of this process.
    pub uid: Option<u32>,
    /// Group of the nodes; `None`: the group of this process.
    pub gid: Option<u32>,
    /// Permission bits of the nodes.
    pub mode: u16,
    /// The longest record that ought to fit, in bytes.
    pub max_block: u32,
    /// Whether to raise the host's `fs.fuse.max_pages_limit` (as root) so that it does.
    pub raise_limit: bool,
    /// Access for other users.
    pub allow_other: AllowOther,
    /// How long stopping waits for a drive that is in the middle of a command.
    pub stop_timeout: Duration,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            uid: None,
            gid: None,
            mode: 0o660,
            max_block: 1 << 20,
            raise_limit: true,
            allow_other: AllowOther::WherePermitted,
            stop_timeout: Duration::from_secs(60),
        }
    }
}

/// Why a folder was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The folder cannot be used.
    #[error("{folder}: {error}; name an existing, empty folder for the drive nodes")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something is in the folder.
    #[error("{folder} is not empty (it holds {found:?}): the drive nodes would hide it; name an empty folder")]
    NotEmpty {
        /// Which.
        folder: PathBuf,
        /// One of its entries.
        found: OsString,
    },
    /// A program wrote to a node while no service was running.
    #[error(
        "{file} is a plain file with the name of a drive node: a program wrote there, in clear text, while no service was running; see what wrote it, move it to a safe place or delete it, then start again"
    )]
    WrittenInClear {
        /// Which file.
        file: PathBuf,
    },
    /// A running service has the folder.
    #[error(
        "{folder} already holds drive nodes: another service is running on it; stop that one, or name another folder"
    )]
    Served {
        /// Which.
        folder: PathBuf,
    },
    /// A dead mount that is not ours.
    #[error(
        "{folder} is a dead mount of another file system: unmount it (fusermount3 -u -z {folder}), then start again"
    )]
    Foreign {
        /// Which.
        folder: PathBuf,
    },
    /// A dead mount of ours that does not go away.
    #[error(
        "{folder} holds the mount of a killed service, and it cannot be taken away: {error}; run fusermount3 -u -z {folder}, then start again"
    )]
    Stale {
        /// Which.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Two drives have the same number, or there is none.
    #[error("drive numbers: {0}")]
    Numbers(String),
    /// `/dev/fuse` cannot be opened.
    #[error("/dev/fuse: {0}; load the module fuse (modprobe fuse), and let this user read and write /dev/fuse")]
    Device(io::Error),
    /// The kernel or `fusermount3` refused.
    #[error("{folder}: mounting failed: {error}")]
    Mount {
        /// Which folder.
        folder: PathBuf,
        /// What they said.
        error: io::Error,
    },
    /// No thread.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
}

impl MountError {
    pub(super) fn folder(folder: &Path, error: io::Error) -> Self {
        Self::Folder { folder: folder.to_path_buf(), error }
    }
}

/// The nodes of one drive as clients find them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodePaths {
    /// The drive's name.
    pub drive: String,
    /// `stN`, which rewinds at close.
    pub rewinding: PathBuf,
    /// `nstN`, which does not.
    pub non_rewinding: PathBuf,
}

/// A mounted folder. Dropping it stops it, see [`Mounted::stop`].
pub struct Mounted {
    folder: PathBuf,
    device_minor: u64,
    limit: Arc<Mutex<TransferLimit>>,
    drives: Vec<Arc<Drive>>,
    workers: Vec<JoinHandle<()>>,
    session: Option<JoinHandle<io::Result<()>>>,
    unmounter: SessionUnmounter,
    stop_timeout: Duration,
    stopped: bool,
}

/// Mounts `folder` and serves the nodes of `drives` in it until the handle is stopped or dropped.
pub fn mount(folder: &Path, drives: Vec<DriveNodes>, options: &MountOptions) -> Result<Mounted, MountError> {
    check_numbers(&drives)?;
    let folder = mountpoint::prepare(folder)?;
    let limit = TransferLimit::determine(options.max_block, options.raise_limit);
    if limit.max_record() < options.max_block {
        tracing::warn!(
            longest = limit.max_record(), wanted = options.max_block, why = %limit.explanation,
            "records of the longest configured size will be refused; use blocks of 256 or 512 KiB"
        );
    } else {
        tracing::info!(longest = limit.max_record(), why = %limit.explanation, "record length");
    }
    if let Some(seconds) = limits::request_timeout_s() {
        tracing::error!(
            seconds,
            "this kernel is set to end FUSE connections whose requests take longer, and a rewind does: \
             set fs.fuse.default_request_timeout and fs.fuse.max_request_timeout to 0, then start again"
        );
    }
    let limit = Arc::new(Mutex::new(limit));
    let drives: Vec<Arc<Drive>> =
        drives.into_iter().map(|drive| Arc::new(Drive::new(drive.number, drive.name, drive.node))).collect();
    let ownership = Ownership {
        uid: options.uid.unwrap_or_else(|| geteuid().as_raw()),
        gid: options.gid.unwrap_or_else(|| getegid().as_raw()),
        mode: options.mode & 0o777,
    };
    let session =
        open_session(&folder, options.allow_other, || NodeFolder::new(drives.clone(), ownership, Arc::clone(&limit)))?;
    start(folder, session, drives, limit, options.stop_timeout)
}

fn check_numbers(drives: &[DriveNodes]) -> Result<(), MountError> {
    let mut numbers: Vec<u16> = drives.iter().map(|drive| drive.number).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        return Err(MountError::Numbers("no drive is configured".into()));
    }
    match numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(MountError::Numbers(format!("two drives have the number {}", pair[0]))),
        None => Ok(()),
    }
}

fn open_session(
    folder: &Path,
    allow_other: AllowOther,
    filesystem: impl Fn() -> NodeFolder,
) -> Result<Session<NodeFolder>, MountError> {
    fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(MountError::Device)?;
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(SOURCE.into()),
        MountOption::DefaultPermissions,
        MountOption::NoExec,
        MountOption::NoSuid,
        MountOption::NoDev,
    ];
    config.acl = match allow_other {
        AllowOther::WherePermitted if others_permitted() => SessionACL::All,
        AllowOther::WherePermitted => {
            tracing::info!(
                "only this user can enter the folder: set user_allow_other in /etc/fuse.conf to admit others"
            );
            SessionACL::Owner
        }
        AllowOther::Never => SessionACL::Owner,
    };
    Session::new(filesystem(), folder, &config)
        .map_err(|error| MountError::Mount { folder: folder.to_path_buf(), error })
}

/// root may always; others when fuse.conf says so.
fn others_permitted() -> bool {
    geteuid().is_root()
        || fs::read_to_string("/etc/fuse.conf")
            .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"))
}

fn start(
    folder: PathBuf,
    mut session: Session<NodeFolder>,
    drives: Vec<Arc<Drive>>,
    limit: Arc<Mutex<TransferLimit>>,
    stop_timeout: Duration,
) -> Result<Mounted, MountError> {
    let unmounter = session.unmount_callable();
    let dispatcher =
        thread::Builder::new().name("fuse-dispatch".into()).spawn(move || session.run()).map_err(MountError::Thread)?;
    let mut mounted = Mounted {
        device_minor: 0,
        folder,
        limit,
        drives,
        workers: Vec::new(),
        session: Some(dispatcher),
        unmounter,
        stop_timeout,
        stopped: false,
    };
    // From here on, dropping the handle on an error takes the mount away again.
    for drive in &mounted.drives {
        let drive = Arc::clone(drive);
        let worker = thread::Builder::new().name(format!("fuse-st{}", drive.number)).spawn(move || drive.serve());
        mounted.workers.push(worker.map_err(MountError::Thread)?);
    }
    let metadata = fs::metadata(&mounted.folder).map_err(|error| MountError::folder(&mounted.folder, error))?;
    mounted.device_minor = nix::sys::stat::minor(metadata.dev());
    tracing::info!(folder = %mounted.folder.display(), drives = mounted.drives.len(), "drive nodes are served");
    Ok(mounted)
}

impl Mounted {
    /// The mounted folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The nodes, in the order in which the drives were given.
    pub fn nodes(&self) -> Vec<NodePaths> {
        let paths = |drive: &Arc<Drive>| NodePaths {
            drive: drive.name.clone(),
            rewinding: self.folder.join(format!("st{}", drive.number)),
            non_rewinding: self.folder.join(format!("nst{}", drive.number)),
        };
        self.drives.iter().map(paths).collect()
    }

    /// How long a record the kernel lets through, and why.
    pub fn limit(&self) -> TransferLimit {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the folder is still mounted; somebody may have unmounted it.
    pub fn is_serving(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_finished())
    }

    /// Ends the service of this folder: no new requests, the commands that run are finished, what
    /// open files wrote is put on the medium, the folder is unmounted even while in use.
    pub fn stop(mut self) -> io::Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        for drive in &self.drives {
            drive.stop();
        }
        let deadline = Instant::now() + self.stop_timeout;
        for (worker, drive) in self.workers.drain(..).zip(&self.drives) {
            if !join_until(worker, deadline) {
                tracing::error!(drive = %drive.name, "the drive did not answer in time; going on without it");
            }
        }
        let mut result = Ok(());
        if self.is_serving() && self.unmounter.unmount().is_err() {
            tracing::warn!(folder = %self.folder.display(), "the folder is in use: unmounting it all the same");
            result = mountpoint::abort(&self.folder, self.device_minor);
        }
        if let Some(session) = self.session.take()
            && !join_until(session, Instant::now() + Duration::from_secs(5))
        {
            // An ordinary user's lazy unmount: the connection ends with the last client, or with us.
            tracing::warn!(folder = %self.folder.display(), "programs still hold nodes of the folder");
        }
        result
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            tracing::error!(folder = %self.folder.display(), %error, "unmounting failed");
        }
    }
}

/// Joins a thread if it ends in time.
fn join_until<T>(thread: JoinHandle<T>, deadline: Instant) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    if thread.join().is_err() {
        tracing::error!("a thread of the folder ended by a panic");
    }
    true
}
