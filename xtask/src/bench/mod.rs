//! `cargo xtask bench`: what sealing costs, beside what others cost on the same data in the same run.
//!
//! Machines are shared and noisy, so entrants take turns, round after round; a figure is the median of the rounds, and a ratio the
//! median of the ratios within each round. Each run prints tables, writes JSON below the target folder, and puts its tables into
//! `docs/benchmarks.md`.

mod chain;
mod figures;
mod machine;
mod node;
mod parts;
mod pipe;
mod process;
mod seal;
mod served;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::command::{self, cargo, checked};
use crate::demo::stage::{self, Stage};

pub(crate) use chain::run_in_guest;
pub(crate) use process::run_measured;

/// Files in memory: a disk would be what is measured.
const MEMORY: &str = "/dev/shm";
const FOLDER: &str = "sealtape-bench-";

/// The first word of a command line that `bench` gives itself.
pub(crate) const RUN_MEASURED: &str = "run-measured";

/// The same, for the part of it that runs in the guest lab.
pub(crate) const RUN_CHAIN: &str = "run-chain";

/// What is neither the client nor built with the product.
const PROGRAM: &str = "sealtape-bench-node";

/// What the user asked for.
pub(crate) struct Options {
    which: Vec<Which>,
    mebibytes: u64,
    rounds: usize,
    build: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Seal,
    Parts,
    Pipe,
    Node,
    Chain,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self { which: Vec::new(), mebibytes: 1024, rounds: 5, build: true };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = |least: u64, most: u64| {
                let value = arguments.next().and_then(|value| value.parse().ok());
                value
                    .filter(|value| (least..=most).contains(value))
                    .with_context(|| format!("{argument} takes a number from {least} to {most}"))
            };
            match *argument {
                "seal" => options.which.push(Which::Seal),
                "parts" => options.which.push(Which::Parts),
                "pipe" => options.which.push(Which::Pipe),
                "node" => options.which.push(Which::Node),
                "chain" => options.which.push(Which::Chain),
                "--mib" => options.mebibytes = number(16, 16384)?,
                "--rounds" => options.rounds = number(1, 99)? as usize,
                "--no-build" => options.build = false,
                unknown => bail!("bench knows no {unknown:?}; `cargo xtask help` lists what it knows"),
            }
        }
        if options.which.is_empty() {
            options.which = vec![Which::Seal, Which::Parts, Which::Pipe, Which::Node, Which::Chain];
        }
        Ok(options)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    // The parts are built by themselves.
    let needs_product = options.which.iter().any(|which| *which != Which::Parts);
    if options.build && needs_product {
        // Linking each program takes minutes. The command alone holds all of the data path of a filter.
        let mut build = cargo();
        build.args(["build", "--locked", "--release", "--package", "sealtape", "--bin", "sealtape"]);
        if options.which.iter().any(|which| matches!(which, Which::Pipe | Which::Node)) {
            build.args(["--bin", "sealtaped", "--bin", "sealtape-keyd"]);
        }
        if options.which.iter().any(|which| matches!(which, Which::Node | Which::Chain)) {
            build.args(["--package", "sealtape-hwtest", "--bin", PROGRAM]);
        }
        if options.which.contains(&Which::Chain) {
            build.args(["--bin", chain::LAB]);
        }
        checked(&mut build)?;
    }
    let product = command::binaries(command::Profile::Release)?.join("sealtape");
    ensure!(!needs_product || product.is_file(), "{} is not built; leave out --no-build", product.display());
    let mut missed = Vec::new();
    for which in &options.which {
        match which {
            Which::Seal => missed.extend(seal::run(options, &product)?),
            Which::Parts => parts::run(options)?,
            Which::Pipe => missed.extend(pipe::run(options, &product)?),
            Which::Node => missed.extend(node::run(options, &product)?),
            Which::Chain => missed.extend(chain::run(options, &product)?),
        }
    }
    ensure!(missed.is_empty(), "not reached: {}", missed.join("; "));
    Ok(())
}

/// A folder in memory that goes with the stage.
fn in_memory(stage: &Stage) -> Result<PathBuf> {
    sweep()?;
    let folder = Path::new(MEMORY).join(format!("{FOLDER}{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    stage.remove_too(&folder);
    Ok(folder)
}

/// Removes what a killed run left in memory.
fn sweep() -> Result<()> {
    for entry in std::fs::read_dir(MEMORY).context(MEMORY)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.strip_prefix(FOLDER).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            stage::remove(&path)?;
        }
    }
    Ok(())
}

/// A benchmark's result: JSON below the target folder, and its part of the page.
fn publish(name: &str, rounds: usize, figures: Value, text: &str) -> Result<()> {
    let machine = machine::describe();
    let folder = command::target()?.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = folder.join(format!("{name}.json"));
    let whole = json!({ "benchmark": name, "rounds": rounds, "machine": machine, "figures": figures });
    std::fs::write(&file, format!("{whole:#}\n")).with_context(|| file.display().to_string())?;

    let page = page();
    let before = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let part = format!("{}\n\n{text}", machine::paragraph(&machine, rounds));
    std::fs::write(&page, replaced(&before, name, &part)?).with_context(|| page.display().to_string())?;
    println!("{text}\n{} and {} are written", file.display(), page.display());
    Ok(())
}

fn page() -> PathBuf {
    command::root().join("docs/benchmarks.md")
}

/// The page with another text between the markers of a benchmark.
fn replaced(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let from = page.find(&begin).with_context(|| format!("no {begin:?} in docs/benchmarks.md"))? + begin.len();
    let to = from + page[from..].find(&end).with_context(|| format!("no {end:?} behind {begin:?}"))?;
    Ok(format!("{}\n{}\n\n{}", &page[..from], text.trim(), &page[to..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_page_is_replaced_and_nothing_else() {
        let page = "a\n<!-- seal: begin -->\nold\n<!-- seal: end -->\nb\n<!-- pipe: begin -->\n<!-- pipe: end -->\n";
        let once = replaced(page, "seal", "new\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- seal: begin -->\n\nnew\n\n<!-- seal: end -->\nb\n<!-- pipe: begin -->\n<!-- pipe: end -->\n"
        );
        assert_eq!(replaced(&once, "seal", "new").unwrap(), once);
        assert!(replaced(page, "node", "x").is_err());
    }

    #[test]
    fn the_page_has_a_place_for_each_benchmark() {
        let page = std::fs::read_to_string(page()).unwrap();
        for name in ["seal", "parts", "pipe", "node", "chain"] {
            replaced(&page, name, "x").unwrap();
        }
    }

    #[test]
    fn options_are_checked() {
        assert!(Options::parse(&["parts", "pipe", "node", "chain", "--mib", "4096", "--rounds", "3"]).is_ok());
        for wrong in [&["--mib", "0"][..], &["--mib"], &["--rounds", "x"], &["tape"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
