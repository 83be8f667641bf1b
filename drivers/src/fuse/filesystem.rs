//! The folder: a directory with two files per drive, whose requests go to the drives' threads.

use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno as FuseErrno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::limits::TransferLimit;
use super::mtio::{self, MTIOCGET, MTIOCGET_32, MTIOCPOS, MTIOCPOS_32, MTIOCTOP};
use super::node::{Access, OpenRequest, Opener};
use super::worker::{Drive, Job};

/// Nothing is cached: another mount or a restart may change it at any time.
const TTL: Duration = Duration::ZERO;
/// Inode of the first node; drive `i` has this + 2i (`stN`) and this + 2i + 1 (`nstN`).
const FIRST_NODE: u64 = 2;

/// Owner and mode of the nodes.
#[derive(Clone, Copy)]
pub(super) struct Ownership {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u16,
}

pub(super) struct NodeFolder {
    drives: Vec<Arc<Drive>>,
    ownership: Ownership,
    mounted_at: SystemTime,
    /// Shared with the handle: settled by the handshake with the kernel.
    limit: Arc<Mutex<TransferLimit>>,
    max_record: usize,
}

impl NodeFolder {
    pub(super) fn new(drives: Vec<Arc<Drive>>, ownership: Ownership, limit: Arc<Mutex<TransferLimit>>) -> Self {
        Self { drives, ownership, mounted_at: SystemTime::now(), limit, max_record: 0 }
    }

    /// The drive behind an inode, and whether the node rewinds at close.
    fn node(&self, ino: INodeNo) -> Option<(&Arc<Drive>, bool)> {
        let index = ino.0.checked_sub(FIRST_NODE)?;
        let drive = self.drives.get(usize::try_from(index / 2).ok()?)?;
        Some((drive, index % 2 == 0))
    }

