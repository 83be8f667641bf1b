//! `cargo xtask lab`: a command in a guest, by the program `sealtape-lab` of package `sealtape-hwtest`.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{Profile, binaries, cargo, checked, find_program, output, shown, target};
use crate::setup;

/// Debian's package that depends on the package with the newest kernel.
const NEWEST_KERNEL: &str = "linux-image-amd64";

/// Does the set-up, builds the program and becomes it: signals then reach it, and its exit code is ours.
pub(crate) fn run(arguments: &[&str]) -> Result<Infallible> {
    if wants_qemu(arguments) {
        setup::for_lab_with_qemu()?;
        kernel_for_qemu()?;
    } else {
        setup::for_lab()?;
    }
    checked(cargo().args(["build", "--locked", "--quiet", "--package", "sealtape-hwtest", "--bin", "sealtape-lab"]))?;
    let mut lab = Command::new(binaries(Profile::Dev)?.join("sealtape-lab"));
    lab.args(arguments);
    // It returns only if it fails.
    let error = lab.exec();
    Err(error).with_context(|| format!("cannot run {}", shown(&lab)))
}

/// Whether the options, which end at `--`, ask for QEMU. Everything else about them is the program's business.
fn wants_qemu(arguments: &[&str]) -> bool {
    let end = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
    let (options, _command) = arguments.split_at(end);
    options.contains(&"--guest=qemu") || options.windows(2).any(|pair| pair == ["--guest", "qemu"])
}

/// Debian's kernel and its modules in the target folder: unpacked, not installed.
pub(crate) fn kernel_for_qemu() -> Result<()> {
    let lab = target()?.join("lab");
    let ready = lab.join("linux");
    if ready.is_dir() {
        return Ok(());
    }
    let depmod = find_program("depmod").context("depmod is missing: apt-get install kmod")?;

    let download = lab.join("download");
    let unpacked = lab.join("unpacked");
    for folder in [&download, &unpacked] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let package = newest_kernel()?;
    println!("set-up: {package}, unpacked into {}", ready.display());
    let mut apt = Command::new("apt-get");
    // As root, apt fetches as a user of its own, who may not write here, and warns of it.
    apt.args(["download", "--quiet=2", "-o", "APT::Sandbox::User=root", &package]).current_dir(&download);
    output(apt.stdin(Stdio::null())).context("the lists may be too old: apt-get update")?;
    let file = only_file(&download)?;
    output(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&unpacked))?;
    // Since Debian 13 the package has usr/lib, while kmod looks below lib.
    if !unpacked.join("lib").exists() {
        symlink("usr/lib", unpacked.join("lib")).context("a link lib to usr/lib")?;
    }
    let version = package.trim_start_matches("linux-image-");
    output(Command::new(depmod).arg("--basedir").arg(&unpacked).arg(version))?;
    fs::rename(&unpacked, &ready).with_context(|| ready.display().to_string())?;
    fs::remove_dir_all(&download).with_context(|| download.display().to_string())
}

fn newest_kernel() -> Result<String> {
    let depends = output(Command::new("apt-cache").args(["depends", NEWEST_KERNEL]))?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    match package {
        Some(package) if package.starts_with("linux-image-") => Ok(package.to_owned()),
        _ => bail!("apt knows no kernel package behind {NEWEST_KERNEL}: apt-get update"),
    }
}

fn only_file(folder: &Path) -> Result<std::path::PathBuf> {
    let files: Vec<_> =
        fs::read_dir(folder).and_then(Iterator::collect).with_context(|| folder.display().to_string())?;
    match &files[..] {
        [file] => Ok(file.path()),
        files => bail!("{} files in {}, and one expected", files.len(), folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::wants_qemu;

    #[test]
    fn only_options_choose_the_guest() {
        assert!(wants_qemu(&["--memory", "512", "--guest", "qemu", "--", "true"]));
        assert!(wants_qemu(&["--guest=qemu", "--", "true"]));
        assert!(!wants_qemu(&["--guest", "uml", "--", "echo", "--guest", "qemu"]));
        assert!(!wants_qemu(&["--", "--guest=qemu"]));
    }
}
