//! A tape in memory, for what a cartridge in a file cannot show: slow motion, faults at a chosen
//! command, a drive that is reset.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use sealtape_drivers::medium::*;
use sealtape_drivers::scsi::{AdditionalSense, Sense, SenseKey};

#[derive(Clone)]
enum Object {
    Block(Vec<u8>),
    Filemark,
}

/// What a test may change while the drive is in use.
pub(crate) struct Controls {
    partitions: Vec<Vec<Object>>,
    partition: usize,
    at: usize,
    capacity: u64,
    early: u64,
    pub(crate) loaded: bool,
    /// What an empty drive says: that it is becoming ready, or that there is no medium.
    pub(crate) becoming_ready: bool,
    pub(crate) write_protected: bool,
    /// Every motion takes this long.
    pub(crate) motion: Duration,
    /// Attentions that TEST UNIT READY or the next command reports.
    pub(crate) attentions: Vec<DriveErrorKind>,
    /// The next WRITE FILEMARKS that writes some fails so.
    pub(crate) fail_filemark: Option<DriveError>,
    /// The next WRITE FILEMARKS of count 0 fails so.
    pub(crate) fail_sync: Option<DriveError>,
    pub(crate) fail_write: Option<DriveError>,
    pub(crate) fail_read: Option<DriveError>,
    /// Commands in short, in order.
    pub(crate) log: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct MemoryTape(Arc<Mutex<Controls>>);

impl MemoryTape {
    pub(crate) fn new(capacity: u64) -> Self {
        Self(Arc::new(Mutex::new(Controls {
            partitions: vec![Vec::new()],
            partition: 0,
            at: 0,
            capacity,
            early: capacity / 8,
            loaded: true,
            becoming_ready: false,
            write_protected: false,
            motion: Duration::ZERO,
            attentions: Vec::new(),
            fail_filemark: None,
            fail_sync: None,
            fail_write: None,
            fail_read: None,
            log: Vec::new(),
        })))
    }

    pub(crate) fn controls(&self) -> MutexGuard<'_, Controls> {
        self.0.lock().unwrap()
    }

