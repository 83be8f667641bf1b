//! What an operator is told of a unit and its medium, in the terms of the control protocol.

use sealtape_drivers::medium::{MediumStatus, MediumType};
use sealtape_kms::protocol::Cartridge;

use crate::control::{Medium, MediumKind, Notice, Volume};
use crate::unit::{self, UnitStatus};
use crate::volume::Access;

pub(super) fn medium_status(medium: &MediumStatus, unit: Option<&UnitStatus>, cartridge: &Cartridge) -> Medium {
    let kind = match medium.medium_type {
        MediumType::Cleaning => MediumKind::Cleaning,
        MediumType::Firmware => MediumKind::Firmware,
        MediumType::Data | MediumType::Worm => match unit.and_then(|unit| unit.beginning) {
            Some(unit::Beginning::Blank) => MediumKind::Blank,
            Some(unit::Beginning::Clear) => MediumKind::Clear,
            Some(unit::Beginning::Sealed) => MediumKind::Sealed,
            Some(unit::Beginning::Unreadable) | None => MediumKind::Unreadable,
        },
    };
    Medium {
        kind,
        worm: medium.medium_type == MediumType::Worm,
        write_protected: medium.write_protected,
        partitions: medium.partitions,
        capacity_bytes: medium.capacity_bytes,
        remaining_bytes: medium.remaining_bytes,
        serial: medium.serial.clone(),
        barcode: cartridge.barcode.clone(),
    }
}

pub(super) fn volume_status(unit: &UnitStatus) -> Option<Volume> {
    let label = unit.label.as_ref()?;
    Some(Volume {
        uuid: label.volume,
        label: label.label.clone(),
        barcode: label.barcode.clone(),
        pool: None,
        partition: unit.position.map_or(0, |position| position.partition),
        generation: unit.generation.map(|generation| generation.number),
        key_id: unit.generation.map(|generation| generation.key_id),
        suite: unit.generation.map(|generation| generation.suite.to_string()),
    })
}

pub(super) fn read_only(unit: &UnitStatus, name: &str) -> Option<Notice> {
    let (message, mend) = match unit.access.as_ref()? {
        Access::ReadWrite => match &unit.not_sealing {
            Some(reason) => {
                let mend = "written from its beginning, the volume gets a new generation with a new key".to_owned();
                (reason, mend)
            }
            None => return None,
        },
        Access::ReadOnly(reason) => {
            (reason, format!("unload the volume, or acknowledge what was refused: sealtape volume acknowledge {name}"))
        }
        Access::None(reason) => {
            (reason, format!("see the reason; then unload and load again: sealtape volume unload {name}"))
        }
    };
    Some(Notice { message: message.clone(), mend })
}
