//! `cargo xtask hwtest`: the suite for drives and libraries, on an installed mhvtl in a guest, or on a real drive.
//!
//! mhvtl is not part of this project and is not built by it: it has to be there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{Profile, binaries, cargo, checked, find_program, output, root, shown, target};
use crate::{lab, setup};

/// Not run, for want of what it runs on: neither success nor failure, as automake and meson have it.
const NOT_RUN: i32 = 77;
const PREFIX: &str = "SEALTAPE_MHVTL";
/// The guest computes slowly.
const TIME_LIMIT: &str = "1500";
/// Size of mhvtl's cartridges in MiB: the end of the medium has to be reached.
const CAPACITY: &str = "64";

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["--mhvtl", options @ ..] => on_mhvtl(options),
        [] => bail!("hwtest wants --mhvtl, or --drive /dev/sgN --scratch BARCODE; `cargo xtask help` tells more"),
        options => on_a_drive(options),
    }
}

/// The drive that is named. Which volume may be written over is checked by the program, before anything is written.
fn on_a_drive(options: &[&str]) -> Result<()> {
    let named = |option: &str| options.iter().any(|word| *word == option || word.starts_with(&format!("{option}=")));
    for option in ["--drive", "--scratch"] {
        if !named(option) {
            bail!("hwtest wants {option}: --drive /dev/sgN --scratch BARCODE (the volume that is written over)");
        }
    }
    setup::for_lab()?;
    build()?;
    let programs = binaries(Profile::Dev)?;
    let report = report_file("drive.md")?;
    let mut suite = Command::new(programs.join("sealtape-hwtest"));
    suite.args(options);
    if !named("--report") {
        println!("the report goes to {}", report.display());
        suite.arg("--report").arg(&report);
    }
    become_it(suite)
}

fn on_mhvtl(options: &[&str]) -> Result<()> {
    let Some(mhvtl) = Mhvtl::find() else {
        println!(
            "hwtest: no mhvtl found (vtltape, vtllibrary, vtlcmd, mktape, edit_tape and the module, installed or below ${PREFIX}): not run, not passed"
        );
        std::process::exit(NOT_RUN);
    };
    setup::for_lab_with_qemu()?;
    lab::kernel_for_qemu()?;
    let (wanted, there) = (mhvtl.kernel()?, kernel_of_the_guest()?);
    if wanted != there {
        println!(
            "hwtest: mhvtl's module is for kernel {wanted}, the guest has {there} (build it for that, or use --drive where it runs): not run, not passed"
        );
        std::process::exit(NOT_RUN);
    }
    build()?;
    let programs = binaries(Profile::Dev)?;
    let report = report_file("mhvtl.md")?;
    println!("the report goes to {}", report.display());
    let folder = report.parent().context("the report's folder")?;
    let mut guest = Command::new(programs.join("sealtape-lab"));
    guest.args(["--guest", "qemu", "--time-limit", TIME_LIMIT, "--writable"]).arg(folder);
    let text = |path: Option<&Path>| path.map_or(String::new(), |path| path.display().to_string());
    for (name, value) in [
        ("MODULE", text(Some(&mhvtl.module))),
        ("PROGRAMS", text(mhvtl.programs.as_deref())),
        ("LIBRARIES", text(mhvtl.libraries.as_deref())),
        ("CAPACITY", CAPACITY.to_owned()),
        ("BIN", text(Some(&programs))),
        ("REPORT", text(Some(&report))),
    ] {
        guest.arg("--env").arg(format!("{name}={value}"));
    }
    let script = root().join("hwtest/guest/mhvtl.sh");
    let command = format!(". /run/job/lab.sh; . '{}'", script.display());
    guest.args(["--", "bash", "-c", &command, "mhvtl"]).args(options);
    become_it(guest)
}

fn build() -> Result<()> {
    checked(cargo().args([
        "build",
        "--locked",
        "--quiet",
        "--package",
        "sealtape",
        "--package",
        "sealtape-hwtest",
        "--bins",
    ]))
}

fn report_file(name: &str) -> Result<PathBuf> {
    let folder = target()?.join("hwtest");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder.join(name))
}

/// Signals then reach it, and its exit code is ours.
fn become_it(mut command: Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", shown(&command)))
}

