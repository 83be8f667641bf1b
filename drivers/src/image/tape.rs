//! The medium of a loaded cartridge: its objects, and when what is synchronised.
//!
//! Errors say what became of the state: after [`Failure::Refused`] everything before the place of the command is as it was,
//! after [`Failure::Lost`] everything that was not synchronised is gone for good.

use std::io::{self, IoSlice};

use super::cartridge::Cartridge;
use super::create::{fresh_salt, lay_out};
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, ObjectType, frame_bytes};
use super::header::SLOT_OFFSETS;
use super::index::ObjectIndex;
use super::report::full;
use super::storage::read_zero_filled;
use super::superblock::Superblock;
use super::walk::{Step, payload_crc_from};
use crate::medium::{Attribute, DriveError, DriveErrorKind};
use crate::scsi::{AdditionalSense, Sense, SenseFlags, SenseKey};

/// How many filemarks go into one write of the file.
const FILEMARKS_PER_WRITE: u64 = 1024;

/// A change of the medium failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may be tried again. As on a tape, what stood behind the place may be gone when a write over it fails.
    Refused(DriveError),
    /// Unsynchronised objects are gone, positions behind them too.
    Lost(DriveError),
}

impl Failure {
    pub(super) fn into_error(self) -> DriveError {
        match self {
            Self::Refused(error) | Self::Lost(error) => error,
        }
    }
}

/// Where a commit failed.
enum CommitError {
    /// Writing the superblock: the one before counts.
    Superblock(io::Error),
    /// Synchronising: nothing is known of what was written since the last time.
    Synchronising(io::Error),
}

/// What has been recorded in one partition.
struct Recorded {
    index: ObjectIndex,
    /// The superblock's epoch was begun in this load, and nothing stands behind the end of data that could be taken for it.
    epoch_begun: bool,
    /// Behind the end of data there may be whole frames of this epoch that the caller was told were not written.
    stray_frames: bool,
    /// The chain of frames is broken behind the last object of the index.
    damage: Option<String>,
}

impl Recorded {
    fn empty(base: u64, epoch_begun: bool) -> Self {
        Self { index: ObjectIndex::new(base), epoch_begun, stray_frames: false, damage: None }
    }
}

/// A cartridge that is loaded.
pub(super) struct Tape {
    pub(super) cartridge: Cartridge,
    /// The superblock as it was last written.
    superblock: Superblock,
    partitions: Vec<Recorded>,
    /// Something has been written since the last synchronisation of the storage.
    dirty: bool,
    /// `superblock` has been synchronised.
    superblock_durable: bool,
    /// The slot that does not count may hold anything: a superblock whose write failed, or that a cut left there in part.
    /// It is cleared before the next one is written, or the two together could make one that must not count.
    slot_unclear: bool,
    /// What was lost could not be cut off: nothing goes on before the next load.
    failed: bool,
}

/// What loading finds out about a cartridge.
pub(super) struct Contents {
    superblock: Superblock,
    partitions: Vec<Recorded>,
}

impl Contents {
    /// Scans the headers of all frames, and checks the payloads behind the synchronised ends.
    pub(super) fn scan(cartridge: &Cartridge) -> Result<Self, DriveError> {
        let superblock = cartridge.superblock().map_err(super::ImageError::into_drive_error)?;
        let mut partitions = Vec::new();
        for (partition, entry) in (0..).zip(&superblock.partitions) {
            let mut recorded = Recorded::empty(entry.base, false);
            let mut walk = cartridge.walk(&superblock, partition);
            loop {
                match walk.step().map_err(|error| cartridge.failed("read", error))? {
                    Step::Object { header, .. } => recorded.index.push(header.object_type, header.frame_bytes()),
                    Step::EndOfData => break,
                    Step::Damaged(reason) => {
                        tracing::error!(file = %cartridge.name, %reason, "image is damaged");
                        recorded.damage = Some(reason);
                        break;
                    }
                }
            }
            partitions.push(recorded);
        }
        Ok(Self { superblock, partitions })
    }
}

