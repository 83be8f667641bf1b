//! A session of a token and what is done in it: data keys made, wrapped, unwrapped.

use std::collections::HashMap;
use std::sync::Arc;

use cryptoki::error::{Error as CkError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::error::TokenError;
use super::ladder::{Fault, raw_fault, rv};
use super::sys::RawModule;
use super::wire::{UnwrapTemplate, WrapMechanism, WrapWith};
use crate::hex::HexBytes;
use crate::secret::DataKey;

/// A work session with the handles it has found.
pub(super) struct Lane {
    pub(super) session: Session,
    pub(super) raw: Arc<RawModule>,
    handles: HashMap<Uuid, ObjectHandle>,
    pub(super) template: UnwrapTemplate,
}

impl Lane {
    pub(super) fn new(session: Session, raw: Arc<RawModule>, template: UnwrapTemplate) -> Self {
        Self { session, raw, handles: HashMap::new(), template }
    }

    /// Keys are looked for again.
    pub(super) fn forget(&mut self) {
        self.handles.clear();
    }

    /// The handle of one key.
    pub(super) fn key(&mut self, id: Uuid, class: ObjectClass) -> Result<ObjectHandle, Fault> {
        if let Some(handle) = self.handles.get(&id) {
            return Ok(*handle);
        }
        let handle = find_key(&self.session, id, class)?;
        self.handles.insert(id, handle);
        Ok(handle)
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
        let object = self.session.generate_key(&Mechanism::AesKeyGen, &template)?;
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
    pub(super) fn import(&mut self, key: &DataKey) -> Result<ObjectHandle, Fault> {
        let mut template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::Value(key.expose().to_vec()),
        ];
        let object = self.session.create_object(&template);
        if let Some(Attribute::Value(value)) = template.last_mut() {
            value.zeroize();
        }
        Ok(object?)
    }

    /// Destroys a KEK and looks for it again; false when it was not there.
    pub(super) fn destroy_kek(&mut self, id: Uuid) -> Result<bool, Fault> {
        let objects = find_keys(&self.session, id, ObjectClass::SECRET_KEY)?;
        self.handles.remove(&id);
        for object in &objects {
            self.session.destroy_object(*object)?;
        }
        match find_keys(&self.session, id, ObjectClass::SECRET_KEY)?.len() {
            0 => Ok(!objects.is_empty()),
            count => {
                let what = format!("C_DestroyObject said that it destroyed key {id}, and {count} stand there still");
                Err(TokenError::Token { what }.into())
            }
        }
    }

    pub(super) fn read_value(&mut self, object: ObjectHandle) -> Result<DataKey, Fault> {
        let session = self.session.handle();
        DataKey::fill_with(|to| {
            self.raw.read_key(session, object.handle(), to).map_err(|e| raw_fault("C_GetAttributeValue", e).into())
        })
    }

    /// Session objects go with the session at the latest, so a failure here only wastes memory until then.
    pub(super) fn discard(&self, object: ObjectHandle) {
        if let Err(e) = self.session.destroy_object(object) {
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
        let kek = self.key(with.kek, ObjectClass::SECRET_KEY)?;
        let session = &self.session;
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

    pub(super) fn unwrap_object(&mut self, kek: Uuid, blob: &[u8]) -> Result<ObjectHandle, Fault> {
        let key = self.key(kek, ObjectClass::SECRET_KEY)?;
        self.unwrap_by(key, blob).map_err(|fault| refused_by(fault, kek))
    }

    /// With the template that this token wants, which is searched for once.
    pub(super) fn unwrap_by(&mut self, key: ObjectHandle, blob: &[u8]) -> Result<ObjectHandle, Fault> {
        match self.unwrap_as(self.template, key, blob) {
            Err(CkError::Pkcs11(
                RvError::TemplateIncomplete
                | RvError::TemplateInconsistent
                | RvError::AttributeTypeInvalid
                | RvError::AttributeValueInvalid
                | RvError::AttributeReadOnly,
                _,
            )) => {}
            result => return Ok(result?),
        }
        let mut last = None;
        for template in UnwrapTemplate::ALL.into_iter().filter(|t| *t != self.template) {
            match self.unwrap_as(template, key, blob) {
                Ok(object) => {
                    self.template = template;
                    return Ok(object);
                }
                Err(e) => last = Some(e),
            }
        }
        Err(last.map_or_else(|| rv(RvError::TemplateInconsistent), Fault::from))
    }

    fn unwrap_as(&self, template: UnwrapTemplate, kek: ObjectHandle, blob: &[u8]) -> Result<ObjectHandle, CkError> {
        use UnwrapTemplate as T;
        let mut attributes = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Extractable(true),
        ];
        if matches!(template, T::Plain | T::WithLength) {
            attributes.push(Attribute::Sensitive(false));
        }
        if matches!(template, T::WithLength | T::ExtractableWithLength) {
            attributes.push(Attribute::ValueLen(32.into()));
        }
        self.session.unwrap_key(&Mechanism::AesKeyWrap, kek, blob, &attributes)
    }

    fn decrypt_key(&mut self, with: &WrapWith, blob: &[u8]) -> Result<DataKey, Fault> {
        let damaged = || Fault::from(TokenError::TamperedBlob { kek: with.kek });
        let (nonce, sealed) = blob.split_first_chunk::<12>().ok_or_else(damaged)?;
        let mut nonce = *nonce;
        let key = self.key(with.kek, ObjectClass::SECRET_KEY)?;
        let params = GcmParams::new(&mut nonce, &with.aad.0, 128.into())?;
        let value = Zeroizing::new(
            self.session
                .decrypt(&Mechanism::AesGcm(params), key, sealed)
                .map_err(|e| refused_by(e.into(), with.kek))?,
        );
        let value = value.as_slice().try_into().map_err(|_| damaged())?;
        Ok(DataKey::copy_from(value)?)
    }
}

/// Return values that speak of the input and of nothing else.
fn refused_by(fault: Fault, kek: Uuid) -> Fault {
    match fault {
        Fault::Rv(
            RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::WrappedKeyInvalid
            | RvError::WrappedKeyLenRange,
            _,
        ) => TokenError::TamperedBlob { kek }.into(),
        other => other,
    }
}

pub(super) fn find_keys(session: &Session, id: Uuid, class: ObjectClass) -> Result<Vec<ObjectHandle>, Fault> {
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
