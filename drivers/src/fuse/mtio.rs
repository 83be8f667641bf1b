//! The magnetic tape ioctls of Linux (`<linux/mtio.h>`): what crosses between a client and a node.
//!
//! Numbers are in the byte order of the machine, as every ioctl's are. Clients of another word size
//! (a 32-bit `mt` on a 64-bit kernel) use the same commands with shorter structures.

use std::fmt;

/// `MTIOCTOP`: one operation. Same encoding for both word sizes.
pub const MTIOCTOP: u32 = 0x4008_6d01;
/// `MTIOCGET`: status, 48 bytes.
pub const MTIOCGET: u32 = 0x8030_6d02;
/// `MTIOCPOS`: block number, 8 bytes.
pub const MTIOCPOS: u32 = 0x8008_6d03;
/// `MTIOCGET` of a 32-bit client, 28 bytes.
pub const MTIOCGET_32: u32 = 0x801c_6d02;
/// `MTIOCPOS` of a 32-bit client, 4 bytes.
pub const MTIOCPOS_32: u32 = 0x8004_6d03;

/// `mt_op` of `struct mtop`. A newtype, so that an operation unknown to us survives and prints.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MtOp(pub i16);

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl MtOp {
            $($(#[$doc])* pub const $name: Self = Self($value);)*
        }
        impl fmt::Debug for MtOp {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)*
                    Self(other) => write!(f, "mt_op {other}"),
                }
            }
        }
    };
}

operations! {
    /// Forward over filemarks, position behind the last.
    MTFSF = 1,
    /// Backward over filemarks, position before the last.
    MTBSF = 2,
    /// Forward over records.
    MTFSR = 3,
    /// Backward over records.
    MTBSR = 4,
    /// Write filemarks; 0 synchronises.
    MTWEOF = 5,
    /// Rewind.
    MTREW = 6,
    /// Rewind and unload.
    MTOFFL = 7,
    /// Nothing; synchronises what the driver buffers.
    MTNOP = 8,
    /// Retension, then rewind.
    MTRETEN = 9,
    /// Backward over filemarks, position behind the last (the first record of the file).
    MTBSFM = 10,
    /// Forward over filemarks, position before the last.
    MTFSFM = 11,
    /// To the end of recorded data.
    MTEOM = 12,
    /// Erase from here; 0 short, else long.
    MTERASE = 13,
    /// Block length; 0 is variable.
    MTSETBLK = 20,
    /// Density code.
    MTSETDENSITY = 21,
    /// To a logical object number.
    MTSEEK = 22,
    /// Where are we (done with `MTIOCPOS` by every client).
    MTTELL = 23,
    /// Buffered mode, and the options of the driver.
    MTSETDRVBUFFER = 24,
    /// Forward over setmarks.
    MTFSS = 25,
    /// Backward over setmarks.
    MTBSS = 26,
    /// Write setmarks.
    MTWSM = 27,
    /// Prevent removal of the medium.
    MTLOCK = 28,
    /// Allow removal of the medium.
    MTUNLOCK = 29,
    /// Load the medium.
    MTLOAD = 30,
    /// Unload the medium.
    MTUNLOAD = 31,
    /// Compression in the drive.
    MTCOMPRESSION = 32,
    /// Partition for the next command.
    MTSETPART = 33,
    /// Format into one or two partitions.
    MTMKPART = 34,
    /// Write filemarks, immediate.
    MTWEOFI = 35,
}

/// Bits of `mt_gstat` (`GMT_*`).
pub mod gstat {
    /// Behind a filemark.
    pub const EOF: u32 = 0x8000_0000;
    /// At the beginning of the tape.
    pub const BOT: u32 = 0x4000_0000;
    /// Past early warning, or at the end of the medium.
    pub const EOT: u32 = 0x2000_0000;
    /// At a setmark.
    pub const SM: u32 = 0x1000_0000;
    /// At the end of recorded data.
    pub const EOD: u32 = 0x0800_0000;
    /// Write protected.
    pub const WR_PROT: u32 = 0x0400_0000;
    /// A medium is loaded.
    pub const ONLINE: u32 = 0x0100_0000;
    /// Door open: no medium.
    pub const DR_OPEN: u32 = 0x0004_0000;
    /// Immediate report: writes are acknowledged from a buffer.
    pub const IM_REP_EN: u32 = 0x0001_0000;
}

/// `MT_ISSCSI2`, the only `mt_type` that a drive of this century has.
pub const MT_ISSCSI2: i32 = 0x72;

