//! `cargo xtask test`: every test that can run on this machine.

use anyhow::Result;

use crate::command::{self, Profile, cargo, checked};
use crate::{demo, setup};

pub(crate) struct Options {
    /// Also what takes many minutes.
    pub(crate) long: bool,
    /// The demo as the last test.
    pub(crate) demo: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let python = setup::for_test()?;

    let mut environment = Vec::new();
    if let Some(python) = python {
        environment.push(("SEALTAPE_PYTHON", python.into_os_string()));
    }
    if options.long {
        environment.push(("SEALTAPE_LONG", "1".into()));
    }

    // Building is a step of its own, so that no time limit of a test pays for it. It leaves the
    // binaries of the product in the same folder, where the demo takes them from.
    checked(cargo().args(["test", "--locked", "--workspace", "--no-run"]))?;
    let mut tests = cargo();
    if has_nextest() {
        tests.args(["nextest", "run", "--locked", "--workspace", "--no-fail-fast"]);
    } else {
        tests.args(["test", "--locked", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"]);
    }
    checked(tests.envs(environment.clone()))?;
    checked(cargo().args(["test", "--locked", "--workspace", "--doc"]).envs(environment))?;

    if options.demo {
        // As a test it writes less: the binaries are less optimised, and the figures are not the point.
        demo::run(&demo::Options { keep: false, profile: Profile::Dev, build: false, mebibytes: 48 })?;
    }
    println!("\nxtask: all tests passed; binaries in {}", command::binaries(Profile::Dev)?.display());
    Ok(())
}

fn has_nextest() -> bool {
    command::output(cargo().args(["nextest", "--version"])).is_ok()
}
