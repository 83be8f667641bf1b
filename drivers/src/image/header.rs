//! The header of an image: readable text, written once.

use std::collections::BTreeMap;

use uuid::Uuid;

/// Size of the header, in bytes.
pub const HEADER_BYTES: usize = 4096;
/// File offset of the first frame of partition 0.
pub const DATA_OFFSET: u64 = 36864;

/// Offsets and size of the superblock slots.
pub(super) const SLOT_OFFSETS: [u64; 2] = [4096, 20480];
pub(super) const SLOT_BYTES: usize = 16384;

const MAGIC: &str = "SEALTAPE IMAGE ";
const WORDS: &str = "\
This file is a tape cartridge: the blocks and filemarks that a tape drive
would hold on tape, written by Sealtape's file-backed drive.
`sealtape image dump FILE` lists them; docs/image-format.md in Sealtape's
sources is the specification, enough to read this file without Sealtape.
What the blocks say is told by the first one, a little below.
";

/// What the header says of the cartridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageHeader {
    /// Identity of this cartridge.
    pub uuid: Uuid,
    /// Cartridge serial number (MAM 0401h).
    pub serial: String,
    /// Barcode at creation.
    pub barcode: Option<String>,
    /// Write once.
    pub worm: bool,
    /// Capacity of all partitions together, in bytes of frames.
    pub capacity: u64,
    /// Early warning is given when less than this is left in a partition, in bytes; half of it at most.
    pub early_warning: u64,
}

