//! `sealtape-lab-drive`: plays a real drive in the guest lab. It serves a cartridge's image as a SCSI tape drive of this kernel,
//! **in the clear**: what a host writes to it stands in the image as it is. It has no place in an installation.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use sealtape::unit::scsi::{ScsiOptions, ScsiUnit};
use sealtape_drivers::image::faults::{FaultPlan, FaultyDrive};
use sealtape_drivers::image::{CreateOptions, ImageDrive, OpenMode, create};
use sealtape_drivers::medium::{DriveIdentity, SharedDrive, TapeDrive};
use sealtape_drivers::tcmu::{Server, UnitConfig};

/// Play a real tape drive in the guest lab, in the clear, from a cartridge's image
#[derive(Parser)]
struct Arguments {
    /// The cartridge's image; it is made if --create is given
    #[arg(long)]
    image: PathBuf,
    /// Make the image first, with this capacity in MiB
    #[arg(long, value_name = "MIB")]
    create: Option<u64>,
    /// A cartridge that is made has a second partition of this size in MiB, taken from its capacity
    #[arg(long, value_name = "MIB", requires = "create")]
    second_partition: Option<u64>,
    /// Name of the unit
    #[arg(long, default_value = "lab")]
    name: String,
    /// Number of its HBA, another one than the services' own
    #[arg(long, default_value_t = 5774)]
    hba: u32,
    /// Serial number of the drive
    #[arg(long, default_value = "LAB0000001")]
    serial: String,
    /// Barcode of a cartridge that is made
    #[arg(long)]
    barcode: Option<String>,
    /// Early warning of a cartridge that is made, in KiB before its end [default: a 64th of it]
    #[arg(long, value_name = "KIB")]
    early_warning: Option<u64>,
    /// Faults of the drive. SIGHUP has the file read again and counting start anew; that is answered with a line `plan`
    #[arg(long)]
    fault_plan: Option<PathBuf>,
    /// The drive starts without a cartridge loaded
    #[arg(long)]
    unloaded: bool,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab drive: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    // Blocked before any thread is started, so that all of them leave the signals to the wait below.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block()?;
    if let Some(mebibytes) = arguments.create {
        let mut options = CreateOptions {
            barcode: arguments.barcode.clone(),
            second_partition: arguments.second_partition.map(|mebibytes| mebibytes << 20),
            ..CreateOptions::new(mebibytes << 20)
        };
        if let Some(kibibytes) = arguments.early_warning {
            options.early_warning = kibibytes << 10;
        }
        create(&arguments.image, &options).with_context(|| arguments.image.display().to_string())?;
    }
    let identity = DriveIdentity {
        vendor: "SEALTAPE".into(),
        product: "LAB DRIVE".into(),
        revision: "0001".into(),
        serial: arguments.serial.clone(),
    };
    let mut drive = ImageDrive::new(identity);
    drive.insert(&arguments.image, OpenMode::ReadWrite)?;
    if !arguments.unloaded {
        drive.load()?;
    }
    let drive = SharedDrive::new(FaultyDrive::new(drive, plan(arguments)?));
    let config = UnitConfig { hba: arguments.hba, ..UnitConfig::new(&arguments.name, &arguments.serial) };
    let largest_block = u32::try_from(config.max_transfer)?;
    let options = ScsiOptions { largest_block, ..ScsiOptions::as_drive(&arguments.name) };
    let unit = ScsiUnit::new(Box::new(drive.clone()), options);
    let (server, lun) = Server::start_linked(&config, Box::new(unit))?;
    let devices = lun.host_devices()?;
    let (generic, tape) = (devices.generic.unwrap_or_default(), devices.tape.unwrap_or_default());
    println!("ready {} sg=/dev/{generic} st=/dev/n{tape}", lun.address());
    std::io::stdout().flush()?;
    while signals.wait()? == Signal::SIGHUP {
        drive.lock().set_plan(plan(arguments)?);
        println!("plan");
        std::io::stdout().flush()?;
    }
    lun.unlink()?;
    server.stop()?;
    Ok(())
}

fn plan(arguments: &Arguments) -> Result<FaultPlan> {
    match &arguments.fault_plan {
        Some(file) => Ok(FaultPlan::from_file(file)?),
        None => Ok(FaultPlan::default()),
    }
}
