//! The function list: every function forwards to the real module and does on the way what the plan says.
//!
//! What all `unsafe` here rests on: the caller of a PKCS#11 function owes valid pointers and lengths (PKCS#11 2.40, 5.1), and the real
//! module is called with exactly those. Beyond that this file reads an input, or overwrites an output within the capacity that its
//! caller gave, after the real call has come back. A length may be reported wrong; memory beyond a buffer is never touched.

#![allow(unsafe_code, reason = "a PKCS#11 module is a table of C functions")]
#![allow(non_snake_case, reason = "the names of the standard")]

use std::ffi::{OsString, c_void};
use std::ptr;
use std::sync::{OnceLock, PoisonError};
use std::time::Duration;

use cryptoki_sys::*;

use crate::plan::Fault;
use crate::site::MODULE;
use crate::state::{Decision, State, state};

type Session = CK_SESSION_HANDLE;
type Slot = CK_SLOT_ID;
type Object = CK_OBJECT_HANDLE;
type Objects = *mut CK_OBJECT_HANDLE;
type Bytes = *mut CK_BYTE;
type Count = CK_ULONG;
type Length = *mut CK_ULONG;
type Mechanism = *mut CK_MECHANISM;
type Template = *mut CK_ATTRIBUTE;

struct Real {
    list: CK_FUNCTION_LIST,
    _library: Pkcs11,
}

static REAL: OnceLock<Option<Real>> = OnceLock::new();

/// The function list of the module that is forwarded to.
fn real() -> Option<&'static CK_FUNCTION_LIST> {
    let load = || -> Option<Real> {
        let path: OsString = std::env::var_os(MODULE)?;
        // SAFETY: loading runs the library's constructors: it is the module that the test names, in a process of its own.
        let library = unsafe { Pkcs11::new(&path) }.ok()?;
        library.C_GetFunctionList.as_ref().ok()?;
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the symbol was found, and may be called before `C_Initialize`; it writes one pointer.
        if unsafe { library.C_GetFunctionList(&mut list) } != CKR_OK || list.is_null() {
            return None;
        }
        // SAFETY: on success the pointer is to a list that lives as long as the library, which is kept beside it.
        Some(Real { list: unsafe { list.read_unaligned() }, _library: library })
    };
    REAL.get_or_init(load).as_ref().map(|real| &real.list)
}

/// What a call is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Module,
    Slot(#[allow(dead_code, reason = "names the argument")] Slot),
    Session(Session),
}

/// One output of a call: a buffer of `capacity` bytes, and where the length that was written is reported.
#[derive(Clone, Copy)]
struct Output {
    data: Bytes,
    length: Length,
    capacity: usize,
}

impl Output {
    /// A buffer whose capacity stands where its length will.
    fn bytes(data: Bytes, length: Length) -> Vec<Self> {
        if length.is_null() {
            return Vec::new();
        }
        // SAFETY: a non-null length is valid for reading, as the caller of the PKCS#11 function owes.
        let capacity = usize::try_from(unsafe { length.read() }).unwrap_or(0);
        vec![Self { data, length, capacity }]
    }

    /// A buffer that is always filled.
    fn fixed(data: Bytes, capacity: Count) -> Vec<Self> {
        vec![Self { data, length: ptr::null_mut(), capacity: usize::try_from(capacity).unwrap_or(0) }]
    }

    fn handle(to: Objects) -> Vec<Self> {
        vec![Self { data: to.cast(), length: ptr::null_mut(), capacity: size_of::<Object>() }]
    }

    /// The caller only asks how long it will be.
    fn measuring(&self) -> bool {
        self.data.is_null()
    }

    /// What stands in it now.
    fn save(&self) -> Vec<u8> {
        if self.data.is_null() {
            return Vec::new();
        }
        // SAFETY: the caller owes `capacity` writable bytes at `data`; they may be uninitialised for it, but are plain bytes that this
        // process mapped, and are only put back where they were.
        unsafe { std::slice::from_raw_parts(self.data, self.capacity) }.to_vec()
    }

