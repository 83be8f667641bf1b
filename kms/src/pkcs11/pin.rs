//! Where the PIN comes from, and the latch that keeps a wrong one from locking the token.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::TokenError;
use crate::secret::Pin;
use crate::time;

/// Asks a person; the text says for which token.
pub type PinPrompt = dyn Fn(&str) -> io::Result<Pin> + Send + Sync;

/// Where the PIN of a token comes from that is enrolled in a running service; kept with its enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinFrom {
    /// A file that only the service's user can read.
    File(PathBuf),
    /// A systemd credential of this name.
    Credential(String),
}

impl PinFrom {
    /// As a source.
    #[must_use]
    pub fn source(&self) -> PinSource {
        match self {
            Self::File(path) => PinSource::File(path.clone()),
            Self::Credential(name) => PinSource::Named(name.clone()),
        }
    }
}

/// Where the PIN comes from.
#[derive(Clone)]
pub enum PinSource {
    /// `pin` in `$CREDENTIALS_DIRECTORY` (systemd `LoadCredential=`).
    Credential,
    /// Another credential.
    Named(String),
    /// A file that only its owner can read.
    File(PathBuf),
    /// A person.
    Prompt(Arc<PinPrompt>),
}

impl fmt::Debug for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential => f.write_str("Credential"),
            Self::Named(name) => f.debug_tuple("Named").field(name).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Prompt(_) => f.write_str("Prompt"),
        }
    }
}

impl PinSource {
    /// Takes the PIN.
    ///
    /// # Errors
    /// [`TokenError::PinSource`], naming the file and the mend.
    pub fn take(&self, token: &str) -> Result<Pin, TokenError> {
        match self {
            Self::Credential => credential("pin"),
            Self::Named(name) => credential(name),
            Self::File(path) => read_pin_file(path),
            Self::Prompt(ask) => {
                ask(token).map_err(|e| TokenError::PinSource { source_name: "the prompt".into(), what: e.to_string() })
            }
        }
    }
}

/// A systemd credential. Its folder is guarded by the service manager, which shows its access list as permissions of the group: they
/// mean nothing here.
fn credential(name: &str) -> Result<Pin, TokenError> {
    let fault = |what: String| TokenError::PinSource { source_name: format!("the systemd credential {name:?}"), what };
    if name.is_empty() || name.contains('/') {
        return Err(fault("the name of a credential is not empty and has no '/' in it".into()));
    }
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        fault(format!("CREDENTIALS_DIRECTORY is not set; add LoadCredential={name}:FILE to the unit"))
    })?;
    let mut file = File::open(Path::new(&dir).join(name))
        .map_err(|e| fault(format!("{e}; add LoadCredential={name}:FILE to the unit and restart it")))?;
    Pin::read_from(&mut file).map_err(|e| fault(e.to_string()))
}

/// Reads a PIN from a file that belongs to this user or root and that nobody else can read or write.
///
/// # Errors
/// [`TokenError::PinSource`], naming the file and the mend.
pub fn read_pin_file(path: &Path) -> Result<Pin, TokenError> {
    let fault = |what: String| TokenError::PinSource { source_name: path.display().to_string(), what };
    let mut file = File::open(path).map_err(|e| fault(e.to_string()))?;
    let meta = file.metadata().map_err(|e| fault(e.to_string()))?;
    if !meta.is_file() {
        return Err(fault("it is no regular file".into()));
    }
    let me = nix::unistd::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(fault(format!("it belongs to user {}; give it to user {me}: chown {me}", meta.uid())));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(fault(format!("others may read it (mode {:04o}); run: chmod 0600", meta.mode() & 0o7777)));
    }
    Pin::read_from(&mut file).map_err(|e| fault(e.to_string()))
}

/// Writes a PIN into a new file of mode 0600.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_pin_file(path: &Path, pin: &Pin) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(pin.expose())?;
    file.sync_all()
}

/// The mark of a rejected PIN on disk. While it stands, nothing logs in.
#[derive(Debug, Clone)]
pub struct PinLatch {
    file: PathBuf,
}

impl PinLatch {
    /// The latch kept in `file`.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into() }
    }

    /// The latch of another token of the installation.
    #[must_use]
    pub fn of(&self, token: &str) -> Self {
        let mut file = self.file.clone().into_os_string();
        file.push(format!(".{token}"));
        Self { file: file.into() }
    }

    /// Refuses while the latch stands, or cannot be read.
    ///
    /// # Errors
    /// [`TokenError::PinLatched`]
    pub fn check(&self) -> Result<(), TokenError> {
        match std::fs::read_to_string(&self.file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            found => Err(TokenError::PinLatched {
                file: self.file.clone(),
                since: found
                    .ok()
                    .and_then(|t| t.lines().next().map(str::to_owned))
                    .unwrap_or_else(|| "an unknown time".into()),
            }),
        }
    }

    /// Whether it stands.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.check().is_err()
    }

    /// Sets it, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set(&self, token: &str) -> Result<(), TokenError> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.file)?;
            writeln!(file, "{}\nThe PIN for {token} was rejected. Put it right, then remove this file", time::now())?;
            file.sync_all()?;
            if let Some(dir) = self.file.parent() {
                File::open(dir)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|e| TokenError::Worker {
            what: format!("the PIN was rejected and this cannot be noted in {}: {e}", self.file.display()),
        })
    }

    /// Notes that a login begins, so that one that is cut off (a crash, a kill) is known at the next; gives whether the last one was.
    pub(super) fn begin_login(&self) -> Result<bool, TokenError> {
        let file = self.mark();
        let write = || -> io::Result<bool> {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(true),
                made => made?.sync_all()?,
            }
            if let Some(dir) = file.parent() {
                File::open(dir)?.sync_all()?;
            }
            Ok(false)
        };
        write().map_err(|e| TokenError::Worker {
            what: format!("that a login begins cannot be noted in {}: {e}", file.display()),
        })
    }

    /// The login ended one way or the other. A mark that stays costs a look at the token's flags, nothing else.
    pub(super) fn end_login(&self) {
        if let Err(e) = remove(&self.mark()) {
            tracing::warn!("removing {}: {e}", self.mark().display());
        }
    }

    fn mark(&self) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(".login");
        name.into()
    }

    /// Clears it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        remove(&self.mark())?;
        remove(&self.file)
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pin_file_that_others_can_read_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        write_pin_file(&path, &Pin::copy_from(b"1234").unwrap()).unwrap();
        assert_eq!(read_pin_file(&path).unwrap().expose(), b"1234");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let text = read_pin_file(&path).unwrap_err().to_string();
        assert!(
            text.contains(path.to_str().unwrap()) && text.contains("chmod 0600") && !text.contains("1234"),
            "{text}"
        );
        assert!(write_pin_file(&path, &Pin::copy_from(b"1").unwrap()).is_err());
    }

    #[test]
    fn the_latch_stands_until_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let latch = PinLatch::new(dir.path().join("pin.latched"));
        assert!(!latch.is_set());
        assert!(!latch.begin_login().unwrap());
        assert!(latch.begin_login().unwrap(), "the first one did not end");
        latch.end_login();
        assert!(!latch.begin_login().unwrap());
        latch.set("pkcs11:token=a").unwrap();
        assert!(PinLatch::new(dir.path().join("pin.latched")).is_set());
        latch.clear().unwrap();
        latch.clear().unwrap();
        assert!(!latch.is_set());
    }
}
