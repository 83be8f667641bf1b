//! `sealtape-lab-tape`: does to a tape drive what a script or a seed says, and prints what came of it, one line a command and nothing that
//! differs from run to run: two drives that behave the same print the same.

mod random_scsi;
mod random_st;
mod sequence;
mod st;
mod sys;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Exercise a tape drive and print what it answers
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Steps from the standard input through /dev/nstN: open, close, read LENGTH, write LENGTH SEED, op NUMBER COUNT
    St { node: PathBuf },
    /// Steps that a seed names through /dev/nstN
    RandomSt {
        node: PathBuf,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        steps: u32,
    },
    /// Commands that a seed names through /dev/sgN. What is on the medium is lost
    RandomScsi {
        node: PathBuf,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        commands: u32,
        /// Longest block that is written
        #[arg(long, default_value_t = 65536)]
        largest: u32,
    },
    /// READ(6) with SILI, FIXED and every relation of lengths, checked against the table of the standard. What is on the medium is lost
    Table { node: PathBuf },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab tape: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(action: &Action) -> Result<()> {
    match action {
        Action::St { node } => st::from_script(node, std::io::stdin().lock()),
        Action::RandomSt { node, seed, steps } => random_st::run(node, *seed, *steps),
        Action::RandomScsi { node, seed, commands, largest } => random_scsi::run(node, *seed, *commands, *largest),
        Action::Table { node } => table::run(node),
    }
}
