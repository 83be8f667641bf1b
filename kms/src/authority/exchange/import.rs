//! Packages of partners.

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::label::DEFAULT_POOL;
use super::super::{Authority, wrap_aad};
use super::{insert_package, life};
use crate::age::{Identity, Kind};
use crate::catalogue::{Actor, Change, Entry, GenerationRow, KekRow, KeyLifeRow, PoolRow, VolumeRow, name, to_db};
use crate::custody::{Blob, VerifierKey, op};
use crate::exchange::{Package, PackageError, PackageKey};
use crate::fault::{bad_request, internal};
use crate::hex::Hex;
use crate::pkcs11::WrapWith;
use crate::protocol::{
    Cartridge, Direction, ExchangeReply, GenerationState, IdentityKind, KeyState, PackageView, Refusal, RefusalCode,
    VolumeState,
};
use crate::secret::DataKey;
use crate::time;

fn refused(e: &PackageError) -> Refusal {
    let (code, mend) = match e {
        PackageError::Form(_) => (RefusalCode::BadRequest, "take the file that the partner sent, unchanged"),
        PackageError::OtherSite { .. } => (RefusalCode::NotAllowed, "give the key of the site that made the package"),
        PackageError::OtherRecipient { .. } => {
            (RefusalCode::NotAllowed, "give the identity whose recipient the partner was sent")
        }
        PackageError::Expired { .. } => (RefusalCode::NotAllowed, "ask the partner for a new package"),
        _ => (RefusalCode::TamperedBlob, "do not use it; ask the partner what was sent, and by which way"),
    };
    Refusal::new(code, e.to_string(), mend)
}

impl Authority {
    pub(super) fn import_package(
        &self,
        actor: Actor,
        package: &Package,
        site_key: &str,
        identity: IdentityKind,
        seed: DataKey,
        pool: Option<&str>,
    ) -> Result<ExchangeReply, Refusal> {
        self.refusals_logged(
            actor,
            op::IMPORT_DONE,
            |e| e,
            || {
                let site: VerifierKey = site_key.parse().map_err(|e: crate::custody::NoteError| {
                    bad_request(e.to_string(), "give what the partner's sealtape audit key shows")
                })?;
                package.verify(&site).map_err(|e| refused(&e))?;
                let body = &package.body;
                let (kek, pool) = {
                    let catalogue = self.lock();
                    let now = catalogue.now();
                    package.check_time(&now).map_err(|e| refused(&e))?;
                    if body.origin == catalogue.log().signer.key.name() {
                        let what = format!("the package {} was made by this installation", body.package);
                        return Err(bad_request(what, "its volumes load here without it"));
                    }
                    let pool = PoolRow::named(catalogue.sql(), pool.unwrap_or(DEFAULT_POOL))?;
                    pool.confirm(catalogue.sql(), catalogue.log())?;
                    check_places(catalogue.sql(), package)?;
                    check_tenant(catalogue.sql(), package, &pool)?;
                    let kek = KekRow::of_tenant(catalogue.sql(), pool.tenant)?;
                    (kek.confirmed(catalogue.sql(), catalogue.log())?, pool)
                };
                let kind = match identity {
                    IdentityKind::Hybrid => Kind::Hybrid,
                    IdentityKind::X25519 => Kind::X25519,
                };
                let keys = package.open(&Identity::from_seed(kind, seed)).map_err(|e| refused(&e))?;
                let token = self.token_of_kek(kek.id)?;
                let mut blobs = Vec::with_capacity(keys.len());
                for (at, key) in &keys {
                    let with = WrapWith { kek: kek.id, mechanism: kek.mechanism, aad: wrap_aad(*at) };
                    let blob = token.wrap(key, vec![with])?.into_iter().next();
                    blobs.push(blob.ok_or_else(|| internal("no wrapped key"))?);
                }
                drop(keys);
                let leaf = self.lock().change(|c| {
                    check_places(&c.sql, package)?;
                    check_tenant(&c.sql, package, &pool)?;
                    let words = format!(
                        "package {} of {}, until {}: {} keys",
                        body.package,
                        body.origin,
                        body.expires,
                        body.keys.len()
                    );
                    let entry = Entry::done(actor, op::IMPORT_DONE).tenant(pool.tenant);
                    let leaf = c.record(entry.digest(body.digest()?).reason(words))?;
                    insert_package(c, "import", body, &time::now(), leaf)?;
                    for (key, blob) in body.keys.iter().zip(blobs) {
                        keep(c, actor, package, key, &pool, &kek, blob)?;
                    }
                    Ok(leaf)
                })?;
                Ok(ExchangeReply::Imported(PackageView {
                    package: body.package,
                    direction: Direction::Import,
                    origin: body.origin.clone(),
                    partner: body.partner.clone(),
                    recipient: body.recipient,
                    expires: body.expires.clone(),
                    keys: body.keys.len() as u64,
                    created: time::now(),
                    entry: leaf,
                }))
            },
        )
    }
}

