//! What somebody does who knows the formats and has everything but the keys.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Where the first object of a cartridge image stands, and the header before each one (docs/image-format.md).
const FIRST_FRAME: u64 = 36864;
const FRAME_HEADER: usize = 48;
/// A sealed record: header, ciphertext, tag and a CRC-32C over all of it (docs/format).
const RECORD_HEADER: usize = 96;
const RECORD_MAGIC: &[u8] = b"SLTR";

/// Changes one bit in the ciphertext of the record that stands closest behind `offset`, and makes all three
/// checksums over it right again. Gives the number of the object on the medium.
pub(crate) fn change_a_record(image: &Path, offset: u64) -> Result<u64> {
    let file = File::options().read(true).write(true).open(image).with_context(|| image.display().to_string())?;
    let mut at = FIRST_FRAME;
    loop {
        let mut frame = [0; FRAME_HEADER];
        file.read_exact_at(&mut frame, at).context("no record behind the middle of the image")?;
        ensure!(frame.starts_with(b"STOB"), "no frame at {at}: has the format of images changed?");
        let object = u64::from_be_bytes(frame[8..16].try_into()?);
        let length = u32::from_be_bytes(frame[32..36].try_into()?);
        let mut payload = vec![0; length as usize];
        file.read_exact_at(&mut payload, at + FRAME_HEADER as u64)?;

        if at >= offset && payload.starts_with(RECORD_MAGIC) {
            payload[RECORD_HEADER] ^= 1;
            let end = payload.len() - 4;
            let checksum = crc32c::crc32c(&payload[..end]);
            payload[end..].copy_from_slice(&checksum.to_be_bytes());
            frame[36..40].copy_from_slice(&crc32c::crc32c(&payload).to_be_bytes());
            let checksum = crc32c::crc32c(&frame[..44]);
            frame[44..].copy_from_slice(&checksum.to_be_bytes());
            file.write_all_at(&frame, at)?;
            file.write_all_at(&payload, at + FRAME_HEADER as u64)?;
            return Ok(object);
        }
        at += FRAME_HEADER as u64 + u64::from(length).next_multiple_of(8);
    }
}

/// Three ways to lie with an export of the custody log: change a figure, leave an entry out, end too early.
pub(crate) fn exports(whole: &str) -> Result<Vec<(&'static str, String)>> {
    let lines: Vec<&str> = whole.lines().collect();
    ensure!(lines.len() >= 4, "an export of {} lines is too short to be a custody log", lines.len());
    let middle = lines.len() / 2;
    let line = lines[middle];
    let digit = line.rfind(|c: char| c.is_ascii_digit()).context("an entry without a figure")?;
    let other = if line[digit..].starts_with('7') { "8" } else { "7" };
    let changed = format!("{}{other}{}", &line[..digit], &line[digit + 1..]);

    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let mut one_changed = lines.clone();
    one_changed[middle] = &changed;
    let mut one_missing = lines.clone();
    one_missing.remove(middle);
    Ok(vec![
        ("a figure changed", joined(&one_changed)),
        ("an entry left out", joined(&one_missing)),
        ("the end cut off", joined(&lines[..lines.len() - 1])),
    ])
}
