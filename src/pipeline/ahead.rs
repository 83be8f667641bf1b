//! Reading ahead of a host that reads record after record, and opening in parallel.
//!
//! A thread reads blocks in the order in which they stand, the threads of the [`SealPool`] open them, and the unit takes outcomes one by
//! one, as if it read them itself. The drive is ahead of the host then. So whoever commands it otherwise goes through
//! [`ReadAhead::leave`], which forgets what was read, wipes what was opened, and brings the drive back to where the host stands.
//!
//! What was read ahead and not taken has no effect, but for one thing: a drive that was reset, or lost its medium, says so once. That is
//! kept, and is the answer to whatever comes next.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use sealtape_drivers::medium::{DriveError, DriveErrorKind, Position, ReadOutcome};
use sealtape_drivers::scsi::AdditionalSense;

use super::pool::SealPool;
use super::slot::{Left, Promise, Slot};
use super::window::{SharedDrive, WindowLimits};
use crate::seal::opener::{make_room, open_in_place};
use crate::seal::suite::RecordOpener;
use crate::seal::wipe::wipe_whole;
use crate::seal::{GenerationScope, Header, OVERHEAD, OpenedRecord, Refusal, SessionId, parse_record};

/// A host that has read so many blocks in a row reads on.
const IN_A_ROW: u32 = 4;
/// Blocks are read ahead for so many bytes, in numbers between these two: enough for every thread of the pool, and so few that they
/// stand in the processor's cache until the host takes them. The drive has a buffer of its own.
const AHEAD_BYTES: usize = 4 << 20;
/// What memory is given out by, bytes.
const PAGE: usize = 4096;
const FEWEST: usize = 4;
const MOST: usize = 256;

/// The buffers of one record. Wiped on drop.
#[derive(Default)]
pub struct Room {
    /// The block, with plaintext in it once it was opened.
    pub block: Vec<u8>,
    /// What it was expanded to.
    pub expanded: Vec<u8>,
}

impl Drop for Room {
    fn drop(&mut self) {
        wipe_whole(&mut self.block);
        wipe_whole(&mut self.expanded);
    }
}

/// What opens the records of one session.
pub struct Opening {
    /// The generation.
    pub scope: GenerationScope,
    /// The session; records of others are left to the unit.
    pub session: SessionId,
    /// Its cipher.
    pub cipher: Arc<dyn RecordOpener>,
}

/// A block that was read ahead. Nothing says yet that it may stand at its place.
pub struct AheadRecord {
    /// Where it stands, and its plaintext.
    pub room: Room,
    /// Bytes of the block.
    pub length: usize,
    /// Its header, if it is a record at all.
    pub header: Result<Header, Refusal>,
    /// What became of it, unless it is of another session.
    pub opened: Option<Result<OpenedRecord, Refusal>>,
}

/// One block for a thread of the pool.
pub(super) struct OpenJob {
    opening: Arc<Opening>,
    room: Room,
    length: usize,
    promise: Promise<AheadRecord>,
}

impl OpenJob {
    pub(super) fn run(self) {
        let Self { opening, mut room, length, promise } = self;
        let block = &mut room.block[..length];
        let header = parse_record(block, false, opening.scope.suite);
        let opened = match &header {
            Ok(header) if header.session == opening.session => {
                Some(open_in_place(header, block, &*opening.cipher, &opening.scope, &mut room.expanded))
            }
            Ok(_) | Err(_) => None,
        };
        promise.keep(AheadRecord { room, length, header, opened });
    }
}

/// What the unit takes.
pub enum Ahead {
    /// The next block.
    Record(AheadRecord),
    /// What the drive said instead of one. Nothing is read ahead any more.
    Outcome(Result<ReadOutcome, DriveError>),
}

type Place = Arc<Slot<AheadRecord>>;

enum Item {
    Record(Place),
    /// Anything but a block; the thread reads no further.
    End(Result<ReadOutcome, DriveError>),
    /// A block that is longer than the room for it. It is read again.
    Longer,
}

struct Run {
    opening: Arc<Opening>,
    /// Bytes that a block may have.
    length: usize,
    /// Rooms that there may be.
    depth: usize,
    /// Where the host stands.
    host: Position,
    /// The thread reads no further.
    over: bool,
}

#[derive(Default)]
struct State {
    run: Option<Run>,
    /// What was read, in order, and not taken.
    order: VecDeque<Item>,
    free: Vec<Room>,
    places: Vec<Place>,
    /// Rooms of this run, wherever they are.
    rooms: usize,
    /// The thread is with the drive.
    reading: bool,
    /// It sleeps until there is something to read.
    reader_sleeps: bool,
    /// The unit sleeps until something was read.
    unit_sleeps: bool,
    closed: bool,
    /// The drive is not where the host stands, which is here.
    back_to: Option<Position>,
    /// What nobody has heard yet.
    fault: Option<DriveError>,
    /// Blocks that the host has read without another command between them, and the longest record that one of them could make.
    in_a_row: u32,
    longest: usize,
}

