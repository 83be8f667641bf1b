//! `[keyd.anchoring]` and `[[keyd.anchor]]`: where the custody log is anchored, and what depends on it.

use std::path::PathBuf;
use std::time::Duration;

use sealtape_kms::anchor::{AnchorConfig, AnchorKind, AnchoringPolicy, WitnessUrl};
use sealtape_kms::custody::WitnessKey;
use serde::Deserialize;

/// `[keyd.anchoring]`: what depends on the anchors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnchoringConfig {
    /// Whether a key leaves only after a checkpoint over its release is anchored.
    pub before_release: bool,
    /// How many of the anchors have to have it.
    pub quorum: usize,
    /// How long a release waits for them, in seconds.
    pub deadline_seconds: u64,
    /// How long an entry may stand without being anchored before releases are refused, in seconds.
    pub longest_without_seconds: Option<u64>,
    /// Whether syslog counts.
    pub syslog_counts: bool,
}

impl Default for AnchoringConfig {
    fn default() -> Self {
        Self {
            before_release: false,
            quorum: 1,
            deadline_seconds: 10,
            longest_without_seconds: None,
            syslog_counts: false,
        }
    }
}

/// What an anchor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Witness,
    File,
    Syslog,
}

/// `[[keyd.anchor]]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorText {
    name: String,
    kind: Kind,
    url: Option<String>,
    key: Option<String>,
    timeout_seconds: Option<u64>,
    ca: Option<PathBuf>,
    path: Option<PathBuf>,
}

/// `[[keyd.anchor]]`: one anchor.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "AnchorText")]
pub struct Anchor(pub AnchorConfig);

fn seconds(key: &str, value: u64, most: u64) -> Result<Duration, String> {
    match (1..=most).contains(&value) {
        true => Ok(Duration::from_secs(value)),
        false => Err(format!("{key} is {value}; it must be 1 to {most}")),
    }
}

impl TryFrom<AnchorText> for Anchor {
    type Error = String;

    fn try_from(text: AnchorText) -> Result<Self, String> {
        let AnchorText { name, kind, url, key, timeout_seconds, ca, path } = text;
        let printable = !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_graphic());
        if !printable {
            return Err(format!("{name:?} is no name of an anchor: write 1 to 64 printable characters without spaces"));
        }
        let kind = match (kind, url, key, path) {
            (Kind::Witness, Some(url), Some(key), None) => {
                let url: WitnessUrl = url.parse()?;
                let key: WitnessKey = key.parse().map_err(|e| format!("key of anchor {name}: {e}"))?;
                let timeout = seconds("timeout_seconds", timeout_seconds.unwrap_or(10), 120)?;
                return Ok(Self(AnchorConfig { name, kind: AnchorKind::Witness { url, key, timeout, ca } }));
            }
            (Kind::Witness, ..) => Err("a witness has url and key, and no path"),
            (Kind::File, None, None, Some(path)) => Ok(AnchorKind::File { path }),
            (Kind::File, ..) => Err("a file has path, and neither url nor key"),
            (Kind::Syslog, None, None, path) => {
                Ok(AnchorKind::Syslog { socket: path.unwrap_or_else(|| "/dev/log".into()) })
            }
            (Kind::Syslog, ..) => Err("syslog has path (its socket), and neither url nor key"),
        };
        let kind = kind.map_err(|what| format!("anchor {name}: {what}"))?;
        if timeout_seconds.is_some() || ca.is_some() {
            return Err(format!("anchor {name}: timeout_seconds and ca belong to a witness"));
        }
        if matches!(&kind, AnchorKind::File { path } if !path.is_absolute()) {
            return Err(format!(
                "anchor {name}: its path starts with '/': it stands on another medium than the home folder"
            ));
        }
        Ok(Self(AnchorConfig { name, kind }))
    }
}

impl AnchoringConfig {
    /// As the key authority takes it.
    pub(super) fn policy(&self, anchors: impl Iterator<Item = Anchor>) -> Result<AnchoringPolicy, String> {
        let longest = self.longest_without_seconds.map(|s| seconds("longest_without_seconds", s, 366 * 86_400));
        let policy = AnchoringPolicy {
            anchors: anchors.map(|anchor| anchor.0).collect(),
            before_release: self.before_release,
            quorum: self.quorum,
            deadline: seconds("deadline_seconds", self.deadline_seconds, 60)?,
            longest_without: longest.transpose()?,
            syslog_counts: self.syslog_counts,
        };
        policy.check()?;
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Home};
    use super::*;

    const KEY: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";

    fn parse(more: &str) -> Result<AnchoringPolicy, String> {
        let text = format!("[keyd]\nmodule = \"m\"\ntoken = \"pkcs11:token=t\"\npin = \"prompt\"\n{more}");
        let home = Home::find(Some(Path::new("/srv/t"))).unwrap();
        Config::parse(home, "f".into(), &text).map(|c| c.anchoring).map_err(|e| e.to_string())
    }

    #[test]
    fn anchors_and_what_depends_on_them() {
        assert!(parse("").unwrap().anchors.is_empty());
        let policy = parse(&format!(
            "[keyd.anchoring]\nbefore_release = true\nquorum = 2\nlongest_without_seconds = 86400\n\
             [[keyd.anchor]]\nname = \"w\"\nkind = \"witness\"\nurl = \"https://remora.n621.de/\"\nkey = \"{KEY}\"\n\
             [[keyd.anchor]]\nname = \"usb\"\nkind = \"file\"\npath = \"/media/a/log\"\n\
             [[keyd.anchor]]\nname = \"s\"\nkind = \"syslog\"\n"
        ))
        .unwrap();
        assert_eq!(policy.anchors.len(), 3);
        assert_eq!((policy.quorum, policy.before_release), (2, true));
        assert_eq!(policy.anchors[0].kind.subject(), KEY);
        assert_eq!(policy.anchors[2].kind.subject(), "/dev/log");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let file = "[[keyd.anchor]]\nname = \"a\"\nkind = \"file\"\npath = \"/m/a\"\n";
        for (text, words) in [
            ("[keyd.anchoring]\nbefore_release = true\n".to_owned(), "at least one anchor"),
            (format!("[keyd.anchoring]\nquorum = 2\nbefore_release = true\n{file}"), "quorum is 2"),
            (format!("[keyd.anchoring]\ndeadline_seconds = 0\n{file}"), "deadline_seconds is 0"),
            (format!("{file}{file}"), "two anchors have the name"),
            (file.replace("/m/a", "m/a"), "starts with '/'"),
            (file.replace("path", "url"), "a file has path"),
            (format!("{file}timeout_seconds = 3\n"), "belong to a witness"),
            (file.replace("kind = \"file\"", "kind = \"witness\""), "url and key"),
            (format!("{file}nonsense = 1\n"), "nonsense"),
            (
                format!(
                    "[[keyd.anchor]]\nname = \"w\"\nkind = \"witness\"\nurl = \"http://w.example\"\nkey = \"{KEY}\"\n"
                ),
                "use https://",
            ),
            (
                "[[keyd.anchor]]\nname = \"w\"\nkind = \"witness\"\nurl = \"https://w\"\nkey = \"x\"\n".to_owned(),
                "key of anchor w",
            ),
        ] {
            let refusal = parse(&text).unwrap_err();
            assert!(refusal.contains(words), "{words}: {refusal}");
        }
    }
}
