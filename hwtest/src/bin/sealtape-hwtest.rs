//! `sealtape-hwtest`: tries a tape drive, a library, and the product over them, and writes a report. The scratch volume is written over.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use sealtape_hwtest::suite::{self, Options};

/// Try a tape drive. **The cartridge with the barcode of --scratch is written over**; any other one is refused
#[derive(Parser)]
struct Arguments {
    /// The drive: /dev/sgN, or another node of it
    #[arg(long)]
    drive: PathBuf,
    /// Barcode of the cartridge that may be written over
    #[arg(long)]
    scratch: String,
    /// The changer that serves the drive; without one the cartridge has to be in the drive
    #[arg(long)]
    changer: Option<PathBuf>,
    /// Barcode of a WORM cartridge: something is written to its end
    #[arg(long)]
    worm: Option<String>,
    /// Barcode of a cartridge whose write protection is set
    #[arg(long)]
    protected: Option<String>,
    /// Barcode of a cleaning cartridge: one cleaning is used up
    #[arg(long)]
    cleaning: Option<String>,
    /// How many random commands
    #[arg(long, default_value_t = 3000)]
    commands: u32,
    /// Seed of the random commands, to run them again
    #[arg(long)]
    seed: Option<u64>,
    /// The end of the medium is tried when the cartridge holds no more MiB than this: a real one takes hours
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    fill_limit: u64,
    /// Longest block that is tried, in bytes
    #[arg(long, default_value_t = 16 << 20)]
    longest_block: u32,
    /// Folder of the product's programs; without it nothing goes through the product
    #[arg(long)]
    product: Option<PathBuf>,
    /// Only this case (may be repeated)
    #[arg(long = "case", value_name = "NAME")]
    only: Vec<String>,
    /// Where the report goes (Markdown)
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hwtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    if let Some(unknown) = arguments.only.iter().find(|wanted| !suite::names().any(|name| name == *wanted)) {
        bail!("no case {unknown:?}; there are {}", suite::names().collect::<Vec<_>>().join(", "));
    }
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs(),
    };
    let options = Options {
        drive: arguments.drive,
        changer: arguments.changer,
        scratch: arguments.scratch,
        worm: arguments.worm,
        protected: arguments.protected,
        cleaning: arguments.cleaning,
        commands: arguments.commands,
        seed,
        fill_limit: arguments.fill_limit << 20,
        longest_block: arguments.longest_block,
        product: arguments.product,
        only: arguments.only,
    };
    let report = suite::run(options, |case| println!("{case}"))?;
    if let Some(file) = &arguments.report {
        fs::write(file, report.to_string()).with_context(|| file.display().to_string())?;
    }
    Ok(report.passed())
}
