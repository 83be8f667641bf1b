//! The system calls that need `unsafe`: pages for secrets, and leaving the worker without exit handlers.
//!
//! Everything public here is safe to call: a [`SecretPage`] owns its mapping alone, and hands out slices bound to its own lifetime.

#![allow(unsafe_code, reason = "memory mapping, locking and _exit have no safe interface")]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use zeroize::Zeroize;

/// Size of the mapping behind one secret. A page of its own, so that locking and dump flags never touch a neighbour.
const PAGE: usize = 4096;

/// One private anonymous page: locked where the limit allows, left out of core dumps, wiped in forked children and on drop.
pub(crate) struct SecretPage {
    at: NonNull<c_void>,
    locked: bool,
}

// SAFETY: the page is owned by this value alone and reached only through `&self`/`&mut self`, as with a `Box<[u8]>`.
unsafe impl Send for SecretPage {}
// SAFETY: shared access gives out `&[u8]` only; writing needs `&mut self`.
unsafe impl Sync for SecretPage {}

impl SecretPage {
    /// Maps a zeroed page.
    pub(crate) fn new() -> std::io::Result<Self> {
        let length = NonZeroUsize::new(PAGE).ok_or(std::io::ErrorKind::InvalidInput)?;
        // SAFETY: a new private anonymous mapping at an address the kernel chooses; no existing memory is replaced.
        let at = unsafe {
            mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        }?;
        // SAFETY: the range is exactly the mapping made above. Failing to lock (RLIMIT_MEMLOCK) is allowed and reported by `locked`.
        let locked = unsafe { mlock(at, PAGE) }.is_ok();
        let page = Self { at, locked };
        // SAFETY: the range is exactly the mapping made above; neither advice changes its contents in this process.
        unsafe { madvise(at, PAGE, MmapAdvise::MADV_DONTDUMP) }?;
        // SAFETY: as above; valid for private anonymous memory (Linux 4.14).
        unsafe { madvise(at, PAGE, MmapAdvise::MADV_WIPEONFORK) }?;
        Ok(page)
    }

    /// Whether the page is locked into memory.
    pub(crate) fn locked(&self) -> bool {
        self.locked
    }

    pub(crate) fn bytes(&self) -> &[u8; PAGE] {
        // SAFETY: the mapping is PAGE bytes, readable, initialised by the kernel, lives as long as `self`, u8 has no alignment need.
        unsafe { self.at.cast::<[u8; PAGE]>().as_ref() }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; PAGE] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
        unsafe { self.at.cast::<[u8; PAGE]>().as_mut() }
    }
}

impl Drop for SecretPage {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: the mapping was made by `new`, is PAGE long, and nothing borrows from it any more. Unmapping unlocks it too.
        // An error is possible only for arguments that are not a mapping; there is nothing left to do then.
        let _ = unsafe { munmap(self.at, PAGE) };
    }
}

/// Gives up every capability of this thread and of those it starts: a worker that root started is an ordinary owner of its files.
pub(crate) fn drop_capabilities() -> std::io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION, 0];
    let none = [0u32; 6];
    // SAFETY: `header` is the struct of version and thread (0: this one), `none` the two sets of three words of version 3; the kernel
    // only reads both.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Ends the process at once, without exit handlers: a hung vendor library may hold the locks those would take.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes no pointers, runs no handlers and does not return.
    unsafe { libc::_exit(code) }
}