    fn names(&self) -> impl Iterator<Item = (INodeNo, String)> + '_ {
        self.drives.iter().zip((FIRST_NODE..).step_by(2)).flat_map(|(drive, ino)| {
            [(INodeNo(ino), format!("st{}", drive.number)), (INodeNo(ino + 1), format!("nst{}", drive.number))]
        })
    }

    fn attributes(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, perm, nlink) = match ino {
            INodeNo::ROOT => (FileType::Directory, 0o755, 2),
            ino => {
                self.node(ino)?;
                (FileType::RegularFile, self.ownership.mode, 1)
            }
        };
        Some(FileAttr {
            ino,
            size: 0,
            blocks: 0,
            atime: self.mounted_at,
            mtime: self.mounted_at,
            ctime: self.mounted_at,
            crtime: self.mounted_at,
            kind,
            perm,
            nlink,
            uid: self.ownership.uid,
            gid: self.ownership.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// Whether a transfer may have been cut by the kernel, and so must be refused.
    fn too_long(&self, drive: &Drive, what: &str, length: usize) -> bool {
        let too_long = length > self.max_record;
        if too_long && drive.tell_once() {
            tracing::warn!(
                drive = %drive.name, length, longest = self.max_record,
                "{what} refused (EINVAL): longer than the kernel carries in one piece; use blocks of 256 or 512 KiB, or raise fs.fuse.max_pages_limit before the service starts"
            );
        }
        too_long
    }
}

impl Filesystem for NodeFolder {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if !config.capabilities().contains(InitFlags::FUSE_MAX_PAGES) {
            *limit = TransferLimit::of_old_kernel();
        }
        // The nearest value that succeeds comes back as the error; it is never less than wanted,
        // since the pages are bounded by what the crate can receive.
        if let Err(nearest) = config.set_max_write(limit.pages * 4096) {
            return Err(io::Error::other(format!("the FUSE library takes requests of {nearest} bytes at most")));
        }
        self.max_record = limit.max_record() as usize;
        // A RELEASE is a background request and may take as long as a rewind: those of all drives
        // together must not hold back another drive's.
        let background = u16::try_from(64 + 4 * self.drives.len()).unwrap_or(u16::MAX);
        if let Err(nearest) = config.set_max_background(background) {
            tracing::warn!(nearest, "the FUSE library does not take {background} background requests");
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = (parent == INodeNo::ROOT).then(|| self.names().find(|(_, known)| name == known.as_str())).flatten();
        match found.and_then(|(ino, _)| self.attributes(ino)) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(FuseErrno::ENOENT),
        }
    }

    fn forget(&self, _request: &Request, _ino: INodeNo, _lookups: u64) {}

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(FuseErrno::ENOENT),
        }
    }

    /// `O_TRUNC` and times are accepted and change nothing; owner and mode come from the
    /// configuration.
    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let Some(attributes) = self.attributes(ino) else {
            return reply.error(FuseErrno::ENOENT);
        };
        let same_mode = mode.is_none_or(|mode| mode & 0o7777 == u32::from(attributes.perm));
        let same_owner = uid.is_none_or(|uid| uid == attributes.uid) && gid.is_none_or(|gid| gid == attributes.gid);
        if same_mode && same_owner { reply.attr(&TTL, &attributes) } else { reply.error(FuseErrno::EPERM) }
    }

    fn readdir(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if ino != INodeNo::ROOT {
            return reply.error(FuseErrno::ENOTDIR);
        }
        let entries = [
            (INodeNo::ROOT, FileType::Directory, ".".to_owned()),
            (INodeNo::ROOT, FileType::Directory, "..".to_owned()),
        ]
        .into_iter()
        .chain(self.names().map(|(ino, name)| (ino, FileType::RegularFile, name)));
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, (ino, kind, name)) in (1..).zip(entries).skip(skip) {
            if reply.add(ino, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Some((drive, rewind_at_close)) = self.node(ino) else {
            return reply.error(FuseErrno::EISDIR);
        };
        let access = match flags.acc_mode() {
            OpenAccMode::O_RDONLY => Access::Read,
            OpenAccMode::O_WRONLY => Access::Write,
            OpenAccMode::O_RDWR => Access::ReadWrite,
        };
        let opener = Opener { pid: process_of(request.pid()), uid: request.uid(), gid: request.gid() };
        let nonblocking = flags.0 & libc::O_NONBLOCK != 0;
        drive.open(OpenRequest { opener, access, nonblocking, rewind_at_close }, reply);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((drive, _)) = self.node(ino) else {
            return reply.error(FuseErrno::EISDIR);
        };
        let size = size as usize;
        if self.too_long(drive, "read", size) {
            return reply.error(FuseErrno::EINVAL);
        }
        drive.request(Job::Read { size, reply });
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some((drive, _)) = self.node(ino) else {
            return reply.error(FuseErrno::EISDIR);
        };
        if self.too_long(drive, "write", data.len()) {
            return reply.error(FuseErrno::EINVAL);
        }
        drive.request(Job::Write { record: drive.copy_record(data), reply });
    }

    fn ioctl(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        let Some((drive, _)) = self.node(ino) else {
            return reply.error(FuseErrno::ENOTTY);
        };
        match command {
            MTIOCTOP => match mtio::parse_operation(input) {
                Some((op, count)) => drive.request(Job::Operate { op, count, reply }),
                None => reply.error(FuseErrno::EINVAL),
            },
            MTIOCGET | MTIOCGET_32 => drive.request(Job::Status { short: command == MTIOCGET_32, reply }),
            MTIOCPOS | MTIOCPOS_32 => drive.request(Job::Position { short: command == MTIOCPOS_32, reply }),
            _ => reply.error(FuseErrno::ENOTTY),
        }
    }

    fn flush(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        match self.node(ino) {
            Some((drive, _)) => drive.request(Job::Flush { reply }),
            None => reply.ok(),
        }
    }

    fn fsync(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        match self.node(ino) {
            Some((drive, _)) => drive.request(Job::Flush { reply }),
            None => reply.ok(),
        }
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        match self.node(ino) {
            Some((drive, _)) => drive.release(handle.0, reply),
            None => reply.ok(),
        }
    }

    // What follows is answered "not here" without the library's warning for each request; the kernel
    // asks once.

    fn access(&self, _request: &Request, _ino: INodeNo, _mask: fuser::AccessFlags, reply: ReplyEmpty) {
        reply.error(FuseErrno::ENOSYS);
    }

    fn getxattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(FuseErrno::ENOSYS);
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(FuseErrno::ENOSYS);
    }

    fn poll(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _notifier: fuser::PollNotifier,
        _events: fuser::PollEvents,
        _flags: fuser::PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(FuseErrno::ENOSYS);
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(FuseErrno::ESPIPE);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(FuseErrno::EOPNOTSUPP);
    }
}

/// The kernel names the thread that opened; people and their tools know processes. A thread that is gone, or that
/// another namespace hides, keeps its own number.
fn process_of(thread: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    group.and_then(|number| number.trim().parse().ok()).unwrap_or(thread)
}

#[cfg(test)]
mod tests {
    use super::process_of;

    #[test]
    fn a_thread_is_told_by_its_process() {
        let here = || {
            let own = std::fs::read_link("/proc/thread-self").unwrap();
            let thread = own.file_name().unwrap().to_str().unwrap().parse().unwrap();
            assert_ne!(thread, std::process::id());
            process_of(thread)
        };
        assert_eq!(std::thread::spawn(here).join().unwrap(), std::process::id());
        assert_eq!(process_of(u32::MAX), u32::MAX);
    }
}
