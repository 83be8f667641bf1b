//! `init`: a home folder, from nothing to ready to run.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use sealtape_kms::home::{InitOptions, SOFTHSM2_MODULE, TokenChoice, init_home};
use sealtape_kms::pkcs11::{Limits, Uri, WorkerCommand};
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::fields;
use crate::service::config::{Config, DriveName, PinSource, PoolConfig, TokenUri};
use crate::service::home::Home;
use crate::service::pin;

/// Others may pass through the home folder and its folder of sockets, and see nothing of them: sockets and nodes have
/// permissions of their own, and everything else is the owner's.
const PASSAGE: u32 = 0o711;
const OWN: u32 = 0o700;

/// Set up a home folder: token and keys, catalogue, custody log, configuration.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --token a SoftHSM2 token is made inside the home folder, with PINs of its own: good for trying \
Sealtape out, and as safe as the folder is. With --token an HSM's token is used, which must have been initialised."
)]
pub(super) struct Init {
    /// The PKCS#11 module (a shared library)
    #[arg(long, value_name = "FILE", default_value = SOFTHSM2_MODULE)]
    module: PathBuf,
    /// A token that exists, as an RFC 7512 URI such as pkcs11:token=NAME [default: one is made in the home folder]
    #[arg(long, value_name = "URI", value_parser = token_uri)]
    token: Option<TokenUri>,
    /// File that holds the token's PIN, readable by you only [default: asked for on the terminal]
    #[arg(long, value_name = "FILE", requires = "token")]
    pin_file: Option<PathBuf>,
    /// A drive; may be given several times
    #[arg(long = "drive", value_name = "NAME", default_value = "drive0", value_parser = drive_name)]
    drives: Vec<DriveName>,
    /// Group whose members may label, load and watch
    #[arg(long, value_name = "GROUP")]
    operator_group: Option<String>,
}

fn token_uri(text: &str) -> Result<TokenUri, String> {
    TokenUri::try_from(text.to_owned())
}

fn drive_name(text: &str) -> Result<DriveName, String> {
    DriveName::try_from(text.to_owned())
}

/// What was set up.
#[derive(Debug, Serialize)]
struct Report {
    home: PathBuf,
    configuration: PathBuf,
    token: String,
    /// The public key that verifies exports of the custody log.
    log_key: String,
    drives: Vec<String>,
}

