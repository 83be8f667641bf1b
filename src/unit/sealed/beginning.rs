//! What stands at the beginning of a medium and of its partitions: identified, opened, and its end compared with what is known.

use std::sync::PoisonError;

use sealtape_drivers::medium::{BlockLimits, DriveError, DriveErrorKind, MediumType, Position, ReadOutcome, SpaceKind};

use super::{Beginning, LoadReport, Loaded, SealedTape, nothing_loaded_in};
use crate::seal::opener::CipherCache;
use crate::seal::{LABEL_LEN, MAX_PLAIN, OVERHEAD, Refusal, VolumeLabel};
use crate::unit::refusals;
use crate::volume::identity::{RawObject, SealedBeginning, classify};
use crate::volume::keys::{CartridgeSeen, KnownEnd};
use crate::volume::{AccessLatch, BeginningOfPartition, HIDDEN_OBJECTS, KeyRefusal, KeyRefusalKind, PartitionState};

impl SealedTape {
    /// LOAD, and finds out what is loaded. A volume that cannot be used is loaded all the same, closed, and the
    /// reason stands in the report.
    ///
    /// # Errors
    /// When the drive cannot load, or has no medium.
    pub fn load_medium(&mut self) -> Result<LoadReport, DriveError> {
        if self.loaded.is_none() {
            self.drive().load()?;
            self.take_up_medium()?;
        }
        let loaded = self.loaded.as_ref().ok_or_else(|| self.nothing_loaded())?;
        Ok(LoadReport { label: loaded.label.clone(), access: loaded.latch.access() })
    }

    /// Looks anew at what is loaded: after labelling, and when the drive says that the medium changed.
    pub(in crate::unit) fn identify_medium(&mut self) -> Result<(), DriveError> {
        self.pipeline.reset();
        self.ciphers = CipherCache::default();
        let status = self.drive().medium_status()?;
        let limits = self.drive().block_limits()?;
        self.keys.cartridge_changed(&CartridgeSeen { barcode: status.barcode.clone(), serial: status.serial.clone() });
        let mut loaded = Loaded {
            label: None,
            beginning: Beginning::Unreadable,
            limits,
            label_blocks: vec![None; usize::from(status.partitions)],
            latch: AccessLatch::default(),
            ended: None,
            partitions: (0..status.partitions).map(|_| None).collect(),
            current: 0,
            writable: !status.write_protected && status.medium_type == MediumType::Data,
            position_known: false,
        };
        match status.medium_type {
            MediumType::Cleaning | MediumType::Firmware => {
                loaded.latch.lock(format!("drive {}: a cleaning or firmware cartridge is loaded", self.name));
                self.loaded = Some(loaded);
                return Ok(());
            }
            MediumType::Data | MediumType::Worm => {}
        }
        if status.write_protected {
            loaded.latch.never_write(format!("drive {}: the cartridge is write protected", self.name));
        }
        self.loaded = Some(loaded);
        let identified = self.prepare_early_warning().and_then(|_| self.identify_partition(0));
        if identified.is_err() {
            // Half known is not loaded: a tape of which nothing was read must not look like an empty one.
            self.loaded = None;
        }
        identified
    }

    /// Early warning has to come before the window can run over the end of the medium; where it cannot be had, the
    /// unit goes without write-behind.
    pub(in crate::unit) fn prepare_early_warning(&mut self) -> Result<bool, DriveError> {
        let margin = 2 * (self.options.window.bytes as u64 + self.max_plain_of(u32::MAX) as u64) + 1;
        let margin = margin.max(self.host_early_warning);
        let warned = self.drive().set_programmable_early_warning(margin)?;
        if !warned {
            tracing::warn!(drive = %self.name, "no programmable early warning: every record is waited for");
        }
        self.warned_early = warned;
        self.pipeline.set_synchronous(self.host_synchronous || !warned);
        Ok(warned)
    }

    pub(in crate::unit) fn max_plain_of(&self, drive_maximum: u32) -> u32 {
        drive_maximum.saturating_sub(OVERHEAD as u32).min(self.options.max_block).min(MAX_PLAIN as u32)
    }

    /// The drive's READ BLOCK LIMITS, as they were when the medium was loaded.
    pub(in crate::unit) fn drive_limits(&self) -> Result<BlockLimits, DriveError> {
        self.loaded.as_ref().map(|loaded| loaded.limits).ok_or_else(|| self.nothing_loaded())
    }

