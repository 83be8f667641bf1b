//! The key authority: who gets which key, and the record of it.
//!
//! Order of every release: rules, the custody entry that created the wrapped key, the token, the custody entry of the release
//! (durable), and only then the key. Where the token makes something, an entry of the intent stands before and one of the outcome
//! after; an intent whose outcome is missing at the next start gets the outcome "interrupted". The catalogue is never locked while
//! the token works, so a hung token stops nothing but itself.

mod access;
mod admin;
mod anchor;
mod audit;
mod backup;
mod cartridge;
mod destruction;
mod dual;
mod exchange;
mod generation;
mod hsm;
mod kek;
mod keys;
mod label;
mod lease;
mod limiter;
mod recovery;
mod rotate;
mod session;
mod stream;
mod tenants;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::catalogue::{Catalogue, Change, Entry, KekRow, LogSigner, TenantRow, log_signer, meta};
use crate::custody::{Outcome, VerifierKey, op};
use crate::fault::{damaged, internal};
use crate::hex::{Hex, HexBytes};
use crate::home::Home;
use crate::pkcs11::{Token, WrapWith};
use crate::protocol::{CheckpointView, GenerationRef, Refusal, RefusalCode, ScrubView, Status};

pub use crate::catalogue::Actor;
pub use crate::home::AuthorityOptions;
pub use crate::time::Clock;
pub(crate) use admin::insert_pool;
pub use audit::{ExportRun, ScrubPace};
pub use dual::Changed;
use dual::Rights;
pub(crate) use hsm::unfit;
pub(crate) use kek::KekPurpose;
use limiter::RefusalLimiter;

/// Bound to a wrapped data key where the mechanism can: the place that it belongs to.
pub(crate) fn wrap_aad(at: GenerationRef) -> HexBytes {
    let mut aad = b"sealtape dek 1".to_vec();
    aad.extend_from_slice(at.volume.as_bytes());
    aad.push(at.partition);
    aad.extend_from_slice(&at.generation.to_be_bytes());
    aad.extend_from_slice(at.key_id.as_bytes());
    HexBytes(aad)
}

pub(crate) fn canary_aad(kek: Uuid) -> HexBytes {
    let mut aad = b"sealtape canary 1".to_vec();
    aad.extend_from_slice(kek.as_bytes());
    HexBytes(aad)
}

/// The key authority of one installation.
#[derive(Debug)]
pub struct Authority {
    /// First, so that its threads end while the catalogue is still this process's.
    anchors: anchor::Anchors,
    catalogue: Arc<Mutex<Catalogue>>,
    tokens: hsm::Registry,
    health: hsm::Health,
    limiter: Mutex<RefusalLimiter>,
    work: rotate::Work,
    home: Home,
    /// Where a destruction puts its backup of the catalogue.
    backup_folder: Option<PathBuf>,
    /// The key that signs the log now; its place in the catalogue's lock would be one lock too deep for some.
    log_key: Mutex<VerifierKey>,
    /// Held while the log's signing key is changed.
    rotating: Mutex<()>,
    scrub: Mutex<ScrubView>,
    /// Changed only with the catalogue locked, after the change is durable.
    rights: Mutex<Arc<Rights>>,
    life: keys::LifeState,
    /// Held while a tenant or a pool is made.
    founding: Mutex<()>,
    /// Exclusive while this value lives: two key authorities over one folder would both append.
    _lock: std::fs::File,
}

impl Authority {
    /// Opens an installation: checks the database and the whole custody log, closes what was interrupted, and finds the token.
    ///
    /// # Errors
    /// When something is damaged, another process has it open, or the token cannot be used. A rejected or missing token does not
    /// hinder opening when `options.token_may_be_away` is set.
    pub fn open(home: &Home, options: AuthorityOptions) -> Result<Self, Refusal> {
        let lock = home.lock()?;
        let connection = Catalogue::connect(&home.catalogue())?;
        if meta(&connection, "initialised").is_err() {
            return Err(Refusal::new(
                RefusalCode::Damaged,
                format!("setting up {} was interrupted", home.dir().display()),
                "remove the folder and run: sealtape init",
            ));
        }
        let may_be_away = options.token_may_be_away;
        let authority = Self::assemble(home, options, connection, lock)?;
        audit::custody_pub(home, &authority.log_keys())?;
        authority.close_interrupted()?;
        TenantRow::adopt(&mut authority.lock())?;
        authority.adopt_policies()?;
        match authority.check_token() {
            Err(e) if may_be_away => tracing::error!("the token cannot be used yet: {e}"),
            other => other?,
        }
        authority.lock().change(|c| c.record(Entry::done(Actor::Service, op::SERVICE_START)))?;
        authority.start_anchors()?;
        Ok(authority)
    }

