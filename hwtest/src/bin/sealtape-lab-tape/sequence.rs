//! Numbers and data from a seed, the same on every machine.

/// SplitMix64.
pub(crate) struct Sequence(u64);

impl Sequence {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap_or(0)
    }

    /// True in `part` of `whole` cases.
    pub(crate) fn chance(&mut self, part: u32, whole: u32) -> bool {
        self.below(whole) < part
    }

    /// One of several.
    pub(crate) fn one_of<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let count = u32::try_from(others.len()).unwrap_or(0);
        let index = self.below(count + 1) as usize;
        others.get(index).copied().unwrap_or(first)
    }

    /// A block length: short and long ones, round ones and those beside them.
    pub(crate) fn block_length(&mut self, largest: u32) -> u32 {
        let length = match self.below(6) {
            0 => 1 + self.below(64),
            1 => 512 * (1 + self.below(8)),
            2 => 1000 + self.below(3000),
            3 => 1 + self.below(largest),
            4 => 512,
            _ => 4095 + self.below(3),
        };
        length.min(largest)
    }
}

/// A block from a seed. Even seeds give data that shrinks, odd ones data that does not.
pub(crate) fn block(seed: u64, length: usize) -> Vec<u8> {
    let mut sequence = Sequence::new(seed);
    let random: Vec<u8> = match seed % 2 {
        0 => sequence.next().to_le_bytes().repeat(length / 8 + 1),
        _ => (0..length / 8 + 1).flat_map(|_| sequence.next().to_le_bytes()).collect(),
    };
    random.into_iter().take(length).collect()
}

/// FNV-1a, 64 bits: to tell data apart, not more.
pub(crate) fn fingerprint(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
