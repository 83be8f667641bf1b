//! One `target_core_user` device: made or found again, its uio node opened and mapped, removed.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::ring::Ring;
use super::sys::Region;
use super::{TcmuError, configfs};

/// The HBA number that Sealtape's units stand under, unless told otherwise: `core/user_5773`. targetcli and tcmu-runner
/// count theirs from 0.
pub const DEFAULT_HBA: u32 = 5773;

/// Marks a device as ours, in its configuration: `sealtape/NAME`.
const MARK: &str = "sealtape/";
/// A tape has no size, but a device must have one to be enabled.
const DEVICE_SIZE: u32 = 1 << 20;
const BLOCK_SIZE: u32 = 512;
/// What the kernel rounds sizes to.
const PAGE: usize = 4096;
const LONGEST_NAME: usize = 64;
/// T10 unit serial numbers (`INQUIRY_VPD_SERIAL_LEN`, less its end).
const LONGEST_SERIAL: usize = 253;

/// A unit as the kernel is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitConfig {
    /// Number of the HBA in configfs (`core/user_N`). Units may share one.
    pub hba: u32,
    /// Name of the unit: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Unit serial number, as the kernel's persistent reservations know the unit.
    pub serial: String,
    /// The longest data of one command, in bytes, that is asked of the unit as a matter of course. Through `tcm_loop` at
    /// most 1 MiB arrive in one; longer ones (iSCSI) are served, too, if the data area holds them.
    pub max_transfer: usize,
    /// Size of the data area, in MiB: room for the data of all commands that the kernel may hand over at a time. The
    /// kernel allocates it as it is used and keeps it.
    pub data_area_mib: u32,
}

impl UnitConfig {
    /// A unit under the [default HBA](DEFAULT_HBA), with commands of 1 MiB.
    pub fn new(name: impl Into<String>, serial: impl Into<String>) -> Self {
        Self { hba: DEFAULT_HBA, name: name.into(), serial: serial.into(), max_transfer: 1 << 20, data_area_mib: 16 }
    }

    fn check(&self) -> Result<(), TcmuError> {
        let fits = |value: &str, longest| !value.is_empty() && value.len() <= longest;
        let refuse = |what, value: &str, why| Err(TcmuError::Name { what, value: value.to_owned(), why });
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !fits(&self.name, LONGEST_NAME) || !self.name.chars().all(word) || self.name.starts_with('.') {
            return refuse(
                "the unit name",
                &self.name,
                "1 to 64 letters, digits, - _ . are a name, and . does not begin one",
            );
        }
        if !fits(&self.serial, LONGEST_SERIAL) || !self.serial.chars().all(|c| matches!(c, ' '..='~')) {
            return refuse("the serial number", &self.serial, "1 to 253 printable ASCII characters are one");
        }
        if self.max_transfer < BLOCK_SIZE as usize || self.max_transfer > self.data_area_mib as usize * (1 << 20) {
            let transfer = self.max_transfer.to_string();
            return refuse(
                "the longest transfer",
                &transfer,
                "it is at least 512 bytes, and the data area has to hold it",
            );
        }
        Ok(())
    }

    fn mark(&self) -> String {
        format!("{MARK}{}", self.name)
    }

    /// A device that was found keeps the sizes it was made with.
    fn tell_differences(&self, path: &Path) -> Result<(), TcmuError> {
        let area = configfs::read(&path.join("attrib/max_data_area_mb"))?;
        let sectors = configfs::read(&path.join("attrib/hw_max_sectors"))?;
        if area != self.data_area_mib.to_string() || sectors != self.sectors().to_string() {
            tracing::warn!(
                unit = self.name,
                data_area_mib = area,
                max_sectors = sectors,
                "the virtual drive was taken over with the sizes it has; new ones need it removed and made again"
            );
        }
        Ok(())
    }

    /// Whole pages, as the kernel rounds it: what it has is compared with this when a device is found.
    fn sectors(&self) -> usize {
        self.max_transfer / PAGE * (PAGE / BLOCK_SIZE as usize)
    }

