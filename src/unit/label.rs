//! Labelling: label, filemark and generation record on every partition, read back, then activated.

use sealtape_drivers::medium::{DriveError, DriveErrorKind, MediumType, Position};

use uuid::Uuid;

use super::refusals;
use super::sealed::{Beginning, Loaded, SealedTape};
use crate::seal::{VolumeKind, VolumeLabel};
use crate::volume::AccessLatch;
use crate::volume::identity::BeginningOfPartition;

/// What an operator asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelRequest {
    /// The key authority's ticket.
    pub ticket: String,
    /// What may be given up.
    pub overwrite: Overwrite,
}

/// What an operator permits to be labelled over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overwrite {
    /// Nothing: the medium has to be blank.
    Nothing,
    /// This sealed volume and no other.
    Volume(Uuid),
    /// Whatever is not a sealed volume that can be told: clear data, a damaged label.
    Clear,
}

impl SealedTape {
    /// Labels the loaded medium and leaves it loaded as the new volume. Whether that is permitted is asked first:
    /// write protection, what stands on the medium, the key authority.
    ///
    /// # Errors
    /// When it is refused (nothing was touched then), or the drive fails (the medium may then have no valid label).
    pub fn label_medium(&mut self, request: &LabelRequest) -> Result<VolumeLabel, DriveError> {
        if self.loaded.is_none() {
            self.load_medium()?;
        }
        self.synchronise()?;
        let status = self.drive().medium_status()?;
        if status.write_protected {
            return Err(refusals::read_only(&format!("drive {}: the cartridge is write protected", self.name)));
        }
        self.check_may_label(request, status.medium_type)?;
        let replaces = self.loaded.as_ref().and_then(|loaded| loaded.label.as_ref()).map(|label| label.volume);
        let volume =
            self.keys.create_volume(&request.ticket, replaces).map_err(|refusal| refusals::key_refused(&refusal))?;
        if volume.partitions != status.partitions {
            let second = (volume.partitions == 2).then_some(status.capacity_bytes / 2);
            self.drive().format_medium(second)?;
        }
        let limits = self.drive().block_limits()?;
        let mut latch = AccessLatch::default();
        latch.lock(format!("drive {}: labelling was not finished; label again", self.name));
        self.loaded = Some(Loaded {
            label: None,
            beginning: Beginning::Sealed,
            limits,
            label_blocks: vec![None; usize::from(volume.partitions)],
            latch,
            ended: None,
            partitions: (0..volume.partitions).map(|_| None).collect(),
            current: 0,
            writable: true,
            position_known: false,
        });
        for partition in (0..volume.partitions).rev() {
            let label = VolumeLabel {
                volume: volume.volume,
                kind: VolumeKind::Tape,
                partition,
                partitions: volume.partitions,
                label: volume.label_on_medium.clone(),
                barcode: volume.barcode_on_medium.clone(),
            };
            self.label_partition(&label)?;
        }
        self.identify_medium()?;
        let loaded = self.loaded.as_ref().ok_or_else(|| self.nothing_loaded())?;
        loaded.label.clone().ok_or_else(|| refusals::locked("the label does not read back"))
    }

    /// Finds out what is loaded; a blank cartridge is labelled where policy wants that.
    pub(super) fn take_up_medium(&mut self) -> Result<(), DriveError> {
        self.identify_medium()?;
        let blank = self.loaded.as_ref().is_some_and(|loaded| {
            // Of a second partition nothing is known yet.
            loaded.beginning == Beginning::Blank && loaded.writable && loaded.partitions.len() == 1
        });
        if !blank {
            return Ok(());
        }
        match self.keys.ticket_by_policy() {
            Ok(None) => {}
            Ok(Some(ticket)) => {
                let label = self.label_medium(&LabelRequest { ticket, overwrite: Overwrite::Nothing })?;
                tracing::info!(drive = %self.name, volume = %label.volume, "a blank cartridge was labelled by the pool's policy");
            }
            Err(refusal) => {
                let text = format!("drive {}: the blank cartridge was not labelled by policy: {refusal}", self.name);
                tracing::warn!("{text}");
                if let Some(loaded) = self.loaded.as_mut() {
                    loaded.latch = AccessLatch::default();
                    loaded.latch.lock(text);
                }
            }
        }
        Ok(())
    }

    fn check_may_label(&mut self, request: &LabelRequest, medium_type: MediumType) -> Result<(), DriveError> {
        match medium_type {
            MediumType::Data => {}
            MediumType::Worm if !self.is_blank()? => {
                self.return_to_host_beginning(0)?;
                return Err(refusals::read_only(&format!(
                    "drive {}: the cartridge is write-once and not blank; it cannot be labelled",
                    self.name
                )));
            }
            MediumType::Worm => {}
            MediumType::Cleaning | MediumType::Firmware => {
                return Err(DriveError::new(
                    DriveErrorKind::IllegalRequest,
                    format!("drive {}: a cleaning or firmware cartridge cannot be labelled", self.name),
                ));
            }
        }
        let present = self.loaded.as_ref().and_then(|loaded| loaded.label.as_ref()).map(|label| label.volume);
        let permitted = match (request.overwrite, present) {
            (Overwrite::Volume(volume), Some(present)) => volume == present,
            (Overwrite::Clear, None) => true,
            (Overwrite::Nothing, _) | (Overwrite::Volume(_), None) | (Overwrite::Clear, Some(_)) => self.is_blank()?,
        };
        if permitted {
            return Ok(());
        }
        self.return_to_host_beginning(0)?;
        let what = match present {
            Some(volume) => format!(
                "it holds the sealed volume {volume}; to give that up: sealtape volume label --overwrite {volume}"
            ),
            None => "it is not blank; to give up what it holds: sealtape volume label --overwrite clear".to_owned(),
        };
        Err(refusals::read_only(&format!("drive {}: the medium was not labelled, since {what}", self.name)))
    }

    fn is_blank(&mut self) -> Result<bool, DriveError> {
        let beginning = self.read_beginning(0)?;
        Ok(matches!(beginning, BeginningOfPartition::Blank))
    }

    fn label_partition(&mut self, label: &VolumeLabel) -> Result<(), DriveError> {
        let partition = label.partition;
        let new =
            self.keys.create_generation(label.volume, partition).map_err(|refusal| refusals::key_refused(&refusal))?;
        let block = label.encode().map_err(|text| DriveError::new(DriveErrorKind::IllegalRequest, text))?;
        {
            let mut drive = self.drive();
            drive.locate(Position { partition, object: 0 })?;
            drive.write(&block)?;
            drive.write_filemarks(1, false)?;
        }
        if let Some(place) = self.loaded.as_mut().and_then(|loaded| loaded.label_blocks.get_mut(usize::from(partition)))
        {
            *place = Some(Box::new(block));
        }
        self.put_generation(partition, &new)?;
        self.keys
            .activate_generation(new.keys.scope(), new.key_id, &new.keys.commitment())
            .map_err(|refusal| refusals::key_refused(&refusal))
    }
}
