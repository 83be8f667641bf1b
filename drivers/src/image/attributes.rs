//! Medium auxiliary memory (SPC-4 7.4): host attributes are stored, those of device and medium computed.

use super::superblock::ATTRIBUTES_BYTES;
use crate::medium::{Attribute, DriveError, DriveErrorKind};
use crate::scsi::{AdditionalSense, Sense, SenseKey};

const FORMAT_BINARY: u8 = 0;
const FORMAT_ASCII: u8 = 1;
const LONGEST_FORMAT: u8 = 2;
const MEBIBYTE: u64 = 1 << 20;
/// What an attribute takes in the superblock beside its value, in bytes.
const ATTRIBUTE_HEADER_BYTES: usize = 6;
/// SPC-4 annex F: AUXILIARY MEMORY OUT OF SPACE.
const AUXILIARY_MEMORY_OUT_OF_SPACE: AdditionalSense = AdditionalSense::new(0x55, 0x06);

/// What the computed attributes are made from.
pub(super) struct Facts<'a> {
    pub(super) remaining: u64,
    pub(super) capacity: u64,
    pub(super) serial: &'a str,
    pub(super) worm: bool,
    /// Epoch and number of objects of each partition.
    pub(super) contents: Vec<(u64, u64)>,
}

/// READ ATTRIBUTE.
pub(super) fn read(id: u16, stored: &[Attribute], facts: &Facts<'_>) -> Option<Attribute> {
    let binary = |value: &[u8]| Some(Attribute { id, format: FORMAT_BINARY, value: value.to_vec() });
    let ascii = |value: String| Some(Attribute { id, format: FORMAT_ASCII, value: value.into_bytes() });
    match id {
        0x0000 => binary(&(facts.remaining / MEBIBYTE).to_be_bytes()),
        0x0001 => binary(&(facts.capacity / MEBIBYTE).to_be_bytes()),
        0x0004 => binary(&((ATTRIBUTES_BYTES - bytes_used(stored)) as u64).to_be_bytes()),
        0x0009 => binary(&volume_change_reference(&facts.contents).to_be_bytes()),
        0x0400 => ascii("SEALTAPE".into()),
        0x0401 => ascii(format!("{:32}", facts.serial)),
        0x0408 => binary(&[if facts.worm { 0x80 } else { 0x00 }]),
        _ => stored.iter().find(|attribute| attribute.id == id).cloned(),
    }
}

/// WRITE ATTRIBUTE: the attributes as they will be stored.
pub(super) fn write(attribute: &Attribute, stored: &[Attribute]) -> Result<Vec<Attribute>, DriveError> {
    let refused = |reason: String| DriveError::new(DriveErrorKind::IllegalRequest, reason);
    let id = attribute.id;
    if !matches!(id, 0x0800..=0x0bff | 0x1400..=0x17ff) {
        return Err(refused(format!("attribute {id:04X}h is not a host's to write (0800h-0BFFh, 1400h-17FFh are)")));
    }
    if attribute.format > LONGEST_FORMAT {
        return Err(refused(format!("attribute {id:04X}h: format {} does not exist", attribute.format)));
    }
    let mut attributes: Vec<Attribute> = stored.iter().filter(|other| other.id != id).cloned().collect();
    if attribute.value.is_empty() {
        return Ok(attributes);
    }
    let at = attributes.partition_point(|other| other.id < id);
    attributes.insert(at, attribute.clone());
    if bytes_used(&attributes) > ATTRIBUTES_BYTES {
        let sense = Sense::new(SenseKey::ILLEGAL_REQUEST, AUXILIARY_MEMORY_OUT_OF_SPACE);
        return Err(refused(format!(
            "attribute {id:04X}h does not fit: the cartridge's memory has {ATTRIBUTES_BYTES} bytes"
        ))
        .with_sense(sense));
    }
    Ok(attributes)
}

fn bytes_used(attributes: &[Attribute]) -> usize {
    attributes.iter().map(|attribute| attribute.value.len() + ATTRIBUTE_HEADER_BYTES).sum()
}

/// Changes with each write: made from what identifies the contents, so that it needs no store of its own.
fn volume_change_reference(contents: &[(u64, u64)]) -> u32 {
    contents.iter().fold(0, |crc, (epoch, objects)| {
        let crc = crc32c::crc32c_append(crc, &epoch.to_be_bytes());
        crc32c::crc32c_append(crc, &objects.to_be_bytes())
    })
}
