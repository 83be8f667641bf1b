//! Replacing the key-encryption key of wrapped keys, and destroying keys of the token.

use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use uuid::Uuid;

use super::super::error::TokenError;
use super::super::wire::{Canary, Rewrapped, WrapMechanism, WrapWith, WrappedItem};
use super::{Fault, Module, find_keys};
use crate::hex::HexBytes;
use crate::secret::DataKey;

impl Module {
    /// Rewraps each key. A copy that does not open although the KEK works is the copy's fault and tells so in its place;
    /// anything else ends the call.
    pub(in super::super) fn rewrap_all(
        &mut self,
        from: &Canary,
        to: &Canary,
        items: &[WrappedItem],
    ) -> Result<Vec<Rewrapped>, TokenError> {
        let rewrap = |m: &mut Self, item: &WrappedItem| {
            let source = WrapWith { aad: item.aad.clone(), ..from.with.clone() };
            let target = WrapWith { aad: item.aad.clone(), ..to.with.clone() };
            m.run(|m| m.rewrap(&source, &item.blob.0, &target)).map(Rewrapped::To)
        };
        items.iter().map(|item| rewrap(self, item).or_else(|e| self.blame(e, &[from, to]))).collect()
    }

    /// Opens each wrapped key, keeping none.
    pub(in super::super) fn check_all(
        &mut self,
        kek: &Canary,
        items: &[WrappedItem],
    ) -> Result<Vec<Rewrapped>, TokenError> {
        let check = |m: &mut Self, item: &WrappedItem| {
            let with = WrapWith { aad: item.aad.clone(), ..kek.with.clone() };
            m.run(|m| m.unwrap(&with, &item.blob.0)).map(|_| Rewrapped::Opens)
        };
        items.iter().map(|item| check(self, item).or_else(|e| self.blame(e, &[kek]))).collect()
    }

    /// Tokens answer a damaged copy with the same values as a fault of their own: whether the canaries still open decides.
    fn blame(&mut self, error: TokenError, keks: &[&Canary]) -> Result<Rewrapped, TokenError> {
        let of_the_token = matches!(
            error,
            TokenError::WrapFault { .. }
                | TokenError::Unsupported { .. }
                | TokenError::KeyNotFound { .. }
                | TokenError::KeyAmbiguous { .. }
                | TokenError::Worker { .. }
        );
        if of_the_token {
            return Err(error);
        }
        for kek in keks {
            self.run(|m| m.unwrap(&kek.with, &kek.blob.0))?;
        }
        Ok(Rewrapped::Damaged(error.to_string()))
    }

    /// Unwraps to a session object, wraps by the other KEK, unwraps again and compares.
    fn rewrap(&mut self, from: &WrapWith, blob: &[u8], to: &WrapWith) -> Result<HexBytes, Fault> {
        let object = match from.mechanism {
            _ if blob.len() != from.mechanism.blob_len() => {
                return Err(TokenError::TamperedBlob { kek: from.kek }.into());
            }
            WrapMechanism::AesKeyWrap => self.unwrap_object(from.kek, blob)?,
            WrapMechanism::AesGcm => {
                let key = self.unwrap(from, blob)?;
                return self.wrap_value(to, &key);
            }
        };
        let wrapped = self.read_value(object).and_then(|key| self.wrap_and_verify(to, object, &key));
        self.discard(object);
        wrapped
    }

    /// Wraps a data key that came from elsewhere, and verifies the copy.
    pub(in super::super) fn wrap_value(&mut self, to: &WrapWith, key: &DataKey) -> Result<HexBytes, Fault> {
        if to.mechanism == WrapMechanism::AesGcm {
            let blob = self.encrypt_key(to, key)?;
            return self.verified(to, blob, key);
        }
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            // `cryptoki` wants a vector; its copy is wiped with it below.
            Attribute::Value(key.expose().to_vec()),
        ];
        let made = self.work()?.create_object(&template);
        for attribute in template {
            if let Attribute::Value(mut value) = attribute {
                zeroize::Zeroize::zeroize(&mut value);
            }
        }
        let object = made?;
        let wrapped = self.wrap_and_verify(to, object, key);
        self.discard(object);
        wrapped
    }

    /// Destroys a KEK and looks for it again; false when it was not there.
    pub(in super::super) fn destroy_kek(&mut self, id: Uuid) -> Result<bool, Fault> {
        let objects: Vec<ObjectHandle> = find_keys(self.work()?, id, ObjectClass::SECRET_KEY)?;
        self.attached()?.handles.remove(&id);
        for object in &objects {
            self.work()?.destroy_object(*object)?;
        }
        match find_keys(self.work()?, id, ObjectClass::SECRET_KEY)?.len() {
            0 => Ok(!objects.is_empty()),
            count => {
                let what = format!("C_DestroyObject said that it destroyed key {id}, and {count} stand there still");
                Err(TokenError::Token { what }.into())
            }
        }
    }
}