    /// The tape as text: the length of each block, `|` for a filemark.
    pub(crate) fn layout(&self) -> String {
        let controls = self.controls();
        let word = |object: &Object| match object {
            Object::Block(block) => block.len().to_string(),
            Object::Filemark => "|".to_owned(),
        };
        controls.partitions[controls.partition].iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

impl Controls {
    fn tape(&mut self) -> &mut Vec<Object> {
        &mut self.partitions[self.partition]
    }

    fn used(&self) -> u64 {
        let length = |object: &Object| match object {
            Object::Block(block) => block.len() as u64,
            Object::Filemark => 512,
        };
        self.partitions[self.partition].iter().take(self.at).map(length).sum()
    }

    fn warning(&self) -> Warning {
        if self.used() + self.early > self.capacity { Warning::Early } else { Warning::None }
    }

    fn ready(&mut self, command: &str) -> Result<(), DriveError> {
        self.log.push(command.to_owned());
        if let Some(kind) = self.attentions.pop() {
            return Err(DriveError::new(kind, "attention"));
        }
        if self.loaded {
            return Ok(());
        }
        let error = DriveError::new(DriveErrorKind::NotReady, "no cartridge");
        let becoming = Sense::new(SenseKey::NOT_READY, AdditionalSense::new(0x04, 0x01));
        Err(if self.becoming_ready { error.with_sense(becoming) } else { error })
    }

    fn append(&mut self, object: Object, length: u64) -> Result<(), DriveError> {
        if self.write_protected {
            return Err(DriveError::new(DriveErrorKind::WriteProtected, "write protected"));
        }
        if self.used() + length > self.capacity {
            return Err(DriveError::new(DriveErrorKind::EndOfMedium, "full"));
        }
        let at = self.at;
        self.tape().truncate(at);
        self.tape().push(object);
        self.at += 1;
        Ok(())
    }
}

impl TapeDrive for MemoryTape {
    fn identity(&self) -> DriveIdentity {
        DriveIdentity { vendor: "TEST".into(), product: "MEMORY".into(), revision: "1".into(), serial: "0".into() }
    }

    fn block_limits(&mut self) -> Result<BlockLimits, DriveError> {
        Ok(BlockLimits { minimum: 1, maximum: 8 << 20 })
    }

    fn test_unit_ready(&mut self) -> Result<(), DriveError> {
        self.controls().ready("test")
    }

    fn medium_status(&mut self) -> Result<MediumStatus, DriveError> {
        let mut controls = self.controls();
        controls.ready("status")?;
        Ok(MediumStatus {
            medium_type: MediumType::Data,
            write_protected: controls.write_protected,
            partitions: controls.partitions.len() as u8,
            capacity_bytes: controls.capacity,
            remaining_bytes: Some(controls.capacity - controls.used()),
            serial: None,
            barcode: None,
        })
    }

    fn load(&mut self) -> Result<(), DriveError> {
        let mut controls = self.controls();
        controls.log.push("load".into());
        controls.loaded = true;
        (controls.partition, controls.at) = (0, 0);
        Ok(())
    }

    fn unload(&mut self) -> Result<(), DriveError> {
        let mut controls = self.controls();
        controls.ready("unload")?;
        controls.loaded = false;
        Ok(())
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), DriveError> {
        self.controls().log.push(format!("prevent {prevent}"));
        Ok(())
    }

    fn write(&mut self, block: &[u8]) -> Result<Warning, DriveError> {
        let mut controls = self.controls();
        controls.ready("write")?;
        if let Some(error) = controls.fail_write.take() {
            return Err(error);
        }
        controls.append(Object::Block(block.to_vec()), block.len() as u64)?;
        Ok(controls.warning())
    }

    fn write_filemarks(&mut self, count: u32, immediate: bool) -> Result<Warning, DriveError> {
        let mut controls = self.controls();
        controls.ready(if count == 0 { "sync" } else { "filemark" })?;
        let fault = if count == 0 { controls.fail_sync.take() } else { controls.fail_filemark.take() };
        if let Some(error) = fault {
            return Err(error);
        }
        assert!(!immediate || count > 0, "an immediate synchronisation is a contradiction");
        for _ in 0..count {
            controls.append(Object::Filemark, 512)?;
        }
        Ok(controls.warning())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome, DriveError> {
        let mut controls = self.controls();
        controls.ready("read")?;
        let at = controls.at;
        if let Some(error) = controls.fail_read.take() {
            controls.at += 1;
            return Err(error);
        }
        let outcome = match controls.tape().get(at) {
            None => return Ok(ReadOutcome::EndOfData),
            Some(Object::Filemark) => ReadOutcome::Filemark,
            Some(Object::Block(block)) => {
                let length = block.len().min(buffer.len());
                buffer[..length].copy_from_slice(&block[..length]);
                ReadOutcome::Block { length: block.len() }
            }
        };
        controls.at += 1;
        Ok(outcome)
    }

    fn space(&mut self, kind: SpaceKind, count: i64) -> Result<SpaceOutcome, DriveError> {
        thread::sleep(self.controls().motion);
        let mut controls = self.controls();
        controls.ready("space")?;
        if kind == SpaceKind::EndOfData {
            controls.at = controls.tape().len();
            return Ok(SpaceOutcome { stopped: None });
        }
        let mut left = count.unsigned_abs();
        while left > 0 {
            let forward = count > 0;
            if !forward && controls.at == 0 {
                return Ok(SpaceOutcome { stopped: Some((SpaceStop::BeginningOfPartition, left)) });
            }
            let next = if forward { controls.at } else { controls.at - 1 };
            let filemark = match controls.tape().get(next) {
                None => return Ok(SpaceOutcome { stopped: Some((SpaceStop::EndOfData, left)) }),
                Some(Object::Filemark) => true,
                Some(Object::Block(_)) => false,
            };
            controls.at = if forward { next + 1 } else { next };
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
        thread::sleep(self.controls().motion);
        let mut controls = self.controls();
        controls.ready("locate")?;
        if usize::from(to.partition) >= controls.partitions.len() {
            return Err(DriveError::new(DriveErrorKind::IllegalRequest, "no such partition"));
        }
        controls.partition = usize::from(to.partition);
        let end = controls.tape().len();
        controls.at = end.min(to.object as usize);
        if to.object > end as u64 {
            Err(DriveError::new(DriveErrorKind::EndOfData, "beyond the end of data"))
        } else {
            Ok(())
        }
    }

    fn rewind(&mut self) -> Result<(), DriveError> {
        thread::sleep(self.controls().motion);
        let mut controls = self.controls();
        controls.ready("rewind")?;
        controls.at = 0;
        Ok(())
    }

    fn read_position(&mut self) -> Result<PositionReport, DriveError> {
        let mut controls = self.controls();
        controls.ready("position")?;
        let at = controls.at;
        let filemarks = controls.tape()[..at].iter().filter(|object| matches!(object, Object::Filemark)).count();
        Ok(PositionReport {
            position: Position { partition: controls.partition as u8, object: at as u64 },
            filemarks: Some(filemarks as u64),
            beginning_of_partition: at == 0,
            end_of_partition: controls.warning() == Warning::Early,
            objects_in_buffer: 0,
        })
    }

    fn erase(&mut self, _long: bool) -> Result<(), DriveError> {
        let mut controls = self.controls();
        controls.ready("erase")?;
        let at = controls.at;
        controls.tape().truncate(at);
        Ok(())
    }

    fn format_medium(&mut self, second_partition_bytes: Option<u64>) -> Result<(), DriveError> {
        let mut controls = self.controls();
        controls.ready("format")?;
        controls.partitions = vec![Vec::new(); 1 + usize::from(second_partition_bytes.is_some())];
        (controls.partition, controls.at) = (0, 0);
        Ok(())
    }

    fn set_programmable_early_warning(&mut self, _bytes: u64) -> Result<bool, DriveError> {
        Ok(false)
    }

    fn read_attribute(&mut self, _id: u16) -> Result<Option<Attribute>, DriveError> {
        Ok(None)
    }

    fn write_attribute(&mut self, _attribute: &Attribute) -> Result<(), DriveError> {
        Err(DriveError::new(DriveErrorKind::IllegalRequest, "no medium auxiliary memory"))
    }
}
