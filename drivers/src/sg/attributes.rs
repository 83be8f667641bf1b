//! Medium auxiliary memory: READ ATTRIBUTE and WRITE ATTRIBUTE.

use super::drive::ScsiTapeDrive;
use super::{Data, Transport};
use crate::medium::{Attribute, DriveError, DriveErrorKind};
use crate::scsi::{AttributeIds, AttributeValues, Command, MamAttribute, attribute_action};

/// Header of the list, header of an attribute, and the longest value that host attributes of SPC-4 have, with room to spare.
const FIRST_ALLOCATION: usize = 4 + 5 + 1024;
/// The longest value that the length field can say.
const LONGEST_ALLOCATION: usize = 4 + 5 + 0xffff;
/// Every identifier there is.
const LIST_ALLOCATION: usize = 4 + 2 * 0x1_0000;

impl<T: Transport> ScsiTapeDrive<T> {
    fn attribute_command(&mut self, action: u8, first: u16, allocation: usize) -> Result<Command, DriveError> {
        let partition = match self.stand.counted() {
            Some(position) => position.partition,
            None => self.ask_position()?.position.partition,
        };
        let allocation = u32::try_from(allocation).unwrap_or(u32::MAX);
        Ok(Command::ReadAttribute { action, volume: 0, partition, first, cache: false, allocation })
    }

    /// READ ATTRIBUTE, values from `id` on; `None` when there is none from there on, or no chip that could be read.
    fn attribute_values(&mut self, id: u16, allocation: usize) -> Result<Option<Vec<u8>>, DriveError> {
        let allocation = allocation.min(self.link.largest_transfer());
        let command = self.attribute_command(attribute_action::VALUES, id, allocation)?;
        self.link.fetch_if_told(command, allocation)
    }

    fn mam_attribute(&mut self, id: u16) -> Result<Option<MamAttribute>, DriveError> {
        let Some(mut bytes) = self.attribute_values(id, FIRST_ALLOCATION)? else { return Ok(None) };
        if let Some([high, low, _, length_high, length_low]) = bytes.get(4..9)
            && u16::from_be_bytes([*high, *low]) == id
            && 9 + usize::from(u16::from_be_bytes([*length_high, *length_low])) > bytes.len()
        {
            bytes = self.attribute_values(id, LONGEST_ALLOCATION)?.unwrap_or_default();
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let values = AttributeValues::parse(&bytes)
            .map_err(|error| super::fault::nonsense(&self.link.name, "READ ATTRIBUTE", error, None))?;
        Ok(values.0.into_iter().find(|found| found.attribute.id == id))
    }

    pub(super) fn attribute(&mut self, id: u16) -> Result<Option<Attribute>, DriveError> {
        Ok(self.mam_attribute(id)?.map(|found| found.attribute))
    }

    /// Text without its padding; `None` when there is nothing but that.
    pub(super) fn text_attribute(&mut self, id: u16) -> Result<Option<String>, DriveError> {
        let text = self.mam_attribute(id)?.and_then(|found| found.text());
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    pub(super) fn number_attribute(&mut self, id: u16) -> Result<Option<u64>, DriveError> {
        Ok(self.mam_attribute(id)?.and_then(|found| found.number()))
    }

    pub(super) fn store_attribute(&mut self, attribute: &Attribute) -> Result<(), DriveError> {
        if attribute.value.len() > usize::from(u16::MAX) || attribute.format > 2 {
            let text = format!(
                "{}: attribute {:04X}h with {} bytes in format {} cannot be written",
                self.link.name,
                attribute.id,
                attribute.value.len(),
                attribute.format
            );
            return Err(DriveError::new(DriveErrorKind::IllegalRequest, text));
        }
        let partition = match self.stand.counted() {
            Some(position) => position.partition,
            None => self.ask_position()?.position.partition,
        };
        let list = AttributeValues(vec![MamAttribute { attribute: attribute.clone(), read_only: false }]).to_bytes();
        let length = u32::try_from(list.len()).unwrap_or(u32::MAX);
        let command = Command::WriteAttribute { write_through: true, volume: 0, partition, length };
        self.link.ask(command, Data::Out(&list)).map(drop)
    }

    /// READ ATTRIBUTE, list: the identifiers, 2 bytes each.
    pub(super) fn attribute_list(&mut self) -> Result<Option<Vec<u8>>, DriveError> {
        let allocation = LIST_ALLOCATION.min(self.link.largest_transfer());
        let command = self.attribute_command(attribute_action::LIST, 0, allocation)?;
        let Some(bytes) = self.link.fetch_if_told(command, allocation)? else { return Ok(None) };
        let ids = AttributeIds::parse(&bytes).map_err(|error| self.link.nonsense(&command, error, None))?;
        Ok(Some(ids.0.iter().flat_map(|id| id.to_be_bytes()).collect()))
    }
}
