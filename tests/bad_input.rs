//! What a site can get wrong: full disks, wrong files, wrong permissions, wrong configuration. Each is refused with a message
//! that names the file and the mend and with the documented exit code, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "crash_support/site.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod site;

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use sealtape_drivers::image::{ImageDrive, OpenMode};
use sealtape_drivers::medium::DriveIdentity;
use site::{Object, Site, close, ready, record};

#[test]
fn a_home_folder_that_is_in_use_is_left_alone() {
    if !ready() {
        return;
    }
    let site = Site::founded(str::to_owned);
    let before = fs::read(site.home().join("keyd/catalogue.db")).unwrap();
    site.refused(&["init"], 7, &["is not empty", &site.home().display().to_string(), "--home"]);
    assert!(fs::read(site.home().join("keyd/catalogue.db")).unwrap() == before);
    let other = site.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("precious"), "data").unwrap();
    let other_home = other.display().to_string();
    site.refused_in(&other_home, &["init"], 7, &["is not empty", "precious"]);
    assert_eq!(fs::read_to_string(other.join("precious")).unwrap(), "data");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    // A folder of nodes with something in it would be hidden by them.
    fs::write(site.home().join("nodes/precious"), "data").unwrap();
    let said = site.refused(&["run"], 1, &["nodes is not empty", "precious", "name an empty folder"]);
    assert!(!said.contains("Stack backtrace"), "{said}");
    assert_eq!(fs::read_to_string(site.home().join("nodes/precious")).unwrap(), "data");
}

#[test]
fn a_home_folder_with_too_long_a_path_is_refused_before_it_is_made() {
    if !ready() {
        return;
    }
    let site = Site::founded(str::to_owned);
    let long = site.path(&"h".repeat(100));
    let named = long.display().to_string();
    for command in ["init", "run"] {
        site.refused_in(&named, &[command], 7, &["107", "choose a shorter home folder"]);
    }
    assert!(!long.exists());
}

#[test]
fn a_configuration_that_is_wrong_is_refused_by_file_line_and_key() {
    if !ready() {
        return;
    }
    let site = Site::founded(str::to_owned);
    let file = site.home().join("sealtape.toml");
    let name = file.display().to_string();
    let good = fs::read_to_string(&file).unwrap();
    for (from, to, code, parts) in [
        ("max_block", "maxblock", 7, vec!["line 16", "unknown field `maxblock`", "did you mean `max_block`"]),
        ("[data_path]", "[data_path]\nbuffer = 5", 7, vec!["unknown field `buffer`"]),
        ("[keyd]", "[kyed]", 7, vec!["kyed"]),
        ("1MiB", "1MMB", 7, vec!["line 16", "\"1MMB\" is not a size"]),
        ("1MiB", "64GiB", 7, vec!["max_block of drive \"drive0\" is 64GiB", "512 to 16MiB"]),
        ("aes-256-gcm-siv", "aes-128", 7, vec!["unknown variant `aes-128`", "aes-256-gcm-siv"]),
        ("\"0660\"", "\"9999\"", 7, vec!["line 11", "\"9999\" are no permissions for a node"]),
        ("\"image\"", "\"usb\"", 7, vec!["unknown variant `usb`"]),
        ("\"image\"", "\"scsi\"", 7, vec!["needs serial"]),
        ("[keyd]", "[keyd", 7, vec!["line 4"]),
        ("{ file = \"keyd/user.pin\" }", "\"secretpin\"", 7, vec!["never the PIN itself"]),
        (
            "/usr/lib/softhsm/libsofthsm2.so",
            "/nowhere/lib.so",
            1,
            vec!["names the module /nowhere/lib.so", "was set up with"],
        ),
        ("token=sealtape", "token=other", 1, vec!["names the token pkcs11:token=other", "was set up with"]),
        ("suite = \"aes-256-gcm-siv\"", "suite = \"aes-256-gcm\"", 1, vec!["[pool.default] is not the policy"]),
        (
            "back_end = \"image\"",
            "back_end = \"image\"\nfault_plan = \"plan\"",
            1,
            vec!["cannot read the fault plan", "plan"],
        ),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&file, good.replacen(from, to, 1)).unwrap();
        let said = site.refused(&["run"], code, &parts);
        assert!(code != 7 || said.contains(&name), "{said}");
        assert!(!said.contains("secretpin") && !said.contains("Stack backtrace"), "{said}");
    }
    fs::write(&file, &good).unwrap();
    for (path, mode, mend) in
        [(&file, 0o644, "chmod 600"), (&file, 0o660, "chmod 600"), (&site.home(), 0o777, "chmod go-w")]
    {
        let right = path.metadata().unwrap().permissions();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        site.refused(&["run"], 7, &[&path.display().to_string(), mend, &format!("{mode:04o}")]);
        fs::set_permissions(path, right).unwrap();
    }
    fs::remove_file(&file).unwrap();
    site.refused(&["run"], 7, &[&name, "does not exist", "init"]);
}

