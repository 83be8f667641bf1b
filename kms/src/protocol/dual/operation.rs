//! What needs the approval of several persons.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::role::{Principal, Role};
use crate::hex::Hex;

/// What was disclosed, or is feared to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compromised {
    /// A data key.
    Key(Uuid),
    /// A key-encryption key, and so all data keys that it ever wrapped.
    Kek(Uuid),
}

/// An operation under dual control, with all its parameters: what custodians sign. Names are never reused with another meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Registers a person.
    PersonAdd {
        /// The name.
        name: String,
        /// Public keys in OpenSSH's form.
        keys: Vec<String>,
    },
    /// Removes a person, with all grants.
    PersonRemove {
        /// The name.
        name: String,
    },
    /// Replaces a person's keys.
    PersonKeys {
        /// The name.
        name: String,
        /// All keys from now on.
        keys: Vec<String>,
    },
    /// Gives a role.
    Grant {
        /// The role.
        role: Role,
        /// To whom.
        principal: Principal,
        /// Tenant where it holds; none for all.
        tenant: Option<String>,
        /// Pool where it holds; none for all.
        pool: Option<String>,
    },
    /// Takes a role back.
    Revoke {
        /// The role.
        role: Role,
        /// From whom.
        principal: Principal,
        /// Tenant, as it was granted.
        tenant: Option<String>,
        /// Pool, as it was granted.
        pool: Option<String>,
    },
    /// Destroys all keys of volumes.
    VolumeShred {
        /// The volumes.
        volumes: Vec<Uuid>,
    },
    /// Destroys data keys.
    KeyDestroy {
        /// The keys.
        keys: Vec<Uuid>,
    },
    /// Destroys a key-encryption key in the token.
    KekDestroy {
        /// The key.
        kek: Uuid,
    },
    /// Marks a key as compromised.
    KeyCompromise {
        /// Which.
        what: Compromised,
    },
    /// Lets the keys of volumes open for longer than was laid down when they were made.
    KeyExtend {
        /// The volumes: the keys of their generations that stand on the medium.
        volumes: Vec<Uuid>,
        /// Until when they open (RFC 3339, UTC).
        open_until: String,
    },
    /// Lets a volume whose key is compromised be read for a while, to save what is on it.
    VolumeRescue {
        /// The volume.
        volume: Uuid,
        /// For how many hours.
        hours: u32,
    },
    /// Makes the recovery key of a tenant's next epoch.
    RecoveryKeyCreate {
        /// The tenant.
        tenant: String,
        /// The epoch.
        epoch: u32,
        /// SHA-256 of the public key's text: what the shares give has to be this one.
        fingerprint: Hex<32>,
        /// How many shares it takes,
        threshold: u8,
        /// of how many.
        shares: u8,
    },
    /// Takes a recovery key out of use.
    RecoveryKeyRetire {
        /// The key.
        key: Uuid,
    },
    /// Gives keys of volumes to a partner.
    KeyExport {
        /// The partner, by name.
        partner: String,
        /// The partner's recipient, as age writes it.
        recipient: String,
        /// The volumes.
        volumes: Vec<Uuid>,
        /// Until when the package may be imported, and its keys used (RFC 3339, UTC).
        expires: String,
        /// Whether the volumes' labels and barcodes go along.
        labels: bool,
    },
    /// Lifts the alarm of an anchor that knew another history of the custody log.
    AnchorLift {
        /// The anchor.
        anchor: String,
        /// The witness's key, or the file.
        subject: String,
        /// SHA-256 of the alarm: a later one of the same anchor is another.
        alarm: Hex<32>,
    },
}

