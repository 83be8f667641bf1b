//! The window of an opening stream: order, faults at their own record, and how far reading runs ahead.

use std::io::{Cursor, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::tests::{keys, record_boundaries, sealed, text};
use super::*;
use crate::seal::stream::CHUNK_LEN;
use crate::seal::{Compression, Suite};

/// Counts what is read, and ends with an error where it is told to.
struct Source<'a> {
    stream: Cursor<&'a [u8]>,
    read: &'a AtomicU64,
    fails_at: usize,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.fails_at.saturating_sub(self.stream.position() as usize);
        if left == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let most = buffer.len().min(left);
        let read = self.stream.read(&mut buffer[..most])?;
        self.read.fetch_add(read as u64, Ordering::SeqCst);
        Ok(read)
    }
}

/// Takes its time, keeps what it got, and fails where it is told to.
struct Sink<'a> {
    got: Vec<u8>,
    pause: Duration,
    fails_at: usize,
    read: &'a AtomicU64,
    furthest_ahead: u64,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        std::thread::sleep(self.pause);
        if self.got.len() + bytes.len() > self.fails_at {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.got.extend_from_slice(bytes);
        let ahead = self.read.load(Ordering::SeqCst).saturating_sub(self.got.len() as u64);
        self.furthest_ahead = self.furthest_ahead.max(ahead);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Run {
    got: Vec<u8>,
    read: u64,
    furthest_ahead: u64,
    outcome: Result<OpenedStream, FilterError>,
}

fn run(stream: &[u8], pause_ms: u64, source_fails_at: usize, sink_fails_at: usize) -> Run {
    let read = AtomicU64::new(0);
    let mut source = Source { stream: Cursor::new(stream), read: &read, fails_at: source_fails_at };
    let pause = Duration::from_millis(pause_ms);
    let mut sink = Sink { got: Vec::new(), pause, fails_at: sink_fails_at, read: &read, furthest_ahead: 0 };
    let keys = |_: &_, record: &crate::seal::GenerationRecord| Ok::<_, FilterError>(keys(record.scope.suite));
    let outcome = open(&mut source, &mut sink, keys, |_| {});
    let Sink { got, furthest_ahead, .. } = sink;
    Run { got, read: read.into_inner(), furthest_ahead, outcome }
}

const NEVER: usize = usize::MAX;

/// How far reading may be ahead of writing, in bytes of the stream.
fn window() -> u64 {
    ((4 * threads() + 2 + 1) * (CHUNK_LEN + crate::seal::OVERHEAD) + 8192) as u64
}

fn refused(run: &Run) -> (u64, &'static str) {
    match &run.outcome {
        Err(FilterError::Refused { place: Place::Record(number), refusal, .. }) => (*number, refusal.name()),
        other => panic!("not refused at a record: {other:?}"),
    }
}

/// Changes a byte of a record; its checksum is made right again.
fn change(stream: &mut [u8], at: &[usize], record: usize) {
    let crc = at[record + 1] - 4;
    stream[at[record] + 200] ^= 1;
    let right = crc32c::crc32c(&stream[at[record]..crc]);
    stream[crc..crc + 4].copy_from_slice(&right.to_be_bytes());
}

#[test]
fn records_of_unequal_cost_come_back_in_order() {
    // Every other run of chunks compresses, so that some records take much longer than their neighbours.
    let plain = text(60 * CHUNK_LEN + 17);
    for compression in [Compression::ZSTD, Compression::NONE] {
        let (stream, report) = sealed(&plain, Suite::AES_256_GCM_SIV, compression, 4);
        let run = run(&stream, 0, NEVER, NEVER);
        assert!(run.got == plain, "{compression}");
        assert_eq!(run.outcome.unwrap().records, report.records);
    }
}

#[test]
fn a_refused_record_in_a_full_window_ends_the_stream_at_its_own_place() {
    let plain = text(40 * CHUNK_LEN);
    let (stream, _) = sealed(&plain, Suite::AES_256_GCM_SIV, Compression::NONE, 2);
    let at = record_boundaries(&stream);
    let mut changed = stream.clone();
    change(&mut changed, &at, 25);
    // A slow writer fills the window; a later fault, which the thread that reads finds at once, is not the one that is told.
    changed[at[27] + 300] ^= 1;
    for pause in [0, 4] {
        let run = run(&changed, pause, NEVER, NEVER);
        assert_eq!(refused(&run), (25, "bad-tag"));
        assert!(run.got == plain[..25 * CHUNK_LEN], "exactly what verified before was written");
    }
    // And the other way round: the fault of the order comes first.
    let mut changed = stream;
    changed[at[25] + 300] ^= 1;
    change(&mut changed, &at, 27);
    let run = run(&changed, 0, NEVER, NEVER);
    assert_eq!((refused(&run), run.got.len()), ((25, "bad-crc"), 25 * CHUNK_LEN));
}

#[test]
fn a_slow_writer_stops_reading_at_the_window() {
    let plain = text(60 * CHUNK_LEN);
    let (stream, _) = sealed(&plain, Suite::AES_256_GCM_SIV, Compression::NONE, 2);
    let run = run(&stream, 3, NEVER, NEVER);
    assert!(run.got == plain && run.outcome.is_ok());
    assert!(run.furthest_ahead <= window(), "{} bytes ahead", run.furthest_ahead);
    assert!(run.furthest_ahead >= 4 * CHUNK_LEN as u64, "the window was used: {}", run.furthest_ahead);
}

#[test]
fn a_writer_that_fails_ends_reading() {
    let (stream, _) = sealed(&text(80 * CHUNK_LEN), Suite::AES_256_GCM_SIV, Compression::NONE, 2);
    let run = run(&stream, 0, NEVER, 10 * CHUNK_LEN + 5);
    assert!(matches!(run.outcome, Err(FilterError::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe));
    assert_eq!(run.got.len(), 10 * CHUNK_LEN);
    assert!(run.read <= run.got.len() as u64 + window(), "{} bytes were read", run.read);
}

#[test]
fn a_source_that_fails_is_told_behind_what_came_before() {
    let plain = text(30 * CHUNK_LEN);
    let (stream, _) = sealed(&plain, Suite::AES_256_GCM_SIV, Compression::NONE, 2);
    let at = record_boundaries(&stream);
    for fails_at in [at[0], at[20], at[20] + 50, at[20] + 1000] {
        let run = run(&stream, 1, fails_at, NEVER);
        assert!(matches!(run.outcome, Err(FilterError::Read(e)) if e.kind() == io::ErrorKind::ConnectionReset));
        let whole = if fails_at == at[0] { 0 } else { 20 };
        assert!(run.got == plain[..whole * CHUNK_LEN], "failed at {fails_at}");
    }
    // Its end may come with the error too: everything is there, and yet it is not known that nothing follows.
    let run = run(&stream, 0, stream.len(), NEVER);
    assert!(matches!(run.outcome, Err(FilterError::Read(_))) && run.got == plain);
}
