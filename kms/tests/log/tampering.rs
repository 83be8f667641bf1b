//! Seeded tampering with an export's text.

/// A small generator of numbers (SplitMix64): the same seed gives the same tampering everywhere.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % end.max(1) as u64) as usize
    }
}

fn join(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
}

/// The text, changed somehow; `other` is another export to take lines from. Never the same text.
pub(crate) fn tamper(text: &str, other: &str, numbers: &mut Numbers) -> (&'static str, Vec<u8>) {
    loop {
        let (what, changed) = once(text, other, numbers);
        if changed != text.as_bytes() {
            return (what, changed);
        }
    }
}

fn once(text: &str, other: &str, numbers: &mut Numbers) -> (&'static str, Vec<u8>) {
    let mut bytes = text.as_bytes().to_vec();
    let mut lines: Vec<Vec<u8>> = text.lines().map(|l| l.as_bytes().to_vec()).collect();
    let line = numbers.below(lines.len());
    match numbers.below(13) {
        0 => {
            let at = numbers.below(bytes.len());
            bytes[at] ^= 1 << numbers.below(8);
            ("a bit", bytes)
        }
        1 => {
            let at = numbers.below(bytes.len());
            let others = b"0123456789abcdefABZ\"\\,{}[]:-+= \n\t";
            bytes[at] = others[numbers.below(others.len())];
            ("a byte", bytes)
        }
        2 => {
            bytes.truncate(numbers.below(bytes.len()));
            ("cut", bytes)
        }
        3 => {
            lines.truncate(line);
            ("cut at a line", join(&lines))
        }
        4 => {
            lines.remove(line);
            ("a line left out", join(&lines))
        }
        5 => {
            lines.insert(line, lines[line].clone());
            ("a line twice", join(&lines))
        }
        6 => {
            let with = numbers.below(lines.len());
            lines.swap(line, with);
            ("two lines swapped", join(&lines))
        }
        7 => {
            let foreign: Vec<&str> = other.lines().collect();
            lines[line] = foreign[numbers.below(foreign.len())].as_bytes().to_vec();
            ("a line of another export", join(&lines))
        }
        8 => {
            let digits: Vec<usize> = (0..lines[line].len()).filter(|at| lines[line][*at].is_ascii_digit()).collect();
            if !digits.is_empty() {
                let at = digits[numbers.below(digits.len())];
                lines[line][at] = b'0' + numbers.below(10) as u8;
            }
            ("a digit", join(&lines))
        }
        9 => {
            let names =
                ["actor", "salt", "time", "op", "tenant", "tenant_seq", "proof", "reason", "checkpoint", "end", "keys"];
            let name = names[numbers.below(names.len())];
            let text = String::from_utf8(lines[line].clone()).unwrap();
            lines[line] = text.replacen(name, &format!("{name}x"), 1).into_bytes();
            ("a member renamed", join(&lines))
        }
        10 => {
            let words = [
                ("done", "failed"),
                ("refused", "done"),
                ("key.", "kek."),
                ("selection", "tenant"),
                ("full", "selection"),
            ];
            let (from, to) = words[numbers.below(words.len())];
            let text = String::from_utf8(lines[line].clone()).unwrap();
            lines[line] = text.replacen(from, to, 1).into_bytes();
            ("a word", join(&lines))
        }
        11 => {
            let more =
                [&b"{\"end\":1}"[..], b"", b"{}", b"[]", b"null", b"{\"checkpoint\":\"\"}", b"\xff", b"1e5", b"[[[["];
            lines.insert(line, more[numbers.below(more.len())].to_vec());
            ("a line put in", join(&lines))
        }
        _ => {
            let moved = lines.remove(line);
            let to = numbers.below(lines.len() + 1);
            lines.insert(to, moved);
            ("a line moved", join(&lines))
        }
    }
}