/// Where an mhvtl is.
#[derive(Debug, PartialEq)]
struct Mhvtl {
    module: PathBuf,
    /// Folders beside the system's own, for one below a prefix.
    programs: Option<PathBuf>,
    libraries: Option<PathBuf>,
}

const PROGRAMS: &[&str] = &["vtltape", "vtllibrary", "vtlcmd", "mktape", "edit_tape"];

impl Mhvtl {
    fn find() -> Option<Self> {
        match std::env::var_os(PREFIX) {
            Some(prefix) => Self::below(Path::new(&prefix)),
            None => Self::installed(),
        }
    }

    /// PREFIX/bin or PREFIX/usr/bin, likewise lib, and the module PREFIX/mhvtl.ko or in PREFIX/lib/modules.
    fn below(prefix: &Path) -> Option<Self> {
        let has_all = |folder: &PathBuf| PROGRAMS.iter().all(|program| folder.join(program).is_file());
        let programs = ["bin", "usr/bin"].map(|folder| prefix.join(folder)).into_iter().find(has_all)?;
        let has_library = |folder: &PathBuf| folder.join("libvtlscsi.so").is_file();
        let folders = ["lib", "usr/lib", "lib64", "usr/lib64"].map(|folder| prefix.join(folder));
        let libraries = folders.into_iter().find(has_library)?;
        let module = [prefix.join("mhvtl.ko")].into_iter().find(|file| file.is_file());
        let module = module.or_else(|| modules_below(&prefix.join("lib/modules")))?;
        Some(Self { module, programs: Some(programs), libraries: Some(libraries) })
    }

    fn installed() -> Option<Self> {
        PROGRAMS.iter().try_for_each(|program| find_program(program).map(drop))?;
        let modinfo = find_program("modinfo")?;
        let module = output(Command::new(modinfo).args(["-n", "mhvtl"])).ok();
        let module = module.map(|line| PathBuf::from(line.trim())).filter(|file| file.is_file());
        let module = module.or_else(|| modules_below(Path::new("/lib/modules")))?;
        Some(Self { module, programs: None, libraries: None })
    }

    /// The kernel that the module was built for.
    fn kernel(&self) -> Result<String> {
        let modinfo = find_program("modinfo").context("modinfo is missing: apt-get install kmod")?;
        let magic = output(Command::new(modinfo).args(["-F", "vermagic"]).arg(&self.module))?;
        let version = magic.split_whitespace().next();
        Ok(version.with_context(|| format!("{} names no kernel", self.module.display()))?.to_owned())
    }
}

/// The module for some kernel: the one of the guest goes before others.
fn modules_below(folder: &Path) -> Option<PathBuf> {
    let wanted = kernel_of_the_guest().ok();
    let kernels = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut found: Vec<(bool, PathBuf)> = kernels
        .flat_map(|kernel| {
            let ours = wanted.as_deref().is_some_and(|wanted| kernel.file_name() == wanted);
            ["kernel/drivers/scsi/mhvtl.ko", "updates/dkms/mhvtl.ko", "extra/mhvtl.ko"]
                .map(|place| (ours, kernel.path().join(place)))
        })
        .filter(|(_, file)| file.is_file())
        .collect();
    found.sort();
    found.pop().map(|(_, file)| file)
}

fn kernel_of_the_guest() -> Result<String> {
    let folder = target()?.join("lab/linux/lib/modules");
    let mut names = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let name = names.next().with_context(|| format!("no kernel in {}", folder.display()))??.file_name();
    Ok(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mhvtl_below_a_prefix_is_found_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path();
        let file = |path: &str| {
            let path = prefix.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        PROGRAMS.iter().for_each(|program| file(&format!("usr/bin/{program}")));
        file("usr/lib/libvtlscsi.so");
        assert_eq!(Mhvtl::below(prefix), None);
        file("lib/modules/6.1.0-1-amd64/kernel/drivers/scsi/mhvtl.ko");
        let found = Mhvtl::below(prefix).unwrap();
        assert!(found.module.ends_with("6.1.0-1-amd64/kernel/drivers/scsi/mhvtl.ko"));
        assert_eq!(found.programs, Some(prefix.join("usr/bin")));
        file("mhvtl.ko");
        assert_eq!(Mhvtl::below(prefix).unwrap().module, prefix.join("mhvtl.ko"));
        fs::remove_file(prefix.join("usr/bin/mktape")).unwrap();
        assert_eq!(Mhvtl::below(prefix), None);
    }
}
