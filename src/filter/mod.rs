//! Pipes: plaintext in, a sealed stream out, and back (`docs/format/format-1.md`, streams).
//!
//! [`seal()`] and [`open()`] do the I/O and the order; the format is [`crate::seal`]'s, and where keys come from is the
//! caller's. Invariants: no plaintext is written before its record verified; what verified before a fault has been
//! written, and the fault is an error; a stream without its authenticated end is an error, also when it was cut
//! between two records.

mod open;
mod seal;
mod window;

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;

use thiserror::Error;
use uuid::Uuid;

use crate::seal::Refusal;
pub use open::{Behind, OpenedStream, open, open_before};
pub use seal::{NewStream, SealedStream, seal};

/// More threads than this seal and open faster than anything that reads a pipe.
const MOST_THREADS: usize = 4;

/// Threads that seal or open a stream on this machine.
pub fn threads() -> usize {
    available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS)
}

/// Why a stream was not sealed or opened to its end.
#[derive(Debug, Error)]
pub enum FilterError {
    /// The input cannot be read.
    #[error("reading the input failed: {0}")]
    Read(#[source] io::Error),
    /// The output cannot be written.
    #[error("writing the output failed: {0}")]
    Write(#[source] io::Error),
    /// The system gives no threads or random numbers.
    #[error("the system lacks what sealing needs: {0}")]
    System(#[source] io::Error),
    /// What the stream holds is not what was sealed.
    #[error("{}: {} ({})", Where(*.volume, *.place), .refusal.words(), .refusal.name())]
    Refused {
        /// The volume, once its label is known.
        volume: Option<Uuid>,
        /// Where in the stream.
        place: Place,
        /// Why.
        refusal: Refusal,
    },
    /// A name or stanza that the format has no room for.
    #[error("the head of the stream cannot be written: {0}")]
    Head(String),
    /// The session's counters are used up: the stream is longer than its suite allows under one key.
    #[error("the stream is longer than its suite allows under one key; seal it in several parts")]
    TooLong,
}

/// A place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The label at its beginning.
    Label,
    /// The generation record behind that.
    Generation,
    /// The record of this number, from 0.
    Record(u64),
}

struct Where(Option<Uuid>, Place);

impl std::fmt::Display for Where {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(volume) => write!(f, "stream {volume}, ")?,
            None => f.write_str("the stream, ")?,
        }
        match self.1 {
            Place::Label => f.write_str("label"),
            Place::Generation => f.write_str("generation record"),
            Place::Record(number) => write!(f, "record {number}"),
        }
    }
}

/// Reads until the buffer is full or the input ends. Returns how much there is.
fn read_full(input: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match input.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;
