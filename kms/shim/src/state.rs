//! What the module knows in one process: the plan as it is now, and the journal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::plan::{Fault, Plan};
use crate::site::{FOLDER, Site};

/// Which writing of the plan file was read: its inode and change time.
type Stamp = (u64, i64, i64);

pub(crate) struct State {
    site: Site,
    plan: Mutex<(Option<Stamp>, Plan)>,
    journal: File,
    /// The token is out, as far as this process has seen.
    pub(crate) out: Mutex<bool>,
}

/// What is to be done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Forward,
    Removed,
    Strike(Fault),
}

static STATE: OnceLock<Result<State, String>> = OnceLock::new();

/// The state of this process.
pub(crate) fn state() -> Result<&'static State, &'static str> {
    STATE.get_or_init(|| State::new().map_err(|e| e.to_string())).as_ref().map_err(String::as_str)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Adds a byte to a file and gives the new length: a count that is right over processes and their sudden ends.
fn count(path: &Path) -> io::Result<u64> {
    let mut file = append(path)?;
    file.write_all(b".")?;
    file.stream_position()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

impl State {
    fn new() -> io::Result<Self> {
        let dir = std::env::var_os(FOLDER).ok_or_else(|| io::Error::other(format!("{FOLDER} is not set")))?;
        let site = Site::new(dir);
        let journal = append(&site.journal_file())?;
        Ok(Self { site, plan: Mutex::default(), journal, out: Mutex::new(false) })
    }

    /// The plan as it stands in its file now; without a file, the empty one.
    fn plan(&self) -> io::Result<MutexGuard<'_, (Option<Stamp>, Plan)>> {
        let mut held = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.site.plan_file();
        let stamp = match fs::metadata(&path) {
            Ok(meta) => Some((meta.ino(), meta.ctime(), meta.ctime_nsec())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if held.0 != stamp {
            let plan = if stamp.is_some() { serde_json::from_slice(&fs::read(&path)?)? } else { Plan::default() };
            *held = (stamp, plan);
        }
        Ok(held)
    }

    /// What the plan says of this call. `measuring`: it only asks for the length of an output.
    pub(crate) fn decide(&self, function: &str, measuring: bool) -> io::Result<Decision> {
        let plan = self.plan()?;
        if plan.1.removed {
            return Ok(Decision::Removed);
        }
        for (index, rule) in plan.1.rules.iter().enumerate() {
            if !rule.fits(function) || (measuring && rule.fault.on_output()) {
                continue;
            }
            if rule.skip > 0 || rule.times.is_some() {
                let hit = count(&self.site.hits_file(&plan.1.id, index))?;
                if hit <= rule.skip || rule.times.is_some_and(|times| hit > rule.skip.saturating_add(times)) {
                    continue;
                }
            }
            return Ok(Decision::Strike(rule.fault));
        }
        Ok(Decision::Forward)
    }

    /// How many more PINs the token takes; none when it does not count.
    pub(crate) fn tries_left(&self) -> io::Result<Option<u64>> {
        let limit = self.plan()?.1.pin;
        Ok(limit.map(|limit| limit.tries.saturating_sub(self.wrong_pins())))
    }

    /// Wrong PINs since the last right one.
    pub(crate) fn wrong_pins(&self) -> u64 {
        length(&self.site.wrong_pins_file())
    }

    pub(crate) fn count_login(&self) -> io::Result<()> {
        count(&self.site.logins_file()).map(drop)
    }

    pub(crate) fn count_wrong_pin(&self) -> io::Result<()> {
        count(&self.site.wrong_pins_file()).map(drop)
    }

    /// A right PIN resets the token's count.
    pub(crate) fn forget_wrong_pins(&self) -> io::Result<()> {
        if length(&self.site.wrong_pins_file()) > 0 { self.site.unlock() } else { Ok(()) }
    }

    pub(crate) fn enter(&self, function: &str, rv: Option<u64>, fault: Option<&str>, input: &[u8]) {
        use std::fmt::Write as _;
        let mut line = format!("{} {function} ", std::process::id());
        match rv {
            Some(rv) => line.push_str(&rv.to_string()),
            None => line.push('-'),
        }
        line.push(' ');
        line.push_str(fault.unwrap_or("-"));
        line.push(' ');
        if input.is_empty() {
            line.push('-');
        }
        for byte in input {
            // Writing to a string does not fail.
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        // One write with O_APPEND: lines of several processes do not mix. A journal that cannot be written ends the process, since
        // every count taken from it would be wrong.
        if (&self.journal).write_all(line.as_bytes()).is_err() {
            std::process::abort();
        }
    }
}
