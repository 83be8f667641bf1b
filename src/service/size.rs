//! Sizes as people write them: `10G`, `512KiB`, `4096`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. Suffixes follow dd and GNU: `K`, `M`, `G`, `T`, `P` and `KiB`, `MiB`, … are powers
/// of 1024; `KB` (or `kB`), `MB`, … are powers of 1000; `B` or nothing is bytes. Fractions are not taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// A number of mebibytes.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// The size in bytes, where it fits the machine's own word.
    pub fn as_usize(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, suffix) = trimmed.split_at(digits);
        let wrong =
            || format!("\"{text}\" is not a size: write bytes, or a whole number with KiB, MiB, GiB, K, M, G, KB, MB");
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (letter, base) = match suffix.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => return Ok(Self(number)),
            s => match (s.chars().next(), s.get(1..)) {
                (Some(letter), Some("" | "ib")) => (letter, 1024u64),
                (Some(letter), Some("b")) => (letter, 1000),
                _ => return Err(wrong()),
            },
        };
        let power = match letter {
            'k' => 1,
            'm' => 2,
            'g' => 3,
            't' => 4,
            'p' => 5,
            _ => return Err(wrong()),
        };
        let bytes = number.checked_mul(base.pow(power)).ok_or_else(|| format!("\"{text}\" is more than 2^64 bytes"))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for ByteSize {
    /// The largest binary unit that divides the size: what is printed parses to the same size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let (mut value, mut unit) = (self.0, 0);
        while value != 0 && value.is_multiple_of(1024) && unit + 1 < UNITS.len() {
            value /= 1024;
            unit += 1;
        }
        write!(f, "{value}{}", UNITS[unit])
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"256MiB\" or a number of bytes")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size cannot be negative"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_those_of_dd() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512B", 512),
            ("10G", 10 << 30),
            ("512KiB", 512 << 10),
            ("512k", 512 << 10),
            ("1 MiB", 1 << 20),
            ("18TB", 18_000_000_000_000),
            ("2kB", 2000),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "10GX", "10 giga", "1Kib b", "99999999999999999999", "999999999P", "ß"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn printed_sizes_parse_to_themselves() {
        for bytes in [0, 1, 1023, 1024, 1536, 1 << 20, (1 << 20) + 1, 10 << 30, u64::MAX] {
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
    }
}
