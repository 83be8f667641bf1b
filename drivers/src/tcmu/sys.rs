//! Memory shared with the kernel, behind functions that check every place.
//!
//! The rules: no reference into the memory is ever made, because the other side writes it when it likes. Words are read and
//! written whole, through volatile or atomic accesses, once each; bytes are copied to and from buffers of our own. Every
//! access is checked against the length of the map first. What was read once is not read again, so a value cannot change
//! between its check and its use.

#![allow(unsafe_code, reason = "memory mapped from a device and shared with the kernel has no safe interface")]

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A place that does not lie within the shared memory, or is not aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OutOfBounds {
    /// Where, from the beginning of the map.
    pub(super) at: usize,
    /// How many bytes.
    pub(super) length: usize,
}

/// The shared memory of one device. Owned by one thread at a time.
#[derive(Debug)]
pub(super) struct Region {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is not tied to the thread that mapped it, and `Region` is the only way to it within this process.
unsafe impl Send for Region {}

/// Words that can be read and written whole: every bit pattern is a value.
pub(super) trait Word: Copy {}
impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

impl Region {
    /// Maps the first `length` bytes of what `device` offers (a uio device's map 0), shared.
    pub(super) fn map(device: &File, length: NonZeroUsize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice replaces nothing that Rust knows of.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, device.as_fd(), 0) }?;
        Ok(Self { start: start.cast(), length: length.get() })
    }

    /// Memory of our own that behaves as a map does, for tests.
    #[cfg(test)]
    pub(super) fn anonymous(length: NonZeroUsize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: as in `map`.
        let start = unsafe { nix::sys::mman::mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED) }?;
        Ok(Self { start: start.cast(), length: length.get() })
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The place `at`, if `length` bytes from there on lie within the map.
    fn place(&self, at: usize, length: usize) -> Result<NonNull<u8>, OutOfBounds> {
        match at.checked_add(length) {
            // SAFETY: `at + length` does not pass the end of the mapping, which is one object of `self.length` bytes.
            Some(end) if end <= self.length => Ok(unsafe { self.start.add(at) }),
            _ => Err(OutOfBounds { at, length }),
        }
    }

    /// Reads one word.
    pub(super) fn read<W: Word>(&self, at: usize) -> Result<W, OutOfBounds> {
        let place = self.aligned::<W>(at)?;
        // SAFETY: within the map, aligned, and every bit pattern is a `W`. Volatile: the kernel writes it, too.
        Ok(unsafe { place.read_volatile() })
    }

    /// Writes one word.
    pub(super) fn write<W: Word>(&mut self, at: usize, word: W) -> Result<(), OutOfBounds> {
        let place = self.aligned::<W>(at)?;
        // SAFETY: within the map, aligned; the map is writable, and nothing in Rust refers into it.
        unsafe { place.write_volatile(word) };
        Ok(())
    }

    /// Reads a word so that everything the other side wrote before it (with release) is seen by our later reads.
    pub(super) fn load_acquire(&self, at: usize) -> Result<u32, OutOfBounds> {
        let place = self.aligned::<u32>(at)?;
        // SAFETY: within the map and aligned for 4 bytes. The other side's accesses to this word are atomic, too
        // (smp_store_release and READ_ONCE in the kernel).
        Ok(unsafe { AtomicU32::from_ptr(place.as_ptr()) }.load(Ordering::Acquire))
    }

    /// Writes a word so that whoever reads it (with acquire) sees everything that we wrote before.
    pub(super) fn store_release(&mut self, at: usize, word: u32) -> Result<(), OutOfBounds> {
        let place = self.aligned::<u32>(at)?;
        // SAFETY: as in `load_acquire`.
        unsafe { AtomicU32::from_ptr(place.as_ptr()) }.store(word, Ordering::Release);
        Ok(())
    }

    /// Copies from the map.
    pub(super) fn copy_from(&self, at: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        let place = self.place(at, to.len())?;
        // SAFETY: the source lies within the map, `to` is a buffer outside it (no reference into the map exists). If the
        // other side writes meanwhile, the bytes are a mixture; any bytes are fine, they are a host's data.
        unsafe { ptr::copy_nonoverlapping(place.as_ptr(), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies into the map.
    pub(super) fn copy_to(&mut self, at: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        let place = self.place(at, from.len())?;
        // SAFETY: the target lies within the map, `from` is a buffer outside it; nothing in Rust refers to the target.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), place.as_ptr(), from.len()) };
        Ok(())
    }

    /// Writes zeros into the map.
    pub(super) fn zero(&mut self, at: usize, length: usize) -> Result<(), OutOfBounds> {
        let place = self.place(at, length)?;
        // SAFETY: as in `copy_to`.
        unsafe { ptr::write_bytes(place.as_ptr(), 0, length) };
        Ok(())
    }

    fn aligned<W: Word>(&self, at: usize) -> Result<NonNull<W>, OutOfBounds> {
        let place = self.place(at, size_of::<W>())?.cast::<W>();
        if place.is_aligned() { Ok(place) } else { Err(OutOfBounds { at, length: size_of::<W>() }) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by the constructor with this length, and nothing refers into it any more.
        if let Err(error) = unsafe { munmap(self.start.cast(), self.length) } {
            tracing::error!(%error, "the shared memory of a virtual drive cannot be unmapped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_access_stays_within_the_map() {
        let mut region = Region::anonymous(NonZeroUsize::new(4096).unwrap()).unwrap();
        region.write(4088, 0x1122_3344_5566_7788_u64).unwrap();
        assert_eq!(region.read::<u64>(4088), Ok(0x1122_3344_5566_7788));
        assert_eq!(region.read::<u32>(4094), Err(OutOfBounds { at: 4094, length: 4 }));
        assert_eq!(region.read::<u32>(2), Err(OutOfBounds { at: 2, length: 4 }), "not aligned");
        assert!(region.read::<u64>(usize::MAX).is_err() && region.write(4096, 0_u8).is_err());
        assert!(region.copy_from(4000, &mut [0; 97]).is_err() && region.copy_to(4000, &[0; 97]).is_err());
        assert!(region.zero(1, 4096).is_err() && region.load_acquire(4096).is_err());
        assert!(region.store_release(4093, 0).is_err());
        region.zero(0, 4096).unwrap();
        assert_eq!(region.read::<u64>(4088), Ok(0));
    }
}
