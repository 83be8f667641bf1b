//! Asking a medium changer what is where (SMC-3). It is read only: the changer stays with the backup program.

use super::fault::{self, Intent};
use super::identity::consume_attentions;
use super::link::Link;
use super::{Data, Transport};
use crate::medium::{DriveError, DriveErrorKind};
use crate::scsi::{
    Command, Element, ElementStatus, ElementType, Form, PageControl, Peripheral, StandardInquiry, Vpd, vpd_page,
};

const INQUIRY_ALLOCATION: u16 = 252;
/// MODE SENSE(6): every changer has it, and not every one has MODE SENSE(10).
const MODE_ALLOCATION: u16 = 252;
const ELEMENT_ADDRESS_ASSIGNMENT: u8 = 0x1d;
const STATUS_ALLOCATION: usize = 256 << 10;
/// Elements asked for at once: with tags and identifiers they fit the allocation.
const ELEMENTS_AT_ONCE: u16 = 512;
/// The largest library has some ten thousand slots.
const MOST_ELEMENTS: usize = 65_536;

/// What kind of place a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SlotKind {
    /// A storage slot.
    Storage,
    /// The mail slot.
    ImportExport,
    /// The gripper of the transport.
    Transport,
}

/// A place for a cartridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangerSlot {
    /// Element address.
    pub address: u16,
    /// What kind of place.
    pub kind: SlotKind,
    /// A cartridge is in it.
    pub full: bool,
    /// Its barcode, where the reader could read one.
    pub barcode: Option<String>,
    /// The changer takes it for a cleaning cartridge.
    pub cleaning: bool,
}

/// A drive, as the changer knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangerDrive {
    /// Element address.
    pub address: u16,
    /// The drive's unit serial number, where the changer tells it (DVCID).
    pub serial: Option<String>,
    /// A cartridge is in it.
    pub full: bool,
    /// Its barcode.
    pub barcode: Option<String>,
    /// The slot that it came from.
    pub source: Option<u16>,
}

/// What is where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    /// Places for cartridges, ascending by address within each kind.
    pub slots: Vec<ChangerSlot>,
    /// Drives, ascending by address.
    pub drives: Vec<ChangerDrive>,
}

/// First address and number of the elements of each type (SMC-3 7.3.4).
type Assignment = [(ElementType, u16, u16); 4];

/// A medium changer behind a transport.
#[derive(Debug)]
pub struct Changer<T> {
    link: Link<T>,
    name: String,
    serial: Option<String>,
}

impl<T: Transport> Changer<T> {
    /// Asks the device who it is. Pending unit attentions are consumed.
    ///
    /// # Errors
    /// When it does not answer, or is no medium changer.
    pub fn open(transport: T) -> Result<Self, DriveError> {
        let mut link = Link::new(transport);
        let command = Command::Inquiry { vital_product_data: false, page: 0, allocation: INQUIRY_ALLOCATION };
        let bytes = link.fetch(command, usize::from(INQUIRY_ALLOCATION))?;
        let inquiry = StandardInquiry::parse(&bytes).map_err(|error| link.nonsense(&command, error, None))?;
        if inquiry.peripheral != Peripheral::CHANGER {
            let text = format!(
                "{}: {} {} is no medium changer (device type {:02X}h)",
                link.name, inquiry.vendor, inquiry.product, inquiry.peripheral.device_type
            );
            return Err(DriveError::new(DriveErrorKind::IllegalRequest, text));
        }
        let page = vpd_page::UNIT_SERIAL_NUMBER;
        let command = Command::Inquiry { vital_product_data: true, page, allocation: INQUIRY_ALLOCATION };
        let serial = match link.fetch_if_told(command, usize::from(INQUIRY_ALLOCATION))?.map(|bytes| Vpd::parse(&bytes))
        {
            Some(Ok((_, Vpd::UnitSerialNumber(text)))) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Some(_) | None => None,
        };
        consume_attentions(&mut link)?;
        Ok(Self { link, name: format!("{} {}", inquiry.vendor, inquiry.product), serial })
    }

    /// Vendor and product.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Unit serial number.
    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    /// READ ELEMENT STATUS of all elements. Nothing is moved, and no inventory is taken anew.
    ///
    /// # Errors
    /// When the changer does not answer, is not ready, or its answer makes no sense.
    pub fn inventory(&mut self) -> Result<Inventory, DriveError> {
        let mut inventory = Inventory::default();
        for (kind, first, count) in self.assignment()? {
            for element in self.elements(kind, first, count)? {
                let barcode = element.barcode().map(|barcode| barcode.trim().to_owned());
                let slot_kind = match kind {
                    ElementType::STORAGE => SlotKind::Storage,
                    ElementType::IMPORT_EXPORT => SlotKind::ImportExport,
                    ElementType::MEDIUM_TRANSPORT => SlotKind::Transport,
                    _ => {
                        let (address, full) = (element.address, element.full);
                        let source = element.source.filter(|_| full);
                        inventory.drives.push(ChangerDrive {
                            address,
                            serial: element.drive_serial(),
                            full,
                            barcode,
                            source,
                        });
                        continue;
                    }
                };
                let (address, full, cleaning) = (element.address, element.full, element.full && is_cleaning(&element));
                inventory.slots.push(ChangerSlot { address, kind: slot_kind, full, barcode, cleaning });
            }
        }
        Ok(inventory)
    }

