//! Walking from frame to frame: the one place that decides where the data of a partition ends.

use std::io;

use super::frame::{FRAME_HEADER_BYTES, FrameHeader};
use super::storage::{Storage, read_zero_filled};
use super::superblock::PartitionEntry;

const WINDOW_BYTES: usize = 64 << 10;
/// Behind a frame shorter than this, others like it are expected, and read many at once.
const SMALL_FRAME_BYTES: u64 = 8 << 10;

/// What stands at the place the walk has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A frame; the walk is behind it now. `synchronised` frames have not had their payload checked.
    Object { header: FrameHeader, offset: u64, synchronised: bool },
    /// The end of data; every further step is the same.
    EndOfData,
    /// The chain of synchronised frames is broken here; every further step is the same.
    Damaged(String),
}

/// A walk over one partition, as `docs/image-format.md` has it.
pub(super) struct Walk<'a> {
    storage: &'a dyn Storage,
    partition: u8,
    entry: PartitionEntry,
    offset: u64,
    object: u64,
    epoch: u64,
    last_frame_bytes: u64,
    end: Option<Step>,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(storage: &'a dyn Storage, partition: u8, entry: PartitionEntry) -> Self {
        let (offset, window) = (entry.base, Vec::new());
        Self {
            storage,
            partition,
            entry,
            offset,
            object: 0,
            epoch: 0,
            last_frame_bytes: 0,
            end: None,
            window,
            window_at: 0,
        }
    }

    /// The next object, or why there is none.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        if let Some(end) = &self.end {
            return Ok(end.clone());
        }
        let synchronised = self.offset < self.entry.synced_end;
        let step = match self.frame_here()? {
            Ok(header) if synchronised => self.synchronised_frame(header),
            Ok(header) if self.belongs_to_epoch(&header) && self.payload_is_whole(&header)? => {
                self.object_step(header, false)
            }
            Err(reason) if synchronised => self.damaged(reason),
            Ok(_) | Err(_) => Step::EndOfData,
        };
        match &step {
            Step::Object { header, .. } => {
                self.epoch = header.epoch;
                self.last_frame_bytes = header.frame_bytes();
                self.offset += header.frame_bytes();
                self.object += 1;
            }
            Step::EndOfData | Step::Damaged(_) => self.end = Some(step.clone()),
        }
        Ok(step)
    }

    /// The header at this place if it may follow the frame before, otherwise why not.
    fn frame_here(&mut self) -> io::Result<Result<FrameHeader, &'static str>> {
        let limit = self.entry.base + self.entry.capacity;
        if self.offset + FRAME_HEADER_BYTES as u64 > limit {
            return Ok(Err("the partition ends"));
        }
        let Some(header) = FrameHeader::parse(&self.header_bytes()?) else {
            return Ok(Err("no object header"));
        };
        Ok(if header.partition != self.partition || header.object != self.object {
            Err("the header of another object")
        } else if self.offset + header.frame_bytes() > limit {
            Err("an object that is longer than the partition")
        } else if header.epoch < self.epoch || header.epoch > self.entry.epoch {
            Err("an object of another epoch")
        } else {
            Ok(header)
        })
    }

    fn synchronised_frame(&self, header: FrameHeader) -> Step {
        let behind = self.offset + header.frame_bytes();
        if behind > self.entry.synced_end {
            return self.damaged("an object that passes the synchronised end");
        }
        if behind == self.entry.synced_end && self.object + 1 != self.entry.synced_objects {
            return self.damaged("the number of synchronised objects is another one");
        }
        self.object_step(header, true)
    }

    fn object_step(&self, header: FrameHeader, synchronised: bool) -> Step {
        Step::Object { header, offset: self.offset, synchronised }
    }

    fn damaged(&self, found: &str) -> Step {
        Step::Damaged(format!(
            "partition {}, object {}, file offset {}: {found}, though {} objects were synchronised",
            self.partition, self.object, self.offset, self.entry.synced_objects
        ))
    }

    fn belongs_to_epoch(&self, header: &FrameHeader) -> bool {
        header.epoch == self.entry.epoch && header.salt == self.entry.salt
    }

    fn payload_is_whole(&self, header: &FrameHeader) -> io::Result<bool> {
        Ok(payload_crc(self.storage, self.offset, header.length)? == header.payload_crc)
    }

    /// Small frames come out of one read of many; behind a large one only the header is read.
    fn header_bytes(&mut self) -> io::Result<[u8; FRAME_HEADER_BYTES]> {
        let mut at = self.offset.wrapping_sub(self.window_at) as usize;
        if self.offset < self.window_at || at + FRAME_HEADER_BYTES > self.window.len() {
            self.window
                .resize(if self.last_frame_bytes < SMALL_FRAME_BYTES { WINDOW_BYTES } else { FRAME_HEADER_BYTES }, 0);
            read_zero_filled(self.storage, &mut self.window, self.offset)?;
            (self.window_at, at) = (self.offset, 0);
        }
        let mut header = [0; FRAME_HEADER_BYTES];
        header.copy_from_slice(&self.window[at..at + FRAME_HEADER_BYTES]);
        Ok(header)
    }
}

/// CRC-32C of the payload of the frame at `offset`.
pub(super) fn payload_crc(storage: &dyn Storage, offset: u64, length: u32) -> io::Result<u32> {
    payload_crc_from(storage, offset, length, 0, 0)
}

/// Continues the CRC of a payload of which the first `done` bytes have the CRC `crc`.
pub(super) fn payload_crc_from(
    storage: &dyn Storage,
    offset: u64,
    length: u32,
    done: u32,
    crc: u32,
) -> io::Result<u32> {
    let mut buffer = vec![0; WINDOW_BYTES.min((length - done) as usize)];
    let (mut done, mut crc) = (done, crc);
    while done < length {
        let part = buffer.len().min((length - done) as usize);
        read_zero_filled(storage, &mut buffer[..part], offset + FRAME_HEADER_BYTES as u64 + u64::from(done))?;
        crc = crc32c::crc32c_append(crc, &buffer[..part]);
        done += part as u32;
    }
    Ok(crc)
}
