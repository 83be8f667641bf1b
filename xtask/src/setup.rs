//! Set-up: what a task needs on this machine beside Cargo, and how it gets there.
//!
//! A need is a program or a file; where all are there nothing is installed and no package manager is
//! asked. What is missing is installed from Debian when this runs as root, otherwise it is named.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{self, checked, find_program, output};

/// A Debian package, and the programs (by name) or files (by absolute path) that show its presence.
struct Need {
    package: &'static str,
    shown_by: &'static [&'static str],
}

const DEMO: &[Need] = &[
    Need { package: "softhsm2", shown_by: &["softhsm2-util"] },
    Need { package: "fuse3", shown_by: &["fusermount3"] },
    Need { package: "mt-st", shown_by: &["mt-st"] },
];

const TEST: &[Need] = &[
    Need { package: "cpio", shown_by: &["cpio"] },
    Need { package: "dump", shown_by: &["dump", "restore"] },
    Need { package: "e2fsprogs", shown_by: &["mkfs.ext4", "debugfs"] },
    Need { package: "mbuffer", shown_by: &["mbuffer"] },
    Need { package: "amanda-server", shown_by: &["amlabel", "amcheck", "amdump"] },
    Need { package: "amanda-client", shown_by: &["amfetchdump"] },
    Need { package: "libencode-locale-perl", shown_by: &["/usr/share/perl5/Encode/Locale.pm"] },
    Need { package: "bacula-sd", shown_by: &["btape"] },
    Need { package: "libnss3-tools", shown_by: &["certutil"] },
    Need { package: "systemd", shown_by: &["systemd-analyze"] },
    Need { package: "openssh-client", shown_by: &["ssh-keygen", "ssh-agent"] },
    Need { package: "age", shown_by: &["age", "age-keygen"] },
    Need { package: "python3-venv", shown_by: &[PYTHON_WITH_PIP] },
];

/// What the guest lab is made of, and what its suites call in the guest.
const LAB: &[Need] = &[
    Need { package: "user-mode-linux", shown_by: &["linux.uml", "/usr/lib/uml/modules"] },
    Need { package: "busybox-static", shown_by: &["busybox"] },
    Need { package: "kmod", shown_by: &["modprobe", "lsmod"] },
    Need { package: "sg3-utils", shown_by: &["sg_inq", "sg_turs"] },
    Need { package: "mtx", shown_by: &["mtx"] },
    Need { package: "lsscsi", shown_by: &["lsscsi"] },
    Need { package: "open-iscsi", shown_by: &["iscsid", "iscsiadm"] },
    Need { package: "iproute2", shown_by: &["ip"] },
    Need { package: "udev", shown_by: &["udevadm", "/lib/systemd/systemd-udevd"] },
];

/// What the benchmarks compare with.
const BENCH: &[Need] = &[
    Need { package: "age", shown_by: &["age", "age-keygen"] },
    Need { package: "aespipe", shown_by: &["aespipe"] },
    Need { package: "gpg", shown_by: &["gpg"] },
    Need { package: "gpg-agent", shown_by: &["gpg-agent"] },
    Need { package: "gpgconf", shown_by: &["gpgconf"] },
    Need { package: "openssl", shown_by: &["openssl"] },
];

/// What a guest by QEMU is made of besides. Large, and only for those who ask for it.
const QEMU: &[Need] = &[Need { package: "qemu-system-x86", shown_by: &["qemu-system-x86_64"] }];

/// Not a file but a question: a Python 3 that can make virtual environments with pip in them.
const PYTHON_WITH_PIP: &str = "python3 -m ensurepip";

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_MARK: &str = "# Of `cargo xtask setup`, for as long as it installs packages.";

/// What the demo needs.
pub(crate) fn for_demo() -> Result<()> {
    packages(DEMO.iter())?;
    fuse()
}

/// What the tests need; gives the Python interpreter with the packages of the independent reader.
pub(crate) fn for_test() -> Result<Option<PathBuf>> {
    packages(DEMO.iter().chain(TEST).chain(LAB))?;
    fuse()?;
    python()
}

/// What a guest by User-Mode Linux needs.
pub(crate) fn for_lab() -> Result<()> {
    packages(LAB.iter())
}

