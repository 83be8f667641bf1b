//! `library inventory`: what a tape library holds, and what the catalogue knows of it. The library itself stays with the backup program:
//! nothing is moved, and no inventory is taken anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use sealtape_drivers::medium::{DriveError, DriveErrorKind};
use sealtape_drivers::sg::{Changer, Inventory, SgDevice, Sharing, SlotKind, changer_nodes};
use sealtape_kms::client::ControlClient;
use sealtape_kms::protocol::{VolumeKind, VolumeState, VolumeSummary};
use serde::Serialize;
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::{or_dash, table};
use super::volume::state;
use crate::control::DriveStatus;
use crate::control::client::Client;
use crate::service::home::Home;

/// How long the catalogue is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Look into tape libraries.
#[derive(Debug, Subcommand)]
pub(super) enum Library {
    /// List slots and drives with the barcodes in them, and what the catalogue knows of each; nothing is moved
    Inventory(List),
}

/// List slots and drives.
#[derive(Debug, Args)]
pub(super) struct List {
    /// The changer's node, as /dev/sg4 [default: all changers of this machine]
    #[arg(long, value_name = "DEVICE")]
    changer: Option<PathBuf>,
}

/// A library, as its changer tells it.
#[derive(Debug, Serialize)]
struct Contents {
    changer: PathBuf,
    name: String,
    serial: Option<String>,
    elements: Vec<Element>,
}

/// A place in it.
#[derive(Debug, Serialize)]
struct Element {
    address: u16,
    kind: Kind,
    full: bool,
    barcode: Option<String>,
    cleaning: bool,
    /// Of a drive: its serial number.
    drive_serial: Option<String>,
    /// Of a drive: its name in the configuration.
    drive: Option<String>,
    /// Of a drive: the slot that its cartridge came from.
    source: Option<u16>,
    /// What the catalogue knows; also `null` when it does not answer (then a warning is given).
    volume: Option<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Slot,
    ImportExport,
    Transport,
    Drive,
}

/// What the catalogue knows of the cartridge with a barcode.
#[derive(Debug, Serialize)]
struct Known {
    volume: Uuid,
    label: String,
    pool: String,
    state: VolumeState,
    /// When what was written was last synchronised.
    written: Option<String>,
    /// The drive that has it loaded.
    loaded_in: Option<String>,
}

impl Library {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let Self::Inventory(List { changer }) = self;
        let nodes = match changer {
            Some(node) => vec![node],
            None => changer_nodes().map_err(|e| Failure::new(Exit::Drive, e.to_string(), NAME_IT))?,
        };
        if nodes.is_empty() {
            return Err(Failure::new(Exit::Drive, "there is no medium changer on this machine", NAME_IT));
        }
        let known = Site::ask(home);
        let contents: Vec<Contents> = nodes.iter().map(|node| contents(node, &known)).collect::<Result<_, _>>()?;
        output.value(&contents, |contents| contents.iter().map(show).collect::<Vec<_>>().join("\n"))
    }
}

const NAME_IT: &str = "see what there is: lsscsi -g; and name the changer: --changer /dev/sgN";

fn contents(node: &Path, site: &Site) -> Result<Contents, Failure> {
    let refused = |e: std::io::Error| {
        let mend = match e.kind() {
            std::io::ErrorKind::PermissionDenied => "it needs the rights of the group that may use changers, as tape",
            _ => NAME_IT,
        };
        Failure::new(Exit::Drive, e.to_string(), mend)
    };
    let failed = |e: DriveError| {
        let mend = match e.kind {
            DriveErrorKind::IllegalRequest => NAME_IT,
            _ => "look at the library itself, and try again",
        };
        Failure::new(Exit::Drive, format!("{}: {}", node.display(), e.message), mend)
    };
    let device = SgDevice::open(node, Sharing::Shared).map_err(refused)?;
    let mut changer = Changer::open(device).map_err(failed)?;
    let inventory = changer.inventory().map_err(failed)?;
    Ok(Contents {
        changer: node.to_path_buf(),
        name: changer.name().to_owned(),
        serial: changer.serial().map(str::to_owned),
        elements: site.elements(inventory),
    })
}

