//! The program behind `cargo xtask bench node`: a sealed node over each of its drives takes records, and gives the same back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sealtape-bench-node");
const BLOCK: u64 = 256 << 10;
const RECORDS: u64 = 64;

struct Served {
    program: Child,
    said: BufReader<ChildStdout>,
    node: String,
    _folder: tempfile::TempDir,
}

impl Served {
    fn over(unit: &str, drive: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Command::new(PROGRAM)
            .args(["serve", "--unit", unit, "--drive", drive, "--mib", "64", "--folder"])
            .arg(folder.path())
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(program.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let node = ready["nodes"][0].as_str().unwrap().to_owned();
        assert!(Path::new(&node).starts_with(folder.path()));
        Self { program, said, node, _folder: folder }
    }

    fn client(&self, task: &str, more: &[&str]) -> Output {
        let (block, records) = (BLOCK.to_string(), RECORDS.to_string());
        let mut command = Command::new(PROGRAM);
        command.args([task, &self.node, "--block", &block, "--records", &records]).args(more);
        command.output().unwrap()
    }

    fn must(&self, task: &str, more: &[&str]) -> serde_json::Value {
        let output = self.client(task, more);
        assert!(output.status.success(), "{task}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What it used; then it takes its node down.
    fn end(mut self) -> serde_json::Value {
        use std::io::Write;
        let mut orders = self.program.stdin.take().unwrap();
        orders.write_all(b"used\n").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        drop(orders);
        assert!(self.program.wait().unwrap().success());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*self._folder.path().to_string_lossy()), "still mounted");
        serde_json::from_str(&line).unwrap()
    }
}

/// Where `/dev/fuse` cannot be opened there is nothing to test.
fn fuse_is_here() -> bool {
    let here = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(error) = &here {
        eprintln!("SKIPPED: /dev/fuse: {error}");
    }
    here.is_ok()
}

#[test]
fn what_is_written_through_each_kind_of_drive_is_read_again() {
    if !fuse_is_here() {
        return;
    }
    for (unit, drive) in [("sealed", "memory"), ("sealed", "image"), ("raw", "memory")] {
        let served = Served::over(unit, drive, &[]);
        // Twice: the second time writes from the beginning over what stands there.
        for _ in 0..2 {
            assert_eq!(served.must("write", &[])["bytes"], BLOCK * RECORDS);
            assert_eq!(served.must("read", &["--compare"])["records"], RECORDS);
        }
        served.must("write", &["--append"]);
        served.must("read", &["--compare"]);
        let used = served.end();
        assert!(used["cpu_seconds"].as_f64().unwrap() > 0.0 && used["peak_mib"].as_f64().unwrap() > 1.0, "{used}");
    }
}

#[test]
fn a_discarding_drive_takes_everything_and_owns_up_when_it_is_read() {
    if !fuse_is_here() {
        return;
    }
    let served = Served::over("sealed", "discard", &[]);
    served.must("write", &[]);
    let latency = served.must("latency", &["--synchronous", "--pause-us", "0"]);
    assert!(latency["median_us"].as_f64().unwrap() <= latency["p99_us"].as_f64().unwrap(), "{latency}");
    let refused = served.client("read", &[]);
    assert!(!refused.status.success(), "what is not kept cannot be read");
    served.end();
}

#[test]
fn a_drive_that_writes_slowly_is_written_to_slowly() {
    if !fuse_is_here() {
        return;
    }
    let served = Served::over("sealed", "discard", &["--mb-per-s", "40"]);
    // Closing waits for the drive: 16.8 MB at 40 a second.
    let said = served.must("write", &[]);
    let [all, first, close] = ["seconds", "first_seconds", "close_seconds"].map(|part| said[part].as_f64().unwrap());
    assert!(all > 0.4 && first + close <= all, "{said}");
    served.end();
}
