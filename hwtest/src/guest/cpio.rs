//! The archive a kernel unpacks as its first root: cpio in the "newc" form (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).

/// An archive under construction, in memory: a few megabytes.
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl Archive {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), entries: 0 }
    }

    /// A folder, whose parent has to stand before it.
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, &[]);
    }

    /// A file that may be run.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        // No field is wider than 32 bits: of a content longer than that the kernel would read a part.
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let path_length = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        // Inode, mode, user, group, links, time, length, device and its numbers (four), length of the path with its NUL, check.
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, path_length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let mut archive = Archive::new();
        archive.folder("dev");
        archive.file("init", b"hello");
        let bytes = archive.finish();
        let expected = [
            "070701 00000001 000041ED 00000000 00000000 00000001 00000000 00000000",
            " 00000000 00000000 00000000 00000000 00000004 00000000 dev~~~",
            "070701 00000002 000081ED 00000000 00000000 00000001 00000000 00000005",
            " 00000000 00000000 00000000 00000000 00000005 00000000 init~~hello~~~",
            "070701 00000003 00000000 00000000 00000000 00000001 00000000 00000000",
            " 00000000 00000000 00000000 00000000 0000000B 00000000 TRAILER!!!~~~~",
        ];
        let expected = expected.concat().replace(' ', "").replace('~', "\0");
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }
}
