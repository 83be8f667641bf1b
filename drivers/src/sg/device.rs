//! A drive behind a SCSI generic node.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::stat::{major, minor};

use super::host_status;
use super::lookup;
use super::sys::{self, RawAnswer};
use super::{Answer, Data, Transport};
use crate::scsi::{Command, Completion, Sense, Status};

/// The longest block that READ(6) and WRITE(6) can ask for is 16 MiB less a byte; no host adapter known takes more than this.
const MOST_RESERVED: usize = 16 << 20;
/// SCSI generic nodes have this major number.
const SG_MAJOR: u64 = 21;
/// BUSY and TASK SET FULL: the command was not executed, and is sent again this often.
const BUSY_RETRIES: u32 = 12;
/// The first wait before that; each further one is twice as long, up to [`BUSY_LONGEST_WAIT`].
const BUSY_FIRST_WAIT: Duration = Duration::from_millis(20);
const BUSY_LONGEST_WAIT: Duration = Duration::from_secs(2);
/// For the INQUIRY that finds the largest transfer.
const INQUIRY_LIMIT: Duration = Duration::from_secs(20);
/// `udev` looks at a new node for a moment, which is no reason to call it in use.
const OPEN_PATIENCE: Duration = Duration::from_secs(3);

/// Where a device hangs: host, channel, target, unit, as Linux writes it (`2:0:0:0`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ScsiAddress {
    /// Host adapter.
    pub host: u32,
    /// Channel of it.
    pub channel: u32,
    /// Target.
    pub target: u32,
    /// Logical unit number.
    pub unit: u64,
}

impl std::fmt::Display for ScsiAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}:{}", self.host, self.channel, self.target, self.unit)
    }
}

impl std::str::FromStr for ScsiAddress {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{text} is not HOST:CHANNEL:TARGET:UNIT"));
        let mut parts = text.split(':').map(str::parse::<u64>);
        let mut next = || parts.next().and_then(Result::ok);
        let narrow = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok()).ok_or_else(wrong);
        let (host, channel, target) = (narrow(next())?, narrow(next())?, narrow(next())?);
        let unit = next().ok_or_else(wrong)?;
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self { host, channel, target, unit })
    }
}

/// How a node is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Other programs may use the node too: for asking what a device is.
    Shared,
    /// `O_EXCL`: the node is ours alone, which keeps `sg` tools of others off the drive. `st` is not kept off by it.
    Exclusive,
}

/// The transport over a `/dev/sgN`: SG_IO, version 3 of the interface.
///
/// Data goes through the buffer that the kernel reserves for the descriptor, allocated once when the node is opened. Direct
/// transfer from the caller's pages is not asked for: an unaligned buffer takes one segment more than the host adapter
/// may have, and after a time-out the adapter could still write to pages that are used for something else by then.
///
/// All signals are held back while a command runs. `sg` returns from a command at a signal and has the system call started again,
/// and the drive would execute the command twice. SIGKILL cannot be held back, and needs not be; SIGSTOP and a debugger can
/// still do it, so the layer above compares positions.
#[derive(Debug)]
pub struct SgDevice {
    file: File,
    name: String,
    address: ScsiAddress,
    device_type: u8,
    largest_transfer: usize,
}

impl SgDevice {
    /// Opens a drive by any name of it: `/dev/sgN`, `/dev/nstN`, `/dev/tape/by-id/…`.
    ///
    /// # Errors
    /// When there is no such node, it may not be opened or is in use, or it is no SCSI device.
    pub fn open(path: &Path, sharing: Sharing) -> io::Result<Self> {
        let node = lookup::generic_node(path)?;
        let file = open_node(&node, sharing)?;
        Self::from_file(file, &node)
    }

    /// Opens the tape drive with this unit serial number (INQUIRY, page 80h): numbers of nodes change from boot to boot.
    ///
    /// # Errors
    /// When no drive has it, or two have.
    pub fn by_serial(serial: &str, sharing: Sharing) -> io::Result<Self> {
        let node = lookup::tape_with_serial(serial)?;
        Self::open(&node, sharing)
    }

