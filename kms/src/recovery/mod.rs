//! The offline recovery key: an age identity (post-quantum hybrid) of which the key authority has the public half only.
//!
//! Made and split on a machine that may be off the net ([`generate`], [`shares`]), installed by its public file
//! ([`PublicHalf`]). From then on every data key is also wrapped to it ([`stanza`]); drills open a canary ([`drill`]).
//! The private half exists in memory only, for the moment of splitting or of use, and is wiped.

pub mod drill;
pub mod shares;
pub mod stanza;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::age::{AgeError, Identity, Kind, Recipient};
use crate::hex::Hex;
use shares::{Share, ShareError};

/// First member of the public file.
pub const PUBLIC_FORMAT: &str = "sealtape-recovery-key-1";
/// Longest name of a tenant that fits a share.
pub const MAX_TENANT: usize = 64;

/// The public half, as the key authority gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicHalf {
    /// [`PUBLIC_FORMAT`].
    pub format: String,
    /// Whose keys it recovers.
    pub tenant: String,
    /// The how manieth recovery key of this tenant, from 1.
    pub epoch: u32,
    /// Names the set of shares.
    pub set: Hex<8>,
    /// Number of shares.
    pub shares: u8,
    /// How many of them it takes.
    pub threshold: u8,
    /// The public key, `age1pq1…`.
    pub recipient: String,
    /// When it was made (RFC 3339, UTC), by the clock of that machine.
    pub created: String,
}

/// The name of a recovery key: a UUID (version 8) from the first 16 bytes of its fingerprint, so that label, catalogue and shares
/// cannot mean different keys by one name.
#[must_use]
pub fn key_id(recipient: &Recipient) -> Uuid {
    let Hex(fingerprint) = recipient.fingerprint();
    let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = fingerprint;
    uuid::Builder::from_custom_bytes(head).into_uuid()
}

impl PublicHalf {
    /// Checks the form, and gives the recipient.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<Recipient, String> {
        if self.format != PUBLIC_FORMAT {
            return Err(format!("its format is {:?}, not {PUBLIC_FORMAT}", self.format));
        }
        check_split(&self.tenant, self.epoch, self.shares, self.threshold)?;
        let recipient: Recipient = self.recipient.parse().map_err(|e: AgeError| e.to_string())?;
        if !recipient.post_quantum() {
            return Err("its recipient is a classic one; a recovery key is post-quantum (age1pq1…)".into());
        }
        Ok(recipient)
    }

    /// SHA-256 of the canonical JSON.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let value = serde_json::to_value(self).ok();
        Sha256::digest(value.and_then(|v| crate::custody::canonical(&v)).unwrap_or_default()).into()
    }
}

fn check_split(tenant: &str, epoch: u32, shares: u8, threshold: u8) -> Result<(), String> {
    if tenant.is_empty() || tenant.len() > MAX_TENANT || tenant.chars().any(char::is_control) {
        return Err(format!("the tenant's name has 1 to {MAX_TENANT} bytes and no control characters"));
    }
    if epoch == 0 {
        return Err("epochs are counted from 1".into());
    }
    if !(2..=shares).contains(&threshold) {
        return Err(format!("of {shares} shares {threshold} cannot be needed: use 2 up to the number of shares"));
    }
    Ok(())
}

/// A new recovery key: its public half and its shares. The private half is gone when this returns.
///
/// # Errors
/// When the numbers make no sense, or the system fails.
pub fn generate(tenant: &str, epoch: u32, shares: u8, threshold: u8) -> Result<(PublicHalf, Vec<Share>), ShareError> {
    check_split(tenant, epoch, shares, threshold).map_err(ShareError::Numbers)?;
    let identity = Identity::generate(Kind::Hybrid)?;
    let recipient = identity.recipient()?;
    let mut set = [0; 8];
    getrandom::fill(&mut set).map_err(|e| AgeError::System(e.to_string()))?;
    let public = PublicHalf {
        format: PUBLIC_FORMAT.into(),
        tenant: tenant.into(),
        epoch,
        set: Hex(set),
        shares,
        threshold,
        recipient: recipient.to_string(),
        created: crate::time::now(),
    };
    let split = shares::split(&identity, &public, &recipient)?;
    Ok((public, split))
}
