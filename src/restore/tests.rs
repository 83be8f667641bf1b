use std::path::Path;

use sealtape_drivers::image::{CreateOptions, ImageDrive, OpenMode, create};
use sealtape_drivers::medium::DriveIdentity;
use sealtape_kms::secret::DataKey;

use super::*;
use crate::seal::{
    Compression, GenerationKeys, GenerationScope, Link, PlainRecord, RecordKind, RecordMark, SessionId, SessionSealer,
    Suite, VolumeKind,
};

const SCOPE: GenerationScope =
    GenerationScope { volume: Uuid::from_u128(5), partition: 0, generation: 2, suite: Suite::AES_256_GCM_SIV };

fn keys(byte: u8) -> GenerationKeys {
    GenerationKeys::new(DataKey::copy_from(&[byte; 32]).unwrap(), SCOPE)
}

/// Writes objects as a unit does; a session per file.
struct Writer {
    drive: ImageDrive,
    object: u64,
    filemarks: u64,
    ordinal: u32,
    last: Option<RecordMark>,
}

impl Writer {
    fn new(path: &Path) -> Self {
        create(path, &CreateOptions::new(64 << 20)).unwrap();
        let mut drive = drive(path, OpenMode::ReadWrite);
        let label = VolumeLabel {
            volume: SCOPE.volume,
            kind: VolumeKind::Tape,
            partition: 0,
            partitions: 1,
            label: None,
            barcode: None,
        };
        let label = label.encode().unwrap();
        let generation = GenerationRecord {
            scope: SCOPE,
            kind: VolumeKind::Tape,
            first_session_ordinal: 1,
            key_id: Uuid::from_u128(6),
            commitment: keys(1).commitment(),
            stanzas: Vec::new(),
        };
        drive.write(&label).unwrap();
        drive.write_filemarks(1, false).unwrap();
        drive.write(&generation.encode(&keys(1), &label).unwrap()).unwrap();
        Self { drive, object: 0, filemarks: 0, ordinal: 0, last: None }
    }

    /// A session that writes one file: blocks, then a filemark.
    fn file(&mut self, blocks: &[Vec<u8>]) {
        self.ordinal += 1;
        let link = self.last.map_or(Link::BEGINNING, |mark| mark.link_after());
        let session = SessionId([self.ordinal as u8; 16]);
        let mut sealer =
            SessionSealer::open(&keys(1), RecordKind::TapeBlock, session, self.ordinal, self.object, link).unwrap();
        for block in blocks {
            let mut plain = PlainRecord::in_buffer(Vec::new());
            plain.extend(block);
            let sealed = sealer.reserve(self.object, self.filemarks).unwrap().seal(plain, Compression::ZSTD).unwrap();
            self.drive.write(sealed.bytes()).unwrap();
            self.last = Some(*sealed.mark());
            self.object += 1;
        }
        self.filemark();
    }

    fn filemark(&mut self) {
        self.drive.write_filemarks(1, false).unwrap();
        self.object += 1;
        self.filemarks += 1;
    }
}

fn drive(path: &Path, mode: OpenMode) -> ImageDrive {
    let identity = DriveIdentity { vendor: "T".into(), product: "T".into(), revision: "1".into(), serial: "T1".into() };
    let mut drive = ImageDrive::new(identity);
    drive.insert(path, mode).unwrap();
    drive.load().unwrap();
    drive
}

/// Three files of three blocks each, of 2000 to 12000 bytes.
fn sealed(path: &Path) -> Vec<Vec<u8>> {
    let mut writer = Writer::new(path);
    let files: Vec<Vec<Vec<u8>>> = (0..3_u8)
        .map(|file| {
            (0..3_u8).map(|block| vec![file * 16 + block; 2000 + 1250 * usize::from(file * 3 + block)]).collect()
        })
        .collect();
    files.iter().for_each(|blocks| writer.file(blocks));
    writer.filemark();
    writer.drive.unload().unwrap();
    files.iter().map(|blocks| blocks.concat()).collect()
}

#[derive(Default)]
struct Files(TapeFiles);

