//! A tape in memory: one partition, of a size that is taken when it is made. It either keeps every record, or keeps what a volume begins
//! with and only counts the rest.

use std::time::Duration;

use sealtape_drivers::medium::{
    Attribute, BlockLimits, DriveError, DriveErrorKind, DriveIdentity, MediumStatus, MediumType, Position,
    PositionReport, ReadOutcome, SpaceKind, SpaceOutcome, SpaceStop, TapeDrive, Warning,
};

const LONGEST_BLOCK: u32 = 8 << 20;
/// Blocks and filemarks that a discarding tape keeps: label, filemark and generation record are read back after they are written.
const KEPT_AT_BEGINNING: usize = 16;
const KEPT_BYTES: usize = 1 << 20;

#[derive(Clone, Copy)]
enum Object {
    Block {
        offset: usize,
        length: usize,
    },
    /// A block of which only this is known.
    Discarded {
        length: usize,
    },
    Filemark,
}

/// The drive and its medium.
pub(crate) struct MemoryTape {
    serial: String,
    /// Every page of it is there from the beginning: no measurement waits for the kernel to find one.
    bytes: Vec<u8>,
    /// Bytes of `bytes`, and filemarks, before each object and the end of data.
    before: Vec<(usize, u64)>,
    objects: Vec<Object>,
    at: usize,
    capacity: u64,
    discards: bool,
    programmable_early_warning: u64,
    /// How fast it writes; `None`: as it can.
    bytes_per_second: Option<u64>,
}

impl MemoryTape {
    /// A blank tape that keeps `capacity` bytes of records.
    pub(crate) fn keeping(serial: String, capacity: usize) -> Self {
        Self::new(serial, capacity, capacity as u64, false)
    }

    /// A blank tape without an end, which keeps nothing but what a volume begins with.
    pub(crate) fn discarding(serial: String) -> Self {
        Self::new(serial, KEPT_BYTES, 1 << 60, true)
    }

    fn new(serial: String, bytes: usize, capacity: u64, discards: bool) -> Self {
        Self {
            serial,
            // Not zeroes: those would be pages that come when they are touched.
            bytes: vec![0xa5; bytes],
            before: vec![(0, 0)],
            objects: Vec::new(),
            at: 0,
            capacity,
            discards,
            programmable_early_warning: 0,
            bytes_per_second: None,
        }
    }

    /// As a drive that writes so fast and no faster.
    pub(crate) fn paced(self, bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, ..self }
    }

    fn used(&self) -> usize {
        self.before[self.at].0
    }

    fn remaining(&self) -> u64 {
        self.capacity - self.used() as u64
    }

    fn warning(&self) -> Warning {
        match self.remaining() {
            left if left < self.capacity / 64 => Warning::Early,
            left if left < self.capacity / 64 + self.programmable_early_warning => Warning::Programmable,
            _ => Warning::None,
        }
    }

    fn append(&mut self, object: Object, kept: usize) {
        let (used, filemarks) = self.before[self.at];
        self.truncate();
        self.objects.push(object);
        self.before.push((used + kept, filemarks + u64::from(matches!(object, Object::Filemark))));
        self.at += 1;
    }

    /// Here is the end of data now.
    fn truncate(&mut self) {
        self.objects.truncate(self.at);
        self.before.truncate(self.at + 1);
    }

    fn refused(&self, kind: DriveErrorKind, what: &str) -> DriveError {
        DriveError::new(kind, format!("benchmark tape {}: {what}", self.serial))
    }
}

impl TapeDrive for MemoryTape {
    fn identity(&self) -> DriveIdentity {
        let product = if self.discards { "DISCARDING" } else { "MEMORY" };
        DriveIdentity {
            vendor: "SEALTAPE".into(),
            product: product.into(),
            revision: "0".into(),
            serial: self.serial.clone(),
        }
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        Ok(BlockLimits { minimum: 1, maximum: LONGEST_BLOCK })
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        Ok(())
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        Ok(MediumStatus {
            medium_type: MediumType::Data,
            write_protected: false,
            partitions: 1,
            capacity_bytes: self.capacity,
            remaining_bytes: Some(self.remaining()),
            serial: None,
            barcode: None,
        })
    }

    fn load(&mut self) -> Result<(), DriveError> {
        self.rewind()
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        self.rewind()
    }

