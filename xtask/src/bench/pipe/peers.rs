//! The programs that seal and open from standard input to standard output, each as its manual says for a script.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::version;
use crate::command::output;

/// A program, both ways.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) seal: Command,
    pub(super) open: Command,
}

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const IV: &str = "000102030405060708090a0b0c0d0e0f";
/// aespipe wants 20 characters and more.
const PASSPHRASE: &str = "a passphrase of a benchmark, of no value\n";

impl Peer {
    pub(super) fn sealtape(program: &Path, home: &Path) -> Self {
        let with = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command.arg("--home").arg(home).arg("--quiet").args(arguments);
            command
        };
        Self { name: "sealtape", seal: with(&["seal", "--pool", "bench"]), open: with(&["open"]) }
    }
}

/// The others, with their keys in `folder`.
pub(super) fn all(folder: &Path) -> Result<Vec<Peer>> {
    let passphrase = folder.join("passphrase");
    std::fs::write(&passphrase, PASSPHRASE).with_context(|| passphrase.display().to_string())?;
    let copy = || {
        let mut dd = Command::new("dd");
        dd.args(["bs=1M", "status=none"]);
        dd
    };
    let openssl = |way: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl.args(["enc", "-aes-256-ctr", "-K", KEY, "-iv", IV]).args(way);
        openssl
    };
    let aespipe = |way: &[&str]| {
        let mut aespipe = Command::new("aespipe");
        aespipe.args(["-e", "AES256"]).args(way).arg("-P").arg(&passphrase);
        aespipe
    };
    let identity = folder.join("age.key");
    output(Command::new("age-keygen").arg("-o").arg(&identity))?;
    let recipient = output(Command::new("age-keygen").arg("-y").arg(&identity))?;
    let mut age = (Command::new("age"), Command::new("age"));
    age.0.args(["-r", recipient.trim()]);
    age.1.args(["-d", "-i"]).arg(&identity);
    let gpg_home = folder.join("gpg");
    std::fs::create_dir(&gpg_home).with_context(|| gpg_home.display().to_string())?;
    let gpg = |way: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--quiet", "--no-tty", "--no-permission-warning", "--homedir"]).arg(&gpg_home);
        gpg.args(["--pinentry-mode", "loopback", "--passphrase-file"]).arg(&passphrase).args(way);
        gpg
    };
    let to_gpg = ["--compress-algo", "none", "--cipher-algo", "AES256", "--symmetric", "--output", "-"];
    Ok(vec![
        Peer { name: "dd", seal: copy(), open: copy() },
        Peer { name: "openssl aes-256-ctr", seal: openssl(&["-e"]), open: openssl(&["-d"]) },
        Peer { name: "aespipe", seal: aespipe(&[]), open: aespipe(&["-d"]) },
        Peer { name: "age", seal: age.0, open: age.1 },
        Peer { name: "gpg", seal: gpg(&to_gpg), open: gpg(&["--decrypt", "--output", "-"]) },
    ])
}

/// gpg leaves an agent behind.
pub(super) fn end(folder: &Path) -> Result<()> {
    output(Command::new("gpgconf").arg("--homedir").arg(folder.join("gpg")).args(["--kill", "gpg-agent"])).map(drop)
}

/// What they call themselves.
pub(super) fn versions() -> String {
    let all = [("dd", "--version"), ("openssl", "version"), ("age", "--version"), ("gpg", "--version")];
    let mut said: Vec<String> = all.iter().map(|(program, argument)| version(program, argument)).collect();
    // aespipe knows no such option; Debian does.
    said.push(format!("aespipe {}", super::machine::said("dpkg-query", &["-W", "-f", "${Version}", "aespipe"])));
    said[2] = format!("age {}", said[2]);
    format!("{}.", said.join(" · "))
}
