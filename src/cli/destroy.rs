//! `volume shred`, `volume hold`, `volume release`, `key destroy`, `key rotate`, `certificate …`.

use std::fs::File;
use std::io::{Read, Write, stdin};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::custody::VerifierKey;
use sealtape_kms::custody::certificate::{Certificate as Certified, verify};
use sealtape_kms::protocol::{
    BatchState, BatchView, DestructionOrder, DestructionPlan, DestructionReply, DestructionRequest, Fate, HoldView,
    RotationState, RotationView,
};
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::progress::Bar;
use super::table::{fields, printable, table};
use crate::control::{Progress, ProgressUnit};
use crate::service::home::Home;

/// How often progress is asked for.
const LOOK: Duration = Duration::from_millis(300);
/// Longest certificate that is read.
const LONGEST: u64 = 64 * 1024 * 1024;

/// What is destroyed, beside its name.
#[derive(Debug, Args)]
pub(super) struct Order {
    /// Why; kept in the custody log and in the certificate
    #[arg(long, required_unless_present_any = ["plan", "request"])]
    reason: Option<String>,
    /// Clones and backups of the HSM, in words, or "none": they hold the key-encryption keys, and nothing here reaches them
    #[arg(long, value_name = "TEXT", required_unless_present = "request")]
    hsm_backups: Option<String>,
    /// Also what is in use: active, and written to lately, as the pool's policy has it (in-use-days)
    #[arg(long)]
    even_active: bool,
    /// Only tell what would be destroyed and what could not be reached
    #[arg(long, conflicts_with_all = ["reason", "request"])]
    plan: bool,
    /// Carry this request out, which custodians have approved
    #[arg(long, value_name = "UUID")]
    request: Option<Uuid>,
}

/// What `volume` has of this.
#[derive(Debug, Subcommand)]
pub(super) enum VolumeWork {
    /// Destroy all keys of volumes, for good: ask for it, and when custodians have approved it carry it out (--request)
    Shred {
        /// Labels or UUIDs
        #[arg(required_unless_present = "request", conflicts_with = "request")]
        volumes: Vec<String>,
        #[command(flatten)]
        order: Order,
    },
    /// A volume may not be destroyed (legal hold); without a volume: list those that are held
    Hold {
        /// Its UUID, or its label
        #[arg(requires = "reason")]
        volume: Option<String>,
        /// Why; kept in the custody log
        #[arg(long, requires = "volume")]
        reason: Option<String>,
    },
    /// A volume that was held may be destroyed again
    Release {
        /// Its UUID, or its label
        volume: String,
        /// Why; kept in the custody log
        #[arg(long)]
        reason: String,
    },
}

/// What `key` has of this.
#[derive(Debug, Subcommand)]
pub(super) enum KeyWork {
    /// Destroy data keys, or one key-encryption key that nothing needs any more: ask for it, and when custodians have approved
    /// it carry it out (--request)
    Destroy {
        /// Ids of data keys, or of one key-encryption key
        #[arg(required_unless_present = "request", conflicts_with = "request")]
        keys: Vec<Uuid>,
        #[command(flatten)]
        order: Order,
    },
    /// Replace a tenant's key-encryption key in the catalogue: all its keys are wrapped by a new one. The key authority does it by itself; an
    /// interrupt ends the watching only
    Rotate(Rotate),
}

/// Replace the catalogue's key-encryption key.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// Whose
    #[arg(long, value_name = "NAME", default_value = "default")]
    tenant: String,
    /// Why; kept in the custody log
    #[arg(long, required_unless_present = "status")]
    reason: Option<String>,
    /// Stop where it is; the same command without --stop goes on
    #[arg(long, conflicts_with = "status")]
    stop: bool,
    /// Only tell how far it is
    #[arg(long, conflicts_with = "reason")]
    status: bool,
    /// Do not wait for its end
    #[arg(long)]
    no_wait: bool,
}