/// Text from elsewhere, in quotes: control characters and those that turn the direction of writing or cannot be seen are escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\'' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out.push('"');
    out
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Operation {
    /// In words, for people who decide about it.
    #[must_use]
    pub fn words(&self) -> String {
        let scope = |tenant: &Option<String>, pool: &Option<String>| {
            let mut words = String::new();
            match (tenant, pool) {
                (None, None) => words.push_str("everywhere"),
                (tenant, pool) => {
                    words.push_str("for ");
                    if let Some(pool) = pool {
                        let _ = write!(words, "pool {} of ", quoted(pool));
                    }
                    match tenant {
                        Some(tenant) => {
                            let _ = write!(words, "tenant {}", quoted(tenant));
                        }
                        None => words.push_str("any tenant"),
                    }
                }
            }
            words
        };
        match self {
            Self::PersonAdd { name, keys } => {
                format!("register the person {} with {} key(s)", quoted(name), keys.len())
            }
            Self::PersonRemove { name } => format!("remove the person {} and all their roles", quoted(name)),
            Self::PersonKeys { name, keys } => {
                format!("replace the keys of the person {} by {} key(s)", quoted(name), keys.len())
            }
            Self::Grant { role, principal, tenant, pool } => {
                format!("give {} the role {role} {}", quoted(&principal.to_string()), scope(tenant, pool))
            }
            Self::Revoke { role, principal, tenant, pool } => {
                format!("take the role {role} {} from {}", scope(tenant, pool), quoted(&principal.to_string()))
            }
            Self::VolumeShred { volumes } => {
                format!("DESTROY ALL KEYS of {} volume(s): {}", volumes.len(), list(volumes))
            }
            Self::KeyDestroy { keys } => format!("DESTROY {} data key(s): {}", keys.len(), list(keys)),
            Self::KekDestroy { kek } => format!("DESTROY the key-encryption key {kek} in the token"),
            Self::KeyCompromise { what: Compromised::Key(key) } => format!("mark the data key {key} as compromised"),
            Self::KeyCompromise { what: Compromised::Kek(kek) } => {
                format!("mark the key-encryption key {kek}, and all keys under it, as compromised")
            }
            Self::KeyExtend { volumes, open_until } => {
                format!(
                    "let the keys of {} volume(s) open until {}: {}",
                    volumes.len(),
                    quoted(open_until),
                    list(volumes)
                )
            }
            Self::VolumeRescue { volume, hours } => {
                format!("let volume {volume}, whose key is compromised, be read for {hours} hour(s)")
            }
            Self::RecoveryKeyCreate { tenant, epoch, fingerprint, threshold, shares } => format!(
                "wrap all data keys of tenant {} to the recovery key of epoch {epoch}, {threshold} of {shares} shares, whose \
                 public half has the SHA-256 {fingerprint}",
                quoted(tenant)
            ),
            Self::RecoveryKeyRetire { key } => format!("take the recovery key {key} out of use"),
            Self::KeyExport { partner, recipient, volumes, expires, labels } => format!(
                "give the keys {}of {} volume(s) to {} ({}), until {}: {}",
                if *labels { "and labels " } else { "" },
                volumes.len(),
                quoted(partner),
                quoted(recipient),
                quoted(expires),
                list(volumes)
            ),
            Self::AnchorLift { anchor, subject, alarm } => format!(
                "release keys again although anchor {} ({}) knew another history of the custody log: lift the alarm {alarm}",
                quoted(anchor),
                quoted(subject)
            ),
        }
    }

    /// Whether it changes persons, keys or roles.
    #[must_use]
    pub fn changes_rights(&self) -> bool {
        matches!(
            self,
            Self::PersonAdd { .. }
                | Self::PersonRemove { .. }
                | Self::PersonKeys { .. }
                | Self::Grant { .. }
                | Self::Revoke { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let shown = quoted("A\"B\\\u{202e}C\u{200b}\u{2066}\u{7}é'");
        assert_eq!(shown, "\"A\\\"B\\\\\\u{202e}C\\u{200b}\\u{2066}\\u{7}é'\"");
        let grant = Operation::Grant {
            role: Role::Operator,
            principal: "group:tape".parse().unwrap(),
            tenant: Some("default".into()),
            pool: Some("a\u{202e}b".into()),
        };
        assert_eq!(grant.words(), r#"give "group:tape" the role operator for pool "a\u{202e}b" of tenant "default""#);
    }

    #[test]
    fn the_wire_is_strict() {
        let text = r#"{"do":"kek_destroy","kek":"00000000-0000-0000-0000-000000000000"}"#;
        let operation: Operation = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&operation).unwrap(), text);
        // Nobody can approve what nothing carries out.
        let policy = r#"{"do":"set_policy","policy":"suite","tenant":null,"pool":null,"value":"1"}"#;
        for bad in [text.replace("kek_destroy", "kek_keep"), text.replace("}", ",\"force\":true}"), policy.into()] {
            assert!(serde_json::from_str::<Operation>(&bad).is_err(), "{bad}");
        }
    }
}
