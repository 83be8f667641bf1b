//! The folder through which a test and the module speak.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::plan::Plan;

/// Environment: the folder.
pub const FOLDER: &str = "SEALTAPE_SHIM_DIR";
/// Environment: the module to forward to.
pub const MODULE: &str = "SEALTAPE_SHIM_MODULE";

static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// A call that reached the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The worker process.
    pub process: u32,
    /// `C_…`.
    pub function: String,
    /// What was returned; none when the call never came back.
    pub rv: Option<u64>,
    /// The fault that struck it.
    pub fault: Option<String>,
    /// What was to be unwrapped or decrypted, in hexadecimal.
    pub input: Option<String>,
}

/// The folder: the plan, the journal, and what the token remembers.
#[derive(Debug, Clone)]
pub struct Site {
    dir: PathBuf,
}

impl Site {
    /// The site in `dir`, which exists.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// What a worker process needs in its environment to find this site and `module`.
    #[must_use]
    pub fn environment(&self, module: &Path) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![(FOLDER.into(), text(&self.dir)), (MODULE.into(), text(module))]
    }

    pub(crate) fn plan_file(&self) -> PathBuf {
        self.dir.join("plan.json")
    }

    pub(crate) fn journal_file(&self) -> PathBuf {
        self.dir.join("journal")
    }

    pub(crate) fn logins_file(&self) -> PathBuf {
        self.dir.join("logins")
    }

    pub(crate) fn wrong_pins_file(&self) -> PathBuf {
        self.dir.join("wrong-pins")
    }

    pub(crate) fn hits_file(&self, plan: &str, rule: usize) -> PathBuf {
        self.dir.join(format!("hits.{plan}.{rule}"))
    }

    /// Puts a plan in force from the next call on, its counts at zero.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set(&self, plan: Plan) -> io::Result<()> {
        let id = format!("{}-{}", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed));
        let plan = Plan { id: id.clone(), ..plan };
        // Renamed into place: a call sees the old one or the new one.
        let new = self.dir.join(format!("plan.{id}"));
        fs::write(&new, serde_json::to_vec(&plan)?)?;
        fs::rename(new, self.plan_file())
    }

    /// Everything is well again.
    ///
    /// # Errors
    /// As [`Site::set`].
    pub fn mend(&self) -> io::Result<()> {
        self.set(Plan::default())
    }

    /// All calls until now, in the order of their end.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn journal(&self) -> io::Result<Vec<Call>> {
        let text = match fs::read_to_string(self.journal_file()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        text.lines().map(|line| parse(line).ok_or_else(|| io::Error::other(format!("journal: {line:?}")))).collect()
    }

    /// How many times a user PIN was tried, whatever came of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn logins(&self) -> io::Result<u64> {
        match fs::metadata(self.logins_file()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            other => Ok(other?.len()),
        }
    }

    /// Forgets wrong PINs, as a token's security officer does who unlocks it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn unlock(&self) -> io::Result<()> {
        fs::File::create(self.wrong_pins_file())?.flush()
    }
}

fn parse(line: &str) -> Option<Call> {
    let mut words = line.split(' ');
    let process = words.next()?.parse().ok()?;
    let function = words.next()?.to_owned();
    let mut optional = || words.next().map(|w| (w != "-").then(|| w.to_owned()));
    let (rv, fault, input) = (optional()?, optional()?, optional()?);
    let rv = match rv {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    Some(Call { process, function, rv, fault, input })
}
