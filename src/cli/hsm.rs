//! `hsm …`: the token and the key authority's health.

use clap::Subcommand;
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::protocol::{AnchoringView, Status};

use super::failure::Failure;
use super::output::Output;
use super::table::fields;
use crate::service::home::Home;

/// Look at the token and the key authority.
#[derive(Debug, Subcommand)]
pub(super) enum Hsm {
    /// Show whether the token works (a real unwrap is tried), and the figures of catalogue and custody log
    Status,
    /// The PIN was rejected and has been put right: let it be tried again
    Unlatch,
}

impl Hsm {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let keyd = ControlClient::new(home.keyd_socket(), CALL_TIMEOUT);
        match self {
            Self::Status => {
                let status = keyd.status()?;
                output.value(&status, show)?;
                status.token_error.map_or(Ok(()), |refusal| Err(refusal.into()))
            }
            Self::Unlatch => {
                keyd.clear_pin_latch()?;
                output.note("the PIN will be tried again, once");
                Ok(())
            }
        }
    }
}

fn show(status: &Status) -> String {
    fields(&[
        ("token", status.token_uri.clone()),
        ("works", if status.token_ok { "yes" } else { "NO" }.to_owned()),
        ("PIN", if status.pin_latched { "REJECTED, and not tried again" } else { "not rejected" }.to_owned()),
        ("worker starts", status.worker_starts.to_string()),
        ("volumes", status.volumes.to_string()),
        ("custody log", status.log_origin.clone()),
        ("entries", status.log_size.to_string()),
        ("checkpoint at", status.checkpoint_size.to_string()),
        ("anchored", status.anchoring.as_ref().map(anchored).unwrap_or_default()),
        ("log key", status.log_key.clone()),
    ])
}

/// The anchors in a line; `audit anchors` tells more.
fn anchored(view: &AnchoringView) -> String {
    match (&view.refused, view.warnings.first()) {
        (Some(refused), _) => format!("KEYS ARE REFUSED: {refused}"),
        (None, Some(warning)) => format!("{} entries; {warning}", view.anchored_size),
        (None, None) => format!("{} entries", view.anchored_size),
    }
}
