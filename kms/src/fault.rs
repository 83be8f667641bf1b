//! How faults of the catalogue and the token become refusals in the operator's words.

use crate::custody::NotCanonical;
use crate::pkcs11::TokenError;
use crate::protocol::{Refusal, RefusalCode};

impl From<rusqlite::Error> for Refusal {
    fn from(e: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let what = format!("the catalogue failed: {e}");
        match e.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                Self::new(
                    RefusalCode::LogUnwritable,
                    what,
                    "make room or mend the file system of the key authority's folder; without its log no key is released",
                )
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(what),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::new(RefusalCode::Busy, what, "end the other program that has catalogue.db open")
            }
            _ => Self::new(RefusalCode::Internal, what, "report this with the log of sealtape-keyd"),
        }
    }
}

impl From<NotCanonical> for Refusal {
    fn from(e: NotCanonical) -> Self {
        internal(e.to_string())
    }
}

impl From<TokenError> for Refusal {
    fn from(e: TokenError) -> Self {
        let (code, mend) = match &e {
            TokenError::TokenMissing { .. } | TokenError::TokenAmbiguous { .. } | TokenError::Module { .. } => {
                (RefusalCode::TokenMissing, "then try again")
            }
            TokenError::PinIncorrect | TokenError::PinInDoubt | TokenError::PinLatched { .. } => {
                (RefusalCode::PinLatched, "run: sealtape hsm unlatch, after the PIN was put right")
            }
            TokenError::PinLocked => (
                RefusalCode::PinLatched,
                "let the token's security officer unlock it, put the PIN right, then run: sealtape hsm unlatch",
            ),
            TokenError::PinFinalTry => {
                (RefusalCode::PinLatched, "log in once with the vendor's tool, then run: sealtape hsm unlatch")
            }
            TokenError::Hung { .. } | TokenError::Crashed { .. } => {
                (RefusalCode::TokenHung, "try again; if it repeats, look at the HSM and its module")
            }
            TokenError::KeyNotFound { .. } | TokenError::KeyAmbiguous { .. } | TokenError::KeyUnfit { .. } => {
                (RefusalCode::KekMissing, "check which token is connected")
            }
            TokenError::Busy { .. } => {
                (RefusalCode::Busy, "try again; with more sessions per token more goes on at once")
            }
            TokenError::TamperedBlob { .. } => {
                (RefusalCode::TamperedBlob, "restore the catalogue from a backup, or read the key from the medium")
            }
            _ => (RefusalCode::Token, "see the log of sealtape-keyd"),
        };
        Self::new(code, e.to_string(), mend)
    }
}

pub(crate) fn damaged(what: impl Into<String>) -> Refusal {
    Refusal::new(
        RefusalCode::Damaged,
        what,
        "stop using this catalogue: export the custody log for the auditor, and restore a backup",
    )
}

pub(crate) fn internal(what: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::Internal, what, "report this with the log of sealtape-keyd")
}

pub(crate) fn bad_request(what: impl Into<String>, mend: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, what, mend)
}