impl ImageHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut text = format!("{MAGIC}1\n{WORDS}fields:\nuuid: {}\nserial: {}\n", self.uuid, self.serial);
        if let Some(barcode) = &self.barcode {
            text += &format!("barcode: {barcode}\n");
        }
        text += &format!(
            "medium: {}\ncapacity: {}\nearly-warning: {}\nsuperblocks: {} {}\nsuperblock-size: {SLOT_BYTES}\ndata: {DATA_OFFSET}\n",
            if self.worm { "worm" } else { "data" },
            self.capacity,
            self.early_warning,
            SLOT_OFFSETS[0],
            SLOT_OFFSETS[1],
        );
        text += &format!("crc32c: {:08x}\nend\n", crc32c::crc32c(text.as_bytes()));
        let mut out = [b' '; HEADER_BYTES];
        out[..text.len()].copy_from_slice(text.as_bytes());
        out[HEADER_BYTES - 1] = b'\n';
        out
    }

    /// The header in the first bytes of a file; otherwise why the file is not an image that can be used.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(MAGIC.as_bytes()) {
            return Err(format!("it does not begin with {:?}", MAGIC.trim_end()));
        }
        if !bytes.starts_with(b"SEALTAPE IMAGE 1\n") {
            return Err("another version of the format; use a newer Sealtape".into());
        }
        if bytes.len() < HEADER_BYTES {
            return Err("its header is cut off".into());
        }
        let text = std::str::from_utf8(&bytes[..HEADER_BYTES]).map_err(|_| "its header is not text".to_string())?;
        let mut fields = BTreeMap::new();
        let (mut at, mut in_fields) = (0, false);
        for line in text.split_inclusive('\n') {
            let content = line.trim_end_matches('\n');
            if in_fields && let Some(crc) = content.strip_prefix("crc32c: ") {
                if crc != format!("{:08x}", crc32c::crc32c(&bytes[..at])) {
                    return Err("the checksum of its header is wrong".into());
                }
                return Self::from_fields(&fields);
            }
            if in_fields && let Some((key, value)) = content.split_once(": ") {
                fields.insert(key, value);
            }
            in_fields |= content == "fields:";
            at += line.len();
        }
        Err("its header has no end".into())
    }

    fn from_fields(fields: &BTreeMap<&str, &str>) -> Result<Self, String> {
        let field = |key: &str| fields.get(key).copied().ok_or_else(|| format!("its header has no `{key}`"));
        let number = |key: &str| {
            field(key)?.parse::<u64>().map_err(|_| format!("`{key}` in its header is not a number of 64 bits"))
        };
        let fixed = |key: &str, value: String| match field(key)? {
            found if found == value => Ok(()),
            _ => Err(format!("`{key}` in its header is not {value}")),
        };
        fixed("superblocks", format!("{} {}", SLOT_OFFSETS[0], SLOT_OFFSETS[1]))?;
        fixed("superblock-size", SLOT_BYTES.to_string())?;
        fixed("data", DATA_OFFSET.to_string())?;
        Ok(Self {
            uuid: field("uuid")?.parse().map_err(|_| "`uuid` in its header is not a UUID".to_string())?,
            serial: field("serial")?.to_string(),
            barcode: fields.get("barcode").map(|barcode| barcode.to_string()),
            worm: match field("medium")? {
                "data" => false,
                "worm" => true,
                other => return Err(format!("`medium` in its header is {other:?}, neither data nor worm")),
            },
            capacity: number("capacity")?,
            early_warning: number("early-warning")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> ImageHeader {
        ImageHeader {
            uuid: Uuid::from_u128(0x0011_2233_4455_4677_8899_aabb_ccdd_eeff),
            serial: "ST00000001".into(),
            barcode: Some("ABC123L9".into()),
            worm: true,
            capacity: 1 << 30,
            early_warning: 1 << 20,
        }
    }

    #[test]
    fn golden_text() {
        let bytes = header().encode();
        let text = std::str::from_utf8(&bytes).unwrap();
        let fields = "fields:\nuuid: 00112233-4455-4677-8899-aabbccddeeff\nserial: ST00000001\nbarcode: ABC123L9\nmedium: worm\n\
             capacity: 1073741824\nearly-warning: 1048576\nsuperblocks: 4096 20480\nsuperblock-size: 16384\ndata: 36864\ncrc32c: ";
        assert!(text.starts_with("SEALTAPE IMAGE 1\nThis file is a tape cartridge"));
        let before_crc = format!("SEALTAPE IMAGE 1\n{WORDS}{}", fields.trim_end_matches("crc32c: "));
        let tail = format!("crc32c: {:08x}\nend\n", crc32c::crc32c(before_crc.as_bytes()));
        assert_eq!(text.trim_end(), format!("{before_crc}{tail}").trim_end());
        assert_eq!(bytes.len(), 4096);
        assert!(text.ends_with(" \n"));
        assert!(!WORDS.lines().any(|line| line == "fields:"));
    }

    #[test]
    fn parses_what_it_encodes() {
        for header in [header(), ImageHeader { barcode: None, worm: false, ..header() }] {
            assert_eq!(ImageHeader::parse(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn unknown_keys_are_ignored() {
        let text = String::from_utf8(header().encode().to_vec()).unwrap();
        let mut text = text.split("crc32c: ").next().unwrap().to_string();
        text += "colour: blue\n";
        text += &format!("crc32c: {:08x}\nend\n", crc32c::crc32c(text.as_bytes()));
        let mut bytes = text.into_bytes();
        bytes.resize(HEADER_BYTES, b' ');
        assert_eq!(ImageHeader::parse(&bytes), Ok(header()));
    }

    #[test]
    fn tells_why_a_file_is_not_an_image() {
        let good = header().encode();
        let refused = |bytes: &[u8]| ImageHeader::parse(bytes).unwrap_err();
        assert!(refused(b"").contains("does not begin"));
        assert!(refused(&[0; 4096]).contains("does not begin"));
        assert!(refused(b"SEALTAPE IMAGE 2\n").contains("version"));
        assert!(refused(&good[..4095]).contains("cut off"));
        let mut changed = good;
        let at = good.windows(4).position(|w| w == b"worm").unwrap();
        changed[at] = b'W';
        assert!(refused(&changed).contains("checksum"));
        let mut changed = good;
        changed[100] = 0xff;
        assert!(refused(&changed).contains("not text"));
    }
}