#[test]
fn a_pin_that_others_may_read_is_not_used() {
    if !ready() {
        return;
    }
    let mut site = Site::labelled();
    site.done(&["volume", "unload", "drive0"]);
    site.stop();
    let pin = site.home().join("keyd/user.pin");
    fs::set_permissions(&pin, Permissions::from_mode(0o644)).unwrap();
    site.start();
    let name = pin.display().to_string();
    site.refused(&["hsm", "status"], 3, &[&name, "others may read it", "chmod 0600"]);
    let status = site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(status.contains("READ-ONLY") && status.contains("others may read it"), "{status}");
    assert!(!site.home().join("keyd/pin.latched").exists(), "it was not even tried");
    fs::set_permissions(&pin, Permissions::from_mode(0o600)).unwrap();
    site.done(&["volume", "unload", "drive0"]);
    let status = site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(!status.contains("READ-ONLY"), "{status}");
    site.stop();
}

#[test]
fn a_module_that_is_missing_is_named() {
    if !ready() {
        return;
    }
    let site = Site::founded(str::to_owned);
    let home = site.path("m");
    let named = home.display().to_string();
    site.refused_in(&named, &["init", "--module", "/nowhere/lib.so"], 3, &["/nowhere/lib.so is missing", "install"]);
    assert!(!home.exists(), "a failed set-up leaves nothing");
}

#[test]
fn what_is_no_cartridge_is_not_loaded() {
    if !ready() {
        return;
    }
    let mut site = Site::labelled();
    site.write(&[record(1, 4000)]);
    site.done(&["volume", "unload", "drive0"]);
    let text = site.path("text");
    fs::write(&text, "this is no image\n".repeat(1000)).unwrap();
    let empty = site.path("empty");
    fs::write(&empty, "").unwrap();
    let folder = site.path("folder");
    fs::create_dir(&folder).unwrap();
    let missing = site.path("missing");
    let image = fs::read(site.image()).unwrap();
    let short = site.path("short");
    fs::write(&short, &image[..1000]).unwrap();
    for (path, code, what) in [
        (&text, 8, "is not a Sealtape tape image"),
        (&empty, 8, "is not a Sealtape tape image"),
        (&folder, 8, "is not a Sealtape tape image"),
        (&short, 8, "short"),
        (&missing, 10, "missing"),
    ] {
        let name = path.display().to_string();
        site.refused(&["volume", "load", "drive0", &name], code, &[&name, what]);
    }
    assert_eq!(fs::read_to_string(&text).unwrap(), "this is no image\n".repeat(1000));
    // Another process has it: the message names that process.
    let identity = DriveIdentity { vendor: "X".into(), product: "X".into(), revision: "1".into(), serial: "1".into() };
    let mut other = ImageDrive::new(identity);
    other.insert(Path::new(&site.image()), OpenMode::ReadWrite).unwrap();
    let me = format!("process {}", std::process::id());
    site.refused(&["volume", "load", "drive0", &site.image()], 6, &[&site.image(), "in use by", &me]);
    site.refused(&["image", "dump", &site.image()], 6, &["in use by", &me]);
    drop(other);
    // Nothing of it stays in the drive, and nothing of the volume was changed.
    assert!(fs::read(site.image()).unwrap() == image);
    site.done(&["volume", "load", "drive0", &site.image()]);
    site.refused(&["volume", "load", "drive0", &site.image()], 6, &["is in the drive", "unload it first"]);
    site.refused(&["image", "create", &site.image(), "--capacity", "1M"], 2, &[&site.image(), "there already"]);
    assert!(site.read_all() == [Object::Record(record(1, 4000)), Object::Filemark]);
    site.stop();
}

