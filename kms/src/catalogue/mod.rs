//! The catalogue: SQLite in WAL mode with `synchronous=FULL`. Every change of what exists is one transaction together with its
//! custody entry; a transaction without one is refused. Only the progress of sessions (synchronisation points) is kept without.

mod belonging;
mod convert;
mod copies;
mod destruction;
mod life;
mod log;
mod persons;
mod rows;
mod schema;
mod scrub;
mod search;
mod states;
mod tenants;

use std::path::Path;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sha2::Sha256;
use uuid::Uuid;

pub(crate) use belonging::{DEFAULT_TENANT, TenantRow, is_of};
pub(crate) use convert::{from_db, name, named, to_db, uuid};
pub(crate) use copies::Copy;
pub(crate) use destruction::RotationRow;
pub(crate) use life::{KeyLifeRow, MediumKekRow, policy_digest};
pub(crate) use log::{LogSigner, LogState, consistency, leaf_text, log_signer, root_at};
pub(crate) use persons::{ApprovalRow, RequestRow, RightsRow, dual_leaves};
pub(crate) use rows::{GenerationRow, KekRow, PoolRow, VolumeRow, kek_digest};
pub(crate) use schema::check_database;
pub(crate) use scrub::Scrub;
pub(crate) use search::{checkpoint_line, full_lines, search, search_back, time_range};
pub(crate) use tenants::TenantId;

use crate::custody::tree::Hash;
use crate::custody::{Approval, Blob, Checkpoint, KeyChange, Leaf, MAX_LEAF, Outcome, op};
use crate::fault::{damaged, internal};
use crate::hex::Hex;
use crate::protocol::{GenerationRef, Refusal, Role};
use crate::time;

/// Who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actor {
    /// A user of this machine, by peer credentials.
    User(u32),
    /// The same, with the role that allows what is asked.
    InRole(u32, Role),
    /// The key authority itself.
    Service,
    /// A pool's policy, in place of an operator.
    Policy,
}

impl Actor {
    /// How it was known who it is.
    fn authentication(self) -> &'static str {
        match self {
            Self::User(_) | Self::InRole(..) => "peer",
            Self::Service => "service",
            Self::Policy => "policy",
        }
    }

    /// The user, if it is one.
    pub(crate) fn uid(self) -> Option<u32> {
        match self {
            Self::User(uid) | Self::InRole(uid, _) => Some(uid),
            Self::Service | Self::Policy => None,
        }
    }

    pub(crate) fn identity(self) -> String {
        match self {
            Self::User(uid) | Self::InRole(uid, _) => format!("uid:{uid}"),
            Self::Service => "service".into(),
            Self::Policy => "policy".into(),
        }
    }
}

/// What goes into a leaf; time, sequence number, salt and pseudonym are added by the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    actor: Actor,
    op: &'static str,
    outcome: Outcome,
    unit: Option<String>,
    volume: Option<Uuid>,
    tenant: Option<TenantId>,
    log_key: Option<KeyChange>,
    partition: Option<u8>,
    generation: Option<u32>,
    key: Option<Uuid>,
    blobs: Vec<Blob>,
    reason: Option<String>,
    role: Option<&'static str>,
    digest: Option<[u8; 32]>,
    approvals: Vec<Approval>,
}

impl Entry {
    pub(crate) fn new(actor: Actor, op: &'static str, outcome: Outcome) -> Self {
        Self {
            actor,
            op,
            outcome,
            unit: None,
            volume: None,
            tenant: None,
            log_key: None,
            partition: None,
            generation: None,
            key: None,
            blobs: Vec::new(),
            reason: None,
            role: None,
            digest: None,
            approvals: Vec::new(),
        }
    }

    pub(crate) fn done(actor: Actor, op: &'static str) -> Self {
        Self::new(actor, op, Outcome::Done)
    }

