//! A served unit on this kernel's own SCSI layer: `tcm_loop`, a host adapter that leads back into the machine.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Failures, Server, TcmuError, configfs};

/// The names of our host adapters begin so: NAA 3h, locally assigned, then our mark. What follows tells units apart.
const OURS: &str = "naa.35ea17a9e";
const SETTLE: Duration = Duration::from_secs(10);

/// Where the kernel put a unit: host, channel, target, LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Address {
    /// Host adapter.
    pub host: u32,
    /// Channel.
    pub channel: u32,
    /// Target.
    pub target: u32,
    /// Logical unit number.
    pub lun: u64,
}

impl Address {
    /// What `tpgt_1/address` says: `H:C:T`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':').map(|part| part.parse::<u32>().ok());
        let (host, channel, target) = (parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(Self { host, channel, target, lun: 0 })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.host, self.channel, self.target, self.lun)
    }
}

/// Names of the nodes under `/dev` that the host's drivers gave a unit; `None` where the driver is not loaded or does not
/// want it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostDevices {
    /// `sgN`.
    pub generic: Option<String>,
    /// `stN`; the one that does not rewind is `nstN`.
    pub tape: Option<String>,
    /// `sdX`.
    pub disk: Option<String>,
}

/// A link from `tcm_loop` to a served unit. It stays when this is dropped: [`unlink`](Self::unlink) removes it.
#[derive(Debug)]
#[must_use = "the link stays until it is unlinked"]
pub struct Lun {
    adapter: PathBuf,
    address: Address,
    kept: bool,
}

impl Lun {
    /// Links a served unit to this kernel, or finds the link that it has. The kernel asks the unit what it is meanwhile, and
    /// `st` or `sd`, and `sg`, bind to it.
    ///
    /// # Errors
    /// When `tcm_loop` is missing, or the kernel refuses. What was made is removed.
    pub fn link(server: &Server) -> Result<Self, TcmuError> {
        configfs::prepare("tcm_loop")?;
        let device = configfs::device(server.hba(), server.name());
        let adapter = configfs::loopback().join(adapter_name(server.hba(), server.name()));
        let link = adapter.join("tpgt_1/lun/lun_0").join(server.name());
        let kept = link.symlink_metadata().is_ok();
        if kept {
            let found = fs::canonicalize(&link).map_err(|error| TcmuError::file("read", &link, error))?;
            if found != device {
                return Err(TcmuError::Foreign { path: adapter, found: found.display().to_string() });
            }
        }
        let address = if kept { address(&adapter) } else { make(&adapter, &device, &link) };
        let address = address.inspect_err(|_| {
            for error in if kept { Vec::new() } else { remove(&adapter) } {
                tracing::warn!(unit = server.name(), %error, "a link that could not be made leaves something");
            }
        })?;
        tracing::info!(unit = server.name(), %address, kept, "virtual drive linked");
        Ok(Self { adapter, address, kept })
    }

    /// Where the kernel put it.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Whether the link was there before, left by a service that was killed or suspended: the host's device nodes are those
    /// that it had.
    pub fn kept(&self) -> bool {
        self.kept
    }

    /// The nodes that the host's drivers have given it by now. A driver that is loaded later gives more.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn host_devices(&self) -> Result<HostDevices, TcmuError> {
        let device = scsi_device(self.address);
        let first = |class: &str, prefix: &str| -> Result<Option<String>, TcmuError> {
            let numbered = |name: &String| {
                let rest = name.strip_prefix(prefix).unwrap_or_default();
                // st0, but neither st0l (a mode) nor nst0.
                !rest.is_empty() && (prefix == "sd" || rest.bytes().all(|byte| byte.is_ascii_digit()))
            };
            Ok(configfs::entries(&device.join(class))?.into_iter().find(numbered))
        };
        Ok(HostDevices {
            generic: first("scsi_generic", "sg")?,
            tape: first("scsi_tape", "st")?,
            disk: first("block", "sd")?,
        })
    }

    /// Takes the unit away from the host: the kernel waits for the unit's answers, so it has to be served still.
    ///
    /// # Errors
    /// Every step that failed; the later ones were taken nevertheless.
    pub fn unlink(self) -> Result<(), Failures> {
        Failures::check(remove(&self.adapter))
    }
}

/// Name of the adapter of a unit: the same after a restart, and another for each unit.
fn adapter_name(hba: u32, name: &str) -> String {
    // FNV-1a, 28 bits of it: 16 digits in all.
    let bytes = hba.to_be_bytes().into_iter().chain(name.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{OURS}{:07x}", (hash ^ (hash >> 28)) & 0x0fff_ffff)
}

/// Whether an adapter in configfs is one of ours.
pub(super) fn is_ours(adapter: &str) -> bool {
    adapter.starts_with(OURS)
}

fn scsi_device(address: Address) -> PathBuf {
    Path::new("/sys/class/scsi_device").join(address.to_string()).join("device")
}

fn make(adapter: &Path, device: &Path, link: &Path) -> Result<Address, TcmuError> {
    configfs::make(&configfs::loopback())?;
    configfs::make(adapter)?;
    let group = adapter.join("tpgt_1");
    configfs::make(&group)?;
    // The initiator's name; reading says ENODEV while there is none.
    let nexus = group.join("nexus");
    if configfs::read(&nexus).is_err() {
        let name = adapter.file_name().unwrap_or_default().to_string_lossy();
        configfs::write(&nexus, &name)?;
    }
    configfs::make(&group.join("lun/lun_0"))?;
    match symlink(device, link) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(TcmuError::file("made", link, error)),
        _ => address(adapter),
    }
}

