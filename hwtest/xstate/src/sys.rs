//! The replacement of `ptrace`.
//!
//! UML calls it from its kernel's single thread, on stacks of 16 KiB: nothing here allocates, and the padded state lies in a
//! static buffer, which a flag guards should a later UML have more threads.

#![allow(unsafe_code, reason = "replaces a function of the C library and speaks to the kernel in raw pointers")]

use std::arch::x86_64::__cpuid_count;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// `NT_X86_XSTATE`, which is passed where other requests pass an address.
const XSTATE_NOTE: usize = 0x202;
/// Leaf of CPUID that tells size and place of the components of the extended state.
const XSTATE_LEAF: u32 = 0xd;
/// XSTATE_BV, the bitmap of components that are not in their initial state, in the header after the 512 bytes of FXSAVE.
const XSTATE_BV: usize = 512;
/// FXSAVE area and XSAVE header: the state is never shorter.
const SMALLEST: usize = 576;
/// Six times what AMX needs.
const LARGEST: usize = 65536;

#[repr(C, align(64))]
struct Padded(UnsafeCell<[u8; LARGEST]>);

// SAFETY: the bytes are reached only by the thread that turned `BUSY` from false to true.
unsafe impl Sync for Padded {}

static PADDED: Padded = Padded(UnsafeCell::new([0; LARGEST]));
static BUSY: AtomicBool = AtomicBool::new(false);

/// Stands in for `ptrace(3)`: same arguments, same result, same `errno`.
///
/// The C library declares it with variable arguments; on x86-64 those lie in the same registers as these.
///
/// # Safety
/// As `ptrace(2)`: `data` points to what the request wants there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn ptrace(request: c_int, pid: c_int, address: *mut c_void, data: *mut c_void) -> c_long {
    match request as libc::c_uint {
        // The C library gives what was read as the result; the kernel wants a place to write it to.
        libc::PTRACE_PEEKTEXT | libc::PTRACE_PEEKDATA | libc::PTRACE_PEEKUSER => {
            let mut word: c_long = 0;
            // SAFETY: the kernel writes one word to `word`.
            let result = unsafe { system_call(request, pid, address, (&raw mut word).cast()) };
            if result < 0 {
                return result;
            }
            set_errno(0);
            word
        }
        PTRACE_OLDSETOPTIONS | libc::PTRACE_SETOPTIONS => {
            let options = data as usize | libc::PTRACE_O_EXITKILL as usize;
            // SAFETY: the options are a number, not a pointer.
            unsafe { system_call(request, pid, address, options as *mut c_void) }
        }
        libc::PTRACE_SETREGSET if address as usize == XSTATE_NOTE && !data.is_null() => {
            // SAFETY: this request passes a pointer to an iovec, by ptrace(2); it was just seen not to be null.
            let given = unsafe { data.cast::<libc::iovec>().read_unaligned() };
            // SAFETY: as the caller promised to the kernel, the iovec describes readable bytes.
            match unsafe { pad(pid, given) } {
                Some(result) => result,
                // SAFETY: the caller's own request, unchanged.
                None => unsafe { system_call(request, pid, address, data) },
            }
        }
        // SAFETY: the caller's own request, unchanged.
        _ => unsafe { system_call(request, pid, address, data) },
    }
}

/// UML still uses the number from before `PTRACE_SETOPTIONS`.
const PTRACE_OLDSETOPTIONS: libc::c_uint = 21;

/// Sets the state from `given`, padded; `None` if it is long enough as it is, or not something that can be padded.
///
/// # Safety
/// `given` describes readable bytes.
unsafe fn pad(pid: c_int, given: libc::iovec) -> Option<c_long> {
    let whole = whole_length();
    if given.iov_len >= whole || given.iov_len < SMALLEST || whole > LARGEST {
        return None;
    }
    if BUSY.swap(true, Ordering::Acquire) {
        set_errno(libc::EBUSY);
        return Some(-1);
    }
    let at = PADDED.0.get().cast::<u8>();
    // SAFETY: `BUSY` makes this thread the only one with access; SMALLEST <= iov_len < whole <= LARGEST, so that every range is
    // inside the buffer, which does not overlap with memory of the caller.
    let result = unsafe {
        at.copy_from_nonoverlapping(given.iov_base.cast::<u8>(), given.iov_len);
        at.add(given.iov_len).write_bytes(0, whole - given.iov_len);
        let bitmap = at.add(XSTATE_BV).cast::<u64>();
        bitmap.write(bitmap.read() & components_within(given.iov_len));
        let mut padded = libc::iovec { iov_base: at.cast(), iov_len: whole };
        let note = XSTATE_NOTE as *mut c_void;
        system_call(libc::PTRACE_SETREGSET as c_int, pid, note, (&raw mut padded).cast())
    };
    BUSY.store(false, Ordering::Release);
    Some(result)
}

/// Length of the whole extended state as the kernel has it: CPUID(0Dh, 0).EBX. Asked once, since CPUID traps under a hypervisor.
fn whole_length() -> usize {
    static LENGTH: AtomicUsize = AtomicUsize::new(0);
    match LENGTH.load(Ordering::Relaxed) {
        0 => {
            let length = __cpuid_count(XSTATE_LEAF, 0).ebx as usize;
            LENGTH.store(length, Ordering::Relaxed);
            length
        }
        known => known,
    }
}

/// The components of the state that end within `length` bytes. UML's length is always the same, so one answer is kept.
fn components_within(length: usize) -> u64 {
    static FOR_LENGTH: AtomicUsize = AtomicUsize::new(0);
    static COMPONENTS: AtomicU64 = AtomicU64::new(0);
    if FOR_LENGTH.load(Ordering::Relaxed) == length {
        return COMPONENTS.load(Ordering::Relaxed);
    }
    // x87 and SSE stand in the FXSAVE area.
    let mut components = 0b11;
    for component in 2..63_u32 {
        let place = __cpuid_count(XSTATE_LEAF, component);
        let end = place.ebx as usize + place.eax as usize;
        if place.eax != 0 && end <= length {
            components |= 1 << component;
        }
    }
    COMPONENTS.store(components, Ordering::Relaxed);
    FOR_LENGTH.store(length, Ordering::Relaxed);
    components
}

/// # Safety
/// As `ptrace(2)`.
unsafe fn system_call(request: c_int, pid: c_int, address: *mut c_void, data: *mut c_void) -> c_long {
    // SAFETY: the arguments are those of the system call; what they point to is the caller's promise.
    unsafe { libc::syscall(libc::SYS_ptrace, c_long::from(request), c_long::from(pid), address, data) }
}

fn set_errno(to: c_int) {
    // SAFETY: the C library's own errno of this thread, always writable.
    unsafe { *libc::__errno_location() = to };
}
