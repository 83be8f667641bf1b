//! `recovery …`: the offline recovery key.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::protocol::{MAX_BACKFILL, RecoveryKeyView, RecoveryReply, RecoveryRequest, RequestView};
use sealtape_kms::recovery::drill::{Canary, DrillError, Report, run};
use sealtape_kms::recovery::{PublicHalf, generate, key_id};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::shares::ShareOptions;
use super::table::{fields, or_dash};
use crate::service::daemon::no_core_dumps;
use crate::service::home::Home;

/// Longest file of ours that is read whole.
const LONGEST: u64 = 1 << 20;

/// The offline recovery key: make it, install it, drill.
#[derive(Debug, Subcommand)]
pub(super) enum Recovery {
    /// Make a recovery key and split it, on a machine that may be off the net; nothing of the private half is kept
    Init(Init),
    /// Take a recovery key into use: from then on data keys are wrapped to it (custodians approve)
    Install {
        /// The public file that `recovery init` wrote
        file: PathBuf,
        /// The request, once custodians have approved it
        #[arg(long, value_name = "ID")]
        request: Option<Uuid>,
        /// Why; custodians read it
        #[arg(long)]
        reason: Option<String>,
    },
    /// Show the recovery keys, how many data keys are wrapped to each, and the last drill
    List,
    /// Wrap the data keys that were made before the recovery key was installed
    Backfill {
        /// Whose
        #[arg(long, value_name = "NAME", default_value = "default")]
        tenant: String,
    },
    /// Write a canary for a drill
    Canary {
        /// Where to
        file: PathBuf,
        /// The recovery key [default: the one in use]
        #[arg(long, value_name = "ID")]
        key: Option<Uuid>,
        /// The tenant whose recovery key in use is meant
        #[arg(long, value_name = "NAME", default_value = "default", conflicts_with = "key")]
        tenant: String,
    },
    /// Open a canary with shares, on a machine off the net, and write the signed report; or enter a report
    Drill(Drill),
    /// Take a recovery key out of use (custodians approve)
    Retire {
        /// The recovery key
        key: Uuid,
        /// The request, once custodians have approved it
        #[arg(long, value_name = "ID")]
        request: Option<Uuid>,
        /// Why; custodians read it
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Make a recovery key and split it.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// Number of shares
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..))]
    shares: u8,
    /// How many of them open the key
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u8).range(2..))]
    threshold: u8,
    /// Folder for the public file and a file for each share; must be new
    #[arg(long, value_name = "DIR", required_unless_present = "print", conflicts_with = "print")]
    dir: Option<PathBuf>,
    /// Print the shares, a page each, instead of writing them; the public file goes to the file named
    #[arg(long, value_name = "FILE")]
    print: Option<PathBuf>,
    /// The tenant
    #[arg(long, default_value = "default")]
    tenant: String,
    /// The epoch: how many recovery keys this tenant will have had
    #[arg(long, default_value_t = 1)]
    epoch: u32,
}

/// Open a canary with shares, or enter the report.
#[derive(Debug, Args)]
pub(super) struct Drill {
    /// The canary's file
    #[arg(required_unless_present = "enter", conflicts_with = "enter")]
    canary: Option<PathBuf>,
    #[command(flatten)]
    shares: ShareOptions,
    /// Where the report goes
    #[arg(long, value_name = "FILE", required_unless_present = "enter", conflicts_with = "enter")]
    report: Option<PathBuf>,
    /// What is to be said of the drill
    #[arg(long, default_value = "")]
    note: String,
    /// Enter this report into the custody log
    #[arg(long, value_name = "REPORT")]
    enter: Option<PathBuf>,
}

