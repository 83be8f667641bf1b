//! Log pages of LOG SENSE and LOG SELECT (SPC-4 7.3, SSC-4 8.2).

use super::TapeAlertFlags;
use super::wire::{Bytes, WireError, at_most, flag, len8, len16, text};

/// Page codes; the subpage code is 00h unless said otherwise.
#[allow(missing_docs, reason = "the names are those of SPC-4 table 345 and SSC-4 8.2")]
pub mod log_page {
    pub const SUPPORTED: u8 = 0x00;
    pub const WRITE_ERROR_COUNTERS: u8 = 0x02;
    pub const READ_ERROR_COUNTERS: u8 = 0x03;
    pub const SEQUENTIAL_ACCESS: u8 = 0x0c;
    pub const TEMPERATURE: u8 = 0x0d;
    pub const DT_DEVICE_STATUS: u8 = 0x11;
    pub const TAPE_ALERT_RESPONSE: u8 = 0x12;
    pub const REQUESTED_RECOVERY: u8 = 0x13;
    pub const DEVICE_STATISTICS: u8 = 0x14;
    pub const VOLUME_STATISTICS: u8 = 0x17;
    pub const DATA_COMPRESSION: u8 = 0x1b;
    pub const TAPE_ALERT: u8 = 0x2e;
    /// LTO drives' own: tape usage.
    pub const TAPE_USAGE: u8 = 0x30;
    /// LTO drives' own: tape capacity.
    pub const TAPE_CAPACITY: u8 = 0x31;
    /// Subpage code of the lists of supported subpages.
    pub const ALL_SUBPAGES: u8 = 0xff;
}

/// Parameter codes of write (02h) and read (03h) error counters (SPC-4 7.3.5).
#[allow(missing_docs, reason = "the names are those of SPC-4 7.3.5")]
pub mod error_counter {
    pub const CORRECTED_WITHOUT_DELAY: u16 = 0x0000;
    pub const CORRECTED_WITH_POSSIBLE_DELAYS: u16 = 0x0001;
    /// Rewrites or rereads.
    pub const TOTAL_RETRIES: u16 = 0x0002;
    pub const TOTAL_CORRECTED: u16 = 0x0003;
    pub const CORRECTION_ALGORITHM_PROCESSED: u16 = 0x0004;
    pub const BYTES_PROCESSED: u16 = 0x0005;
    pub const TOTAL_UNCORRECTED: u16 = 0x0006;
}

/// Parameter codes of sequential-access device (0Ch; SSC-4 8.2.3).
pub mod sequential_access {
    /// Bytes that initiators sent with WRITE.
    pub const BYTES_FROM_INITIATORS: u16 = 0x0000;
    /// Bytes written to the medium, after compression.
    pub const BYTES_WRITTEN: u16 = 0x0001;
    /// Bytes read from the medium, before decompression.
    pub const BYTES_READ: u16 = 0x0002;
    /// Bytes that initiators got with READ.
    pub const BYTES_TO_INITIATORS: u16 = 0x0003;
    /// Native capacity from the beginning of the partition to the end of data, in MB.
    pub const CAPACITY_TO_END_OF_DATA: u16 = 0x0004;
    /// Native capacity from the beginning of the partition to early warning, in MB.
    pub const CAPACITY_TO_EARLY_WARNING: u16 = 0x0005;
    /// Smallest native capacity from early warning to the end of the partition, in MB.
    pub const CAPACITY_BEHIND_EARLY_WARNING: u16 = 0x0006;
    /// Native capacity from the beginning of the partition to the position, in MB.
    pub const CAPACITY_TO_POSITION: u16 = 0x0007;
    /// Largest native capacity that the buffer may hold, in MB.
    pub const CAPACITY_IN_BUFFER: u16 = 0x0008;
    /// The drive wants cleaning.
    pub const CLEANING_ACTION_REQUIRED: u16 = 0x0100;
}

