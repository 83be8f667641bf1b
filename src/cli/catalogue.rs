//! `catalogue …`: backups of the catalogue.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sealtape_kms::authority::AuthorityOptions;
use sealtape_kms::backup::{Head, decode_part};
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::pkcs11::{PinSource, Uri, WorkerCommand};
use sealtape_kms::protocol::{BackupReply, BackupRequest, BackupView};
use sealtape_kms::restore::{RestoreReport, RestoreToken, restore_home};
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::{bytes, fields};
use crate::service::config::TokenUri;
use crate::service::home::Home;
use crate::service::pin;

/// Back the catalogue up, and restore it with the token.
#[derive(Debug, Subcommand)]
pub(super) enum Catalogue {
    /// Write a backup of the catalogue and the custody log; the services run on
    Backup {
        /// Where to
        file: PathBuf,
        /// Where the backup will be kept, in words; destruction names it [default: the file's path]
        #[arg(long, value_name = "TEXT")]
        place: Option<String>,
    },
    /// Show the backups that were made
    Backups,
    /// Restore a backup into a new state folder; the custody log goes on under a new origin
    Restore(Restore),
    /// A backup does not exist any more
    Destroyed {
        /// The backup
        backup: Uuid,
        /// How that is known; kept in the custody log
        #[arg(long)]
        reason: String,
    },
}

/// Restore a backup into a new state folder.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,
    /// The new state folder of the key authority
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Copy the embedded token of this state folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["module", "token"])]
    token_from: Option<PathBuf>,
    /// The PKCS#11 module, where it is not the one that the backup names
    #[arg(long, value_name = "FILE", requires = "token")]
    module: Option<PathBuf>,
    /// The token, as an RFC 7512 URI
    #[arg(long, value_name = "URI", requires = "module", value_parser = token_uri)]
    token: Option<TokenUri>,
    /// File that holds the PIN, readable by you only [default: the embedded token's, else asked for on the terminal]
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
}

fn token_uri(text: &str) -> Result<TokenUri, String> {
    TokenUri::try_from(text.to_owned())
}

impl Catalogue {
    pub(super) fn run(self, home: impl FnOnce() -> Result<Home, Failure>, output: &Output) -> Result<(), Failure> {
        let keyd = || Ok::<_, Failure>(ControlClient::new(home()?.keyd_socket(), CALL_TIMEOUT));
        match self {
            Self::Backup { file, place } => {
                let place = place.unwrap_or_else(|| {
                    std::path::absolute(&file).unwrap_or_else(|_| file.clone()).display().to_string()
                });
                backup(&keyd()?, &file, place, output)
            }
            Self::Backups => match keyd()?.backup(BackupRequest::List)? {
                BackupReply::Backups(views) => {
                    output.value(&views, |views| views.iter().map(show).collect::<Vec<_>>().join("\n"))
                }
                _ => Err(unexpected()),
            },
            Self::Destroyed { backup, reason } => {
                keyd()?.backup(BackupRequest::Destroyed { backup, reason })?;
                output.note("entered into the custody log");
                Ok(())
            }
            Self::Restore(restore) => restore.run(output),
        }
    }
}

fn unexpected() -> Failure {
    Failure::new(Exit::Failed, "an unexpected reply", "use programs of one version")
}

fn backup(keyd: &ControlClient, file: &Path, place: String, output: &Output) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::file("writing the backup", file, &e);
    let created = File::options().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let written = fetch(keyd, created, file, place);
    let head = written.inspect_err(|_| {
        if let Err(e) = std::fs::remove_file(file) {
            tracing::warn!(file = %file.display(), error = %e, "the unfinished backup could not be removed");
        }
    })?;
    output.note("keep it apart from the token and from this machine; it restores with the token alone: sealtape catalogue restore");
    output.value(&head.manifest, |manifest| {
        fields(&[
            ("backup", manifest.backup.to_string()),
            ("file", file.display().to_string()),
            ("size", bytes(manifest.bytes)),
            ("SHA-256 of the catalogue", manifest.sha256.to_string()),
        ])
    })
}

fn fetch(keyd: &ControlClient, file: File, path: &Path, place: String) -> Result<Box<Head>, Failure> {
    let failed = |e: std::io::Error| Failure::file("writing the backup", path, &e);
    let BackupReply::Made(head) = keyd.backup(BackupRequest::Make { place })? else { return Err(unexpected()) };
    let backup = head.manifest.backup;
    let mut out = BufWriter::new(file);
    let mut line = serde_json::to_vec(&head)
        .map_err(|e| Failure::new(Exit::Failed, format!("the manifest: {e}"), "report this as a bug"))?;
    line.push(b'\n');
    out.write_all(&line).map_err(failed)?;
    let mut offset = 0;
    loop {
        let BackupReply::Part(part) = keyd.backup(BackupRequest::Read { backup, offset })? else {
            return Err(unexpected());
        };
        let part = decode_part(&part).ok_or_else(unexpected)?;
        if part.is_empty() {
            break;
        }
        offset += part.len() as u64;
        out.write_all(&part).map_err(failed)?;
    }
    out.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
    keyd.backup(BackupRequest::Forget { backup })?;
    Ok(head)
}

fn show(view: &BackupView) -> String {
    fields(&[
        ("backup", view.backup.to_string()),
        ("made", view.created.clone()),
        ("place", view.place.clone()),
        ("state", format!("{:?}", view.state)),
        ("custody entries", view.checkpoint_size.to_string()),
    ])
}

impl Restore {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let token = match (self.token_from, self.module, &self.token) {
            (Some(from), ..) => RestoreToken::CopiedFrom(from),
            (None, Some(module), Some(uri)) => {
                RestoreToken::External { module, uri: Box::new(uri.as_str().parse::<Uri>()?) }
            }
            _ => RestoreToken::AsBefore,
        };
        let mut options = AuthorityOptions::new(WorkerCommand::this_executable());
        options.pin = match (&self.pin_file, &token) {
            (Some(file), _) => Some(PinSource::File(file.clone())),
            (None, RestoreToken::External { .. }) => Some(pin::prompt()),
            (None, RestoreToken::AsBefore | RestoreToken::CopiedFrom(_)) => None,
        };
        let report = restore_home(&sealtape_kms::home::Home::new(&self.to), &self.file, &token, options)?;
        output.note(
            "the custody log goes on under a new origin: hand the new key and the former log to the auditor, and make a new backup",
        );
        output.value(&report, human)
    }
}

fn human(report: &RestoreReport) -> String {
    let missing: Vec<String> = report.missing_keks.iter().map(Uuid::to_string).collect();
    fields(&[
        ("restored", format!("backup {} of {}", report.backup, report.made)),
        ("former log", format!("{}, {} entries", report.former_origin, report.former_size)),
        ("its export", report.former_log.display().to_string()),
        ("log", report.origin.clone()),
        ("log key", report.log_key.clone()),
        ("keys not in the token", missing.join(", ")),
    ])
}
