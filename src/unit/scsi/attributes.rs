//! READ ATTRIBUTE, WRITE ATTRIBUTE and READ MEDIA SERIAL NUMBER (SPC-4 6.18, 6.46, SSC-4). Attributes that a host writes belong to
//! the host (LTFS keeps its coherency there); they stand on the medium in the clear.

use sealtape_drivers::medium::{Attribute, Description};
use sealtape_drivers::scsi::{AdditionalSense, Command, DataIn};

use super::ScsiUnit;
use super::outcome::{Answer, Fault, illegal, invalid_field, invalid_parameter};

/// Attributes that are looked for in a drive that gives no list: device, medium and host ones of SPC-4 table 375.
const KNOWN: &[u16] = &[
    0x0000, 0x0001, 0x0002, 0x0003, 0x0004, 0x0005, 0x0006, 0x0007, 0x0008, 0x0009, 0x020a, 0x020b, 0x020c, 0x020d,
    0x0220, 0x0221, 0x0222, 0x0223, 0x0400, 0x0401, 0x0402, 0x0403, 0x0404, 0x0405, 0x0406, 0x0407, 0x0408, 0x0409,
    0x0800, 0x0801, 0x0802, 0x0803, 0x0804, 0x0805, 0x0806, 0x0807, 0x0808, 0x0809, 0x080a, 0x080b, 0x080c, 0x0820,
    0x0821,
];
/// READ ONLY: device and medium attributes (0000h to 07FFh) are the drive's.
const FIRST_OF_HOST: u16 = 0x0800;
const READ_ONLY: u8 = 0x80;

impl ScsiUnit {
    pub(super) fn attributes(&mut self, command: &Command, data_out: &[u8], data_in: &mut DataIn<'_>) -> Answer {
        match *command {
            Command::ReadAttribute { action, volume, partition, first, allocation, .. } => {
                self.check_place(volume, partition)?;
                let data = self.read_attributes(action, first)?;
                data_in.put(&data, allocation as usize);
                Ok(())
            }
            Command::WriteAttribute { volume, partition, length, .. } => {
                self.check_place(volume, partition)?;
                let list = data_out
                    .get(..length as usize)
                    .ok_or_else(|| illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR))?;
                self.write_attributes(list)
            }
            Command::ReadMediaSerialNumber { allocation } => {
                let serial = self.drive.medium_status()?.serial.unwrap_or_default();
                let padded = serial.len().next_multiple_of(4);
                let mut data = u32::try_from(padded).unwrap_or(0).to_be_bytes().to_vec();
                data.extend(format!("{serial:padded$}").bytes());
                data_in.put(&data, allocation as usize);
                Ok(())
            }
            _ => Err(Fault::UnknownOperation),
        }
    }

    fn check_place(&mut self, volume: u8, partition: u8) -> Answer {
        let status = self.drive.medium_status()?;
        if volume != 0 {
            return Err(invalid_field(5, None));
        }
        match partition < status.partitions {
            true => Ok(()),
            false => Err(invalid_field(7, None)),
        }
    }

    fn identifiers(&mut self) -> Result<Vec<u16>, Fault> {
        let listed = self.drive.describe(Description::AttributeList)?;
        let Some(list) = listed else { return Ok(KNOWN.to_vec()) };
        Ok(list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
    }

    fn read_attributes(&mut self, action: u8, first: u16) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        match action {
            0x00 | 0x01 => {
                let mut ids = self.identifiers()?;
                if !ids.contains(&first) {
                    ids.push(first); // A vendor's, say, which no list names.
                    ids.sort_unstable();
                }
                for id in ids.into_iter().filter(|id| *id >= first) {
                    let Some(attribute) = self.drive.read_attribute(id)? else { continue };
                    match action {
                        0x00 => body.extend(encode(&attribute)),
                        _ => body.extend(id.to_be_bytes()),
                    }
                }
                if action == 0x00 && body.is_empty() && first != 0 {
                    return Err(invalid_field(8, None));
                }
                let mut data = u32::try_from(body.len()).unwrap_or(0).to_be_bytes().to_vec();
                data.extend(body);
                Ok(data)
            }
            // Logical volumes: one, 0.
            0x02 => Ok(vec![0, 2, 0, 1]),
            // Partitions: from 0 on.
            0x03 => Ok(vec![0, 2, 0, self.drive.medium_status()?.partitions]),
            // Supported attributes.
            0x05 => {
                for id in self.identifiers()? {
                    body.extend(id.to_be_bytes());
                }
                let mut data = u32::try_from(body.len()).unwrap_or(0).to_be_bytes().to_vec();
                data.extend(body);
                Ok(data)
            }
            _ => Err(invalid_field(1, Some(4))),
        }
    }

    fn write_attributes(&mut self, list: &[u8]) -> Answer {
        if list.is_empty() {
            return Ok(());
        }
        let body = list.get(4..).ok_or_else(|| illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR))?;
        let mut attributes = Vec::new();
        let (mut rest, mut at) = (body, 4);
        while !rest.is_empty() {
            let [high, low, flags, length_high, length_low, value @ ..] = rest else {
                return Err(illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR));
            };
            let id = u16::from_be_bytes([*high, *low]);
            let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
            let (value, behind) =
                value.split_at_checked(length).ok_or_else(|| illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR))?;
            if id < FIRST_OF_HOST {
                return Err(invalid_parameter(at, None));
            }
            attributes.push(Attribute { id, format: flags & 3, value: value.to_vec() });
            at += 5 + length;
            rest = behind;
        }
        // All of them were understood before the first is written.
        for attribute in &attributes {
            self.drive.write_attribute(attribute)?;
        }
        Ok(())
    }
}

fn encode(attribute: &Attribute) -> Vec<u8> {
    let read_only = if attribute.id < FIRST_OF_HOST { READ_ONLY } else { 0 };
    let length = u16::try_from(attribute.value.len()).unwrap_or(u16::MAX);
    let mut bytes = attribute.id.to_be_bytes().to_vec();
    bytes.push(read_only | attribute.format & 3);
    bytes.extend(length.to_be_bytes());
    bytes.extend(attribute.value.iter().take(usize::from(length)));
    bytes
}
