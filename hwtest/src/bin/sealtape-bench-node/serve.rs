//! Nodes and virtual SCSI drives, over drives that cost nothing or a real one.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use nix::sys::resource::{UsageWho, getrusage};
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::seal::{Compression, Suite};
use sealtape::service::config::DataPathConfig;
use sealtape::unit::st::{StNode, StOptions};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape_drivers::fuse::{DriveNodes, MountOptions, Mounted, mount};
use sealtape_drivers::image::{CreateOptions, ImageDrive, OpenMode, create};
use sealtape_drivers::medium::{DriveIdentity, TapeDrive};
use serde_json::json;

use crate::catalogue::Catalogue;
use crate::scsi::{OwnedDrive, VirtualDrives};
use crate::tape::MemoryTape;

/// Make nodes and serve them until standard input ends.
///
/// Says in one line of JSON where the nodes are; for each line on standard input, what it has used since it started.
#[derive(Args)]
pub(crate) struct Serve {
    /// An empty folder for the nodes, cartridges and marks
    #[arg(long)]
    folder: PathBuf,
    /// What stands between the node and the drive
    #[arg(long)]
    unit: Unit,
    /// What the drive does with records
    #[arg(long)]
    drive: Drive,
    /// What hosts reach it by
    #[arg(long, default_value = "fuse")]
    front_end: FrontEnd,
    #[arg(long, default_value_t = 1)]
    drives: u16,
    /// Drives are called so, with a number behind; SCSI drives have it as their serial number
    #[arg(long, default_value = "bench")]
    name: String,
    /// The real drives: their serial numbers without the number behind
    #[arg(long, required_if_eq("drive", "scsi"))]
    over: Option<String>,
    /// Size of the medium; a discarding drive has none
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Most that a discarding drive or one of memory writes in a second, so that windows fill
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    mb_per_s: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unit {
    /// Nothing: records reach the drive in clear, one by one, on the node's own thread. For benchmarks only
    Raw,
    /// The sealed unit of the product with its defaults, without compression
    Sealed,
}

#[derive(Clone, Copy, ValueEnum)]
enum Drive {
    /// Counts records and forgets them
    Discard,
    /// Keeps records in memory
    Memory,
    /// The product's file-backed drive, with its cartridges in the folder
    Image,
    /// A drive of this kernel, by SG_IO, taken from `st` and other initiators meanwhile
    Scsi,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FrontEnd {
    /// A node of a mounted folder
    Fuse,
    /// A virtual SCSI drive of this kernel
    Tcmu,
}

impl FrontEnd {
    /// Longest block of a host.
    fn max_block(self) -> u32 {
        match self {
            Self::Fuse => MountOptions::default().max_block,
            Self::Tcmu => LONGEST_LOCAL_BLOCK,
        }
    }
}

/// What the kernel's own SCSI layer carries in one command.
pub(crate) const LONGEST_LOCAL_BLOCK: u32 = 1 << 20;

/// What hosts reach the drives by, until it is taken down.
enum Front {
    Fuse(Mounted),
    Tcmu(VirtualDrives),
}

/// A drive under its name.
type Named = (String, Box<dyn TapeDrive>);

impl Serve {
    pub(crate) fn run(&self) -> Result<()> {
        let settings = DataPathConfig::default();
        let window = WindowLimits {
            records: settings.window_records as usize,
            bytes: usize::try_from(settings.window_bytes.0)?,
        };
        let pool = SealPool::start(usize::from(settings.seal_threads))?;
        let mut owned = Vec::new();
        let drives = (0..self.drives).map(|number| {
            let name = format!("{}{number}", self.name);
            let drive = self.drive(&name, number, &mut owned)?;
            let drive = match self.unit {
                Unit::Raw => drive,
                Unit::Sealed => self.sealed(&name, drive, &settings, window, Arc::clone(&pool))?,
            };
            Ok((name, drive))
        });
        let front = self.front(drives.collect::<Result<_>>()?)?;
        let paths = front.paths();
        if self.unit == Unit::Raw {
            eprintln!("sealtape-bench-node: {paths:?} NOT SEALED; for benchmarks only");
        }

        say(&json!({ "nodes": paths, "window_bytes": window.bytes, "seal_threads": settings.seal_threads }))?;
        for line in std::io::stdin().lock().lines() {
            line.context("standard input")?;
            say(&used()?)?;
        }
        front.stop()?;
        owned.into_iter().try_for_each(OwnedDrive::give_back)
    }

