//! SoftHSM2 tokens in temporary directories.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::new_without_default,
    reason = "every test binary uses a part of it"
)]

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
            parameters: None,
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

pub mod books;
pub mod custodians;
pub mod host;
pub mod shim;

pub mod install {
    //! A whole installation in a temporary directory.

    use std::path::Path;
    use std::sync::Arc;

    use sealtape_kms::authority::{Actor, Authority, AuthorityOptions};
    use sealtape_kms::backup::Head;
    use sealtape_kms::hex::Hex;
    use sealtape_kms::home::{Home, InitOptions, InitReport, init_home};
    use sealtape_kms::protocol::{
        BackupReply, BackupRequest, Cartridge, GenerationRef, LabelOrder, NewVolume, SessionStart,
    };
    use sealtape_kms::secret::DataKey;

    pub const ME: Actor = Actor::User(4242);
    pub const UNIT: &str = "drive0";

    pub struct Install {
        pub dir: tempfile::TempDir,
        pub home: Home,
        pub report: InitReport,
    }

    /// Makes a backup and writes its file, as the command line does.
    pub fn backup(authority: &Authority, file: &Path) -> Head {
        let make = BackupRequest::Make { place: file.display().to_string() };
        let BackupReply::Made(head) = authority.serve_backup(ME, make).unwrap() else { panic!("no backup") };
        let mut bytes = serde_json::to_vec(&head).unwrap();
        bytes.push(b'\n');
        let mut offset = 0;
        loop {
            let read = BackupRequest::Read { backup: head.manifest.backup, offset };
            let BackupReply::Part(part) = authority.serve_backup(ME, read).unwrap() else { panic!("no part") };
            let part = sealtape_kms::backup::decode_part(&part).unwrap();
            if part.is_empty() {
                break;
            }
            offset += part.len() as u64;
            bytes.extend(part);
        }
        std::fs::write(file, bytes).unwrap();
        authority.serve_backup(ME, BackupRequest::Forget { backup: head.manifest.backup }).unwrap();
        *head
    }

    pub fn options() -> AuthorityOptions {
        AuthorityOptions { limits: super::limits(), ..AuthorityOptions::new(super::worker()) }
    }

    impl Install {
        pub fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::new(dir.path().join("home"));
            let report =
                init_home(&home, &InitOptions { limits: super::limits(), ..InitOptions::embedded(super::worker()) })
                    .unwrap();
            Self { dir, home, report }
        }

        pub fn open(&self) -> Arc<Authority> {
            Arc::new(Authority::open(&self.home, options()).unwrap())
        }

        /// The database, opened behind the key authority's back.
        pub fn database(&self) -> rusqlite::Connection {
            rusqlite::Connection::open(self.home.dir().join("catalogue.db")).unwrap()
        }
    }

    pub fn order(label: &str) -> LabelOrder {
        LabelOrder {
            unit: UNIT.into(),
            label: label.into(),
            barcode: Some("A00001L9".into()),
            pool: None,
            partitions: 1,
            relabel: false,
        }
    }

    /// A tape labelled on its one partition; its active generation and key.
    pub fn labelled(authority: &Authority, label: &str) -> (NewVolume, GenerationRef, DataKey) {
        let ticket = authority.authorize_label(ME, &order(label)).unwrap();
        let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Cartridge::default()).unwrap();
        let (generation, key) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
        authority.activate_generation(ME, UNIT, generation.at, Hex([7; 32])).unwrap();
        (volume, generation.at, key)
    }

    pub fn session(first_object: u64) -> SessionStart {
        let mut id = [0; 16];
        getrandom::fill(&mut id).unwrap();
        SessionStart { session_id: Hex(id), first_object, filemarks: 0, link: Hex([0; 16]), after_ordinal: 0 }
    }
}
