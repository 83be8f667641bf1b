//! What goes into the records: made on this machine, in each run.

use std::path::{Path, PathBuf};

/// Bytes of a record.
pub(crate) const RECORD: usize = 256 << 10;
/// Different records of a kind, at most: more than a compressor remembers, and no more than a cache holds.
const RECORDS: usize = 8;

/// A kind of data, in records.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) records: Vec<Vec<u8>>,
}

pub(crate) fn kinds() -> Vec<Kind> {
    let text = sources();
    let program = std::env::current_exe().and_then(std::fs::read).expect("this program can be read");
    let compressed = zstd::bulk::compress(&text, 3).expect("zstd compresses");
    [("text", text), ("program", program), ("random", random(RECORD * RECORDS)), ("compressed", compressed)]
        .map(|(name, bytes)| {
            let records: Vec<_> = bytes.chunks_exact(RECORD).take(RECORDS).map(<[u8]>::to_vec).collect();
            assert!(!records.is_empty(), "{name}: less than a record of {RECORD} bytes");
            Kind { name, records }
        })
        .into()
}

/// The project's own sources and documents, in the order of their names.
fn sources() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["docs", "drivers", "hwtest", "kms", "src", "tests"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    files.iter().flat_map(|file| std::fs::read(file).expect("a source can be read")).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the checkout") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
            files.push(path);
        }
    }
}

/// SplitMix64 from a fixed seed.
fn random(length: usize) -> Vec<u8> {
    let mut state = 0x5ea1_7a9e_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes
}
