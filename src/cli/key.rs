//! `key …`: the life of data keys and of the keys that wrap them.

use clap::{Args, Subcommand};
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::protocol::{
    CompromiseReport, DataKeyView, GenerationState, KekView, KeyFilter, KeyState, KeysReply, KeysRequest, Rights,
};

use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::{fields, or_dash, table};
use crate::service::home::Home;

/// Keys in one answer of the key authority.
const PAGE: u32 = 2000;

/// Look at keys: their states and periods; mark them as compromised.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// List data keys with state and periods: those that stand on media, unless something else is asked for
    List(List),
    /// A key is in wrong hands, or may be: it is released no more, what was released is wiped at once, and the volumes that have to be
    /// written anew are listed. There is no way back
    Compromise(Compromise),
    /// Ask two custodians to let the keys of volumes open for longer
    Extend {
        /// The volumes (labels or UUIDs)
        #[arg(required = true)]
        volumes: Vec<String>,
        /// Until when: a day (2030-12-31, its end is meant), or a time as 2030-12-31T00:00:00.000Z
        #[arg(long, value_name = "DAY")]
        until: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Ask two custodians to let a volume whose key is compromised be read for a while, to save what is on it
    Rescue {
        /// The volume (label or UUID)
        volume: String,
        /// For how many hours
        #[arg(long, default_value_t = 24)]
        hours: u32,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Carry out a request of these when it is approved
    CarryOut {
        /// The request
        request: uuid::Uuid,
    },
    #[command(flatten)]
    Destroy(super::destroy::KeyWork),
}

/// List data keys.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Every key there ever was
    #[arg(long, group = "which")]
    all: bool,
    /// Every key of one volume (label or UUID)
    #[arg(long, group = "which", value_name = "VOLUME")]
    volume: Option<String>,
    /// Those with a period that ends within so many days, or has ended
    #[arg(long, group = "which", value_name = "DAYS", value_parser = clap::value_parser!(u32).range(..=36525))]
    expiring: Option<u32>,
    /// What has to be written anew because its key is compromised
    #[arg(long, group = "which")]
    compromised: bool,
    /// The key-encryption keys instead: of the catalogue, and of the media by pool and epoch
    #[arg(long, group = "which")]
    keks: bool,
}

/// Mark a key as compromised.
#[derive(Debug, Args)]
pub(super) struct Compromise {
    /// Id of a data key, id of a key-encryption key (all keys under it are meant), or a volume (label or UUID; all its keys)
    target: String,
    /// Why; kept in the custody log
    #[arg(long)]
    reason: String,
}

impl Key {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = ControlClient::new(home.keyd_socket(), CALL_TIMEOUT);
        match self {
            Self::List(list) => list.run(&keyd, output),
            Self::Destroy(command) => command.run(home, output),
            Self::Compromise(compromise) => compromise.run(&keyd, output),
            Self::Extend { volumes, until, reason } => {
                let open_until = if until.len() == 10 { format!("{until}T23:59:59.999Z") } else { until };
                request(&keyd, output, KeysRequest::Extend { volumes, open_until, reason })
            }
            Self::Rescue { volume, hours, reason } => {
                request(&keyd, output, KeysRequest::Rescue { volume, hours, reason })
            }
            Self::CarryOut { request } => match keyd.keys(KeysRequest::CarryOut { request })? {
                KeysReply::CarriedOut { entry } => {
                    output.value(&entry, |entry| format!("done, custody entry {entry}\n"))
                }
                _ => Err(unexpected()),
            },
        }
    }
}

/// Says what custodians have to approve.
fn request(keyd: &ControlClient, output: &Output, request: KeysRequest) -> Result<(), Failure> {
    let KeysReply::Request(view) = keyd.keys(request)? else { return Err(unexpected()) };
    output.value(&*view, |view| {
        fields(&[("request", view.request.to_string()), ("then", format!("sealtape key carry-out {}", view.request))])
    })
}

fn unexpected() -> Failure {
    Failure::new(Exit::Failed, "the key authority answered something else", "bring both programs to the same version")
}

