//! The home folder: where it is, and what stands where in it.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use thiserror::Error;

/// `sun_path` of a Unix socket holds 108 bytes, the closing NUL included.
const LONGEST_SOCKET_PATH: usize = 107;
/// The service with the longest name: the sockets of the others are shorter.
const LONGEST_NAME: &str = "sealtape-keyd";

/// The home folder of one installation: configuration, state of both services, sockets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home(PathBuf);

/// No usable home folder.
#[derive(Debug, Error)]
pub enum HomeError {
    /// Nothing says where the home folder is.
    #[error("no home folder: $SEALTAPE_HOME, $XDG_STATE_HOME and $HOME are all unset; name it with --home DIR")]
    Unnamed,
    /// The working folder, which a relative path starts from, is gone.
    #[error(
        "the home folder {path} is a relative path, and the working folder cannot be read ({source}); name it with an absolute path"
    )]
    Relative {
        /// The path as given.
        path: PathBuf,
        /// Why the working folder is unknown.
        source: std::io::Error,
    },
    /// A socket in it would have a path that the kernel cannot carry.
    #[error(
        "the socket {path} has a path of {length} bytes, and Linux takes at most {LONGEST_SOCKET_PATH}; choose a shorter home folder (--home DIR or $SEALTAPE_HOME)"
    )]
    SocketPathTooLong {
        /// The socket.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
}

impl Home {
    /// A home folder that was named, else `$SEALTAPE_HOME`, else `/var/lib/sealtape` for root and
    /// `$XDG_STATE_HOME/sealtape` or `~/.local/state/sealtape` for others. The path becomes absolute.
    /// Refused when the sockets in it would have too long a path.
    pub fn find(named: Option<&Path>) -> Result<Self, HomeError> {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let path = match named {
            Some(path) => path.to_path_buf(),
            None => match variable("SEALTAPE_HOME") {
                Some(path) => path,
                None if geteuid().is_root() => PathBuf::from("/var/lib/sealtape"),
                None => variable("XDG_STATE_HOME")
                    .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
                    .ok_or(HomeError::Unnamed)?
                    .join("sealtape"),
            },
        };
        let absolute =
            std::path::absolute(&path).map_err(|source| HomeError::Relative { path: path.clone(), source })?;
        let home = Self(absolute);
        check_socket_path(&home.notify_socket(LONGEST_NAME))?;
        Ok(home)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.0.join("sealtape.toml")
    }

    /// The folder of the sockets.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// Makes the folder of the sockets where it does not exist. Others may pass through it: each socket asks the kernel who
    /// its peer is.
    pub fn make_run(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o711).create(self.run()) {
            Ok(()) => std::fs::set_permissions(self.run(), Permissions::from_mode(0o711)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The data path's control socket.
    pub fn data_socket(&self) -> PathBuf {
        self.run().join("data.sock")
    }

    /// The socket on which the key authority serves the data path.
    pub fn keys_socket(&self) -> PathBuf {
        self.run().join("keys.sock")
    }

    /// The socket on which the key authority serves operators and auditors.
    pub fn keyd_socket(&self) -> PathBuf {
        self.run().join("keyd.sock")
    }

    /// The socket on which the key authority serves pipes.
    pub fn stream_socket(&self) -> PathBuf {
        self.run().join("stream.sock")
    }

    /// The socket on which `sealtape run` hears that a service is ready.
    pub fn notify_socket(&self, service: &str) -> PathBuf {
        self.run().join(format!("{service}.notify"))
    }

    /// A path of the configuration: absolute as it stands, relative to the home folder otherwise.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }
}

/// Refuses a socket path that does not fit `sun_path`.
pub fn check_socket_path(path: &Path) -> Result<(), HomeError> {
    let length = path.as_os_str().as_bytes().len();
    if length > LONGEST_SOCKET_PATH {
        return Err(HomeError::SocketPathTooLong { path: path.to_path_buf(), length });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_by_name() {
        let long = PathBuf::from("/").join("h".repeat(100));
        let error = Home::find(Some(&long)).unwrap_err();
        assert!(matches!(error, HomeError::SocketPathTooLong { .. }));
        assert!(error.to_string().contains("--home"), "{error}");
        let just = "h".repeat(LONGEST_SOCKET_PATH - "//run/sealtape-keyd.notify".len());
        assert!(Home::find(Some(&PathBuf::from("/").join(just))).is_ok());
    }

    #[test]
    fn paths_of_the_configuration_start_at_the_home_folder() {
        let home = Home::find(Some(Path::new("/srv/tape"))).unwrap();
        assert_eq!(home.resolve(Path::new("nodes")), Path::new("/srv/tape/nodes"));
        assert_eq!(home.resolve(Path::new("/dev/tapes")), Path::new("/dev/tapes"));
    }
}
