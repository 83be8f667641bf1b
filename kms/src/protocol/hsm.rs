//! Tokens and their enrolment: requests and replies.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::refusal::Refusal;
use crate::pkcs11::{PinFrom, SignAlgorithm, TokenReport, WrapMechanism};

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum HsmRequest {
    /// The tokens of the installation.
    List,
    /// Tests a token and takes it into use; one that is in use already is tested anew.
    Enrol(EnrolOrder),
}

/// Which token is to be enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolOrder {
    /// How it is called here: 1 to 32 of `a`-`z`, `0`-`9`, `-`.
    pub name: String,
    /// The PKCS#11 module; none for that of the first token.
    pub module: Option<PathBuf>,
    /// What the module takes as `pReserved` of `C_Initialize`.
    pub parameters: Option<String>,
    /// The token, as an RFC 7512 URI; none for one that is enrolled.
    pub uri: Option<String>,
    /// Where the key authority finds the PIN; none for the systemd credential `pin-NAME`.
    pub pin: Option<PinFrom>,
}

/// A token of the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its id, which key-encryption keys name.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Whether it is the one of the set-up, which holds the signing key of the custody log.
    pub first: bool,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// Its URI.
    pub uri: String,
    /// How new key-encryption keys wrap; none as long as it is not enrolled.
    pub mechanism: Option<WrapMechanism>,
    /// How it signs.
    pub signing: Option<SignAlgorithm>,
    /// When it was enrolled.
    pub enrolled: Option<String>,
    /// How many key-encryption keys in use it holds.
    pub keks: u64,
    /// Whether the last unwrap of a canary worked.
    pub ok: bool,
    /// Why not.
    pub error: Option<Refusal>,
    /// When that was tried.
    pub checked: Option<String>,
    /// Whether a rejected PIN holds it back.
    pub pin_latched: bool,
    /// How often its worker was started.
    pub worker_starts: u64,
}

/// What enrolment found and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The table of tests.
    pub report: TokenReport,
}

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum HsmReply {
    /// To `List`.
    Tokens(Vec<TokenView>),
    /// To `Enrol`.
    Enrolled(Box<Enrolled>),
    /// To `Enrol`: the tests of a token that may not be used, and why.
    Unfit {
        /// Why.
        why: String,
        /// The table of tests.
        report: Box<TokenReport>,
    },
    /// Done; there is nothing to tell.
    Done,
}
