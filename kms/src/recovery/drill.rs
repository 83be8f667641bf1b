//! Drills: the key authority makes a canary, encrypted to a recovery key; a machine off the net opens it with the shares and signs
//! a report with the key that stood in it. The key authority has the public half of that key only.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::shares::Recovered;
use crate::age::{self, AgeError, Recipient};
use crate::custody::{base64, canonical};
use crate::hex::{Hex, HexBytes};

/// First member of a canary file.
pub const CANARY_FORMAT: &str = "sealtape-recovery-canary-1";
/// First member of a report.
pub const REPORT_FORMAT: &str = "sealtape-recovery-drill-1";
const DOMAIN: &[u8] = b"sealtape recovery canary 1";
const SIGNED: &[u8] = b"sealtape recovery drill 1\n";

/// Why a canary or a report is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrillError {
    /// Not one.
    #[error("{0}")]
    Form(String),
    /// The shares are of another recovery key.
    #[error("the canary {canary} is for the recovery key {wanted}, the shares are of {has}")]
    OtherKey {
        /// The canary.
        canary: Uuid,
        /// What it is for.
        wanted: Uuid,
        /// What was brought.
        has: Uuid,
    },
    /// The canary did not open, or is not the one that its file says.
    #[error("the canary does not open: {0}")]
    Canary(String),
    /// The report's signature does not verify.
    #[error("the report's signature is not by the key in its canary: it was changed, or nobody opened the canary")]
    Signature,
}

impl From<AgeError> for DrillError {
    fn from(e: AgeError) -> Self {
        Self::Canary(e.to_string())
    }
}

/// A canary, as it goes to the machine off the net.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// [`CANARY_FORMAT`].
    pub format: String,
    /// Its name.
    pub canary: Uuid,
    /// The recovery key.
    pub recovery_key: Uuid,
    /// Its tenant.
    pub tenant: String,
    /// Its epoch.
    pub epoch: u32,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// The age file, in base64.
    pub sealed: String,
}

/// What a drill found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`REPORT_FORMAT`].
    pub format: String,
    /// The canary that was opened.
    pub canary: Uuid,
    /// With this recovery key,
    pub recovery_key: Uuid,
    /// from shares of this set,
    pub set: Hex<8>,
    /// these ones.
    pub shares: Vec<u8>,
    /// When, by the clock of that machine (RFC 3339, UTC).
    pub time: String,
    /// What the people there want to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// By the key in the canary, over all of the above.
    pub signature: HexBytes,
}

/// A new canary, and the public key that verifies its report.
pub(crate) fn canary(
    recipient: &Recipient,
    recovery_key: Uuid,
    tenant: &str,
    epoch: u32,
) -> Result<(Canary, [u8; 32]), AgeError> {
    let name = Uuid::new_v4();
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|e| AgeError::System(e.to_string()))?;
    let public = *SigningKey::from_bytes(&seed).verifying_key().as_bytes();
    let plain = Zeroizing::new([DOMAIN, name.as_bytes(), seed.as_slice()].concat());
    let canary = Canary {
        format: CANARY_FORMAT.into(),
        canary: name,
        recovery_key,
        tenant: tenant.into(),
        epoch,
        created: crate::time::now(),
        sealed: base64::encode(&age::seal(recipient, &plain)?),
    };
    Ok((canary, public))
}

fn text(report: &Report) -> Result<Vec<u8>, DrillError> {
    let unreadable = || DrillError::Form("the report cannot be written as JSON".into());
    let mut value = serde_json::to_value(report).map_err(|_| unreadable())?;
    if let Some(members) = value.as_object_mut() {
        members.remove("signature");
    }
    Ok([SIGNED, canonical(&value).ok_or_else(unreadable)?.as_bytes()].concat())
}

/// Opens a canary with a recovered key, and signs the report.
///
/// # Errors
/// [`DrillError`]
pub fn run(canary: &Canary, recovered: &Recovered, note: &str) -> Result<Report, DrillError> {
    if canary.format != CANARY_FORMAT {
        return Err(DrillError::Form(format!("its format is {:?}, not {CANARY_FORMAT}", canary.format)));
    }
    if canary.recovery_key != recovered.key {
        return Err(DrillError::OtherKey { canary: canary.canary, wanted: canary.recovery_key, has: recovered.key });
    }
    let file = base64::decode(&canary.sealed).ok_or_else(|| DrillError::Form("the canary is no base64".into()))?;
    let plain = age::open(&file, &recovered.identity)?;
    let named = [DOMAIN, canary.canary.as_bytes()].concat();
    let seed = plain.strip_prefix(named.as_slice()).and_then(|s| <&[u8; 32]>::try_from(s).ok());
    let seed = seed.ok_or_else(|| DrillError::Canary("it is not the one that its file says".into()))?;
    let mut report = Report {
        format: REPORT_FORMAT.into(),
        canary: canary.canary,
        recovery_key: recovered.key,
        set: recovered.set,
        shares: recovered.used.clone(),
        time: crate::time::now(),
        note: note.into(),
        signature: HexBytes(Vec::new()),
    };
    report.signature = HexBytes(SigningKey::from_bytes(seed).sign(&text(&report)?).to_bytes().to_vec());
    Ok(report)
}

/// Verifies a report by the public key of its canary.
pub(crate) fn verify(report: &Report, public: &[u8; 32]) -> Result<(), DrillError> {
    if report.format != REPORT_FORMAT {
        return Err(DrillError::Form(format!("its format is {:?}, not {REPORT_FORMAT}", report.format)));
    }
    let key = VerifyingKey::from_bytes(public).map_err(|_| DrillError::Signature)?;
    let signature = Signature::from_slice(&report.signature.0).map_err(|_| DrillError::Signature)?;
    key.verify_strict(&text(report)?, &signature).map_err(|_| DrillError::Signature)
}

#[cfg(test)]
mod tests {
    use super::super::{generate, key_id, shares::combine};
    use super::*;

    #[test]
    fn a_report_proves_that_the_canary_was_opened() {
        let (public, shares) = generate("default", 1, 3, 2).unwrap();
        let recipient = public.check().unwrap();
        let recovered = combine(&shares[1..], None).unwrap();
        let (canary, key) = canary(&recipient, key_id(&recipient), "default", 1).unwrap();
        let report = run(&canary, &recovered, "in the vault").unwrap();
        verify(&report, &key).unwrap();
        assert_eq!(report.shares, [2, 3]);
        assert_eq!(verify(&Report { note: "elsewhere".into(), ..report.clone() }, &key), Err(DrillError::Signature));
        assert_eq!(verify(&Report { shares: vec![1, 2], ..report.clone() }, &key), Err(DrillError::Signature));
        assert_eq!(verify(&report, &[1; 32]), Err(DrillError::Signature));
        let renamed = Canary { canary: Uuid::from_u128(1), ..canary.clone() };
        assert!(matches!(run(&renamed, &recovered, ""), Err(DrillError::Canary(_))));
        let other = combine(&generate("default", 1, 2, 2).unwrap().1, None).unwrap();
        assert!(matches!(run(&canary, &other, ""), Err(DrillError::OtherKey { .. })));
    }
}
