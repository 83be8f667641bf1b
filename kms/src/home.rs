//! The folder of an installation: what lies where, setting it up, and holding it.
//!
//! ```text
//! catalogue.db         catalogue and custody log (SQLite)
//! custody.pub          the public key that verifies exports
//! softhsm2.conf        with the embedded token: its configuration, written again at every start
//! tokens/              with the embedded token: its objects
//! so.pin user.pin      with the embedded token: its PINs, mode 0600
//! anchor.alarms        only while an anchor has contradicted the custody log and not agreed since: then nothing is released
//! pin.latched          only while a rejected PIN holds everything back
//! keyd.lock            held while a key authority runs
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use uuid::Uuid;

use crate::anchor::AnchoringPolicy;
use crate::authority::{Actor, Authority, unfit};
use crate::catalogue::{Catalogue, DEFAULT_TENANT, Entry, TenantRow, meta, name, set_meta};
use crate::custody::{VerifierKey, op};
use crate::fault::internal;
use crate::pkcs11::{
    Limits, PinLatch, PinSource, SignAlgorithm, Token, TokenConfig, TokenReport, Uri, WorkerCommand, init_token,
    write_pin_file,
};
use crate::protocol::{CheckpointView, PoolPolicy, Refusal, RefusalCode};
use crate::secret::Pin;

/// Where Debian has SoftHSM2's module.
pub const SOFTHSM2_MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The folder of an installation.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

/// Which token an installation uses.
#[derive(Debug, Clone)]
pub enum TokenChoice {
    /// A SoftHSM2 token in the installation's folder, its PINs generated.
    Embedded {
        /// The module, usually [`SOFTHSM2_MODULE`].
        module: PathBuf,
    },
    /// A token that was initialised elsewhere.
    External {
        /// The module.
        module: PathBuf,
        /// The token.
        uri: Box<Uri>,
    },
}

/// How to set an installation up.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The token.
    pub token: TokenChoice,
    /// Where the PIN of an external token comes from; the embedded one has its own.
    pub pin: PinSource,
    /// How a PKCS#11 worker is started.
    pub worker: WorkerCommand,
    /// The pools to begin with; one called `default` has to be among them.
    pub pools: Vec<PoolPolicy>,
    /// Deadlines of the token.
    pub limits: Limits,
}

impl InitOptions {
    /// The embedded token and the standard default pool.
    #[must_use]
    pub fn embedded(worker: WorkerCommand) -> Self {
        Self {
            token: TokenChoice::Embedded { module: SOFTHSM2_MODULE.into() },
            pin: PinSource::Credential,
            worker,
            pools: vec![PoolPolicy::standard("default")],
            limits: Limits::default(),
        }
    }
}

/// What was set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitReport {
    /// The token.
    pub token_uri: String,
    /// The public key that verifies exports, as it stands in `custody.pub`. Hand it to the auditor.
    pub log_key: String,
    /// The first checkpoint.
    pub checkpoint: CheckpointView,
}

/// How to open an installation.
#[derive(Debug, Clone)]
pub struct AuthorityOptions {
    /// How a PKCS#11 worker is started.
    pub worker: WorkerCommand,
    /// Where the PIN comes from; none for the embedded token's own file.
    pub pin: Option<PinSource>,
    /// Deadlines of the token.
    pub limits: Limits,
    /// Whether to start without a working token: then keys are refused until it is back.
    pub token_may_be_away: bool,
    /// Where the time comes from.
    pub clock: crate::time::Clock,
    /// Anchors of the custody log.
    pub anchoring: AnchoringPolicy,
    /// A folder, on another medium than the installation, in which a destruction puts its backup of the catalogue; without it none is
    /// made.
    pub backup_folder: Option<PathBuf>,
}

