//! The command ring: entries parsed once and checked whole, answers written in place.
//!
//! The kernel writes an entry, then moves `cmd_head` past it (store-release). We load `cmd_head` with acquire before we read
//! an entry, so we see all of it. We write the response over the request and move `cmd_tail` past it (store-release), so
//! that the kernel, which reads `cmd_tail` first, sees all of the response. Our place in the ring is kept on our side; the
//! mailbox is looked at only to notice that somebody reset it. Entries are finished in their order: a tape's commands have one.
//!
//! What comes from the ring is believed only as far as it was checked: a broken or hostile ring gives a [`RingError`].

use super::layout::{
    CAP_READ_LEN, CAP_TMR, ENTRY_ALIGNMENT, MAILBOX_VERSION, OP_COMMAND, OP_PAD, OP_TASK_MANAGEMENT, OPERATION_MASK,
    SENSE_LENGTH, UFLAG_READ_LEN, entry, mailbox,
};
use super::sys::{OutOfBounds, Region};

/// Why a ring cannot be served (any more).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel's side of the interface is another version.
    #[error("the kernel speaks version {0} of the target_core_user ring, and Sealtape version {MAILBOX_VERSION}")]
    Version(u16),
    /// The kernel lacks short reads or task management.
    #[error("the kernel's target_core_user is too old (capabilities {0:#x}): Linux 5.10 or later is needed")]
    Capabilities(u16),
    /// Command ring and data area do not lie within the map, or not one after the other.
    #[error("the ring does not fit its map: {size} bytes at {offset} of {map}")]
    Mailbox {
        /// Where the ring begins.
        offset: u32,
        /// Its length.
        size: u32,
        /// Length of the map.
        map: usize,
    },
    /// Somebody else resets the ring, or serves it.
    #[error("the ring was reset, or served by somebody else: our place in it is {ours}, and it says {found}")]
    Moved {
        /// The place that we keep.
        ours: u32,
        /// The place in the mailbox, which is ours to write.
        found: u32,
    },
    /// The kernel's place in the ring is none.
    #[error("the kernel's place {0} does not lie in the ring")]
    Head(u32),
    /// An entry that cannot be one.
    #[error("the entry at {at} of the ring is broken: {what}")]
    Entry {
        /// Where, from the beginning of the ring.
        at: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// A place outside the map.
    #[error("{length} bytes at {at} do not lie in the map")]
    OutOfBounds {
        /// Where.
        at: usize,
        /// How many bytes.
        length: usize,
    },
}

impl From<OutOfBounds> for RingError {
    fn from(OutOfBounds { at, length }: OutOfBounds) -> Self {
        Self::OutOfBounds { at, length }
    }
}

/// A stretch of the data area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    at: usize,
    length: usize,
}

/// A command that waits for its answer. Its buffers are used again for the next one.
#[derive(Default, Debug)]
pub(super) struct Request {
    /// Place of the entry, from the beginning of the map.
    at: usize,
    /// The entry's length.
    length: u32,
    segments: Vec<Segment>,
    /// The command descriptor block, as long as its operation code asks for.
    pub(super) cdb: Vec<u8>,
    /// Bytes of the data area that are the command's, whichever way they go.
    pub(super) data_length: usize,
    /// The kernel's number of the command, for the log.
    pub(super) id: u16,
    /// Data both ways: nothing that a tape or disk served here is asked for.
    pub(super) bidirectional: bool,
}

/// What the ring has next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Nothing: wait.
    Empty,
    /// A command; it stands in the request.
    Command,
    /// A task management function was carried out (`TCMU_TMR_*`); it is finished already.
    TaskManagement { function: u8, commands: u32 },
}

/// The ring of one device.
#[derive(Debug)]
pub(super) struct Ring {
    region: Region,
    offset: usize,
    size: u32,
    tail: u32,
    data_offset: usize,
}

