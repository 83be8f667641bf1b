//! Cartridges as files of the file system.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sealtape_drivers::image::dump::{Dump, DumpedType};
use sealtape_drivers::image::{
    CreateOptions, ImageDrive, ImageError, ImageHeader, OpenMode, create, set_write_protect,
};
use sealtape_drivers::medium::{DriveErrorKind, Position, ReadOutcome, TapeDrive, Warning};
use tempfile::TempDir;

use crate::commands::identity;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn tape(&self, options: &CreateOptions) -> (PathBuf, ImageHeader) {
        let path = self.path("tape.img");
        let header = create(&path, options).expect("created");
        (path, header)
    }
}

fn load(path: &Path) -> ImageDrive {
    let mut drive = ImageDrive::new(identity());
    drive.insert(path, OpenMode::ReadWrite).expect("inserted");
    drive.load().expect("loaded");
    drive
}

#[test]
fn the_beginning_of_the_file_is_readable_text() {
    let folder = Folder::new();
    let (path, header) =
        folder.tape(&CreateOptions { barcode: Some("ABC123L9".into()), ..CreateOptions::new(1 << 30) });
    let mut drive = load(&path);
    assert_eq!(drive.cartridge(), Some(&header));
    drive.write(b"SEALTAPE VOLUME 1\nThis is a label.\n").unwrap();
    drive.eject().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"SEALTAPE IMAGE 1\n"));
    let text = String::from_utf8_lossy(&bytes[..4096]);
    assert!(text.contains(&format!("uuid: {}\n", header.uuid)) && text.contains("barcode: ABC123L9\n"), "{text}");
    assert_eq!(bytes[36864 + 48..][..18], *b"SEALTAPE VOLUME 1\n");
}

#[test]
fn what_was_written_is_there_after_eject_and_insert() {
    let folder = Folder::new();
    let (path, _) = folder.tape(&CreateOptions { second_partition: Some(1 << 20), ..CreateOptions::new(1 << 30) });
    let mut drive = load(&path);
    drive.write(b"hello").unwrap();
    drive.write_filemarks(2, true).unwrap();
    drive.locate(Position { partition: 1, object: 0 }).unwrap();
    drive.write(b"index").unwrap();
    drive.eject().unwrap();
    drive.insert(&path, OpenMode::ReadOnly).unwrap();
    drive.load().unwrap();
    let mut buffer = [0; 8];
    assert_eq!(drive.read(&mut buffer).unwrap(), ReadOutcome::Block { length: 5 });
    assert_eq!(drive.read(&mut buffer).unwrap(), ReadOutcome::Filemark);
    drive.eject().unwrap();

    let dump = Dump::open(&path).unwrap();
    let objects: Vec<_> = dump.objects().collect::<Result<_, _>>().unwrap();
    let listed: Vec<_> = objects.iter().map(|o| (o.partition, o.object, o.offset, o.object_type, o.length)).collect();
    let second = dump.partitions().nth(1).unwrap().base;
    let expected = [
        (0, 0, 36864, DumpedType::Block, 5),
        (0, 1, 36920, DumpedType::Filemark, 0),
        (0, 2, 36968, DumpedType::Filemark, 0),
        (1, 0, second, DumpedType::Block, 5),
    ];
    assert_eq!(listed, expected);
    assert!(objects.iter().all(|object| object.crc_ok && object.synchronised));
}

#[test]
fn the_file_is_sparse_and_a_long_erase_gives_space_back() {
    let folder = Folder::new();
    let (path, _) = folder.tape(&CreateOptions { second_partition: Some(1 << 20), ..CreateOptions::new(1 << 34) });
    let used = || path.metadata().unwrap().blocks() * 512;
    let mut drive = load(&path);
    drive.locate(Position { partition: 1, object: 0 }).unwrap();
    drive.write(b"far away").unwrap();
    drive.locate(Position { partition: 0, object: 0 }).unwrap();
    (0..8).for_each(|_| assert_eq!(drive.write(&[7; 1 << 20]).unwrap(), Warning::None));
    drive.write_filemarks(0, false).unwrap();
    let full = used();
    assert!((8 << 20..10 << 20).contains(&full), "{full} bytes used");
    drive.locate(Position { partition: 0, object: 1 }).unwrap();
    drive.erase(true).unwrap();
    assert!(used() < 3 << 20, "{} bytes used", used());
    drive.eject().unwrap();
    let dump = Dump::open(&path).unwrap();
    assert_eq!(dump.objects().count(), 2);
}

