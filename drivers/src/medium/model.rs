//! The reference tape: in memory, slow, and obvious, so that the others can be compared with it.
//!
//! Everything is a loop over a vector of objects. What is not here (real files, crashes) other tests show.

use super::{
    Attribute, BlockLimits, DriveError, DriveErrorKind, DriveIdentity, MediumStatus, MediumType, Position,
    PositionReport, PowerCut, ReadOutcome, SpaceKind, SpaceOutcome, SpaceStop, TapeDrive, Warning,
};
use crate::scsi::{AdditionalSense, Sense, SenseKey};

/// One logical object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    /// A block.
    Block(Vec<u8>),
    /// A filemark.
    Filemark,
}

/// What kind of tape.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelOptions {
    /// Capacity in bytes, partitions together.
    pub capacity: u64,
    /// Capacity of a second partition, taken from the whole.
    pub second_partition: Option<u64>,
    /// Early warning is given when less than this is left in a partition, in bytes; half of it at most.
    pub early_warning: u64,
    /// What each object takes beside its block, in bytes.
    pub object_overhead: u64,
    /// A block is rounded up to a multiple of this, in bytes.
    pub block_multiple: u64,
    /// Smallest partition that can be formatted, in bytes.
    pub minimum_partition: u64,
    /// Longest block, in bytes.
    pub maximum_block: u32,
    /// Write once.
    pub worm: bool,
    /// The write-protect switch.
    pub write_protected: bool,
    /// Cartridge serial number.
    pub serial: String,
    /// Barcode.
    pub barcode: Option<String>,
}

impl ModelOptions {
    /// A rewritable tape with one partition that counts its bytes as the file-backed drive does.
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            second_partition: None,
            early_warning: (capacity / 64).min(1 << 30),
            object_overhead: 48,
            block_multiple: 8,
            minimum_partition: 4096,
            maximum_block: 16 << 20,
            worm: false,
            write_protected: false,
            serial: "MODEL".into(),
            barcode: None,
        }
    }
}

#[derive(Clone, Debug)]
struct Partition {
    capacity: u64,
    objects: Vec<Object>,
    /// How many of them are synchronised.
    synchronised: usize,
}

impl Partition {
    fn new(capacity: u64) -> Self {
        Self { capacity, objects: Vec::new(), synchronised: 0 }
    }
}

/// The reference tape: a drive with one cartridge that is always in it, loaded from the beginning.
#[derive(Clone, Debug)]
pub struct ModelTape {
    options: ModelOptions,
    partitions: Vec<Partition>,
    attributes: Vec<Attribute>,
    position: Position,
    loaded: bool,
    unit_attention: bool,
    removal_prevented: bool,
    programmable_early_warning: u64,
}

fn error(kind: DriveErrorKind, message: &str) -> DriveError {
    DriveError::new(kind, format!("model tape: {message}"))
}

impl ModelTape {
    /// An empty tape, loaded. No unit attention is pending.
    pub fn new(options: ModelOptions) -> Self {
        let partitions = partitions(options.capacity, options.second_partition);
        let barcode = options.barcode.iter();
        let attributes =
            barcode.map(|text| Attribute { id: 0x0806, format: 1, value: format!("{text:32}").into() }).collect();
        Self {
            options,
            partitions,
            attributes,
            position: Position { partition: 0, object: 0 },
            loaded: true,
            unit_attention: false,
            removal_prevented: false,
            programmable_early_warning: 0,
        }
    }

    /// All objects of a partition; empty if there is no such partition.
    pub fn objects(&self, partition: u8) -> &[Object] {
        self.partitions.get(usize::from(partition)).map_or(&[], |partition| &partition.objects)
    }

    /// All objects of a partition, to be tampered with; `None` if there is no such partition.
    pub fn objects_mut(&mut self, partition: u8) -> Option<&mut Vec<Object>> {
        self.partitions.get_mut(usize::from(partition)).map(|partition| &mut partition.objects)
    }

    /// How many objects of a partition are synchronised.
    pub fn synchronised(&self, partition: u8) -> u64 {
        self.partitions.get(usize::from(partition)).map_or(0, |partition| partition.synchronised as u64)
    }

    /// The write-protect switch.
    pub fn set_write_protect(&mut self, protect: bool) {
        self.options.write_protected = protect;
    }

    fn check_loaded(&self) -> Result<(), DriveError> {
        if self.loaded { Ok(()) } else { Err(error(DriveErrorKind::NotReady, "not loaded")) }
    }

    fn here(&self) -> &Partition {
        &self.partitions[usize::from(self.position.partition)]
    }

    fn here_mut(&mut self) -> &mut Partition {
        &mut self.partitions[usize::from(self.position.partition)]
    }

    fn place(&self) -> usize {
        self.position.object as usize
    }

    fn size(&self, object: &Object) -> u64 {
        let block = match object {
            Object::Block(block) => (block.len() as u64).next_multiple_of(self.options.block_multiple),
            Object::Filemark => 0,
        };
        self.options.object_overhead + block
    }