    pub(super) fn path(&self) -> PathBuf {
        configfs::device(self.hba, &self.name)
    }

    /// What configures the device. Everything in it was checked to hold no comma.
    fn control(&self) -> String {
        format!(
            "dev_config={},dev_size={DEVICE_SIZE},hw_block_size={BLOCK_SIZE},hw_max_sectors={},\
             max_data_area_mb={},nl_reply_supported=-1",
            self.mark(),
            self.sectors(),
            self.data_area_mib
        )
    }
}

/// Name of the unit in a device's configuration, if it is one of ours.
pub(super) fn unit_of(config: &str) -> Option<&str> {
    config.strip_prefix(MARK)
}

/// A device of ours in configfs, and its node, open: the kernel lets only one process at a time do that.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) node: File,
    map: NonZeroUsize,
}

/// Whether a device was there before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Made,
    /// A service that ended without removing it left it.
    Resumed,
}

impl Device {
    /// Finds the device of `config`, or makes it, and opens its node. One that was found is blocked and its ring reset.
    pub(super) fn open(config: &UnitConfig) -> Result<(Self, Found), TcmuError> {
        config.check()?;
        configfs::prepare("target_core_user")?;
        let path = config.path();
        let found = if path.exists() && is_enabled(&path)? {
            let mark = configfs::read(&path.join("attrib/dev_config"))?;
            if mark != config.mark() {
                return Err(TcmuError::Foreign { path, found: mark });
            }
            Found::Resumed
        } else {
            make(config, &path).inspect_err(|_| undo(config))?;
            Found::Made
        };
        let device = Self::attach(config.hba, &config.name, &config.mark());
        match found {
            Found::Resumed => {
                let device = device?;
                device.interrupt()?;
                // Its service may have been killed before it came to this.
                configure(&path)?;
                config.tell_differences(&path)?;
                Ok((device, found))
            }
            Found::Made => Ok((device.inspect_err(|_| undo(config))?, found)),
        }
    }

    /// Opens the node of an enabled device.
    pub(super) fn attach(hba: u32, name: &str, mark: &str) -> Result<Self, TcmuError> {
        let uio = find_uio(&format!("tcm-user/{hba}/{name}/{mark}"))?;
        let size = configfs::read(&uio.join("maps/map0/size"))?;
        let map = usize::from_str_radix(size.trim_start_matches("0x"), 16).ok().and_then(NonZeroUsize::new);
        let Some(map) = map else {
            let error = std::io::Error::new(ErrorKind::InvalidData, format!("{size:?} is no size"));
            return Err(TcmuError::file("read", uio.join("maps/map0/size"), error));
        };
        let node = Path::new("/dev").join(uio.file_name().unwrap_or_default());
        let opened =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(&node);
        match opened {
            Ok(file) => {
                let path = configfs::device(hba, name);
                Ok(Self { name: name.to_owned(), path, node: file, map })
            }
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                Err(TcmuError::Served { unit: name.to_owned(), node })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(TcmuError::file("opened (is devtmpfs mounted on /dev, or udev running?)", node, error))
            }
            Err(error) => Err(TcmuError::file("opened", node, error)),
        }
    }

    /// Maps the ring.
    pub(super) fn ring(&self) -> Result<Ring, TcmuError> {
        let region = Region::map(&self.node, self.map).map_err(|error| TcmuError::file("mapped", &self.path, error))?;
        Ring::new(region).map_err(|source| TcmuError::Ring { unit: self.name.clone(), source })
    }

    /// Ends what is in flight: answered commands are taken, all others fail, the ring is empty, and new commands are told
    /// BUSY until [`resume`](Self::resume).
    pub(super) fn interrupt(&self) -> Result<(), TcmuError> {
        self.block()?;
        configfs::write(&self.path.join("action/reset_ring"), "2")
    }

    /// New commands are told BUSY.
    pub(super) fn block(&self) -> Result<(), TcmuError> {
        configfs::write(&self.path.join("action/block_dev"), "1")
    }

    /// New commands come through the ring again.
    pub(super) fn resume(&self) -> Result<(), TcmuError> {
        configfs::write(&self.path.join("action/block_dev"), "0")
    }
}

