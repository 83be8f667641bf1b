//! The command `sealtape`: one file per group of commands.
//!
//! Output goes to stdout, as text for people or with `--json` as one JSON value per line; everything about the run
//! (progress, errors) goes to stderr. Exit codes are those of [`failure::Exit`], also in `docs/cli.md`. No secret is taken
//! from the command line or the environment, and none is printed.

pub mod amcrypt;
mod anchor;
mod approval;
mod audit;
mod catalogue;
mod custodian;
mod destroy;
mod drive;
mod exchange;
pub mod failure;
mod hsm;
mod image;
mod init;
mod key;
mod library;
mod manual;
mod measure;
mod output;
mod pipe;
mod pool;
mod progress;
mod recovery;
mod restore;
mod role;
mod run;
mod shares;
mod table;
mod tenant;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use sealtape_kms::pkcs11::{WORKER_ARGUMENT, worker_main};

use crate::service::home::Home;
use failure::Failure;
use output::Output;

/// Inline encryption for tapes: label volumes, watch drives, restore, and export the custody log.
#[derive(Debug, Parser)]
#[command(name = "sealtape", version, max_term_width = 110, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 refused by key authority or policy, 4 integrity, 5 service not \
running, 6 busy, 7 configuration, 8 medium not in a state for this, 9 drive or file failed, 10 unknown name, 11 not permitted, \
12 stopped. More in sealtape(1) and docs/cli.md."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Home folder [default: $SEALTAPE_HOME, else /var/lib/sealtape for root and ~/.local/state/sealtape for others]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    home: Option<PathBuf>,
    /// Print JSON, one value per line; errors too (on stderr)
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Tell more about the run on stderr; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
    /// Neither progress nor confirmations
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    quiet: bool,
}

impl Global {
    fn home(&self) -> Result<Home, Failure> {
        Ok(Home::find(self.home.as_deref())?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up a home folder: token and keys, catalogue, custody log, configuration
    Init(init::Init),
    /// Run both services in the foreground until interrupted
    Run(run::Run),
    /// Watch drives
    #[command(subcommand)]
    Drive(drive::Drive),
    /// Label, load, list and verify volumes
    #[command(subcommand)]
    Volume(volume::Volume),
    /// Look into tape libraries
    #[command(subcommand)]
    Library(library::Library),
    /// Look at tokens and the key authority, test and enrol tokens
    #[command(subcommand)]
    Hsm(hsm::Hsm),
    /// Look at tenants, and make them
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// Look at pools, make them, and change their policies
    #[command(subcommand)]
    Pool(pool::Pool),
    /// Look at keys: their states and periods; mark them as compromised
    #[command(subcommand)]
    Key(key::Key),
    /// Register the persons who approve what cannot be undone
    #[command(subcommand)]
    Custodian(custodian::Custodian),
    /// Give roles, and take them back
    #[command(subcommand)]
    Role(role::Role),
    /// Approve what cannot be undone
    #[command(subcommand)]
    Approval(approval::Approval),
    /// Seal standard input to standard output, under a key of its own
    Seal(pipe::Seal),
    /// Open a sealed stream: standard input to standard output
    Open(pipe::Open),
    /// Get files back from a cartridge, its image or a sealed stream, without services or catalogue
    Restore(restore::Restore),
    /// The offline recovery key: make it, install it, drill
    #[command(subcommand)]
    Recovery(recovery::Recovery),
    /// Give keys of volumes to a partner, and take theirs in
    #[command(subcommand)]
    Exchange(exchange::Exchange),
    /// Back the catalogue up, and restore it with the token
    #[command(subcommand)]
    Catalogue(catalogue::Catalogue),
    /// Export, verify and read the custody log
    #[command(subcommand)]
    Audit(audit::Audit),
    /// List, show and verify certificates of destruction
    #[command(subcommand)]
    Certificate(destroy::Certificate),
    /// Make and look into image files, the cartridges of file-backed drives
    #[command(subcommand)]
    Image(image::Image),
    /// Write a completion script for a shell to stdout
    Completions(manual::Completions),
    /// Write the manual pages into a folder
    Man(manual::Man),
    /// Measure the suites of this program in memory
    #[command(hide = true)]
    Measure(measure::Measure),
}

/// Runs the command line of this process. The exit code is final: nothing is left to report.
pub fn main() -> ExitCode {
    // The PKCS#11 module of `init` and `restore` runs in a process of its own, which is this program again.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == WORKER_ARGUMENT) {
        return worker();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error),
    };
    output::log_to_stderr(cli.global.verbose);
    let output = Output::new(&cli.global);
    match cli.command.run(&cli.global, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}

/// Serves a PKCS#11 module until its parent closes the socket on stdin.
pub fn worker() -> ExitCode {
    match worker_main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent knows that its worker ended; why goes to its log.
            eprintln!("sealtape-pkcs11-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(self, global: &Global, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Init(command) => command.run(&global.home()?, output),
            Self::Restore(command) => command.run(|| global.home(), output),
            Self::Run(command) => command.run(&global.home()?, output),
            Self::Drive(command) => command.run(&global.home()?, output),
            Self::Volume(command) => command.run(&global.home()?, output),
            Self::Library(command) => command.run(&global.home()?, output),
            Self::Hsm(command) => command.run(|| global.home(), output),
            Self::Tenant(command) => command.run(&global.home()?, output),
            Self::Pool(command) => command.run(&global.home()?, output),
            Self::Custodian(command) => command.run(&global.home()?, output),
            Self::Role(command) => command.run(&global.home()?, output),
            Self::Approval(command) => command.run(|| global.home(), output),
            Self::Seal(command) => command.run(&global.home()?, output),
            Self::Open(command) => command.run(&global.home()?, output),
            Self::Recovery(command) => command.run(|| global.home(), output),
            Self::Exchange(command) => command.run(&global.home()?, output),
            Self::Catalogue(command) => command.run(|| global.home(), output),
            Self::Audit(command) => command.run(|| global.home(), output),
            Self::Key(command) => command.run(&global.home()?, output),
            Self::Certificate(command) => command.run(|| global.home(), output),
            Self::Image(command) => command.run(output),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(output),
            Self::Measure(command) => command.run(output),
        }
    }
}

/// The grammar of the command line, for completions and manual pages.
pub fn grammar() -> clap::Command {
    Cli::command()
}
