//! The folder before and after: stale mounts, folders in use, unmounting.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;

use super::mount::MountError;

/// What stands as the source of our mounts in `/proc/self/mountinfo`.
pub(super) const SOURCE: &str = "sealtape";
/// Dead mounts that can lie over one another before we suspect something else.
const MOST_STALE: usize = 16;

/// Makes `folder` fit to be mounted on: takes away what a killed service left there, and refuses
/// what is not ours. Returns its absolute path.
pub(super) fn prepare(folder: &Path) -> Result<PathBuf, MountError> {
    let absolute = std::path::absolute(folder).map_err(|error| MountError::folder(folder, error))?;
    for _ in 0..MOST_STALE {
        match fs::metadata(&absolute) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOTCONN as i32) => {
                if mounts(&absolute).last().is_some_and(|mount| mount.source != SOURCE) {
                    return Err(MountError::Foreign { folder: absolute });
                }
                tracing::warn!(folder = %absolute.display(), "unmounting what a killed service left on the folder");
                detach(&absolute).map_err(|error| MountError::Stale { folder: absolute.clone(), error })?;
            }
            Err(error) => return Err(MountError::folder(&absolute, error)),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(MountError::folder(&absolute, io::ErrorKind::NotADirectory.into()));
            }
            Ok(_) => return refuse_used(absolute),
        }
    }
    Err(MountError::Stale { folder: absolute, error: io::ErrorKind::ResourceBusy.into() })
}

fn refuse_used(folder: PathBuf) -> Result<PathBuf, MountError> {
    let folder = folder.canonicalize().map_err(|error| MountError::folder(&folder, error))?;
    if mounts(&folder).last().is_some_and(|mount| mount.source == SOURCE) {
        return Err(MountError::Served { folder });
    }
    let mut entries = fs::read_dir(&folder).map_err(|error| MountError::folder(&folder, error))?;
    match entries.next() {
        None => Ok(folder),
        Some(Ok(entry)) if is_node_name(&entry.file_name()) => Err(MountError::WrittenInClear { file: entry.path() }),
        Some(Ok(entry)) => Err(MountError::NotEmpty { found: entry.file_name(), folder }),
        Some(Err(error)) => Err(MountError::folder(&folder, error)),
    }
}

/// `st` or `nst` and a number: what a program creates when it writes to a node that is not there.
fn is_node_name(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix("nst").or_else(|| name.strip_prefix("st")));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

struct Mount {
    source: String,
}

/// The mounts on exactly this folder, the uppermost last.
fn mounts(folder: &Path) -> Vec<Mount> {
    // A system without /proc has no mounts to show; the checks above then rest on stat alone.
    fs::read_to_string("/proc/self/mountinfo").map(|table| mounts_in(&table, folder)).unwrap_or_default()
}

/// proc(5): `36 35 98:0 /root /mount/point options [optional]* - type source super-options`.
fn mounts_in(table: &str, folder: &Path) -> Vec<Mount> {
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        let source = right.split(' ').nth(1)?;
        (unescape(point) == folder.as_os_str().as_bytes()).then(|| Mount { source: source.to_owned() })
    };
    table.lines().filter_map(mount).collect()
}

/// Undoes the octal escapes for space, tab, newline and backslash.
fn unescape(field: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

/// Takes the uppermost mount off the folder, whoever uses it still.
pub(super) fn detach(folder: &Path) -> io::Result<()> {
    match umount2(folder, MntFlags::MNT_DETACH) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) if !geteuid().is_root() => fusermount(folder),
        Err(errno) => Err(errno.into()),
    }
}

/// As [`detach`], and ends the connection: requests that wait are answered ECONNABORTED.
pub(super) fn abort(folder: &Path, device_minor: u64) -> io::Result<()> {
    // Works for the user who mounted, too, where the control file system is mounted. Where it is
    // not, the end of this process closes the connection.
    let control = format!("/sys/fs/fuse/connections/{device_minor}/abort");
    if let Err(error) = fs::write(&control, "1") {
        tracing::debug!(%error, control, "the connection's control file cannot be written");
    }
    match umount2(folder, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) if !geteuid().is_root() => fusermount(folder),
        Err(errno) => Err(errno.into()),
    }
}

/// Users may unmount their own FUSE mounts through this helper.
fn fusermount(folder: &Path) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for helper in ["fusermount3", "fusermount"] {
        match Command::new(helper).args(["-u", "-z", "--"]).arg(folder).stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                last = io::Error::other(format!("{helper}: {}", String::from_utf8_lossy(&output.stderr).trim()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read_by_folder() {
        let table = "36 35 98:0 / /run/a\\040b rw,nosuid shared:1 - fuse sealtape rw,user_id=0\n\
                     37 35 0:5 / /run rw - tmpfs tmpfs rw\n\
                     38 35 98:0 / /run/a\\040b rw - fuse other rw\n";
        let sources: Vec<String> = mounts_in(table, Path::new("/run/a b")).into_iter().map(|m| m.source).collect();
        assert_eq!(sources, ["sealtape", "other"]);
        assert!(mounts_in(table, Path::new("/run/a")).is_empty());
        assert_eq!(unescape("a\\134b\\"), b"a\\b\\");
    }

    #[test]
    fn folders_that_cannot_serve_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(prepare(folder.path()).is_ok());
        fs::write(folder.path().join("report.txt"), "x").unwrap();
        let error = prepare(folder.path()).unwrap_err().to_string();
        assert!(error.contains("report.txt") && error.contains(&*folder.path().to_string_lossy()), "{error}");
        fs::remove_file(folder.path().join("report.txt")).unwrap();
        fs::write(folder.path().join("nst0"), "plain").unwrap();
        let error = prepare(folder.path()).unwrap_err().to_string();
        assert!(error.contains("clear text") && error.contains("nst0"), "{error}");
        assert!(!is_node_name(OsStr::new("start")) && !is_node_name(OsStr::new("nst")));
        let missing = folder.path().join("missing");
        let error = prepare(&missing).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
        assert!(prepare(&folder.path().join("nst0")).is_err());
    }
}