/// Parameter codes of volume statistics (17h; SSC-4 8.2.9).
#[allow(missing_docs, reason = "the names are those of SSC-4 8.2.9")]
pub mod volume_statistics {
    /// 1 when the page tells of the loaded volume.
    pub const PAGE_VALID: u16 = 0x0000;
    pub const VOLUME_MOUNTS: u16 = 0x0001;
    pub const DATA_SETS_WRITTEN: u16 = 0x0002;
    pub const RECOVERED_WRITE_ERRORS: u16 = 0x0003;
    pub const UNRECOVERED_WRITE_ERRORS: u16 = 0x0004;
    pub const WRITE_SERVO_ERRORS: u16 = 0x0005;
    pub const UNRECOVERED_WRITE_SERVO_ERRORS: u16 = 0x0006;
    pub const DATA_SETS_READ: u16 = 0x0007;
    pub const RECOVERED_READ_ERRORS: u16 = 0x0008;
    pub const UNRECOVERED_READ_ERRORS: u16 = 0x0009;
    pub const LAST_MOUNT_UNRECOVERED_WRITE_ERRORS: u16 = 0x000c;
    pub const LAST_MOUNT_UNRECOVERED_READ_ERRORS: u16 = 0x000d;
    pub const LAST_MOUNT_MEGABYTES_WRITTEN: u16 = 0x000e;
    pub const LAST_MOUNT_MEGABYTES_READ: u16 = 0x000f;
    pub const LIFETIME_MEGABYTES_WRITTEN: u16 = 0x0010;
    pub const LIFETIME_MEGABYTES_READ: u16 = 0x0011;
    /// In hundredths.
    pub const LAST_LOAD_WRITE_COMPRESSION_RATIO: u16 = 0x0012;
    /// In hundredths.
    pub const LAST_LOAD_READ_COMPRESSION_RATIO: u16 = 0x0013;
    /// In milliseconds.
    pub const MEDIUM_MOUNT_TIME: u16 = 0x0014;
    /// In milliseconds.
    pub const MEDIUM_READY_TIME: u16 = 0x0015;
    /// In MB.
    pub const TOTAL_NATIVE_CAPACITY: u16 = 0x0016;
    /// In MB.
    pub const TOTAL_USED_NATIVE_CAPACITY: u16 = 0x0017;
    pub const VOLUME_SERIAL_NUMBER: u16 = 0x0040;
    pub const TAPE_LOT_IDENTIFIER: u16 = 0x0041;
    pub const VOLUME_BARCODE: u16 = 0x0042;
    pub const VOLUME_MANUFACTURER: u16 = 0x0043;
    pub const VOLUME_LICENSE_CODE: u16 = 0x0044;
    pub const VOLUME_PERSONALITY: u16 = 0x0045;
    pub const WRITE_PROTECT: u16 = 0x0080;
    pub const WORM: u16 = 0x0081;
    pub const TEMPERATURE_EXCEEDED: u16 = 0x0082;
    pub const BEGINNING_OF_MEDIUM_PASSES: u16 = 0x0101;
    pub const MIDDLE_OF_TAPE_PASSES: u16 = 0x0102;
    /// A [`PartitionRecord`](super::PartitionRecord) list, as are the following.
    pub const FIRST_ENCRYPTED_OBJECT: u16 = 0x0200;
    pub const FIRST_UNENCRYPTED_OBJECT: u16 = 0x0201;
    /// In MB.
    pub const NATIVE_CAPACITY_OF_PARTITIONS: u16 = 0x0202;
    /// In MB.
    pub const USED_NATIVE_CAPACITY_OF_PARTITIONS: u16 = 0x0203;
    /// In MB.
    pub const REMAINING_NATIVE_CAPACITY_OF_PARTITIONS: u16 = 0x0204;
}

/// Parameter codes of data compression (1Bh; SSC-4 8.2.8).
#[allow(missing_docs, reason = "the names are those of SSC-4 8.2.8")]
pub mod data_compression {
    /// In hundredths.
    pub const READ_RATIO: u16 = 0x0000;
    /// In hundredths.
    pub const WRITE_RATIO: u16 = 0x0001;
    pub const MEGABYTES_TO_INITIATOR: u16 = 0x0002;
    /// Less the megabytes, as are the other byte counts.
    pub const BYTES_TO_INITIATOR: u16 = 0x0003;
    pub const MEGABYTES_READ: u16 = 0x0004;
    pub const BYTES_READ: u16 = 0x0005;
    pub const MEGABYTES_FROM_INITIATOR: u16 = 0x0006;
    pub const BYTES_FROM_INITIATOR: u16 = 0x0007;
    pub const MEGABYTES_WRITTEN: u16 = 0x0008;
    pub const BYTES_WRITTEN: u16 = 0x0009;
    pub const ENABLED: u16 = 0x0100;
}

