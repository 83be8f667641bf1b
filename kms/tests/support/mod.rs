//! SoftHSM2 tokens in temporary directories.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use sealtape_kms::pkcs11::{
    Limits, PinLatch, PinSource, Token, TokenConfig, Uri, WorkerCommand, init_token, write_pin_file,
};
use sealtape_kms::secret::Pin;

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

pub fn worker() -> WorkerCommand {
    WorkerCommand::executable(env!("CARGO_BIN_EXE_sealtape-pkcs11-worker"))
}

pub fn limits() -> Limits {
    Limits { start: Duration::from_secs(20), call: Duration::from_secs(20), pause: Duration::from_millis(10) }
}

pub struct SoftToken {
    pub dir: tempfile::TempDir,
    pub uri: Uri,
}

impl SoftToken {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tokens")).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            dir.path().join("tokens").display()
        );
        std::fs::write(dir.path().join("softhsm2.conf"), conf).unwrap();
        let environment = environment(dir.path());
        let so = Pin::generate().unwrap();
        let user = Pin::generate().unwrap();
        let uri = init_token(&worker(), Path::new(MODULE), &environment, "test", &so, &user).unwrap();
        write_pin_file(&dir.path().join("user.pin"), &user).unwrap();
        Self { dir, uri }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> TokenConfig {
        TokenConfig {
            worker: worker(),
            module: MODULE.into(),
            uri: self.uri.clone(),
            pin: PinSource::File(self.path("user.pin")),
            latch: PinLatch::new(self.path("pin.latched")),
            environment: environment(self.dir.path()),
            limits: limits(),
        }
    }

    pub fn token(&self) -> Token {
        Token::new(self.config())
    }
}

pub fn environment(dir: &Path) -> Vec<(String, String)> {
    vec![("SOFTHSM2_CONF".into(), dir.join("softhsm2.conf").display().to_string())]
}
