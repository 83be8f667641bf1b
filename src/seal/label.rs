//! The volume label: object 0 of each partition, 4096 bytes of text that a person can read with `head`.

use std::fmt::Write as _;

use uuid::Uuid;

use super::checksum::crc32c;
use super::refusal::Refusal;

/// Bytes of the label block.
pub const LABEL_LEN: usize = 4096;

const FIRST_LINE: &str = "SEALTAPE VOLUME ";
const VERSION_LINE: &str = "SEALTAPE VOLUME 1\n";
const EXPLANATION: &str = "
This volume is encrypted by Sealtape. Everything behind this label is sealed
with an authenticated cipher; without its data key nothing of it can be read,
and nothing of it is worth anything to whoever finds it.

To read it: `sealtape restore`, with the key token of its owner, or any
program written from the specification of the format, docs/format/format-1.md
in Sealtape's sources, which describes every byte that follows and comes with
a reader of a few hundred lines.

If you found this volume, please give it back to its owner.

";

/// What a sealed volume is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum VolumeKind {
    /// A tape (or its image).
    Tape,
    /// A stream, as a pipe writes it.
    Stream,
}

impl VolumeKind {
    /// The word in the label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tape => "tape",
            Self::Stream => "stream",
        }
    }
}

/// What a label says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeLabel {
    /// The volume.
    pub volume: Uuid,
    /// Tape or stream.
    pub kind: VolumeKind,
    /// The partition in which this label stands, from 0.
    pub partition: u8,
    /// How many partitions the volume has.
    pub partitions: u8,
    /// The operator's label, where the pool's policy puts it on the medium.
    pub label: Option<String>,
    /// The barcode, where the pool's policy puts it on the medium.
    pub barcode: Option<String>,
}

/// Longest operator's label or barcode, in bytes.
pub const MAX_NAME_LEN: usize = 128;

/// Whether a text may stand in a label: one line of printable text, not empty, at most [`MAX_NAME_LEN`] bytes.
pub fn is_printable_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_LEN && text.trim() == text && !text.chars().any(char::is_control)
}

impl VolumeLabel {
    /// The block on the medium.
    ///
    /// # Errors
    /// A name that may not stand in a label ([`is_printable_name`]).
    pub fn encode(&self) -> Result<[u8; LABEL_LEN], String> {
        let mut text = format!("{VERSION_LINE}{EXPLANATION}fields:\n");
        let _ = write!(
            text,
            "volume: {}\nkind: {}\npartition: {}\npartitions: {}\n",
            self.volume.hyphenated(),
            self.kind.word(),
            self.partition,
            self.partitions
        );
        for (name, value) in [("label", &self.label), ("barcode", &self.barcode)] {
            let Some(value) = value else { continue };
            if !is_printable_name(value) {
                return Err(format!(
                    "the {name} “{}” cannot stand on a medium: one line of 1 to {MAX_NAME_LEN} bytes without \
                     control characters is meant",
                    value.escape_debug()
                ));
            }
            let _ = writeln!(text, "{name}: {value}");
        }
        let crc = crc32c(text.as_bytes());
        let _ = writeln!(text, "crc32c: {crc:08x}\nend");
        let mut block = [b' '; LABEL_LEN];
        block[..text.len()].copy_from_slice(text.as_bytes());
        block[LABEL_LEN - 1] = b'\n';
        Ok(block)
    }

    /// Reads object 0 of a partition.
    ///
    /// # Errors
    /// [`Refusal::Foreign`] for anything that does not begin as a label does, [`Refusal::UnknownVersion`] for a label
    /// of another version, [`Refusal::DamagedLabel`] for the rest.
    pub fn parse(block: &[u8]) -> Result<Self, Refusal> {
        if !block.starts_with(FIRST_LINE.as_bytes()) {
            return Err(Refusal::Foreign);
        }
        if !block.starts_with(VERSION_LINE.as_bytes()) {
            let number = &block[FIRST_LINE.len()..];
            let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let plain = digits == 1 || number.first() != Some(&b'0');
            let other = digits > 0 && plain && number.get(digits) == Some(&b'\n');
            return Err(if other { Refusal::UnknownVersion } else { Refusal::DamagedLabel });
        }
        Self::parse_version_1(block).ok_or(Refusal::DamagedLabel)
    }