    /// Which addresses there are. The page shares its code with a page of tape drives, so it is read here.
    fn assignment(&mut self) -> Result<Assignment, DriveError> {
        let command = Command::ModeSense {
            form: Form::Six,
            no_block_descriptors: true,
            control: PageControl::Current,
            page: ELEMENT_ADDRESS_ASSIGNMENT,
            subpage: 0,
            allocation: MODE_ALLOCATION,
        };
        let bytes = self.link.fetch(command, usize::from(MODE_ALLOCATION))?;
        let descriptors = bytes.get(3).map_or(0, |length| usize::from(*length));
        let page = bytes.get(4 + descriptors..).unwrap_or_default();
        let field =
            |at: usize| page.get(at..).and_then(|field| field.first_chunk()).map(|field| u16::from_be_bytes(*field));
        let pair = |at: usize| Some((field(at)?, field(at + 2)?));
        let read = || {
            page.first().filter(|code| **code & 0x3f == ELEMENT_ADDRESS_ASSIGNMENT)?;
            let of = |kind, at| pair(at).map(|(first, count)| (kind, first, count));
            Some([
                of(ElementType::MEDIUM_TRANSPORT, 2)?,
                of(ElementType::STORAGE, 6)?,
                of(ElementType::IMPORT_EXPORT, 10)?,
                of(ElementType::DATA_TRANSFER, 14)?,
            ])
        };
        read().ok_or_else(|| self.link.nonsense(&command, "no element address assignment page", None))
    }

    fn elements(&mut self, kind: ElementType, first: u16, count: u16) -> Result<Vec<Element>, DriveError> {
        let end = u32::from(first) + u32::from(count);
        let (mut next, mut found, mut identifiers) = (u32::from(first), Vec::new(), kind == ElementType::DATA_TRANSFER);
        // Each turn passes an address at least, so it ends.
        while next < end && found.len() < MOST_ELEMENTS {
            let left = u16::try_from(end - next).unwrap_or(u16::MAX).min(ELEMENTS_AT_ONCE);
            let Ok(from) = u16::try_from(next) else { break };
            let Some(status) = self.status(kind, from, left, identifiers)? else {
                // Without DVCID, then: the drives' serial numbers stay unknown.
                identifiers = false;
                continue;
            };
            let elements = status.pages.into_iter().filter(|page| page.kind == kind).flat_map(|page| page.elements);
            let fresh = |element: &Element| (next..end).contains(&u32::from(element.address));
            let batch: Vec<Element> = elements.filter(fresh).collect();
            let Some(last) = batch.iter().map(|element| u32::from(element.address)).max() else { break };
            next = last + 1;
            found.extend(batch);
        }
        found.sort_by_key(|element| element.address);
        found.dedup_by_key(|element| element.address);
        Ok(found)
    }

    /// `None`: it does not take the command with device identifiers.
    fn status(
        &mut self,
        kind: ElementType,
        first: u16,
        count: u16,
        device_identifiers: bool,
    ) -> Result<Option<ElementStatus>, DriveError> {
        let allocation = STATUS_ALLOCATION.min(self.link.largest_transfer());
        let command = Command::ReadElementStatus {
            volume_tags: true,
            kind: kind.0,
            first,
            count,
            device_identifiers,
            current: false,
            allocation: u32::try_from(allocation).unwrap_or(u32::MAX),
        };
        let mut bytes = vec![0; allocation];
        let reply = self.link.send(command, Data::In(&mut bytes))?;
        if let Some(sense) = reply.sense.filter(|sense| !fault::is_done(sense)) {
            let error = self.link.fault(&command, sense, Intent::Other);
            return if device_identifiers && fault::is_unsupported(&error) { Ok(None) } else { Err(error) };
        }
        let told = bytes.get(..reply.transferred).unwrap_or(&bytes);
        ElementStatus::parse(told).map(Some).map_err(|error| self.link.nonsense(&command, error, Some(&reply)))
    }
}

/// MEDIUM TYPE 2, or the barcode that LTO cleaning cartridges have by agreement.
fn is_cleaning(element: &Element) -> bool {
    const CLEANING: u8 = 2;
    element.medium_type == CLEANING || element.barcode().is_some_and(|barcode| barcode.starts_with("CLN"))
}
