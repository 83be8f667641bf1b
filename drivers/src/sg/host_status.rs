//! What the host adapter and its driver say of a command that the drive did not answer.

use std::io;

use crate::scsi::Status;

/// Host status 10h–13h (`DID_TARGET_FAILURE`, `DID_NEXUS_FAILURE`, `DID_ALLOC_FAILURE`, `DID_MEDIUM_ERROR`): older kernels set
/// them when they have read the drive's own answer, which is there and tells more.
pub(super) fn is_note_on_answer(host_status: u16, status: Status) -> bool {
    (0x10..=0x13).contains(&host_status) && matches!(status, Status::CHECK_CONDITION | Status::RESERVATION_CONFLICT)
}

/// A host status other than `DID_OK`, as an error with words.
pub(super) fn error(name: &str, host_status: u16) -> io::Error {
    use io::ErrorKind as K;
    let (kind, word, text) = match host_status {
        0x01 => (K::NotConnected, "DID_NO_CONNECT", "the drive is not reached; check power and cable"),
        0x02 => (K::ResourceBusy, "DID_BUS_BUSY", "the bus stayed busy"),
        0x03 => (K::TimedOut, "DID_TIME_OUT", "the drive did not answer in time"),
        0x04 => (K::NotFound, "DID_BAD_TARGET", "no drive at this address"),
        0x05 => (K::ConnectionAborted, "DID_ABORT", "the command was aborted"),
        0x06 => (K::InvalidData, "DID_PARITY", "parity error on the bus; check the cable"),
        0x07 => (K::Other, "DID_ERROR", "the host adapter failed"),
        0x08 => (K::ConnectionReset, "DID_RESET", "the bus or the drive was reset"),
        0x09 => (K::Other, "DID_BAD_INTR", "an interrupt that nobody expected"),
        0x0a => (K::Other, "DID_PASSTHROUGH", "the host adapter refused the command"),
        0x0b => (K::Other, "DID_SOFT_ERROR", "the host adapter asks for another try"),
        0x0c => (K::Other, "DID_IMM_RETRY", "the host adapter asks for another try"),
        0x0d => (K::Other, "DID_REQUEUE", "the command was not queued"),
        0x0e => (K::ConnectionReset, "DID_TRANSPORT_DISRUPTED", "the link was interrupted"),
        0x0f => (K::NotConnected, "DID_TRANSPORT_FAILFAST", "the link is down; check the fabric"),
        0x10 => (K::Other, "DID_TARGET_FAILURE", "the drive failed for good"),
        0x11 => (K::Other, "DID_NEXUS_FAILURE", "the path to the drive is reserved by another"),
        0x12 => (K::StorageFull, "DID_ALLOC_FAILURE", "the drive has no space"),
        0x13 => (K::Other, "DID_MEDIUM_ERROR", "the medium failed"),
        0x14 => (K::Other, "DID_TRANSPORT_MARGINAL", "the link is failing; check the fabric"),
        _ => (K::Other, "unknown", "the host adapter failed"),
    };
    io::Error::new(kind, format!("{name}: {text} ({word}, host status {host_status:#04x})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_s_note_does_not_hide_the_drive_s_answer() {
        assert!(is_note_on_answer(0x10, Status::CHECK_CONDITION));
        assert!(is_note_on_answer(0x11, Status::RESERVATION_CONFLICT));
        assert!(!is_note_on_answer(0x10, Status::GOOD));
        assert!(!is_note_on_answer(0x03, Status::CHECK_CONDITION));
    }

    #[test]
    fn words_for_the_common_ones() {
        for (status, word) in [(1, "DID_NO_CONNECT"), (3, "DID_TIME_OUT"), (8, "DID_RESET"), (0x77, "0x77")] {
            let text = error("/dev/sg3", status).to_string();
            assert!(text.contains(word) && text.contains("/dev/sg3"), "{text}");
        }
        assert_eq!(error("x", 3).kind(), io::ErrorKind::TimedOut);
    }
}
