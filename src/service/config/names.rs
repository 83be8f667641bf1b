//! Values of the configuration that parse into something valid, or not at all.

use std::fmt;

use nix::unistd::{Gid, Uid};
use serde::Deserialize;

/// A name of 1 to 32 lower-case letters, digits, `-` and `_`, beginning with a letter or digit.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    match name.len() <= 32 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits) {
        true => Ok(()),
        false => Err(format!(
            "\"{name}\" is no {what} name: write 1 to 32 lower-case letters, digits, '-' and '_', beginning with a letter or digit"
        )),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(name: String) -> Result<Self, String> {
                check_name($what, &name)?;
                Ok(Self(name))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a drive.
    DriveName,
    "drive"
);
name!(
    /// The name of a pool.
    PoolName,
    "pool"
);

/// A token, as an RFC 7512 URI with nothing but path attributes: a PIN in it is refused.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenUri(String);

impl TokenUri {
    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TokenUri {
    type Error = String;

    fn try_from(uri: String) -> Result<Self, String> {
        let Some(attributes) = uri.strip_prefix("pkcs11:") else {
            return Err("a token is named by an RFC 7512 URI such as \"pkcs11:token=sealtape\"".to_owned());
        };
        // The text may hold a PIN: it is not repeated.
        if attributes.contains('?') || attributes.to_ascii_lowercase().contains("pin-") {
            return Err(
                "the token URI has a query part or a PIN attribute (pin-value, pin-source, …); take it out, and name the PIN's source with the key pin".to_owned()
            );
        }
        if !attributes.split(';').all(|pair| pair.split_once('=').is_some_and(|(k, v)| !k.is_empty() && !v.is_empty()))
        {
            return Err(format!("\"{uri}\" is no token URI: attributes are NAME=VALUE, separated by ';'"));
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user or group as it stands in the file: a name or a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a name or a number")]
enum Account {
    Number(u32),
    Name(String),
}

/// A user, by name or number in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Account")]
pub struct User(pub Uid);

impl TryFrom<Account> for User {
    type Error = String;

    fn try_from(account: Account) -> Result<Self, String> {
        match account {
            Account::Number(number) => Ok(Self(Uid::from_raw(number))),
            Account::Name(name) => match nix::unistd::User::from_name(&name) {
                Ok(Some(user)) => Ok(Self(user.uid)),
                Ok(None) => Err(format!("this machine knows no user \"{name}\"; create it, or write a number")),
                Err(errno) => Err(format!("the user \"{name}\" cannot be looked up: {errno}")),
            },
        }
    }
}

/// A group, by name or number in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Account")]
pub struct Group(pub Gid);

impl TryFrom<Account> for Group {
    type Error = String;

    fn try_from(account: Account) -> Result<Self, String> {
        match account {
            Account::Number(number) => Ok(Self(Gid::from_raw(number))),
            Account::Name(name) => match nix::unistd::Group::from_name(&name) {
                Ok(Some(group)) => Ok(Self(group.gid)),
                Ok(None) => Err(format!("this machine knows no group \"{name}\"; create it, or write a number")),
                Err(errno) => Err(format!("the group \"{name}\" cannot be looked up: {errno}")),
            },
        }
    }
}

/// Permissions of a node, in octal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeMode(u16);

impl NodeMode {
    /// `0660`.
    pub const OWNER_AND_GROUP: Self = Self(0o660);

    /// The permission bits.
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl TryFrom<String> for NodeMode {
    type Error = String;

    fn try_from(mode: String) -> Result<Self, String> {
        match u16::from_str_radix(&mode, 8) {
            Ok(bits) if bits & !0o666 == 0 && bits & 0o600 == 0o600 => Ok(Self(bits)),
            Ok(_) | Err(_) => Err(format!(
                "\"{mode}\" are no permissions for a node: write read and write bits in octal as text, such as \"0660\", the owner's both set"
            )),
        }
    }
}
