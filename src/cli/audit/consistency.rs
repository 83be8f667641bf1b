//! `audit consistency`: that a later state of the log begins with an earlier one.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use sealtape_kms::client::ControlClient;
use sealtape_kms::custody::tree::{Hash, verify_consistency};
use sealtape_kms::custody::{Checkpoint, Completeness, EntryLines, Leaf, VerifierKey, verify_export_with};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{AuditReply, AuditRequest, ConsistencyView};
use serde::Serialize;

use super::{Key, open, refused, unexpected};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::table::fields;

/// Longest file with a checkpoint.
const LONGEST_NOTE: u64 = 65_536;

/// Show that the log was only appended to.
#[derive(Debug, Args)]
pub(crate) struct Consistency {
    /// The earlier state: an export, or a file with a checkpoint (a signed note)
    old: PathBuf,
    /// The later one; without it that of the running key authority
    new: Option<PathBuf>,
    #[command(flatten)]
    key: Key,
}

/// A state of the log.
struct State {
    checkpoint: Checkpoint,
    /// The export it comes from, if that holds every entry.
    full: Option<PathBuf>,
}

/// What was shown.
#[derive(Debug, Serialize)]
struct Shown {
    origin: String,
    old_size: u64,
    new_size: u64,
    old_root: Hex<32>,
    new_root: Hex<32>,
    /// How: `same`, `recomputed` from the entries, or by `proof`.
    by: &'static str,
}

fn parted(what: String) -> Failure {
    Failure::new(
        Exit::Integrity,
        what,
        "one of them was changed, or the log was rolled back or replaced: keep both, stop using the catalogue, and find out by whom",
    )
}

fn read_state(file: &Path, keys: &[VerifierKey]) -> Result<State, Failure> {
    let mut from = open(file)?;
    let mut first = [0u8];
    let read = from.read(&mut first).map_err(|e| Failure::file("reading", file, &e))?;
    let mut from = open(file)?;
    if read == 1 && matches!(first[0], b'{' | b'"') {
        let verified = verify_export_with(&mut from, keys, |_, _, _| {}).map_err(|e| refused(e, file))?;
        let full = (verified.completeness == Completeness::Complete).then(|| file.to_owned());
        let checkpoint = Checkpoint { origin: verified.origin, size: verified.size, root: verified.root.0 };
        return Ok(State { checkpoint, full });
    }
    let mut note = String::new();
    from.take(LONGEST_NOTE).read_to_string(&mut note).map_err(|e| Failure::file("reading", file, &e))?;
    let mut why = String::new();
    for key in keys {
        match key.open(&note) {
            Ok((checkpoint, _)) => return Ok(State { checkpoint, full: None }),
            Err(e) => why = e.to_string(),
        }
    }
    let what = format!("{} is neither an export nor a checkpoint signed by the key: {why}", file.display());
    Err(Failure::new(Exit::Integrity, what, "give the key that signed it, and the file as it was kept"))
}

/// The first entry in which two exports differ, whether or not they verify.
fn first_difference(old: &Path, new: &Path) -> Result<Option<Failure>, Failure> {
    let (mut from_old, mut from_new) = (open(old)?, open(new)?);
    let mut of_old = EntryLines::new(&mut from_old).map_err(|e| refused(e, old))?;
    let mut of_new = EntryLines::new(&mut from_new).map_err(|e| refused(e, new))?;
    let mut number = 0u64;
    while let Some((line, text)) = of_old.next_entry().map_err(|e| refused(e, old))? {
        let Some((other, changed)) = of_new.next_entry().map_err(|e| refused(e, new))? else {
            return Ok(Some(parted(format!(
                "{} ends before entry {number}, which stands in line {line} of {}",
                new.display(),
                old.display()
            ))));
        };
        if text != changed {
            let mut what = format!(
                "entry {number} is the first that differs: line {line} of {} and line {other} of {}",
                old.display(),
                new.display()
            );
            if let (Ok(old), Ok(new)) = (Leaf::parse(&text), Leaf::parse(&changed)) {
                // Writing into a String cannot fail.
                let _ = write!(what, " ({} of {} became {} of {})", old.op, old.time, new.op, new.time);
            }
            return Ok(Some(parted(what)));
        }
        number += 1;
    }
    Ok(None)
}

/// The root that the entries of a full export had when there were `size`.
fn root_of(file: &Path, keys: &[VerifierKey], size: u64) -> Result<Option<Hash>, Failure> {
    let mut root = None;
    let see = |_: &Leaf, _: &str, edge: Option<&sealtape_kms::custody::tree::RightEdge>| {
        root = edge.filter(|edge| edge.size() == size).map(|edge| edge.root()).or(root);
    };
    verify_export_with(&mut open(file)?, keys, see).map_err(|e| refused(e, file))?;
    Ok(root)
}

/// The proof of the running key authority, with the checkpoint that it ends at.
fn ask(
    keyd: &ControlClient,
    keys: &[VerifierKey],
    old: u64,
    new: Option<u64>,
) -> Result<(Checkpoint, Vec<Hash>), Failure> {
    let view = match keyd.audit(AuditRequest::Consistency { old, new })? {
        AuditReply::Consistency(view) => view,
        _ => return Err(unexpected()),
    };
    let key = follow(&view, keys).map_err(|what| parted(format!("the key authority's answer: {what}")))?;
    let (checkpoint, _) = key.open(&view.new.note).map_err(|e| parted(format!("the key authority's answer: {e}")))?;
    Ok((checkpoint, view.proof.into_iter().map(|hash| hash.0).collect()))
}

