//! What an image is stored in: a file, or in suites something that records or fails.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::pwritev;

use super::ImageError;

/// A cartridge's bytes. Bytes never written read as zero.
///
/// Between two [`Storage::sync`] any subset of the writes may be on the medium, each whole or in part.
pub trait Storage: Send {
    /// Reads at `offset`, and returns how many bytes there were before the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `parts` back to back at `offset`. After an error any part of it may have been written.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Everything written is on the medium when this returns. After an error nothing is known of
    /// what was written since the last success.
    fn sync(&self) -> io::Result<()>;

    /// Makes `length` bytes at `offset` read as zero, and gives their space back where that can be.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Whether it can only be read.
    fn read_only(&self) -> bool;
}

/// Reads all of `buffer` at `offset`; behind the end there are zeros.
pub(super) fn read_zero_filled(storage: &dyn Storage, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let read = storage.read_at(buffer, offset)?;
    buffer[read..].fill(0);
    Ok(())
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// To read and write; a file that may only be read becomes a write-protected cartridge.
    ReadWrite,
    /// To read only: the cartridge is write protected.
    ReadOnly,
}

/// A file, locked as long as this lives: exclusively to write, shared to read.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    read_only: bool,
}

impl FileStorage {
    /// Opens and locks an existing file.
    pub fn open(path: &Path, mode: OpenMode) -> Result<Self, ImageError> {
        let name = path.display().to_string();
        let failed = |source| ImageError::Io { what: "open", name: name.clone(), source };
        let metadata = path.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ImageError::NotAnImage { name, reason: "it is not a regular file".into() });
        }
        // Root may write a file without write permission: the mode bits are the cartridge's switch all the same.
        let (file, read_only) = if mode == OpenMode::ReadOnly || metadata.permissions().readonly() {
            (File::open(path), true)
        } else {
            match OpenOptions::new().read(true).write(true).open(path) {
                Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                    (File::open(path), true)
                }
                opened => (opened, false),
            }
        };
        Self::locked(file.map_err(failed)?, read_only, name)
    }

    /// Makes and locks a new file, readable by its owner only. An existing one is left alone.
    pub(super) fn create(path: &Path) -> Result<Self, ImageError> {
        use std::os::unix::fs::OpenOptionsExt;
        let name = path.display().to_string();
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => ImageError::Options {
                name: name.clone(),
                reason: "the file is there already; choose another name".into(),
            },
            _ => ImageError::Io { what: "create", name: name.clone(), source },
        })?;
        Self::locked(file, false, name)
    }

    fn locked(file: File, read_only: bool, name: String) -> Result<Self, ImageError> {
        let locked = if read_only { file.try_lock_shared() } else { file.try_lock() };
        match locked {
            Ok(()) => Ok(Self { file, read_only }),
            Err(TryLockError::WouldBlock) => Err(ImageError::Locked { name, holder: holder_of(&file) }),
            Err(TryLockError::Error(source)) => Err(ImageError::Io { what: "lock", name, source }),
        }
    }
}

/// Who holds a lock on `file`: what `/proc/locks` tells, which shows the processes of this namespace only.
fn holder_of(file: &File) -> String {
    let unknown = "another process (sealtaped, or a sealtape command)".to_string();
    let (Ok(metadata), Ok(locks)) = (file.metadata(), std::fs::read_to_string("/proc/locks")) else {
        return unknown;
    };
    let inode = format!(":{}", metadata.ino());
    // "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"
    let process = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let process = fields.get(4)?.parse::<u32>().ok().filter(|process| *process > 0)?;
        (fields.get(1) == Some(&"FLOCK") && fields.get(5)?.ends_with(&inode)).then_some(process)
    });
    match process {
        Some(process) => match std::fs::read_to_string(format!("/proc/{process}/comm")) {
            Ok(command) => format!("process {process} ({})", command.trim_end()),
            Err(_) => format!("process {process}"),
        },
        None => unknown,
    }
}

