//! The operation codes that are served, with the bits of their blocks that are looked at (SPC-4 6.35, CDB usage data).
//! An LTO-8 drive's own list is the measure; `docs/virtual-drive.md` says of each whether it is answered, passed through or refused.

/// One command that is served.
pub(super) struct Operation {
    /// CDB usage data: the operation code, then the bits that are evaluated.
    pub(super) usage: &'static [u8],
    /// With a service action in the five low bits of byte 1.
    pub(super) service_action: Option<u8>,
    /// Longest time that it may take, in seconds.
    pub(super) longest_s: u32,
}

const fn plain(usage: &'static [u8], longest_s: u32) -> Operation {
    Operation { usage, service_action: None, longest_s }
}

const fn action(usage: &'static [u8], service_action: u8, longest_s: u32) -> Operation {
    Operation { usage, service_action: Some(service_action), longest_s }
}

/// A question that moves nothing.
const QUICK: u32 = 60;
/// Writing, reading: the drive may have to recover.
const DATA: u32 = 1500;
/// From one end of the tape to the other, with what was buffered.
const MOTION: u32 = 3000;
/// Writing over the whole tape.
const WHOLE_TAPE: u32 = 23_760;

/// Persistent reservations are answered by the kernel's target, which knows the initiators; the host has to find them listed all the same.
const RESERVE_IN: &[u8] = &[0x5e, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0];
const RESERVE_OUT: &[u8] = &[0x5f, 0x1f, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0];

/// All of them, by operation code and service action.
pub(super) const OPERATIONS: &[Operation] = &[
    plain(&[0x00, 0, 0, 0, 0, 0], QUICK),
    plain(&[0x01, 0x01, 0, 0, 0, 0], MOTION),
    plain(&[0x03, 0x01, 0, 0, 0xff, 0], QUICK),
    plain(&[0x04, 0x03, 0x0f, 0xff, 0xff, 0], MOTION),
    plain(&[0x05, 0x01, 0, 0, 0, 0], QUICK),
    plain(&[0x08, 0x03, 0xff, 0xff, 0xff, 0], DATA),
    plain(&[0x0a, 0x01, 0xff, 0xff, 0xff, 0], DATA),
    plain(&[0x10, 0x01, 0xff, 0xff, 0xff, 0], DATA),
    plain(&[0x11, 0x0f, 0xff, 0xff, 0xff, 0], MOTION),
    plain(&[0x12, 0x01, 0xff, 0xff, 0xff, 0], QUICK),
    plain(&[0x13, 0x07, 0xff, 0xff, 0xff, 0], MOTION),
    plain(&[0x15, 0x11, 0, 0, 0xff, 0], QUICK),
    plain(&[0x16, 0, 0, 0, 0, 0], QUICK),
    plain(&[0x17, 0, 0, 0, 0, 0], QUICK),
    plain(&[0x19, 0x03, 0, 0, 0, 0], WHOLE_TAPE),
    plain(&[0x1a, 0x08, 0xff, 0xff, 0xff, 0], QUICK),
    plain(&[0x1b, 0x01, 0, 0, 0x0f, 0], MOTION),
    plain(&[0x1c, 0x01, 0xff, 0xff, 0xff, 0], QUICK),
    plain(&[0x1d, 0xf4, 0, 0xff, 0xff, 0], QUICK),
    plain(&[0x1e, 0, 0, 0, 0x03, 0], QUICK),
    plain(&[0x2b, 0x07, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0], MOTION),
    plain(&[0x34, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0], QUICK),
    plain(&[0x44, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0], QUICK),
    plain(&[0x4c, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0], QUICK),
    plain(&[0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0], QUICK),
    plain(&[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0], QUICK),
    plain(&[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], QUICK),
    plain(&[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0], QUICK),
    plain(&[0x5a, 0x08, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0], QUICK),
    action(RESERVE_IN, 0, QUICK),
    action(RESERVE_IN, 1, QUICK),
    action(RESERVE_IN, 2, QUICK),
    action(RESERVE_IN, 3, QUICK),
    action(RESERVE_OUT, 0, QUICK),
    action(RESERVE_OUT, 1, QUICK),
    action(RESERVE_OUT, 2, QUICK),
    action(RESERVE_OUT, 3, QUICK),
    action(RESERVE_OUT, 4, QUICK),
    action(RESERVE_OUT, 5, QUICK),
    action(RESERVE_OUT, 6, QUICK),
    plain(&[0x8c, 0x1f, 0, 0, 0, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0], QUICK),
    plain(&[0x8d, 0x01, 0, 0, 0, 0xff, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], QUICK),
    plain(&[0x91, 0x0f, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], MOTION),
    plain(&[0x92, 0x1b, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], MOTION),
    plain(&[0x93, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], WHOLE_TAPE),
    plain(&[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], QUICK),
    plain(&[0xa2, 0xff, 0xff, 0xff, 0x80, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], QUICK),
    action(&[0xa3, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], 0x05, QUICK),
    action(&[0xa3, 0x1f, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], 0x0c, QUICK),
    action(&[0xa3, 0x1f, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], 0x0d, QUICK),
    action(&[0xa3, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], 0x0f, QUICK),
    action(&[0xa4, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], 0x0f, QUICK),
    action(&[0xab, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], 0x01, QUICK),
];

/// The entry of an operation code, and of its service action where it has some.
pub(super) fn find(operation: u8, service_action: Option<u16>) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|entry| {
        entry.usage.first() == Some(&operation)
            && match service_action {
                Some(action) => entry.service_action.map(u16::from) == Some(action),
                None => true,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealtape_drivers::scsi::{Command, cdb_length};

    #[test]
    fn the_table_says_what_is_understood() {
        for entry in OPERATIONS {
            let operation = entry.usage[0];
            assert_eq!(Some(entry.usage.len()), cdb_length(operation), "{operation:#04x}");
            let mut cdb = vec![0; entry.usage.len()];
            cdb[0] = operation;
            cdb[1] = entry.service_action.unwrap_or(0);
            assert!(Command::parse(&cdb).is_ok(), "{operation:#04x} {:?}", entry.service_action);
        }
    }

    #[test]
    fn entries_are_in_order_and_once() {
        let keys: Vec<_> = OPERATIONS.iter().map(|entry| (entry.usage[0], entry.service_action)).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(keys, sorted);
    }
}