impl List {
    fn run(self, keyd: &ControlClient, output: &Output) -> Result<(), Failure> {
        if self.keks {
            let KeysReply::Keks(keks) = keyd.keys(KeysRequest::ListKeks)? else { return Err(unexpected()) };
            return output.value(&keks, |keks| list_keks(keks));
        }
        let which = match (self.all, self.volume, self.expiring, self.compromised) {
            (true, ..) => KeyFilter::All,
            (_, Some(volume), ..) => KeyFilter::Volume { volume },
            (_, _, Some(days), _) => KeyFilter::Expiring { days },
            (_, _, _, true) => KeyFilter::Compromised,
            _ => KeyFilter::Standing,
        };
        let mut keys: Vec<DataKeyView> = Vec::new();
        loop {
            let after = keys.last().map(|key| key.at.key_id);
            let request = KeysRequest::List { which: which.clone(), after, limit: PAGE };
            let KeysReply::Keys(page) = keyd.keys(request)? else { return Err(unexpected()) };
            let last = page.len() < PAGE as usize;
            keys.extend(page);
            if last {
                break;
            }
        }
        keys.sort_by(|a, b| (&a.label, a.at.volume, a.at.partition).cmp(&(&b.label, b.at.volume, b.at.partition)));
        match which {
            KeyFilter::Compromised => output.value(&keys, |keys| list_compromised(keys)),
            _ => output.value(&keys, |keys| list_keys(keys)),
        }
    }
}

fn state(key: &DataKeyView) -> String {
    let state = match key.key_state {
        KeyState::PreActive => "pre-active",
        KeyState::Active => "active",
        KeyState::Deactivated => "deactivated",
        KeyState::Compromised => "COMPROMISED",
        KeyState::Destroyed => "destroyed",
        KeyState::DestroyedCompromised => "destroyed compromised",
    };
    state.to_owned()
}

fn label(key: &DataKeyView) -> String {
    if key.label.is_empty() { key.at.volume.to_string() } else { key.label.clone() }
}

fn list_keys(keys: &[DataKeyView]) -> String {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            let standing = matches!(key.state, GenerationState::Active | GenerationState::Pending);
            let may = match key.rights {
                _ if !standing => "superseded",
                Some(Rights::SealAndOpen) => "seal, open",
                Some(Rights::OpenOnly) => "open",
                None => "NOTHING",
            };
            [
                label(key),
                key.pool.clone(),
                key.at.partition.to_string(),
                key.at.generation.to_string(),
                key.at.key_id.to_string(),
                state(key),
                may.to_owned(),
                day(key.seal_until.as_ref()),
                day(key.open_until.as_ref()),
            ]
        })
        .collect();
    table(["VOLUME", "POOL", "PART", "GEN", "KEY", "STATE", "MAY", "SEALS UNTIL", "OPENS UNTIL"], &rows)
}

/// The day of a time is enough for people; `--json` has all of it.
fn day(time: Option<&String>) -> String {
    or_dash(time.map(|time| time.chars().take(10).collect::<String>()))
}

fn list_compromised(keys: &[DataKeyView]) -> String {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                label(key),
                or_dash(key.barcode.as_ref()),
                key.pool.clone(),
                day(key.written.as_ref()),
                key.at.partition.to_string(),
                key.at.key_id.to_string(),
                day(key.compromised.as_ref().map(|c| &c.time)),
                or_dash(key.compromised.as_ref().map(|c| &c.reason)),
            ]
        })
        .collect();
    table(["VOLUME", "BARCODE", "POOL", "LAST WRITTEN", "PART", "KEY", "SINCE", "REASON"], &rows)
}

fn list_keks(keks: &[KekView]) -> String {
    let rows: Vec<_> = keks
        .iter()
        .map(|kek| {
            [
                kek.id.to_string(),
                kek.purpose.clone(),
                kek.tenant.clone(),
                or_dash(kek.pool.as_ref()),
                or_dash(kek.epoch.as_ref()),
                day(kek.until.as_ref()),
                kek.state.clone(),
                kek.keys.to_string(),
                kek.held_by.to_string(),
            ]
        })
        .collect();
    table(["KEY-ENCRYPTION KEY", "PURPOSE", "TENANT", "POOL", "EPOCH", "UNTIL", "STATE", "KEYS", "HELD BY"], &rows)
}

impl Compromise {
    fn run(self, keyd: &ControlClient, output: &Output) -> Result<(), Failure> {
        let request = KeysRequest::Compromise { target: self.target, reason: self.reason };
        let KeysReply::Compromised(report) = keyd.keys(request)? else { return Err(unexpected()) };
        output.value(&report, report_of)
    }
}

fn report_of(report: &CompromiseReport) -> String {
    let next = match report.volumes {
        0 => "nothing has to be written anew".to_owned(),
        _ => "sealtape key list --compromised says what has to be written anew".to_owned(),
    };
    fields(&[
        ("compromised", format!("{} {}", report.kind, report.id)),
        ("data keys", report.keys.to_string()),
        ("volumes", report.volumes.to_string()),
        ("releases ended", report.ended.to_string()),
        ("custody entry", report.entry.to_string()),
        ("next", next),
    ])
}