/// `struct mtget`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MtStatus {
    /// `mt_type`.
    pub drive_type: i32,
    /// `mt_resid`: `st` puts the partition number here.
    pub resid: i32,
    /// `mt_dsreg`: density code in the upper 8 bits, block length in the lower 24.
    pub dsreg: u32,
    /// `mt_gstat`: bits of [`gstat`].
    pub gstat: u32,
    /// `mt_erreg`: recovered errors since the last status.
    pub erreg: u32,
    /// `mt_fileno`: filemarks before the position, -1 when unknown.
    pub fileno: i32,
    /// `mt_blkno`: records since the last filemark, -1 when unknown.
    pub blkno: i32,
}

impl MtStatus {
    /// The structure of a 64-bit client. The unsigned registers are zero-extended, as the kernel's
    /// assignment to `long` does.
    pub fn to_bytes(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        let longs = [
            i64::from(self.drive_type),
            i64::from(self.resid),
            i64::from(self.dsreg),
            i64::from(self.gstat),
            i64::from(self.erreg),
        ];
        for (at, value) in longs.iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&value.to_ne_bytes());
        }
        bytes[40..44].copy_from_slice(&self.fileno.to_ne_bytes());
        bytes[44..48].copy_from_slice(&self.blkno.to_ne_bytes());
        bytes
    }

    /// The structure of a 32-bit client.
    pub fn to_bytes_32(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        let words = [
            self.drive_type.to_ne_bytes(),
            self.resid.to_ne_bytes(),
            self.dsreg.to_ne_bytes(),
            self.gstat.to_ne_bytes(),
            self.erreg.to_ne_bytes(),
            self.fileno.to_ne_bytes(),
            self.blkno.to_ne_bytes(),
        ];
        for (at, word) in words.iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(word);
        }
        bytes
    }
}

/// `struct mtop`: operation and count. `None` when it is not 8 bytes long.
pub fn parse_operation(bytes: &[u8]) -> Option<(MtOp, i32)> {
    let bytes: &[u8; 8] = bytes.try_into().ok()?;
    let op = i16::from_ne_bytes([bytes[0], bytes[1]]);
    let count = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    Some((MtOp(op), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are derived here as `<asm-generic/ioctl.h>` derives them.
    #[test]
    fn command_numbers_are_those_of_the_kernel() {
        let command = |direction: u32, size: u32, number: u32| direction << 30 | size << 16 | 0x6d << 8 | number;
        assert_eq!(MTIOCTOP, command(1, 8, 1));
        assert_eq!(MTIOCGET, command(2, 5 * 8 + 2 * 4, 2));
        assert_eq!(MTIOCPOS, command(2, 8, 3));
        assert_eq!(MTIOCGET_32, command(2, 7 * 4, 2));
        assert_eq!(MTIOCPOS_32, command(2, 4, 3));
    }

    #[test]
    fn status_has_the_layout_of_struct_mtget() {
        let status = MtStatus {
            drive_type: MT_ISSCSI2,
            resid: 1,
            dsreg: 0x5a00_0200,
            gstat: gstat::EOF | gstat::ONLINE,
            erreg: 3,
            fileno: 7,
            blkno: -1,
        };
        let bytes = status.to_bytes();
        assert_eq!(bytes[0..8], 0x72_i64.to_ne_bytes());
        assert_eq!(bytes[8..16], 1_i64.to_ne_bytes());
        assert_eq!(bytes[16..24], 0x5a00_0200_i64.to_ne_bytes());
        assert_eq!(bytes[24..32], 0x8100_0000_i64.to_ne_bytes());
        assert_eq!(bytes[32..40], 3_i64.to_ne_bytes());
        assert_eq!(bytes[40..44], 7_i32.to_ne_bytes());
        assert_eq!(bytes[44..48], (-1_i32).to_ne_bytes());
        let short = status.to_bytes_32();
        assert_eq!(short[12..16], 0x8100_0000_u32.to_ne_bytes());
        assert_eq!(short[24..28], (-1_i32).to_ne_bytes());
    }

    #[test]
    fn operations_parse_and_refuse_other_lengths() {
        let mut bytes = [0; 8];
        bytes[0..2].copy_from_slice(&2_i16.to_ne_bytes());
        bytes[4..8].copy_from_slice(&(-3_i32).to_ne_bytes());
        assert_eq!(parse_operation(&bytes), Some((MtOp::MTBSF, -3)));
        assert_eq!(parse_operation(&bytes[..6]), None);
        assert_eq!(format!("{:?} {:?}", MtOp::MTWEOFI, MtOp(99)), "MTWEOFI mt_op 99");
    }
}
