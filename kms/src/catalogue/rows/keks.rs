//! Key-encryption keys.

use super::super::belonging::DEFAULT_TENANT;
use super::*;

#[derive(Debug, Clone)]
pub(crate) struct KekRow {
    pub(crate) id: Uuid,
    /// The token that holds it; nil for the first one of a catalogue from before tokens were enrolled.
    pub(crate) token: Uuid,
    pub(crate) mechanism: WrapMechanism,
    pub(crate) canary: Vec<u8>,
    pub(crate) canary_sha256: [u8; 32],
    pub(crate) purpose: String,
    pub(crate) tenant: TenantId,
    epoch: i64,
    pub(crate) created_leaf: u64,
}

/// SHA-256 of what a KEK's row says for good, as canonical JSON: the digest of the entry that created it.
pub(crate) fn kek_digest(
    id: Uuid,
    token: Uuid,
    purpose: &str,
    tenant: i64,
    epoch: i64,
    mechanism: WrapMechanism,
    canary_sha256: &[u8; 32],
) -> Result<[u8; 32], Refusal> {
    let value = serde_json::json!({
        "canary": Hex(*canary_sha256), "epoch": epoch, "id": id, "mechanism": mechanism, "purpose": purpose, "tenant": tenant,
        "token": token,
    });
    let text = canonical(&value).ok_or_else(|| damaged("a key-encryption key's row cannot be written down"))?;
    Ok(Sha256::digest(text).into())
}

impl KekRow {
    /// Checks the row against the custody entry that created it: token, mechanism, purpose, tenant, epoch and canary.
    pub(crate) fn agrees_with(&self, leaf: &Leaf) -> Result<(), Refusal> {
        let canary = Blob { kek: self.id, sha256: Hex(Sha256::digest(&self.canary).into()) };
        let Self { id, token, purpose, tenant, epoch, mechanism, canary_sha256, .. } = self;
        let digest = kek_digest(*id, *token, purpose, *tenant, *epoch, *mechanism, canary_sha256)?;
        let is_it = leaf.op == op::KEK_CREATE
            && leaf.outcome == Outcome::Done
            && leaf.key == Some(self.id)
            && leaf.blobs.contains(&canary)
            // Entries of the first versions, which knew one tenant, have no digest; an entry itself cannot have lost one.
            && leaf.digest.map_or(*tenant == DEFAULT_TENANT, |d| d.0 == digest);
        if is_it {
            return Ok(());
        }
        let what = format!(
            "the key-encryption key {} is not the one that custody entry {} names: the catalogue was changed",
            self.id, self.created_leaf
        );
        Err(Refusal::new(RefusalCode::TamperedBlob, what, "restore the catalogue from a backup, and tell the auditor"))
    }

    /// The row, after the custody entry that created it has confirmed it.
    pub(crate) fn confirmed(self, sql: &Connection, log: &LogState) -> Result<Self, Refusal> {
        self.confirm(sql, log)?;
        Ok(self)
    }

    pub(crate) fn all(sql: &Connection) -> Result<Vec<Self>, Refusal> {
        let ids: Vec<String> =
            sql.prepare("SELECT id FROM keks ORDER BY id")?.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
        ids.iter().map(|id| Self::one(sql, "id = ?1", id)).collect()
    }

    pub(crate) fn find(sql: &Connection, id: Uuid) -> Result<Self, Refusal> {
        Self::one(sql, "id = ?1", &id.to_string())
    }

    pub(crate) fn of_tenant(sql: &Connection, tenant: i64) -> Result<Self, Refusal> {
        // While it is replaced there are two: what is new comes under the newer one.
        let which = "purpose = 'catalogue' AND state = 'active' AND tenant = ?1 ORDER BY epoch DESC LIMIT 1";
        Self::one(sql, which, &tenant)
    }

    /// The catalogue KEK that is the next to be replaced, in whatever state: a compromised one above all.
    pub(crate) fn newest_of_tenant(sql: &Connection, tenant: i64) -> Result<Self, Refusal> {
        Self::one(sql, "purpose = 'catalogue' AND tenant = ?1 ORDER BY epoch DESC LIMIT 1", &tenant)
    }

    fn one(sql: &Connection, which: &str, value: &dyn rusqlite::ToSql) -> Result<Self, Refusal> {
        let query = format!(
            "SELECT id, mechanism, token, canary, canary_sha256, purpose, tenant, epoch, created_leaf FROM keks WHERE {which}"
        );
        let row = sql
            .query_row(&query, [value], |r| {
                let key: (String, String, Option<String>) = (r.get(0)?, r.get(1)?, r.get(2)?);
                let canary: (Vec<u8>, Vec<u8>) = (r.get(3)?, r.get(4)?);
                let place: (String, i64, i64, i64) = (r.get(5)?, r.get(6)?, r.get(7)?, r.get(8)?);
                Ok((key, canary, place))
            })
            .optional()?;
        let ((id, mechanism, token), (canary, hash), (purpose, tenant, epoch, leaf)) =
            row.ok_or_else(|| damaged("the catalogue lacks a key-encryption key"))?;
        Ok(Self {
            id: uuid(&id)?,
            token: token.as_deref().map(uuid).transpose()?.unwrap_or_default(),
            mechanism: named(mechanism)?,
            canary,
            canary_sha256: blob32(&hash)?,
            purpose,
            tenant,
            epoch,
            created_leaf: from_db(leaf)?,
        })
    }
}