    fn restore(&self, saved: &[u8]) {
        if !self.data.is_null() && saved.len() <= self.capacity {
            // SAFETY: within the capacity that the caller gave; `saved` is our own memory.
            unsafe { ptr::copy_nonoverlapping(saved.as_ptr(), self.data, saved.len()) };
        }
    }

    fn written(&self) -> usize {
        if self.length.is_null() {
            return self.capacity;
        }
        // SAFETY: as in `bytes`.
        usize::try_from(unsafe { self.length.read() }).unwrap_or(0).min(self.capacity)
    }

    fn report(&self, length: u64) {
        if !self.length.is_null() {
            // SAFETY: the caller owes a writable length.
            unsafe { self.length.write(length) };
        }
    }

    /// Spoils what the real module has put out.
    fn spoil(&self, fault: Fault, before: &[u8]) {
        if self.data.is_null() {
            return;
        }
        let written = self.written();
        match fault {
            Fault::Flip if written > 0 => {
                // SAFETY: the place is within what was written, which is within the capacity.
                unsafe {
                    let at = self.data.add(written / 2);
                    at.write(!at.read());
                }
            }
            Fault::Short { by } => self.report((written as u64).saturating_sub(by)),
            Fault::Long { by } => self.report((self.capacity as u64).saturating_add(by)),
            Fault::Nothing => self.restore(before),
            _ => {}
        }
    }
}

/// A call on its way.
struct Around<'a> {
    name: &'static str,
    on: On,
    outputs: Vec<Output>,
    input: &'a [u8],
}

impl<'a> Around<'a> {
    fn new(name: &'static str, on: On) -> Self {
        Self { name, on, outputs: Vec::new(), input: &[] }
    }

    fn run(self, forward: &dyn Fn(&CK_FUNCTION_LIST) -> CK_RV) -> CK_RV {
        let Ok(state) = state() else { return CKR_GENERAL_ERROR };
        let Some(list) = real() else { return CKR_GENERAL_ERROR };
        let measuring = !self.outputs.is_empty() && self.outputs.iter().all(Output::measuring);
        let (rv, fault) = match state.decide(self.name, measuring) {
            // A plan that cannot be read must not look like a token in order.
            Err(_) => (CKR_GENERAL_ERROR, Some("plan")),
            Ok(Decision::Forward) => {
                *state.out.lock().unwrap_or_else(PoisonError::into_inner) = false;
                (forward(list), None)
            }
            Ok(Decision::Removed) => (self.removed(state, list, forward), Some("removed")),
            Ok(Decision::Strike(fault)) => (self.strike(state, list, fault, forward), Some(fault.name())),
        };
        state.enter(self.name, Some(rv), fault, self.input);
        rv
    }

    /// The token is out of its slot: its sessions are gone, and nothing reaches it.
    fn removed(&self, state: &State, list: &CK_FUNCTION_LIST, forward: &dyn Fn(&CK_FUNCTION_LIST) -> CK_RV) -> CK_RV {
        let was_out = std::mem::replace(&mut *state.out.lock().unwrap_or_else(PoisonError::into_inner), true);
        if !was_out {
            close_all(list);
        }
        match self.on {
            On::Module => forward(list),
            On::Slot(_) => CKR_TOKEN_NOT_PRESENT,
            On::Session(_) => CKR_DEVICE_REMOVED,
        }
    }

