//! Leaves of the custody log: canonical JSON.
//!
//! Canonical means: an object, no white space, members sorted by name (in all nested objects too), strings escaped as
//! little as JSON allows, numbers are integers without exponent, members that do not apply are left out.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::op;
use crate::hex::Hex;
use crate::time;

/// Longest leaf in bytes.
pub const MAX_LEAF: usize = 8192;

/// How an operation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// About to be done in the token.
    Intent,
    /// Done.
    Done,
    /// Refused by a rule.
    Refused,
    /// Tried and failed.
    Failed,
    /// Begun, and not known how it ended: the service stopped in between.
    Interrupted,
}

/// A wrapped copy of a key, by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The key-encryption key.
    pub kek: Uuid,
    /// SHA-256 of the wrapped key.
    pub sha256: Hex<32>,
}

/// A custodian's signature over a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Fingerprint of the custodian's key (`SHA256:…`).
    pub key: String,
    /// The person, pseudonymous.
    pub person: String,
    /// The signature as it came, in base64.
    pub signature: String,
}

/// A new signing key of the log, vouched for by the old one and by itself. What both sign is [`KeyChange::statement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The new verifier key.
    pub new: String,
    /// Signature of the new key, in base64, in the form that a note's signature has.
    pub new_signature: String,
    /// The verifier key until now.
    pub old: String,
    /// Signature of the old key.
    pub old_signature: String,
}

/// A leaf. The fields stand in the order of their names, which makes the JSON canonical.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// Pseudonym of who did it.
    pub actor: String,
    /// Signatures of custodians over the canonical request that this carries out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// How it was known who it was: `peer` (credentials of a local socket), `policy`, `service`, `custodian`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<String>,
    /// Wrapped copies made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Blob>,
    /// SHA-256 of the canonical record that this makes or changes: of a request, a person, a policy, a certificate, a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Hex<32>>,
    /// Generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Data key or key-encryption key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Uuid>,
    /// A change of the log's signing key (`log.key`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_key: Option<KeyChange>,
    /// What was done.
    pub op: String,
    /// How it went.
    pub outcome: Outcome,
    /// Partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u8>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The role that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// 128 random bits, so that a leaf's hash tells nothing of its content.
    pub salt: Hex<16>,
    /// Index in the tree.
    pub seq: u64,
    /// The tenant that it concerns, by its opaque id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Uuid>,
    /// Root of the tenant's tree (`tenant.root`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_root: Option<Hex<32>>,
    /// Index in the tenant's tree; every leaf with this member is a leaf of that tree too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_seq: Option<u64>,
    /// Number of leaves of the tenant's tree (`tenant.root`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_size: Option<u64>,
    /// When.
    pub time: String,
    /// Unit (drive).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Uuid>,
}

/// Names of the members above: in a leaf they have the type and form given here, others are left to later versions.
pub(crate) const MEMBERS: [&str; 22] = [
    "actor",
    "approvals",
    "authentication",
    "blobs",
    "digest",
    "generation",
    "key",
    "log_key",
    "op",
    "outcome",
    "partition",
    "reason",
    "role",
    "salt",
    "seq",
    "tenant",
    "tenant_root",
    "tenant_seq",
    "tenant_size",
    "time",
    "unit",
    "volume",
];

/// JSON in canonical form; none if there is a number that is no integer.
#[must_use]
pub fn canonical(value: &Value) -> Option<String> {
    let text = |s: &str| serde_json::to_string(s).ok();
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let members: Option<Vec<String>> = names
                .into_iter()
                .map(|name| Some(format!("{}:{}", text(name)?, canonical(members.get(name)?)?)))
                .collect();
            Some(format!("{{{}}}", members?.join(",")))
        }
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(canonical).collect();
            Some(format!("[{}]", items?.join(",")))
        }
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        Value::Number(_) => None,
        Value::String(s) => text(s),
        Value::Bool(_) | Value::Null => Some(value.to_string()),
    }
}

/// A value without a canonical form: it holds a number that is no integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it holds a number that is no integer, so it has no canonical form")]
pub struct NotCanonical;

