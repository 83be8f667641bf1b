//! The cases that a tape drive, a library, and the product over them are tried with: a virtual library (mhvtl) or a real one.
//!
//! Everything that writes takes a `Held` volume, which exists only after the drive and the changer have said that the cartridge is the
//! one the operator gave away. A case that cannot be run says why, and does not count as passed.
//!
//! Deliberately absent: throughput. A virtual library has none to speak of.

mod bench;
mod capacity;
mod changer;
mod identity;
mod medium;
mod product;
mod random;
mod random_commands;
mod report;

use std::path::PathBuf;
use std::time::Instant;

pub use bench::Bench;
pub use report::{CaseResult, Notes, Report, Verdict};

/// What the suite is to run on.
#[derive(Debug, Clone)]
pub struct Options {
    /// The drive, by any node of it.
    pub drive: PathBuf,
    /// The changer that serves it.
    pub changer: Option<PathBuf>,
    /// Barcode of the cartridge that may be written over.
    pub scratch: String,
    /// Barcode of a WORM cartridge that may be written to.
    pub worm: Option<String>,
    /// Barcode of a cartridge whose write protection is set.
    pub protected: Option<String>,
    /// Barcode of a cleaning cartridge that may be used.
    pub cleaning: Option<String>,
    /// How many random commands.
    pub commands: u32,
    /// What the random commands are drawn from.
    pub seed: u64,
    /// The cartridge is written full only when it holds no more than this many bytes.
    pub fill_limit: u64,
    /// Blocks longer than this are not tried.
    pub longest_block: u32,
    /// Folder of the product's programs, for the cases that go through it.
    pub product: Option<PathBuf>,
    /// Only cases with one of these names; all if empty.
    pub only: Vec<String>,
}

type Run = fn(&mut Bench, &mut Notes) -> anyhow::Result<Verdict>;

/// Name, what it shows, and how.
const CASES: &[(&str, &str, Run)] = &[
    (
        "changer",
        "element status agrees with `mtx status`; the drive is found by its serial number",
        changer::agrees_with_mtx,
    ),
    ("identity", "INQUIRY, block limits, log, mode and vital product data pages", identity::identity),
    (
        "ownership",
        "st is kept off the drive and comes back; persistent reservation where there is one",
        identity::ownership,
    ),
    ("medium", "medium status, MAM read and written", medium::status_and_attributes),
    ("lengths", "blocks of every length come back, also into buffers too short and too long", capacity::block_lengths),
    (
        "random",
        "random SPACE, LOCATE, READ, WRITE, WRITE FILEMARKS do what the reference tape does",
        random::against_the_model,
    ),
    (
        "unload-buffered",
        "what was written stands on the medium after UNLOAD; PREVENT is kept",
        medium::unload_while_buffered,
    ),
    (
        "partitions",
        "FORMAT MEDIUM into two partitions, each with its own objects, and back into one",
        medium::partitions,
    ),
    (
        "capacity-end",
        "programmable early warning, early warning, end of medium: in order, nothing acknowledged is lost",
        capacity::end_of_medium,
    ),
    (
        "product",
        "tar and dd through the product: label, write, compare, ciphertext on the medium",
        product::tar_through_the_product,
    ),
    ("worm", "a WORM cartridge is appended to and not written over", medium::worm),
    ("write-protected", "a protected cartridge is read and not written", medium::write_protection),
    ("cleaning", "a cleaning cartridge is recognised", medium::cleaning),
];

/// Names of all cases.
pub fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|(name, _, _)| *name)
}

/// Runs the cases, one after the other, and tells of each as it ends.
///
/// # Errors
/// When drive or changer cannot be opened. What fails in a case is in the report.
pub fn run(options: Options, mut told: impl FnMut(&CaseResult)) -> anyhow::Result<Report> {
    let only = options.only.clone();
    let mut bench = Bench::open(options)?;
    let mut report = Report::new(&mut bench)?;
    for (name, shows, run) in CASES {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        let begin = Instant::now();
        let mut notes = Notes::default();
        let verdict = match run(&mut bench, &mut notes) {
            Ok(verdict) => verdict,
            Err(error) => {
                notes.fault(format!("{error:#}"));
                Verdict::Passed
            }
        };
        let result = CaseResult::new(name, shows, verdict, notes, begin.elapsed());
        told(&result);
        report.cases.push(result);
    }
    Ok(report)
}
