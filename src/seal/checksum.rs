//! CRC-32C (Castagnoli, as iSCSI has it: RFC 3720, section 12.1) of blocks on the medium.

use crc_fast::{CrcAlgorithm, checksum};

/// The checksum of `bytes`. In vectors where the processor has them: it is computed over every block that passes, and is not to
/// cost as much as its encryption.
pub fn crc32c(bytes: &[u8]) -> u32 {
    // The library's checksums have 64 bits, whatever their width.
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn checksums_are_those_of_the_standard_at_every_length() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let bytes: Vec<u8> = (0..70_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in (0..2100).chain([4095, 4096, 4097, 65_535, 65_536, 69_990]) {
            // Another implementation, from a place that is not aligned.
            let piece = &bytes[length % 64 % 7..][..length];
            assert_eq!(crc32c(piece), ::crc32c::crc32c(piece), "{length} bytes");
        }
    }
}
