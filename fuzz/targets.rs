//! What the fuzz targets and `tests/parsers.rs` feed: each function takes any bytes and may refuse them, and nothing
//! else. A panic, a hang or memory without a limit is a finding.

use std::path::PathBuf;

use sealtape::filter::FilterError;
use sealtape::seal::chain::Chain;
use sealtape::seal::envelope::parse_record;
use sealtape::seal::opener::check_record;
use sealtape::seal::{
    Compression, GenerationKeys, GenerationRecord, GenerationScope, LABEL_LEN, Link, PlainRecord, RecordKind,
    SessionId, SessionSealer, Stanza, Suite, VolumeKind, VolumeLabel, open_record,
};
use sealtape::service::config::Config;
use sealtape::service::home::Home;
use sealtape_drivers::image::trace::TraceStorage;
use sealtape_drivers::image::{ImageDrive, dump::Dump};
use sealtape_drivers::medium::{DriveIdentity, Position, SpaceKind, TapeDrive};
use sealtape_kms::protocol::{ControlReply, ControlRequest, DataPathReply, DataPathRequest};
use sealtape_kms::secret::DataKey;
use uuid::Uuid;

const VOLUME: Uuid = Uuid::from_u128(0x5ea1);

/// The bound on what is read from one input, so that a run ends.
const MOST_OBJECTS: usize = 1000;

fn scope() -> GenerationScope {
    GenerationScope { volume: VOLUME, partition: 0, generation: 1, suite: Suite::AES_256_GCM_SIV }
}

fn keys() -> Option<GenerationKeys> {
    Some(GenerationKeys::new(DataKey::copy_from(&[7; 32]).ok()?, scope()))
}

fn with_crc(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(at) = bytes.len().checked_sub(4) {
        let crc = crc32c::crc32c(&bytes[..at]).to_be_bytes();
        bytes[at..].copy_from_slice(&crc);
    }
    bytes
}

fn label() -> VolumeLabel {
    VolumeLabel { volume: VOLUME, kind: VolumeKind::Tape, partition: 0, partitions: 1, label: None, barcode: None }
}

/// A record's envelope, as it comes and with its checksum put right.
pub(crate) fn record(data: &[u8]) {
    for stream in [false, true] {
        let _ = parse_record(data, stream, scope().suite);
        let _ = parse_record(&with_crc(data), stream, scope().suite);
    }
}

/// A record, up to its tag and, where that were to fit, its decompression.
pub(crate) fn open(data: &[u8]) {
    let Some(keys) = keys() else { return };
    for block in [data.to_vec(), with_crc(data)] {
        for stream in [false, true] {
            let chain = Chain::at_beginning(1);
            let Ok(header) = check_record(&block, keys.scope(), stream, &chain) else { continue };
            let Some(cipher) = keys.record_cipher(header.session) else { continue };
            let mut output = Vec::new();
            let opened = open_record(&header, &mut block.clone(), &*cipher, keys.scope(), &mut output);
            assert!(opened.is_ok() || output.iter().all(|&byte| byte == 0), "bytes of a refused record");
        }
    }
}

/// Properly sealed text in a form that its header denies: whoever has the key may not crash a reader either.
pub(crate) fn sealed_form(data: &[u8]) {
    let Some(keys) = keys() else { return };
    let Some((&[compression, plain_len], text)) = data.split_first_chunk::<2>() else { return };
    let Some(mut session) =
        SessionSealer::open(&keys, RecordKind::TapeBlock, SessionId([3; 16]), 1, 0, Link::BEGINNING)
    else {
        return;
    };
    let mut record = PlainRecord::in_buffer(Vec::new());
    record.extend(text);
    let Ok(Ok(sealed)) = session.reserve(0, 0).map(|reservation| reservation.seal(record, Compression::NONE)) else {
        return;
    };
    let Ok(mut header) = parse_record(sealed.bytes(), false, scope().suite) else { return };
    // The same key seals the same text again, now said to be compressed.
    header.compression = Compression(compression % 3);
    header.plain_len = header.plain_len.saturating_add(u32::from(plain_len) * 64 + 1);
    let Some(cipher) = keys.record_cipher(header.session) else { return };
    let mut block = header.encode().to_vec();
    block.extend_from_slice(text);
    let aad = header.aad(VOLUME);
    let Ok(tag) = cipher.seal_in_place(header.seal_counter, &aad, &mut block[sealtape::seal::HEADER_LEN..]) else {
        return;
    };
    block.extend_from_slice(&tag);
    block.extend_from_slice(&[0; 4]);
    open_with(&with_crc(&block), &keys);
}

fn open_with(block: &[u8], keys: &GenerationKeys) {
    let Ok(header) = check_record(block, keys.scope(), false, &Chain::at_beginning(1)) else { return };
    let Some(cipher) = keys.record_cipher(header.session) else { return };
    let mut output = Vec::new();
    let opened = open_record(&header, &mut block.to_vec(), &*cipher, keys.scope(), &mut output);
    match opened {
        Ok(opened) => assert_eq!(opened.plain_len, output.len()),
        Err(_) => assert!(output.iter().all(|&byte| byte == 0), "bytes of a refused record"),
    }
}

