//! Reading and writing the catalogue's rows.

mod keks;
mod pools;

pub(crate) use keks::{KekRow, kek_digest};
pub(crate) use pools::PoolRow;

use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::convert::{blob16, blob32, from_db, name, named, to_db, uuid};
use super::log::LogState;
use super::tenants::TenantId;
use crate::custody::{Blob, Leaf, Outcome, canonical, op};
use crate::fault::{bad_request, damaged};
use crate::hex::Hex;
use crate::pkcs11::{WrapMechanism, WrapWith};
use crate::protocol::{
    BarcodePattern, Cartridge, GenerationRef, GenerationState, GenerationView, KeyLife, KeyState, LastRecord,
    PartitionView, PoolPolicy, Refusal, RefusalCode, SessionRecord, SessionStart, SyncPoint, VolumeKind, VolumeState,
    VolumeSummary, VolumeView,
};

#[derive(Debug, Clone)]
pub(crate) struct VolumeRow {
    pub(crate) id: Uuid,
    pub(crate) tenant: TenantId,
    pub(crate) pool: i64,
    pub(crate) kind: VolumeKind,
    pub(crate) state: VolumeState,
    pub(crate) label: String,
    pub(crate) cartridge: Cartridge,
    pub(crate) partitions: u8,
    pub(crate) owner: Option<u32>,
    pub(crate) replaces: Option<Uuid>,
    pub(crate) created: String,
    pub(crate) written: Option<String>,
}

const VOLUME: &str =
    "SELECT id, pool, kind, state, label, barcode, partitions, owner, replaces, created, cartridge_serial, written,
    tenant FROM volumes";

type RawVolume = (
    (String, i64, String, String, String),
    (Option<String>, u8, Option<u32>, Option<String>, String),
    (Option<String>, Option<String>, TenantId),
);

fn raw_volume(r: &Row<'_>) -> rusqlite::Result<RawVolume> {
    Ok((
        (r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?),
        (r.get(5)?, r.get(6)?, r.get(7)?, r.get(8)?, r.get(9)?),
        (r.get(10)?, r.get(11)?, r.get(12)?),
    ))
}

impl VolumeRow {
    fn from_raw(raw: RawVolume) -> Result<Self, Refusal> {
        let ((id, pool, kind, state, label), (barcode, partitions, owner, replaces, created), last) = raw;
        let (serial, written, tenant) = last;
        let replaces = replaces.as_deref().map(uuid).transpose()?;
        let (id, kind, state) = (uuid(&id)?, named(kind)?, named(state)?);
        let cartridge = Cartridge { barcode, serial };
        Ok(Self { id, tenant, pool, kind, state, label, cartridge, partitions, owner, replaces, created, written })
    }

    pub(crate) fn find(sql: &Connection, id: Uuid) -> Result<Self, Refusal> {
        let mut query = sql.prepare_cached(&format!("{VOLUME} WHERE id = ?1"))?;
        let raw = query.query_row([id.to_string()], raw_volume).optional()?;
        let unknown = || {
            Refusal::new(
                RefusalCode::UnknownVolume,
                format!("volume {id} is not in this catalogue"),
                "it was labelled by another installation, or the catalogue is an older copy; restore works from the token and the medium alone",
            )
        };
        Self::from_raw(raw.ok_or_else(unknown)?)
    }

    pub(crate) fn with_active_label(sql: &Connection, label: &str) -> Result<Option<Self>, Refusal> {
        let query = format!("{VOLUME} WHERE label = ?1 AND state = 'active' AND kind = 'tape'");
        sql.query_row(&query, [label], raw_volume).optional()?.map(Self::from_raw).transpose()
    }

    pub(crate) fn with_active_barcode(sql: &Connection, barcode: &str) -> Result<Option<Self>, Refusal> {
        let query = format!("{VOLUME} WHERE barcode = ?1 AND state = 'active' AND kind = 'tape' LIMIT 1");
        sql.query_row(&query, [barcode], raw_volume).optional()?.map(Self::from_raw).transpose()
    }

