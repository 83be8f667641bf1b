//! An installation whose token sits behind the fault shim.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sealtape_kms::authority::{Authority, AuthorityOptions};
use sealtape_kms::home::{Home, InitOptions, InitReport, TokenChoice, init_home};
use sealtape_kms::pkcs11::{Limits, WORKER_ARGUMENT, WorkerCommand};
use sealtape_kms::protocol::Refusal;
use sealtape_pkcs11_shim::Site;

use super::MODULE;

/// The module stands beside the test's own executable: cargo builds it as a dependency.
pub fn module() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("libsealtape_pkcs11_shim.so");
    assert!(path.exists(), "{} is missing; run: cargo build --tests -p sealtape-kms", path.display());
    path
}

/// A worker whose modules find the shim's folder: `env` sets what only they need, and becomes the worker.
pub fn worker(site: &Path) -> WorkerCommand {
    let mut arguments: Vec<String> = Site::new(site)
        .environment(Path::new(MODULE))
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    arguments.extend([env!("CARGO_BIN_EXE_sealtape-pkcs11-worker").into(), WORKER_ARGUMENT.into()]);
    WorkerCommand { program: "/usr/bin/env".into(), arguments }
}

/// Short enough for a test that waits for them, long enough for a loaded machine.
pub fn limits() -> Limits {
    Limits { start: Duration::from_millis(4000), call: Duration::from_millis(1200), pause: Duration::from_millis(20) }
}

pub struct Shimmed {
    pub dir: tempfile::TempDir,
    pub home: Home,
    pub site: Site,
    pub report: InitReport,
}

impl Shimmed {
    pub fn new() -> Self {
        let (dir, home, site) = Self::place();
        let report = init_home(&home, &init_options(&site_dir(dir.path()))).unwrap();
        Self { dir, home, site, report }
    }

    /// Where an installation can be set up.
    pub fn place() -> (tempfile::TempDir, Home, Site) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(site_dir(dir.path())).unwrap();
        let (home, site) = (Home::new(dir.path().join("home")), Site::new(site_dir(dir.path())));
        (dir, home, site)
    }

    pub fn options(&self) -> AuthorityOptions {
        options(&site_dir(self.dir.path()))
    }

    pub fn try_open(&self) -> Result<Arc<Authority>, Refusal> {
        Authority::open(&self.home, self.options()).map(Arc::new)
    }

    pub fn open(&self) -> Arc<Authority> {
        self.try_open().unwrap()
    }

    /// The database, opened behind the key authority's back.
    pub fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.home.dir().join("catalogue.db")).unwrap()
    }
}

pub fn site_dir(dir: &Path) -> PathBuf {
    dir.join("shim")
}

pub fn init_options(site: &Path) -> InitOptions {
    let limits = Limits { call: Duration::from_secs(10), start: Duration::from_secs(10), ..limits() };
    InitOptions { limits, token: TokenChoice::Embedded { module: module() }, ..InitOptions::embedded(worker(site)) }
}

pub fn options(site: &Path) -> AuthorityOptions {
    AuthorityOptions { limits: limits(), ..AuthorityOptions::new(worker(site)) }
}