#[test]
fn an_image_that_may_only_be_read_is_write_protected() {
    if !ready() {
        return;
    }
    let mut site = Site::labelled();
    site.write(&[record(1, 4000)]);
    site.done(&["volume", "unload", "drive0"]);
    let before = fs::read(site.image()).unwrap();
    fs::set_permissions(site.image(), Permissions::from_mode(0o400)).unwrap();
    let status = site.done(&["volume", "load", "drive0", &site.image()]);
    assert!(status.contains("write protected"), "{status}");
    let refused = File::options().write(true).open(site.node()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::EROFS as i32));
    let volume = site.json(&["drive", "status", "drive0"])["volume"]["uuid"].as_str().unwrap().to_owned();
    site.refused(&["volume", "label", "drive0", "V1", "--overwrite", &volume], 3, &["drive0", "write protected"]);
    assert!(site.read_all() == [Object::Record(record(1, 4000)), Object::Filemark]);
    site.done(&["volume", "unload", "drive0"]);
    assert!(fs::read(site.image()).unwrap() == before, "the image was changed");
    fs::set_permissions(site.image(), Permissions::from_mode(0o600)).unwrap();
    site.done(&["volume", "load", "drive0", &site.image()]);
    site.write(&[record(2, 4000)]);
    site.stop();
}

/// A small file system of its own, as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf) -> Option<Self> {
        fs::create_dir(&folder).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "small"]).arg(&folder).output().unwrap();
        if mounted.status.success() {
            return Some(Self(folder));
        }
        eprintln!("SKIPPED: no small tmpfs: {}", String::from_utf8_lossy(&mounted.stderr).trim());
        None
    }

    fn make_room(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=32m"]).arg(&self.0).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_under_the_image_costs_nothing_synchronised() {
    if !ready() {
        return;
    }
    let mut site = Site::founded(str::to_owned);
    let Some(disk) = SmallDisk::mount(site.path("small")) else { return };
    let image = disk.0.join("t.img").display().to_string();
    site.start();
    site.done(&["image", "create", &image, "--capacity", "256M"]);
    site.done(&["volume", "load", "drive0", &image]);
    site.done(&["volume", "label", "drive0", "V1"]);
    let noise = |number: u64| record(number * 2, 100_000);
    let safe: Vec<Vec<u8>> = (0..5).map(noise).collect();
    site.write(&safe);
    let mut file = File::options().write(true).open(site.node()).unwrap();
    let mut acknowledged = Vec::new();
    let mut error = None;
    for number in 100..400 {
        match file.write(&noise(number)) {
            Ok(length) => {
                assert_eq!(length, noise(number).len(), "records do not split");
                acknowledged.push(Object::Record(noise(number)));
            }
            Err(failed) => {
                error = failed.raw_os_error();
                break;
            }
        }
    }
    // It was told already.
    let _ = close(file);
    assert_eq!(error, Some(Errno::EIO as i32), "a full disk is no end of the medium: {}", site.status());
    let status = site.status();
    assert!(status.contains("No space left on device") || status.contains("no room"), "{status}");
    assert!(status.contains(&image), "{status}");
    // It was told; the next opener may hear of the close that failed.
    drop(File::open(site.node()));
    let mut expected: Vec<Object> = safe.into_iter().map(Object::Record).chain([Object::Filemark]).collect();
    let covered = expected.len();
    let found = site.read_all();
    assert!(found.starts_with(&expected), "{} objects of {covered}", found.len());
    expected.extend(acknowledged);
    expected.push(Object::Filemark);
    let whole = found.iter().zip(&expected).all(|(found, expected)| found == expected || *found == Object::Filemark);
    assert!(whole && found.len() <= expected.len(), "something that nobody wrote");
    // Room is made, and the host moves: it goes on.
    disk.make_room();
    assert!(site.mt(&["eod"]), "{}", site.status());
    site.write(&[noise(900)]);
    let mut all = found;
    all.extend([Object::Record(noise(900)), Object::Filemark]);
    assert!(site.read_all() == all, "{}", site.status());
    site.done(&["volume", "verify", "drive0"]);
    site.done(&["volume", "unload", "drive0"]);
    site.stop();
}
