//! Sealing: a session hands out reservations in order, each is used once, on any thread.

use std::sync::Arc;

use zeroize::Zeroize;

use super::chain::{Chain, Link, RecordMark};
use super::compress::{self, Compression};
use super::envelope::{HEADER_LEN, Header, MAX_PLAIN, RecordKind, TRAILER_LEN};
use super::keys::{GenerationKeys, GenerationScope, SessionId};
use super::suite::{RecordCipher, TAG_LEN};

/// The text of one block, with room for the header before it, so that sealing needs no copy. Wiped on drop.
pub struct PlainRecord {
    buffer: Vec<u8>,
}

impl PlainRecord {
    /// An empty record in `buffer`, which keeps its capacity.
    pub fn in_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        Self { buffer }
    }

    /// A record in `buffer` with the text that `fill` puts into `room` bytes; it says how many they are. Nothing is copied, and what
    /// `buffer` held before is not cleared first.
    ///
    /// # Errors
    /// What `fill` says.
    pub fn filled<E>(
        mut buffer: Vec<u8>,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let wanted = HEADER_LEN + room;
        buffer.reserve_exact((wanted + TRAILER_LEN).saturating_sub(buffer.len()));
        buffer.resize(wanted, 0);
        // From here on it is wiped, whatever becomes of it.
        let mut record = Self { buffer };
        let text = fill(&mut record.buffer[HEADER_LEN..])?.min(room);
        record.buffer.truncate(HEADER_LEN + text);
        record.buffer[..HEADER_LEN].fill(0);
        Ok(record)
    }

    /// A record whose text stands in `buffer` already, from [`HEADER_LEN`] to the end.
    ///
    /// # Panics
    /// When the buffer is shorter than that.
    pub fn around(mut buffer: Vec<u8>) -> Self {
        buffer[..HEADER_LEN].fill(0);
        Self { buffer }
    }

    /// Appends text.
    pub fn extend(&mut self, text: &[u8]) {
        self.buffer.reserve_exact(text.len() + TRAILER_LEN);
        self.buffer.extend_from_slice(text);
    }

    /// Bytes of text in it.
    pub fn plain_len(&self) -> usize {
        self.buffer.len() - HEADER_LEN
    }

    fn take(mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }
}

impl Drop for PlainRecord {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

/// A whole record as it stands on the medium; made by [`Reservation::seal`] alone.
pub struct SealedRecord {
    bytes: Vec<u8>,
    mark: RecordMark,
    plain_len: usize,
}

impl SealedRecord {
    /// The bytes for the medium.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the next session or reader needs to know of it.
    pub fn mark(&self) -> &RecordMark {
        &self.mark
    }

    /// Bytes of the host's block that was sealed.
    pub fn plain_len(&self) -> usize {
        self.plain_len
    }

    /// Gives the buffer back for the next record: it holds ciphertext only.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// A session for writing. Gives every record its place and its seal counter, once.
pub struct SessionSealer {
    cipher: Arc<dyn RecordCipher>,
    scope: GenerationScope,
    kind: RecordKind,
    session: SessionId,
    session_ordinal: u32,
    first_object: u64,
    link: Link,
    next_counter: u64,
}

/// A session's counters are used up, or the suite is unknown: a new session has to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionExhausted;

impl SessionSealer {
    /// Opens a session for records of `kind` whose first object comes at the chain's place. The ordinal has to be
    /// higher than that of every session before, and is never to be used again, which the caller owes.
    pub fn open(
        keys: &GenerationKeys,
        kind: RecordKind,
        session: SessionId,
        session_ordinal: u32,
        first_object: u64,
        link: Link,
    ) -> Option<Self> {
        let cipher = keys.record_cipher(session)?;
        Some(Self { cipher, scope: *keys.scope(), kind, session, session_ordinal, first_object, link, next_counter: 0 })
    }

    /// The session's name.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The session's ordinal.
    pub fn session_ordinal(&self) -> u32 {
        self.session_ordinal
    }

