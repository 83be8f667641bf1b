//! `tenant …`: those whose pools, keys and part of the custody log are kept apart.

use clap::Subcommand;
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::protocol::{TenantReply, TenantRequest, TenantView};

use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::{fields, table};
use crate::service::home::Home;

/// Look at tenants, and make them.
#[derive(Debug, Subcommand)]
pub(super) enum Tenant {
    /// List the tenants
    List,
    /// Make a tenant, with a key-encryption key of its own; pools come with: pool create --tenant
    Create {
        /// Its name, for good: up to 64 bytes
        tenant: String,
        /// Why; kept in the custody log
        #[arg(long)]
        reason: Option<String>,
    },
}

impl Tenant {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = ControlClient::new(home.keyd_socket(), CALL_TIMEOUT);
        match self {
            Self::List => match keyd.tenants(TenantRequest::List)? {
                TenantReply::Tenants(tenants) => output.value(&tenants, |tenants| list(tenants)),
                TenantReply::Tenant(_) => Err(unexpected()),
            },
            Self::Create { tenant, reason } => match keyd.tenants(TenantRequest::Create { name: tenant, reason })? {
                TenantReply::Tenant(tenant) => output.value(&tenant, show),
                TenantReply::Tenants(_) => Err(unexpected()),
            },
        }
    }
}

fn unexpected() -> Failure {
    let mend = "bring both programs to the same version";
    Failure::new(Exit::Failed, "the key authority answered something else", mend)
}

fn list(tenants: &[TenantView]) -> String {
    let rows: Vec<_> = tenants
        .iter()
        .map(|tenant| {
            [
                tenant.name.clone(),
                tenant.pools.join(", "),
                tenant.volumes.to_string(),
                tenant.kek.to_string(),
                tenant.tenant.to_string(),
            ]
        })
        .collect();
    table(["TENANT", "POOLS", "VOLUMES", "KEY-ENCRYPTION KEY", "IN THE CUSTODY LOG"], &rows)
}

fn show(tenant: &TenantView) -> String {
    fields(&[
        ("tenant", tenant.name.clone()),
        ("in the custody log", tenant.tenant.to_string()),
        ("key-encryption key", tenant.kek.to_string()),
        ("custody entry", tenant.entry.to_string()),
    ])
}
