//! Where a benchmark ran, as far as it can be asked.

use std::process::Command;

use serde_json::{Value, json};

use crate::command::{self, output};

pub(super) fn describe() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cpu = read("/proc/cpuinfo");
    let flags = field(&cpu, "flags");
    let has: Vec<&str> = ["aes", "pclmulqdq", "avx2", "avx512f", "vaes", "vpclmulqdq"]
        .into_iter()
        .filter(|flag| flags.split(' ').any(|has| has == *flag))
        .collect();
    json!({
        "processor": field(&cpu, "model name"),
        "cpus": std::thread::available_parallelism().map_or(1, |count| count.get()),
        "instructions": has,
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        "date": said("date", &["-u", "+%Y-%m-%d"]),
        "rustc": said("rustc", &["--version"]),
        "commit": said("git", &["describe", "--always", "--dirty"]),
    })
}

pub(super) fn paragraph(machine: &Value, rounds: usize) -> String {
    let text = |name: &str| machine[name].as_str().unwrap_or("unknown").to_owned();
    let has: Vec<&str> = machine["instructions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "{}, at {}. {} CPUs of {} ({}), {} memory, Linux {}, {}. Medians of {rounds} rounds; load averages {} at the end.",
        text("date"),
        text("commit"),
        machine["cpus"],
        text("processor"),
        has.join(" "),
        text("memory"),
        text("kernel"),
        text("rustc"),
        text("load"),
    )
}

/// The first line that a program says.
pub(super) fn said(program: &str, arguments: &[&str]) -> String {
    let said = output(Command::new(program).args(arguments).current_dir(command::root())).unwrap_or_default();
    said.lines().next().map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}
