//! Remembers, on disk, that a unit has acknowledged records which no synchronising command has covered yet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A file that exists, durably, from before the first unsynchronised acknowledgement until after the synchronising
/// command that covers the last. Found at start it says that acknowledged records may be lost.
#[derive(Debug)]
pub struct UnsynchronisedMark {
    path: PathBuf,
    set: bool,
}

impl UnsynchronisedMark {
    /// The mark of a unit at `path`, in a folder that exists.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let set = path.exists();
        Self { path, set }
    }

    /// Whether it is set; after a start, whether a former service left it.
    pub fn is_set(&self) -> bool {
        self.set
    }

    /// Sets it, durably.
    ///
    /// # Errors
    /// When the file cannot be written: then nothing may be acknowledged.
    pub fn set(&mut self, volume: Uuid, partition: u8) -> io::Result<()> {
        if self.set {
            return Ok(());
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&self.path)?;
        writeln!(file, "volume: {volume}\npartition: {partition}")?;
        file.sync_all()?;
        sync_folder(&self.path)?;
        self.set = true;
        Ok(())
    }

    /// Clears it. That it is gone needs not be durable: a mark too many makes a host rewind, no more.
    ///
    /// # Errors
    /// When the file cannot be removed; it stays set then.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.set {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => self.set = false,
            }
        }
        Ok(())
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}
