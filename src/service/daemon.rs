//! What both services do at start and stop: keep secrets out of core dumps, log, hear signals, die with their parent.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::getppid;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::home::Home;

/// The options of a service.
#[derive(Debug, Clone, Args)]
pub struct ServiceArgs {
    /// Home folder [default: $SEALTAPE_HOME, else /var/lib/sealtape for root and ~/.local/state/sealtape for others]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// End when this process, our parent, ends; leave interrupts from the terminal to it
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<i32>,
}

impl ServiceArgs {
    /// Hardens the process, starts its log, and finds the home folder. Call it before anything else, in the main thread.
    pub fn start(&self) -> anyhow::Result<Home> {
        no_core_dumps().context("the process cannot be hardened")?;
        umask(Mode::from_bits_truncate(0o077)); // New files are the owner's.
        let filter = EnvFilter::try_from_env("SEALTAPE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(stderr)
            .with_ansi(stderr().is_terminal())
            .with_target(false)
            .init();
        if let Some(parent) = self.parent {
            prctl::set_pdeathsig(Signal::SIGTERM).context("the end of the parent process cannot be watched")?;
            // It may have ended before the line above.
            if getppid().as_raw() != parent {
                bail!("the parent process {parent} is gone; start the services with: sealtape run");
            }
        }
        Ok(Home::find(self.home.as_deref())?)
    }

    /// Done when the service is asked to stop: SIGTERM, or an interrupt from its own terminal.
    pub async fn stop_requested(&self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                // The terminal interrupts a whole group of processes; the parent decides on order.
                _ = interrupt.recv() => if self.parent.is_none() { return Ok(()) },
                _ = hangup.recv() => if self.parent.is_none() { return Ok(()) },
            }
        }
    }
}

/// For every process that holds a key or a PIN: no core dumps, and neither ptrace nor /proc/PID/{mem,environ} for other
/// processes of the same user.
pub fn no_core_dumps() -> std::io::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}
