//! The magnetic tape ioctls of Linux (`<linux/mtio.h>`).

#![allow(unsafe_code, reason = "ioctl has no safe interface")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc::{c_int, c_long, c_short};

/// `struct mtop`.
#[repr(C)]
struct Operation {
    operation: c_short,
    count: c_int,
}

/// `struct mtget`.
#[repr(C)]
#[derive(Default, Debug)]
pub(crate) struct TapeStatus {
    pub(crate) kind: c_long,
    pub(crate) residue: c_long,
    /// Density and block length.
    pub(crate) density: c_long,
    /// General status bits.
    pub(crate) general: c_long,
    pub(crate) errors: c_long,
    pub(crate) file: c_int,
    pub(crate) block: c_int,
}

const _: () = assert!(size_of::<Operation>() == 8 && size_of::<TapeStatus>() == 5 * size_of::<c_long>() + 8);

mod raw {
    nix::ioctl_write_ptr!(operation, b'm', 1, super::Operation);
    nix::ioctl_read!(status, b'm', 2, super::TapeStatus);
    nix::ioctl_read!(position, b'm', 3, nix::libc::c_long);
}

/// `MTIOCTOP`.
pub(crate) fn operate(node: BorrowedFd<'_>, operation: i16, count: i32) -> nix::Result<()> {
    let operation = Operation { operation, count };
    // SAFETY: the descriptor is open, and the kernel reads one `struct mtop` from a value that lives until it returns.
    unsafe { raw::operation(node.as_raw_fd(), &operation) }.map(drop)
}

/// `MTIOCGET`.
pub(crate) fn status(node: BorrowedFd<'_>) -> nix::Result<TapeStatus> {
    let mut status = TapeStatus::default();
    // SAFETY: the descriptor is open, and the kernel writes one `struct mtget`, which any bytes make valid.
    unsafe { raw::status(node.as_raw_fd(), &mut status) }?;
    Ok(status)
}

/// `MTIOCPOS`.
pub(crate) fn position(node: BorrowedFd<'_>) -> nix::Result<i64> {
    let mut position: c_long = 0;
    // SAFETY: the descriptor is open, and the kernel writes one `long`.
    unsafe { raw::position(node.as_raw_fd(), &mut position) }?;
    Ok(position)
}
