//! The mode pages of the virtual drive: their values, what of them a host may change, and what that does.

use super::mode::ModeState;

/// What the medium adds to the pages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown {
    pub(super) write_protected: bool,
    pub(super) worm: bool,
    /// 0 when nothing is loaded.
    pub(super) partitions: u8,
    pub(super) current_partition: u8,
    pub(super) capacity_bytes: u64,
}

/// One page of the unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Page {
    pub(super) page: u8,
    pub(super) subpage: u8,
}

const READ_WRITE_ERROR_RECOVERY: (u8, u8) = (0x01, 0);
const DISCONNECT_RECONNECT: (u8, u8) = (0x02, 0);
const CONTROL: (u8, u8) = (0x0a, 0);
const CONTROL_EXTENSION: (u8, u8) = (0x0a, 1);
const DATA_COMPRESSION: (u8, u8) = (0x0f, 0);
const DEVICE_CONFIGURATION: (u8, u8) = (0x10, 0);
const DEVICE_CONFIGURATION_EXTENSION: (u8, u8) = (0x10, 1);
const MEDIUM_PARTITION: (u8, u8) = (0x11, 0);
const INFORMATIONAL_EXCEPTIONS: (u8, u8) = (0x1c, 0);
const MEDIUM_CONFIGURATION: (u8, u8) = (0x1d, 0);

const PAGES: &[(u8, u8)] = &[
    READ_WRITE_ERROR_RECOVERY,
    DISCONNECT_RECONNECT,
    CONTROL,
    CONTROL_EXTENSION,
    DATA_COMPRESSION,
    DEVICE_CONFIGURATION,
    DEVICE_CONFIGURATION_EXTENSION,
    MEDIUM_PARTITION,
    INFORMATIONAL_EXCEPTIONS,
    MEDIUM_CONFIGURATION,
];

/// SPF: the page has a subpage code and a length of two bytes.
const SUBPAGE_FORMAT: u8 = 0x40;
/// DCE and SDCA: on and off are both accepted and kept, since programs set them; the pool's policy decides.
const DCE: u8 = 0x80;
const DCC: u8 = 0x40;
/// IDP: the initiator's sizes count.
const INITIATOR_PARTITIONS: u8 = 0x20;
const FIXED_OR_SELECTED_PARTITIONS: u8 = 0xc0;
/// POFM: MODE SELECT describes the partitions, FORMAT MEDIUM makes them.
const PARTITION_ON_FORMAT: u8 = 0x04;
/// PSUM 11b: sizes in units of PARTITION UNITS.
const UNITS_BY_FIELD: u8 = 0x18;

/// All pages, in the order of their codes.
pub(super) fn all() -> impl Iterator<Item = Page> {
    PAGES.iter().map(|(page, subpage)| Page { page: *page, subpage: *subpage })
}

/// The first page of a parameter list: which it is, its bytes with header, and what follows. `None` when it was cut.
pub(super) fn split(list: &[u8]) -> Option<(Page, &[u8], &[u8])> {
    let first = *list.first()?;
    let (subpage, length) = if first & SUBPAGE_FORMAT != 0 {
        (*list.get(1)?, 4 + usize::from(u16::from_be_bytes([*list.get(2)?, *list.get(3)?])))
    } else {
        (0, 2 + usize::from(*list.get(1)?))
    };
    let (bytes, behind) = list.split_at_checked(length)?;
    Some((Page { page: first & 0x3f, subpage }, bytes, behind))
}

impl Page {
    fn code(self) -> (u8, u8) {
        (self.page, self.subpage)
    }

    fn with_header(self, body: &[u8]) -> Vec<u8> {
        let mut bytes = match self.subpage {
            0 => vec![self.page, u8::try_from(body.len()).unwrap_or(u8::MAX)],
            subpage => {
                let [high, low] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
                vec![self.page | SUBPAGE_FORMAT, subpage, high, low]
            }
        };
        bytes.extend(body);
        bytes
    }

