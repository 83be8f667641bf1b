//! `audit show` and `audit watch`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use sealtape_kms::client::ControlClient;
use sealtape_kms::custody::{Leaf, Outcome};
use sealtape_kms::protocol::{AuditReply, AuditRequest, EntryFilter, EntryPage};
use serde_json::Value;
use uuid::Uuid;

use super::unexpected;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::table::{or_dash, printable};

/// How often new entries are looked for.
const LOOK: Duration = Duration::from_millis(500);

/// Which entries; all that is given has to apply.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Of this volume (label or UUID)
    #[arg(long)]
    volume: Option<String>,
    /// Of this key
    #[arg(long, value_name = "UUID")]
    key: Option<Uuid>,
    /// Of this operation, such as key.release
    #[arg(long)]
    op: Option<String>,
    /// With this outcome: intent, done, refused, failed or interrupted
    #[arg(long, value_parser = outcome)]
    outcome: Option<Outcome>,
    /// By this actor, as the log names it
    #[arg(long, value_name = "PSEUDONYM")]
    actor: Option<String>,
    /// At this unit
    #[arg(long)]
    unit: Option<String>,
    /// Of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// From this time on, UTC: 2026-11-21T08:30:00.000Z, or its beginning
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// From this sequence number on
    #[arg(long, value_name = "NUMBER")]
    first: Option<u64>,
    /// Up to this sequence number
    #[arg(long, value_name = "NUMBER")]
    last: Option<u64>,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    let value = Value::String(text.to_owned());
    serde_json::from_value(value).map_err(|_| "intent, done, refused, failed or interrupted".to_owned())
}

impl Filter {
    pub(super) fn into_filter(self) -> EntryFilter {
        let Self { volume, key, op, outcome, actor, unit, tenant, since, until, first, last } = self;
        EntryFilter { volume, key, op, outcome, actor, unit, tenant, since, until, first, last }
    }
}

/// Show entries of the custody log.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// How many, the last ones unless --first is given
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Say who the actors are, for those who may know
    #[arg(long)]
    names: bool,
    #[command(flatten)]
    filter: Filter,
}

/// Show new entries as they come.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Say who the actors are, for those who may know
    #[arg(long)]
    names: bool,
    #[command(flatten)]
    filter: Filter,
}

fn page(
    keyd: &ControlClient,
    filter: &EntryFilter,
    from: Option<u64>,
    backwards: bool,
    count: u32,
    names: bool,
) -> Result<EntryPage, Failure> {
    let filter = filter.clone();
    match keyd.audit(AuditRequest::Entries { filter, from, backwards, count, names })? {
        AuditReply::Entries(page) => Ok(page),
        _ => Err(unexpected()),
    }
}

impl Show {
    pub(super) fn run(self, keyd: &ControlClient, output: &Output) -> Result<(), Failure> {
        let filter = self.filter.into_filter();
        let backwards = filter.first.is_none();
        let (mut leaves, mut names, mut from) = (Vec::new(), BTreeMap::new(), None);
        loop {
            let left = self.count.saturating_sub(u32::try_from(leaves.len()).unwrap_or(u32::MAX));
            let page = page(keyd, &filter, from, backwards, left, self.names)?;
            leaves.extend(page.leaves);
            names.extend(page.names);
            from = page.next;
            if from.is_none() || leaves.len() >= self.count as usize {
                break;
            }
        }
        if backwards {
            leaves.reverse();
        }
        leaves.iter().try_for_each(|leaf| show(leaf, &names, output))
    }
}

impl Watch {
    pub(super) fn run(self, keyd: &ControlClient, output: &Output) -> Result<(), Failure> {
        let filter = self.filter.into_filter();
        let output = output.as_json();
        // From the end of the log, unless an earlier beginning is asked for.
        let mut from = match filter.first {
            Some(first) => first,
            None => page(keyd, &EntryFilter::default(), None, true, 1, false)?.size,
        };
        loop {
            let page = page(keyd, &filter, Some(from), false, 1000, self.names)?;
            page.leaves.iter().try_for_each(|leaf| show(leaf, &page.names, &output))?;
            match page.next {
                Some(next) => from = next,
                None => {
                    from = from.max(page.size);
                    std::thread::sleep(LOOK);
                }
            }
        }
    }
}

/// One entry: as it stands in the log for programs, in a line for people.
fn show(text: &str, names: &BTreeMap<String, String>, output: &Output) -> Result<(), Failure> {
    let wrong = |what: String| {
        Failure::new(
            Exit::Integrity,
            format!("an entry of the custody log is damaged: {what}"),
            "export and verify the log",
        )
    };
    if output.json() {
        let mut value: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        let name = value.get("actor").and_then(Value::as_str).and_then(|actor| names.get(actor)).cloned();
        if let (Some(name), Some(members)) = (name, value.as_object_mut()) {
            members.insert("actor_name".into(), name.into());
        }
        return output.value(&value, Value::to_string);
    }
    let leaf = Leaf::parse(text).map_err(wrong)?;
    let outcome = match leaf.outcome {
        Outcome::Intent => "intent",
        Outcome::Done => "done",
        Outcome::Refused => "REFUSED",
        Outcome::Failed => "FAILED",
        Outcome::Interrupted => "INTERRUPTED",
    };
    let actor = names.get(&leaf.actor).unwrap_or(&leaf.actor);
    let mut line = format!("{:>6}  {}  {:<16} {outcome:<11} {}", leaf.seq, leaf.time, leaf.op, printable(actor));
    let details = [
        ("unit", leaf.unit),
        ("volume", leaf.volume.map(|id| id.to_string())),
        ("partition", leaf.partition.map(|number| number.to_string())),
        ("generation", leaf.generation.map(|number| number.to_string())),
        ("key", leaf.key.map(|id| id.to_string())),
        ("reason", leaf.reason),
    ];
    for (name, value) in details.into_iter().filter(|(_, value)| value.is_some()) {
        line.push_str(&format!("  {name} {}", printable(&or_dash(value))));
    }
    line.push('\n');
    output.text(&line)
}