/// What the benchmarks need, the demo's services among it.
pub(crate) fn for_bench() -> Result<()> {
    packages(DEMO.iter().chain(BENCH))?;
    fuse()
}

/// What a guest by QEMU needs; the kernel comes with [`crate::lab`].
pub(crate) fn for_lab_with_qemu() -> Result<()> {
    packages(LAB.iter().chain(QEMU))
}

fn packages<'a>(needs: impl Iterator<Item = &'a Need>) -> Result<()> {
    let missing: Vec<&Need> = needs.filter(|need| !need.shown_by.iter().all(|sign| is_there(sign))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", names.join(" "));
    if find_program("apt-get").is_none() {
        let signs: Vec<&str> = missing.iter().flat_map(|need| need.shown_by).copied().collect();
        bail!("missing: {} (on Debian: {by_hand})", signs.join(", "));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("missing Debian packages, and only root may install them: sudo {by_hand}");
    }

    println!("set-up: installing {}", names.join(", "));
    let _quiet_services = ServicesStayDown::ensure()?;
    if install(&names).is_err() {
        // The lists may be missing or too old: once is enough to know.
        apt(["update", "--quiet=2"])?;
        install(&names).with_context(|| format!("after `apt-get update` too; by hand: {by_hand}"))?;
    }
    for need in missing {
        if let Some(sign) = need.shown_by.iter().find(|sign| !is_there(sign)) {
            bail!("{sign} is not there though package {0} is: apt-get install --reinstall {0}", need.package);
        }
    }
    Ok(())
}

fn is_there(sign: &str) -> bool {
    if sign == PYTHON_WITH_PIP {
        return output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok();
    }
    if sign.starts_with('/') { Path::new(sign).exists() } else { find_program(sign).is_some() }
}

fn install(names: &[&str]) -> Result<()> {
    apt(["install", "--yes", "--no-install-recommends", "--quiet=2"].iter().chain(names))
}

fn apt<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    output(&mut command).map(drop)
}

/// Amanda and Bacula bring daemons (a super server, a mail system) that no test uses: while packages
/// are installed they are kept from starting, by Debian's own means, which is taken away again. Should this
/// process be killed before that, the policy allows everything as soon as the process is gone.
struct ServicesStayDown {
    ours: bool,
}

impl ServicesStayDown {
    fn ensure() -> Result<Self> {
        let script = format!("#!/bin/sh\n{POLICY_MARK}\n[ -d /proc/{} ] && exit 101\nexit 0\n", std::process::id());
        if std::fs::read_to_string(POLICY).is_ok_and(|left| left.contains(POLICY_MARK)) {
            std::fs::remove_file(POLICY).context(POLICY)?;
        }
        match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY) {
            Ok(mut file) => {
                let guard = Self { ours: true };
                file.write_all(script.as_bytes()).context(POLICY)?;
                file.set_permissions(std::fs::Permissions::from_mode(0o755)).context(POLICY)?;
                Ok(guard)
            }
            // The machine has a policy of its own: it decides.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(error).context(POLICY),
        }
    }
}

impl Drop for ServicesStayDown {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_file(POLICY)
        {
            eprintln!("set-up: {POLICY} cannot be removed: {error}");
        }
    }
}

fn fuse() -> Result<()> {
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            "/dev/fuse cannot be opened ({error}): virtual drives need it; `modprobe fuse` loads it, \
             in a container pass `--device /dev/fuse --cap-add SYS_ADMIN`"
        ),
    }
}

/// A virtual environment in the target folder with what the independent reader of the format asks for.
fn python() -> Result<Option<PathBuf>> {
    let requirements = command::root().join("docs/format/requirements.txt");
    if !requirements.exists() {
        return Ok(None);
    }
    let wanted = std::fs::read(&requirements).with_context(|| requirements.display().to_string())?;
    let folder = command::target()?.join("venv");
    let python = folder.join("bin/python");
    let stamp = folder.join("installed-requirements.txt");
    if python.exists() && std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(Some(python));
    }

    println!("set-up: Python packages of {} into {}", requirements.display(), folder.display());
    checked(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&requirements);
    checked(&mut pip)?;
    std::fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    Ok(Some(python))
}
