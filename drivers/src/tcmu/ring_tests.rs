//! The ring over memory of our own, with the kernel's side written as target_core_user does it: PAD before the end, entries
//! that never wrap, data anywhere in the data area.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;

pub(in super::super) const RING_OFFSET: u32 = 128;
const DATA_AREA: usize = 64 * 1024;

/// The kernel's side.
pub(in super::super) struct Kernel {
    pub(in super::super) size: u32,
    head: u32,
    cleaned: u32,
    next_id: u16,
}

/// What the kernel finds in an answer.
#[derive(PartialEq, Eq, Debug)]
pub(in super::super) struct Answer {
    pub(in super::super) status: u8,
    pub(in super::super) uflags: u8,
    pub(in super::super) read_length: u32,
    pub(in super::super) sense: Vec<u8>,
}

pub(in super::super) fn new(size: u32) -> (Ring, Kernel) {
    let length = NonZeroUsize::new((RING_OFFSET + size) as usize + DATA_AREA).unwrap();
    let mut region = Region::anonymous(length).unwrap();
    region.write(mailbox::VERSION, 2_u16).unwrap();
    region.write(mailbox::FLAGS, 0xf_u16).unwrap();
    region.write(mailbox::RING_OFFSET, RING_OFFSET).unwrap();
    region.write(mailbox::RING_SIZE, size).unwrap();
    let kernel = Kernel { size, head: 0, cleaned: 0, next_id: 1 };
    (Ring::new(region).unwrap(), kernel)
}

impl Kernel {
    pub(in super::super) fn data_offset(&self) -> usize {
        (RING_OFFSET + self.size) as usize
    }

    /// Room before the entry that was not cleaned up yet; one word stays free, or full would look like empty.
    fn fits(&self, length: u32) -> bool {
        let (head, tail) = (self.head, self.cleaned);
        let to_end = self.size - head;
        if head >= tail {
            if to_end >= length { tail > 0 || to_end > length } else { tail > length }
        } else {
            tail - head > length
        }
    }

    /// Puts an entry into the ring, after a PAD where the end is too near.
    fn put(&mut self, ring: &mut Ring, operation: u32, length: u32) -> Option<usize> {
        if !self.fits(length) {
            return None;
        }
        if self.size - self.head < length {
            let place = (RING_OFFSET + self.head) as usize;
            ring.region.write(place, (self.size - self.head) | OP_PAD).unwrap();
            self.head = 0;
        }
        let at = (RING_OFFSET + self.head) as usize;
        ring.region.zero(at, length as usize).unwrap();
        ring.region.write(at, length | operation).unwrap();
        Some(at)
    }

    fn publish(&mut self, ring: &mut Ring, length: u32) {
        self.head = (self.head + length) % self.size;
        ring.region.store_release(mailbox::HEAD, self.head).unwrap();
    }

