//! Which anchors there are, and what depends on them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::custody::WitnessKey;

/// Anchors and what depends on them. The default has none: then nothing waits, and exports are "internally consistent only".
#[derive(Debug, Clone)]
pub struct AnchoringPolicy {
    /// The anchors.
    pub anchors: Vec<AnchorConfig>,
    /// Whether a key leaves only after a checkpoint that covers its release is anchored.
    pub before_release: bool,
    /// How many of the anchors have to have a checkpoint for it to be anchored.
    pub quorum: usize,
    /// How long a release waits for that.
    pub deadline: Duration,
    /// How long an entry may stand without being anchored before releases are refused.
    pub longest_without: Option<Duration>,
    /// Whether syslog anchors count for the quorum. They take everything and compare nothing.
    pub syslog_counts: bool,
}

impl Default for AnchoringPolicy {
    fn default() -> Self {
        Self {
            anchors: Vec::new(),
            before_release: false,
            quorum: 1,
            deadline: Duration::from_secs(10),
            longest_without: None,
            syslog_counts: false,
        }
    }
}

/// One anchor.
#[derive(Debug, Clone)]
pub struct AnchorConfig {
    /// Its name in messages.
    pub name: String,
    /// What it is.
    pub kind: AnchorKind,
}

/// What an anchor is.
#[derive(Debug, Clone)]
pub enum AnchorKind {
    /// A witness (C2SP tlog-witness).
    Witness {
        /// Its submission prefix, which is taken for the monitoring prefix too.
        url: WitnessUrl,
        /// Its key.
        key: WitnessKey,
        /// How long one exchange with it may take.
        timeout: Duration,
        /// Certificates (PEM) that are trusted besides the system's.
        ca: Option<PathBuf>,
    },
    /// A file on another medium that is only appended to.
    File {
        /// The file.
        path: PathBuf,
    },
    /// The system's log.
    Syslog {
        /// Its socket, usually `/dev/log`.
        socket: PathBuf,
    },
}

impl AnchorKind {
    /// The kind in a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Witness { .. } => "witness",
            Self::File { .. } => "file",
            Self::Syslog { .. } => "syslog",
        }
    }

    /// What it is, besides its name: another one under the same name is another anchor.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Witness { key, .. } => key.to_string(),
            Self::File { path } => path.display().to_string(),
            Self::Syslog { socket } => socket.display().to_string(),
        }
    }
}

impl AnchoringPolicy {
    /// Checks what no single value shows.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        for (at, anchor) in self.anchors.iter().enumerate() {
            if self.anchors.iter().take(at).any(|a| a.name == anchor.name) {
                return Err(format!("two anchors have the name {:?}", anchor.name));
            }
            if let AnchorKind::Witness { key, .. } = &anchor.kind
                && self
                    .anchors
                    .iter()
                    .take(at)
                    .any(|a| matches!(&a.kind, AnchorKind::Witness { key: k, .. } if k == key))
            {
                return Err(format!("the witness {} stands in the list twice: it would count twice", key.name()));
            }
        }
        let counting = self.anchors.iter().filter(|a| self.counts(&a.kind)).count();
        if self.anchors.is_empty() {
            return match self.before_release || self.longest_without.is_some() {
                true => Err("before_release and longest_without need at least one anchor".into()),
                false => Ok(()),
            };
        }
        // With a single syslog nothing is compared, and that is allowed as long as nothing depends on it.
        let depends = self.before_release || self.longest_without.is_some();
        if self.quorum == 0 || (depends && self.quorum > counting) {
            return Err(format!(
                "quorum is {}, and {counting} of the {} anchors count",
                self.quorum,
                self.anchors.len()
            ));
        }
        Ok(())
    }

    /// Whether an anchor of this kind counts for the quorum.
    #[must_use]
    pub fn counts(&self, kind: &AnchorKind) -> bool {
        match kind {
            AnchorKind::Witness { .. } | AnchorKind::File { .. } => true,
            AnchorKind::Syslog { .. } => self.syslog_counts,
        }
    }

    /// For the custody log: what was required, in canonical JSON's terms.
    pub(crate) fn value(&self) -> Value {
        let anchors: Vec<Value> = self
            .anchors
            .iter()
            .map(|a| json!({ "name": a.name, "kind": a.kind.name(), "subject": a.kind.subject() }))
            .collect();
        json!({
            "anchors": anchors,
            "before_release": self.before_release,
            "longest_without_seconds": self.longest_without.map_or(0, |d| d.as_secs()),
            "quorum": self.quorum,
            "syslog_counts": self.syslog_counts,
        })
    }
}

/// A witness's URL prefix: `https://HOST[:PORT][/PATH]`, or `http://` for one on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessUrl(String);

impl WitnessUrl {
    pub(crate) fn join(&self, rest: &str) -> String {
        format!("{}/{rest}", self.0)
    }
}

impl fmt::Display for WitnessUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WitnessUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim_end_matches('/');
        let uri: ureq::http::Uri = trimmed.parse().map_err(|e| format!("{text:?} is no URL: {e}"))?;
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(|| format!("{text:?} names no host"))?;
        if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(format!("{text:?}: a witness's URL has no query and no user in it"));
        }
        let loopback = matches!(host, "localhost" | "[::1]")
            || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if loopback => {}
            _ => return Err(format!("{text:?}: use https://, or http:// for a witness on this machine")),
        }
        Ok(Self(trimmed.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_that_cannot_be_listened_to() {
        for good in ["https://w.example", "https://w.example:8443/a/b/", "http://127.0.0.1:80", "http://[::1]:7391/x"] {
            let url: WitnessUrl = good.parse().unwrap();
            assert_eq!(url.join("add-checkpoint"), format!("{}/add-checkpoint", good.trim_end_matches('/')));
        }
        for bad in [
            "",
            "w.example",
            "http://w.example",
            "https://",
            "ftp://w.example",
            "https://u:p@w.example",
            "https://w/?a",
            "http://127.0.0.1.example/",
        ] {
            assert!(bad.parse::<WitnessUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_quorum_has_to_be_reachable() {
        let file = |name: &str| AnchorConfig { name: name.into(), kind: AnchorKind::File { path: "/x".into() } };
        let syslog = AnchorConfig { name: "s".into(), kind: AnchorKind::Syslog { socket: "/dev/log".into() } };
        let policy = |anchors: Vec<AnchorConfig>, quorum| AnchoringPolicy {
            anchors,
            quorum,
            before_release: true,
            ..AnchoringPolicy::default()
        };
        assert!(AnchoringPolicy::default().check().is_ok());
        assert!(policy(vec![], 1).check().is_err());
        assert!(policy(vec![file("a")], 1).check().is_ok());
        assert!(policy(vec![file("a")], 0).check().is_err());
        assert!(policy(vec![file("a"), file("a")], 1).check().is_err());
        assert!(policy(vec![file("a"), syslog.clone()], 2).check().is_err());
        let counting = AnchoringPolicy { syslog_counts: true, ..policy(vec![file("a"), syslog.clone()], 2) };
        assert!(counting.check().is_ok());
        assert!(policy(vec![syslog], 1).check().is_err());
    }
}
