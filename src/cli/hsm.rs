//! `hsm …`: tokens, their enrolment, and the key authority's health.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::home::SOFTHSM2_MODULE;
use sealtape_kms::pkcs11::{Limits, PinFrom, PinLatch, PinSource, Token, TokenConfig, TokenReport, Uri, WorkerCommand};
use sealtape_kms::protocol::{
    AnchoringView, BackupLacking, EnrolOrder, HsmReply, HsmRequest, KeyLifeSummary, Status, TokenView,
};

use super::failure::{Exit, Failure};
use super::output::Output;
use super::restore::latch_file;
use super::table::{fields, or_dash, table};
use crate::service::config::TokenUri;
use crate::service::home::Home;
use crate::service::pin;

/// The tests of a slow token take their time.
const ENROL_TIMEOUT: Duration = Duration::from_secs(150);

/// Look at tokens and the key authority, test and enrol tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Hsm {
    /// Show whether the token works (a real unwrap is tried), and the figures of catalogue and custody log
    Status,
    /// List the tokens of the installation, each tried
    List,
    /// Run the tests of enrolment on a token, without an installation; the keys made for it are removed again
    Test(Test),
    /// Test a token and take it into use
    Enrol(Enrol),
    /// The PIN was rejected and has been put right: let it be tried again
    Unlatch,
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// The PKCS#11 module (a shared library) [default: the one that the URI names, else SoftHSM2's]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// What the module takes as a parameter of its initialisation; few do
    #[arg(long, value_name = "TEXT")]
    module_parameters: Option<String>,
    /// The token, as an RFC 7512 URI
    #[arg(long, value_name = "URI", value_parser = token_uri)]
    token: TokenUri,
    /// File that holds the PIN, readable by you only [default: the one that the URI names, else asked for on the terminal]
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Enrol {
    /// How the token is called here: 1 to 32 of a-z, 0-9 and -
    name: String,
    /// The PKCS#11 module (a shared library) [default: the one that the URI names, else that of the first token]
    #[arg(long, value_name = "FILE", requires = "token")]
    module: Option<PathBuf>,
    /// What the module takes as a parameter of its initialisation; few do
    #[arg(long, value_name = "TEXT", requires = "token")]
    module_parameters: Option<String>,
    /// The token, as an RFC 7512 URI; leave it out to test an enrolled token anew
    #[arg(long, value_name = "URI", value_parser = token_uri)]
    token: Option<TokenUri>,
    /// File that holds the PIN, readable by the key authority's user only
    #[arg(long, value_name = "FILE", requires = "token", conflicts_with = "pin_credential")]
    pin_file: Option<PathBuf>,
    /// The key authority's systemd credential that holds the PIN [default: pin-NAME]
    #[arg(long, value_name = "CREDENTIAL", requires = "token")]
    pin_credential: Option<String>,
}

fn token_uri(text: &str) -> Result<TokenUri, String> {
    TokenUri::try_from(text.to_owned())
}

impl Hsm {
    pub(super) fn run(self, home: impl Fn() -> Result<Home, Failure>, output: &Output) -> Result<(), Failure> {
        let keyd = |limit| Ok::<_, Failure>(ControlClient::new(home()?.keyd_socket(), limit));
        match self {
            Self::Status => {
                let status = keyd(CALL_TIMEOUT)?.status()?;
                output.value(&status, show)?;
                status.token_error.map_or(Ok(()), |refusal| Err(refusal.into()))
            }
            Self::List => match keyd(CALL_TIMEOUT)?.hsm(HsmRequest::List)? {
                HsmReply::Tokens(tokens) => output.value(&tokens, |tokens| list(tokens)),
                _ => Err(unexpected()),
            },
            Self::Test(test) => test.run(output),
            Self::Enrol(enrol) => enrol.run(&keyd(ENROL_TIMEOUT)?, output),
            Self::Unlatch => {
                keyd(CALL_TIMEOUT)?.clear_pin_latch()?;
                output.note("the PIN will be tried again, once");
                Ok(())
            }
        }
    }
}

fn unexpected() -> Failure {
    Failure::new(Exit::Failed, "the key authority answered something else", "bring both programs to the same version")
}

impl Test {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let uri: Uri = self.token.as_str().parse()?;
        let module = match self.module {
            Some(module) => module,
            None => uri.module()?.unwrap_or_else(|| SOFTHSM2_MODULE.into()),
        };
        let pin = match self.pin_file.or_else(|| uri.pin_source.clone()) {
            Some(file) => PinSource::File(file),
            None => pin::prompt(),
        };
        let token = Token::new(TokenConfig {
            worker: WorkerCommand::this_executable(),
            module,
            parameters: self.module_parameters,
            uri,
            pin,
            latch: PinLatch::new(latch_file()?),
            environment: Vec::new(),
            limits: Limits::default(),
        });
        let report = token.probe()?;
        let why = report.refusal().map(|why| format!("the token {} is not fit: {why}", token.uri()));
        output.value(&report, checks)?;
        fitness(why)
    }
}