    pub(crate) fn set_cartridge(&self, sql: &Connection, cartridge: &Cartridge) -> Result<(), Refusal> {
        let update = "UPDATE volumes SET barcode = ?2, cartridge_serial = ?3 WHERE id = ?1";
        sql.execute(update, params![self.id.to_string(), cartridge.barcode, cartridge.serial])?;
        Ok(())
    }

    /// Volumes behind `after` (time of creation and UUID), in that order; at most `count` are looked at.
    pub(crate) fn page(sql: &Connection, after: Option<&(String, Uuid)>, count: u32) -> Result<Vec<Self>, Refusal> {
        let mut query =
            sql.prepare_cached(&format!("{VOLUME} WHERE (created, id) > (?1, ?2) ORDER BY created, id LIMIT ?3"))?;
        let (created, id) = after.map(|(t, id)| (t.clone(), id.to_string())).unwrap_or_default();
        let raws: Vec<_> = query.query_map(params![created, id, count], raw_volume)?.collect::<Result<_, _>>()?;
        raws.into_iter().map(Self::from_raw).collect()
    }

    pub(crate) fn insert(&self, sql: &Connection) -> Result<(), Refusal> {
        sql.execute(
            "INSERT INTO volumes (id, tenant, pool, kind, state, label, barcode, partitions, owner, replaces, created,
             cartridge_serial) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                self.id.to_string(),
                self.tenant,
                self.pool,
                name(self.kind)?,
                name(self.state)?,
                self.label,
                self.cartridge.barcode,
                self.partitions,
                self.owner,
                self.replaces.map(|r| r.to_string()),
                self.created,
                self.cartridge.serial
            ],
        )?;
        for partition in 0..self.partitions {
            let insert =
                "INSERT INTO partitions (volume, partition, next_generation, next_ordinal) VALUES (?1, ?2, 1, 1)";
            sql.execute(insert, params![self.id.to_string(), partition])?;
        }
        Ok(())
    }

    pub(crate) fn set_state(&self, sql: &Connection, state: VolumeState) -> Result<(), Refusal> {
        sql.execute("UPDATE volumes SET state = ?2 WHERE id = ?1", params![self.id.to_string(), name(state)?])?;
        Ok(())
    }

    pub(crate) fn check_partition(&self, partition: u8) -> Result<(), Refusal> {
        if partition < self.partitions {
            return Ok(());
        }
        let what = format!("volume {} has {} partition(s), number {partition} is asked for", self.id, self.partitions);
        Err(bad_request(what, "check the medium"))
    }

    /// For messages: label and UUID.
    pub(crate) fn words(&self) -> String {
        if self.label.is_empty() {
            format!("volume {}", self.id)
        } else {
            format!("volume {} ({})", self.label, self.id)
        }
    }

    pub(crate) fn summary(&self, pool: &PoolRow) -> VolumeSummary {
        VolumeSummary {
            volume: self.id,
            kind: self.kind,
            state: self.state,
            label: self.label.clone(),
            barcode: self.cartridge.barcode.clone(),
            cartridge_serial: self.cartridge.serial.clone(),
            pool: pool.policy.name.clone(),
            partitions: self.partitions,
            created: self.created.clone(),
            written: self.written.clone(),
        }
    }

    pub(crate) fn view(&self, sql: &Connection) -> Result<VolumeView, Refusal> {
        let mut partitions: Vec<PartitionView> =
            (0..self.partitions).map(|partition| PartitionView { partition, generations: Vec::new() }).collect();
        for row in GenerationRow::of_volume(sql, self.id)? {
            if let Some(partition) = partitions.get_mut(usize::from(row.at.partition)) {
                partition.generations.push(row.view());
            }
        }
        Ok(VolumeView {
            volume: self.id,
            kind: self.kind,
            state: self.state,
            label: self.label.clone(),
            barcode: self.cartridge.barcode.clone(),
            cartridge_serial: self.cartridge.serial.clone(),
            policy: PoolRow::find(sql, self.pool)?.policy,
            created: self.created.clone(),
            written: self.written.clone(),
            partitions,
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct GenerationRow {
    pub(crate) at: GenerationRef,
    pub(crate) suite: u8,
    pub(crate) compression: u8,
    pub(crate) first_ordinal: u32,
    pub(crate) state: GenerationState,
    pub(crate) key_state: KeyState,
    pub(crate) commitment: Option<Hex<32>>,
    pub(crate) kek: Uuid,
    pub(crate) wrapped: Vec<u8>,
    pub(crate) created: String,
    pub(crate) created_leaf: u64,
    /// The entry that names the wrapped copy, if it is not the one that created the key.
    pub(crate) wrapped_leaf: Option<u64>,
}

const GENERATION: &str =
    "SELECT volume, partition, generation, key_id, suite, compression, first_ordinal, state, key_state,
                          commitment, kek, wrapped, created, created_leaf, wrapped_leaf FROM generations";

type RawGeneration = (
    (String, u8, u32, String),
    (u8, u8, u32),
    (String, String, Option<Vec<u8>>),
    (String, Vec<u8>, String, i64, Option<i64>),
);

fn raw_generation(r: &Row<'_>) -> rusqlite::Result<RawGeneration> {
    Ok((
        (r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?),
        (r.get(4)?, r.get(5)?, r.get(6)?),
        (r.get(7)?, r.get(8)?, r.get(9)?),
        (r.get(10)?, r.get(11)?, r.get(12)?, r.get(13)?, r.get(14)?),
    ))
}

impl GenerationRow {
    fn from_raw(raw: RawGeneration) -> Result<Self, Refusal> {
        let ((volume, partition, generation, key_id), (suite, compression, first_ordinal), rest, last) = raw;
        let (state, key_state, commitment) = rest;
        let (kek, wrapped, created, created_leaf, wrapped_leaf) = last;
        Ok(Self {
            at: GenerationRef { volume: uuid(&volume)?, partition, generation, key_id: uuid(&key_id)? },
            suite,
            compression,
            first_ordinal,
            state: named(state)?,
            key_state: named(key_state)?,
            commitment: commitment.as_deref().map(blob32).transpose()?.map(Hex),
            kek: uuid(&kek)?,
            wrapped,
            created,
            created_leaf: from_db(created_leaf)?,
            wrapped_leaf: wrapped_leaf.map(from_db).transpose()?,
        })
    }

    /// The generation that is named; a wrong key id is as unknown as a wrong number.
    pub(crate) fn find(sql: &Connection, at: GenerationRef) -> Result<Self, Refusal> {
        let mut query =
            sql.prepare_cached(&format!("{GENERATION} WHERE volume = ?1 AND partition = ?2 AND generation = ?3"))?;
        let raw =
            query.query_row(params![at.volume.to_string(), at.partition, at.generation], raw_generation).optional()?;
        let row = raw.map(Self::from_raw).transpose()?.filter(|row| row.at == at);
        row.ok_or_else(|| {
            Refusal::new(
                RefusalCode::UnknownGeneration,
                format!(
                    "generation {} of partition {} of volume {} with key {} is not in this catalogue",
                    at.generation, at.partition, at.volume, at.key_id
                ),
                "the medium was written by another installation, or the catalogue is an older copy",
            )
        })
    }

    pub(crate) fn of_volume(sql: &Connection, volume: Uuid) -> Result<Vec<Self>, Refusal> {
        Self::matching(sql, "WHERE volume = ?1 ORDER BY partition, generation DESC", [volume.to_string()])
    }

    /// Those that a clause of SQL selects.
    pub(crate) fn matching(sql: &Connection, which: &str, values: impl rusqlite::Params) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare_cached(&format!("{GENERATION} {which}"))?;
        let raws: Vec<_> = query.query_map(values, raw_generation)?.collect::<Result<_, _>>()?;
        raws.into_iter().map(Self::from_raw).collect()
    }

    /// Puts another wrapped copy in the place of the present one.
    pub(crate) fn rewrap(&self, sql: &Connection, kek: Uuid, wrapped: &[u8], leaf: u64) -> Result<(), Refusal> {
        let update = "UPDATE generations SET kek = ?2, wrapped = ?3, wrapped_leaf = ?4 WHERE key_id = ?1";
        let values = params![self.at.key_id.to_string(), kek.to_string(), wrapped, to_db(leaf)?];
        sql.prepare_cached(update)?.execute(values)?;
        Ok(())
    }

    /// For messages.
    pub(crate) fn words(&self) -> String {
        let GenerationRef { volume, partition, generation, key_id } = self.at;
        format!("key {key_id} (generation {generation} of partition {partition} of volume {volume})")
    }

    /// The active generation of a partition and its pending ones, newest first. A partition that is written from its
    /// beginning every day has thousands that are neither.
    pub(crate) fn standing(sql: &Connection, volume: Uuid, partition: u8) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare_cached(&format!(
            "{GENERATION} WHERE volume = ?1 AND partition = ?2 AND state IN ('active', 'pending') ORDER BY generation DESC"
        ))?;
        let raws: Vec<_> =
            query.query_map(params![volume.to_string(), partition], raw_generation)?.collect::<Result<_, _>>()?;
        raws.into_iter().map(Self::from_raw).collect()
    }

    pub(crate) fn insert(&self, sql: &Connection) -> Result<(), Refusal> {
        sql.execute(
            "INSERT INTO generations (volume, partition, generation, key_id, suite, compression, first_ordinal, state, key_state,
             commitment, kek, wrapped, created, created_leaf) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            params![
                self.at.volume.to_string(),
                self.at.partition,
                self.at.generation,
                self.at.key_id.to_string(),
                self.suite,
                self.compression,
                self.first_ordinal,
                name(self.state)?,
                name(self.key_state)?,
                self.commitment.map(|c| c.0),
                self.kek.to_string(),
                self.wrapped,
                self.created,
                to_db(self.created_leaf)?
            ],
        )?;
        Ok(())
    }

    /// Writes state, key state and commitment back.
    pub(crate) fn update(&self, sql: &Connection) -> Result<(), Refusal> {
        sql.execute(
            "UPDATE generations SET state = ?4, key_state = ?5, commitment = ?6
             WHERE volume = ?1 AND partition = ?2 AND generation = ?3",
            params![
                self.at.volume.to_string(),
                self.at.partition,
                self.at.generation,
                name(self.state)?,
                name(self.key_state)?,
                self.commitment.map(|c| c.0)
            ],
        )?;
        Ok(())
    }

    fn view(&self) -> GenerationView {
        GenerationView {
            generation: self.at.generation,
            key_id: self.at.key_id,
            state: self.state,
            key_state: self.key_state,
            suite: self.suite,
            first_ordinal: self.first_ordinal,
            created: self.created.clone(),
        }
    }

    /// How the wrapped key is opened, after the custody entry that created it has confirmed every part of it: the blob's hash,
    /// its KEK, and the place it belongs to.
    pub(crate) fn confirmed(&self, sql: &Connection, log: &LogState) -> Result<WrapWith, Refusal> {
        let leaf = log.proven_leaf(sql, self.named_by())?;
        self.agrees_with(&leaf)?;
        self.tenant_agrees(sql, &leaf)?;
        let kek = KekRow::find(sql, self.kek)?.confirmed(sql, log)?;
        Ok(WrapWith { kek: kek.id, mechanism: kek.mechanism, aad: crate::authority::wrap_aad(self.at) })
    }

    /// Generations behind `after`, in the order of their places.
    pub(crate) fn page(sql: &Connection, after: Option<&(String, u8, u32)>, count: u64) -> Result<Vec<Self>, Refusal> {
        let mut query = sql.prepare_cached(&format!(
            "{GENERATION} WHERE (volume, partition, generation) > (?1, ?2, ?3) ORDER BY volume, partition, generation LIMIT ?4"
        ))?;
        let (volume, partition, generation) = after.cloned().unwrap_or_default();
        let raws: Vec<_> = query
            .query_map(params![volume, partition, generation, to_db(count)?], raw_generation)?
            .collect::<Result<_, _>>()?;
        raws.into_iter().map(Self::from_raw).collect()
    }

    /// The custody entry that names the wrapped copy: the one that created the key, or the last one that rewrapped it.
    pub(crate) fn named_by(&self) -> u64 {
        self.wrapped_leaf.unwrap_or(self.created_leaf)
    }

    /// Whether the key is destroyed and its wrapped copy wiped: then there is nothing that an entry could confirm.
    pub(crate) fn is_wiped(&self) -> bool {
        self.wrapped.is_empty() && matches!(self.key_state, KeyState::Destroyed | KeyState::DestroyedCompromised)
    }

    /// Checks the wrapped key and the place it belongs to against the custody entry that names it.
    pub(crate) fn agrees_with(&self, leaf: &Leaf) -> Result<(), Refusal> {
        let made_by = if self.wrapped_leaf.is_some() { op::KEK_REWRAP } else { op::KEY_CREATE };
        let hash = Hex(Sha256::digest(&self.wrapped).into());
        let imported = self.wrapped_leaf.is_none() && leaf.op == op::KEY_IMPORT;
        let is_it = (leaf.op == made_by || imported)
            && leaf.outcome == Outcome::Done
            && leaf.volume == Some(self.at.volume)
            && leaf.partition == Some(self.at.partition)
            && leaf.generation == Some(self.at.generation)
            && leaf.key == Some(self.at.key_id)
            && leaf.blobs.iter().any(|b| b.kek == self.kek && b.sha256 == hash);
        if !is_it {
            return Err(Refusal::new(
                RefusalCode::TamperedBlob,
                format!(
                    "the wrapped key of generation {} of partition {} of volume {} is not the one that custody entry {} names: the catalogue was changed",
                    self.at.generation,
                    self.at.partition,
                    self.at.volume,
                    self.named_by()
                ),
                "restore the catalogue from a backup, and tell the auditor",
            ));
        }
        Ok(())
    }

    /// The sessions of this generation that may have records on the medium, by ordinal.
    pub(crate) fn sessions(&self, sql: &Connection) -> Result<Vec<SessionRecord>, Refusal> {
        let mut query = sql.prepare_cached(
            "SELECT ordinal, session_id, first_object, filemarks, link, after_ordinal, confirmed
             FROM sessions WHERE volume = ?1 AND partition = ?2 AND generation = ?3 AND gone = 0 ORDER BY ordinal",
        )?;
        let mut rows = query.query(params![self.at.volume.to_string(), self.at.partition, self.at.generation])?;
        let mut sessions = Vec::new();
        while let Some(r) = rows.next()? {
            let start = SessionStart {
                session_id: Hex(blob16(&r.get::<_, Vec<u8>>(1)?)?),
                first_object: from_db(r.get(2)?)?,
                filemarks: from_db(r.get(3)?)?,
                link: Hex(blob16(&r.get::<_, Vec<u8>>(4)?)?),
                after_ordinal: r.get(5)?,
            };
            sessions.push(SessionRecord { ordinal: r.get(0)?, start, confirmed: r.get(6)? });
        }
        Ok(sessions)
    }

    /// The end of data at the last synchronisation, unless a session was opened before it since.
    pub(crate) fn end(&self, sql: &Connection) -> Result<Option<SyncPoint>, Refusal> {
        let mut query = sql.prepare_cached(
            "SELECT end_ordinal, end_object, end_filemarks, last_object, last_tag FROM generations
             WHERE volume = ?1 AND partition = ?2 AND generation = ?3 AND end_object IS NOT NULL",
        )?;
        let mut rows = query.query(params![self.at.volume.to_string(), self.at.partition, self.at.generation])?;
        let Some(r) = rows.next()? else { return Ok(None) };
        let (object, tag): (Option<i64>, Option<Vec<u8>>) = (r.get(3)?, r.get(4)?);
        let last = match (object, tag) {
            (Some(object), Some(tag)) => Some(LastRecord { object: from_db(object)?, tag: Hex(blob16(&tag)?) }),
            _ => None,
        };
        Ok(Some(SyncPoint {
            ordinal: r.get(0)?,
            end_object: from_db(r.get(1)?)?,
            end_filemarks: from_db(r.get(2)?)?,
            last,
        }))
    }
}
