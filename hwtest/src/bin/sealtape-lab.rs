//! `sealtape-lab -- COMMAND...`: runs a command in a guest. `cargo xtask lab` builds and calls it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use sealtape_hwtest::guest::Guest;

/// Run a command in a Linux guest that has a SCSI stack and this machine's files, read-only, in the same working directory
#[derive(Parser)]
#[command(name = "sealtape-lab")]
struct Arguments {
    /// What runs the guest: User-Mode Linux, or QEMU with Debian's kernel
    #[arg(long, value_enum, default_value_t = Kind::Uml)]
    guest: Kind,
    /// Longest time in seconds, boot included [default: 120, with QEMU 600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    time_limit: Option<u32>,
    /// The guest's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// Kernel modules to load first
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    modules: Vec<String>,
    /// Environment variable for the command; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// Folder of the host that the command may write to; may be repeated
    #[arg(long, value_name = "FOLDER")]
    writable: Vec<PathBuf>,
    /// Print the guest kernel's console, too (to the standard error, at the end)
    #[arg(long)]
    console: bool,
    /// The command and its arguments; `bash -c '...'` for more than one
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    Uml,
    Qemu,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("lab: {error:#}");
            // As env(1) and timeout(1) have it: the command's own code cannot be told apart otherwise.
            ExitCode::from(125)
        }
    }
}

fn run(arguments: Arguments) -> Result<u8> {
    let stop = stop_on_signals()?;
    let guest = match arguments.guest {
        Kind::Uml => Guest::uml(),
        Kind::Qemu => Guest::qemu(),
    };
    let mut guest = guest.memory_mib(arguments.memory).stop_when(stop);
    if let Some(seconds) = arguments.time_limit {
        guest = guest.time_limit(Duration::from_secs(seconds.into()));
    }
    for module in arguments.modules {
        guest = guest.module(module);
    }
    for (name, value) in arguments.env {
        guest = guest.env(name, value);
    }
    for folder in arguments.writable {
        guest = guest.writable(std::path::absolute(&folder).with_context(|| folder.display().to_string())?);
    }
    let here = std::env::current_dir().context("the working directory")?;
    let here = here.to_str().context("the working directory's path is no UTF-8")?;
    let words: Vec<String> = arguments.command.iter().map(|word| quoted(word)).collect();
    let script = format!("cd -- {} && {}", quoted(here), words.join(" "));
    let outcome = guest.run_shown(&script, &mut std::io::stdout().lock())?;
    if arguments.console {
        eprint!("{}", outcome.console);
    }
    u8::try_from(outcome.exit_code).with_context(|| format!("exit code {}", outcome.exit_code))
}

/// A flag that Ctrl-C and its like set, so that the guest is ended in order. Before any thread starts, which would take the signals.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("blocking signals")?;
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    std::thread::spawn(move || match signals.wait() {
        Ok(_) => set.store(true, Ordering::Relaxed),
        Err(error) => eprintln!("lab: waiting for signals: {error}"),
    });
    Ok(flag)
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has to be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
