//! What came of the cases, as Markdown.

use std::fmt;
use std::time::Duration;

use sealtape_drivers::medium::{DriveIdentity, TapeDrive};

use super::Bench;

/// What became of a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everything was as it has to be.
    Passed,
    /// Something was not: the notes say what.
    Failed,
    /// It was not run, for this reason.
    NotRun(String),
}

/// What a case has to tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notes {
    facts: Vec<String>,
    faults: Vec<String>,
}

impl Notes {
    /// Something worth knowing.
    pub fn fact(&mut self, text: impl Into<String>) {
        self.facts.push(text.into());
    }

    /// Something that is not as it has to be: the case fails, and goes on as far as it can.
    pub fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    /// A fault unless `holds`.
    pub fn expect(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.fault(text());
        }
    }
}

/// A case with its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaseResult {
    /// Its name.
    pub name: &'static str,
    shows: &'static str,
    /// What became of it.
    pub verdict: Verdict,
    notes: Notes,
    took: Duration,
}

impl CaseResult {
    pub(super) fn new(name: &'static str, shows: &'static str, verdict: Verdict, notes: Notes, took: Duration) -> Self {
        let verdict = if notes.faults.is_empty() { verdict } else { Verdict::Failed };
        Self { name, shows, verdict, notes, took }
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match &self.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::NotRun(_) => "not run",
        };
        writeln!(f, "### {}: {verdict} ({:.1} s)\n{}.\n", self.name, self.took.as_secs_f64(), self.shows)?;
        if let Verdict::NotRun(reason) = &self.verdict {
            writeln!(f, "- not run: {reason}")?;
        }
        for fault in &self.notes.faults {
            writeln!(f, "- **fault**: {fault}")?;
        }
        for fact in &self.notes.facts {
            writeln!(f, "- {fact}")?;
        }
        Ok(())
    }
}

/// The whole run.
#[derive(Clone, Debug)]
pub struct Report {
    drive: DriveIdentity,
    changer: Option<String>,
    scratch: String,
    seed: u64,
    /// The cases, in their order.
    pub cases: Vec<CaseResult>,
}

impl Report {
    pub(super) fn new(bench: &mut Bench) -> anyhow::Result<Self> {
        let changer = bench
            .changer()?
            .map(|changer| format!("{}, serial number {}", changer.name(), changer.serial().unwrap_or("not told")));
        let (scratch, seed) = (bench.options.scratch.clone(), bench.options.seed);
        Ok(Self { drive: bench.drive()?.identity(), changer, scratch, seed, cases: Vec::new() })
    }

    /// Whether every case that was run has passed, and one at least was run.
    pub fn passed(&self) -> bool {
        let failed = self.cases.iter().any(|case| case.verdict == Verdict::Failed);
        !failed && self.cases.iter().any(|case| case.verdict == Verdict::Passed)
    }

    fn count(&self, of: impl Fn(&Verdict) -> bool) -> usize {
        self.cases.iter().filter(|case| of(&case.verdict)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DriveIdentity { vendor, product, revision, serial } = &self.drive;
        writeln!(f, "## {vendor} {product}, revision {revision}, serial number {serial}\n")?;
        writeln!(f, "Changer: {}. Scratch volume: {}.", self.changer.as_deref().unwrap_or("none"), self.scratch)?;
        writeln!(f, "Random commands are drawn from seed {}.", self.seed)?;
        let (passed, failed) = (self.count(|v| *v == Verdict::Passed), self.count(|v| *v == Verdict::Failed));
        let not_run = self.count(|verdict| matches!(verdict, Verdict::NotRun(_)));
        writeln!(f, "**{passed} passed, {failed} failed, {not_run} not run.**\n")?;
        self.cases.iter().try_for_each(|case| writeln!(f, "{case}"))
    }
}
