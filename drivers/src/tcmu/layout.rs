//! The shared memory of a `target_core_user` device, as `linux/target_core_user.h` (uapi) lays it out: offsets of what we touch.
//!
//! The structures stand here only so that the compiler proves the offsets; nothing is ever read through them, because a
//! reference into memory that the kernel writes would promise what nobody can keep.

use std::mem::{offset_of, size_of};

/// `TCMU_MAILBOX_VERSION` that this front end speaks.
pub(super) const MAILBOX_VERSION: u16 = 2;
/// The kernel takes the length of short reads from us (Linux 5.0).
pub(super) const CAP_READ_LEN: u16 = 1 << 1;
/// The kernel can tell of task management (Linux 5.10).
pub(super) const CAP_TMR: u16 = 1 << 2;

/// `struct tcmu_mailbox`, at offset 0.
pub(super) mod mailbox {
    pub(in super::super) const VERSION: usize = 0;
    pub(in super::super) const FLAGS: usize = 2;
    /// Where the command ring begins.
    pub(in super::super) const RING_OFFSET: usize = 4;
    /// How long it is.
    pub(in super::super) const RING_SIZE: usize = 8;
    /// Written by the kernel: where its next entry goes, from the beginning of the ring.
    pub(in super::super) const HEAD: usize = 12;
    /// Written by us: the first entry that we have not finished, from the beginning of the ring.
    pub(in super::super) const TAIL: usize = 64;
    pub(in super::super) const SIZE: usize = 128;
}

/// Operation of an entry: the low bits of its first word; the rest of the word is its length.
pub(super) const OPERATION_MASK: u32 = 0x7;
pub(super) const OP_PAD: u32 = 0;
pub(super) const OP_COMMAND: u32 = 1;
pub(super) const OP_TASK_MANAGEMENT: u32 = 2;
/// Lengths and places of entries are multiples of it.
pub(super) const ENTRY_ALIGNMENT: u32 = 8;
/// `rsp.read_len` counts.
pub(super) const UFLAG_READ_LEN: u8 = 0x2;
/// `TCMU_SENSE_BUFFERSIZE`.
pub(super) const SENSE_LENGTH: usize = 96;

/// Offsets within an entry.
pub(super) mod entry {
    pub(in super::super) const LENGTH_AND_OPERATION: usize = 0;
    pub(in super::super) const ID: usize = 4;
    pub(in super::super) const UFLAGS: usize = 7;
    pub(in super::super) const HEADER_SIZE: usize = 8;

    // The request...
    pub(in super::super) const IOV_COUNT: usize = 8;
    pub(in super::super) const IOV_BIDI_COUNT: usize = 12;
    /// From the beginning of the map, as the addresses in the iovecs are.
    pub(in super::super) const CDB_OFFSET: usize = 24;
    pub(in super::super) const IOV: usize = 48;
    pub(in super::super) const IOV_SIZE: usize = 16;

    // ... which the response overwrites.
    pub(in super::super) const STATUS: usize = 8;
    pub(in super::super) const READ_LENGTH: usize = 12;
    pub(in super::super) const SENSE: usize = 16;
    /// The shortest a command can be, so that the response fits.
    pub(in super::super) const SIZE: usize = 112;

    // Task management.
    pub(in super::super) const TASK_MANAGEMENT: usize = 8;
    pub(in super::super) const AFFECTED_COMMANDS: usize = 12;
    pub(in super::super) const TASK_MANAGEMENT_SIZE: usize = 32;
}

#[repr(C, packed(4))]
struct Mailbox {
    version: u16,
    flags: u16,
    ring_offset: u32,
    ring_size: u32,
    head: u32,
    to_the_next_cache_line: [u8; 48],
    tail: u32,
    rest_of_the_line: [u8; 60],
}
const _: () = assert!(offset_of!(Mailbox, version) == mailbox::VERSION);
const _: () = assert!(offset_of!(Mailbox, flags) == mailbox::FLAGS);
const _: () = assert!(offset_of!(Mailbox, ring_offset) == mailbox::RING_OFFSET);
const _: () = assert!(offset_of!(Mailbox, ring_size) == mailbox::RING_SIZE);
const _: () = assert!(offset_of!(Mailbox, head) == mailbox::HEAD);
const _: () = assert!(offset_of!(Mailbox, tail) == mailbox::TAIL);
const _: () = assert!(size_of::<Mailbox>() == mailbox::SIZE);

#[repr(C, packed)]
struct Header {
    length_and_operation: u32,
    id: u16,
    kflags: u8,
    uflags: u8,
}
const _: () = assert!(offset_of!(Header, length_and_operation) == entry::LENGTH_AND_OPERATION);
const _: () = assert!(offset_of!(Header, id) == entry::ID);
const _: () = assert!(offset_of!(Header, uflags) == entry::UFLAGS);
const _: () = assert!(size_of::<Header>() == entry::HEADER_SIZE);

// The structures within the union are not packed: `cdb_off` is aligned to 8 after three words.
#[repr(C)]
struct Request {
    header: Header,
    iov_count: u32,
    iov_bidi_count: u32,
    iov_dif_count: u32,
    cdb_offset: u64,
    padding: [u64; 2],
    iov: [[u64; 2]; 0],
}
const _: () = assert!(offset_of!(Request, iov_count) == entry::IOV_COUNT);
const _: () = assert!(offset_of!(Request, iov_bidi_count) == entry::IOV_BIDI_COUNT);
const _: () = assert!(offset_of!(Request, cdb_offset) == entry::CDB_OFFSET);
const _: () = assert!(offset_of!(Request, iov) == entry::IOV);

#[repr(C)]
struct Response {
    header: Header,
    status: u8,
    padding: [u8; 3],
    read_length: u32,
    sense: [u8; SENSE_LENGTH],
}
const _: () = assert!(offset_of!(Response, status) == entry::STATUS);
const _: () = assert!(offset_of!(Response, read_length) == entry::READ_LENGTH);
const _: () = assert!(offset_of!(Response, sense) == entry::SENSE);
const _: () = assert!(size_of::<Response>() == entry::SIZE);

#[repr(C)]
struct TaskManagement {
    header: Header,
    kind: u8,
    padding: [u8; 3],
    affected_commands: u32,
    more_padding: [u64; 2],
    ids: [u16; 0],
}
const _: () = assert!(offset_of!(TaskManagement, kind) == entry::TASK_MANAGEMENT);
const _: () = assert!(offset_of!(TaskManagement, affected_commands) == entry::AFFECTED_COMMANDS);
const _: () = assert!(size_of::<TaskManagement>() == entry::TASK_MANAGEMENT_SIZE);
