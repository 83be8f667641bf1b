//! The token inside the worker process: sessions, the recovery ladder, and the operations.
//!
//! The anchor session is opened first and only ever logs in: login is per token, and a logout or the end of the last session would
//! kill the handles of all others. Work runs in a second session, which is what gets replaced. The ladder, one rung per attempt:
//! find the key again, new session, login, finalize and initialize. The rung above (a new worker) is the parent's.

use std::collections::HashMap;
use std::path::PathBuf;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as CkError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::error::TokenError;
use super::sys::RawModule;
use super::uri::Uri;
use super::wire::{SignAlgorithm, WrapMechanism, WrapWith};
use crate::hex::HexBytes;
use crate::secret::{DataKey, Pin};

/// An operation's failure: what the token said, or what we found.
pub(super) enum Fault {
    Rv(RvError, String),
    Typed(TokenError),
}

impl From<CkError> for Fault {
    fn from(e: CkError) -> Self {
        let text = e.to_string();
        match e {
            CkError::Pkcs11(rv, _) => Self::Rv(rv, text),
            _ => Self::Typed(TokenError::Token { what: text }),
        }
    }
}

impl From<TokenError> for Fault {
    fn from(e: TokenError) -> Self {
        Self::Typed(e)
    }
}

impl From<std::io::Error> for Fault {
    fn from(e: std::io::Error) -> Self {
        Self::Typed(TokenError::Worker { what: e.to_string() })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rung {
    FindAgain,
    NewSession,
    Login,
    Initialize,
}

impl Rung {
    fn above(self) -> Option<Self> {
        match self {
            Self::FindAgain => Some(Self::NewSession),
            Self::NewSession => Some(Self::Login),
            Self::Login => Some(Self::Initialize),
            Self::Initialize => None,
        }
    }

    /// Where the ladder is entered for a fault; none when climbing cannot help.
    fn for_fault(fault: &Fault) -> Option<Self> {
        let rv = match fault {
            Fault::Rv(rv, _) => rv,
            // A token directory that came back shows no keys until the module is initialised again.
            Fault::Typed(TokenError::KeyNotFound { .. }) => return Some(Self::Initialize),
            Fault::Typed(_) => return None,
        };
        match rv {
            RvError::KeyHandleInvalid
            | RvError::ObjectHandleInvalid
            | RvError::WrappingKeyHandleInvalid
            | RvError::UnwrappingKeyHandleInvalid => Some(Self::FindAgain),
            RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::OperationActive
            | RvError::OperationNotInitialized => Some(Self::NewSession),
            RvError::UserNotLoggedIn => Some(Self::Login),
            RvError::GeneralError
            | RvError::FunctionFailed
            | RvError::DeviceError
            | RvError::DeviceMemory
            | RvError::DeviceRemoved
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::SlotIdInvalid
            | RvError::CryptokiNotInitialized => Some(Self::Initialize),
            _ => None,
        }
    }
}

/// Which template a token wants when it unwraps a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnwrapTemplate {
    Plain,
    WithLength,
}

/// A loaded module and, after [`Module::attach`], its token.
pub(super) struct Module {
    path: PathBuf,
    context: Pkcs11,
    raw: RawModule,
    token: Option<Attached>,
    so_pin: Option<(Slot, Pin)>,
}

struct Attached {
    uri: Uri,
    pin: Pin,
    pin_rejected: bool,
    sessions: Option<Sessions>,
    handles: HashMap<Uuid, ObjectHandle>,
    unwrap_template: UnwrapTemplate,
}

struct Sessions {
    slot: Slot,
    work: Session,
    _anchor: Session,
}

impl Module {
    pub(super) fn load(path: PathBuf) -> Result<Self, TokenError> {
        let fault = |what: String| TokenError::Module { module: path.clone(), what };
        let context = Pkcs11::new(&path).map_err(|e| fault(e.to_string()))?;
        let raw = RawModule::load(&path).map_err(fault)?;
        initialize(&context)
            .map_err(|e| fault(format!("it does not initialise ({e}); is its token directory in place")))?;
        Ok(Self { path, context, raw, token: None, so_pin: None })
    }

