//! Tenants: requests and replies.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::types::PoolPolicy;

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum TenantRequest {
    /// A new tenant, with a key-encryption key of its own.
    Create {
        /// Its name: up to 64 bytes, and none that there is.
        name: String,
        /// Why; kept in the custody log.
        reason: Option<String>,
    },
    /// The tenants that the asker's roles reach.
    List,
}

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum TenantReply {
    /// To `Create`.
    Tenant(TenantView),
    /// To `List`.
    Tenants(Vec<TenantView>),
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantView {
    /// Its name.
    pub name: String,
    /// What the custody log calls it.
    pub tenant: Uuid,
    /// Its pools, by name.
    pub pools: Vec<String>,
    /// How many volumes it has.
    pub volumes: u64,
    /// The key-encryption key that wraps its data keys in the catalogue.
    pub kek: Uuid,
    /// When it was entered into the custody log (RFC 3339, UTC).
    pub entered: String,
    /// The custody entry.
    pub entry: u64,
}

/// A pool and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// The tenant.
    #[serde(default = "first")]
    pub tenant: String,
    /// Its policy.
    #[serde(flatten)]
    pub policy: PoolPolicy,
}

/// What earlier versions had alone.
pub(super) fn first() -> String {
    "default".to_owned()
}
