//! Standard INQUIRY data (SPC-4 6.6.2).

use super::wire::{Bytes, WireError, flag, put_text};

/// What the logical unit is: the first byte of all INQUIRY data (SPC-4 tables 174 and 175).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Peripheral {
    /// PERIPHERAL QUALIFIER, 3 bits: 0 when there is a device, 3 when there can be none.
    pub qualifier: u8,
    /// PERIPHERAL DEVICE TYPE, 5 bits.
    pub device_type: u8,
}

impl Peripheral {
    /// A sequential-access device (SSC).
    pub const TAPE: Self = Self { qualifier: 0, device_type: 0x01 };
    /// A medium changer (SMC).
    pub const CHANGER: Self = Self { qualifier: 0, device_type: 0x08 };
    /// A direct-access block device (SBC).
    pub const DISK: Self = Self { qualifier: 0, device_type: 0x00 };
    /// No device is behind this logical unit number (7Fh).
    pub const NONE: Self = Self { qualifier: 3, device_type: 0x1f };

    pub(super) fn byte(self) -> u8 {
        self.qualifier << 5 | self.device_type & 0x1f
    }

    pub(super) fn from_byte(byte: u8) -> Self {
        Self { qualifier: byte >> 5, device_type: byte & 0x1f }
    }
}

/// VERSION: the SPC version that is claimed (SPC-4 table 177).
pub const VERSION_SPC_4: u8 = 0x06;

/// Version descriptors (SPC-4 table 178), those without a version claimed.
pub mod version {
    /// SAM-5.
    pub const SAM_5: u16 = 0x00a0;
    /// SPC-4.
    pub const SPC_4: u16 = 0x0460;
    /// SSC-4.
    pub const SSC_4: u16 = 0x0520;
    /// SMC-3.
    pub const SMC_3: u16 = 0x0480;
    /// SPL-2, the protocol layer of SAS.
    pub const SPL_2: u16 = 0x20c0;
}

/// Standard INQUIRY data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandardInquiry {
    /// Qualifier and device type.
    pub peripheral: Peripheral,
    /// RMB: the medium can be removed.
    pub removable: bool,
    /// VERSION.
    pub version: u8,
    /// TPGS, 2 bits: asymmetric access, 0 for none.
    pub target_port_groups: u8,
    /// PROTECT: the unit has protection information, or logical block protection for a tape (SSC-4 4.2.29).
    pub protect: bool,
    /// MULTIP: more than one port.
    pub multiple_ports: bool,
    /// CMDQUE: commands can be queued (SAM-5 task set management).
    pub command_queuing: bool,
    /// T10 VENDOR IDENTIFICATION, 8 characters.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION, 16 characters.
    pub product: String,
    /// PRODUCT REVISION LEVEL, 4 characters.
    pub revision: String,
    /// Bytes 36 to 55, which are the vendor's.
    pub vendor_specific: [u8; 20],
    /// VERSION DESCRIPTORS, 8 at most, without zeros.
    pub version_descriptors: Vec<u16>,
}

impl StandardInquiry {
    /// Length of [`to_bytes`](Self::to_bytes), vendor specific parameters aside.
    pub const LENGTH: usize = 96;

    /// All 96 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LENGTH);
        bytes.extend([
            self.peripheral.byte(),
            flag(self.removable, 7),
            self.version,
            0x02, // RESPONSE DATA FORMAT: the only one there is.
            91,   // ADDITIONAL LENGTH: what follows byte 4.
            (self.target_port_groups & 3) << 4 | flag(self.protect, 0),
            flag(self.multiple_ports, 4),
            flag(self.command_queuing, 1),
        ]);
        put_text(&mut bytes, &self.vendor, 8);
        put_text(&mut bytes, &self.product, 16);
        put_text(&mut bytes, &self.revision, 4);
        bytes.extend(self.vendor_specific);
        bytes.extend([0; 2]);
        bytes.extend(self.version_descriptors.iter().take(8).flat_map(|descriptor| descriptor.to_be_bytes()));
        bytes.resize(Self::LENGTH, 0);
        bytes
    }

    /// Reads what is there; ADDITIONAL LENGTH bounds it. 36 bytes are what SCSI-2 already had.
    ///
    /// # Errors
    /// Fewer than 5 bytes: device type and length are not there.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("standard INQUIRY data", bytes).at_least(5)?;
        let b = b.cut(5 + usize::from(b.u8(4)));
        let descriptors = b.slice(58, 16).chunks_exact(2).map(|pair| Bytes::new("version descriptor", pair).u16(0));
        Ok(Self {
            peripheral: Peripheral::from_byte(b.u8(0)),
            removable: b.bit(1, 7),
            version: b.u8(2),
            target_port_groups: b.u8(5) >> 4 & 3,
            protect: b.bit(5, 0),
            multiple_ports: b.bit(6, 4),
            command_queuing: b.bit(7, 1),
            vendor: b.text(8, 8),
            product: b.text(16, 16),
            revision: b.text(32, 4),
            vendor_specific: b.array(36),
            version_descriptors: descriptors.filter(|&descriptor| descriptor != 0).collect(),
        })
    }
}