    /// Finds the token and logs in, once.
    pub(super) fn attach(&mut self, uri: Uri, pin: Pin) -> Result<(), TokenError> {
        self.token = Some(Attached {
            uri,
            pin,
            pin_rejected: false,
            sessions: None,
            handles: HashMap::new(),
            unwrap_template: UnwrapTemplate::Plain,
        });
        self.open_sessions().map_err(|f| self.plain(f))
    }

    fn attached(&mut self) -> Result<&mut Attached, Fault> {
        let unused = TokenError::Worker { what: "no token is attached".into() };
        self.token.as_mut().ok_or(Fault::Typed(unused))
    }

    fn open_sessions(&mut self) -> Result<(), Fault> {
        let context = self.context.clone();
        let attached = self.attached()?;
        attached.handles.clear();
        attached.sessions = None;
        let slot = find_slot(&context, &attached.uri)?;
        let anchor = context.open_rw_session(slot)?;
        attached.login(&anchor)?;
        let work = context.open_rw_session(slot)?;
        attached.sessions = Some(Sessions { slot, work, _anchor: anchor });
        Ok(())
    }

    /// Runs `op`, climbing the ladder while that may help.
    pub(super) fn run<T>(&mut self, op: impl Fn(&mut Self) -> Result<T, Fault>) -> Result<T, TokenError> {
        let mut rung: Option<Rung> = None;
        loop {
            let fault = match op(self) {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            let Some(wanted) = Rung::for_fault(&fault) else { return Err(self.plain(fault)) };
            let next = match rung {
                None => wanted,
                Some(last) => match last.above() {
                    Some(above) => above.max(wanted),
                    None => return Err(self.plain(fault)),
                },
            };
            tracing::warn!(fault = %self.text(&fault), rung = ?next, "token operation failed; recovering");
            rung = Some(next);
            if let Err(fault) = self.recover(next) {
                if next == Rung::Initialize || matches!(fault, Fault::Typed(TokenError::PinIncorrect)) {
                    return Err(self.plain(fault));
                }
                rung = Some(Rung::Initialize);
                self.recover(Rung::Initialize).map_err(|f| self.plain(f))?;
            }
        }
    }

    fn recover(&mut self, rung: Rung) -> Result<(), Fault> {
        let context = self.context.clone();
        match rung {
            Rung::FindAgain => {
                self.attached()?.handles.clear();
                Ok(())
            }
            Rung::NewSession => {
                let attached = self.attached()?;
                attached.handles.clear();
                let sessions = attached.sessions.as_mut().ok_or(RvError::SessionHandleInvalid).map_err(rv)?;
                sessions.work = context.open_rw_session(sessions.slot)?;
                Ok(())
            }
            Rung::Login => self.open_sessions(),
            Rung::Initialize => {
                let attached = self.attached()?;
                attached.handles.clear();
                attached.sessions = None;
                // A module that lost its token may refuse even this; initialising decides.
                if let Err(e) = context.clone().finalize() {
                    tracing::warn!("C_Finalize: {e}");
                }
                let uri = attached.uri.to_string();
                initialize(&context).map_err(|e| {
                    tracing::error!("C_Initialize: {e}");
                    Fault::Typed(TokenError::TokenMissing { uri })
                })?;
                self.open_sessions()
            }
        }
    }

    fn text(&self, fault: &Fault) -> String {
        match fault {
            Fault::Rv(_, text) => text.clone(),
            Fault::Typed(e) => e.to_string(),
        }
    }

    /// What the parent is told.
    pub(super) fn plain(&self, fault: Fault) -> TokenError {
        let missing = || TokenError::TokenMissing {
            uri: self.token.as_ref().map_or_else(|| self.path.display().to_string(), |t| t.uri.to_string()),
        };
        match fault {
            Fault::Typed(e) => e,
            Fault::Rv(RvError::PinIncorrect, _) => TokenError::PinIncorrect,
            Fault::Rv(RvError::PinLocked, _) => TokenError::PinLocked,
            Fault::Rv(RvError::TokenNotPresent | RvError::DeviceRemoved | RvError::SlotIdInvalid, _) => missing(),
            Fault::Rv(RvError::MechanismInvalid | RvError::FunctionNotSupported, text) => {
                TokenError::Unsupported { what: text }
            }
            Fault::Rv(_, what) => TokenError::Token { what },
        }
    }

    /// The work session and the handle of one key.
    fn key(&mut self, id: Uuid, class: ObjectClass) -> Result<(&Session, ObjectHandle), Fault> {
        let attached = self.attached()?;
        let sessions = attached.sessions.as_ref().ok_or(RvError::SessionHandleInvalid).map_err(rv)?;
        let handle = match attached.handles.get(&id) {
            Some(handle) => *handle,
            None => {
                let handle = find_key(&sessions.work, id, class)?;
                attached.handles.insert(id, handle);
                handle
            }
        };
        Ok((&sessions.work, handle))
    }

    fn work(&mut self) -> Result<&Session, Fault> {
        let sessions = self.attached()?.sessions.as_ref();
        sessions.map(|s| &s.work).ok_or(RvError::SessionHandleInvalid).map_err(rv)
    }

    pub(super) fn init_token(&mut self, so_pin: Pin, label: &str) -> Result<(), TokenError> {
        let slots = self.context.get_slots_with_token().map_err(|e| self.plain(e.into()))?;
        let free = slots
            .into_iter()
            .find(|slot| self.context.get_token_info(*slot).is_ok_and(|info| !info.token_initialized()));
        let slot = free.ok_or(TokenError::TokenMissing { uri: "a token that is not initialised".into() })?;
        let pin = auth_pin(&so_pin)?;
        self.context.init_token(slot, &pin, label).map_err(|e| self.plain(e.into()))?;
        self.so_pin = Some((slot, so_pin));
        Ok(())
    }

    /// Sets the user PIN of the token just initialised, and names it by serial number.
    pub(super) fn init_pin(&mut self, user_pin: &Pin) -> Result<Uri, TokenError> {
        let unused = TokenError::Worker { what: "no token was initialised before".into() };
        let (slot, so_pin) = self.so_pin.take().ok_or(unused)?;
        let result = (|| -> Result<Uri, Fault> {
            let session = self.context.open_rw_session(slot)?;
            session.login(UserType::So, Some(&auth_pin(&so_pin)?))?;
            session.init_pin(&auth_pin(user_pin)?)?;
            session.logout()?;
            let info = self.context.get_token_info(slot)?;
            Ok(Uri {
                token: Some(info.label().to_owned()),
                serial: Some(info.serial_number().to_owned()),
                manufacturer: Some(info.manufacturer_id().to_owned()),
                ..Uri::default()
            })
        })();
        result.map_err(|f| self.plain(f))
    }

    pub(super) fn mechanisms(&mut self) -> Result<Vec<u64>, Fault> {
        let slot = self.attached()?.sessions.as_ref().map(|s| s.slot);
        let slot = slot.ok_or(RvError::SlotIdInvalid).map_err(rv)?;
        self.raw.mechanisms(slot.id()).map_err(|e| Fault::from(raw_fault("C_GetMechanismList", e)))
    }

    pub(super) fn make_kek(&mut self, id: Uuid, label: &str, mechanism: WrapMechanism) -> Result<(), Fault> {
        let wraps = mechanism == WrapMechanism::AesKeyWrap;
        let session = self.work()?;
        if !find_keys(session, id, ObjectClass::SECRET_KEY)?.is_empty() {
            return Err(TokenError::KeyAmbiguous { class: "secret key".into(), id, count: 2 }.into());
        }
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(32.into()),
            Attribute::Id(id.as_bytes().to_vec()),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Wrap(wraps),
            Attribute::Unwrap(wraps),
            Attribute::Encrypt(!wraps),
            Attribute::Decrypt(!wraps),
            Attribute::Sign(false),
            Attribute::Verify(false),
            Attribute::Derive(false),
            Attribute::Copyable(false),
            Attribute::Modifiable(false),
        ];
        // COPYABLE (2.40) and MODIFIABLE are not taken by every token; the others are not negotiable.
        loop {
            match session.generate_key(&Mechanism::AesKeyGen, &template) {
                Ok(_) => break,
                Err(CkError::Pkcs11(
                    RvError::AttributeTypeInvalid | RvError::AttributeValueInvalid | RvError::TemplateInconsistent,
                    _,
                )) if matches!(template.last(), Some(Attribute::Modifiable(_) | Attribute::Copyable(_))) => {
                    template.pop();
                }
                Err(e) => return Err(e.into()),
            }
        }
        self.check_kek(id, mechanism)
    }

