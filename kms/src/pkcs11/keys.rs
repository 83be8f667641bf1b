//! Keys that stay in the token: key-encryption keys and signing keys.

use cryptoki::error::{Error as CkError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::error::TokenError;
use super::ladder::{Fault, rv};
use super::lane::{Lane, find_keys};
use super::wire::{SignAlgorithm, WrapMechanism};

impl Lane {
    /// That a key of this id can be made: the session lives and is logged in, and no key has the id. For the ladder, on which the
    /// making itself does not run: a second key of one id would be worse than none.
    pub(super) fn vacant(&self, id: Uuid, class: ObjectClass) -> Result<(), Fault> {
        if self.session.get_session_info()?.session_state() != SessionState::RwUser {
            return Err(rv(RvError::UserNotLoggedIn));
        }
        if find_keys(&self.session, id, class)?.is_empty() {
            return Ok(());
        }
        let class = if class == ObjectClass::SECRET_KEY { "secret key" } else { "private key" };
        Err(TokenError::KeyAmbiguous { class: class.into(), id, count: 2 }.into())
    }

    pub(super) fn make_kek(&mut self, id: Uuid, label: &str, mechanism: WrapMechanism) -> Result<(), Fault> {
        let wraps = mechanism == WrapMechanism::AesKeyWrap;
        self.vacant(id, ObjectClass::SECRET_KEY)?;
        let session = &self.session;
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
        let key = self.key(id, ObjectClass::SECRET_KEY)?;
        let session = &self.session;
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

    /// Makes a key pair in the token; gives the public key.
    pub(super) fn make_signing_key(
        &mut self,
        id: Uuid,
        label: &str,
        algorithm: SignAlgorithm,
    ) -> Result<Vec<u8>, Fault> {
        self.vacant(id, ObjectClass::PRIVATE_KEY)?;
        let session = &self.session;
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
        let key = self.key(id, ObjectClass::PRIVATE_KEY)?;
        let session = &self.session;
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
