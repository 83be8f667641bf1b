//! What Sealtape writes, the independent reader reads: cartridges from the sealed unit, streams from the filter.

#[path = "format_support/corpus.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod case;
#[path = "support/catalogue.rs"]
#[allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "each suite uses its part of the support")]
mod catalogue;
#[path = "format_support/mod.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod support;

use std::path::Path;
use std::process::Command;

use catalogue::Catalogue;
use sealtape::filter::{self, NewStream};
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::seal::{Compression, GenerationKeys, GenerationScope, Suite};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape_drivers::image::{CreateOptions, ImageDrive, OpenMode, create};
use sealtape_drivers::medium::{DriveIdentity, Position, TapeDrive};
use sealtape_kms::secret::DataKey;
use uuid::Uuid;

/// What `reader.py` prints; `None` when there is no Python for it.
fn reader(folder: &Path, key: &[u8; 32], arguments: &[&str], file: &Path) -> Option<Vec<String>> {
    let Some(python) = std::env::var_os("SEALTAPE_PYTHON") else {
        eprintln!("skipped: SEALTAPE_PYTHON names no Python with the packages of docs/format/requirements.txt");
        return None;
    };
    let key_file = folder.join("key");
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&key_file, digits).expect("the key is written");
    let done = Command::new(&python)
        .arg(support::repository().join("docs/format/reader.py"))
        .arg("--key-file")
        .arg(&key_file)
        .args(arguments)
        .arg(file)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", python.display()));
    let (out, error) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "reader.py: {out}{error}");
    Some(out.lines().map(str::to_owned).collect())
}

/// A block of this length; every other one shrinks.
fn block(length: usize, fill: u8) -> Vec<u8> {
    let noise = |at: usize| ((at as u32 ^ u32::from(fill)).wrapping_mul(2_654_435_761) >> 13) as u8;
    (0..length).map(|at| if fill.is_multiple_of(2) { fill } else { noise(at) }).collect()
}

fn unit(image: &Path, catalogue: &Catalogue, folder: &Path) -> SealedTape {
    let [vendor, product, revision, serial] = ["SEALTAPE", "IMAGE", "1", "1"].map(String::from);
    let mut drive = ImageDrive::new(DriveIdentity { vendor, product, revision, serial });
    drive.insert(image, OpenMode::ReadWrite).expect("a cartridge");
    let options = UnitOptions {
        window: WindowLimits { records: 4, bytes: 1 << 20 },
        check_end_at_load: true,
        max_block: 1 << 20,
    };
    let pool = SealPool::start(2).expect("threads");
    let mark = UnsynchronisedMark::at(folder.join("mark"));
    SealedTape::new("drive0", Box::new(drive), Box::new(catalogue.clone()), pool, options, mark).expect("a unit")
}

/// The host's side of a partition: what was written and not written over.
#[derive(Default)]
struct Written(Vec<Option<Vec<u8>>>);

impl Written {
    fn block(&mut self, unit: &mut SealedTape, plain: Vec<u8>) {
        unit.write(&plain).expect("there is room");
        self.0.push(Some(plain));
    }

    fn filemark(&mut self, unit: &mut SealedTape) {
        unit.write_filemarks(1, false).expect("there is room");
        self.0.push(None);
    }

    fn lines(&self) -> Vec<String> {
        let objects = self.0.iter().enumerate().map(|(place, object)| match object {
            Some(plain) => format!("block {place} {}", case::digest(plain)),
            None => format!("filemark {place}"),
        });
        objects.chain(["end not proven".to_owned()]).collect()
    }
}

/// Sessions, an overwritten middle, and a second generation; all in one partition.
fn fill(unit: &mut SealedTape, partition: u8) -> Written {
    unit.locate(Position { partition, object: 0 }).expect("the partition");
    unit.write(b"a generation that is written over").expect("there is room");
    unit.locate(Position { partition, object: 0 }).expect("the partition");
    let mut written = Written::default();
    for (number, length) in [1, 511, 4096, 70_000, 300_000].into_iter().enumerate() {
        written.block(unit, block(length, partition * 40 + number as u8));
        if number == 2 {
            written.filemark(unit);
        }
    }
    unit.locate(Position { partition, object: 4 }).expect("the middle");
    written.0.truncate(4);
    written.block(unit, block(9000, 90));
    written.filemark(unit);
    written.filemark(unit);
    unit.rewind().expect("it rewinds");
    unit.locate(Position { partition, object: 6 }).expect("behind the last but one filemark");
    written.0.truncate(6);
    written.block(unit, block(12_345, 91));
    written.filemark(unit);
    written
}

fn cartridge(suite: Suite, compression: Compression) {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("cartridge");
    create(&image, &CreateOptions::new(64 << 20)).expect("a cartridge");
    let catalogue = Catalogue::new(suite, compression, 2);
    let mut unit = unit(&image, &catalogue, folder.path());
    unit.load_medium().expect("it loads");
    let label = unit.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing });
    let volume = label.expect("it is labelled").volume;
    let partitions = [0, 1].map(|partition| fill(&mut unit, partition));
    unit.unload().expect("it unloads");
    drop(unit);
    for (partition, written) in partitions.iter().enumerate() {
        let key = catalogue.data_key(volume, partition as u8);
        let Some(lines) = reader(folder.path(), &key, &["--partition", &partition.to_string()], &image) else { return };
        assert_eq!(lines, written.lines(), "{suite}, {compression}, partition {partition}");
    }
}

#[test]
fn cartridges_of_the_unit() {
    for (suite, compression) in Suite::ALL.into_iter().zip(Compression::ALL) {
        cartridge(suite, compression);
    }
}

fn stream(suite: Suite, compression: Compression, length: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, plain) = ([length as u8; 32], block(length, length as u8));
    let scope = GenerationScope { volume: Uuid::from_u128(77), partition: 0, generation: 1, suite };
    let stream = NewStream {
        keys: GenerationKeys::new(DataKey::copy_from(&key).expect("a page for the key"), scope),
        key_id: Uuid::from_u128(78),
        session_ordinal: 3,
        stanzas: Vec::new(),
        compression,
        threads: 2,
    };
    let mut sealed = Vec::new();
    filter::seal(&stream, &mut &plain[..], &mut sealed, |_| {}).expect("it is sealed");
    let file = folder.path().join("stream");
    std::fs::write(&file, &sealed).expect("the stream is written");
    let chunks = plain.chunks(sealtape::seal::stream::CHUNK_LEN).enumerate();
    let mut wanted: Vec<_> = chunks.map(|(place, chunk)| format!("block {place} {}", case::digest(chunk))).collect();
    wanted.push("final verified".into());
    let Some(lines) = reader(folder.path(), &key, &[], &file) else { return };
    assert_eq!(lines, wanted, "{suite}, {compression}, {length} bytes");
}

#[test]
fn streams_of_the_filter() {
    for (suite, compression) in Suite::ALL.into_iter().zip(Compression::ALL) {
        for length in [0, 1, 262_144, 600_001] {
            stream(suite, compression, length);
        }
    }
}
