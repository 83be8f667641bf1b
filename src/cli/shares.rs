//! Shares of a recovery key: from files, or typed on the terminal without being shown. Never from the command line.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use sealtape_kms::age::{AgeError, Identity};
use sealtape_kms::recovery::shares::{MAX_TEXT, Recovered, Share, ShareError, combine};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use crate::service::pin::ask_for;

/// Longest identity file that is read.
const LONGEST_IDENTITY: u64 = 64 * 1024;

/// Where shares come from.
#[derive(Debug, Args)]
pub(super) struct ShareOptions {
    /// File with a share of the recovery key; once for each share
    #[arg(long = "share", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Type the shares on the terminal, one line each; they are not shown
    #[arg(long, conflicts_with = "files")]
    type_shares: bool,
}

impl ShareOptions {
    /// Whether shares are offered at all.
    pub(super) fn given(&self) -> bool {
        self.type_shares || !self.files.is_empty()
    }

    /// The recovery key; `wanted` is the one that is needed, where that is known.
    pub(super) fn recover(&self, wanted: Option<Uuid>) -> Result<Recovered, Failure> {
        let mut shares = Vec::new();
        for file in &self.files {
            let text = read_secret(file, MAX_TEXT as u64)?;
            shares.push(Share::parse(&text, &format!("the share in {}", file.display()))?);
        }
        if self.type_shares {
            let needed = |shares: &[Share]| shares.first().map_or(1, |s| usize::from(s.head().threshold));
            while shares.len() < needed(&shares) {
                let what = match shares.first() {
                    None => "a share, from \"sealtape-share\" on, in one line".to_owned(),
                    Some(first) => format!("share {} of {}", shares.len() + 1, first.head().threshold),
                };
                let line = ask_for(&what)?;
                shares.push(Share::parse(line.expose(), &format!("share {} that was typed", shares.len() + 1))?);
            }
        }
        Ok(combine(&shares, wanted)?)
    }
}

fn read_secret(file: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |e: std::io::Error| Failure::file("reading", file, &e);
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(most).unwrap_or(usize::MAX) + 2));
    File::open(file).map_err(failed)?.take(most + 1).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

/// The identity in a file as `age-keygen` writes it: a file that is the owner's alone, or a pipe.
pub(super) fn identity(file: &Path) -> Result<Identity, Failure> {
    let status = std::fs::metadata(file).map_err(|e| Failure::file("reading", file, &e))?;
    if status.is_file() && status.mode() & 0o077 != 0 {
        let name = file.display();
        let what = format!("others may read the identity in {name} (mode {:04o})", status.mode() & 0o7777);
        return Err(Failure::new(
            Exit::Refused,
            what,
            format!("find out whether anybody did; then run: chmod 0600 {name}"),
        ));
    }
    Identity::parse(&read_secret(file, LONGEST_IDENTITY)?).map_err(|e| Failure::from(e).of(&file.display().to_string()))
}

impl From<ShareError> for Failure {
    fn from(error: ShareError) -> Self {
        let exit = match error {
            ShareError::Numbers(_) => Exit::Usage,
            ShareError::Damaged { .. } | ShareError::Forged { .. } => Exit::Integrity,
            _ => Exit::Refused,
        };
        super::failure::split(exit, &error.to_string())
    }
}

impl From<AgeError> for Failure {
    fn from(error: AgeError) -> Self {
        let exit = match error {
            AgeError::Key(_) => Exit::Usage,
            AgeError::NotForUs => Exit::Refused,
            AgeError::System(_) => Exit::Failed,
            _ => Exit::Integrity,
        };
        Self::new(exit, error.to_string(), "take the file as it was written, and the identity that it is for")
    }
}