/// A label block, as it comes and behind the proper first line.
pub(crate) fn volume_label(data: &[u8]) {
    let _ = VolumeLabel::parse(data);
    let mut block = b"SEALTAPE VOLUME 1\nfields:\n".to_vec();
    block.extend_from_slice(data);
    let crc = crc32c::crc32c(&block);
    block.extend_from_slice(format!("crc32c: {crc:08x}\nend\n").as_bytes());
    block.resize(LABEL_LEN - 1, b' ');
    block.push(b'\n');
    if let Ok(label) = VolumeLabel::parse(&block) {
        // What was understood can be written down.
        let _ = label.encode();
    }
}

/// A generation record.
pub(crate) fn generation(data: &[u8]) {
    let _ = GenerationRecord::parse(data, &label());
    let mut block = b"SLTG\x01".to_vec();
    block.extend_from_slice(data);
    let block = with_crc(&block);
    let (Some(keys), Ok(parsed)) = (keys(), GenerationRecord::parse(&block, &label())) else { return };
    let _ = parsed.verify(&keys, &block, &[0; LABEL_LEN]);
}

/// What `sealtape open` reads from a pipe: the bytes alone, and behind a proper head.
pub(crate) fn stream(data: &[u8]) {
    let Some(keys) = keys() else { return };
    let mut whole = Vec::new();
    if let Some(head) = stream_head(&keys) {
        whole.extend_from_slice(&head);
    }
    whole.extend_from_slice(data);
    for input in [data, &whole] {
        let mut output = Vec::new();
        let key = |_: &VolumeLabel, record: &GenerationRecord| {
            Ok::<_, FilterError>(GenerationKeys::new(DataKey::copy_from(&[7; 32]).expect("a page"), record.scope))
        };
        let opened = sealtape::filter::open::<_, FilterError>(&mut &*input, &mut output, key, |_| {});
        assert!(opened.is_err() && output.is_empty(), "made-up bytes were opened");
    }
}

fn stream_head(keys: &GenerationKeys) -> Option<Vec<u8>> {
    let label = VolumeLabel { kind: VolumeKind::Stream, ..label() }.encode().ok()?;
    let record = GenerationRecord {
        scope: scope(),
        kind: VolumeKind::Stream,
        first_session_ordinal: 1,
        key_id: Uuid::from_u128(1),
        commitment: keys.commitment(),
        stanzas: vec![Stanza { kind: 1, body: vec![0; 56] }],
    };
    Some(sealtape::seal::stream::encode_head(&label, &record.encode(keys, &label).ok()?))
}

/// The file of a virtual cartridge.
pub(crate) fn image(data: &[u8]) {
    let storage = TraceStorage::new(data.to_vec());
    if let Ok(dump) = Dump::open_storage(Box::new(storage.clone()), "any") {
        let _ = dump.objects().take(MOST_OBJECTS).count();
    }
    let identity = DriveIdentity { vendor: "V".into(), product: "P".into(), revision: "0".into(), serial: "S".into() };
    let mut drive = ImageDrive::new(identity);
    if drive.insert_storage(Box::new(storage), "any").and_then(|()| drive.load()).is_err() {
        return;
    }
    let mut buffer = [0; 4096];
    for _ in 0..MOST_OBJECTS {
        if !matches!(drive.read(&mut buffer), Ok(outcome) if outcome != sealtape_drivers::medium::ReadOutcome::EndOfData)
        {
            break;
        }
    }
    let _ = drive.locate(Position { partition: 1, object: u64::MAX });
    let _ = drive.space(SpaceKind::EndOfData, 0);
    let _ = drive.space(SpaceKind::Filemarks, -3);
    let _ = drive.write(b"x");
}

/// Requests and replies between CLI, data path and key authority.
pub(crate) fn protocol(data: &[u8]) {
    let _ = serde_json::from_slice::<DataPathRequest>(data);
    let _ = serde_json::from_slice::<DataPathReply>(data);
    let _ = serde_json::from_slice::<ControlRequest>(data);
    let _ = serde_json::from_slice::<ControlReply>(data);
    let _ = serde_json::from_slice::<sealtape::control::LabelOrder>(data);
    let _ = serde_json::from_slice::<sealtape::control::DriveStatus>(data);
}

/// `sealtape.toml`.
pub(crate) fn config(data: &[u8]) {
    let (Ok(text), Ok(home)) = (std::str::from_utf8(data), Home::find(Some(std::path::Path::new("/tmp")))) else {
        return;
    };
    if let Err(error) = Config::parse(home, PathBuf::from("/tmp/sealtape.toml"), text) {
        let _ = error.to_string();
    }
}

/// A custody log export, line by line.
pub(crate) fn custody(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        for line in text.lines() {
            let _ = sealtape_kms::custody::Leaf::parse(line);
        }
    }
}