impl Tape {
    /// A cartridge with what a scan found in it.
    pub(super) fn new(cartridge: Cartridge, contents: Contents) -> Self {
        let Contents { superblock, partitions } = contents;
        let failed = cartridge.distrusted;
        // The file may have been left by a process that was killed: what was read need not be on the medium.
        Self { cartridge, superblock, partitions, dirty: true, superblock_durable: false, slot_unclear: true, failed }
    }

    /// Synchronises what the scan found; or cuts it off, if it cannot be trusted after a failed synchronisation.
    pub(super) fn settle_after_load(&mut self) -> Result<(), DriveError> {
        if self.failed {
            self.discard_unsynchronised()?;
        }
        self.settle().map_err(Failure::into_error)
    }

    /// The cartridge, unloaded.
    pub(super) fn into_cartridge(self) -> Cartridge {
        Cartridge { distrusted: self.failed, ..self.cartridge }
    }

    /// Nothing has been recorded in any partition.
    pub(super) fn blank(&self) -> bool {
        self.partitions.iter().all(|recorded| recorded.index.len() == 0 && recorded.damage.is_none())
    }

    pub(super) fn index(&self, partition: u8) -> &ObjectIndex {
        &self.partitions[usize::from(partition)].index
    }

    pub(super) fn partition_count(&self) -> u8 {
        self.partitions.len() as u8
    }

    pub(super) fn capacity(&self, partition: u8) -> u64 {
        self.superblock.partitions[usize::from(partition)].capacity
    }

    /// Bytes of the partition's capacity that lie before `object`.
    pub(super) fn used_before(&self, partition: u8, object: u64) -> u64 {
        self.index(partition).offset(object) - self.superblock.partitions[usize::from(partition)].base
    }

    pub(super) fn attributes(&self) -> &[Attribute] {
        &self.superblock.attributes
    }

    /// Epoch and number of objects of each partition: together they identify the contents.
    pub(super) fn contents(&self) -> Vec<(u64, u64)> {
        let epochs = self.superblock.partitions.iter().map(|entry| entry.epoch);
        epochs.zip(self.partitions.iter().map(|recorded| recorded.index.len())).collect()
    }

    pub(super) fn write_protected(&self) -> bool {
        self.superblock.write_protected || self.cartridge.storage.read_only()
    }

    /// Objects of a partition that a cut of the power would take.
    pub(super) fn unsynchronised(&self, partition: u8) -> u64 {
        if self.cartridge.storage.read_only() {
            return 0;
        }
        let synchronised = self.superblock.partitions[usize::from(partition)].synced_objects;
        self.index(partition).len().saturating_sub(synchronised)
    }

    /// The error for standing at the place where the partition is damaged.
    pub(super) fn damage_at(&self, partition: u8, object: u64) -> Option<DriveError> {
        let recorded = &self.partitions[usize::from(partition)];
        let reason = recorded.damage.as_ref().filter(|_| object >= recorded.index.len())?;
        Some(self.unreadable(&format!("is damaged: {reason}")))
    }

    /// Refuses everything after a loss that could not be cut off.
    pub(super) fn check_usable(&self) -> Result<(), DriveError> {
        if !self.failed {
            return Ok(());
        }
        let message = format!(
            "{} could not be synchronised: unload it, mend the file system, and load it again",
            self.cartridge.name
        );
        Err(DriveError::new(DriveErrorKind::Transport, message))
    }

    /// Reads the block at `object` into `buffer`, as far as it fits, and returns its whole length.
    pub(super) fn read_block(&self, partition: u8, object: u64, buffer: &mut [u8]) -> Result<usize, DriveError> {
        let (storage, offset) = (&*self.cartridge.storage, self.index(partition).offset(object));
        let failed = |error| self.cartridge.failed("read", error);
        let mut header = [0; FRAME_HEADER_BYTES];
        read_zero_filled(storage, &mut header, offset).map_err(failed)?;
        let header = FrameHeader::parse(&header)
            .filter(|header| header.object == object && header.partition == partition)
            .ok_or_else(|| self.unreadable(&format!("has changed at offset {offset} since it was loaded")))?;
        let length = header.length as usize;
        let wanted = length.min(buffer.len());
        let buffer = &mut buffer[..wanted];
        read_zero_filled(storage, buffer, offset + FRAME_HEADER_BYTES as u64).map_err(failed)?;
        let crc = payload_crc_from(storage, offset, header.length, wanted as u32, crc32c::crc32c(buffer));
        if crc.map_err(failed)? != header.payload_crc {
            let place = format!("partition {partition}, object {object}, offset {offset}");
            return Err(self.unreadable(&format!("holds a block with a wrong checksum ({place})")));
        }
        Ok(length)
    }

