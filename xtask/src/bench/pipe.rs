//! `bench pipe`: the filter beside other programs, all from standard input to standard output, the same file in memory.

mod peers;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use self::peers::Peer;
use super::figures::{median, ratio, table};
use super::process::{Took, measure};
use super::{Options, in_memory, machine, publish};
use crate::command::{Profile, checked, output};
use crate::demo::stage::Stage;
use crate::setup;

const NULL: &str = "/dev/null";

/// Sealing, no compression, from a file to null: at least so many times as fast as these.
const SEAL_GOALS: [(&str, f64); 3] = [("openssl aes-256-ctr", 1.3), ("age", 2.5), ("gpg", 6.0)];
const OPEN_GOALS: [(&str, f64); 1] = [("age", 4.0)];

/// A program, round by round; and Sealtape in the same rounds.
struct Line {
    name: String,
    rates: Vec<f64>,
    ours: Vec<f64>,
    cpu_per_gb: Vec<f64>,
    peak_mib: Vec<f64>,
}

/// Everything that a round needs.
struct Field {
    folder: PathBuf,
    rounds: usize,
    bytes: u64,
}

/// Gives what was not reached.
pub(super) fn run(options: &Options, product: &Path) -> Result<Vec<String>> {
    setup::for_bench()?;
    // The services are asked for one key a run; the data path is all in the command that is measured.
    let stage = Stage::set(Profile::Release)?;
    let folder = in_memory(&stage)?;
    output(stage.sealtape().arg("init"))?;
    stage.start_services()?;
    output(stage.sealtape().args(["pool", "create", "bench", "--compression", "none"]))?;

    let field = Field { folder, rounds: options.rounds, bytes: options.mebibytes << 20 };
    let plain = field.folder.join("plain");
    noise(&plain, field.bytes)?;
    let ours = Peer::sealtape(product, &stage.home());
    let peers = peers::all(&field.folder)?;

    let mut results = vec![
        field.seal("seal, file to null", &ours, &peers, &plain, Path::new(NULL))?,
        field.seal("seal, file to file", &ours, &peers, &plain, &field.folder.join("out"))?,
    ];
    results.extend(field.open(&ours, &peers, &plain)?);
    peers::end(&field.folder)?;
    stage.stop_services()?;
    tell(options, &results)?;
    Ok([(&results[0], &SEAL_GOALS[..]), (&results[2], &OPEN_GOALS[..])]
        .iter()
        .flat_map(|((name, lines), goals)| missed(name, lines, goals))
        .collect())
}