    pub(crate) fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }

    pub(crate) fn volume(mut self, volume: Uuid) -> Self {
        self.volume = Some(volume);
        self
    }

    /// The tenant that it concerns. Where a volume or key in the catalogue is named, it is known from that.
    pub(crate) fn tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// A change of the log's signing key.
    pub(crate) fn log_key(mut self, change: KeyChange) -> Self {
        self.log_key = Some(change);
        self
    }

    pub(crate) fn key(mut self, key: Uuid) -> Self {
        self.key = Some(key);
        self
    }

    pub(crate) fn at(mut self, at: GenerationRef) -> Self {
        self.volume = Some(at.volume);
        self.partition = Some(at.partition);
        self.generation = Some(at.generation);
        self.key = Some(at.key_id);
        self
    }

    pub(crate) fn blobs(mut self, blobs: Vec<Blob>) -> Self {
        self.blobs = blobs;
        self
    }

    /// The role that allowed it.
    pub(crate) fn role(mut self, role: &'static str) -> Self {
        self.role = Some(role);
        self
    }

    /// SHA-256 of the canonical record that this makes or changes.
    pub(crate) fn digest(mut self, digest: [u8; 32]) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Signatures of custodians over the request that this carries out.
    pub(crate) fn approvals(mut self, approvals: Vec<Approval>) -> Self {
        self.approvals = approvals;
        self
    }

    /// Longer texts are cut: a leaf has a limit, and the beginning tells most.
    pub(crate) fn reason(mut self, reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        let mut end = reason.len().min(MAX_LEAF / 8);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        self.reason = Some(reason);
        self
    }
}

/// The key of pseudonyms. Who has it can try all users of a site, so it is not printed.
pub(crate) struct ActorKey([u8; 32]);

impl std::fmt::Debug for ActorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ActorKey(..)")
    }
}

/// The open catalogue.
#[derive(Debug)]
pub(crate) struct Catalogue {
    connection: Connection,
    log: LogState,
    actor_key: ActorKey,
}

/// A transaction that has to end with a custody entry.
pub(crate) struct Change<'a> {
    pub(crate) sql: Transaction<'a>,
    log: LogState,
    actor_key: &'a ActorKey,
    entries: u32,
}

impl Catalogue {
    /// A new, empty catalogue.
    pub(crate) fn create(path: &Path) -> Result<Connection, Refusal> {
        let mut connection = Connection::open(path)?;
        schema::prepare(&mut connection)?;
        let mut key = [0u8; 32];
        getrandom::fill(&mut key).map_err(|e| internal(e.to_string()))?;
        set_meta(&connection, "actor_key", &Hex(key).to_string())?;
        Ok(connection)
    }

