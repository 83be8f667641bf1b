//! A record on its way, in a buffer that changes hands instead of being copied.

use std::ops::Range;

/// Bytes in front of a record that a unit needs for a header of its own.
pub const HEADROOM: usize = 96;
/// The same behind it.
const TAILROOM: usize = 32;

/// One record, and room around it. A unit may keep the buffer and leave another one in its place.
#[derive(Default)]
pub struct RecordBuffer {
    bytes: Vec<u8>,
    record: Range<usize>,
}

impl RecordBuffer {
    /// Whether a record of so many bytes fits, and the buffer is not much longer: who takes it counts the record's length.
    pub fn fits(&self, record: usize) -> bool {
        let needed = HEADROOM + record + TAILROOM;
        (needed..=needed + needed / 4 + 512).contains(&self.bytes.capacity())
    }

    /// Whether it has a buffer at all.
    pub fn is_bare(&self) -> bool {
        self.bytes.capacity() == 0
    }

    /// Puts a record here, in another buffer where this one does not fit.
    pub fn fill(&mut self, record: &[u8]) {
        if !self.fits(record.len()) {
            self.bytes = Vec::with_capacity(HEADROOM + record.len() + TAILROOM);
        }
        self.bytes.resize(HEADROOM, 0);
        self.bytes.extend_from_slice(record);
        self.record = HEADROOM..self.bytes.len();
    }

    /// Room for a record of at most so many bytes, which [`keep`](Self::keep) shortens to what came.
    pub fn room(&mut self, length: usize) -> &mut [u8] {
        if self.bytes.len() < HEADROOM + length {
            self.bytes.resize(HEADROOM + length, 0);
        }
        self.record = HEADROOM..HEADROOM + length;
        &mut self.bytes[self.record.clone()]
    }

    /// Only so many bytes came.
    pub fn keep(&mut self, length: usize) {
        self.record.end = self.record.end.min(self.record.start + length);
    }

    /// The record.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.record.clone()]
    }

    /// Takes a filled buffer away, with the record from [`HEADROOM`] to its end, and leaves an empty record in `other`.
    pub fn take(&mut self, other: Vec<u8>) -> Vec<u8> {
        if self.record.start != HEADROOM {
            let record = self.as_slice().to_vec();
            self.fill(&record);
        }
        self.bytes.truncate(self.record.end);
        self.record = 0..0;
        std::mem::replace(&mut self.bytes, other)
    }

    /// Overwrites everything that ever stood in it.
    pub fn wipe(&mut self) {
        self.bytes.resize(self.bytes.capacity(), 0);
        self.bytes.fill(0);
        self.record = 0..0;
    }

    /// Takes over a buffer with a record in it, and gives the old one away.
    ///
    /// # Panics
    /// When the range is not in the buffer.
    pub fn put(&mut self, bytes: Vec<u8>, record: Range<usize>) -> Vec<u8> {
        assert!(record.start <= record.end && record.end <= bytes.len(), "a record outside of its buffer");
        self.record = record;
        std::mem::replace(&mut self.bytes, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_change_hands() {
        let mut buffer = RecordBuffer::default();
        buffer.fill(b"a record");
        assert_eq!(buffer.as_slice(), b"a record");
        let taken = buffer.take(vec![7; 300]);
        assert_eq!((&taken[HEADROOM..], buffer.as_slice()), (&b"a record"[..], &b""[..]));
        // The other one is used again where it fits, and not where it is much too long.
        buffer.fill(&[1; 200]);
        assert_eq!(buffer.as_slice(), [1; 200]);
        buffer.fill(b"x");
        assert!(buffer.bytes.capacity() < 1000);

        let old = buffer.put(vec![9; 50], 10..20);
        assert_eq!((buffer.as_slice(), &old[HEADROOM..]), (&[9; 10][..], &b"x"[..]));
        assert_eq!(&buffer.take(Vec::new())[HEADROOM..], [9; 10]);
        buffer.room(5).copy_from_slice(b"abcde");
        buffer.keep(3);
        assert_eq!(buffer.as_slice(), b"abc");
    }
}