    fn used(&self) -> u64 {
        self.here().objects[..self.place()].iter().map(|object| self.size(object)).sum()
    }

    fn used_to_end(&self) -> u64 {
        self.here().objects.iter().map(|object| self.size(object)).sum()
    }

    /// Bytes between the position and early warning, `None` past it.
    fn left(&self) -> Option<u64> {
        let early_warning = self.options.early_warning.min(self.here().capacity / 2);
        (self.here().capacity - early_warning).checked_sub(self.used())
    }

    fn warning(&self) -> Warning {
        match self.left() {
            None => Warning::Early,
            Some(left) if left < self.programmable_early_warning => Warning::Programmable,
            Some(_) => Warning::None,
        }
    }

    fn check_protection(&self) -> Result<(), DriveError> {
        if self.options.write_protected {
            return Err(error(DriveErrorKind::WriteProtected, "write protected"));
        }
        Ok(())
    }

    fn check_worm(&self) -> Result<(), DriveError> {
        if self.options.worm && self.place() < self.here().objects.len() {
            return Err(error(DriveErrorKind::WormOverwrite, "WORM"));
        }
        Ok(())
    }

    fn record(&mut self, objects: Vec<Object>) -> Result<Warning, DriveError> {
        self.check_protection()?;
        self.check_worm()?;
        let bytes: u64 = objects.iter().map(|object| self.size(object)).sum();
        if self.used() + bytes > self.here().capacity {
            return Err(error(DriveErrorKind::EndOfMedium, "full"));
        }
        let place = self.place();
        self.position.object += objects.len() as u64;
        self.cut_here(place);
        self.here_mut().objects.extend(objects);
        Ok(self.warning())
    }

    fn cut_here(&mut self, place: usize) {
        let partition = self.here_mut();
        partition.objects.truncate(place);
        partition.synchronised = partition.synchronised.min(place);
    }

    fn synchronise(&mut self) {
        for partition in &mut self.partitions {
            partition.synchronised = partition.objects.len();
        }
    }

    /// The object before (`-1`) or behind (`+1`) the position, and one step past it.
    fn step(&mut self, forward: bool) -> Option<Object> {
        let place = if forward { Some(self.place()) } else { self.place().checked_sub(1) }?;
        let object = self.here().objects.get(place)?.clone();
        if forward {
            self.position.object += 1
        } else {
            self.position.object -= 1
        }
        Some(object)
    }
}

fn partitions(capacity: u64, second: Option<u64>) -> Vec<Partition> {
    let mut partitions = vec![Partition::new(capacity - second.unwrap_or(0))];
    partitions.extend(second.map(Partition::new));
    partitions
}

impl PowerCut for ModelTape {
    fn power_cut(&mut self) -> Result<u64, DriveError> {
        let lost = self.discard_unsynchronised()?;
        self.position = Position { partition: 0, object: 0 };
        Ok(lost)
    }

    fn discard_unsynchronised(&mut self) -> Result<u64, DriveError> {
        self.check_loaded()?;
        let mut lost = 0;
        for partition in &mut self.partitions {
            lost += (partition.objects.len() - partition.synchronised) as u64;
            partition.objects.truncate(partition.synchronised);
        }
        self.position.object = self.position.object.min(self.here().objects.len() as u64);
        Ok(lost)
    }
}

impl TapeDrive for ModelTape {
    fn identity(&self) -> DriveIdentity {
        DriveIdentity {
            vendor: "SEALTAPE".into(),
            product: "MODEL TAPE".into(),
            revision: "0001".into(),
            serial: self.options.serial.clone(),
        }
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        Ok(BlockLimits { minimum: 1, maximum: self.options.maximum_block })
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        self.check_loaded()?;
        if std::mem::take(&mut self.unit_attention) {
            return Err(error(DriveErrorKind::UnitAttention, "loaded"));
        }
        Ok(())
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        self.check_loaded()?;
        let barcode = self.attributes.iter().find(|attribute| attribute.id == 0x0806);
        Ok(MediumStatus {
            medium_type: if self.options.worm { MediumType::Worm } else { MediumType::Data },
            write_protected: self.options.write_protected,
            partitions: self.partitions.len() as u8,
            capacity_bytes: self.here().capacity,
            remaining_bytes: Some(self.here().capacity - self.used_to_end()),
            serial: Some(self.options.serial.clone()),
            barcode: barcode.map(|barcode| String::from_utf8_lossy(&barcode.value).trim_end().to_string()),
        })
    }

