//! A key authority in a process of its own, to be killed and looked at from outside: this test's executable, started again.
//!
//! The test binary has a test `host` that calls [`serve_if_asked`].

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sealtape_kms::authority::Authority;
use sealtape_kms::client::{ControlClient, DataPathClient, StreamClient};
use sealtape_kms::home::Home;
use sealtape_kms::protocol::{CONTROL_SOCKET, KEYS_SOCKET, STREAM_SOCKET};
use sealtape_kms::server::{Server, ServerConfig};

use super::shim;

const HOME: &str = "SEALTAPE_TEST_HOME";
const RUN: &str = "SEALTAPE_TEST_RUN";
const SITE: &str = "SEALTAPE_TEST_SITE";
const LIMIT: Duration = Duration::from_secs(30);

pub struct Host {
    child: Child,
    /// Kept open: what it prints at its end would break otherwise.
    _output: BufReader<ChildStdout>,
    run: PathBuf,
    errors: PathBuf,
}

/// The body of the test `host`: nothing, unless this is the child. Serves until its standard input ends.
pub fn serve_if_asked() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let options = match std::env::var_os(SITE) {
        Some(site) => shim::options(Path::new(&site)),
        None => super::install::options(),
    };
    let authority = Arc::new(Authority::open(&Home::new(home), options).unwrap());
    let run = std::env::var_os(RUN).unwrap();
    let config = ServerConfig {
        max_connections: 128,
        checkpoint_interval: Duration::from_millis(200),
        checkpoint_leaves: 64,
        units: Some((0..4).map(|n| format!("drive{n}")).collect()),
        ..ServerConfig::new(run)
    };
    let server = Server::start(authority, config).unwrap();
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    server.stop().unwrap();
}

impl Host {
    pub fn start(home: &Home, run: &Path, site: Option<&Path>) -> Self {
        let errors = run.join("errors");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "host", "--nocapture"]).env(HOME, home.dir()).env(RUN, run);
        if let Some(site) = site {
            command.env(SITE, site);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::options().append(true).create(true).open(&errors).unwrap())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let ready = output.by_ref().lines().map_while(Result::ok).any(|line| line.ends_with("ready"));
        let host = Self { child, _output: output, run: run.to_owned(), errors };
        assert!(ready, "the key authority did not start: {}", host.errors());
        host
    }

    pub fn data_path(&self, unit: &str) -> DataPathClient {
        DataPathClient::new(self.run.join(KEYS_SOCKET), unit, LIMIT)
    }

    pub fn control(&self) -> ControlClient {
        ControlClient::new(self.run.join(CONTROL_SOCKET), LIMIT)
    }

    pub fn streams(&self) -> StreamClient {
        StreamClient::new(self.run.join(STREAM_SOCKET), LIMIT)
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    /// What it wrote to standard error, over all its lives.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap()
    }

    /// Highest resident size so far, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// SIGKILL, while others look on; dropping it collects the process.
    pub fn kill(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    /// As the service manager does.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success(), "{}", self.errors());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // After `stop` there is nothing to end; a failing test leaves nothing behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
