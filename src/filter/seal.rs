//! Sealing a stream: one thread reads, several seal, one writes in order.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use uuid::Uuid;

use super::{FilterError, read_full};
use crate::pipeline::slot::{Left, Promise, Slot};
use crate::seal::stream::{CHUNK_LEN, encode_head};
use crate::seal::{
    Chain, Compression, GenerationKeys, GenerationRecord, Link, PlainRecord, RecordKind, Reservation, SealedRecord,
    SessionId, SessionSealer, Stanza, Unsealable, VolumeKind, VolumeLabel,
};

/// A stream that is about to be sealed.
pub struct NewStream {
    /// Its keys, which no other stream may have been sealed with.
    pub keys: GenerationKeys,
    /// The data key's name.
    pub key_id: Uuid,
    /// Ordinal of its one session.
    pub session_ordinal: u32,
    /// Ways to the data key.
    pub stanzas: Vec<Stanza>,
    /// Compression before sealing.
    pub compression: Compression,
    /// Threads that seal.
    pub threads: usize,
}

/// A stream that was sealed to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedStream {
    /// Its volume.
    pub volume: Uuid,
    /// Records, the closing one included.
    pub records: u64,
    /// Bytes of plaintext.
    pub plain_bytes: u64,
    /// Bytes that were written.
    pub stream_bytes: u64,
    /// Tag of the closing record.
    pub last_tag: [u8; 16],
}

type Outcome = Result<SealedRecord, Unsealable>;

/// A buffer, and where the outcome of its record is put. So many go round as the stream may be ahead of its writer.
type Taken = (Vec<u8>, Arc<Slot<Outcome>>);

struct Job {
    reservation: Reservation,
    record: PlainRecord,
    promise: Promise<Outcome>,
}

/// Seals all of `input`. `progress` is told the bytes that were read so far.
///
/// # Errors
/// [`FilterError`]; what was written then has no end, and [`super::open()`] says so.
pub fn seal(
    stream: &NewStream,
    input: &mut impl Read,
    output: &mut (impl Write + Send),
    mut progress: impl FnMut(u64),
) -> Result<SealedStream, FilterError> {
    let scope = *stream.keys.scope();
    let head = head(stream)?;
    let mut session = [0; 16];
    getrandom::fill(&mut session).map_err(|e| FilterError::System(io::Error::other(e)))?;
    let mut sealer = SessionSealer::open(
        &stream.keys,
        RecordKind::StreamBlock,
        SessionId(session),
        stream.session_ordinal,
        0,
        Link::BEGINNING,
    )
    .ok_or_else(|| FilterError::Head(format!("suite {} is not known", scope.suite)))?;

    let threads = stream.threads.max(1);
    let most = 4 * threads + 2;
    // No queue is ever full: each has room for all there is.
    let (jobs, queue) = bounded::<Job>(most);
    let (order, ordered) = bounded::<Arc<Slot<Outcome>>>(most);
    let (free, back) = bounded::<Taken>(most);
    thread::scope(|scope| {
        for number in 0..threads {
            let (queue, compression) = (queue.clone(), stream.compression);
            let work = move || {
                for Job { reservation, record, promise } in queue {
                    promise.keep(reservation.seal(record, compression));
                }
            };
            thread::Builder::new()
                .name(format!("seal-{number}"))
                .spawn_scoped(scope, work)
                .map_err(FilterError::System)?;
        }
        drop(queue);
        let writing = thread::Builder::new()
            .name("write".into())
            .spawn_scoped(scope, move || write(&head, &ordered, &free, output))
            .map_err(FilterError::System)?;

        let mut chain = Chain::at_beginning(stream.session_ordinal);
        let (mut plain_bytes, mut made) = (0, 0);
        let read = loop {
            let taken = match back.try_recv() {
                Ok(taken) => taken,
                Err(_) if made < most => {
                    made += 1;
                    Taken::default()
                }
                Err(_) => match back.recv() {
                    Ok(taken) => taken,
                    // The writer gave up: it says why.
                    Err(_) => break Ok(()),
                },
            };
            let (buffer, slot) = taken;
            let record = match PlainRecord::filled(buffer, CHUNK_LEN, |room| read_full(input, room)) {
                Ok(record) => record,
                Err(e) => break Err(FilterError::Read(e)),
            };
            let length = record.plain_len();
            let end = length == 0;
            let reserved = match end {
                true => sealer.reserve_final(&chain),
                false => sealer.reserve(chain.object(), 0),
            };
            let Ok(reservation) = reserved else { break Err(FilterError::TooLong) };
            let promise = Promise::for_slot(&slot);
            // As above.
            if order.send(slot).is_err() || jobs.send(Job { reservation, record, promise }).is_err() || end {
                break Ok(());
            }
            chain.skip(1, 0);
            plain_bytes += length as u64;
            progress(plain_bytes);
        };
        drop((order, jobs));
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Of two failures the writer's came first: reading ends when writing fails.
        let written = written?;
        read?;
        let Written { stream_bytes, last_tag } = written;
        Ok(SealedStream {
            volume: scope_volume(stream),
            records: sealer.records(),
            plain_bytes,
            stream_bytes,
            last_tag,
        })
    })
}

fn scope_volume(stream: &NewStream) -> Uuid {
    stream.keys.scope().volume
}

fn head(stream: &NewStream) -> Result<Vec<u8>, FilterError> {
    let scope = *stream.keys.scope();
    let label = VolumeLabel {
        volume: scope.volume,
        kind: VolumeKind::Stream,
        partition: 0,
        partitions: 1,
        label: None,
        barcode: None,
    };
    let label = label.encode().map_err(FilterError::Head)?;
    let generation = GenerationRecord {
        scope,
        kind: VolumeKind::Stream,
        first_session_ordinal: stream.session_ordinal,
        key_id: stream.key_id,
        commitment: stream.keys.commitment(),
        stanzas: stream.stanzas.clone(),
    };
    let generation = generation.encode(&stream.keys, &label).map_err(FilterError::Head)?;
    Ok(encode_head(&label, &generation))
}

struct Written {
    stream_bytes: u64,
    last_tag: [u8; 16],
}

/// Writes records in their order until there are no more, and gives their buffers back.
fn write(
    head: &[u8],
    ordered: &Receiver<Arc<Slot<Outcome>>>,
    free: &Sender<Taken>,
    output: &mut impl Write,
) -> Result<Written, FilterError> {
    output.write_all(head).map_err(FilterError::Write)?;
    let mut written = Written { stream_bytes: head.len() as u64, last_tag: [0; 16] };
    for slot in ordered {
        let Left::Outcome(outcome) = slot.take() else {
            return Err(FilterError::System(io::Error::other("a thread of this stream has ended")));
        };
        let record =
            outcome.map_err(|unsealable| FilterError::Head(format!("a record of {} bytes", unsealable.plain_len())))?;
        output.write_all(record.bytes()).map_err(FilterError::Write)?;
        written.stream_bytes += record.bytes().len() as u64;
        written.last_tag = record.mark().tag;
        // There is room for all; who reads may have ended by now.
        let _ = free.try_send((record.into_buffer(), slot));
    }
    output.flush().map_err(FilterError::Write)?;
    Ok(written)
}