impl Recovery {
    pub(super) fn run(self, home: impl FnOnce() -> Result<Home, Failure>, output: &Output) -> Result<(), Failure> {
        let ask = |request| {
            let keyd = ControlClient::new(home()?.keyd_socket(), CALL_TIMEOUT);
            Ok::<_, Failure>((keyd.recovery(request)?, keyd))
        };
        match self {
            Self::Init(init) => init.run(output),
            Self::Install { file, request, reason } => {
                let key: Box<PublicHalf> = Box::new(read_json(&file)?);
                told(
                    ask(RecoveryRequest::Install { key, request, reason })?.0,
                    "sealtape recovery install FILE",
                    output,
                )
            }
            Self::List => told(ask(RecoveryRequest::Keys)?.0, "", output),
            Self::Backfill { tenant } => {
                let request = || RecoveryRequest::Backfill { tenant: Some(tenant.clone()), most: MAX_BACKFILL };
                let (mut reply, keyd) = ask(request())?;
                let mut all = 0;
                while let RecoveryReply::Backfilled { wrapped, remaining, .. } = &reply {
                    all += u64::from(*wrapped);
                    output.note(&format!("{all} wrapped, {remaining} left"));
                    if *remaining == 0 || *wrapped == 0 {
                        break;
                    }
                    reply = keyd.recovery(request())?;
                }
                output.value(&serde_json::json!({ "wrapped": all }), |_| format!("{all} keys were wrapped"))
            }
            Self::Canary { file, key, tenant } => match ask(RecoveryRequest::Canary { key, tenant: Some(tenant) })?.0 {
                RecoveryReply::Canary(canary) => {
                    write_new(&file, &to_json(&canary)?)?;
                    output.note(&format!("take {} to a machine off the net: sealtape recovery drill", file.display()));
                    output.value(&canary, |c| {
                        fields(&[("canary", c.canary.to_string()), ("file", file.display().to_string())])
                    })
                }
                other => Err(unexpected(&other)),
            },
            Self::Drill(Drill { enter: Some(report), .. }) => {
                let report: Box<Report> = Box::new(read_json(&report)?);
                told(ask(RecoveryRequest::EnterDrill { report })?.0, "", output)
            }
            Self::Drill(drill) => drill.hold(output),
            Self::Retire { key, request, reason } => {
                let reply = ask(RecoveryRequest::Retire { key, request, reason })?.0;
                told(reply, &format!("sealtape recovery retire {key}"), output)
            }
        }
    }
}

impl Init {
    fn run(self, output: &Output) -> Result<(), Failure> {
        no_core_dumps()?;
        let (public, shares) = generate(&self.tenant, self.epoch, self.shares, self.threshold)?;
        let recipient = public.check().map_err(|e| Failure::new(Exit::Failed, e, "report this as a bug"))?;
        let text = to_json(&public)?;
        let public_file = match (&self.dir, self.print) {
            (Some(dir), _) => {
                let made = DirBuilder::new().mode(0o700).create(dir);
                made.map_err(|e| Failure::file("making the folder", dir, &e))?;
                for share in &shares {
                    let name = format!("share-{}-of-{}.txt", share.head().index, share.head().shares);
                    write_new(&dir.join(name), share.sheet().as_bytes())?;
                }
                let file = dir.join("recovery-public.json");
                write_new(&file, &text)?;
                output.note(
                    "give each share to another person and remove it here: enough of them open every tape of this tenant",
                );
                file
            }
            (None, Some(file)) => {
                write_new(&file, &text)?;
                for share in &shares {
                    output.text(&share.sheet())?;
                    output.text("\u{c}")?;
                }
                file
            }
            (None, None) => return Err(Failure::new(Exit::Usage, "neither --dir nor --print", "say where shares go")),
        };
        let report = serde_json::json!({
            "key": key_id(&recipient), "fingerprint": recipient.fingerprint(), "tenant": public.tenant, "epoch": public.epoch,
            "set": public.set, "shares": public.shares, "threshold": public.threshold, "public": public_file,
        });
        let shown = fields(&[
            ("recovery key", key_id(&recipient).to_string()),
            ("fingerprint", recipient.fingerprint().to_string()),
            ("shares", format!("any {} of {} (set {})", public.threshold, public.shares, public.set)),
            ("public file", public_file.display().to_string()),
        ]);
        output.note(&format!("next, at the key authority: sealtape recovery install {}", public_file.display()));
        match self.dir {
            Some(_) => output.value(&report, |_| shown),
            // Standard output has the shares.
            None => {
                output.note(&shown);
                Ok(())
            }
        }
    }
}

