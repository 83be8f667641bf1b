//! A process that serves nodes, and the programs that write to them and read from them.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::{output, shown};

/// What stands between node and drive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Raw,
    Sealed,
}

/// What the drive does with records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Drive {
    Discard,
    Memory,
    Image,
    /// A drive of the guest's kernel.
    Scsi,
}

impl Unit {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Sealed => "sealed",
        }
    }
}

impl Drive {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Memory => "memory",
            Self::Image => "image",
            Self::Scsi => "scsi",
        }
    }
}

/// `sealtape-bench-node serve`. It ends, and takes its nodes down, when this is dropped or this process ends.
pub(super) struct Served {
    program: Child,
    orders: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
    folder: PathBuf,
    pub(super) nodes: Vec<PathBuf>,
    /// Of each drive.
    pub(super) window_bytes: u64,
}

/// Of a medium that so much is written to. From where the window could run over the end nothing is written behind: that is not to be
/// measured.
pub(super) fn room(mebibytes: u64) -> u64 {
    mebibytes + mebibytes / 16 + 256
}

/// Since the process started.
#[derive(Clone, Copy)]
pub(super) struct Used {
    pub(super) cpu_seconds: f64,
    pub(super) peak_mib: f64,
}

impl Served {
    /// Nodes over `drives` drives with media of `room` MiB each, in a folder of their own in `folder`.
    pub(super) fn start(
        program: &Path,
        folder: &Path,
        (unit, drive): (Unit, Drive),
        drives: usize,
        room: u64,
        more: &[&str],
    ) -> Result<Self> {
        let folder = folder.join(format!("{}-{}-{drives}", unit.name(), drive.name()));
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let mut command = Command::new(program);
        command.args(["serve", "--unit", unit.name(), "--drive", drive.name()]);
        command.args(["--drives", &drives.to_string(), "--mib", &room.to_string(), "--folder"]).arg(&folder).args(more);
        // A group of its own: Ctrl-C at the terminal reaches xtask, which then takes things down in order.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut program = command.spawn().with_context(|| shown(&command))?;
        let (orders, Some(said)) = (program.stdin.take(), program.stdout.take()) else { bail!("no pipes") };
        let mut served =
            Self { program, orders, said: BufReader::new(said), folder, nodes: Vec::new(), window_bytes: 0 };
        let ready = served.line().with_context(|| shown(&command))?;
        let nodes = ready["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        served.nodes = nodes.map(PathBuf::from).collect();
        ensure!(served.nodes.len() == drives, "{} nodes, where {drives} drives were asked for", served.nodes.len());
        served.window_bytes = ready["window_bytes"].as_u64().context("no window_bytes")?;
        Ok(served)
    }

    pub(super) fn used(&mut self) -> Result<Used> {
        let orders = self.orders.as_mut().context("no orders")?;
        orders.write_all(b"used\n").context("the process of the nodes")?;
        let used = self.line()?;
        Ok(Used { cpu_seconds: number(&used, "cpu_seconds")?, peak_mib: number(&used, "peak_mib")? })
    }

    /// Takes the nodes down, and insists on a clean end.
    pub(super) fn end(mut self) -> Result<()> {
        self.orders = None;
        let status = self.program.wait().context("the process of the nodes")?;
        ensure!(status.success(), "the process of the nodes ended with {status}");
        std::fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.said.read_line(&mut line).context("the process of the nodes")?;
        ensure!(!line.is_empty(), "the process of the nodes has ended; above stands why");
        serde_json::from_str(&line).with_context(|| line.clone())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.orders = None;
        if let Err(error) = self.program.wait() {
            eprintln!("bench node: the process of the nodes: {error}");
        }
    }
}

/// A program that uses nodes as a backup program does.
pub(super) struct Client<'a> {
    pub(super) program: &'a Path,
    pub(super) block: u64,
    pub(super) records: u64,
}

impl Client<'_> {
    pub(super) fn bytes(&self) -> u64 {
        self.block * self.records
    }

    fn command(&self, task: &str, node: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.arg(task).arg(node).args(["--block", &self.block.to_string(), "--records", &self.records.to_string()]);
        command.args(more);
        command
    }

    /// What it says of one task.
    pub(super) fn run(&self, task: &str, node: &Path, more: &[&str]) -> Result<Value> {
        let mut command = self.command(task, node, more);
        let said = output(&mut command)?;
        serde_json::from_str(&said).with_context(|| said.clone())
    }

    /// Seconds from the first record to the last, or to the close after writing.
    pub(super) fn seconds(&self, task: &str, node: &Path) -> Result<f64> {
        number(&self.run(task, node, &[])?, "seconds")
    }

    /// The same at several nodes at once: the seconds of all together, the programs' start and end among them, and of each.
    pub(super) fn at_once(&self, task: &str, nodes: &[PathBuf]) -> Result<(f64, Vec<f64>)> {
        let began = Instant::now();
        let started = nodes.iter().map(|node| {
            let mut command = self.command(task, node, &[]);
            let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            Ok((child.with_context(|| shown(&command))?, shown(&command)))
        });
        let started = started.collect::<Result<Vec<_>>>()?;
        let mut each = Vec::new();
        for (child, shown) in started {
            let ended = child.wait_with_output().with_context(|| shown.clone())?;
            ensure!(ended.status.success(), "{shown} failed: {}", String::from_utf8_lossy(&ended.stderr).trim());
            let said: Value = serde_json::from_slice(&ended.stdout).with_context(|| shown.clone())?;
            each.push(number(&said, "seconds")?);
        }
        Ok((began.elapsed().as_secs_f64(), each))
    }
}

/// Of one task, round by round.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) rates: Vec<f64>,
    pub(super) cpu_per_gb: Vec<f64>,
}

impl Figures {
    pub(super) fn take(&mut self, client: &Client<'_>, served: &mut Served, task: &str) -> Result<()> {
        let gigabytes = client.bytes() as f64 / 1e9;
        let before = served.used()?.cpu_seconds;
        let node = served.nodes[0].clone();
        self.rates.push(gigabytes / client.seconds(task, &node)?);
        self.cpu_per_gb.push((served.used()?.cpu_seconds - before) / gigabytes);
        Ok(())
    }
}

pub(super) fn number(value: &Value, name: &str) -> Result<f64> {
    value[name].as_f64().with_context(|| format!("no {name} in {value}"))
}
