//! `sealtape image`: cartridges are made, listed and refused, with the real program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use sealtape_drivers::image::{ImageDrive, OpenMode};
use sealtape_drivers::medium::{DriveIdentity, TapeDrive};

fn sealtape(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sealtape")).args(arguments).output().unwrap()
}

fn lines(arguments: &[&str]) -> Vec<serde_json::Value> {
    let output = sealtape(arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn refused(arguments: &[&str], code: i32, parts: &[&str]) {
    let output = sealtape(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "no \"{part}\" in {text}");
    }
}

fn create(file: &Path, more: &[&str]) -> Output {
    let arguments = ["image", "create", file.to_str().unwrap(), "--capacity", "64MiB"];
    sealtape(&[&arguments, more].concat())
}

fn drive_with(file: &Path) -> ImageDrive {
    let identity = DriveIdentity { vendor: "T".into(), product: "T".into(), revision: "1".into(), serial: "T1".into() };
    let mut drive = ImageDrive::new(identity);
    drive.insert(file, OpenMode::ReadWrite).unwrap();
    drive.load().unwrap();
    drive
}

#[test]
fn what_a_drive_wrote_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tape");
    let path = file.to_str().unwrap();
    let output = create(&file, &["--barcode", "A00001L9", "--second-partition", "16MiB"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let mut drive = drive_with(&file);
    drive.write(&[7; 3000]).unwrap();
    drive.write_filemarks(2, false).unwrap();
    drive.write(&[8; 100]).unwrap();
    drive.unload().unwrap();
    drop(drive);

    let dumped = lines(&["--json", "image", "dump", path]);
    assert_eq!(dumped.len(), 1);
    assert_eq!(dumped[0]["barcode"], "A00001L9");
    assert_eq!(dumped[0]["capacity_bytes"], 64 << 20);
    let first = &dumped[0]["partitions"][0];
    assert_eq!((&first["blocks"], &first["filemarks"], &first["block_bytes"]), (&2.into(), &2.into(), &3100.into()));
    assert_eq!(dumped[0]["partitions"][1]["capacity_bytes"], 16 << 20);
    assert_eq!(dumped[0]["partitions"][1]["blocks"], 0);

    let objects = lines(&["--json", "image", "dump", "--objects", path]);
    let kinds: Vec<_> = objects[..4].iter().map(|object| object["is"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["block", "filemark", "filemark", "block"]);
    assert_eq!(objects[3]["length"], 100);

    let text = String::from_utf8(sealtape(&["image", "dump", path]).stdout).unwrap();
    assert!(text.contains("A00001L9") && text.contains("2 blocks"), "{text}");
}

#[test]
fn a_changed_byte_is_named_and_exits_with_4() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tape");
    let path = file.to_str().unwrap();
    assert_eq!(create(&file, &[]).status.code(), Some(0));
    let mut drive = drive_with(&file);
    drive.write(&[7; 3000]).unwrap();
    drive.unload().unwrap();
    drop(drive);
    let at = lines(&["--json", "image", "dump", "--objects", path])[0]["offset"].as_u64().unwrap();
    let image = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    image.write_all_at(b"?", at + 48 + 1000).unwrap();
    refused(&["image", "dump", path], 4, &[path, "1 wrong checksums", "next: "]);
    assert_eq!(lines(&["--json", "image", "dump", "--objects", path])[0]["checksum"], "wrong");
}

#[test]
fn the_write_protect_switch_is_set_and_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tape");
    let path = file.to_str().unwrap();
    assert_eq!(create(&file, &[]).status.code(), Some(0));
    for (switch, protected) in [("on", true), ("off", false)] {
        assert_eq!(sealtape(&["image", "protect", path, switch]).status.code(), Some(0));
        assert_eq!(lines(&["--json", "image", "dump", path])[0]["write_protected"], protected);
        assert_eq!(drive_with(&file).medium_status().unwrap().write_protected, protected);
    }
}

#[test]
fn refusals_name_the_file_and_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tape");
    let path = file.to_str().unwrap();
    refused(&["image", "dump", path], 10, &[path]);
    refused(&["image", "create", path, "--capacity", "some"], 2, &["\"some\" is not a size"]);
    refused(&["image", "create", path, "--capacity", "64M", "--barcode", "\u{1}"], 2, &["barcode"]);
    refused(&["image", "create", "/no/such/folder/a", "--capacity", "64M"], 10, &["/no/such/folder/a"]);
    assert!(!file.exists());
    assert_eq!(create(&file, &[]).status.code(), Some(0));
    refused(
        &["image", "create", path, "--capacity", "64M"],
        2,
        &[path, "is there already", "next: choose another name"],
    );
    let mut drive = drive_with(&file);
    refused(&["image", "dump", path], 6, &[path, "in use"]);
    drive.eject().unwrap();
    let other = folder.path().join("other");
    std::fs::write(&other, vec![b'x'; 10_000]).unwrap();
    refused(&["image", "dump", other.to_str().unwrap()], 8, &["not a Sealtape tape image"]);
}