/// What the services know.
#[derive(Default)]
struct Site {
    volumes: Vec<VolumeSummary>,
    drives: Vec<DriveStatus>,
}

impl Site {
    /// A library without names is better than none: that a service does not answer is a warning.
    fn ask(home: &Home) -> Self {
        let volumes = ControlClient::new(home.keyd_socket(), PATIENCE).list_volumes().unwrap_or_else(|error| {
            tracing::warn!("what the catalogue knows is missing: {error}");
            Vec::new()
        });
        let drives = Client::connect(&home.data_socket()).and_then(|mut data| data.drives()).unwrap_or_else(|error| {
            tracing::warn!("which volumes are loaded is missing: {}", error.message);
            Vec::new()
        });
        Self { volumes, drives }
    }

    fn elements(&self, inventory: Inventory) -> Vec<Element> {
        let slots = inventory.slots.into_iter().map(|slot| Element {
            address: slot.address,
            kind: match slot.kind {
                SlotKind::Storage => Kind::Slot,
                SlotKind::ImportExport => Kind::ImportExport,
                SlotKind::Transport => Kind::Transport,
            },
            full: slot.full,
            volume: self.known(slot.barcode.as_deref().filter(|_| slot.full)),
            barcode: slot.barcode,
            cleaning: slot.cleaning,
            drive_serial: None,
            drive: None,
            source: None,
        });
        let drives = inventory.drives.into_iter().map(|drive| Element {
            address: drive.address,
            kind: Kind::Drive,
            full: drive.full,
            volume: self.known(drive.barcode.as_deref().filter(|_| drive.full)),
            barcode: drive.barcode,
            cleaning: false,
            drive: drive.serial.as_deref().and_then(|serial| self.drive(serial)),
            drive_serial: drive.serial,
            source: drive.source,
        });
        let mut elements: Vec<Element> = slots.chain(drives).collect();
        // A gripper is of interest when something is in it.
        elements.retain(|element| element.kind != Kind::Transport || element.full);
        elements
    }

    /// The volume in the cartridge with this barcode: the active one, else the newest.
    fn known(&self, barcode: Option<&str>) -> Option<Known> {
        let barcode = barcode?;
        let candidates = self.volumes.iter().filter(|volume| volume.kind == VolumeKind::Tape);
        let volume = candidates
            .filter(|volume| volume.barcode.as_deref() == Some(barcode))
            .max_by_key(|volume| (volume.state == VolumeState::Active, &volume.created))?;
        let loaded = |drive: &&DriveStatus| drive.volume.as_ref().is_some_and(|loaded| loaded.uuid == volume.volume);
        Some(Known {
            volume: volume.volume,
            label: volume.label.clone(),
            pool: volume.pool.clone(),
            state: volume.state,
            written: volume.written.clone(),
            loaded_in: self.drives.iter().find(loaded).map(|drive| drive.name.clone()),
        })
    }

    /// Our name of the drive with this serial number, which ends what it says of itself.
    fn drive(&self, serial: &str) -> Option<String> {
        let is_it = |drive: &&DriveStatus| {
            drive.identity.as_deref().and_then(|identity| identity.rsplit(' ').next()) == Some(serial.trim())
        };
        self.drives.iter().find(is_it).map(|drive| drive.name.clone())
    }
}