impl Ring {
    /// Takes up a ring that is empty or that the kernel has reset.
    pub(super) fn new(region: Region) -> Result<Self, RingError> {
        let version = region.read::<u16>(mailbox::VERSION)?;
        if version != MAILBOX_VERSION {
            return Err(RingError::Version(version));
        }
        let flags = region.read::<u16>(mailbox::FLAGS)?;
        if flags & (CAP_READ_LEN | CAP_TMR) != CAP_READ_LEN | CAP_TMR {
            return Err(RingError::Capabilities(flags));
        }
        let (offset, size) = (region.read::<u32>(mailbox::RING_OFFSET)?, region.read::<u32>(mailbox::RING_SIZE)?);
        let map = region.length();
        let data_offset = (offset as usize).checked_add(size as usize).filter(|&end| end <= map);
        let aligned = (offset | size).is_multiple_of(ENTRY_ALIGNMENT);
        let Some(data_offset) = data_offset.filter(|_| aligned && offset as usize >= mailbox::SIZE && size > 0) else {
            return Err(RingError::Mailbox { offset, size, map });
        };
        let mut ring = Self { region, offset: offset as usize, size, tail: 0, data_offset };
        ring.restart()?;
        Ok(ring)
    }

    /// Goes on after the kernel has reset the ring: it starts at the kernel's idea of where we are.
    pub(super) fn restart(&mut self) -> Result<(), RingError> {
        let tail = self.region.load_acquire(mailbox::TAIL)?;
        if tail >= self.size || !tail.is_multiple_of(ENTRY_ALIGNMENT) {
            return Err(RingError::Entry { at: tail, what: "the ring is taken up outside itself" });
        }
        self.tail = tail;
        Ok(())
    }

    /// Bytes of the data area: no command can have more data.
    fn data_area(&self) -> usize {
        self.region.length() - self.data_offset
    }

    /// What is next. A command stays where it is until it is [completed](Self::complete).
    pub(super) fn next(&mut self, request: &mut Request) -> Result<Next, RingError> {
        loop {
            let head = self.region.load_acquire(mailbox::HEAD)?;
            if head >= self.size || !head.is_multiple_of(ENTRY_ALIGNMENT) {
                return Err(RingError::Head(head));
            }
            // A reset from outside (`action/reset_ring`) writes tail, then head: what lies between our tail and the new head is
            // old then, and an old WRITE must not be done again. So head is read before tail.
            let found = self.region.load_acquire(mailbox::TAIL)?;
            if found != self.tail {
                return Err(RingError::Moved { ours: self.tail, found });
            }
            if head == self.tail {
                return Ok(Next::Empty);
            }
            let at = self.offset + self.tail as usize;
            let word = self.region.read::<u32>(at + entry::LENGTH_AND_OPERATION)?;
            let (operation, length) = (word & OPERATION_MASK, word & !OPERATION_MASK);
            // An entry lies whole before the head, or, where the head has wrapped, before the end of the ring.
            let filled = if head > self.tail { head - self.tail } else { self.size - self.tail };
            if length == 0 || length > filled {
                return Err(self.broken("its length is not that of an entry"));
            }
            match operation {
                OP_PAD => self.advance(length)?,
                OP_COMMAND => return self.command(at, length, request).map(|()| Next::Command),
                OP_TASK_MANAGEMENT => {
                    if (length as usize) < entry::TASK_MANAGEMENT_SIZE {
                        return Err(self.broken("too short for task management"));
                    }
                    let function = self.region.read::<u8>(at + entry::TASK_MANAGEMENT)?;
                    let commands = self.region.read::<u32>(at + entry::AFFECTED_COMMANDS)?;
                    self.advance(length)?;
                    return Ok(Next::TaskManagement { function, commands });
                }
                _ => return Err(self.broken("its operation is unknown")),
            }
        }
    }

