//! Custodians, roles and approvals: requests and replies.

mod operation;
mod request;
mod role;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use operation::quoted;
pub use operation::{Compromised, Operation};
pub use request::{ApprovalRequest, MAX_REQUEST_TEXT, REQUEST_FORMAT, Target};
pub(crate) use role::plain_name;
pub use role::{Principal, Role, Scope};

use crate::hex::Hex;

/// Namespace of approvals: what `ssh-keygen -Y sign -n` is given.
pub const APPROVAL_NAMESPACE: &str = "sealtape-approval@sealtape";

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum DualRequest {
    /// A change of persons, keys or roles. Makes a request that custodians have to approve; while there are fewer than two security
    /// officers, root and the key authority's user change at once.
    Change {
        /// What is to be changed.
        operation: Operation,
        /// Why, in words; custodians read it.
        reason: Option<String>,
    },
    /// Requests, newest first.
    Requests {
        /// Those that are done with, too.
        all: bool,
    },
    /// One request with the bytes that custodians sign.
    Show {
        /// The request.
        request: Uuid,
    },
    /// A custodian's signature.
    Approve {
        /// The request; none for the one that the signature fits.
        request: Option<Uuid>,
        /// The armoured signature, as `ssh-keygen -Y sign` writes it.
        signature: String,
    },
    /// Takes a request back.
    Withdraw {
        /// The request.
        request: Uuid,
        /// Why.
        reason: String,
    },
    /// Carries an approved change of persons or roles out.
    Execute {
        /// The request.
        request: Uuid,
    },
    /// Persons and their keys.
    Persons,
    /// Grants of roles.
    Grants,
}

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum DualReply {
    /// Done; there is nothing to tell.
    Done,
    /// Changed at once, with this custody entry.
    Changed {
        /// Its number.
        entry: u64,
    },
    /// A request.
    Request(Box<RequestView>),
    /// Requests.
    Requests(Vec<RequestView>),
    /// A request and what is signed.
    Shown {
        /// The request.
        view: Box<RequestView>,
        /// Exactly the bytes to sign.
        text: String,
    },
    /// Persons.
    Persons(Vec<PersonView>),
    /// Grants.
    Grants(Vec<GrantView>),
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Waits for approvals.
    Pending,
    /// Has the approvals it needs, and waits to be carried out.
    Approved,
    /// Was carried out.
    Executed,
    /// Was taken back.
    Withdrawn,
    /// Was not carried out in time.
    Expired,
}

/// A request for an operation under dual control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// The request.
    pub request: Uuid,
    /// What is asked for.
    pub operation: Operation,
    /// The same in words.
    pub words: String,
    /// Why.
    pub reason: Option<String>,
    /// Who asked.
    pub requester: String,
    /// When (RFC 3339, UTC).
    pub created: String,
    /// Until when it can be carried out.
    pub expires: String,
    /// Where it stands.
    pub state: RequestState,
    /// The role that approving persons need,
    pub role: Role,
    /// and how many of them.
    pub needed: u8,
    /// What there is.
    pub approvals: Vec<ApprovalView>,
    /// SHA-256 of the bytes that are signed.
    pub digest: Hex<32>,
}

/// An approval of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// The person.
    pub person: String,
    /// Fingerprint of the key that signed.
    pub key: String,
    /// When it was handed in.
    pub added: String,
    /// Why it does not count now, if it does not.
    pub fault: Option<String>,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonView {
    /// The name.
    pub name: String,
    /// The public keys.
    pub keys: Vec<KeyView>,
    /// Roles that the person has.
    pub grants: Vec<GrantView>,
    /// The custody entry that proves it.
    pub entry: u64,
}

/// A public key of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// `SHA256:…`
    pub fingerprint: String,
    /// In OpenSSH's form, without comment.
    pub public: String,
}

/// A role that somebody has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// The role.
    pub role: Role,
    /// Who has it.
    pub principal: Principal,
    /// Where.
    #[serde(flatten)]
    pub scope: Scope,
    /// The custody entry that proves it.
    pub entry: u64,
}
