//! `audit …`: the custody log, for auditors.

mod consistency;
mod export;
mod show;

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::custody::{
    Anchoring, Completeness, NoteError, Trust, VerifiedExport, VerifierKey, VerifyError, WitnessKey,
    verify_export_trusting,
};
use sealtape_kms::protocol::{AuditReply, AuditRequest};

use super::anchor::Anchor;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::fields;
use crate::service::home::Home;

/// Longest file that can hold verifier keys.
const LONGEST_KEY: u64 = 65_536;

/// Export, verify and read the custody log.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Write the custody log, or what is chosen of it, into a new file
    Export(export::Export),
    /// Verify an export: that nothing in it was changed, left out or added. Needs the file and the public key, nothing else
    Verify(Verify),
    /// Show that the log was only appended to between two exports or checkpoints, or since one; else name the first entry that differs
    Consistency(consistency::Consistency),
    /// Show entries of the custody log, the last ones that fit unless --first is given
    Show(show::Show),
    /// Show new entries as they come, one JSON value per line, until interrupted
    Watch(show::Watch),
    /// Show where the log is anchored, and how each anchor stands
    Anchors,
    /// Anchor the log now, or put an anchor right
    #[command(subcommand)]
    Anchor(Anchor),
    /// Print the public keys that verify exports, oldest first; give them to the auditors on a way of their own
    Key,
    /// Let a new key, made in the token, sign the log from now on; the old one vouches for it
    RotateKey {
        /// Why; kept in the custody log
        #[arg(long)]
        reason: String,
    },
}

/// Verify an export.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The export, or - for standard input
    file: PathBuf,
    #[command(flatten)]
    key: Key,
    /// Public key of a witness whose cosignatures count (NAME+ID+KEY, type 0x04), or a file that holds it; may be given
    /// several times. Without any an export is internally consistent only
    #[arg(long = "witness", value_name = "KEY|FILE")]
    witnesses: Vec<String>,
}

/// The log's public keys.
#[derive(Debug, Args)]
pub(super) struct Key {
    /// A public key of the log (NAME+ID+KEY), or a file that holds them, such as custody.pub of the home folder. Get it on
    /// another way than the export. Later keys are followed from it
    #[arg(long, value_name = "KEY|FILE")]
    key: String,
}

impl Key {
    fn read(&self) -> Result<Vec<VerifierKey>, Failure> {
        keys_from(&self.key)
    }
}

/// The keys that `text` is, or that stand in the file it names.
pub(super) fn keys_from<K: FromStr<Err = NoteError>>(text: &str) -> Result<Vec<K>, Failure> {
    match text.parse() {
        Ok(key) => Ok(vec![key]),
        Err(_) => read_keys(Path::new(text)),
    }
}

/// What a reply of the other kind means.
fn unexpected() -> Failure {
    Failure::new(Exit::Failed, "the key authority answered something else", "use programs of one version")
}

impl Audit {
    pub(super) fn run(self, home: impl FnOnce() -> Result<Home, Failure>, output: &Output) -> Result<(), Failure> {
        let keyd = || Ok::<_, Failure>(ControlClient::new(home()?.keyd_socket(), CALL_TIMEOUT));
        match self {
            Self::Export(export) => export.run(&keyd()?, output),
            Self::Verify(verify) => verify.run(output),
            Self::Consistency(consistency) => consistency.run(keyd, output),
            Self::Show(show) => show.run(&keyd()?, output),
            Self::Watch(watch) => watch.run(&keyd()?, output),
            Self::Anchors => super::anchor::status(&keyd()?, output),
            Self::Anchor(anchor) => anchor.run(&keyd()?, output),
            Self::Key => match keyd()?.audit(AuditRequest::LogKeys)? {
                AuditReply::LogKeys(keys) => print_keys(&keys, output),
                _ => Err(unexpected()),
            },
            Self::RotateKey { reason } => match keyd()?.audit(AuditRequest::RotateLogKey { reason })? {
                AuditReply::LogKeys(keys) => {
                    print_keys(&keys, output)?;
                    output.note("the last key signs from now on; hand it to the auditors on a way of its own");
                    Ok(())
                }
                _ => Err(unexpected()),
            },
        }
    }
}