/// Reads where the kernel put the unit, and waits for its SCSI device.
fn address(adapter: &Path) -> Result<Address, TcmuError> {
    let path = adapter.join("tpgt_1/address");
    let text = configfs::read(&path)?;
    let Some(address) = Address::parse(&text) else {
        let error = std::io::Error::new(ErrorKind::InvalidData, format!("{text:?} is no address"));
        return Err(TcmuError::file("read", path, error));
    };
    let device = scsi_device(address);
    let start = Instant::now();
    while !device.exists() {
        if start.elapsed() > SETTLE {
            return Err(TcmuError::NoScsiDevice { path: adapter.to_owned(), seconds: SETTLE.as_secs() });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(address)
}

/// Removes an adapter with all that is in it, from the inside out.
pub(super) fn remove(adapter: &Path) -> Vec<TcmuError> {
    let mut failures = Vec::new();
    let mut note = |result: Result<(), TcmuError>| failures.extend(result.err());
    let groups = subfolders(adapter, "tpgt_");
    for group in &groups {
        for lun in subfolders(&group.join("lun"), "lun_") {
            for link in links_in(&lun) {
                note(configfs::unlink(&link));
            }
            note(configfs::remove(&lun));
        }
        note(configfs::remove(group));
    }
    note(configfs::remove(adapter));
    note(configfs::remove_if_unused(&configfs::loopback(), |name| name.starts_with("naa.")));
    failures
}

/// All links to a device, of whatever fabric.
pub(super) fn links_to(device: &Path) -> Result<Vec<PathBuf>, TcmuError> {
    let mut found = Vec::new();
    for fabric in configfs::entries(configfs::target())?.into_iter().filter(|name| name != "core") {
        let fabric = configfs::target().join(fabric);
        let luns = subfolders(&fabric, "").into_iter().flat_map(|target| subfolders(&target, "tpgt_"));
        for lun in luns.flat_map(|group| subfolders(&group.join("lun"), "lun_")) {
            let points_here = |link: &PathBuf| fs::canonicalize(link).is_ok_and(|target| target == device);
            found.extend(links_in(&lun).into_iter().filter(points_here));
        }
    }
    Ok(found)
}

/// The adapter that a link belongs to, if it is one of ours.
pub(super) fn our_adapter(link: &Path) -> Option<&Path> {
    let adapter = link.ancestors().nth(4)?;
    let ours = adapter.parent() == Some(&configfs::loopback()) && is_ours(adapter.file_name()?.to_str()?);
    ours.then_some(adapter)
}

/// Whether an adapter leads nowhere.
pub(super) fn is_empty(adapter: &Path) -> bool {
    let luns = subfolders(adapter, "tpgt_").into_iter().flat_map(|group| subfolders(&group.join("lun"), "lun_"));
    luns.flat_map(|lun| links_in(&lun)).next().is_none()
}

/// Folders below `folder` whose names begin with `prefix`; a folder that cannot be read has none, and removing it says so.
fn subfolders(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let names = configfs::entries(folder).unwrap_or_default();
    let paths = names.into_iter().filter(|name| name.starts_with(prefix)).map(|name| folder.join(name));
    paths.filter(|path| path.is_dir()).collect()
}

fn links_in(folder: &Path) -> Vec<PathBuf> {
    let paths = configfs::entries(folder).unwrap_or_default().into_iter().map(|name| folder.join(name));
    paths.filter(|path| path.is_symlink()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_named_for_its_unit() {
        let name = adapter_name(5773, "vtd0");
        assert!(is_ours(&name) && name.len() == "naa.".len() + 16, "{name}");
        assert_eq!(name, adapter_name(5773, "vtd0"));
        assert_ne!(name, adapter_name(5773, "vtd1"));
        assert_ne!(name, adapter_name(5774, "vtd0"));
        assert!(!is_ours("naa.5001405aaaaaaaaa"));
    }

    #[test]
    fn links_are_told_apart() {
        let ours = configfs::loopback().join(adapter_name(1, "a"));
        assert_eq!(our_adapter(&ours.join("tpgt_1/lun/lun_0/a")), Some(ours.as_path()));
        let foreign = configfs::loopback().join("naa.5001405aaaaaaaaa/tpgt_1/lun/lun_0/a");
        assert_eq!(our_adapter(&foreign), None);
        let iscsi = configfs::target().join("iscsi/iqn.2026-11.example:a/tpgt_1/lun/lun_0/a");
        assert_eq!(our_adapter(&iscsi), None);
    }

    #[test]
    fn addresses_are_parsed_whole() {
        let address = Address::parse("2:0:1").unwrap();
        assert_eq!(address.to_string(), "2:0:1:0");
        for wrong in ["", "2:0", "2:0:1:0", "a:0:1", "2:0:-1"] {
            assert_eq!(Address::parse(wrong), None, "{wrong:?}");
        }
    }
}
