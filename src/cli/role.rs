//! `role …`: who may do what.

use clap::{Args, Subcommand};
use nix::unistd::User;
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::protocol::{DualReply, DualRequest, Operation, Principal, Role as Name};

use super::approval::{change, unexpected};
use super::failure::Failure;
use super::output::Output;
use super::table::{or_dash, table};
use crate::service::home::Home;

/// Give roles to users, groups and persons, and take them back.
#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// Show who has which role
    List,
    /// Give a role; without two security officers at once (root only), then by a request that two of them approve
    Grant(What),
    /// Take a role back, as it was given
    Revoke(What),
}

/// A role, who has it, and where.
#[derive(Debug, Args)]
pub(super) struct What {
    /// security-officer, administrator, operator, backup, recovery or auditor
    role: Name,
    /// user:NAME or uid:NUMBER, group:NAME (groups of a directory too), or person:NAME
    #[arg(value_parser = principal)]
    principal: Principal,
    /// Only for this tenant [default: all, or with --pool the pool's]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Only for this pool
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Why; those who approve read it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn principal(text: &str) -> Result<Principal, String> {
    match text.strip_prefix("user:") {
        None => text.parse(),
        Some(name) => match User::from_name(name) {
            Ok(Some(user)) => Ok(Principal::User(user.uid.as_raw())),
            Ok(None) => Err(format!("this machine knows no user {name:?}")),
            Err(e) => Err(format!("the user {name:?} cannot be looked up: {e}")),
        },
    }
}

impl What {
    fn tenant(&self, keyd: &ControlClient) -> Result<Option<String>, Failure> {
        match (&self.tenant, &self.pool) {
            (None, Some(pool)) => Ok(Some(super::pool::find(keyd, pool.clone())?.tenant)),
            (tenant, _) => Ok(tenant.clone()),
        }
    }
}

impl Role {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = ControlClient::new(home.keyd_socket(), CALL_TIMEOUT);
        match self {
            Self::List => match keyd.dual(DualRequest::Grants)? {
                DualReply::Grants(grants) => output.value(&grants, |grants| {
                    let rows: Vec<[String; 5]> = grants
                        .iter()
                        .map(|g| {
                            let scope = g.scope.clone();
                            let entry = g.entry.to_string();
                            [
                                g.role.to_string(),
                                g.principal.to_string(),
                                or_dash(scope.tenant),
                                or_dash(scope.pool),
                                entry,
                            ]
                        })
                        .collect();
                    table(["ROLE", "WHO", "TENANT", "POOL", "ENTRY"], &rows)
                }),
                _ => Err(unexpected()),
            },
            Self::Grant(what) => {
                let (tenant, pool) = (what.tenant(&keyd)?, what.pool);
                change(
                    &keyd,
                    Operation::Grant { role: what.role, principal: what.principal, tenant, pool },
                    what.reason,
                    output,
                )
            }
            Self::Revoke(what) => {
                let (tenant, pool) = (what.tenant(&keyd)?, what.pool);
                change(
                    &keyd,
                    Operation::Revoke { role: what.role, principal: what.principal, tenant, pool },
                    what.reason,
                    output,
                )
            }
        }
    }
}
