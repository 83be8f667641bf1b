//! What a token was found to be: the table of enrolment, and the profile that is kept of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::wire::{SignAlgorithm, UnwrapTemplate, WrapMechanism};

/// How a test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it has to be.
    Passed,
    /// Not as it has to be.
    Failed,
    /// The token does not let it be tried; that is no fault.
    NotTestable,
    /// The token does not have it.
    Absent,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NotTestable => "not testable",
            Self::Absent => "absent",
        })
    }
}

/// What a failure costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// A key could leave the token: it is not used at all.
    Leak,
    /// This mechanism is not used with the token.
    Mechanism,
    /// Told, nothing more.
    Note,
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What about: a mechanism, or the token.
    pub subject: String,
    /// What was tried.
    pub test: String,
    /// How it went.
    pub verdict: Verdict,
    /// What a failure costs.
    pub weight: Weight,
    /// What was seen.
    pub seen: String,
}

/// Who the token and its library say they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenFacts {
    /// Version of the PKCS#11 interface.
    pub cryptoki: String,
    /// Firmware version.
    pub firmware: String,
    /// Hardware version.
    pub hardware: String,
    /// Label.
    pub label: String,
    /// The library's description.
    pub library: String,
    /// Who made the library.
    pub library_manufacturer: String,
    /// The library's version.
    pub library_version: String,
    /// Who made the token.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
}

/// What enrolment found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenReport {
    /// Who it is.
    pub facts: TokenFacts,
    /// The table.
    pub checks: Vec<Check>,
    /// Wrapping mechanisms that passed, the one to use first.
    pub mechanisms: Vec<WrapMechanism>,
    /// The template with which unwrapping works.
    pub unwrap_template: UnwrapTemplate,
    /// Signing algorithms that passed, the one to use first.
    pub signing: Vec<SignAlgorithm>,
    /// Whether it takes a key in the clear, which wrapping keys of another token needs.
    pub imports: bool,
}

impl TokenReport {
    /// Why the token must not be used; none when it may be.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let failed = |weight: Weight| {
            let of = |c: &&Check| c.verdict == Verdict::Failed && c.weight == weight;
            let words: Vec<String> =
                self.checks.iter().filter(of).map(|c| format!("{}: {}: {}", c.subject, c.test, c.seen)).collect();
            words.join("; ")
        };
        let leaks = failed(Weight::Leak);
        if !leaks.is_empty() {
            return Some(format!("it lets keys out ({leaks})"));
        }
        let why =
            || Some(failed(Weight::Mechanism)).filter(|w| !w.is_empty()).map(|w| format!(" ({w})")).unwrap_or_default();
        if self.mechanisms.is_empty() {
            return Some(format!("neither AES_KEY_WRAP nor AES_GCM can be used with it{}", why()));
        }
        if self.signing.is_empty() {
            return Some(format!("it signs neither with Ed25519 nor with ECDSA over P-256{}", why()));
        }
        None
    }
}