    fn from_file(file: File, node: &Path) -> io::Result<Self> {
        let name = node.display().to_string();
        let explain = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{name}: {what}: {error}"));
        let version = sys::version(file.as_fd()).map_err(|error| {
            explain("not a SCSI generic node; name the drive's /dev/sgN, /dev/nstN or /dev/tape/by-id link", error)
        })?;
        if version < 30000 {
            let text = format!("{name}: version {version} of the sg driver; SG_IO needs 30000 or later");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let id = sys::scsi_id(file.as_fd()).map_err(|error| explain("SG_GET_SCSI_ID", error))?;
        let [host, channel, target, unit] = id.address.map(|number| u32::try_from(number).unwrap_or(0));
        let reserved =
            sys::reserve(file.as_fd(), MOST_RESERVED).map_err(|error| explain("cannot reserve a buffer", error))?;
        if reserved == 0 {
            let text = format!("{name}: the kernel has no buffer for transfers; free memory and try again");
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
        }
        let mut device = Self {
            file,
            address: ScsiAddress { host, channel, target, unit: u64::from(unit) },
            device_type: u8::try_from(id.device_type).unwrap_or(0x1f),
            largest_transfer: reserved.min(MOST_RESERVED),
            name,
        };
        device.largest_transfer = largest_carried(device.largest_transfer, |length| device.carries(length))?;
        Ok(device)
    }

    /// Whether a command with so much data gets through to the host adapter. The reserved buffer may be longer: it is cut to the bytes
    /// that the queue takes, and an adapter that takes few segments, or none longer than a page, takes less than that. INQUIRY moves
    /// nothing; what the device leaves of the room is residue.
    fn carries(&self, length: usize) -> io::Result<bool> {
        const STANDARD: u16 = 36;
        let command = Command::Inquiry { vital_product_data: false, page: 0, allocation: STANDARD };
        let mut room = vec![0; length];
        match sys::execute(self.file.as_fd(), command.encode().as_bytes(), Data::In(&mut room), INQUIRY_LIMIT) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOMEM)) => Ok(false),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: INQUIRY: {error}", self.name))),
        }
    }

    /// A second handle to the same open node, for whoever keeps the drive while another uses it.
    ///
    /// # Errors
    /// When the process has no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, name: self.name.clone(), ..*self })
    }

    /// Host, channel, target, unit.
    pub fn address(&self) -> ScsiAddress {
        self.address
    }

    /// PERIPHERAL DEVICE TYPE, as the kernel found it: 1 a tape drive, 8 a medium changer.
    pub fn device_type(&self) -> u8 {
        self.device_type
    }

    fn once(&self, cdb: &[u8], data: Data<'_>, limit: Duration) -> io::Result<Answer> {
        let mut before = SigSet::empty();
        let held = |error: nix::Error| io::Error::other(format!("{}: cannot hold back signals: {error}", self.name));
        nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
            .map_err(held)?;
        let result = sys::execute(self.file.as_fd(), cdb, data, limit);
        // Restoring a mask that was valid before cannot fail; if it did, the thread would be deaf, which the caller has to hear.
        before.thread_set_mask().map_err(held)?;
        let raw =
            result.map_err(|error| io::Error::new(error.kind(), format!("{}: SG_IO failed: {error}", self.name)))?;
        judge(&self.name, &raw)
    }
}

/// The largest length up to `most` that is carried, in whole pages unless it is `most` itself.
fn largest_carried(most: usize, mut carries: impl FnMut(usize) -> io::Result<bool>) -> io::Result<usize> {
    const PAGE: usize = 4096;
    if most <= PAGE || carries(most)? {
        return Ok(most);
    }
    // In pages: `fits` does, or is the least that every adapter takes; `fails` does not.
    let (mut fits, mut fails) = (1, most.div_ceil(PAGE));
    while fails - fits > 1 {
        let middle = fits + (fails - fits) / 2;
        match carries(middle * PAGE)? {
            true => fits = middle,
            false => fails = middle,
        }
    }
    Ok(fits * PAGE)
}