    /// Opens a database for reading its settings; [`Catalogue::open`] goes on from there.
    pub(crate) fn connect(path: &Path) -> Result<Connection, Refusal> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        schema::prepare(&mut connection)?;
        Ok(connection)
    }

    /// Checks the custody log and takes the catalogue into use. Of a small catalogue everything is checked; of a larger one the
    /// newest checkpoint, what stands at the tree's right edge, and all after it. What differs is named as closely as it can be.
    pub(crate) fn open(connection: Connection, signer: LogSigner) -> Result<Self, Refusal> {
        let actor_key = meta(&connection, "actor_key")?
            .parse::<Hex<32>>()
            .map_err(|_| damaged("the key of pseudonyms is malformed"))?;
        let everything = || {
            let mut scrub = Scrub::new(&connection, signer.clone())?;
            while !scrub.step(&connection, 10_000)? {}
            Ok::<_, Refusal>(())
        };
        let log = match LogState::load(&connection, signer.clone()) {
            Ok(log) => log,
            Err(fault) => return Err(everything().err().unwrap_or(fault)),
        };
        if schema::is_small(&connection)? {
            everything()?;
        }
        scrub::check_owners(&connection, &|seq| log.proven_leaf(&connection, seq))?;
        Ok(Self { connection, log, actor_key: ActorKey(actor_key.0) })
    }

    pub(crate) fn log(&self) -> &LogState {
        &self.log
    }

    pub(crate) fn sql(&self) -> &Connection {
        &self.connection
    }

    /// The time for rules: the clock's, or that of the log's last entry if the clock is behind it.
    pub(crate) fn now(&self) -> String {
        self.log.now()
    }

    /// Takes the time from `clock` from now on.
    pub(crate) fn set_clock(&mut self, clock: time::Clock) {
        self.log.clock = clock;
    }

    /// Runs `make` in one transaction, which has to record at least one custody entry; durable when this returns.
    pub(crate) fn change<T>(&mut self, make: impl FnOnce(&mut Change<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let sql = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut change = Change { sql, log: self.log.clone(), actor_key: &self.actor_key, entries: 0 };
        let value = make(&mut change)?;
        if change.entries == 0 {
            return Err(internal("a change without a custody entry"));
        }
        let Change { sql, log, .. } = change;
        sql.commit()?;
        self.log = log;
        Ok(value)
    }

    /// Enters the roots of the tenants' trees that have grown, and gives the checkpoint to be signed over all of it.
    pub(crate) fn close_trees(&mut self) -> Result<(Checkpoint, Arc<LogSigner>), Refusal> {
        let grown = self.log.tenants.grown();
        if !grown.is_empty() {
            self.change(|c| grown.iter().try_for_each(|tenant| c.record_root(*tenant)))?;
        }
        Ok((self.log.checkpoint(), Arc::clone(&self.log.signer)))
    }

    /// Runs `make` in one transaction without a custody entry: for the progress of sessions, for checkpoints, and for copies whose entry
    /// had to be anchored before, only.
    pub(crate) fn progress<T>(
        &mut self,
        make: impl FnOnce(&Transaction<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let sql = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = make(&sql)?;
        sql.commit()?;
        Ok(value)
    }

    /// Keeps a signed checkpoint.
    pub(crate) fn keep_checkpoint(&mut self, size: u64, note: &str) -> Result<(), Refusal> {
        self.progress(|sql| {
            let insert = "INSERT OR IGNORE INTO custody_checkpoints (size, note, created) VALUES (?1, ?2, ?3)";
            sql.execute(insert, params![to_db(size)?, note, time::now()])?;
            Ok(())
        })?;
        self.log.checkpoint_size = self.log.checkpoint_size.max(size);
        Ok(())
    }
}

impl Change<'_> {
    /// The log as it is in this transaction.
    pub(crate) fn log(&self) -> &LogState {
        &self.log
    }

    /// The time, never before that of the log's last entry: with the clock set back, time stands still.
    pub(crate) fn now(&self) -> String {
        self.log.now()
    }

    /// Appends a custody entry; gives its sequence number.
    pub(crate) fn record(&mut self, entry: Entry) -> Result<u64, Refusal> {
        let tenant = match entry.tenant {
            Some(tenant) => Some(tenant),
            None => tenants::tenant_of(&self.sql, entry.volume, entry.key)?,
        };
        self.append(entry, tenant, None)
    }

    /// Enters size and root of a tenant's tree.
    fn record_root(&mut self, id: TenantId) -> Result<(), Refusal> {
        let tree = self.log.tenants.tree(&self.sql, id)?;
        let root = (tree.uuid, tree.edge.size(), tree.edge.root());
        let seq = self.append(Entry::done(Actor::Service, op::TENANT_ROOT), None, Some(root))?;
        self.log.tenants.rooted(&self.sql, id, seq)
    }

    /// From here on another key signs.
    pub(crate) fn set_signer(&mut self, signer: LogSigner) {
        self.log.signer = Arc::new(signer);
    }

    fn append(
        &mut self,
        entry: Entry,
        tenant: Option<TenantId>,
        root: Option<(Uuid, u64, Hash)>,
    ) -> Result<u64, Refusal> {
        let actor = self.pseudonym(entry.actor)?;
        let authentication = entry.actor.authentication();
        let role = entry.role.or(match entry.actor {
            Actor::InRole(_, role) => Some(role.name()),
            Actor::User(_) | Actor::Service | Actor::Policy => None,
        });
        let mut salt = [0u8; 16];
        getrandom::fill(&mut salt).map_err(|e| internal(e.to_string()))?;
        let seq = self.log.append(&self.sql, tenant, |place| Leaf {
            actor,
            approvals: entry.approvals,
            authentication: Some(authentication.to_owned()),
            blobs: entry.blobs,
            digest: entry.digest.map(Hex),
            generation: entry.generation,
            key: entry.key,
            log_key: entry.log_key,
            op: entry.op.to_owned(),
            outcome: entry.outcome,
            partition: entry.partition,
            reason: entry.reason,
            role: role.map(str::to_owned),
            salt: Hex(salt),
            seq: place.seq,
            tenant: place.tenant.map(|(id, _)| id).or(root.map(|(id, _, _)| id)),
            tenant_root: root.map(|(_, _, root)| Hex(root)),
            tenant_seq: place.tenant.map(|(_, seq)| seq),
            tenant_size: root.map(|(_, size, _)| size),
            time: place.time,
            unit: entry.unit,
            volume: entry.volume,
        })?;
        self.entries += 1;
        Ok(seq)
    }

    /// HMAC of the identity under the installation's own key; who it is stands in the table of actors only.
    fn pseudonym(&self, actor: Actor) -> Result<String, Refusal> {
        let name = || match actor {
            Actor::User(uid) | Actor::InRole(uid, _) => {
                let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
                user.map(|u| u.name)
            }
            Actor::Service | Actor::Policy => None,
        };
        self.pseudonym_of(&actor.identity(), name)
    }

    /// The same for an identity that is no actor: a custodian, `person:NAME`.
    pub(crate) fn pseudonym_of(
        &self,
        identity: &str,
        name: impl FnOnce() -> Option<String>,
    ) -> Result<String, Refusal> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.actor_key.0).map_err(|e| internal(e.to_string()))?;
        mac.update(identity.as_bytes());
        let mac: [u8; 32] = mac.finalize().into_bytes().into();
        let pseudonym: String = Hex(mac).to_string().chars().take(16).collect();
        let known = self
            .sql
            .prepare_cached("SELECT 1 FROM actors WHERE pseudonym = ?1")?
            .query_row([&pseudonym], |_| Ok(()))
            .optional()?;
        if known.is_none() {
            let insert = "INSERT INTO actors (pseudonym, identity, name, first_seen) VALUES (?1, ?2, ?3, ?4)";
            self.sql.execute(insert, params![pseudonym, identity, name(), time::now()])?;
        }
        Ok(pseudonym)
    }
}

