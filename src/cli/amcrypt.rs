//! `sealtape-amcrypt`: Amanda's contract for `client_encrypt` and `server_encrypt`. Stdin to stdout, `-d` decrypts,
//! exit code 0 only when everything is done, and nothing on stderr then.
//!
//! Amanda runs it as its own user, with an environment of its own: the home folder comes from `$SEALTAPE_HOME`, else from
//! `/etc/sealtape/amcrypt.conf`, else it is the default one.

use std::io::{ErrorKind, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde::Deserialize;

use super::failure::{self, Exit, Failure};
use super::output::{Output, log_to_stderr};
use super::pipe::{open_pipe, seal_pipe, unbuffered};
use crate::filter::Behind;
use crate::service::home::Home;

const CONFIG: &str = "/etc/sealtape/amcrypt.conf";

/// Amanda's encryption program: seals standard input to standard output; with -d opens it.
#[derive(Debug, Parser)]
#[command(name = "sealtape-amcrypt", version)]
struct Amcrypt {
    /// Decrypt
    #[arg(short)]
    decrypt: bool,
}

/// `/etc/sealtape/amcrypt.conf`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    home: Option<PathBuf>,
    pool: Option<String>,
}

/// Runs the filter with this process's arguments.
pub fn main() -> ExitCode {
    let amcrypt = match Amcrypt::try_parse() {
        Ok(amcrypt) => amcrypt,
        Err(error) => return failure::usage(&error),
    };
    log_to_stderr(0);
    match amcrypt.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => Output::plain().failure(&failure),
    }
}

impl Amcrypt {
    fn run(self) -> Result<(), Failure> {
        let config = config(Path::new(CONFIG))?;
        let named = match std::env::var_os("SEALTAPE_HOME") {
            Some(_) => None,
            None => config.home.as_deref(),
        };
        let home = Home::find(named)?;
        let (mut input, mut output) = (unbuffered(stdin())?, unbuffered(stdout())?);
        match self.decrypt {
            // Amanda keeps the stream in blocks of one length, and hands the last one back as it was filled up.
            true => open_pipe(&home, &mut input, &mut output, Behind::Padding, |_| {}).map(drop),
            false => seal_pipe(&home, config.pool.as_deref(), &mut input, &mut output, |_| {}).map(drop),
        }
    }
}

fn config(file: &Path) -> Result<Config, Failure> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Config::default()),
        Err(e) => return Err(Failure::file("reading", file, &e)),
    };
    toml::from_str(&text).map_err(|e| {
        let what = format!("{} is refused: {}", file.display(), e.to_string().trim_end());
        Failure::new(Exit::Configuration, what, "it takes home = \"DIR\" and pool = \"NAME\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_is_optional_and_strict() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("amcrypt.conf");
        assert!(config(&file).unwrap().home.is_none());
        std::fs::write(&file, "home = \"/srv/seal\"\npool = \"amanda\"\n").unwrap();
        let read = config(&file).unwrap();
        assert_eq!((read.home.as_deref(), read.pool.as_deref()), (Some(Path::new("/srv/seal")), Some("amanda")));
        std::fs::write(&file, "hom = \"/srv/seal\"\n").unwrap();
        let refused = config(&file).unwrap_err();
        assert_eq!(refused.exit, Exit::Configuration);
        assert!(refused.message.contains("hom") && refused.mend.contains("home"), "{refused:?}");
    }
}
