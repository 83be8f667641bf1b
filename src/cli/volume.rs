//! `volume …`: what operators do with volumes.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::protocol::{
    Cartridge, GenerationState, KeyState, LabelOrder as TicketOrder, VolumeKind, VolumeState, VolumeSummary, VolumeView,
};

use super::drive::{Catalogue, show};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::progress::Bar;
use super::table::{bytes, fields, or_dash, table};
use crate::control::client::Client;
use crate::control::{ControlError, EndOfData, ErrorCode, LabelOrder, LabelReport, Overwrite, VerifyReport};
use crate::seal::Suite;
use crate::service::home::Home;

/// How long a busy drive is tried again.
const GRACE: Duration = Duration::from_secs(2);

/// Label, load, list and verify volumes.
#[derive(Debug, Subcommand)]
pub(super) enum Volume {
    /// Label the medium in a drive: it becomes a sealed volume, with a data key of its own
    Label(Label),
    /// List the volumes that the key authority knows
    List {
        /// Streams (pipes) too
        #[arg(long)]
        streams: bool,
    },
    /// Show a volume: its partitions, generations and the states of their keys
    Show {
        /// Its UUID, or its label
        volume: String,
    },
    /// Load the cartridge in a drive
    Load {
        /// The drive
        drive: String,
        /// Insert this image file first (file-backed drives)
        image: Option<PathBuf>,
    },
    /// Synchronise and unload
    Unload {
        /// The drive
        drive: String,
    },
    /// Read every record of the loaded volume and verify it; no host may use the drive meanwhile
    Verify {
        /// The drive
        drive: String,
    },
    /// You have seen why the loaded volume became read-only: allow writing again where policy does
    Acknowledge {
        /// The drive
        drive: String,
    },
    /// The cartridge in a drive has been given another barcode, or its volume another cartridge: enter it into the catalogue
    Rebarcode(Rebarcode),
    /// Take a volume out of use: it is not loaded any more
    Retire {
        /// Its UUID, or its label
        volume: String,
        /// Why; kept in the custody log
        #[arg(long)]
        reason: String,
    },
    /// Take a retired volume back into use
    Reinstate {
        /// Its UUID, or its label
        volume: String,
        /// Why; kept in the custody log
        #[arg(long)]
        reason: String,
    },
    #[command(flatten)]
    Destroy(super::destroy::VolumeWork),
}

/// Label the medium in a drive.
#[derive(Debug, Args)]
pub(super) struct Label {
    /// The drive
    drive: String,
    /// The label, 1 to 64 characters; whether it stands on the medium in the clear is the pool's policy [default: the barcode]
    label: Option<String>,
    /// The barcode on the cartridge; where its memory or the library tells one, it has to be that [default: what they tell]
    #[arg(long)]
    barcode: Option<String>,
    /// The pool [default: the default pool]
    #[arg(long)]
    pool: Option<String>,
    /// Number of partitions
    #[arg(long, value_name = "1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    partitions: u8,
    /// What the medium holds now may be lost: name the sealed volume on it by its UUID, or say "clear" when it holds
    /// data in the clear or something unreadable [default: only a blank medium is labelled]
    #[arg(long, value_name = "UUID|clear", value_parser = overwrite)]
    overwrite: Option<Overwrite>,
}

/// The cartridge in a drive has been given another barcode.
#[derive(Debug, Args)]
pub(super) struct Rebarcode {
    /// The drive
    drive: String,
    /// The barcode on the cartridge, as you read it; where its memory or the library tells one, it has to be that
    #[arg(long)]
    barcode: String,
    /// Why; kept in the custody log
    #[arg(long)]
    reason: String,
}

fn overwrite(text: &str) -> Result<Overwrite, String> {
    match text {
        "clear" => Ok(Overwrite::Clear),
        _ => text.parse().map(Overwrite::Volume).map_err(|_| {
            "write the UUID of the volume on the medium (sealtape drive status shows it), or \"clear\"".to_owned()
        }),
    }
}