impl AuthorityOptions {
    /// Strict, with the embedded token's PIN file.
    #[must_use]
    pub fn new(worker: WorkerCommand) -> Self {
        Self {
            worker,
            pin: None,
            limits: Limits::default(),
            token_may_be_away: false,
            clock: Default::default(),
            anchoring: AnchoringPolicy::default(),
            backup_folder: None,
        }
    }
}

fn io_refusal(path: &Path, e: &io::Error) -> Refusal {
    let mend = "mend its permissions or its file system and try again";
    Refusal::new(RefusalCode::LogUnwritable, format!("{}: {e}", path.display()), mend)
}

impl Home {
    /// The installation in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file with the public key that verifies exports.
    #[must_use]
    pub fn log_key_file(&self) -> PathBuf {
        self.dir.join("custody.pub")
    }

    pub(crate) fn catalogue(&self) -> PathBuf {
        self.dir.join("catalogue.db")
    }

    /// Where alarms of anchors outlive a restart.
    pub(crate) fn alarms(&self) -> PathBuf {
        self.dir.join("anchor.alarms")
    }

    /// Whether an installation stands here.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.catalogue().exists()
    }

    /// Takes the folder for this process, after checking that only its owner can look into it.
    pub(crate) fn lock(&self) -> Result<File, Refusal> {
        let meta = std::fs::metadata(&self.dir).map_err(|e| {
            Refusal::new(RefusalCode::Damaged, format!("{}: {e}", self.dir.display()), "set it up with: sealtape init")
        })?;
        if meta.mode() & 0o077 != 0 {
            return Err(Refusal::new(
                RefusalCode::NotAllowed,
                format!("others may look into {} (mode {:04o})", self.dir.display(), meta.mode() & 0o7777),
                format!("run: chmod 0700 {}", self.dir.display()),
            ));
        }
        let path = self.dir.join("keyd.lock");
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| io_refusal(&path, &e))?;
        // A process that is being started elsewhere in this program shares the lock for a moment, between fork and exec.
        let until = Instant::now() + Duration::from_secs(2);
        while let Err(e) = file.try_lock() {
            if Instant::now() >= until {
                let what = format!("another sealtape-keyd has {} open ({e})", self.dir.display());
                return Err(Refusal::new(RefusalCode::Busy, what, "stop it, or use another folder"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(file)
    }

    fn token_dir(&self) -> PathBuf {
        self.dir.join("tokens")
    }

    fn user_pin(&self) -> PathBuf {
        self.dir.join("user.pin")
    }

    /// SoftHSM's configuration names its folder absolutely, so it is written anew wherever the installation stands now.
    fn softhsm_environment(&self) -> Result<Vec<(String, String)>, Refusal> {
        let dir = std::path::absolute(&self.dir).map_err(|e| io_refusal(&self.dir, &e))?;
        let path = dir.join("softhsm2.conf");
        let tokens = dir.join("tokens");
        let text = format!(
            "# Written by sealtape-keyd.\ndirectories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        let write = || -> io::Result<()> {
            if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
                return Ok(());
            }
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|e| io_refusal(&path, &e))?;
        Ok(vec![("SOFTHSM2_CONF".into(), path.display().to_string())])
    }

    pub(crate) fn token_config(&self, sql: &Connection, options: AuthorityOptions) -> Result<TokenConfig, Refusal> {
        let embedded = meta(sql, "token")? == "embedded";
        let pin = match options.pin {
            Some(pin) => pin,
            None if embedded => PinSource::File(self.user_pin()),
            None => PinSource::Credential,
        };
        Ok(TokenConfig {
            worker: options.worker,
            module: meta(sql, "module")?.into(),
            parameters: None,
            uri: meta(sql, "token_uri")?.parse()?,
            pin,
            latch: self.latch(),
            environment: if embedded { self.softhsm_environment()? } else { Vec::new() },
            limits: options.limits,
        })
    }

    /// The PIN latch of this installation.
    #[must_use]
    pub fn latch(&self) -> PinLatch {
        PinLatch::new(self.dir.join("pin.latched"))
    }

    /// How to reach the embedded token of this folder without a catalogue, for restoring; see [`crate::offline`].
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn embedded_token(&self, module: &Path, uri: Uri, worker: WorkerCommand) -> Result<TokenConfig, Refusal> {
        Ok(TokenConfig {
            worker,
            module: module.to_owned(),
            parameters: None,
            uri,
            pin: PinSource::File(self.user_pin()),
            latch: self.latch(),
            environment: self.softhsm_environment()?,
            limits: Limits::default(),
        })
    }

    fn create(&self) -> Result<(), Refusal> {
        let failed = |e: io::Error| io_refusal(&self.dir, &e);
        match std::fs::read_dir(&self.dir) {
            Ok(mut entries) => {
                if let Some(entry) = entries.next() {
                    let name = entry.map_err(failed)?.file_name();
                    return Err(Refusal::new(
                        RefusalCode::BadRequest,
                        format!("{} is not empty (it holds {})", self.dir.display(), name.display()),
                        "name a new or empty folder",
                    ));
                }
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
                std::fs::set_permissions(&self.dir, mode).map_err(failed)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed)
            }
            Err(e) => Err(failed(e)),
        }
    }
}