    /// Queues a command; its id, or nothing when the ring is full.
    pub(in super::super) fn command(&mut self, ring: &mut Ring, cdb: &[u8], data: &[(usize, usize)]) -> Option<u16> {
        let base = entry::SIZE.max(entry::IOV + data.len() * entry::IOV_SIZE);
        let length = (base + cdb.len()).next_multiple_of(8) as u32;
        let at = self.put(ring, OP_COMMAND, length)?;
        ring.region.write(at + entry::ID, self.next_id).unwrap();
        ring.region.write(at + entry::IOV_COUNT, data.len() as u32).unwrap();
        for (index, &(place, bytes)) in data.iter().enumerate() {
            let iov = at + entry::IOV + index * entry::IOV_SIZE;
            ring.region.write(iov, (self.data_offset() + place) as u64).unwrap();
            ring.region.write(iov + 8, bytes as u64).unwrap();
        }
        ring.region.write(at + entry::CDB_OFFSET, (at + base) as u64).unwrap();
        ring.region.copy_to(at + base, cdb).unwrap();
        self.publish(ring, length);
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    pub(in super::super) fn task_management(&mut self, ring: &mut Ring, function: u8) -> bool {
        let length = entry::TASK_MANAGEMENT_SIZE as u32 + 8;
        let Some(at) = self.put(ring, OP_TASK_MANAGEMENT, length) else { return false };
        ring.region.write(at + entry::TASK_MANAGEMENT, function).unwrap();
        ring.region.write(at + entry::AFFECTED_COMMANDS, 1_u32).unwrap();
        self.publish(ring, length);
        true
    }

    /// The first answer that was not looked at yet. As the kernel does, everything before our place in the ring is passed.
    pub(in super::super) fn answer(&mut self, ring: &Ring) -> Option<Answer> {
        let tail = ring.region.load_acquire(mailbox::TAIL).unwrap();
        while self.cleaned != tail {
            let at = (RING_OFFSET + self.cleaned) as usize;
            let word = ring.region.read::<u32>(at).unwrap();
            self.cleaned = (self.cleaned + (word & !OPERATION_MASK)) % self.size;
            if word & OPERATION_MASK == OP_COMMAND {
                let mut sense = vec![0; SENSE_LENGTH];
                ring.region.copy_from(at + entry::SENSE, &mut sense).unwrap();
                return Some(Answer {
                    status: ring.region.read(at + entry::STATUS).unwrap(),
                    uflags: ring.region.read(at + entry::UFLAGS).unwrap(),
                    read_length: ring.region.read(at + entry::READ_LENGTH).unwrap(),
                    sense,
                });
            }
        }
        None
    }

    pub(in super::super) fn write_data(&self, ring: &mut Ring, place: usize, bytes: &[u8]) {
        ring.region.copy_to(self.data_offset() + place, bytes).unwrap();
    }

    pub(in super::super) fn read_data(&self, ring: &Ring, place: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        ring.region.copy_from(self.data_offset() + place, &mut bytes).unwrap();
        bytes
    }
}

const TUR: [u8; 6] = [0; 6];

#[test]
fn a_command_goes_round() {
    let (mut ring, mut kernel) = new(4096);
    let mut request = Request::default();
    assert_eq!(ring.next(&mut request), Ok(Next::Empty));
    let id = kernel.command(&mut ring, &[0x08, 0, 0, 0, 8, 0], &[(100, 5), (4096, 3)]).unwrap();
    assert_eq!(ring.next(&mut request), Ok(Next::Command));
    assert_eq!((request.id, request.data_length, request.bidirectional), (id, 8, false));
    assert_eq!(request.cdb, [0x08, 0, 0, 0, 8, 0]);
    kernel.write_data(&mut ring, 100, b"abcde");
    kernel.write_data(&mut ring, 4096, b"fgh");
    let mut data = [0; 8];
    ring.gather(&request, &mut data).unwrap();
    assert_eq!(&data, b"abcdefgh");
    ring.scatter(&request, b"123456", false).unwrap();
    assert_eq!(kernel.read_data(&ring, 4096, 3), b"6gh", "no further than the data");
    ring.scatter(&request, b"", true).unwrap();
    assert_eq!((kernel.read_data(&ring, 100, 5), kernel.read_data(&ring, 4096, 3)), (vec![0; 5], vec![0; 3]));
    assert_eq!(kernel.answer(&ring), None);
    ring.complete(&request, 2, &[0x70, 0, 3], 6).unwrap();
    let answer = kernel.answer(&ring).unwrap();
    assert_eq!((answer.status, answer.uflags, answer.read_length), (2, UFLAG_READ_LEN, 6));
    assert_eq!((&answer.sense[..3], answer.sense[3..].iter().max()), (&[0x70_u8, 0, 3][..], Some(&0)));
    assert_eq!(ring.next(&mut request), Ok(Next::Empty));
}

#[test]
fn nothing_read_says_nothing() {
    let (mut ring, mut kernel) = new(4096);
    let mut request = Request::default();
    kernel.command(&mut ring, &TUR, &[]).unwrap();
    assert_eq!(ring.next(&mut request), Ok(Next::Command));
    ring.complete(&request, 0, &[], 0).unwrap();
    assert_eq!(kernel.answer(&ring).unwrap().uflags, 0);
    assert!(ring.complete(&request, 0, &[], 0).is_err(), "a command is answered once");
}

#[test]
fn mailboxes_that_cannot_be_served_are_refused() {
    let mailbox = |version: u16, flags: u16, offset: u32, size: u32| {
        let mut region = Region::anonymous(NonZeroUsize::new(8192).unwrap()).unwrap();
        region.write(mailbox::VERSION, version).unwrap();
        region.write(mailbox::FLAGS, flags).unwrap();
        region.write(mailbox::RING_OFFSET, offset).unwrap();
        region.write(mailbox::RING_SIZE, size).unwrap();
        Ring::new(region).map(|_| ()).unwrap_err()
    };
    assert_eq!(mailbox(1, 0xf, 128, 4096), RingError::Version(1));
    assert_eq!(mailbox(2, 0x1, 128, 4096), RingError::Capabilities(1));
    for (offset, size) in
        [(64, 4096), (128, 8072), (u32::MAX - 7, 8), (128, u32::MAX - 7), (132, 4096), (128, 4), (128, 0)]
    {
        assert!(matches!(mailbox(2, 0xf, offset, size), RingError::Mailbox { .. }), "{offset} {size}");
    }
    let mut region = Region::anonymous(NonZeroUsize::new(64).unwrap()).unwrap();
    region.write(mailbox::VERSION, 2_u16).unwrap();
    region.write(mailbox::FLAGS, 0xf_u16).unwrap();
    assert!(Ring::new(region).is_err(), "too short for a mailbox");
}

/// Breaks one word of a good entry, and says what is thought of it.
fn broken(break_it: impl FnOnce(&mut Region, usize)) -> RingError {
    let (mut ring, mut kernel) = new(4096);
    kernel.command(&mut ring, &[0x0a, 0, 0, 0, 8, 0], &[(0, 8)]).unwrap();
    break_it(&mut ring.region, RING_OFFSET as usize);
    let error = ring.next(&mut Request::default()).unwrap_err();
    assert_eq!(ring.region.load_acquire(mailbox::TAIL), Ok(0), "a broken entry is not passed");
    error
}

#[test]
fn nothing_in_an_entry_is_believed() {
    let end = (RING_OFFSET + 4096) as u64 + DATA_AREA as u64;
    assert_eq!(broken(|region, _| region.write(mailbox::HEAD, 4096_u32).unwrap()), RingError::Head(4096));
    assert_eq!(broken(|region, _| region.write(mailbox::HEAD, 12_u32).unwrap()), RingError::Head(12));
    for word in [0, OP_COMMAND, 104 | OP_COMMAND, 128 | OP_COMMAND, 120 | 3, 120 | 7, u32::MAX, 8 | OP_TASK_MANAGEMENT]
    {
        let error = broken(|region, at| region.write(at, word).unwrap());
        assert!(matches!(error, RingError::Entry { at: 0, .. }), "{word:#x}: {error}");
    }
    for count in [5, 1 << 28, u32::MAX] {
        let error = broken(|region, at| region.write(at + entry::IOV_COUNT, count).unwrap());
        assert!(error.to_string().contains("stretches"), "{error}");
    }
    let data = u64::from(RING_OFFSET) + 4096;
    let outside =
        [(0, 8), (data - 1, 8), (end, 1), (end - 7, 8), (u64::MAX, 8), (data, u64::MAX), (u64::MAX, u64::MAX)];
    for (base, length) in outside {
        let error = broken(|region, at| {
            region.write(at + entry::IOV, base).unwrap();
            region.write(at + entry::IOV + 8, length).unwrap();
        });
        assert!(matches!(error, RingError::OutOfBounds { .. }), "{base:#x} {length:#x}: {error}");
    }
    let error = broken(|region, at| {
        region.write(at + entry::IOV_COUNT, 2_u32).unwrap();
        for iov in [at + entry::IOV, at + entry::IOV + 16] {
            region.write(iov, data).unwrap();
            region.write(iov + 8, DATA_AREA as u64).unwrap();
        }
    });
    assert!(error.to_string().contains("more data than"), "{error}");
    for cdb in [0, 7 + u64::from(RING_OFFSET), 120 + u64::from(RING_OFFSET), end, u64::MAX] {
        let error = broken(|region, at| region.write(at + entry::CDB_OFFSET, cdb).unwrap());
        assert!(error.to_string().contains("command descriptor block"), "{cdb:#x}: {error}");
    }
    let error = broken(|region, at| region.write(at + entry::SIZE, 0x88_u8).unwrap());
    assert!(error.to_string().contains("cut off"), "{error}");
    let error = broken(|region, at| {
        region.write(at + entry::SIZE, 0x7f_u8).unwrap();
        region.write(at + entry::SIZE + 7, 1_u8).unwrap();
    });
    assert!(error.to_string().contains("cut off"), "{error}");
}

#[test]
fn a_ring_that_was_reset_from_outside_is_not_read_on() {
    let (mut ring, mut kernel) = new(512);
    let mut request = Request::default();
    for _ in 0..7 {
        kernel.command(&mut ring, &[0x0a, 0, 0, 0, 8, 0], &[(0, 8)]).unwrap();
        assert_eq!(ring.next(&mut request), Ok(Next::Command));
        ring.complete(&request, 0, &[], 0).unwrap();
        kernel.answer(&ring).unwrap();
    }
    // Behind our place stands an old command now, and an empty ring would look like a full one.
    ring.region.store_release(mailbox::TAIL, 0).unwrap();
    ring.region.store_release(mailbox::HEAD, 0).unwrap();
    assert!(matches!(ring.next(&mut request), Err(RingError::Moved { found: 0, .. })));
    ring.restart().unwrap();
    assert_eq!(ring.next(&mut request), Ok(Next::Empty));
}

#[derive(Clone, Debug)]
enum Step {
    /// Length of the CDB by its operation, and data as place and length.
    Command(u8, Vec<(usize, usize)>),
    TaskManagement,
    Serve,
    Clean,
}

fn step() -> impl Strategy<Value = Step> {
    let operation = prop_oneof![Just(0x00_u8), Just(0x2b), Just(0x8f), Just(0xa3)];
    let data = prop::collection::vec((0_usize..DATA_AREA - 5000, 1_usize..5000), 0..9);
    prop_oneof![
        4 => (operation, data).prop_map(|(operation, data)| Step::Command(operation, data)),
        1 => Just(Step::TaskManagement),
        4 => Just(Step::Serve),
        3 => Just(Step::Clean),
    ]
}

proptest! {
    /// Whatever the order of putting, serving and cleaning up, and wherever the ring wraps: each command comes once, in its
    /// order, with its own block and data, and the kernel finds its own answer.
    #[test]
    fn commands_keep_their_order_around_the_end(
        size in (64_u32..160).prop_map(|words| words * 8),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (mut ring, mut kernel) = new(size);
        let (mut waiting, mut served) = (VecDeque::new(), VecDeque::new());
        let mut management = 0_u32;
        let mut request = Request::default();
        for step in steps.into_iter().chain(std::iter::repeat_n(Step::Serve, 40)) {
            match step {
                Step::Command(operation, data) => {
                    let mut cdb = vec![0x5a; cdb_length(operation, 0)];
                    cdb[0] = operation;
                    let total: usize = data.iter().map(|(_, length)| length).sum();
                    if let Some(id) = kernel.command(&mut ring, &cdb, &data) {
                        waiting.push_back((id, cdb, total));
                    }
                }
                Step::TaskManagement => management += u32::from(kernel.task_management(&mut ring, 5)),
                Step::Serve => match ring.next(&mut request).unwrap() {
                    Next::Empty => prop_assert!(waiting.is_empty() && management == 0),
                    Next::TaskManagement { function, commands } => {
                        prop_assert_eq!((function, commands), (5, 1));
                        management -= 1;
                    }
                    Next::Command => {
                        let (id, cdb, total) = waiting.pop_front().unwrap();
                        prop_assert_eq!((request.id, &request.cdb, request.data_length), (id, &cdb, total));
                        ring.complete(&request, id as u8, &[id as u8; 18], u32::from(id)).unwrap();
                        served.push_back(id);
                    }
                },
                Step::Clean => {
                    if let Some(answer) = kernel.answer(&ring) {
                        let id = served.pop_front().unwrap();
                        prop_assert_eq!((answer.status, answer.read_length), (id as u8, u32::from(id)));
                        prop_assert_eq!(&answer.sense[..18], &[id as u8; 18]);
                    }
                }
            }
        }
    }

    /// Any bytes in ring and mailbox: an entry or an error, never a place outside the map, and always an end.
    #[test]
    fn any_bytes_are_survived(
        head in 0_u32..70,
        words in prop::collection::vec(prop_oneof![0_u32..200, any::<u32>()], 128),
        answers in 0_usize..20,
    ) {
        let (mut ring, _) = new(512);
        for (index, word) in words.iter().enumerate() {
            ring.region.write(RING_OFFSET as usize + index * 4, *word).unwrap();
        }
        ring.region.store_release(mailbox::HEAD, head * 8).unwrap();
        let mut request = Request::default();
        for _ in 0..answers {
            match ring.next(&mut request) {
                Ok(Next::Command) => {
                    let mut data = vec![0; request.data_length];
                    ring.gather(&request, &mut data).unwrap();
                    ring.scatter(&request, &data, true).unwrap();
                    ring.complete(&request, 0, &[], 1).unwrap();
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}