/// Certificates of destruction.
#[derive(Debug, Subcommand)]
pub(super) enum Certificate {
    /// List destructions, those that are asked for and under way too
    List,
    /// Show the signed certificate of a destruction, or write it into a new file
    Show {
        /// Batch or request
        id: Uuid,
        /// The file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Verify a certificate: needs the file and the log's public key, nothing else
    Verify {
        /// The certificate, or - for standard input
        file: PathBuf,
        /// The log's public key (NAME+ID+KEY), or a file that holds it, such as custody.pub of the home folder
        #[arg(long, value_name = "KEY|FILE")]
        key: String,
    },
}

fn client(home: &Home) -> ControlClient {
    ControlClient::new(home.keyd_socket(), CALL_TIMEOUT)
}

fn unexpected() -> Failure {
    Failure::new(Exit::Failed, "the key authority answered something else", "use programs of one version")
}

impl VolumeWork {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = client(home);
        match self {
            Self::Shred { volumes, order } => order.run(&keyd, volumes, Vec::new(), "volume shred", output),
            Self::Hold { volume: None, .. } => match keyd.destruction(DestructionRequest::Holds)? {
                DestructionReply::Holds(holds) => output.value(&holds, |holds| held(holds)),
                _ => Err(unexpected()),
            },
            Self::Hold { volume: Some(volume), reason } => hold(&keyd, volume, true, reason.unwrap_or_default()),
            Self::Release { volume, reason } => hold(&keyd, volume, false, reason),
        }
    }
}

fn hold(keyd: &ControlClient, volume: String, held: bool, reason: String) -> Result<(), Failure> {
    match keyd.destruction(DestructionRequest::Hold { volume, held, reason })? {
        DestructionReply::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

fn held(holds: &[HoldView]) -> String {
    let row = |h: &HoldView| [h.label.clone(), h.since.clone(), h.reason.clone(), h.volume.to_string()];
    table(["LABEL", "SINCE", "REASON", "VOLUME"], &holds.iter().map(row).collect::<Vec<_>>())
}

impl KeyWork {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = client(home);
        match self {
            Self::Destroy { keys, order } => order.run(&keyd, Vec::new(), keys, "key destroy", output),
            Self::Rotate(rotate) => rotate.run(&keyd, output),
        }
    }
}

impl Order {
    fn run(
        self,
        keyd: &ControlClient,
        volumes: Vec<String>,
        keys: Vec<Uuid>,
        command: &str,
        output: &Output,
    ) -> Result<(), Failure> {
        if let Some(request) = self.request {
            return carry_out(keyd, request, output);
        }
        let hsm_backups = self.hsm_backups.unwrap_or_default();
        let order = DestructionOrder { volumes, keys, even_active: self.even_active, hsm_backups };
        let Some(reason) = self.reason else {
            return match keyd.destruction(DestructionRequest::Plan { order })? {
                DestructionReply::Plan(plan) => output.value(&*plan, planned),
                _ => Err(unexpected()),
            };
        };
        let view = batch(keyd, DestructionRequest::Ask { order, reason })?;
        output.value(&view, |view| format!("{}\n{}", planned(&view.plan), summary(view)))?;
        output.note(&format!(
            "nothing is destroyed yet: two security officers have to approve request {0}; then: sealtape {command} --request {0}",
            view.request
        ));
        Ok(())
    }
}

fn batch(keyd: &ControlClient, request: DestructionRequest) -> Result<BatchView, Failure> {
    match keyd.destruction(request)? {
        DestructionReply::Batch(view) => Ok(*view),
        _ => Err(unexpected()),
    }
}

/// Carries a destruction out and watches it to its end; the key authority goes on with it whether anybody watches or not.
fn carry_out(keyd: &ControlClient, request: Uuid, output: &Output) -> Result<(), Failure> {
    let mut view = batch(keyd, DestructionRequest::CarryOut { request })?;
    let mut bar = Bar::new(output, "destroying");
    let mut told = None;
    while view.state != BatchState::Done {
        let rotation = view.rotation.as_ref().filter(|_| view.state == BatchState::Rewrapping);
        if let Some(rotation) = rotation.filter(|r| matches!(r.state, RotationState::Held)) {
            drop(bar);
            return Err(stopped(rotation));
        }
        bar.show(&match rotation {
            Some(rotation) => progress(rotation),
            None => Progress { stage: stage(view.state).into(), done: 0, total: None, unit: ProgressUnit::Steps },
        });
        tell(&mut told, view.trouble.as_ref(), output);
        thread::sleep(LOOK);
        view = batch(keyd, DestructionRequest::Show { id: request })?;
    }
    drop(bar);
    output.value(&view, summary)?;
    if view.backup.is_none() {
        output.note(
            "earlier backups of the catalogue open nothing any more: make a new one with sealtape catalogue backup",
        );
    }
    output.note(&format!("the certificate: sealtape certificate show {}", view.batch));
    Ok(())
}

/// What holds the work up is told once.
fn tell(told: &mut Option<String>, trouble: Option<&String>, output: &Output) {
    if let Some(trouble) = trouble
        && told.as_ref() != Some(trouble)
    {
        output.note(&format!("held up, tried again: {}", printable(trouble)));
        *told = Some(trouble.clone());
    }
}

fn stage(state: BatchState) -> &'static str {
    match state {
        BatchState::Asked => "asked for",
        BatchState::Rewrapping => "rewrapping what stays",
        BatchState::Backup => "making a backup",
        BatchState::Keks => "destroying key-encryption keys",
        BatchState::Wiping => "wiping",
        BatchState::Certifying | BatchState::Signing => "making the certificate",
        BatchState::Done => "done",
    }
}

fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Destroyed => "destroyed",
        Fate::Unreachable => "NOT REACHED",
        Fate::Kept => "stays",
    }
}

fn planned(plan: &DestructionPlan) -> String {
    let mut text = printable(&plan.operation.words()) + "\n";
    for key in &plan.keys {
        text += &format!(
            "key {} of {} (generation {}, partition {})\n",
            key.at.key_id,
            printable(&key.label),
            key.at.generation,
            key.at.partition
        );
    }
    for kek in &plan.keks {
        text += &format!("key-encryption key {} ({}): {}: {}\n", kek.kek, kek.purpose, fate(kek.fate), kek.means);
    }
    for copy in &plan.copies {
        let of = copy.key.map_or_else(|| "all".to_owned(), |key| key.to_string());
        text += &format!("copy of {of}: {}: {}: {}\n", printable(&copy.place), fate(copy.fate), printable(&copy.means));
    }
    let unreachable = plan.copies.iter().filter(|c| c.fate == Fate::Unreachable).count();
    text += &match unreachable {
        0 => "of the copies that are known none will be left\n".to_owned(),
        count => format!("{count} copies cannot be reached: who holds them can open them as said above\n"),
    };
    text
}

fn summary(view: &BatchView) -> String {
    fields(&[
        ("batch", view.batch.to_string()),
        ("request", view.request.to_string()),
        ("state", stage(view.state).into()),
        ("keys", view.plan.keys.len().to_string()),
        ("plan", format!("sha256:{}", view.plan_sha256)),
        ("reason", view.reason.clone()),
        ("asked", view.asked.clone()),
        ("begun", view.begun.clone().unwrap_or_default()),
        ("ended", view.ended.clone().unwrap_or_default()),
        ("held up by", view.trouble.clone().unwrap_or_default()),
        ("backup", view.backup.clone().unwrap_or_default()),
    ])
}

impl Rotate {
    fn run(self, keyd: &ControlClient, output: &Output) -> Result<(), Failure> {
        let reason = self.reason.unwrap_or_default();
        let tenant = Some(self.tenant);
        let now = || rotation(keyd, DestructionRequest::ShowRotation { tenant: tenant.clone() });
        let mut view = match (self.status, self.stop) {
            (true, _) => return show_rotation(now()?.as_ref(), output),
            (false, true) => {
                keyd.destruction(DestructionRequest::StopRotation { tenant: tenant.clone(), reason })?;
                return show_rotation(now()?.as_ref(), output);
            }
            (false, false) => {
                let request = DestructionRequest::Rotate { tenant: tenant.clone(), reason };
                rotation(keyd, request)?.ok_or_else(unexpected)?
            }
        };
        if self.no_wait {
            return show_rotation(Some(&view), output);
        }
        let mut bar = Bar::new(output, "rewrapping keys");
        let mut told = None;
        while matches!(view.state, RotationState::Rewrapping | RotationState::Verifying) {
            bar.show(&progress(&view));
            tell(&mut told, view.trouble.as_ref(), output);
            thread::sleep(LOOK);
            view = now()?.ok_or_else(unexpected)?;
        }
        drop(bar);
        show_rotation(Some(&view), output)?;
        if view.state == RotationState::Done { Ok(()) } else { Err(stopped(&view)) }
    }
}

fn rotation(keyd: &ControlClient, request: DestructionRequest) -> Result<Option<RotationView>, Failure> {
    match keyd.destruction(request)? {
        DestructionReply::Rotation(view) => Ok(view),
        _ => Err(unexpected()),
    }
}

fn progress(view: &RotationView) -> Progress {
    let (stage, done) = match view.state {
        RotationState::Verifying => ("verifying keys", view.verified),
        _ => ("rewrapping keys", view.rewrapped),
    };
    Progress { stage: stage.into(), done, total: Some(view.total), unit: ProgressUnit::Steps }
}

