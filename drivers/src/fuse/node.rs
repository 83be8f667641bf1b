//! What a node asks of the tape behind it.

use nix::errno::Errno;

use super::mtio::{MtOp, MtStatus};
use crate::medium::RecordBuffer;

/// Who opens a node, as the kernel tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opener {
    /// Process (thread) that called `open`; other processes may come to share the open file.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// The access mode of `open`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`.
    ReadWrite,
}

/// One `open` of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenRequest {
    /// Who.
    pub opener: Opener,
    /// What for.
    pub access: Access,
    /// `O_NONBLOCK`: succeed without a medium.
    pub nonblocking: bool,
    /// Whether this is `stN`, which rewinds at close, and not `nstN`.
    pub rewind_at_close: bool,
}

/// A tape behind a pair of nodes.
///
/// The front end calls from one thread per tape, one call at a time, in the order in which the
/// kernel delivered the requests, and never calls `open` again before `release`. A call may take as
/// long as the drive takes (minutes); it holds up this tape only.
pub trait TapeNode: Send + Sync {
    /// `open`. Also the place to report that the closing of the opener before failed.
    fn open(&self, request: &OpenRequest) -> Result<(), Errno>;

    /// `read`: one record (in fixed block mode: so many blocks). Returns the number of bytes put at
    /// the beginning of `buffer`, 0 at a filemark.
    fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno>;

    /// `write`: one record (in fixed block mode: so many blocks). Returns the bytes accepted.
    fn write(&self, record: &[u8]) -> Result<usize, Errno>;

    /// [`read`](Self::read) of at most `longest` bytes into a buffer that may be exchanged.
    fn read_record(&self, longest: usize, record: &mut RecordBuffer) -> Result<(), Errno> {
        let length = self.read(record.room(longest))?;
        record.keep(length);
        Ok(())
    }

    /// [`write`](Self::write) of a record whose buffer may be kept, with another one left in its place.
    fn write_record(&self, record: &mut RecordBuffer) -> Result<usize, Errno> {
        self.write(record.as_slice())
    }

    /// `MTIOCTOP`.
    fn mt_op(&self, op: MtOp, count: i32) -> Result<(), Errno>;

    /// `MTIOCGET`.
    fn mt_get(&self) -> Result<MtStatus, Errno>;

    /// `MTIOCPOS`: number of the next logical object in the partition.
    fn mt_pos(&self) -> Result<u64, Errno>;

    /// `close` of any descriptor of the open file, and `fsync`: everything acknowledged stands on
    /// the medium when this returns `Ok`. Nothing else is written.
    fn flush(&self) -> Result<(), Errno>;

    /// The last descriptor is gone: closing filemark, rewind. Nobody hears an error from here; the
    /// node keeps it for the next `open`.
    fn release(&self);

    /// The service is stopping: a call that waits (an `open` for a medium) is to give up. May come
    /// from another thread while a call is running.
    fn interrupt(&self) {}
}
