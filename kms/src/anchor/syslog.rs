//! The system's log as an anchor: each checkpoint one message, for a log host that keeps it out of this machine's reach.
//!
//! It is written only: nothing is compared, and that the local daemon took a message does not say that it went anywhere.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use super::{Anchor, Fault, Receipt, Submission, Tree};
use crate::hex::Hex;

/// Facility authpriv (10), severity notice (5).
const PRIORITY: u8 = 10 * 8 + 5;
/// How long a full socket may hold us.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Syslog {
    socket: PathBuf,
}

impl Syslog {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }
}

/// The message. Without time and host: on the local socket the daemon sets both (as for messages of syslog(3) it may).
fn message(submission: &Submission) -> String {
    let checkpoint = &submission.checkpoint;
    format!(
        "<{PRIORITY}>sealtape-keyd[{}]: custody-checkpoint origin=\"{}\" size={} root={} key={}",
        std::process::id(),
        checkpoint.origin,
        checkpoint.size,
        Hex(checkpoint.root),
        Hex(submission.key.id()),
    )
}

impl Anchor for Syslog {
    fn submit(&mut self, submission: &Submission, _known: u64, _tree: &dyn Tree) -> Result<Receipt, Fault> {
        let send = || -> std::io::Result<()> {
            // Connected anew each time: the daemon may have been restarted.
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.socket)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.send(message(submission).as_bytes()).map(drop)
        };
        send().map_err(|e| Fault::away(format!("{}: {e}", self.socket.display())))?;
        Ok(Receipt::default())
    }
}