/// A log parameter (SPC-4 7.3.2.2).
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct LogParameter {
    /// PARAMETER CODE.
    pub code: u16,
    /// Parameter control byte: DU, TSD, ETC, TMC, FORMAT AND LINKING.
    pub control: u8,
    /// PARAMETER VALUE, 255 bytes at most; more is cut.
    pub value: Vec<u8>,
}

impl LogParameter {
    /// Control byte of a data counter (FORMAT AND LINKING 10b, which bounded and unbounded ones may have).
    pub const COUNTER: u8 = 0x02;
    /// Control byte of a list in ASCII (01b).
    pub const ASCII_LIST: u8 = 0x01;
    /// Control byte of a list in binary (11b).
    pub const BINARY_LIST: u8 = 0x03;

    /// A counter in the 1, 2, 4 or 8 bytes that its page gives it. A count that does not fit stands at the field's largest.
    pub fn counter(code: u16, count: u64, width: usize) -> Self {
        let width = width.clamp(1, 8);
        let largest = u64::MAX >> (64 - 8 * width);
        let value = count.min(largest).to_be_bytes()[8 - width..].to_vec();
        Self { code, control: Self::COUNTER, value }
    }

    /// A list in ASCII.
    pub fn ascii(code: u16, value: &str) -> Self {
        let mut bytes = Vec::new();
        super::wire::put_text(&mut bytes, value, value.chars().count());
        Self { code, control: Self::ASCII_LIST, value: bytes }
    }

    /// A list in binary.
    pub fn binary(code: u16, value: Vec<u8>) -> Self {
        Self { code, control: Self::BINARY_LIST, value }
    }

    /// The value as a number, where it has 1 to 8 bytes.
    pub fn number(&self) -> Option<u64> {
        let fits = (1..=8).contains(&self.value.len());
        fits.then(|| self.value.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The value as text, without the padding.
    pub fn text(&self) -> String {
        text(&self.value)
    }

    fn write(&self, to: &mut Vec<u8>) {
        let value = at_most(&self.value, usize::from(u8::MAX));
        to.extend(self.code.to_be_bytes());
        to.extend([self.control, len8(value.len())]);
        to.extend(value);
    }
}

/// What follows the header of a log page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogBody {
    /// 00h: page codes, ascending (SPC-4 7.3.13).
    Pages(Vec<u8>),
    /// Subpage FFh of any page: page and subpage codes, ascending (SPC-4 7.3.14, 7.3.15).
    Subpages(Vec<(u8, u8)>),
    /// All other pages.
    Parameters(Vec<LogParameter>),
}

/// A log page (SPC-4 7.3.2.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogPage {
    /// DS: the page is not saved.
    pub disable_save: bool,
    /// PAGE CODE, 6 bits.
    pub page: u8,
    /// SUBPAGE CODE; SPF is set when it is not 0.
    pub subpage: u8,
    /// What it says.
    pub body: LogBody,
}

impl LogPage {
    const HEADER: usize = 4;

    /// A page of parameters, which should ascend by code.
    pub fn new(page: u8, parameters: Vec<LogParameter>) -> Self {
        Self { disable_save: false, page, subpage: 0, body: LogBody::Parameters(parameters) }
    }

    /// The pages that are supported.
    pub fn supported(pages: Vec<u8>) -> Self {
        Self { disable_save: false, page: log_page::SUPPORTED, subpage: 0, body: LogBody::Pages(pages) }
    }

    /// The pages and subpages that are supported.
    pub fn supported_subpages(pages: Vec<(u8, u8)>) -> Self {
        let (page, subpage) = (log_page::SUPPORTED, log_page::ALL_SUBPAGES);
        Self { disable_save: false, page, subpage, body: LogBody::Subpages(pages) }
    }