impl Volume {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = || ControlClient::new(home.keyd_socket(), CALL_TIMEOUT);
        let data = || Client::connect(&home.data_socket());
        match self {
            Self::Label(label) => label.run(&keyd(), &mut data()?, output),
            Self::Destroy(command) => command.run(home, output),
            Self::List { streams } => {
                let mut volumes = keyd().list_volumes()?;
                volumes.retain(|volume| streams || volume.kind == VolumeKind::Tape);
                output.value(&volumes, |volumes| list(volumes))
            }
            Self::Show { volume } => output.value(&keyd().show_volume(volume)?, view),
            Self::Load { drive, image } => {
                let image = image.map(absolute).transpose()?;
                let mut bar = Bar::new(output, "loading");
                let mut data = data()?;
                let mut status = patiently(|| data.load(&drive, image.as_deref(), &mut |p| bar.show(p)))?;
                drop(bar);
                Catalogue::new(home).complete(std::slice::from_mut(&mut status));
                output.value(&status, show)
            }
            Self::Unload { drive } => {
                let mut bar = Bar::new(output, "unloading");
                let mut data = data()?;
                let status = patiently(|| data.unload(&drive, &mut |p| bar.show(p)))?;
                drop(bar);
                output.value(&status, |_| String::new())?;
                output.note(&format!("drive {drive}: unloaded"));
                Ok(())
            }
            Self::Verify { drive } => {
                let mut bar = Bar::new(output, "verifying");
                let mut data = data()?;
                let mut report = patiently(|| data.verify(&drive, &mut |p| bar.show(p)))?;
                drop(bar);
                report.label = report.label.or_else(|| Catalogue::new(home).label(report.volume));
                output.value(&report, verified)?;
                verdict(&report)
            }
            Self::Acknowledge { drive } => {
                let mut status = data()?.acknowledge(&drive)?;
                Catalogue::new(home).complete(std::slice::from_mut(&mut status));
                output.value(&status, show)
            }
            Self::Rebarcode(rebarcode) => rebarcode.run(&keyd(), &mut data()?, output),
            Self::Retire { volume, reason } => set_state(&keyd(), output, volume, VolumeState::Retired, reason),
            Self::Reinstate { volume, reason } => set_state(&keyd(), output, volume, VolumeState::Active, reason),
        }
    }
}

impl Label {
    fn run(self, keyd: &ControlClient, data: &mut Client, output: &Output) -> Result<(), Failure> {
        let overwrite = self.overwrite.unwrap_or(Overwrite::Nothing);
        let found = data.drive(&self.drive)?.medium.and_then(|medium| medium.barcode);
        let barcode = agreed(&self.drive, self.barcode, found)?;
        let label = self.label.or_else(|| barcode.clone()).ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("drive {}: the cartridge tells no barcode, and no label is given", self.drive),
                format!("name the label: sealtape volume label {} LABEL", self.drive),
            )
        })?;
        let ticket = keyd.authorize_label(TicketOrder {
            unit: self.drive.clone(),
            label: label.clone(),
            barcode,
            pool: self.pool,
            partitions: self.partitions,
            relabel: matches!(overwrite, Overwrite::Volume(_)),
        })?;
        let order = LabelOrder { ticket: ticket.ticket.0, overwrite };
        let mut bar = Bar::new(output, "labelling");
        let mut report = patiently(|| data.label(&self.drive, order.clone(), &mut |p| bar.show(p)))?;
        drop(bar);
        // The data path knows what stands on the medium only; the ticket was for these.
        report.label = Some(label);
        report.barcode = keyd.show_volume(report.volume.to_string())?.barcode;
        output.value(&report, labelled)
    }
}

/// The barcode that was ordered, or else the one that the cartridge has; never one against the other.
fn agreed(drive: &str, ordered: Option<String>, found: Option<String>) -> Result<Option<String>, Failure> {
    match (ordered, found) {
        (Some(ordered), Some(found)) if ordered != found => Err(Failure::new(
            Exit::Refused,
            format!("drive {drive}: the cartridge has barcode {found}, not {ordered}"),
            "look which cartridge is in the drive; leave --barcode out to take what it says",
        )),
        (ordered, found) => Ok(ordered.or(found)),
    }
}

impl Rebarcode {
    fn run(self, keyd: &ControlClient, data: &mut Client, output: &Output) -> Result<(), Failure> {
        let drive = data.drive(&self.drive)?;
        let (Some(medium), Some(volume)) = (drive.medium, drive.volume) else {
            return Err(Failure::new(
                Exit::Medium,
                format!("drive {}: no sealed volume is loaded", self.drive),
                format!("load the cartridge that is meant: sealtape volume load {}", self.drive),
            ));
        };
        let barcode = agreed(&self.drive, Some(self.barcode), medium.barcode)?;
        keyd.set_cartridge(volume.uuid.to_string(), Cartridge { barcode, serial: medium.serial }, self.reason)?;
        output.value(&keyd.show_volume(volume.uuid.to_string())?, view)?;
        output.note(&format!("if it was refused: sealtape volume unload {0}, and load it again", self.drive));
        Ok(())
    }
}

/// Tries again for a moment while the drive is busy: a program that has closed the node and ended is seen to be gone only a
/// little later, and `tar …; sealtape volume unload …` has to work without a sleep between.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, ControlError>) -> Result<T, ControlError> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.code == ErrorCode::Busy && start.elapsed() < GRACE => thread::sleep(GRACE / 20),
            other => return other,
        }
    }
}

fn set_state(
    keyd: &ControlClient,
    output: &Output,
    volume: String,
    state: VolumeState,
    reason: String,
) -> Result<(), Failure> {
    // By its UUID: a label names an active volume only.
    let uuid = keyd.show_volume(volume)?.volume.to_string();
    keyd.set_volume_state(&uuid, state, reason)?;
    output.value(&keyd.show_volume(uuid)?, view)
}