    /// Reads the beginning of a partition and opens it. Afterwards the drive stands at the host's first object.
    pub(in crate::unit) fn identify_partition(&mut self, partition: u8) -> Result<(), DriveError> {
        let beginning = self.read_beginning(partition)?;
        let name = self.name.clone();
        let loaded = self.loaded.as_mut().ok_or_else(nothing_loaded_in(&name))?;
        loaded.current = partition;
        loaded.position_known = false;
        if partition == 0 {
            loaded.beginning = match &beginning {
                BeginningOfPartition::Blank => Beginning::Blank,
                BeginningOfPartition::Foreign => Beginning::Clear,
                BeginningOfPartition::Unreadable(_) => Beginning::Unreadable,
                BeginningOfPartition::LabelOnly { .. } | BeginningOfPartition::Sealed(_) => Beginning::Sealed,
            };
        }
        match beginning {
            BeginningOfPartition::Blank => loaded.latch.lock(format!(
                "drive {name}: the medium is blank and has no label; label it first: sealtape volume label {name}"
            )),
            BeginningOfPartition::Foreign => loaded.latch.lock(format!(
                "drive {name}: {}; nothing clear is read or written here. To make it a sealed volume, and lose what \
                 it holds: sealtape volume label {name} --overwrite clear",
                Refusal::Foreign.words()
            )),
            BeginningOfPartition::Unreadable(refusal) => {
                loaded.latch.lock(format!(
                    "drive {name}: {refusal}. Clean the drive and load again; if the volume is to be given up: sealtape \
                     volume label {name} --overwrite clear"
                ));
                self.report_incident(&format!("partition {partition}: {refusal}"));
            }
            BeginningOfPartition::LabelOnly { label, label_block, refusal } => {
                self.open_label_only(partition, label, label_block, refusal);
            }
            BeginningOfPartition::Sealed(sealed) => self.open_sealed(partition, *sealed),
        }
        self.return_to_host_beginning(partition)
    }

    pub(in crate::unit) fn read_beginning(&mut self, partition: u8) -> Result<BeginningOfPartition, DriveError> {
        let mut drive = self.drive.lock().unwrap_or_else(PoisonError::into_inner);
        drive.locate(Position { partition, object: 0 })?;
        let mut buffer = vec![0; crate::seal::generation::MAX_GENERATION_LEN + 1];
        classify(partition, || match drive.read(&mut buffer) {
            Ok(ReadOutcome::Block { length }) => Ok(RawObject::Block(buffer.get(..length).unwrap_or(&buffer).to_vec())),
            Ok(ReadOutcome::Filemark) => Ok(RawObject::Filemark),
            Ok(ReadOutcome::EndOfData | ReadOutcome::EndOfPartition) => Ok(RawObject::EndOfData),
            Err(error) if error.kind == DriveErrorKind::Medium => Ok(RawObject::Unreadable),
            Err(error) => Err(error),
        })
    }

    fn open_label_only(
        &mut self,
        partition: u8,
        label: VolumeLabel,
        label_block: Box<[u8; LABEL_LEN]>,
        refusal: Refusal,
    ) {
        // A cut leaves no generation record, or a part of one. Anything else was put there.
        let pending = match refusal {
            Refusal::NoGeneration | Refusal::DamagedGeneration => {
                self.keys.has_pending_generation(label.volume, partition)
            }
            _ => Ok(false),
        };
        let volume = label.volume;
        match &pending {
            Ok(false) => self.enter_incident(volume, &format!("partition {partition}: {refusal}")),
            Err(refusal) if refusal.kind == KeyRefusalKind::Integrity => self.enter_incident(volume, &refusal.message),
            Ok(true) | Err(_) => {}
        }
        let Some(loaded) = self.loaded.as_mut() else { return };
        loaded.set_label(label, label_block);
        match pending {
            Ok(true) => {
                tracing::warn!(drive = %self.name, %volume, partition, "a new generation was cut short: the partition is empty");
                loaded.set_partition(partition, PartitionState::label_only());
            }
            Ok(false) => loaded.latch.lock(format!(
                "drive {}: volume {volume}: {refusal}, and the catalogue knows of no new generation that was begun. \
                 The medium was damaged or tampered with",
                self.name
            )),
            Err(refusal) => loaded.latch.lock(format!("drive {}: volume {volume}: {refusal}", self.name)),
        }
    }

