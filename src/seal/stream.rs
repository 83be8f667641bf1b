//! Streams: label block, length and generation record, then records back to back, closed by a final record.

use super::envelope::{HEADER_LEN, MAX_PLAIN, OVERHEAD, check_magic};
use super::generation::{MAX_GENERATION_LEN, MIN_GENERATION_LEN};
use super::label::LABEL_LEN;
use super::refusal::Refusal;

/// Plain bytes in a chunk, unless the last one is shorter.
pub const CHUNK_LEN: usize = 256 << 10;

/// What stands before the first record.
pub fn encode_head(label: &[u8; LABEL_LEN], generation: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(LABEL_LEN + 4 + generation.len());
    head.extend_from_slice(label);
    head.extend_from_slice(&(generation.len() as u32).to_be_bytes());
    head.extend_from_slice(generation);
    head
}

/// Length of the generation record, from the 4 bytes before it.
///
/// # Errors
/// [`Refusal::DamagedGeneration`] for more or less than a generation record can have.
pub fn generation_len(bytes: [u8; 4]) -> Result<usize, Refusal> {
    let length = u32::from_be_bytes(bytes) as usize;
    if (MIN_GENERATION_LEN..=MAX_GENERATION_LEN).contains(&length) {
        Ok(length)
    } else {
        Err(Refusal::DamagedGeneration)
    }
}

/// Length of a whole record, from its header alone: only what is needed to find its end is checked.
///
/// # Errors
/// [`Refusal::BadMagic`], [`Refusal::UnknownVersion`], or [`Refusal::BadLengths`] for more than a record can have.
pub fn record_len(header: &[u8; HEADER_LEN]) -> Result<usize, Refusal> {
    check_magic(header)?;
    let stored = u32::from_be_bytes([header[24], header[25], header[26], header[27]]) as usize;
    if stored <= MAX_PLAIN { Ok(stored + OVERHEAD) } else { Err(Refusal::BadLengths) }
}
