//! The canonical request: what a custodian signs (`docs/custody/dual-control.md`).

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::operation::{Operation, quoted};
use super::role::Scope;
use crate::custody::canonical;
use crate::hex::Hex;

/// Value of `format`.
pub const REQUEST_FORMAT: &str = "sealtape approval request 1";
/// Longest request in bytes: it crosses the control socket together with its signature.
pub const MAX_REQUEST_TEXT: usize = 48 * 1024;

/// Something that the operation concerns, as it was when the request was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The barcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barcode: Option<String>,
    /// Which one.
    pub id: String,
    /// How many data keys it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// What it is: `volume`, `key`, `kek`, `person`, `grant`, ….
    pub kind: String,
    /// The operator's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Its state, or for a person what is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl Target {
    /// A target that is known by its kind, its name and its state.
    pub fn new(kind: impl Into<String>, id: impl Into<String>, state: impl Into<String>) -> Self {
        Self {
            barcode: None,
            id: id.into(),
            keys: None,
            kind: kind.into(),
            label: None,
            pool: None,
            state: Some(state.into()),
        }
    }

    fn words(&self) -> String {
        let mut words = format!("{} {}", quoted(&self.kind), quoted(&self.id));
        let texts = [("label", &self.label), ("barcode", &self.barcode), ("pool", &self.pool), ("state", &self.state)];
        for (name, text) in texts {
            if let Some(text) = text {
                let _ = write!(words, ", {name} {}", quoted(text));
            }
        }
        if let Some(keys) = self.keys {
            let _ = write!(words, ", {keys} data key(s)");
        }
        words
    }
}

/// A request as it is signed. The members stand in the order of their names, which makes the JSON canonical.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// Until when it can be carried out.
    pub expires: String,
    /// [`REQUEST_FORMAT`].
    pub format: String,
    /// Random.
    pub nonce: Hex<16>,
    /// What is to be done.
    pub operation: Operation,
    /// Origin of the custody log of the installation that is meant.
    pub origin: String,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its id.
    pub request: Uuid,
    /// Who asked.
    pub requester: String,
    /// Where the operation's targets lie: a custodian needs a right that covers each of them.
    pub scopes: Vec<Scope>,
    /// SHA-256 of the state of the targets: the request can be carried out only while they are in it.
    pub state: Hex<32>,
    /// The targets, for people.
    pub targets: Vec<Target>,
}

fn no_control_characters(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(format!("{} holds the control character U+{:04X}", quoted(text), u32::from(c))),
            None => Ok(()),
        },
        Value::Array(items) => items.iter().try_for_each(no_control_characters),
        Value::Object(members) => members.values().try_for_each(no_control_characters),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

impl ApprovalRequest {
    /// The bytes to sign: canonical JSON, without a newline at the end.
    ///
    /// # Errors
    /// In words: a control character, or too long.
    pub fn text(&self) -> Result<String, String> {
        let value = serde_json::to_value(self).map_err(|e| e.to_string())?;
        no_control_characters(&value)?;
        let text = canonical(&value).ok_or("a number is no integer")?;
        if text.len() > MAX_REQUEST_TEXT {
            return Err(format!(
                "it would be {} bytes long; {MAX_REQUEST_TEXT} are the limit: ask for less at once",
                text.len()
            ));
        }
        Ok(text)
    }

    /// Reads a request, and only exactly what [`ApprovalRequest::text`] writes.
    ///
    /// # Errors
    /// In words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_REQUEST_TEXT {
            return Err(format!("longer than {MAX_REQUEST_TEXT} bytes"));
        }
        let request: Self = serde_json::from_str(text).map_err(|e| format!("no approval request: {e}"))?;
        if request.format != REQUEST_FORMAT {
            return Err(format!("its format is {}, not {REQUEST_FORMAT:?}", quoted(&request.format)));
        }
        if request.text()? != text {
            return Err("not in canonical form: it was changed".into());
        }
        Ok(request)
    }

    /// SHA-256 of a request's bytes, by which the custody log names it.
    #[must_use]
    pub fn digest(text: &str) -> Hex<32> {
        Hex(Sha256::digest(text.as_bytes()).into())
    }

    /// What one signs, in words, line by line. Whatever cannot be seen is escaped.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = format!("to:         {}\n", self.operation.words());
        match &self.operation {
            Operation::PersonAdd { keys, .. } | Operation::PersonKeys { keys, .. } => {
                for key in keys {
                    let _ = writeln!(text, "key:        {}", quoted(key));
                }
            }
            _ => {}
        }
        for target in &self.targets {
            let _ = writeln!(text, "target:     {}", target.words());
        }
        if let Some(reason) = &self.reason {
            let _ = writeln!(text, "reason:     {}", quoted(reason));
        }
        let rows = [
            ("asked by", quoted(&self.requester)),
            ("created", quoted(&self.created)),
            ("expires", quoted(&self.expires)),
            ("request", self.request.to_string()),
            ("of", quoted(&self.origin)),
        ];
        for (name, value) in rows {
            let _ = writeln!(text, "{:<12}{value}", format!("{name}:"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(label: &str) -> ApprovalRequest {
        ApprovalRequest {
            created: "2026-11-22T00:00:00.000Z".into(),
            expires: "2026-11-29T00:00:00.000Z".into(),
            format: REQUEST_FORMAT.into(),
            nonce: Hex([1; 16]),
            operation: Operation::VolumeShred { volumes: vec![Uuid::nil()] },
            origin: "sealtape/x".into(),
            reason: Some("old".into()),
            request: Uuid::nil(),
            requester: "uid:0".into(),
            scopes: vec![Scope::pool("default", "a")],
            state: Hex([2; 32]),
            targets: vec![Target { label: Some(label.into()), keys: Some(3), ..Target::new("volume", "x", "active") }],
        }
    }

    #[test]
    fn one_text_for_one_request_whatever_stands_in_it() {
        for label in ["A", "a \"quoted\" \\ one", "Bänder", "\u{202e}evil\u{202c}", "\u{1f4fc}", "{\"x\":1}", ""] {
            let request = request(label);
            let text = request.text().unwrap();
            assert_eq!(ApprovalRequest::parse(&text).unwrap(), request, "{label:?}");
            assert!(!text.contains('\n') && text.starts_with("{\"created\":"));
            let explained = request.explain();
            assert!(explained.chars().all(|c| c == '\n' || !c.is_control()) && !explained.contains('\u{202e}'));
        }
        assert!(request("\u{202e}evil").explain().contains("\\u{202e}evil"));
        for control in ["\u{0}", "a\nb", "\u{1b}[31m", "\u{7f}", "\u{9b}"] {
            assert!(request(control).text().unwrap_err().contains("control character"), "{control:?}");
        }
    }

    #[test]
    fn another_form_is_refused() {
        let text = request("A \"b\"").text().unwrap();
        let edits = [
            format!("{text}\n"),
            format!(" {text}"),
            text.replace("\"keys\":3", "\"keys\":3.0"),
            text.replace("\"keys\":3", "\"keys\":3,\"keys\":3"),
            text.replace("\"old\"", "\"\\u006fld\""),
            text.replace("\"nonce\"", "\"nonse\""),
            text.replace("request 1", "request 2"),
            text.replace("{\"created\"", "{\"admin\":true,\"created\""),
            text.replace("volume_shred", "volume_keep"),
            text[..text.len() - 1].to_owned(),
            String::new(),
        ];
        for bad in edits {
            assert_ne!(bad, text);
            assert!(ApprovalRequest::parse(&bad).is_err(), "{bad}");
        }
    }
}