    fn load(&mut self) -> Result<(), DriveError> {
        self.synchronise();
        self.position = Position { partition: 0, object: 0 };
        self.unit_attention |= !self.loaded;
        self.loaded = true;
        Ok(())
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        if self.removal_prevented {
            let sense = Sense::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::new(0x53, 0x02));
            return Err(error(DriveErrorKind::IllegalRequest, "removal prevented").with_sense(sense));
        }
        self.synchronise();
        (self.loaded, self.unit_attention) = (false, false);
        Ok(())
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        self.removal_prevented = prevent;
        Ok(())
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        self.check_loaded()?;
        if block.is_empty() || block.len() > self.options.maximum_block as usize {
            return Err(error(DriveErrorKind::IllegalRequest, "block length"));
        }
        self.record(vec![Object::Block(block.to_vec())])
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        self.check_loaded()?;
        if count > 0xff_ffff {
            return Err(error(DriveErrorKind::IllegalRequest, "too many filemarks"));
        }
        let warning = match count {
            0 => Warning::None,
            _ => self.record(vec![Object::Filemark; count as usize])?,
        };
        if !immediate {
            self.synchronise();
        }
        Ok(warning)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        self.check_loaded()?;
        Ok(match self.step(true) {
            None => ReadOutcome::EndOfData,
            Some(Object::Filemark) => ReadOutcome::Filemark,
            Some(Object::Block(block)) => {
                let fits = block.len().min(buffer.len());
                buffer[..fits].copy_from_slice(&block[..fits]);
                ReadOutcome::Block { length: block.len() }
            }
        })
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        self.check_loaded()?;
        self.synchronise();
        let forward = count >= 0;
        let end = if forward { SpaceStop::EndOfData } else { SpaceStop::BeginningOfPartition };
        let mut left = count.unsigned_abs();
        if kind == SpaceKind::EndOfData {
            while self.step(true).is_some() {}
            left = 0;
        }
        while left > 0 {
            let stop = match (self.step(forward), kind) {
                (None, _) => Some(end),
                (Some(Object::Filemark), SpaceKind::Blocks) => Some(SpaceStop::Filemark),
                (Some(Object::Block(_)), SpaceKind::Filemarks) => continue,
                (Some(_), _) => None,
            };
            if let Some(stop) = stop {
                return Ok(SpaceOutcome { stopped: Some((stop, left)) });
            }
            left -= 1;
        }
        Ok(SpaceOutcome { stopped: None })
    }

    fn locate(&mut self, to: Position) -> Result<(), DriveError> {
        self.check_loaded()?;
        let Some(partition) = self.partitions.get(usize::from(to.partition)) else {
            return Err(error(DriveErrorKind::IllegalRequest, "no such partition"));
        };
        let end = partition.objects.len() as u64;
        self.synchronise();
        self.position = Position { object: to.object.min(end), ..to };
        if to.object > end { Err(error(DriveErrorKind::EndOfData, "end of data")) } else { Ok(()) }
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        self.check_loaded()?;
        self.synchronise();
        self.position.object = 0;
        Ok(())
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        self.check_loaded()?;
        let before = &self.here().objects[..self.place()];
        Ok(PositionReport {
            position: self.position,
            filemarks: Some(before.iter().filter(|object| **object == Object::Filemark).count() as u64),
            beginning_of_partition: before.is_empty(),
            end_of_partition: self.left().is_none(),
            objects_in_buffer: (self.here().objects.len() - self.here().synchronised) as u64,
        })
    }

    fn erase(&mut self, _long: bool) -> Result<(), DriveError> {
        self.check_loaded()?;
        self.check_protection()?;
        self.check_worm()?;
        self.cut_here(self.place());
        Ok(())
    }

    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        self.check_loaded()?;
        self.check_protection()?;
        if self.options.worm && self.partitions.iter().any(|partition| !partition.objects.is_empty()) {
            return Err(error(DriveErrorKind::WormOverwrite, "WORM"));
        }
        let minimum = self.options.minimum_partition;
        let first = self.options.capacity.saturating_sub(second_partition_bytes.unwrap_or(0));
        if first < minimum || second_partition_bytes.is_some_and(|second| second < minimum) {
            return Err(error(DriveErrorKind::IllegalRequest, "size of the second partition"));
        }
        self.partitions = partitions(self.options.capacity, second_partition_bytes);
        self.position = Position { partition: 0, object: 0 };
        Ok(())
    }

    fn set_programmable_early_warning(&mut self, bytes: u64) -> Result<bool, DriveError> {
        self.programmable_early_warning = bytes;
        Ok(true)
    }

    fn read_attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        self.check_loaded()?;
        if id == 0x0401 {
            let value = format!("{:32}", self.options.serial).into_bytes();
            return Ok(Some(Attribute { id, format: 1, value }));
        }
        Ok(self.attributes.iter().find(|attribute| attribute.id == id).cloned())
    }

    fn write_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        self.check_loaded()?;
        self.check_protection()?;
        let host = (0x0800..0x0c00).contains(&attribute.id) || (0x1400..0x1800).contains(&attribute.id);
        if !host || attribute.format > 2 {
            return Err(error(DriveErrorKind::IllegalRequest, "not a host attribute"));
        }
        self.attributes.retain(|other| other.id != attribute.id);
        if !attribute.value.is_empty() {
            self.attributes.push(attribute.clone());
        }
        self.synchronise();
        Ok(())
    }
}