impl State {
    /// Buffers for the next block, if one may be read.
    fn next(&mut self) -> Option<(Arc<Opening>, Room, Place, usize)> {
        let run = self.run.as_ref().filter(|run| !run.over)?;
        let room = match self.free.pop() {
            Some(room) => room,
            None if self.rooms < run.depth => {
                self.rooms += 1;
                Room::default()
            }
            None => return None,
        };
        let place = self.places.pop().unwrap_or_default();
        Some((Arc::clone(&run.opening), room, place, run.length))
    }

    /// Ends the run; what nobody holds is wiped.
    fn end(&mut self) -> Option<Run> {
        self.free.clear();
        self.places.clear();
        self.rooms = 0;
        (self.in_a_row, self.longest) = (0, 0);
        self.run.take()
    }
}

struct Shared {
    drive: SharedDrive,
    pool: Arc<SealPool>,
    state: Mutex<State>,
    /// There is something to read, or the end.
    work: Condvar,
    /// The thread has read something.
    read: Condvar,
}

/// Reads ahead from one drive.
pub struct ReadAhead {
    shared: Arc<Shared>,
    limits: WindowLimits,
    reader: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Starts the reading thread of `drive`. What is read ahead takes no more than `limits`.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(drive: SharedDrive, pool: Arc<SealPool>, limits: WindowLimits) -> std::io::Result<Self> {
        let (state, work, read) = (Mutex::new(State::default()), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { drive, pool, state, work, read });
        let of_reader = Arc::clone(&shared);
        let reader = std::thread::Builder::new().name("tape-reader".into()).spawn(move || of_reader.run())?;
        Ok(Self { shared, limits, reader: Some(reader) })
    }

    /// The host has read a block.
    pub fn count_block(&self) {
        let mut state = self.shared.lock();
        state.in_a_row = state.in_a_row.saturating_add(1);
    }

    /// It had so many bytes of text. Records behind it may be that long and not shrink.
    pub fn count_text(&self, length: usize) {
        let mut state = self.shared.lock();
        state.longest = state.longest.max((length + OVERHEAD).next_multiple_of(PAGE));
    }

    /// The host does something else than read blocks.
    pub fn count_other(&self) {
        let mut state = self.shared.lock();
        (state.in_a_row, state.longest) = (0, 0);
    }

    /// Whether the host reads on, and nothing is read ahead yet.
    pub fn is_due(&self) -> bool {
        let state = self.shared.lock();
        state.run.is_none() && state.in_a_row >= IN_A_ROW && self.depth(state.longest) >= FEWEST
    }

    /// Rooms for blocks of so many bytes, each with what it may be expanded to.
    fn depth(&self, longest: usize) -> usize {
        let within = self.limits.bytes / (2 * longest.max(1));
        (AHEAD_BYTES / longest.max(1)).clamp(FEWEST, MOST).min(within).min(self.limits.records)
    }

