//! The window of an opening stream: one thread reads and checks the order, several verify and decrypt, the caller's writes, in
//! order, what verified.
//!
//! The order is checked against what the record before claims to be, which may not have been verified yet. Nothing follows from
//! that: outcomes are taken in order, and the first refusal ends the stream, whichever thread found it.
//!
//! Buffers go round, and how many there are is the window: nothing is read without one. They are wiped when they leave the round,
//! which is cheaper than wiping each record.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use zeroize::Zeroizing;

use super::{FilterError, Place, read_full};
use crate::pipeline::slot::{Left, Promise, Slot};
use crate::seal::opener::{CipherCache, check_record, make_room, mark_of, open_in_place};
use crate::seal::stream::record_len;
use crate::seal::suite::RecordOpener;
use crate::seal::{
    Chain, GenerationRecord, GenerationScope, HEADER_LEN, Header, OpenedRecord, OpeningKeys, RecordKind, Refusal,
};

/// Buffers take no more than this, but for the two that there are at least: of a stream with the longest records that the format
/// allows, twice as much.
const WINDOW_BYTES: usize = 32 << 20;

/// The buffers of one record.
#[derive(Default)]
struct Room {
    block: Zeroizing<Vec<u8>>,
    expanded: Zeroizing<Vec<u8>>,
}

type Outcome = Result<(OpenedRecord, Room), Refusal>;

/// A room, and where its outcome is put.
type Taken = (Room, Arc<Slot<Outcome>>);

struct Job {
    header: Header,
    opener: Arc<dyn RecordOpener>,
    room: Room,
    promise: Promise<Outcome>,
}

/// What the thread that reads hands on, in order.
enum Next {
    /// A record that may stand at its place, if it is what it says.
    Record(Arc<Slot<Outcome>>),
    /// It went no further, and why.
    Fault(FilterError),
}

/// Opens the records of a stream up to its final one; gives their number, and the bytes of plaintext.
pub(super) fn open_records(
    input: &mut (impl Read + Send),
    output: &mut impl Write,
    generation: &GenerationRecord,
    keys: &(impl OpeningKeys + Sync),
    threads: usize,
    mut progress: impl FnMut(u64),
) -> Result<(u64, u64), FilterError> {
    let scope = generation.scope;
    let threads = threads.max(1);
    let most = 4 * threads + 2;
    // No queue is ever full: each has room for all there is.
    let (jobs, queue) = bounded::<Job>(most);
    let (order, ordered) = bounded::<Next>(most + 1);
    let (free, back) = bounded(most);
    thread::scope(|all| {
        // Dropped before the threads are waited for: that is how the one that reads learns that the stream is over.
        let free = free;
        for number in 0..threads {
            let queue = queue.clone();
            let work = move || open_jobs(&queue, &scope);
            let thread = thread::Builder::new().name(format!("open-{number}"));
            thread.spawn_scoped(all, work).map_err(FilterError::System)?;
        }
        drop(queue);
        let reader = Reader {
            input,
            rooms: Rooms { back, made: 0, most, longest: 1 },
            chain: Chain::at_beginning(generation.first_session_ordinal),
            scope,
            ordinal: generation.first_session_ordinal,
            jobs,
            order,
        };
        let thread = thread::Builder::new().name("read".into());
        thread.spawn_scoped(all, move || reader.run(keys)).map_err(FilterError::System)?;

        let (mut records, mut plain_bytes) = (0, 0);
        for next in ordered {
            let slot = match next {
                Next::Record(slot) => slot,
                Next::Fault(fault) => return Err(fault),
            };
            let (opened, room) = match slot.take() {
                Left::Outcome(Ok(opened)) => opened,
                Left::Outcome(Err(refusal)) => {
                    let (volume, place) = (Some(scope.volume), Place::Record(records));
                    return Err(FilterError::Refused { volume, place, refusal });
                }
                Left::Nothing => break,
            };
            output.write_all(opened.text(&room.block, &room.expanded)).map_err(FilterError::Write)?;
            records += 1;
            plain_bytes += opened.plain_len as u64;
            progress(plain_bytes);
            if opened.is_final {
                return Ok((records, plain_bytes));
            }
            // The thread that reads may have ended by now; then the buffers are dropped, and wiped.
            let _ = free.try_send((room, slot));
        }
        // The thread that reads ends with a final record or a fault, and every record has an outcome, unless one of them panicked.
        Err(FilterError::System(io::Error::other("a thread of this stream has ended")))
    })
}

fn open_jobs(queue: &Receiver<Job>, scope: &GenerationScope) {
    for Job { header, opener, mut room, promise } in queue {
        let opened = open_in_place(&header, &mut room.block, &*opener, scope, &mut room.expanded);
        promise.keep(opened.map(|opened| (opened, room)));
    }
}