    fn strike(
        &self,
        state: &State,
        list: &CK_FUNCTION_LIST,
        fault: Fault,
        forward: &dyn Fn(&CK_FUNCTION_LIST) -> CK_RV,
    ) -> CK_RV {
        match fault {
            Fault::Return { rv } => rv,
            Fault::Late { rv } => {
                forward(list);
                rv
            }
            Fault::Slow { millis } => {
                std::thread::sleep(Duration::from_millis(millis));
                forward(list)
            }
            Fault::Hang => {
                state.enter(self.name, None, Some(fault.name()), self.input);
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            }
            Fault::Abort => {
                state.enter(self.name, None, Some(fault.name()), self.input);
                std::process::abort()
            }
            Fault::Segfault => {
                state.enter(self.name, None, Some(fault.name()), self.input);
                // The first one meets the handler of Rust's runtime, which puts the default back.
                for _ in 0..2 {
                    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSEGV);
                }
                std::process::abort()
            }
            Fault::LoseSessions => {
                close_all(list);
                forward(list)
            }
            Fault::Logout => {
                if let (On::Session(session), Some(logout)) = (self.on, list.C_Logout) {
                    // SAFETY: takes a handle only; a wrong one is answered by an error.
                    unsafe { logout(session) };
                }
                CKR_USER_NOT_LOGGED_IN
            }
            Fault::Flip | Fault::Short { .. } | Fault::Long { .. } | Fault::Nothing | Fault::OtherKey => {
                let before: Vec<Vec<u8>> = self.outputs.iter().map(Output::save).collect();
                let rv = forward(list);
                if rv == CKR_OK {
                    for (output, before) in self.outputs.iter().zip(&before) {
                        output.spoil(fault, before);
                    }
                    if let (Fault::OtherKey, On::Session(session), [output]) = (fault, self.on, &self.outputs[..]) {
                        return another_key(list, session, output.data.cast());
                    }
                }
                rv
            }
        }
    }
}

/// Closes every session of every slot.
fn close_all(list: &CK_FUNCTION_LIST) {
    let (Some(slots), Some(close)) = (list.C_GetSlotList, list.C_CloseAllSessions) else { return };
    let mut found = [0; 16];
    let mut count = found.len() as Count;
    // SAFETY: the buffer has room for `count` slots; the module writes at most that many.
    if unsafe { slots(CK_TRUE, found.as_mut_ptr(), &mut count) } != CKR_OK {
        return;
    }
    for slot in found.iter().take(usize::try_from(count).unwrap_or(0)) {
        // SAFETY: takes a slot's number only.
        unsafe { close(*slot) };
    }
}

/// Puts a new AES key of 32 bytes in the place of the one at `to`.
fn another_key(list: &CK_FUNCTION_LIST, session: Session, to: Objects) -> CK_RV {
    let (Some(generate), Some(destroy)) = (list.C_GenerateKey, list.C_DestroyObject) else {
        return CKR_FUNCTION_NOT_SUPPORTED;
    };
    let mut mechanism = CK_MECHANISM { mechanism: CKM_AES_KEY_GEN, pParameter: ptr::null_mut(), ulParameterLen: 0 };
    let (mut length, mut yes, mut no): (CK_ULONG, CK_BBOOL, CK_BBOOL) = (32, CK_TRUE, CK_FALSE);
    let mut template = [
        attribute(CKA_VALUE_LEN, &mut length),
        attribute(CKA_EXTRACTABLE, &mut yes),
        attribute(CKA_SENSITIVE, &mut no),
    ];
    // SAFETY: mechanism and template live on this stack during the calls; `to` is the caller's handle, written by the real module.
    unsafe {
        destroy(session, to.read());
        generate(session, &mut mechanism, template.as_mut_ptr(), template.len() as Count, to)
    }
}

fn attribute<T>(type_: CK_ATTRIBUTE_TYPE, value: &mut T) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE { type_, pValue: ptr::from_mut(value).cast(), ulValueLen: size_of::<T>() as CK_ULONG }
}

/// `length` bytes of a caller's input.
fn input<'a>(data: Bytes, length: Count) -> &'a [u8] {
    let length = usize::try_from(length).unwrap_or(0);
    if data.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: the caller of the PKCS#11 function owes `length` readable bytes for the time of the call; the slice is written to the
    // journal before that ends.
    unsafe { std::slice::from_raw_parts(data, length) }
}

macro_rules! outputs {
    () => { Vec::new() };
    ($how:ident $($argument:ident)*) => { Output::$how($($argument),*) };
}

macro_rules! told {
    () => {
        &[]
    };
    ($data:ident $length:ident) => {
        input($data, $length)
    };
}