    /// Begins, with the drive at `host`. A drive that stands somewhere else is left alone: whoever reads next finds out.
    ///
    /// # Errors
    /// What the drive says when it is asked where it stands.
    pub fn begin(&self, opening: Opening, host: Position) -> Result<(), DriveError> {
        let found = lock(&self.shared.drive).read_position()?.position;
        let mut state = self.shared.lock();
        if found != host || state.run.is_some() || state.back_to.is_some() || state.fault.is_some() {
            state.in_a_row = 0;
            return Ok(());
        }
        let (length, depth) = (state.longest, self.depth(state.longest));
        state.run = Some(Run { opening: Arc::new(opening), length, depth, host, over: false });
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// From now on records of another session are opened.
    pub fn open_with(&self, opening: Opening) {
        if let Some(run) = self.shared.lock().run.as_mut() {
            run.opening = Arc::new(opening);
        }
    }

    /// The next object; `None` when nothing is read ahead, and the drive has to be asked.
    pub fn take(&self) -> Option<Ahead> {
        let mut state = self.shared.lock();
        let item = loop {
            state.run.as_ref()?;
            match state.order.pop_front() {
                Some(item) => break item,
                None => state = self.shared.wait_until_read(state),
            }
        };
        let place = match item {
            Item::Record(place) => place,
            Item::End(outcome) => {
                state.end();
                return Some(Ahead::Outcome(outcome));
            }
            Item::Longer => {
                state.back_to = state.end().map(|run| run.host);
                return None;
            }
        };
        drop(state);
        let taken = place.take();
        let mut state = self.shared.lock();
        match taken {
            Left::Outcome(record) => {
                if let Some(run) = state.run.as_mut() {
                    run.host.object += 1;
                    state.places.push(place);
                }
                Some(Ahead::Record(record))
            }
            Left::Nothing => {
                // The thread that opened it has panicked, which is told at its end. The block is read again.
                let host = state.run.as_ref().map(|run| run.host);
                drop(state);
                self.stop();
                let mut state = self.shared.lock();
                state.back_to = host;
                None
            }
        }
    }

    /// The plaintext of a record was used, or it was refused. Every room that was taken has to come back.
    pub fn give_back(&self, room: Room) {
        let mut state = self.shared.lock();
        // Of a run that has ended, or one before it: there may be too many.
        if state.run.as_ref().is_some_and(|run| !run.over && state.free.len() < run.depth) {
            state.free.push(room);
            let wake = state.reader_sleeps;
            drop(state);
            if wake {
                self.shared.work.notify_one();
            }
        }
    }

    /// Forgets and wipes what was read ahead, and waits until the drive is left alone. It stays where it is.
    pub fn stop(&self) {
        let mut state = self.shared.lock();
        let Some(run) = state.run.as_mut() else { return };
        run.over = true;
        while state.reading {
            state = self.shared.wait_until_read(state);
        }
        let order = std::mem::take(&mut state.order);
        let Some(run) = state.end() else { return };
        if !order.is_empty() {
            state.back_to = Some(run.host);
        }
        for item in order {
            match item {
                // What the pool has in hand is waited for: it is wiped here.
                Item::Record(place) => drop(place.take()),
                // A bad block will be met again by who reads it.
                Item::End(Err(error)) if error.kind != DriveErrorKind::Medium => {
                    if is_elsewhere(&error) {
                        state.back_to = None;
                    }
                    state.fault = Some(error);
                }
                Item::End(_) | Item::Longer => {}
            }
        }
    }

    /// Before a command that depends on where the drive stands: it is brought to where the host stands.
    ///
    /// # Errors
    /// What the drive said while it was read ahead, if that is more than a bad block; and what it says to LOCATE. It is tried again
    /// at the next command.
    pub fn leave(&self) -> Result<(), DriveError> {
        self.abandon_or(|state| state.back_to)
    }

    /// Before a command that moves the drive to a place of its own, wherever it stands.
    ///
    /// # Errors
    /// The first of [`leave`](Self::leave).
    pub fn abandon(&self) -> Result<(), DriveError> {
        self.abandon_or(|_| None)
    }

    fn abandon_or(&self, back_to: impl FnOnce(&State) -> Option<Position>) -> Result<(), DriveError> {
        self.stop();
        let mut state = self.shared.lock();
        if let Some(fault) = state.fault.take() {
            return Err(fault);
        }
        let back_to = back_to(&state);
        state.back_to = back_to;
        drop(state);
        if let Some(position) = back_to {
            lock(&self.shared.drive).locate(position)?;
            self.shared.lock().back_to = None;
        }
        Ok(())
    }

    /// The medium is gone, or the drive has lost its place: nothing of this holds any more.
    pub fn forget(&self) {
        self.stop();
        let mut state = self.shared.lock();
        (state.back_to, state.fault) = (None, None);
        (state.in_a_row, state.longest) = (0, 0);
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.stop();
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            tracing::error!("a reading thread had panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// One thread commands the unit.
    fn wait_until_read<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.unit_sleeps = true;
        let mut state = self.read.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.unit_sleeps = false;
        state
    }

    /// The reading thread.
    fn run(&self) {
        while let Some((opening, mut room, place, length)) = self.next() {
            let mut reading = Reading { shared: self, item: None };
            make_room(&mut room.block, length);
            let outcome = lock(&self.drive).read(&mut room.block);
            reading.item = Some(match outcome {
                Ok(ReadOutcome::Block { length }) if length <= room.block.len() => {
                    let promise = Promise::for_slot(&place);
                    self.pool.open(OpenJob { opening, room, length, promise });
                    Item::Record(place)
                }
                Ok(ReadOutcome::Block { .. }) => Item::Longer,
                other => Item::End(other),
            });
        }
    }

    /// Waits for room; `None` at the end.
    fn next(&self) -> Option<(Arc<Opening>, Room, Place, usize)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(next) = state.next() {
                state.reading = true;
                return Some(next);
            }
            state.reader_sleeps = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.reader_sleeps = false;
        }
    }
}

/// The thread is with the drive: whoever waits for it is not left waiting.
struct Reading<'a> {
    shared: &'a Shared,
    item: Option<Item>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let item = self.item.take().unwrap_or_else(|| {
            let error =
                DriveError::new(DriveErrorKind::Hardware, "the thread that reads ahead has ended; restart the service");
            Item::End(Err(error))
        });
        let mut state = self.shared.lock();
        if let (Item::End(_) | Item::Longer, Some(run)) = (&item, state.run.as_mut()) {
            run.over = true;
        }
        state.order.push_back(item);
        state.reading = false;
        let wake = state.unit_sleeps;
        drop(state);
        if wake {
            self.shared.read.notify_all();
        }
    }
}

/// Whether the drive went to the beginning, or has another medium: then where the host stood says nothing any more.
pub fn is_elsewhere(error: &DriveError) -> bool {
    match error.kind {
        DriveErrorKind::Reset => true,
        DriveErrorKind::UnitAttention => error.sense.additional == AdditionalSense::MEDIUM_MAY_HAVE_CHANGED,
        _ => false,
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic under a lock leaves behind is valid on its own; the panic itself is reported at the thread's end.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