/// SHA-256 of a value's canonical JSON.
///
/// # Errors
/// [`NotCanonical`]
pub fn canonical_digest(value: &impl Serialize) -> Result<[u8; 32], NotCanonical> {
    let text = serde_json::to_value(value).ok().and_then(|value| canonical(&value)).ok_or(NotCanonical)?;
    Ok(Sha256::digest(text).into())
}

impl Leaf {
    /// Reads a leaf and checks its form.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(line: &str) -> Result<Self, String> {
        if line.len() > MAX_LEAF {
            return Err(format!("longer than {MAX_LEAF} bytes"));
        }
        let value: Value = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))?;
        if canonical(&value).as_deref() != Some(line) {
            return Err("not in canonical form".into());
        }
        let leaf: Self = Self::deserialize(&value).map_err(|e| format!("not a leaf: {e}"))?;
        if !time::well_formed(&leaf.time) {
            return Err("its time is malformed".into());
        }
        // One form for one value: no null, no empty list, no UUID or number written otherwise.
        let again = serde_json::to_value(&leaf).map_err(|e| format!("not a leaf: {e}"))?;
        if let Some(name) = MEMBERS.into_iter().find(|name| value.get(name) != again.get(name)) {
            return Err(format!("not a leaf: its member {name} is malformed"));
        }
        match (leaf.tenant, leaf.tenant_seq, leaf.tenant_root, leaf.tenant_size) {
            (None, None, None, None) | (Some(_), Some(_), None, None) => {}
            (Some(_), None, Some(_), Some(_)) if leaf.op == op::TENANT_ROOT => {}
            _ => return Err("not a leaf: its members about a tenant do not go together".into()),
        }
        if leaf.log_key.is_some() != (leaf.op == op::LOG_KEY && leaf.outcome == Outcome::Done) {
            return Err("not a leaf: log_key stands in entries of a new signing key, and only there".into());
        }
        Ok(leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_struct_serialises_canonically() {
        let leaf = Leaf {
            actor: "a".into(),
            approvals: vec![Approval { key: "SHA256:x".into(), person: "p".into(), signature: "AA==".into() }],
            authentication: Some("peer".into()),
            blobs: vec![Blob { kek: Uuid::nil(), sha256: Hex([1; 32]) }],
            digest: Some(Hex([3; 32])),
            generation: Some(3),
            key: Some(Uuid::nil()),
            log_key: None,
            op: op::KEY_CREATE.into(),
            outcome: Outcome::Done,
            partition: Some(0),
            reason: Some("\"ü\"\n".into()),
            role: Some("operator".into()),
            salt: Hex([2; 16]),
            seq: 4,
            tenant: Some(Uuid::nil()),
            tenant_root: None,
            tenant_seq: Some(2),
            tenant_size: None,
            time: "2026-11-21T22:30:01.000Z".into(),
            unit: Some("drive0".into()),
            volume: Some(Uuid::nil()),
        };
        let text = serde_json::to_string(&leaf).unwrap();
        assert_eq!(Leaf::parse(&text).unwrap(), leaf);
        for bad in [
            text.replace("{\"actor\"", "{ \"actor\""),
            text.replace("\"seq\":4", "\"seq\":4.0"),
            text.replace("\"seq\":4", "\"seq\":4,\"seq\":4"),
            text.replace("ü", "\\u00fc"),
            text.replace("22:30:01.000Z", "22:30:01Z"),
            text.replace("\"unit\":\"drive0\"", "\"unit\":null"),
            text.replace("00000000-0000-0000-0000-000000000000", "00000000000000000000000000000000"),
            text.replace("\"tenant_seq\":2,", ""),
            text.replace("\"tenant_seq\":2,", "\"tenant_seq\":2,\"tenant_size\":2,"),
            text.replace("\"generation\":3", "\"generation\":-3"),
            text.replace("\"partition\":0", "\"partition\":256"),
            format!("{text} "),
        ] {
            assert!(Leaf::parse(&bad).is_err(), "{bad}");
        }
        // A member that a later version adds is kept and accepted.
        assert!(Leaf::parse(&text.replace("\"actor\"", "\"aa\":1,\"actor\"")).is_ok());
    }
}