    fn unreadable(&self, what: &str) -> DriveError {
        DriveError::new(DriveErrorKind::Medium, format!("{} {what}", self.cartridge.name))
            .with_sense(Sense::new(SenseKey::MEDIUM_ERROR, AdditionalSense::UNRECOVERED_READ_ERROR))
    }

    /// Writes a block as object number `object`; everything from there on was before it.
    pub(super) fn write_block(&mut self, partition: u8, object: u64, block: &[u8]) -> Result<(), Failure> {
        self.begin_writing(partition, object)?;
        let header =
            self.frame_header(partition, ObjectType::Block, block.len() as u32, crc32c::crc32c(block)).encode();
        let padding = [0; 7];
        let padding = &padding[..block.len().next_multiple_of(8) - block.len()];
        let mut parts = [IoSlice::new(&header), IoSlice::new(block), IoSlice::new(padding)];
        self.write_frames(partition, &mut parts)?;
        self.partitions[usize::from(partition)].index.push(ObjectType::Block, frame_bytes(block.len()));
        Ok(())
    }

    /// Writes `count` filemarks from object number `object` on: all of them or, after an error, none.
    pub(super) fn write_filemarks(&mut self, partition: u8, object: u64, count: u64) -> Result<(), Failure> {
        self.begin_writing(partition, object)?;
        let mut left = count;
        while left > 0 {
            let batch = left.min(FILEMARKS_PER_WRITE);
            let first = self.frame_header(partition, ObjectType::Filemark, 0, 0);
            let frames: Vec<u8> =
                (0..batch).flat_map(|n| FrameHeader { object: first.object + n, ..first }.encode()).collect();
            if let Err(failure) = self.write_frames(partition, &mut [IoSlice::new(&frames)]) {
                self.forget_from(partition, object);
                return Err(failure);
            }
            let index = &mut self.partitions[usize::from(partition)].index;
            (0..batch).for_each(|_| index.push(ObjectType::Filemark, FRAME_HEADER_BYTES as u64));
            left -= batch;
        }
        Ok(())
    }

    /// Takes back unsynchronised objects that the caller was not told were written.
    pub(super) fn forget_from(&mut self, partition: u8, object: u64) {
        let recorded = &mut self.partitions[usize::from(partition)];
        recorded.index.truncate(object);
        (recorded.epoch_begun, recorded.stray_frames) = (false, true);
    }

    /// The header of the next frame at the end of data.
    fn frame_header(&self, partition: u8, object_type: ObjectType, length: u32, payload_crc: u32) -> FrameHeader {
        let entry = &self.superblock.partitions[usize::from(partition)];
        let (epoch, salt, object) = (entry.epoch, entry.salt, self.index(partition).len());
        FrameHeader { object_type, partition, object, epoch, salt, length, payload_crc }
    }

    fn begin_writing(&mut self, partition: u8, object: u64) -> Result<(), Failure> {
        let recorded = &self.partitions[usize::from(partition)];
        if recorded.epoch_begun && object == recorded.index.len() {
            return Ok(());
        }
        self.begin_epoch(partition, object)
    }