    /// The page with its header. What PAGE LENGTH cannot count is left out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match &self.body {
            LogBody::Pages(pages) => body.extend(pages),
            LogBody::Subpages(pages) => {
                body.extend(pages.iter().take(usize::from(u16::MAX) / 2).flat_map(|&(page, subpage)| [page, subpage]));
            }
            LogBody::Parameters(parameters) => {
                for parameter in parameters {
                    if body.len() + 4 + parameter.value.len().min(255) > usize::from(u16::MAX) {
                        break;
                    }
                    parameter.write(&mut body);
                }
            }
        }
        let body = at_most(&body, usize::from(u16::MAX));
        let page = flag(self.disable_save, 7) | flag(self.subpage != 0, 6) | self.page & 0x3f;
        let mut bytes = vec![page, self.subpage];
        bytes.extend(len16(body.len()).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// Reads what is there of a page. A parameter that was cut off is left out.
    ///
    /// # Errors
    /// Not even a header.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("log page", bytes).at_least(Self::HEADER)?;
        let (page, subpage) = (b.u8(0) & 0x3f, if b.bit(0, 6) { b.u8(1) } else { 0 });
        let body = b.slice(Self::HEADER, usize::from(b.u16(2)));
        let body = match (page, subpage) {
            (log_page::SUPPORTED, 0) => LogBody::Pages(body.to_vec()),
            (_, log_page::ALL_SUBPAGES) => LogBody::Subpages(
                body.chunks_exact(2).map(|pair| Bytes::new("log pages", pair)).map(|b| (b.u8(0), b.u8(1))).collect(),
            ),
            _ => LogBody::Parameters(parameters(body).0),
        };
        Ok(Self { disable_save: b.bit(0, 7), page, subpage, body })
    }

    /// Reads one page of the parameter list of LOG SELECT, and says how long it is (SPC-4 6.7).
    ///
    /// # Errors
    /// When the list ends within the page or one of its parameters (PARAMETER LIST LENGTH ERROR).
    pub fn parse_list(bytes: &[u8]) -> Result<(Self, usize), WireError> {
        let b = Bytes::new("log parameter list", bytes).at_least(Self::HEADER)?;
        let length = Self::HEADER + usize::from(b.u16(2));
        let b = b.at_least(length)?.cut(length);
        let page = Self::parse(b.rest(0))?;
        if let LogBody::Parameters(_) = page.body {
            let read = parameters(b.rest(Self::HEADER)).1;
            if read != b.len() - Self::HEADER {
                return Err(b.invalid(Self::HEADER + read));
            }
        }
        Ok((page, length))
    }

    /// The parameters; none in the lists of supported pages.
    pub fn parameters(&self) -> &[LogParameter] {
        match &self.body {
            LogBody::Parameters(parameters) => parameters,
            LogBody::Pages(_) | LogBody::Subpages(_) => &[],
        }
    }

    /// The first parameter with this code.
    pub fn parameter(&self, code: u16) -> Option<&LogParameter> {
        self.parameters().iter().find(|parameter| parameter.code == code)
    }

    /// Its value as a number.
    pub fn number(&self, code: u16) -> Option<u64> {
        self.parameter(code)?.number()
    }

    /// TapeAlert (2Eh; SSC-4 8.2.4): a parameter of one byte for each flag.
    pub fn tape_alert(flags: TapeAlertFlags) -> Self {
        let flag = |number: u8| LogParameter {
            code: u16::from(number),
            control: LogParameter::BINARY_LIST,
            value: vec![u8::from(flags.is_set(number))],
        };
        Self::new(log_page::TAPE_ALERT, (1..=TapeAlertFlags::COUNT).map(flag).collect())
    }

    /// TapeAlert response (12h; SSC-4 8.2.5): all flags in one parameter, and reading them does not clear them.
    pub fn tape_alert_response(flags: TapeAlertFlags) -> Self {
        let value = flags.to_bytes().to_vec();
        Self::new(log_page::TAPE_ALERT_RESPONSE, vec![LogParameter::binary(0, value)])
    }

    /// The flags of either TapeAlert page.
    pub fn tape_alert_flags(&self) -> Option<TapeAlertFlags> {
        match self.page {
            log_page::TAPE_ALERT => {
                let mut flags = TapeAlertFlags::default();
                for parameter in self.parameters() {
                    let set = parameter.value.first().is_some_and(|value| value & 1 == 1);
                    if let (true, Ok(number)) = (set, u8::try_from(parameter.code)) {
                        flags.set(number);
                    }
                }
                Some(flags)
            }
            log_page::TAPE_ALERT_RESPONSE => {
                let value = <[u8; 8]>::try_from(self.parameter(0)?.value.as_slice()).ok()?;
                Some(TapeAlertFlags::from_bytes(value))
            }
            _ => None,
        }
    }
}

