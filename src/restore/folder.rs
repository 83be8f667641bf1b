//! A folder of tape files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Sink;

/// Writes tape file N to `file-N` (five digits) in a folder of its own. What is there is never written over.
pub struct Folder {
    path: PathBuf,
    open: Option<(u64, BufWriter<File>)>,
    files: u64,
}

impl Folder {
    /// A folder that is new, or empty.
    ///
    /// # Errors
    /// When it is not empty ([`io::ErrorKind::DirectoryNotEmpty`]), or cannot be made.
    pub fn new(path: &Path) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read_dir(path)?.next().is_some() {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
            }
            other => other?,
        }
        Ok(Self { path: path.to_path_buf(), open: None, files: 0 })
    }

    /// Files that were written.
    pub fn files(&self) -> u64 {
        self.files
    }

    fn close(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some((_, file)) => file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all(),
            None => Ok(()),
        }
    }

    fn file(&mut self, number: u64) -> io::Result<&mut BufWriter<File>> {
        if self.open.as_ref().is_some_and(|(open, _)| *open != number) {
            self.close()?;
        }
        if self.open.is_none() {
            let path = self.path.join(format!("file-{number:05}"));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            self.files += 1;
            self.open = Some((number, BufWriter::with_capacity(1 << 20, file)));
        }
        self.open.as_mut().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Sink for Folder {
    fn write(&mut self, file: u64, plain: &[u8]) -> io::Result<()> {
        self.file(file)?.write_all(plain)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.close()?;
        File::open(&self.path)?.sync_all()
    }
}
