//! Preloaded (`LD_PRELOAD`) into User-Mode Linux by the guest lab. It stands in for the C library's `ptrace`, by which UML
//! drives the processes of its guest, and mends two things on the way:
//!
//! - **Register state is handed over whole.** UML 6.1 keeps the extended state (x87, SSE, AVX, …) of a guest process in a
//!   buffer of 2696 bytes and gives that many back with `PTRACE_SETREGSET`, `NT_X86_XSTATE`. The host's kernel takes nothing
//!   shorter than the whole state (`xstateregs_set` in `arch/x86/kernel/fpu/regset.c`: anything else is `EFAULT`), and on a
//!   processor with AMX the whole is about 11 000 bytes: UML dies at its first process with "ptrace set fp regs failed,
//!   errno = 14". Here the state is padded with zeros to the size that CPUID tells, and the components that UML never
//!   kept are marked as being in their initial state. Where UML's buffer is large enough nothing is changed.
//! - **Guest processes die with UML.** A traced process whose tracer is killed runs on, and what it takes for system calls
//!   to the guest's kernel are then system calls to the host's. `PTRACE_O_EXITKILL` is added to the options that UML sets.
//!
//! Deliberately absent: everything else. All other requests go to the kernel as they are, in the way of the C library.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod sys;
