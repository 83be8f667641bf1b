//! What a token says when it fails, and what may help: the recovery ladder.
//!
//! One rung per attempt: find the key again, new session, login, finalize and initialize. The rung above (a new worker) is the
//! parent's.

use cryptoki::error::{Error as CkError, RvError};

use super::error::TokenError;

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
pub(super) enum Rung {
    FindAgain,
    NewSession,
    Login,
    Initialize,
}

impl Rung {
    pub(super) fn above(self) -> Option<Self> {
        match self {
            Self::FindAgain => Some(Self::NewSession),
            Self::NewSession => Some(Self::Login),
            Self::Login => Some(Self::Initialize),
            Self::Initialize => None,
        }
    }

    /// Where the ladder is entered for a fault; none when climbing cannot help.
    pub(super) fn for_fault(fault: &Fault) -> Option<Self> {
        let rv = match fault {
            Fault::Rv(rv, _) => rv,
            // A token that came back shows itself, or its keys, only to a module that is initialised again.
            Fault::Typed(TokenError::KeyNotFound { .. } | TokenError::TokenMissing { .. }) => {
                return Some(Self::Initialize);
            }
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

impl Fault {
    /// Said for a token that is gone and for bad input alike: only a real operation tells them apart.
    pub(super) fn ambiguous(&self) -> bool {
        matches!(self, Self::Rv(RvError::GeneralError | RvError::FunctionFailed | RvError::DeviceError, _))
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Rv(_, text) => text.clone(),
            Self::Typed(e) => e.to_string(),
        }
    }

    /// What the parent is told; `uri` names the token.
    pub(super) fn plain(self, uri: &str) -> TokenError {
        match self {
            Self::Typed(e) => e,
            Self::Rv(RvError::PinIncorrect, _) => TokenError::PinIncorrect,
            Self::Rv(RvError::PinLocked, _) => TokenError::PinLocked,
            Self::Rv(
                RvError::TokenNotPresent
                | RvError::TokenNotRecognized
                | RvError::DeviceRemoved
                | RvError::SlotIdInvalid,
                _,
            ) => TokenError::TokenMissing { uri: uri.to_owned() },
            Self::Rv(RvError::MechanismInvalid | RvError::FunctionNotSupported, text) => {
                TokenError::Unsupported { what: text }
            }
            Self::Rv(_, what) => TokenError::Token { what },
        }
    }
}

pub(super) fn rv(e: RvError) -> Fault {
    let text = e.to_string();
    Fault::Rv(e, text)
}

pub(super) fn raw_fault(function: &str, rv: u64) -> TokenError {
    TokenError::Token { what: format!("{function}: return value {rv:#x}") }
}
