//! The processes of a guest: started in a session of their own, and all of them gone at the end, however it comes.
//!
//! User-Mode Linux forks helpers and one process for each of the guest. They share the process group of the first one.
//! Should this process be killed, the kernel kills the first one (parent-death signal), and a guardian, a shell that waits for
//! the end of its input, kills the rest and removes the job folder.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::error::Error;
use crate::sys;

/// Killed processes that are still there after this hang in the kernel.
const LONGEST_DYING: Duration = Duration::from_secs(10);

const GUARDIAN: &str = r#"read -r word; [ "$word" = done ] || { kill -s KILL -- "-$1"; rm -rf -- "$2"; }"#;

pub(super) struct Group {
    first: Child,
    id: Pid,
    guardian: Option<(Child, ChildStdin)>,
    /// The first process has been waited for: its number, and the group's, may belong to others.
    over: bool,
}

impl Group {
    /// Starts `command`; `folder` is what the guardian removes if this process is killed.
    pub(super) fn start(mut command: Command, folder: &Path) -> Result<Self, Error> {
        sys::own_session_until_we_end(&mut command);
        let program = command.get_program().to_string_lossy().into_owned();
        let first = command.spawn().map_err(Error::host(format_args!("starting {program}")))?;
        let id = Pid::from_raw(first.id().cast_signed());
        let mut group = Self { first, id, guardian: None, over: false };

        let mut guardian = Command::new("/bin/sh");
        guardian.args(["-c", GUARDIAN, "sealtape-lab-guardian"]).arg(id.to_string()).arg(folder);
        guardian.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        sys::own_session(&mut guardian);
        let mut guardian = guardian.spawn().map_err(Error::host("starting the guest's guardian, /bin/sh"))?;
        group.guardian = guardian.stdin.take().map(|input| (guardian, input));
        Ok(group)
    }

    /// Whether the first process has ended. It stays a zombie, so that the group's number stays ours.
    pub(super) fn has_ended(&self) -> Result<bool, Error> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(self.id), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(false),
            Ok(_) => Ok(true),
            Err(error) => Err(Error::host("waiting for the guest")(error.into())),
        }
    }

    /// Kills what is left of the group, and returns when nothing of it runs any more.
    pub(super) fn end(mut self) -> Result<ExitStatus, Error> {
        self.kill()?;
        self.over = true;
        let status = self.first.wait().map_err(Error::host("waiting for the guest"))?;
        if let Some((mut guardian, mut input)) = self.guardian.take() {
            input.write_all(b"done\n").map_err(Error::host("dismissing the guest's guardian"))?;
            drop(input);
            guardian.wait().map_err(Error::host("waiting for the guest's guardian"))?;
        }
        Ok(status)
    }

    fn kill(&self) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            match killpg(self.id, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(Error::host(format_args!("killing process group {}", self.id))(error.into())),
            }
            let living = living(self.id)?;
            if living.is_empty() {
                return Ok(());
            }
            if began.elapsed() > LONGEST_DYING {
                return Err(Error::Left(living));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Group {
    /// After an error or a panic: the guardian, whose input ends here, sees to what this cannot.
    fn drop(&mut self) {
        if !self.over {
            let killed = self.kill().and_then(|()| self.first.wait().map_err(Error::host("waiting for the guest")));
            if let Err(error) = killed {
                eprintln!("lab: {error}");
            }
        }
        if let Some((mut guardian, input)) = self.guardian.take() {
            drop(input);
            if let Err(error) = guardian.wait() {
                eprintln!("lab: the guest's guardian: {error}");
            }
        }
    }
}

/// The processes of the group that are not zombies.
fn living(group: Pid) -> Result<Vec<i32>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(Error::path("/proc"))? {
        let entry = entry.map_err(Error::path("/proc"))?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // One that has ended since then has no such file.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name, in parentheses, may hold anything; after it come state, parent and group.
        let mut fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
        let dead = matches!(fields.next(), Some("Z" | "X" | "x") | None);
        let of_group = fields.nth(1) == Some(group.to_string().as_str());
        if of_group && !dead {
            found.push(id);
        }
    }
    Ok(found)
}