/// Removes a device whose node is closed, and its HBA if nothing else is under it.
pub(super) fn remove(hba: u32, name: &str) -> Vec<TcmuError> {
    let device = configfs::remove(&configfs::device(hba, name));
    let hba = configfs::remove_if_unused(&configfs::hba(hba), |name| !matches!(name, "hba_info" | "hba_mode"));
    [device, hba].into_iter().filter_map(Result::err).collect()
}

fn undo(config: &UnitConfig) {
    for error in remove(config.hba, &config.name) {
        tracing::warn!(unit = config.name, %error, "a virtual drive that could not be made leaves something");
    }
}

fn make(config: &UnitConfig, path: &Path) -> Result<(), TcmuError> {
    configfs::make(&configfs::hba(config.hba))?;
    if !configfs::make(path)? {
        // Named, but never enabled: what a service that was killed while making it left. Made anew.
        configfs::remove(path)?;
        configfs::make(path)?;
    }
    configfs::write(&path.join("control"), &config.control())?;
    configfs::write(&path.join("wwn/vpd_unit_serial"), &config.serial)?;
    configfs::write(&path.join("enable"), "1")?;
    configure(path)
}

/// What an enabled device needs before it is linked.
fn configure(path: &Path) -> Result<(), TcmuError> {
    // A rewind takes minutes: no limit of the kernel's. Refused when the unit is linked, even where it changes nothing.
    let limit = path.join("attrib/cmd_time_out");
    if configfs::read(&limit)? != "0" {
        configfs::write(&limit, "0")?;
    }
    configfs::write(&path.join("attrib/tmr_notification"), "1")
}

/// Whether a device was configured and enabled.
pub(super) fn is_enabled(path: &Path) -> Result<bool, TcmuError> {
    Ok(configfs::read(&path.join("enable"))? == "1")
}

/// The folder of the uio device called `name`.
fn find_uio(name: &str) -> Result<PathBuf, TcmuError> {
    let class = Path::new("/sys/class/uio");
    for entry in configfs::entries(class)? {
        let folder = class.join(entry);
        // A device may go while we look.
        if configfs::read(&folder.join("name")).is_ok_and(|found| found == name) {
            return Ok(folder);
        }
    }
    Err(TcmuError::NoUio { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_string_is_what_the_kernel_parses() {
        let config = UnitConfig::new("vtd0", "SN 1");
        config.check().unwrap();
        assert_eq!(
            config.control(),
            "dev_config=sealtape/vtd0,dev_size=1048576,hw_block_size=512,hw_max_sectors=2048,max_data_area_mb=16,\
             nl_reply_supported=-1"
        );
        let odd = UnitConfig { max_transfer: 0xff_ffff, ..config.clone() };
        assert!(odd.control().contains("hw_max_sectors=32760,"), "{}", odd.control());
        assert_eq!(unit_of("sealtape/vtd0"), Some("vtd0"));
        assert_eq!(unit_of("rbd/pool"), None);
        assert_eq!(config.path(), Path::new("/sys/kernel/config/target/core/user_5773/vtd0"));
    }

    #[test]
    fn names_that_the_kernel_would_misread_are_refused() {
        for name in ["", "a,b", "a/b", "..", ".hidden", "a b", "ü", "a\n", &"x".repeat(65)] {
            let error = UnitConfig::new(name, "1").check().unwrap_err().to_string();
            assert!(error.contains("unit name"), "{name:?}: {error}");
        }
        for serial in ["", "a\nb", "ü", &"x".repeat(254)] {
            assert!(UnitConfig::new("a", serial).check().is_err(), "{serial:?}");
        }
        let mut config = UnitConfig::new("a", "1");
        config.max_transfer = (16 << 20) + 1;
        assert!(config.check().is_err());
        config.max_transfer = 511;
        assert!(config.check().is_err());
    }
}