#[test]
fn a_loaded_cartridge_is_in_use_for_everybody_else() {
    let folder = Folder::new();
    let (path, _) = folder.tape(&CreateOptions::new(1 << 20));
    let mut first = load(&path);
    let mut second = ImageDrive::new(identity());
    let error = second.insert(&path, OpenMode::ReadWrite).unwrap_err();
    assert_eq!(error.kind, DriveErrorKind::NotReady);
    assert!(error.message.contains("tape.img is in use by"), "{error}");
    assert!(matches!(Dump::open(&path), Err(ImageError::Locked { .. })));
    assert!(matches!(set_write_protect(&path, true), Err(ImageError::Locked { .. })));
    first.unload().unwrap();
    assert!(matches!(Dump::open(&path), Err(ImageError::Locked { .. })), "it is still in the drive");
    first.eject().unwrap();
    second.insert(&path, OpenMode::ReadWrite).unwrap();
}

#[test]
fn the_switch_protects_and_releases() {
    let folder = Folder::new();
    let (path, _) = folder.tape(&CreateOptions::new(1 << 20));
    set_write_protect(&path, true).unwrap();
    let mut drive = load(&path);
    assert_eq!(drive.write(b"x").unwrap_err().kind, DriveErrorKind::WriteProtected);
    drive.eject().unwrap();
    set_write_protect(&path, false).unwrap();
    load(&path).write(b"x").unwrap();
}

#[test]
fn a_file_that_may_not_be_written_is_a_protected_cartridge() {
    let folder = Folder::new();
    let (path, _) = folder.tape(&CreateOptions::new(1 << 20));
    let mut permissions = path.metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let mut drive = load(&path);
    assert!(drive.medium_status().unwrap().write_protected);
    let error = drive.write(b"x").unwrap_err();
    assert!(error.message.contains("tape.img is write protected: the file may only be read"), "{error}");
}

#[test]
fn what_is_no_image_is_refused_with_its_name() {
    let folder = Folder::new();
    for (name, content) in
        [("empty", ""), ("text", "hello"), ("next", "SEALTAPE IMAGE 2\n"), ("cut", "SEALTAPE IMAGE 1\n")]
    {
        let path = folder.path(name);
        std::fs::write(&path, content).unwrap();
        let error = ImageDrive::new(identity()).insert(&path, OpenMode::ReadWrite).unwrap_err();
        assert!(error.message.contains(&format!("{name} is not a Sealtape tape image")), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
    let missing = ImageDrive::new(identity()).insert(&folder.path("none"), OpenMode::ReadWrite).unwrap_err();
    assert!(missing.to_string().contains("cannot open") && missing.to_string().contains("none"), "{missing}");
}

#[test]
fn create_refuses_what_cannot_be_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let good = CreateOptions::new(1 << 20);
    for (options, word) in [
        (CreateOptions { capacity: 4095, ..good.clone() }, "4096"),
        (CreateOptions { capacity: 1 << 61, ..good.clone() }, "capacity"),
        (CreateOptions { second_partition: Some(1 << 20), ..good.clone() }, "second partition"),
        (CreateOptions { early_warning: 1 << 20, ..good.clone() }, "early warning"),
        (CreateOptions { barcode: Some("line\nbreak".into()), ..good.clone() }, "barcode"),
        (CreateOptions { serial: Some(String::new()), ..good.clone() }, "serial number"),
    ] {
        let error = create(&folder.path("bad.img"), &options).unwrap_err().to_string();
        assert!(error.contains("bad.img") && error.contains(word), "{error}");
        assert!(!folder.path("bad.img").exists());
    }
    let (path, header) = folder.tape(&good);
    assert!(matches!(create(&path, &good), Err(ImageError::Options { .. })));
    assert_eq!(Dump::open(&path).unwrap().header(), &header);
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
}
