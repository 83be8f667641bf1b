//! Does a file hold a run of plaintext? An exact answer, at any alignment of either side.
//!
//! Every window of [`RUN`] bytes of the plaintext goes into a Bloom filter, every window of the medium
//! is asked against it, and the few that pass are compared exactly in a second walk over the plaintext.
//! Windows of few distinct bytes (zeros, padding) say nothing and are left out on both sides.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

/// Length of a run that counts.
pub(crate) const RUN: usize = 16;

/// A window with fewer distinct bytes than this may well stand in both by chance.
const DISTINCT: usize = 8;

/// 2^25 words of 64 bits, 256 MiB: a window passes by chance about once in a hundred times at 160 MiB.
const FILTER_WORDS_LOG2: u32 = 25;

/// No stretch to be set apart.
pub(crate) const NOTHING: Range<u64> = 0..0;

/// What was compared, and what was found.
pub(crate) struct Finding {
    /// Windows of the plaintext.
    pub(crate) known: u64,
    /// Windows of the medium.
    pub(crate) asked: u64,
    /// Different windows that stand in both.
    pub(crate) common: usize,
}

/// The windows of a plaintext, to be looked for.
pub(crate) struct Plaintext<'a> {
    files: Vec<&'a Path>,
    filter: Filter,
    known: u64,
}

impl<'a> Plaintext<'a> {
    pub(crate) fn read(files: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let files: Vec<&Path> = files.into_iter().collect();
        let mut filter = Filter::new(FILTER_WORDS_LOG2);
        let mut known = 0;
        for file in &files {
            windows(file, &NOTHING, |window| {
                filter.insert(window);
                known += 1;
            })?;
        }
        Ok(Self { files, filter, known })
    }

    /// Looks through `file`, without the stretch `apart`.
    pub(crate) fn look_in(&self, file: &Path, apart: &Range<u64>) -> Result<Finding> {
        let mut asked = 0;
        let mut passed = HashSet::new();
        windows(file, apart, |window| {
            asked += 1;
            if self.filter.may_hold(window) {
                passed.insert(window);
            }
        })?;

        let mut small = Filter::new(22);
        passed.iter().for_each(|window| small.insert(*window));
        let mut common = HashSet::new();
        for plain in &self.files {
            windows(plain, &NOTHING, |window| {
                if small.may_hold(window) && passed.contains(&window) {
                    common.insert(window);
                }
            })?;
        }
        Ok(Finding { known: self.known, asked, common: common.len() })
    }
}

/// Three bits in one word of 64, so that a question costs one access to memory.
struct Filter {
    words: Vec<u64>,
    shift: u32,
}

impl Filter {
    fn new(words_log2: u32) -> Self {
        Self { words: vec![0; 1 << words_log2], shift: 64 - words_log2 }
    }

    fn place(&self, window: u128) -> (usize, u64) {
        let [high, low] = [(window >> 64) as u64, window as u64];
        let mixed =
            (high ^ low.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let bits = (mixed ^ low).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32;
        let mask = 1 << (bits & 63) | 1 << (bits >> 6 & 63) | 1 << (bits >> 12 & 63);
        ((mixed >> self.shift) as usize, mask)
    }

    fn insert(&mut self, window: u128) {
        let (word, mask) = self.place(window);
        self.words[word] |= mask;
    }

    fn may_hold(&self, window: u128) -> bool {
        let (word, mask) = self.place(window);
        self.words[word] & mask == mask
    }
}

/// Calls `see` with every telling window of `file` that does not touch the stretch `apart`.
fn windows(file: &Path, apart: &Range<u64>, mut see: impl FnMut(u128)) -> Result<()> {
    let opened = File::open(file).with_context(|| file.display().to_string())?;
    let mut reader = BufReader::with_capacity(1 << 20, opened);
    let mut chunk = vec![0; 1 << 20];
    let mut window = Window::default();
    let mut offset = 0;
    loop {
        let length = reader.read(&mut chunk).with_context(|| file.display().to_string())?;
        if length == 0 {
            return Ok(());
        }
        for &byte in &chunk[..length] {
            if apart.contains(&offset) {
                window = Window::default();
            } else {
                window.push(byte);
                if window.is_telling() {
                    see(window.bytes);
                }
            }
            offset += 1;
        }
    }
}

/// The last 16 bytes, and how often each value stands in them.
struct Window {
    bytes: u128,
    filled: usize,
    counts: [u8; 256],
    distinct: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes: 0, filled: 0, counts: [0; 256], distinct: 0 }
    }
}

impl Window {
    fn push(&mut self, byte: u8) {
        if self.filled == RUN {
            let oldest = &mut self.counts[(self.bytes >> 120) as usize];
            *oldest -= 1;
            self.distinct -= usize::from(*oldest == 0);
        } else {
            self.filled += 1;
        }
        self.bytes = self.bytes << 8 | u128::from(byte);
        let newest = &mut self.counts[usize::from(byte)];
        self.distinct += usize::from(*newest == 0);
        *newest += 1;
    }

    fn is_telling(&self) -> bool {
        self.filled == RUN && self.distinct >= DISTINCT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look random and repeat nothing.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn find(plain: &[u8], medium: &[u8], apart: Range<u64>) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let [plain_file, medium_file] = ["plain", "medium"].map(|name| folder.path().join(name));
        std::fs::write(&plain_file, plain).unwrap();
        std::fs::write(&medium_file, medium).unwrap();
        let finding = Plaintext::read([plain_file.as_path()]).unwrap().look_in(&medium_file, &apart).unwrap();
        finding.common
    }

    #[test]
    fn a_run_of_sixteen_is_found_at_any_alignment_and_one_of_fifteen_is_not() {
        let plain = noise(1, 5000);
        for shift in 0..17 {
            let mut medium = noise(2, 3000);
            medium[1000 + shift..1016 + shift].copy_from_slice(&plain[333..349]);
            assert_eq!(find(&plain, &medium, NOTHING), 1, "at {shift}");
            medium[1015 + shift] ^= 1;
            assert_eq!(find(&plain, &medium, NOTHING), 0, "fifteen at {shift}");
        }
    }

    #[test]
    fn padding_and_a_stretch_set_apart_do_not_count() {
        let plain = [noise(1, 100), vec![0; 100], noise(3, 100)].concat();
        let medium = [noise(2, 100), vec![0; 100], plain[0..50].to_vec(), noise(4, 50)].concat();
        assert_eq!(find(&plain, &medium, NOTHING), 50 - RUN + 1);
        assert_eq!(find(&plain, &medium, 200..250), 0);
        assert_eq!(find(&plain, &medium, 200..201), 50 - RUN, "the first byte spoils one window");
    }
}
