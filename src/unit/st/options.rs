//! The options of the `st` driver (`mt stoptions`, `stinit`), which travel in MTSETDRVBUFFER.

use nix::errno::Errno;

/// What programs may switch. Only what changes behaviour here is kept; the rest (time-outs, buffer
/// sizes, cleaning sense) concerns commands that the back end sends, and is accepted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DriverOptions {
    /// Two filemarks at close.
    pub(super) two_filemarks: bool,
    /// MTEOM without counting files.
    pub(super) fast_eom: bool,
    /// PREVENT while the node is in use.
    pub(super) auto_lock: bool,
    /// MTSETPART and MTMKPART are allowed.
    pub(super) can_partitions: bool,
    /// System V semantics: closing `nstN` after reading goes behind the next filemark.
    pub(super) system_v: bool,
    /// Requests are not compared with the drive's block limits.
    pub(super) no_block_limits: bool,
    /// Block length for every new medium.
    pub(super) default_block_size: Option<u32>,
}

const KIND: u32 = 0xf000_0000;
const BOOLEANS: u32 = 0x1000_0000;
const WRITE_THRESHOLD: u32 = 0x2000_0000;
const SET_BOOLEANS: u32 = 0x3000_0000;
const CLEAR_BOOLEANS: u32 = 0x4000_0000;
const DEFAULT_BLOCK_SIZE: u32 = 0x5000_0000;
const DEFAULT_OPTIONS: u32 = 0x6000_0000;
const TIMEOUTS: u32 = 0x7000_0000;
const SET_CLEANING: u32 = 0x8000_0000;

const TWO_FILEMARKS: u32 = 0x10;
const FAST_EOM: u32 = 0x20;
const AUTO_LOCK: u32 = 0x40;
const NO_BLOCK_LIMITS: u32 = 0x200;
const CAN_PARTITIONS: u32 = 0x400;
const SYSTEM_V: u32 = 0x1000;

impl DriverOptions {
    /// Whether the argument of MTSETDRVBUFFER carries options and not a buffered mode.
    pub(super) fn are_in(argument: i32) -> bool {
        argument as u32 & KIND != 0
    }

    /// Sets what the argument says.
    pub(super) fn set(&mut self, argument: i32) -> Result<(), Errno> {
        let argument = argument as u32;
        let value = argument & !KIND;
        match argument & KIND {
            BOOLEANS => self.switch(value, !value),
            SET_BOOLEANS => self.switch(value, 0),
            CLEAR_BOOLEANS => self.switch(0, value),
            DEFAULT_BLOCK_SIZE => self.default_block_size = (value != !KIND).then_some(value & 0x00ff_ffff),
            WRITE_THRESHOLD | DEFAULT_OPTIONS | TIMEOUTS | SET_CLEANING => {}
            _ => return Err(Errno::EIO),
        }
        Ok(())
    }

    fn switch(&mut self, on: u32, off: u32) {
        let switches = [
            (TWO_FILEMARKS, &mut self.two_filemarks),
            (FAST_EOM, &mut self.fast_eom),
            (AUTO_LOCK, &mut self.auto_lock),
            (NO_BLOCK_LIMITS, &mut self.no_block_limits),
            (CAN_PARTITIONS, &mut self.can_partitions),
            (SYSTEM_V, &mut self.system_v),
        ];
        for (bit, switch) in switches {
            *switch = (*switch || on & bit != 0) && off & bit == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_set_cleared_and_replaced() {
        let mut options = DriverOptions::default();
        options.set((SET_BOOLEANS | TWO_FILEMARKS | CAN_PARTITIONS) as i32).unwrap();
        assert!(options.two_filemarks && options.can_partitions && !options.fast_eom);
        options.set((CLEAR_BOOLEANS | TWO_FILEMARKS) as i32).unwrap();
        assert!(!options.two_filemarks && options.can_partitions);
        options.set((BOOLEANS | FAST_EOM) as i32).unwrap();
        assert!(options.fast_eom && !options.can_partitions);
        options.set((DEFAULT_BLOCK_SIZE | 512) as i32).unwrap();
        assert_eq!(options.default_block_size, Some(512));
        options.set((DEFAULT_BLOCK_SIZE | !KIND) as i32).unwrap();
        assert_eq!(options.default_block_size, None);
        assert_eq!(options.set(0x9000_0000_u32 as i32), Err(Errno::EIO));
        assert!(!DriverOptions::are_in(1) && DriverOptions::are_in(SET_CLEANING as i32));
    }
}
