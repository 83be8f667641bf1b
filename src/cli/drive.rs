//! `drive list` and `drive status`.

use std::io::{IsTerminal, stdout};
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use sealtape_kms::client::ControlClient;
use sealtape_kms::protocol::VolumeSummary;
use uuid::Uuid;

use super::failure::Failure;
use super::output::Output;
use super::table::{bytes, fields, or_dash, table};
use crate::control::client::Client;
use crate::control::{DriveState, DriveStatus, MediumKind};
use crate::service::home::Home;

/// How long names from the catalogue are waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Watch drives.
#[derive(Debug, Subcommand)]
pub(super) enum Drive {
    /// List the drives, what is in them, and their nodes
    List,
    /// Show what a drive is doing
    Status(Status),
}

/// Show what a drive is doing.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The drive; all of them when none is named
    drive: Option<String>,
    /// Show it again every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u16).range(1..=3600))]
    watch: Option<u16>,
}

impl Drive {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        match self {
            Self::List => {
                let mut drives = Client::connect(&home.data_socket())?.drives()?;
                Catalogue::new(home).complete(&mut drives);
                output.value(&drives, |drives| list(drives))
            }
            Self::Status(status) => status.run(home, output),
        }
    }
}

impl Status {
    fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        // Only a terminal is cleared between two pictures.
        let clear = self.watch.is_some() && !output.json() && stdout().is_terminal();
        let mut client = Client::connect(&home.data_socket())?;
        let mut catalogue = Catalogue::new(home);
        loop {
            if clear {
                output.text("\x1b[H\x1b[2J")?;
            }
            let mut drives = match &self.drive {
                Some(drive) => vec![client.drive(drive)?],
                None => client.drives()?,
            };
            catalogue.complete(&mut drives);
            match (&self.drive, drives.as_slice()) {
                (Some(_), [drive]) => output.value(drive, show)?,
                _ => output.value(&drives, |drives| drives.iter().map(show).collect::<Vec<_>>().join("\n"))?,
            }
            match self.watch {
                Some(seconds) => thread::sleep(Duration::from_secs(seconds.into())),
                None => return Ok(()),
            }
        }
    }
}

/// Labels, barcodes and pools from the key authority: where policy keeps them off the medium, the data path does not know them.
pub(super) struct Catalogue {
    keyd: ControlClient,
    known: Vec<VolumeSummary>,
}

impl Catalogue {
    pub(super) fn new(home: &Home) -> Self {
        Self { keyd: ControlClient::new(home.keyd_socket(), PATIENCE), known: Vec::new() }
    }

    /// Adds what the catalogue knows of the volumes in the drives. A status without names is better than none: that the key
    /// authority does not answer is a warning.
    pub(super) fn complete(&mut self, drives: &mut [DriveStatus]) {
        for volume in drives.iter_mut().filter_map(|drive| drive.volume.as_mut()) {
            if let Some(known) = self.find(volume.uuid) {
                volume.label = Some(known.label.clone());
                volume.barcode.clone_from(&known.barcode);
                volume.pool = Some(known.pool.clone());
            }
        }
    }

    /// The operator's label of a volume.
    pub(super) fn label(&mut self, volume: Uuid) -> Option<String> {
        self.find(volume).map(|known| known.label.clone())
    }

    fn find(&mut self, volume: Uuid) -> Option<&VolumeSummary> {
        if !self.known.iter().any(|known| known.volume == volume) {
            match self.keyd.list_volumes() {
                Ok(volumes) => self.known = volumes,
                Err(error) => tracing::warn!("names of volumes are missing: {error}"),
            }
        }
        self.known.iter().find(|known| known.volume == volume)
    }
}

fn list(drives: &[DriveStatus]) -> String {
    let rows: Vec<_> = drives
        .iter()
        .map(|drive| {
            let volume =
                drive.volume.as_ref().map(|volume| volume.label.clone().unwrap_or_else(|| volume.uuid.to_string()));
            let node = drive.nodes.as_ref().map(|nodes| nodes.non_rewinding.display().to_string());
            [drive.name.clone(), state(drive.state).into(), medium(drive), or_dash(volume), or_dash(node)]
        })
        .collect();
    table(["DRIVE", "STATE", "MEDIUM", "VOLUME", "NODE"], &rows)
}

fn state(state: DriveState) -> &'static str {
    match state {
        DriveState::Empty => "empty",
        DriveState::Loading => "loading",
        DriveState::Ready => "ready",
        DriveState::InUse => "in use",
        DriveState::Labelling => "labelling",
        DriveState::Verifying => "verifying",
        DriveState::Unloading => "unloading",
        DriveState::Failed => "failed",
        DriveState::Other => "unknown",
    }
}

