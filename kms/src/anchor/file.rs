//! A file on another medium that is only appended to.
//!
//! Each entry is one line, `{"checkpoint":NOTE,"time":TIME}`, as an export has checkpoints (there without the time). A line that does not
//! parse is one that a crash or a full medium cut off: it is closed by the next append and counts for nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Anchor, Fault, Receipt, Submission, Tree};
use crate::custody::Checkpoint;
use crate::hex::Hex;
use crate::time;

/// How much of the end is read to find the last entry: many times the longest one.
const TAIL: u64 = 256 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    checkpoint: String,
    time: String,
}

pub(super) struct AnchorFile {
    path: PathBuf,
}

/// What stands at the end of the file.
struct Last {
    entry: Option<(Checkpoint, String)>,
    /// Whether the last line was cut off.
    torn: bool,
}

impl AnchorFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn failed(&self, e: &io::Error) -> Fault {
        Fault::away(format!("{}: {e}", self.path.display()))
    }

    /// Opened for each entry: the medium may have been away or exchanged. It is made only if nothing was ever anchored in it, so that
    /// an empty mount point is not taken for it.
    fn open(&self, known: u64) -> Result<File, Fault> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o644);
        // Neither a FIFO that hangs nor a link to elsewhere.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let file = match options.open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && known == 0 => {
                let file = options.create_new(true).open(&self.path).map_err(|e| self.failed(&e))?;
                let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty());
                let synced = folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all());
                synced.map_err(|e| self.failed(&e))?;
                file
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let what = format!(
                    "{} is not there, though {known} entries were anchored in it: is its medium mounted?",
                    self.path.display()
                );
                return Err(Fault::away(what));
            }
            other => other.map_err(|e| self.failed(&e))?,
        };
        let meta = file.metadata().map_err(|e| self.failed(&e))?;
        if !meta.is_file() {
            return Err(Fault::faulty(format!("{} is no plain file", self.path.display())));
        }
        if meta.mode() & 0o022 != 0 {
            let what = format!("{} can be written by others (mode {:04o})", self.path.display(), meta.mode() & 0o7777);
            return Err(Fault::faulty(what));
        }
        Ok(file)
    }

    fn last(&self, file: &mut File) -> Result<Last, Fault> {
        let failed = |e: io::Error| self.failed(&e);
        let length = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes).map_err(failed)?;
        let torn = bytes.last().is_some_and(|b| *b != b'\n');
        let mut whole = bytes.split(|b| *b == b'\n');
        if torn || bytes.is_empty() {
            whole.next_back();
        }
        let entry = whole.rev().find_map(|line| {
            let line: Line = serde_json::from_slice(line).ok()?;
            Some((Checkpoint::claimed_by(&line.checkpoint).ok()?, line.checkpoint))
        });
        if entry.is_none() && length > 0 && !torn {
            let what = format!("{} holds no checkpoint: it is another file, or was overwritten", self.path.display());
            return Err(Fault::faulty(what));
        }
        Ok(Last { entry, torn })
    }

    /// Compares the last entry with the tree.
    fn compare(&self, last: &Last, submission: &Submission, known: u64, tree: &dyn Tree) -> Result<(), Fault> {
        let path = self.path.display();
        let ours = &submission.checkpoint;
        let Some((theirs, note)) = &last.entry else {
            return match known {
                0 => Ok(()),
                _ => Err(Fault::lost(format!("{path} is empty, though {known} entries were anchored in it"))),
            };
        };
        // Its worth as evidence: whether the log's own key signed it.
        let signed = match submission.key.open(note) {
            Ok(_) => "signed by this log's key",
            Err(_) => "not signed by this log's present key",
        };
        if theirs.origin != ours.origin {
            return Err(Fault::contradicts(format!(
                "{path} holds the checkpoints of another log, {}: the catalogue was replaced, or this is another installation's file",
                theirs.origin
            )));
        }
        if theirs.size > ours.size {
            return Err(Fault::contradicts(format!(
                "the custody log has {} entries, its checkpoint in {path} is over {} ({signed}): the catalogue was rolled back",
                ours.size, theirs.size
            )));
        }
        let root = tree.root_at(theirs.size)?;
        if root != theirs.root {
            return Err(Fault::contradicts(format!(
                "the first {} entries of the custody log are not those of its checkpoint in {path} ({signed}; root there {}, here {}): \
                 the history was rewritten",
                theirs.size,
                Hex(theirs.root),
                Hex(root)
            )));
        }
        if theirs.size < known {
            let what = format!(
                "{path} ends at entry {}, though {known} were anchored in it: it was cut off, or is an older copy",
                theirs.size
            );
            return Err(Fault::lost(what));
        }
        Ok(())
    }
}

impl Anchor for AnchorFile {
    fn submit(&mut self, submission: &Submission, known: u64, tree: &dyn Tree) -> Result<Receipt, Fault> {
        let mut file = self.open(known)?;
        // A second writer would be told apart only by what it breaks.
        file.try_lock()
            .map_err(|e| Fault::away(format!("{} is locked by another program ({e})", self.path.display())))?;
        let last = self.last(&mut file)?;
        self.compare(&last, submission, known, tree)?;
        if last.entry.as_ref().is_some_and(|(theirs, _)| *theirs == submission.checkpoint) {
            file.sync_all().map_err(|e| self.failed(&e))?;
            return Ok(Receipt::default());
        }
        let line = Line { checkpoint: submission.note.clone(), time: time::now() };
        let line = serde_json::to_string(&line).map_err(|e| Fault::faulty(e.to_string()))?;
        let text = if last.torn { format!("\n{line}\n") } else { format!("{line}\n") };
        // In one write: what is cut off by a crash is the end of it.
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| self.failed(&e))?;
        Ok(Receipt::default())
    }
}