fn show(library: &Contents) -> String {
    let head = format!("{}  {}  {}\n", library.changer.display(), library.name, or_dash(library.serial.as_ref()));
    let rows: Vec<_> = library
        .elements
        .iter()
        .map(|element| {
            let known = element.volume.as_ref();
            let volume = match (known, element.full) {
                (Some(known), _) => known.label.clone(),
                (None, _) if element.cleaning => "cleaning cartridge".into(),
                (None, true) if element.barcode.is_some() => "not in the catalogue".into(),
                (None, _) => "-".into(),
            };
            let barcode = match (&element.barcode, element.full) {
                (_, false) => "empty".to_owned(),
                (Some(barcode), true) => barcode.clone(),
                (None, true) => "no barcode".to_owned(),
            };
            let at = match element.kind {
                Kind::Slot => "slot".to_owned(),
                Kind::ImportExport => "import/export".to_owned(),
                Kind::Transport => "transport".to_owned(),
                Kind::Drive => {
                    let name = element.drive.as_ref().or(element.drive_serial.as_ref());
                    format!("drive {}", or_dash(name))
                }
            };
            [
                element.address.to_string(),
                at,
                barcode,
                volume,
                or_dash(known.map(|known| &known.pool)),
                or_dash(known.map(|known| state(known.state))),
                or_dash(known.and_then(|known| known.written.as_ref())),
                or_dash(known.and_then(|known| known.loaded_in.as_ref())),
            ]
        })
        .collect();
    head + &table(["ELEMENT", "PLACE", "BARCODE", "VOLUME", "POOL", "STATE", "WRITTEN", "LOADED IN"], &rows)
}

#[cfg(test)]
mod tests {
    use sealtape_drivers::sg::{ChangerDrive, ChangerSlot};

    use super::*;

    fn volume(barcode: &str, label: &str, state: VolumeState, created: &str) -> VolumeSummary {
        VolumeSummary {
            volume: Uuid::from_u128(created.len() as u128),
            kind: VolumeKind::Tape,
            state,
            label: label.into(),
            barcode: Some(barcode.into()),
            cartridge_serial: None,
            pool: "default".into(),
            partitions: 1,
            created: created.into(),
            written: None,
        }
    }

    #[test]
    fn a_barcode_is_that_of_the_active_volume_else_of_the_newest() {
        let slot = |address, barcode: Option<&str>, full| ChangerSlot {
            address,
            kind: SlotKind::Storage,
            full,
            barcode: barcode.map(Into::into),
            cleaning: barcode == Some("CLN001L1"),
        };
        let slots = vec![
            slot(1, Some("A"), true),
            slot(2, Some("B"), true),
            slot(3, Some("C"), true),
            slot(4, Some("A"), false),
            slot(5, Some("CLN001L1"), true),
            slot(6, None, true),
            ChangerSlot { kind: SlotKind::Transport, ..slot(0, None, false) },
        ];
        let drive = ChangerDrive {
            address: 256,
            serial: Some("S1".into()),
            full: true,
            barcode: Some("C".into()),
            source: None,
        };
        let volumes = vec![
            volume("A", "old", VolumeState::Replaced, "2026-01-03"),
            volume("A", "now", VolumeState::Active, "2026-01-02"),
            volume("B", "first", VolumeState::Retired, "2026-01-01"),
            volume("B", "last", VolumeState::Replaced, "2026-01-04"),
        ];
        let site = Site { volumes, drives: Vec::new() };
        let elements = site.elements(Inventory { slots, drives: vec![drive] });
        let label = |n: usize| elements[n].volume.as_ref().map(|known| known.label.as_str());
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(label), [Some("now"), Some("last"), None, None, None, None, None]);
        assert_eq!(elements.len(), 7, "an empty gripper is left out");
        let text = show(&Contents { changer: "/dev/sg9".into(), name: "X Y".into(), serial: None, elements });
        let line = |n: usize| text.lines().nth(n).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(line(2), "1 slot A now default active - -");
        assert_eq!(line(4), "3 slot C not in the catalogue - - - -");
        assert_eq!(line(5), "4 slot empty - - - - -");
        assert_eq!(line(6), "5 slot CLN001L1 cleaning cartridge - - - -");
        assert_eq!(line(7), "6 slot no barcode - - - - -");
        assert_eq!(line(8), "256 drive S1 C not in the catalogue - - - -");
    }
}
