//! Readiness, as systemd has it (sd_notify(3)): one datagram to `$NOTIFY_SOCKET`.
//!
//! `sealtape run` listens in the same way as systemd does, so that a service has one way of saying that it is ready.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells the service manager that this service is ready. Without a service manager nothing is told.
pub fn ready() -> io::Result<()> {
    tell(std::env::var_os(VARIABLE), "READY=1\n")
}

/// Tells the service manager that this service stops by its own will.
pub fn stopping() -> io::Result<()> {
    tell(std::env::var_os(VARIABLE), "STOPPING=1\n")
}

/// Whether a datagram says that its sender is ready.
pub fn says_ready(datagram: &[u8]) -> bool {
    datagram.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

fn tell(socket: Option<OsString>, state: &str) -> io::Result<()> {
    let Some(socket) = socket.filter(|socket| !socket.is_empty()) else { return Ok(()) };
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> Vec<u8> {
        let mut datagram = [0; 128];
        let length = listener.recv(&mut datagram).unwrap();
        datagram[..length].to_vec()
    }

    #[test]
    fn path_and_abstract_sockets_hear_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.sock");
        let listener = UnixDatagram::bind(&path).unwrap();
        tell(Some(path.into()), "READY=1\n").unwrap();
        assert!(says_ready(&heard(&listener)));

        let name = format!("sealtape-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        tell(Some(format!("@{name}").into()), "STATUS=x\nSTOPPING=1\n").unwrap();
        assert!(!says_ready(&heard(&listener)));
    }

    #[test]
    fn nobody_to_tell_is_no_error_a_dead_socket_is() {
        tell(None, "READY=1\n").unwrap();
        tell(Some("/nonexistent/n.sock".into()), "READY=1\n").unwrap_err();
    }
}
