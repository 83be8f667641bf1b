//! Text for people, JSON for programs.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::Global;
use super::failure::{Exit, Failure};

/// How this run prints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(super) fn new(global: &Global) -> Self {
        Self { json: global.json, quiet: global.quiet }
    }

    /// Text, for programs without these options.
    pub(super) fn plain() -> Self {
        Self { json: false, quiet: true }
    }

    /// The same, as JSON.
    pub(super) fn as_json(&self) -> Self {
        Self { json: true, ..*self }
    }

    /// Whether JSON is asked for.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Whether a progress bar is wanted and can be drawn.
    pub(super) fn draws_progress(&self) -> bool {
        !self.quiet && !self.json && stderr().is_terminal()
    }

    /// Prints a value: as JSON, or as the text that `human` makes of it.
    pub(super) fn value<T: Serialize>(&self, value: &T, human: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let mut text = match self.json {
            true => serde_json::to_string(value).map_err(|e| {
                Failure::new(Exit::Failed, format!("the result cannot be written as JSON: {e}"), "report this as a bug")
            })?,
            false => human(value),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        self.text(&text)
    }

    /// Prints text to stdout.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
    }

    /// Tells a person what was done. Not for programs: it goes to stderr, and not with `--quiet` or `--json`.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            // A note that cannot be shown is no reason to fail what was done.
            let _ = writeln!(stderr().lock(), "{text}");
        }
    }

    /// Prints a failure and gives its exit code.
    pub(super) fn failure(&self, failure: &Failure) -> ExitCode {
        if failure.exit != Exit::BrokenPipe {
            let text = match (self.json, failure.mend.is_empty()) {
                (true, _) => failure.json().to_string(),
                (false, true) => format!("sealtape: {}", failure.message),
                (false, false) => format!("sealtape: {}\n  next: {}", failure.message, failure.mend),
            };
            // Without stderr, the exit code still tells.
            let _ = writeln!(stderr().lock(), "{text}");
        }
        failure.exit.into()
    }
}

/// Log lines of this process go to stderr: warnings, with `-v` more. `SEALTAPE_LOG` overrides.
pub(super) fn log_to_stderr(verbose: u8) {
    let level = ["warn", "info", "debug"][usize::from(verbose.min(2))];
    let filter = EnvFilter::try_from_env("SEALTAPE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .init();
}
