//! User-Mode Linux: a kernel that is an ordinary process. Boots in about two seconds, and computes at full speed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::error::Error;
use super::job::JobFolder;

/// Debian's package calls it both; only the second name is there without its alternatives.
const KERNELS: [&str; 2] = ["/usr/bin/linux.uml", "/usr/bin/linux"];
const MODULES: &str = "/usr/lib/uml/modules";
const PRELOAD: &str = "libsealtape_uml_xstate.so";

/// The command that boots the guest.
pub(super) fn command(job: &JobFolder, memory_mib: u32) -> Result<Command, Error> {
    let install = "apt-get install user-mode-linux (or `cargo xtask setup lab`, as root)";
    let missing = |what: &str| Error::Missing { what: what.to_owned(), mend: install.to_owned() };
    let kernel = KERNELS.iter().map(Path::new).find(|path| path.is_file());
    let kernel = kernel.ok_or_else(|| missing("User-Mode Linux (/usr/bin/linux.uml)"))?;
    if !Path::new(MODULES).is_dir() {
        return Err(missing(MODULES));
    }

    // Where UML keeps its control socket, which otherwise lands in ~/.uml and stays there.
    let control = job.file("uml");
    fs::create_dir(&control).map_err(Error::path(&control))?;

    let mut command = Command::new(kernel);
    command
        .env_clear()
        .env("LD_PRELOAD", preload()?)
        .env("TMPDIR", memory_folder(job, memory_mib)?)
        .current_dir(job.path())
        .arg(format!("mem={memory_mib}M"))
        .args(["rootfstype=hostfs", "rootflags=/", "ro", "con=null", "con0=null,fd:1", "panic=-1", "oops=panic"])
        .arg(format!("uml_dir={}/", control.display()))
        .arg("umid=guest")
        .arg(format!("init={}", job.file("init").display()))
        // What the kernel does not know it hands to init as environment.
        .arg("SEALTAPE_GUEST=uml")
        .arg(format!("SEALTAPE_MODULES={MODULES}"))
        .arg(format!("SEALTAPE_JOB={}", job.path().display()));
    Ok(command)
}

/// The library of `sealtape-uml-xstate`, which Cargo puts beside the test binaries or one folder below the others.
fn preload() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().map_err(Error::host("looking for this program's own file"))?;
    let folders = program.ancestors().skip(1).take(3);
    let found = folders.flat_map(|folder| [folder.join("deps"), folder.to_owned()]).map(|folder| folder.join(PRELOAD));
    found.into_iter().find(|path| path.is_file()).ok_or_else(|| Error::Missing {
        what: format!("{PRELOAD} (looked for beside and above {})", program.display()),
        mend: "cargo build --package sealtape-hwtest".to_owned(),
    })
}

/// The guest's memory is a file without a name that UML maps and runs code from: it wants room, and no `noexec`.
fn memory_folder(job: &JobFolder, memory_mib: u32) -> Result<PathBuf, Error> {
    let wanted = u64::from(memory_mib) << 20;
    let folders = [Path::new("/dev/shm"), job.path()];
    let fits = |folder: &&Path| {
        statvfs(*folder).is_ok_and(|stat| {
            let room = stat.blocks_available().saturating_mul(stat.fragment_size());
            room >= wanted && !stat.flags().contains(FsFlags::ST_NOEXEC)
        })
    };
    folders.iter().find(|folder| fits(folder)).map(|folder| folder.to_path_buf()).ok_or_else(|| {
        let job = job.path().display();
        Error::Asked(format!(
            "neither /dev/shm nor {job} has room for the guest's memory of {memory_mib} MiB in a place that is not mounted \
             noexec: give the guest less memory, or `mount -o remount,exec,size={memory_mib}M /dev/shm`"
        ))
    })
}
