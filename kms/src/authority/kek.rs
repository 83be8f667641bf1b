//! Making key-encryption keys.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Authority, canary_aad, close_intent, open_intent};
use crate::catalogue::{Actor, Change, Entry, TenantId, kek_digest, name, to_db};
use crate::custody::{Blob, Outcome, op};
use crate::fault::internal;
use crate::hex::Hex;
use crate::pkcs11::{Token, TokenError, WrapMechanism, WrapWith};
use crate::protocol::Refusal;
use crate::time;

/// What a key-encryption key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KekPurpose {
    /// Wraps the catalogue's copies of a tenant's data keys.
    Catalogue,
    /// Wraps the copies that stand on the media of a pool.
    Medium,
}

/// A key-encryption key that stands in the token and not yet in the catalogue.
pub(crate) struct NewKek {
    pub(crate) id: Uuid,
    token: Uuid,
    purpose: KekPurpose,
    mechanism: WrapMechanism,
    canary: Vec<u8>,
    canary_sha256: [u8; 32],
    intent: u64,
}

impl Authority {
    /// Makes a KEK in the first token; as [`Authority::make_kek_in`].
    pub(crate) fn make_kek(
        &self,
        actor: Actor,
        purpose: KekPurpose,
        tenant: impl Into<Option<TenantId>>,
        label: &str,
    ) -> Result<NewKek, Refusal> {
        self.make_kek_in(self.first_token(), actor, purpose, tenant.into(), label)
    }

    /// Makes a KEK with a canary in `token`, the intent entered before; [`NewKek::keep`] enters the outcome. Of a tenant that is not
    /// in the catalogue yet the intent says nothing but the label.
    pub(crate) fn make_kek_in(
        &self,
        token: Uuid,
        actor: Actor,
        purpose: KekPurpose,
        tenant: Option<TenantId>,
        label: &str,
    ) -> Result<NewKek, Refusal> {
        let (in_token, mechanism) = (self.token_by_id(token)?, self.mechanism_of(token)?);
        let id = Uuid::new_v4();
        let intent = self.lock().change(|c| {
            let entry = of(tenant, Entry::new(actor, op::KEK_CREATE, Outcome::Intent)).key(id).reason(label);
            open_intent(c, entry, op::KEK_CREATE, id, None)
        })?;
        let made = kek_in_token(&in_token, id, label, mechanism).map_err(Refusal::from);
        match made {
            Ok((canary, canary_sha256)) => Ok(NewKek { id, token, purpose, mechanism, canary, canary_sha256, intent }),
            Err(refusal) => {
                self.lock().change(|c| {
                    let entry = of(tenant, Entry::new(actor, op::KEK_CREATE, Outcome::Failed)).key(id);
                    c.record(entry.reason(&refusal.what))?;
                    close_intent(c, intent)
                })?;
                Err(refusal)
            }
        }
    }
}

fn of(tenant: Option<TenantId>, entry: Entry) -> Entry {
    match tenant {
        Some(tenant) => entry.tenant(tenant),
        None => entry,
    }
}

fn kek_in_token(
    token: &Token,
    id: Uuid,
    label: &str,
    mechanism: WrapMechanism,
) -> Result<(Vec<u8>, [u8; 32]), TokenError> {
    token.make_kek(id, label, mechanism)?;
    let with = WrapWith { kek: id, mechanism, aad: canary_aad(id) };
    let (canary, mut blobs) = token.make_data_key(vec![with])?;
    let blob = blobs.pop().ok_or_else(|| TokenError::WrapFault { what: "no wrapped canary".into() })?;
    Ok((blob, Sha256::digest(canary.expose()).into()))
}

impl NewKek {
    /// Enters the outcome and the KEK, as `tenant`'s.
    pub(crate) fn keep(&self, change: &mut Change<'_>, actor: Actor, tenant: TenantId) -> Result<(), Refusal> {
        let canary = Blob { kek: self.id, sha256: Hex(Sha256::digest(&self.canary).into()) };
        let purpose = match self.purpose {
            KekPurpose::Catalogue => "catalogue",
            KekPurpose::Medium => "medium",
        };
        // Catalogue KEKs follow one another; those of media stand side by side.
        let epoch: i64 = match self.purpose {
            KekPurpose::Catalogue => change.sql.query_row(
                "SELECT coalesce(max(epoch), 0) + 1 FROM keks WHERE purpose = 'catalogue' AND tenant = ?1",
                [tenant],
                |r| r.get(0),
            )?,
            KekPurpose::Medium => 1,
        };
        let digest = kek_digest(self.id, self.token, purpose, tenant, epoch, self.mechanism, &self.canary_sha256)?;
        let entry = Entry::done(actor, op::KEK_CREATE).key(self.id).tenant(tenant);
        let leaf = change.record(entry.digest(digest).blobs(vec![canary]))?;
        close_intent(change, self.intent)?;
        let written = change.sql.execute(
            "INSERT INTO keks (id, purpose, tenant, epoch, mechanism, state, canary, canary_sha256, created, created_leaf,
             token) VALUES (?1, ?2, ?3, ?10, ?4, 'active', ?5, ?6, ?7, ?8, ?9)",
            rusqlite::params![
                self.id.to_string(),
                purpose,
                tenant,
                name(self.mechanism)?,
                self.canary,
                self.canary_sha256,
                time::now(),
                to_db(leaf)?,
                self.token.to_string(),
                epoch
            ],
        )?;
        if written == 1 { Ok(()) } else { Err(internal("a key-encryption key was not kept")) }
    }
}

impl NewKek {
    /// The token that holds it.
    pub(super) fn token(&self) -> Uuid {
        self.token
    }

    /// The entry of the intent to make it.
    pub(super) fn intent(&self) -> u64 {
        self.intent
    }
}
