//! `custodian …`: the persons who approve what cannot be undone.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::protocol::{DualReply, DualRequest, Operation, PersonView, Principal, Role};

use super::approval::{change, unexpected};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::fields;
use crate::service::home::Home;

/// Longest file of public keys that is read.
const LONGEST_FILE: u64 = 16 * 1024;

/// Register the persons who approve what cannot be undone, and their keys.
#[derive(Debug, Subcommand)]
pub(super) enum Custodian {
    /// Show persons, their keys and roles
    List,
    /// Register a person; without two security officers at once (root only), then by a request that two of them approve
    Add(Add),
    /// Replace a person's keys by others
    Keys {
        /// The person
        name: String,
        #[command(flatten)]
        keys: PublicKeys,
        /// Why; those who approve read it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Remove a person and all their roles
    Remove {
        /// The person
        name: String,
        /// Why; those who approve read it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// Register a person.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// A name that stands for this person for ever: letters, digits and . _ - @
    name: String,
    #[command(flatten)]
    keys: PublicKeys,
    /// Give this role too, everywhere; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
    /// Why; those who approve read it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Public keys.
#[derive(Debug, Args)]
pub(super) struct PublicKeys {
    /// File with the person's public key, such as id_ed25519.pub; may be given several times
    #[arg(long = "key", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl PublicKeys {
    fn read(&self) -> Result<Vec<String>, Failure> {
        let mut keys = Vec::new();
        for file in &self.files {
            let failed = |e: std::io::Error| Failure::file("reading the public key", file, &e);
            let open = std::fs::File::open(file).map_err(failed)?;
            let text = std::io::read_to_string(std::io::Read::take(open, LONGEST_FILE)).map_err(failed)?;
            if text.contains("PRIVATE KEY") {
                return Err(private(file));
            }
            keys.extend(
                text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned),
            );
        }
        Ok(keys)
    }
}

fn private(file: &Path) -> Failure {
    let what = format!("{} holds a private key", file.display());
    Failure::new(Exit::Usage, what, "name the public one, which ends in .pub; keep the private one to yourself")
}

impl Custodian {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = ControlClient::new(home.keyd_socket(), CALL_TIMEOUT);
        match self {
            Self::List => match keyd.dual(DualRequest::Persons)? {
                DualReply::Persons(persons) => {
                    output.value(&persons, |persons| persons.iter().map(show).collect::<Vec<_>>().join("\n"))
                }
                _ => Err(unexpected()),
            },
            Self::Add(add) => {
                let operation = Operation::PersonAdd { name: add.name.clone(), keys: add.keys.read()? };
                change(&keyd, operation, add.reason.clone(), output)?;
                for role in add.roles {
                    let principal = Principal::Person(add.name.clone());
                    let operation = Operation::Grant { role, principal, tenant: None, pool: None };
                    change(&keyd, operation, add.reason.clone(), output)?;
                }
                Ok(())
            }
            Self::Keys { name, keys, reason } => {
                change(&keyd, Operation::PersonKeys { name, keys: keys.read()? }, reason, output)
            }
            Self::Remove { name, reason } => change(&keyd, Operation::PersonRemove { name }, reason, output),
        }
    }
}

fn show(person: &PersonView) -> String {
    let mut rows = vec![("person", person.name.clone())];
    for key in &person.keys {
        rows.push(("key", format!("{}  {}", key.fingerprint, key.public.split(' ').next().unwrap_or_default())));
    }
    for grant in &person.grants {
        rows.push(("role", format!("{} {}", grant.role, grant.scope)));
    }
    rows.push(("entry", person.entry.to_string()));
    fields(&rows)
}