impl Enrol {
    fn run(self, keyd: &ControlClient, output: &Output) -> Result<(), Failure> {
        let uri = self.token.as_ref().map(|uri| uri.as_str().parse::<Uri>()).transpose()?;
        let module = match (self.module, &uri) {
            (Some(module), _) => Some(module),
            (None, Some(uri)) => uri.module()?,
            (None, None) => None,
        };
        let file = self.pin_file.or_else(|| uri.as_ref()?.pin_source.clone());
        let pin = match (file, self.pin_credential) {
            (_, Some(name)) => Some(PinFrom::Credential(name)),
            (Some(file), None) => {
                let path = std::path::absolute(&file).map_err(|e| Failure::file("finding the PIN file", &file, &e))?;
                Some(PinFrom::File(path))
            }
            (None, None) => None,
        };
        let order = EnrolOrder {
            name: self.name,
            module,
            parameters: self.module_parameters,
            uri: uri.map(|uri| uri.to_string()),
            pin,
        };
        match keyd.hsm(HsmRequest::Enrol(order))? {
            HsmReply::Enrolled(enrolled) => {
                output.value(&enrolled, |enrolled| checks(&enrolled.report))?;
                output.note(&format!("token {} is enrolled", enrolled.name));
                Ok(())
            }
            HsmReply::Unfit { why, report } => {
                output.value(&report, |report| checks(report))?;
                fitness(Some(why))
            }
            _ => Err(unexpected()),
        }
    }
}

fn fitness(why: Option<String>) -> Result<(), Failure> {
    match why {
        None => Ok(()),
        Some(why) => Err(Failure::new(Exit::Refused, why, "use another token, or its maker's newer firmware")),
    }
}

fn checks(report: &TokenReport) -> String {
    let rows: Vec<_> = report
        .checks
        .iter()
        .map(|c| [c.subject.clone(), c.test.clone(), c.verdict.to_string(), c.seen.clone()])
        .collect();
    let facts = &report.facts;
    let words = |name: String| name.trim_matches('"').to_owned();
    let name = |value: serde_json::Result<String>| words(value.unwrap_or_default());
    fields(&[
        ("token", format!("{} ({} {}, serial number {})", facts.label, facts.manufacturer, facts.model, facts.serial)),
        ("library", format!("{} {} ({})", facts.library, facts.library_version, facts.library_manufacturer)),
        ("wraps with", or_dash(report.mechanisms.first().map(|m| name(serde_json::to_string(m))))),
        ("signs with", or_dash(report.signing.first().map(|s| name(serde_json::to_string(s))))),
    ]) + &table(["SUBJECT", "TEST", "RESULT", "SEEN"], &rows)
}

fn list(tokens: &[TokenView]) -> String {
    let works = |t: &TokenView| match (&t.error, t.pin_latched) {
        (_, true) => "PIN REJECTED".to_owned(),
        (Some(error), false) => format!("NO: {}", error.what),
        (None, false) => if t.ok { "yes" } else { "not tried" }.to_owned(),
    };
    let rows: Vec<_> = tokens.iter().map(|t| [t.name.clone(), works(t), t.keks.to_string(), t.uri.clone()]).collect();
    table(["NAME", "WORKS", "KEKS", "TOKEN"], &rows)
}

fn show(status: &Status) -> String {
    let tried = status.tokens.iter().filter_map(|t| t.checked.clone()).min();
    fields(&[
        ("token", status.token_uri.clone()),
        ("works", if status.token_ok { "yes" } else { "NO" }.to_owned()),
        ("tried at", tried.unwrap_or_default()),
        ("tokens", status.tokens.len().to_string()),
        ("PIN", if status.pin_latched { "REJECTED, and not tried again" } else { "not rejected" }.to_owned()),
        ("worker starts", status.worker_starts.to_string()),
        ("volumes", status.volumes.to_string()),
        ("custody log", status.log_origin.clone()),
        ("entries", status.log_size.to_string()),
        ("checkpoint at", status.checkpoint_size.to_string()),
        ("anchored", status.anchoring.as_deref().map(anchored).unwrap_or_default()),
        ("log key", status.log_key.clone()),
        ("keys", ends(&status.key_life)),
        ("catalogue backup", status.backup_lacking.as_deref().map(lacking).unwrap_or_default()),
    ])
}

/// What has to be done about keys, and by when; nothing where there is nothing to do.
fn ends(life: &KeyLifeSummary) -> String {
    let days = life.notice_days;
    let counts = [
        (life.compromised_volumes, "volumes to be written anew, since a key of theirs is compromised".to_owned()),
        (life.expired, "keys open no more, since their period is over".to_owned()),
        (life.opening_ends, format!("keys open no more within {days} days")),
        (life.sealing_ends, format!("keys seal no more within {days} days")),
    ];
    let words: Vec<String> =
        counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    words.join("; ")
}

/// That every backup of the catalogue is closed, and what is done about it.
fn lacking(view: &BackupLacking) -> String {
    let since = format!("NONE that opens since destruction {}", view.batch);
    match (&view.folder, &view.trouble) {
        (None, _) => format!("{since}: make one with sealtape catalogue backup FILE"),
        (Some(_), Some(trouble)) => format!("{since}; tried again every minute: {trouble}"),
        (Some(folder), None) => format!("{since}; one is being made in {folder}"),
    }
}

/// The anchors in a line; `audit anchors` tells more.
fn anchored(view: &AnchoringView) -> String {
    match (&view.refused, view.warnings.first()) {
        (Some(refused), _) => format!("KEYS ARE REFUSED: {refused}"),
        (None, Some(warning)) => format!("{} entries; {warning}", view.anchored_size),
        (None, None) => format!("{} entries", view.anchored_size),
    }
}
