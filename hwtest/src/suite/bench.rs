//! Drive and changer under test, and the check that stands before everything destructive.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sealtape_drivers::medium::{DriveErrorKind, MediumStatus, TapeDrive};
use sealtape_drivers::sg::{
    Changer, Inventory, Ownership, RecordFile, ScsiTapeDrive, SgDevice, Sharing, SlotKind, StDriver,
};
use tempfile::TempDir;

use super::Options;

/// A real drive.
pub(super) type Drive = ScsiTapeDrive<SgDevice>;

/// What the cases work on.
pub struct Bench {
    pub(super) options: Options,
    drive: Option<(Drive, Ownership<SgDevice>)>,
    /// Where the ownership is recorded.
    folder: TempDir,
}

/// A volume that may be written to: the drive, after it and the changer have said that the volume with this barcode is in it. The volume stays while
/// this lives; from UNLOAD on nothing writes before it is held again.
pub(super) struct Held<'a> {
    pub(super) drive: &'a mut Drive,
    pub(super) status: MediumStatus,
    /// LOAD was refused until the changer had put the cartridge in once more.
    pub(super) put_in_again: bool,
}

impl Bench {
    pub(super) fn open(options: Options) -> Result<Self> {
        let mut bench = Self { options, drive: None, folder: tempfile::tempdir()? };
        bench.drive()?;
        Ok(bench)
    }

    /// The drive, for us alone: `st` and other initiators are kept off.
    pub(super) fn drive(&mut self) -> Result<&mut Drive> {
        let held = match self.drive.take() {
            Some(held) => held,
            None => {
                let device = SgDevice::open(&self.options.drive, Sharing::Exclusive)?;
                let record = RecordFile::new(self.folder.path().join("hwtest.owner"));
                let owner = Ownership::take(device.try_clone()?, device.address(), StDriver::default(), record)?;
                (ScsiTapeDrive::open(device)?, owner)
            }
        };
        Ok(&mut self.drive.insert(held).0)
    }

    /// Gives the drive back, for a program that wants it.
    pub(super) fn let_go(&mut self) -> Result<()> {
        match self.drive.take() {
            Some((_, owner)) => Ok(owner.release()?),
            None => Ok(()),
        }
    }

    pub(super) fn changer(&self) -> Result<Option<Changer<SgDevice>>> {
        let Some(node) = &self.options.changer else { return Ok(None) };
        let device = SgDevice::open(node, Sharing::Shared)?;
        Ok(Some(Changer::open(device)?))
    }

    pub(super) fn inventory(&self) -> Result<Option<Inventory>> {
        Ok(match self.changer()? {
            Some(mut changer) => Some(changer.inventory()?),
            None => None,
        })
    }

    /// Which of the changer's drives is ours, by its serial number.
    pub(super) fn number_of_drive(&mut self, inventory: &Inventory) -> Result<usize> {
        let serial = self.drive()?.identity().serial;
        let told = |drive: &sealtape_drivers::sg::ChangerDrive| drive.serial.as_ref() == Some(&serial);
        let found = inventory.drives.iter().position(told);
        found.with_context(|| {
            let told: Vec<_> = inventory.drives.iter().map(|drive| format!("{:?}", drive.serial)).collect();
            format!("the changer knows no drive {serial}, but {}", told.join(", "))
        })
    }