impl Storage for FileStorage {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let at = i64::try_from(offset).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
            match pwritev(&self.file, parts, at) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut parts, written);
                    offset += written as u64;
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let length = length.min(self.file.metadata()?.len().saturating_sub(offset));
        let too_large = |_| io::Error::from(ErrorKind::FileTooLarge);
        let (at, span) = (i64::try_from(offset).map_err(too_large)?, i64::try_from(length).map_err(too_large)?);
        if length == 0 {
            return Ok(());
        }
        match fallocate(
            &self.file,
            FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
            at,
            span,
        ) {
            Err(nix::errno::Errno::EOPNOTSUPP) => self.write_zeros(offset, length),
            other => Ok(other?),
        }
    }

    fn read_only(&self) -> bool {
        self.read_only
    }
}

impl FileStorage {
    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let end = offset + length;
        for at in (offset..end).step_by(zeros.len()) {
            self.file.write_all_at(&zeros[..zeros.len().min((end - at) as usize)], at)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_all_parts_and_reads_zero_behind_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let storage = FileStorage::create(&folder.path().join("file")).unwrap();
        storage.write_at(&mut [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")], 3).unwrap();
        let mut buffer = [0xff; 10];
        assert_eq!(storage.read_at(&mut buffer, 0).unwrap(), 8);
        read_zero_filled(&storage, &mut buffer, 0).unwrap();
        assert_eq!(buffer, *b"\0\0\0abcde\0\0");
    }

    #[test]
    fn discarded_bytes_read_as_zero() {
        let folder = tempfile::tempdir().unwrap();
        let storage = FileStorage::create(&folder.path().join("file")).unwrap();
        for way in ["punch", "zeros"] {
            storage.write_at(&mut [IoSlice::new(&[7; 20000])], 0).unwrap();
            match way {
                "punch" => storage.discard(100, u64::MAX / 4).unwrap(),
                _ => storage.write_zeros(100, 19900).unwrap(),
            }
            let mut buffer = [1; 20000];
            assert_eq!(storage.read_at(&mut buffer, 0).unwrap(), 20000);
            assert!(buffer[..100].iter().all(|b| *b == 7) && buffer[100..].iter().all(|b| *b == 0), "{way}");
        }
    }

    #[test]
    fn one_writer_or_many_readers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape.img");
        let writer = FileStorage::create(&path).unwrap();
        for mode in [OpenMode::ReadWrite, OpenMode::ReadOnly] {
            let error = FileStorage::open(&path, mode).unwrap_err().to_string();
            assert!(error.contains("tape.img is in use by"), "{error}");
            if Path::new("/proc/locks").exists() && error.contains("in use by process ") {
                assert!(error.contains(&std::process::id().to_string()), "{error}");
            }
        }
        drop(writer);
        let _reader = FileStorage::open(&path, OpenMode::ReadOnly).unwrap();
        let _second = FileStorage::open(&path, OpenMode::ReadOnly).unwrap();
        assert!(matches!(FileStorage::open(&path, OpenMode::ReadWrite), Err(ImageError::Locked { .. })));
    }

    #[test]
    fn a_file_without_write_permission_is_read_only_for_root_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape.img");
        drop(FileStorage::create(&path).unwrap());
        assert!(!FileStorage::open(&path, OpenMode::ReadWrite).unwrap().read_only());
        let mut permissions = path.metadata().unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&path, permissions).unwrap();
        assert!(FileStorage::open(&path, OpenMode::ReadWrite).unwrap().read_only());
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing = FileStorage::open(&folder.path().join("none.img"), OpenMode::ReadWrite).unwrap_err();
        assert!(missing.to_string().contains("none.img"), "{missing}");
        let directory = FileStorage::open(folder.path(), OpenMode::ReadWrite).unwrap_err();
        assert!(directory.to_string().contains("not a regular file"), "{directory}");
        let path = folder.path().join("there.img");
        std::fs::write(&path, "precious").unwrap();
        assert!(FileStorage::create(&path).unwrap_err().to_string().contains("there already"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