/// The origin of the package that a volume came with; none for a volume of our own.
fn origin_of(sql: &rusqlite::Connection, volume: Uuid) -> Result<Option<Option<String>>, Refusal> {
    Ok(sql
        .prepare_cached("SELECT p.origin FROM volumes v LEFT JOIN packages p ON p.id = v.imported WHERE v.id = ?1")?
        .query_row([volume.to_string()], |r| r.get(0))
        .optional()?)
}

/// Refuses a package that was taken in before, or whose volumes or keys are ours, or another partner's.
fn check_places(sql: &rusqlite::Connection, package: &Package) -> Result<(), Refusal> {
    let body = &package.body;
    let known: Option<String> = sql
        .query_row("SELECT created FROM packages WHERE id = ?1", [body.package.to_string()], |r| r.get(0))
        .optional()?;
    if let Some(when) = known {
        let what = format!("the package {} was imported on {when}", body.package);
        return Err(bad_request(what, "a new period needs a new package from the partner"));
    }
    for key in &body.keys {
        let at = key.at;
        match origin_of(sql, at.volume)? {
            None => {}
            Some(Some(origin)) if origin == body.origin => {}
            Some(Some(origin)) => {
                let what = format!("volume {} came from {origin}, not from {}", at.volume, body.origin);
                return Err(bad_request(what, "find out whose volume it is"));
            }
            Some(None) => {
                let what = format!("volume {} is one of this installation", at.volume);
                return Err(bad_request(what, "find out why a partner has its keys"));
            }
        }
        let other: Option<String> = sql
            .query_row(
                "SELECT key_id FROM generations WHERE (volume = ?1 AND partition = ?2 AND generation = ?3 AND key_id <> ?4)
                 OR (key_id = ?4 AND (volume <> ?1 OR partition <> ?2 OR generation <> ?3))",
                params![at.volume.to_string(), at.partition, at.generation, at.key_id.to_string()],
                |r| r.get(0),
            )
            .optional()?;
        if let Some(other) = other {
            let what = format!(
                "generation {} of partition {} of volume {} is known with the key {other}, not with {}",
                at.generation, at.partition, at.volume, at.key_id
            );
            return Err(bad_request(what, "ask the partner which is right"));
        }
    }
    Ok(())
}

/// Refuses a newer package for volumes that stand in a pool of another tenant.
fn check_tenant(sql: &rusqlite::Connection, package: &Package, pool: &PoolRow) -> Result<(), Refusal> {
    for key in &package.body.keys {
        if origin_of(sql, key.at.volume)?.is_none() {
            continue;
        }
        let volume = VolumeRow::find(sql, key.at.volume)?;
        if volume.tenant != pool.tenant {
            let what =
                format!("volume {} was imported for another tenant than that of pool {}", volume.id, pool.policy.name);
            return Err(bad_request(what, "name a pool of the tenant that it was imported for"));
        }
    }
    Ok(())
}

