//! The two PKCS#11 calls that `cryptoki` makes in an unsuitable way: reading a key's value (it leaves copies in unwiped buffers)
//! and listing mechanisms (it drops those it does not know).
//!
//! The functions take handles that the caller got from the same, initialised module; a wrong handle makes the module return an
//! error. Pointers handed to the module live on this stack or in the caller's exclusive borrow for the whole call.

#![allow(unsafe_code, reason = "calls through the function list of a PKCS#11 module")]

use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11 as Context};
use cryptoki::error::Error as CkError;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_FUNCTION_LIST, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CKA_VALUE,
    CKR_BUFFER_TOO_SMALL, CKR_DATA_INVALID, CKR_FUNCTION_NOT_SUPPORTED, CKR_GENERAL_ERROR, CKR_KEY_SIZE_RANGE, CKR_OK,
    Pkcs11,
};

use crate::secret::DATA_KEY_LEN;

/// `C_Initialize`; `parameters` is what some modules (NSS) take as `pReserved`.
pub(super) fn initialize(context: &Context, parameters: Option<&CString>) -> Result<(), CkError> {
    let flags = CInitializeFlags::OS_LOCKING_OK;
    let args = match parameters.and_then(|p| NonNull::new(p.as_ptr().cast_mut().cast::<c_void>())) {
        None => CInitializeArgs::new(flags),
        // SAFETY: a pointer to a string that ends with NUL and outlives the call; a module that takes parameters reads them as one
        // (the administrator configured them for this module), every other one demands NULL and says CKR_ARGUMENTS_BAD.
        Some(parameters) => unsafe { CInitializeArgs::new_with_reserved(flags, parameters) },
    };
    context.initialize(args)
}

/// The module's function list, kept beside `cryptoki`'s own (the dynamic loader counts references to the one library).
pub(super) struct RawModule {
    list: CK_FUNCTION_LIST,
    _library: Pkcs11,
}

impl RawModule {
    pub(super) fn load(module: &Path) -> Result<Self, String> {
        // SAFETY: loading runs the library's constructors: it is the module that the administrator configured, in a process of its
        // own, and `cryptoki` has just loaded the same one.
        let library = unsafe { Pkcs11::new(module) }.map_err(|e| e.to_string())?;
        if let Err(e) = &library.C_GetFunctionList {
            return Err(e.to_string());
        }
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: `C_GetFunctionList` was found above, and may be called before `C_Initialize`; it writes one pointer.
        let rv = unsafe { library.C_GetFunctionList(&mut list) };
        if rv != CKR_OK || list.is_null() {
            return Err(format!("C_GetFunctionList: {rv:#x}"));
        }
        // SAFETY: on success the pointer is to a function list that lives as long as the library, which is kept in `_library`.
        let list = unsafe { list.read_unaligned() };
        Ok(Self { list, _library: library })
    }

    /// Reads `CKA_VALUE` of a 32-byte key into `to`. A module that says success and writes nothing, or zeros, would give a key that
    /// everybody knows: the buffer holds random bytes before, and each word of it has to change.
    pub(super) fn read_key(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        to: &mut [u8; DATA_KEY_LEN],
    ) -> Result<(), CK_RV> {
        let call = self.list.C_GetAttributeValue.ok_or(CKR_FUNCTION_NOT_SUPPORTED)?;
        let length = to.len().try_into().map_err(|_| CKR_GENERAL_ERROR)?;
        getrandom::fill(to).map_err(|_| CKR_GENERAL_ERROR)?;
        let before = *to;
        let mut attribute = CK_ATTRIBUTE { type_: CKA_VALUE, pValue: to.as_mut_ptr().cast(), ulValueLen: length };
        // SAFETY: one attribute with a buffer of the length it names; the module writes at most that much (PKCS#11 5.7.5).
        let rv = unsafe { call(session, object, &mut attribute, 1) };
        match rv {
            CKR_OK if attribute.ulValueLen == length => {
                let kept = to.chunks(8).zip(before.chunks(8)).any(|(now, then)| now == then);
                if kept || to.iter().all(|byte| *byte == 0) { Err(CKR_DATA_INVALID) } else { Ok(()) }
            }
            CKR_OK => Err(CKR_KEY_SIZE_RANGE),
            other => Err(other),
        }
    }

    /// All mechanisms of a slot, by number.
    pub(super) fn mechanisms(&self, slot: CK_SLOT_ID) -> Result<Vec<u64>, CK_RV> {
        let call = self.list.C_GetMechanismList.ok_or(CKR_FUNCTION_NOT_SUPPORTED)?;
        // Asked again when the list grew in between, a few times only.
        for _ in 0..4 {
            let mut count = 0;
            // SAFETY: with a null list the module only writes the count.
            let rv = unsafe { call(slot, ptr::null_mut(), &mut count) };
            if rv != CKR_OK {
                return Err(rv);
            }
            let length = usize::try_from(count).map_err(|_| CKR_GENERAL_ERROR)?;
            let mut list = vec![0; length];
            // SAFETY: `list` has room for `count` mechanisms; the module writes at most that many and corrects `count`.
            match unsafe { call(slot, list.as_mut_ptr(), &mut count) } {
                CKR_OK => {
                    list.truncate(usize::try_from(count).map_err(|_| CKR_GENERAL_ERROR)?);
                    return Ok(list);
                }
                CKR_BUFFER_TOO_SMALL => {}
                other => return Err(other),
            }
        }
        Err(CKR_BUFFER_TOO_SMALL)
    }
}
