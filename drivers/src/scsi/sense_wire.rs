//! Sense data on the wire: fixed format (SPC-4 4.5.3) and descriptor format (SPC-4 4.5.2), with the stream commands
//! descriptor (SSC-4 4.2.21).

use super::wire::{Bytes, flag, len8};
use super::{AdditionalSense, FieldPointer, Sense, SenseFlags, SenseKey};

/// Response codes (SPC-4 table 27).
const FIXED_CURRENT: u8 = 0x70;
const FIXED_DEFERRED: u8 = 0x71;
const DESCRIPTOR_CURRENT: u8 = 0x72;
const DESCRIPTOR_DEFERRED: u8 = 0x73;

/// Descriptor types (SPC-4 table 28).
const INFORMATION: u8 = 0x00;
const SENSE_KEY_SPECIFIC: u8 = 0x02;
const STREAM_COMMANDS: u8 = 0x04;

impl Sense {
    /// Length of [`to_fixed`](Self::to_fixed).
    pub const FIXED_LENGTH: usize = 18;

    /// Fixed format. An INFORMATION of more than 32 bits, signed, is left out with VALID at zero (SPC-4 4.5.3).
    pub fn to_fixed(&self) -> [u8; Self::FIXED_LENGTH] {
        let mut bytes = [0; Self::FIXED_LENGTH];
        bytes[0] = if self.flags.deferred { FIXED_DEFERRED } else { FIXED_CURRENT };
        if let Some(Ok(information)) = self.information.map(i32::try_from) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        bytes[2] = stream_bits(self.flags) | self.key.0 & 0x0f;
        bytes[7] = 10;
        bytes[12] = self.additional.asc;
        bytes[13] = self.additional.ascq;
        bytes[15..18].copy_from_slice(&self.sense_key_specific().unwrap_or_default());
        bytes
    }

    /// Descriptor format: information, sense-key specific and stream commands, each where there is something to say.
    pub fn to_descriptor(&self) -> Vec<u8> {
        let mut bytes = vec![
            if self.flags.deferred { DESCRIPTOR_DEFERRED } else { DESCRIPTOR_CURRENT },
            self.key.0 & 0x0f,
            self.additional.asc,
            self.additional.ascq,
            0,
            0,
            0,
        ];
        let mut descriptors = Vec::with_capacity(24);
        if let Some(information) = self.information {
            descriptors.extend([INFORMATION, 10, 0x80, 0]);
            descriptors.extend(information.to_be_bytes());
        }
        if let Some([a, b, c]) = self.sense_key_specific() {
            descriptors.extend([SENSE_KEY_SPECIFIC, 6, 0, 0, a, b, c, 0]);
        }
        let bits = stream_bits(self.flags);
        if bits != 0 {
            descriptors.extend([STREAM_COMMANDS, 2, 0, bits]);
        }
        bytes.push(len8(descriptors.len()));
        bytes.extend(descriptors);
        bytes
    }

    /// In the format that D_SENSE of the control mode page asks for (SPC-4 7.5.8).
    pub fn to_bytes(&self, descriptor_format: bool) -> Vec<u8> {
        if descriptor_format { self.to_descriptor() } else { self.to_fixed().to_vec() }
    }

    /// Reads either format, however short it was cut; `None` when it is neither (all zeros, or vendor specific).
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let response = bytes.first()? & 0x7f;
        match response {
            FIXED_CURRENT | FIXED_DEFERRED => parse_fixed(bytes, response == FIXED_DEFERRED),
            DESCRIPTOR_CURRENT | DESCRIPTOR_DEFERRED => parse_descriptor(bytes, response == DESCRIPTOR_DEFERRED),
            _ => None,
        }
    }

    /// The field pointer of ILLEGAL REQUEST (SPC-4 4.5.2.4.2).
    fn sense_key_specific(&self) -> Option<[u8; 3]> {
        let field = self.field.filter(|_| self.key == SenseKey::ILLEGAL_REQUEST)?;
        let [high, low] = field.byte.to_be_bytes();
        let bit = field.bit.map_or(0, |bit| 0x08 | bit & 7);
        Some([0x80 | flag(field.in_cdb, 6) | bit, high, low])
    }
}

/// FILEMARK, EOM and ILI stand in the same bits of both formats.
fn stream_bits(flags: SenseFlags) -> u8 {
    flag(flags.filemark, 7) | flag(flags.end_of_medium, 6) | flag(flags.incorrect_length, 5)
}

fn read_stream_bits(byte: u8, flags: &mut SenseFlags) {
    flags.filemark = byte & 0x80 != 0;
    flags.end_of_medium = byte & 0x40 != 0;
    flags.incorrect_length = byte & 0x20 != 0;
}

fn read_field(key: SenseKey, bytes: [u8; 3]) -> Option<FieldPointer> {
    let [first, high, low] = bytes;
    (key == SenseKey::ILLEGAL_REQUEST && first & 0x80 != 0).then(|| FieldPointer {
        in_cdb: first & 0x40 != 0,
        byte: u16::from_be_bytes([high, low]),
        bit: (first & 0x08 != 0).then_some(first & 7),
    })
}

fn parse_fixed(bytes: &[u8], deferred: bool) -> Option<Sense> {
    let bytes = Bytes::new("fixed format sense data", bytes).at_least(3).ok()?;
    // ADDITIONAL SENSE LENGTH counts what stands behind it.
    let bytes = if bytes.len() > 7 { bytes.cut(8 + usize::from(bytes.u8(7))) } else { bytes };
    let mut sense = Sense::new(SenseKey(bytes.u8(2) & 0x0f), AdditionalSense::new(bytes.u8(12), bytes.u8(13)));
    sense.flags.deferred = deferred;
    read_stream_bits(bytes.u8(2), &mut sense.flags);
    if bytes.bit(0, 7) && bytes.len() >= 7 {
        sense.information = Some(i64::from(i32::from_be_bytes(bytes.array(3))));
    }
    sense.field = (bytes.len() >= 18).then(|| read_field(sense.key, bytes.array(15))).flatten();
    Some(sense)
}

fn parse_descriptor(bytes: &[u8], deferred: bool) -> Option<Sense> {
    let bytes = Bytes::new("descriptor format sense data", bytes).at_least(4).ok()?;
    let bytes = bytes.cut(8 + usize::from(bytes.u8(7)));
    let mut sense = Sense::new(SenseKey(bytes.u8(1) & 0x0f), AdditionalSense::new(bytes.u8(2), bytes.u8(3)));
    sense.flags.deferred = deferred;
    let mut rest = bytes.rest(8);
    // A descriptor that was cut says nothing: half an INFORMATION would be a wrong residue.
    while let [kind, length, behind @ ..] = rest {
        let Some((body, next)) = behind.split_at_checked(usize::from(*length)) else { break };
        let body = Bytes::new("sense data descriptor", body);
        match (*kind, *length) {
            (INFORMATION, 10..) if body.bit(0, 7) => sense.information = Some(body.u64(2).cast_signed()),
            (SENSE_KEY_SPECIFIC, 6..) => sense.field = read_field(sense.key, body.array(2)),
            (STREAM_COMMANDS, 2..) => read_stream_bits(body.u8(1), &mut sense.flags),
            _ => {}
        }
        rest = next;
    }
    Some(sense)
}