fn medium(drive: &DriveStatus) -> String {
    let Some(medium) = &drive.medium else { return "-".to_owned() };
    let kind = match medium.kind {
        MediumKind::Blank => "blank",
        MediumKind::Sealed => "sealed",
        MediumKind::Clear => "clear",
        MediumKind::Unreadable => "unreadable",
        MediumKind::Cleaning => "cleaning",
        MediumKind::Firmware => "firmware",
        MediumKind::Other => "unknown",
    };
    let mut text = kind.to_owned();
    if medium.worm {
        text.push_str(", WORM");
    }
    if medium.write_protected {
        text.push_str(", write protected");
    } else if drive.read_only.is_some() {
        text.push_str(", read-only");
    }
    text
}

/// One drive, in lines.
pub(super) fn show(drive: &DriveStatus) -> String {
    let mut rows = vec![
        ("drive", drive.name.clone()),
        ("state", state(drive.state).to_owned()),
        ("used by", drive.host_pid.map(|pid| format!("process {pid}")).unwrap_or_default()),
        (
            "back end",
            [Some(drive.back_end.clone()), drive.identity.clone()].into_iter().flatten().collect::<Vec<_>>().join(", "),
        ),
    ];
    if let Some(nodes) = &drive.nodes {
        rows.push((
            "node",
            format!("{} (rewinds at close: {})", nodes.non_rewinding.display(), nodes.rewinding.display()),
        ));
    }
    rows.push(("cartridge", drive.cartridge.clone().unwrap_or_default()));
    if let Some(on) = &drive.medium {
        let left = on.remaining_bytes.map(|left| format!("{} left of ", bytes(left))).unwrap_or_default();
        rows.push(("medium", format!("{}, {left}{}", medium(drive), bytes(on.capacity_bytes))));
        if drive.volume.is_none() {
            rows.push(("barcode", on.barcode.clone().unwrap_or_default()));
        }
    }
    if let Some(volume) = &drive.volume {
        rows.push(("volume", volume.uuid.to_string()));
        rows.push(("label", volume.label.clone().unwrap_or_default()));
        rows.push(("barcode", volume.barcode.clone().unwrap_or_default()));
        rows.push(("pool", volume.pool.clone().unwrap_or_default()));
        let generation = volume.generation.map(|n| {
            format!(
                "{n} of partition {}, {}, key {}",
                volume.partition,
                or_dash(volume.suite.clone()),
                or_dash(volume.key_id)
            )
        });
        rows.push(("generation", generation.unwrap_or_default()));
    }
    if let Some(at) = drive.position {
        let place = match (at.beginning_of_partition, at.end_of_data) {
            (true, _) => " (beginning)",
            (false, true) => " (end of data)",
            (false, false) => "",
        };
        let filemarks = at.filemarks.map(|n| format!(", filemark {n}")).unwrap_or_default();
        rows.push(("position", format!("partition {}, object {}{filemarks}{place}", at.partition, at.object)));
    }
    let counters = drive.counters;
    if counters.records_written > 0 {
        let (host, medium) = (bytes(counters.host_bytes_written), bytes(counters.medium_bytes_written));
        rows.push(("written", format!("{} records, {host}, on the medium {medium}", counters.records_written)));
    }
    if counters.records_read > 0 {
        rows.push(("read", format!("{} records, {}", counters.records_read, bytes(counters.host_bytes_read))));
    }
    if counters.records_refused > 0 {
        rows.push(("refused", format!("{} records", counters.records_refused)));
    }
    if drive.medium.is_some() {
        let window = drive.window;
        let fill = match window.limit_bytes {
            0 => "none: every write is synchronous".to_owned(),
            limit => format!("{} records, {} of {}", window.records, bytes(window.bytes), bytes(limit)),
        };
        rows.push(("window", fill));
        rows.push(("unsynchronised", format!("{} objects", drive.unsynchronised_objects)));
    }
    for (name, notice) in [("LOST RECORDS", &drive.lost_records), ("READ-ONLY", &drive.read_only)] {
        if let Some(notice) = notice {
            rows.push((name, notice.message.clone()));
            rows.push(("  next", notice.mend.clone()));
        }
    }
    if let Some(error) = &drive.last_error {
        rows.push(("last error", error.message.clone()));
        rows.push(("  next", error.mend.clone()));
    }
    fields(&rows)
}
