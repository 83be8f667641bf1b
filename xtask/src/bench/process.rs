//! One measured run of a program: time, CPU and the largest resident set.
//!
//! What the kernel counts for children is summed over all of them, and the largest of all: so each run has a process between, of
//! which it is the only child.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use super::RUN_MEASURED;
use crate::command::shown;

/// What a run took.
pub(super) struct Took {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) peak_mib: f64,
}

/// Runs `command` from a file to a file, by way of [`run_measured`].
pub(super) fn measure(command: &Command, input: &Path, output: &Path, report: &Path) -> Result<Took> {
    let mut between = Command::new(std::env::current_exe().context("this program")?);
    between.arg(RUN_MEASURED).arg(report).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => between.env(name, value),
            None => between.env_remove(name),
        };
    }
    let from = File::open(input).with_context(|| input.display().to_string())?;
    let to = File::options().write(true).create(true).truncate(true).open(output);
    between.stdin(from).stdout(to.with_context(|| output.display().to_string())?).stderr(Stdio::piped());
    let ended = between.spawn().and_then(std::process::Child::wait_with_output);
    let ended = ended.with_context(|| shown(command))?;
    ensure!(ended.status.success(), "{} failed: {}", shown(command), String::from_utf8_lossy(&ended.stderr).trim());
    let text = std::fs::read_to_string(report).with_context(|| report.display().to_string())?;
    let value: Value = serde_json::from_str(&text).context("a report")?;
    let number = |name: &str| value[name].as_f64().with_context(|| format!("no {name} in {text}"));
    Ok(Took { seconds: number("seconds")?, cpu_seconds: number("cpu_seconds")?, peak_mib: number("peak_mib")? })
}

/// `xtask run-measured REPORT PROGRAM [ARGUMENT...]`.
pub(crate) fn run_measured(arguments: &[&str]) -> Result<()> {
    let [report, program, arguments @ ..] = arguments else { bail!("run-measured REPORT PROGRAM [ARGUMENT...]") };
    let began = Instant::now();
    let status = Command::new(program).args(arguments).status().with_context(|| (*program).to_owned())?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "{program}: {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6);
    let value = json!({
        "seconds": seconds,
        "cpu_seconds": cpu.iter().sum::<f64>(),
        "peak_mib": usage.max_rss() as f64 / 1024.0,
    });
    std::fs::write(report, value.to_string()).with_context(|| (*report).to_owned())
}