/// Functions that forward, each with what it is about, its outputs, and the input that the journal tells; and the list of all.
macro_rules! function_list {
    (
        forwarded { $(
            $on:ident $name:ident($first:ident: $first_type:ty $(, $argument:ident: $type:ty)*)
                $(gives $how:ident($($out:ident),*))? $(tells($data:ident, $length:ident))?;
        )* }
        by hand { $($special:ident),* $(,)? }
    ) => {
        $(
            unsafe extern "C" fn $name($first: $first_type $(, $argument: $type)*) -> CK_RV {
                let around = Around {
                    name: stringify!($name),
                    on: On::$on($first),
                    outputs: outputs!($($how $($out)*)?),
                    input: told!($($data $length)?),
                };
                around.run(&|list| match list.$name {
                    // SAFETY: the caller's own arguments, as they came; what the caller owes to us it owes to the real module.
                    Some(call) => unsafe { call($first $(, $argument)*) },
                    None => CKR_FUNCTION_NOT_SUPPORTED,
                })
            }
        )*

        static LIST: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CK_VERSION { major: 2, minor: 40 },
            $($name: Some($name),)*
            $($special: Some($special),)*
        };
    };
}

function_list! {
    forwarded {
        Slot C_GetSlotInfo(slot: Slot, info: *mut CK_SLOT_INFO);
        Slot C_GetMechanismList(slot: Slot, list: *mut CK_MECHANISM_TYPE, count: Length);
        Slot C_GetMechanismInfo(slot: Slot, mechanism: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO);
        Slot C_InitToken(slot: Slot, pin: Bytes, pin_len: Count, label: Bytes);
        Session C_InitPIN(session: Session, pin: Bytes, pin_len: Count);
        Session C_SetPIN(session: Session, old: Bytes, old_len: Count, new: Bytes, new_len: Count);
        Slot C_OpenSession(slot: Slot, flags: CK_FLAGS, application: *mut c_void, notify: CK_NOTIFY, session: *mut CK_SESSION_HANDLE);
        Session C_CloseSession(session: Session);
        Slot C_CloseAllSessions(slot: Slot);
        Session C_GetSessionInfo(session: Session, info: *mut CK_SESSION_INFO);
        Session C_GetOperationState(session: Session, out: Bytes, out_len: Length) gives bytes(out, out_len);
        Session C_SetOperationState(session: Session, state: Bytes, state_len: Count, encryption: Object, authentication: Object);
        Session C_Logout(session: Session);
        Session C_CreateObject(session: Session, template: Template, count: Count, object: Objects) gives handle(object);
        Session C_CopyObject(session: Session, key: Object, template: Template, count: Count, object: Objects) gives handle(object);
        Session C_DestroyObject(session: Session, key: Object);
        Session C_GetObjectSize(session: Session, object: Object, size: Length);
        Session C_SetAttributeValue(session: Session, key: Object, template: Template, count: Count);
        Session C_FindObjectsInit(session: Session, template: Template, count: Count);
        Session C_FindObjects(session: Session, objects: Objects, most: Count, found: Length);
        Session C_FindObjectsFinal(session: Session);
        Session C_EncryptInit(session: Session, mechanism: Mechanism, key: Object);
        Session C_Encrypt(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length) gives bytes(out, out_len);
        Session C_EncryptUpdate(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length)
            gives bytes(out, out_len);
        Session C_EncryptFinal(session: Session, out: Bytes, out_len: Length) gives bytes(out, out_len);
        Session C_DecryptInit(session: Session, mechanism: Mechanism, key: Object);
        Session C_Decrypt(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length)
            gives bytes(out, out_len) tells(data, data_len);
        Session C_DecryptUpdate(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length)
            gives bytes(out, out_len);
        Session C_DecryptFinal(session: Session, out: Bytes, out_len: Length) gives bytes(out, out_len);
        Session C_DigestInit(session: Session, mechanism: Mechanism);
        Session C_Digest(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length) gives bytes(out, out_len);
        Session C_DigestUpdate(session: Session, data: Bytes, data_len: Count);
        Session C_DigestKey(session: Session, key: Object);
        Session C_DigestFinal(session: Session, out: Bytes, out_len: Length) gives bytes(out, out_len);
        Session C_SignInit(session: Session, mechanism: Mechanism, key: Object);
        Session C_Sign(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length) gives bytes(out, out_len);
        Session C_SignUpdate(session: Session, data: Bytes, data_len: Count);
        Session C_SignFinal(session: Session, out: Bytes, out_len: Length) gives bytes(out, out_len);
        Session C_SignRecoverInit(session: Session, mechanism: Mechanism, key: Object);
        Session C_SignRecover(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length)
            gives bytes(out, out_len);
        Session C_VerifyInit(session: Session, mechanism: Mechanism, key: Object);
        Session C_Verify(session: Session, data: Bytes, data_len: Count, signature: Bytes, signature_len: Count);
        Session C_VerifyUpdate(session: Session, data: Bytes, data_len: Count);
        Session C_VerifyFinal(session: Session, signature: Bytes, signature_len: Count);
        Session C_VerifyRecoverInit(session: Session, mechanism: Mechanism, key: Object);
        Session C_VerifyRecover(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length)
            gives bytes(out, out_len);
        Session C_DigestEncryptUpdate(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length)
            gives bytes(out, out_len);
        Session C_DecryptDigestUpdate(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length)
            gives bytes(out, out_len);
        Session C_SignEncryptUpdate(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length)
            gives bytes(out, out_len);
        Session C_DecryptVerifyUpdate(session: Session, data: Bytes, data_len: Count, out: Bytes, out_len: Length)
            gives bytes(out, out_len);
        Session C_GenerateKey(session: Session, mechanism: Mechanism, template: Template, count: Count, object: Objects)
            gives handle(object);
        Session C_GenerateKeyPair(session: Session, mechanism: Mechanism, template: Template, count: Count, private: Template, private_count: Count, object: Objects, private_key: Objects)
            gives handle(private_key);
        Session C_WrapKey(session: Session, mechanism: Mechanism, key: Object, key_2: Object, out: Bytes, out_len: Length)
            gives bytes(out, out_len);
        Session C_DeriveKey(session: Session, mechanism: Mechanism, key: Object, template: Template, count: Count, object: Objects)
            gives handle(object);
        Session C_SeedRandom(session: Session, data: Bytes, data_len: Count);
        Session C_GenerateRandom(session: Session, data: Bytes, data_len: Count) gives fixed(data, data_len);
        Session C_GetFunctionStatus(session: Session);
        Session C_CancelFunction(session: Session);
        Session C_UnwrapKey(session: Session, mechanism: Mechanism, key: Object, data: Bytes, data_len: Count, template: Template, count: Count, object: Objects)
            gives handle(object) tells(data, data_len);
    }
    by hand {
        C_Initialize, C_Finalize, C_GetInfo, C_GetFunctionList, C_GetSlotList, C_GetTokenInfo, C_Login, C_GetAttributeValue,
        C_WaitForSlotEvent,
    }
}