    pub(crate) fn assemble(
        home: &Home,
        options: AuthorityOptions,
        connection: rusqlite::Connection,
        lock: std::fs::File,
    ) -> Result<Self, Refusal> {
        let signer = log_signer(&connection)?;
        let log_key = signer.key.clone();
        let clock = options.clock.clone();
        let policy = options.anchoring.clone();
        let backup_folder = options.backup_folder.clone();
        let token = Token::new(home.token_config(&connection, options)?);
        let mut catalogue = Catalogue::open(connection, signer)?;
        catalogue.set_clock(clock);
        let tokens = hsm::Registry::open(token, catalogue.sql(), catalogue.log())?;
        let rights = Rights::load(
            catalogue.sql(),
            catalogue.log(),
            &crate::restore::origins(catalogue.sql(), &catalogue.log().signer)?,
        )?;
        let catalogue = Arc::new(Mutex::new(catalogue));
        Ok(Self {
            anchors: anchor::Anchors::new(policy, &catalogue, home)?,
            catalogue,
            tokens,
            health: hsm::Health::default(),
            limiter: Mutex::default(),
            work: rotate::Work::default(),
            home: home.clone(),
            backup_folder,
            log_key: Mutex::new(log_key),
            rotating: Mutex::default(),
            scrub: Mutex::default(),
            rights: Mutex::new(Arc::new(rights)),
            life: keys::LifeState::default(),
            founding: Mutex::default(),
            _lock: lock,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Catalogue> {
        // A panic inside a transaction rolls it back, so the state behind a poisoned lock is whole.
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Persons, grants and spent requests as they are now.
    fn rights(&self) -> Arc<Rights> {
        Arc::clone(&self.rights.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The public key that verifies checkpoints and exports, the one that signs now.
    #[must_use]
    pub fn log_key(&self) -> VerifierKey {
        self.log_key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs `work`; a refusal is entered into the custody log, at a limited rate.
    fn refusals_logged<T>(
        &self,
        actor: Actor,
        op: &'static str,
        describe: impl FnOnce(Entry) -> Entry,
        work: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let refusal = match work() {
            Ok(value) => return Ok(value),
            Err(refusal) => refusal,
        };
        let limiter = || self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match refusal.code {
            // What cannot be written cannot be entered; and a fault of the log is not made better by more of it.
            RefusalCode::LogUnwritable | RefusalCode::Damaged | RefusalCode::Busy => None,
            RefusalCode::Token | RefusalCode::TokenHung | RefusalCode::TokenMissing | RefusalCode::Internal => {
                Some(Outcome::Failed)
            }
            _ => Some(Outcome::Refused),
        };
        if let Some(outcome) = outcome
            && let Some(suppressed) = limiter().enter(actor, op, Instant::now())
        {
            let reason = match suppressed {
                0 => refusal.what.clone(),
                n => format!("{}; {n} more before it were not entered", refusal.what),
            };
            let entry = describe(Entry::new(actor, op, outcome)).reason(reason);
            if let Err(e) = self.lock().change(|c| c.record(entry)) {
                tracing::error!("a refusal could not be entered into the custody log: {e}");
            }
        }
        Err(refusal)
    }

    /// Enters that `uid` was turned away at `socket`.
    pub fn turned_away(&self, uid: u32, socket: &str) {
        let refusal = || Refusal::new(RefusalCode::NotAllowed, format!("may not use {socket}"), "");
        let _: Result<(), Refusal> = self.refusals_logged(Actor::User(uid), op::PEER, |e| e, || Err(refusal()));
    }

    /// Enters that `actor` asked for a unit that there is not; gives the refusal.
    pub fn foreign_unit(&self, actor: Actor, unit: &str) -> Refusal {
        let refused = check_name("unit", unit, 64).and_then(|()| {
            let what = format!("there is no unit {unit} here");
            Err(Refusal::new(RefusalCode::NotAllowed, what, "add the drive to the configuration of sealtape-keyd, too"))
        });
        let named = |entry: Entry| if unit.len() <= 64 { entry.unit(unit) } else { entry };
        match self.refusals_logged(actor, op::PEER, named, || refused) {
            Err(refusal) => refusal,
            Ok(()) => internal("a foreign unit that is none"),
        }
    }

    /// Gives every intent without an outcome the outcome "interrupted".
    fn close_interrupted(&self) -> Result<(), Refusal> {
        let mut catalogue = self.lock();
        let open: Vec<(i64, String)> = {
            let mut query = catalogue.sql().prepare("SELECT leaf, key FROM intents ORDER BY leaf")?;
            query.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?
        };
        for (leaf, key) in open {
            let intent = catalogue.log().proven_leaf(catalogue.sql(), crate::catalogue::from_db(leaf)?)?;
            let name = [op::KEK_CREATE, op::KEY_CREATE, op::LOG_KEY].into_iter().find(|n| *n == intent.op);
            let name = name.ok_or_else(|| damaged(format!("leaf {leaf} is no intent")))?;
            catalogue.change(|c| {
                let mut entry =
                    Entry::new(Actor::Service, name, Outcome::Interrupted).key(crate::catalogue::uuid(&key)?);
                if let Some(volume) = intent.volume {
                    entry = entry.volume(volume);
                }
                if let Some((tenant, _)) = intent.tenant.and_then(|id| c.log().tenants.by_uuid(id)) {
                    entry = entry.tenant(tenant);
                }
                let mut reason = format!("entry {leaf} has no outcome: the service stopped in between");
                if name == op::LOG_KEY {
                    reason = format!("{reason}; {}", audit::interrupted_rotation(crate::catalogue::uuid(&key)?));
                }
                c.record(entry.reason(reason))?;
                close_intent(c, crate::catalogue::from_db(leaf)?)
            })?;
        }
        Ok(())
    }

    /// Unwraps the canary of every tenant's KEK: the only way to know that a token works.
    fn check_token(&self) -> Result<(), Refusal> {
        self.adopt_first()?;
        let keks = {
            let catalogue = self.lock();
            let (sql, log) = (catalogue.sql(), catalogue.log());
            let newest = |tenant: TenantRow| KekRow::newest_of_tenant(sql, tenant.id)?.confirmed(sql, log);
            TenantRow::all(sql, log)?.into_iter().map(newest).collect::<Result<Vec<_>, Refusal>>()?
        };
        for kek in &keks {
            self.token_of_kek(kek.id)?.check_kek(kek.id, kek.mechanism)?;
            self.check_canary(kek)?;
        }
        Ok(())
    }

    /// Unwraps the canary of a KEK: it has to be the one of its making.
    fn check_canary(&self, kek: &KekRow) -> Result<(), Refusal> {
        let with = WrapWith { kek: kek.id, mechanism: kek.mechanism, aad: canary_aad(kek.id) };
        let canary = self.unwrap_in_token(&with, &kek.canary)?;
        if <[u8; 32]>::from(Sha256::digest(canary.expose())) == kek.canary_sha256 {
            Ok(())
        } else {
            Err(Refusal::new(
                RefusalCode::KekMissing,
                format!(
                    "the canary of key-encryption key {} comes out of the token as another key than at its making: it is another token, or it gives wrong answers",
                    kek.id
                ),
                "check which token is connected, and its health",
            ))
        }
    }

    /// Health: a real unwrap, and figures.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn status(&self) -> Result<Status, Refusal> {
        let anchoring = self.anchored_at_all().then(|| self.anchoring()).transpose()?.map(Box::new);
        self.refresh_health();
        let tokens = self.token_views()?;
        let token_error = tokens.iter().find(|t| t.first).and_then(|t| t.error.clone());
        let key_life = self.key_life_summary()?;
        let backup_lacking = self.backup_lacking()?.map(Box::new);
        let catalogue = self.lock();
        let volumes: i64 = catalogue.sql().query_row("SELECT count(*) FROM volumes", [], |r| r.get(0))?;
        let log = catalogue.log();
        Ok(Status {
            token_uri: self.token().uri().to_string(),
            token_ok: token_error.is_none(),
            token_error,
            pin_latched: self.token().latch().is_set(),
            worker_starts: self.token().worker().0,
            log_origin: log.signer.key.name().to_owned(),
            log_size: log.edge.size(),
            log_root: Hex(log.edge.root()),
            checkpoint_size: log.checkpoint_size,
            volumes: crate::catalogue::from_db(volumes)?,
            log_key: log.signer.key.to_string(),
            scrub: self.scrub_view(),
            anchoring,
            tokens,
            key_life,
            backup_lacking,
        })
    }

    /// How many leaves were appended since the last signed checkpoint.
    #[must_use]
    pub fn unsigned_leaves(&self) -> u64 {
        let catalogue = self.lock();
        catalogue.log().edge.size() - catalogue.log().checkpoint_size
    }

    /// Signs a checkpoint over the log as it is now, and keeps it.
    ///
    /// # Errors
    /// When the token cannot sign or the catalogue cannot be written.
    pub fn checkpoint(&self) -> Result<CheckpointView, Refusal> {
        let (checkpoint, signer) = self.lock().close_trees()?;
        let view = |note| CheckpointView { size: checkpoint.size, root: Hex(checkpoint.root), note };
        if let Some(note) = self.kept_checkpoint(checkpoint.size)? {
            self.publish(&checkpoint, &note);
            return Ok(view(note));
        }
        let note = self.sign_text(&signer, &checkpoint.to_text())?;
        self.lock().keep_checkpoint(checkpoint.size, &note)?;
        self.publish(&checkpoint, &note);
        Ok(view(note))
    }

    /// A note over `text` by one of the log's keys. What the token gave is verified before it is used: a wrong signature would make
    /// what it stands under worthless.
    fn sign_text(&self, signer: &LogSigner, text: &str) -> Result<String, Refusal> {
        let signature = self.token().sign(signer.id, signer.algorithm, text.as_bytes())?;
        let note = signer.key.note(text, &signature);
        signer.key.open_text(&note).map_err(|e| {
            let what = format!("the token signed wrongly with key {}: {e}", signer.id);
            Refusal::new(RefusalCode::Token, what, "try again; if it repeats, look at the HSM and its module")
        })?;
        Ok(note)
    }

    fn kept_checkpoint(&self, size: u64) -> Result<Option<String>, Refusal> {
        use rusqlite::OptionalExtension;
        let catalogue = self.lock();
        let query = "SELECT note FROM custody_checkpoints WHERE size = ?1";
        Ok(catalogue.sql().query_row(query, [crate::catalogue::to_db(size)?], |r| r.get(0)).optional()?)
    }

    /// Enters the stop of the service and signs a last checkpoint; the token being away hinders only that.
    ///
    /// # Errors
    /// When the log cannot be written, or the checkpoint cannot be signed.
    pub fn shut_down(&self) -> Result<(), Refusal> {
        self.lock().change(|c| c.record(Entry::done(Actor::Service, op::SERVICE_STOP)))?;
        self.anchor_at_stop()
    }
}

/// Enters an intent and remembers it as open.
fn open_intent(
    change: &mut Change<'_>,
    entry: Entry,
    op: &str,
    key: Uuid,
    volume: Option<Uuid>,
) -> Result<u64, Refusal> {
    let leaf = change.record(entry)?;
    let insert = "INSERT INTO intents (leaf, op, key, volume) VALUES (?1, ?2, ?3, ?4)";
    let values = rusqlite::params![crate::catalogue::to_db(leaf)?, op, key.to_string(), volume.map(|v| v.to_string())];
    change.sql.execute(insert, values)?;
    Ok(leaf)
}

fn close_intent(change: &Change<'_>, leaf: u64) -> Result<(), Refusal> {
    change.sql.execute("DELETE FROM intents WHERE leaf = ?1", [crate::catalogue::to_db(leaf)?])?;
    Ok(())
}

/// Names of units, pools and the like: they stand in messages, logs and paths.
fn check_name(what: &str, name: &str, most: usize) -> Result<(), Refusal> {
    let fine = !name.trim().is_empty()
        && name.trim() == name
        && name.chars().count() <= most
        && !name.chars().any(char::is_control);
    if fine {
        return Ok(());
    }
    // A peer may send what it likes: what is repeated of it has a limit.
    let shown: String = name.chars().take(64).collect();
    Err(crate::fault::bad_request(
        format!("{shown:?}{} is no {what}", if shown == name { "" } else { "..." }),
        format!("use 1 to {most} printable characters without spaces around them"),
    ))
}