    /// Reads a KEK's attributes back and refuses one that could leave the token or serves two purposes.
    pub(super) fn check_kek(&mut self, id: Uuid, mechanism: WrapMechanism) -> Result<(), Fault> {
        let (session, key) = self.key(id, ObjectClass::SECRET_KEY)?;
        let asked = [
            AttributeType::KeyType,
            AttributeType::ValueLen,
            AttributeType::Sensitive,
            AttributeType::Extractable,
            AttributeType::AlwaysSensitive,
            AttributeType::NeverExtractable,
            AttributeType::Local,
            AttributeType::Wrap,
            AttributeType::Unwrap,
            AttributeType::Encrypt,
            AttributeType::Decrypt,
        ];
        let found = session.get_attributes(key, &asked)?;
        let wraps = mechanism == WrapMechanism::AesKeyWrap;
        let wanted = [
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(32.into()),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::AlwaysSensitive(true),
            Attribute::NeverExtractable(true),
            Attribute::Local(true),
            Attribute::Wrap(wraps),
            Attribute::Unwrap(wraps),
            Attribute::Encrypt(!wraps),
            Attribute::Decrypt(!wraps),
        ];
        for want in wanted {
            if !found.contains(&want) {
                let has = found.iter().find(|f| f.attribute_type() == want.attribute_type());
                let has = has.map_or_else(|| "does not tell it".to_owned(), |h| format!("has {h:?}"));
                return Err(TokenError::KeyUnfit { id, what: format!("{want:?} is needed, it {has}") }.into());
            }
        }
        Ok(())
    }

