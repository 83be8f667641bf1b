//! Roles, who can have them, and where they hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Approves what cannot be undone, and who has which role.
    SecurityOfficer,
    /// Pools, units, tokens, anchors.
    Administrator,
    /// Labels, loads, retires.
    Operator,
    /// Makes backups of the catalogue, exports packages.
    Backup,
    /// Recovers: drills, restores, imports.
    Recovery,
    /// Reads everything that is no key, exports the custody log.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::SecurityOfficer, Self::Administrator, Self::Operator, Self::Backup, Self::Recovery, Self::Auditor];

    /// The name in leaves, on the command line and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SecurityOfficer => "security_officer",
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::Backup => "backup",
            Self::Recovery => "recovery",
            Self::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |role: &Self| role.name() == text || role.name().replace('_', "-") == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(|r| r.name().replace('_', "-")).collect();
            format!("{text:?} is no role: there are {}", names.join(", "))
        })
    }
}

/// Who can have a role.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Principal {
    /// A user of this machine: `uid:1000`.
    User(u32),
    /// Members of a POSIX group, by its name: `group:tape-operators`.
    Group(String),
    /// A registered person: `person:alice`.
    Person(String),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid:{uid}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Person(name) => write!(f, "person:{name}"),
        }
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.to_string()
    }
}

/// Names of persons and groups: ASCII only, so that no name looks like another one.
pub(crate) fn plain_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_');
    let rest = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'@');
    first && name.len() <= 64 && name.bytes().all(rest)
}

impl TryFrom<String> for Principal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Principal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} names nobody: use uid:NUMBER, group:NAME or person:NAME");
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        let principal = match kind {
            "uid" => Self::User(name.parse().map_err(|_| wrong())?),
            "group" if plain_name(name) => Self::Group(name.to_owned()),
            "person" if plain_name(name) => Self::Person(name.to_owned()),
            _ => return Err(wrong()),
        };
        // One text for one principal: uid:007 is not uid:7.
        if principal.to_string() == text { Ok(principal) } else { Err(wrong()) }
    }
}

/// Where a role holds, or where something is that is asked for. Nothing named is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The tenant; none for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The pool; none for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

impl Scope {
    /// Everything.
    #[must_use]
    pub fn everywhere() -> Self {
        Self::default()
    }

    /// A tenant and all its pools.
    pub fn tenant(name: impl Into<String>) -> Self {
        Self { tenant: Some(name.into()), pool: None }
    }

    /// A pool of a tenant.
    pub fn pool(tenant: impl Into<String>, pool: impl Into<String>) -> Self {
        Self { tenant: Some(tenant.into()), pool: Some(pool.into()) }
    }

    /// Whether a right that holds here holds for all of `target`.
    #[must_use]
    pub fn covers(&self, target: &Self) -> bool {
        let covers = |right: &Option<String>, target: &Option<String>| right.is_none() || right == target;
        covers(&self.tenant, &target.tenant) && covers(&self.pool, &target.pool)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tenant, &self.pool) {
            (None, None) => f.write_str("everywhere"),
            (Some(tenant), None) => write!(f, "tenant {tenant:?}"),
            (Some(tenant), Some(pool)) => write!(f, "pool {pool:?} of tenant {tenant:?}"),
            (None, Some(pool)) => write!(f, "pool {pool:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_for_one_principal() {
        for text in ["uid:0", "uid:4294967295", "group:tape", "person:alice.m@site"] {
            assert_eq!(text.parse::<Principal>().unwrap().to_string(), text);
        }
        for bad in
            ["alice", "uid:", "uid:07", "uid:-1", "uid:4294967296", "group:", "group:a b", "person:алиса", "person:.a"]
        {
            assert!(bad.parse::<Principal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_scope_covers_what_lies_in_it() {
        let (all, tenant, pool) = (Scope::everywhere(), Scope::tenant("a"), Scope::pool("a", "p"));
        for (right, covered) in [
            (&all, [true, true, true]),
            (&tenant, [false, true, true]),
            (&pool, [false, false, true]),
            (&Scope::tenant("b"), [false; 3]),
            (&Scope::pool("a", "q"), [false; 3]),
        ] {
            assert_eq!([&all, &tenant, &pool].map(|target| right.covers(target)), covered, "{right}");
        }
    }

    #[test]
    fn role_names_are_the_wire_s() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
            assert_eq!(role.name().replace('_', "-").parse::<Role>().unwrap(), role);
        }
        assert!("root".parse::<Role>().is_err());
    }
}
