//! `cargo xtask lab`: a command in a guest, by the program `sealtape-lab` of package `sealtape-hwtest`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::command::{Profile, binaries, cargo, checked, shown};
use crate::setup;

/// Does the set-up, builds the program and becomes it: signals then reach it, and its exit code is ours.
pub(crate) fn run(arguments: &[&str]) -> Result<ExitCode> {
    setup::for_lab()?;
    checked(cargo().args(["build", "--locked", "--quiet", "--package", "sealtape-hwtest", "--bin", "sealtape-lab"]))?;
    let mut lab = Command::new(binaries(Profile::Dev)?.join("sealtape-lab"));
    lab.args(arguments);
    // It returns only if it fails.
    let error = lab.exec();
    Err(error).with_context(|| format!("cannot run {}", shown(&lab)))
}