    fn write_frames(&mut self, partition: u8, parts: &mut [IoSlice<'_>]) -> Result<(), Failure> {
        self.dirty = true;
        let end = self.index(partition).end();
        self.cartridge.storage.write_at(parts, end).map_err(|error| {
            // Any of it may stand there now: the next write or synchronisation begins an epoch that it is not of.
            let recorded = &mut self.partitions[usize::from(partition)];
            (recorded.epoch_begun, recorded.stray_frames) = (false, true);
            Failure::Refused(self.cartridge.failed("write", error))
        })
    }

    /// Begins an epoch at `object`: what stood from there on is gone, and cannot come back.
    pub(super) fn begin_epoch(&mut self, partition: u8, object: u64) -> Result<(), Failure> {
        let place = usize::from(partition);
        let mut next = self.with_all_synchronised();
        let index = &self.partitions[place].index;
        let entry = &mut next.partitions[place];
        entry.synced_end = index.offset(object);
        entry.synced_objects = object.min(index.len());
        entry.synced_filemarks = index.filemarks_before(object);
        entry.epoch = self.superblock.highest_epoch() + 1;
        entry.salt =
            fresh_salt().map_err(|error| Failure::Refused(self.cartridge.failed("begin writing on", error)))?;
        self.commit(next, true).map_err(|error| self.commit_failed(error))?;
        let recorded = &mut self.partitions[place];
        recorded.index.truncate(object);
        (recorded.epoch_begun, recorded.stray_frames, recorded.damage) = (true, false, None);
        Ok(())
    }

    /// Makes what lies behind the end of data of a partition read as zero.
    pub(super) fn wipe_behind_end(&mut self, partition: u8) -> Result<(), Failure> {
        let entry = &self.superblock.partitions[usize::from(partition)];
        let (end, limit) = (self.index(partition).end(), entry.base + entry.capacity);
        self.wipe(end, limit - end)
    }

    fn wipe(&mut self, offset: u64, length: u64) -> Result<(), Failure> {
        self.dirty = true;
        let wiped = self.cartridge.storage.discard(offset, length);
        wiped.map_err(|error| Failure::Refused(self.cartridge.failed("wipe the erased part of", error)))?;
        self.synchronise_storage().map_err(|error| self.commit_failed(CommitError::Synchronising(error)))
    }

    /// New, empty partitions. `false` if the sizes are out of range.
    pub(super) fn format(&mut self, second_partition: Option<u64>) -> Result<bool, Failure> {
        let refused = |tape: &Self, error| Failure::Refused(tape.cartridge.failed("format", error));
        let (capacity, epoch) = (self.cartridge.header.capacity, self.superblock.highest_epoch() + 1);
        let laid_out = lay_out(capacity, second_partition, epoch).map_err(|error| refused(self, error))?;
        let Some(partitions) = laid_out else { return Ok(false) };
        let recorded = partitions.iter().map(|entry| Recorded::empty(entry.base, true));
        let recorded = recorded.collect();
        let span = partitions.iter().map(|entry| (entry.base, entry.base + entry.capacity));
        let span = span.reduce(|first, last| (first.0, last.1));
        let next = Superblock { partitions, ..self.superblock.clone() };
        let before = self.superblock.sequence;
        let committed = self.commit(next, true);
        if self.superblock.sequence != before {
            // Also when it may not have arrived: what is cut off then has to be cut off in the new partitions.
            self.partitions = recorded;
        }
        committed.map_err(|error| self.commit_failed(error))?;
        if let Some((start, end)) = span {
            self.wipe(start, end - start)?;
        }
        Ok(true)
    }

    /// Stores the attributes, and synchronises.
    pub(super) fn store_attributes(&mut self, attributes: Vec<Attribute>) -> Result<(), Failure> {
        let next = Superblock { attributes, ..self.with_all_synchronised() };
        self.commit(next, true).map_err(|error| self.commit_failed(error))
    }

    /// Everything recorded so far is on the medium when this returns.
    pub(super) fn synchronise(&mut self) -> Result<(), Failure> {
        for partition in 0..self.partition_count() {
            if self.partitions[usize::from(partition)].stray_frames {
                self.begin_epoch(partition, self.index(partition).len())?;
            }
        }
        if (0..self.partition_count()).all(|partition| self.unsynchronised(partition) == 0) {
            return Ok(());
        }
        let next = self.with_all_synchronised();
        self.commit(next, false).map_err(|error| self.commit_failed(error))
    }

    /// Synchronises objects and superblock, so that the next load has nothing to check.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        self.synchronise()?;
        if !self.dirty || self.cartridge.storage.read_only() {
            return Ok(());
        }
        self.synchronise_storage().map_err(|error| self.commit_failed(CommitError::Synchronising(error)))
    }

    /// Loses everything that is not synchronised, for good, as a power cut would; returns how many objects that were.
    pub(super) fn discard_unsynchronised(&mut self) -> Result<u64, DriveError> {
        let lost = (0..self.partition_count()).map(|partition| self.unsynchronised(partition)).sum();
        if lost > 0 || self.failed || self.partitions.iter().any(|recorded| recorded.stray_frames) {
            self.cut_off().map_err(|error| {
                self.failed = true;
                self.cartridge.failed("write the superblock of", error)
            })?;
        }
        Ok(lost)
    }

