//! Giving keys to partners and taking theirs: requests and replies.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dual::RequestView;
use crate::exchange::Package;
use crate::hex::Hex;

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum ExchangeRequest {
    /// Asks custodians to approve that keys are given to a partner.
    Ask(PartnerOrder),
    /// Makes the package of an approved request.
    Export {
        /// The request.
        request: Uuid,
    },
    /// Takes a partner's package in. The identity's 32 bytes follow the request in the frame's secret area.
    Import {
        /// The package.
        package: Box<Package>,
        /// The key of the site that made it, as that site's `audit key` shows it.
        site_key: String,
        /// Kind of the identity that opens it.
        identity: IdentityKind,
        /// The pool whose units may read the volumes; none for the default pool.
        pool: Option<String>,
    },
    /// Packages made and taken in, newest first.
    Packages,
}

/// Which keys are given to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartnerOrder {
    /// The partner, by name.
    pub partner: String,
    /// Their recipient, as age writes it.
    pub recipient: String,
    /// Volumes by UUID, or by the label of an active one.
    pub volumes: Vec<String>,
    /// Until when the package may be imported, and its keys used: a date (its end, UTC), or a time (RFC 3339, UTC, milliseconds).
    pub expires: String,
    /// Whether labels and barcodes go along.
    pub labels: bool,
    /// Whether a recipient will do that does not withstand a quantum computer.
    pub allow_classic: bool,
    /// Why, in words; custodians read it.
    pub reason: Option<String>,
}

/// Kind of an age identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// MLKEM768-X25519.
    Hybrid,
    /// X25519.
    X25519,
}

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum ExchangeReply {
    /// Done; there is nothing to tell.
    Done,
    /// Custodians have to approve it first.
    Asked(Box<RequestView>),
    /// The package.
    Package(Box<Package>),
    /// What was taken in.
    Imported(PackageView),
    /// All of them.
    Packages(Vec<PackageView>),
}

/// Which way a package went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To a partner.
    Export,
    /// From a partner.
    Import,
}

/// A package, as the catalogue knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageView {
    /// Its name.
    pub package: Uuid,
    /// Which way it went.
    pub direction: Direction,
    /// The site that made it.
    pub origin: String,
    /// The partner's name, as that site calls them.
    pub partner: String,
    /// SHA-256 of the recipient's text.
    pub recipient: Hex<32>,
    /// Until when it may be imported, and its keys used.
    pub expires: String,
    /// Number of keys.
    pub keys: u64,
    /// When it was made or taken in.
    pub created: String,
    /// The custody entry that names it.
    pub entry: u64,
}
