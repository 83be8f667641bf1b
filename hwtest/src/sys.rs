//! What has no safe interface: a child process between fork and exec, and the ioctls of the tape driver.

#![allow(
    unsafe_code,
    reason = "CommandExt::pre_exec is unsafe: the child of a threaded process may do little before exec; ioctl is unsafe for its pointers"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
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

/// `struct mtop`.
#[repr(C)]
struct Mtop {
    operation: i16,
    count: i32,
}

/// `struct mtpos`.
#[repr(C)]
struct Mtpos {
    block: nix::libc::c_long,
}

nix::ioctl_write_ptr!(mtioctop, b'm', 1, Mtop);
nix::ioctl_read!(mtiocpos, b'm', 3, Mtpos);

/// MTIOCTOP.
pub(crate) fn tape_operation(node: BorrowedFd<'_>, operation: i16, count: i32) -> io::Result<()> {
    // SAFETY: the kernel reads one `struct mtop`, which lives until the call returns; the descriptor is open.
    unsafe { mtioctop(node.as_raw_fd(), &Mtop { operation, count }) }.map(drop).map_err(io::Error::from)
}

/// MTIOCPOS.
pub(crate) fn tape_position(node: BorrowedFd<'_>) -> io::Result<u64> {
    let mut position = Mtpos { block: 0 };
    // SAFETY: the kernel writes one `struct mtpos`, which lives until the call returns; the descriptor is open.
    unsafe { mtiocpos(node.as_raw_fd(), &mut position) }?;
    u64::try_from(position.block).map_err(io::Error::other)
}
