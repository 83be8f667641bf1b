//! The ioctls of the SCSI generic driver, version 3 (`<scsi/sg.h>`).
//!
//! Numbers and layout are the kernel's. The header holds pointers, so its size differs between word sizes; the assertions
//! below fix what the kernel of this machine reads.

#![allow(unsafe_code, reason = "ioctl has no safe interface")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::libc::{c_int, c_uchar, c_uint, c_ushort, c_void};

use super::Data;

/// Longest sense data of SPC-4, and of what the header can ask for.
pub(super) const SENSE_BYTES: usize = 252;

const SG_DXFER_NONE: c_int = -1;
const SG_DXFER_TO_DEV: c_int = -2;
const SG_DXFER_FROM_DEV: c_int = -3;

/// `struct sg_io_hdr`. `[i]` is read, `[o]` is written by the kernel.
///
/// | offset (64 bit) | field | |
/// |---|---|---|
/// | 0 | interface_id | `[i]` `'S'` |
/// | 4 | dxfer_direction | `[i]` -1 none, -2 to the device, -3 from it |
/// | 8, 9 | cmd_len, mx_sb_len | `[i]` |
/// | 10 | iovec_count | `[i]` 0: one buffer |
/// | 12 | dxfer_len | `[i]` bytes |
/// | 16, 24, 32 | dxferp, cmdp, sbp | `[i]` data, command, sense |
/// | 40, 44, 48, 56 | timeout (ms), flags, pack_id, usr_ptr | `[i]` |
/// | 64, 65, 66, 67 | status, masked_status, msg_status, sb_len_wr | `[o]` |
/// | 68, 70 | host_status, driver_status | `[o]` |
/// | 72, 76, 80 | resid, duration (ms), info | `[o]` |
#[repr(C)]
struct SgIoHeader {
    interface_id: c_int,
    dxfer_direction: c_int,
    cmd_len: c_uchar,
    mx_sb_len: c_uchar,
    iovec_count: c_ushort,
    dxfer_len: c_uint,
    dxferp: *mut c_void,
    cmdp: *const c_uchar,
    sbp: *mut c_uchar,
    timeout: c_uint,
    flags: c_uint,
    pack_id: c_int,
    usr_ptr: *mut c_void,
    status: c_uchar,
    masked_status: c_uchar,
    msg_status: c_uchar,
    sb_len_wr: c_uchar,
    host_status: c_ushort,
    driver_status: c_ushort,
    resid: c_int,
    duration: c_uint,
    info: c_uint,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<SgIoHeader>() == 88);
    assert!(std::mem::offset_of!(SgIoHeader, dxferp) == 16);
    assert!(std::mem::offset_of!(SgIoHeader, status) == 64);
    assert!(std::mem::offset_of!(SgIoHeader, resid) == 72);
};

/// `struct sg_scsi_id`.
#[repr(C)]
#[derive(Default)]
struct SgScsiId {
    host_no: c_int,
    channel: c_int,
    scsi_id: c_int,
    lun: c_int,
    scsi_type: c_int,
    h_cmd_per_lun: i16,
    d_queue_depth: i16,
    unused: [c_int; 2],
}

const _: () = assert!(size_of::<SgScsiId>() == 32);

mod ioctl {
    use super::{SgIoHeader, SgScsiId, c_int};
    nix::ioctl_readwrite_bad!(sg_io, 0x2285, SgIoHeader);
    nix::ioctl_read_bad!(sg_get_scsi_id, 0x2276, SgScsiId);
    nix::ioctl_write_ptr_bad!(sg_set_reserved_size, 0x2275, c_int);
    nix::ioctl_read_bad!(sg_get_reserved_size, 0x2272, c_int);
    nix::ioctl_read_bad!(sg_get_version_num, 0x2282, c_int);
}

/// What came back from the kernel, not yet judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawAnswer {
    pub(super) status: u8,
    pub(super) host_status: u16,
    pub(super) driver_status: u16,
    pub(super) sense: [u8; SENSE_BYTES],
    pub(super) sense_length: usize,
    pub(super) transferred: usize,
}

/// Where the device is, as the kernel numbers it: host, channel, target, unit; and its peripheral device type.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScsiId {
    pub(super) address: [i32; 4],
    pub(super) device_type: i32,
}

