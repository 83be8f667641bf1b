//! Custodians: persons with keys that OpenSSH made, who approve on the command line.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::Site;

/// A security officer.
pub(crate) struct Person {
    key: PathBuf,
}

impl Person {
    /// Makes a key and registers the person with it.
    pub(crate) fn register(site: &Site, name: &str, kind: &str) -> Self {
        let key = site.work().join(format!("{name}.key"));
        let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&key).status().unwrap();
        assert!(made.success());
        let public = format!("{}.pub", key.display());
        site.sealtape(["custodian", "add", name, "--key", &public, "--role", "security-officer"]);
        Self { key }
    }

    /// The command line of an approval.
    pub(crate) fn approval(&self, request: &str) -> [String; 5] {
        ["approval", "sign", request, "--key", &self.key.display().to_string()].map(str::to_owned)
    }

    /// Approves a request.
    pub(crate) fn approve(&self, site: &Site, request: &str) {
        site.sealtape(self.approval(request));
    }
}

/// What a command says with `--json`.
pub(crate) fn json<'a>(site: &Site, arguments: impl IntoIterator<Item = &'a str>) -> Value {
    let arguments: Vec<&str> = std::iter::once("--json").chain(arguments).collect();
    serde_json::from_str(&site.sealtape(arguments)).unwrap()
}

/// The text of a member.
pub(crate) fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}")).to_owned()
}
