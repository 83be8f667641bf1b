//! What stands in the memory of a process, and the data key to look for.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sealtape::seal::{GenerationRecord, VolumeLabel};
use sealtape_drivers::image::{ImageDrive, OpenMode};
use sealtape_drivers::medium::{DriveIdentity, ReadOutcome, TapeDrive};
use sealtape_kms::hex::HexBytes;
use sealtape_kms::offline::unwrap_any;
use sealtape_kms::pkcs11::WorkerCommand;
use sealtape_kms::protocol::{GenerationRef, Stanza};

const KEYD: &str = env!("CARGO_BIN_EXE_sealtape-keyd");

/// The data key of a sealed image, from the token and the medium alone.
pub(crate) fn data_key(home: &Path, image: &Path) -> [u8; 32] {
    let identity = DriveIdentity { vendor: "V".into(), product: "P".into(), revision: "0".into(), serial: "S".into() };
    let mut drive = ImageDrive::new(identity);
    drive.insert(image, OpenMode::ReadOnly).unwrap();
    drive.load().unwrap();
    let mut buffer = vec![0; 65537];
    let mut next = || match drive.read(&mut buffer).unwrap() {
        ReadOutcome::Block { length } => buffer[..length].to_vec(),
        ReadOutcome::Filemark | ReadOutcome::EndOfData | ReadOutcome::EndOfPartition => Vec::new(),
    };
    let label = VolumeLabel::parse(&next()).unwrap();
    assert!(next().is_empty(), "the hidden filemark");
    let record = GenerationRecord::parse(&next(), &label).unwrap();
    let keyd = sealtape_kms::home::Home::new(home.join("keyd"));
    let config = sealtape::service::config::Config::load(&sealtape::service::home::Home::find(Some(home)).unwrap());
    let config = config.unwrap().keyd;
    let worker = WorkerCommand::executable(KEYD);
    let token = keyd.embedded_token(&config.module, config.token.as_str().parse().unwrap(), worker).unwrap();
    let at = GenerationRef {
        volume: label.volume,
        partition: label.partition,
        generation: record.scope.generation,
        key_id: record.key_id,
    };
    let stanzas: Vec<_> =
        record.stanzas.iter().map(|s| Stanza { kind: s.kind, body: HexBytes(s.body.clone()) }).collect();
    let key = unwrap_any(token, &stanzas, at).unwrap();
    let keys = sealtape::seal::GenerationKeys::new(
        sealtape_kms::secret::DataKey::copy_from(key.expose()).unwrap(),
        record.scope,
    );
    assert!(keys.fits(&record.commitment), "the key of this volume");
    *key.expose()
}

pub(crate) fn has(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else { return false };
    haystack.windows(needle.len()).any(|window| window[0] == first && window == needle)
}

/// Mappings of a process's memory in which `secret` stands, as `smaps` shows them.
pub(crate) fn found_in_memory(pid: i32, secret: &[u8]) -> Vec<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut mappings: Vec<(u64, u64, String)> = Vec::new();
    for line in smaps.lines() {
        let range = line.split(' ').next().unwrap().split_once('-');
        let range = range.and_then(|(a, b)| Some((u64::from_str_radix(a, 16).ok()?, u64::from_str_radix(b, 16).ok()?)));
        match range {
            Some((from, to)) => mappings.push((from, to, line.to_owned())),
            None if line.starts_with("VmFlags:") => mappings.last_mut().unwrap().2.push_str(&format!(" {line}")),
            None => {}
        }
    }
    assert!(mappings.len() > 10, "{smaps}");
    let (mut found, mut piece, mut readable) = (Vec::new(), vec![0; 4 << 20], 0_u64);
    for (mut from, to, words) in mappings {
        if !words.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw")) {
            continue;
        }
        while from < to {
            let length = ((to - from) as usize).min(piece.len());
            if memory.read_exact_at(&mut piece[..length], from).is_ok() {
                readable += length as u64;
                if has(&piece[..length], secret) {
                    found.push(words.clone());
                    break;
                }
            }
            from += if from + length as u64 == to { length as u64 } else { length as u64 - 64 };
        }
    }
    assert!(readable > 1 << 20, "{readable} bytes of memory could be read");
    found
}
