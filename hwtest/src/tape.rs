//! What a program asks of the kernel's tape driver, beside reading and writing.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::sys;

/// An operation of `MTIOCTOP` (`<linux/mtio.h>`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i16)]
pub enum Operation {
    /// MTWEOF: so many filemarks; none synchronises.
    WriteFilemarks = 5,
    /// MTREW.
    Rewind = 6,
    /// MTEOM: behind the last record.
    EndOfData = 12,
    /// MTSETBLK: length of blocks, 0 for variable.
    BlockLength = 20,
    /// MTSEEK.
    Seek = 22,
}

/// Carries out an operation on an open node.
///
/// # Errors
/// What the driver says.
pub fn operate(node: &File, operation: Operation, count: i32) -> io::Result<()> {
    sys::tape_operation(node.as_fd(), operation as i16, count)
}

/// MTIOCPOS: the object that the node stands before.
///
/// # Errors
/// What the driver says.
pub fn tell(node: &File) -> io::Result<u64> {
    sys::tape_position(node.as_fd())
}