    /// The scratch volume.
    pub(super) fn scratch(&mut self) -> Result<Held<'_>> {
        let barcode = self.options.scratch.clone();
        self.hold(&barcode)
    }

    /// Gets a volume into the drive, by the changer where there is one, and makes sure that it is the one.
    pub(super) fn hold(&mut self, barcode: &str) -> Result<Held<'_>> {
        self.insert(barcode)?;
        let put_in_again = self.load(barcode)?;
        let in_drive = match self.inventory()? {
            Some(inventory) => {
                let number = self.number_of_drive(&inventory)?;
                inventory.drives.get(number).and_then(|drive| drive.barcode.clone())
            }
            None => None,
        };
        let drive = self.drive()?;
        let status = drive.medium_status()?;
        check_volume(barcode, status.barcode.as_deref(), in_drive.as_deref())?;
        Ok(Held { drive, status, put_in_again })
    }

    /// LOAD. A drive that has let go of the cartridge at UNLOAD wants it put in again: whether it was.
    fn load(&mut self, barcode: &str) -> Result<bool> {
        let mut put_in_again = false;
        match self.drive()?.load() {
            Err(error) if error.kind == DriveErrorKind::NotReady && self.options.changer.is_some() => {
                self.change(barcode)?;
                self.drive()?.load().with_context(|| format!("loading {barcode}"))?;
                put_in_again = true;
            }
            result => result.with_context(|| format!("loading {barcode}"))?,
        }
        match self.drive()?.test_unit_ready() {
            Err(error) if error.kind != DriveErrorKind::UnitAttention => Err(error.into()),
            Ok(()) | Err(_) => Ok(put_in_again),
        }
    }

    /// Has the changer put a volume into the drive, if it is not there. Without a changer it has to be.
    pub(super) fn insert(&mut self, barcode: &str) -> Result<()> {
        let Some(inventory) = self.inventory()? else { return Ok(()) };
        let number = self.number_of_drive(&inventory)?;
        let there = inventory.drives.get(number).and_then(|drive| drive.barcode.as_deref());
        if there == Some(barcode) { Ok(()) } else { self.change(barcode) }
    }

    /// Whatever is in the drive goes into a slot, and the volume into the drive.
    fn change(&mut self, barcode: &str) -> Result<()> {
        let Some(mut inventory) = self.inventory()? else { return Ok(()) };
        let number = self.number_of_drive(&inventory)?;
        let drive = inventory.drives.get(number).context("the drive")?;
        let storage: Vec<_> = inventory.slots.iter().filter(|slot| slot.kind == SlotKind::Storage).collect();
        if drive.full {
            self.eject()?;
            let home = storage.iter().position(|slot| Some(slot.address) == drive.source && !slot.full);
            let home = home.or_else(|| storage.iter().position(|slot| !slot.full));
            self.mtx("unload", home.context("no empty slot for the cartridge in the drive")?, number)?;
            inventory = self.inventory()?.context("the changer")?;
        }
        let mut storage = inventory.slots.iter().filter(|slot| slot.kind == SlotKind::Storage);
        let from = storage.position(|slot| slot.barcode.as_deref() == Some(barcode));
        self.mtx("load", from.with_context(|| format!("no slot holds {barcode}"))?, number)
    }

    /// UNLOAD, so that the changer may take the cartridge; an empty drive is fine.
    fn eject(&mut self) -> Result<()> {
        let drive = self.drive()?;
        for attempt in [drive.prevent_removal(false), drive.unload()] {
            match attempt {
                Err(error) if !matches!(error.kind, DriveErrorKind::NotReady | DriveErrorKind::UnitAttention) => {
                    return Err(error).context("before the changer takes the cartridge");
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn mtx(&self, what: &str, slot: usize, drive: usize) -> Result<()> {
        let node = self.options.changer.as_deref().context("no changer")?;
        // `mtx` counts slots from 1 and drives from 0, in the order of their addresses.
        run_mtx(node, &[what, &(slot + 1).to_string(), &drive.to_string()]).map(drop)
    }
}

/// Refuses every volume but the one that was named: one of the two has to know it, and neither may know another.
fn check_volume(barcode: &str, in_memory: Option<&str>, in_changer: Option<&str>) -> Result<()> {
    let said = [("MAM attribute 0806h", in_memory), ("the changer", in_changer)];
    for (who, told) in said {
        if let Some(told) = told
            && told != barcode
        {
            bail!("{who} says that {told} is in the drive: nothing is written; put {barcode} into it");
        }
    }
    if in_memory.is_none() && in_changer.is_none() {
        bail!(
            "neither MAM attribute 0806h nor a changer tells which volume is in the drive: nothing is written; load {barcode} by a library"
        );
    }
    Ok(())
}

/// Runs `mtx` and gives what it printed.
pub(super) fn run_mtx(changer: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("mtx").arg("-f").arg(changer).args(arguments).output();
    let output = output.context("cannot run mtx: apt-get install mtx")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("mtx {}: {}: {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::check_volume;

    #[test]
    fn only_the_volume_that_was_named_is_taken() {
        let ours = Some("SEA001L8");
        for (in_memory, in_changer, right) in [
            (ours, ours, true),
            (ours, None, true),
            (None, ours, true),
            (None, None, false),
            (Some("SEA002L8"), ours, false),
            (ours, Some("SEA002L8"), false),
            (Some("SEA001L"), None, false),
            (Some(""), None, false),
        ] {
            let refused = check_volume("SEA001L8", in_memory, in_changer);
            assert_eq!(refused.is_ok(), right, "{in_memory:?} {in_changer:?}: {refused:?}");
            assert!(refused.map_or_else(|error| error.to_string().contains("nothing is written"), |()| true));
        }
    }
}
