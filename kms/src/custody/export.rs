//! Exports of the log, as their writer and their verifier see them (`docs/custody/custody-log.md`, "Export").

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::base64;
use super::csv::Columns;
use super::leaf::Outcome;
use super::tree::Hash;

/// The value of `format` in the first line.
pub const FORMAT: &str = "sealtape custody export 1";

/// What an export claims to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every leaf of the log: complete.
    Full,
    /// Every leaf of one tenant: complete for the tenant.
    Tenant,
    /// Some leaves: each is proven, that there are no others is not.
    Selection,
}

/// Which leaves are wanted; all that is given has to apply. In the header of an export it tells what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafFilter {
    /// Pseudonym of the actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// First sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Uuid>,
    /// Last sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// Outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Earliest time, a prefix of `YYYY-MM-DDThh:mm:ss.mmmZ`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Uuid>,
    /// Unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Before this time, a prefix too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Uuid>,
}

/// First line of an export. The fields stand in the order of their names, which makes the JSON canonical.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportHeader {
    /// What was asked for; in a selection only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Map<String, Value>>,
    /// [`FORMAT`].
    pub format: String,
    /// The verifier keys, from the first to the one that signed the last checkpoint. The key that the verifier was given has to be
    /// among them.
    pub keys: Vec<String>,
    /// The log's origin.
    pub origin: String,
    /// What the export claims to hold.
    pub scope: Scope,
    /// Number of leaves of the log under the last checkpoint.
    pub size: u64,
    /// The tenant; in an export of one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Uuid>,
}

/// A checkpoint line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointLine {
    /// The signed note.
    pub checkpoint: String,
}

/// What a leaf with an inclusion proof is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvenAs {
    /// To be read.
    Leaf,
    /// For the change of the signing key in it.
    KeyLeaf,
    /// For the root of the tenant's tree in it.
    RootLeaf,
}

impl ProvenAs {
    /// The member that holds the leaf.
    pub(super) fn member(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::KeyLeaf => "key_leaf",
            Self::RootLeaf => "root_leaf",
        }
    }
}

/// A line with a leaf and its inclusion proof. The leaf is in canonical form, so the line is.
pub(crate) fn proven_line(what: ProvenAs, leaf: &str, path: &[Hash]) -> String {
    let path: Vec<String> = path.iter().map(|hash| format!("\"{}\"", base64::encode(hash))).collect();
    let (leaf, path) = (format!("\"{}\":{leaf}", what.member()), format!("\"proof\":[{}]", path.join(",")));
    match what {
        ProvenAs::RootLeaf => format!("{{{path},{leaf}}}"),
        ProvenAs::Leaf | ProvenAs::KeyLeaf => format!("{{{leaf},{path}}}"),
    }
}

/// The last line of an export with proofs: how many leaves it holds.
pub(crate) fn end_line(leaves: u64) -> String {
    format!("{{\"end\":{leaves}}}")
}

/// A line of an export, by its form alone.
#[derive(Debug)]
pub(super) enum ExportLine {
    Checkpoint(String),
    Proven {
        what: ProvenAs,
        leaf: Value,
        proof: Vec<Hash>,
    },
    End(u64),
    /// Anything else: the first line, and leaves as they stand in the log.
    Other,
}

impl ExportLine {
    /// Takes a JSON value apart by its members. What has other members is `Other`.
    pub(super) fn of(value: Value) -> Result<Self, String> {
        let Value::Object(members) = &value else { return Ok(Self::Other) };
        let has = |names: &[&str]| members.len() == names.len() && names.iter().all(|n| members.contains_key(*n));
        if has(&["checkpoint"]) {
            let note = members.get("checkpoint").and_then(Value::as_str);
            return note.map(|n| Self::Checkpoint(n.to_owned())).ok_or_else(|| "the checkpoint is no text".into());
        }
        if has(&["end"]) {
            return members.get("end").and_then(Value::as_u64).map(Self::End).ok_or_else(|| "no number".into());
        }
        for what in [ProvenAs::Leaf, ProvenAs::KeyLeaf, ProvenAs::RootLeaf] {
            if has(&[what.member(), "proof"]) {
                let hash = |v: &Value| base64::decode(v.as_str()?)?.try_into().ok();
                let proof = members.get("proof").and_then(Value::as_array);
                let proof: Option<Vec<Hash>> = proof.and_then(|p| p.iter().map(hash).collect());
                let leaf = members.get(what.member()).cloned().unwrap_or_default();
                let proof = proof.ok_or_else(|| "the proof is no list of hashes in base64".to_owned())?;
                return Ok(Self::Proven { what, leaf, proof });
            }
        }
        Ok(Self::Other)
    }

    /// What the CSV form calls it, and the leaf that its columns show.
    pub(super) fn columns(value: &Value, first: bool) -> Columns<'_> {
        let kind = |name: &'static str| Columns { kind: name, leaf: None };
        let Value::Object(members) = value else { return kind("other") };
        if first {
            return kind("header");
        }
        for name in ["checkpoint", "end"] {
            if members.len() == 1 && members.contains_key(name) {
                return kind(name);
            }
        }
        for what in [ProvenAs::Leaf, ProvenAs::KeyLeaf, ProvenAs::RootLeaf] {
            if members.len() == 2 && members.contains_key("proof") && members.contains_key(what.member()) {
                return Columns { kind: what.member(), leaf: members.get(what.member()) };
            }
        }
        Columns { kind: "leaf", leaf: Some(value) }
    }
}
