//! The real files that the demo writes, and proof that they came back.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Where every Debian has real text and real programs.
const SOURCES: &[&str] =
    &["/usr/share/doc", "/usr/share/perl", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/bin"];

/// Larger files would leave no room for many small ones.
const LARGEST: u64 = 24 << 20;

/// Files of this machine, by their paths relative to `/`.
pub(crate) struct Sample {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) bytes: u64,
}

impl Sample {
    /// Takes about the same from each source until `limit` bytes are reached.
    pub(crate) fn choose(limit: u64) -> Result<Self> {
        let mut sample = Self { files: Vec::new(), bytes: 0 };
        let sources: Vec<&Path> = SOURCES.iter().map(Path::new).filter(|source| source.is_dir()).collect();
        for (index, source) in sources.iter().enumerate() {
            let share = limit * (index as u64 + 1) / sources.len() as u64;
            sample.take_from(source, share)?;
        }
        if sample.files.is_empty() {
            bail!("no files to write: looked in {}", SOURCES.join(", "));
        }
        Ok(sample)
    }

    fn take_from(&mut self, folder: &Path, limit: u64) -> Result<()> {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .with_context(|| folder.display().to_string())?;
        entries.sort();
        for path in entries {
            if self.bytes >= limit {
                break;
            }
            let metadata = path.symlink_metadata().with_context(|| path.display().to_string())?;
            if metadata.is_dir() {
                self.take_from(&path, limit)?;
            } else if metadata.is_file()
                && (1..=LARGEST).contains(&metadata.len())
                && metadata.nlink() == 1
                && File::open(&path).is_ok()
            {
                self.bytes += metadata.len();
                self.files.push(path.strip_prefix("/").unwrap_or(&path).to_owned());
            }
        }
        Ok(())
    }

    /// Writes the names for `tar --null --files-from`.
    pub(crate) fn write_list(&self, list: &Path) -> Result<()> {
        let mut names = Vec::new();
        for file in &self.files {
            names.extend_from_slice(file.as_os_str().as_bytes());
            names.push(0);
        }
        std::fs::write(list, names).with_context(|| list.display().to_string())
    }

    /// SHA-256 of every file below `folder`.
    pub(crate) fn digests(&self, folder: &Path) -> Result<BTreeMap<PathBuf, [u8; 32]>> {
        self.files.iter().map(|file| Ok((file.clone(), digest(&folder.join(file))?))).collect()
    }
}

pub(crate) fn digest(path: &Path) -> Result<[u8; 32]> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut sha256 = Sha256::new();
    std::io::copy(&mut file, &mut Writer(&mut sha256)).with_context(|| path.display().to_string())?;
    Ok(sha256.finalize().into())
}

struct Writer<'a>(&'a mut Sha256);

impl std::io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