fn stopped(view: &RotationView) -> Failure {
    let names: Vec<String> =
        view.damaged.iter().map(|d| format!("{} of {}", d.at.key_id, printable(&d.label))).collect();
    match names.is_empty() {
        true => Failure::new(
            Exit::Stopped,
            "the rotation was stopped before its end",
            "go on with: sealtape key rotate --reason WHY",
        ),
        false => Failure::new(
            Exit::Integrity,
            format!(
                "{} wrapped keys do not open, and the old key-encryption key stays: {}",
                names.len(),
                names.join(", ")
            ),
            "restore them from a backup of the catalogue, or destroy them, then: sealtape key rotate --reason WHY",
        ),
    }
}

fn show_rotation(view: Option<&RotationView>, output: &Output) -> Result<(), Failure> {
    output.value(&view, |view| {
        let Some(view) = view else { return "the catalogue's key-encryption key was never replaced".into() };
        let state = match view.state {
            RotationState::Rewrapping => "rewrapping",
            RotationState::Verifying => "verifying",
            RotationState::Held => "held by keys that do not open",
            RotationState::Stopped => "stopped",
            RotationState::Done => "done",
        };
        let mut text = fields(&[
            ("rotation", view.rotation.to_string()),
            ("tenant", view.tenant.clone()),
            ("state", state.into()),
            ("old key", view.old_kek.to_string()),
            ("new key", view.new_kek.to_string()),
            ("rewrapped", format!("{} of {}", view.rewrapped, view.total)),
            ("verified", format!("{} of {}", view.verified, view.total)),
            ("reason", view.reason.clone()),
            ("started", view.started.clone()),
            ("ended", view.ended.clone().unwrap_or_default()),
            ("held up by", view.trouble.clone().unwrap_or_default()),
        ]);
        for key in &view.damaged {
            text += &format!("DAMAGED  key {} of {}: {}\n", key.at.key_id, printable(&key.label), printable(&key.what));
        }
        text
    })
}

impl Certificate {
    pub(super) fn run(self, home: impl FnOnce() -> Result<Home, Failure>, output: &Output) -> Result<(), Failure> {
        match self {
            Self::List => match client(&home()?).destruction(DestructionRequest::List)? {
                DestructionReply::Batches(views) => output.value(&views, |views| list(views)),
                _ => Err(unexpected()),
            },
            Self::Show { id, out } => match client(&home()?).destruction(DestructionRequest::Certificate { id })? {
                DestructionReply::Certificate(note) => match out {
                    Some(file) => write(&file, &note),
                    // The note as it is, in JSON too: a string would have to be unpacked before it verifies.
                    None => output.text(&note),
                },
                _ => Err(unexpected()),
            },
            Self::Verify { file, key } => {
                let (keys, note) = (super::audit::keys_from::<VerifierKey>(&key)?, read(&file)?);
                // Of a log that changed its key there are several: the one that signed decides, else the last one tells why.
                let mut verified = Err(None);
                for key in &keys {
                    verified = verify(&note, key).map_err(Some);
                    if verified.is_ok() {
                        break;
                    }
                }
                let certified = verified.map_err(|e| {
                    let e = e.map_or_else(|| "there is no key".to_owned(), |e| e.to_string());
                    Failure::new(
                        Exit::Integrity,
                        format!("the certificate {} does not verify: {e}", file.display()),
                        "get it again from the key authority, and the key on another way",
                    )
                })?;
                output.value(&certified, Certified::words)
            }
        }
    }
}

fn list(views: &[BatchView]) -> String {
    let row = |v: &BatchView| {
        [
            v.asked.clone(),
            stage(v.state).to_owned(),
            v.plan.keys.len().to_string(),
            v.reason.clone(),
            v.request.to_string(),
            v.batch.to_string(),
        ]
    };
    table(["ASKED", "STATE", "KEYS", "REASON", "REQUEST", "BATCH"], &views.iter().map(row).collect::<Vec<_>>())
}

fn write(file: &Path, note: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::file("writing the certificate", file, &e);
    let mut out = File::options().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    out.write_all(note.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::file("reading the certificate", file, &e);
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => stdin().lock().take(LONGEST).read_to_string(&mut text),
        false => File::open(file).map_err(failed)?.take(LONGEST).read_to_string(&mut text),
    };
    read.map_err(failed)?;
    Ok(text)
}