pub(crate) fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<(), Refusal> {
    let insert = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.execute(insert, [key, value])?;
    Ok(())
}

pub(crate) fn meta(connection: &Connection, key: &str) -> Result<String, Refusal> {
    let value = connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?;
    value.ok_or_else(|| damaged(format!("the catalogue lacks its setting {key}")))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::custody::VerifierKey;
    use crate::pkcs11::SignAlgorithm;
    use crate::protocol::RefusalCode;

    fn signer() -> LogSigner {
        let key =
            VerifierKey::new("sealtape/test", SigningKey::from_bytes(&[1; 32]).verifying_key().as_bytes()).unwrap();
        LogSigner { key, id: Uuid::nil(), algorithm: SignAlgorithm::Ed25519, earlier: Vec::new() }
    }

    /// Whatever else is entered, a log begins by being opened.
    fn begin(catalogue: &mut Catalogue) {
        catalogue.change(|c| c.record(Entry::done(Actor::Service, op::LOG_OPEN).reason("sealtape/test"))).unwrap();
    }

    fn entry(text: &str) -> Entry {
        Entry::done(Actor::Service, op::INCIDENT).reason(text)
    }

    #[test]
    fn a_full_disk_refuses_the_change_and_harms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.db");
        let mut catalogue = Catalogue::open(Catalogue::create(&path).unwrap(), signer()).unwrap();
        begin(&mut catalogue);
        let pages: u32 = catalogue.connection.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
        catalogue.connection.pragma_update(None, "max_page_count", pages).unwrap();
        let long = "x".repeat(1000);
        let refusal = loop {
            let before = catalogue.log().edge.clone();
            match catalogue.change(|c| c.record(entry(&long))) {
                Ok(_) => assert!(before.size() < 100, "the limit has to bite"),
                Err(refusal) => {
                    assert_eq!(catalogue.log().edge, before);
                    break refusal;
                }
            }
        };
        assert_eq!(refusal.code, RefusalCode::LogUnwritable, "{refusal}");
        catalogue.connection.pragma_update(None, "max_page_count", pages + 100).unwrap();
        let seq = catalogue.change(|c| c.record(entry("after"))).unwrap();
        drop(catalogue);
        let again = Catalogue::open(Catalogue::connect(&path).unwrap(), signer()).unwrap();
        assert_eq!(again.log().edge.size(), seq + 1);
    }

    #[test]
    fn a_change_needs_an_entry_and_a_failed_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.db");
        let mut catalogue = Catalogue::open(Catalogue::create(&path).unwrap(), signer()).unwrap();
        let insert = "INSERT INTO tenants (name) VALUES ('a')";
        assert!(catalogue.change(|c| Ok(c.sql.execute(insert, [])?)).is_err());
        let failed: Result<(), Refusal> = catalogue.change(|c| {
            c.sql.execute(insert, [])?;
            c.record(entry("a"))?;
            Err(internal("no"))
        });
        assert!(failed.is_err());
        let tenants: u32 = catalogue.sql().query_row("SELECT count(*) FROM tenants", [], |r| r.get(0)).unwrap();
        assert_eq!((tenants, catalogue.log().edge.size()), (0, 0));
    }

    #[test]
    fn time_never_runs_back_and_pseudonyms_hide_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.db");
        let mut catalogue = Catalogue::open(Catalogue::create(&path).unwrap(), signer()).unwrap();
        catalogue.log.last_time = "2999-01-01T00:00:00.000Z".into();
        catalogue.change(|c| c.record(entry("the clock was set back"))).unwrap();
        catalogue.change(|c| c.record(Entry::done(Actor::User(1234), op::INCIDENT))).unwrap();
        let leaves: Vec<Leaf> = (0..2).map(|n| Leaf::parse(&leaf_text(catalogue.sql(), n).unwrap()).unwrap()).collect();
        assert!(leaves.iter().all(|l| l.time == "2999-01-01T00:00:00.000Z"));
        assert_ne!(leaves[0].actor, leaves[1].actor);
        assert!(!leaves[1].actor.contains("1234") && leaves[1].actor.len() == 16);
        let identity: String = catalogue
            .sql()
            .query_row("SELECT identity FROM actors WHERE pseudonym = ?1", [&leaves[1].actor], |r| r.get(0))
            .unwrap();
        assert_eq!(identity, "uid:1234");
    }

    #[test]
    fn a_damaged_or_newer_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.db");
        let connection = Catalogue::create(&path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let refusal = Catalogue::connect(&path).map(drop).unwrap_err();
        assert!(refusal.mend.contains("newer"), "{refusal}");
        std::fs::write(&path, "no database, but long enough to look at, for sure").unwrap();
        assert_eq!(Catalogue::connect(&path).map(drop).unwrap_err().code, RefusalCode::Damaged);
    }
}