impl Sink for Files {
    fn write(&mut self, file: u64, plain: &[u8]) -> io::Result<()> {
        match self.0.last_mut().filter(|(last, _)| *last == file) {
            Some((_, bytes)) => bytes.extend_from_slice(plain),
            None => self.0.push((file, plain.to_vec())),
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type TapeFiles = Vec<(u64, Vec<u8>)>;

fn run(path: &Path, selection: Selection, key: u8) -> (TapeFiles, Result<Restored, RestoreError>) {
    let mut files = Files::default();
    let mut drive = drive(path, OpenMode::ReadOnly);
    let outcome = restore(&mut drive, "t.tape", selection, |_, _| Ok(keys(key)), &mut files, |_| {});
    (files.0, outcome)
}

/// Writes over one byte of a physical object's payload in the image file.
fn change(path: &Path, physical: u64, at: u64) {
    use std::os::unix::fs::FileExt;
    let dump = sealtape_drivers::image::dump::Dump::open(path).unwrap();
    let object = dump.objects().map(Result::unwrap).find(|object| object.object == physical).unwrap();
    drop(dump);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    let at = object.offset + 48 + at;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn everything_or_one_file_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.tape");
    let files = sealed(&path);
    let (out, outcome) = run(&path, Selection::default(), 1);
    let restored = outcome.unwrap();
    assert!(out.iter().map(|(_, bytes)| bytes).eq(files.iter()));
    assert_eq!((restored.records, restored.filemarks, restored.end, restored.generation), (9, 4, 13, 2));
    for wanted in 0..3 {
        let (out, outcome) = run(&path, Selection { file: Some(wanted), ..Selection::default() }, 1);
        assert_eq!(outcome.unwrap().records, 3);
        assert!(out == [(wanted, files[wanted as usize].clone())], "file {wanted}");
    }
    let (out, outcome) = run(&path, Selection { file: Some(9), ..Selection::default() }, 1);
    assert!(matches!(outcome, Err(RestoreError::NoSuchFile { file: 9, found: 4, .. })) && out.is_empty());
}

#[test]
fn a_wrong_key_or_a_medium_that_is_not_sealed_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.tape");
    sealed(&path);
    let (out, outcome) = run(&path, Selection::default(), 2);
    let words = outcome.unwrap_err().to_string();
    assert!(words.contains("t.tape") && words.contains("wrong-key") && out.is_empty(), "{words}");
    let words = run(&path, Selection { partition: 1, ..Selection::default() }, 1).1.unwrap_err().to_string();
    assert!(words.contains("partition 1") && words.contains("does not exist"), "{words}");

    let blank = folder.path().join("blank.tape");
    create(&blank, &CreateOptions::new(1 << 20)).unwrap();
    assert!(run(&blank, Selection::default(), 1).1.unwrap_err().to_string().contains("blank"));
    let mut clear = drive(&blank, OpenMode::ReadWrite);
    clear.write(b"a clear block").unwrap();
    clear.unload().unwrap();
    drop(clear);
    assert!(run(&blank, Selection::default(), 1).1.unwrap_err().to_string().contains("in the clear"));
}

#[test]
fn what_stands_before_a_changed_record_is_restored_and_salvage_goes_on_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.tape");
    let files = sealed(&path);
    // Logical object 5: the second block of the second file.
    change(&path, 5 + HIDDEN_OBJECTS, 100);
    let (out, outcome) = run(&path, Selection::default(), 1);
    let words = outcome.unwrap_err().to_string();
    assert!(words.contains("t.tape"), "{words}");
    assert!(out[0].1 == files[0] && files[1].starts_with(&out[1].1) && out.len() == 2);

    let (out, outcome) = run(&path, Selection { salvage: true, ..Selection::default() }, 1);
    let restored = outcome.unwrap();
    assert_eq!((restored.records, restored.refused_total, restored.refused[0].0), (8, 1, 5));
    assert!(out[0].1 == files[0] && out[2].1 == files[2]);
    assert_eq!(out[1].1.len(), files[1].len() - (2000 + 1250 * 4));
}

#[test]
fn a_folder_is_new_or_empty_and_holds_a_file_per_tape_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.tape");
    let files = sealed(&path);
    let into = folder.path().join("out");
    let mut sink = Folder::new(&into).unwrap();
    let mut drive = drive(&path, OpenMode::ReadOnly);
    restore(&mut drive, "t", Selection::default(), |_, _| Ok::<_, RestoreError>(keys(1)), &mut sink, |_| {}).unwrap();
    assert_eq!(sink.files(), 3);
    for (number, bytes) in files.iter().enumerate() {
        assert!(std::fs::read(into.join(format!("file-0000{number}"))).unwrap() == *bytes);
    }
    assert_eq!(Folder::new(&into).err().unwrap().kind(), io::ErrorKind::DirectoryNotEmpty);
}
