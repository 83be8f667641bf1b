//! `audit anchors`, `audit anchor …`: where the custody log is anchored, and how it stands there.

use clap::Subcommand;
use sealtape_kms::client::ControlClient;
use sealtape_kms::protocol::{
    AnchorReply, AnchorRequest, AnchorTrouble, AnchorView, AnchoringView, AuditReply, AuditRequest,
};
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::recovery::asked;
use super::table::{fields, or_dash, printable, table};

/// Anchor the log, or put an anchor right.
#[derive(Debug, Subcommand)]
pub(super) enum Anchor {
    /// Sign the custody log as it is now, give it to all anchors, and wait for them
    Now,
    /// An anchor has lost what was anchored in it (a new medium, a witness that was set up anew): let it begin from nothing
    Accept {
        /// The anchor
        name: String,
        /// Why; kept in the custody log
        #[arg(long)]
        reason: String,
    },
    /// An anchor knew another history, and it is known why: release keys again. Two custodians have to approve it: without --request
    /// this asks them. The anchor need not be configured any more
    Lift {
        /// The anchor
        name: String,
        /// The approved request
        #[arg(long, value_name = "ID")]
        request: Option<Uuid>,
        /// Why; kept in the custody log
        #[arg(long)]
        reason: String,
    },
}

impl Anchor {
    pub(super) fn run(self, keyd: &ControlClient, output: &Output) -> Result<(), Failure> {
        let view = match self {
            Self::Now => ask(keyd, AnchorRequest::Now)?,
            Self::Accept { name, reason } => ask(keyd, AnchorRequest::Accept { name, reason })?,
            Self::Lift { name, request, reason } => {
                match reply(keyd, AnchorRequest::Lift { name: name.clone(), request, reason })? {
                    AnchorReply::Asked(view) => {
                        return asked(&view, &format!("sealtape audit anchor lift {name} --reason WHY"), output);
                    }
                    AnchorReply::Status(view) => view,
                }
            }
        };
        print(&view, output)
    }
}

pub(super) fn status(keyd: &ControlClient, output: &Output) -> Result<(), Failure> {
    print(&ask(keyd, AnchorRequest::Status)?, output)
}

fn unexpected() -> Failure {
    Failure::new(Exit::Failed, "the key authority answered something else", "use programs of one version")
}

fn reply(keyd: &ControlClient, request: AnchorRequest) -> Result<AnchorReply, Failure> {
    match keyd.audit(AuditRequest::Anchor { request })? {
        AuditReply::Anchor(reply) => Ok(reply),
        _ => Err(unexpected()),
    }
}

fn ask(keyd: &ControlClient, request: AnchorRequest) -> Result<AnchoringView, Failure> {
    match reply(keyd, request)? {
        AnchorReply::Status(view) => Ok(view),
        AnchorReply::Asked(_) => Err(unexpected()),
    }
}

/// Prints how they stand; an anchor that contradicts the log, or releases refused, is a failure too.
fn print(view: &AnchoringView, output: &Output) -> Result<(), Failure> {
    output.value(view, show)?;
    let contradicts = view.anchors.iter().find(|a| a.trouble == Some(AnchorTrouble::Contradicts));
    match (contradicts, &view.refused) {
        (Some(anchor), _) => Err(Failure::new(
            Exit::Integrity,
            format!("anchor {}: {}", anchor.name, printable(anchor.fault.as_deref().unwrap_or_default())),
            "keep this catalogue for the auditor; restore the newest backup, and find out who changed it",
        )),
        (None, Some(refused)) => Err(Failure::new(Exit::Refused, printable(refused), "bring an anchor back")),
        (None, None) => Ok(()),
    }
}

fn state(anchor: &AnchorView) -> &'static str {
    match anchor.trouble {
        Some(AnchorTrouble::Contradicts) => "CONTRADICTS",
        Some(AnchorTrouble::Lost) => "LOST",
        Some(AnchorTrouble::Faulty) => "FAULTY",
        Some(AnchorTrouble::Away) => "AWAY",
        None if anchor.compared => "in order",
        None => "not asked yet",
    }
}

fn show(view: &AnchoringView) -> String {
    if view.anchors.is_empty() {
        return "no anchors: exports are internally consistent only\n".into();
    }
    let rows: Vec<[String; 6]> = view
        .anchors
        .iter()
        .map(|a| {
            [
                a.name.clone(),
                a.kind.clone(),
                state(a).into(),
                a.size.to_string(),
                or_dash(a.anchored.clone()),
                or_dash(a.since.clone()),
            ]
        })
        .collect();
    let mut text = table(["ANCHOR", "KIND", "STATE", "ENTRIES", "LAST", "TROUBLE SINCE"], &rows);
    text.push_str(&fields(&[
        ("entries", view.log_size.to_string()),
        (
            "anchored",
            format!(
                "{} (by {} of {})",
                view.anchored_size,
                view.quorum,
                view.anchors.iter().filter(|a| a.counts).count()
            ),
        ),
        ("not anchored since", view.unanchored_since.clone().unwrap_or_default()),
        ("keys wait", if view.before_release { "for their anchors" } else { "no" }.into()),
    ]));
    for warning in &view.warnings {
        text.push_str(&format!("warning: {}\n", printable(warning)));
    }
    text
}