fn print_keys(keys: &[String], output: &Output) -> Result<(), Failure> {
    keys.iter().try_for_each(|key| output.value(key, String::clone))
}

impl Verify {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let keys = self.key.read()?;
        let witnesses =
            self.witnesses.iter().map(|text| keys_from::<WitnessKey>(text)).collect::<Result<Vec<_>, _>>()?;
        let trust = Trust { keys: &keys, witnesses: &witnesses.concat() };
        let verified = match self.file == Path::new("-") {
            true => verify(&mut stdin().lock(), &trust, &self.file)?,
            false => verify(&mut open(&self.file)?, &trust, &self.file)?,
        };
        output.value(&verified, report)?;
        if verified.missing_witnesses.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Integrity,
            format!(
                "the export {} is consistent in itself, and not cosigned by {}",
                self.file.display(),
                verified.missing_witnesses.join(", ")
            ),
            "ask why the log is not anchored there; until then another history may have been signed",
        ))
    }
}

fn open(file: &Path) -> Result<BufReader<File>, Failure> {
    File::open(file).map(BufReader::new).map_err(|e| Failure::file("opening the export", file, &e))
}

fn read_keys<K: FromStr<Err = NoteError>>(file: &Path) -> Result<Vec<K>, Failure> {
    let failed = |e: std::io::Error| Failure::file("reading the key", file, &e);
    let open = File::open(file).map_err(failed)?;
    let text = std::io::read_to_string(std::io::Read::take(open, LONGEST_KEY)).map_err(failed)?;
    let wrong = |what: String| {
        let what = format!("{} holds no verifier key: {what}", file.display());
        Failure::new(Exit::Usage, what, "get it from the key authority's machine: sealtape audit key")
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let keys: Result<Vec<K>, NoteError> = lines.map(|line| line.trim().parse()).collect();
    let keys = keys.map_err(|e| wrong(e.to_string()))?;
    if keys.is_empty() { Err(wrong("it is empty".into())) } else { Ok(keys) }
}

fn refused(e: VerifyError, file: &Path) -> Failure {
    match e {
        VerifyError::Read(e) => Failure::file("reading the export", file, &e),
        refused => Failure::new(
            Exit::Integrity,
            format!("the export {} does not verify: {refused}", file.display()),
            "do not rely on it; keep it, make a new export, and find out who handled this one",
        ),
    }
}

fn verify(from: &mut impl BufRead, trust: &Trust<'_>, file: &Path) -> Result<VerifiedExport, Failure> {
    verify_export_trusting(from, trust, |_, _, _| {}).map_err(|e| refused(e, file))
}

fn report(verified: &VerifiedExport) -> String {
    let standing = match &verified.anchoring {
        Anchoring::InternallyConsistentOnly => {
            "internally consistent only: whoever holds the token's PIN could have signed another history".to_owned()
        }
        Anchoring::Anchored(by) => {
            let words = by
                .iter()
                .map(|a| format!("by {} at {} up to entry {}", a.witness, a.time, a.entries.saturating_sub(1)));
            words.collect::<Vec<_>>().join(", ")
        }
    };
    let completeness = match &verified.completeness {
        Completeness::Complete => "every entry, none missing".to_owned(),
        Completeness::CompleteForTenant { tenant, as_of, time } => {
            format!("every entry of tenant {tenant}, none missing as of entry {as_of} of {time}")
        }
        Completeness::InclusionOnly => {
            "inclusion only: these entries are in the log, others may be missing here".to_owned()
        }
    };
    fields(&[
        ("verified", completeness),
        ("log", verified.origin.clone()),
        ("entries", verified.entries.to_string()),
        ("of", verified.size.to_string()),
        ("from", verified.first_time.clone()),
        ("to", verified.last_time.clone()),
        ("root", verified.root.to_string()),
        ("checkpoints", verified.checkpoints.to_string()),
        ("keys", verified.keys.len().to_string()),
        ("anchored", standing),
        ("not checked", verified.unchecked_cosignatures.join(", ")),
    ])
}
