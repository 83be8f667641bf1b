//! Alarms of anchors on the disk, beside the database: whoever puts an older database in place does not take them away with it.
//!
//! One file, written anew in one piece whenever an alarm begins or ends. It is for the case that a service starts again while the anchor
//! that raised the alarm is away. Whoever can change the folder's other files can remove it: against that there is the anchor itself.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::custody::canonical;
use crate::fault::internal;
use crate::hex::Hex;
use crate::protocol::{Refusal, RefusalCode};

const FORMAT: &str = "sealtape anchor alarms 1";
/// Longest file: a few alarms of some hundred bytes.
const MOST_BYTES: u64 = 1 << 20;

/// An anchor knows another history than the catalogue has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alarm {
    pub(super) anchor: String,
    /// The witness's key, or the file: another one under the same name is another anchor.
    pub(super) subject: String,
    /// As it was when the alarm began.
    pub(super) what: String,
    pub(super) since: String,
}

impl Alarm {
    /// Names this alarm: one of the same anchor at another time is another.
    pub(super) fn digest(&self) -> Result<Hex<32>, Refusal> {
        let value = serde_json::to_value(self).map_err(|e| internal(e.to_string()))?;
        let text = canonical(&value).ok_or_else(|| internal("an alarm without a canonical form"))?;
        Ok(Hex(Sha256::digest(text).into()))
    }

    pub(super) fn refusal(&self) -> Refusal {
        let what = format!("no key is released: anchor {}: {} (since {})", self.anchor, self.what, self.since);
        let mend = "keep this catalogue for the auditor; restore the newest backup, and find out who changed it";
        Refusal::new(RefusalCode::Damaged, what, mend)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: String,
    alarms: Vec<Alarm>,
}

/// The alarms that stand.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    path: PathBuf,
    list: Vec<Alarm>,
    /// Whether the file has another list.
    unwritten: bool,
    /// Why the file cannot be believed; then nothing is released, and it is left as it is.
    unreadable: Option<String>,
}

impl Alarms {
    pub(super) fn read(path: PathBuf) -> Self {
        match content(&path) {
            Ok(list) => Self { path, list, ..Self::default() },
            Err(e) => {
                let unreadable = Some(format!("{}, where alarms of anchors are kept, {e}", path.display()));
                Self { path, unreadable, ..Self::default() }
            }
        }
    }

    pub(super) fn list(&self) -> &[Alarm] {
        &self.list
    }

    pub(super) fn of(&self, anchor: &str, subject: &str) -> Option<&Alarm> {
        self.list.iter().find(|alarm| alarm.anchor == anchor && alarm.subject == subject)
    }

    /// Why nothing is released although no alarm is known.
    pub(super) fn unreadable(&self) -> Option<Refusal> {
        let what = self.unreadable.as_ref()?;
        let mend = "find out who changed it; when it is known which alarms there were, root removes it, and starts the service again";
        Some(Refusal::new(RefusalCode::Damaged, format!("no key is released: {what}"), mend))
    }

    /// An alarm begins. One that stands already stays as it was.
    pub(super) fn raise(&mut self, alarm: Alarm) {
        if self.of(&alarm.anchor, &alarm.subject).is_none() {
            self.list.push(alarm);
            self.unwritten = true;
        }
        self.write();
    }

    /// The alarm of an anchor ends.
    pub(super) fn end(&mut self, anchor: &str, subject: &str) {
        let before = self.list.len();
        self.list.retain(|alarm| alarm.anchor != anchor || alarm.subject != subject);
        self.unwritten |= self.list.len() != before;
        self.write();
    }

    /// Brings the file up to date. What fails is tried again with the next attempt of any anchor.
    fn write(&mut self) {
        if !self.unwritten || self.unreadable.is_some() {
            return;
        }
        match replace(&self.path, &self.list) {
            Ok(()) => self.unwritten = false,
            Err(e) => tracing::error!("the alarms of anchors cannot be kept in {}: {e}", self.path.display()),
        }
    }
}

fn content(path: &Path) -> Result<Vec<Alarm>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("cannot be read: {e}")),
    };
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(|e| format!("cannot be read: {e}"))?;
    let content: Content = serde_json::from_str(&text).map_err(|e| format!("is malformed: {e}"))?;
    if content.format != FORMAT {
        return Err(format!("has the format {:?}, not {FORMAT:?}", content.format));
    }
    Ok(content.alarms)
}

fn replace(path: &Path, alarms: &[Alarm]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it stands in no folder"))?;
    if alarms.is_empty() {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    } else {
        let content = Content { format: FORMAT.into(), alarms: alarms.to_vec() };
        let new = path.with_extension("alarms.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(serde_json::to_string_pretty(&content).map_err(io::Error::other)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(anchor: &str, what: &str) -> Alarm {
        let since = "2026-01-01T00:00:00.000Z".to_owned();
        Alarm { anchor: anchor.into(), subject: "key".into(), what: what.into(), since }
    }

    #[test]
    fn alarms_outlive_the_process_until_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor.alarms");
        let mut alarms = Alarms::read(path.clone());
        assert!(alarms.list().is_empty() && alarms.unreadable().is_none());
        alarms.raise(alarm("w1", "first"));
        alarms.raise(alarm("w2", "other"));
        alarms.raise(alarm("w1", "later words"));
        let mut again = Alarms::read(path.clone());
        assert_eq!(again.list(), [alarm("w1", "first"), alarm("w2", "other")]);
        assert_ne!(again.list()[0].digest().unwrap(), again.list()[1].digest().unwrap());
        again.end("w1", "another key");
        assert_eq!(Alarms::read(path.clone()).list().len(), 2);
        again.end("w1", "key");
        assert_eq!(Alarms::read(path.clone()).list(), [alarm("w2", "other")]);
        again.end("w2", "key");
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_cannot_be_believed_stops_releases_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor.alarms");
        for text in ["", "{}", "{\"format\":\"sealtape anchor alarms 2\",\"alarms\":[]}"] {
            std::fs::write(&path, text).unwrap();
            let mut alarms = Alarms::read(path.clone());
            assert_eq!(alarms.unreadable().unwrap().code, RefusalCode::Damaged, "{text}");
            alarms.raise(alarm("w1", "x"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        // What cannot be written stands in memory, and is written later.
        let away = dir.path().join("away");
        let mut alarms = Alarms::read(away.join("anchor.alarms"));
        alarms.raise(alarm("w1", "x"));
        assert_eq!(alarms.list().len(), 1);
        std::fs::create_dir(&away).unwrap();
        alarms.raise(alarm("w1", "x"));
        assert_eq!(Alarms::read(away.join("anchor.alarms")).list().len(), 1);
    }
}