/// Sets an installation up in a new or empty folder: token, key-encryption keys, signing key, catalogue, first custody entries and
/// the first checkpoint.
///
/// # Errors
/// When the folder is not empty, or the token or the file system fails. Then the folder is not usable; remove it.
pub fn init_home(home: &Home, options: &InitOptions) -> Result<InitReport, Refusal> {
    init_home_signed(home, options, None)
}

/// As [`init_home`]; the custody log is signed with `signing`, or with none given by Ed25519 where the token has it, else by ECDSA
/// over P-256.
///
/// # Errors
/// As [`init_home`].
pub fn init_home_signed(
    home: &Home,
    options: &InitOptions,
    signing: Option<SignAlgorithm>,
) -> Result<InitReport, Refusal> {
    if !options.pools.iter().any(|p| p.name == "default") {
        return Err(crate::fault::bad_request("there is no pool called default", "add it to the pools"));
    }
    home.create()?;
    let lock = home.lock()?;
    let (config, kind) = first_token(home, options)?;
    let (module, uri) = (config.module.clone(), config.uri.clone());
    let authority_options = AuthorityOptions {
        worker: options.worker.clone(),
        pin: Some(config.pin.clone()),
        limits: options.limits,
        token_may_be_away: false,
        clock: Default::default(),
        anchoring: AnchoringPolicy::default(),
        backup_folder: None,
    };
    let token = Token::new(config);
    let origin = format!("sealtape/{}", Uuid::new_v4());
    let signing_id = Uuid::new_v4();
    let report = token.probe()?;
    if let Some(why) = report.refusal() {
        return Err(unfit(&uri.to_string(), &why));
    }
    let algorithm = signing.or(report.signing.first().copied());
    let algorithm = algorithm.ok_or_else(|| internal("a fit token that does not sign"))?;
    let public = token.make_signing_key(signing_id, "sealtape custody log", algorithm)?;
    drop(token);
    let log_key = log_key(&origin, algorithm, &public)?;

    File::create_new(home.catalogue())
        .and_then(|f| f.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)))
        .map_err(|e| io_refusal(&home.catalogue(), &e))?;
    let sql = Catalogue::create(&home.catalogue())?;
    for (key, value) in [
        ("token", kind),
        ("module", &module.display().to_string()),
        ("token_uri", &uri.to_string()),
        ("signing_key", &signing_id.to_string()),
        ("signing_algorithm", &name(algorithm)?),
        ("log_key", &log_key.to_string()),
    ] {
        set_meta(&sql, key, value)?;
    }
    let authority = Authority::assemble(home, authority_options, sql, lock)?;
    let checkpoint = authority.begin(options, &origin, &report)?;
    let path = home.log_key_file();
    let write = || -> io::Result<()> {
        let mut file = File::create_new(&path)?;
        writeln!(file, "{log_key}")?;
        file.sync_all()?;
        File::open(home.dir())?.sync_all()
    };
    write().map_err(|e| io_refusal(&path, &e))?;
    Ok(InitReport { token_uri: uri.to_string(), log_key: log_key.to_string(), checkpoint })
}