/// The parameters in `bytes`, and how many bytes they are.
fn parameters(bytes: &[u8]) -> (Vec<LogParameter>, usize) {
    let (mut list, mut rest) = (Vec::new(), bytes);
    while let [high, low, control, length, behind @ ..] = rest {
        let Some((value, next)) = behind.split_at_checked(usize::from(*length)) else { break };
        list.push(LogParameter { code: u16::from_be_bytes([*high, *low]), control: *control, value: value.to_vec() });
        rest = next;
    }
    (list, bytes.len() - rest.len())
}

/// Tape capacity (31h), which LTO drives have: in MiB (of 2^20 bytes), main partition is 0, alternate is 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct TapeCapacity {
    /// Parameter 0001h.
    pub main_remaining: u32,
    /// Parameter 0002h.
    pub alternate_remaining: u32,
    /// Parameter 0003h.
    pub main_maximum: u32,
    /// Parameter 0004h.
    pub alternate_maximum: u32,
}

impl TapeCapacity {
    /// The page.
    pub fn to_page(&self) -> LogPage {
        let counts = [self.main_remaining, self.alternate_remaining, self.main_maximum, self.alternate_maximum];
        let counts = (1..).zip(counts).map(|(code, count)| LogParameter::counter(code, u64::from(count), 4));
        LogPage::new(log_page::TAPE_CAPACITY, counts.collect())
    }

    /// Reads it; `None` for another page, or when the main partition is not told.
    pub fn from_page(page: &LogPage) -> Option<Self> {
        let number = |code| page.number(code).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        (page.page == log_page::TAPE_CAPACITY && page.subpage == 0).then_some(())?;
        Some(Self {
            main_remaining: number(1)?,
            alternate_remaining: number(2).unwrap_or(0),
            main_maximum: number(3)?,
            alternate_maximum: number(4).unwrap_or(0),
        })
    }
}

/// What a volume statistics parameter says of one partition (SSC-4 8.2.9, partition record).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PartitionRecord {
    /// PARTITION NUMBER.
    pub partition: u16,
    /// PARTITION RECORD DATA COUNTER, in 4 bytes (capacities) or more (positions).
    pub counter: u64,
}

impl PartitionRecord {
    /// The parameter with one record for each partition, counters in 4 bytes; FFFFFFFFh where one does not fit.
    pub fn parameter(code: u16, records: &[Self]) -> LogParameter {
        let mut value = Vec::with_capacity(8 * records.len());
        for record in records {
            value.extend([7, 0]);
            value.extend(record.partition.to_be_bytes());
            value.extend(u32::try_from(record.counter).unwrap_or(u32::MAX).to_be_bytes());
        }
        LogParameter::binary(code, value)
    }

    /// Reads the records of such a parameter; one that was cut off is left out.
    pub fn list(parameter: &LogParameter) -> Vec<Self> {
        let (mut records, mut rest) = (Vec::new(), parameter.value.as_slice());
        while let [length, behind @ ..] = rest {
            let Some((record, next)) = behind.split_at_checked(usize::from(*length)) else { break };
            rest = next;
            // After the length: a reserved byte, the partition in 2 bytes, the counter in 1 to 8.
            let [_, high, low, counter @ ..] = record else { continue };
            if (1..=8).contains(&counter.len()) {
                let counter = counter.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
                records.push(Self { partition: u16::from_be_bytes([*high, *low]), counter });
            }
        }
        records
    }
}
