//! What a child process does between fork and exec, which has no safe interface.

#![allow(
    unsafe_code,
    reason = "CommandExt::pre_exec is unsafe: the child of a threaded process may do little before exec"
)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid, setsid};

/// The child gets a session, and with it a process group, of its own: no key of the terminal reaches it.
pub(crate) fn own_session(command: &mut Command) {
    // SAFETY: setsid is async-signal-safe, and nothing allocates: an error carries a number only.
    unsafe { command.pre_exec(|| setsid().map(drop).map_err(io::Error::from)) };
}

/// As [`own_session`]; besides, the child is killed when the thread that starts it ends, and leaves no core dump.
pub(crate) fn own_session_until_we_end(command: &mut Command) {
    let parent = getpid();
    own_session(command);
    // SAFETY: prctl, setrlimit and getppid are system calls and async-signal-safe, and nothing allocates.
    unsafe {
        command.pre_exec(move || {
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            set_pdeathsig(Signal::SIGKILL)?;
            // It may have ended before the signal was set.
            if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
}
