//! QEMU with Debian's own kernel: boots in about six seconds and computes some twenty times slower than the host,
//! but takes kernel modules that were built elsewhere.
//!
//! The kernel's first root is an archive of busybox and of the modules that reach the host's files by 9p; it mounts those and goes on
//! as with User-Mode Linux.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;
use super::error::Error;
use super::job::JobFolder;

const PROGRAM: &str = "qemu-system-x86_64";
const INITRD_INIT: &str = include_str!("../../guest/initrd-init.sh");
/// What the kernel needs to mount the host's root. Debian's `-cloud-` kernels lack the last.
const MODULES: [&str; 3] = ["virtio_pci", "9pnet_virtio", "9p"];
const MEND: &str = "`cargo xtask lab --guest qemu -- true` gets it";

/// The command that boots the guest with the kernel in `kernel`, a folder with `boot` and `lib/modules`.
pub(super) fn command(
    job: &JobFolder,
    memory_mib: u32,
    kernel: Option<&Path>,
    folders: &[PathBuf],
) -> Result<Command, Error> {
    let program = find(PROGRAM).ok_or_else(|| missing(PROGRAM))?;
    let kernel = match kernel {
        Some(folder) => folder.to_owned(),
        None => unpacked_kernel()?,
    };
    let version = version(&kernel)?;
    let initrd = job.file("initrd");
    fs::write(&initrd, archive(&kernel, &version)?).map_err(Error::path(&initrd))?;

    let job_path = job.path().display();
    let line = [
        "console=ttyS0 printk.time=0 panic=-1 oops=panic rdinit=/init SEALTAPE_GUEST=qemu".to_owned(),
        format!("SEALTAPE_JOB={job_path}"),
        format!("SEALTAPE_MODULES={}", kernel.join("lib/modules").display()),
    ];

    let mut command = Command::new(program);
    command
        // Not KVM: inside a virtual machine there often is a /dev/kvm that opens and then hangs at the first instruction.
        .args(["-machine", "pc,accel=tcg", "-cpu", "max", "-smp", "1", "-m", &format!("{memory_mib}M")])
        .args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
        .arg("-kernel")
        .arg(kernel.join("boot").join(format!("vmlinuz-{version}")))
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", &line.join(" ")]);
    share(&mut command, "root", Path::new("/"), true);
    share(&mut command, "job", job.path(), false);
    for (number, folder) in folders.iter().enumerate() {
        share(&mut command, &format!("folder{number}"), folder, false);
    }
    Ok(command)
}

/// Several file systems of the host in one of the guest: without `remap` their inode numbers collide.
fn share(command: &mut Command, tag: &str, folder: &Path, read_only: bool) {
    let read_only = if read_only { ",readonly=on" } else { "" };
    let path = folder.display();
    command
        .arg("-fsdev")
        .arg(format!("local,id={tag},path={path},security_model=none,multidevs=remap{read_only}"))
        .arg("-device")
        .arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
}

fn archive(kernel: &Path, version: &str) -> Result<Vec<u8>, Error> {
    let busybox = find("busybox").ok_or_else(|| missing("busybox"))?;
    let mut archive = Archive::new();
    for folder in ["bin", "dev", "proc", "sys", "root", "modules"] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", &fs::read(&busybox).map_err(Error::path(&busybox))?);
    archive.file("init", INITRD_INIT.as_bytes());
    // Numbered: the shell's `*` then gives them in the order in which they have to be loaded.
    for (number, module) in modules(kernel, version)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().display();
        archive.file(&format!("modules/{number:02}-{name}"), &fs::read(module).map_err(Error::path(module))?);
    }
    Ok(archive.finish())
}

/// The files of [`MODULES`] and of what they depend on, in the order of loading.
fn modules(kernel: &Path, version: &str) -> Result<Vec<PathBuf>, Error> {
    let modprobe = find("modprobe").ok_or_else(|| missing("modprobe"))?;
    let mut found: Vec<PathBuf> = Vec::new();
    for module in MODULES {
        let mut command = Command::new(&modprobe);
        command.arg("--dirname").arg(kernel).args(["--set-version", version, "--show-depends", module]);
        let output = command.output().map_err(Error::path(&modprobe))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let kernel = kernel.display();
            return Err(Error::Asked(format!(
                "the kernel {version} in {kernel} has no module {module}: {}",
                said.trim()
            )));
        }
        // "insmod FILE PARAMETERS", or "builtin NAME".
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let ["insmod", file, ..] = line.split_whitespace().collect::<Vec<_>>()[..]
                && !found.iter().any(|known| known == Path::new(file))
            {
                found.push(file.into());
            }
        }
    }
    Ok(found)
}

/// The kernel that `cargo xtask lab --guest qemu` has unpacked into Cargo's target folder, where this program stands too.
fn unpacked_kernel() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().map_err(Error::host("looking for this program's own file"))?;
    let found = program.ancestors().skip(1).take(4).map(|folder| folder.join("lab/linux")).find(|path| path.is_dir());
    found.ok_or_else(|| missing("a kernel for QEMU (lab/linux in Cargo's target folder)"))
}

/// The one version of which there are an image and modules.
fn version(kernel: &Path) -> Result<String, Error> {
    let modules = kernel.join("lib/modules");
    let mut versions = Vec::new();
    for entry in fs::read_dir(&modules).map_err(Error::path(&modules))? {
        let name = entry.map_err(Error::path(&modules))?.file_name().to_string_lossy().into_owned();
        if kernel.join("boot").join(format!("vmlinuz-{name}")).is_file() {
            versions.push(name);
        }
    }
    match <[String; 1]>::try_from(versions) {
        Ok([version]) => Ok(version),
        Err(versions) => {
            let kernel = kernel.display();
            Err(Error::Asked(format!(
                "{kernel} has to hold one kernel (boot/vmlinuz-V and lib/modules/V), and has {versions:?}"
            )))
        }
    }
}

fn missing(what: &str) -> Error {
    Error::Missing { what: what.to_owned(), mend: MEND.to_owned() }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}