    fn front(&self, drives: Vec<Named>) -> Result<Front> {
        if self.front_end == FrontEnd::Tcmu {
            return Ok(Front::Tcmu(VirtualDrives::start(drives, matches!(self.drive, Drive::Scsi))?));
        }
        let node = |(number, (name, drive)): (u16, Named)| {
            let node = Arc::new(StNode::new(name.clone(), drive, StOptions::default()));
            DriveNodes { number, name, node }
        };
        let folder = self.folder.join("nodes");
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        Ok(Front::Fuse(mount(&folder, (0..).zip(drives).map(node).collect(), &MountOptions::default())?))
    }

    fn drive(&self, name: &str, number: u16, owned: &mut Vec<OwnedDrive>) -> Result<Box<dyn TapeDrive>> {
        let pace = self.mb_per_s.map(|megabytes| megabytes * 1_000_000);
        Ok(match self.drive {
            Drive::Discard => Box::new(MemoryTape::discarding(name.into()).paced(pace)),
            Drive::Memory => Box::new(MemoryTape::keeping(name.into(), self.mib << 20).paced(pace)),
            Drive::Image => Box::new(image(&self.folder.join(format!("{name}.image")), name, (self.mib as u64) << 20)?),
            Drive::Scsi => {
                let serial = format!("{}{number}", self.over.as_deref().unwrap_or_default());
                let drive = OwnedDrive::take(&serial, &self.folder.join(format!("{name}.owner")))?;
                let boxed = drive.boxed();
                owned.push(drive);
                boxed
            }
        })
    }

    /// As the data path does it, with keys that are nowhere else.
    fn sealed(
        &self,
        name: &str,
        drive: Box<dyn TapeDrive>,
        settings: &DataPathConfig,
        window: WindowLimits,
        pool: Arc<SealPool>,
    ) -> Result<Box<dyn TapeDrive>> {
        let keys = Box::new(Catalogue::new(Suite::AES_256_GCM_SIV, Compression::NONE, 1));
        let options = UnitOptions {
            window,
            check_end_at_load: settings.check_end_at_load,
            max_block: self.front_end.max_block(),
        };
        let mark = UnsynchronisedMark::at(self.folder.join(format!("{name}.unsynchronised")));
        let mut unit = SealedTape::new(name, drive, keys, pool, options, mark)?;
        unit.load_medium()?;
        let labelled = unit.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing });
        labelled.with_context(|| format!("{name} cannot be labelled"))?;
        Ok(Box::new(unit))
    }
}

impl Front {
    /// Of the nodes that do not rewind.
    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Fuse(mounted) => mounted.nodes().iter().map(|paths| paths.non_rewinding.clone()).collect(),
            Self::Tcmu(drives) => drives.nodes().to_vec(),
        }
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::Fuse(mounted) => mounted.stop().context("the nodes could not be taken down"),
            Self::Tcmu(drives) => drives.stop(),
        }
    }
}

fn image(path: &Path, serial: &str, capacity: u64) -> Result<ImageDrive> {
    create(path, &CreateOptions::new(capacity))?;
    let mut drive = ImageDrive::new(DriveIdentity {
        vendor: "SEALTAPE".into(),
        product: "IMAGE".into(),
        revision: "0".into(),
        serial: serial.into(),
    });
    drive.insert(path, OpenMode::ReadWrite)?;
    drive.load()?;
    Ok(drive)
}

/// CPU time, and the largest resident set so far.
fn used() -> Result<serde_json::Value> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let cpu = [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6);
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let Some(peak) = peak.and_then(|kibibytes| kibibytes.parse::<f64>().ok()) else {
        bail!("/proc/self/status has no VmHWM in kB");
    };
    Ok(json!({ "cpu_seconds": cpu.iter().sum::<f64>(), "peak_mib": peak / 1024.0 }))
}

fn say(value: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).context("standard output")
}