/// Enters one key, and keeps volume, generation, sessions and the key's end.
fn keep(
    c: &mut Change<'_>,
    actor: Actor,
    package: &Package,
    key: &PackageKey,
    pool: &PoolRow,
    kek: &KekRow,
    blob: Vec<u8>,
) -> Result<(), Refusal> {
    let (body, at) = (&package.body, key.at);
    let sha256 = Hex(Sha256::digest(&blob).into());
    let entry = Entry::done(actor, op::KEY_IMPORT).at(at).tenant(pool.tenant).blobs(vec![Blob { kek: kek.id, sha256 }]);
    let entry = entry.digest(life(at.key_id, &body.expires).digest()?);
    let leaf = c.record(entry.reason(format!("package {}, until {}", body.package, body.expires)))?;
    if origin_of(&c.sql, at.volume)?.is_none() {
        let volume = VolumeRow {
            id: at.volume,
            tenant: pool.tenant,
            pool: pool.id,
            kind: key.kind,
            state: VolumeState::Active,
            label: free_label(&c.sql, key, body.package)?,
            cartridge: Cartridge { barcode: key.barcode.clone(), serial: None },
            partitions: key.partitions,
            owner: actor.uid(),
            replaces: None,
            created: time::now(),
            written: None,
        };
        volume.insert(&c.sql)?;
    }
    c.sql.execute(
        "UPDATE volumes SET imported = ?2 WHERE id = ?1",
        params![at.volume.to_string(), body.package.to_string()],
    )?;
    // What came with an earlier package gives way: the newer one knows more sessions.
    c.sql.execute(
        "DELETE FROM sessions WHERE volume = ?1 AND partition = ?2 AND generation = ?3",
        params![at.volume.to_string(), at.partition, at.generation],
    )?;
    let state = match key.state {
        GenerationState::Active => GenerationState::Active,
        _ => GenerationState::Pending,
    };
    if state == GenerationState::Active {
        c.sql.execute(
            "UPDATE generations SET state = 'superseded' WHERE volume = ?1 AND partition = ?2 AND state = 'active'",
            params![at.volume.to_string(), at.partition],
        )?;
    }
    let again = c.sql.execute(
        "UPDATE generations SET state = ?2, commitment = ?3, kek = ?4, wrapped = ?5, created_leaf = ?6,
         wrapped_leaf = NULL WHERE key_id = ?1",
        params![
            at.key_id.to_string(),
            name(state)?,
            key.commitment.map(|c| c.0),
            kek.id.to_string(),
            blob,
            to_db(leaf)?
        ],
    )?;
    let row = GenerationRow {
        at,
        suite: key.suite,
        compression: key.compression,
        first_ordinal: key.first_ordinal,
        state,
        key_state: KeyState::Deactivated,
        commitment: key.commitment,
        kek: kek.id,
        wrapped: blob,
        created: time::now(),
        created_leaf: leaf,
        wrapped_leaf: None,
    };
    if again == 0 {
        row.insert(&c.sql)?;
    }
    keep_sessions(c, key)?;
    KeyLifeRow { leaf, ..life(at.key_id, &body.expires) }.keep(&c.sql)?;
    c.sql.execute(
        "INSERT INTO imported_keys (key_id, package, expires, leaf) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (key_id) DO UPDATE SET package = excluded.package, expires = excluded.expires, leaf = excluded.leaf",
        params![at.key_id.to_string(), body.package.to_string(), body.expires, to_db(leaf)?],
    )?;
    Ok(())
}

/// The label that the partner gave, or one that nobody has.
fn free_label(sql: &rusqlite::Connection, key: &PackageKey, package: Uuid) -> Result<String, Refusal> {
    let short = |id: Uuid| id.simple().to_string().chars().take(8).collect::<String>();
    let fine = |label: &&String| label.chars().count() <= 64 && !label.chars().any(char::is_control);
    let Some(label) = key.label.as_ref().filter(fine) else {
        return Ok(format!("imported-{}", short(key.at.volume)));
    };
    match VolumeRow::with_active_label(sql, label)? {
        None => Ok(label.clone()),
        Some(_) => Ok(format!("{label}@{}", short(package))),
    }
}

fn keep_sessions(c: &Change<'_>, key: &PackageKey) -> Result<(), Refusal> {
    let at = key.at;
    for session in &key.sessions {
        c.sql.execute(
            "INSERT INTO sessions (volume, partition, generation, ordinal, session_id, first_object, filemarks, link,
             after_ordinal, confirmed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                at.volume.to_string(),
                at.partition,
                at.generation,
                session.ordinal,
                session.start.session_id.0,
                to_db(session.start.first_object)?,
                to_db(session.start.filemarks)?,
                session.start.link.0,
                session.start.after_ordinal,
                session.confirmed
            ],
        )?;
    }
    if let Some(end) = &key.end {
        let last = end.last.as_ref();
        c.sql.execute(
            "UPDATE generations SET end_ordinal = ?4, end_object = ?5, end_filemarks = ?6, last_object = ?7, last_tag = ?8
             WHERE volume = ?1 AND partition = ?2 AND generation = ?3",
            params![
                at.volume.to_string(),
                at.partition,
                at.generation,
                end.ordinal,
                to_db(end.end_object)?,
                to_db(end.end_filemarks)?,
                last.map(|l| to_db(l.object)).transpose()?,
                last.map(|l| l.tag.0)
            ],
        )?;
    }
    Ok(())
}
