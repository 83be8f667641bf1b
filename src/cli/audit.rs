//! `audit …`: the custody log, for auditors.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write, stdin, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sealtape_kms::client::{CALL_TIMEOUT, ClientError, ControlClient};
use sealtape_kms::custody::{
    Anchoring, Leaf, NoteError, Outcome, VerifiedExport, VerifierKey, VerifyError, verify_export,
};
use sealtape_kms::protocol::CheckpointView;
use serde_json::Value;

use super::anchor::Anchor;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::{fields, or_dash, printable};
use crate::service::home::Home;

/// Longest file that can hold a verifier key.
const LONGEST_KEY: u64 = 4096;

/// Export, verify and read the custody log.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Write the whole custody log into a new file
    Export {
        /// The file (JSON Lines), or - for standard output
        file: PathBuf,
    },
    /// Verify an export: that nothing in it was changed, left out or added. Needs the file and the public key, nothing else
    Verify(Verify),
    /// Show entries of the custody log
    Show {
        /// How many, the last ones unless --first is given
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
        /// From this sequence number on
        #[arg(long, value_name = "NUMBER")]
        first: Option<u64>,
    },
    /// Show where the log is anchored, and how each anchor stands
    Anchors,
    /// Anchor the log now, or put an anchor right
    #[command(subcommand)]
    Anchor(Anchor),
    /// Print the public key that verifies exports; give it to the auditors on a way of its own
    Key,
}

/// Verify an export.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The export, or - for standard input
    file: PathBuf,
    /// The log's public key (NAME+ID+KEY), or a file that holds it, such as custody.pub of the home folder. Get it on
    /// another way than the export
    #[arg(long, value_name = "KEY|FILE")]
    key: String,
}

impl Audit {
    pub(super) fn run(self, home: impl FnOnce() -> Result<Home, Failure>, output: &Output) -> Result<(), Failure> {
        let keyd = || Ok::<_, Failure>(ControlClient::new(home()?.keyd_socket(), CALL_TIMEOUT));
        match self {
            Self::Export { file } => export(&keyd()?, &file, output),
            Self::Verify(verify) => verify.run(output),
            Self::Show { count, first } => {
                keyd()?.audit_show(first, count)?.iter().try_for_each(|leaf| show(leaf, output))
            }
            Self::Anchors => super::anchor::status(&keyd()?, output),
            Self::Anchor(anchor) => anchor.run(&keyd()?, output),
            Self::Key => output.value(&keyd()?.status()?.log_key, String::clone),
        }
    }
}

fn export(keyd: &ControlClient, file: &Path, output: &Output) -> Result<(), Failure> {
    if file == Path::new("-") {
        let mut out = BufWriter::new(stdout().lock());
        keyd.audit_export(&mut out)?;
        return out.flush().map_err(|e| Failure::stdout(&e));
    }
    let failed = |e: std::io::Error| Failure::file("writing the export", file, &e);
    let created = File::options().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let mut out = BufWriter::new(created);
    let written = keyd.audit_export(&mut out).map_err(|e| match e {
        ClientError::Output(e) => failed(e),
        other => other.into(),
    });
    let checkpoint = written.and_then(|checkpoint| {
        out.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
        Ok(checkpoint)
    });
    let checkpoint = checkpoint.inspect_err(|_| {
        // Half an export would not verify; the error that is told is the first one.
        if let Err(e) = std::fs::remove_file(file) {
            tracing::warn!(file = %file.display(), error = %e, "the unfinished export could not be removed");
        }
    })?;
    output.value(&checkpoint, |checkpoint: &CheckpointView| {
        fields(&[
            ("export", file.display().to_string()),
            ("entries", checkpoint.size.to_string()),
            ("root", checkpoint.root.to_string()),
        ])
    })
}

impl Verify {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let key = match self.key.parse::<VerifierKey>() {
            Ok(key) => key,
            Err(_) => read_key(Path::new(&self.key))?,
        };
        let verified = match self.file == Path::new("-") {
            true => verify(&mut stdin().lock(), &key, &self.file)?,
            false => {
                let file = File::open(&self.file).map_err(|e| Failure::file("opening the export", &self.file, &e))?;
                verify(&mut BufReader::new(file), &key, &self.file)?
            }
        };
        output.value(&verified, report)
    }
}

pub(super) fn read_key(file: &Path) -> Result<VerifierKey, Failure> {
    let failed = |e: std::io::Error| Failure::file("reading the key", file, &e);
    let open = File::open(file).map_err(failed)?;
    let text = std::io::read_to_string(std::io::Read::take(open, LONGEST_KEY)).map_err(failed)?;
    text.trim().parse().map_err(|e: NoteError| {
        let what = format!("{} holds no verifier key: {e}", file.display());
        Failure::new(Exit::Usage, what, "get it from the key authority's machine: sealtape audit key")
    })
}

fn verify(from: &mut impl BufRead, key: &VerifierKey, file: &Path) -> Result<VerifiedExport, Failure> {
    verify_export(from, key).map_err(|e| match e {
        VerifyError::Read(e) => Failure::file("reading the export", file, &e),
        refused => Failure::new(
            Exit::Integrity,
            format!("the export {} does not verify: {refused}", file.display()),
            "do not rely on it; keep it, make a new export, and find out who handled this one",
        ),
    })
}

fn report(verified: &VerifiedExport) -> String {
    let standing = match verified.anchoring {
        Anchoring::InternallyConsistentOnly => {
            "internally consistent only: whoever holds the token's PIN could have signed another history"
        }
    };
    fields(&[
        ("verified", "every entry, none missing".to_owned()),
        ("log", verified.origin.clone()),
        ("entries", verified.size.to_string()),
        ("from", verified.first_time.clone()),
        ("to", verified.last_time.clone()),
        ("root", verified.root.to_string()),
        ("checkpoints", verified.checkpoints.to_string()),
        ("anchoring", standing.to_owned()),
        ("not checked", verified.unchecked_cosignatures.join(", ")),
    ])
}

/// One entry: as it stands in the log for programs, in a line for people.
fn show(text: &str, output: &Output) -> Result<(), Failure> {
    let wrong = |what: String| {
        Failure::new(
            Exit::Integrity,
            format!("an entry of the custody log is damaged: {what}"),
            "export and verify the log",
        )
    };
    if output.json() {
        let value: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        return output.value(&value, Value::to_string);
    }
    let leaf = Leaf::parse(text).map_err(wrong)?;
    let outcome = match leaf.outcome {
        Outcome::Intent => "intent",
        Outcome::Done => "done",
        Outcome::Refused => "REFUSED",
        Outcome::Failed => "FAILED",
        Outcome::Interrupted => "INTERRUPTED",
    };
    let mut line = format!("{:>6}  {}  {:<16} {outcome:<11} {}", leaf.seq, leaf.time, leaf.op, leaf.actor);
    let details = [
        ("unit", leaf.unit),
        ("volume", leaf.volume.map(|id| id.to_string())),
        ("partition", leaf.partition.map(|number| number.to_string())),
        ("generation", leaf.generation.map(|number| number.to_string())),
        ("key", leaf.key.map(|id| id.to_string())),
        ("reason", leaf.reason),
    ];
    for (name, value) in details.into_iter().filter(|(_, value)| value.is_some()) {
        line.push_str(&format!("  {name} {}", printable(&or_dash(value))));
    }
    line.push('\n');
    output.text(&line)
}
