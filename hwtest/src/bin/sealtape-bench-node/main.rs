//! `sealtape-bench-node`: the virtual drives of `cargo xtask bench node` and `bench chain`, and the program that writes to them and reads from
//! them.
//!
//! It is no part of the product and is not installed. `serve` mounts nodes as the data path does, with the same unit, sealing threads and
//! windows, but over drives that cost nothing and with a catalogue in memory; or, to compare with, without the unit: then **what is
//! written goes to the drive in clear**.

mod client;
mod fill;
mod scsi;
mod serve;
mod tape;

#[path = "../../../../tests/support/catalogue.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the catalogue that the tests of the unit share; a benchmark that panics has failed, which is what it is for"
)]
mod catalogue;

use clap::Parser;

/// Benchmarks of a virtual drive, for `cargo xtask bench node`
#[derive(Parser)]
enum Arguments {
    Serve(serve::Serve),
    Write(client::Write),
    Read(client::Read),
    Latency(client::Latency),
    Fill(fill::Fill),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Serve(serve) => serve.run(),
        Arguments::Write(write) => write.run(),
        Arguments::Read(read) => read.run(),
        Arguments::Latency(latency) => latency.run(),
        Arguments::Fill(fill) => fill.run(),
    }
}
