//! `exchange …`: keys for partners, and theirs.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sealtape_kms::age::Kind;
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::custody::VerifierKey;
use sealtape_kms::exchange::{MAX_FILE, Package, PackageError};
use sealtape_kms::protocol::{Direction, ExchangeReply, ExchangeRequest, IdentityKind, PackageView, PartnerOrder};
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::recovery::{asked, to_json, write_new};
use super::shares::identity;
use super::table::fields;
use crate::service::daemon::no_core_dumps;
use crate::service::home::Home;

/// Give keys of volumes to a partner, and take theirs in.
#[derive(Debug, Subcommand)]
pub(super) enum Exchange {
    /// Ask custodians to approve that the keys of volumes are given to a partner
    Ask(Ask),
    /// Write the package of an approved request
    Export {
        /// Where to
        file: PathBuf,
        /// The approved request
        #[arg(long, value_name = "ID")]
        request: Uuid,
    },
    /// Take a partner's package in: its volumes can be read here, never written
    Import {
        /// The package
        package: PathBuf,
        /// File with the age identity that the package is for
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
        /// Public key of the site that made it (their `sealtape audit key`), or a file that holds it
        #[arg(long, value_name = "KEY|FILE")]
        site_key: String,
        /// The pool whose units may read the volumes [default: the default pool]
        #[arg(long)]
        pool: Option<String>,
    },
    /// Show the packages that were made and taken in
    List,
}

/// Ask custodians to approve an export.
#[derive(Debug, Args)]
pub(super) struct Ask {
    /// The volumes, by label or UUID
    #[arg(required = true)]
    volumes: Vec<String>,
    /// The partner, by name
    #[arg(long, value_name = "NAME")]
    partner: String,
    /// Their age recipient (age1pq1…), or a file that holds it
    #[arg(long, value_name = "RECIPIENT|FILE")]
    to: String,
    /// Until when the package may be imported and its keys used: 2027-01-31
    #[arg(long, value_name = "DATE")]
    expires: String,
    /// Give labels and barcodes along
    #[arg(long)]
    labels: bool,
    /// The recipient may be one that does not withstand a quantum computer (age1…)
    #[arg(long)]
    allow_classic: bool,
    /// Why; custodians read it
    #[arg(long)]
    reason: Option<String>,
}

/// A text that begins as it should, or the first line that does in a file of that name.
fn text_or_file(given: &str, begins: impl Fn(&str) -> bool) -> Result<String, Failure> {
    if begins(given) {
        return Ok(given.to_owned());
    }
    let file = Path::new(given);
    let failed = |e: std::io::Error| Failure::file("reading", file, &e);
    let open = File::open(file).map_err(failed)?;
    let text = std::io::read_to_string(std::io::Read::take(open, 64 * 1024)).map_err(failed)?;
    let line = text.lines().map(str::trim).find(|line| begins(line)).map(str::to_owned);
    line.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{given} does not hold what is asked for"), "name the right file")
    })
}

pub(super) fn site_key(given: &str) -> Result<VerifierKey, Failure> {
    let text = text_or_file(given, |t| t.parse::<VerifierKey>().is_ok())?;
    text.parse().map_err(|e| Failure::new(Exit::Usage, format!("{e}"), "get it from the partner: sealtape audit key"))
}

pub(super) fn read_package(file: &Path) -> Result<Package, Failure> {
    let failed = |e: std::io::Error| Failure::file("reading the package", file, &e);
    let open = File::open(file).map_err(failed)?;
    let text = std::io::read_to_string(std::io::Read::take(open, MAX_FILE)).map_err(failed)?;
    Package::parse(&text).map_err(|e| Failure::from(e).of(&file.display().to_string()))
}

impl Exchange {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = ControlClient::new(home.keyd_socket(), CALL_TIMEOUT);
        let reply = match self {
            Self::Ask(ask) => keyd.exchange(ExchangeRequest::Ask(PartnerOrder {
                recipient: text_or_file(&ask.to, |t| t.starts_with("age1"))?,
                partner: ask.partner,
                volumes: ask.volumes,
                expires: ask.expires,
                labels: ask.labels,
                allow_classic: ask.allow_classic,
                reason: ask.reason,
            }))?,
            Self::Export { file, request } => match keyd.exchange(ExchangeRequest::Export { request })? {
                ExchangeReply::Package(package) => {
                    write_new(&file, &to_json(&package)?)?;
                    output.note("send it to the partner; your public key goes another way: sealtape audit key");
                    return output.value(&package.body, |body| {
                        fields(&[
                            ("package", body.package.to_string()),
                            ("for", format!("{} ({})", body.partner, body.recipient)),
                            ("keys", body.keys.len().to_string()),
                            ("until", body.expires.clone()),
                            ("file", file.display().to_string()),
                        ])
                    });
                }
                other => other,
            },
            Self::Import { package, identity: file, site_key: site, pool } => {
                no_core_dumps()?;
                let package = Box::new(read_package(&package)?);
                let identity = identity(&file)?;
                let kind = match identity.kind() {
                    Kind::Hybrid => IdentityKind::Hybrid,
                    Kind::X25519 => IdentityKind::X25519,
                };
                let request =
                    ExchangeRequest::Import { package, site_key: site_key(&site)?.to_string(), identity: kind, pool };
                keyd.import(request, identity.seed())?
            }
            Self::List => keyd.exchange(ExchangeRequest::Packages)?,
        };
        match reply {
            ExchangeReply::Asked(view) => asked(&view, "sealtape exchange export FILE", output),
            ExchangeReply::Imported(view) => output.value(&view, show),
            ExchangeReply::Packages(views) => {
                output.value(&views, |views| views.iter().map(show).collect::<Vec<_>>().join("\n"))
            }
            ExchangeReply::Package(_) | ExchangeReply::Done => {
                Err(Failure::new(Exit::Failed, "an unexpected reply", "use programs of one version"))
            }
        }
    }
}

fn show(view: &PackageView) -> String {
    let way = match view.direction {
        Direction::Export => format!("to {}", view.partner),
        Direction::Import => format!("from {}", view.origin),
    };
    fields(&[
        ("package", view.package.to_string()),
        ("way", way),
        ("keys", view.keys.to_string()),
        ("until", view.expires.clone()),
        ("entry", view.entry.to_string()),
    ])
}

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        let exit = match error {
            PackageError::Form(_) => Exit::Usage,
            PackageError::Expired { .. } | PackageError::OtherRecipient { .. } | PackageError::OtherSite { .. } => {
                Exit::Refused
            }
            _ => Exit::Integrity,
        };
        Self::new(exit, error.to_string(), "ask the partner what was sent, for whom, and until when")
    }
}
