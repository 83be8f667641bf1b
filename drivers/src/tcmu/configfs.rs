//! The kernel's target configuration: folders to make and remove, files to write, errors that name them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::TcmuError;

const CONFIGFS: &str = "/sys/kernel/config";
const TARGET: &str = "/sys/kernel/config/target";

/// `core/user_N/NAME`: a device.
pub(super) fn device(hba: u32, name: &str) -> PathBuf {
    self::hba(hba).join(name)
}

/// `core/user_N`: the devices that share a number.
pub(super) fn hba(hba: u32) -> PathBuf {
    Path::new(TARGET).join("core").join(format!("user_{hba}"))
}

/// `loopback`: where `tcm_loop` is configured.
pub(super) fn loopback() -> PathBuf {
    Path::new(TARGET).join("loopback")
}

/// All fabrics: whatever is beside `core`.
pub(super) fn target() -> &'static Path {
    Path::new(TARGET)
}

/// Sees to it that configfs is mounted and that `module` is in the kernel.
pub(super) fn prepare(module: &'static str) -> Result<(), TcmuError> {
    if !Path::new("/sys/module").join(module).exists() {
        return Err(TcmuError::Module { module });
    }
    // The module registers itself in configfs, so the folder is there when configfs is mounted.
    if !Path::new(TARGET).exists() {
        let path = Path::new(CONFIGFS);
        let mounted = mount(Some("configfs"), path, Some("configfs"), MsFlags::empty(), None::<&str>);
        mounted.map_err(|errno| TcmuError::Mount { path: path.to_owned(), source: errno.into() })?;
    }
    if Path::new(TARGET).exists() { Ok(()) } else { Err(TcmuError::Module { module: "target_core_mod" }) }
}

/// Makes a folder; `true` when it was not there before.
pub(super) fn make(path: &Path) -> Result<bool, TcmuError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(TcmuError::file("made", path, error)),
    }
}

/// Removes a folder; one that is gone is as good as removed.
pub(super) fn remove(path: &Path) -> Result<(), TcmuError> {
    gone(fs::remove_dir(path)).map_err(|error| TcmuError::file("removed", path, error))
}

/// Removes a symbolic link; one that is gone is as good as removed.
pub(super) fn unlink(path: &Path) -> Result<(), TcmuError> {
    gone(fs::remove_file(path)).map_err(|error| TcmuError::file("removed", path, error))
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a folder that others may share, when nothing is in it any more. `child` tells what counts.
pub(super) fn remove_if_unused(path: &Path, child: impl Fn(&str) -> bool) -> Result<(), TcmuError> {
    if entries(path)?.iter().any(|name| child(name)) {
        return Ok(());
    }
    match fs::remove_dir(path) {
        // Somebody made something in it since we looked.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) => Ok(()),
        other => gone(other).map_err(|error| TcmuError::file("removed", path, error)),
    }
}

/// Writes an attribute: one write, since the kernel acts on each.
pub(super) fn write(path: &Path, value: &str) -> Result<(), TcmuError> {
    fs::write(path, value).map_err(|error| TcmuError::file(format!("written {value:?}"), path, error))
}

/// Reads an attribute, without the end of its line.
pub(super) fn read(path: &Path) -> Result<String, TcmuError> {
    let text = fs::read_to_string(path).map_err(|error| TcmuError::file("read", path, error))?;
    Ok(text.trim_end().to_owned())
}

/// The names in a folder, in order; a folder that is not there has none.
pub(super) fn entries(path: &Path) -> Result<Vec<String>, TcmuError> {
    let failed = |error| TcmuError::file("read", path, error);
    let mut names = Vec::new();
    match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(folder) => {
            for entry in folder {
                // Names in these folders are ASCII; another one is none of ours.
                if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                    names.push(name);
                }
            }
        }
    }
    names.sort();
    Ok(names)
}