    fn prevent_removal(&mut self, _prevent: bool) -> Result<(), DriveError> {
        Ok(())
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        let (offset, length) = (self.used(), block.len());
        if let Some(rate) = self.bytes_per_second {
            std::thread::sleep(Duration::from_secs_f64(length as f64 / rate as f64));
        }
        if self.discards && self.at >= KEPT_AT_BEGINNING {
            self.append(Object::Discarded { length }, 0);
            return Ok(Warning::None);
        }
        match self.bytes.get_mut(offset..offset + length) {
            Some(place) => place.copy_from_slice(block),
            None if self.discards => {
                self.append(Object::Discarded { length }, 0);
                return Ok(Warning::None);
            }
            None => return Err(self.refused(DriveErrorKind::EndOfMedium, "it is full")),
        }
        self.append(Object::Block { offset, length }, length);
        Ok(self.warning())
    }

    fn write_filemarks(&mut self, count: u32, _immediate: bool) -> Result<Warning, DriveError> {
        for _ in 0..count {
            self.append(Object::Filemark, 0);
        }
        Ok(self.warning())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        let Some(object) = self.objects.get(self.at).copied() else { return Ok(ReadOutcome::EndOfData) };
        self.at += 1;
        match object {
            Object::Filemark => Ok(ReadOutcome::Filemark),
            Object::Discarded { length } => {
                Err(self.refused(DriveErrorKind::Medium, &format!("this record of {length} bytes was not kept")))
            }
            Object::Block { offset, length } => {
                let wanted = length.min(buffer.len());
                buffer[..wanted].copy_from_slice(&self.bytes[offset..offset + wanted]);
                Ok(ReadOutcome::Block { length })
            }
        }
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        if kind == SpaceKind::EndOfData {
            self.at = self.objects.len();
            return Ok(SpaceOutcome { stopped: None });
        }
        let mut left = count.unsigned_abs();
        while left > 0 {
            let forward = count > 0;
            let (next, behind) = match forward {
                true if self.at == self.objects.len() => {
                    return Ok(SpaceOutcome { stopped: Some((SpaceStop::EndOfData, left)) });
                }
                false if self.at == 0 => {
                    return Ok(SpaceOutcome { stopped: Some((SpaceStop::BeginningOfPartition, left)) });
                }
                true => (self.at, self.at + 1),
                false => (self.at - 1, self.at - 1),
            };
            let filemark = matches!(self.objects[next], Object::Filemark);
            self.at = behind;
            match kind {
                SpaceKind::Blocks if filemark => {
                    return Ok(SpaceOutcome { stopped: Some((SpaceStop::Filemark, left)) });
                }
                SpaceKind::Filemarks if !filemark => {}
                SpaceKind::Blocks | SpaceKind::Filemarks | SpaceKind::EndOfData => left -= 1,
            }
        }
        Ok(SpaceOutcome { stopped: None })
    }

    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        if to.partition != 0 {
            return Err(self.refused(DriveErrorKind::IllegalRequest, "it has one partition"));
        }
        let end = self.objects.len() as u64;
        self.at = to.object.min(end) as usize;
        match to.object > end {
            true => Err(self.refused(DriveErrorKind::EndOfData, "there is nothing so far behind")),
            false => Ok(()),
        }
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        self.at = 0;
        Ok(())
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        Ok(PositionReport {
            position: Position { partition: 0, object: self.at as u64 },
            filemarks: Some(self.before[self.at].1),
            beginning_of_partition: self.at == 0,
            end_of_partition: self.warning() == Warning::Early,
            objects_in_buffer: 0,
        })
    }

    fn erase(&mut self, _long: bool) -> Result<(), DriveError> {
        self.truncate();
        Ok(())
    }

    fn format_medium(&mut self, _second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        Err(self.refused(DriveErrorKind::IllegalRequest, "it is not formatted"))
    }

    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        self.programmable_early_warning = bytes;
        Ok(true)
    }

    fn read_attribute(&mut self, _id: u16) -> Result<Option<Attribute>, DriveError> {
        Ok(None)
    }

    fn write_attribute(&mut self, _attribute: &Attribute) -> Result<(), DriveError> {
        Err(self.refused(DriveErrorKind::IllegalRequest, "it has no medium auxiliary memory"))
    }
}
