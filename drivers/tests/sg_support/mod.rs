//! A transport that follows a script: each command has to be the next one of it, byte for byte.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealtape_drivers::medium::{DriveError, DriveErrorKind as K, ReadOutcome, TapeDrive, Warning};
use sealtape_drivers::scsi::{AdditionalSense, Completion, Sense, SenseKey, Status};
use sealtape_drivers::sg::{Answer, Data, ScsiTapeDrive, Transport};

/// One command and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    cdb: Vec<u8>,
    takes: Vec<u8>,
    gives: Vec<u8>,
    transferred: Option<usize>,
    answer: Result<Completion, io::ErrorKind>,
}

/// The command of these bytes, which ends with GOOD and moves no data.
pub(crate) fn on(cdb: &[u8]) -> Exchange {
    Exchange { cdb: cdb.to_vec(), takes: vec![], gives: vec![], transferred: None, answer: Ok(Completion::GOOD) }
}

impl Exchange {
    /// The drive gets these bytes.
    pub(crate) fn takes(self, bytes: &[u8]) -> Self {
        Self { takes: bytes.to_vec(), ..self }
    }
    /// The drive gives these bytes.
    pub(crate) fn gives(self, bytes: &[u8]) -> Self {
        Self { gives: bytes.to_vec(), ..self }
    }
    /// CHECK CONDITION.
    pub(crate) fn says(self, sense: Sense) -> Self {
        Self { answer: Ok(Completion::check(sense)), ..self }
    }
    pub(crate) fn status(self, status: u8) -> Self {
        Self { answer: Ok(Completion { status: Status(status), sense: None }), ..self }
    }
    pub(crate) fn moves(self, transferred: usize) -> Self {
        Self { transferred: Some(transferred), ..self }
    }
    pub(crate) fn fails(self, kind: io::ErrorKind) -> Self {
        Self { answer: Err(kind), ..self }
    }
}

pub(crate) fn sense(key: SenseKey, asc: u8, ascq: u8) -> Sense {
    Sense::new(key, AdditionalSense::new(asc, ascq))
}
pub(crate) fn unsupported() -> Sense {
    sense(SenseKey::ILLEGAL_REQUEST, 0x20, 0x00)
}
pub(crate) fn filemark(residue: i64) -> Sense {
    let mut told = sense(SenseKey::NO_SENSE, 0x00, 0x01);
    (told.flags.filemark, told.information) = (true, Some(residue));
    told
}
pub(crate) fn wrong_length(information: Option<i64>) -> Sense {
    let mut told = sense(SenseKey::NO_SENSE, 0x00, 0x00);
    (told.flags.incorrect_length, told.information) = (true, information);
    told
}
pub(crate) fn end_of_medium(key: SenseKey, asc: u8, ascq: u8, residue: Option<i64>) -> Sense {
    let mut told = sense(key, asc, ascq);
    (told.flags.end_of_medium, told.information) = (true, residue);
    told
}
pub(crate) fn blank_check(residue: i64) -> Sense {
    Sense { information: Some(residue), ..sense(SenseKey::BLANK_CHECK, 0x00, 0x05) }
}
pub(crate) fn deferred(key: SenseKey, asc: u8, ascq: u8) -> Sense {
    let mut told = sense(key, asc, ascq);
    told.flags.deferred = true;
    told
}

/// The script, and what of it is left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(Arc<Mutex<VecDeque<Exchange>>>);