    fn parse_version_1(block: &[u8]) -> Option<Self> {
        if block.len() != LABEL_LEN {
            return None;
        }
        let text = std::str::from_utf8(block).ok()?;
        let mut at = text.find("\nfields:\n")? + "\nfields:\n".len();
        let mut fields = Fields::default();
        loop {
            let line = &text[at..at + text[at..].find('\n')?];
            let (name, value) = line.split_once(": ")?;
            let well_named = name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            well_named.then_some(())?;
            if name == "crc32c" {
                let crc = crc32c(&block[..at]);
                if value != format!("{crc:08x}") {
                    return None;
                }
                at += line.len() + 1;
                break;
            }
            fields.take(name, value)?;
            at += line.len() + 1;
        }
        let padding = text[at..].strip_prefix("end\n")?;
        let padding = padding.strip_suffix('\n').or(padding.is_empty().then_some(""))?;
        padding.bytes().all(|byte| byte == b' ').then_some(())?;
        fields.label()
    }
}

#[derive(Default)]
struct Fields<'a> {
    /// Place of the last known field in the order of the specification.
    order: usize,
    volume: Option<Uuid>,
    kind: Option<VolumeKind>,
    partition: Option<u8>,
    partitions: Option<u8>,
    label: Option<&'a str>,
    barcode: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Takes one field; `None` for a repeated or malformed one.
    fn take(&mut self, name: &str, value: &'a str) -> Option<()> {
        const ORDER: [&str; 6] = ["volume", "kind", "partition", "partitions", "label", "barcode"];
        if let Some(place) = ORDER.iter().position(|known| *known == name) {
            (place >= self.order).then_some(())?;
            self.order = place;
        }
        match name {
            "volume" => {
                let volume = Uuid::try_parse(value).ok().filter(|volume| volume.hyphenated().to_string() == value)?;
                self.volume.replace(volume).is_none()
            }
            "kind" => {
                let kinds = [VolumeKind::Tape, VolumeKind::Stream];
                self.kind.replace(kinds.into_iter().find(|kind| kind.word() == value)?).is_none()
            }
            "partition" => self.partition.replace(decimal(value)?).is_none(),
            "partitions" => self.partitions.replace(decimal(value)?).is_none(),
            "label" => self.label.replace(name_value(value)?).is_none(),
            "barcode" => self.barcode.replace(name_value(value)?).is_none(),
            _ => true,
        }
        .then_some(())
    }

    fn label(self) -> Option<VolumeLabel> {
        let (partition, partitions) = (self.partition?, self.partitions?);
        (partition < partitions).then_some(())?;
        Some(VolumeLabel {
            volume: self.volume?,
            kind: self.kind?,
            partition,
            partitions,
            label: self.label.map(str::to_owned),
            barcode: self.barcode.map(str::to_owned),
        })
    }
}

fn decimal(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number: &u8| number.to_string() == text)
}

fn name_value(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.chars().any(|char| char.is_ascii_control())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label() -> VolumeLabel {
        VolumeLabel {
            volume: Uuid::from_u128(0x1234),
            kind: VolumeKind::Tape,
            partition: 1,
            partitions: 2,
            label: Some("Montag, wöchentlich".into()),
            barcode: Some("A00001L8".into()),
        }
    }

    #[test]
    fn a_label_comes_back_and_can_be_read_by_a_person() {
        let block = label().encode().unwrap();
        assert_eq!(VolumeLabel::parse(&block), Ok(label()));
        let text = String::from_utf8(block.to_vec()).unwrap();
        assert!(text.lines().take(6).any(|line| line.contains("encrypted by Sealtape")));
        let bare = VolumeLabel { label: None, barcode: None, ..label() };
        assert_eq!(VolumeLabel::parse(&bare.encode().unwrap()), Ok(bare));
    }

    #[test]
    fn what_is_not_a_label_has_a_name() {
        assert_eq!(VolumeLabel::parse(b""), Err(Refusal::Foreign));
        assert_eq!(VolumeLabel::parse(&[0; LABEL_LEN]), Err(Refusal::Foreign));
        assert_eq!(VolumeLabel::parse(b"SEALTAPE VOLUME 2\n"), Err(Refusal::UnknownVersion));
        assert_eq!(VolumeLabel::parse(b"SEALTAPE VOLUME x\n"), Err(Refusal::DamagedLabel));
        let block = label().encode().unwrap();
        assert_eq!(VolumeLabel::parse(&block[..LABEL_LEN - 1]), Err(Refusal::DamagedLabel));
        for (label_name, barcode) in [("two\nlines", "A"), ("", "A"), ("x", " padded ")] {
            let label = VolumeLabel { label: Some(label_name.into()), barcode: Some(barcode.into()), ..label() };
            assert!(label.encode().is_err());
        }
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_noticed(at in 0..LABEL_LEN, bit in 0_u32..8) {
            let mut block = label().encode().unwrap();
            block[at] ^= 1_u8 << bit;
            prop_assert!(VolumeLabel::parse(&block).is_err());
        }
    }
}