/// What the three statuses of a command mean together.
fn judge(name: &str, raw: &RawAnswer) -> io::Result<Answer> {
    const DRIVER_SENSE: u16 = 0x08;
    let status = Status(raw.status & 0x7e);
    if raw.host_status != 0 && !host_status::is_note_on_answer(raw.host_status, status) {
        return Err(host_status::error(name, raw.host_status));
    }
    // The low half is the driver's status, the high half an obsolete suggestion.
    let driver = raw.driver_status & 0x0f;
    if driver & !DRIVER_SENSE != 0 {
        let kind = if driver == 0x06 { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
        return Err(io::Error::new(kind, format!("{name}: the kernel's driver failed the command ({driver:#x})")));
    }
    let bytes = raw.sense.get(..raw.sense_length).unwrap_or_default();
    let sense = Sense::parse(bytes);
    let completion = match status {
        // Sense without CHECK CONDITION: some adapters lose the status and keep the sense. Sense that tells nothing stays out.
        Status::GOOD if driver == DRIVER_SENSE && sense.is_some() => {
            Completion { status: Status::CHECK_CONDITION, sense }
        }
        Status::CHECK_CONDITION => Completion { status, sense },
        _ => Completion { status, sense: None },
    };
    Ok(Answer { completion, transferred: raw.transferred })
}

impl Transport for SgDevice {
    fn execute(&mut self, cdb: &[u8], data: Data<'_>, limit: Duration) -> io::Result<Answer> {
        let (begin, mut wait, mut data) = (Instant::now(), BUSY_FIRST_WAIT, data);
        for _ in 0..BUSY_RETRIES {
            let answer = self.once(cdb, data.again(), limit)?;
            let busy = matches!(answer.completion.status, Status::BUSY | Status::TASK_SET_FULL);
            if !busy || begin.elapsed() > limit {
                return Ok(answer);
            }
            thread::sleep(wait);
            wait = (wait * 2).min(BUSY_LONGEST_WAIT);
        }
        self.once(cdb, data, limit)
    }

    fn largest_transfer(&self) -> usize {
        self.largest_transfer
    }

    fn name(&self) -> &str {
        &self.name
    }
}

fn open_node(node: &Path, sharing: Sharing) -> io::Result<File> {
    let flags = match sharing {
        Sharing::Shared => libc::O_NONBLOCK,
        Sharing::Exclusive => libc::O_NONBLOCK | libc::O_EXCL,
    };
    let begin = Instant::now();
    loop {
        // O_CLOEXEC is what std opens with.
        let error = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(node) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        let busy = matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN));
        if busy && begin.elapsed() < OPEN_PATIENCE {
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        let advice = match error.raw_os_error() {
            Some(libc::EBUSY | libc::EAGAIN) => "another program has it open; `fuser -v` names it",
            Some(libc::EACCES | libc::EPERM) => "give this user the node, by its group or a udev rule",
            Some(libc::ENOENT) => "no such node; is the module sg loaded?",
            Some(libc::ENXIO | libc::ENODEV) => "the device is gone",
            _ => "cannot be opened",
        };
        return Err(io::Error::new(error.kind(), format!("{}: {advice}: {error}", node.display())));
    }
}

