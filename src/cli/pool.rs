//! `pool list`.

use clap::Subcommand;
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::protocol::PoolPolicy;

use super::failure::Failure;
use super::output::Output;
use super::table::{or_dash, table};
use crate::seal::{Compression, Suite};
use crate::service::home::Home;

/// Look at pools. They are made from the configuration when the key authority starts.
#[derive(Debug, Subcommand)]
pub(super) enum Pool {
    /// List the pools and their policies
    List,
}

impl Pool {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<(), Failure> {
        let Self::List = self;
        let pools = ControlClient::new(home.keyd_socket(), CALL_TIMEOUT).list_pools()?;
        output.value(&pools, |pools| list(pools))
    }
}

fn list(pools: &[PoolPolicy]) -> String {
    let yes = |is| if is { "yes" } else { "no" }.to_owned();
    let rows: Vec<_> = pools
        .iter()
        .map(|pool| {
            [
                pool.name.clone(),
                Suite(pool.suite).to_string(),
                Compression(pool.compression).to_string(),
                yes(pool.key_on_medium),
                yes(pool.label_on_medium),
                yes(pool.barcode_on_medium),
                or_dash(pool.auto_label.as_ref()),
            ]
        })
        .collect();
    table(
        ["POOL", "SUITE", "COMPRESSION", "KEY ON MEDIUM", "LABEL ON MEDIUM", "BARCODE ON MEDIUM", "AUTO LABEL"],
        &rows,
    )
}
