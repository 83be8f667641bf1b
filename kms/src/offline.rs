//! Restoring without services and without a catalogue: the medium, and the token or the shares of the recovery key.

use uuid::Uuid;

use crate::age::Identity;
use crate::authority::wrap_aad;
use crate::pkcs11::{Token, TokenConfig, TokenError, WrapMechanism, WrapWith};
use crate::protocol::{GenerationRef, Stanza};
use crate::recovery::stanza::{self, StanzaError};
use crate::secret::DataKey;

/// Why no stanza gave the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// The generation record carries no wrapped key that this program knows.
    #[error(
        "the medium carries no wrapped key; its pool keeps keys in the catalogue only, so the catalogue or its backup is needed"
    )]
    NoStanza,
    /// A stanza is malformed.
    #[error("a wrapped key on the medium is malformed: {0}")]
    Malformed(&'static str),
    /// The generation record carries no key for a recovery key.
    #[error(
        "the medium carries no key wrapped to a recovery key: it was written before there was one, or its pool keeps that in the catalogue only"
    )]
    NoRecoveryStanza,
    /// The recovery key did not open it.
    #[error(transparent)]
    Recovery(#[from] StanzaError),
    /// The token did not open it.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A stanza taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrappedKey<'a> {
    /// The key-encryption key.
    pub kek: Uuid,
    /// How it wraps.
    pub mechanism: WrapMechanism,
    /// The wrapped key.
    pub blob: &'a [u8],
}

/// Takes a stanza apart; none for a type this program does not know.
///
/// # Errors
/// [`OfflineError::Malformed`] when the body does not have the length of its type.
pub fn parse_stanza(stanza: &Stanza) -> Result<Option<WrappedKey<'_>>, OfflineError> {
    let mechanism = match stanza.kind {
        1 => WrapMechanism::AesKeyWrap,
        2 => WrapMechanism::AesGcm,
        _ => return Ok(None),
    };
    let (kek, blob) = stanza.body.0.split_first_chunk::<16>().ok_or(OfflineError::Malformed("too short"))?;
    if blob.len() != mechanism.blob_len() {
        return Err(OfflineError::Malformed("its length is not that of its type"));
    }
    Ok(Some(WrappedKey { kek: Uuid::from_bytes(*kek), mechanism, blob }))
}

/// The data key from one stanza of a generation record. `at` is what label and record say.
///
/// # Errors
/// [`OfflineError`]
pub fn unwrap_stanza(config: TokenConfig, stanza: &Stanza, at: GenerationRef) -> Result<DataKey, OfflineError> {
    unwrap_any(config, std::slice::from_ref(stanza), at)
}

/// The data key from the first stanza that the token opens; types that are not known are skipped.
///
/// # Errors
/// [`OfflineError`]: that of the last stanza tried.
pub fn unwrap_any(config: TokenConfig, stanzas: &[Stanza], at: GenerationRef) -> Result<DataKey, OfflineError> {
    let token = Token::new(config);
    let mut last = OfflineError::NoStanza;
    for stanza in stanzas {
        let opened = parse_stanza(stanza).and_then(|parsed| match parsed {
            None => Ok(None),
            Some(WrappedKey { kek, mechanism, blob }) => {
                let with = WrapWith { kek, mechanism, aad: wrap_aad(at) };
                Ok(Some(token.unwrap(&with, blob)?))
            }
        });
        match opened {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            // Trying on with the next stanza could cost another login.
            Err(e @ OfflineError::Token(TokenError::PinIncorrect | TokenError::PinLatched { .. })) => return Err(e),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// The recovery keys that the stanzas of a generation record are for.
///
/// # Errors
/// [`OfflineError::Recovery`] when one is malformed.
pub fn recovery_keys(stanzas: &[Stanza]) -> Result<Vec<Uuid>, OfflineError> {
    let ours = stanzas.iter().filter(|s| s.kind == stanza::KIND);
    ours.map(|s| Ok(stanza::recovery_key(&s.body.0)?)).collect()
}

/// The data key from the stanza that the recovery key opens.
///
/// # Errors
/// [`OfflineError`]: that of the last stanza tried.
pub fn unwrap_recovery(identity: &Identity, stanzas: &[Stanza], at: GenerationRef) -> Result<DataKey, OfflineError> {
    let mut last = OfflineError::NoRecoveryStanza;
    for one in stanzas.iter().filter(|s| s.kind == stanza::KIND) {
        match stanza::unwrap(identity, &one.body.0, at) {
            Ok(key) => return Ok(key),
            Err(e) => last = e.into(),
        }
    }
    Err(last)
}