/// Gives the function list; the only symbol that the module shows.
///
/// # Safety
/// `list` is null or writable.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: writable, as the caller owes. The list is constant: PKCS#11 gives it out as a mutable pointer, and forbids to change it.
    unsafe { list.write(ptr::from_ref(&LIST).cast_mut()) };
    CKR_OK
}

macro_rules! forward {
    ($name:ident($($argument:ident),*)) => {
        |list: &CK_FUNCTION_LIST| match list.$name {
            // SAFETY: the caller's own arguments, as they came.
            Some(call) => unsafe { call($($argument),*) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}

unsafe extern "C" fn C_Initialize(arguments: *mut c_void) -> CK_RV {
    Around::new("C_Initialize", On::Module).run(&forward!(C_Initialize(arguments)))
}

unsafe extern "C" fn C_Finalize(reserved: *mut c_void) -> CK_RV {
    Around::new("C_Finalize", On::Module).run(&forward!(C_Finalize(reserved)))
}

unsafe extern "C" fn C_GetInfo(info: *mut CK_INFO) -> CK_RV {
    Around::new("C_GetInfo", On::Module).run(&forward!(C_GetInfo(info)))
}

unsafe extern "C" fn C_WaitForSlotEvent(flags: CK_FLAGS, slot: *mut Slot, reserved: *mut c_void) -> CK_RV {
    Around::new("C_WaitForSlotEvent", On::Module).run(&forward!(C_WaitForSlotEvent(flags, slot, reserved)))
}

/// A token that is out is in no slot.
unsafe extern "C" fn C_GetSlotList(present: CK_BBOOL, slots: *mut Slot, count: Length) -> CK_RV {
    let real = forward!(C_GetSlotList(present, slots, count));
    Around::new("C_GetSlotList", On::Module).run(&|list| {
        let out = state().is_ok_and(|s| *s.out.lock().unwrap_or_else(PoisonError::into_inner));
        if out && present == CK_TRUE && !count.is_null() {
            // SAFETY: writable, as the caller owes.
            unsafe { count.write(0) };
            return CKR_OK;
        }
        real(list)
    })
}

/// The flags of the PIN as the counting token has them.
unsafe extern "C" fn C_GetTokenInfo(slot: Slot, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let real = forward!(C_GetTokenInfo(slot, info));
    Around::new("C_GetTokenInfo", On::Slot(slot)).run(&|list| {
        let rv = real(list);
        let left = state().ok().and_then(|s| Some((s.tries_left().ok()??, s.wrong_pins())));
        if let (CKR_OK, Some((left, wrong)), false) = (rv, left, info.is_null()) {
            let low = if wrong > 0 { CKF_USER_PIN_COUNT_LOW } else { 0 };
            let flags = match left {
                0 => CKF_USER_PIN_LOCKED,
                1 => low | CKF_USER_PIN_FINAL_TRY,
                _ => low,
            };
            // SAFETY: the real module has just filled the structure.
            unsafe { (*info).flags |= flags };
        }
        rv
    })
}

/// The token's own count of wrong PINs, which SoftHSM has not.
unsafe extern "C" fn C_Login(session: Session, user: CK_USER_TYPE, pin: Bytes, length: Count) -> CK_RV {
    let real = forward!(C_Login(session, user, pin, length));
    Around::new("C_Login", On::Session(session)).run(&|list| {
        if user != CKU_USER {
            return real(list);
        }
        let Ok(state) = state() else { return CKR_GENERAL_ERROR };
        if state.count_login().is_err() {
            return CKR_GENERAL_ERROR;
        }
        let counted = match state.tries_left() {
            Ok(Some(0)) => return CKR_PIN_LOCKED,
            Ok(left) => left.is_some(),
            Err(_) => return CKR_GENERAL_ERROR,
        };
        let rv = real(list);
        let noted = match rv {
            CKR_PIN_INCORRECT | CKR_PIN_INVALID | CKR_PIN_LEN_RANGE if counted => state.count_wrong_pin(),
            CKR_OK => state.forget_wrong_pins(),
            _ => Ok(()),
        };
        if noted.is_ok() { rv } else { CKR_GENERAL_ERROR }
    })
}

unsafe extern "C" fn C_GetAttributeValue(session: Session, object: Object, template: Template, count: Count) -> CK_RV {
    let real = forward!(C_GetAttributeValue(session, object, template, count));
    let mut outputs = Vec::new();
    let mut value = false;
    for index in 0..usize::try_from(count).unwrap_or(0) {
        if template.is_null() {
            break;
        }
        // SAFETY: the caller owes `count` attributes.
        let attribute = unsafe { template.add(index) };
        // SAFETY: as above; only addresses of its fields and their values are taken, no reference is kept.
        let (type_, data, length) =
            unsafe { ((*attribute).type_, (*attribute).pValue, &raw mut (*attribute).ulValueLen) };
        value |= type_ == CKA_VALUE;
        outputs.extend(Output::bytes(data.cast(), length));
    }
    let name = if value { "C_GetAttributeValue:CKA_VALUE" } else { "C_GetAttributeValue" };
    Around { outputs, ..Around::new(name, On::Session(session)) }.run(&real)
}
