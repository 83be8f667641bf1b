//! Whose tape it is: the cartridge's own memory says it, or else the changer that put it into the drive.

use std::io;

use sealtape_drivers::medium::DriveError;
use sealtape_drivers::sg::{Changer, Inventory, SgDevice, Sharing, changer_nodes};
use sealtape_kms::protocol::Cartridge;

use crate::volume::keys::CartridgeSeen;

/// Longest barcode or serial number that the catalogue takes.
const LONGEST: usize = 32;

/// Completes what a drive says of its cartridge.
#[derive(Debug, Clone, Default)]
pub(super) struct BarcodeReader {
    /// Serial number of the drive, where changers are asked for it.
    drive_serial: Option<String>,
}

impl BarcodeReader {
    /// For a real drive: changers know it by its serial number.
    pub(super) fn of_drive(serial: impl Into<String>) -> Self {
        Self { drive_serial: Some(serial.into()) }
    }

    /// The cartridge in the drive. A changer that does not answer is told of in the log, and the barcode stays unknown.
    pub(super) fn cartridge(&self, seen: &CartridgeSeen) -> Cartridge {
        let serial = seen.serial.as_deref().and_then(presentable);
        let barcode = seen.barcode.as_deref().and_then(presentable).or_else(|| self.ask_changers());
        Cartridge { barcode, serial }
    }

    fn ask_changers(&self) -> Option<String> {
        let drive = self.drive_serial.as_deref()?;
        let nodes = match changer_nodes() {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::warn!(%error, "changers cannot be looked for");
                return None;
            }
        };
        for node in nodes {
            match inventory(&node) {
                Ok(inventory) => {
                    if let Some(barcode) = barcode_in(&inventory, drive) {
                        return presentable(&barcode);
                    }
                }
                Err(error) => tracing::warn!("a changer was not asked what is in drive {drive}: {error}"),
            }
        }
        None
    }
}

/// What is where in a library. Nothing is moved.
fn inventory(node: &std::path::Path) -> Result<Inventory, Trouble> {
    let device = SgDevice::open(node, Sharing::Shared)?;
    Ok(Changer::open(device)?.inventory()?)
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Open(#[from] io::Error),
    #[error(transparent)]
    Drive(#[from] DriveError),
}

/// The barcode of the cartridge in the drive with this serial number.
fn barcode_in(inventory: &Inventory, drive: &str) -> Option<String> {
    let is_it = |serial: &Option<String>| serial.as_deref().is_some_and(|serial| serial.trim() == drive.trim());
    let drive = inventory.drives.iter().find(|known| known.full && is_it(&known.serial))?;
    drive.barcode.clone()
}

/// As the catalogue takes it. A reader that could not read says so with blanks or zeros, which is no barcode.
fn presentable(text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\0']);
    let fine = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    fine.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use sealtape_drivers::sg::ChangerDrive;

    use super::*;

    #[test]
    fn a_changer_knows_drives_by_serial_number() {
        let drive = |serial: Option<&str>, full, barcode: Option<&str>| ChangerDrive {
            address: 256,
            serial: serial.map(Into::into),
            full,
            barcode: barcode.map(Into::into),
            source: None,
        };
        let drives = vec![
            drive(None, true, Some("X")),
            drive(Some("S1"), true, Some("A")),
            drive(Some("S2 "), true, Some("B")),
            drive(Some("S3"), false, Some("C")),
        ];
        let inventory = Inventory { slots: Vec::new(), drives };
        assert_eq!(barcode_in(&inventory, "S2").as_deref(), Some("B"));
        assert_eq!(barcode_in(&inventory, "S3"), None, "an empty drive");
        assert_eq!(barcode_in(&inventory, "S4"), None);
    }

    #[test]
    fn what_is_no_text_is_no_barcode() {
        assert_eq!(presentable("A00001L8  ").as_deref(), Some("A00001L8"));
        for none in ["", "   ", "\0\0", "a\nb", "\u{e9}", &"x".repeat(33)] {
            assert_eq!(presentable(none), None, "{none:?}");
        }
        let seen = CartridgeSeen { barcode: Some("  ".into()), serial: Some("77".into()) };
        let cartridge = BarcodeReader::default().cartridge(&seen);
        assert_eq!(cartridge, Cartridge { barcode: None, serial: Some("77".into()) });
    }
}