    fn open_sealed(&mut self, partition: u8, sealed: SealedBeginning) {
        let volume = sealed.label.volume;
        let opened = self.release_generation(partition, &sealed);
        if let Err(refusal) = &opened
            && refusal.kind == KeyRefusalKind::Integrity
        {
            self.enter_incident(volume, &refusal.message);
        }
        let Some(loaded) = self.loaded.as_mut() else { return };
        loaded.set_label(sealed.label, Box::new(sealed.label_block));
        match opened {
            Ok((state, end, may_write)) => {
                if !may_write {
                    loaded.latch.never_write(format!(
                        "drive {}: volume {volume}: the key of this generation may open only",
                        self.name
                    ));
                }
                loaded.set_partition(partition, state);
                if let Some(end) = end
                    && self.options.check_end_at_load
                {
                    self.check_end(partition, &end);
                }
            }
            Err(refusal) => {
                let text = format!("drive {}: volume {volume}: {refusal}", self.name);
                tracing::warn!("{text}");
                // The label could be read, the key was refused: nothing may be labelled over what cannot be read.
                loaded.latch.lock(text.clone());
                loaded.latch.refuse_writing(text);
            }
        }
    }

    fn release_generation(
        &mut self,
        partition: u8,
        sealed: &SealedBeginning,
    ) -> Result<(PartitionState, Option<KnownEnd>, bool), KeyRefusal> {
        let SealedBeginning { label, label_block, generation, generation_block } = sealed;
        let loaded_volume = self.loaded.as_ref().and_then(|loaded| loaded.label.as_ref());
        if loaded_volume.is_some_and(|first| first.volume != label.volume) {
            return Err(KeyRefusal::new(KeyRefusalKind::Integrity, "its partitions belong to different volumes"));
        }
        let loaded = self.keys.load(label, generation)?;
        if let Err(refusal) = generation.verify(&loaded.keys, generation_block, label_block) {
            return Err(KeyRefusal::new(KeyRefusalKind::Integrity, format!("partition {partition}: {refusal}")));
        }
        if loaded.pending {
            self.keys.activate_generation(&generation.scope, generation.key_id, &generation.commitment)?;
        }
        self.keys.confirm_cartridge(label.volume)?;
        let end = loaded.content.as_ref().and_then(|content| content.end);
        let may_write = loaded.keys.sealing().is_some() || loaded.new_generation_allowed;
        Ok((PartitionState::loaded(loaded, generation.key_id, generation.first_session_ordinal), end, may_write))
    }

    /// Compares the end of data with what the catalogue was told at the last synchronisation.
    fn check_end(&mut self, partition: u8, end: &KnownEnd) {
        if let Err(error) = self.try_check_end(partition, end) {
            let text = format!("drive {}: {}", self.name, error.message);
            tracing::warn!("{text}");
            self.report_incident(&error.message);
            if let Some(loaded) = self.loaded.as_mut() {
                loaded.latch.refuse_writing(format!(
                    "{text}. Reading is possible; writing waits for: sealtape volume acknowledge {}",
                    self.name
                ));
            }
        }
    }

    fn try_check_end(&mut self, partition: u8, end: &KnownEnd) -> Result<(), DriveError> {
        {
            let mut drive = self.drive();
            drive.locate(Position { partition, object: HIDDEN_OBJECTS })?;
            drive.space(SpaceKind::EndOfData, 0)?;
            let physical = drive.read_position()?.position.object;
            let at = physical.saturating_sub(HIDDEN_OBJECTS);
            if at < end.object {
                let message = format!(
                    "{}: data ends at object {at}, the catalogue knows {} objects",
                    Refusal::CutShort,
                    end.object
                );
                return Err(refusals::refused(Refusal::CutShort, message));
            }
        }
        let Some((object, tag)) = end.last_record else { return Ok(()) };
        self.drive().locate(Position { partition, object: object + HIDDEN_OBJECTS })?;
        if let Some(state) = self.state_mut() {
            state.moved(object, None);
        }
        let mark = match self.read_record()? {
            crate::unit::read::Opened::Record(mark) => mark,
            crate::unit::read::Opened::Filemark | crate::unit::read::Opened::EndOfData => {
                let message = format!("object {object}: {}, no record stands there", Refusal::RolledBack);
                return Err(refusals::refused(Refusal::RolledBack, message));
            }
        };
        if mark.tag != tag {
            let message = format!("object {object}: {}: its tag is another one", Refusal::RolledBack);
            return Err(refusals::refused(Refusal::RolledBack, message));
        }
        Ok(())
    }

    /// To the host's first object of a partition, wherever the drive stands.
    pub(in crate::unit) fn return_to_host_beginning(&mut self, partition: u8) -> Result<(), DriveError> {
        let label_only = self.state().is_none_or(|state| state.generation().is_none());
        let object = if label_only { 0 } else { HIDDEN_OBJECTS };
        self.drive().locate(Position { partition, object })?;
        let name = self.name.clone();
        let loaded = self.loaded.as_mut().ok_or_else(nothing_loaded_in(&name))?;
        loaded.current = partition;
        loaded.position_known = true;
        if let Some(state) = loaded.state_mut() {
            state.moved(0, None);
        }
        Ok(())
    }
}
