//! Why a guest gave no result.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What went wrong around the script. A script that ran to its end is no error, whatever its exit code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program or file that the guest is made of is not on this machine.
    #[error("{what} is missing: {mend}")]
    Missing {
        /// What was looked for.
        what: String,
        /// How to get it.
        mend: String,
    },
    /// What the caller asked for cannot be had.
    #[error("{0}")]
    Asked(String),
    /// The host refused something.
    #[error("{what}: {source}")]
    Host {
        /// What was being done, and to which file or process.
        what: String,
        /// What the host said.
        source: io::Error,
    },
    /// The guest could not make things ready for the script: a module or a mount is missing.
    #[error("the guest could not be made ready: {message}{last}")]
    NotReady {
        /// What the guest said.
        message: String,
        /// What it printed before.
        last: LastWords,
    },
    /// The guest's kernel panicked.
    #[error("the guest's kernel panicked: {line}{last}")]
    Panicked {
        /// The kernel's own line.
        line: String,
        /// What was printed before.
        last: LastWords,
    },
    /// The script did not end in time. The guest has been killed.
    #[error("the guest was killed at its time limit of {} s{last}", limit.as_secs_f32())]
    TimeLimit {
        /// The limit.
        limit: Duration,
        /// What was printed before.
        last: LastWords,
    },
    /// Somebody asked for an end ([`Guest::stop_when`](super::Guest::stop_when)). The guest has been killed.
    #[error("stopped before the script ended")]
    Stopped {
        /// What was printed before.
        last: LastWords,
    },
    /// The guest ended, but the script left no exit code.
    #[error("the guest ended ({status}) without an exit code of the script{last}")]
    NoResult {
        /// How its first process ended.
        status: String,
        /// What was printed before.
        last: LastWords,
    },
    /// Processes of the guest are still there after they were killed.
    #[error(
        "processes of the guest do not end though killed: {0:?}; `ps -o pid,stat,wchan,args -p PID` shows where they hang"
    )]
    Left(Vec<i32>),
}

impl Error {
    pub(crate) fn host(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Host { what, source }
    }

    pub(crate) fn path(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Host { what: path.display().to_string(), source }
    }
}

/// What a guest without a result had printed. Its `Display` gives the last lines of each.
#[derive(Debug, Clone, Default)]
pub struct LastWords {
    /// Standard output and error of the script.
    pub output: String,
    /// The kernel's console.
    pub console: String,
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in [("script", &self.output), ("console", &self.console)] {
            let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            let first = lines.len().saturating_sub(LAST_LINES);
            if lines.is_empty() {
                write!(f, "\n  {name}: (nothing)")?;
            }
            for line in lines.iter().skip(first) {
                write!(f, "\n  {name}: {line}")?;
            }
        }
        Ok(())
    }
}

const LAST_LINES: usize = 20;