/// The key that signs now, followed from one that was given.
fn follow(view: &ConsistencyView, given: &[VerifierKey]) -> Result<VerifierKey, String> {
    let parse = |text: &String| text.parse::<VerifierKey>().map_err(|e| e.to_string());
    let keys: Vec<VerifierKey> = view.keys.iter().map(parse).collect::<Result<_, _>>()?;
    if !keys.iter().any(|key| given.contains(key)) || view.key_leaves.len() + 1 != keys.len() {
        return Err("the key given is none of the log's".into());
    }
    let mut at = keys.first().cloned().ok_or("it names no key")?;
    for (leaf, next) in view.key_leaves.iter().zip(keys.iter().skip(1)) {
        let leaf = Leaf::parse(leaf)?;
        at = leaf.key_change().ok_or("an entry changes no key")?.follow(&at)?;
        if at != *next {
            return Err("its keys do not follow from one another".into());
        }
    }
    Ok(at)
}

impl Consistency {
    pub(super) fn run(
        self,
        keyd: impl FnOnce() -> Result<ControlClient, Failure>,
        output: &Output,
    ) -> Result<(), Failure> {
        let keys = self.key.read()?;
        let old = match read_state(&self.old, &keys) {
            Ok(old) => old,
            // What differs is worth more than that something does.
            Err(failure) => return Err(self.difference()?.unwrap_or(failure)),
        };
        let new = match self.new.as_deref().map(|file| read_state(file, &keys)).transpose() {
            Ok(new) => new,
            Err(failure) => return Err(self.difference()?.unwrap_or(failure)),
        };
        let (new, by) = match new {
            None => {
                let (new, proof) = ask(&keyd()?, &keys, old.checkpoint.size, None)?;
                self.proven(&old.checkpoint, &new, &proof)?;
                (new, "proof")
            }
            Some(new) => {
                let by = self.compare(&old, &new, &keys, keyd)?;
                (new.checkpoint, by)
            }
        };
        let old = old.checkpoint;
        let shown = Shown {
            origin: old.origin,
            old_size: old.size,
            new_size: new.size,
            old_root: Hex(old.root),
            new_root: Hex(new.root),
            by,
        };
        output.value(&shown, |shown| {
            fields(&[
                ("consistent", format!("the log was only appended to ({})", shown.by)),
                ("log", shown.origin.clone()),
                ("entries before", shown.old_size.to_string()),
                ("entries after", shown.new_size.to_string()),
            ])
        })
    }

    /// The first difference between two files that look like exports with all entries.
    fn difference(&self) -> Result<Option<Failure>, Failure> {
        let full = |file: &Path| {
            let mut begin = Vec::new();
            let read = open(file).is_ok_and(|from| from.take(4096).read_to_end(&mut begin).is_ok());
            read && String::from_utf8_lossy(&begin).replace('"', "").contains("scope:full")
        };
        match &self.new {
            Some(new) if full(&self.old) && full(new) => first_difference(&self.old, new),
            _ => Ok(None),
        }
    }

    fn same_log(&self, old: &Checkpoint, new: &Checkpoint) -> Result<(), Failure> {
        if old.origin != new.origin {
            return Err(parted(format!(
                "{} is of log {}, the later state of log {}",
                self.old.display(),
                old.origin,
                new.origin
            )));
        }
        if new.size < old.size {
            return Err(parted(format!("{} entries became {}: the log was rolled back", old.size, new.size)));
        }
        Ok(())
    }

    fn proven(&self, old: &Checkpoint, new: &Checkpoint, proof: &[Hash]) -> Result<(), Failure> {
        self.same_log(old, new)?;
        if verify_consistency(old.size, &old.root, new.size, &new.root, proof) {
            return Ok(());
        }
        Err(parted(format!(
            "the log over {} entries does not begin with the {} entries of {}: export it, and compare with an earlier export to \
             find the first entry that differs",
            new.size,
            old.size,
            self.old.display()
        )))
    }

    fn compare(
        &self,
        old: &State,
        new: &State,
        keys: &[VerifierKey],
        keyd: impl FnOnce() -> Result<ControlClient, Failure>,
    ) -> Result<&'static str, Failure> {
        if let (Some(before), Some(after)) = (&old.full, &new.full)
            && let Some(difference) = first_difference(before, after)?
        {
            return Err(difference);
        }
        let (old, full, new) = (&old.checkpoint, &new.full, &new.checkpoint);
        self.same_log(old, new)?;
        if old.size == new.size {
            self.proven(old, new, &[])?;
            return Ok("same");
        }
        if let Some(file) = full {
            if root_of(file, keys, old.size)? == Some(old.root) {
                return Ok("recomputed");
            }
            let what =
                format!("the first {} entries of {} are not those of {}", old.size, file.display(), self.old.display());
            return Err(parted(what));
        }
        let (_, proof) = ask(&keyd()?, keys, old.size, Some(new.size))?;
        self.proven(old, new, &proof)?;
        Ok("proof")
    }
}
