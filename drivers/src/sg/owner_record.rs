//! What is remembered on disk while a drive is owned, for the start after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::device::ScsiAddress;
use super::ownership::OwnershipError;
use super::reservation::ReservationKey;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The file has three lines.
const MOST_BYTES: u64 = 4096;

/// Key and binding of an owned drive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnerRecord {
    /// The boot in which the key was made.
    pub(super) boot: String,
    pub(super) key: ReservationKey,
    /// The key before this one, which a reservation of ours may still have.
    pub(super) previous: Option<ReservationKey>,
    /// `st` was unbound from the device at this address.
    pub(super) unbound: Option<ScsiAddress>,
}

impl OwnerRecord {
    /// The same key as before in the same boot, so that what a crash left is taken over; a new one otherwise.
    pub(super) fn for_this_boot(before: Option<&Self>) -> Result<Self, OwnershipError> {
        let boot = fs::read_to_string(BOOT_ID).map_err(system(BOOT_ID))?.trim().to_owned();
        let previous = before.map(|before| before.key);
        if let Some(before) = before
            && before.boot == boot
        {
            return Ok(before.clone());
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| system("random key")(io::Error::other(error)))?;
        // Zero means "no key" everywhere.
        let key = ReservationKey(u64::from_ne_bytes(random).max(1));
        Ok(Self { boot, key, previous, unbound: None })
    }

    fn to_text(&self) -> String {
        let mut text = format!("boot {}\nkey {:016x}\n", self.boot, self.key.0);
        if let Some(previous) = self.previous {
            text.push_str(&format!("previous {:016x}\n", previous.0));
        }
        if let Some(address) = self.unbound {
            text.push_str(&format!("unbound {address}\n"));
        }
        text
    }

    fn from_text(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.split_once(' ').filter(|(key, _)| *key == name).map(|(_, value)| value))
        };
        let key = |name| {
            let key = field(name).map(|value| u64::from_str_radix(value, 16));
            key.map(|key| key.ok().filter(|key| *key != 0).map(ReservationKey))
        };
        Some(Self {
            boot: field("boot")?.to_owned(),
            key: key("key")??,
            previous: key("previous").flatten(),
            unbound: field("unbound").and_then(|address| address.parse().ok()),
        })
    }
}

/// The file of one drive's record. It is replaced as a whole.
#[derive(Clone, Debug)]
pub struct RecordFile {
    path: PathBuf,
}

impl RecordFile {
    /// A file in a folder that outlives a restart of the service, named after the drive.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(super) fn read(&self) -> Result<Option<OwnerRecord>, OwnershipError> {
        use io::Read;
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.explain(error)),
        };
        let mut text = String::new();
        file.take(MOST_BYTES).read_to_string(&mut text).map_err(|error| self.explain(error))?;
        let record = OwnerRecord::from_text(&text).ok_or_else(|| {
            let text = "not a record of an owned drive; delete it when no service uses the drive";
            self.explain(io::Error::new(io::ErrorKind::InvalidData, text))
        })?;
        Ok(Some(record))
    }

    pub(super) fn write(&self, record: &OwnerRecord) -> Result<(), OwnershipError> {
        let fresh = self.path.with_extension("new");
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(record.to_text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| self.explain(error))
    }

    pub(super) fn remove(&self) -> Result<(), OwnershipError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.explain(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn explain(&self, error: io::Error) -> OwnershipError {
        system(&self.path.display().to_string())(error)
    }
}

pub(super) fn system(what: &str) -> impl FnOnce(io::Error) -> OwnershipError + use<> {
    let what = what.to_owned();
    move |source| OwnershipError::System { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_written_and_keeps_its_key_for_this_boot() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::new(folder.path().join("drive.owner"));
        assert_eq!(file.read().unwrap(), None);
        let mut record = OwnerRecord::for_this_boot(None).unwrap();
        record.unbound = "3:0:0:0".parse().ok();
        file.write(&record).unwrap();
        let read = file.read().unwrap().unwrap();
        assert_eq!(read, record);
        assert_eq!(OwnerRecord::for_this_boot(Some(&read)).unwrap().key, record.key);
        let other_boot = OwnerRecord { boot: "another".into(), ..read };
        let fresh = OwnerRecord::for_this_boot(Some(&other_boot)).unwrap();
        assert_ne!(fresh.key, record.key);
        assert_eq!(fresh.previous, Some(record.key));
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.read().unwrap(), None);
    }

    #[test]
    fn a_damaged_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drive.owner");
        for text in ["", "boot x\n", "boot x\nkey 0\n", "boot x\nkey zz\n"] {
            fs::write(&path, text).unwrap();
            let told = RecordFile::new(&path).read().unwrap_err().to_string();
            assert!(told.contains("drive.owner") && told.contains("delete it"), "{told}");
        }
    }
}