    /// Begins an epoch at the synchronised end of every partition.
    fn cut_off(&mut self) -> io::Result<()> {
        if !self.superblock_durable {
            // It was written and may not have arrived. The other slot is on the medium: this one can be written again.
            let bytes = self.superblock.encode();
            self.cartridge.storage.write_at(&mut [IoSlice::new(&bytes)], SLOT_OFFSETS[self.superblock.slot()])?;
            self.synchronise_storage()?;
        }
        let mut next = self.superblock.clone();
        let epoch = self.superblock.highest_epoch() + 1;
        for entry in &mut next.partitions {
            (entry.epoch, entry.salt) = (epoch, fresh_salt()?);
        }
        self.commit(next, true).map_err(|error| match error {
            CommitError::Superblock(error) | CommitError::Synchronising(error) => error,
        })?;
        for (recorded, entry) in self.partitions.iter_mut().zip(&self.superblock.partitions) {
            recorded.index.truncate(entry.synced_objects);
            (recorded.epoch_begun, recorded.stray_frames) = (recorded.damage.is_none(), false);
        }
        self.failed = false;
        Ok(())
    }

    fn with_all_synchronised(&self) -> Superblock {
        let mut next = self.superblock.clone();
        for (entry, recorded) in next.partitions.iter_mut().zip(&self.partitions) {
            if recorded.damage.is_none() {
                entry.synced_end = recorded.index.end();
                entry.synced_objects = recorded.index.len();
                entry.synced_filemarks = recorded.index.filemarks_before(u64::MAX);
            }
        }
        next
    }

    fn synchronise_storage(&mut self) -> io::Result<()> {
        self.cartridge.storage.sync()?;
        (self.dirty, self.superblock_durable) = (false, true);
        Ok(())
    }

    /// Writes `next` as the superblock, after everything it speaks of is on the medium.
    fn commit(&mut self, mut next: Superblock, durable: bool) -> Result<(), CommitError> {
        if self.dirty {
            self.synchronise_storage().map_err(CommitError::Synchronising)?;
        }
        next.sequence = self.superblock.sequence + 1;
        if self.slot_unclear {
            self.dirty = true;
            self.cartridge.clear_slot(next.slot()).map_err(CommitError::Superblock)?;
            self.synchronise_storage().map_err(CommitError::Synchronising)?;
        }
        self.dirty = true;
        let written = self.cartridge.storage.write_at(&mut [IoSlice::new(&next.encode())], SLOT_OFFSETS[next.slot()]);
        self.slot_unclear = written.is_err();
        written.map_err(CommitError::Superblock)?;
        self.superblock = next;
        self.superblock_durable = false;
        if durable {
            self.synchronise_storage().map_err(CommitError::Synchronising)?;
        }
        Ok(())
    }

    fn commit_failed(&mut self, error: CommitError) -> Failure {
        match error {
            CommitError::Superblock(error) => Failure::Refused(self.cartridge.failed("write the superblock of", error)),
            CommitError::Synchronising(error) => self.lost(error),
        }
    }

    /// After a failed synchronisation nothing is known of what was written since the last one, and asking again tells a lie
    /// (the kernel reports the error once, and drops the pages). So all of it goes.
    fn lost(&mut self, error: io::Error) -> Failure {
        let mend = full(&error).map_or(String::new(), |mend| format!(" ({mend})"));
        if let Err(second) = self.cut_off() {
            tracing::error!(file = %self.cartridge.name, error = %second, "the lost part could not be cut off");
            self.failed = true;
        }
        let message = format!(
            "cannot synchronise {}{mend}: what was written since the last synchronisation is lost; write it again from there",
            self.cartridge.name
        );
        let mut sense = Sense::new(SenseKey::MEDIUM_ERROR, AdditionalSense::WRITE_ERROR);
        sense.flags = SenseFlags { deferred: true, ..SenseFlags::default() };
        Failure::Lost(DriveError::transport(message, error).with_sense(sense))
    }
}