/// The data path has another working folder.
fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(&path).map_err(|e| Failure::file("finding the image", &path, &e))
}

fn list(volumes: &[VolumeSummary]) -> String {
    let rows: Vec<_> = volumes
        .iter()
        .map(|volume| {
            [
                volume.label.clone(),
                or_dash(volume.barcode.clone()),
                volume.pool.clone(),
                state(volume.state).into(),
                volume.created.clone(),
                volume.volume.to_string(),
            ]
        })
        .collect();
    table(["LABEL", "BARCODE", "POOL", "STATE", "CREATED", "VOLUME"], &rows)
}

pub(super) fn state(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Labelling => "labelling",
        VolumeState::Active => "active",
        VolumeState::Replaced => "replaced",
        VolumeState::Retired => "retired",
        VolumeState::Destroyed => "destroyed",
    }
}

fn view(volume: &VolumeView) -> String {
    let mut text = fields(&[
        ("volume", volume.volume.to_string()),
        ("label", volume.label.clone()),
        ("barcode", volume.barcode.clone().unwrap_or_default()),
        ("cartridge", volume.cartridge_serial.clone().unwrap_or_default()),
        ("pool", volume.policy.name.clone()),
        ("state", state(volume.state).into()),
        ("created", volume.created.clone()),
        ("written", volume.written.clone().unwrap_or_default()),
        ("key on medium", if volume.policy.key_on_medium { "yes" } else { "no" }.into()),
    ]);
    let rows: Vec<_> = volume
        .partitions
        .iter()
        .flat_map(|partition| partition.generations.iter().map(|generation| (partition.partition, generation)))
        .map(|(partition, generation)| {
            [
                partition.to_string(),
                generation.generation.to_string(),
                generation_state(generation.state).into(),
                key_state(generation.key_state).into(),
                Suite(generation.suite).to_string(),
                generation.created.clone(),
                generation.key_id.to_string(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(["PARTITION", "GENERATION", "STATE", "KEY", "SUITE", "CREATED", "KEY ID"], &rows));
    }
    text
}

fn generation_state(state: GenerationState) -> &'static str {
    match state {
        GenerationState::Pending => "pending",
        GenerationState::Active => "active",
        GenerationState::Superseded => "superseded",
        GenerationState::Abandoned => "abandoned",
    }
}

fn key_state(state: KeyState) -> &'static str {
    match state {
        KeyState::PreActive => "pre-active",
        KeyState::Active => "active",
        KeyState::Deactivated => "deactivated",
        KeyState::Compromised => "compromised",
        KeyState::Destroyed => "destroyed",
        KeyState::DestroyedCompromised => "destroyed compromised",
    }
}

fn labelled(report: &LabelReport) -> String {
    let mut rows = vec![
        ("volume", report.volume.to_string()),
        ("label", report.label.clone().unwrap_or_default()),
        ("barcode", report.barcode.clone().unwrap_or_default()),
        ("drive", report.drive.clone()),
        ("suite", report.suite.clone()),
    ];
    for made in &report.partitions {
        rows.push(("partition", format!("{}: generation {}, key {}", made.partition, made.generation, made.key_id)));
    }
    fields(&rows)
}

fn verified(report: &VerifyReport) -> String {
    let name = report.label.clone().unwrap_or_else(|| report.volume.to_string());
    let mut rows = vec![("volume", name), ("drive", report.drive.clone())];
    for found in &report.partitions {
        rows.push(("partition", format!("{}, generation {}", found.partition, found.generation)));
        let (records, host) = (found.records, bytes(found.host_bytes));
        rows.push((
            "verified",
            format!("{records} records, {host}, {} filemarks, {} sessions", found.filemarks, found.sessions),
        ));
        rows.push((
            "end of data",
            match &found.end {
                EndOfData::Proven { object } => format!("object {object}, as in the catalogue"),
                EndOfData::NotProven { object, reason } => format!("object {object}, not proven: {reason}"),
                EndOfData::Wrong { object, message } => format!("object {object}, WRONG: {message}"),
            },
        ));
        for fault in &found.faults {
            rows.push(("FAULT", format!("object {}: {}", fault.object, fault.message)));
        }
        let unlisted = found.faults_total.saturating_sub(found.faults.len() as u64);
        if unlisted > 0 {
            rows.push(("FAULT", format!("{unlisted} more")));
        }
    }
    rows.push(("elapsed", format!("{:.1} s", report.elapsed_ms as f64 / 1000.0)));
    fields(&rows)
}

fn verdict(report: &VerifyReport) -> Result<(), Failure> {
    if report.passed() {
        return Ok(());
    }
    let faults: u64 = report.partitions.iter().map(|partition| partition.faults_total).sum();
    Err(Failure::new(
        Exit::Integrity,
        format!(
            "volume {} in drive {} did not verify: {faults} faults, or a wrong end of data",
            report.volume, report.drive
        ),
        "restore what is readable to another volume, keep this one for the inquiry, and see: sealtape audit show",
    ))
}