pub(crate) fn log_key(origin: &str, algorithm: SignAlgorithm, public: &[u8]) -> Result<VerifierKey, Refusal> {
    match algorithm {
        SignAlgorithm::Ed25519 => {
            let public = public.try_into().map_err(|_| internal("a public key of a wrong length"))?;
            VerifierKey::new(origin, public).map_err(|e| internal(e.to_string()))
        }
        SignAlgorithm::EcdsaP256 => VerifierKey::p256(origin, public).map_err(|e| internal(e.to_string())),
    }
}

fn first_token(home: &Home, options: &InitOptions) -> Result<(TokenConfig, &'static str), Refusal> {
    let config = |module: &Path, uri, pin, environment| TokenConfig {
        worker: options.worker.clone(),
        module: module.to_owned(),
        parameters: None,
        uri,
        pin,
        latch: home.latch(),
        environment,
        limits: options.limits,
    };
    match &options.token {
        TokenChoice::External { module, uri } => {
            Ok((config(module, uri.as_ref().clone(), options.pin.clone(), Vec::new()), "external"))
        }
        TokenChoice::Embedded { module } => {
            if !module.exists() {
                return Err(Refusal::new(
                    RefusalCode::TokenMissing,
                    format!("SoftHSM2's module {} is missing", module.display()),
                    "install it: apt install softhsm2",
                ));
            }
            let tokens = home.token_dir();
            DirBuilder::new().mode(0o700).create(&tokens).map_err(|e| io_refusal(&tokens, &e))?;
            let environment = home.softhsm_environment()?;
            let pin = |file: &str| -> io::Result<Pin> {
                let pin = Pin::generate()?;
                write_pin_file(&home.dir().join(file), &pin)?;
                Ok(pin)
            };
            let so_pin = pin("so.pin").map_err(|e| io_refusal(home.dir(), &e))?;
            let user_pin = pin("user.pin").map_err(|e| io_refusal(home.dir(), &e))?;
            let uri = init_token(&options.worker, module, &environment, "sealtape", &so_pin, &user_pin)?;
            Ok((config(module, uri, PinSource::File(home.user_pin()), environment), "embedded"))
        }
    }
}

impl Authority {
    /// The first entries of a new installation.
    fn begin(&self, options: &InitOptions, origin: &str, report: &TokenReport) -> Result<CheckpointView, Refusal> {
        use crate::authority::{KekPurpose, insert_pool};
        let actor = Actor::User(nix::unistd::getuid().as_raw());
        self.lock().change(|c| {
            c.record(Entry::done(actor, op::LOG_OPEN).reason(origin))?;
            TenantRow::insert(c, actor, Some(DEFAULT_TENANT), Uuid::new_v4(), "default", "the first one")
        })?;
        self.enrol_first(actor, report)?;
        let kek = self.make_kek(actor, KekPurpose::Catalogue, DEFAULT_TENANT, "sealtape catalogue default")?;
        self.lock().change(|c| kek.keep(c, actor, DEFAULT_TENANT))?;
        for policy in &options.pools {
            let label = format!("sealtape medium {}", policy.name);
            let kek = self.make_kek(actor, KekPurpose::Medium, DEFAULT_TENANT, &label)?;
            self.lock().change(|c| {
                kek.keep(c, actor, DEFAULT_TENANT)?;
                insert_pool(c, actor, DEFAULT_TENANT, policy, kek.id)
            })?;
        }
        let checkpoint = self.checkpoint()?;
        self.lock().progress(|sql| set_meta(sql, "initialised", &crate::time::now()))?;
        Ok(checkpoint)
    }
}