/// The character device that a path leads to: its path without links, major and minor number.
pub(super) fn character_device(path: &Path) -> io::Result<(PathBuf, u64, u64)> {
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let real = path.canonicalize().map_err(explain)?;
    let metadata = real.metadata().map_err(explain)?;
    if !metadata.file_type().is_char_device() {
        let text = format!(
            "{} is no device node; name the drive's /dev/sgN, /dev/nstN or /dev/tape/by-id link",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok((real, major(metadata.rdev()), minor(metadata.rdev())))
}

pub(super) fn is_generic(major: u64) -> bool {
    major == SG_MAJOR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(status: u8, host_status: u16, driver_status: u16, sense: &[u8]) -> RawAnswer {
        let mut bytes = [0; sys::SENSE_BYTES];
        bytes[..sense.len()].copy_from_slice(sense);
        RawAnswer { status, host_status, driver_status, sense: bytes, sense_length: sense.len(), transferred: 0 }
    }

    const FILEMARK: [u8; 18] = [0xf0, 0, 0x80, 0, 0, 2, 0, 10, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

    #[test]
    fn the_three_statuses_are_told_apart() {
        let good = judge("d", &raw(0, 0, 0, &[])).unwrap();
        assert_eq!(good.completion, Completion::GOOD);
        let check = judge("d", &raw(2, 0, 8, &FILEMARK)).unwrap().completion;
        assert_eq!(check.status, Status::CHECK_CONDITION);
        assert!(check.sense.unwrap().flags.filemark);
        // Sense, but the status was lost on the way.
        assert_eq!(judge("d", &raw(0, 0, 8, &FILEMARK)).unwrap().completion, check);
        // An older kernel's note on the drive's own answer.
        assert_eq!(judge("d", &raw(2, 0x10, 8, &FILEMARK)).unwrap().completion, check);
        let conflict = judge("d", &raw(0x18, 0x11, 0, &[])).unwrap().completion;
        assert_eq!((conflict.status, conflict.sense), (Status::RESERVATION_CONFLICT, None));
        assert_eq!(judge("d", &raw(2, 3, 8, &FILEMARK)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(judge("d", &raw(0, 0, 6, &[])).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_largest_transfer_is_what_the_adapter_carries_and_not_what_was_reserved() {
        // mhvtl: 1310720 bytes are reserved, and 128 pages go through.
        for (most, limit, wanted) in [
            (1_310_720, 524_288, 524_288),
            (1_310_720, 1_310_720, 1_310_720),
            (1_310_720, 1_310_719, 1_306_624),
            (1_000_000, usize::MAX, 1_000_000),
            (1_000_000, 999_999, 999_424),
            (16 << 20, 4096, 4096),
            (4096, 0, 4096),
            (8192, 5000, 4096),
        ] {
            let mut asked = 0;
            let found = largest_carried(most, |length| {
                asked += 1;
                Ok(length <= limit)
            });
            assert_eq!(found.unwrap(), wanted, "{limit} of {most}");
            assert!(asked <= 14, "{asked} commands");
        }
        largest_carried(8192, |_| Err(io::ErrorKind::TimedOut.into())).unwrap_err();
    }

    #[test]
    fn check_condition_with_cut_sense_is_one_without_sense() {
        for length in 0..3 {
            let answer = judge("d", &raw(2, 0, 8, &FILEMARK[..length])).unwrap();
            assert_eq!(answer.completion.status, Status::CHECK_CONDITION);
        }
    }

    #[test]
    fn what_is_no_drive_is_refused_with_the_way_to_name_one() {
        for path in ["/dev/null", "/etc/passwd", "/dev/no-such-drive"] {
            let text = SgDevice::open(Path::new(path), Sharing::Shared).unwrap_err().to_string();
            assert!(text.contains(path), "{text}");
        }
        let text = SgDevice::open(Path::new("/etc/passwd"), Sharing::Shared).unwrap_err().to_string();
        assert!(text.contains("/dev/sgN"), "{text}");
        // The ioctl on another device: what a node without sysfs would come to.
        let file = File::options().read(true).write(true).open("/dev/null").unwrap();
        let text = SgDevice::from_file(file, Path::new("/dev/null")).unwrap_err().to_string();
        assert!(text.contains("not a SCSI generic node") && text.contains("/dev/nstN"), "{text}");
    }

    #[test]
    fn addresses_read_as_linux_writes_them() {
        let address: ScsiAddress = "2:0:1:49409".parse().unwrap();
        assert_eq!(address.to_string(), "2:0:1:49409");
        for wrong in ["", "1:2:3", "1:2:3:4:5", "a:0:0:0", "-1:0:0:0"] {
            wrong.parse::<ScsiAddress>().unwrap_err();
        }
    }
}
