//! `completions` and `man`: made from the grammar itself.

use std::io::stdout;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::failure::Failure;
use super::output::Output;

/// Write a completion script.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Write the manual pages.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// The folder, for example /usr/local/share/man/man1; made when it does not exist
    folder: PathBuf,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "sealtape", &mut script);
        std::io::Write::write_all(&mut stdout().lock(), &script).map_err(|e| Failure::stdout(&e))
    }
}

impl Man {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::file("writing manual pages into", &self.folder, &e);
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &self.folder).map_err(failed)?;
        output.note(&format!("manual pages written into {}", self.folder.display()));
        Ok(())
    }
}