    fn command(&self, at: usize, length: u32, request: &mut Request) -> Result<(), RingError> {
        let end = at + length as usize;
        if (length as usize) < entry::SIZE {
            return Err(self.broken("too short for a command"));
        }
        let count = self.region.read::<u32>(at + entry::IOV_COUNT)?;
        if count as usize > (length as usize - entry::IOV) / entry::IOV_SIZE {
            return Err(self.broken("more stretches of data than it has room for"));
        }
        request.segments.clear();
        let mut total = 0_usize;
        for index in 0..count as usize {
            let place = at + entry::IOV + index * entry::IOV_SIZE;
            let segment = self.segment(self.region.read(place)?, self.region.read(place + 8)?)?;
            total = total.saturating_add(segment.length);
            // Overlapping stretches could name the same bytes over and over.
            if total > self.data_area() {
                return Err(self.broken("more data than the data area holds"));
            }
            request.segments.push(segment);
        }
        let cdb = self.region.read::<u64>(at + entry::CDB_OFFSET)?;
        let cdb = usize::try_from(cdb).ok().filter(|&cdb| cdb >= at + entry::HEADER_SIZE && cdb < end);
        let Some(cdb) = cdb else { return Err(self.broken("its command descriptor block lies outside it")) };
        let operation = self.region.read::<u8>(cdb)?;
        let additional = if cdb + 7 < end { self.region.read::<u8>(cdb + 7)? } else { 0 };
        let cdb_length = cdb_length(operation, additional);
        if cdb_length > end - cdb {
            return Err(self.broken("its command descriptor block is cut off"));
        }
        request.cdb.resize(cdb_length, 0);
        self.region.copy_from(cdb, &mut request.cdb)?;
        request.bidirectional = self.region.read::<u32>(at + entry::IOV_BIDI_COUNT)? > 0;
        request.id = self.region.read(at + entry::ID)?;
        (request.at, request.length, request.data_length) = (at, length, total);
        Ok(())
    }

    /// A stretch of data must lie in the data area: the ring itself is no data.
    fn segment(&self, base: u64, length: u64) -> Result<Segment, RingError> {
        let place = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let segment = Segment { at: place(base), length: place(length) };
        match segment.at.checked_add(segment.length) {
            Some(end) if segment.at >= self.data_offset && end <= self.region.length() => Ok(segment),
            _ => Err(RingError::OutOfBounds { at: segment.at, length: segment.length }),
        }
    }

    /// Gathers the command's data into `data`, which is as long as the data.
    pub(super) fn gather(&self, request: &Request, data: &mut [u8]) -> Result<(), RingError> {
        let mut rest = data;
        for segment in &request.segments {
            let Some((now, later)) = rest.split_at_mut_checked(segment.length) else { break };
            self.region.copy_from(segment.at, now)?;
            rest = later;
        }
        Ok(())
    }

    /// Scatters `data` over the command's stretches; what it does not fill becomes zeros when `pad` is set.
    pub(super) fn scatter(&mut self, request: &Request, data: &[u8], pad: bool) -> Result<(), RingError> {
        let mut rest = data;
        for segment in &request.segments {
            let (now, later) = rest.split_at(segment.length.min(rest.len()));
            self.region.copy_to(segment.at, now)?;
            if pad {
                self.region.zero(segment.at + now.len(), segment.length - now.len())?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Answers a command and moves past it. `read_length`: how many bytes go to the initiator, where fewer than it has room
    /// for (0 says nothing: the kernel does not look at it then).
    pub(super) fn complete(
        &mut self,
        request: &Request,
        status: u8,
        sense: &[u8],
        read_length: u32,
    ) -> Result<(), RingError> {
        if request.at != self.offset + self.tail as usize {
            return Err(self.broken("it is answered out of its turn"));
        }
        let mut buffer = [0; SENSE_LENGTH];
        for (to, from) in buffer.iter_mut().zip(sense) {
            *to = *from;
        }
        let at = request.at;
        self.region.write(at + entry::STATUS, status)?;
        self.region.write(at + entry::READ_LENGTH, read_length)?;
        self.region.copy_to(at + entry::SENSE, &buffer)?;
        let flags = if read_length > 0 { UFLAG_READ_LEN } else { 0 };
        self.region.write(at + entry::UFLAGS, flags)?;
        self.advance(request.length)
    }

    fn advance(&mut self, length: u32) -> Result<(), RingError> {
        let next = self.tail + length;
        self.tail = if next >= self.size { next - self.size } else { next };
        Ok(self.region.store_release(mailbox::TAIL, self.tail)?)
    }

    fn broken(&self, what: &'static str) -> RingError {
        RingError::Entry { at: self.tail, what }
    }
}

/// Length of a command descriptor block as the kernel puts it into the ring: by operation code, and for variable-length
/// blocks (7Fh) by byte 7. Vendor groups are 10 bytes there, group 3 is 12.
fn cdb_length(operation: u8, additional: u8) -> usize {
    match (operation, operation >> 5) {
        (0x7f, _) => 8 + usize::from(additional),
        (_, 0) => 6,
        (_, 1 | 2 | 6 | 7) => 10,
        (_, 4) => 16,
        _ => 12,
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
pub(super) mod tests;
