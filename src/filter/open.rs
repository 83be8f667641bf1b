//! Opening a stream: the head, then its records in a [`window`](super::window), then its end.

use std::io::{Read, Write};

use uuid::Uuid;

use super::window::open_records;
use super::{FilterError, Place, read_full, threads};
use crate::seal::stream::generation_len;
use crate::seal::{GenerationRecord, LABEL_LEN, OpeningKeys, Refusal, VolumeKind, VolumeLabel};

/// A stream that was opened to its authenticated end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedStream {
    /// Its volume.
    pub volume: Uuid,
    /// Records, the closing one included.
    pub records: u64,
    /// Bytes of plaintext.
    pub plain_bytes: u64,
}

/// What may stand behind the final record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Nothing: a file, or a pipe.
    Nothing,
    /// Zero bytes: programs that store a stream in blocks of one length fill up the last one, and hand it back so.
    Padding,
}

/// Opens `input`, asking `keys` for the data key once the head is read. `progress` is told the bytes of plaintext
/// that were written so far.
///
/// # Errors
/// [`FilterError`], or what `keys` says. Everything that verified before a fault has been written to `output`. A fault is told
/// when the read under way returns.
pub fn open<K: OpeningKeys + Sync, E: From<FilterError>>(
    input: &mut (impl Read + Send),
    output: &mut impl Write,
    keys: impl FnOnce(&VolumeLabel, &GenerationRecord) -> Result<K, E>,
    progress: impl FnMut(u64),
) -> Result<OpenedStream, E> {
    open_before(input, output, Behind::Nothing, keys, progress)
}

/// [`open`], for a stream that may come back with padding behind it.
///
/// # Errors
/// As [`open`]; any byte but zero behind the final record is refused in both cases.
pub fn open_before<K: OpeningKeys + Sync, E: From<FilterError>>(
    input: &mut (impl Read + Send),
    output: &mut impl Write,
    behind: Behind,
    keys: impl FnOnce(&VolumeLabel, &GenerationRecord) -> Result<K, E>,
    progress: impl FnMut(u64),
) -> Result<OpenedStream, E> {
    let (label, label_block) = read_label(input)?;
    let volume = label.volume;
    let refuse = |place, refusal| FilterError::Refused { volume: Some(volume), place, refusal };
    let (generation, generation_block) = read_generation(input, &label)?;
    let keys = keys(&label, &generation)?;
    generation.verify(&keys, &generation_block, &label_block).map_err(|refusal| refuse(Place::Generation, refusal))?;

    let (records, plain_bytes) = open_records(input, output, &generation, &keys, threads(), progress)?;
    output.flush().map_err(FilterError::Write)?;
    match ends(input, behind)? {
        true => Ok(OpenedStream { volume, records, plain_bytes }),
        false => Err(refuse(Place::Record(records), Refusal::TrailingData).into()),
    }
}

/// Reads to the end of `input`; whether only what may stand there does.
fn ends(input: &mut impl Read, behind: Behind) -> Result<bool, FilterError> {
    let mut rest = [0; 4096];
    loop {
        match (read_full(input, &mut rest).map_err(FilterError::Read)?, behind) {
            (0, _) => return Ok(true),
            (have, Behind::Padding) if rest[..have].iter().all(|byte| *byte == 0) => {}
            (_, Behind::Padding | Behind::Nothing) => return Ok(false),
        }
    }
}

fn read_label(input: &mut impl Read) -> Result<(VolumeLabel, [u8; LABEL_LEN]), FilterError> {
    let refuse = |refusal| FilterError::Refused { volume: None, place: Place::Label, refusal };
    let mut block = [0; LABEL_LEN];
    let have = read_full(input, &mut block).map_err(FilterError::Read)?;
    let label = match VolumeLabel::parse(&block[..have]) {
        _ if have == 0 => return Err(refuse(Refusal::Blank)),
        // Its version and magic are told first: "truncated" helps only who has one of ours.
        Err(Refusal::DamagedLabel) if have < LABEL_LEN => return Err(refuse(Refusal::Truncated)),
        other => other.map_err(refuse)?,
    };
    if label.kind != VolumeKind::Stream {
        return Err(refuse(Refusal::WrongKind));
    }
    if (label.partition, label.partitions) != (0, 1) {
        return Err(refuse(Refusal::WrongPartition));
    }
    Ok((label, block))
}

fn read_generation(input: &mut impl Read, label: &VolumeLabel) -> Result<(GenerationRecord, Vec<u8>), FilterError> {
    let refuse = |refusal| FilterError::Refused { volume: Some(label.volume), place: Place::Generation, refusal };
    let mut exactly = |buffer: &mut [u8]| match read_full(input, buffer).map_err(FilterError::Read)? {
        have if have == buffer.len() => Ok(()),
        _ => Err(refuse(Refusal::Truncated)),
    };
    let mut length = [0; 4];
    exactly(&mut length)?;
    let mut block = vec![0; generation_len(length).map_err(refuse)?];
    exactly(&mut block)?;
    let generation = GenerationRecord::parse(&block, label).map_err(refuse)?;
    Ok((generation, block))
}
