//! Made-up and damaged input for the fuzz functions where they run as tests: repeatable, and without coverage to guide it.

/// Repeatable noise (xorshift64).
pub struct Noise(pub u64);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below.max(1)
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.next(most)).map(|_| self.next(256) as u8).collect()
    }

    /// A seed with a few changes, or up to `most` bytes of no seed.
    pub fn input(&mut self, seeds: &[Vec<u8>], most: usize) -> Vec<u8> {
        let Some(seed) = seeds.get(self.next(seeds.len() + 1)) else { return self.bytes(most) };
        let mut input = seed.clone();
        for _ in 0..1 + self.next(4) {
            let at = self.next(input.len());
            match self.next(6) {
                0 => input.truncate(at),
                1 => input.extend(self.bytes(40)),
                2 => drop(input.splice(at..at, self.bytes(9))),
                3 => drop(input.drain(at..at + self.next(input.len() - at))),
                _ => {
                    let extreme = [0, 1, 0x7f, 0x80, 0xff, self.next(256) as u8][self.next(6)];
                    input.iter_mut().skip(at).take(1).for_each(|byte| *byte = extreme);
                }
            }
        }
        input
    }
}