    /// Where the session began.
    pub fn first_object(&self) -> u64 {
        self.first_object
    }

    /// Records sealed so far.
    pub fn records(&self) -> u64 {
        self.next_counter
    }

    /// Consumes the next seal counter for a record at `object`, behind `filemarks` filemarks.
    ///
    /// # Errors
    /// [`SessionExhausted`] when the suite's limit is reached.
    pub fn reserve(&mut self, object: u64, filemarks: u64) -> Result<Reservation, SessionExhausted> {
        if self.next_counter >= self.scope.suite.session_limit() {
            return Err(SessionExhausted);
        }
        let seal_counter = self.next_counter;
        self.next_counter += 1;
        Ok(Reservation {
            cipher: Arc::clone(&self.cipher),
            scope: self.scope,
            header: Header {
                kind: self.kind,
                suite: self.scope.suite,
                compression: Compression::NONE,
                partition: self.scope.partition,
                generation: self.scope.generation,
                session_ordinal: self.session_ordinal,
                plain_len: 0,
                stored_len: 0,
                session: self.session,
                link: self.link,
                first_object: self.first_object,
                seal_counter,
                object,
                filemarks,
            },
        })
    }

    /// Reserves the closing record of a stream.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_final(&mut self, chain: &Chain) -> Result<Reservation, SessionExhausted> {
        let mut reservation = self.reserve(chain.object(), 0)?;
        reservation.header.kind = RecordKind::StreamFinal;
        Ok(reservation)
    }
}

/// The right to seal one record: its place in order and its seal counter. Neither Clone nor Copy; sealing uses it up.
pub struct Reservation {
    cipher: Arc<dyn RecordCipher>,
    scope: GenerationScope,
    header: Header,
}

/// A record could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsealable {
    /// Its text has so many bytes: none, or more than the format allows.
    Length(usize),
    /// The key has ended; the text has so many bytes.
    KeyEnded(usize),
}

impl Unsealable {
    /// Bytes of text.
    pub fn plain_len(self) -> usize {
        match self {
            Self::Length(length) | Self::KeyEnded(length) => length,
        }
    }
}

impl Reservation {
    /// The object number that was reserved.
    pub fn object(&self) -> u64 {
        self.header.object
    }

    /// Compresses (when `compression` shrinks it) and seals a record, in its own buffer.
    ///
    /// # Errors
    /// [`Unsealable`] for text of a length that the format does not know, and when the key has ended.
    pub fn seal(self, record: PlainRecord, compression: Compression) -> Result<SealedRecord, Unsealable> {
        let plain = record.plain_len();
        // The closing record of a stream carries nothing, every other one something.
        let fits = match self.header.kind {
            RecordKind::StreamFinal => plain == 0,
            RecordKind::TapeBlock | RecordKind::StreamBlock => (1..=MAX_PLAIN).contains(&plain),
        };
        if !fits {
            return Err(Unsealable::Length(plain));
        }
        let mut header = self.header;
        let mut record = record;
        header.compression = compress::shrink(compression, &mut record.buffer, HEADER_LEN);
        header.plain_len = plain as u32;
        header.stored_len = record.plain_len() as u32;
        let aad = header.aad(self.scope.volume);
        let text = &mut record.buffer[HEADER_LEN..];
        let sealed = self.cipher.seal_in_place(header.seal_counter, &aad, text);
        let tag = sealed.map_err(|_| match self.cipher.is_ended() {
            true => Unsealable::KeyEnded(plain),
            false => Unsealable::Length(plain),
        })?;
        let mut bytes = record.take();
        bytes[..HEADER_LEN].copy_from_slice(&aad[..HEADER_LEN]);
        bytes.extend_from_slice(&tag);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        Ok(SealedRecord { bytes, mark: RecordMark::new(&header, tag), plain_len: plain })
    }
}

const _: () = assert!(TRAILER_LEN == TAG_LEN + 4);