    /// Makes a data key in the token, reads its value, wraps it as asked, and unwraps each copy to see that it is the same key.
    pub(super) fn make_data_key(&mut self, wraps: &[WrapWith]) -> Result<(DataKey, Vec<HexBytes>), Fault> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(32.into()),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ];
        let object = self.work()?.generate_key(&Mechanism::AesKeyGen, &template)?;
        let made = self.read_value(object).and_then(|key| {
            let blobs =
                wraps.iter().map(|with| self.wrap_and_verify(with, Some(object), &key)).collect::<Result<_, _>>()?;
            Ok((key, blobs))
        });
        self.discard(object);
        made
    }

    /// Wraps a data key that comes from elsewhere, from another token say; each copy is unwrapped to see that it is the same key.
    pub(super) fn wrap(&mut self, key: &DataKey, wraps: &[WrapWith]) -> Result<Vec<HexBytes>, Fault> {
        let needs_object = wraps.iter().any(|with| with.mechanism == WrapMechanism::AesKeyWrap);
        let object = needs_object.then(|| self.import(key)).transpose()?;
        let made = wraps.iter().map(|with| self.wrap_and_verify(with, object, key)).collect();
        if let Some(object) = object {
            self.discard(object);
        }
        made
    }

    /// Wraps what `blob` holds under another KEK of this token. The key does not leave this process.
    pub(super) fn rewrap(&mut self, from: &WrapWith, blob: &[u8], to: &WrapWith) -> Result<HexBytes, Fault> {
        if blob.len() != from.mechanism.blob_len() {
            return Err(TokenError::TamperedBlob { kek: from.kek }.into());
        }
        if from.mechanism == WrapMechanism::AesGcm {
            let key = self.decrypt_key(from, blob)?;
            let blobs = self.wrap(&key, std::slice::from_ref(to))?;
            return blobs.into_iter().next().ok_or_else(|| TokenError::WrapFault { what: "nothing".into() }.into());
        }
        // The unwrapped object is wrapped again: a token that takes no keys in the clear serves too.
        let object = self.unwrap_object(from.kek, blob)?;
        let made = self.read_value(object).and_then(|key| self.wrap_and_verify(to, Some(object), &key));
        self.discard(object);
        made
    }

    /// A session object with a known value.
    fn import(&mut self, key: &DataKey) -> Result<ObjectHandle, Fault> {
        let mut template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::Value(key.expose().to_vec()),
        ];
        let object = self.work()?.create_object(&template);
        if let Some(Attribute::Value(value)) = template.last_mut() {
            value.zeroize();
        }
        Ok(object?)
    }

    fn read_value(&mut self, object: ObjectHandle) -> Result<DataKey, Fault> {
        let session = self.work()?.handle();
        DataKey::fill_with(|to| {
            self.raw.read_key(session, object.handle(), to).map_err(|e| raw_fault("C_GetAttributeValue", e).into())
        })
    }

    /// Session objects go with the session at the latest, so a failure here only wastes memory until then.
    fn discard(&mut self, object: ObjectHandle) {
        if let Ok(session) = self.work()
            && let Err(e) = session.destroy_object(object)
        {
            tracing::debug!("C_DestroyObject: {e}");
        }
    }

    /// `object` is the key in the token; a mechanism that wraps needs it, one that encrypts does not.
    fn wrap_and_verify(
        &mut self,
        with: &WrapWith,
        object: Option<ObjectHandle>,
        key: &DataKey,
    ) -> Result<HexBytes, Fault> {
        let (session, kek) = self.key(with.kek, ObjectClass::SECRET_KEY)?;
        let blob = match with.mechanism {
            WrapMechanism::AesKeyWrap => {
                let object = object.ok_or(RvError::KeyHandleInvalid).map_err(rv)?;
                session.wrap_key(&Mechanism::AesKeyWrap, kek, object)?
            }
            WrapMechanism::AesGcm => {
                let mut nonce = [0u8; 12];
                getrandom::fill(&mut nonce).map_err(|e| TokenError::Worker { what: e.to_string() })?;
                let mut blob = nonce.to_vec();
                let params = GcmParams::new(&mut nonce, &with.aad.0, 128.into())?;
                blob.extend(session.encrypt(&Mechanism::AesGcm(params), kek, key.expose())?);
                blob
            }
        };
        let (got, wanted) = (blob.len(), with.mechanism.blob_len());
        if got != wanted {
            let what = format!("a wrapped key has {got} bytes instead of {wanted}");
            return Err(TokenError::WrapFault { what }.into());
        }
        if !self.unwrap(with, &blob)?.ct_eq(key) {
            return Err(TokenError::WrapFault { what: "unwrapping gives another key".into() }.into());
        }
        Ok(HexBytes(blob))
    }

    pub(super) fn unwrap(&mut self, with: &WrapWith, blob: &[u8]) -> Result<DataKey, Fault> {
        if blob.len() != with.mechanism.blob_len() {
            return Err(TokenError::TamperedBlob { kek: with.kek }.into());
        }
        match with.mechanism {
            WrapMechanism::AesKeyWrap => self.unwrap_key(with.kek, blob),
            WrapMechanism::AesGcm => self.decrypt_key(with, blob),
        }
    }

    fn unwrap_key(&mut self, kek: Uuid, blob: &[u8]) -> Result<DataKey, Fault> {
        let object = self.unwrap_object(kek, blob)?;
        let value = self.read_value(object);
        self.discard(object);
        value
    }

    fn unwrap_object(&mut self, kek: Uuid, blob: &[u8]) -> Result<ObjectHandle, Fault> {
        let first = self.attached()?.unwrap_template;
        let other = match first {
            UnwrapTemplate::Plain => UnwrapTemplate::WithLength,
            UnwrapTemplate::WithLength => UnwrapTemplate::Plain,
        };
        let (session, key) = self.key(kek, ObjectClass::SECRET_KEY)?;
        let attempt = |template: UnwrapTemplate| {
            let mut attributes = vec![
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::AES),
                Attribute::Token(false),
                Attribute::Private(true),
                Attribute::Sensitive(false),
                Attribute::Extractable(true),
            ];
            if template == UnwrapTemplate::WithLength {
                attributes.push(Attribute::ValueLen(32.into()));
            }
            session.unwrap_key(&Mechanism::AesKeyWrap, key, blob, &attributes)
        };
        match attempt(first) {
            Err(CkError::Pkcs11(
                RvError::TemplateIncomplete
                | RvError::TemplateInconsistent
                | RvError::AttributeValueInvalid
                | RvError::AttributeReadOnly,
                _,
            )) => {
                let object = attempt(other)?;
                self.attached()?.unwrap_template = other;
                Ok(object)
            }
            result => Ok(result?),
        }
    }

    fn decrypt_key(&mut self, with: &WrapWith, blob: &[u8]) -> Result<DataKey, Fault> {
        let damaged = || Fault::from(TokenError::TamperedBlob { kek: with.kek });
        let (nonce, sealed) = blob.split_first_chunk::<12>().ok_or_else(damaged)?;
        let mut nonce = *nonce;
        let (session, key) = self.key(with.kek, ObjectClass::SECRET_KEY)?;
        let params = GcmParams::new(&mut nonce, &with.aad.0, 128.into())?;
        let value = Zeroizing::new(session.decrypt(&Mechanism::AesGcm(params), key, sealed)?);
        let value = value.as_slice().try_into().map_err(|_| damaged())?;
        Ok(DataKey::copy_from(value)?)
    }

    /// Makes a key pair in the token; gives the public key.
    pub(super) fn make_signing_key(
        &mut self,
        id: Uuid,
        label: &str,
        algorithm: SignAlgorithm,
    ) -> Result<Vec<u8>, Fault> {
        let session = self.work()?;
        if !find_keys(session, id, ObjectClass::PRIVATE_KEY)?.is_empty() {
            return Err(TokenError::KeyAmbiguous { class: "private key".into(), id, count: 2 }.into());
        }
        // Parameters of the curve: by OID (RFC 8410, RFC 5480); Ed25519 also by name, as PKCS#11 2.40 tokens want it.
        let (mechanism, curves, length): (_, &[&[u8]], _) = match algorithm {
            SignAlgorithm::Ed25519 => {
                (Mechanism::EccEdwardsKeyPairGen, &[b"\x06\x03\x2b\x65\x70", b"\x13\x0cedwards25519"], 32)
            }
            SignAlgorithm::EcdsaP256 => (Mechanism::EccKeyPairGen, &[b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"], 65),
        };
        let mut last = None;
        for curve in curves {
            let public = [
                Attribute::Token(true),
                Attribute::Private(false),
                Attribute::Verify(true),
                Attribute::EcParams(curve.to_vec()),
                Attribute::Id(id.as_bytes().to_vec()),
                Attribute::Label(label.as_bytes().to_vec()),
            ];
            let private = [
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
                Attribute::Decrypt(false),
                Attribute::Unwrap(false),
                Attribute::Derive(false),
                Attribute::Id(id.as_bytes().to_vec()),
                Attribute::Label(label.as_bytes().to_vec()),
            ];
            match session.generate_key_pair(&mechanism, &public, &private) {
                Ok((public, _)) => return public_point(session, public, length),
                Err(e) => last = Some(e),
            }
        }
        Err(last.map_or_else(|| TokenError::Unsupported { what: "this curve".into() }.into(), Fault::from))
    }

    pub(super) fn sign(&mut self, id: Uuid, algorithm: SignAlgorithm, data: &[u8]) -> Result<Vec<u8>, Fault> {
        let (session, key) = self.key(id, ObjectClass::PRIVATE_KEY)?;
        let (signature, length) = match algorithm {
            SignAlgorithm::Ed25519 => {
                let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
                (session.sign(&mechanism, key, data)?, 64)
            }
            // Hashed here: SoftHSM lacks ECDSA_SHA256.
            SignAlgorithm::EcdsaP256 => (session.sign(&Mechanism::Ecdsa, key, &Sha256::digest(data))?, 64),
        };
        if signature.len() != length {
            let what = format!("a signature of {} bytes instead of {length}", signature.len());
            return Err(TokenError::Unsupported { what }.into());
        }
        Ok(signature)
    }
}

/// `CKA_EC_POINT`: a DER OCTET STRING around the point, or the point alone.
fn public_point(session: &Session, key: ObjectHandle, length: usize) -> Result<Vec<u8>, Fault> {
    let attributes = session.get_attributes(key, &[AttributeType::EcPoint])?;
    let Some(Attribute::EcPoint(point)) = attributes.first() else {
        return Err(TokenError::Unsupported { what: "giving out a public key".into() }.into());
    };
    let point = match point.as_slice() {
        [4, inner, rest @ ..] if usize::from(*inner) == length && rest.len() == length => rest,
        whole => whole,
    };
    if point.len() != length {
        let what = format!("a public key of {} bytes instead of {length}", point.len());
        return Err(TokenError::Unsupported { what }.into());
    }
    Ok(point.to_vec())
}

impl Attached {
    fn login(&mut self, session: &Session) -> Result<(), Fault> {
        if self.pin_rejected {
            return Err(TokenError::PinIncorrect.into());
        }
        match session.login(UserType::User, Some(&auth_pin(&self.pin)?)) {
            Ok(()) | Err(CkError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(e) => {
                if let CkError::Pkcs11(RvError::PinIncorrect | RvError::PinLocked | RvError::PinInvalid, _) = e {
                    self.pin_rejected = true;
                }
                match e {
                    CkError::Pkcs11(RvError::PinInvalid | RvError::PinLenRange, _) => {
                        Err(TokenError::PinIncorrect.into())
                    }
                    other => Err(other.into()),
                }
            }
        }
    }
}

fn rv(e: RvError) -> Fault {
    let text = e.to_string();
    Fault::Rv(e, text)
}

fn raw_fault(function: &str, rv: u64) -> TokenError {
    TokenError::Token { what: format!("{function}: return value {rv:#x}") }
}

fn initialize(context: &Pkcs11) -> Result<(), CkError> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(CkError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// `cryptoki` takes a PIN as its own wiped string; made with its exact size, so that no copy is left behind by growth.
fn auth_pin(pin: &Pin) -> Result<AuthPin, TokenError> {
    let text = std::str::from_utf8(pin.expose()).map_err(|e| TokenError::Worker { what: e.to_string() })?;
    Ok(AuthPin::from(Box::<str>::from(text)))
}

fn find_slot(context: &Pkcs11, uri: &Uri) -> Result<Slot, Fault> {
    let mut matches = Vec::new();
    for slot in context.get_slots_with_token()? {
        let Ok(info) = context.get_token_info(slot) else { continue };
        let same = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|w| w == has);
        if info.token_initialized()
            && same(&uri.token, info.label())
            && same(&uri.serial, info.serial_number())
            && same(&uri.manufacturer, info.manufacturer_id())
            && same(&uri.model, info.model())
            && uri.slot_id.is_none_or(|id| id == slot.id())
        {
            matches.push(slot);
        }
    }
    match matches.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(TokenError::TokenMissing { uri: uri.to_string() }.into()),
        several => Err(TokenError::TokenAmbiguous { uri: uri.to_string(), count: several.len() }.into()),
    }
}

fn find_keys(session: &Session, id: Uuid, class: ObjectClass) -> Result<Vec<ObjectHandle>, Fault> {
    let template = [Attribute::Class(class), Attribute::Token(true), Attribute::Id(id.as_bytes().to_vec())];
    Ok(session.find_objects(&template)?)
}

fn find_key(session: &Session, id: Uuid, class: ObjectClass) -> Result<ObjectHandle, Fault> {
    let name = if class == ObjectClass::SECRET_KEY { "secret key" } else { "private key" };
    match find_keys(session, id, class)?.as_slice() {
        [key] => Ok(*key),
        [] => Err(TokenError::KeyNotFound { class: name.into(), id }.into()),
        several => Err(TokenError::KeyAmbiguous { class: name.into(), id, count: several.len() }.into()),
    }
}
