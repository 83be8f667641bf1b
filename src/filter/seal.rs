//! Sealing a stream: one thread reads, several seal, one writes in order.

use std::io::{self, Read, Write};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{FilterError, read_full};
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

struct Job {
    reservation: Reservation,
    record: PlainRecord,
    done: Sender<Outcome>,
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
    let (jobs, queue) = bounded::<Job>(threads);
    let (order, ordered) = bounded::<Receiver<Outcome>>(2 * threads);
    // Buffers go round: at most as many as can be in the two queues, with the threads and with the writer.
    let (free, buffers) = bounded::<Vec<u8>>(4 * threads + 2);
    thread::scope(|scope| {
        for number in 0..threads {
            let (queue, compression) = (queue.clone(), stream.compression);
            let work = move || {
                for job in queue {
                    // A writer that gave up does not take it: then this stream is over.
                    let _ = job.done.send(job.reservation.seal(job.record, compression));
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
        let mut text = Zeroizing::new(vec![0; CHUNK_LEN]);
        let mut plain_bytes = 0;
        let read = loop {
            let length = match read_full(input, &mut text) {
                Ok(length) => length,
                Err(e) => break Err(FilterError::Read(e)),
            };
            let end = length == 0;
            let reserved = match end {
                true => sealer.reserve_final(&chain),
                false => sealer.reserve(chain.object(), 0),
            };
            let Ok(reservation) = reserved else { break Err(FilterError::TooLong) };
            let mut record = PlainRecord::in_buffer(buffers.try_recv().unwrap_or_default());
            record.extend(&text[..length]);
            let (done, outcome) = bounded(1);
            // A queue is closed when the writer gave up: it says why.
            if order.send(outcome).is_err() || jobs.send(Job { reservation, record, done }).is_err() || end {
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
    ordered: &Receiver<Receiver<Outcome>>,
    free: &Sender<Vec<u8>>,
    output: &mut impl Write,
) -> Result<Written, FilterError> {
    output.write_all(head).map_err(FilterError::Write)?;
    let mut written = Written { stream_bytes: head.len() as u64, last_tag: [0; 16] };
    for outcome in ordered {
        // The thread that seals sends once; without it the process is going down.
        let Ok(outcome) = outcome.recv() else { break };
        let record =
            outcome.map_err(|unsealable| FilterError::Head(format!("a record of {} bytes", unsealable.plain_len())))?;
        output.write_all(record.bytes()).map_err(FilterError::Write)?;
        written.stream_bytes += record.bytes().len() as u64;
        written.last_tag = record.mark().tag;
        // When as many buffers as can be used go round already, this one is dropped.
        let _ = free.try_send(record.into_buffer());
    }
    output.flush().map_err(FilterError::Write)?;
    Ok(written)
}
