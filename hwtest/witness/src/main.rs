//! `sealtape-lab-witness`: the test witness, by hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use sealtape_kms::custody::VerifierKey;
use sealtape_lab_witness::{Serving, Witness};

/// A witness for trying anchors out on one machine. Not for production: see docs/custody/anchors.md.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Folder of its key and of the checkpoints that it cosigned; made if it is not there
    #[arg(long, value_name = "FOLDER")]
    state: PathBuf,
    /// Address on the loopback interface
    #[arg(long, default_value = "127.0.0.1:7391", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Its name
    #[arg(long, default_value = "witness.localhost/test")]
    name: String,
    /// Public key of a log to follow (`sealtape audit key`), or a file that holds it; may be given several times
    #[arg(long = "log", value_name = "KEY|FILE", required = true)]
    logs: Vec<String>,
}

fn key(text: &str) -> Result<VerifierKey> {
    match text.parse() {
        Ok(key) => Ok(key),
        Err(_) => {
            let text = std::fs::read_to_string(text).with_context(|| format!("{text} is no key and no file"))?;
            Ok(text.trim().parse()?)
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let witness = Witness::open(args.state, &args.name)?;
    for log in &args.logs {
        witness.follow(key(log)?)?;
    }
    let key = witness.key().to_string();
    let serving = Serving::start(Arc::new(witness), args.listen)?;
    println!("key = \"{key}\"\nurl = \"{}\"", serving.url());
    serving.wait();
    Ok(())
}