impl Init {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let pin = self.pin_source()?;
        let created = make_folder(home.path())?;
        match self.fill(home, &pin) {
            Ok(report) => {
                output.value(&report, human)?;
                output.note(&format!("next: sealtape --home {} run", home.path().display()));
                output.note(
                    "then, against the loss of token or machine: sealtape recovery init (on a machine off the net), and sealtape catalogue backup",
                );
                Ok(())
            }
            Err(failure) => {
                clear(home.path(), created);
                Err(failure)
            }
        }
    }

    fn pin_source(&self) -> Result<PinSource, Failure> {
        match (&self.token, &self.pin_file) {
            (None, _) => Ok(PinSource::File("keyd/user.pin".into())),
            (Some(_), None) => Ok(PinSource::Prompt),
            (Some(_), Some(file)) => std::path::absolute(file)
                .map(PinSource::File)
                .map_err(|e| Failure::file("finding the PIN file", file, &e)),
        }
    }

    fn fill(&self, home: &Home, pin: &PinSource) -> Result<Report, Failure> {
        for (folder, mode) in [("run", PASSAGE), ("nodes", PASSAGE), ("data", OWN)] {
            let path = home.path().join(folder);
            make(&path, mode).map_err(|e| Failure::file("making the folder", &path, &e))?;
        }
        let pool = PoolConfig::default();
        let token = match &self.token {
            None => TokenChoice::Embedded { module: self.module.clone() },
            Some(uri) => TokenChoice::External { module: self.module.clone(), uri: Box::new(parse_uri(uri)?) },
        };
        let options = InitOptions {
            token,
            pin: pin::source(home, pin),
            worker: WorkerCommand::this_executable(),
            pools: vec![pool.policy("default")],
            limits: Limits::default(),
        };
        let made = init_home(&sealtape_kms::home::Home::new(home.path().join("keyd")), &options)?;
        // The auditors' key is public: it stands where others can read it.
        let key_file = home.path().join("custody.pub");
        fs::write(&key_file, format!("{}\n", made.log_key))
            .and_then(|()| fs::set_permissions(&key_file, Permissions::from_mode(0o644)))
            .map_err(|e| Failure::file("writing", &key_file, &e))?;
        let text = self.configuration(&made.token_uri, pin, &pool);
        // It is read back before it is kept: what init writes, run accepts.
        Config::parse(home.clone(), home.config_file(), &text)?;
        let file = home.config_file();
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        written
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|e| Failure::file("writing the configuration", &file, &e))?;
        Ok(Report {
            home: home.path().to_path_buf(),
            configuration: file,
            token: made.token_uri,
            log_key: made.log_key,
            drives: self.drives.iter().map(DriveName::to_string).collect(),
        })
    }

    fn configuration(&self, token: &str, pin: &PinSource, pool: &PoolConfig) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let pin = match pin {
            PinSource::File(path) => format!("{{ file = {} }}", quoted(&path.display().to_string())),
            PinSource::Credential(name) => format!("{{ credential = {} }}", quoted(name)),
            PinSource::Prompt => "\"prompt\"".to_owned(),
        };
        let mut text = format!(
            "# Sealtape. Only its owner may read or write this file. Relative paths start at its folder.\n\
             # Every key is described in docs/cli.md; a key that is not known is refused.\n\n\
             [keyd]\nmodule = {}\ntoken = {}\npin = {pin}\n",
            quoted(&self.module.display().to_string()),
            quoted(token),
        );
        if let Some(group) = &self.operator_group {
            text.push_str(&format!("operator_group = {}\n", quoted(group)));
        }
        text.push_str("\n[data_path]\nnodes = \"nodes\"\nnode_mode = \"0660\"\n");
        for drive in &self.drives {
            text.push_str(&format!("\n[[drive]]\nname = \"{drive}\"\nback_end = \"image\"\nmax_block = \"1MiB\"\n"));
        }
        text.push_str(&format!(
            "\n[pool.default]\nsuite = {}\ncompression = {}\nkey_on_medium = {}\nlabel_on_medium = {}\nbarcode_on_medium = {}\n",
            serde_json::json!(pool.suite),
            serde_json::json!(pool.compression),
            pool.key_on_medium,
            pool.label_on_medium,
            pool.barcode_on_medium,
        ));
        text
    }
}

fn parse_uri(uri: &TokenUri) -> Result<Uri, Failure> {
    uri.as_str()
        .parse()
        .map_err(|e| Failure::new(Exit::Usage, format!("{e}"), "see the token's label: p11tool --list-tokens"))
}

fn make(path: &Path, mode: u32) -> std::io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes the home folder, or takes an empty one. Returns whether it was made.
fn make_folder(path: &Path) -> Result<bool, Failure> {
    let failed = |e: std::io::Error| Failure::file("making the home folder", path, &e);
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => fs::set_permissions(path, Permissions::from_mode(PASSAGE)).map(|()| false).map_err(failed),
            Some(entry) => {
                let holds = entry.map_err(failed)?.file_name();
                Err(Failure::new(
                    Exit::Configuration,
                    format!("the home folder {} is not empty: it holds {}", path.display(), holds.display()),
                    "name a new or an empty folder with --home DIR; a folder that was set up is used with: sealtape run",
                ))
            }
        },
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            make(path, PASSAGE).map(|()| true).map_err(failed)
        }
        Err(e) => Err(failed(e)),
    }
}

/// Takes away what a failed set-up left, so that it can be tried again. The folder was empty before.
fn clear(path: &Path, created: bool) {
    let emptied = match created {
        true => fs::remove_dir_all(path),
        false => fs::read_dir(path).and_then(|mut entries| {
            entries.try_for_each(|entry| {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path()),
                    false => fs::remove_file(entry.path()),
                }
            })
        }),
    };
    if let Err(e) = emptied {
        tracing::warn!(folder = %path.display(), error = %e, "what the failed set-up left could not be removed");
    }
}

fn human(report: &Report) -> String {
    fields(&[
        ("home", report.home.display().to_string()),
        ("configuration", report.configuration.display().to_string()),
        ("token", report.token.clone()),
        ("drives", report.drives.join(", ")),
        ("custody log key", report.log_key.clone()),
    ])
}