/// SG_IO: executes a command and waits for it.
pub(super) fn execute(fd: BorrowedFd<'_>, cdb: &[u8], data: Data<'_>, limit: Duration) -> io::Result<RawAnswer> {
    let (direction, pointer, length): (c_int, *mut c_void, usize) = match data {
        Data::None => (SG_DXFER_NONE, std::ptr::null_mut(), 0),
        Data::In(buffer) => (SG_DXFER_FROM_DEV, buffer.as_mut_ptr().cast(), buffer.len()),
        // The kernel only reads through it: the direction says so.
        Data::Out(bytes) => (SG_DXFER_TO_DEV, bytes.as_ptr().cast_mut().cast(), bytes.len()),
    };
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a command or its data is too long for SG_IO");
    let direction = if length == 0 { SG_DXFER_NONE } else { direction };
    let mut sense = [0; SENSE_BYTES];
    let mut header = SgIoHeader {
        interface_id: c_int::from(b'S'),
        dxfer_direction: direction,
        cmd_len: u8::try_from(cdb.len()).ok().filter(|length| *length <= 16).ok_or_else(too_long)?,
        mx_sb_len: SENSE_BYTES as c_uchar,
        iovec_count: 0,
        dxfer_len: c_uint::try_from(length).map_err(|_| too_long())?,
        dxferp: pointer,
        cmdp: cdb.as_ptr(),
        sbp: sense.as_mut_ptr(),
        // 0 would be the driver's default; the largest value means for ever.
        timeout: c_uint::try_from(limit.as_millis()).unwrap_or(c_uint::MAX - 1).clamp(1, c_uint::MAX - 1),
        flags: 0,
        pack_id: 0,
        usr_ptr: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the descriptor is open for the call. The header is a valid sg_io_hdr; its three pointers are to memory that
    // outlives the call (the caller's slices, `sense`) and have the lengths that stand beside them; `dxferp` is written to only
    // with SG_DXFER_FROM_DEV, which comes from an exclusive slice. Without SG_FLAG_DIRECT_IO the kernel copies through its own
    // buffer before it returns, so nothing is written to these pages afterwards, not after a time-out either.
    unsafe { ioctl::sg_io(fd.as_raw_fd(), &mut header) }?;
    let left = usize::try_from(header.resid).unwrap_or(0);
    Ok(RawAnswer {
        status: header.status,
        host_status: header.host_status,
        driver_status: header.driver_status,
        sense,
        sense_length: usize::from(header.sb_len_wr).min(SENSE_BYTES),
        transferred: length.saturating_sub(left),
    })
}

/// SG_GET_VERSION_NUM: 30000 and above know version 3 of the interface. Fails with ENOTTY on what is no SCSI generic node.
pub(super) fn version(fd: BorrowedFd<'_>) -> io::Result<i32> {
    let mut version: c_int = 0;
    // SAFETY: the descriptor is open for the call, and the kernel writes one int to the pointer.
    unsafe { ioctl::sg_get_version_num(fd.as_raw_fd(), &mut version) }?;
    Ok(version)
}

/// SG_GET_SCSI_ID.
pub(super) fn scsi_id(fd: BorrowedFd<'_>) -> io::Result<ScsiId> {
    let mut id = SgScsiId::default();
    // SAFETY: the descriptor is open for the call, and the kernel writes one sg_scsi_id, of the size asserted above.
    unsafe { ioctl::sg_get_scsi_id(fd.as_raw_fd(), &mut id) }?;
    Ok(ScsiId { address: [id.host_no, id.channel, id.scsi_id, id.lun], device_type: id.scsi_type })
}

/// SG_SET_RESERVED_SIZE, then SG_GET_RESERVED_SIZE: the kernel allocates a buffer of up to `wanted` bytes for this descriptor,
/// and says how long it became: no longer than the queue of the host adapter takes in one command.
pub(super) fn reserve(fd: BorrowedFd<'_>, wanted: usize) -> io::Result<usize> {
    let wanted = c_int::try_from(wanted).unwrap_or(c_int::MAX);
    // SAFETY: the descriptor is open for the call, and the kernel reads one int from the pointer.
    unsafe { ioctl::sg_set_reserved_size(fd.as_raw_fd(), &wanted) }?;
    let mut reserved: c_int = 0;
    // SAFETY: the descriptor is open for the call, and the kernel writes one int to the pointer.
    unsafe { ioctl::sg_get_reserved_size(fd.as_raw_fd(), &mut reserved) }?;
    Ok(usize::try_from(reserved).unwrap_or(0))
}