impl Drill {
    fn hold(self, output: &Output) -> Result<(), Failure> {
        no_core_dumps()?;
        let (Some(file), Some(to)) = (&self.canary, &self.report) else {
            return Err(Failure::new(
                Exit::Usage,
                "a canary and --report are needed",
                "see: sealtape recovery drill --help",
            ));
        };
        let canary: Canary = read_json(file)?;
        let recovered = self.shares.recover(Some(canary.recovery_key))?;
        let report = run(&canary, &recovered, &self.note)?;
        drop(recovered);
        write_new(to, &to_json(&report)?)?;
        output.note(&format!("next, at the key authority: sealtape recovery drill --enter {}", to.display()));
        output.value(&report, |r| {
            fields(&[
                ("opened", format!("canary {}", r.canary)),
                ("with shares", r.shares.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")),
                ("report", to.display().to_string()),
            ])
        })
    }
}

/// What a request waits for, and the command that goes on when it was approved.
pub(super) fn asked(view: &RequestView, again: &str, output: &Output) -> Result<(), Failure> {
    output.note(&format!(
        "custodians have to approve: sealtape approval show {}; then: {again} --request {}",
        view.request, view.request
    ));
    output.value(view, |v| {
        fields(&[("request", v.request.to_string()), ("for", v.words.clone()), ("until", v.expires.clone())])
    })
}

fn told(reply: RecoveryReply, again: &str, output: &Output) -> Result<(), Failure> {
    match reply {
        RecoveryReply::Asked(view) => asked(&view, again, output),
        RecoveryReply::Key(view) => output.value(&view, |v| show(v)),
        RecoveryReply::Keys(views) => {
            output.value(&views, |views| views.iter().map(show).collect::<Vec<_>>().join("\n"))
        }
        RecoveryReply::Done => {
            output.note("done, and entered into the custody log");
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

fn show(view: &RecoveryKeyView) -> String {
    fields(&[
        ("recovery key", view.key.to_string()),
        ("state", format!("{:?}", view.state).to_lowercase()),
        ("tenant", format!("{}, epoch {}", view.tenant, view.epoch)),
        ("shares", format!("any {} of {} (set {})", view.threshold, view.shares, view.set)),
        ("fingerprint", view.fingerprint.to_string()),
        ("wrapped", format!("{} of {} data keys", view.wrapped, view.of)),
        ("last drill", or_dash(view.drilled.clone())),
    ])
}

fn unexpected(reply: &RecoveryReply) -> Failure {
    Failure::new(Exit::Failed, format!("an unexpected reply: {reply:?}"), "use programs of one version")
}

/// Reads one of our JSON files.
pub(super) fn read_json<T: DeserializeOwned>(file: &Path) -> Result<T, Failure> {
    let failed = |e: std::io::Error| Failure::file("reading", file, &e);
    let open = File::open(file).map_err(failed)?;
    let text = std::io::read_to_string(std::io::Read::take(open, LONGEST)).map_err(failed)?;
    serde_json::from_str(&text).map_err(|e| {
        let what = format!("{} is not the file that this command takes: {e}", file.display());
        Failure::new(Exit::Usage, what, "name the file as it was written")
    })
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| {
        Failure::new(Exit::Failed, format!("this cannot be written as JSON: {e}"), "report this as a bug")
    })?;
    text.push(b'\n');
    Ok(text)
}

/// A new file that only its owner reads.
pub(super) fn write_new(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let made = File::options().write(true).create_new(true).mode(0o600).open(file);
    made.and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()))
        .map_err(|e| Failure::file("writing", file, &e))
}

impl From<DrillError> for Failure {
    fn from(error: DrillError) -> Self {
        Self::new(
            Exit::Integrity,
            error.to_string(),
            "take canary and shares of one recovery key, as they were written",
        )
    }
}