/// Gives out buffers, so many that they stay below [`WINDOW_BYTES`].
struct Rooms {
    back: Receiver<Taken>,
    made: usize,
    most: usize,
    /// The longest block or text so far.
    longest: usize,
}

impl Rooms {
    /// Waits for buffers; `None` when the stream is over.
    fn take(&mut self) -> Option<Taken> {
        let allowed = (WINDOW_BYTES / (2 * self.longest)).clamp(2, self.most);
        loop {
            let place = match self.back.try_recv() {
                Ok(place) => place,
                Err(_) if self.made < allowed => {
                    self.made += 1;
                    return Some(Taken::default());
                }
                Err(_) => self.back.recv().ok()?,
            };
            if self.made <= allowed {
                return Some(place);
            }
            self.made -= 1;
        }
    }
}

struct Reader<'a, R> {
    input: &'a mut R,
    rooms: Rooms,
    chain: Chain,
    scope: GenerationScope,
    ordinal: u32,
    jobs: Sender<Job>,
    order: Sender<Next>,
}

impl<R: Read> Reader<'_, R> {
    fn run(mut self, keys: &impl OpeningKeys) {
        if let Err(fault) = self.read_records(keys) {
            // A writer that gave up has a fault of its own, which came before.
            let _ = self.order.send(Next::Fault(fault));
        }
    }

    /// Reads records up to the one that says it is the final one, and hands them to the threads that open them.
    fn read_records(&mut self, keys: &impl OpeningKeys) -> Result<(), FilterError> {
        let mut openers = CipherCache::default();
        loop {
            let (volume, place) = (Some(self.scope.volume), Place::Record(self.chain.object()));
            let refuse = |refusal| FilterError::Refused { volume, place, refusal };
            let Some((room, slot)) = self.read_record(&refuse)? else { return Ok(()) };
            let header = check_record(&room.block, &self.scope, true, &self.chain).map_err(refuse)?;
            // A stream is one session.
            if header.session_ordinal != self.ordinal {
                return Err(refuse(Refusal::SessionOrder));
            }
            self.rooms.longest = self.rooms.longest.max(header.plain_len as usize);
            let opener = openers.cipher(keys, header.session).map_err(refuse)?;
            self.chain.pass_record(mark_of(&header, &room.block));
            let is_final = header.kind == RecordKind::StreamFinal;
            let promise = Promise::for_slot(&slot);
            let job = Job { header, opener, room, promise };
            // A queue is closed when the stream is over.
            let taken = self.order.send(Next::Record(slot)).is_ok() && self.jobs.send(job).is_ok();
            if is_final || !taken {
                return Ok(());
            }
        }
    }

    /// The next record, whole; `None` when the stream is over. Its length comes from its header, which is not yet verified: nothing
    /// else is taken from it.
    fn read_record(&mut self, refuse: &impl Fn(Refusal) -> FilterError) -> Result<Option<Taken>, FilterError> {
        let mut header = [0; HEADER_LEN];
        match read_full(self.input, &mut header).map_err(FilterError::Read)? {
            0 => return Err(refuse(Refusal::NoFinal)),
            HEADER_LEN => {}
            _ => return Err(refuse(Refusal::Truncated)),
        }
        let length = record_len(&header).map_err(refuse)?;
        self.rooms.longest = self.rooms.longest.max(length);
        let Some((mut room, slot)) = self.rooms.take() else { return Ok(None) };
        make_room(&mut room.block, length);
        room.block[..HEADER_LEN].copy_from_slice(&header);
        match read_full(self.input, &mut room.block[HEADER_LEN..]).map_err(FilterError::Read)? {
            have if have == length - HEADER_LEN => Ok(Some((room, slot))),
            _ => Err(refuse(Refusal::Truncated)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_records_make_the_window_short() {
        let (free, back) = bounded(18);
        let mut rooms = Rooms { back, made: 0, most: 18, longest: 256 << 10 };
        let taken: Vec<Taken> = (0..18).map(|_| rooms.take().unwrap()).collect();
        assert_eq!(rooms.made, 18);
        taken.into_iter().for_each(|room| free.send(room).unwrap());
        // The longest record of the format: what is too much leaves the round.
        rooms.longest = 16 << 20;
        let one = rooms.take().unwrap();
        let other = rooms.take().unwrap();
        assert_eq!((rooms.made, free.len()), (2, 0));
        drop(free);
        assert!(rooms.take().is_none(), "nothing comes back: the stream is over");
        drop((one, other));
    }
}
