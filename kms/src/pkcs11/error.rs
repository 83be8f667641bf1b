//! What can go wrong between the key authority and a token.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A failed operation on a token. Crosses the worker's socket as it is; never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenError {
    /// The URI is not one.
    #[error("{uri:?} is no PKCS#11 URI ({what}); RFC 7512 has the form pkcs11:token=NAME;serial=NUMBER")]
    Uri {
        /// What was given.
        uri: String,
        /// What is wrong with it.
        what: String,
    },
    /// The module cannot be loaded or initialised.
    #[error("the PKCS#11 module {} cannot be used: {what}; check its path and its own configuration", module.display())]
    Module {
        /// Its path.
        module: PathBuf,
        /// Why.
        what: String,
    },
    /// No token matches.
    #[error("no token matches {uri}; connect it, or check that its directory (SoftHSM) is in place")]
    TokenMissing {
        /// What was looked for.
        uri: String,
    },
    /// Several tokens match.
    #[error("{count} tokens match {uri}; add the serial number to the URI")]
    TokenAmbiguous {
        /// What was looked for.
        uri: String,
        /// How many match.
        count: usize,
    },
    /// The token rejected the PIN just now.
    #[error("the token rejected the PIN; it is not tried again until the PIN is put right and the latch is cleared")]
    PinIncorrect,
    /// The token has locked its PIN.
    #[error("the token has locked its PIN; its security officer has to unlock it, then clear the latch")]
    PinLocked,
    /// One more wrong PIN would lock the token.
    #[error(
        "the token allows one more wrong PIN before it locks, so the PIN is not tried; log in once with the vendor's tool, which resets the count"
    )]
    PinFinalTry,
    /// It is not known how the last login went, and the token counts a rejected PIN.
    #[error(
        "a login was cut off, and the token counts a rejected PIN since; the PIN is not tried again until it is put right and the latch is cleared"
    )]
    PinInDoubt,
    /// A PIN was rejected earlier.
    #[error("the PIN was rejected at {since} and is not tried again, so that the token does not lock; put the PIN right, then clear {}", file.display())]
    PinLatched {
        /// The latch file.
        file: PathBuf,
        /// When the PIN was rejected.
        since: String,
    },
    /// No PIN can be had.
    #[error("cannot take the PIN from {source_name}: {what}")]
    PinSource {
        /// File, credential or prompt.
        source_name: String,
        /// What is wrong, and the mend.
        what: String,
    },
    /// No key of this id.
    #[error("the token holds no {class} with id {id}; is it the token that this installation was set up with?")]
    KeyNotFound {
        /// "secret key", "private key".
        class: String,
        /// Its `CKA_ID`.
        id: Uuid,
    },
    /// Several keys of this id.
    #[error(
        "the token holds {count} {class}s with id {id}, so it is not clear which one is meant; remove the foreign one"
    )]
    KeyAmbiguous {
        /// "secret key", "private key".
        class: String,
        /// The `CKA_ID`.
        id: Uuid,
        /// How many.
        count: usize,
    },
    /// A KEK with attributes that must not be.
    #[error("the key {id} in the token is no safe key-encryption key: {what}; do not use it")]
    KeyUnfit {
        /// Its `CKA_ID`.
        id: Uuid,
        /// Which attribute.
        what: String,
    },
    /// A wrapped key does not unwrap although the token works.
    #[error("the wrapped key is damaged or not of key-encryption key {kek}")]
    TamperedBlob {
        /// The KEK that should open it.
        kek: Uuid,
    },
    /// The token's wrapping gave something else than it should.
    #[error("the token wrapped a key wrongly: {what}; this token cannot be used with this mechanism")]
    WrapFault {
        /// What.
        what: String,
    },
    /// The token lacks something.
    #[error("the token cannot do {what}")]
    Unsupported {
        /// What.
        what: String,
    },
    /// The worker did not answer and was killed.
    #[error(
        "the PKCS#11 module did not answer {call} within {limit_ms} ms; its process was ended and starts again with the next call"
    )]
    Hung {
        /// The operation.
        call: String,
        /// The limit.
        limit_ms: u64,
    },
    /// The worker ended.
    #[error("the PKCS#11 module's process ended during {call}; it starts again with the next call")]
    Crashed {
        /// The operation.
        call: String,
    },
    /// All sessions of the token are at work.
    #[error("all {sessions} sessions of the token are at work and none came free within {limit_ms} ms")]
    Busy {
        /// How many there are.
        sessions: u16,
        /// The limit.
        limit_ms: u64,
    },
    /// The worker cannot be started or talked to.
    #[error("the PKCS#11 worker process cannot be used: {what}")]
    Worker {
        /// Why.
        what: String,
    },
    /// Anything else that the token says.
    #[error("the token failed: {what}")]
    Token {
        /// Function and return value.
        what: String,
    },
}
