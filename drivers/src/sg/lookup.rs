//! Finding a drive's generic node: by another node of it, or by serial number.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::device::{character_device, is_generic};
use super::{Data, SgDevice, Sharing, Transport};
use crate::scsi::{Command, Designator, Status, Vpd, vpd_page};

const GENERIC_CLASS: &str = "/sys/class/scsi_generic";
/// No machine has more; a listing that is longer is not believed.
const MOST_DEVICES: usize = 4096;
const TAPE: &str = "1";
const CHANGER: &str = "8";

/// The generic node of the device that `path` leads to: itself, or the `sg` sibling of an `st` node.
///
/// # Errors
/// When `path` is no node of a SCSI device, or the module `sg` has not made one for it.
pub(super) fn generic_node(path: &Path) -> io::Result<PathBuf> {
    let (real, major, minor) = character_device(path)?;
    if is_generic(major) {
        return Ok(real);
    }
    let folder = PathBuf::from(format!("/sys/dev/char/{major}:{minor}/device/scsi_generic"));
    let name = fs::read_dir(&folder).ok().and_then(|mut entries| entries.next()).and_then(Result::ok);
    let name = name.ok_or_else(|| {
        let text = format!("{}: no SCSI generic node belongs to it; is the module sg loaded?", path.display());
        io::Error::new(io::ErrorKind::NotFound, text)
    })?;
    Ok(Path::new("/dev").join(name.file_name()))
}

/// The generic nodes of all devices of a type, in the order of their numbers.
fn nodes_of_type(device_type: &str) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(GENERIC_CLASS)
        .map_err(|error| io::Error::new(error.kind(), format!("{GENERIC_CLASS}: {error}; is the module sg loaded?")))?;
    let mut found = Vec::new();
    for entry in entries.take(MOST_DEVICES) {
        let entry = entry?;
        let name = entry.file_name();
        // A device that goes away meanwhile has no type any more.
        let told = fs::read_to_string(entry.path().join("device/type")).unwrap_or_default();
        let number =
            name.to_str().and_then(|name| name.strip_prefix("sg")).and_then(|number| number.parse::<u32>().ok());
        if let Some(number) = number.filter(|_| told.trim() == device_type) {
            found.push((number, Path::new("/dev").join(&name)));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, node)| node).collect())
}

/// The generic nodes of all tape drives.
///
/// # Errors
/// When sysfs cannot be read.
pub fn tape_nodes() -> io::Result<Vec<PathBuf>> {
    nodes_of_type(TAPE)
}

/// The generic nodes of all medium changers.
///
/// # Errors
/// When sysfs cannot be read.
pub fn changer_nodes() -> io::Result<Vec<PathBuf>> {
    nodes_of_type(CHANGER)
}

/// The generic node of the one tape drive with this unit serial number.
pub(super) fn tape_with_serial(serial: &str) -> io::Result<PathBuf> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for node in tape_nodes()? {
        if is_virtual(&node) {
            continue; // It shows the serial number of the drive below it, and may be one that nobody serves any more.
        }
        match unit_serial_number(&node) {
            Ok(told) if told == serial => found.push(node),
            Ok(told) => others.push(format!("{} has {told}", node.display())),
            Err(error) => others.push(error.to_string()),
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([node]) => Ok(node),
        Err(found) if found.is_empty() => {
            let seen = if others.is_empty() { "there is no tape drive".to_owned() } else { others.join("; ") };
            Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no tape drive has the serial number {serial}: {seen}"),
            ))
        }
        Err(found) => {
            let nodes: Vec<_> = found.iter().map(|node| node.display().to_string()).collect();
            let text = format!("the serial number {serial} is that of {}: name the node to use", nodes.join(" and "));
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// In the T10 vendor designators of a virtual drive of ours, behind the vendor `SEALTAPE`.
pub const VIRTUAL_DRIVE_MARK: &str = "VIRTUAL DRIVE ";

/// A vital product data page as the kernel read it when it found the device: no command is sent.
fn cached_page(node: &Path, page: u8) -> Option<Vpd> {
    let name = node.file_name()?;
    let file = Path::new(GENERIC_CLASS).join(name).join(format!("device/vpd_pg{page:02x}"));
    let bytes = fs::read(file).ok()?;
    Vpd::parse(&bytes).ok().map(|(_, page)| page)
}

fn is_virtual(node: &Path) -> bool {
    let Some(Vpd::DeviceIdentification(designators)) = cached_page(node, vpd_page::DEVICE_IDENTIFICATION) else {
        return false;
    };
    designators
        .iter()
        .filter_map(Designator::text)
        .any(|text| text.strip_prefix("SEALTAPE").is_some_and(|specific| specific.starts_with(VIRTUAL_DRIVE_MARK)))
}

/// The serial number that the kernel knows, else INQUIRY, page 80h.
fn unit_serial_number(node: &Path) -> io::Result<String> {
    if let Some(Vpd::UnitSerialNumber(serial)) = cached_page(node, vpd_page::UNIT_SERIAL_NUMBER)
        && !serial.trim().is_empty()
    {
        return Ok(serial.trim().to_owned());
    }
    const ALLOCATION: u16 = 252;
    let mut device = SgDevice::open(node, Sharing::Shared)?;
    let command = Command::Inquiry { vital_product_data: true, page: 0x80, allocation: ALLOCATION };
    let mut page = [0; ALLOCATION as usize];
    let answer = device.execute(command.encode().as_bytes(), Data::In(&mut page), Duration::from_secs(20))?;
    let told = page.get(..answer.transferred.min(page.len())).unwrap_or_default();
    let length = told.get(3).map_or(0, |length| usize::from(*length));
    let serial = told.get(4..).map(|rest| rest.get(..length).unwrap_or(rest)).unwrap_or_default();
    if answer.completion.status != Status::GOOD || serial.is_empty() {
        return Err(io::Error::other(format!("{} tells no serial number", node.display())));
    }
    Ok(String::from_utf8_lossy(serial).trim_matches([' ', '\0']).to_owned())
}