type Contest = (&'static str, Vec<Line>);

impl Field {
    /// All in turn, round after round.
    fn seal(&self, name: &'static str, ours: &Peer, peers: &[Peer], from: &Path, to: &Path) -> Result<Contest> {
        println!("bench pipe: {name}, {} rounds", self.rounds);
        let commands = [ours].into_iter().chain(peers).map(|peer| (peer.name, &peer.seal, from));
        Ok((name, self.rounds_of(&commands.collect::<Vec<_>>(), to)?))
    }

    /// Two at a time, since each has a file of its own to open.
    fn open(&self, ours: &Peer, peers: &[Peer], plain: &Path) -> Result<[Contest; 2]> {
        let (sealed, theirs, out) = (self.folder.join("sealed"), self.folder.join("theirs"), self.folder.join("out"));
        self.take(&ours.seal, plain, &sealed)?;
        self.take(&ours.open, &sealed, &out)?;
        checked(Command::new("cmp").arg(plain).arg(&out)).context("what was opened is not what was sealed")?;
        std::fs::remove_file(&out)?;
        let mut contests: [Contest; 2] = [("open, file to null", Vec::new()), ("open, file to file", Vec::new())];
        for peer in peers {
            println!("bench pipe: open, beside {}, {} rounds", peer.name, self.rounds);
            self.take(&peer.seal, plain, &theirs)?;
            for ((_, lines), to) in contests.iter_mut().zip([Path::new(NULL), &out]) {
                let both = [(ours.name, &ours.open, &*sealed), (peer.name, &peer.open, &*theirs)];
                let mut both = self.rounds_of(&both, to)?.into_iter();
                let (Some(own), Some(other)) = (both.next(), both.next()) else { bail!("two were measured") };
                match lines.first_mut() {
                    Some(first) => first.extend(own),
                    None => lines.push(own),
                }
                lines.push(other);
            }
            std::fs::remove_file(&theirs)?;
        }
        Ok(contests)
    }

    /// Runs each command once a round; the first one is ours.
    fn rounds_of(&self, commands: &[(&str, &Command, &Path)], to: &Path) -> Result<Vec<Line>> {
        let mut lines: Vec<Line> = commands.iter().map(|(name, ..)| Line::new(name)).collect();
        for _ in 0..self.rounds {
            let mut ours = None;
            for (line, (_, command, from)) in lines.iter_mut().zip(commands) {
                let took = self.take(command, from, to)?;
                if to != Path::new(NULL) {
                    std::fs::remove_file(to)?;
                }
                let gigabytes = self.bytes as f64 / 1e9;
                let rate = gigabytes / took.seconds;
                line.rates.push(rate);
                line.ours.push(*ours.get_or_insert(rate));
                line.cpu_per_gb.push(took.cpu_seconds / gigabytes);
                line.peak_mib.push(took.peak_mib);
            }
        }
        Ok(lines)
    }

    fn take(&self, command: &Command, from: &Path, to: &Path) -> Result<Took> {
        measure(command, from, to, &self.folder.join("report"))
    }
}

impl Line {
    fn new(name: &str) -> Self {
        let (rates, ours, cpu_per_gb, peak_mib) = Default::default();
        Self { name: name.to_owned(), rates, ours, cpu_per_gb, peak_mib }
    }

    fn extend(&mut self, other: Self) {
        self.rates.extend(other.rates);
        self.ours.extend(other.ours);
        self.cpu_per_gb.extend(other.cpu_per_gb);
        self.peak_mib.extend(other.peak_mib);
    }

    /// How many times as fast Sealtape is.
    fn ratio(&self) -> f64 {
        ratio(&self.ours, &self.rates)
    }
}

fn missed(contest: &str, lines: &[Line], goals: &[(&str, f64)]) -> Vec<String> {
    let mut missed = Vec::new();
    for (name, least) in goals {
        let Some(line) = lines.iter().find(|line| line.name == *name) else { continue };
        let has = line.ratio();
        println!("{contest}: {has:.2} times {name} (at least {least})");
        if has < *least {
            missed.push(format!("{contest}: {least} times {name}; it has {has:.2}"));
        }
    }
    missed
}

fn tell(options: &Options, results: &[Contest]) -> Result<()> {
    let mut text = format!("{} MiB of random bytes, not compressed. ", options.mebibytes);
    text.push_str(&peers::versions());
    text.push_str("\n\n");
    let mut figures = Vec::new();
    for (name, lines) in results {
        let rows: Vec<Vec<String>> = lines
            .iter()
            .map(|line| {
                let (rate, cpu, peak) = (median(&line.rates), median(&line.cpu_per_gb), median(&line.peak_mib));
                figures.push(json!({
                    "contest": name, "program": line.name, "gb_per_s": line.rates, "sealtape_gb_per_s": line.ours,
                    "ratio": line.ratio(), "cpu_s_per_gb": line.cpu_per_gb, "peak_mib": line.peak_mib,
                }));
                let ratio = format!("{:.2}", line.ratio());
                vec![line.name.clone(), format!("{rate:.2}"), ratio, format!("{cpu:.2}"), format!("{peak:.0}")]
            })
            .collect();
        let head = [*name, "GB/s", "Sealtape is … times", "CPU s/GB", "peak MiB"];
        text.push_str(&table(&head, &rows));
        text.push('\n');
    }
    publish("pipe", options.rounds, Value::Array(figures), &text)
}

/// Bytes that no compressor shrinks, the same in each run.
fn noise(path: &Path, bytes: u64) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).with_context(|| path.display().to_string())?);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..bytes / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.flush().with_context(|| path.display().to_string())
}

/// What a program calls itself.
fn version(program: &str, argument: &str) -> String {
    machine::said(program, &[argument])
}