    /// The page with its header.
    pub(super) fn values(self, mode: &ModeState, shown: &Shown) -> Vec<u8> {
        let body = match self.code() {
            // PER and retries are the drive's own matter.
            READ_WRITE_ERROR_RECOVERY => vec![0; 10],
            DISCONNECT_RECONNECT => vec![0; 14],
            // GLTSD: log parameters are not saved for the host.
            CONTROL => vec![0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            CONTROL_EXTENSION => {
                let mut body = vec![0; 28];
                body[0] = 0x02; // SCSIP: a host may set the time.
                body
            }
            DATA_COMPRESSION => {
                let mut body = vec![0; 14];
                body[0] = DCC | if mode.compression { DCE } else { 0 };
                body[1] = DCE; // DDE: what was compressed is always opened again.
                body
            }
            DEVICE_CONFIGURATION => {
                let mut body = vec![0; 14];
                body[1] = shown.current_partition;
                body[6] = 0x40; // LOIS: objects are numbered.
                body[8] = 0x18; // EEG, SEW: early warning synchronises.
                body[12] = u8::from(mode.compression);
                body
            }
            DEVICE_CONFIGURATION_EXTENSION => {
                let mut body = vec![0; 28];
                body[2..4].copy_from_slice(&mode.programmable_early_warning_mb.to_be_bytes());
                body
            }
            MEDIUM_PARTITION => medium_partition(mode, shown),
            // DEXCPT: TapeAlert is for those who ask.
            INFORMATIONAL_EXCEPTIONS => vec![0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            MEDIUM_CONFIGURATION => {
                let mut body = vec![0; 30];
                if shown.worm {
                    // WORMM; labels and filemarks may not be written over (SSC-4 tables 143 and 144).
                    body[0] = 0x01;
                    body[2] = 0x01;
                    body[3] = 0x02;
                }
                body
            }
            _ => Vec::new(),
        };
        self.with_header(&body)
    }

    /// The bits that MODE SELECT may change.
    pub(super) fn changeable(self) -> Vec<u8> {
        let mut mask = self.values(&ModeState::default(), &Shown::default());
        let header = if self.subpage == 0 { 2 } else { 4 };
        mask[header..].fill(0);
        let body = &mut mask[header..];
        match self.code() {
            DATA_COMPRESSION => body[0] = DCE,
            DEVICE_CONFIGURATION => body[12] = 0xff,
            DEVICE_CONFIGURATION_EXTENSION => body[2..4].fill(0xff),
            MEDIUM_PARTITION => {
                body[1] = 0x01;
                body[2] = FIXED_OR_SELECTED_PARTITIONS | INITIATOR_PARTITIONS | UNITS_BY_FIELD;
                body[4] = 0x0f;
                body[6..].fill(0xff);
            }
            _ => {}
        }
        mask
    }

    /// Takes what a host sends over into `mode`; otherwise byte and bit of what cannot be had.
    pub(super) fn accept(self, bytes: &[u8], mode: &mut ModeState, shown: &Shown) -> Result<(), (usize, Option<u8>)> {
        if !PAGES.contains(&self.code()) {
            return Err((0, Some(5)));
        }
        let header = if self.subpage == 0 { 2 } else { 4 };
        let current = self.values(mode, shown);
        let partition_page = self.code() == MEDIUM_PARTITION;
        if bytes.len() != current.len() && !partition_page {
            return Err((header - 1, None));
        }
        let mask = self.changeable();
        for (at, byte) in bytes.iter().enumerate().skip(header) {
            let (Some(now), Some(mask)) = (current.get(at), mask.get(at)) else { continue };
            let refused = (byte ^ now) & !mask;
            if refused != 0 {
                // Which partition is current, and what the page says of the medium, is told, not set.
                let told =
                    (self.code() == DEVICE_CONFIGURATION && at == header + 1) || (partition_page && at <= header + 3);
                if !told {
                    return Err((at, u8::try_from(refused.ilog2()).ok()));
                }
            }
        }
        let body = bytes.get(header..).unwrap_or(&[]);
        match self.code() {
            DATA_COMPRESSION => mode.compression = body.first().is_some_and(|byte| byte & DCE != 0),
            DEVICE_CONFIGURATION => mode.compression = body.get(12).is_some_and(|byte| *byte != 0),
            DEVICE_CONFIGURATION_EXTENSION => {
                if let Some([high, low]) = body.get(2..4) {
                    mode.programmable_early_warning_mb = u16::from_be_bytes([*high, *low]);
                }
            }
            MEDIUM_PARTITION => accept_partitions(body, mode)?,
            _ => {}
        }
        Ok(())
    }
}

/// SSC-4 8.5.4: one additional partition at most.
fn medium_partition(mode: &ModeState, shown: &Shown) -> Vec<u8> {
    let additional = shown.partitions.saturating_sub(1);
    let size = mode.second_partition.unwrap_or(0);
    let first = match (shown.capacity_bytes, 10_u64.checked_pow(u32::from(mode.partition_units))) {
        (capacity, Some(unit)) => u16::try_from(capacity / unit).unwrap_or(u16::MAX),
        (_, None) => 0,
    };
    // Medium format recognition 3: format and partitions are recognised.
    let mut body = vec![1, additional, UNITS_BY_FIELD | PARTITION_ON_FORMAT, 3, mode.partition_units, 0];
    body.extend(first.to_be_bytes());
    body.extend(size.to_be_bytes());
    body
}

fn accept_partitions(body: &[u8], mode: &mut ModeState) -> Result<(), (usize, Option<u8>)> {
    let (Some(additional), Some(flags)) = (body.get(1), body.get(2)) else { return Err((1, None)) };
    if *additional > 1 {
        return Err((3, None));
    }
    // PSUM 00b bytes, 01b kilobytes, 10b megabytes, 11b by PARTITION UNITS (SSC-4 table 141).
    mode.partition_units = match flags >> 3 & 3 {
        0 => 0,
        1 => 3,
        2 => 6,
        _ => body.get(4).map_or(9, |units| units & 0x0f),
    };
    let size = match body.get(8..10) {
        Some([high, low]) => u16::from_be_bytes([*high, *low]),
        _ => u16::MAX,
    };
    mode.second_partition = match *additional {
        0 => None,
        // FDP and SDP: the drive chooses the sizes.
        _ if flags & FIXED_OR_SELECTED_PARTITIONS != 0 => Some(u16::MAX),
        _ => Some(size),
    };
    Ok(())
}