impl Script {
    pub(crate) fn expect(&self, exchanges: impl IntoIterator<Item = Exchange>) {
        self.0.lock().unwrap().extend(exchanges);
    }
    /// Everything that was expected has come.
    pub(crate) fn is_done(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
    pub(crate) fn assert_done(&self) {
        let left = self.0.lock().unwrap();
        assert!(left.is_empty(), "not sent: {:02x?}", left.iter().map(|exchange| &exchange.cdb).collect::<Vec<_>>());
    }
}

impl Transport for Script {
    fn execute(&mut self, cdb: &[u8], data: Data<'_>, limit: Duration) -> io::Result<Answer> {
        assert!(limit >= Duration::from_secs(10), "{cdb:02x?} within {limit:?}");
        let next = self.0.lock().unwrap().pop_front();
        let Some(next) = next else { panic!("nothing was expected, and {cdb:02x?} came") };
        assert_eq!(cdb, next.cdb, "came, was expected: {cdb:02x?}, {:02x?}", next.cdb);
        let moved = match data {
            Data::None => 0,
            Data::In(buffer) => {
                let length = next.gives.len().min(buffer.len());
                buffer[..length].copy_from_slice(&next.gives[..length]);
                length
            }
            Data::Out(bytes) => {
                assert_eq!(bytes, next.takes, "data of {cdb:02x?}");
                bytes.len()
            }
        };
        let completion = next.answer.map_err(|kind| io::Error::new(kind, "scripted"))?;
        Ok(Answer { completion, transferred: next.transferred.unwrap_or(moved) })
    }
    fn largest_transfer(&self) -> usize {
        1 << 20
    }
    fn name(&self) -> &str {
        "/dev/sg9"
    }
}

pub(crate) const TEST_UNIT_READY: [u8; 6] = [0; 6];
pub(crate) const POSITION: [u8; 10] = [0x34, 6, 0, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const SHORT_POSITION: [u8; 10] = [0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const ALERTS: [u8; 10] = [0x4d, 0, 0x6e, 0, 0, 0, 0, 0xff, 0xff, 0];
pub(crate) const WRITE_MARK: [u8; 6] = [0x10, 0, 0, 0, 1, 0];
pub(crate) const SYNCHRONISE: [u8; 6] = [0x10, 0, 0, 0, 0, 0];

/// READ POSITION data, long form.
pub(crate) fn at(partition: u8, object: u64, filemarks: u64) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[0] = if object == 0 { 0x80 } else { 0 };
    bytes[7] = partition;
    bytes[8..16].copy_from_slice(&object.to_be_bytes());
    bytes[16..24].copy_from_slice(&filemarks.to_be_bytes());
    bytes
}

pub(crate) fn position(partition: u8, object: u64) -> Exchange {
    on(&POSITION).gives(&at(partition, object, 0))
}

fn inquiry() -> Vec<u8> {
    let mut bytes = vec![0x01, 0x80, 0x06, 0x02, 91, 0, 0x10, 0x02];
    bytes.extend(b"ACME    Ultrium 8-SCSI  H4K1");
    bytes.resize(96, 0);
    bytes
}

fn serial() -> Vec<u8> {
    [&[0x01, 0x80, 0, 10], &b"0123456789"[..]].concat()
}

/// REPORT SUPPORTED OPERATION CODES: SPACE(16), LOCATE(16), READ POSITION long and extended, REWIND with 600 s.
pub(crate) fn operation_codes() -> Vec<u8> {
    let mut list = vec![0x01, 0, 0, 0, 0, 2, 0, 6, 0, 10, 0, 0, 0, 0, 0, 60, 0, 0, 2, 0x58];
    for (operation, action) in
        [(0x91, None), (0x92, None), (0x2b, None), (0x34, Some(0)), (0x34, Some(6)), (0x34, Some(8))]
    {
        list.extend([operation, 0, 0, action.unwrap_or(0), 0, u8::from(action.is_some()), 0, 16]);
    }
    [(list.len() as u32).to_be_bytes().to_vec(), list].concat()
}

/// What `open` asks a drive with these operation codes.
pub(crate) fn opening(codes: Option<Vec<u8>>) -> Vec<Exchange> {
    let mut script = vec![
        on(&[0x12, 0, 0, 0, 252, 0]).gives(&inquiry()),
        on(&[0x12, 1, 0x80, 0, 252, 0]).gives(&serial()),
        on(&TEST_UNIT_READY),
    ];
    match codes {
        Some(codes) => script.push(on(&[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0x80, 0, 0, 0]).gives(&codes)),
        None => script.extend([
            on(&[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0x80, 0, 0, 0]).says(unsupported()),
            on(&[0xa3, 0x0c, 0x00, 0, 0, 0, 0, 0, 0x80, 0, 0, 0]).says(unsupported()),
        ]),
    }
    script
}

fn mode(page: &[u8], buffered: u8, block_length: u32) -> Vec<u8> {
    let length = block_length.to_be_bytes();
    let mut bytes = vec![0, 0, 0, buffered << 4, 0, 0, 0, 8, 0x5e, 0, 0, 0, 0, length[1], length[2], length[3]];
    bytes.extend(page);
    bytes[1] = bytes.len() as u8 - 2;
    bytes
}

/// Data compression page with DCE as given.
pub(crate) fn compression(on: bool, buffered: u8, block_length: u32) -> Vec<u8> {
    let mut page = vec![0x8f, 14, if on { 0xc0 } else { 0x40 }, 0x80, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
    page.truncate(16);
    mode(&page, buffered, block_length)
}

/// Device configuration page with SDCA as given.
pub(crate) fn device_configuration(algorithm: u8) -> Vec<u8> {
    mode(&[0x10, 14, 0, 0, 0, 0, 0, 50, 0x40, 0, 0x18, 0, 0, 0, algorithm, 0], 1, 0)
}

pub(crate) fn sense_page(page: u8, subpage: u8) -> [u8; 10] {
    [0x5a, 0, page, subpage, 0, 0, 0, 4, 0, 0]
}

/// The settings are as they should be already.
pub(crate) fn settling() -> Vec<Exchange> {
    vec![
        on(&sense_page(0x0f, 0)).gives(&compression(false, 1, 0)),
        on(&sense_page(0x10, 0)).gives(&device_configuration(0)),
    ]
}

/// A drive that was opened, stands at object 5 of partition 0, and has been settled by a synchronised filemark count of 0 blocks read.
pub(crate) fn drive_at(object: u64) -> (ScsiTapeDrive<Script>, Script) {
    let script = Script::default();
    script.expect(opening(Some(operation_codes())));
    script.expect([position(0, object)]);
    let drive = ScsiTapeDrive::open(script.clone()).unwrap();
    script.assert_done();
    (drive, script)
}

pub(crate) fn kind<R: std::fmt::Debug>(result: Result<R, DriveError>) -> K {
    result.unwrap_err().kind
}

pub(crate) fn read_command(length: u32) -> [u8; 6] {
    let [_, a, b, c] = length.to_be_bytes();
    [0x08, 0, a, b, c, 0]
}

pub(crate) fn write_command(length: u32) -> [u8; 6] {
    let [_, a, b, c] = length.to_be_bytes();
    [0x0a, 0, a, b, c, 0]
}

/// A drive that has read a filemark: settled, at object 6.
pub(crate) fn reading() -> (ScsiTapeDrive<Script>, Script) {
    let (mut drive, script) = drive_at(5);
    script.expect(settling());
    script.expect([on(&read_command(16)).says(filemark(16))]);
    assert_eq!(drive.read(&mut [0; 16]).unwrap(), ReadOutcome::Filemark);
    script.assert_done();
    (drive, script)
}

/// A drive that has written a block of 4 bytes: settled, at object 7.
pub(crate) fn writing() -> (ScsiTapeDrive<Script>, Script) {
    let (mut drive, script) = reading();
    script.expect([position(0, 6), on(&write_command(4)).takes(b"ABCD")]);
    assert_eq!(drive.write(b"ABCD").unwrap(), Warning::None);
    script.assert_done();
    (drive, script)
}

/// LOCATE(16).
pub(crate) fn locate(partition: Option<u8>, object: u64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x92;
    (cdb[1], cdb[3]) = (if partition.is_some() { 2 } else { 0 }, partition.unwrap_or(0));
    cdb[4..12].copy_from_slice(&object.to_be_bytes());
    cdb
}
